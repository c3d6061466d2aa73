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
    # One pass over memory instead of a dozen. On a GPU the default does as well, and a scaler forbids clipping with it.
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=l2, fused=True if on_cpu else None)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}
