"""What a fit reports: the LSTM and its baselines on the fit's own test block, and on validation.

Engagement is tested on the last horizon, retention on the last 30 days. One block is one draw; forecasting/backtest.py
takes more of them.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch

from data.cases import write_cases
from data.errors import UserError
from forecasting import metrics
from forecasting.accuracy import OURS, Table, actuals, as_quantiles, log_relative_mae, tables_of, verdict
from forecasting.baselines import base_rate, gradient_boosting, logistic_regression, mean_of_last, seasonal_naive
from forecasting.classical import NAIVE, mean_name, recent_steps
from forecasting.engagement import EngagementLSTM
from forecasting.engagement_data import EngagementData
from forecasting.forecast import forecast_panel
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import CUT_STRIDE_DAYS, Cases, RetentionData
from forecasting.series import Panel

BOOSTING, LOGISTIC, BASE_RATE = "gradient boosting", "logistic regression", "base rate"


def measure(module: pl.LightningModule, data: pl.LightningDataModule, run: Path) -> dict[str, Any]:
    """The parts of a fit's report that only this package knows: metrics, headline, split, calibration and notes."""
    if isinstance(module, EngagementLSTM) and isinstance(data, EngagementData):
        return _measure_engagement(module, data, run)
    if isinstance(module, RetentionLSTM) and isinstance(data, RetentionData):
        return _measure_retention(module, data, run)
    raise TypeError(f"cannot measure {type(module).__name__} on {type(data).__name__}")


# -- engagement ----------------------------------------------------------------------------------------------------


def forecasts(module: EngagementLSTM, panel: Panel, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Quantiles of every series at every origin: (n_series, n_origins, horizon, levels); NaN where not forecast."""
    return np.stack([forecast_panel(module, panel.until(int(o)).known(), horizon).quantiles for o in origins], axis=1)


def simple(panel: Panel, origins: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
    """The quick baselines at every origin, their points as every quantile: (n_series, n_origins, horizon, levels)."""
    histories = [panel.until(int(origin)).values for origin in origins]
    recent = recent_steps(panel)
    points = {
        NAIVE: np.stack([seasonal_naive(h, horizon, panel.season) for h in histories], axis=1),
        mean_name(panel): np.stack([mean_of_last(h, horizon, recent) for h in histories], axis=1),
    }
    return {method: as_quantiles(values) for method, values in points.items()}


NOTE_POINTS = (
    "The baselines give points here, so their wql takes the point for every quantile (sum of absolute errors / sum of "
    "values); coverage is the share of values that fell inside the LSTM's 50 % and 90 % intervals."
)


def _measure_engagement(module: EngagementLSTM, data: EngagementData, run: Path) -> dict[str, Any]:
    tables: dict[str, Table] = {}
    splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    panel, horizon = data.panel, data.horizon
    for split in splits:
        start, until = data.block(split)
        origins = data.origins(split)
        answers = {OURS: forecasts(module, panel, origins, horizon)} | simple(panel, origins, horizon)
        came = actuals(panel, origins, horizon, until)
        found = tables_of(panel, answers, NAIVE, came, start)
        if not found:
            raise UserError(
                f"Dataset '{data.dataset}' has no known value in its last {data.steps.count(until - start)}, so a "
                "forecast cannot be checked: import later data, or set the clock with --as-of to the last known day."
            )
        tables |= {f"{split}: {name}" if name else split: table for name, table in found.items()}
        if split == "test":
            write_cases(run, *log_relative_mae(panel, answers, NAIVE, came))
    first, last = panel.dates(*data.block("test"))[[0, -1]]
    count = data.steps.count
    return {
        "metrics": tables,
        "headline": {"metric": "relmae", "higher_is_better": False, "split": "test", "ours": OURS},
        "split": {
            "protocol": f"in time: test {first:%Y-%m-%d} to {last:%Y-%m-%d} ({count(data.block_steps)}), validation "
            f"the {count(2 * data.block_steps)} before; origins a quarter of that apart",
            "rows": {"series": len(panel.series_ids), "steps": panel.n_steps},
            "origins": {s: len(data.origins(s)) for s in splits},
            "frequency": data.frequency,
        },
        "notes": [
            f"relmae is MAE / MAE of the seasonal naive on the same steps, geometric mean over series. "
            f"{verdict(tables['test'], 'relmae', True)}",
            NOTE_POINTS,
            *what_it_is(module, data),
            "One block of one horizon is one draw: 'python -m forecasting evaluate' averages over more origins and "
            "sets AutoETS, AutoTheta and AutoARIMA beside it.",
        ],
    }


def what_it_is(module: EngagementLSTM, data: EngagementData) -> list[str]:
    """Plain sentences on what was learned from where."""
    share = float(module.blend)
    notes = []
    if int(module.hparams["prior_steps"]) > 0:
        notes.append(
            f"Forecasts are {share:.0%} the network trained on this dataset and {1 - share:.0%} the one trained on "
            "made-up series alone, as did best on validation."
        )
    short = [
        name
        for name, n in zip(data.panel.series_ids, np.isfinite(data.panel.values).sum(1), strict=True)
        if 0 < n < 2 * data.steps.windows[0]
    ]
    if short:
        notes.append(
            f"{len(short)} of {len(data.panel.series_ids)} series have fewer than "
            f"{data.steps.count(2 * data.steps.windows[0])} known: theirs is hardly more than a mean with wide "
            f"intervals ({', '.join(short[:3])}{' ...' if len(short) > 3 else ''})."
        )
    return notes


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


def predictions(module: RetentionLSTM, train: Cases, *judged: Cases) -> list[dict[str, np.ndarray]]:
    """Every method's probabilities for each of `judged`; the baselines learn from what is known of `train`."""
    known = train.known
    fitted = {
        BOOSTING: gradient_boosting(known.rft, known.label),
        LOGISTIC: logistic_regression(known.rft, known.label),
    }
    return [
        {OURS: probabilities(module, cases)}
        | {name: method.predict_proba(cases.rft)[:, 1] for name, method in fitted.items() if method is not None}
        | {BASE_RATE: base_rate(known.label, len(cases))}
        for cases in judged
    ]


def _measure_retention(module: RetentionLSTM, data: RetentionData, run: Path) -> dict[str, Any]:
    train = data.cases("train")
    splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    parts = {split: data.cases(split) for split in splits}
    predicted = dict(zip(splits, predictions(module, train, *parts.values()), strict=True))
    tables: dict[str, Table] = {
        split: {method: probability_metrics(parts[split].label, p) for method, p in methods.items()}
        for split, methods in predicted.items()
    }
    test = parts["test"]
    write_cases(run, data.activity.user_ids[test.user].tolist(), predicted["test"], test.label)
    return {
        "metrics": tables,
        "headline": {"metric": "auroc", "higher_is_better": True, "split": "test", "ours": OURS},
        "split": {
            "protocol": f"in time: label is 'active again within {data.horizon_days} days after the cut'; test cut "
            f"{data.cuts('test')[0]} days before the clock, validation {data.cuts('validation')[0]}, training cuts "
            f"every {CUT_STRIDE_DAYS} days before that",
            "rows": {"train": len(train), "validation": len(parts["validation"]), "test": len(test)},
            "base_rate": {split: float(cases.label.mean()) for split, cases in parts.items()},
        },
        "calibration": {
            "ece_after": metrics.ece(test.label, predicted["test"][OURS]),
            "bins": metrics.calibration_bins(test.label, predicted["test"][OURS]),
        },
        "notes": [counted(test, data.horizon_days), *verdicts(tables["test"])],
    }


def verdicts(table: Table) -> list[str]:
    """A sentence each on the order of members, on finding those who come back, and on the probabilities."""
    return [
        verdict(table, metric, lower) for metric, lower in (("auroc", False), ("pr_auc", False), ("log_loss", True))
    ]


def counted(judged: Cases, horizon_days: int) -> str:
    return (
        f"Every member seen before a cut is a case of it, however long ago: {judged.label.mean():.0%} of the "
        f"{len(judged):,} cases tested were active again within {horizon_days} days."
    )
