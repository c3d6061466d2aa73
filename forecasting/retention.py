"""Retention: an LSTM over each member's weekly activity, for the probability of coming back within 30 days.

Recurrent models on recency-frequency sequences are common for churn (e.g. Martinsson 2016, "WTTE-RNN", for the time to
the next event); here the question is the plain one, active or not in the days after a cut:

    z = w . s + b + MLP([LSTM(x_1 .. x_T); s]),    p = sigmoid(a z + c)

with x_t the activity in week t before the cut and s the static features (recency, frequency, tenure; see
forecasting/retention_data.py). The linear term is a logistic regression; the network starts at zero beside it, so that
the LSTM adds what the sequence knows beyond it. The objective is the binary cross-entropy of sigmoid(z).

a and c are Platt's scaling (1999), fitted on the validation cut with a ridge towards a = 1, c = 0.
"""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.optimisation import adamw
from forecasting.retention_data import CHANNELS, STATIC, Batch


class ReturnNet(nn.Module):
    """The network: activity by week and static features to a logit."""

    def __init__(self, hidden_size: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if n_layers > 1 else 0.0
        self.lstm = nn.LSTM(len(CHANNELS), hidden_size, n_layers, batch_first=True, dropout=between)
        self.linear = nn.Linear(len(STATIC), 1)
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden_size + len(STATIC), hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, 1),
        )
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.mlp[-1].weight)  # type: ignore[arg-type]

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """(batch, weeks, channels) and (batch, features) to logits (batch,)."""
        static = (static - 2.5) / 1.5  # logarithms of days and events lie about 0 to 5
        output, _ = self.lstm(sequence)
        last = output[:, -1]  # (batch, hidden)
        return (self.linear(static) + self.mlp(torch.cat([last, static], dim=1))).squeeze(1)


class RetentionLSTM(pl.LightningModule):
    """Training of the return model.

    Args:
        hidden_size: width of the LSTM and of the layer after it.
        n_layers: depth of the LSTM.
        dropout: share of units dropped in training.
        learning_rate: of AdamW, in the first epoch.
        learning_rate_decay: factor on the learning rate after each epoch (1: constant).
        l2: weight decay.
        l1: weight of the sum of the weights' absolute values.
    """

    model_name = "retention"
    monitor = "val/loss"
    monitor_mode = "min"

    def __init__(
        self,
        hidden_size: int = 32,
        n_layers: int = 1,
        dropout: float = 0.2,
        learning_rate: float = 3e-3,
        learning_rate_decay: float = 0.95,
        l2: float = 1e-2,
        l1: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = ReturnNet(hidden_size, n_layers, dropout)
        self.platt: Tensor
        self.register_buffer("platt", torch.tensor([1.0, 0.0]))  # a, c
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Calibrated probabilities of a return. Shape: (batch,)."""
        return torch.sigmoid(self.platt[0] * self.net(sequence, static) + self.platt[1])

    def warm_start(self, fitted: "RetentionLSTM") -> None:
        """Take over what only held-out data can teach: the calibration."""
        self.platt.copy_(fitted.platt)

    def _step(self, batch: Batch, split: str) -> tuple[Tensor, Tensor]:
        logits = self.net(batch["sequence"], batch["static"])
        loss = F.binary_cross_entropy_with_logits(logits, batch["label"])
        self.log(
            f"{split}/loss",
            loss,
            on_step=False,
            on_epoch=True,
            batch_size=len(logits),
            prog_bar=True,
            sync_dist=split != "train",
        )
        return loss, logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss, _ = self._step(batch, "train")
        if self.hparams["l1"] > 0:
            loss = loss + self.hparams["l1"] * sum(p.abs().sum() for p in self.net.parameters())
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        _, logits = self._step(batch, "val")
        self._seen.append((logits.detach(), batch["label"]))

    def on_validation_epoch_end(self) -> None:
        logits, label = (torch.cat(part) for part in zip(*self._seen, strict=True))
        self._seen.clear()
        if not self.trainer.sanity_checking:
            platt = platt_scaling(logits.cpu(), label.cpu()).to(self.device)
            self.platt.copy_(self.trainer.strategy.reduce(platt, reduce_op="mean"))

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._step(batch, "test")

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        return {"user": batch["user"], "p_return": self(batch["sequence"], batch["static"])}

    def configure_optimizers(self) -> Any:
        chosen = self.hparams
        return adamw(self.parameters(), chosen["learning_rate"], chosen["learning_rate_decay"], chosen["l2"])


def platt_scaling(logits: Tensor, label: Tensor, ridge: float = 1.0, steps: int = 20) -> Tensor:
    """a and c that minimise the summed cross-entropy of sigmoid(a z + c) + ridge / 2 * ((a - 1)^2 + c^2), by Newton.

    (1, 0) when the labels are of one class; a is kept at 0.05 or more, so that the order of members never turns.
    """
    identity = torch.tensor([1.0, 0.0], dtype=torch.float64)
    if len(label) == 0 or label.min() == label.max():
        return identity.float()
    z = torch.stack([logits.double(), torch.ones(len(logits), dtype=torch.float64)], dim=1)  # (cases, 2)
    scaling = identity.clone()
    for _ in range(steps):
        p = torch.sigmoid(z @ scaling)
        gradient = z.T @ (p - label.double()) + ridge * (scaling - identity)
        curvature = (z * (p * (1 - p))[:, None]).T @ z + ridge * torch.eye(2, dtype=torch.float64)
        scaling = scaling - torch.linalg.solve(curvature, gradient).clamp(-1.0, 1.0)
    scaling[0].clamp_(min=0.05)
    return scaling.float()
