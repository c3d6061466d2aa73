"""Runs: one folder for each training, and the one in use.

    runs/<dataset>/<model>/<run id>/
        model.ckpt        what is served (after the refit on everything)
        best.ckpt         the best on validation, before the refit: what `validate` and `test` load
        config.yaml       the resolved configuration
        report.json       metrics of model and baselines, fingerprint, versions, seed, seconds, device
        logs/             learning curves (metrics.csv, TensorBoard)
        checkpoints/      last.ckpt, to resume an interrupted fit
    runs/<dataset>/<model>/current    a file that holds the run id in use; switched by one rename

A run is finished when it has its report.json, which is written last; only a finished run can become current.
"""

import contextlib
import datetime as dt
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from data import home, permission
from data.atomic import atomic_file, write_text
from data.errors import UserError

MODELS = ("recommender", "sentiment", "engagement", "retention")
MEND = "train again or promote another run"  # where a run has a damaged file
PACKAGE = {"recommender": "recsys", "sentiment": "nlp", "engagement": "forecasting", "retention": "forecasting"}
QUICK_CONFIG = {
    "recommender": "recsys/configs/quick.yaml",
    "sentiment": "nlp/configs/quick.yaml",
    "engagement": "forecasting/configs/engagement-quick.yaml",
    "retention": "forecasting/configs/retention-quick.yaml",
}

# All ranks of one distributed training share a run: the first process puts the id here before it starts the others.
RUN_ID_VARIABLE = "MARQUEE_RUN_ID"


@dataclass(frozen=True)
class Run:
    id: str
    folder: Path
    report: dict[str, Any]
    is_current: bool


def new_run(dataset: str, model: str) -> Path:
    """Make the folder of a new run: its id is the time in UTC and four random digits, so ids sort by age."""
    root = home.runs(dataset, model)
    if shared := os.environ.get(RUN_ID_VARIABLE):
        (root / shared).mkdir(parents=True, exist_ok=True)
        return root / shared
    while True:  # a second that comes twice, when a clock is put back, may bring the same digits
        folder = root / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder


def is_finished(run: Path) -> bool:
    return (run / "report.json").is_file() and (run / "model.ckpt").is_file()


def current_run(dataset: str, model: str) -> Path | None:
    """Folder of the run in use, or None when there is none (or it was deleted, or `current` names no run)."""
    try:
        run_id = home.check_name((home.runs(dataset, model) / "current").read_text("utf-8").strip())
    except (FileNotFoundError, UnicodeDecodeError, UserError):
        return None
    folder = home.runs(dataset, model) / run_id
    return folder if is_finished(folder) else None


def fit_argv(dataset: str, model: str, config: str = "") -> list[str]:
    """The arguments after `python` that train a model; with its quick configuration unless another is given."""
    return ["-m", PACKAGE[model], "fit", "--config", config or QUICK_CONFIG[model], "--data.dataset", dataset]


def fit_command(dataset: str, model: str) -> str:
    return f"python -m {PACKAGE[model]} fit --config {QUICK_CONFIG[model]} --data.dataset {dataset}"


def require_run(dataset: str, model: str, run_id: str | None = None) -> Path:
    """Folder of run `run_id`, or of the current one.

    Raises:
        UserError: there is no such finished run; the sentence holds the command that makes one.
    """
    if run_id is not None:
        folder = home.runs(dataset, model) / home.check_name(run_id)
        if not is_finished(folder):
            there = ", ".join(run.id for run in list_runs(dataset, model)) or "none"
            raise UserError(f"There is no finished {model} run '{run_id}' on dataset '{dataset}' (there: {there}).")
        return folder
    folder_or_none = current_run(dataset, model)
    if folder_or_none is None:
        raise UserError(
            told_of_lost(dataset, model)
            or f"There is no trained {model} for dataset '{dataset}': train one with '{fit_command(dataset, model)}'."
        )
    return folder_or_none


def promote(run: Path) -> None:
    """Make `run` the current one of its dataset and model, by one rename.

    Raises:
        UserError: the run is not finished, or who asks may not change anything.
    """
    permission.check()
    if not is_finished(run):
        raise UserError(f"{run} is not a finished run (it has no report.json and model.ckpt): choose one that is.")
    write_text(run.parent / "current", run.name + "\n")


def find_run(run: str, models: tuple[str, ...]) -> Path:
    """The finished run meant by `run`: a folder, or a run id that occurs under one dataset and one of `models`.

    Raises:
        UserError: none or several match.
    """
    as_path = Path(run)
    if as_path.is_dir():
        folder = as_path.absolute()
        if not is_finished(folder):
            raise UserError(f"{run} is not a finished run folder: choose one with report.json and model.ckpt.")
        if folder.parent.name not in models:
            raise UserError(f"{run} is a run of '{folder.parent.name}', not of {' or '.join(models)}.")
        return folder
    home.check_name(run)
    matches = [p for m in models for p in (home.home() / "runs").glob(f"*/{m}/{run}") if is_finished(p)]
    if len(matches) != 1:
        what = "no finished run" if not matches else f"{len(matches)} runs"
        raise UserError(f"'{run}' names {what} of {' or '.join(models)} in {home.home()}: give the run's folder.")
    return matches[0]


def list_runs(dataset: str, model: str) -> list[Run]:
    """Finished runs, newest first."""
    root = home.runs(dataset, model)
    current = current_run(dataset, model)
    folders = sorted((p for p in root.glob("*") if p.is_dir() and is_finished(p)), reverse=True)
    return [Run(p.name, p, read_report(p), p == current) for p in folders]


def told_of_lost(dataset: str, model: str) -> str:
    """One sentence on runs that were trained to their end and whose weights are gone; empty where none is."""
    root = home.runs(dataset, model)
    reports = sorted(p.parent.name for p in root.glob("*/report.json") if not is_finished(p.parent))
    if not reports:
        return ""
    return (
        f"The weights (model.ckpt) of {model} run {', '.join(reports)} on dataset '{dataset}' are gone: promote "
        f"another run, or train with '{fit_command(dataset, model)}'."
    )


def read_report(run: Path) -> dict[str, Any]:
    """The run's report.json.

    Raises:
        UserError: it is missing or damaged.
    """
    path = run / "report.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
        return found
    except (OSError, ValueError, RecursionError) as failure:
        raise UserError(f"{path} cannot be read ({failure}): choose another run or train again.") from None


@contextmanager
def training_lock(dataset: str, model: str) -> Iterator[None]:
    """Hold the lock of (dataset, model), so that two trainings never write or promote over each other.

    Raises:
        UserError: another training holds it.
    """
    path = _training_lock(dataset, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"Another training of the {model} on dataset '{dataset}' is running: wait for it or stop it first."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_training(dataset: str, model: str) -> bool:
    """Whether a training of the model on the dataset runs now, wherever it was started."""
    path = _training_lock(dataset, model)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _training_lock(dataset: str, model: str) -> Path:
    return home.jobs() / f"{home.check_name(dataset)}-{model}.lock"


@contextmanager
def earlier_curves_kept(run: Path) -> Iterator[None]:
    """Lightning's CSV logger starts an empty file; a resumed training keeps the curve from before the cut."""
    curves = run / "logs" / "metrics.csv"
    before = pd.read_csv(curves) if curves.is_file() else None
    yield
    if before is None or not curves.is_file():
        return
    after = pd.read_csv(curves)
    whole = pd.concat([before[before["epoch"] < after["epoch"].min()], after])
    with atomic_file(curves) as temporary:
        whole.to_csv(temporary, index=False)
