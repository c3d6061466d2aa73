"""Metrics by hand, and calibration that repairs what was broken on purpose."""

import doctest

import numpy as np
import pytest
import torch

import nlp.calibration
import nlp.metrics
import nlp.sentences
import nlp.sentiment
import nlp.slices
import nlp.splits
import nlp.tokens
from nlp.calibration import fit_joint, fit_temperature, join, label_of, neutral_band, probability
from nlp.metrics import all_metrics, expected_calibration_error, reliability


@pytest.mark.parametrize(
    "module",
    [nlp.metrics, nlp.calibration, nlp.splits, nlp.tokens, nlp.sentiment, nlp.sentences, nlp.slices],
)
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


def generated_logits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Encoder and bag that both know a part, the bag more of a long text, and the encoder three times too sure."""
    rng = np.random.default_rng(seed)
    n_tokens = np.where(rng.random(n) < 0.5, 16, 400)
    a, b = rng.normal(size=n), rng.normal(size=n)
    share = np.where(n_tokens == 16, 0.5, 2.0)
    positive = rng.random(n) < probability(1.5 * a + share * b, 1.0)
    return 4.5 * a, b, n_tokens, positive


def test_the_joint_finds_out_whom_to_believe_at_which_length() -> None:
    encoder, bag, n_tokens, positive = generated_logits(20_000, 0)
    found = fit_joint(encoder, bag, n_tokens, positive)
    encoder, bag, n_tokens, positive = generated_logits(20_000, 1)
    joined = join(encoder, bag, n_tokens, found.mix, found.encoder_slope, found.bag_slope)
    p = probability(joined, found.temperature)
    for length in (16, 400):
        rows = n_tokens == length
        assert expected_calibration_error(positive[rows], p[rows]) < 0.02
    assert found.bag_slope > 0.2
    flat = fit_joint(encoder, bag, np.full(len(bag), 64), positive)
    flat_p = probability(join(encoder, bag, 64, flat.mix, 0.0, 0.0), flat.temperature)
    assert expected_calibration_error(positive[n_tokens == 16], flat_p[n_tokens == 16]) > 0.025


def test_the_joint_turns_no_sign_and_keeps_still_when_there_is_little_to_learn_from() -> None:
    encoder, bag, n_tokens, positive = generated_logits(40, 2)
    found = fit_joint(encoder, bag, n_tokens, positive)
    assert found.mix >= 0
    lengths = np.array([1, 8, 64, 1024, 100_000])
    assert (join(np.ones(5), np.zeros(5), lengths, found.mix, found.encoder_slope, found.bag_slope) > 0).all()
    assert fit_joint(encoder, bag, n_tokens, np.ones(40, bool)) == (0.0, 0.0, 0.0, 1.0)
    alone = fit_joint(encoder, None, n_tokens, positive)
    assert alone.mix == 0.0


def test_tensors_and_arrays_are_joined_alike() -> None:
    encoder, bag, n_tokens, _ = generated_logits(50, 3)
    arrays = join(encoder, bag, n_tokens, 0.7, 0.1, -0.2)
    tensors = join(*(torch.from_numpy(x) for x in (encoder, bag, n_tokens)), 0.7, 0.1, -0.2)
    np.testing.assert_allclose(tensors.numpy(), arrays, rtol=1e-5)


def test_the_neutral_band_is_where_the_model_guesses() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    positive = np.where(np.abs(p - 0.5) < 0.1, rng.random(20_000) < 0.5, p > 0.5)
    # Right half of the time within 0.1, always outside: right in 60 % of the cases up to 0.125.
    assert neutral_band(p, positive) == pytest.approx(0.12, abs=0.011)
    assert neutral_band(p, p > 0.5) == 0.0
    assert label_of(np.array([0.55]), 0.06).tolist() == ["neutral"]
