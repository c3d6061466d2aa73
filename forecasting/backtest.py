"""`python -m forecasting evaluate`: a rolling-origin backtest of an LSTM beside its baselines.

At each of several origins in the past everything later is cut off, the model is trained as `fit` would have trained it
on that day (epochs chosen on validation, then refitted), and what it said is compared with what came. Nothing that
happened after an origin reaches a forecast made there, the choice of titles included.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.cli import LightningCLI

from data import command, evaluation
from data.arguments import option
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from forecasting.engagement import EngagementLSTM
from forecasting.engagement_data import MIN_CONTEXT_DAYS, EngagementData
from forecasting.evaluate import (
    NOTE_POINTS,
    Table,
    actuals,
    counted,
    forecasts,
    predictions,
    probability_metrics,
    simple,
    tables_of,
    verdict,
)
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import MIN_HISTORY_DAYS, RetentionData, load_activity, together
from forecasting.series import ACTIVE, TOTAL, Panel, load_panel

BEST = {"relmae": "min", "mase": "min", "smape": "min", "wql": "min"} | {
    "auroc": "max", "pr_auc": "max", "log_loss": "min", "brier": "min", "lift@10%": "max",
}  # fmt: skip
KINDS = {"engagement": (EngagementLSTM, EngagementData), "retention": (RetentionLSTM, RetentionData)}
CONFIGS = {m: Path(__file__).parent / "configs" / f"{m}-quick.yaml" for m in ("engagement", "retention")}


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


def _trained_at(
    argv: list[str], model: str, dataset: str, horizon: int, origins: Sequence[str], known: Iterable[Any]
) -> Iterator[tuple[Any, Any, Any]]:
    """For each origin the module that `fit` would have served there, its datamodule and the seed.

    Args:
        origins: the names of the origins, for the progress.
        known: for each what was known there: a Panel or an Activity, as the datamodule's `use` takes it.
    """
    for number, (origin, part) in enumerate(zip(origins, known, strict=True), start=1):
        print(f"Origin {number} of {len(origins)}: {origin}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            cli = _configured(argv, model, dataset, horizon, Path(name))
            cli.datamodule.use(part)
            epochs = evaluation.train(cli, Path(name))
            yield evaluation.refit(cli, Path(name), epochs), cli.datamodule, cli.config.seed_everything


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
    dates = [f"{panel.dates(origin, origin + 1)[0]:%Y-%m-%d}" for origin in at]
    known = (begun(panel.until(int(origin))) for origin in at)
    found = []
    for origin, (module, data, trained_with) in zip(
        at, _trained_at(argv, "engagement", dataset.name, horizon, dates, known), strict=True
    ):
        found.append(forecasts(module, data, np.array([origin]), int(origin)))
        seed = trained_with
    ours = np.concatenate(found, axis=1)
    actual = actuals(panel, at, ahead, panel.n_steps)
    tables = tables_of(panel, ours, simple(panel, at, ahead), actual, int(at[0]))
    return {
        "metrics": {f"{horizon} days ahead" + (f": {name}" if name else ""): t for name, t in tables.items()},
        "split": {
            "protocol": f"rolling origin: {origins} origins from {dates[0]} to {dates[-1]}, the "
            "model trained anew at each on what was known by then",
            "seed": seed,
        },
        "notes": [
            f"relmae is MAE / MAE of the seasonal naive on the same days, geometric mean over series. "
            f"{verdict(tables[''], 'relmae', True)}",
            NOTE_POINTS,
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
    cuts = [int(days) for days in back + horizon]
    names = [f"{days} days before the clock" for days in cuts]
    known = (activity.before(days) for days in cuts)
    for days, (module, data, trained_with) in zip(
        cuts, _trained_at(argv, "retention", dataset.name, horizon, names, known), strict=True
    ):
        seed = trained_with
        cases = data.at(activity, days)
        judged.append(cases)
        for method, p in predictions(module, data.cases("everything"), cases).items():
            predicted.setdefault(method, []).append(p)
    whole = together(judged)
    table: Table = {
        m: probability_metrics(whole.label, np.concatenate(p)) for m, p in predicted.items() if len(p) == origins
    }
    return {
        "metrics": {f"back within {horizon} days": table},
        "split": {
            "protocol": f"rolling origin: {origins} cuts from {cuts[0]} to {cuts[-1]} days before "
            "the clock, the model trained anew at each on what was known by then",
            "seed": seed,
        },
        "notes": [counted(whole, horizon), verdict(table, "auroc", False)],
    }
