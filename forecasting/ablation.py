"""What each part of a fitted forecaster is worth: `python -m forecasting evaluate --ablation` leaves them out in turn.

A part is left out of the fitted weights, nothing is trained again, so one training answers for all. What a forecaster
is worth that has never had a part is another question, which flags of `evaluate` answer where there is one, for example
`--model.prior_steps 0` for a network that has seen the dataset alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from forecasting.engagement import EngagementLSTM
from forecasting.retention import RetentionLSTM

Weights = dict[str, Tensor]


def parts_of(module: pl.LightningModule) -> dict[str, Weights]:
    """What may be left out of a fitted module: the name of what is then left, and the weights that leave it out.

    Raises:
        TypeError: the module is neither forecaster.
    """
    state = module.state_dict()
    if isinstance(module, EngagementLSTM):
        parts = {
            "made-up series alone": {"blend": torch.zeros_like(state["blend"])},
            "trained network alone": {"blend": torch.ones_like(state["blend"])},
        }
        return (parts if module.hparams["prior_steps"] > 0 else {}) | {
            "without leaning": {"lean": torch.zeros_like(state["lean"])},
            "without corrected intervals": {"widths": torch.ones_like(state["widths"])},
        }
    if isinstance(module, RetentionLSTM):
        heads = ("common", "linear", "hidden", "hidden_bias", "out")  # the others answer as the first does
        return {
            "without drift": {"drift": torch.zeros_like(state["drift"])},
            "one head": {f"average.{name}": state[f"average.{name}"][:1] for name in heads},
            "last weights, not averaged": {f"average.{name}": value for name, value in module.net.state_dict().items()},
            "visits unseen": {
                name: torch.zeros_like(value) for name, value in state.items() if "average.lstm.weight_ih_l0" in name
            },
        }
    raise TypeError(f"no parts of a {type(module).__name__} are known")


def without_each(module: pl.LightningModule, measure: Callable[[], np.ndarray]) -> dict[str, np.ndarray]:
    """What `measure()` gives while each part of `module` in turn is left out."""
    found = {}
    for left, weights in parts_of(module).items():
        with left_out(module, weights):
            found[left] = measure()
    return found


@contextmanager
def left_out(module: pl.LightningModule, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block the module has `weights` instead of its own, broadcast to their shapes; afterwards its own."""
    state = module.state_dict()
    own = {name: state[name].clone() for name in weights}
    try:
        with torch.no_grad():
            for name, value in weights.items():
                state[name].copy_(value.clone())
        yield
    finally:
        for name, value in own.items():
            state[name].copy_(value)
