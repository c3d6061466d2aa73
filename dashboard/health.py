"""How the four models of a dataset are: in use since when, how good, on which tables, and whether scores are theirs."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from dashboard.drifted import noted
from dashboard.road import REVIEWS_SCORED, SCORE_TABLE, applicable, refusal, run_ids, score_arguments, serving_run
from data import home, runs
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from data.gate import held_back
from data.headline import headline_of, verdict
from data.words import count, when


@dataclass(frozen=True)
class Health:
    """How a model is.

    Attributes:
        kind: good, warn, bad or none (see dashboard.page.sign).
        state: two or three words.
        told: sentences on what is in use and how good it is.
        problems: sentences on what is not as it should be.
        commands: what mends them, in this order.
        mend: what a button can do: "score" writes the scores anew, "train" trains first, "" nothing.
    """

    model: str
    kind: str
    state: str
    told: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    mend: str = ""
    run: Path | None = field(default=None, compare=False)


def health(data: Dataset) -> list[Health]:
    """All four models, in the order of data.runs.MODELS."""
    apply = applicable(data)
    return [_health(data, model, model in apply) for model in runs.MODELS]


def _health(data: Dataset, model: str, applies: bool) -> Health:
    if not applies:
        why = refusal(data, model) or "the reviews have neither labels nor stars, and no other dataset has a model"
        return Health(model, "none", "Does not apply", (f"{why[0].upper()}{why[1:]}.",))
    run = serving_run(data.name, model)
    if run is None:
        return _not_in_use(data, model)
    source = run.parents[1].name
    try:
        report = runs.read_report(run)
        trained_on = data if source == data.name else open_dataset(source)
    except UserError as mistake:
        command = runs.fit_command(source, model)
        return Health(model, "bad", "Cannot be read", (), (str(mistake),), (command,), "", run)
    foreign = "" if source == data.name else f", of dataset '{source}'"
    told = [f"{_since(run, report.get('created_at', ''))}{foreign}.", verdict(report)]
    problems, train = [], False
    held = None
    if report.get("fingerprint") not in (None, trained_on.fingerprint):
        held = held_back(source, model, trained_on.fingerprint)
        problems.append(f"Dataset '{source}' has changed since this training.")
        if held is not None:
            problems.append(f"Run {held.id} knows the new tables, but was held back: {held.report['gate']['why']}")
        train = held is None
    drifted = noted(data, model, run, str(report.get("fingerprint"))) if source == data.name else []
    problems += drifted
    _, stale = scores_of(data, model, run)
    problems += [stale] if stale else []
    headline = headline_of(report)
    beaten = headline is not None and headline.is_worse
    if beaten:
        problems.append("A simpler method was better: compare the runs on the Models page.")
    commands = [runs.fit_command(source, model)] if train else []
    commands += [score_command(data, model)] if stale or train else []
    todo = "To be trained again" if train else "To be scored" if stale else ""
    seen = "A run was held back" if held else "Drifted" if drifted else "Behind its baseline" if beaten else "All well"
    state = todo or seen
    kind = "warn" if problems else "good"
    mend = "train" if train else "score" if stale else ""
    return Health(model, kind, state, tuple(told), tuple(problems), tuple(commands), mend, run)


def _not_in_use(data: Dataset, model: str) -> Health:
    finished = runs.list_runs(data.name, model)
    if finished:
        told = f"No run is in use; {len(finished)} finished {'is' if len(finished) == 1 else 'are'} on the Models page."
        return Health(model, "bad", "Nothing in use", (told,), (), (promote_command(model, finished[0].folder),))
    commands = (runs.fit_command(data.name, model), score_command(data, model))
    return Health(model, "none", "Not trained yet", (), (), commands, "train")


def _since(run: Path, created_at: str) -> str:
    """When the run came into use, by the file that names it, and when it was trained if that was on another day."""
    try:
        switched = dt.datetime.fromtimestamp((run.parent / "current").stat().st_mtime, dt.UTC)
    except OSError:
        return f"Run {run.name}"
    words = f"In use since {when(switched)}, {switched:%H:%M} UTC"
    try:
        trained = dt.datetime.fromisoformat(created_at).astimezone(dt.UTC)
    except ValueError:
        return words
    return words if trained.date() == switched.date() else f"{words}; trained on {when(trained)}"


def scores_of(data: Dataset, model: str, run: Path | None) -> tuple[str, str]:
    """How many rows are scored and when ("943 rows, 2024-05-01 12:00 UTC"; empty when none can be read), and why they
    are not those of `run` on the tables as they are (empty when they are)."""
    path = home.scores(data.name) / f"{SCORE_TABLE[model]}.parquet"
    try:
        written, rows = path.stat().st_mtime, pq.read_metadata(path).num_rows
    except FileNotFoundError:
        return "", "Nothing is scored with it yet."
    except (OSError, ValueError):
        return "", "The scores on disk cannot be read."
    told = f"{count(rows, 'row')}, {dt.datetime.fromtimestamp(written, dt.UTC):%Y-%m-%d %H:%M} UTC"
    by = run_ids(path)
    if not by:
        return told, "The scores on disk are empty."
    if run is None or by != {run.name}:
        return told, f"The scores on disk are from run {', '.join(sorted(by))}, not from the one in use."
    if data.created_at and written < dt.datetime.fromisoformat(data.created_at).timestamp():
        return told, "The tables are newer than the scores."
    return told, ""


def score_command(data: Dataset, model: str) -> str:
    return " ".join(["python", *score_arguments(data.name, model, reviews_to_score(data))])


def reviews_to_score(data: Dataset) -> int:
    """As many as are scored now, or the demo's number: scoring anew never makes the table shorter."""
    try:
        there = pq.read_metadata(home.scores(data.name) / "review_scores.parquet").num_rows
    except (OSError, ValueError):
        there = 0
    return max(there, REVIEWS_SCORED)


def promote_command(model: str, run: Path) -> str:
    return f"python -m {runs.PACKAGE[model]} promote {run.name}"
