"""From events to series: counts by hand, zeros and gaps told apart, and a clock that nothing runs ahead of."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, Source, write_dataset
from data.errors import UserError
from forecasting.series import NO_GENRE, Panel, load_panel


@pytest.fixture
def written(marquee_home) -> Callable[..., Dataset]:
    def write(events: list[tuple[str, str | None, str]], name: str = "mine", **more: object) -> Dataset:
        tables = more.pop("tables", {})
        frame = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
        if len(frame):
            tables = {"interactions": frame.assign(**more.pop("columns", {})), **tables}  # type: ignore[dict-item]
        return write_dataset(name, tables, sources=[Source("t", "t")], replace=True, **more)  # type: ignore[arg-type]

    return write


def row(panel: Panel, name: str) -> list[float]:
    return panel.values[panel.series_ids.index(name)].tolist()


EVENTS = [
    ("a", "x", "2024-01-01 10:00"),
    ("a", "y", "2024-01-01 11:00"),
    ("b", "x", "2024-01-01 12:00"),
    ("a", "x", "2024-01-03 09:00"),
    ("b", "z", "2024-01-04 21:00"),
]
ITEMS = pd.DataFrame(
    {"item_id": ["x", "y", "z"], "title": ["X", "Y", "Z"], "genres": [["Drama", "War"], ["Drama"], []]}
)


def test_counts_by_hand(written) -> None:
    panel = load_panel(written(EVENTS, tables={"items": ITEMS}))
    assert panel.n_steps == 4
    assert panel.dates(0, 1)[0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert row(panel, "total") == [3, 0, 1, 1]  # the day without an event is a zero
    assert row(panel, "active_members") == [2, 0, 1, 1]
    assert row(panel, "genre:Drama") == [2, 0, 0.5, 0]  # half of each x, the whole of y
    assert row(panel, "genre:War") == [1, 0, 0.5, 0]
    assert row(panel, NO_GENRE) == [0, 0, 0, 1]


def test_genres_add_up_to_the_total(small_dataset) -> None:
    panel = load_panel(small_dataset(reviews=0))
    genres = [i for i, name in enumerate(panel.series_ids) if name.startswith("genre:")]
    known = np.isfinite(panel.values[0])
    assert panel.values[genres][:, known].sum(0) == pytest.approx(panel.values[0, known])


def test_a_title_begins_with_its_first_event(written) -> None:
    panel = load_panel(written(EVENTS))
    assert row(panel, "title:x") == [2, 0, 1, 0]
    late = row(panel, "title:z")
    assert np.isnan(late[:3]).all()
    assert late[3] == 1


def test_a_day_that_is_not_over_is_a_gap(written) -> None:
    panel = load_panel(written([*EVENTS, ("a", "x", "2024-01-05 08:00")]))
    assert row(panel, "total")[:4] == [3, 0, 1, 1]
    assert np.isnan(row(panel, "total")[4])


def test_nothing_after_the_clock_is_counted(written) -> None:
    data = written(EVENTS, as_of=pd.Timestamp("2024-01-03 23:00", tz="UTC"))
    panel = load_panel(data)
    assert row(panel, "total") == [3, 0, 1]
    assert "title:z" not in panel.series_ids


def test_impressions_are_not_viewing(written) -> None:
    panel = load_panel(written(EVENTS, columns={"kind": ["watch", "impression", "watch", "click", "rating"]}))
    assert row(panel, "total") == [2, 0, 0, 1]


def test_ready_made_series_keep_their_gaps(written) -> None:
    dates = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-04"], utc=True)
    usage = pd.DataFrame({"series_id": "plays", "date": dates, "value": [5.0, 0.0, 7.0]})
    values = row(load_panel(written([], tables={"metrics": usage})), "plays")
    assert values[:2] == [5, 0]
    assert np.isnan(values[2])
    assert values[3] == 7


def test_weekly_series_step_by_weeks(written) -> None:
    dates = pd.date_range("2024-01-01", periods=20, freq="7D", tz="UTC")
    usage = pd.DataFrame({"series_id": "plays", "date": dates, "value": np.arange(20.0)})
    panel = load_panel(written([], tables={"metrics": usage}))
    assert (panel.frequency.name, panel.season) == ("weekly", 1)
    assert row(panel, "plays") == list(range(20))
    assert panel.dates(20, 21)[0] == dates[-1] + pd.Timedelta(days=7)


def test_order_data_and_negative_series_are_refused(written) -> None:
    with pytest.raises(UserError, match="no real times"):
        load_panel(written(EVENTS, time_kind="order"))
    usage = pd.DataFrame({"series_id": "net", "date": pd.to_datetime(["2024-01-01"], utc=True), "value": [-1.0]})
    with pytest.raises(UserError, match="negative"):
        load_panel(written([], tables={"metrics": usage}))


def test_titles_are_chosen_by_what_was_known(written) -> None:
    events = [("a", "old", f"2024-01-{d:02d} 22:00") for d in range(1, 11)]
    events += [(f"m{i}", "new", "2024-01-11 22:00") for i in range(50)]
    data = written(events)
    assert "title:new" in load_panel(data, n_titles=1).series_ids
    assert "title:old" in load_panel(data, n_titles=1, chosen_before_steps=1).series_ids


# -- segments and frequencies ----------------------------------------------------------------------------------------


def test_segments_are_parts_of_the_total(written) -> None:
    users = pd.DataFrame({"user_id": ["a", "b", "c"], "plan": ["free", "paid", None], "zip": ["1", "2", "3"]})
    events = [*EVENTS, ("c", "x", "2024-03-01 21:00"), ("a", "x", "2024-03-01 22:00")]
    panel = load_panel(written(events, tables={"users": users}, columns={}))
    assert row(panel, "segment:new members")[:4] == [3, 0, 1, 1]
    assert (row(panel, "segment:new members")[60], row(panel, "segment:other members")[60]) == (1, 1)
    assert row(panel, "segment:plan=free")[:4] == [2, 0, 1, 0]
    assert row(panel, "segment:plan=paid")[:4] == [1, 0, 0, 1]
    assert row(panel, "segment:plan=(none)")[60] == 1
    for part in ("plan=", "members"):
        rows = [i for i, name in enumerate(panel.series_ids) if name.startswith("segment:") and part in name]
        assert panel.values[rows].sum(0).tolist() == row(panel, "total")


def test_a_column_with_many_values_makes_no_segments(written) -> None:
    users = pd.DataFrame({"user_id": [f"m{i}" for i in range(9)], "town": [f"t{i}" for i in range(9)], "one": "same"})
    events = [(f"m{i}", "x", f"2024-01-{i + 1:02d} 21:00") for i in range(9)]
    assert not [n for n in load_panel(written(events, tables={"users": users})).series_ids if "town" in n or "one" in n]


def test_a_busy_fortnight_is_counted_by_the_hour(written) -> None:
    hours = pd.date_range("2024-01-01 00:30", periods=14 * 24, freq="h")
    events = [(f"m{i % 7}", "x", str(hour)) for i in range(5) for hour in hours]
    panel = load_panel(written(events))
    assert (panel.frequency.name, panel.n_steps) == ("hourly", 14 * 24)
    assert row(panel, "total")[:3] == [5, 5, 5]
    assert np.isnan(row(panel, "total")[-1])  # at half past the last hour is not over
    assert panel.dates(0, 1)[0] == pd.Timestamp("2024-01-01", tz="UTC")


def test_years_of_a_quiet_log_are_counted_by_the_week(written) -> None:
    events = [("a", "x", str(day)) for day in pd.date_range("2021-01-01 22:00", periods=120, freq="10D")]
    panel = load_panel(written(events))
    assert panel.frequency.name == "weekly"
    assert sum(row(panel, "total")) in (119, 120)  # a first week that is not whole is left out
    last = panel.dates(panel.n_steps, panel.n_steps + 1)[0]
    assert last == pd.Timestamp(events[-1][2], tz="UTC").normalize() + pd.Timedelta(days=1)
    days = load_panel(written(events), frequency="daily")
    assert days.n_steps == 1191


def test_a_week_ends_with_the_last_day_that_is_over(written) -> None:
    events = [("a", "x", f"2024-01-{day:02d} 12:00") for day in range(1, 22)]
    panel = load_panel(written(events), frequency="weekly")  # the 21st is not over at noon
    assert row(panel, "total") == [7, 7]
    assert panel.dates(2, 3)[0] == pd.Timestamp("2024-01-21", tz="UTC")


def test_frequencies_that_events_do_not_have_are_refused(written) -> None:
    with pytest.raises(UserError, match=r"--data.frequency hourlyy is unknown: choose one of hourly, daily"):
        load_panel(written(EVENTS), frequency="hourlyy")
    with pytest.raises(UserError, match=r"--data.frequency monthly: events are counted"):
        load_panel(written(EVENTS), frequency="monthly")


def given(written, dates: object, values: object, **more: object) -> Panel:
    frame = pd.DataFrame({"series_id": "plays", "date": pd.to_datetime(dates, utc=True), "value": values})
    return load_panel(written([], tables={"metrics": frame}, **more))


@pytest.mark.parametrize(
    ("name", "freq", "n"),
    [("hourly", "h", 100), ("daily", "D", 60), ("weekly", "7D", 30), ("monthly", "MS", 30), ("quarterly", "QS", 12),
     ("yearly", "YS", 9)],
)  # fmt: skip
def test_the_frequency_of_ready_made_series_is_found(written, name: str, freq: str, n: int) -> None:
    dates = pd.date_range("2020-01-01", periods=n, freq=freq, tz="UTC")
    panel = given(written, dates, np.arange(n, dtype=float))
    assert panel.frequency.name == name
    assert row(panel, "plays") == list(range(n))
    assert panel.dates(0, n).tolist() == dates.tolist()


def test_month_ends_are_months(written) -> None:
    dates = pd.date_range("2020-01-31", periods=24, freq="ME", tz="UTC")
    panel = given(written, dates, np.arange(24.0))
    assert panel.frequency.name == "monthly"
    assert row(panel, "plays") == list(range(24))
    assert panel.dates(24, 25)[0] == pd.Timestamp("2022-01-01", tz="UTC")


def test_times_out_of_order_and_in_other_zones(written) -> None:
    stamps = ["2024-01-03T00:00+02:00", "2024-01-01T00:00+02:00", "2024-01-02T00:00+02:00"]
    panel = given(written, stamps, [3.0, 1.0, 2.0])
    assert row(panel, "plays") == [1, 2, 3]
    assert panel.dates(0, 1)[0] == pd.Timestamp("2024-01-01", tz="UTC")  # midnight in Cairo is that day, not the last
    minutes = pd.date_range("2024-01-01", periods=180, freq="min", tz="UTC")
    assert row(given(written, minutes, 1.0), "plays") == [60, 60, 60]  # added up to hours


def test_the_leap_day_is_a_day_and_a_gap_of_a_year_a_gap(written) -> None:
    dates = [*pd.date_range("2023-02-20", periods=10), *pd.date_range("2024-02-25", periods=10)]
    panel = given(written, dates, 5.0)
    values = row(panel, "plays")
    assert len(values) == 370 + 10
    assert np.isnan(values).sum() == 360
    assert panel.dates(374, 375)[0] == pd.Timestamp("2024-02-29", tz="UTC")
    assert values[374] == 5


def test_a_wrong_date_is_named_as_such(written) -> None:
    hours = [pd.Timestamp("1900-01-01"), *pd.date_range("2024-01-01", periods=50, freq="h")]
    with pytest.raises(UserError, match="wrong date"):
        given(written, hours, 1.0)


def test_hours_of_ready_made_series_are_added_up_beside_daily_events(written) -> None:
    hours = pd.date_range("2024-01-01", periods=96, freq="h", tz="UTC")
    usage = pd.DataFrame({"series_id": "streams", "date": hours, "value": 2.0})
    panel = load_panel(written(EVENTS, tables={"metrics": usage}))
    assert panel.frequency.name == "daily"
    assert row(panel, "streams") == [48, 48, 48, 48]
    assert row(panel, "total") == [3, 0, 1, 1]
