"""Made-up series of every kind, without end: what the forecaster learns from before it sees a dataset.

A dataset of a year holds few independent histories, and a network that learns from them alone mistakes their accidents
for laws. It is therefore first trained on series drawn from a prior over what series do (after ForecastPFN, Dooley et
al. 2023, and prior-fitted networks, Müller et al. 2022), and only then on the dataset. A window is drawn as

    log-intensity = level + seasons + noise + bursts          (or the same added up instead of multiplied)
    value         = Poisson(intensity), or the intensity itself

    level     stationary (some of them returning to their mean), a random walk, a line, or a line with a walk; steps
    seasons   each period of the frequency with chance .7: smooth, rough, or two days a cycle that stand out
    noise     autocorrelated with chance .35; Gaussian, heavy-tailed or skewed; or a gamma factor (negative binomial)
    bursts    rare, up to twelvefold, some dying away slowly
    gaps      some series begin late, some lack values here and there

All strengths are drawn log-uniformly. Nothing here was taken from a dataset that is evaluated on.
"""

import math

import torch
from torch import Tensor

from forecasting.frequency import Frequency


def _log_uniform(n: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.exp(torch.rand(n, 1, device=device) * math.log(high / low) + math.log(low))


def _chance(n: int, p: float, device: torch.device) -> Tensor:
    return torch.rand(n, 1, device=device) < p


def _remembering(impulses: Tensor, share: Tensor) -> Tensor:
    """x[t] = share * x[t - 1] + impulses[t]; shapes (n, steps) and (n, 1)."""
    state = torch.zeros_like(impulses[:, 0])
    steps = []
    for impulse in impulses.unbind(1):
        state = share[:, 0] * state + impulse
        steps.append(state)
    return torch.stack(steps, 1)


def _levels(n: int, time: Tensor, short: int) -> Tensor:
    """`time` counts from the origin (steps,); `short` is the length of "lately"."""
    device, steps = time.device, len(time)
    kind = torch.rand(n, 1, device=device)
    returns = (kind < 0.55) & _chance(n, 0.25, device)
    walks = (kind >= 0.55) & ((kind < 0.7) | _chance(n, 0.4, device))
    memory = torch.where(_chance(n, 0.7, device), 1.0, 1 - _log_uniform(n, 1 / (20 * short), 1 / short, device))
    memory = torch.where(returns, 1 - _log_uniform(n, 1 / (2 * short), 0.5, device), memory)
    size = _log_uniform(n, 2e-3, 0.2, device) / math.sqrt(short)
    size = torch.where(returns, size * (1 - memory**2).sqrt() * 3 * math.sqrt(short), size)
    level = _remembering(torch.randn(n, steps, device=device) * size * (walks | returns), memory)
    slope = torch.randn(n, 1, device=device) * _log_uniform(n, 1e-3, 0.1, device) / short
    level = level + slope * time * (kind >= 0.7)
    for _ in range(2):
        at = time[0] + torch.rand(n, 1, device=device) * steps
        jump = torch.randn(n, 1, device=device) * 0.5 * (_chance(n, 0.12, device) & (kind >= 0.55))
        level = level + jump * (time >= at)
    return level


def _season(n: int, period: int, time: Tensor) -> Tensor:
    device = time.device
    shape = torch.randn(n, period, device=device)
    if period > 8:
        spectrum = torch.fft.rfft(shape)
        order = torch.arange(spectrum.shape[1], device=device)[None]
        fading = (1 + order) ** (-2 * torch.rand(n, 1, device=device))
        highest = torch.randint(1, max(2, period // 2), (n, 1), device=device)
        smooth = torch.fft.irfft(spectrum * fading * ((order <= highest) & (order > 0)), n=period)
        smooth = smooth / smooth.std(1, keepdim=True).clamp_min(1e-6)
        shape = torch.where(_chance(n, 0.15, device), shape, smooth)
    elif period > 2:
        place = torch.arange(period, device=device)[None]
        first = torch.randint(0, period, (n, 1), device=device)
        stands_out = (place == first) | (place == (first + 1) % period)
        pair = (2.0 * stands_out - 0.6) * torch.randn(n, 1, device=device).sign()
        shape = torch.where(_chance(n, 0.3, device), pair, shape)
    shape = shape - shape.mean(1, keepdim=True)
    strength = _log_uniform(n, 0.02, 1.5, device) * _chance(n, 0.7, device)
    growth = 1 + 0.2 * torch.randn(n, 1, device=device) * time / len(time)
    return strength * shape[:, torch.arange(len(time), device=device) % period] * growth


def _noise(n: int, steps: int, device: torch.device) -> Tensor:
    freedom = torch.where(_chance(n, 0.5, device), 100.0, 2.5 + 6 * torch.rand(n, 1, device=device)) / 2
    chi = torch.distributions.Gamma(freedom.expand(n, steps), freedom.expand(n, steps)).sample()
    shocks = (torch.randn(n, steps, device=device) / chi.sqrt().clamp_min(1e-3)).clamp(-6, 6)
    memory = 0.8 * torch.rand(n, 1, device=device) * _chance(n, 0.35, device)
    noise = _remembering(shocks * (1 - memory**2).sqrt(), memory)
    skewed = 0.6 - 0.8 * torch.nn.functional.softplus(-1.7 * noise)
    noise = torch.where(_chance(n, 0.3, device), skewed, noise) * _log_uniform(n, 0.01, 1.2, device)
    shape = _log_uniform(n, 0.5, 60, device).expand(n, steps)
    gamma = torch.distributions.Gamma(shape, shape).sample().clamp_min(1e-4).log()
    gamma = gamma + 0.3 * noise * _chance(n, 0.5, device)
    return torch.where(_chance(n, 0.4, device), gamma, noise)


def _bursts(n: int, steps: int, device: torch.device) -> Tensor:
    rate = _log_uniform(n, 0.002, 0.05, device) * _chance(n, 0.35, device)
    impulses = (torch.rand(n, steps, device=device) < rate) * torch.rand(n, steps, device=device) * 2.5
    return _remembering(impulses, 0.8 * torch.rand(n, 1, device=device) * _chance(n, 0.6, device)).clamp_max(2.5)


@torch.no_grad()
def synthetic_windows(n: int, frequency: Frequency, horizon: int, device: torch.device) -> dict[str, Tensor]:
    """`n` windows as forecasting/engagement_data.py cuts them from a panel.

    Returns:
        context (n, context), target (n, horizon), phase (n,) and age (n,); see forecasting/engagement_data.py.
    """
    context, short = frequency.context, frequency.windows[0]
    steps = context + horizon
    time = torch.arange(steps, device=device, dtype=torch.float32) - context
    log = _levels(n, time, short) + _noise(n, steps, device) + _bursts(n, steps, device)
    for period in frequency.seasons:
        log = log + _season(n, period, time)
    log = log.clamp(-12, 8)
    base = _log_uniform(n, 0.3, 3000, device)
    added = base * (1 + 0.4 * log).clamp_min(0)
    intensity = torch.where(_chance(n, 0.5, device), added, base * log.exp())
    values = torch.where(_chance(n, 0.6, device), torch.poisson(intensity.clamp(0, 1e6)), intensity)
    gappy = 0.3 * torch.rand(n, 1, device=device) * _chance(n, 0.15, device)
    gap = (torch.rand(n, steps, device=device) < gappy) & (time < 0)
    late = torch.rand(n, 1, device=device) * (context - min(context - 2, 2 * short)) * _chance(n, 0.25, device)
    values = torch.where(gap | (time + context < late), torch.nan, values)
    return {
        "context": values[:, :context],
        "target": values[:, context:],
        "phase": torch.randint(0, 100_000, (n,), device=device),
        "age": (context - late.floor()).squeeze(1),
    }
