"""How the recommenders and the forecasters are optimised."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float, decay: float, l2: float) -> dict[str, Any]:
    """AdamW whose learning rate is multiplied by `decay` after each epoch, as Lightning takes it.

    Args:
        learning_rate: in the first epoch.
        decay: factor after each epoch (1: constant).
        l2: weight decay, decoupled from the gradient (Loshchilov & Hutter 2019).
    """
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=l2)
    if all(parameter.device.type == "cpu" for parameter in parameters):
        fuse(optimizer)  # one pass over memory instead of a dozen; on a GPU the default comes close
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Let one kernel do a whole step, before the first one.

    In its groups and not by AdamW(fused=True): Lightning clips no gradient of an optimiser that was made so.
    """
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"], group["foreach"] = True, False
