"""The plan of the demo's road: which steps there are for a dataset, what is done already, what does not apply.

Done means: the dataset is on disk; the model in use was trained on these very tables by this very recipe (or by another
recipe that the user chose); the score table was written by the model in use.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from dashboard.model_words import TRAINED
from data import catalogue, home, report, runs
from data.dataset import Dataset, list_datasets, open_dataset
from data.gate import held_back
from data.schema import LABEL, STARS

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "all-MiniLM-L6-v2"
REVIEWS_SCORED = 2000
# The home page fills about six rows from a member's picks.
PICKS = 100
SCORE_COMMAND = {
    "recommender": "recommend",
    "sentiment": "reviews",
    "engagement": "engagement",
    "retention": "retention",
}
SCORE_TABLE = {
    "recommender": "recommendations",
    "sentiment": "review_scores",
    "engagement": "engagement_forecast",
    "retention": "retention",
}
# Seconds on two cores for the demo; the pace of the steps already taken corrects what is left.
SECONDS = {
    "weights": 15,
    "dataset": 20,
    "fit-recommender": 75,
    "fit-sentiment": 135,
    "fit-engagement": 80,
    "fit-retention": 40,
    "score-recommender": 10,
    "score-sentiment": 95,
    "score-engagement": 8,
    "score-retention": 8,
}
_SCORES = {
    "recommender": "recommendations for every member",
    "sentiment": f"{REVIEWS_SCORED:,} reviews",
    "engagement": "the forecast",
    "retention": "every member's chance to come back",
}


@dataclass(frozen=True)
class Step:
    key: str  # "fit-recommender"
    label: str  # "Train the recommender"
    state: Literal["todo", "done", "skipped"]
    why: str  # what is there already, or why the step does not apply
    argv: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return SECONDS[self.key]


def plan(name: str) -> list[Step]:
    """All steps of the road for dataset `name`, in order, with what is done and what does not apply.

    While the dataset is missing, everything after it counts as still to do.

    Raises:
        UserError: the dataset is neither on disk nor known to fetch.
    """
    data = open_dataset(name) if name in list_datasets() else None
    entry = None if data is not None else catalogue.get(name)
    steps = [_weights_step(data, entry)]
    if data is not None:
        steps.append(Step("dataset", f"Fetch dataset '{name}'", "done", f"{_rows(data)}"))
    elif entry is not None:
        argv = (sys.executable, "-m", "data", "fetch", entry.name)
        steps.append(Step("dataset", f"Fetch dataset '{entry.name}'", "todo", "", argv))
    steps += [_fit_step(name, model, data) for model in runs.MODELS]
    return steps + [_score_step(name, model, data) for model in runs.MODELS]


def _rows(data: Dataset) -> str:
    return ", ".join(f"{rows:,} {table}" for table, rows in data.rows.items() if rows)


def _weights_step(data: Dataset | None, to_fetch: catalogue.Entry | None) -> Step:
    label = "Fetch the pretrained language model"
    entry = catalogue.get(WEIGHTS)
    folder = home.raw() / entry.name
    only_ratings = to_fetch is not None and to_fetch.reader == "movielens"
    if only_ratings or (data is not None and not data.has("reviews")):
        return Step("weights", label, "skipped", "the dataset has no reviews")
    if entry.hub is not None and all((folder / file).is_file() for file in entry.hub.files):
        return Step("weights", label, "done", entry.name)
    return Step("weights", label, "todo", "", (sys.executable, "-m", "data", "fetch", entry.name))


def refusal(data: Dataset, model: str) -> str:
    """Why `model` does not apply to the dataset; empty when it does."""
    if model == "sentiment":
        return "" if data.has("reviews") else "the dataset has no reviews"
    if not data.has("interactions") and not (model == "engagement" and data.has("metrics")):
        return "the dataset has no interactions"
    if model != "recommender" and data.time_kind == "order":
        return "the dataset has no times"
    return ""


def serving_run(name: str, model: str) -> Path | None:
    """The run that serves dataset `name`: its own current one; for sentiment else the newest of any dataset, because
    a model of reviews knows words, not titles. None when there is none."""
    own = runs.current_run(name, model)
    if own is not None or model != "sentiment":
        return own
    others = [runs.current_run(other, model) for other in list_datasets() if other != name]
    return max((run for run in others if run is not None), key=lambda run: run.name, default=None)


def applicable(data: Dataset) -> list[str]:
    """The models that can say something about the dataset, trained on it or (for sentiment) elsewhere."""
    found = [model for model in runs.MODELS if not refusal(data, model)]
    if "sentiment" in found and not _labelled(data) and serving_run(data.name, "sentiment") is None:
        found.remove("sentiment")
    return found


def _labelled(data: Dataset) -> bool:
    """Whether any review has a label or stars, by the statistics in the file."""
    metadata = pq.read_metadata(data.path("reviews"))
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(group.num_columns)):
            if column.path_in_schema in (LABEL, STARS):
                known = column.statistics
                if known is None or not known.has_null_count or known.null_count < group.num_rows:
                    return True
    return False


def fit_refusal(data: Dataset, model: str) -> str:
    """Why `model` cannot be trained on the dataset; empty when it can."""
    if model == "sentiment" and data.has("reviews") and not _labelled(data):
        return "the reviews have neither labels nor stars"
    return refusal(data, model)


def _fit_step(name: str, model: str, data: Dataset | None) -> Step:
    label = f"Train {TRAINED[model]}"
    config = runs.QUICK_CONFIG[model]
    argv = (sys.executable, *runs.fit_argv(name, model))
    key = f"fit-{model}"
    if data is None:
        return Step(key, label, "todo", "", argv)
    if why_not := fit_refusal(data, model):
        return Step(key, label, "skipped", why_not)
    run = runs.current_run(name, model)
    if run is None:
        return Step(key, label, "todo", "", argv)
    found = runs.read_report(run)
    if found.get("fingerprint") != data.fingerprint:
        held = held_back(name, model, data.fingerprint)
        hashes = _as_list(((held.report if held else {}).get("recipe") or {}).get("config_sha256"))
        if held is not None and hashes == [report.file_sha256(ROOT / config)]:
            return Step(key, label, "done", f"run {held.id} was no better than the one in use and was held back", argv)
        return Step(key, label, "todo", "", argv)
    recipe = found.get("recipe") or {}
    configs, hashes = (_as_list(recipe.get(part)) for part in ("config", "config_sha256"))
    if any(Path(used).name == Path(config).name for used in configs):
        same = hashes == [report.file_sha256(ROOT / config)]
        further = [a for a in _as_list(recipe.get("overrides")) if a not in ("--data.dataset", name)]
        why = f"run {run.name}" + (f", with {' '.join(further)}" if further else "")
        return Step(key, label, "done" if same else "todo", why, argv)
    used = ", ".join(Path(c).name for c in configs) or "other settings"
    return Step(key, label, "done", f"run {run.name}, trained with {used}")


def _as_list(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [] if value is None else [str(value)]


def score_arguments(name: str, model: str, reviews: int = REVIEWS_SCORED) -> tuple[str, ...]:
    """The scoring command as words after `python`, for a shell or process in the project's folder.

    Args:
        reviews: how many to score.
    """
    arguments = ("score.py", SCORE_COMMAND[model], "--dataset", name)
    more = {"sentiment": ("--limit", str(reviews)), "recommender": ("--top-k", str(PICKS))}
    return (*arguments, *more.get(model, ()))


def _score_step(name: str, model: str, data: Dataset | None) -> Step:
    key, label = f"score-{model}", f"Score {_SCORES[model]}"
    argv = (sys.executable, *score_arguments(name, model))
    if data is None:
        return Step(key, label, "todo", "", argv)
    if why_not := refusal(data, model):
        return Step(key, label, "skipped", why_not)
    run = serving_run(name, model)
    if run is None and model == "sentiment" and not _labelled(data):
        return Step(key, label, "skipped", "no dataset has a sentiment model")
    path = home.scores(name) / f"{SCORE_TABLE[model]}.parquet"
    if run is None or not path.is_file() or run_ids(path) != {run.name}:
        return Step(key, label, "todo", "", argv)
    rows = pq.read_metadata(path).num_rows
    return Step(key, label, "done", f"{rows:,} rows by run {run.name}")


def run_ids(path: Path) -> set[str]:
    """The runs that wrote a score table; a damaged file has none. A table of one run is told by its statistics."""
    try:
        metadata = pq.read_metadata(path)
        at = metadata.schema.names.index("run_id")
        found: set[str] = set()
        for group in range(metadata.num_row_groups):
            known = metadata.row_group(group).column(at).statistics
            if known is None or not known.has_min_max or known.min != known.max or known.null_count:
                return {str(v) for v in pq.read_table(path, columns=["run_id"])["run_id"].unique().to_pylist()}
            found.add(str(known.min))
        return found
    except (OSError, ValueError, KeyError):
        return set()
