"""What is kept of a checkpoint once the training that wrote it is over."""

from pathlib import Path

import torch

from data.atomic import atomic_file

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
