"""A small picture of what a model learned from and of what it said: binned distributions, kept in the run's folder.

    inputs.json             of the tables, written by the fit
    scores-<dataset>.json   of the scores, written by the run's first scoring of a dataset

A distribution is the edges of its bins and the counts in them, or the counts of each category. Of ids a sample of
hashes is kept, so that the share of new members and titles can be told without a list of them: the SAMPLE smallest
hashes of the ids are a random sample, and of a later table all ids whose hash is below the largest of these are one too
(Broder, "On the resemblance and containment of documents", 1997).
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from data import home, runs
from data.atomic import write_json
from data.dataset import Dataset, readable
from data.errors import UserError
from data.schema import UNREADABLE
from data.sql import rows_of

INPUTS = "inputs.json"
BINS, SAMPLE = 10, 2_000
FEW_NEW_ROWS = 100
_DAY_US = 86_400_000_000
_LARGEST = 2**64 - 1

# Name: table, and SQL that gives value and n. Of those of single rows the new ones can be looked at alone.
_ROWS = {
    "kind": ("interactions", "SELECT kind AS value, count(*) AS n FROM rows GROUP BY 1"),
    "rating": ("interactions", "SELECT rating AS value, count(*) AS n FROM rows WHERE rating IS NOT NULL GROUP BY 1"),
    "label": ("reviews", "SELECT coalesce(label, '(none)') AS value, count(*) AS n FROM rows GROUP BY 1"),
    "stars": ("reviews", "SELECT stars AS value, count(*) AS n FROM rows WHERE stars IS NOT NULL GROUP BY 1"),
    "characters of a review": ("reviews", "SELECT length(text) AS value, count(*) AS n FROM rows GROUP BY 1"),
    "value of a series": ("metrics", "SELECT value, count(*) AS n FROM rows GROUP BY 1"),
}
_WHOLE = {
    "events of a member": (
        "interactions",
        "SELECT value, count(*) AS n FROM (SELECT count(*) AS value FROM rows GROUP BY hash(user_id)) GROUP BY 1",
    ),
    "events of a title": (
        "interactions",
        "SELECT value, count(*) AS n FROM (SELECT count(*) AS value FROM rows WHERE item_id IS NOT NULL "
        "GROUP BY hash(item_id)) GROUP BY 1",
    ),
    "days between visits": (
        "interactions",
        "SELECT value, count(*) AS n FROM (SELECT day - lag(day) OVER (PARTITION BY member ORDER BY day) AS value "
        f"FROM (SELECT DISTINCT hash(user_id) AS member, epoch_us(timestamp) // {_DAY_US} AS day FROM rows "
        "WHERE kind <> 'impression')) WHERE value IS NOT NULL GROUP BY 1",
    ),
    "events of a day": (
        "interactions",
        f"SELECT value, count(*) AS n FROM (SELECT count(*) AS value FROM rows WHERE kind <> 'impression' "
        f"GROUP BY epoch_us(timestamp) // {_DAY_US}) GROUP BY 1",
    ),
}
_TIME = {"interactions": "timestamp", "reviews": "created_at", "metrics": "date"}
_DATED = ("days between visits", "events of a day")  # these mean nothing where times are an order
FEATURES = {
    "recommender": ("kind", "rating", "events of a member", "events of a title"),
    "sentiment": ("label", "stars", "characters of a review"),
    "engagement": ("kind", "events of a day", "events of a title", "value of a series"),
    "retention": ("kind", "events of a member", "days between visits"),
}
_IDS = {"members": ("interactions", "user_id"), "titles": ("interactions", "item_id")}
IDS = {"recommender": ("members", "titles"), "engagement": ("titles",), "retention": ("members",), "sentiment": ()}
TABLES = {
    "recommender": ("interactions", "items"),
    "sentiment": ("reviews",),
    "engagement": ("interactions", "items", "metrics"),
    "retention": ("interactions",),
}
# Table of scores, and by name what is looked at in it.
SCORES = {
    "recommender": (
        "recommendations",
        {
            "score": "SELECT round(score, 3) AS v FROM rows",
            "offers of a title": "SELECT count(*) AS v FROM rows GROUP BY item_id",
        },
    ),
    "sentiment": (
        "review_scores",
        {
            "chance that a review is positive": "SELECT round(p_positive, 3) AS v FROM rows",
            "mood of a review": "SELECT label AS v FROM rows",
        },
    ),
    "engagement": (
        "engagement_forecast",
        {
            "forecast as a share of its series' mean": (
                "SELECT round(q50 / nullif(avg(q50) OVER (PARTITION BY series_id), 0), 3) AS v FROM rows"
            )
        },
    ),
    "retention": ("retention", {"chance to come back": "SELECT round(p_return, 3) AS v FROM rows"}),
}


@dataclass(frozen=True)
class Distribution:
    """Counts of values in bins, or of categories.

    Attributes:
        counts: how many values each bin or category has.
        edges: of the bins, one fewer than counts: below the first, between two, from the last on; empty for categories.
        categories: names, as many as counts; empty for bins.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Profile:
    """What is kept of a model's inputs."""

    distributions: dict[str, Distribution] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)  # table to those that hold anything
    ids: dict[str, dict[str, Any]] = field(default_factory=dict)  # kind to "below" and "hashes"
    as_of: str = ""

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))


def read_profile(path: Path) -> Profile | None:
    """None where there is none, as in runs of earlier versions, or it is damaged."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        found = {
            name: Distribution(tuple(d["counts"]), tuple(d["edges"]), tuple(d["categories"]))
            for name, d in kept["distributions"].items()
        }
        return Profile(found, kept["columns"], kept["ids"], kept["as_of"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def counted(values: pd.DataFrame, like: Distribution | None = None) -> Distribution:
    """The distribution of values with their numbers.

    Args:
        values: `value` and `n`.
        like: whose bins or categories to use; a category that it lacks is put at the end. Default: own deciles.
    """
    value, n = values["value"], values["n"].to_numpy(np.int64)
    if not pd.api.types.is_numeric_dtype(value) or (like is not None and like.categories):
        by = pd.Series(n, index=value.astype(str)).groupby(level=0).sum()
        names = list(like.categories) if like is not None else []
        names += [str(name) for name in by.index if str(name) not in names]
        return Distribution(tuple(int(by.get(name, 0)) for name in names), categories=tuple(names))
    numbers = value.to_numpy(float)
    edges = np.asarray(like.edges if like is not None else _deciles(numbers, n))
    at = np.searchsorted(edges, numbers, side="right")
    counts = np.bincount(at, weights=n, minlength=len(edges) + 1).astype(np.int64)
    return Distribution(tuple(counts.tolist()), tuple(float(edge) for edge in edges))


def _deciles(numbers: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Edges between bins of about equal counts, fewer where many values are the same; of few values each is a bin."""
    if len(numbers) <= BINS:
        return np.sort(numbers)[1:]
    order = np.argsort(numbers)
    share = np.cumsum(n[order]) / max(1, n.sum())
    at = np.searchsorted(share, np.arange(1, BINS) / BINS, side="left")
    return np.unique(numbers[order][np.minimum(at + 1, len(order) - 1)])


def profile(dataset: Dataset, model: str, like: Profile | None = None) -> Profile:
    """Of what `model` reads of a dataset.

    Args:
        dataset: on disk.
        model: one of data.runs.MODELS.
        like: take its bins and, for values of single rows, the rows since its clock alone if there are FEW_NEW_ROWS.

    Raises:
        UserError: a table is damaged.
    """
    found: dict[str, Distribution] = {}
    ids: dict[str, dict[str, Any]] = {}
    for name in FEATURES[model]:
        table, sql = (_ROWS | _WHOLE)[name]
        if not dataset.has(table) or (name in _DATED and dataset.time_kind == "order"):
            continue
        reference = like.distributions.get(name) if like is not None else None
        if like is not None and reference is None:
            continue
        with readable(dataset.path(table)), duckdb.connect() as connection:
            _view(connection, dataset, table, like.as_of if like is not None and name in _ROWS else "")
            values = connection.execute(sql).df()
        if len(values):
            found[name] = counted(values, reference)
    for name in IDS[model]:
        table, column = _IDS[name]
        if dataset.has(table):
            ids[name] = _sample(dataset, table, column, like.ids.get(name) if like is not None else None)
    return Profile(found, _columns(dataset, model), ids, "" if dataset.as_of is None else dataset.as_of.isoformat())


def _columns(dataset: Dataset, model: str) -> dict[str, list[str]]:
    """Table to its columns that hold anything, of those that `model` reads."""
    return {table: _filled(dataset.path(table)) for table in TABLES[model] if dataset.has(table)}


def _view(connection: duckdb.DuckDBPyConnection, dataset: Dataset, table: str, since: str) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE TEMP VIEW everything AS SELECT * FROM {rows_of(dataset.path(table))}")
    only = ""
    if since:
        only = f"WHERE epoch_us({_TIME[table]}) > {pd.Timestamp(since).value // 1000}"
        new = connection.execute(f"SELECT count(*) FROM everything {only}").fetchall()[0][0]
        only = only if new >= FEW_NEW_ROWS else ""
    connection.execute(f"CREATE TEMP VIEW rows AS SELECT * FROM everything {only}")


def _sample(dataset: Dataset, table: str, column: str, like: Mapping[str, Any] | None) -> dict[str, Any]:
    """The smallest hashes of the ids; with `like` all below its bound, so that they are a sample of the same kind."""
    with readable(dataset.path(table)), duckdb.connect() as connection:
        _view(connection, dataset, table, "")
        ordered = (
            f"SELECT h FROM (SELECT DISTINCT md5_number_lower({column}) AS h FROM (SELECT DISTINCT {column} FROM rows "
            f"WHERE {column} IS NOT NULL))"
        )
        if like is not None:
            hashes = connection.execute(f"{ordered} WHERE h <= {int(like['below'])}").fetchall()
            return {"below": like["below"], "hashes": [int(h) for (h,) in hashes]}
        hashes = connection.execute(f"{ordered} ORDER BY h LIMIT {SAMPLE + 1}").fetchall()
    kept = [int(h) for (h,) in hashes[:SAMPLE]]
    return {"below": kept[-1] if len(hashes) > SAMPLE else _LARGEST, "hashes": kept}


def _filled(path: Path) -> list[str]:
    """Columns of a Parquet file that hold any value, by its statistics; nested ones count as filled."""
    with readable(path):
        metadata = pq.read_metadata(path)
    filled: dict[str, bool] = {}
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(group.num_columns)):
            known = column.statistics
            any_value = known is None or not known.has_null_count or known.null_count < group.num_rows
            name = column.path_in_schema.split(".")[0]
            filled[name] = filled.get(name, False) or any_value
    return [name for name, has in filled.items() if has]


# -- scores ------------------------------------------------------------------------------------------------------------


def scores_file(dataset: str) -> str:
    return f"scores-{home.check_name(dataset)}.json"


def score_profile(path: Path, model: str, like: Profile | None = None) -> Profile:
    """Of a table of scores.

    Args:
        path: a Parquet file.
        model: whose scores they are.
        like: take its bins.

    Raises:
        UserError: the table is damaged.
    """
    found = {}
    with readable(path), duckdb.connect() as connection:
        connection.execute(f"CREATE TEMP VIEW rows AS SELECT * FROM {rows_of(path)}")
        for name, sql in SCORES[model][1].items():
            values = connection.execute(
                f"SELECT v AS value, count(*) AS n FROM ({sql}) WHERE v IS NOT NULL GROUP BY 1"
            ).df()
            reference = like.distributions.get(name) if like is not None else None
            if len(values) and (like is None or reference is not None):
                found[name] = counted(values, reference)
    return Profile(found)


def keep_scores(dataset: str, model: str, path: Path) -> None:
    """Keep the distribution of a run's first scores of a dataset beside the run; later ones are compared with it.

    Args:
        dataset: its name.
        model: whose scores they are.
        path: the table of scores, which names its run.
    """
    # Scores that are written must not fail for a picture of them: the run may be gone, or its folder not be ours.
    with suppress(UserError, OSError):
        kept = runs.find_run(run_of_scores(path), (model,)) / scores_file(dataset)
        if not kept.exists():
            score_profile(path, model).write(kept)


def run_of_scores(path: Path) -> str:
    """The run that a table of scores is from, by its first row; empty where it has none or is damaged."""
    try:
        for batch in pq.ParquetFile(path).iter_batches(1, columns=["run_id"]):
            return str(batch.column(0)[0].as_py())
    except (*UNREADABLE, KeyError):
        pass
    return ""
