"""Today: what changed, counted from the dataset's clock; what needs a look; how the models are."""

import base64
import doctest
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import dashboard_home as made
import numpy as np
import pandas as pd
import pytest
from test_dashboard_pages import check_calm, opened, text_of

from dashboard import changes, scoring, sparks
from dashboard.health import Health, health
from dashboard.sparks import Spark
from data import events, home, jobs, runs
from data.dataset import Dataset, Source, write_dataset
from forecasting.frequency import FREQUENCIES
from forecasting.series import Panel

DAY = pd.Timedelta(days=1)
NAN = float("nan")


@pytest.fixture
def full(small_dataset: Callable[..., Dataset]) -> Dataset:
    data = small_dataset("demo")
    made.write_everything(data)
    return data


def panel(values: list[float], name: str = "total", frequency: str = "daily") -> Panel:
    return Panel((name,), 19_000, FREQUENCIES[frequency], np.array([values], float))


def forecast(values: list[float], first: pd.Timestamp, name: str = "total") -> pd.DataFrame:
    dates = pd.date_range(first, periods=len(values), freq="D")
    return pd.DataFrame({"series_id": name, "date": dates, "mean": values})


# Numbers -------------------------------------------------------------------------------------------------------------


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(changes).failed == 0


def test_audience_is_compared_with_its_level_and_with_what_is_forecast() -> None:
    past = panel([10.0] * 28 + [20.0] * 7)
    after = past.dates(35, 36)[0]
    ahead = forecast([15.0] * 28, after)
    unusual = pd.DataFrame(
        {"series_id": ["total", "total", "genre:Drama"], "date": [after - DAY, after - 9 * DAY, after]}
    )
    found = changes.audience(past, ahead, unusual, "rating")
    assert (found.label, found.number, found.unit) == ("Audience, last 7 days", "140", "ratings")
    assert found.told == (
        "+100 % on 70, the level of the 28 days before",
        "105 forecast for the next 7 days, −25 % on these",
        "1 day of them unusual: see Engagement",
    )
    assert found.spark is not None
    assert found.spark.values == (10.0,) * 28 + (20.0,) * 7
    assert found.spark.ahead == (15.0,) * 7
    assert found.spark.level == 10


def test_a_day_that_is_not_over_counts_for_nothing() -> None:
    found = changes.audience(panel([10.0] * 28 + [20.0] * 7 + [NAN]), None, None, "view")
    assert found.number == "140"
    assert found.told[0].startswith("+100 %")
    assert changes.last_day(panel([1.0, 2.0, NAN])) == changes.last_day(panel([1.0, 2.0]))


@pytest.mark.parametrize(
    ("days", "words"),
    [(5, "no days before to compare with"), (10, "0 % on 70, the level of the 3 days before"), (0, "No day is over")],
)
def test_a_short_history_says_what_it_is_compared_with(days: int, words: str) -> None:
    found = changes.audience(panel([10.0] * days + [NAN]), None, None, "view")
    assert found.told[0].startswith(words)


def test_nothing_before_is_no_division() -> None:
    assert (
        changes.audience(panel([0.0] * 28 + [1.0] * 7), None, None, "view").told[0].startswith("up from 0, the level")
    )
    assert changes.audience(panel([0.0] * 35), None, None, "view").told[0].startswith("as before: 0, the level")


def test_a_forecast_from_before_the_clock_is_none() -> None:
    past = panel([10.0] * 35)
    found = changes.audience(past, forecast([15.0] * 7, past.dates(20, 21)[0]), None, "view")
    assert found.told[1] == "The forecast ends before the dataset's clock"
    assert found.spark is not None
    assert found.spark.ahead == ()


def test_ready_made_series_are_never_added_up() -> None:
    found = changes.audience(panel([100.0] * 28 + [150.0] * 7, "subscribers"), None, None, "view")
    assert (found.label, found.number, found.unit) == ("subscribers, last 7 days", "150", "a day, on average")
    assert found.told[0] == "+50 % on 100, the level of the 28 days before"


def test_active_members_are_compared_with_whole_windows_before() -> None:
    days = pd.date_range("2024-01-01", periods=30, freq="D")
    sticky = pd.DataFrame({"date": days, "weekly": np.arange(30.0), "monthly": 1.0})
    found = changes.active(sticky, days[-1])
    assert found.number == "29"
    # 22, 15 and 8 members; the window that would end on the second day is not whole.
    assert found.told[0] == "+93 % on 15, the mean of the 3 weeks before"
    assert changes.active(sticky, days[6]).told[0] == "no days before to compare with"
    assert changes.active(sticky, days[0] - DAY).number == "–"


def reviewed(clock: pd.Timestamp, recent: list[float], earlier: list[float]) -> pd.DataFrame:
    dates = [clock - DAY] * len(recent) + [clock - 40 * DAY] * len(earlier)
    return pd.DataFrame({"p_positive": recent + earlier, "created_at": dates})


def test_the_share_of_positive_reviews_says_when_a_change_is_no_more_than_chance() -> None:
    clock = pd.Timestamp("2024-05-01", tz="UTC")
    found = changes.positive(reviewed(clock, [0.2, 0.3] * 20, [0.7, 0.8] * 20), clock)
    assert (found.number, found.unit) == ("25", "% positive")
    assert found.told[0] == "−50 points on the 40 reviews before (75 %)"
    found = changes.positive(reviewed(clock, [0.1, 0.9] * 3, [0.2, 0.9] * 3), clock)
    assert found.told[0] == "−5 points on the 6 reviews before (55 %), no more than chance does"
    found = changes.positive(reviewed(clock, [0.9] * 4, [0.2] * 9), clock)
    assert found.number == "–"
    assert "4 reviews in these days: too few for a share" in found.told
    undated = reviewed(clock, [0.9] * 9, []).assign(created_at=pd.to_datetime([None] * 9, utc=True))
    assert "no dates" in changes.positive(undated, clock).told[0]
    assert "too few earlier" in changes.positive(reviewed(clock, [0.9] * 9, []), clock).told[0]


def scored(**columns: object) -> pd.DataFrame:
    base = {
        "user_id": ["a", "b", "c", "d"],
        "p_return": [0.1, 0.2, 0.3, 0.9],
        "p_return_before": [0.5, 0.2, NAN, 0.1],
        "horizon_days": 30,
        "band": ["high", "high", "high", "low"],
        "days_since_last": [3.0, 10.0, 500.0, 0.0],
        "top_reason": "away",
        "reason_effect": 0.1,
        "expected_days": 50.0,
        "usual_visits": [10.0, 10.0, 20.0, 1.0],
    }
    return pd.DataFrame(base | columns)


def test_newly_at_risk_are_those_who_crossed_within_the_week() -> None:
    found = changes.risk(scored())
    assert (found.label, found.number) == ("Newly at risk, last 7 days", "2")
    assert found.told == (
        "1 of them in their first week; 1 left the group meanwhile",
        "3 of 4 members likely to leave in all",
        "expected loss 31 visits in 30 days",
    )
    assert found.spark is not None
    assert found.spark.values[:3] == (1, 1, 0)
    assert sum(found.spark.values) == 2  # who was last seen a year ago has no bar
    newly = changes.newly_at_risk(scored())
    assert newly is not None
    assert newly["user_id"].tolist() == ["c", "a"]  # the largest loss first
    assert np.isnan(newly["p_return_before"].iloc[0])
    assert newly["p_return_before"].iloc[1] == 0.5


def test_scores_without_the_week_before_say_so_instead_of_guessing() -> None:
    old = scored(p_return_before=NAN)
    found = changes.risk(old)
    assert (found.label, found.number) == ("Likely to leave", "3")
    assert "score retention again" in found.told[-1]
    assert changes.newly_at_risk(old) is None


def test_the_deepest_fall_comes_first() -> None:
    sentiment = pd.DataFrame(
        {
            "item_id": ["calm", "fell", "fell deeper"],
            "recent_reviews": 20,
            "recent_mean": [0.6, 0.3, 0.1],
            "earlier_reviews": 20,
            "earlier_mean": [0.7, 0.7, 0.8],
        }
    )
    assert changes.turned_sour(sentiment)["item_id"].tolist() == ["fell deeper", "fell"]


def test_a_spark_is_a_picture_with_words() -> None:
    for spark in (
        Spark((1, 2, NAN, 4), "four <days>", ahead=(3, 3), level=2.5),
        Spark((0, 0, 0), "nothing", bars=True),
        Spark((5, 5), "the same", level=5),
    ):
        drawn = sparks.image(spark, dark=True)
        assert f'alt="{spark.words}"'.replace("<", "&lt;").replace(">", "&gt;") in drawn
        found = re.search(r"base64,([^\"]+)", drawn)
        assert found is not None
        picture = base64.b64decode(found.group(1)).decode()
        ElementTree.fromstring(picture)
        assert "nan" not in picture
    assert sparks.image(Spark((1,), "one"), dark=False) == ""


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_counts_from_the_clock_of_the_dataset(full: Dataset) -> None:
    text = check_calm(opened("today"))
    assert "Today is 29 April 2024" in text or "Today is 30 April 2024" in text
    assert str(pd.Timestamp.now().year) not in re.sub(r"In use since[^.]*\.", "", text).replace("2024", "")
    assert text.count('class="mq-card mq-change"') == 4
    for label in ("Audience, last 7 days", "Active members, last 7 days", "Positive reviews, last 28 days"):
        assert label in text
    assert text.count('class="mq-spark"') == 4
    assert "score retention again" in text  # the scores made up here do not know the week before


def test_a_title_that_turned_sour_links_to_its_page(full: Dataset) -> None:
    as_of = full.as_of
    tables = {name: full.read(name) for name in ("interactions", "items", "users")}
    bad = "<img src=x onerror=alert(1)> **bold**"
    tables["items"].loc[tables["items"]["item_id"] == "i3", "title"] = bad
    dates = [as_of - DAY] * 12 + [as_of - 60 * DAY] * 12
    tables["reviews"] = pd.DataFrame(
        {
            "review_id": [f"s{i}" for i in range(24)],
            "text": "x",
            "item_id": "i3",
            "created_at": dates,
            "label": "negative",
        }
    )
    data = write_dataset("demo", tables, sources=[Source("x", "generated")], replace=True)
    p = [0.1] * 12 + [0.9] * 12
    table = made.review_scores(data, 24).assign(p_positive=p)
    made.write_scores(data, "review_scores", table)
    app = opened("today")
    text = check_calm(app)
    assert "<img src=x" not in text
    assert "From 90 to 10 % positive: 12 reviews before, 12 in the last 28 days" in text
    link = next(link for link in app.get("page_link") if link.proto.query_string == "title=i3")
    assert link.proto.page == "title"
    assert "\\*\\*bold" in link.proto.label


def test_members_newly_at_risk_are_listed_with_a_title_for_each(full: Dataset) -> None:
    table = made.retention(full).assign(
        band="high", p_return=0.2, p_return_before=0.2, usual_visits=3.0, expected_days=40.0, reason_effect=0.1
    )
    table.loc[:7, "p_return_before"] = 0.5
    table.loc[7, "p_return_before"] = NAN
    made.write_scores(full, "retention", table)
    text = check_calm(opened("today"))
    assert "Likely to leave (80\u00a0%)" in text
    assert "50\u00a0% a week ago" in text
    assert "to bring them back: " in text
    assert "1 of them in their first week" in text
    assert "All well: nobody became likely to leave" not in text
    made.write_scores(full, "retention", table.assign(p_return_before=0.2))
    assert "All well: nobody became likely to leave" in check_calm(opened("today"))


def test_nothing_trained_still_tells_the_audience_and_the_way_on(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("mine")
    app = opened("today")
    text = check_calm(app)
    assert "No forecast yet" in text
    assert "No review is scored yet" in text
    assert text.count("Not trained yet") == 4
    assert "python -m recsys fit --config recsys/configs/quick.yaml --data.dataset mine" in text
    assert "Train and score what is missing" in [button.label for button in app.button]


def test_without_reviews_and_without_interactions(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("demo", drop=("reviews",))
    text = check_calm(opened("today"))
    assert "This dataset has no reviews." in text
    assert "The dataset has no reviews." in text  # of the sentiment model
    small_dataset("demo", drop=("interactions", "items", "users"))
    text = check_calm(opened("today"))
    assert "has no clock" in text
    assert "neither interactions nor ready-made series" in text


def test_a_damaged_table_takes_its_own_card_away_and_no_other(full: Dataset) -> None:
    (home.scores("demo") / "engagement_forecast.parquet").write_bytes(b"no parquet at all")
    text = check_calm(opened("today"))
    assert "cannot be read as Parquet" in text
    assert "Active members, last 7 days" in text


def test_what_members_did_is_counted_until_it_is_exported(full: Dataset) -> None:
    assert "Nothing has happened" in check_calm(opened("today"))
    events.record(full, [events.Event("u1", "rating", "i1", rating=4), events.Event("u1", "thumb_up", "i2")])
    events.record(full, [events.Event("u2", "watch", "i1"), events.Event("u2", "impression", "i1")])
    events.write_review(full, events.Review("u1", "i1", "Fine."))
    text = check_calm(opened("today"))
    assert "Members gave 1 rating, 1 watch, 1 thumb and 1 review, with 1 offer shown or opened" in text
    assert "python -m data export-events demo" in text
    from data.feedback import export_events

    export_events("demo")
    assert "Nothing has happened" in check_calm(opened("today"))


# Models --------------------------------------------------------------------------------------------------------------


def of(data: Dataset, model: str) -> Health:
    return next(one for one in health(data) if one.model == model)


def test_a_model_is_well_when_tables_run_and_scores_belong_together(full: Dataset) -> None:
    assert [one.state for one in health(full)] == ["All well", "All well", "All well", "Behind its baseline"]
    recommender = of(full, "recommender")
    assert recommender.kind == "good"
    assert recommender.told[0].startswith("In use since ")
    assert "14.3 % better than the best baseline" in recommender.told[1]
    assert recommender.commands == ()


def test_scores_of_another_run_or_older_than_the_tables_are_told(full: Dataset) -> None:
    made.write_scores(full, "retention", made.retention(full).assign(run_id="20230101-000000-aaaa"))
    assert of(full, "retention").problems[0].startswith("The scores on disk are from run 20230101-000000-aaaa")
    assert of(full, "retention").commands == ("python score.py retention --dataset demo",)
    path = home.scores("demo") / "engagement_forecast.parquet"
    os.utime(path, (1, 1))
    assert of(full, "engagement").problems == ("The tables are newer than the scores.",)
    path.unlink()
    assert of(full, "engagement").problems == ("Nothing is scored with it yet.",)
    assert of(full, "engagement").mend == "score"


def test_a_dataset_that_changed_wants_training_and_then_scoring(full: Dataset) -> None:
    made.write_run(full, "recommender", fingerprint="0123456789abcdef")
    found = of(full, "recommender")
    assert (found.kind, found.state, found.mend) == ("warn", "To be trained again", "train")
    assert [command.split()[2] for command in found.commands] == ["recsys", "recommend"]
    text = check_calm(opened("today"))
    assert "has changed since this training" in text


def test_a_deleted_run_in_use_and_a_damaged_report_are_told(full: Dataset) -> None:
    (home.runs("demo", "retention") / "current").write_text("20200101-000000-gone")
    found = of(full, "retention")
    assert (found.kind, found.state) == ("bad", "Nothing in use")
    assert found.commands == (f"python -m forecasting promote {made.RUN}",)
    (home.runs("demo", "engagement") / made.RUN / "report.json").write_text("{")
    assert of(full, "engagement").state == "Cannot be read"
    check_calm(opened("today"))


def test_another_datasets_sentiment_model_is_named(full: Dataset, small_dataset: Callable[..., Dataset]) -> None:
    other = small_dataset("other", n_users=20)
    assert of(other, "sentiment").told[0].endswith(", of dataset 'demo'.")
    assert of(other, "recommender").state == "Not trained yet"


def test_score_now_runs_the_very_command(full: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.scores("demo") / "engagement_forecast.parquet").unlink()
    asked: list[tuple[str, list[str], str | None]] = []

    def started(kind: str, argv: list[str], *, lock: str | None, cwd: Path, stdin: str) -> None:
        asked.append((kind, argv, lock))
        assert (cwd / argv[1]).is_file()

    monkeypatch.setattr(jobs, "start", started)
    app = opened("today")
    next(button for button in app.button if button.label == "Score the forecast now").click().run()
    check_calm(app)
    ((kind, argv, lock),) = asked
    assert (kind, lock) == ("Score the forecast of demo", jobs.model_lock("demo", "engagement"))
    assert argv[1:] == ["score.py", "engagement", "--dataset", "demo"]


def test_scoring_from_two_pages_excludes_each_other(full: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either page may be the first, and both were drawn before anything ran."""
    (home.scores("demo") / "retention.parquet").unlink()
    monkeypatch.setattr(scoring, "score_arguments", lambda *_: ("-c", "import time; time.sleep(60)"))
    for first, second in (("today", "datasets"), ("datasets", "today")):
        apps = {name: opened(name) for name in (first, second)}
        buttons = {
            "today": next(b for b in apps["today"].button if b.label == "Score retention now"),
            "datasets": apps["datasets"].button(key="score-demo-retention"),
        }
        check_calm(buttons[first].click().run())
        said = check_calm(buttons[second].click().run())
        (job,) = [job for job in jobs.list_jobs() if job.state == "running"]
        assert job.lock == jobs.model_lock("demo", "retention")
        assert f"Score retention of demo{' is still running' if second == 'datasets' else '</b>, '}" in said
        jobs.cancel(job.id)
        while any(job.state == "running" for job in jobs.list_jobs()):
            time.sleep(0.05)


def test_all_well_is_said(full: Dataset) -> None:
    report = home.runs("demo", "retention") / made.RUN / "report.json"
    report.write_text(report.read_text().replace("0.72", "0.6"))
    text = text_of(opened("today"))
    assert "All well: every model is trained on the tables as they are" in text
    assert runs.current_run("demo", "retention") is not None
