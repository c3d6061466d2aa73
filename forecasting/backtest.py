"""`python -m forecasting evaluate`: a rolling-origin backtest of an LSTM beside its baselines.

At each of several origins in the past everything later is cut off, the model is trained as `fit` would have trained it
on that day (epochs chosen on validation, then refitted), and what it said is compared with what came. Nothing that
happened after an origin reaches a forecast made there, the choice of titles included.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pytorch_lightning.cli import LightningCLI

from data import command, evaluation
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from forecasting.ablation import without_each
from forecasting.accuracy import OURS, Table, actuals, coverage_by_origin, losses, tables_of, verdict
from forecasting.classical import MAX_ARIMA_SEASON, MAX_HISTORY, NAIVE, classical, mean_name
from forecasting.engagement import EngagementLSTM
from forecasting.engagement_data import EngagementData
from forecasting.evaluate import counted, predictions, probabilities, probability_metrics, verdicts
from forecasting.forecast import forecast_panel
from forecasting.metrics import standard_error
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import MIN_HISTORY_DAYS, RetentionData, load_activity, together
from forecasting.series import ACTIVE, TOTAL, Panel, load_panel

LINKS = (("frequency", "frequency"), ("horizon", "horizon"), ("horizon_days", "horizon_days"))
BEST = {"relmae": "min", "mase": "min", "smape": "min", "wql": "min"} | {
    "auroc": "max", "pr_auc": "max", "log_loss": "min", "brier": "min", "ece": "min", "lift@10%": "max",
}  # fmt: skip
_ABLATION = "parts left out"
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
    parser.add_argument(
        "--horizon", type=int, help="steps ahead: days, hours or whatever the data are (default: 28 days or the like)"
    )
    parser.add_argument("--origins", type=int, default=5, help="forecasts made in the past (default: 5)")
    parser.add_argument("--stride", type=int, help="steps between two origins, at most (default: half a horizon)")
    parser.add_argument(
        "--refits", type=int, default=5, help="at how many origins the engagement model is trained anew (default: 5)"
    )
    parser.add_argument("--ablation", action="store_true", help="measure too what each part of the model is worth")
    parser.add_argument("--again", action="store_true", help="measure even if the same was measured before")
    known, rest = parser.parse_known_args(args)
    for flag in ("horizon", "origins", "stride", "refits"):
        value = getattr(known, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag} {value} must be at least 1.")
    dataset = open_dataset(known.dataset)
    argv = ["--config", known.config or str(CONFIGS[known.model]), *rest]
    _require_kind(known.config, known.model)
    backtest = _backtest_engagement if known.model == "engagement" else _backtest_retention
    asked = {"horizon": known.horizon, "origins": known.origins, "stride": known.stride, "refits": known.refits}
    if known.ablation:
        asked["ablation"] = True
    result = evaluation.kept(dataset, known.model, argv, asked, lambda: backtest(argv, dataset, **asked), known.again)
    evaluation.show(result, BEST)


def _require_kind(config: str | None, model: str) -> None:
    """Raise a UserError if the file `config` is there and configures another model."""
    if config is None or not Path(config).is_file():
        return
    try:
        content = yaml.safe_load(Path(config).read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # what is wrong with it is said when it is read as a configuration
    named = content.get("model") if isinstance(content, dict) else None
    path = str(named.get("class_path", "")) if isinstance(named, dict) else ""
    if path and path.rpartition(".")[2] != KINDS[model][0].__name__:
        raise UserError(
            f"--config {config} does not configure the {model} model: use one of its configurations, or another "
            f"--model ({', '.join(CONFIGS)})."
        )


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
        argv: the configuration, as arguments of `fit`.
        model: engagement or retention.
        dataset: its name.
        horizon: steps (engagement) or days (retention) ahead.
        origins: the names of the origins, for the progress.
        known: for each what was known there: a Panel or an Activity, as the datamodule's `use` takes it.
    """
    for number, (origin, part) in enumerate(zip(origins, known, strict=True), start=1):
        print(f"Training {number} of {len(origins)}: what was known by {origin}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            cli = _configured(argv, model, dataset, horizon, Path(name), part)
            epochs = evaluation.train(cli, Path(name))
            yield evaluation.refit(cli, Path(name), epochs), cli.datamodule, cli.config.seed_everything


def _configured(
    argv: list[str], model: str, dataset: str, horizon: int | None, folder: Path, known: Any = None
) -> LightningCLI:
    """Trainer, module and data of a configuration; the data are `known` instead of the dataset's, if given."""
    flag = "horizon" if model == "engagement" else "horizon_days"
    where = ["--data.dataset", dataset, *([f"--data.{flag}", str(horizon)] if horizon else [])]
    if isinstance(known, Panel):
        where += ["--data.frequency", known.frequency.name]
    quiet = ["--trainer.enable_progress_bar", "false"]
    cli = evaluation.configured("forecasting", [*argv, *where, *quiet], LINKS, folder)
    if known is not None:
        data: Any = cli.datamodule
        data.use(known)
    return cli


def _quantiles(module: EngagementLSTM, panel: Panel, horizon: int) -> np.ndarray:
    return forecast_panel(module, panel, horizon).quantiles


def _backtest_engagement(
    argv: list[str],
    dataset: Dataset,
    horizon: int | None,
    origins: int,
    stride: int | None,
    refits: int,
    ablation: bool = False,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        data = _configured(argv, "engagement", dataset.name, horizon, Path(name)).datamodule
        steps, horizon, n_titles, newest = data.steps, data.horizon, data.n_titles, data.panel.n_steps
    stride = stride or max(1, horizon // 2)
    room = newest - horizon - (2 * steps.windows[0] + 4 * min(horizon, steps.windows[1]))
    back = _steps_back(room, origins, stride, dataset.name, f"a history of {steps.count(newest)}")
    panel = load_panel(dataset, n_titles, horizon + int(back[0]), steps.name)
    at = panel.n_steps - horizon - back
    dates = [f"{panel.dates(origin, origin + 1)[0]:%Y-%m-%d}" for origin in at]
    trained = np.unique(np.arange(min(refits, origins)) * origins // min(refits, origins))
    known = [panel.until(int(origin)).known() for origin in at]
    modules = _trained_at(
        argv, "engagement", dataset.name, horizon, [dates[i] for i in trained], [known[i] for i in trained]
    )
    found: dict[str, list[np.ndarray]] = {}
    without: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, float] = {}
    for number, part in enumerate(known):
        started = time.perf_counter()
        if number in trained:
            module, _, seed = next(modules)
        ours = _quantiles(module, part, horizon)
        seconds[OURS] = seconds.get(OURS, 0.0) + time.perf_counter() - started
        found.setdefault(OURS, []).append(ours)
        if ablation:
            for left, quantiles in without_each(module, partial(_quantiles, module, part, horizon)).items():
                without.setdefault(left, []).append(quantiles)
        print(f"Origin {number + 1} of {origins}: {dates[number]}, the classical methods", flush=True)
        for method, answer in classical(part, horizon).items():
            found.setdefault(method, []).append(answer.quantiles)
            seconds[method] = seconds.get(method, 0.0) + answer.seconds
    answers = {method: np.stack(parts, axis=1) for method, parts in found.items()}
    actual = actuals(panel, at, horizon, panel.n_steps)
    tables = tables_of(panel, answers, NAIVE, actual, int(at[0]), seconds)
    shown = {f"{steps.count(horizon)} ahead" + (f": {name}" if name else ""): t for name, t in tables.items()}
    if without:
        ablated = {method: np.stack(parts, axis=1) for method, parts in without.items()}
        ablated = {name: answers[name] for name in (OURS, NAIVE)} | ablated
        shown[f"{steps.count(horizon)} ahead: {_ABLATION}"] = tables_of(panel, ablated, NAIVE, actual, int(at[0]))[""]
    covered = coverage_by_origin(answers[OURS], actual)
    error = standard_error(covered, overlap=-(-horizon // max(1, int(back[0] - back[1]))) if origins > 1 else 0)
    return {
        "metrics": shown,
        "split": {
            "protocol": f"rolling origin: {origins} origins from {dates[0]} to {dates[-1]}, the model trained anew at "
            f"{len(trained)} of them on what was known by then",
            "seed": seed,
            "frequency": steps.name,
        },
        "notes": [
            f"relmae is MAE / MAE of the seasonal naive on the same steps, geometric mean over series. "
            f"{verdict(tables[''], 'relmae', True)}",
            verdict(tables[""], "wql", True),
            losses(tables),
            f"The {OURS}'s 90 % interval held {covered.mean():.1%} of the values"
            + (
                f", with a standard error of {error:.1%} over the origins, whose futures overlap."
                if origins > 1
                else "."
            ),
            _note_methods(panel),
            *_series_note(panel),
        ],
    }


def _note_methods(panel: Panel) -> str:
    season = panel.season
    arima = f", AutoARIMA after MSTL as its season is {season}" if season > MAX_ARIMA_SEASON else ""
    return (
        f"The classical methods see the last {panel.frequency.count(min(MAX_HISTORY, panel.n_steps))} and season "
        f"{season}{arima}; intervals cut at zero; the {mean_name(panel)} has those steps' own quantiles for an "
        "interval. Seconds are of all origins, the LSTM's with its trainings."
    )


def _series_note(panel: Panel) -> list[str]:
    if TOTAL not in panel.series_ids:
        return []
    return [f"Series: {TOTAL}, {ACTIVE}, genres, segments, and the titles most watched before the first origin."]


def _backtest_retention(
    argv: list[str],
    dataset: Dataset,
    horizon: int | None,
    origins: int,
    stride: int | None,
    refits: int,
    ablation: bool = False,
) -> dict[str, Any]:
    horizon, stride = horizon or 30, stride or 14
    activity = load_activity(dataset)
    room = activity.span_days - horizon - (3 * horizon + MIN_HISTORY_DAYS)
    back = _steps_back(room, origins, stride, dataset.name, f"{activity.span_days} days of events")
    predicted: dict[str, list[np.ndarray]] = {}
    without: dict[str, list[np.ndarray]] = {}
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
        (found,) = predictions(module, data.cases("everything"), cases)
        for method, p in found.items():
            predicted.setdefault(method, []).append(p)
        if ablation:
            for left, p in without_each(module, partial(probabilities, module, cases)).items():
                without.setdefault(left, []).append(p)
    whole = together(judged)
    table: Table = {
        m: probability_metrics(whole.label, np.concatenate(p)) for m, p in predicted.items() if len(p) == origins
    }
    shown = {f"back within {horizon} days": table}
    if without:
        shown[f"back within {horizon} days: {_ABLATION}"] = {OURS: table[OURS]} | {
            left: probability_metrics(whole.label, np.concatenate(p)) for left, p in without.items()
        }
    return {
        "metrics": shown,
        "split": {
            "protocol": f"rolling origin: {origins} cuts from {cuts[0]} to {cuts[-1]} days before "
            "the clock, the model trained anew at each on what was known by then",
            "seed": seed,
        },
        "notes": [counted(whole, horizon), *verdicts(table)],
    }
