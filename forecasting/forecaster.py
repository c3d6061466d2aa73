"""The forecasting network: an encoder-decoder LSTM that weighs simple methods and says how far to trust them.

After the multi-horizon quantile recurrent forecaster (Wen et al. 2017), with a recurrent decoder in place of its MLP
and, in place of raw regression, a mixture of simple methods chosen by evidence, as in forecast combination (Bates &
Granger 1969). No series has parameters of its own, so a new series is forecast by what the others taught.

A window is put on its own scale. With u a typical value of it (between its mean and its geometric mean) and c, d the
mean and the mean absolute deviation of log(1 + value / u),

    z = (log(1 + value / u) - c) / d

in which the experts of forecasting/experts.py answer paths x_k and made mean errors e_k on the last few occasions.
The encoder reads z, z without its seasons, what is known and the place in each season; the decoder starts from its
state and reads, for each step ahead, the paths, the errors and the place in each season. It answers

    median_h    = sum over k of w_hk x_hk + s a_h,     w_h = softmax(r_h + p - b log e)      s: spread of the residuals
    level q_h   = median_h +- i_1 softplus(f_h1) +- ...     outward in steps of the residuals' own quantiles i
    mean_h      = (integral of the quantiles as values) * softplus(g_h)

with r, a, f, g read from the decoder and p, b learned. Quantiles therefore never cross, and values, which are
u (exp(c + d z) - 1) cut at zero, are never negative.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.experts import masked_mean, n_experts, opinions, past_errors
from forecasting.frequency import Frequency

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MEDIAN = LEVELS.index(0.5)
_SHARES = (0.15, 0.225, 0.25, 0.225, 0.15)  # of the distribution that each quantile stands for
_UNIT_SOFTPLUS = math.log(math.expm1(1.0))
_SHALLOW = 168  # steps that the encoder reads at most
_N_STATIC = 11
_PRIOR_STEPS = 2.0  # a context counts for so many known steps more than it has when its deviation is measured
_PRIOR_DEVIATION = 0.35
_PRIOR_WIDTHS = (1.2, 0.7, 0.7, 1.2)  # between neighbouring quantiles, in deviations

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Scale:
    """How a window's values become z and back; each (batch, 1)."""

    unit: Tensor
    centre: Tensor
    deviation: Tensor
    is_silent: Tensor  # nothing but zeros is known, or nothing at all

    def to_z(self, values: Tensor) -> Tensor:
        return (torch.log1p(values / self.unit) - self.centre) / self.deviation

    def to_values(self, z: Tensor) -> Tensor:
        """(batch, horizon) or (batch, horizon, levels) to values of the same shape."""
        unit, centre, deviation, silent = (
            part if z.ndim == 2 else part[..., None]
            for part in (self.unit, self.centre, self.deviation, self.is_silent)
        )
        log = (z * deviation + centre).clamp(0.0, 40.0)
        return torch.where(silent, 0.0, torch.expm1(log) * unit)


@dataclass(frozen=True)
class Window:
    """What a batch says without any parameter: scale, experts and residuals.

    Attributes:
        scale: see Scale.
        z: (batch, context), 0 where unknown.
        known: (batch, context).
        paths: of the experts (batch, horizon, experts).
        errors: of the experts lately (batch, experts).
        rest: z without its seasons (batch, context).
        steps: distances between neighbouring quantiles of the residuals (batch, levels - 1).
        recent: quantiles of z itself over the last six weeks or the like (batch, levels).
        n_recent: how many values those are of (batch, 1).
        static: (batch, _N_STATIC).
        norm: a fair expert's error, the unit of the loss (batch, 1).
    """

    scale: Scale
    z: Tensor
    known: Tensor
    paths: Tensor
    errors: Tensor
    rest: Tensor
    steps: Tensor
    recent: Tensor
    n_recent: Tensor
    static: Tensor
    norm: Tensor


def _quantiles(values: Tensor, mask: Tensor) -> Tensor:
    """Quantiles at LEVELS over the known steps; (batch, steps) to (batch, levels), 0 where nothing is known."""
    levels = torch.tensor(LEVELS, dtype=values.dtype, device=values.device)
    return torch.nanquantile(torch.where(mask, values, torch.nan), levels, dim=1).T.nan_to_num(0.0)


def _scale(values: Tensor, known: Tensor, recent: int) -> Scale:
    level, number = masked_mean(values[:, -recent:], known[:, -recent:])
    overall, _ = masked_mean(values, known)
    level = torch.maximum(torch.where(number > 0, level, overall), 0.1 * overall)
    rough = torch.where(level > 0, level, 1.0)
    unit = rough * torch.expm1(masked_mean(torch.log1p(values / rough), known)[0])
    unit = torch.where(unit > 0, unit, 1.0)
    log = torch.log1p(values / unit)
    centre, number = masked_mean(log, known)
    total = ((log - centre).abs() * known).sum(1, keepdim=True)
    # Few values are given the benefit of the doubt; a constant for months is one, and keeps what nothing divides by.
    doubted = (total + _PRIOR_STEPS * _PRIOR_DEVIATION) / (number + _PRIOR_STEPS)
    deviation = torch.where(number >= 2 * recent, (total / number.clamp_min(1)).clamp_min(1e-5), doubted)
    return Scale(unit, centre, deviation, overall <= 0)


@torch.no_grad()
def read(batch: Batch, frequency: Frequency) -> Window:
    """Everything about a batch that no parameter has a part in; see Window."""
    context, horizon = batch["context"], batch["target"].shape[1]
    recent = frequency.windows[1]
    known = context.isfinite()
    values = context.nan_to_num(0.0)
    scale = _scale(values, known, recent)
    z = scale.to_z(values) * known
    said = opinions(z, known, frequency, horizon)
    errors = past_errors(z, known, frequency)
    best = errors.amin(1, keepdim=True)
    steps = _quantiles(said.rest - said.middle, known).diff(dim=1)
    steps = torch.maximum(steps, 0.05 * best).clamp_min(0.02)
    number = known.sum(1, keepdim=True)  # few values say little about how far the next may lie
    steps = (number * steps + _PRIOR_STEPS * torch.tensor(_PRIOR_WIDTHS, device=z.device)) / (number + _PRIOR_STEPS)
    spread = steps.sum(1, keepdim=True)
    neighbours = known[:, 1:] & known[:, :-1]
    rough, _ = masked_mean(z.diff(dim=1).abs(), neighbours)
    static = torch.cat(
        [
            torch.log1p(scale.unit).clamp_max(12) / 6,
            torch.log(scale.deviation).clamp(-8, 2) / 3,
            masked_mean((values == 0).to(z.dtype), known)[0],
            known.to(z.dtype).mean(1, keepdim=True),
            torch.log1p(batch["age"].to(z.dtype))[:, None] / 8,
            spread.clamp_max(8),
            rough / spread,
            steps[:, :1] / spread,
            steps[:, -1:] / spread,
            torch.log(best / spread),
            said.seasons.std(1, keepdim=True, correction=0) / spread,
        ],
        dim=1,
    )  # (batch, _N_STATIC)
    lately = min(context.shape[1], recent + recent // 2)
    return Window(
        scale=scale,
        z=z,
        known=known,
        paths=said.paths,
        errors=errors,
        rest=said.rest,
        steps=steps,
        recent=_quantiles(z[:, -lately:], known[:, -lately:]),
        n_recent=known[:, -lately:].sum(1, keepdim=True),
        static=static,
        norm=errors.median(1, keepdim=True).values + 0.02,
    )


class Forecaster(nn.Module):
    """The network; see the module's text. Any horizon; the context is the frequency's."""

    def __init__(self, frequency: Frequency, hidden_size: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.frequency = frequency
        n, places = n_experts(frequency), 2 * len(frequency.seasons)
        between = dropout if n_layers > 1 else 0.0
        self.encoder = nn.LSTM(4 + places, hidden_size, n_layers, batch_first=True, dropout=between)
        self.decoder = nn.LSTM(2 * n + 3 + places + _N_STATIC, hidden_size, n_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, n + 1 + len(LEVELS))  # weights, shift, four steps, mean
        self.preference = nn.Parameter(torch.zeros(n))
        self.trust = nn.Parameter(torch.tensor(1.0))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias[n + 1 :] = _UNIT_SOFTPLUS

    def _places(self, steps: Tensor) -> Tensor:
        """Place in each season as points on a circle; (batch, steps) int64 to (batch, steps, 2 * seasons)."""
        turns = [2 * math.pi * (steps % period) / period for period in self.frequency.seasons]
        return torch.stack([part for turn in turns for part in (turn.sin(), turn.cos())], dim=2)

    def forward(self, window: Window, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Quantiles as z (batch, horizon, levels), and the mean's factor (batch, horizon).

        Args:
            window: see `read`.
            phase: the step at which the future begins, counted so that multiples of a season fall together. (batch,).
        """
        paths, errors = window.paths, window.errors
        batch, horizon, n = paths.shape
        context, device = window.z.shape[1], paths.device
        evidence = torch.log(errors / errors.amin(1, keepdim=True))
        middle = torch.softmax(self.preference - 3 * evidence, 1)
        reference = (middle[:, None] * paths).sum(-1).mean(1, keepdim=True)  # (batch, 1)
        spread = window.steps.sum(1, keepdim=True)
        known = window.known.to(paths.dtype)

        length = min(context, _SHALLOW)
        when = phase[:, None] + torch.arange(-length, 0, device=device)
        seen = [
            ((part - reference) / spread * known).clamp(-5, 5)[:, -length:, None] for part in (window.z, window.rest)
        ]
        past = torch.cat(
            [*seen, known[:, -length:, None], window.z.clamp(-5, 5)[:, -length:, None], self._places(when)], 2
        )
        _, state = self.encoder(past)

        ahead = torch.arange(1, horizon + 1, device=device, dtype=paths.dtype) * 7 / self.frequency.windows[0]
        far = torch.stack([(ahead / 28).clamp_max(4), torch.log(ahead) / 4], 1).expand(batch, -1, -1)
        constant = torch.cat(
            [torch.log(errors / errors.mean(1, keepdim=True)), window.static, reference.clamp(-5, 5)], 1
        )
        future = torch.cat(
            [
                ((paths - reference[..., None]) / spread[..., None]).clamp(-5, 5),
                far,
                self._places(phase[:, None] + torch.arange(horizon, device=device)),
                constant[:, None].expand(-1, horizon, -1),
            ],
            dim=2,
        )
        output, _ = self.decoder(future, state)
        raw = self.head(self.dropout(output))  # (batch, horizon, experts + 1 + levels)
        weights = torch.softmax(raw[..., :n] + (self.preference - self.trust * evidence)[:, None], -1)
        median = (weights * paths).sum(-1) + raw[..., n] * spread  # (batch, horizon)
        steps = F.softplus(raw[..., n + 1 : -1]) * window.steps[:, None]  # (batch, horizon, levels - 1)
        below = median[..., None] - steps[..., :MEDIAN].flip(-1).cumsum(-1).flip(-1)
        above = median[..., None] + steps[..., MEDIAN:].cumsum(-1)
        return torch.cat([below, median[..., None], above], -1), F.softplus(raw[..., -1])


def mean_of(quantiles: Tensor, factor: Tensor) -> Tensor:
    """The mean from quantiles as values (batch, horizon, levels) and the network's factor (batch, horizon)."""
    shares = torch.tensor(_SHARES, dtype=quantiles.dtype, device=quantiles.device)
    return (quantiles * shares).sum(-1) * factor


def pinball(target: Tensor, quantiles: Tensor) -> Tensor:
    """(batch, horizon) and (batch, horizon, levels) to the pinball loss of each quantile (Koenker & Bassett 1978)."""
    levels = torch.tensor(LEVELS, dtype=quantiles.dtype, device=quantiles.device)
    error = target[..., None] - quantiles
    return torch.maximum(levels * error, (levels - 1) * error)


def loss_of(window: Window, z: Tensor, factor: Tensor, target: Tensor) -> Tensor:
    """Each window's loss, in units of a fair expert's error so that every series counts alike. Shape: (batch,).

    Half the pinball loss of the quantiles as z, half that of the values they stand for, and a tenth of the Poisson
    deviance of the mean, whose minimum is the conditional mean without the squared error's weight on rare bursts.
    """
    known = target.isfinite()
    value = target.nan_to_num(0.0)
    number = known.sum(1).clamp_min(1)
    scale, norm = window.scale, window.norm
    # Values below zero do not exist: a quantile of z under zero's own is as good as zero.
    floor = scale.to_z(torch.zeros_like(scale.unit))[..., None]
    as_z = pinball(scale.to_z(value), torch.maximum(z, floor)).mean(-1) / norm
    quantiles = scale.to_values(z) / scale.unit[..., None]
    width = torch.expm1((norm * scale.deviation).clamp_max(10))  # what one norm is worth in units of the scale
    as_value = pinball(value / scale.unit, quantiles).mean(-1) / width
    mean = mean_of(quantiles, factor) + 1e-6
    came = value / scale.unit
    deviance = (mean - came - came * torch.log(mean / came.clamp_min(1e-6))) / width
    parts = [((part * known).sum(1) / number).clamp_max(15) for part in (as_z, as_value, deviance)]
    return 0.5 * parts[0] + 0.5 * parts[1] + 0.1 * parts[2]
