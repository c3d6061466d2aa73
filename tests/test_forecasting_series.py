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
    assert (panel.step_days, panel.season) == (7, 1)
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
    assert "title:old" in load_panel(data, n_titles=1, chosen_before_days=1).series_ids
