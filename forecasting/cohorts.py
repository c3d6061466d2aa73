"""Who stays, straight from the tables: cohorts, N-day and rolling retention, lifecycle and stickiness, by DuckDB.

A member is active on a UTC day with any event of theirs but an impression, up to the dataset's clock. All four read
distinct (member, day) pairs, once each, and none loops over members: memory and time grow with those pairs.
"""

from typing import Literal

import duckdb
import pandas as pd

from data.dataset import Dataset
from data.errors import UserError
from forecasting.events import members_events

N_DAYS = (1, 3, 7, 14, 30, 60, 90)
MONTH_DAYS, WEEK_DAYS = 28, 7
Period = Literal["week", "month"]


def _connected(dataset: Dataset) -> duckdb.DuckDBPyConnection:
    """A connection with the table `days` (user_id, day, first, next): every active day of every member.

    Raises:
        UserError: the rows have no real times, or no member has an event.
    """
    connection = members_events(dataset, "cohorts")
    connection.execute(
        "CREATE TEMP TABLE days AS SELECT user_id, day, min(day) OVER w AS first, lead(day) OVER w AS next "
        "FROM (SELECT DISTINCT user_id, CAST(timestamp AS DATE) AS day FROM acts) "
        "WINDOW w AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    )
    return connection


def _today(dataset: Dataset) -> str:
    assert dataset.as_of is not None
    return f"DATE '{dataset.as_of:%Y-%m-%d}'"


def cohort_triangle(dataset: Dataset, period: Period = "month") -> pd.DataFrame:
    """Of the members who first came in a week or month, the share active in each one since.

    Returns:
        cohort (its first day), number (periods since, 0 the first), members (of the cohort), active, share (in [0, 1])
        and is_open (that period is not over at the clock); the cohort's later periods are all there, empty ones too.

    Raises:
        UserError: see `_connected`.
    """
    connection, today = _connected(dataset), _today(dataset)
    return connection.execute(
        f"WITH cells AS (SELECT date_trunc('{period}', first) AS cohort, date_trunc('{period}', day) AS moment, "
        "  count(DISTINCT user_id) AS active FROM days GROUP BY ALL), "
        "sizes AS (SELECT cohort, active AS members FROM cells WHERE moment = cohort), "
        f"grid AS (SELECT cohort, members, unnest(range(cohort, date_trunc('{period}', {today}) "
        f"  + INTERVAL 1 {period}, INTERVAL 1 {period})) AS moment FROM sizes) "
        f"SELECT CAST(grid.cohort AS TIMESTAMP) AS cohort, date_diff('{period}', grid.cohort, grid.moment) AS number, "
        "members, coalesce(active, 0) AS active, coalesce(active, 0) / members AS share, "
        f"grid.moment + INTERVAL 1 {period} > {today} + INTERVAL 1 day AS is_open "
        "FROM grid LEFT JOIN cells ON cells.cohort = grid.cohort AND cells.moment = grid.moment ORDER BY 1, 2"
    ).fetch_df()


def n_day_retention(dataset: Dataset, days: tuple[int, ...] = N_DAYS) -> pd.DataFrame:
    """The share of members active exactly N days after their first day, and N days after it or later ("rolling").

    Only members whose first day lies N days or more before the clock's day count for N; those N with none are left out.

    Returns:
        day (N), members, n_day and rolling (shares in [0, 1]).

    Raises:
        UserError: see `_connected`.
    """
    connection, today = _connected(dataset), _today(dataset)
    return connection.execute(
        "WITH asked AS (SELECT unnest(?::INTEGER[]) AS n), "
        "members AS (SELECT user_id, min(day) AS first, max(day) AS last FROM days GROUP BY user_id), "
        f"old AS (SELECT n, user_id, first, last FROM asked JOIN members ON first + n <= {today}) "
        "SELECT n AS day, count(*) AS members, count(days.day) / count(*) AS n_day, "
        "count(*) FILTER (last >= old.first + n) / count(*) AS rolling "
        "FROM old LEFT JOIN days ON days.user_id = old.user_id AND days.day = old.first + n GROUP BY n ORDER BY n",
        [list(days)],
    ).fetch_df()


def lifecycle(dataset: Dataset, window_days: int = MONTH_DAYS) -> pd.DataFrame:
    """How many members are new, returning, resurrected or dormant in each window of `window_days` up to the clock.

        new          first came in the window
        returning    active in it and in the one before
        resurrected  active in it, not in the one before, but earlier
        dormant      came earlier, not active in it

    Windows are laid out backward from the clock's day; a first one that is not whole is there too.

    Returns:
        date (the window's last day), new, returning, resurrected, dormant; one row a window, the oldest first.

    Raises:
        UserError: see `_connected`, or `window_days` is below 1.
    """
    if window_days < 1:
        raise UserError(f"A window of {window_days} days is none: give 1 or more.")
    connection, today = _connected(dataset), _today(dataset)
    return connection.execute(
        f"WITH seen AS (SELECT DISTINCT user_id, CAST(({today} - day) // {window_days} AS INTEGER) AS back FROM days), "
        "steps AS (SELECT back, lag(back) OVER (PARTITION BY user_id ORDER BY back DESC) AS earlier FROM seen), "
        "active AS (SELECT back, count(*) FILTER (earlier IS NULL) AS new, "
        "  count(*) FILTER (earlier = back + 1) AS returned, "
        "  count(*) FILTER (earlier > back + 1) AS resurrected FROM steps GROUP BY back), "
        "windows AS (SELECT unnest(range(0, (SELECT max(back) + 1 FROM seen))) AS back), "
        "filled AS (SELECT windows.back, coalesce(new, 0) AS new, coalesce(returned, 0) AS returned, "
        "  coalesce(resurrected, 0) AS resurrected FROM windows LEFT JOIN active ON active.back = windows.back) "
        f"SELECT CAST({today} - CAST(back * {window_days} AS INTEGER) AS TIMESTAMP) AS date, new, "
        'returned AS "returning", '
        "resurrected, CAST(sum(new) OVER (ORDER BY back DESC) AS BIGINT) - new - returned - resurrected AS dormant "
        "FROM filled ORDER BY back DESC"
    ).fetch_df()


def stickiness(dataset: Dataset) -> pd.DataFrame:
    """Daily, weekly and monthly active members, and the share of the monthly that come on a day.

    A member counts as weekly (monthly) active from an active day until the next one, at most 7 (28) days; so each pair
    of member and day adds one span, and the sums over spans give every day's count.

    Returns:
        date, daily, weekly, monthly (members active on the day, in the 7 and in the 28 days that end with it) and
        stickiness (mean of daily over the 28 days / monthly; NaN without any); one row a day up to the clock.

    Raises:
        UserError: see `_connected`.
    """
    connection, today = _connected(dataset), _today(dataset)

    def spans(length: int) -> str:
        return (
            "(SELECT day AS moment, count(*) AS change FROM days GROUP BY day "
            f"UNION ALL SELECT least(coalesce(next, day + {length}), day + {length}) AS moment, -count(*) "
            "FROM days GROUP BY 1)"
        )

    def counted(name: str, length: int) -> str:
        return (
            f"{name} AS (SELECT moment, CAST(sum(sum(change)) OVER (ORDER BY moment) AS BIGINT) AS members "
            f"FROM {spans(length)} GROUP BY moment)"
        )

    return connection.execute(
        f"WITH {counted('weeks', WEEK_DAYS)}, {counted('months', MONTH_DAYS)}, "
        "each AS (SELECT day, count(*) AS daily FROM days GROUP BY day), "
        f"calendar AS (SELECT CAST(unnest(range((SELECT min(day) FROM days), {today} + INTERVAL 1 day, "
        "  INTERVAL 1 day)) AS DATE) AS day) "
        "SELECT CAST(calendar.day AS TIMESTAMP) AS date, coalesce(daily, 0) AS daily, weeks.members AS weekly, "
        "months.members AS monthly, avg(coalesce(daily, 0)) OVER "
        f"(ORDER BY calendar.day ROWS BETWEEN {MONTH_DAYS - 1} PRECEDING AND CURRENT ROW) "
        "/ nullif(months.members, 0) AS stickiness "
        "FROM calendar LEFT JOIN each ON each.day = calendar.day "
        "ASOF LEFT JOIN weeks ON calendar.day >= weeks.moment "
        "ASOF LEFT JOIN months ON calendar.day >= months.moment ORDER BY 1"
    ).fetch_df()
