"""The served model of a run: loaded from plain weights only, on the fastest device there is; and put into use."""

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import pytorch_lightning as pl
import torch

from data import runs
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
        raise UserError(f"{path} cannot be loaded ({type(failure).__name__}): {runs.MEND}.") from failure
    return module.to(device).eval()


def promote(run: Path, open_run: Callable[[Path], object]) -> None:
    """Make `run` the current one of its dataset and model, if the code as it is can load it.

    Args:
        run: its folder.
        open_run: loads a run as its package's scorer does.

    Raises:
        UserError: the run is not finished, or cannot be loaded; nothing is changed then.
    """
    if runs.is_finished(run):
        try:
            open_run(run)
        except Exception as failure:  # whatever it is, it would come to whoever scores with the run
            why = str(failure) if isinstance(failure, UserError) else f"it cannot be loaded ({type(failure).__name__})."
            raise UserError(f"Run {run.name} was not put into use: {why}") from failure
    runs.promote(run)
