"""Forecasts beside what came: one table for all series, one for each level of the hierarchy, and plain sentences.

Arrays of forecasts have shape (n_series, n_origins, horizon, levels); NaN where a method did not forecast.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from forecasting import metrics
from forecasting.forecaster import LEVELS, MEDIAN
from forecasting.series import GENRE, SEGMENT, TITLE, Panel

OURS = "LSTM"
Table = dict[str, dict[str, float | None]]


def level_of(series_id: str) -> str:
    for prefix, name in ((GENRE, "genres"), (TITLE, "titles"), (SEGMENT, "segments")):
        if series_id.startswith(prefix):
            return name
    return "service"


def actuals(panel: Panel, origins: np.ndarray, horizon: int, until: int) -> np.ndarray:
    """What came: (n_series, n_origins, horizon); NaN where unknown or not before step `until`."""
    padded = np.concatenate([panel.values[:, :until], np.full((len(panel.series_ids), horizon), np.nan)], axis=1)
    return padded[:, np.minimum(origins[:, None] + np.arange(horizon), until)]


def as_quantiles(points: np.ndarray) -> np.ndarray:
    """A point for every quantile; (...) to (..., levels)."""
    return np.repeat(points[..., None], len(LEVELS), axis=-1)


def tables_of(
    panel: Panel,
    answers: Mapping[str, np.ndarray],
    naive: str,
    actual: np.ndarray,
    start: int,
    seconds: Mapping[str, float] | None = None,
) -> dict[str, Table]:
    """One table over all series that ours forecasts, under "", and one for each level if there are several.

    Every method is judged on the same steps: those that came and that ours forecast.

    Args:
        panel: the series.
        answers: method to forecasts, OURS among them. A method whose quantiles are all one has no coverage.
        naive: the method to which relmae relates.
        actual: (n_series, n_origins, horizon).
        start: first step that is forecast; MASE is scaled by what lies before it.
        seconds: what the methods took, if known.
    """
    judged = np.isfinite(answers[OURS][..., 0]) & np.isfinite(actual)
    levels = np.array([level_of(name) for name in panel.series_ids])
    slices = {"": judged.any((1, 2))} | {name: judged.any((1, 2)) & (levels == name) for name in dict.fromkeys(levels)}
    found: dict[str, Table] = {}
    for name, rows in slices.items():
        if not rows.any() or (name and (levels == name).all()):
            continue
        flat = (int(rows.sum()), -1)
        came = np.where(judged, actual, np.nan)[rows].reshape(flat)
        history = panel.values[rows][:, :start]
        table: Table = {}
        reference = metrics.mae(came, answers[naive][rows].reshape(*flat, len(LEVELS))[..., MEDIAN])
        for method, quantiles in answers.items():
            q = np.nan_to_num(quantiles[rows].reshape(*flat, len(LEVELS)))
            table[method] = _figures(came, q, reference, history, panel.season)
            if seconds is not None and not name:
                table[method]["seconds"] = seconds.get(method)
            table[method]["series"] = int(rows.sum())
        found[name] = table
    return found


def _figures(
    came: np.ndarray, quantiles: np.ndarray, reference: np.ndarray, history: np.ndarray, season: int
) -> dict[str, float | None]:
    point = quantiles[..., MEDIAN]
    scaled = metrics.mase(came, point, history, season)
    row: dict[str, float | None] = {
        "relmae": metrics.relative_mae(metrics.mae(came, point), reference),
        "mase": float(np.nanmean(scaled)) if np.isfinite(scaled).any() else None,
        "smape": float(np.nanmean(metrics.smape(came, point))),
        "wql": metrics.weighted_quantile_loss(came, quantiles, LEVELS),
    }
    if (quantiles[..., 0] < quantiles[..., -1]).any():
        row["coverage_50"] = metrics.coverage(came, quantiles[..., 1], quantiles[..., 3])
        row["coverage_90"] = metrics.coverage(came, quantiles[..., 0], quantiles[..., 4])
    return row


def log_relative_mae(
    panel: Panel, answers: Mapping[str, np.ndarray], naive: str, actual: np.ndarray
) -> tuple[list[str], dict[str, np.ndarray]]:
    """What each series adds to relmae: ln(MAE / MAE of the naive method), on the steps that tables_of judges.

    The mean over series is ln(relmae).

    Returns:
        Ids of the series whose naive error is above zero, and for each method their values. Shape: (series,).
    """
    judged = np.isfinite(answers[OURS][..., 0]) & np.isfinite(actual)
    flat = (len(actual), -1)
    came = np.where(judged, actual, np.nan).reshape(flat)
    errors = {m: metrics.mae(came, np.nan_to_num(q[..., MEDIAN]).reshape(flat)) for m, q in answers.items()}
    rows = np.flatnonzero(np.isfinite(errors[naive]) & (errors[naive] > 0))
    ratios = {m: np.log(np.maximum(error[rows] / errors[naive][rows], 1e-9)) for m, error in errors.items()}
    return [panel.series_ids[row] for row in rows], ratios


def coverage_by_origin(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Share of the values from each origin that fell inside the 90 % interval. Shape: (n_origins,)."""
    known = np.isfinite(actual) & np.isfinite(quantiles[..., 0])
    inside = (actual >= quantiles[..., 0]) & (actual <= quantiles[..., -1]) & known
    return inside.sum((0, 2)) / np.maximum(known.sum((0, 2)), 1)


def best_of(table: Table, metric: str, lower_is_better: bool = True) -> tuple[float | None, str, float]:
    """Ours, and the best other method with its figure; ("", NaN) where there is nothing to compare."""
    known = {m: v for m, row in table.items() if (v := row.get(metric)) is not None and np.isfinite(v)}
    ours, others = known.get(OURS), {m: v for m, v in known.items() if m != OURS}
    if not others:
        return ours, "", float("nan")
    best = (min if lower_is_better else max)(others, key=lambda m: others[m])
    return ours, best, others[best]


def verdict(table: Table, metric: str, lower_is_better: bool) -> str:
    """A plain sentence on where ours stands beside the best other method."""
    ours, best, theirs = best_of(table, metric, lower_is_better)
    if ours is None or not best:
        return f"There is no {metric} to compare."
    is_better = ours < theirs if lower_is_better else ours > theirs
    distance = f", {abs(1 - ours / theirs):.1%} {'lower' if ours < theirs else 'higher'}" if theirs > 0 else ""
    return (
        f"By {metric} the {OURS} ({ours:.3f}) {'beats' if is_better else 'does not beat'} the best baseline, {best} "
        f"({theirs:.3f}){distance}."
    )


def losses(tables: Mapping[str, Table], metric_names: Sequence[str] = ("relmae", "wql")) -> str:
    """A plain sentence on where ours is not the best."""
    lost = []
    for metric in metric_names:
        for name, table in tables.items():
            ours, best, theirs = best_of(table, metric)
            if ours is not None and best and ours >= theirs:
                lost.append(f"{metric} of {name or 'all series'}: {best} {theirs:.3f}, {OURS} {ours:.3f}")
    return f"Where the {OURS} loses: " + ("; ".join(lost) if lost else "on no level, by neither relmae nor wql") + "."
