"""What decides whether a dataset is enough to learn from, counted by DuckDB from the Parquet files.

Memory grows with the distinct pairs of member and title, by some bytes for each: ids are kept as hashes.
"""

from dataclasses import dataclass

import duckdb

from data import schema
from data.dataset import Dataset, readable
from data.splits import POSITIVE_KINDS
from data.sql import rows_of

VIEWING_KINDS = ("rating", "watch", "thumb_up", "thumb_down")
_DAY_US = 86_400_000_000
# Reviews of which copies are looked for as the split does; with more, copies decide nothing.
_FEW_REVIEWS = 2_000


@dataclass(frozen=True)
class Wanted:
    """Positive events: those that say which title a member wanted (data.splits.POSITIVE_KINDS)."""

    events: int
    members: int
    members_with_two: int
    members_with_three: int
    titles: int
    titles_with_five: int


@dataclass(frozen=True)
class Calendar:
    """Events in time, impressions aside. Days are counted backward from the dataset's clock in blocks of 24 hours."""

    span_days: int
    viewing_days: float  # from the first viewing event to the clock, with their fraction
    first_us: int  # the first viewing event, microseconds since 1970
    clock_us: int
    active_days: int  # calendar days (UTC) with a viewing event
    viewing_events: int
    members: int
    members_back: int  # with events on two days or more
    returned: int  # of those seen before the last `horizon_days`, who came back in them
    stayed_away: int


@dataclass(frozen=True)
class Labelled:
    reviews: int
    positive: int
    negative: int


def _connected(dataset: Dataset) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table in ("interactions", "reviews", "metrics"):
        if dataset.has(table):
            with readable(dataset.path(table)):
                connection.execute(f"CREATE TEMP VIEW {table} AS SELECT * FROM {rows_of(dataset.path(table))}")
    return connection


def wanted(dataset: Dataset) -> Wanted:
    """Of the interactions, each member's first event on each title.

    Raises:
        UserError: the table is damaged.
    """
    if not dataset.has("interactions"):
        return Wanted(0, 0, 0, 0, 0, 0)
    with readable(dataset.path("interactions")), _connected(dataset) as connection:
        connection.execute(
            "CREATE TEMP TABLE pairs AS SELECT DISTINCT hash(user_id) AS user_id, hash(item_id) AS item_id "
            f"FROM interactions WHERE kind IN {POSITIVE_KINDS} AND item_id IS NOT NULL"
        )
        members = connection.execute(
            "SELECT coalesce(sum(n), 0)::BIGINT, count(*), count(*) FILTER (n >= 2), count(*) FILTER (n >= 3) "
            "FROM (SELECT count(*) AS n FROM pairs GROUP BY user_id)"
        ).fetchall()[0]
        titles = connection.execute(
            "SELECT count(*), count(*) FILTER (n >= 5) FROM (SELECT count(*) AS n FROM pairs GROUP BY item_id)"
        ).fetchall()[0]
    return Wanted(*members, *titles)


def calendar(dataset: Dataset, horizon_days: int) -> Calendar:
    """Of the interactions up to the clock, as forecasting reads them.

    Args:
        dataset: with real times.
        horizon_days: within how many days a member is to come back.

    Raises:
        UserError: the table is damaged.
    """
    if not dataset.has("interactions") or dataset.as_of is None:
        return Calendar(0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0)
    clock = dataset.as_of.value // 1000
    with readable(dataset.path("interactions")), _connected(dataset) as connection:
        connection.execute(
            f"CREATE TEMP VIEW acts AS SELECT user_id, epoch_us(timestamp) AS us, kind FROM interactions "
            f"WHERE kind <> 'impression' AND epoch_us(timestamp) <= {clock}"
        )
        span, members, back, returned, away = connection.execute(
            "SELECT coalesce(max(first_day) + 1, 0), count(*), count(*) FILTER (first_day > last_day), "
            f"count(*) FILTER (first_day >= {horizon_days} AND last_day < {horizon_days}), "
            f"count(*) FILTER (last_day >= {horizon_days}) FROM (SELECT max(({clock} - us) // {_DAY_US}) AS first_day, "
            f"min(({clock} - us) // {_DAY_US}) AS last_day FROM acts GROUP BY user_id)"
        ).fetchall()[0]
        kept = f"kind IN {VIEWING_KINDS}"
        sql = f"SELECT count(*), min(us), count(DISTINCT us // {_DAY_US}) FROM acts"
        number, first, days = connection.execute(f"{sql} WHERE {kept}").fetchall()[0]
        if number == 0:
            number, first, days = connection.execute(sql).fetchall()[0]
    if first is None:
        first = clock
    return Calendar(span, (clock - first) / _DAY_US, first, clock, days, number, members, back, returned, away)


def series_steps(dataset: Dataset) -> tuple[int, float]:
    """Of the ready-made series: the moments of the longest one up to the clock, and the usual days between two.

    Raises:
        UserError: the table is damaged.
    """
    if not dataset.has("metrics") or dataset.as_of is None:
        return 0, 1.0
    with readable(dataset.path("metrics")), _connected(dataset) as connection:
        longest, gap = connection.execute(
            "SELECT max(n), median(gap) FROM (SELECT count(*) AS n, median(gap) AS gap FROM ("
            "  SELECT series_id, us - lag(us) OVER (PARTITION BY series_id ORDER BY us) AS gap FROM ("
            "    SELECT DISTINCT series_id, epoch_us(date) AS us FROM metrics "
            f"    WHERE epoch_us(date) <= {dataset.as_of.value // 1000})) GROUP BY series_id)"
        ).fetchall()[0]
    return int(longest or 0), float(gap or _DAY_US) / _DAY_US


def labelled(dataset: Dataset) -> Labelled:
    """Reviews that sentiment may learn from: positive or negative by label or else by stars, none of IMDb's test
    reviews, and of a small table no copies (see nlp/splits.py).

    Raises:
        UserError: the table is damaged.
    """
    if not dataset.has("reviews"):
        return Labelled(0, 0, 0)
    with readable(dataset.path("reviews")), _connected(dataset) as connection:
        connection.execute(
            "CREATE TEMP VIEW marked AS SELECT text, coalesce(label, CASE WHEN stars / top >= 0.7 THEN 'positive' "
            "WHEN stars / top <= 0.4 THEN 'negative' END) AS mood FROM reviews, (SELECT CASE WHEN max(stars) <= 5 "
            "THEN 5 WHEN max(stars) <= 10 THEN 10 ELSE 100 END AS top FROM reviews) "
            f"WHERE coalesce({schema.SOURCE}, '') <> 'imdb-test'"
        )
        sql = "SELECT count(*) FILTER (mood = 'positive'), count(*) FILTER (mood = 'negative') FROM "
        positive, negative = connection.execute(f"{sql} marked").fetchall()[0]
        if min(positive, negative) <= _FEW_REVIEWS:
            said = "regexp_replace(replace(lower(text), '<br />', ''), '[[:punct:][:space:]]', '', 'g')"
            positive, negative = connection.execute(
                f"{sql} (SELECT any_value(mood) AS mood FROM (SELECT mood, {said} AS said FROM marked "
                "WHERE mood IN ('positive', 'negative')) WHERE said <> '' GROUP BY said)"
            ).fetchall()[0]
    return Labelled(dataset.rows.get("reviews", 0), positive, negative)
