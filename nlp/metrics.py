"""How good predicted probabilities of "positive" are: pure functions, formula and empty case in each docstring.

`positive` is a boolean array of what is true, `p` the predicted probability of positive, both of shape (reviews,).
"""

import numpy as np
from sklearn.metrics import f1_score, log_loss, roc_auc_score

BINS = 15
_Z = 1.959964  # the normal distribution's 97.5 % point


def accuracy(positive: np.ndarray, p: np.ndarray) -> float | None:
    """Share of reviews with (p > 0.5) == positive, of all reviews, in [0, 1]. None without reviews.

    >>> accuracy(np.array([True, False, True]), np.array([0.9, 0.2, 0.4]))
    0.6666666666666666
    """
    return float(np.mean((p > 0.5) == positive)) if len(p) else None


def f1(positive: np.ndarray, p: np.ndarray) -> float | None:
    """2 TP / (2 TP + FP + FN) of the positive class at p > 0.5, in [0, 1]; 0 if nothing is or is said to be positive.

    None without reviews.

    >>> f1(np.array([True, False, True]), np.array([0.9, 0.2, 0.4]))
    0.6666666666666666
    """
    return float(f1_score(positive, p > 0.5, zero_division=0)) if len(p) else None


def auroc(positive: np.ndarray, p: np.ndarray) -> float | None:
    """Probability that a positive review gets a higher p than a negative one, ties half, in [0, 1].

    None unless there are reviews of both kinds.

    >>> auroc(np.array([True, False, True]), np.array([0.9, 0.2, 0.2]))
    0.75
    """
    return float(roc_auc_score(positive, p)) if positive.any() and not positive.all() else None


def cross_entropy(positive: np.ndarray, p: np.ndarray) -> float | None:
    """Mean of -log(probability given to the truth), natural logarithm, p cut to [1e-7, 1 - 1e-7]; at least 0.

    None without reviews.

    >>> round(cross_entropy(np.array([True, False]), np.array([0.5, 0.5])), 4)
    0.6931
    """
    return float(log_loss(positive, np.clip(p, 1e-7, 1 - 1e-7), labels=[False, True])) if len(p) else None


def reliability(positive: np.ndarray, p: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Mean predicted and observed share of positives in `bins` equal intervals of p; empty intervals are left out.

    >>> reliability(np.array([True, False]), np.array([0.9, 0.9]), bins=2)
    [{'predicted': 0.9, 'observed': 0.5, 'count': 2}]
    """
    place = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    predicted, observed = (np.bincount(place, weights=v, minlength=bins) for v in (p, positive.astype(float)))
    return [
        {"predicted": float(predicted[i] / count[i]), "observed": float(observed[i] / count[i]), "count": int(count[i])}
        for i in np.flatnonzero(count)
    ]


def expected_calibration_error(positive: np.ndarray, p: np.ndarray, bins: int = BINS) -> float | None:
    """Sum over the bins of count / reviews · |mean predicted - observed share of positives|, in [0, 1].

    With 15 equal bins of p, as in Naeini et al. (2015) for the positive class. None without reviews.

    >>> expected_calibration_error(np.array([True, False]), np.array([0.9, 0.9]))
    0.4
    """
    if not len(p):
        return None
    return sum(b["count"] * abs(b["predicted"] - b["observed"]) for b in reliability(positive, p, bins)) / len(p)


def all_metrics(positive: np.ndarray, p: np.ndarray) -> dict[str, float | None]:
    """Every metric above under its reported name, and the number of reviews."""
    return {
        "accuracy": accuracy(positive, p),
        "f1": f1(positive, p),
        "auroc": auroc(positive, p),
        "log_loss": cross_entropy(positive, p),
        "ece": expected_calibration_error(positive, p),
        "reviews": float(len(p)),
    }


def wilson(hits: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share (Wilson 1927), in [0, 1]; [0, 1] where `of` is 0.

    (s + z²/2n ± z √(s (1 - s) / n + z²/4n²)) / (1 + z²/n) with s = hits / n, n = `of`; hits need not be whole.

    >>> low, high = wilson(np.array([8.0]), np.array([10]))
    >>> round(float(low[0]), 4), round(float(high[0]), 4)
    (0.4902, 0.9433)
    """
    empty = np.asarray(of) == 0
    n = np.where(empty, 1.0, np.asarray(of, dtype="float64"))
    share, square = np.asarray(hits, dtype="float64") / n, _Z**2 / n
    middle, half = share + square / 2, _Z * np.sqrt(share * (1 - share) / n + square / (4 * n))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return np.where(empty, 0.0, np.clip(low, 0, share)), np.where(empty, 1.0, np.clip(high, share, 1))
