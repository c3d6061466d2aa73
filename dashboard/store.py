"""What the pages read, cached by the files' content or age: datasets, scores, runs and the live models.

Frames that come from here are shared by all sessions: never change one in place.
"""

import contextlib
import copy
import importlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from dashboard.road import serving_run
from data import events, home, runs
from data.dataset import Dataset, describe, list_datasets, open_dataset, read_parquet, readable
from data.errors import UserError
from data.schema import (
    CREATED_AT,
    ITEM_ID,
    KIND,
    OPTIONAL,
    RATING,
    REVIEW_ID,
    SCORES,
    SIGNED,
    TIMESTAMP,
    USER_ID,
)
from data.titles import display_title
from nlp.replies import DEFAULT_SERVICE
from recsys import pages, rows, signals
from recsys import search as title_search
from recsys.viewing import Viewing, read_catalogue, read_viewing

if TYPE_CHECKING:
    from forecasting.series import Panel

_log = logging.getLogger("dashboard")


def default_dataset() -> str | None:
    """MARQUEE_DATASET if it is there, else demo, else the newest; None when there is none."""
    there = list_datasets()
    for name in (os.environ.get("MARQUEE_DATASET"), "demo"):
        if name in there:
            return name
    return max(there, key=lambda name: (home.tables(name) / "dataset.json").stat().st_mtime, default=None)


def dataset(name: str) -> Dataset:
    """The dataset as it is on disk now.

    Raises:
        UserError: it is not there or damaged.
    """
    return open_dataset(name)


def _age(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def scores(name: str, table: str) -> pd.DataFrame | None:
    """A table that score.py wrote for a dataset; None when it was not written yet.

    Raises:
        UserError: the file is damaged or lacks a column.
    """
    path = home.scores(name) / f"{table}.parquet"
    age = _age(path)
    return None if age is None else _read_scores(str(path), table, age)


@st.cache_resource(max_entries=16, show_spinner=False)
def _read_scores(path: str, table: str, age: tuple[int, int]) -> pd.DataFrame:
    optional = OPTIONAL.get(table, ())
    columns = [name for name in SCORES[table].names if name not in optional]
    return read_parquet(Path(path), columns, optional, mend="score again, on the Data page or with score.py")


def sound_scores(name: str, table: str) -> pd.DataFrame | None:
    """See `scores`; None for a damaged table too, which `damaged` tells."""
    try:
        return scores(name, table)
    except UserError:
        return None


def damaged(name: str, tables: Sequence[str]) -> list[str]:
    """What is wrong with score tables that cannot be read, and the way to mend it."""
    found = []
    for table in tables:
        try:
            scores(name, table)
        except UserError as mistake:
            found.append(str(mistake))
    return found


def scores_are_probabilities(name: str) -> bool:
    """Whether the recommendations of a dataset carry probabilities (see recsys/rows.py)."""
    path = home.scores(name) / "recommendations.parquet"
    age = _age(path)
    return age is not None and _are_probabilities(str(path), age)


@st.cache_data(max_entries=16, show_spinner=False)
def _are_probabilities(path: str, age: tuple[int, int]) -> bool:
    return rows.are_probabilities(_read_scores(path, "recommendations", age))


def signed_by(name: str) -> str:
    """The name that a dataset's reply drafts are signed with."""
    try:
        known = pq.read_schema(home.scores(name) / "review_scores.parquet").metadata or {}
    except (OSError, pa.ArrowInvalid):
        return DEFAULT_SERVICE
    return known.get(SIGNED.encode(), DEFAULT_SERVICE.encode()).decode()


def scored_at(name: str, table: str) -> float | None:
    """When the score table was written, in seconds since 1970."""
    age = _age(home.scores(name) / f"{table}.parquet")
    return None if age is None else age[0] / 1e9


@st.cache_resource(max_entries=8, show_spinner=False)
def _table(folder: str, fingerprint: str, table: str) -> pd.DataFrame:
    return open_dataset(Path(folder).name).read(table)


def table(data: Dataset, name: str) -> pd.DataFrame | None:
    """A table of the dataset, or None when it has none."""
    return _table(str(data.folder), data.fingerprint, name) if data.has(name) else None


@st.cache_resource(max_entries=8, show_spinner=False)
def _review_dates(folder: str, fingerprint: str) -> pd.DataFrame:
    return open_dataset(Path(folder).name).read("reviews", [REVIEW_ID, CREATED_AT])


def review_dates(data: Dataset) -> pd.DataFrame | None:
    """review_id and created_at of each review, without the texts; None when the dataset has none."""
    return _review_dates(str(data.folder), data.fingerprint) if data.has("reviews") else None


@st.cache_resource(max_entries=8, show_spinner=False)
def _shown_titles(folder: str, fingerprint: str) -> pd.Series:
    titles = pd.Series(open_dataset(Path(folder).name).titles, dtype=object)
    return titles.astype(str).map(display_title).astype(object)


def shown_titles(data: Dataset) -> pd.Series:
    """The name of each title as it is shown, by item_id; quicker than the catalogue, which knows more."""
    return _shown_titles(str(data.folder), data.fingerprint)


@st.cache_resource(max_entries=8, show_spinner=False)
def _catalogue(folder: str, fingerprint: str) -> pd.DataFrame:
    return read_catalogue(open_dataset(Path(folder).name))


def catalogue(data: Dataset) -> pd.DataFrame:
    """Every title: index item_id; title, year, genres (lists) and shown_title."""
    return _catalogue(str(data.folder), data.fingerprint)


@st.cache_resource(max_entries=4, show_spinner=False)
def _viewing(folder: str, fingerprint: str) -> Viewing:
    return read_viewing(open_dataset(Path(folder).name))


def viewing(data: Dataset) -> Viewing | None:
    """Who saw what; None when the dataset has no interactions."""
    return _viewing(str(data.folder), data.fingerprint) if data.has("interactions") else None


@st.cache_resource(max_entries=4, show_spinner=False)
def _panel(folder: str, fingerprint: str) -> "Panel":
    from forecasting.series import load_panel

    return load_panel(open_dataset(Path(folder).name))


def panel(data: Dataset) -> "Panel":
    """All series of the dataset as the forecaster counts them.

    Raises:
        UserError: the dataset has no calendar or nothing to count.
    """
    return _panel(str(data.folder), data.fingerprint)


@st.cache_resource(max_entries=4, show_spinner=False)
def _stickiness(folder: str, fingerprint: str) -> pd.DataFrame:
    from forecasting.cohorts import stickiness

    return stickiness(open_dataset(Path(folder).name))


def stickiness(data: Dataset) -> pd.DataFrame:
    """Daily, weekly and monthly active members on each day (see forecasting/cohorts.py).

    Raises:
        UserError: the rows have no real times, or no member has an event.
    """
    return _stickiness(str(data.folder), data.fingerprint)


def unusual(data: Dataset) -> pd.DataFrame | None:
    """Unusual steps of each series (see forecasting/anomalies.py), as `score.py engagement` found them; None before.

    Raises:
        UserError: the table is damaged.
    """
    return scores(data.name, "unusual")


@st.cache_resource(max_entries=16, show_spinner=False)
def _described(folder: str, fingerprint: str) -> dict[str, Any]:
    return describe(open_dataset(Path(folder).name))


def described(data: Dataset) -> dict[str, Any]:
    """Counts and span of a dataset, see data.dataset.describe."""
    return _described(str(data.folder), data.fingerprint)


@st.cache_resource(max_entries=8, show_spinner=False)
def _member_labels(folder: str, fingerprint: str) -> dict[str, str]:
    data = open_dataset(Path(folder).name)
    if not data.has("users"):
        return {}
    users = read_parquet(data.path("users"))  # unchecked: the rules take a third of a second to load
    ids = users[USER_ID].astype(str)
    labels = ids.where(~ids.str.contains(r"\d"), "Member " + ids)
    if "name" in users:
        labels = users["name"].astype("string").fillna(labels)
    for column in ("age", "occupation"):
        if column in users:
            text = users[column].map(_plain)
            labels = labels.where(text == "", labels + " · " + text)
    return dict(zip(users[USER_ID].astype(str), labels.astype(str), strict=True))


def _plain(value: Any) -> str:
    if value is None or value != value or value is pd.NA:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def member_labels(data: Dataset) -> Callable[[str], str]:
    """How a member is called: "Member 196 · 49 · writer", or by name where the users table has one or the id is one."""
    labels = _member_labels(str(data.folder), data.fingerprint)

    def label(user_id: str) -> str:
        is_name = not any(c.isdigit() for c in user_id)
        return labels.get(user_id) or (user_id if is_name else f"Member {user_id}")

    return label


def member_label(data: Dataset, user_id: str) -> str:
    """See `member_labels`."""
    return member_labels(data)(user_id)


@st.cache_resource(max_entries=4, show_spinner=False)
def _title_forecasts(folder: str, fingerprint: str, age: float | None) -> pd.DataFrame | None:
    data = open_dataset(Path(folder).name)
    forecast, seen = sound_scores(data.name, "engagement_forecast"), viewing(data)
    return None if forecast is None or seen is None else signals.title_forecasts(forecast, seen)


def title_forecasts(data: Dataset) -> pd.DataFrame | None:
    """What is expected of each title (see recsys/signals.py); None without forecasts."""
    return _title_forecasts(str(data.folder), data.fingerprint, scored_at(data.name, "engagement_forecast"))


@st.cache_resource(max_entries=4, show_spinner=False)
def _title_sentiment(folder: str, fingerprint: str, age: float | None) -> pd.DataFrame | None:
    data = open_dataset(Path(folder).name)
    known, written = sound_scores(data.name, "review_scores"), table(data, "reviews")
    if known is None or written is None or data.as_of is None:
        return None
    return signals.title_sentiment(known, written, data.as_of)


def title_sentiment(data: Dataset) -> pd.DataFrame | None:
    """How the reviews of each title have turned (see recsys/signals.py); None without scored reviews."""
    return _title_sentiment(str(data.folder), data.fingerprint, scored_at(data.name, "review_scores"))


# What members do ----------------------------------------------------------------------------------------------------


def happened(data: Dataset, user_id: str) -> pd.DataFrame:
    """What a member did in the dashboard that is not in the tables yet, oldest first; see data.events.events."""
    return events.events(data.name, user_id, events.DONE_KINDS, after=data.exported.get("events", 0))


def newcomers(data: Dataset) -> list[str]:
    """Members who did something but are not in the tables yet, in order of their name.

    Raises:
        UserError: the database cannot be reached.
    """
    seen = viewing(data)
    there = events.members(data.name, after=data.exported.get("events", 0))
    return there if seen is None else [user_id for user_id in there if user_id not in seen.user_ids]


@st.cache_data(max_entries=512, show_spinner=False)
def _told(folder: str, fingerprint: str, user_id: str, item_id: str) -> pd.DataFrame:
    import duckdb

    data = open_dataset(Path(folder).name)
    if not data.has("interactions"):
        return pd.DataFrame({KIND: [], RATING: []})
    sql = "SELECT kind, rating FROM read_parquet(?) WHERE user_id = ? AND item_id = ? ORDER BY timestamp"
    with readable(data.path("interactions")), duckdb.connect() as connection:
        return connection.execute(sql, [str(data.path("interactions")), user_id, item_id]).df()


def told_before(data: Dataset, user_id: str, item_id: str) -> pd.DataFrame:
    """Kind and rating of what the tables hold of a member and a title, oldest first."""
    return _told(str(data.folder), data.fingerprint, user_id, item_id)


@st.cache_resource(max_entries=4, show_spinner=False)
def _lists(folder: str, fingerprint: str) -> dict[str, list[str]]:
    import duckdb

    sql = (
        "SELECT user_id, list(item_id ORDER BY moment DESC) FROM (SELECT user_id, item_id, max(timestamp) AS moment, "
        "arg_max(kind, timestamp) AS kind FROM read_parquet(?) WHERE kind IN ('list_add', 'list_remove') "
        "AND item_id IS NOT NULL GROUP BY ALL) WHERE kind = 'list_add' GROUP BY user_id"
    )
    path = open_dataset(Path(folder).name).path("interactions")
    with readable(path), duckdb.connect() as connection:
        return dict(connection.execute(sql, [str(path)]).fetchall())


def listed(data: Dataset, user_id: str, since: pd.DataFrame) -> list[str]:
    """Titles on a member's list, the latest first.

    Args:
        since: see `happened`.
    """
    titles = dict.fromkeys(reversed(_lists(str(data.folder), data.fingerprint).get(user_id, [])))
    for item_id, kind in zip(since["item_id"], since["kind"], strict=True):
        if kind in ("list_add", "list_remove"):
            titles.pop(item_id, None)
        if kind == "list_add":
            titles[item_id] = None
    return list(reversed(titles))


# Live models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Live:
    """A model on its way into memory, or there: `dataset` is the one whose run it is."""

    dataset: str
    run_id: str
    future: Future[Any]

    @property
    def ready(self) -> bool:
        return self.future.done() and self.future.exception() is None

    def wait(self, seconds: float) -> None:
        """Until it is ready, has failed, or the time is over."""
        first_page.set()
        with contextlib.suppress(Exception):  # whose traceback the loader has logged
            self.future.result(timeout=seconds)


_loaders = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")
first_page = threading.Event()  # set once the server has drawn a page, or somebody waits for a model
FIRST_PAGE_SECONDS = 4.0


def _load(model: str, run: Path) -> Any:
    """The very run that was asked for: while it waits for its turn another one may have come into use."""
    # To import torch takes Python's lock for seconds, and would double the time to a server's first page.
    first_page.wait(FIRST_PAGE_SECONDS)
    try:
        loaded = importlib.import_module(f"{runs.PACKAGE[model]}.scorer").open_run(run)
        if model == "recommender":
            loaded.feedback  # noqa: B018  (read now, once for all members, so that no page waits for it)
        return loaded
    except Exception:
        _log.exception("The run %s could not be loaded", run)
        raise


@st.cache_resource(max_entries=4, show_spinner=False)
def _start_loading(model: str, folder: str, fingerprint: str) -> Live:
    run = Path(folder)
    return Live(run.parents[1].name, run.name, _loaders.submit(_load, model, run))


def run_source(name: str, model: str) -> str | None:
    """The dataset whose current run serves `name` (itself, or for sentiment any other); None when none is trained."""
    run = serving_run(name, model)
    return None if run is None else run.parents[1].name


def live(name: str, model: str) -> Live | None:
    """The live model for a dataset, loaded in a thread of its own from the first call on; None when none is trained.

    Importing torch takes seconds and no page waits for it: ask `ready`, or wait with `future.result()`.
    """
    run = serving_run(name, model)
    if run is None:
        return None
    # The recommender reads the tables too: others need another one.
    fingerprint = dataset(run.parents[1].name).fingerprint if model == "recommender" else ""
    return _start_loading(model, str(run), fingerprint)


def forget_failed(model: Live) -> None:
    """Let the next call load the model afresh when this attempt failed."""
    if model.future.done() and model.future.exception() is not None:
        _start_loading.clear()


def similar(data: Dataset, item_id: str, k: int = 60) -> pd.DataFrame | None:
    """`item_id`, `score` of the titles that the recommender finds most alike; None while it is not loaded."""
    model = live(data.name, "recommender")
    if model is None or not model.ready:
        return None
    try:
        return model.future.result().similar(item_id, k)
    except UserError:  # a title that came after the training
        return None


def match_of(data: Dataset, user_id: str, since: pd.DataFrame) -> pd.DataFrame | None:
    """Every title that is new to a member as rows of the recommendations table, by what the live model knows now, what
    the member just did included; None while it is not loaded, or when it does not know the member.

    Args:
        since: see `happened`.
    """
    model = live(data.name, "recommender")
    if model is None or not model.ready:
        return None
    did = tuple(since["event_id"])
    found = _ranked(model.dataset, model.run_id, data.fingerprint, user_id, did, since, model)
    return found if len(found) else None


@st.cache_resource(max_entries=256, show_spinner=False)
def _ranked(
    source: str, run_id: str, fingerprint: str, user_id: str, did: tuple[str, ...], _since: pd.DataFrame, _model: Live
) -> pd.DataFrame:
    own = copy.copy(_model.future.result())  # what it learns of this member stays out of the one that all share
    if len(_since):
        own.update(user_id, _since.rename(columns={"service_time": TIMESTAMP})[[ITEM_ID, KIND, RATING, TIMESTAMP]])
    return pages.ranked(own, user_id).assign(run_id=run_id)


def search(data: Dataset, words: str) -> list[str]:
    """Ids of the titles that somebody may mean, best first; see recsys/search.py."""
    titles = catalogue(data)
    at = title_search.found(words, *_searched(str(data.folder), data.fingerprint))
    return [str(item_id) for item_id in titles.index[at]]


@st.cache_resource(max_entries=4, show_spinner=False)
def _searched(folder: str, fingerprint: str) -> tuple[list[str], np.ndarray]:
    data = open_dataset(Path(folder).name)
    titles, seen = catalogue(data), viewing(data)
    counts = pd.Series(0, index=titles.index) if seen is None else seen.titles["members"]
    return title_search.folded_titles(titles), counts.reindex(titles.index, fill_value=0).to_numpy()


def trained(name: str) -> dict[str, bool]:
    """Which models have a current run for a dataset."""
    return {model: run_source(name, model) is not None for model in runs.MODELS}
