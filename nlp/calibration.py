"""Probabilities that mean what they say: temperature scaling (Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017), p = sigmoid(logit / T), with T minimising the cross-entropy on validation.

T changes no decision at p = 0.5, so accuracy stays as it is. Around 0.5 lies a neutral band in which the model's word
is hardly better than a coin.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

_WIDEST_BAND = 0.2
_COIN = 0.6  # accuracy below which a call is not worth making
_LEAST_IN_BAND = 20
_SLOPE_PENALTY = 3.0  # of a sum over reviews: a validation split of a few dozen leaves the slopes near zero


def fit_temperature(logits: np.ndarray, positive: np.ndarray) -> float:
    """The T in [0.1, 10] with the lowest mean cross-entropy of sigmoid(logits / T); 1.0 without both labels.

    Labels are softened as in Platt (1999), to (n + 1) / (n + 2) for a label seen n times: otherwise a validation
    split without an error would ask for T = 0, that is, for certainty.

    >>> round(fit_temperature(np.array([4.0] * 100 + [-4.0] * 100), np.array([True] * 75 + [False] * 125)), 1)
    2.1
    """
    if int(positive.sum()) in (0, len(positive)):
        return 1.0
    best = minimize_scalar(
        lambda log_t: mean_loss(logits / np.exp(log_t), positive), bounds=(np.log(0.1), np.log(10.0)), method="bounded"
    )
    return float(np.exp(best.x))


class Joint(NamedTuple):
    """How encoder and bag make one calibrated logit (see `join`)."""

    mix: float
    encoder_slope: float
    bag_slope: float
    temperature: float


def length_of(n_tokens: Any) -> Any:
    """A text's length as `join` counts it: log(tokens / 64), between 8 and 1,024 tokens. Array or tensor, any shape."""
    if isinstance(n_tokens, torch.Tensor):
        return (n_tokens.float().clamp(8, 1024) / 64).log()
    return np.log(np.clip(n_tokens, 8, 1024) / 64)


def join(encoder: Any, bag: Any, n_tokens: Any, mix: Any, encoder_slope: Any, bag_slope: Any) -> Any:
    """(1 + encoder_slope · u) · encoder + mix · (1 + bag_slope · u) · bag with u = log(tokens / 64).

    The mean over many windows is surer than one window, and a long text has more n-grams: what a logit means depends on
    the length of its text, and so does whom of the two to believe. Arrays or tensors of shape (texts,).
    """
    u = length_of(n_tokens)
    return (1 + encoder_slope * u) * encoder + mix * (1 + bag_slope * u) * bag


def fit_joint(encoder: np.ndarray, bag: np.ndarray | None, n_tokens: np.ndarray, positive: np.ndarray) -> Joint:
    """The joint with the lowest mean cross-entropy of sigmoid(join(...) / temperature), labels softened as in
    `fit_temperature`, slopes kept small by an L2 penalty, temperature in [0.1, 10], mix at least 0; all convex.

    Without both labels nothing is changed. A bag that says nothing gets no weight:

    >>> logits, positive = np.array([4.0] * 100 + [-4.0] * 100), np.array([True] * 75 + [False] * 125)
    >>> found = fit_joint(logits, np.zeros(200), np.full(200, 64), positive)
    >>> round(found.mix, 2), round(found.temperature, 1)
    (0.0, 2.1)
    """
    if int(positive.sum()) in (0, len(positive)):
        return Joint(0.0, 0.0, 0.0, 1.0)
    u = length_of(n_tokens)
    bag = np.zeros_like(encoder) if bag is None else bag
    features = np.stack([encoder, encoder * u, bag, bag * u], 1)
    target = soft_labels(positive)

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        z = features @ weight
        slopes = np.array([0.0, weight[1], 0.0, weight[3]])
        value = (np.logaddexp(0, z) - target * z).mean() + _SLOPE_PENALTY / len(z) * (slopes**2).sum()
        return value, features.T @ (expit(z) - target) / len(z) + 2 * _SLOPE_PENALTY / len(z) * slopes

    # The features at their ends of length must not turn a logit's sign: |slope · u| < 1 for u in [-2.1, 2.8].
    bounds = [(0.1, 10.0), (None, None), (0.0, None), (None, None)]
    start = np.array([1.0, 0.0, 0.0, 0.0])
    weight = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    steepest = 0.9 / max(abs(u).max(), 1e-6)
    encoder_slope = float(np.clip(weight[1] / weight[0], -steepest, steepest))
    bag_slope = float(np.clip(weight[3] / weight[2], -steepest, steepest)) if weight[2] > 1e-3 else 0.0
    mix = float(weight[2] / weight[0]) if weight[2] > 1e-3 else 0.0
    joined = join(encoder, bag, n_tokens, mix, encoder_slope, bag_slope)
    return Joint(mix, encoder_slope, bag_slope, fit_temperature(joined, positive))


def mean_loss(z: np.ndarray, positive: np.ndarray) -> float:
    """Mean cross-entropy of sigmoid(z) with labels softened as in Platt (1999)."""
    return float((np.logaddexp(0, z) - soft_labels(positive) * z).mean())


def soft_labels(positive: np.ndarray) -> np.ndarray:
    """(n + 1) / (n + 2) for the n positives and 1 / (m + 2) for the m others (Platt, 1999)."""
    n = int(positive.sum())
    return np.where(positive, (n + 1) / (n + 2), 1 / (len(positive) - n + 2))


def neutral_band(p: np.ndarray, positive: np.ndarray) -> float:
    """Half the width of the band around 0.5 that is called neutral, in [0, 0.2].

    The widest one (in steps of 0.01, at least 20 reviews in it) whose reviews are called right in fewer than 60 % of
    the cases; 0 if there is none.
    """
    distance, right = np.abs(p - 0.5), (p > 0.5) == positive
    widest = 0.0
    for half in np.arange(1, round(_WIDEST_BAND * 100) + 1) / 100:
        inside = distance < half
        if inside.sum() >= _LEAST_IN_BAND and right[inside].mean() < _COIN:
            widest = float(half)
    return widest


def label_of(p: np.ndarray, half_band: float) -> np.ndarray:
    """negative, neutral or positive for each probability.

    >>> label_of(np.array([0.1, 0.48, 0.8]), 0.05).tolist()
    ['negative', 'neutral', 'positive']
    """
    return np.select([np.abs(p - 0.5) < half_band, p > 0.5], ["neutral", "positive"], "negative")


def probability(logits: np.ndarray, temperature: float) -> np.ndarray:
    """sigmoid(logits / temperature)."""
    return expit(logits / temperature)
