"""From events to series: what is counted, in which steps, and what a missing step means.

    total              viewing events in each step
    active_members     distinct members with a viewing event
    genre:<G>          viewing events of titles of the genre G; a title with n genres gives one n-th of an event to
                       each, so that the genres (and `genre:(none)` for titles without one) add up to `total`
    title:<item_id>    viewing events of one of the most watched titles
    segment:<name>     viewing events of a part of the members: those in their first 28 days and the others, and one
                       for each value of a column of the members' table that has two to six (`segment:gender=F`)
    any other id       a series of the `metrics` table, as it is (see forecasting/given.py)

Viewing events are ratings, watches and thumbs. A log without any of those counts everything but impressions.

Steps are hours, days or weeks, chosen from the data (forecasting/frequency.py) and in UTC. A step without an event
inside an event log is a zero; a step without a value in a ready-made series is a gap (NaN), because nobody knows what
it held. A title's series begins with its first event. The last day counts only if the dataset's clock stands at 20:00
or later (the last hour: at ten to), otherwise it is a gap: a day that is not over would look like a fall in demand.
Weeks end with the last day that counts. Forecasts begin with the step after the last.
"""

from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pandas as pd

from data.dataset import Dataset, readable
from data.errors import UserError
from data.schema import USER_ID
from data.sql import rows_of
from forecasting.frequency import DAY_US, FREQUENCIES, HOUR_US, Frequency, of_events

TOTAL, ACTIVE, GENRE, TITLE, SEGMENT = "total", "active_members", "genre:", "title:", "segment:"
NO_GENRE = "genre:(none)"
NEW_MEMBERS, OTHER_MEMBERS = "segment:new members", "segment:other members"
NEW_DAYS = 28
MAX_SEGMENTS = 6  # values of a column of the members' table
VIEWING_KINDS = ("rating", "watch", "thumb_up", "thumb_down")
LATE = 20 / 24  # share of a step that must be over for it to count
MAX_YEARS = 30


@dataclass(frozen=True, eq=False)
class Panel:
    """Series side by side; row s holds `series_ids[s]`.

    `values[s, t]` is the value of the t-th step, the first of which begins `first_unit` units of the frequency (hours,
    days or months) after 1970-01-01; NaN where unknown. Shape: (n_series, n_steps), float64.
    """

    series_ids: tuple[str, ...]
    first_unit: int
    frequency: Frequency
    values: np.ndarray

    @property
    def n_steps(self) -> int:
        return self.values.shape[1]

    @property
    def season(self) -> int:
        """Steps in the season of the simple methods; 1 where the history is too short for one."""
        return self.frequency.season(self.n_steps)

    def dates(self, start: int, stop: int) -> pd.DatetimeIndex:
        """Begins (UTC) of the steps from `start` up to `stop`, which may lie after the panel's end."""
        return self.frequency.dates(self.first_unit, start, stop)

    def until(self, stop: int) -> "Panel":
        """The panel as it was known before step `stop`: later steps are cut off."""
        return replace(self, values=self.values[:, :stop])

    def known(self) -> "Panel":
        """The panel with series that hold nothing but zeros as unknown: nobody knows yet that they will begin."""
        silent = ~(self.values > 0).any(axis=1, keepdims=True)
        return replace(self, values=np.where(silent, np.nan, self.values))


def load_panel(
    dataset: Dataset, n_titles: int = 20, chosen_before_steps: int = 0, frequency: str | None = None
) -> Panel:
    """All series of `dataset`, up to its clock.

    Args:
        dataset: with interactions, ready-made series, or both.
        n_titles: how many of the most watched titles get a series of their own.
        chosen_before_steps: these titles are chosen by what was watched until so many steps before the clock, so that
            a backtest does not choose by what it is about to predict.
        frequency: a name in FREQUENCIES; None chooses by the data.

    Raises:
        UserError: the rows have no real times, there is nothing to count, or a series has negative values.
    """
    from forecasting.given import given_panel

    dataset.require_calendar("forecasting")
    if frequency is not None and frequency not in FREQUENCIES:
        raise UserError(f"--data.frequency {frequency} is unknown: choose one of {', '.join(FREQUENCIES)}.")
    if dataset.as_of is None or not (dataset.has("interactions") or dataset.has("metrics")):
        raise UserError(
            f"Dataset '{dataset.name}' has neither interactions nor ready-made series, so there is nothing to "
            "forecast: import them with 'python -m data import --interactions FILE' or '--metrics FILE'."
        )
    if not dataset.has("interactions"):
        return given_panel(dataset, FREQUENCIES[frequency] if frequency else None)
    log = _Log(dataset, frequency)
    counted = log.panel(n_titles, chosen_before_steps)
    if not dataset.has("metrics"):
        return counted
    end = counted.first_unit + counted.n_steps * counted.frequency.size
    return _side_by_side(given_panel(dataset, counted.frequency, end - 1), counted)


def _quoted(column: str) -> str:
    """A column's name as SQL takes it, whatever is in it."""
    return '"' + column.replace('"', '""') + '"'


class _Log:
    """The viewing events of a dataset, counted by DuckDB from the Parquet file: memory grows with steps, not events."""

    def __init__(self, dataset: Dataset, frequency: str | None) -> None:
        assert dataset.as_of is not None
        self.dataset, self.as_of_us = dataset, dataset.as_of.value // 1000
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        path = str(dataset.path("interactions"))
        viewing = f"kind IN {VIEWING_KINDS}"
        any_viewing = self._rows(f"SELECT count(*) AS n FROM read_parquet(?) WHERE {viewing}", path)[0][0]
        kept = viewing if any_viewing else "kind <> 'impression'"
        self.connection.execute(
            "CREATE TEMP VIEW events AS SELECT user_id, item_id, epoch_us(timestamp) AS us FROM "
            f"{rows_of(dataset.path('interactions'))} "
            f"WHERE {kept} AND epoch_us(timestamp) <= {self.as_of_us}"
        )
        first, number, days = (
            c[0] for c in self._rows(f"SELECT min(us), count(*), count(DISTINCT us // {DAY_US}) FROM events")
        )
        if number == 0:
            raise UserError(
                f"Dataset '{dataset.name}' has no viewing event up to its clock ({dataset.as_of:%Y-%m-%d}), so there "
                "is nothing to forecast: import interactions of a kind other than impression."
            )
        span_days = (self.as_of_us - int(first)) / DAY_US
        if span_days >= MAX_YEARS * 365.25:
            raise UserError(
                f"Dataset '{dataset.name}' spans {span_days / 365.25:.0f} years, more than the {MAX_YEARS} that a "
                "forecast reads: look for a wrong date among its interactions and import them again."
            )
        empty = 1 - int(days) / max(1.0, np.ceil(span_days))
        self.frequency = (
            FREQUENCIES[frequency] if frequency else of_events(span_days, int(number) / max(span_days, 1), empty)
        )
        if self.frequency.unit == "M":
            raise UserError(f"--data.frequency {frequency}: events are counted by hourly, daily or weekly steps.")
        self._lay_out(int(first))

    def _lay_out(self, first_us: int) -> None:
        """Where the steps begin and how many there are, and whether the last one is over."""
        step_us = self.frequency.step_us
        unit_us = HOUR_US if self.frequency.unit == "h" else DAY_US
        last, rest = divmod(self.as_of_us, unit_us)
        self.last_is_open = rest < LATE * unit_us
        if self.frequency.size > 1 and self.last_is_open:  # a week ends with the last day that is over
            last, self.last_is_open = last - 1, False
        end_us = (last + 1) * unit_us
        # A first week that is not whole is left out: it would look like a rise in demand.
        self.n_steps = max(1, (end_us - first_us // unit_us * unit_us) // step_us)
        self.begin_us = end_us - self.n_steps * step_us
        self.first_unit = self.begin_us // unit_us

    def _rows(self, sql: str, *values: object, of: str = "interactions") -> list[np.ndarray]:
        """The columns that `sql` gives; `of` is the table that is to be named where it cannot be read."""
        with readable(self.dataset.path(of)):
            found = self.connection.execute(sql, list(values)).fetchnumpy()
        return [np.asarray(column) for column in found.values()]

    def _filled(self, codes: np.ndarray, steps: np.ndarray, n: np.ndarray, n_rows: int) -> np.ndarray:
        inside = (steps >= 0) & (steps < self.n_steps)  # weeks that are not whole lie outside
        at = codes[inside].astype(np.int64) * self.n_steps + steps[inside].astype(np.int64)
        weights = n[inside].astype(float)
        return np.bincount(at, weights=weights, minlength=n_rows * self.n_steps).reshape(n_rows, self.n_steps)

    def panel(self, n_titles: int, chosen_before_steps: int) -> Panel:
        step = f"CAST(floor((us - {self.begin_us}) / {self.frequency.step_us}) AS BIGINT)"
        with readable(self.dataset.path("interactions")):
            self.connection.execute(
                f"CREATE TEMP TABLE counts AS SELECT {step} AS step, item_id, count(*) AS n FROM events GROUP BY ALL"
            )
        ids, parts = [TOTAL, ACTIVE], []
        for sql in (
            "SELECT step, sum(n) AS n FROM counts GROUP BY step",
            f"SELECT {step} AS step, count(DISTINCT user_id) AS n FROM events GROUP BY step",
        ):
            at, n = self._rows(sql)
            parts.append(self._filled(np.zeros(len(at)), at, n, 1))
        for found in (self._genres(), self._segments(step), self._titles(n_titles, chosen_before_steps)):
            ids += found[0]
            parts += found[1]
        values = np.concatenate(parts)
        if self.last_is_open:
            values[:, -1] = np.nan
        return Panel(tuple(ids), self.first_unit, self.frequency, values)

    def _named(self, names: np.ndarray, steps: np.ndarray, n: np.ndarray) -> tuple[list[str], np.ndarray]:
        codes, distinct = pd.factorize(names.astype(object))
        return [str(name) for name in distinct], self._filled(codes, steps, n, len(distinct))

    def _genres(self) -> tuple[list[str], list[np.ndarray]]:
        if not self.dataset.has("items"):
            return [], []
        names, values = self._named(
            *self._rows(
                "WITH shares AS (SELECT item_id, unnest(g) AS genre, 1.0 / len(g) AS share FROM ("
                "  SELECT item_id, CASE WHEN coalesce(len(genres), 0) = 0 THEN ['(none)'] ELSE list_distinct(genres) "
                "  END AS g FROM read_parquet(?))) "
                "SELECT coalesce(genre, '(none)') AS genre, step, sum(n * coalesce(share, 1)) AS n "
                "FROM counts LEFT JOIN shares USING (item_id) GROUP BY 1, 2 ORDER BY 1, 2",
                str(self.dataset.path("items")),
                of="items",
            )
        )
        if set(names) == {"(none)"}:  # a catalogue without genres has nothing to say beside the total
            return [], []
        return [GENRE + name for name in names], [values]

    def _segments(self, step: str) -> tuple[list[str], list[np.ndarray]]:
        """New members and others, and the values of columns of the members' table with few of them."""
        is_new = f"us - min(us) OVER (PARTITION BY user_id) < {NEW_DAYS * DAY_US}"
        names, values = self._named(
            *self._rows(
                f"WITH seen AS (SELECT {step} AS step, {is_new} AS is_new FROM events) "
                "SELECT CASE WHEN is_new THEN 'new members' ELSE 'other members' END AS name, step, count(*) AS n "
                "FROM seen GROUP BY 1, 2 ORDER BY 1, 2"
            )
        )
        ids, parts = [], []
        if len(names) == 2:
            ids, parts = [SEGMENT + name for name in names], [values]
        for column in self._segment_columns():
            names, values = self._named(
                *self._rows(
                    "WITH who AS (SELECT user_id, "
                    f"coalesce(CAST(any_value({_quoted(column)}) AS VARCHAR), '(none)') AS name "
                    "FROM read_parquet(?) GROUP BY user_id) "
                    f"SELECT coalesce(name, '(none)') AS name, {step} AS step, count(*) AS n "
                    "FROM events LEFT JOIN who USING (user_id) GROUP BY 1, 2 ORDER BY 1, 2",
                    str(self.dataset.path("users")),
                    of="users",
                )
            )
            ids += [f"{SEGMENT}{column}={name}" for name in names]
            parts.append(values)
        return ids, parts

    def _segment_columns(self) -> list[str]:
        """Columns of the members' table with two to MAX_SEGMENTS values, the plain ones: no lists, no times."""
        if not self.dataset.has("users"):
            return []
        path = str(self.dataset.path("users"))
        described = "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?))"
        names, kinds = self._rows(described, path, of="users")
        plain = [n for n, k in zip(names, kinds, strict=True) if n != USER_ID and k in ("VARCHAR", "BOOLEAN", "BIGINT")]
        if not plain:
            return []
        counts = ", ".join(f"count(DISTINCT {_quoted(name)})" for name in plain)
        found = self._rows(f"SELECT {counts} FROM read_parquet(?)", path, of="users")
        return [name for name, n in zip(plain, found, strict=True) if 2 <= n[0] <= MAX_SEGMENTS]

    def _titles(self, n_titles: int, chosen_before_steps: int) -> tuple[list[str], list[np.ndarray]]:
        names, values = self._named(
            *self._rows(
                "WITH best AS (SELECT item_id FROM counts WHERE item_id IS NOT NULL AND step < ? "
                "  GROUP BY item_id ORDER BY sum(n) DESC, item_id LIMIT ?) "
                "SELECT item_id, step, n FROM counts JOIN best USING (item_id) ORDER BY item_id, step",
                self.n_steps - chosen_before_steps,
                n_titles,
            )
        )
        started = np.maximum.accumulate(values > 0, axis=1)
        return [TITLE + name for name in names], [np.where(started, values, np.nan)] if names else []


def _side_by_side(given: Panel, counted: Panel) -> Panel:
    """Both panels on one axis; a ready-made series comes before a counted one of the same name."""
    size = counted.frequency.size
    offset = (counted.first_unit - given.first_unit) // size  # given_panel ends its weeks where the log does
    first = min(0, offset)
    last = max(given.n_steps, offset + counted.n_steps)
    rows, ids = [], []
    for panel, start in ((given, 0), (counted, offset)):
        kept = [i for i, name in enumerate(panel.series_ids) if name not in ids]
        values = np.full((len(kept), last - first), np.nan)
        values[:, start - first : start - first + panel.n_steps] = panel.values[kept]
        rows.append(values)
        ids += [panel.series_ids[i] for i in kept]
    return Panel(tuple(ids), given.first_unit + first * size, counted.frequency, np.concatenate(rows))
