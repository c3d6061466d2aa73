"""Every page with everything, with nothing, and with tables missing or damaged: no exception ever reaches it."""

import ast
import asyncio
import gc
import html
import json
import re
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import dashboard_home as made
import numpy as np
import pandas as pd
import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest
from streamlit.web.server.app_discovery import discover_asgi_app

from dashboard.warm import warmed
from data import home
from data.atomic import write_text
from data.dataset import Dataset, Source, write_dataset
from recsys import pages

APP = Path(__file__).resolve().parents[1] / "dashboard" / "streamlit_app.py"
PAGES = ("home", "title", "today", "reviews", "engagement", "winback", "experiments", "models", "datasets")


def opened(page: str, **query: str) -> AppTest:
    """The page as a reader gets it who opens its address.

    AppTest does not read the configuration beside the main script, as `streamlit run` does.
    """
    options = tomllib.loads((APP.parent / ".streamlit" / "config.toml").read_text())
    config.set_option("runner.magicEnabled", options["runner"]["magicEnabled"])
    app = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    if page == "home":
        return app.run()
    # AppTest begins at the home page, which a reader of another address never sees: it must not count as shown.
    with mock.patch("dashboard.offers.shown", return_value=None):
        app.run()
    app.switch_page(f"views/{page}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    return app


def text_of(app: AppTest) -> str:
    """Everything that the page says in HTML and markdown; style and script, which every page has, are not said."""
    bodies = [body for element in app.get("html") if not (body := element.proto.body).startswith("<style>")]
    return "\n".join([*bodies, *(str(m.value) for m in app.markdown), *(str(c.value) for c in app.caption)])


def toasts(app: AppTest) -> list[str]:
    """What dashboard.page.toast shows."""
    bodies = [element.proto.body for element in app.get("html") if 'class="mq-toast' in element.proto.body]
    return [html.unescape(re.sub(r"<[^>]*>", "", body)) for body in bodies]


def check_calm(app: AppTest) -> str:
    assert not app.exception
    text = text_of(app)
    assert "could not be drawn" not in text, (home.home() / "dashboard.log").read_text()
    return text


@pytest.fixture
def full(small_dataset: Callable[..., Dataset]) -> Dataset:
    data = small_dataset("demo")
    made.write_everything(data)
    return data


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_everything(page: str, full: Dataset) -> None:
    check_calm(opened(page))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_nothing_at_all(page: str, marquee_home: Path) -> None:
    app = opened(page)
    text = check_calm(app)
    if page in ("home", "today", "reviews", "engagement", "winback", "experiments", "models"):
        assert "Nothing is loaded yet" in text
        assert "Prepare the demo" in [button.label for button in app.button]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_a_dataset_and_nothing_trained(page: str, small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("mine")
    text = check_calm(opened(page, title="i1"))
    if page == "home":
        assert "Nothing is trained yet" in text


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("missing", ["users", "items", "reviews", "interactions"])
def test_every_page_with_a_table_missing(page: str, missing: str, small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo", drop=(missing,))
    if missing != "interactions":
        made.write_everything(data)
    check_calm(opened(page, title="i1", member="u1"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_empty_score_tables(page: str, small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    made.write_everything(data)
    tables = {
        "recommendations": made.recommendations(data),
        "review_scores": made.review_scores(data, 1),
        "engagement_forecast": made.forecast(data),
        "retention": made.retention(data),
    }
    for name, frame in tables.items():
        made.write_scores(data, name, frame.head(0))
    check_calm(opened(page, title="i1"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_damaged_files(page: str, full: Dataset) -> None:
    for path in home.scores(full.name).glob("*.parquet"):
        path.write_bytes(b"no parquet at all")
    text = check_calm(opened(page, title="i1"))
    if page in ("home", "today", "reviews", "engagement", "winback", "title"):
        assert "cannot be read as Parquet" in text
        assert "score again" in text
    if page == "home":  # what is popular stands there all the same
        assert "Nothing left to show" not in text
    if page in ("home", "title"):
        drawn = [component.key for component in opened(page, title="i1").get("bidi_component")]
        assert {"home": "billboard-u21", "title": "like-i1"}[page] in drawn
    if page == "title":
        assert "<h1>Title 1</h1>" in text


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_a_damaged_table(page: str, full: Dataset) -> None:
    """The sentence that says which, under the page's heading."""
    full.path("interactions").write_bytes(b"no parquet at all")
    text = check_calm(opened(page, title="i1"))
    assert text.count("<h1") == 1
    if page in ("home", "title", "today", "engagement", "datasets"):
        assert "interactions.parquet cannot be read" in text
        assert "fetch or import the dataset again" in text


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_a_dataset_without_times(page: str, marquee_home: Path) -> None:
    from conftest import generated_tables

    write_dataset("plain", generated_tables(), sources=[Source("x", "import")], time_kind="order")
    text = check_calm(opened(page, title="i1"))
    if page in ("today", "engagement"):
        assert "no calendar" in text
    if page == "winback":
        assert "Nobody can be followed here" in text


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_a_dataset_of_reviews_only(page: str, small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("texts", drop=("interactions", "items", "users"))
    check_calm(opened(page))


def test_every_page_of_ready_made_series(marquee_home: Path) -> None:
    days = pd.date_range("2024-01-01", periods=60, freq="D", tz="UTC")
    metrics = pd.DataFrame({"series_id": "hours", "date": days, "value": range(60)})
    write_dataset("usage", {"metrics": metrics}, sources=[Source("usage.csv", "import")])
    for page in PAGES:
        check_calm(opened(page))
    app = opened("engagement")
    assert "hours" in app.selectbox[0].options


def test_home_shows_the_member_and_no_raw_ids(full: Dataset) -> None:
    app = opened("home", member="u3")
    check_calm(app)
    members = next(box for box in app.selectbox if box.label == "Who is watching?")
    assert members.value == "u3"
    assert "Member u3 · 21" in members.options
    assert not re.search(r"\bi\d+\b", text_of(app))


def test_home_passes_on_forecasts_and_sentiment_where_there_are_any(
    full: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict] = []

    def home_rows(*args: object, **options: object) -> pages.Page:
        told.append(options)
        return built(*args, **options)

    built = pages.home_rows
    monkeypatch.setattr(pages, "home_rows", home_rows)
    check_calm(opened("home", member="u3"))
    assert told[-1]["forecasts"].set_index("item_id").loc["i0", "expected"] == pytest.approx(280)
    linked = full.reviews().head(100)["item_id"].dropna()
    assert told[-1]["sentiment"].set_index("item_id")["reviews"].sum() == len(linked)
    for name in ("engagement_forecast", "review_scores"):
        (home.scores(full.name) / f"{name}.parquet").unlink()
    check_calm(opened("home", member="u3"))
    assert told[-1]["forecasts"] is None
    assert told[-1]["sentiment"] is None


def test_choosing_a_member_changes_the_address(full: Dataset) -> None:
    app = opened("home", member="u3")
    next(box for box in app.selectbox if box.label == "Who is watching?").set_value("u5").run()
    check_calm(app)
    assert app.query_params["member"] == "u5"


def test_unknown_member_and_title_in_the_address_are_passed_over(full: Dataset) -> None:
    app = opened("home", member="<script>alert(1)</script>")
    assert "<script>" not in check_calm(app)
    text = check_calm(opened("title", title="no-such-title"))
    assert "has no such title" in text


def test_title_page_tells_match_reason_and_reviews(full: Dataset) -> None:
    scored = made.recommendations(full)
    first = scored[scored["user_id"] == "u1"].iloc[0]
    text = check_calm(opened("title", title=first["item_id"], member="u1"))
    assert "% match for Member u1" in text
    assert "Because you watched" in text
    assert first["item_id"] not in text.replace("title=", "")


def test_markup_in_data_is_shown_as_text(marquee_home: Path) -> None:
    from conftest import generated_tables

    tables = generated_tables()
    bad = "<img src=x onerror=alert(1)> **bold** $x$"
    tables["items"].loc[1, "title"] = bad
    tables["reviews"].loc[1, "text"] = bad
    tables["reviews"].loc[1, "item_id"] = "i1"
    data = write_dataset("demo", tables, sources=[Source(bad, "import", bad, licence=bad)], notes=[bad])
    made.write_everything(data)
    for page in PAGES:
        app = opened(page, title="i1")
        assert "<img src=x" not in check_calm(app)


def test_engagement_offers_series_by_name(full: Dataset) -> None:
    app = opened("engagement")
    text = check_calm(app)
    series = next(box for box in app.selectbox if box.label == "Series")
    assert series.options[:2] == ["All viewing", "Active members"]
    assert "The Title 0" in series.options
    assert "title:i0" not in series.options
    assert "Likely to leave (" in text
    series.set_value("genre:Drama").run()
    check_calm(app)


def test_engagement_shows_how_members_stay(full: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard import charts

    drawn: dict[str, dict] = {}
    show = charts.show

    def kept(chart: Any, dark: bool, alt_text: str, height: int = 280) -> None:
        drawn[alt_text] = chart.to_dict()
        show(chart, dark, alt_text, height)

    monkeypatch.setattr(charts, "show", kept)
    app = opened("engagement")
    check_calm(app)
    assert "How members stay" in [head.value for head in app.header]
    rows = {
        words: [len(part) for part in chart["datasets"].values()]
        for words, chart in drawn.items()
        if words.startswith(("Members by state", "Share of", "Daily and monthly"))
    }
    assert rows == {
        "Members by state in each 28 days": [5 * 4],  # 120 days, four states
        "Share of each month's new members active": [4],  # all came in January
        "Share of members who came back by day": [7 * 2],
        "Daily and monthly active members": [120 * 3],
    }


def test_engagement_tells_unusual_days_of_the_series_chosen(full: Dataset) -> None:
    day = pd.Timestamp("2024-04-01", tz="UTC")
    row = {"date": day, "value": 900.0, "q05": 10.0, "q50": 40.0, "q95": 90.0, "mean": 45.0, "once_in": 5000.0}
    told = {
        "rarity": "less than once in 1,000 days",
        "genres": [{"series_id": "genre:Drama", "surplus": 500.0}],
        "titles": [{"series_id": "title:i0", "surplus": 80.0}],
    }
    made.write_scores(full, "unusual", pd.DataFrame([{**row, "series_id": "total", **told, "run_id": made.RUN}]))
    app = opened("engagement")
    assert "Unusual days" in check_calm(app)
    table = next(frame.value for frame in app.dataframe if "Driven by" in frame.value)
    assert table.iloc[0].to_dict() == {
        "Day": "1 April 2024",
        "Value": 900.0,
        "Expected": "40 (10 to 90)",
        "So far out": "Less than once in 1,000 days",
        "Driven by": "Drama +500; The Title 0 +80",
    }
    next(box for box in app.selectbox if box.label == "Series").set_value("active_members").run()
    assert "Unusual days" not in check_calm(app)


def at_risk(data: Dataset, **columns: object) -> pd.DataFrame:
    """A retention table with everything: all members likely to leave, the first of them the most of a loss."""
    found = made.retention(data)
    return found.assign(
        **{
            "p_return": 0.2,
            "band": "high",
            "days_since_last": 40.0,
            "top_reason": "last seen 40 days ago",
            "reason_effect": 0.3,
            "expected_days": 50.0,
            "usual_visits": np.arange(len(found), 0, -1.0),
            **columns,
        }
    )


def test_winback_lists_the_largest_loss_first_with_reason_and_picks(full: Dataset) -> None:
    scored = at_risk(full)
    made.write_scores(full, "retention", scored)
    app = opened("winback")
    text = check_calm(app)
    first = scored["user_id"].iloc[0]
    assert text.index(f"Member {first} ") < text.index(f"Member {scored['user_id'].iloc[1]} ")
    assert "Likely to leave (80\u00a0%)" in text
    assert "the chance to return would be 50\u00a0% instead of 20\u00a0%" in text
    assert f"{len(scored):.1f} visits in 30 days while here · expected loss {0.8 * len(scored):.1f} visits" in text
    assert text.count("<article") == 12
    assert text.count('class="mq-poster"') == 36
    assert "Because they watched" in text
    app.button[0].click().run()
    assert check_calm(app).count("<article") == min(24, len(scored))


def test_winback_filters_and_says_when_nobody_is_left(full: Dataset) -> None:
    made.write_scores(full, "retention", at_risk(full, days_since_last=100.0))
    app = opened("winback")
    assert "Nobody in this group" in check_calm(app)  # none was seen within 90 days
    app.selectbox(key="winback-seen-demo").set_value("180 days").run()
    assert check_calm(app).count("<article") == 12
    app.get("button_group")[0].set_value("low").run()
    assert "Nobody in this group" in check_calm(app)


def test_winback_shows_text_as_text_and_does_without_recommendations(full: Dataset) -> None:
    made.write_scores(full, "retention", at_risk(full, top_reason="<img src=x onerror=alert(1)>"))
    (home.scores(full.name) / "recommendations.parquet").unlink()
    text = check_calm(opened("winback"))
    assert "<img" not in text
    assert "&lt;img src=x" in text
    assert "Titles will stand beside the members once recommendations are scored" in text


def test_models_tell_when_the_baseline_is_better(full: Dataset) -> None:
    app = opened("models")
    assert "14.3 % better than the best baseline, EASE" in check_calm(app)
    app.get("button_group")[0].set_value("retention").run()
    assert "worse than the best baseline, logistic regression" in check_calm(app)


def test_models_say_which_direction_is_good_where_one_is(full: Dataset) -> None:
    path = home.runs(full.name, "recommender") / made.RUN / "report.json"
    report = json.loads(path.read_text("utf-8"))
    for row in report["metrics"]["test"].values():
        row |= {"±": 0.01, "log_loss": 0.4, "popularity@10": 0.2}
    write_text(path, json.dumps(report))
    app = opened("models")
    metrics = next(box for box in app.selectbox if box.label == "Metric")
    assert metrics.options == ["NDCG@10", "Log loss", "Popularity@10"]  # an interval is no metric
    for name, words in (("ndcg@10", "NDCG@10, higher"), ("log_loss", "Log loss, lower"), ("popularity@10", "")):
        metrics.set_value(name).run()
        check_calm(app)
        (title,) = json.loads(app.get("vega_lite_chart")[0].proto.spec)["title"]["text"]
        assert title == (f"{words} is better" if words else "Popularity@10")


def test_models_say_when_the_dataset_has_changed(full: Dataset) -> None:
    made.write_run(full, "recommender", fingerprint="0123456789abcdef")
    assert "has changed since this training" in check_calm(opened("models"))


def test_damaged_report_is_a_notice(full: Dataset) -> None:
    write_text(home.runs(full.name, "recommender") / made.RUN / "report.json", "{")
    assert "cannot be read" in check_calm(opened("models"))


def test_several_datasets_can_be_chosen_between(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("demo")
    small_dataset("other", n_users=20)
    app = opened("models")
    check_calm(app)
    box = next(box for box in app.selectbox if box.label == "Dataset")
    assert box.value == "demo"
    box.set_value("other").run()
    check_calm(app)
    assert app.query_params["dataset"] == "other"


def test_the_environment_names_the_default_dataset(
    small_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_dataset("demo")
    small_dataset("other")
    monkeypatch.setenv("MARQUEE_DATASET", "other")
    box = next(box for box in opened("models").selectbox if box.label == "Dataset")
    assert box.value == "other"


def test_import_form_wants_a_name_and_a_file(marquee_home: Path) -> None:
    app = opened("datasets")
    next(button for button in app.button if button.label == "Import").click().run()
    assert "Give the new dataset a name" in check_calm(app)


def test_a_defect_becomes_a_notice_with_the_place_of_the_log(marquee_home: Path) -> None:
    def script() -> None:
        from dashboard import page

        def broken() -> None:
            raise ZeroDivisionError("a defect")

        page.guarded(broken)()

    app = AppTest.from_function(script).run()
    assert not app.exception
    assert str(marquee_home / "dashboard.log") in text_of(app)
    assert "ZeroDivisionError: a defect" in (marquee_home / "dashboard.log").read_text()


def test_garbage_collected_while_a_page_is_compiled_does_it_no_harm(marquee_home: Path) -> None:
    """CPython 3.11 raises SystemError from `ast.parse` when a finalizer parses too: Streamlit's magic must be off."""

    def parse(phase: str, info: dict[str, int], deeper: int = 15) -> None:
        if deeper:
            parse(phase, info, deeper - 1)
        else:
            ast.parse("a = (1, 2)")

    before = gc.get_threshold()
    gc.callbacks.append(parse)
    gc.set_threshold(20)
    try:
        app = opened("reviews")
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(parse)
    assert app.main.children  # a main script that does not compile shows nothing at all
    assert not app.exception


def test_the_server_reads_what_a_first_page_needs_before_anybody_comes(full: Dataset) -> None:
    found = discover_asgi_app(APP)
    assert found.import_string == "streamlit_app:app"

    async def live() -> None:
        async with warmed(mock.sentinel.app):
            (thread,) = [t for t in threading.enumerate() if t.name == "warm-up"]
            thread.join()

    asyncio.run(live())
    for table in ("interactions", "items", "users"):
        full.path(table).unlink()
    app = opened("home")
    assert not app.exception
    assert "cannot be read" not in check_calm(app)
    assert "does not exist" not in text_of(app)
