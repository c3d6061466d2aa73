"""Intervals around a difference of two methods on the same cases: whether it is more than chance explains."""

import numpy as np


def bootstrap(values: np.ndarray, seed: int, draws: int = 1000) -> tuple[float, float]:
    """95 % percentile interval of the mean over cases, drawn with replacement (Efron 1979).

    Cases without a value are left out; (NaN, NaN) with none. From 20,000 cases on the normal approximation is used:
    the two differ by less than the draws' own noise.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan, np.nan
    if len(values) > 20_000:
        spread = 1.96 * values.std() / np.sqrt(len(values))
        return float(values.mean() - spread), float(values.mean() + spread)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [values[generator.integers(0, len(values), (100, len(values)))].mean(1) for _ in range(draws // 100)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def delong(label: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """95 % interval of AUROC(one) - AUROC(other) on the same cases.

    From DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves: a nonparametric approach", Biometrics 44 (1988). The AUROC is the mean over positive cases of
    the share of negative ones below them, and over negative cases of the share of positive ones above; the variances of
    the differences of these shares, divided by the numbers of cases, add up to that of the difference.

    Args:
        label: 1 or 0. Shape: (cases,).
        one: scores, the higher the likelier 1. Shape: (cases,).
        other: as `one`.

    Returns:
        (NaN, NaN) with fewer than two positive or two negative cases.
    """
    from scipy.stats import rankdata  # half a second, which pages that only show runs need not wait for

    positive = label > 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if min(n_positive, n_negative) < 2:
        return np.nan, np.nan

    def shares(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ranks = rankdata(score)
        of_positive = (ranks[positive] - rankdata(score[positive])) / n_negative
        return of_positive, 1 - (ranks[~positive] - rankdata(score[~positive])) / n_positive

    (p_one, n_one), (p_other, n_other) = shares(one), shares(other)
    difference = float(p_one.mean() - p_other.mean())
    variance = (p_one - p_other).var(ddof=1) / n_positive + (n_one - n_other).var(ddof=1) / n_negative
    spread = 1.96 * float(np.sqrt(variance))
    return difference - spread, difference + spread
