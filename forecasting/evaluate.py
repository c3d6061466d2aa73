"""The two LSTMs and their baselines on the same windows: for the report of a fit, and `python -m forecasting evaluate`.

A fit is measured on its own test block (engagement: the last horizon; retention: the last 30 days). `evaluate` is a
rolling-origin backtest: at each of several origins in the past everything later is cut off, the model is trained as
`fit` would have trained it on that day (epochs chosen on validation, then refitted), and what it said is compared with
what came. Nothing that happened after an origin reaches a forecast made there, the choice of titles included.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI

from data import command, evaluation
from data.arguments import option
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from forecasting import metrics
from forecasting.baselines import base_rate, logistic_regression, mean_of_last, seasonal_naive
from forecasting.engagement import LEVELS, EngagementLSTM
from forecasting.engagement_data import MIN_CONTEXT_DAYS, RECENT_DAYS, EngagementData
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import MIN_HISTORY_DAYS, Cases, RetentionData, load_activity, together
from forecasting.series import ACTIVE, GENRE, TITLE, TOTAL, Panel, load_panel

OURS, NAIVE, MEAN_28, LOGISTIC, BASE_RATE = (
    "LSTM",
    "seasonal naive",
    "mean of the last 28 days",
    "logistic regression",
    "base rate",
)
BEST = {"relmae": "min", "mase": "min", "smape": "min", "wql": "min"} | {
    "auroc": "max", "pr_auc": "max", "log_loss": "min", "brier": "min", "lift@10%": "max",
}  # fmt: skip
KINDS = {"engagement": (EngagementLSTM, EngagementData), "retention": (RetentionLSTM, RetentionData)}
CONFIGS = {m: Path(__file__).parent / "configs" / f"{m}-quick.yaml" for m in ("engagement", "retention")}
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


_NOTE_POINTS = (
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
            _NOTE_POINTS,
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


def _probability_metrics(label: np.ndarray, p: np.ndarray) -> dict[str, float | None]:
    return {
        "auroc": metrics.auroc(label, p),
        "pr_auc": metrics.pr_auc(label, p),
        "log_loss": metrics.log_loss(label, p),
        "brier": metrics.brier(label, p),
        "ece": metrics.ece(label, p),
        "lift@10%": metrics.lift(label, p),
    }


def _predictions(module: RetentionLSTM, train: Cases, judged: Cases) -> dict[str, np.ndarray]:
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
    predicted = {split: _predictions(module, train, cases) for split, cases in parts.items()}
    tables: dict[str, Table] = {
        split: {method: _probability_metrics(parts[split].label, p) for method, p in methods.items()}
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
        "notes": [_counted(test, data.horizon_days), verdict(tables["test"], "auroc", False)],
    }


def _counted(judged: Cases, horizon_days: int) -> str:
    return (
        f"Every member seen before a cut is a case of it, however long ago: {judged.label.mean():.0%} of the "
        f"{len(judged):,} cases tested were active again within {horizon_days} days."
    )


# -- python -m forecasting evaluate --------------------------------------------------------------------------------


def evaluate(args: list[str]) -> None:
    """`python -m forecasting evaluate`: a rolling-origin backtest; prints one table a slice and keeps the result.

    Raises:
        UserError: a flag, the dataset or the configuration is at fault, or the history is too short.
    """
    parser = command.Parser(
        prog="python -m forecasting evaluate",
        description="A rolling-origin backtest of an LSTM beside its baselines. Further flags are those of 'fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--model", choices=list(CONFIGS), default="engagement", help="which one (default: engagement)")
    parser.add_argument("--config", help="configuration of the model (default: its quick one)")
    parser.add_argument("--horizon", type=int, help="days ahead (default: 28 for engagement, 30 for retention)")
    parser.add_argument("--origins", type=int, default=5, help="forecasts made in the past (default: 5)")
    parser.add_argument("--stride", type=int, default=14, help="days between two origins, at most (default: 14)")
    parser.add_argument("--again", action="store_true", help="measure even if the same was measured before")
    known, rest = parser.parse_known_args(args)
    for flag in ("horizon", "origins", "stride"):
        value = getattr(known, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag} {value} must be at least 1.")
    dataset = open_dataset(known.dataset)
    horizon = known.horizon or (28 if known.model == "engagement" else 30)
    argv = ["--config", known.config or str(CONFIGS[known.model]), *rest]
    backtest = _backtest_engagement if known.model == "engagement" else _backtest_retention
    result = evaluation.kept(
        dataset,
        known.model,
        argv,
        {"horizon_days": horizon, "origins": known.origins, "stride_days": known.stride},
        lambda: backtest(argv, dataset, horizon, known.origins, known.stride),
        known.again,
    )
    evaluation.show(result, BEST)


def _steps_back(room: int, origins: int, stride: int, dataset: str, needed: str) -> np.ndarray:
    """How far before the last possible origin each origin lies, furthest first; closer together if room is short.

    Raises:
        UserError: there is no room for so many.
    """
    if room < origins - 1:
        fix = f"use --origins {room + 1}" if room >= 0 else "use a shorter --horizon or add earlier data"
        raise UserError(f"Dataset '{dataset}' has {needed}, too little for {origins} origins: {fix}.")
    stride = min(stride, room // (origins - 1)) if origins > 1 else stride
    return np.arange(origins)[::-1] * stride


def _trained_at(argv: list[str], model: str, dataset: str, horizon: int, cut_off: Any) -> tuple[Any, Any, Any]:
    """The module that `fit` would have served when `cut_off(datamodule)` was all there was, its data and the seed."""
    with tempfile.TemporaryDirectory() as name:
        cli = _configured(argv, model, dataset, horizon, Path(name))
        cut_off(cli.datamodule)
        epochs = evaluation.train(cli, Path(name))
        return evaluation.refit(cli, Path(name), epochs), cli.datamodule, cli.config.seed_everything


def _configured(argv: list[str], model: str, dataset: str, horizon: int, folder: Path) -> LightningCLI:
    """Trainer, module and data of a configuration.

    Raises:
        UserError: it is another model's.
    """
    where = ["--data.dataset", dataset, "--data.horizon_days", str(horizon)]
    quiet = ["--trainer.enable_progress_bar", "false"]
    cli = evaluation.configured("forecasting", [*argv, *where, *quiet], (), folder)
    if not isinstance(cli.model, KINDS[model][0]) or not isinstance(cli.datamodule, KINDS[model][1]):
        raise UserError(
            f"--config {option(argv, '--config')} does not configure the {model} model: use one of its "
            f"configurations, or another --model ({', '.join(CONFIGS)})."
        )
    return cli


def _backtest_engagement(argv: list[str], dataset: Dataset, horizon: int, origins: int, stride: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        n_titles = _configured(argv, "engagement", dataset.name, horizon, Path(name)).datamodule.n_titles
    panel = load_panel(dataset, n_titles, chosen_before_days=horizon + (origins - 1) * stride)
    ahead = panel.steps(horizon)
    room = panel.n_steps - ahead - (panel.steps(MIN_CONTEXT_DAYS) + 3 * ahead)
    back = _steps_back(
        room, origins, panel.steps(stride), dataset.name, f"{panel.n_steps * panel.step_days} days of history"
    )
    at = panel.n_steps - ahead - back
    ours = np.full((len(panel.series_ids), origins, ahead, len(LEVELS)), np.nan)
    for number, origin in enumerate(at):
        print(f"Origin {number + 1} of {origins}: {panel.dates(origin, origin + 1)[0]:%Y-%m-%d}", flush=True)
        known = begun(panel.until(int(origin)))
        module, data, seed = _trained_at(
            argv, "engagement", dataset.name, horizon, lambda data, known=known: data.use(known)
        )
        ours[:, number] = forecasts(module, data, np.array([origin]), int(origin))[:, 0]
    actual = actuals(panel, at, ahead, panel.n_steps)
    tables = tables_of(panel, ours, simple(panel, at, ahead), actual, int(at[0]))
    dates = panel.dates(int(at[0]), int(at[-1]) + 1)
    return {
        "metrics": {f"{horizon} days ahead" + (f": {name}" if name else ""): t for name, t in tables.items()},
        "split": {
            "protocol": f"rolling origin: {origins} origins from {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, the "
            "model trained anew at each on what was known by then",
            "seed": seed,
        },
        "notes": [
            f"relmae is MAE / MAE of the seasonal naive on the same days, geometric mean over series. "
            f"{verdict(tables[''], 'relmae', True)}",
            _NOTE_POINTS,
            *_series_note(panel),
        ],
    }


def begun(panel: Panel) -> Panel:
    """`panel` with series that hold nothing but zeros as unknown: at its end nobody knows yet that they will begin."""
    silent = ~(panel.values > 0).any(axis=1, keepdims=True)
    return replace(panel, values=np.where(silent, np.nan, panel.values))


def _series_note(panel: Panel) -> list[str]:
    if TOTAL not in panel.series_ids:
        return []
    return [f"Series: {TOTAL}, {ACTIVE}, genres, and the titles most watched before the first origin."]


def _backtest_retention(argv: list[str], dataset: Dataset, horizon: int, origins: int, stride: int) -> dict[str, Any]:
    activity = load_activity(dataset)
    room = activity.span_days - horizon - (3 * horizon + MIN_HISTORY_DAYS)
    back = _steps_back(room, origins, stride, dataset.name, f"{activity.span_days} days of events")
    predicted: dict[str, list[np.ndarray]] = {}
    judged = []
    for number, days in enumerate(back + horizon):
        print(f"Cut {number + 1} of {origins}: {days} days before the clock", flush=True)
        known = activity.before(int(days))
        module, data, seed = _trained_at(
            argv, "retention", dataset.name, horizon, lambda data, known=known: data.use(known)
        )
        cases = data.at(activity, int(days))
        judged.append(cases)
        for method, p in _predictions(module, data.cases("everything"), cases).items():
            predicted.setdefault(method, []).append(p)
    whole = together(judged)
    table: Table = {
        m: _probability_metrics(whole.label, np.concatenate(p)) for m, p in predicted.items() if len(p) == origins
    }
    return {
        "metrics": {f"back within {horizon} days": table},
        "split": {
            "protocol": f"rolling origin: {origins} cuts from {back[0] + horizon} to {back[-1] + horizon} days before "
            "the clock, the model trained anew at each on what was known by then",
            "seed": seed,
        },
        "notes": [_counted(whole, horizon), verdict(table, "auroc", False)],
    }
