"""The simple methods that the forecaster weighs, the made-up series it grows up on, and sums that must hold."""

import doctest

import numpy as np
import pytest
import torch

from forecasting import experts, frequency, hierarchy, metrics, synthetic
from forecasting.experts import PAST_ORIGINS, n_experts, opinions, past_errors
from forecasting.frequency import FREQUENCIES
from forecasting.hierarchy import REST, partitions, reconciled, with_rest
from forecasting.prior import prior_weights, train
from forecasting.series import Panel
from forecasting.synthetic import synthetic_windows

pytestmark = pytest.mark.usefixtures("one_thread")
DAILY = FREQUENCIES["daily"]
# Places among the experts of daily series.
MEAN_7, MEDIAN_28, NAIVE, OF_FOUR, OF_EIGHT = 0, 3, 6, 7, 8
SMOOTHED, TRENDS, REGRESSIONS, MEDIANS = slice(9, 12), slice(12, 15), slice(15, 17), slice(17, 19)


@pytest.mark.parametrize("module", [experts, frequency, hierarchy, metrics])
def test_doctests(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0


# -- experts ---------------------------------------------------------------------------------------------------------


def asked(values: np.ndarray, horizon: int = 14) -> torch.Tensor:
    """The experts' paths for one context, whose last values are given: (horizon, experts)."""
    context = torch.full((1, DAILY.context), torch.nan)
    context[0, -len(values) :] = torch.tensor(values, dtype=torch.float32)
    known = context.isfinite()
    return opinions(context.nan_to_num(0.0), known, DAILY, horizon).paths[0]


def test_every_expert_continues_a_constant() -> None:
    paths = asked(np.full(DAILY.context, 3.0))
    assert paths.shape == (14, n_experts(DAILY))
    torch.testing.assert_close(paths, torch.full_like(paths, 3.0))


def test_seasonal_experts_by_hand() -> None:
    """Eight weeks in which week w has the value w on Monday and nothing on other days."""
    weeks = np.zeros((16, 7))
    weeks[:, 0] = np.arange(16)
    paths = asked(weeks.ravel())
    assert paths[::7, NAIVE].tolist() == [15, 15]
    assert paths[::7, OF_FOUR].tolist() == [13.5, 13.5]
    assert paths[::7, OF_EIGHT].tolist() == [11, 11]  # the lower of the two in the middle
    assert paths[1:7, [NAIVE, OF_FOUR, OF_EIGHT]].abs().max() == 0
    assert paths[0, MEAN_7] == pytest.approx(15 / 7)
    assert paths[0, MEDIAN_28] == 0


def test_lines_and_seasons_are_told_apart() -> None:
    day = np.arange(DAILY.context + 14)
    season = np.array([0, 1, 3, 2, 0, -2, -4.0])[day % 7]
    truth = 10 + 0.5 * day + season
    paths = asked(truth[: DAILY.context])
    expected = torch.tensor(truth[DAILY.context :], dtype=torch.float32)
    for expert in range(REGRESSIONS.start, REGRESSIONS.stop):
        assert (paths[:, expert] - expected).abs().max() < 0.6
    assert (paths[:, 14] - expected).abs().max() < 2  # hardly damped
    assert (paths[0, SMOOTHED] - expected[0]).abs().max() > 1  # a level is late when there is a trend
    assert paths[:, 12].diff().mean() < paths[:, 14].diff().mean()  # more damped, less steep


def test_gaps_late_starts_and_nothing_at_all_are_borne() -> None:
    gap = np.tile([1.0, 2, 3, 4, 5, 6, 7], 16)
    gap[-7:] = np.nan
    paths = asked(gap)
    assert paths[:7, NAIVE].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert asked(np.array([4.0])).isfinite().all()
    assert (asked(np.array([4.0]))[:, NAIVE] == 4).all()
    assert (asked(np.full(10, np.nan)) == 0).all()


def test_the_future_is_not_seen_in_past_errors() -> None:
    """A context that is zero until its last week: an expert that saw the week would have been right in it."""
    z = torch.zeros(1, DAILY.context)
    z[0, -7:] = 1.0
    known = torch.ones_like(z, dtype=torch.bool)
    errors = past_errors(z, known, DAILY)
    steps = 7 * PAST_ORIGINS
    torch.testing.assert_close(errors, torch.full_like(errors, (7 + 0.02) / (steps + 1)))


def test_evidence_points_to_the_right_expert() -> None:
    rng = np.random.default_rng(0)
    z = torch.tensor(np.tile([0.0, 0, 0, 0, 0, 5, 5], 16) + rng.normal(0, 0.1, 112), dtype=torch.float32)[None]
    errors = past_errors(z, torch.ones_like(z, dtype=torch.bool), DAILY)[0]
    assert errors[OF_EIGHT] < 0.15 < 1 < errors[MEAN_7]
    assert errors[OF_FOUR] < errors[NAIVE]  # four say more than one when nothing changes


# -- made-up series --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FREQUENCIES))
def test_made_up_windows_are_amounts_of_every_kind(name: str) -> None:
    torch.manual_seed(0)
    steps = FREQUENCIES[name]
    batch = synthetic_windows(200, steps, steps.horizon, torch.device("cpu"))
    context, target = batch["context"], batch["target"]
    assert (context.shape, target.shape) == ((200, steps.context), (200, steps.horizon))
    assert target.isfinite().all()  # what comes is known; gaps lie in the past
    assert (context[context.isfinite()] >= 0).all()
    late, gappy = context[:, 0].isnan(), context[:, -2 * steps.windows[0] :].isnan().any(1)
    assert 0.05 < late.float().mean() < 0.6
    assert 0 < gappy.float().mean() < 0.4
    whole = (context.nan_to_num(0) == context.nan_to_num(0).round()).all(1)
    assert 0.4 < whole.float().mean() < 0.8
    level = context.nanmean(1)
    assert level.nan_to_num(0).max() / level.nanmedian() > 20
    first = context.isfinite().int().argmax(1)
    assert (first >= (steps.context - batch["age"]).floor() - 1).all()
    whole_past = ~context[:, 0].isnan()
    assert (batch["age"][whole_past] == steps.context).all()


def test_made_up_series_have_weeks_and_memories() -> None:
    torch.manual_seed(0)
    context = synthetic_windows(300, DAILY, 7, torch.device("cpu"))["context"].nan_to_num(0.0)
    centred = context - context.mean(1, keepdim=True)
    spread = (centred**2).mean(1).clamp_min(1e-9)
    week, other = ((centred[:, lag:] * centred[:, :-lag]).mean(1) / spread for lag in (7, 5))
    assert (week > other + 0.3).float().mean() > 0.15
    impulses = torch.tensor([[1.0, 0, 0, 1]])
    remembered = synthetic._remembering(impulses, torch.tensor([[0.5]]))
    assert remembered.tolist() == [[1.0, 0.5, 0.25, 1.125]]


def test_training_on_made_up_series_teaches_and_is_the_same_every_time(marquee_home) -> None:
    cpu = torch.device("cpu")
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first = train(DAILY, 7, 8, 1, 3, cpu)
    assert torch.equal(torch.rand(1), before)  # the caller's random numbers are left alone
    torch.manual_seed(6)
    again = prior_weights(DAILY, 7, 8, 1, 3, cpu)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again[name])
    longer = train(DAILY, 7, 8, 1, 60, cpu)
    assert held_out_loss(longer) < 0.985 * held_out_loss(train(DAILY, 7, 8, 1, 1, cpu))


def held_out_loss(net) -> float:
    from forecasting.forecaster import loss_of, read

    torch.manual_seed(99)
    batch = synthetic_windows(400, DAILY, 7, torch.device("cpu"))
    with torch.no_grad():
        window = read(batch, DAILY)
        return float(loss_of(window, *net(window, batch["phase"]), batch["target"]).mean())


# -- sums ------------------------------------------------------------------------------------------------------------

IDS = ("total", "active_members", "genre:A", "genre:B", "title:1", "title:2", "segment:new members",
       "segment:other members", "segment:plan=x", "segment:plan=y", "plays")  # fmt: skip


def test_partitions_of_the_total() -> None:
    found = [part.tolist() for part in partitions((*IDS, REST))]
    assert found == [[2, 3], [4, 5, 11], [6, 7], [8, 9]]
    assert [part.tolist() for part in partitions(IDS)] == [[2, 3], [6, 7], [8, 9]]  # titles alone are not the total
    assert partitions(IDS[1:]) == []
    columns = ("total", "segment:plan=x", "segment:town=x", "segment:plan=y", "segment:town=y")
    assert [part.tolist() for part in partitions(columns)] == [[1, 3], [2, 4]]  # each column is the total once


def test_the_rest_is_what_no_title_has() -> None:
    panel = Panel(("total", "title:1"), 0, DAILY, np.array([[5.0, 6, np.nan], [np.nan, 2, np.nan]]))
    whole = with_rest(panel)
    assert whole.series_ids == ("total", "title:1", REST)
    np.testing.assert_array_equal(whole.values[2], [5, 4, np.nan])


def test_reconciled_means_add_up_and_move_little() -> None:
    rng = np.random.default_rng(0)
    ids = (*IDS, REST)
    mean = rng.uniform(1, 100, (len(ids), 5))
    mean[10, :] = 7.0
    found = reconciled(ids, mean)
    for part in partitions(ids):
        np.testing.assert_allclose(found[part].sum(0), found[0], rtol=1e-9)
    assert (found > 0).all()
    np.testing.assert_array_equal(found[[1, 10]], mean[[1, 10]])  # parts of no sum
    coherent = reconciled(ids, found)
    np.testing.assert_allclose(coherent, found, rtol=1e-9)


def test_reconciliation_by_hand() -> None:
    """Total 10 and parts 4 + 8 with variances like their means: the gap of 2 is shared as 10 : 12."""
    found = reconciled(("total", "genre:A", "genre:B"), np.array([[10.0], [4.0], [8.0]]))
    force = 2 / 22
    np.testing.assert_allclose(found[:, 0], [10 * (1 + force), 4 * (1 - force), 8 * (1 - force)])


def test_what_is_not_forecast_stays_so_and_contradictions_do_not_turn_negative() -> None:
    ids = ("total", "genre:A", "genre:B", "segment:new members", "segment:other members")
    mean = np.array([[1.0], [1000.0], [np.nan], [0.0], [0.0]])
    found = reconciled(ids, mean)
    assert np.isnan(found[2]).all()
    assert (np.nan_to_num(found) >= 0).all()
    assert found[0] == pytest.approx(found[1])
    assert (reconciled(ids, np.zeros((5, 1))) == 0).all()


def test_the_rest_is_never_negative() -> None:
    """As with a ready-made total that counts less than the titles do."""
    panel = Panel(("total", "title:1"), 0, DAILY, np.array([[5.0, 6], [8, 2]]))
    np.testing.assert_array_equal(with_rest(panel).values[2], [0, 4])
