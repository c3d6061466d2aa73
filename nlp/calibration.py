"""Probabilities that mean what they say: temperature scaling (Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017), p = sigmoid(logit / T), with T minimising the cross-entropy on validation.

T changes no decision at p = 0.5, so accuracy stays as it is. Around 0.5 lies a neutral band in which the model's word
is hardly better than a coin.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

_WIDEST_BAND = 0.2
_COIN = 0.6  # accuracy below which a call is not worth making
_LEAST_IN_BAND = 20


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


def fit_mix(encoder: np.ndarray, bag: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """The mix in [0, 5] and the temperature in [0.1, 10] with the lowest mean cross-entropy of
    sigmoid((encoder + mix * bag) / temperature), labels softened as in `fit_temperature`.

    (0, 1) without both labels. A bag that says nothing gets no weight:

    >>> logits, positive = np.array([4.0] * 100 + [-4.0] * 100), np.array([True] * 75 + [False] * 125)
    >>> mix, temperature = fit_mix(logits, np.zeros(200), positive)
    >>> round(temperature, 1)
    2.1
    """
    if int(positive.sum()) in (0, len(positive)):
        return 0.0, 1.0

    def best_temperature(mix: float) -> tuple[float, float]:
        z = encoder + mix * bag
        temperature = fit_temperature(z, positive)
        return mean_loss(z / temperature, positive), temperature

    found = minimize_scalar(lambda mix: best_temperature(mix)[0], bounds=(0.0, 5.0), method="bounded")
    mix = min((0.0, float(found.x)), key=lambda m: best_temperature(m)[0])
    return mix, best_temperature(mix)[1]


def mean_loss(z: np.ndarray, positive: np.ndarray) -> float:
    """Mean cross-entropy of sigmoid(z) with labels softened as in Platt (1999)."""
    n = int(positive.sum())
    target = np.where(positive, (n + 1) / (n + 2), 1 / (len(positive) - n + 2))
    return float((np.logaddexp(0, z) - target * z).mean())


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
