"""Readiness: what is there and missing for each model, and that it says no where the training says no."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from data import readiness as ready
from data.__main__ import main
from data.dataset import Dataset, Source, write_dataset
from data.errors import UserError
from data.readiness import MISSING, READY, THIN, all_readiness, readiness
from forecasting.engagement_data import EngagementData
from forecasting.frequency import _UP_TO, FREQUENCIES
from forecasting.retention_data import MIN_HISTORY_DAYS, RetentionData
from forecasting.series import VIEWING_KINDS
from nlp.splits import LEAST_PER_LABEL, split_reviews
from recsys.history_data import HistoryData

START = pd.Timestamp("2024-01-01", tz="UTC")


def written(name: str = "mine", time_kind: str = "real", **tables: pd.DataFrame) -> Dataset:
    return write_dataset(name, tables, sources=[Source("t", "t")], replace=True, time_kind=time_kind)  # type: ignore[arg-type]


def views(members: int, each: int, n_days: int = 200, titles: int = 60) -> pd.DataFrame:
    """`members` members with `each` titles each, evenly over the days."""
    n = members * each
    user = np.repeat(np.arange(members), each)
    day = (np.arange(n) * 7919) % n_days
    return pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in user],
            "item_id": [f"i{i}" for i in (np.tile(np.arange(each), members) + user) % titles],
            "timestamp": START + pd.to_timedelta(day, unit="D") + pd.Timedelta(hours=22),
            "rating": 4.0,
        }
    )


def reviews(positive: int, negative: int) -> pd.DataFrame:
    n = positive + negative
    label = ["positive"] * positive + ["negative"] * negative
    return pd.DataFrame(
        {"review_id": [f"r{i}" for i in range(n)], "text": [f"Text {i}" for i in range(n)], "label": label}
    )


def accepts(load: Callable[[], object]) -> bool:
    try:
        load()
    except UserError:
        return False
    return True


def test_the_thresholds_are_those_of_the_packages() -> None:
    """`data` may not import them, so they stand there twice."""
    for name, (noun, days, lately, horizon) in ready.STEPS.items():
        steps = FREQUENCIES[name]
        assert (noun, lately, horizon) == (steps.noun, steps.windows[0], steps.horizon)
        assert days == pytest.approx(steps.step_us / 86_400_000_000)
    assert ready._UP_TO == _UP_TO
    assert ready.tallies.VIEWING_KINDS == VIEWING_KINDS
    assert (RetentionData().horizon_days, MIN_HISTORY_DAYS) == (ready.HORIZON_DAYS, ready.HISTORY_DAYS)
    assert ready.LEAST_REVIEWS == LEAST_PER_LABEL


@pytest.mark.parametrize(("members", "each", "state"), [(24, 50, MISSING), (30, 30, MISSING), (30, 40, THIN)])
def test_the_recommender_needs_members_and_interactions(
    marquee_home: object, members: int, each: int, state: str
) -> None:
    found = readiness(written(interactions=views(members, each)), "recommender")
    assert found.state == state
    assert found.checks[0].have == members * each
    if members == 24:
        assert found.told[0].startswith("Members with two titles or more: 24, and at least 25 are needed")
        assert "1 more." in found.told[0]
    elif state == MISSING:
        assert "at least 1,000 are needed before it can beat popularity: 100 more." in found.told[0]
    else:
        assert "no more than a list of the most popular" in found.told[0]


def test_enough_is_enough(marquee_home: object) -> None:
    found = readiness(written(interactions=views(1000, 50)), "recommender")
    assert (found.state, found.told) == (READY, [])
    assert found.line == "Data for the recommender: ready (50,000 interactions, 1,000 members with two titles or more)."


def test_repeats_and_what_is_no_wish_do_not_count(marquee_home: object) -> None:
    frame = views(5, 4).assign(kind="watch")
    looked = frame.assign(kind="impression")
    found = readiness(written(interactions=pd.concat([frame, frame, looked])), "recommender")
    assert [check.have for check in found.checks] == [20, 5, 5, 8]
    only_looked = readiness(written(interactions=looked), "recommender")
    assert only_looked.state == MISSING
    assert "which title a member wanted" in only_looked.told[0]


@pytest.mark.parametrize("each", [2, 3])
def test_the_recommender_is_refused_where_the_training_refuses(marquee_home: object, each: int) -> None:
    data = written(interactions=views(600, each))
    held_out = next(check for check in readiness(data, "recommender").checks if "three" in check.what)
    assert (held_out.state != MISSING) == accepts(HistoryData(data.name).load) == (each == 3)


@pytest.mark.parametrize(("positive", "negative"), [(20, 20), (19, 40), (0, 30), (1000, 1000)])
def test_sentiment_counts_each_label(marquee_home: object, positive: int, negative: int) -> None:
    data = written(reviews=reviews(positive, negative))
    found = readiness(data, "sentiment")
    assert (found.state != MISSING) == accepts(lambda: split_reviews(data.reviews(), 0))
    assert [check.have for check in found.checks] == [positive, negative]
    if positive == 19:
        assert "Positive reviews: 19, and at least 20 are needed" in found.told[0]
    if positive == 1000:
        assert found.state == READY


def test_stars_are_labels_and_copies_and_neutral_ones_are_none(marquee_home: object) -> None:
    stars = reviews(30, 30).drop(columns="label").assign(stars=[5.0] * 10 + [4.0] * 15 + [3.0] * 5 + [2.0] * 30)
    stars.loc[:9, "text"] = [f"The SAME, text{mark}" for mark in "!.?!.?!.?!"]
    data = written(reviews=stars)
    assert [check.have for check in readiness(data, "sentiment").checks] == [16, 30]
    with pytest.raises(UserError, match=r"16 positive and 30 negative"):
        split_reviews(data.reviews(), 0, data.name)
    unlabelled = readiness(written(reviews=stars.drop(columns="stars")), "sentiment")
    assert len(unlabelled.told) == 1
    assert unlabelled.told[0].startswith("60 reviews without label or stars: nothing can be learnt from them")


@pytest.mark.parametrize("n_days", [9, 10, 11, 40, 103, 104, 126, 200])
def test_history_is_measured_as_forecasting_does(marquee_home: object, n_days: int) -> None:
    data = written(interactions=views(20, 20, n_days))
    engagement, retention = (readiness(data, model) for model in ("engagement", "retention"))
    assert engagement.checks[0].have == n_days
    assert (engagement.state != MISSING) == accepts(lambda: EngagementData(data.name).panel)
    assert (engagement.state == READY) == (n_days >= 126)
    assert (retention.checks[0].state != MISSING) == accepts(lambda: RetentionData(data.name).activity)
    if n_days == 40:
        assert "tested on 6 days only" in engagement.told[0]
        assert retention.told[0] == (
            "Days of events: 40, and at least 104 are needed to learn and check who is back within 30 days: 64 more."
        )
        assert readiness(data, "retention", horizon_days=8).checks[0].state == READY


def test_the_block_that_a_forecast_is_tested_on(marquee_home: object) -> None:
    for n_days in (40, 125, 126):
        data = written(interactions=views(20, 20, n_days))
        whole = readiness(data, "engagement").state == READY
        assert (EngagementData(data.name).block_steps == 28) == whole


def test_who_came_back_is_counted(marquee_home: object) -> None:
    """Ten members come on the first day and 19 days before the clock, five on the first two days."""
    days = {f"back{i}": (0, 100) for i in range(10)} | {f"away{i}": (0, 1) for i in range(5)} | {"once": (119,)}
    rows = [(user, f"i{day}", START + pd.Timedelta(days=day, hours=23)) for user, d in days.items() for day in d]
    found = readiness(
        written(interactions=pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])), "retention"
    )
    assert [check.have for check in found.checks] == [120, 10, 5]
    assert found.state == THIN


def test_ready_made_series_have_their_own_steps(marquee_home: object) -> None:
    def series(n: int, frequency: str) -> Dataset:
        dates = pd.date_range(START, periods=n, freq=frequency)
        return written(metrics=pd.DataFrame({"series_id": "a", "date": dates, "value": np.arange(n, dtype=float)}))

    monthly = readiness(series(30, "MS"), "engagement").checks[0]
    assert (monthly.what, monthly.have, monthly.least) == ("months of history", 30, 7)
    assert readiness(series(300, "h"), "engagement").checks[0].what == "hours of history"
    assert readiness(series(5, "MS"), "engagement").state == MISSING


def test_without_times_there_are_no_forecasts(marquee_home: object) -> None:
    found = {one.model: one for one in all_readiness(written(interactions=views(30, 40), time_kind="order"))}
    assert found["recommender"].state == THIN
    for model in ("engagement", "retention"):
        assert found[model].state == MISSING
        assert "no real times" in found[model].told[0]
    assert "no reviews" in found["sentiment"].told[0]


def test_the_command(small_dataset: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset("small", n_users=80)
    assert main(["ready", "small"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Dataset 'small'\n  model        state")
    assert "no yearly rhythm" in printed
    assert main(["ready", "small", "--strict", "--model", "recommender"]) == 0
    small_dataset("few", n_users=10, reviews=0)
    capsys.readouterr()
    assert main(["ready", "few", "--strict"]) == 2
    captured = capsys.readouterr()
    assert "recommender" in captured.out  # the table is there all the same
    assert captured.err.startswith("error: Dataset 'few' is not ready for recommender and sentiment: ")
    assert captured.err.count("\n") == 1
    assert main(["ready", "few", "--json", "--model", "retention"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["model"] for one in found["models"]] == ["retention"]
    assert main(["ready", "missing"]) == 2
    (small_dataset("few", n_users=10).path("interactions")).write_bytes(b"no parquet")
    assert main(["ready", "few"]) == 2
    assert "interactions.parquet" in capsys.readouterr().err
