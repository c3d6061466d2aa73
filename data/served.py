"""Loading the served model of a run: plain weights only, on the fastest device that there is."""

from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import pytorch_lightning as pl
import torch

from data.errors import UserError

Module = TypeVar("Module", bound=pl.LightningModule)


def load_served(kind: type[Module], run: Path, device: str = "auto") -> Module:
    """The module in `run`/model.ckpt, ready to predict.

    Args:
        kind: its class.
        run: the run's folder.
        device: `cpu`, `cuda`, `mps` or `auto`: the fastest there is.

    Raises:
        UserError: the checkpoint is missing, damaged, of another class, or holds more than plain weights.
    """
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = accelerator.type if accelerator is not None else "cpu"
    path = run / "model.ckpt"
    try:
        module = kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, KeyError, EOFError, TypeError, UnpicklingError) as failure:
        raise UserError(
            f"{path} cannot be loaded ({type(failure).__name__}): train again or promote another run."
        ) from failure
    return module.to(device).eval()
