"""The two LSTMs and their baselines on the same windows: what a fit reports, and the figures that a backtest shares.

A fit is measured on its own test block (engagement: the last horizon; retention: the last 30 days). One block is one
draw; forecasting/backtest.py takes more of them.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch

from data.errors import UserError
from forecasting import metrics
from forecasting.baselines import base_rate, logistic_regression, mean_of_last, seasonal_naive
from forecasting.engagement import LEVELS, EngagementLSTM
from forecasting.engagement_data import RECENT_DAYS, EngagementData
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import Cases, RetentionData
from forecasting.series import GENRE, TITLE, Panel

OURS, NAIVE, MEAN_28, LOGISTIC, BASE_RATE = (
    "LSTM",
    "seasonal naive",
    "mean of the last 28 days",
    "logistic regression",
    "base rate",
)
_MEDIAN = LEVELS.index(0.5)

Table = dict[str, dict[str, float | None]]


def measure(module: pl.LightningModule, data: pl.LightningDataModule, run: Path) -> dict[str, Any]:
    """The parts of a fit's report that only this package knows: metrics, headline, split, calibration and notes."""
    if isinstance(module, EngagementLSTM) and isinstance(data, EngagementData):
        return _measure_engagement(module, data)
    if isinstance(module, RetentionLSTM) and isinstance(data, RetentionData):
        return _measure_retention(module, data)
    raise TypeError(f"cannot measure {type(module).__name__} on {type(data).__name__}")


# -- engagement ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def forecasts(module: EngagementLSTM, data: EngagementData, origins: np.ndarray, until: int) -> np.ndarray:
    """Quantiles of every series at every origin: (n_series, n_origins, horizon, levels); NaN where not forecast."""
    found = np.full((len(data.panel.series_ids), len(origins), data.horizon_steps, len(LEVELS)), np.nan)
    windows = data.windows(origins, until, min_future=0)
    column = {int(origin): i for i, origin in enumerate(origins)}
    for start in range(0, len(windows), 1024):
        batch = windows.__getitems__(list(range(start, min(start + 1024, len(windows)))))
        at = batch["series"].numpy(), np.array([column[o] for o in batch["origin"].tolist()])
        quantiles, _ = module({k: v.to(module.device) for k, v in batch.items()})
        found[at] = quantiles.float().cpu().numpy()
    return found


def actuals(panel: Panel, origins: np.ndarray, horizon: int, until: int) -> np.ndarray:
    """What came: (n_series, n_origins, horizon); NaN where unknown or not before step `until`."""
    padded = np.concatenate([panel.values[:, :until], np.full((len(panel.series_ids), horizon), np.nan)], axis=1)
    return padded[:, np.minimum(origins[:, None] + np.arange(horizon), until)]


def simple(panel: Panel, origins: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
    """The baselines' points at every origin: (n_series, n_origins, horizon) each."""
    recent = panel.steps(RECENT_DAYS)
    histories = [panel.until(origin).values for origin in origins]
    return {
        NAIVE: np.stack([seasonal_naive(h, horizon, panel.season) for h in histories], axis=1),
        MEAN_28: np.stack([mean_of_last(h, horizon, recent) for h in histories], axis=1),
    }


def level_of(series_id: str) -> str:
    if series_id.startswith(GENRE):
        return "genres"
    return "titles" if series_id.startswith(TITLE) else "service"


def tables_of(
    panel: Panel, ours: np.ndarray, baselines: dict[str, np.ndarray], actual: np.ndarray, start: int
) -> dict[str, Table]:
    """One table over all series that ours forecasts, and one for each level of the hierarchy that there is.

    Args:
        panel: the series.
        ours: quantiles (n_series, n_origins, horizon, levels).
        baselines: points (n_series, n_origins, horizon).
        actual: (n_series, n_origins, horizon).
        start: first step that is forecast; MASE is scaled by what lies before it.
    """
    judged = np.isfinite(ours[..., 0]) & np.isfinite(actual)  # every method on the same steps
    levels = np.array([level_of(name) for name in panel.series_ids])
    slices = {"": judged.any((1, 2))} | {name: judged.any((1, 2)) & (levels == name) for name in dict.fromkeys(levels)}
    found: dict[str, Table] = {}
    for name, rows in slices.items():
        if not rows.any() or (name and (levels == name).all()):
            continue
        flat = (int(rows.sum()), -1)
        a = np.where(judged, actual, np.nan)[rows].reshape(flat)
        history = panel.values[rows][:, :start]
        naive = metrics.mae(a, baselines[NAIVE][rows].reshape(flat))
        q = ours[rows].reshape(*flat, len(LEVELS))
        table: Table = {OURS: _point_metrics(a, q[..., _MEDIAN], naive, history, panel.season)}
        table[OURS] |= {
            "wql": metrics.weighted_quantile_loss(a, np.nan_to_num(q), LEVELS),
            "coverage_50": metrics.coverage(a, q[..., 1], q[..., 3]),
            "coverage_90": metrics.coverage(a, q[..., 0], q[..., 4]),
        }
        for method, points in baselines.items():
            p = points[rows].reshape(flat)
            table[method] = _point_metrics(a, p, naive, history, panel.season)
            table[method]["wql"] = metrics.weighted_quantile_loss(a, np.repeat(p[..., None], len(LEVELS), -1), LEVELS)
        found[name] = {method: {**row, "series": int(rows.sum())} for method, row in table.items()}
    return found


def _point_metrics(
    actual: np.ndarray, point: np.ndarray, naive: np.ndarray, history: np.ndarray, season: int
) -> dict[str, float | None]:
    scaled = metrics.mase(actual, point, history, season)
    return {
        "relmae": metrics.relative_mae(metrics.mae(actual, point), naive),
        "mase": float(np.nanmean(scaled)) if np.isfinite(scaled).any() else None,
        "smape": float(np.nanmean(metrics.smape(actual, point))),
    }


def verdict(table: Table, metric: str, lower_is_better: bool) -> str:
    """A plain sentence on where ours stands beside the best baseline."""
    known = {m: v for m, row in table.items() if (v := row.get(metric)) is not None and np.isfinite(v)}
    ours, others = known.get(OURS), {m: v for m, v in known.items() if m != OURS}
    if ours is None or not others:
        return f"There is no {metric} to compare."
    best = (min if lower_is_better else max)(others, key=lambda m: others[m])
    is_better = ours < others[best] if lower_is_better else ours > others[best]
    return (
        f"By {metric} the {OURS} ({ours:.3f}) {'beats' if is_better else 'does not beat'} the best baseline, {best} "
        f"({others[best]:.3f})."
    )


NOTE_POINTS = (
    "The baselines give points only, so their wql takes the point for every quantile (sum of absolute errors / sum of "
    "values); coverage is the share of values that fell inside the LSTM's 50 % and 90 % intervals."
)


def _measure_engagement(module: EngagementLSTM, data: EngagementData) -> dict[str, Any]:
    tables: dict[str, Table] = {}
    splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    for split in splits:
        start, until = data.block(split)
        origins = data.origins(split)
        actual = actuals(data.panel, origins, data.horizon_steps, until)
        ours = forecasts(module, data, origins, until)
        found = tables_of(data.panel, ours, simple(data.panel, origins, data.horizon_steps), actual, start)
        if not found:
            raise UserError(
                f"Dataset '{data.dataset}' has no known value in the last {data.horizon_days} days, so a forecast "
                "cannot be checked: set a shorter --data.horizon_days or import later data."
            )
        tables |= {f"{split}: {name}" if name else split: table for name, table in found.items()}
    first, last = data.panel.dates(*data.block("test"))[[0, -1]]
    return {
        "metrics": tables,
        "headline": {"metric": "relmae", "higher_is_better": False, "split": "test", "ours": OURS},
        "split": {
            "protocol": f"in time: test {first:%Y-%m-%d} to {last:%Y-%m-%d} ({data.horizon_days} days), validation "
            f"the {data.horizon_days} days before; origins a week apart",
            "rows": {"series": len(data.panel.series_ids), "steps": data.panel.n_steps},
            "origins": {s: len(data.origins(s)) for s in splits},
        },
        "notes": [
            f"relmae is MAE / MAE of the seasonal naive on the same days, geometric mean over series. "
            f"{verdict(tables['test'], 'relmae', True)}",
            NOTE_POINTS,
            "One block of one horizon is one draw: 'python -m forecasting evaluate' averages over more origins.",
        ],
    }


# -- retention -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def probabilities(module: RetentionLSTM, cases: Cases, batch_size: int = 4096) -> np.ndarray:
    """Calibrated probabilities of a return. Shape: (cases,)."""
    parts = []
    for start in range(0, len(cases), batch_size):
        rows = slice(start, start + batch_size)
        sequence, static = (torch.from_numpy(part[rows]).to(module.device) for part in (cases.sequence, cases.static))
        parts.append(module(sequence, static).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def probability_metrics(label: np.ndarray, p: np.ndarray) -> dict[str, float | None]:
    return {
        "auroc": metrics.auroc(label, p),
        "pr_auc": metrics.pr_auc(label, p),
        "log_loss": metrics.log_loss(label, p),
        "brier": metrics.brier(label, p),
        "ece": metrics.ece(label, p),
        "lift@10%": metrics.lift(label, p),
    }


def predictions(module: RetentionLSTM, train: Cases, judged: Cases) -> dict[str, np.ndarray]:
    """Every method's probabilities for `judged`; the baselines learn from `train`."""
    found = {OURS: probabilities(module, judged)}
    regression = logistic_regression(train.rft, train.label)
    if regression is not None:
        found[LOGISTIC] = regression.predict_proba(judged.rft)[:, 1]
    return found | {BASE_RATE: base_rate(train.label, len(judged))}


def _measure_retention(module: RetentionLSTM, data: RetentionData) -> dict[str, Any]:
    train = data.cases("train")
    splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    parts = {split: data.cases(split) for split in splits}
    predicted = {split: predictions(module, train, cases) for split, cases in parts.items()}
    tables: dict[str, Table] = {
        split: {method: probability_metrics(parts[split].label, p) for method, p in methods.items()}
        for split, methods in predicted.items()
    }
    test = parts["test"]
    return {
        "metrics": tables,
        "headline": {"metric": "auroc", "higher_is_better": True, "split": "test", "ours": OURS},
        "split": {
            "protocol": f"in time: label is 'active again within {data.horizon_days} days after the cut'; test cut "
            f"{data.cuts('test')[0]} days before the clock, validation {data.cuts('validation')[0]}, training cuts "
            "every 7 days before that",
            "rows": {"train": len(train), "validation": len(parts["validation"]), "test": len(test)},
            "base_rate": {split: float(cases.label.mean()) for split, cases in parts.items()},
        },
        "calibration": {
            "ece_after": metrics.ece(test.label, predicted["test"][OURS]),
            "bins": metrics.calibration_bins(test.label, predicted["test"][OURS]),
        },
        "notes": [counted(test, data.horizon_days), verdict(tables["test"], "auroc", False)],
    }


def counted(judged: Cases, horizon_days: int) -> str:
    return (
        f"Every member seen before a cut is a case of it, however long ago: {judged.label.mean():.0%} of the "
        f"{len(judged):,} cases tested were active again within {horizon_days} days."
    )
