"""What is kept of a checkpoint once the training that wrote it is over."""

from pathlib import Path
from pickle import UnpicklingError

import torch

from data.atomic import atomic_file
from data.errors import UserError

_KEPT = ("state_dict", "hyper_parameters", "hparams_name", "pytorch-lightning_version", "epoch", "global_step")


def slim(source: Path, target: Path) -> int:
    """Copy a checkpoint of ours without optimiser and loop state, atomically; the two may be the same file.

    Returns:
        The number of epochs that it has seen.
    """
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    with atomic_file(target) as temporary:
        torch.save({key: checkpoint[key] for key in _KEPT if key in checkpoint}, temporary)
    return int(checkpoint["epoch"]) + 1


def check_plain(path: Path) -> None:
    """Refuse a checkpoint that cannot be read, or holds more than weights and states: that could be a program.

    Raises:
        UserError: it is damaged or holds more; nothing in it was run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not {"state_dict", "pytorch-lightning_version"} <= content.keys():
            raise KeyError("it is no checkpoint of a training")
    except (OSError, RuntimeError, KeyError, EOFError, UnpicklingError) as failure:
        raise UserError(
            f"{path} is damaged or holds more than plain weights and states, which could be a program: train again, "
            "promote another run, or name another --ckpt_path."
        ) from failure
