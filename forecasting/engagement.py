"""Engagement forecaster: one LSTM for all series, quantiles at once, every step of the horizon at once.

After the multi-horizon quantile recurrent forecaster (Wen et al. 2017, "A multi-horizon quantile recurrent forecaster")
with a recurrent decoder over the known future in place of its MLP. No series has parameters of its own, so a new
series is forecast by what the others taught.

A window is put on its own scale, s = mean of the last 28 days (at least a tenth of the mean of the whole context).
The encoder reads log(1 + value / s), whether the value is known, and the weekday; the decoder starts from its state and
reads, for each step ahead, the weekday, how far it is, and what that weekday was lately. Around the simple method

    base_h = (1 - w_h) * s + w_h * (mean of the same weekday in the last 28 days),   w_h in (0, 1) by the network

it answers by factors

    q_h(level k) = base_h * sum over i <= k of softplus(a_hi)         never negative, never crossing
    mean_h       = base_h * softplus(b_h)

and minimises, in units of s and over the known steps, the mean pinball loss (Koenker & Bassett 1978)

    max(l * (y - q), (l - 1) * (y - q))        averaged over the levels l = .05 .25 .5 .75 .95

plus a tenth of the Poisson deviance of the mean, mean - y * log(mean), whose minimum is the conditional mean without
the squared error's weight on rare bursts.

Intervals are widened or narrowed on validation in the manner of conformalised quantile regression (Romano et al. 2019):
the distance of each quantile from the median is multiplied by the factor that would have given it the coverage it
claims, and the geometric mean of that factor and 1 is kept, because one validation block is one draw.
"""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.optimisation import adamw
from forecasting.engagement_data import Batch

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
QUANTILES = ("q05", "q25", "q50", "q75", "q95")
_MEDIAN = LEVELS.index(0.5)
_START = (0.2, 0.25, 0.3, 0.4, 1.1)  # first guess of the factors' increments: skewed, as counts are
_N_STATIC = 4


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` (batch, time) where `mask`; 0 where nothing is. Shape: (batch, 1)."""
    number = mask.sum(1, keepdim=True)
    return (values * mask).sum(1, keepdim=True) / number.clamp_min(1)


def pinball(target: Tensor, quantiles: Tensor) -> Tensor:
    """(batch, horizon) and (batch, horizon, levels) to the pinball loss of each quantile."""
    levels = torch.tensor(LEVELS, dtype=quantiles.dtype, device=quantiles.device)
    error = target[..., None] - quantiles
    return torch.maximum(levels * error, (levels - 1) * error)


class Forecaster(nn.Module):
    """The network. Works for any context and horizon length."""

    def __init__(self, hidden_size: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if n_layers > 1 else 0.0
        self.encoder = nn.LSTM(9 + _N_STATIC, hidden_size, n_layers, batch_first=True, dropout=between)
        self.decoder = nn.LSTM(12 + _N_STATIC, hidden_size, n_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, len(LEVELS) + 2)
        nn.init.normal_(self.head.weight, std=0.01)
        with torch.no_grad():
            self.head.bias[:-1] = torch.tensor([*_START, 1.0]).expm1().log()  # inverse of softplus
            self.head.bias[-1] = 0.0

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Quantiles (batch, horizon, levels), means (batch, horizon) and scales (batch, 1)."""
        context, recent = batch["context"], batch["recent"]
        steps, horizon = context.shape[1], batch["weekday"].shape[1] - context.shape[1]
        known = context.isfinite()
        value = context.nan_to_num(0.0)
        overall = masked_mean(value, known)
        lately = known & recent
        level = torch.where(lately.any(1, keepdim=True), masked_mean(value, lately), overall)
        scale = torch.maximum(level, 0.1 * overall)  # (batch, 1), zero if nothing ever happened
        unit = torch.where(scale > 0, scale, 1.0)

        scaled = value / unit  # (batch, context)
        weekday = F.one_hot(batch["weekday"], 7).to(scaled.dtype)  # (batch, context + horizon, 7)
        static = torch.cat(
            [
                torch.log1p(level).clamp_max(12) / 6,  # counts of one or two a day scatter more than hundreds
                torch.log1p(batch["age"])[:, None] / 6,
                masked_mean((value == 0).to(scaled.dtype), known),
                torch.log1p(overall / unit),
            ],
            dim=1,
        )  # (batch, _N_STATIC)
        past = torch.cat(
            [
                torch.log1p(scaled)[..., None],
                known.to(scaled.dtype)[..., None],
                weekday[:, :steps],
                static[:, None].expand(-1, steps, -1),
            ],
            dim=2,
        )
        _, state = self.encoder(past)

        by_day = weekday[:, :steps] * lately[..., None]  # (batch, context, 7)
        total, number = (by_day * scaled[..., None]).sum(1), by_day.sum(1)
        profile = torch.where(number > 0, total / number.clamp_min(1), level / unit)  # (batch, 7)
        same_day = profile.gather(1, batch["weekday"][:, steps:])  # (batch, horizon)
        ahead = torch.arange(1, horizon + 1, device=context.device, dtype=scaled.dtype).clamp_max(28)
        last_week = masked_mean(scaled[:, -7:], known[:, -7:])
        middle = torch.where(lately, scaled, torch.nan).nanmedian(1, keepdim=True).values.nan_to_num(1.0)
        future = torch.cat(
            [
                torch.log1p(same_day)[..., None],
                weekday[:, steps:],
                (ahead / 28).expand(len(context), -1)[..., None],
                (torch.log1p(ahead) / 4).expand(len(context), -1)[..., None],
                torch.log1p(torch.cat([last_week, middle], 1))[:, None].expand(-1, horizon, -1),
                static[:, None].expand(-1, horizon, -1),
            ],
            dim=2,
        )
        output, _ = self.decoder(future, state)
        raw = self.head(self.dropout(output))  # (batch, horizon, levels + 2)
        weight = torch.sigmoid(raw[..., -1])
        base = (unit * (1 - weight) + unit * weight * same_day) * (scale > 0)  # (batch, horizon)
        factors = F.softplus(raw[..., :-1])
        return base[..., None] * factors[..., :-1].cumsum(-1), base * factors[..., -1], unit


class EngagementLSTM(pl.LightningModule):
    """Training of the forecaster.

    Args:
        hidden_size: width of both LSTMs.
        n_layers: depth of both LSTMs.
        dropout: share of hidden units dropped in training.
        learning_rate: of AdamW, in the first epoch.
        learning_rate_decay: factor on the learning rate after each epoch (1: constant).
        l2: weight decay.
        l1: weight of the sum of the weights' absolute values.
    """

    model_name = "engagement"
    monitor = "val/wql"
    monitor_mode = "min"

    def __init__(
        self,
        hidden_size: int = 40,
        n_layers: int = 1,
        dropout: float = 0.1,
        learning_rate: float = 3e-3,
        learning_rate_decay: float = 0.9,
        l2: float = 1e-2,
        l1: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = Forecaster(hidden_size, n_layers, dropout)
        self.spread: Tensor
        self.register_buffer("spread", torch.ones(len(LEVELS)))
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Quantiles (batch, horizon, levels), corrected on validation, and means (batch, horizon)."""
        quantiles, mean, _ = self.net(batch)
        median = quantiles[..., _MEDIAN, None]
        corrected = (median + self.spread * (quantiles - median)).clamp_min(0.0)
        return corrected.cummax(dim=-1).values, mean

    def warm_start(self, fitted: "EngagementLSTM") -> None:
        """Take over what only held-out data can teach: the correction of the intervals."""
        self.spread.copy_(fitted.spread)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss; in units of the scale the targets (batch, horizon), NaN where unknown, and the quantiles."""
        quantiles, mean, unit = self.net(batch)
        target, quantiles, mean = batch["target"] / unit, quantiles / unit[..., None], mean / unit
        known = target.isfinite()
        value = target.nan_to_num(0.0)  # masked below: a NaN times zero would still be NaN
        deviance = mean - value * torch.log(mean + 1e-6)
        losses = (pinball(value, quantiles).mean(-1) + 0.1 * deviance) * known
        return losses.sum() / known.sum().clamp_min(1), target, quantiles

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss, _, _ = self._losses(batch)
        if self.hparams["l1"] > 0:
            loss = loss + self.hparams["l1"] * sum(p.abs().sum() for p in self.net.parameters())
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["context"]), prog_bar=True)
        return loss

    def _held_out_step(self, batch: Batch, split: str) -> None:
        loss, target, quantiles = self._losses(batch)
        self.log(f"{split}/loss", loss, batch_size=len(batch["context"]), sync_dist=True)
        known = target.isfinite()
        self._seen.append((target[known].cpu(), quantiles[known].cpu()))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._held_out_step(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._held_out_step(batch, "test")

    def _log_held_out(self, split: str) -> tuple[Tensor, Tensor]:
        """Log the weighted quantile loss in units of each window's scale, so that every series counts alike."""
        target, quantiles = (torch.cat(part) for part in zip(*self._seen, strict=True))
        self._seen.clear()
        wql = 2 * pinball(target, quantiles).mean(-1).sum() / target.abs().sum().clamp_min(1e-9)
        self.log(f"{split}/wql", wql, sync_dist=True, prog_bar=True)
        return target, quantiles

    def on_validation_epoch_end(self) -> None:
        target, quantiles = self._log_held_out("val")
        if not self.trainer.sanity_checking:
            spread = spread_correction(target, quantiles).to(self.device)
            self.spread.copy_(self.trainer.strategy.reduce(spread, reduce_op="mean"))

    def on_test_epoch_end(self) -> None:
        self._log_held_out("test")

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        """One row for each series and step: its place in the panel, the quantiles and the mean."""
        quantiles, mean = self(batch)
        horizon = mean.shape[1]
        columns: dict[str, Any] = {
            "series": batch["series"].repeat_interleave(horizon),
            "step": (batch["origin"][:, None] + torch.arange(horizon, device=mean.device)).flatten(),
            "mean": mean.flatten(),
        }
        return columns | {name: quantiles[..., i].flatten() for i, name in enumerate(QUANTILES)}

    def configure_optimizers(self) -> Any:
        chosen = self.hparams
        return adamw(self.parameters(), chosen["learning_rate"], chosen["learning_rate_decay"], chosen["l2"])


def spread_correction(target: Tensor, quantiles: Tensor) -> Tensor:
    """Factors on each quantile's distance from the median. Shapes: (steps,), (steps, levels) to (levels,).

    The factor with which the share of `target` beyond the quantile is what the level says, as the square root of it
    (see the module's text) and between 1/2 and 2. 1 for the median, and where quantile and median coincide everywhere.
    """
    factors = torch.ones(len(LEVELS))
    for k, level in enumerate(LEVELS):
        side = 1.0 if level > 0.5 else -1.0
        width = side * (quantiles[:, k] - quantiles[:, _MEDIAN])
        usable = width > 1e-9
        if k == _MEDIAN or not usable.any():
            continue
        ratio = side * (target - quantiles[:, _MEDIAN])[usable] / width[usable]
        # torch.quantile takes no more than 2**24 values.
        position = round(max(level, 1 - level) * (len(ratio) - 1)) + 1
        factors[k] = ratio.kthvalue(position).values.clamp(0.25, 4.0).sqrt()
    return factors
