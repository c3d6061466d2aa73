"""Lightning's remarks on devices, tips and workers say nothing that our own first lines do not: left unsaid."""

import logging
import os
import warnings

import torch

_UNSAID = (
    ".*does not have many workers.*",
    ".*LightningCLI's args parameter.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*Experiment logs directory .* exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*LeafSpec.*",
)


def quiet_lightning() -> None:
    """Filter warnings and logs for the rest of the process; let matrix products use TF32 on a GPU."""
    for warning in _UNSAID:
        warnings.filterwarnings("ignore", warning)
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for name in (
        "pytorch_lightning.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
        "lightning_fabric.utilities.seed",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
