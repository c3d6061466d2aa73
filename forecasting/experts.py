"""Simple forecasts of a window, many at once: what the LSTM weighs, and how each would have done lately.

A window is a context z of shape (batch, context) with a mask of what is known in it; unknown places hold 0. Every
expert answers a path of shape (batch, horizon). They are the field's own simple methods, made to bear gaps:

    level      mean and median of three lengths of history (frequency.Frequency.windows)
    seasonal   for each season the last value of the same phase, the mean of four and the median of eight
    smoothing  exponentially weighted level of three half-lives on the deseasonalised history, seasons put back
    trend      a line fitted by exponentially weighted least squares to the same, damped (Gardner & McKenzie 1985)
    regression phase dummies and one line, by least squares, over the whole context and over its second half
    median     of the deseasonalised history, recent and whole

All but the ridge terms of the lines move with z when it is shifted or stretched. `past_errors` asks the experts at
several origins inside the context for what came after: the evidence by which one trusts them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from forecasting.frequency import Frequency

PAST_ORIGINS = 8
_DAMPING = (0.9, 0.97, 0.995)


@dataclass(frozen=True)
class Opinions:
    """What the experts say of a window.

    Attributes:
        paths: (batch, horizon, experts).
        rest: the context without its seasons (batch, context); 0 where unknown.
        middle: median of `rest` (batch, 1).
        seasons: what the seasons add to each step ahead (batch, horizon).
    """

    paths: Tensor
    rest: Tensor
    middle: Tensor
    seasons: Tensor


def masked_mean(values: Tensor, mask: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Mean of `values` where `mask` (0 where nothing is) and how many there are, along `dim`, which is kept."""
    number = mask.sum(dim, keepdim=True)
    return (values * mask).sum(dim, keepdim=True) / number.clamp_min(1), number


def masked_median(values: Tensor, mask: Tensor, otherwise: Tensor) -> Tensor:
    """Median along dimension 1, which is kept, of `values` where `mask`; `otherwise` where nothing is."""
    middle = torch.where(mask, values, torch.nan).nanmedian(1, keepdim=True).values
    return torch.where(middle.isnan(), otherwise, middle)


def _weighted_line(values: Tensor, mask: Tensor, age: Tensor, half_life: float) -> tuple[Tensor, Tensor]:
    """Level at the origin and slope, by least squares with weights that halve every `half_life` steps; (batch, 1)."""
    weight = torch.exp2(age / half_life) * mask
    total = weight.sum(1, keepdim=True).clamp_min(1e-9)
    at = (weight * age).sum(1, keepdim=True) / total
    level = (weight * values).sum(1, keepdim=True) / total
    variance = (weight * (age - at) ** 2).sum(1, keepdim=True) / total
    slope = (weight * (age - at) * (values - level)).sum(1, keepdim=True) / total
    slope = slope / (variance + 0.3 * half_life)  # few points give no slope
    return level - slope * at, slope


def _seasonal_part(cycles: Tensor, known: Tensor) -> Tensor:
    """What each phase adds to its cycle's mean; shapes (batch, cycles, period) to (batch, period).

    A line through the cycles' means is taken off first: in a rising series late phases are not higher by season.
    """
    period = cycles.shape[2]
    mean, number = masked_mean(cycles, known, 2)  # (batch, cycles, 1)
    full = number >= max(2, period // 3)
    place = torch.arange(cycles.shape[1], device=cycles.device, dtype=cycles.dtype)[None, :, None]
    centre, _ = masked_mean(place.expand_as(mean), full)
    level, _ = masked_mean(mean, full)
    slope = (full * (place - centre) * (mean - level)).sum(1, keepdim=True)
    slope = slope / ((full * (place - centre) ** 2).sum(1, keepdim=True) + 1e-3) / period
    within = torch.arange(period, device=cycles.device, dtype=cycles.dtype) - (period - 1) / 2
    part, number = masked_mean(cycles - mean - slope * within, known & full)
    return (part * number / (number + 0.5)).squeeze(1)


def _regression(cycles: Tensor, known: Tensor, overall: Tensor, ahead: Tensor) -> Tensor:
    """Phase dummies and a line by least squares (Frisch & Waugh 1933: demean by phase, then regress).

    Shapes: (batch, cycles, period), (batch, 1), (horizon,) to (batch, horizon).
    """
    n, period = cycles.shape[1], cycles.shape[2]
    time = torch.arange(n * period, device=cycles.device, dtype=cycles.dtype).reshape(1, n, period) - n * period
    mean, number = masked_mean(cycles, known)  # (batch, 1, period)
    centre, _ = masked_mean(time.expand_as(cycles), known)
    slope = (known * (time - centre) * (cycles - mean)).sum((1, 2))
    slope = slope / ((known * (time - centre) ** 2).sum((1, 2)) + 0.5 * period**2)
    mean = torch.where(number > 0, mean, overall[..., None])
    centre = torch.where(number > 0, centre, time[:, -1:] + 0 * centre)
    intercept = (mean - slope[:, None, None] * centre).squeeze(1)  # (batch, period)
    return intercept[:, ahead % period] + slope[:, None] * ahead


def opinions(z: Tensor, known: Tensor, frequency: Frequency, horizon: int) -> Opinions:
    """The experts' paths; see the module's text. Shapes: (batch, context) and (batch, context) bool."""
    batch, context = z.shape
    short, middle_length, _ = frequency.windows
    overall, _ = masked_mean(z, known)
    ahead = torch.arange(horizon, device=z.device)
    paths: list[Tensor] = []

    def add(path: Tensor) -> None:
        paths.append(path.expand(batch, horizon))

    for length in frequency.windows:
        mean, number = masked_mean(z[:, -length:], known[:, -length:])
        add(torch.where(number > 0, mean, overall))
        add(masked_median(z[:, -length:], known[:, -length:], overall))

    rest, seasons = z, torch.zeros(batch, horizon, device=z.device, dtype=z.dtype)
    place = torch.arange(-context, 0, device=z.device)
    for period in frequency.seasons:
        n = context // period
        if n == 0:
            raise ValueError(f"a context of {context} steps is shorter than a season of {period}")
        phase = ahead % period

        def cycles(values: Tensor, n: int = n, period: int = period) -> Tensor:
            return values[:, context - n * period :].reshape(batch, n, period)

        folded, mask = cycles(z), cycles(known)
        newest = torch.where(mask, torch.arange(n, device=z.device)[:, None], -1).amax(1)  # (batch, period)
        last = folded.gather(1, newest.clamp_min(0)[:, None]).squeeze(1)
        add(torch.where(newest >= 0, last, overall)[:, phase])
        mean, number = masked_mean(folded[:, -4:], mask[:, -4:])
        add(torch.where(number > 0, mean, overall[..., None]).squeeze(1)[:, phase])
        add(masked_median(folded[:, -8:], mask[:, -8:], overall[..., None]).squeeze(1)[:, phase])
        part = _seasonal_part(cycles(rest)[:, -8:], mask[:, -8:])
        rest = rest - part[:, place % period]
        seasons = seasons + part[:, phase]

    age = place + 1.0
    for half_life in (1.0, short / 2, middle_length / 2):
        weight = torch.exp2(age / half_life) * known
        total = weight.sum(1, keepdim=True)
        level = (rest * weight).sum(1, keepdim=True) / total.clamp_min(1e-9)
        add(torch.where(total > 1e-6, level, overall) + seasons)
    for half_life, damping in zip((short, middle_length, 3 * middle_length), _DAMPING, strict=True):
        level, slope = _weighted_line(rest, known, age, half_life)
        reach = torch.cumsum(damping ** (ahead + 1.0), 0)
        add(level + slope * reach + seasons)

    period = frequency.seasons[-1] if 4 * frequency.seasons[-1] <= context else frequency.seasons[0]
    for n in (context // period, context // period // 2):
        n = max(n, 1)
        folded, mask = (part[:, context - n * period :].reshape(batch, n, period) for part in (z, known))
        add(_regression(folded, mask, overall, ahead))
    add(masked_median(rest[:, -middle_length:], known[:, -middle_length:], overall) + seasons)
    middle = masked_median(rest, known, overall)
    add(middle + seasons)
    return Opinions(torch.stack(paths, 2), rest * known, middle, seasons)


def n_experts(frequency: Frequency) -> int:
    """
    >>> from forecasting.frequency import FREQUENCIES
    >>> n_experts(FREQUENCIES["daily"])
    19
    """
    return 6 + 3 * len(frequency.seasons) + 3 + 3 + 2 + 2


def past_errors(z: Tensor, known: Tensor, frequency: Frequency) -> Tensor:
    """Mean absolute error of each expert over PAST_ORIGINS short looks ahead inside the context. (batch, experts).

    The looks end at the window's origin and follow each other; each is as long as "lately" is. A hundredth of a unit
    is put in for each, so that an expert without evidence is neither trusted nor distrusted much.
    """
    batch, context = z.shape
    length = frequency.windows[0]
    back = [length * i for i in range(1, min(PAST_ORIGINS, context // length - 1) + 1)]
    earlier = torch.cat([F.pad(z[:, : context - b], (b, 0)) for b in back])
    mask = torch.cat([F.pad(known[:, : context - b], (b, 0)) for b in back])
    paths = opinions(earlier, mask, frequency, length).paths.reshape(len(back), batch, length, -1)
    stop = [context - b + length for b in back]
    came = torch.stack([z[:, e - length : e] for e in stop])
    there = torch.stack([known[:, e - length : e] for e in stop])
    error = ((paths - came[..., None]).abs() * there[..., None]).sum((0, 2))
    return (error + 0.02) / (there.sum((0, 2))[:, None] + 1)
