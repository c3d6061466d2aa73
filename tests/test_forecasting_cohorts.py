"""Cohorts, retention, lifecycle and stickiness: by hand, and against plain pandas on generated members."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, Source, write_dataset
from data.errors import UserError
from forecasting.cohorts import cohort_triangle, lifecycle, n_day_retention, stickiness
from forecasting.series import load_panel


@pytest.fixture
def written(marquee_home) -> Callable[..., Dataset]:
    def write(days: dict[str, list[str]], as_of: str | None = None, **more: object) -> Dataset:
        rows = [(user, f"{day} 12:00") for user, active in days.items() for day in active]
        frame = pd.DataFrame(rows, columns=["user_id", "timestamp"])
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
        clock = None if as_of is None else pd.Timestamp(as_of, tz="UTC")
        return write_dataset("mine", {"interactions": frame}, sources=[Source("t", "t")], as_of=clock, **more)  # type: ignore[arg-type]

    return write


MEMBERS = {
    "a": ["2024-01-03", "2024-01-04", "2024-02-10", "2024-03-05"],
    "b": ["2024-01-20", "2024-03-01"],
    "c": ["2024-02-01"],
    "d": ["2024-02-02", "2024-02-03", "2024-02-03", "2024-03-10"],
}


def test_the_triangle_by_hand(written) -> None:
    found = cohort_triangle(written(MEMBERS, "2024-03-15 09:00"))
    assert found["cohort"].dt.strftime("%Y-%m").tolist() == ["2024-01"] * 3 + ["2024-02"] * 2
    assert found["number"].tolist() == [0, 1, 2, 0, 1]
    assert found["members"].tolist() == [2, 2, 2, 2, 2]
    assert found["active"].tolist() == [2, 1, 2, 2, 1]
    assert found["share"].tolist() == [1, 0.5, 1, 1, 0.5]
    assert found["is_open"].tolist() == [False, False, True, False, True]


def test_a_week_of_silence_is_a_zero_in_the_triangle(written) -> None:
    found = cohort_triangle(written({"a": ["2024-01-01", "2024-01-16"]}, "2024-01-21 23:00"), "week")
    assert found[["number", "active"]].to_numpy().tolist() == [[0, 1], [1, 0], [2, 1]]
    assert found["is_open"].tolist() == [False] * 3  # the clock's day is the week's last


def test_n_day_and_rolling_retention_by_hand(written) -> None:
    found = n_day_retention(written(MEMBERS, "2024-03-15 09:00"), (1, 30, 45, 400)).set_index("day")
    assert found.index.tolist() == [1, 30, 45]  # nobody has been there for 400 days
    assert found["members"].to_dict() == {1: 4, 30: 4, 45: 2}  # c and d came 43 and 42 days ago
    assert found["n_day"].to_dict() == {1: 0.5, 30: 0.0, 45: 0.0}
    assert found["rolling"].to_dict() == {1: 0.75, 30: 0.75, 45: 0.5}


def test_lifecycle_by_hand(written) -> None:
    members = {
        "stays": ["2024-01-01", "2024-01-11", "2024-01-21", "2024-01-31"],
        "returns": ["2024-01-02", "2024-01-30"],
        "leaves": ["2024-01-01", "2024-01-12"],
        "comes": ["2024-01-25"],
    }
    found = lifecycle(written(members, "2024-02-02 10:00"), window_days=10)  # windows end on 3, 13, 23 Jan and 2 Feb
    assert found["date"].dt.strftime("%m-%d").tolist() == ["01-03", "01-13", "01-23", "02-02"]
    assert found.drop(columns="date").to_numpy().tolist() == [[3, 0, 0, 0], [0, 2, 0, 1], [0, 1, 0, 2], [1, 1, 1, 1]]
    with pytest.raises(UserError, match="A window of 0 days"):
        lifecycle(written(members, replace=True), window_days=0)


def test_stickiness_by_hand(written) -> None:
    found = stickiness(written({"a": ["2024-01-01", "2024-01-02"], "b": ["2024-01-02"]}, "2024-02-05 10:00"))
    found = found.set_index(found["date"].dt.strftime("%m-%d"))
    assert len(found) == 36
    assert found["daily"].head(3).tolist() == [1, 2, 0]
    assert found["weekly"][["01-01", "01-02", "01-08", "01-09"]].tolist() == [1, 2, 2, 0]
    assert found["monthly"][["01-02", "01-29", "01-30"]].tolist() == [2, 2, 0]
    assert found["stickiness"]["01-02"] == pytest.approx(1.5 / 2)
    assert np.isnan(found["stickiness"]["02-05"])


def test_counts_are_those_of_plain_pandas(small_dataset) -> None:
    data = small_dataset(reviews=0)
    events = data.interactions()
    days = events.assign(day=events["timestamp"].dt.normalize())[["user_id", "day"]].drop_duplicates()
    found = stickiness(data)
    dates = found["date"].dt.tz_localize("UTC")
    for name, length in (("daily", 1), ("weekly", 7), ("monthly", 28)):
        counts = [
            days.loc[(days["day"] > date - pd.Timedelta(days=length)) & (days["day"] <= date), "user_id"].nunique()
            for date in dates
        ]
        assert found[name].tolist() == counts
    lives = lifecycle(data)
    assert lives[["new", "returning", "resurrected", "dormant"]].sum(1).iloc[-1] == days["user_id"].nunique()
    assert lives["new"].sum() == days["user_id"].nunique()
    triangle = cohort_triangle(data)
    month = days["day"].dt.strftime("%Y-%m")
    active = triangle.assign(
        at=[c + pd.DateOffset(months=int(n)) for c, n in triangle[["cohort", "number"]].to_numpy()]
    )
    assert active.groupby(active["at"].dt.strftime("%Y-%m"))["active"].sum().to_dict() == (
        days.groupby(month)["user_id"].nunique().to_dict()
    )


def test_impressions_and_what_comes_after_the_clock_do_not_count(marquee_home) -> None:
    stamps = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-09"], utc=True)
    frame = pd.DataFrame({"user_id": "a", "timestamp": stamps, "kind": ["watch", "impression", "watch"]})
    data = write_dataset(
        "mine", {"interactions": frame}, sources=[Source("t", "t")], as_of=pd.Timestamp("2024-01-08", tz="UTC")
    )
    assert stickiness(data)["daily"].sum() == 1
    assert n_day_retention(data, (1, 7))["rolling"].tolist() == [0, 0]


def test_what_cannot_be_followed_is_said(written, small_dataset) -> None:
    with pytest.raises(UserError, match="no real times"):
        stickiness(written(MEMBERS, time_kind="order"))
    with pytest.raises(UserError, match="has no interactions"):
        cohort_triangle(small_dataset(drop=("interactions",)))
    with pytest.raises(UserError, match="nobody to follow"):
        lifecycle(written(MEMBERS, "2020-01-01", replace=True))


def test_days_are_those_of_utc_wherever_it_runs(written, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = duckdb.connect

    def connect_elsewhere() -> duckdb.DuckDBPyConnection:
        connection = connect()
        connection.execute("SET TimeZone = 'Pacific/Auckland'")  # noon in UTC is tomorrow there
        return connection

    monkeypatch.setattr(duckdb, "connect", connect_elsewhere)
    found = stickiness(written({"a": ["2024-01-01", "2024-01-02"]}))
    assert found["date"].dt.strftime("%m-%d").tolist() == ["01-01", "01-02"]
    assert found["daily"].tolist() == [1, 1]


def test_the_day_itself_counts_as_that_day_or_later(written) -> None:
    found = n_day_retention(written({"a": ["2024-01-01", "2024-01-08"]}, "2024-01-10"), (6, 7, 8))
    assert found["n_day"].tolist() == [0, 1, 0]
    assert found["rolling"].tolist() == [1, 1, 0]


def test_windows_end_with_the_clocks_day_and_may_be_empty(written) -> None:
    found = lifecycle(written({"a": ["2024-01-10", "2024-01-11"]}, "2024-01-30"), window_days=10)
    assert found["date"].dt.strftime("%m-%d").tolist() == ["01-10", "01-20", "01-30"]
    assert found.drop(columns="date").to_numpy().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]


def test_stickiness_looks_back_28_days_and_no_more(written) -> None:
    days = [f"{day:%Y-%m-%d}" for day in pd.date_range("2024-01-01", periods=30)]
    found = stickiness(written({"stays": days, "b": days[:1], "c": days[:1]}))
    assert found["stickiness"].iloc[27] == pytest.approx(30 / 28 / 3)
    assert found["stickiness"].iloc[28] == 1


def test_series_alone_follow_nobody_and_a_folder_may_hold_a_quote(
    tmp_path: Path, marquee_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path / "Tom's home"))
    stamps = pd.to_datetime(["2024-01-01 21:00", "2024-01-02 21:00"], utc=True)
    plays = pd.DataFrame({"series_id": "plays", "date": stamps.normalize(), "value": 1.0})
    with pytest.raises(UserError, match="has no interactions"):
        stickiness(write_dataset("series", {"metrics": plays}, sources=[Source("t", "t")]))
    events = pd.DataFrame({"user_id": "a", "timestamp": stamps})
    data = write_dataset("mine", {"interactions": events}, sources=[Source("t", "t")])
    assert stickiness(data)["daily"].tolist() == [1, 1]
    assert load_panel(data).values[0].tolist() == [1, 1]
