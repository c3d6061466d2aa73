"""The simple methods that the LSTMs have to beat.

Engagement: the last week over and over (seasonal naive), and the mean of the last 28 days. Both take a history of shape
(series, steps) with NaN where unknown and return (series, horizon); a series with nothing known in reach gets zeros.

Retention: the share that came back before (base rate), and a logistic regression and gradient boosting on recency,
frequency, tenure and trend.
"""

import warnings

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def seasonal_naive(history: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Each step repeats the last known value one or more whole seasons earlier.

    >>> seasonal_naive(np.array([[1.0, 2.0, 3.0, np.nan]]), horizon=3, season=2)
    array([[3., 2., 3.]])
    """
    n_series, n_steps = history.shape
    whole = -(-n_steps // season) * season
    padded = np.full((n_series, whole), np.nan)
    padded[:, whole - n_steps :] = history
    seasons = padded.reshape(n_series, -1, season)[:, ::-1]  # newest first
    newest = np.isfinite(seasons).argmax(axis=1)  # (series, season)
    last = np.take_along_axis(seasons, newest[:, None], axis=1)[:, 0]
    return np.nan_to_num(last[:, np.arange(horizon) % season], nan=0.0)


def mean_of_last(history: np.ndarray, horizon: int, steps: int) -> np.ndarray:
    """The mean of the known values among the last `steps`, for every step ahead.

    >>> mean_of_last(np.array([[9.0, 1.0, 3.0]]), horizon=2, steps=2)
    array([[2., 2.]])
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nan_to_num(np.nanmean(history[:, -steps:], axis=1), nan=0.0)
    return np.repeat(mean[:, None], horizon, axis=1)


def base_rate(label: np.ndarray, n_cases: int) -> np.ndarray:
    """The share of label 1 in training, for everybody. Shape: (n_cases,)."""
    return np.full(n_cases, label.mean() if len(label) else 0.5)


def logistic_regression(features: np.ndarray, label: np.ndarray) -> Pipeline | None:
    """A fitted pipeline with `predict_proba`; None when the labels are of one class, so that nothing can be learnt.

    Args:
        features: recency, frequency, tenure and trend, in logarithms. Shape: (cases, features).
        label: 1 for a member who came back. Shape: (cases,).
    """
    if len(np.unique(label)) < 2:
        return None
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)).fit(features, label)


def gradient_boosting(features: np.ndarray, label: np.ndarray) -> GradientBoostingClassifier | None:
    """Friedman's (2002) stochastic gradient boosting, fitted; None when the labels are of one class.

    60 trees of depth 2 did best on later cuts of MovieLens 100K among depths 2 and 3, 60 and 100 trees, and
    scikit-learn's histogram boosting with early stopping, so that the mark is not set too low.

    Args:
        features: recency, frequency, tenure and trend. Shape: (cases, features).
        label: 1 for a member who came back. Shape: (cases,).
    """
    if len(np.unique(label)) < 2:
        return None
    boosting = GradientBoostingClassifier(
        n_estimators=60, max_depth=2, learning_rate=0.1, subsample=0.7, min_samples_leaf=40, random_state=0
    )
    return boosting.fit(features, label)
