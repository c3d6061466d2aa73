"""Which of what members did in the dashboard a dataset's tables hold already, told from the rows themselves.

`export-events` keeps in dataset.json up to which number it has added events (`exported`). Tables that are imported anew
may hold such rows or not: they may be the original source, an older copy of our own tables, or today's. The rule: up to
the last event that the new tables hold, everything counts as added, so no event is ever in them twice; what comes after
it is added by the next export. An event before it that is missing was taken out by somebody, so it stays out, and the
import says so.
"""

import os
from pathlib import Path

import duckdb
import pandas as pd

from data import events, home, schema
from data.schema import ITEM_ID, KIND, REVIEW_ID, TIMESTAMP, USER_ID
from data.sql import rows_of
from data.words import count

_SAME_EVENT = (USER_ID, ITEM_ID, KIND, TIMESTAMP)


def marks(name: str, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Up to which numbers the tables in `folder` hold the events and reviews of dataset `name`, for `exported`; and
    sentences on those that are missing before.

    Raises:
        UserError: the database cannot be reached.
    """
    if not os.environ.get("MARQUEE_DATABASE_URL") and not (home.home() / "marquee.db").exists():
        return {}, []
    exported, said = {}, []
    for what, noun, table, known, keys in (
        ("events", "event", "interactions", _events, _SAME_EVENT),
        ("reviews", "review", "reviews", _reviews, (REVIEW_ID,)),
    ):
        path = folder / f"{table}.parquet"
        happened = known(name) if path.exists() else pd.DataFrame()
        if happened.empty or not set(keys) <= set(schema.TABLES[table].names):
            continue
        present = _found(happened, path, keys)
        if present.empty:
            continue
        exported[what] = int(present.max())
        missing = int((happened["number"] <= exported[what]).sum()) - len(present)
        if missing:
            said.append(
                f"{count(missing, noun)} that members made in the dashboard {'is' if missing == 1 else 'are'} not in "
                f"{table}, although later ones are: taken as removed on purpose, and not added again"
            )
    return exported, said


def _events(name: str) -> pd.DataFrame:
    return events.events(name).rename(columns={"service_time": TIMESTAMP})[["number", *_SAME_EVENT]]


def _reviews(name: str) -> pd.DataFrame:
    return events.reviews(name)[["number", REVIEW_ID]]


def _found(happened: pd.DataFrame, path: Path, keys: tuple[str, ...]) -> pd.Series:
    """Numbers of those that are rows of the Parquet file."""
    same = " and ".join(f"told.{key} is not distinct from kept.{key}" for key in keys)
    query = (
        f"select distinct told.number from happened told semi join "
        f"(select {', '.join(keys)} from {rows_of(path)}) kept on {same}"
    )
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("happened", happened)
        return connection.execute(query).df()["number"]
