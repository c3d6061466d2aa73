"""Metrics of forecasts and probabilities against hand-computed values, their edges, and their doctests."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from forecasting import metrics

amounts = st.floats(0, 1e4, allow_nan=False, allow_subnormal=False)  # half of the least float there is is zero
panels = arrays.arrays(float, (3, 8), elements=amounts)


def test_doctests() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted >= 10
    assert result.failed == 0


def test_relative_mae_is_a_geometric_mean_and_leaves_out_what_has_no_ratio() -> None:
    assert metrics.relative_mae([2.0, 1.0], [1.0, 2.0]) == pytest.approx(1.0)
    assert metrics.relative_mae([1.0, 1.0], [4.0, 1.0]) == pytest.approx(0.5)
    assert metrics.relative_mae([1.0, 5.0, np.nan], [2.0, 0.0, 1.0]) == pytest.approx(0.5)
    assert np.isnan(metrics.relative_mae([1.0], [0.0]))


def test_mase_by_hand() -> None:
    history = [[1.0, 5.0, 2.0, 7.0]]  # season 2: |2-1| and |7-5|, mean 1.5
    assert metrics.mase([[3.0, 4.0]], [[0.0, 4.0]], history, season=2) == pytest.approx([1.0])
    assert np.isnan(metrics.mase([[1.0]], [[2.0]], [[3.0, 3.0, 3.0]], season=1)).all()


def test_unknown_steps_are_left_out() -> None:
    assert metrics.mae([[1.0, np.nan, 3.0]], [[2.0, 99.0, 3.0]]) == pytest.approx([0.5])
    assert metrics.coverage([[1.0, np.nan]], [[0.0, 0.0]], [[2.0, 2.0]]) == 1.0
    quantiles = [[[0.0, 2.0], [5.0, 6.0]]]
    with_gap = metrics.weighted_quantile_loss([[1.0, np.nan]], quantiles, [0.25, 0.75])
    assert with_gap == pytest.approx(metrics.weighted_quantile_loss([[1.0]], [[[0.0, 2.0]]], [0.25, 0.75]))


@given(actual=panels, point=panels)
def test_the_median_alone_gives_the_weighted_absolute_error(actual: np.ndarray, point: np.ndarray) -> None:
    loss = metrics.weighted_quantile_loss(actual, point[..., None], [0.5])
    if actual.sum() == 0:
        assert np.isnan(loss)
    else:
        assert loss == pytest.approx(np.abs(actual - point).sum() / actual.sum(), rel=1e-6)


@given(actual=panels, point=panels)
def test_ranges(actual: np.ndarray, point: np.ndarray) -> None:
    assert (metrics.mae(actual, point) >= 0).all()
    assert ((metrics.smape(actual, point) >= 0) & (metrics.smape(actual, point) <= 2)).all()
    assert 0 <= metrics.coverage(actual, point - 1, point + 1) <= 1
    assert metrics.smape(actual, actual) == pytest.approx(0)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60))
def test_calibration_bins_count_every_case_once(cases: list[tuple[int, float]]) -> None:
    label, p = (np.array(v, float) for v in zip(*cases, strict=True))
    bins = metrics.calibration_bins(label, p)
    assert sum(b["count"] for b in bins) == len(cases)
    assert sum(b["count"] * b["observed"] for b in bins) == pytest.approx(label.sum())
    assert 0 <= metrics.ece(label, p) <= 1


def test_one_class_alone_has_no_ranking() -> None:
    assert np.isnan(metrics.auroc([1, 1], [0.2, 0.8]))
    assert np.isnan(metrics.pr_auc([0, 0], [0.2, 0.8]))
    assert np.isnan(metrics.lift([0, 0], [0.2, 0.8]))


def test_lift_of_chance_is_one() -> None:
    assert metrics.lift([1, 0, 1, 0] * 10, [0.5] * 40) == pytest.approx(1.0)


def test_figures_that_share_data_are_less_certain() -> None:
    """Off the mean by 1, 1, -1, -1: variance 1, lag one 1/4 and lag two -2/4, weighted 2/3 and 1/3."""
    values = [3.0, 3.0, 1.0, 1.0]
    assert metrics.standard_error(values, overlap=0) == pytest.approx((1 / 4) ** 0.5)
    assert metrics.standard_error(values, overlap=1) == pytest.approx(((1 + 2 * 1 / 2 * 1 / 4) / 4) ** 0.5)
    assert metrics.standard_error(values, overlap=2) == pytest.approx(((1 + 2 * (2 / 3 / 4 - 1 / 3 / 2)) / 4) ** 0.5)
    assert metrics.standard_error([1.0, 0.0], overlap=9) >= 0
    assert np.isnan(metrics.standard_error([1.0], overlap=0))


def test_the_calibration_error_weighs_bins_by_their_cases() -> None:
    label, p = [1, 1, 1, 0], [0.9, 0.9, 0.9, 0.2]
    assert metrics.ece(label, p) == pytest.approx((3 * 0.1 + 1 * 0.2) / 4)
    assert metrics.calibration_bins([1], [1.0], n_bins=4) == [{"predicted": 1.0, "observed": 1.0, "count": 1}]


def test_borders_of_intervals_and_probabilities() -> None:
    assert metrics.coverage([[1.0, 2.0]], [[1.0, 1.0]], [[2.0, 2.0]]) == 1.0
    assert metrics.log_loss([1, 0], [0.0, 1.0]) == pytest.approx(-np.log(1e-7))
    assert metrics.relative_mae([0.0], [1.0]) == pytest.approx(1e-9)
    assert metrics.weighted_quantile_loss([[2.0]], [[[1.0, 1.0]]], [0.5, 0.9]) == pytest.approx(0.7)
