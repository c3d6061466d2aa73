"""How forecasts and probabilities are judged: pure functions on numpy arrays.

Forecasts. `actual` and `point` have shape (series, steps); `quantiles` has (series, steps, levels). NaN in `actual`
marks an unknown step, which is left out. Functions that say "per series" return NaN for a series without a known step.

Probabilities. `label` holds 0 and 1, `p` the probability of 1, both of shape (cases,). Where a figure is not defined
(no case, or one class alone) the answer is NaN.
"""

import warnings

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score


def mae(actual: ArrayLike, point: ArrayLike) -> np.ndarray:
    """Mean absolute error per series: sum of |actual - point| over known steps / number of known steps. Range >= 0.

    >>> mae([[1.0, 3.0], [2.0, np.nan]], [[2.0, 1.0], [2.0, 9.0]])
    array([1.5, 0. ])
    """
    return _mean(np.abs(np.asarray(actual, float) - np.asarray(point, float)), axis=-1)


def relative_mae(ours: ArrayLike, reference: ArrayLike) -> float:
    """Geometric mean over series of MAE / MAE of the reference (seasonal naive) on the same window. Range >= 0.

    Series whose reference error is zero or unknown have no ratio and are left out; an error of ours of zero counts as
    1e-9 of the reference's, so that one perfect series does not make the mean zero. NaN when no series is left.

    >>> relative_mae([1.0, 4.0, 1.0], [2.0, 2.0, 0.0])
    1.0
    """
    ours, reference = np.asarray(ours, float), np.asarray(reference, float)
    known = np.isfinite(ours) & np.isfinite(reference) & (reference > 0)
    if not known.any():
        return float("nan")
    return float(np.exp(np.log(np.maximum(ours[known] / reference[known], 1e-9)).mean()))


def mase(actual: ArrayLike, point: ArrayLike, history: ArrayLike, season: int) -> np.ndarray:
    """Mean absolute scaled error per series (Hyndman & Koehler 2006). Range >= 0.

    MAE / mean of |history[t] - history[t - season]| over the known pairs of the history. NaN where the denominator is
    zero or unknown: a history that repeats itself exactly, or is shorter than a season.

    >>> mase([[4.0, 4.0]], [[3.0, 3.0]], [[1.0, 2.0, 3.0, 4.0]], season=2)
    array([0.5])
    """
    history = np.asarray(history, float)
    scale = _mean(np.abs(history[..., season:] - history[..., :-season]), axis=-1)
    return mae(actual, point) / np.where(scale > 0, scale, np.nan)


def smape(actual: ArrayLike, point: ArrayLike) -> np.ndarray:
    """Symmetric mean absolute percentage error per series: mean of 2 |a - p| / (|a| + |p|). Range 0 to 2.

    A step where both are zero counts as 0.

    >>> smape([[1.0, 0.0]], [[3.0, 0.0]])
    array([0.5])
    """
    a, p = np.asarray(actual, float), np.asarray(point, float)
    total = np.abs(a) + np.abs(p)
    return _mean(np.where(total == 0, 0.0, 2 * np.abs(a - p) / np.where(total == 0, 1.0, total)), axis=-1)


def weighted_quantile_loss(actual: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> float:
    """2 * sum of the pinball loss / (number of levels * sum of |actual|), over all series and known steps. Range >= 0.

    The pinball loss of quantile q at level l is max(l * (a - q), (l - 1) * (a - q)). NaN when all actuals are zero or
    unknown. With the median alone it is the sum of absolute errors / the sum of |actual|.

    >>> weighted_quantile_loss([[2.0, 4.0]], [[[1.0], [6.0]]], [0.5])
    0.5
    """
    actual, quantiles, levels = (np.asarray(v, float) for v in (actual, quantiles, levels))
    error = actual[..., None] - quantiles
    pinball = np.maximum(levels * error, (levels - 1) * error)
    total = np.nansum(np.abs(actual))
    return float(2 * np.nansum(pinball) / (len(levels) * total)) if total > 0 else float("nan")


def coverage(actual: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of known steps with low <= actual <= high. NaN when no step is known. Range 0 to 1.

    >>> coverage([[1.0, 5.0, np.nan]], [[0.0, 0.0, 0.0]], [[2.0, 2.0, 2.0]])
    0.5
    """
    actual = np.asarray(actual, float)
    known = np.isfinite(actual)
    inside = (actual >= np.asarray(low, float)) & (actual <= np.asarray(high, float))
    return float(inside[known].mean()) if known.any() else float("nan")


def standard_error(values: ArrayLike, overlap: int) -> float:
    """Standard error of the mean of figures in order of time, those up to `overlap` apart sharing data. Range >= 0.

    sqrt(long-run variance / n), the long-run variance by Newey & West (1987) with Bartlett weights up to `overlap`.
    NaN for fewer than two figures.

    >>> standard_error([1.0, 0.0, 1.0, 0.0], overlap=0)
    0.25
    """
    values = np.asarray(values, float)
    n = len(values)
    if n < 2:
        return float("nan")
    off = values - values.mean()
    lags = range(1, min(overlap, n - 1) + 1)
    variance = (off @ off) / n + 2 * sum((1 - lag / (len(lags) + 1)) * (off[lag:] @ off[:-lag]) / n for lag in lags)
    return float(np.sqrt(max(variance, 0.0) / n))


def auroc(label: ArrayLike, p: ArrayLike) -> float:
    """Probability that a random case of class 1 gets a higher `p` than one of class 0; ties count half.

    >>> auroc([0, 1, 1], [0.1, 0.9, 0.1])
    0.75
    """
    label = np.asarray(label)
    return float(roc_auc_score(label, p)) if 0 < label.sum() < len(label) else float("nan")


def pr_auc(label: ArrayLike, p: ArrayLike) -> float:
    """Average precision: sum over thresholds of (recall gained) * precision. A random order gives the base rate.

    >>> pr_auc([0, 1, 1], [0.1, 0.9, 0.8])
    1.0
    """
    label = np.asarray(label)
    return float(average_precision_score(label, p)) if label.sum() > 0 else float("nan")


def log_loss(label: ArrayLike, p: ArrayLike) -> float:
    """Mean of -log(p) where the label is 1 and -log(1 - p) where it is 0; `p` is clipped to 1e-7 .. 1 - 1e-7.

    >>> round(log_loss([1, 0], [0.5, 0.5]), 3)
    0.693
    """
    labels, clipped = np.asarray(label, float), np.clip(np.asarray(p, float), 1e-7, 1 - 1e-7)
    losses = -(labels * np.log(clipped) + (1 - labels) * np.log1p(-clipped))
    return float(losses.mean()) if len(losses) else float("nan")


def brier(label: ArrayLike, p: ArrayLike) -> float:
    """Mean of (p - label) squared. Range 0 to 1.

    >>> brier([1, 0], [0.5, 0.5])
    0.25
    """
    label, p = np.asarray(label, float), np.asarray(p, float)
    return float(((p - label) ** 2).mean()) if len(label) else float("nan")


def calibration_bins(label: ArrayLike, p: ArrayLike, n_bins: int = 15) -> list[dict[str, float]]:
    """Mean `p`, share of label 1 and number of cases in each non-empty bin of equal width.

    >>> calibration_bins([1, 0], [0.9, 0.9], n_bins=2)
    [{'predicted': 0.9, 'observed': 0.5, 'count': 2}]
    """
    label, p = np.asarray(label, float), np.asarray(p, float)
    at = np.minimum((p * n_bins).astype(int), n_bins - 1)
    count = np.bincount(at, minlength=n_bins)
    predicted, observed = (np.bincount(at, weights=v, minlength=n_bins) for v in (p, label))
    return [
        {"predicted": float(predicted[b] / count[b]), "observed": float(observed[b] / count[b]), "count": int(count[b])}
        for b in range(n_bins)
        if count[b]
    ]


def ece(label: ArrayLike, p: ArrayLike, n_bins: int = 15) -> float:
    """Expected calibration error: mean over cases of |mean p - share of label 1| in the case's bin. Range 0 to 1.

    >>> ece([1, 0], [0.9, 0.9])
    0.4
    """
    bins = calibration_bins(label, p, n_bins)
    total = sum(b["count"] for b in bins)
    return sum(b["count"] * abs(b["predicted"] - b["observed"]) for b in bins) / total if total else float("nan")


def lift(label: ArrayLike, p: ArrayLike, share: float = 0.1) -> float:
    """Share of label 1 among the `share` of cases with the highest `p`, divided by the share among all. 1 is chance.

    At least one case is taken; ties in `p` at the border count with the mean of their labels. NaN without a label 1.

    >>> lift([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    10.0
    """
    label, p = np.asarray(label, float), np.asarray(p, float)
    if label.sum() == 0:
        return float("nan")
    n = max(1, round(share * len(p)))
    border = np.sort(p)[-n]
    above, tied = p > border, p == border
    hits = label[above].sum() + (n - above.sum()) * label[tied].mean()
    return float(hits / n / label.mean())


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over known values, NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=axis)
