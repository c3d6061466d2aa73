"""The forecasting network's arithmetic by hand: scale, experts' seasons, places in time, weights, quantiles, loss."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from forecasting import experts
from forecasting.experts import n_experts, opinions, past_errors
from forecasting.forecaster import LEVELS, MEDIAN, Forecaster, Scale, Window, loss_of, mean_of, read
from forecasting.frequency import FREQUENCIES

pytestmark = pytest.mark.usefixtures("one_thread")
DAILY = FREQUENCIES["daily"]
CONTEXT, HORIZON = DAILY.context, 14
NAN = float("nan")
REGRESSIONS = slice(15, 17)


def window_of(*series: np.ndarray) -> Window:
    """Of series that end together, the unknown past filled up."""
    context = torch.full((len(series), CONTEXT), NAN)
    for row, values in enumerate(series):
        context[row, CONTEXT - len(values) :] = torch.tensor(values, dtype=torch.float32)
    n = len(series)
    return read({"context": context, "target": torch.zeros(n, HORIZON), "age": torch.full((n,), 100)}, DAILY)


def noisy(seed: int = 0, n: int = CONTEXT) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4, 10, n)


def plain_net(**bias: float) -> Forecaster:
    """A network whose head answers its biases whatever it reads."""
    torch.manual_seed(0)
    net = Forecaster(DAILY, 4, 1, 0.0).eval()
    n = n_experts(DAILY)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
        for place, value in bias.items():
            net.head.bias[n + int(place.removeprefix("b"))] = value
    return net


# -- experts ---------------------------------------------------------------------------------------------------------


def test_a_season_seen_in_few_cycles_is_believed_in_part() -> None:
    cycles = torch.tensor([[[3.0, 0, 0, 0, 0, 0, 0]] * 2])
    part = experts._seasonal_part(cycles, torch.ones_like(cycles, dtype=torch.bool))
    # Least squares through the cycles' one level, less the mean of 3/7: two cycles of two and a half.
    assert part[0, 0] == pytest.approx((3 - 3 / 7) * 2 / 2.5, rel=1e-4)
    assert part[0, 1:].tolist() == pytest.approx([-3 / 7 * 2 / 2.5] * 6, rel=1e-4)


def test_the_rest_has_no_seasons() -> None:
    week = np.array([5.0, 1, 1, 1, 1, 3, 4])
    z = torch.tensor(np.tile(week, CONTEXT // 7), dtype=torch.float32)[None]
    said = opinions(z, torch.ones_like(z, dtype=torch.bool), DAILY, HORIZON)
    assert said.rest.std() < 0.1 * z.std()


def test_unknown_steps_are_no_errors() -> None:
    z = torch.ones(1, CONTEXT)
    known = torch.rand(1, CONTEXT, generator=torch.Generator().manual_seed(0)) < 0.7
    errors = past_errors(z * known, known, DAILY)
    assert errors.max() < 0.01


def test_a_day_that_was_never_known_is_forecast_at_the_mean() -> None:
    z, known = torch.full((1, CONTEXT), 5.0), torch.arange(CONTEXT)[None] % 7 != 3
    paths = opinions(z * known, known, DAILY, 7).paths[0]
    torch.testing.assert_close(paths[3, REGRESSIONS], torch.tensor([5.0, 5.0]))


# -- what is read ----------------------------------------------------------------------------------------------------


def test_unknown_steps_have_no_part_in_scale_and_quantiles() -> None:
    values = noisy()
    gappy = values.copy()
    gappy[-42::2] = NAN
    window = window_of(gappy)
    assert (window.z[0, ~window.known[0]] == 0).all()
    expected = np.quantile(window.z[0, -42:][window.known[0, -42:]].numpy(), LEVELS)
    np.testing.assert_allclose(window.recent[0], expected, rtol=1e-4)
    assert int(window.n_recent) == 21


def test_a_long_history_is_taken_at_its_word_and_a_short_one_is_not() -> None:
    long, short = window_of(np.full(CONTEXT, 8.0)), window_of(np.full(3, 8.0))
    assert float(long.scale.deviation) == pytest.approx(1e-5)
    assert float(short.scale.deviation) > 0.1
    one = window_of(np.array([8.0]))
    np.testing.assert_allclose(one.steps[0], [0.8, 0.47, 0.47, 0.8], rtol=0.1)


def test_a_level_that_fell_to_nothing_keeps_a_tenth_of_its_unit() -> None:
    values = noisy() + 5
    values[-DAILY.windows[1] :] = 0
    assert float(window_of(values).scale.unit) > 0.02 * values.mean()


def test_values_are_never_negative_and_silence_stays_silent() -> None:
    unit, zero = torch.ones(2, 1), torch.zeros(2, 1)
    scale = Scale(unit, zero, unit, torch.tensor([[False], [True]]))
    assert scale.to_values(torch.full((2, 3), -2.0)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert scale.to_values(torch.full((2, 1), 1.0)).flatten().tolist() == pytest.approx([math.e - 1, 0])
    z = scale.to_z(torch.tensor([[3.0], [3.0]]))
    assert scale.to_values(z)[0, 0] == pytest.approx(3.0)


# -- the network -----------------------------------------------------------------------------------------------------


def read_by(part: torch.nn.Module, net: Forecaster, window: Window, phase: int) -> Tensor:
    kept: list[Tensor] = []
    handle = part.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        net(window, torch.tensor([phase]))
    handle.remove()
    return kept[0][0]


def test_every_step_is_read_with_its_place_in_the_week() -> None:
    net, window, phase = plain_net(), window_of(noisy()), 10
    turns = 2 * math.pi * torch.arange(phase - CONTEXT, phase + HORIZON) / 7
    places = torch.stack([turns.sin(), turns.cos()], 1)
    past, future = read_by(net.encoder, net, window, phase), read_by(net.decoder, net, window, phase)
    torch.testing.assert_close(past[:, -2:], places[:CONTEXT], atol=1e-4, rtol=0)
    n = n_experts(DAILY)
    torch.testing.assert_close(future[:, n + 2 : n + 4], places[CONTEXT:], atol=1e-4, rtol=0)


def test_without_anything_learned_experts_count_by_their_errors() -> None:
    net, window = plain_net(), window_of(noisy(), noisy(1))
    z, _ = net(window, torch.tensor([0, 0]))
    weights = (1 / window.errors) / (1 / window.errors).sum(1, keepdim=True)
    torch.testing.assert_close(z[..., MEDIAN], (weights[:, None] * window.paths).sum(-1))


def test_quantiles_lie_outward_from_the_median_step_by_step() -> None:
    window = window_of(noisy())
    z, _ = plain_net(b1=0.1, b2=0.2, b3=0.3, b4=0.4)(window, torch.tensor([0]))
    sizes = torch.nn.functional.softplus(torch.tensor([0.1, 0.2, 0.3, 0.4])) * window.steps[0]
    torch.testing.assert_close(z[0].diff(dim=1), sizes.expand(HORIZON, -1), atol=1e-5, rtol=1e-5)


def test_the_mean_by_hand() -> None:
    quantiles = torch.tensor([[[0.0, 1, 2, 4, 10]]])
    assert mean_of(quantiles, torch.tensor([[2.0]])).item() == pytest.approx(2 * (0.225 + 0.5 + 0.9 + 1.5))


def test_a_quantile_below_zero_is_as_good_as_zero() -> None:
    window = window_of(np.r_[noisy(n=CONTEXT - 40), np.zeros(40)])
    target = torch.zeros(1, HORIZON)
    at_zero = window.scale.to_z(torch.zeros(1, 1))[..., None].expand(1, HORIZON, len(LEVELS))
    factor = torch.ones(1, HORIZON)
    torch.testing.assert_close(
        loss_of(window, at_zero - 3, factor, target), loss_of(window, at_zero, factor, target), atol=1e-6, rtol=0
    )


def test_a_loss_counts_known_steps_alone() -> None:
    window = window_of(noisy())
    z, factor = plain_net()(window, torch.tensor([0]))
    target = torch.tensor(noisy(3, HORIZON), dtype=torch.float32)[None]
    half = target.clone()
    half[:, 7:] = NAN
    first = loss_of(window, z[:, :7], factor[:, :7], target[:, :7])
    torch.testing.assert_close(loss_of(window, z, factor, half), first)


def test_a_window_twice_as_high_is_the_same_window() -> None:
    low, high = window_of(noisy()), window_of(noisy() * 2)
    torch.testing.assert_close(low.z, high.z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(replace(low, scale=high.scale).paths, high.paths, atol=1e-3, rtol=1e-3)
