"""Metrics by hand, and calibration that repairs what was broken on purpose."""

import doctest

import numpy as np
import pytest

import nlp.calibration
import nlp.metrics
import nlp.sentiment
import nlp.splits
import nlp.tokens
from nlp.calibration import fit_temperature, label_of, neutral_band, probability
from nlp.metrics import all_metrics, expected_calibration_error, reliability


@pytest.mark.parametrize("module", [nlp.metrics, nlp.calibration, nlp.splits, nlp.tokens, nlp.sentiment])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_metrics_by_hand() -> None:
    positive = np.array([True, True, False, False, True])
    p = np.array([0.9, 0.4, 0.2, 0.6, 0.8])
    found = all_metrics(positive, p)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["auroc"] == pytest.approx(5 / 6)  # of the six pairs one is the wrong way round
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.4, 0.8]).mean())
    assert found["reviews"] == 5


def test_calibration_error_by_hand() -> None:
    positive = np.array([True, True, True, False, False])
    p = np.array([0.95, 0.95, 0.95, 0.95, 0.05])
    # Bins: four at 0.95 of which 3 are right (gap 0.2), one at 0.05 that is right (gap 0.05).
    assert expected_calibration_error(positive, p) == pytest.approx((4 * 0.2 + 1 * 0.05) / 5)
    assert [b["count"] for b in reliability(positive, p)] == [1, 4]


def test_empty_and_one_sided_cases() -> None:
    nothing = all_metrics(np.zeros(0, bool), np.zeros(0))
    assert nothing == {"accuracy": None, "f1": None, "auroc": None, "log_loss": None, "ece": None, "reviews": 0.0}
    assert all_metrics(np.array([True]), np.array([1.0]))["auroc"] is None


def test_temperature_mends_overconfidence_and_keeps_decisions() -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 1.5, 20_000)
    positive = rng.random(20_000) < probability(true_logits, 1.0)
    overconfident = 3 * true_logits
    temperature = fit_temperature(overconfident, positive)
    assert temperature == pytest.approx(3, abs=0.1)
    before, after = probability(overconfident, 1.0), probability(overconfident, temperature)
    assert expected_calibration_error(positive, before) > 0.1
    assert expected_calibration_error(positive, after) < 0.02
    assert ((before > 0.5) == (after > 0.5)).all()


def test_temperature_stays_finite_without_a_single_error() -> None:
    positive = np.array([True, False] * 50)
    temperature = fit_temperature(np.where(positive, 5.0, -5.0), positive)
    assert 0.9 < probability(np.array([5.0]), temperature)[0] < 0.999


def test_the_neutral_band_is_where_the_model_guesses() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    positive = np.where(np.abs(p - 0.5) < 0.1, rng.random(20_000) < 0.5, p > 0.5)
    # Right half of the time within 0.1, always outside: right in 60 % of the cases up to 0.125.
    assert neutral_band(p, positive) == pytest.approx(0.12, abs=0.011)
    assert neutral_band(p, p > 0.5) == 0.0
    assert label_of(np.array([0.55]), 0.06).tolist() == ["neutral"]
