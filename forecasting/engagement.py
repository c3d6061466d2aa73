"""Engagement forecaster: what made-up series taught, joined with what the dataset teaches.

Two networks of forecasting/forecaster.py forecast together. The first, the prior, has seen made-up series alone
(forecasting/prior.py) and is not changed. The second starts as a copy of it and is trained on the dataset's windows,
with a share of made-up ones in every batch against forgetting. In the unit z of a window

    z = (1 - a) z_prior + a z_tuned                   a of 0, 1/4, 1/2, 3/4 or 1, from validation
    z = (1 - g) z + g z_recent                        g = l * n / (n + 4) * (error of the recent median / best error)^-6
    z = median + v (z - median)                       v, see `widths`; l of 0, 1/4, 1/2, 3/4 or 1

The second line leans on the plain quantiles of the n values of the last six weeks as far as no expert has done better
than their median: shrinkage towards a simple method, which helps on short noisy histories and harms where there is a
season or a trend; the data decide on l. The third widens or narrows the intervals in the manner of conformalised
quantile regression (Romano et al. 2019). Both l and v come from validation and the whole history before it: the prior
has seen none of it, so its errors there are honest.

Forecasts of series that have only ever been whole numbers are whole numbers.

As one history is one draw, a is the least and l the most that comes within MARGIN of the best: what has been right on
many series holds until the data say otherwise.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from data.optimisation import adamw
from forecasting.forecaster import LEVELS, MEDIAN, Batch, Forecaster, Window, loss_of, mean_of, pinball, read
from forecasting.frequency import FREQUENCIES
from forecasting.prior import prior_weights
from forecasting.synthetic import synthetic_windows

QUANTILES = ("q05", "q25", "q50", "q75", "q95")
BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
LEANINGS = (1.0, 0.75, 0.5, 0.25, 0.0)
MARGIN = 0.01
_RECENT_MEDIAN = 3  # place among the experts of the median of the recent history
_FEW = 4.0  # so many recent values are half believed
_LOYALTY = 6.0  # how quickly the plain quantiles are left when another expert has done better


class EngagementLSTM(pl.LightningModule):
    """Training of the forecaster.

    Args:
        frequency: a name in forecasting.frequency.FREQUENCIES.
        horizon: steps ahead in training.
        hidden_size: width of the LSTMs.
        n_layers: depth of the LSTMs.
        dropout: share of hidden units dropped when training on the dataset.
        learning_rate: of AdamW, in the first epoch.
        learning_rate_decay: factor on the learning rate after each epoch (1: constant).
        l2: weight decay.
        prior_steps: batches of made-up series that the prior is trained on; 0 starts from nothing.
        synthetic_share: made-up windows in a batch, as a share of the dataset's.
    """

    model_name = "engagement"
    monitor = "val/loss"
    monitor_mode = "min"

    def __init__(
        self,
        frequency: str = "daily",
        horizon: int = 28,
        hidden_size: int = 40,
        n_layers: int = 1,
        dropout: float = 0.1,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.8,
        l2: float = 1e-2,
        prior_steps: int = 700,
        synthetic_share: float = 0.5,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.frequency = FREQUENCIES[frequency]
        self.net = Forecaster(self.frequency, hidden_size, n_layers, dropout)
        self.prior = Forecaster(self.frequency, hidden_size, n_layers, 0.0).requires_grad_(False)
        self.blend: Tensor
        self.lean: Tensor
        self.widths: Tensor
        self.register_buffer("blend", torch.tensor(0.5))
        self.register_buffer("lean", torch.tensor(1.0))
        self.register_buffer("widths", torch.ones(len(LEVELS)))
        self._seen: list[dict[str, Tensor]] = []
        self._earlier: list[dict[str, Tensor]] = []
        self._history: dict[str, Tensor] | None = None

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.hparams["prior_steps"] > 0:
            self.load_prior(self.trainer.strategy.root_device)

    def load_prior(self, device: torch.device) -> None:
        """Give both networks the weights learned from made-up series, which are trained on `device` if need be."""
        chosen = self.hparams
        # Shorter horizons share one prior: what it learned further ahead does no harm nearby.
        horizon = max(chosen["horizon"], self.frequency.horizon)
        sizes = horizon, chosen["hidden_size"], chosen["n_layers"], chosen["prior_steps"]
        weights = prior_weights(self.frequency, *sizes, device)
        for part in (self.net, self.prior):
            part.load_state_dict(weights)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Quantiles (batch, horizon, levels) and means (batch, horizon).

        Args:
            batch: see forecasting/engagement_data.py; of `target` only the length is read.
        """
        window = read(batch, self.frequency)
        prior, tuned, factor = self._both(window, batch["phase"])
        z = torch.lerp(torch.lerp(prior, tuned, self.blend), window.recent[:, None], self.lean * leanable(window))
        z = widened(z, self.widths)
        quantiles = window.scale.to_values(z)
        mean = mean_of(quantiles, factor)
        context = batch["context"]
        whole = (context.isnan() | (context == context.round())).all(1)[:, None, None]
        return torch.where(whole, quantiles.round(), quantiles), mean

    def _both(self, window: Window, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What both networks say as z (batch, horizon, levels), and the blended factor of the mean."""
        tuned, factor = self.net(window, phase)
        if self.hparams["prior_steps"] == 0:
            return tuned, tuned, factor
        with torch.no_grad():
            prior, prior_factor = self.prior(window, phase)
        return prior, tuned, torch.lerp(prior_factor, factor, self.blend)

    def warm_start(self, fitted: "EngagementLSTM") -> None:
        """Take over what only held-out data can teach: blend, leaning and the width of the intervals."""
        self.blend.copy_(fitted.blend)
        self.lean.copy_(fitted.lean)
        self.widths.copy_(fitted.widths)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        n = len(batch["context"])
        made_up = round(n * self.hparams["synthetic_share"])
        parts = [batch]
        if made_up:
            horizon = batch["target"].shape[1]
            parts.append(synthetic_windows(made_up, self.frequency, horizon, batch["context"].device))
        both = {name: torch.cat([part[name] for part in parts]) for name in ("context", "target", "phase", "age")}
        window = read(both, self.frequency)
        z, factor = self.net(window, both["phase"])
        losses = loss_of(window, z, factor, both["target"])
        self.log("train/loss", losses[:n].mean(), on_step=False, on_epoch=True, batch_size=n, prog_bar=True)
        return losses.mean()

    def _held_out_step(self, batch: Batch, kept: list[dict[str, Tensor]]) -> None:
        window = read(batch, self.frequency)
        prior, tuned, _ = self._both(window, batch["phase"])
        target = batch["target"]
        known = target.isfinite()
        floor = window.scale.to_z(torch.zeros_like(window.scale.unit))
        kept.append(
            {
                "target": window.scale.to_z(target.nan_to_num(0.0))[known],
                "prior": torch.maximum(prior, floor[..., None])[known],
                "tuned": torch.maximum(tuned, floor[..., None])[known],
                "recent": torch.maximum(window.recent[:, None], floor[..., None]).expand_as(prior)[known],
                "leanable": leanable(window).expand_as(target[..., None])[known],
                "norm": window.norm.expand_as(target)[known],
            }
        )

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """The second loader, if there is one, holds windows from before the validation block, for the prior alone."""
        if dataloader_idx == 0:
            self._held_out_step(batch, self._seen)
        elif self._history is None and self.hparams["prior_steps"] > 0:  # the prior says the same in every epoch
            self._held_out_step(batch, self._earlier)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._held_out_step(batch, self._seen)

    def on_validation_epoch_end(self) -> None:
        seen = _joined(self._seen)
        if self._earlier and not self.trainer.sanity_checking:
            self._history = _joined(self._earlier)
        self._earlier.clear()
        known = [seen] if self._history is None else [seen, self._history]
        honest = {name: torch.cat([part[name] for part in known]) for name in seen}
        # The prior's errors are honest in all of `honest`, the tuned network's in `seen` alone.
        leaning = LEANINGS[self._first_within_margin([_loss_at(honest, 0.0, lean) for lean in LEANINGS])[0]]
        chosen, loss = self._first_within_margin([_loss_at(seen, blend, leaning) for blend in BLENDS])
        self.log("val/loss", loss, prog_bar=True)
        self.log("val/blend", float(BLENDS[chosen]))
        self.log("val/lean", leaning)
        if not self.trainer.sanity_checking:
            self.blend.fill_(BLENDS[chosen])
            self.lean.fill_(leaning)
            blends = [BLENDS[chosen], 0.0]
            z = torch.cat([_forecast(part, blend, leaning) for part, blend in zip(known, blends, strict=False)])
            self.widths.copy_(self.trainer.strategy.reduce(widths(honest["target"], z), reduce_op="mean"))

    def _first_within_margin(self, losses: list[Tensor]) -> tuple[int, Tensor]:
        """Place and value of the first loss that comes within MARGIN of the least, the same in all processes."""
        everywhere = self.trainer.strategy.reduce(torch.stack(losses), reduce_op="mean")
        chosen = int((everywhere <= everywhere.amin() * (1 + MARGIN)).int().argmax())
        return chosen, everywhere[chosen]

    def on_test_epoch_end(self) -> None:
        self.log("test/loss", _loss_at(_joined(self._seen), float(self.blend), float(self.lean)), sync_dist=True)

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
        return adamw(self.net.parameters(), chosen["learning_rate"], chosen["learning_rate_decay"], chosen["l2"])


def _joined(kept: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The batches that were kept as one; `kept` is emptied."""
    joined = {name: torch.cat([part[name] for part in kept]) for name in kept[0]}
    kept.clear()
    return joined


def leanable(window: Window) -> Tensor:
    """How far the plain quantiles of the recent history may be leant on; (batch, 1, 1).

    1 where there are many of its values and no expert has done better than their median.
    """
    behind = window.errors[:, _RECENT_MEDIAN, None] / window.errors.amin(1, keepdim=True)
    return (behind**-_LOYALTY * window.n_recent / (window.n_recent + _FEW))[..., None]


def _forecast(seen: dict[str, Tensor], blend: float, lean: float) -> Tensor:
    """Quantiles as z (steps, levels) at a weight of the tuned network and a leaning on the recent quantiles."""
    return torch.lerp(torch.lerp(seen["prior"], seen["tuned"], blend), seen["recent"], lean * seen["leanable"])


def _loss_at(seen: dict[str, Tensor], blend: float, lean: float) -> Tensor:
    """Mean pinball loss in units of a fair expert's error."""
    return (pinball(seen["target"], _forecast(seen, blend, lean)).mean(-1) / seen["norm"]).clamp_max(15).mean()


def widened(z: Tensor, factors: Tensor) -> Tensor:
    """Quantiles whose distances from the median are multiplied by `factors`; (..., levels) and (levels,)."""
    median = z[..., MEDIAN, None]
    return (median + factors * (z - median)).cummax(dim=-1).values


def widths(target: Tensor, z: Tensor) -> Tensor:
    """Factors on each quantile's distance from the median. Shapes: (steps,), (steps, levels) to (levels,).

    The factor with which the share of `target` beyond the quantile is what the level says, as the square root of it,
    because one validation block is one draw, and at most 2. Where it would narrow the interval its fourth root is
    taken, at least 0.7: too narrow misleads, too wide only says less. 1 for the median, and where a quantile coincides
    with it everywhere.
    """
    factors = torch.ones(len(LEVELS), device=z.device)
    for k, level in enumerate(LEVELS):
        side = 1.0 if level > 0.5 else -1.0
        width = side * (z[:, k] - z[:, MEDIAN])
        usable = width > 1e-9
        if k == MEDIAN or not usable.any():
            continue
        ratio = side * (target - z[:, MEDIAN])[usable] / width[usable]
        # torch.quantile takes no more than 2**24 values.
        position = round(max(level, 1 - level) * (len(ratio) - 1)) + 1
        factor = ratio.kthvalue(position).values.clamp(0.25, 4.0).sqrt()
        factors[k] = torch.where(factor < 1, factor.sqrt(), factor)
    return factors
