"""Retention: an LSTM over each member's visits, for when the member comes back, and so for whether within 30 days.

A discrete-time survival model (Singer & Willett 1993; as a network: Gensheimer & Narasimhan 2019). The days after a cut
are divided into intervals (t_0 = 0, t_1], (t_1, t_2], ... with one end at the horizon, and the hazard of interval k,
the chance to come in it after staying away until then, is

    h_k = sigmoid(z_k),    z_k = b_k + w_k . e(s) + MLP_k([LSTM(x_1 .. x_T); e(s); s])
    S(t_k) = (1 - h_1) ... (1 - h_k),    p = 1 - S(horizon)

with x_t the visits before the cut with their gaps and s the static features (forecasting/retention_data.py). The
objective is the negative log-likelihood: the cross-entropy of h_k against "came in interval k", over the intervals in
which the member was still away and which were over. So a cut of last week teaches the first days though nobody knows
yet who is back after thirty, and what is learned follows the present closely.

e(s) is the piecewise linear encoding of Gorishniy et al. (2022), which lets a network find thresholds as trees do. The
linear and the MLP part are there `n_heads` times, each trained on its own, and their p are averaged (a deep ensemble on
a shared LSTM); what is used are averaged weights (Polyak & Juditsky 1992). Each of the three was measured, see
docs/forecasting.md.

How often members come back drifts, up to some 30 % within a few months. So one number is added to all z_k, the drift
that the latest outcomes show against a model that had not seen them: the validation cut's for the fitted model, and for
the served one, which has seen everything, what the fitted model missed at the test cut.
"""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.optimisation import adamw
from forecasting.retention_data import CHANNELS, STATIC, Batch, Cases, RetentionData

_QUANTILES, _EVEN = 24, 8  # edges of the encoding: so many quantiles, and so many evenly from smallest to largest
_EDGES = _QUANTILES + _EVEN + 1


def interval_ends(horizon_days: int) -> list[int]:
    """Last days of the intervals: finer in the first days, one at the horizon, and two and three horizons beyond it.

    >>> interval_ends(30)
    [1, 2, 4, 7, 11, 16, 22, 30, 60, 90]
    >>> interval_ends(3)
    [1, 2, 3, 6, 9]
    """
    finer = [day for day in (1, 2, 4, 7, 11, 16, 22, 30, 45, 60, 90, 120, 180) if day < 0.8 * horizon_days]
    return [*finer, horizon_days, 2 * horizon_days, 3 * horizon_days]


class Encoding(nn.Module):
    """Static features as standardised values and piecewise linearly: (batch, features) to (batch, out_features).

    Between two neighbouring edges a feature's share of the way, 0 below and 1 above; edges and scale are set by `fit`.
    """

    out_features = len(STATIC) * _EDGES

    def __init__(self) -> None:
        super().__init__()
        self.edges: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("edges", torch.linspace(0, 6, _EDGES).repeat(len(STATIC), 1))
        self.register_buffer("centre", torch.zeros(len(STATIC)))
        self.register_buffer("spread", torch.ones(len(STATIC)))

    def fit(self, static: Tensor) -> None:
        """Edges among the values of each feature, (cases, features): quantiles and even steps, doubles left out."""
        for feature, values in enumerate(static.float().T.contiguous()):
            quantiles = torch.quantile(values[: 2**24], torch.linspace(0, 1, _QUANTILES + 1))
            even = torch.linspace(float(values.min()), float(values.max()), _EVEN + 1)
            edges = torch.cat([quantiles, even]).mul(1000).round().div(1000).unique()[:_EDGES]
            self.edges[feature] = F.pad(edges, (0, _EDGES - len(edges)), value=float(edges[-1]))
        self.centre.copy_(static.mean(0))
        self.spread.copy_(static.std(0, correction=0) + 1e-3)

    def forward(self, static: Tensor) -> Tensor:
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        inside = static.clamp(self.edges[:, 0], self.edges[:, -1])[..., None]
        share = ((inside - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) - 0.5
        plain = ((static - self.centre) / self.spread).clamp(-4, 4)
        return torch.cat([share.flatten(1), plain], dim=1)


class ReturnNet(nn.Module):
    """Visits and static features to the logits of the hazards, for each head."""

    def __init__(self, n_intervals: int, hidden_size: int, n_layers: int, dropout: float, n_heads: int) -> None:
        super().__init__()
        between = dropout if n_layers > 1 else 0.0
        self.lstm = nn.LSTM(len(CHANNELS), hidden_size, n_layers, batch_first=True, dropout=between)
        self.encoding = Encoding()
        n_inputs = Encoding.out_features
        self.bias = nn.Parameter(torch.full((n_intervals,), -3.0))
        self.common = nn.Parameter(torch.zeros(n_heads, n_inputs, 1))
        self.linear = nn.Parameter(torch.zeros(n_heads, n_inputs, n_intervals))
        bound = n_inputs**-0.5
        self.hidden = nn.Parameter(torch.empty(n_heads, hidden_size + n_inputs, hidden_size).uniform_(-bound, bound))
        self.hidden_bias = nn.Parameter(torch.empty(n_heads, 1, hidden_size).uniform_(-bound, bound))
        with torch.no_grad():  # few against the encoding's, so that they would hardly be heard otherwise
            self.hidden[:, :hidden_size] *= (n_inputs / hidden_size) ** 0.5
        self.out = nn.Parameter(torch.zeros(n_heads, hidden_size, n_intervals))
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """(batch, visits, channels) and (batch, features) to (heads, batch, intervals)."""
        output, _ = self.lstm(sequence)
        encoded = self.encoding(static)
        inputs = torch.cat([output[:, -1], encoded], dim=1).expand(len(self.hidden), -1, -1)
        hidden = torch.relu(torch.baddbmm(self.hidden_bias, self.dropout(inputs), self.hidden))
        return self.bias + encoded @ (self.linear + self.common) + self.dropout(hidden) @ self.out


class RetentionLSTM(pl.LightningModule):
    """Training of the return model.

    Args:
        horizon_days: within how many days a member is to come back.
        hidden_size: width of the LSTM and of the layer after it.
        n_layers: depth of the LSTM.
        n_heads: linear and MLP parts that are averaged.
        dropout: share of units dropped in training.
        averaging: decay a step of the average over weights that is used outside training; the plain mean of all weights
            since the beginning until there have been 1 / (1 - averaging) steps.
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
        horizon_days: int = 30,
        hidden_size: int = 32,
        n_layers: int = 1,
        n_heads: int = 8,
        dropout: float = 0.2,
        averaging: float = 0.995,
        learning_rate: float = 3e-3,
        learning_rate_decay: float = 0.9,
        l2: float = 1e-2,
        l1: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.ends: Tensor
        self.register_buffer("ends", torch.tensor(interval_ends(horizon_days), dtype=torch.float32))
        self.net = ReturnNet(len(self.ends), hidden_size, n_layers, dropout, n_heads)
        self.average = ReturnNet(len(self.ends), hidden_size, n_layers, dropout, n_heads).requires_grad_(False)
        self.average.load_state_dict(self.net.state_dict())
        self.steps: Tensor
        self.drift: Tensor
        self.register_buffer("steps", torch.tensor(0.0))
        self.register_buffer("drift", torch.tensor(0.0))
        self._fitted: list[RetentionLSTM] = []  # in a list, so that it is no part of this module
        self._seen: list[tuple[Tensor, ...]] = []

    def fit_encoding(self, cases: Cases) -> None:
        """Set the edges of the encoding from the cases that will be trained on."""
        for net in (self.net, self.average):
            net.encoding.fit(torch.from_numpy(cases.static))

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Probabilities to come back within the horizon. Shape: (batch,)."""
        return self.p_return(self.survival(sequence, static))

    def survival(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Probabilities to be still away at the ends of the intervals. Shape: (batch, intervals)."""
        net = self.net if self.training else self.average
        return still_away(net(sequence, static) + self.drift)

    def p_return(self, survival: Tensor) -> Tensor:
        """Probabilities to come back within the horizon. Shape: (batch,)."""
        return 1 - survival[:, len(self.ends) - 3]

    def expected_days(self, survival: Tensor) -> Tensor:
        """Expected days to the next visit, within the last interval's end: whoever is away longer counts as that.

        The restricted mean survival time: the integral of S, linear between the ends, up to the last. Shape: (batch,).
        """
        starts = F.pad(self.ends, (1, 0))
        before = F.pad(survival, (1, 0), value=1.0)
        return ((before[:, :-1] + before[:, 1:]) / 2 * (starts[1:] - starts[:-1])).sum(1)

    def on_fit_start(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, RetentionData) or float(self.steps) > 0:
            return
        self.fit_encoding(data.cases(data.fit_on))
        if self._fitted:
            fitted = self._fitted.pop().to(self.device).eval()
            with torch.no_grad():
                for batch in data.latest("test").batches(data.batch_size):
                    fitted.held_out({name: part.to(self.device) for name, part in batch.items()})
            self.drift.copy_(fitted.drift_seen())

    def warm_start(self, fitted: "RetentionLSTM") -> None:
        """Let `fitted` tell, when this one begins to learn from everything, what it missed at the test cut."""
        self._fitted = [fitted]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        logits = self.net(batch["sequence"], batch["static"])
        loss = (likelihood_loss(logits, *self._outcomes(batch)) * batch["weight"]).mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["label"]), prog_bar=True)
        loss = loss * len(self.net.hidden)  # each head learns as if it were alone
        if self.hparams["l1"] > 0:
            loss = loss + self.hparams["l1"] * sum(p.abs().sum() for p in self.net.parameters())
        return loss

    @torch.no_grad()
    def on_train_batch_end(self, *_: Any) -> None:
        """Take the present weights into the average: a plain mean at first, then an exponential one."""
        self.steps += 1
        share = (1 / self.steps).clamp(min=1 - self.hparams["averaging"])
        for kept, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
            kept.lerp_(now, share)

    def _outcomes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return outcomes(self.ends, batch["next_visit"], batch["observed"])

    def held_out(self, batch: Batch) -> Tensor:
        """Mean loss of a batch that is not learned from; what it says of the drift is kept for `drift_seen`."""
        logits = self.average(batch["sequence"], batch["static"])
        found = self._outcomes(batch)
        self._seen.append((logits.float().mean(0), *found))
        return likelihood_loss(logits, *found).mean()

    def drift_seen(self) -> Tensor:
        """The drift in all batches since the last call."""
        z, event, at_risk = (torch.cat(part) for part in zip(*self._seen, strict=True))
        self._seen.clear()
        return drift_of(z, event, at_risk)

    def _log_held_out(self, batch: Batch, split: str) -> None:
        loss, n = self.held_out(batch), len(batch["label"])
        self.log(f"{split}/loss", loss, on_epoch=True, batch_size=n, prog_bar=True, sync_dist=True)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._log_held_out(batch, "val")

    def on_validation_epoch_end(self) -> None:
        drift = self.drift_seen()
        if not self.trainer.sanity_checking:
            self.drift.copy_(self.trainer.strategy.reduce(drift, reduce_op="mean"))

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._log_held_out(batch, "test")

    def on_test_epoch_end(self) -> None:
        self._seen.clear()

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        return {"user": batch["user"], "p_return": self(batch["sequence"], batch["static"])}

    def configure_optimizers(self) -> Any:
        chosen = self.hparams
        return adamw(self.net.parameters(), chosen["learning_rate"], chosen["learning_rate_decay"], chosen["l2"])


def still_away(logits: Tensor) -> Tensor:
    """Logits of the hazards to S, the mean of the heads': (heads, batch, intervals) to (batch, intervals)."""
    return F.logsigmoid(-logits.float()).cumsum(-1).exp().mean(0)


def outcomes(ends: Tensor, next_visit: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each case came in each interval, and whether that can be told: still away at its start, and over by now.

    Args:
        ends: last days of the intervals. Shape: (intervals,).
        next_visit: days to the next visit, inf if none is known. Shape: (batch,).
        observed: days after the cut that are known. Shape: (batch,).
    """
    came, starts = next_visit[:, None], F.pad(ends, (1, 0))[:-1]
    at_risk = (came > starts) & (ends <= observed[:, None])
    return ((came <= ends) & at_risk).float(), at_risk.float()


def likelihood_loss(logits: Tensor, event: Tensor, at_risk: Tensor) -> Tensor:
    """Negative log-likelihood of each case under each head: (heads, batch, intervals) to (heads, batch)."""
    entropy = F.binary_cross_entropy_with_logits(logits, event.expand_as(logits), reduction="none")
    return (entropy * at_risk).sum(-1)


def drift_of(z: Tensor, event: Tensor, at_risk: Tensor, ridge: float = 20.0, steps: int = 20) -> Tensor:
    """d that minimises the cross-entropy of sigmoid(z + d) summed over what is known, + ridge / 2 * d^2, by Newton.

    z is the mean of the heads' logits; all shapes are (batch, intervals). The ridge is a prior of standard deviation
    0.22: with a hundred returns known, a fifth of what they say is held back.
    """
    z = z.double()
    drift = z.new_zeros(())
    for _ in range(steps):
        hazard = torch.sigmoid(z + drift)
        gradient = ((hazard - event) * at_risk).sum() + ridge * drift
        drift = drift - (gradient / ((hazard * (1 - hazard) * at_risk).sum() + ridge)).clamp(-1, 1)
    return drift.float()
