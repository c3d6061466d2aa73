"""From events to series: counts by hand, zeros and gaps told apart, and a clock that nothing runs ahead of."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, Source, write_dataset
from data.errors import UserError
from forecasting.frequency import FREQUENCIES, of_distance, of_events
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


# -- borders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hour", "counts"), [("19:59", False), ("20:00", True)])
def test_a_day_counts_from_eight_in_the_evening_on(written, hour: str, counts: bool) -> None:
    panel = load_panel(written([*EVENTS, ("a", "x", f"2024-01-05 {hour}")]))
    assert np.isfinite(row(panel, "total")[4]) == counts


def test_a_series_that_has_not_begun_is_not_known() -> None:
    panel = Panel(("quiet", "busy"), 19_723, FREQUENCIES["daily"], np.array([[0.0, 0, 0, 4], [0, 0, 2, 1]]))
    np.testing.assert_array_equal(panel.until(3).known().values, [[np.nan] * 3, [0, 0, 2]])
    np.testing.assert_array_equal(panel.known().values, panel.values)


def test_a_genre_named_twice_is_one_genre(written) -> None:
    items = pd.DataFrame({"item_id": ["x"], "title": ["X"], "genres": [["Drama", "Drama", "War"]]})
    panel = load_panel(written([("a", "x", "2024-01-01 21:00")], tables={"items": items}))
    assert (row(panel, "genre:Drama"), row(panel, "genre:War")) == ([0.5], [0.5])


def test_titles_outside_the_catalogue_count_as_without_a_genre(written) -> None:
    events = [*EVENTS, ("a", None, "2024-01-04 22:00"), ("a", "unheard of", "2024-01-04 22:30")]
    panel = load_panel(written(events, tables={"items": ITEMS}))
    assert row(panel, NO_GENRE) == [0, 0, 0, 3]
    assert row(panel, "total") == [3, 0, 1, 3]


def test_a_log_without_viewing_counts_everything_but_impressions(written) -> None:
    panel = load_panel(written(EVENTS, columns={"kind": ["click", "impression", "click", "impression", "click"]}))
    assert row(panel, "total") == [2, 0, 0, 1]


def test_members_are_new_for_28_days_to_the_minute(written) -> None:
    stamps = ("2024-01-01 10:00", "2024-01-29 09:59", "2024-01-29 10:00", "2024-01-29 21:00")
    panel = load_panel(written([("a", "x", stamp) for stamp in stamps]))
    assert (row(panel, "segment:new members")[28], row(panel, "segment:other members")[28]) == (1, 2)


def test_a_column_of_six_values_makes_segments_and_one_of_seven_none(written) -> None:
    members = pd.DataFrame({"user_id": [f"m{i}" for i in range(14)]})
    users = members.assign(six=[f"s{i % 6}" for i in range(14)], seven=[f"t{i % 7}" for i in range(14)])
    events = [(f"m{i}", "x", "2024-01-01 21:00") for i in range(14)]
    ids = load_panel(written(events, tables={"users": users})).series_ids
    assert [name for name in ids if "six" in name or "seven" in name] == [f"segment:six=s{i}" for i in range(6)]


def test_a_clock_before_the_first_event_is_said(written) -> None:
    with pytest.raises(UserError, match="no viewing event up to its clock"):
        load_panel(written(EVENTS, as_of=pd.Timestamp("2023-12-31", tz="UTC")))


def test_decades_of_events_are_a_wrong_date(written) -> None:
    with pytest.raises(UserError, match="spans 34 years, more than the 30"):
        load_panel(written([("a", "x", "1990-01-01 10:00"), *EVENTS]))


def test_a_ready_made_series_comes_before_a_counted_one_of_its_name(written) -> None:
    usage = pd.DataFrame(
        {"series_id": "total", "date": pd.date_range("2024-01-03", periods=2, tz="UTC"), "value": [70.0, 80.0]}
    )
    panel = load_panel(written(EVENTS, tables={"metrics": usage}))
    assert panel.series_ids.count("total") == 1
    assert row(panel, "total")[2:] == [70, 80]
    assert panel.dates(0, 1)[0] == pd.Timestamp("2024-01-01", tz="UTC")  # the events began before the series did
    assert row(panel, "active_members") == [2, 0, 1, 1]


def test_frequencies_at_their_borders() -> None:
    events = [(27.9, 100, 0), (28, 100, 0), (10, 99.9, 0), (728, 0.3, 0.51), (728, 0.3, 0.5), (727.9, 0.3, 0.8)]
    names = [of_events(*log).name for log in events]
    assert names == ["hourly", "daily", "daily", "weekly", "daily", "daily"]
    assert [of_distance(days).name for days in (0.75, 3, 20, 45, 200)] == [
        *("hourly", "daily", "weekly", "monthly", "quarterly")
    ]


def test_values_of_one_step_are_averaged_unless_they_are_parts_of_it(written) -> None:
    stamps = [f"2024-01-{stamp}" for stamp in ("01 00:00", "02 00:00", "03 00:00", "03 18:00", "04 00:00", "05 00:00")]
    assert row(given(written, stamps, [1.0, 2.0, 3.0, 5.0, 6.0, 7.0]), "plays") == [1, 2, 4, 6, 7]
    weeks = pd.date_range("2024-01-01", periods=9, freq="7D", tz="UTC")  # five in January, four in February
    usage = pd.DataFrame({"series_id": "plays", "date": weeks, "value": 2.0})
    assert row(load_panel(written([], tables={"metrics": usage}), frequency="monthly"), "plays") == [10, 8]


def test_an_hour_of_minutes_that_is_not_over_is_a_gap(written) -> None:
    minutes = pd.date_range("2024-01-01", periods=150, freq="min", tz="UTC")
    assert row(given(written, minutes, 1.0), "plays")[:2] == [60, 60]
    assert np.isnan(row(given(written, minutes, 1.0), "plays")[2])


def test_noon_is_no_midnight_elsewhere(written) -> None:
    panel = given(written, [f"2024-01-0{day} 12:00" for day in range(1, 5)], [1.0, 2.0, 3.0, 4.0])
    assert panel.dates(0, 1)[0] == pd.Timestamp("2024-01-01", tz="UTC")


def test_midnights_across_a_change_of_the_clocks_are_days(written) -> None:
    days = pd.date_range("2024-03-28", periods=8, tz="Europe/Athens")  # two, then three hours ahead
    panel = given(written, days, np.arange(8.0))
    assert row(panel, "plays") == list(range(8))
    assert panel.dates(0, 1)[0] == pd.Timestamp("2024-03-28", tz="UTC")


def test_weeks_that_begin_at_midnight_elsewhere(written) -> None:
    weeks = pd.date_range("2024-05-06", periods=8, freq="7D", tz="Africa/Cairo")
    panel = given(written, weeks, np.arange(8.0))
    assert (panel.frequency.name, row(panel, "plays")) == ("weekly", list(range(8)))
    assert panel.dates(7, 8)[0] == pd.Timestamp("2024-06-24", tz="UTC")


def test_quarter_ends_are_quarters(written) -> None:
    dates = pd.date_range("2020-03-31", periods=12, freq="QE", tz="UTC")
    panel = given(written, dates, np.arange(12.0))
    assert (panel.frequency.name, row(panel, "plays")) == ("quarterly", list(range(12)))
    assert panel.dates(0, 1)[0] == pd.Timestamp("2020-01-01", tz="UTC")


def test_ready_made_values_end_with_the_clock(written) -> None:
    days = pd.date_range("2024-01-01", periods=5, tz="UTC")
    assert row(given(written, days, np.arange(5.0), as_of=days[2]), "plays") == [0, 1, 2]
    with pytest.raises(UserError, match="no ready-made value up to its clock"):
        given(written, days, 1.0, as_of=days[0] - pd.Timedelta(days=1))


def test_weeks_of_ready_made_days_lie_with_those_of_the_log(written) -> None:
    """Both count the same five weeks from Monday the first; so do they where the last day is not over yet."""
    days = pd.date_range("2024-01-01 22:00", periods=35, tz="UTC")
    weeks = pd.date_range("2024-01-01", periods=5, freq="7D", tz="UTC")
    for seen in (days, days.union([pd.Timestamp("2024-02-05 02:00", tz="UTC")])):
        plays = pd.DataFrame({"series_id": "plays", "date": seen - pd.Timedelta(minutes=90), "value": 1.0})
        data = written([("a", None, str(day)) for day in seen], tables={"metrics": plays})
        panel = load_panel(data, frequency="weekly")
        assert panel.dates(0, panel.n_steps).tolist() == weeks.tolist()
        assert row(panel, "plays") == row(panel, "total") == [7.0] * 5


def test_days_alone_make_whole_weeks(written) -> None:
    days = pd.date_range("2024-01-01", periods=38, tz="UTC")  # Wednesday the seventh is the last, and not over
    frame = pd.DataFrame({"series_id": "plays", "date": days, "value": 1.0})
    panel = load_panel(written([], tables={"metrics": frame}), frequency="weekly")
    assert panel.dates(panel.n_steps, panel.n_steps + 1)[0] == pd.Timestamp("2024-02-07", tz="UTC")
    assert row(panel, "plays")[1:] == [7.0] * 5
    assert np.isnan(row(panel, "plays")[0])  # a first week that is not whole would look like a rise


def test_weekly_series_beside_daily_ones_keep_their_last_value(written) -> None:
    for days in (210, 212):
        weekly = pd.DataFrame({"series_id": "w", "date": pd.date_range("2024-01-07", periods=30, freq="7D", tz="UTC")})
        daily = pd.DataFrame({"series_id": "d", "date": pd.date_range(end="2024-07-28", periods=days, tz="UTC")})
        others = [weekly.assign(series_id=f"w{i}") for i in range(2)]
        frame = pd.concat([weekly, *others, daily]).assign(value=1.0)
        panel = load_panel(written([], tables={"metrics": frame}, as_of=pd.Timestamp("2024-07-28 23:00", tz="UTC")))
        assert panel.frequency.name == "weekly"
        last = row(panel, "d")[-29:]
        assert last == [7.0] * 29
        assert row(panel, "w")[-1] == 1.0
