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
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=l2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}
