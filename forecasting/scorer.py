"""From a run to forecasts: the only door to both LSTMs for score.py and the dashboard.

A run holds weights and window.json, which says how its inputs are cut; the history that is looked at is the dataset's,
as it is now. Both score tables are written batch by batch, in memory that does not grow with series or members.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from data import home, runs, schema, shards
from data.arguments import users_named
from data.atomic import atomic_file
from data.dataset import Dataset, open_dataset
from data.engines import Engine, score_missing
from data.errors import UserError
from data.parts import parts_folder
from data.schema import DATE, SERIES_ID, USER_ID
from data.served import load_served
from forecasting.engagement import QUANTILES, EngagementLSTM
from forecasting.forecast import forecast_panel
from forecasting.frequency import FREQUENCIES
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import STATIC, Activity, cases_at, load_activity
from forecasting.retention_reasons import Reference, top_reasons
from forecasting.series import Panel, load_panel
from forecasting.winback import BEFORE_DAYS, HIGH_BELOW

SHARD = 65_536  # members: seconds of work
# The probability to come back is cut in three; the words for them are the dashboard's.
_WINDOW = {
    "engagement": {"frequency", "frequency_was_asked_for", "horizon", "n_titles"},
    "retention": {"horizon_days", "n_visits", "reference"},
}
BANDS = ((HIGH_BELOW, "high"), (2 / 3, "medium"), (np.inf, "low"))


def window_of(run: Path) -> dict[str, Any]:
    """How a run's inputs are cut: the window.json that its datamodule wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    path = run / "window.json"
    try:
        window = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as failure:
        raise UserError(f"{path} cannot be read ({failure}): {runs.MEND}.") from None
    needed = _WINDOW[run.parent.name]
    if not isinstance(window, dict) or not needed <= set(window):
        raise UserError(f"{path} lacks {', '.join(sorted(needed))}: {runs.MEND}.")
    return window


def open_run(run: Path) -> EngagementLSTM | RetentionLSTM:
    """The served model of a run of either.

    Raises:
        UserError: its weights or its window.json are missing or damaged.
    """
    window_of(run)
    return load_served(EngagementLSTM, run) if run.parent.name == "engagement" else load_served(RetentionLSTM, run)


def _out(out: Path | None, dataset: str, name: str) -> Path:
    path = out if out is not None else home.scores(dataset) / f"{name}.parquet"
    return path / f"{name}.parquet" if path.is_dir() else path


# -- engagement ----------------------------------------------------------------------------------------------------


def panel_of_run(dataset: Dataset, run: Path) -> Panel:
    """The series of `dataset` as a run counts them.

    Raises:
        UserError: they have other steps than the run was trained on.
    """
    window = window_of(run)
    steps = window["frequency"]
    asked = steps if window["frequency_was_asked_for"] else None
    panel = load_panel(dataset, n_titles=window["n_titles"], frequency=asked)
    if panel.frequency.name != steps:
        raise UserError(
            f"Dataset '{dataset.name}' has {panel.frequency.name} series, but run {run.name} was trained on {steps} "
            f"ones: train again, or with --data.frequency {steps} to keep to those."
        )
    return panel


def forecast(
    dataset: Dataset, run: Path, horizon: int | None = None, batch_size: int = 512, device: str = "auto"
) -> Iterator[tuple[pa.Table, int]]:
    """Forecasts part by part: a table of `schema.SCORES["engagement_forecast"]`, and of how many series.

    The first step forecast is the one after the step of the dataset's clock. Series without a known value are left
    out; one that ended long ago is forecast from its last values (see engagement_data.windows_to_come).

    Args:
        dataset: whose series are forecast.
        run: an engagement run.
        horizon: steps ahead; default and at most what the model was trained for.
        batch_size: series at once.
        device: see data.served.load_served.

    Raises:
        UserError: the horizon is longer than the model's, or the series have other steps than it was trained on.
    """
    window = window_of(run)
    steps = FREQUENCIES[window["frequency"]]
    horizon = window["horizon"] if horizon is None else horizon
    if not 1 <= horizon <= window["horizon"]:
        raise UserError(
            f"--horizon {horizon}: run {run.name} forecasts 1 to {steps.count(window['horizon'])}"
            + (f"; for more, train with --data.horizon {horizon}." if horizon > 0 else ".")
        )
    module = load_served(EngagementLSTM, run, device)
    panel = panel_of_run(dataset, run)
    found = forecast_panel(module, panel, window["horizon"], batch_size)
    dates = panel.dates(panel.n_steps, panel.n_steps + horizon)
    ids = np.array(panel.series_ids, object)
    known = np.flatnonzero(np.isfinite(found.mean[:, 0]))
    for start in range(0, len(known), batch_size):
        rows = known[start : start + batch_size]
        values = np.concatenate([found.quantiles[rows], found.mean[rows][..., None]], axis=-1)[:, :horizon]
        n = len(rows)
        columns = {
            SERIES_ID: pa.array(np.repeat(ids[rows], horizon), pa.string()),
            DATE: pa.array(np.tile(dates.asi8, n), pa.timestamp("us", tz="UTC")),
            **{name: pa.array(values[..., i].ravel()) for i, name in enumerate((*QUANTILES, "mean"))},
            "run_id": pa.array([run.name] * (n * horizon), pa.string()),
        }
        yield pa.table(columns, schema=schema.SCORES["engagement_forecast"]), n


def score_engagement(dataset: str, out: Path | None = None, horizon: int | None = None) -> Path:
    """Write the forecast of every series as a Parquet table, atomically; return where.

    Args:
        dataset: name of the dataset; its current engagement run is used.
        out: the file to write (default: engagement_forecast.parquet in the dataset's scores folder).
        horizon: steps ahead; default and at most what the model was trained for.

    Raises:
        UserError: there is no dataset, no trained model, nothing to forecast, or the horizon is too long.
    """
    found = open_dataset(dataset)
    run = runs.require_run(found.name, "engagement")
    target, written = _out(out, found.name, "engagement_forecast"), 0
    with (
        atomic_file(target) as temporary,
        pq.ParquetWriter(temporary, schema.SCORES["engagement_forecast"], compression="zstd") as writer,
        tqdm(desc="engagement", unit=" series") as progress,
    ):
        for table, series in forecast(found, run, horizon):
            writer.write_table(table)
            written += series
            progress.update(series)
        if written == 0:
            raise UserError(
                f"No series of dataset '{found.name}' has a known value, so there is nothing to forecast from: "
                "import later data."
            )
    return target


# -- retention -----------------------------------------------------------------------------------------------------


def bands(p_return: np.ndarray) -> np.ndarray:
    """The risk to leave: `high` below a third, `medium` below two thirds, else `low`. Shape: (members,).

    >>> bands(np.array([0.1, 0.5, 0.9])).tolist()
    ['high', 'medium', 'low']
    """
    limits, names = zip(*BANDS, strict=True)
    return np.array(names, object)[np.searchsorted(np.array(limits, float), p_return, side="right")]


def returns(
    activity: Activity, positions: np.ndarray, run: Path, batch_size: int = 4096, device: str = "auto"
) -> Iterator[tuple[pa.Table, int]]:
    """Batch by batch the members at `positions`: a table of `schema.SCORES["retention"]`, and how many.

    Args:
        activity: everybody's, up to the clock.
        positions: in `activity.user_ids`.
        run: a retention run.
        batch_size: members at once.
        device: see data.served.load_served.
    """
    window = window_of(run)
    module = load_served(RetentionLSTM, run, device)
    reference = Reference.of(window["reference"])
    for start in range(0, len(positions), batch_size):
        chosen = positions[start : start + batch_size]
        mine = activity.of_members(chosen)
        cases = cases_at(mine, 0, window["horizon_days"], window["n_visits"])
        p_return, reasons, effect, expected = top_reasons(module, cases, reference)
        days, tenure, visits = (
            np.round(np.expm1(cases.static[:, STATIC.index(name)].astype(float)))
            for name in ("recency", "tenure", "active_days")
        )
        around = np.maximum(tenure - days + 1, window["horizon_days"])
        n = len(cases)
        columns = {
            USER_ID: pa.array(activity.user_ids.take(chosen), pa.string()),
            "p_return": pa.array(p_return.astype(float)),
            "horizon_days": pa.array([window["horizon_days"]] * n, pa.int32()),
            "band": pa.array(bands(p_return), pa.string()),
            "days_since_last": pa.array(days),
            "top_reason": pa.array(reasons, pa.string()),
            "run_id": pa.array([run.name] * n, pa.string()),
            "reason_effect": pa.array(effect.astype(float)),
            "expected_days": pa.array(expected.astype(float)),
            "usual_visits": pa.array(visits / around * window["horizon_days"]),
            "p_return_before": pa.array(_returns_before(module, mine, window)),
        }
        yield pa.table(columns, schema=schema.SCORES["retention"]), n


@torch.no_grad()
def _returns_before(module: RetentionLSTM, activity: Activity, window: dict[str, Any]) -> np.ndarray:
    """Each member's chance to come back `BEFORE_DAYS` days before the clock; NaN for who was not here yet."""
    found = np.full(len(activity.user_ids), np.nan)
    cases = cases_at(activity, BEFORE_DAYS, window["horizon_days"], window["n_visits"])
    if len(cases):
        inputs = (torch.from_numpy(part).to(module.device) for part in (cases.sequence, cases.static))
        found[cases.user] = module.p_return(module.survival(*inputs)).cpu().numpy()
    return found


def score_retention(
    dataset: str,
    out: Path | None = None,
    users: str = "all",
    engine: Engine = Engine(),  # noqa: B008  (frozen)
    shard_size: int = SHARD,
) -> Path:
    """Write every member's chance to come back as a Parquet table, in bounded memory, atomically; return where.

    Members without any event are left out: there is nothing that they could come back from. One that is stopped,
    however it is, goes on with the same call where it was.

    Args:
        dataset: name of the dataset; its current retention run is used.
        out: the file to write (default: retention.parquet in the dataset's scores folder).
        users: `all`, ids with commas between them, or a file: one id in each line, or a CSV with a user_id column.
        engine: who scores; see data/engines.py.
        shard_size: members that one process takes at a time.

    Raises:
        UserError: there is no dataset, no trained model, or no such member.
    """
    engine.prepare(__name__)
    found = open_dataset(dataset)
    run = runs.require_run(found.name, "retention")
    activity = load_activity(found)
    positions = np.arange(len(activity.user_ids))
    if users != "all":
        ids = users_named(users)
        positions = activity.user_ids.get_indexer(pd.Index(ids, dtype=object))
        if (positions < 0).any():
            unknown = int((positions < 0).sum())
            raise UserError(
                f"Member '{ids[int(np.argmax(positions < 0))]}' has no event in dataset '{found.name}' "
                f"({unknown:,} of {len(ids):,} have none): give ids of members who were there."
            )
    target = _out(out, found.name, "retention")
    with parts_folder(target) as parts:
        work = shards.shards_in(
            parts,
            activity.user_ids.to_numpy(object)[positions],
            shard_size,
            {"run": run.name, "dataset": found.fingerprint},
            partial(_opened, found.name, run),
            schema.SCORES["retention"],
        )
        score_missing(work, engine, partial(_of_members, activity, run))
        shards.write_one(work, target)
    return target


def _opened(dataset: str, run: Path) -> shards.Scorer:
    """What scores members in a process of its own."""
    return partial(_of_members, load_activity(open_dataset(dataset)), run)


def _of_members(activity: Activity, run: Path, ids: np.ndarray) -> Iterator[tuple[pa.Table, int]]:
    return returns(activity, activity.user_ids.get_indexer(pd.Index(ids, dtype=object)), run)
