"""From events to series: what is counted, in which steps, and what a missing day means.

    total            viewing events in each step
    active_members   distinct members with a viewing event
    genre:<G>        viewing events of titles of the genre G; a title with n genres gives one n-th of an event to each,
                     so that the genres (and `genre:(none)` for titles without one) add up to `total`
    title:<item_id>  viewing events of one of the most watched titles
    any other id     a series of the `metrics` table, as it is

Viewing events are ratings, watches and thumbs. A log without any of those counts everything but impressions.

Days are UTC. A day without an event inside an event log is a zero; a day without a value in a ready-made series is a
gap (NaN), because nobody knows what it held. A title's series begins with its first event. The last day counts only if
the dataset's clock stands at 20:00 or later, otherwise it is a gap: a day that is not over would look like a fall in
demand. Forecasts begin on the day after the clock's day in either case.

Steps are days, or weeks when the data are weekly: ready-made series whose usual distance is a week or more, in a
dataset without events. Hourly values are added up to days, other values for the same step are averaged.
"""

from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pandas as pd

from data.dataset import Dataset
from data.errors import UserError
from data.schema import DATE, SERIES_ID, VALUE

TOTAL, ACTIVE, GENRE, TITLE = "total", "active_members", "genre:", "title:"
NO_GENRE = "genre:(none)"
VIEWING_KINDS = ("rating", "watch", "thumb_up", "thumb_down")
DAY_IS_OVER = pd.Timedelta(hours=20)
_DAY_US = 86_400_000_000
_MAX_STEPS = 366 * 30


@dataclass(frozen=True, eq=False)
class Panel:
    """Series side by side, in steps of `step_days`; row s holds `series_ids[s]`.

    `values[s, t]` is the value of the step that begins `first_day + t * step_days` days after 1970-01-01; NaN where
    unknown. Shape: (n_series, n_steps), float64.
    """

    series_ids: tuple[str, ...]
    first_day: int
    step_days: int
    values: np.ndarray

    @property
    def n_steps(self) -> int:
        return self.values.shape[1]

    @property
    def season(self) -> int:
        """Steps in a week: 7 for days, 1 for weeks."""
        return 7 if self.step_days == 1 else 1

    def dates(self, start: int, stop: int) -> pd.DatetimeIndex:
        """First days (UTC) of the steps from `start` up to `stop`, which may lie after the panel's end."""
        days = self.first_day + np.arange(start, stop, dtype=np.int64) * self.step_days
        return pd.DatetimeIndex((days * _DAY_US).astype("datetime64[us]"), tz="UTC")

    def until(self, stop: int) -> "Panel":
        """The panel as it was known before step `stop`: later steps are cut off."""
        return replace(self, values=self.values[:, :stop])

    def steps(self, days: int) -> int:
        """How many steps it takes to cover `days`."""
        return -(-days // self.step_days)


def load_panel(dataset: Dataset, n_titles: int = 20, chosen_before_days: int = 0) -> Panel:
    """All series of `dataset`, up to the day of its clock.

    Args:
        n_titles: how many of the most watched titles get a series of their own.
        chosen_before_days: these titles are chosen by what was watched until so many days before the clock, so that
            a backtest does not choose by what it is about to predict.

    Raises:
        UserError: the rows have no real times, there is nothing to count, or a series has negative values.
    """
    dataset.require_calendar("forecasting")
    if dataset.as_of is None or not (dataset.has("interactions") or dataset.has("metrics")):
        raise UserError(
            f"Dataset '{dataset.name}' has neither interactions nor ready-made series, so there is nothing to "
            "forecast: import them with 'python -m data import --interactions FILE' or '--metrics FILE'."
        )
    counted = _counted(dataset, n_titles, chosen_before_days) if dataset.has("interactions") else None
    given = _given(dataset, counted) if dataset.has("metrics") else None
    if counted is None or given is None:
        panel = counted or given
        assert panel is not None
        return panel
    return _side_by_side(given, counted)


def _clock_day(dataset: Dataset) -> int:
    assert dataset.as_of is not None
    return int(dataset.as_of.value // 1000 // _DAY_US)


def _last_day_is_open(dataset: Dataset) -> bool:
    assert dataset.as_of is not None
    return dataset.as_of - dataset.as_of.normalize() < DAY_IS_OVER


def _counted(dataset: Dataset, n_titles: int, chosen_before_days: int) -> Panel:
    """The series counted from events; DuckDB reads the Parquet file, so memory grows with days, not with events."""
    assert dataset.as_of is not None
    last = _clock_day(dataset)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    path = str(dataset.path("interactions"))
    as_of_us = dataset.as_of.value // 1000

    def rows(sql: str, *values: object) -> list[np.ndarray]:
        found = connection.execute(sql, list(values)).fetchnumpy()
        return [np.asarray(column) for column in found.values()]

    is_viewing = f"kind IN {VIEWING_KINDS}"
    (viewing,) = rows(f"SELECT count(*) FROM read_parquet(?) WHERE {is_viewing}", path)
    kept = is_viewing if viewing[0] else "kind <> 'impression'"
    connection.execute(
        f"CREATE TEMP TABLE counts AS SELECT epoch_us(timestamp) // {_DAY_US} AS day, item_id, count(*) AS n "
        f"FROM read_parquet(?) WHERE {kept} AND epoch_us(timestamp) <= ? GROUP BY ALL",
        [path, as_of_us],
    )
    first = rows("SELECT min(day) AS first FROM counts")[0][0]
    if first is np.ma.masked or first is None or pd.isna(first):
        raise UserError(
            f"Dataset '{dataset.name}' has no viewing event up to its clock ({dataset.as_of:%Y-%m-%d}), so there is "
            "nothing to forecast: import interactions of a kind other than impression."
        )
    first = int(first)
    if last - first >= _MAX_STEPS:
        raise UserError(
            f"Dataset '{dataset.name}' spans {(last - first) / 365.25:.0f} years, more than the 30 that a daily "
            "forecast reads: look for a wrong date among its interactions and import them again."
        )
    n_days = last - first + 1

    def filled(codes: np.ndarray, days: np.ndarray, n: np.ndarray, n_rows: int) -> np.ndarray:
        at = codes.astype(np.int64) * n_days + (days.astype(np.int64) - first)
        return np.bincount(at, weights=n.astype(float), minlength=n_rows * n_days).reshape(n_rows, n_days)

    ids, parts = [TOTAL, ACTIVE], []
    day, n = rows("SELECT day, sum(n) AS n FROM counts GROUP BY day")
    parts.append(filled(np.zeros(len(day)), day, n, 1))
    day, n = rows(
        f"SELECT epoch_us(timestamp) // {_DAY_US} AS day, count(DISTINCT user_id) AS n "
        f"FROM read_parquet(?) WHERE {kept} AND epoch_us(timestamp) <= ? GROUP BY day",
        path,
        as_of_us,
    )
    parts.append(filled(np.zeros(len(day)), day, n, 1))

    if dataset.has("items"):
        genre, day, n = rows(
            "WITH shares AS (SELECT item_id, unnest(g) AS genre, 1.0 / len(g) AS share FROM ("
            "  SELECT item_id, CASE WHEN coalesce(len(genres), 0) = 0 THEN ['(none)'] ELSE list_distinct(genres) END "
            "  AS g FROM read_parquet(?))) "
            "SELECT coalesce(genre, '(none)') AS genre, day, sum(n * coalesce(share, 1)) AS n "
            "FROM counts LEFT JOIN shares USING (item_id) GROUP BY 1, 2 ORDER BY 1, 2",
            str(dataset.path("items")),
        )
        codes, names = pd.factorize(genre.astype(object))
        if set(names) != {"(none)"}:  # a catalogue without genres has nothing to say beside the total
            ids += [GENRE + str(name) for name in names]
            parts.append(filled(codes, day, n, len(names)))

    title, day, n = rows(
        "WITH best AS (SELECT item_id FROM counts WHERE item_id IS NOT NULL AND day <= ? "
        "  GROUP BY item_id ORDER BY sum(n) DESC, item_id LIMIT ?) "
        "SELECT item_id, day, n FROM counts JOIN best USING (item_id) ORDER BY item_id, day",
        last - chosen_before_days,
        n_titles,
    )
    if len(title):
        codes, names = pd.factorize(title.astype(object))
        values = filled(codes, day, n, len(names))
        started = np.maximum.accumulate(values > 0, axis=1)
        ids += [TITLE + str(name) for name in names]
        parts.append(np.where(started, values, np.nan))

    values = np.concatenate(parts)
    if _last_day_is_open(dataset):
        values[:, -1] = np.nan
    return Panel(tuple(ids), first, 1, values)


def _given(dataset: Dataset, counted: Panel | None) -> Panel:
    """The ready-made series, in days beside events and in their own step (days or weeks) alone."""
    frame = dataset.metrics().sort_values([SERIES_ID, DATE], kind="stable")
    frame = frame[frame[DATE] <= dataset.as_of]
    if (frame[VALUE] < 0).any():
        bad = frame[frame[VALUE] < 0].iloc[0]
        raise UserError(
            f"Series '{bad[SERIES_ID]}' of dataset '{dataset.name}' is negative on {bad[DATE]:%Y-%m-%d} "
            f"({bad[VALUE]:g}), but forecasts are of amounts, which are zero or more: leave the series out."
        )
    micros = frame[DATE].astype("int64")
    distance = micros.groupby(frame[SERIES_ID]).diff()
    usual = distance[distance > 0].groupby(frame[SERIES_ID]).median()
    hourly = set(usual.index[usual < _DAY_US])
    weekly = counted is None and len(usual) > 0 and float(usual.median()) >= 6.5 * _DAY_US
    step_days = 7 if weekly else 1
    day = (micros // _DAY_US).to_numpy()
    last = _clock_day(dataset)
    # Weeks end with the week of the last value, whichever weekday it is given for.
    first = int(day.min()) if len(day) else last
    first = last - (last - first) // step_days * step_days
    step = (day - first) // step_days
    if (last - first) // step_days >= _MAX_STEPS:
        raise UserError(
            f"The ready-made series of dataset '{dataset.name}' span {(last - first) / 365.25:.0f} years, too many "
            "for one panel: look for a wrong date in the file and import it again."
        )
    n_steps = (last - first) // step_days + 1
    codes, names = pd.factorize(frame[SERIES_ID].astype(object))
    at, size = codes * n_steps + np.maximum(step, 0), len(names) * n_steps
    total = np.bincount(at, weights=frame[VALUE].to_numpy(), minlength=size).reshape(len(names), n_steps)
    number = np.bincount(at, minlength=size).reshape(len(names), n_steps)
    adds_up = np.array([name in hourly for name in names], dtype=bool)[:, None]
    divisor = np.where(adds_up, 1, np.maximum(number, 1))
    values = np.where(number > 0, total / divisor, np.nan)
    if _last_day_is_open(dataset):
        values[adds_up[:, 0], -1] = np.nan
    return Panel(tuple(map(str, names)), first, step_days, values)


def _side_by_side(given: Panel, counted: Panel) -> Panel:
    """Both panels on one axis of days; a ready-made series comes before a counted one of the same name."""
    first = min(given.first_day, counted.first_day)
    last = max(panel.first_day + panel.n_steps for panel in (given, counted))
    rows, ids = [], []
    for panel in (given, counted):
        kept = [i for i, name in enumerate(panel.series_ids) if name not in ids]
        values = np.full((len(kept), last - first), np.nan)
        start = panel.first_day - first
        values[:, start : start + panel.n_steps] = panel.values[kept]
        rows.append(values)
        ids += [panel.series_ids[i] for i in kept]
    return Panel(tuple(ids), first, 1, np.concatenate(rows))
