"""The review inbox: what it lists first, filters, decisions and their undoing, marks in the text, the title's page."""

import html
import json
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import dashboard_home as made
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import generated_tables
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import check_calm, opened, text_of, toasts

from dashboard import explained, inbox, marked, moods, store, summary
from data import home, replies
from data.dataset import Dataset, Source, write_dataset
from data.schema import SIGNED


@pytest.fixture
def full(small_dataset: Callable[..., Dataset]) -> Dataset:
    data = small_dataset("demo")
    made.write_everything(data)
    return data


def queue_of(app: AppTest) -> dict[str, Any]:
    """What the queue's component was given."""
    return json.loads(app.get("bidi_component")[0].proto.json)


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def box(app: AppTest, label: str) -> Any:
    return next(one for one in app.selectbox if one.label == label)


def reply(app: AppTest) -> Any:
    return next(one for one in app.text_area if one.label == "Reply")


def state(app: AppTest) -> Any:
    return app.get("button_group")[0]


def test_the_queue_begins_with_the_highest_priority(full: Dataset) -> None:
    app = opened("reviews")
    assert "100 of 200 reviews scored" in check_calm(app)
    queue = queue_of(app)
    numbers = [int(row["number"]) for row in queue["rows"]]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > numbers[-1]
    assert queue["open"] == queue["rows"][0]["id"]
    assert {row["priority"] for row in queue["rows"]} >= {"Low"}
    assert len(queue["rows"]) == 60
    assert queue["more"] == "Show more (40 further)"


def test_the_pane_shows_title_reason_aspects_and_draft(full: Dataset) -> None:
    app = opened("reviews")
    box(app, "Title").set_value("linked").run()
    text = check_calm(app)
    assert "named by the source" in text
    assert re.search(r"negative about the (story|acting)", text, re.IGNORECASE)
    assert '<span class="mq-said mq-bad">' in text
    assert "− story" in text or "− acting" in text
    assert "−0.80" in text
    assert "Nothing is ever sent" in text
    scored = pd.read_parquet(home.scores(full.name) / "review_scores.parquet").set_index("review_id")
    assert reply(app).value == scored.loc[queue_of(app)["open"], "reply_draft"]


def test_filters_narrow_the_queue(full: Dataset) -> None:
    app = opened("reviews")
    scored = pd.read_parquet(home.scores(full.name) / "review_scores.parquet").set_index("review_id")
    box(app, "Mood").set_value("positive").run()
    box(app, "Title").set_value("unlinked").run()
    box(app, "Aspect").set_value("story").run()
    check_calm(app)
    named = scored["aspects"].map(lambda found: any(one["aspect"] == "story" for one in found))
    wanted = scored[(scored["label"] == "positive") & scored["item_id"].isna() & named]
    assert 0 < len(wanted) < 60
    assert {row["id"] for row in queue_of(app)["rows"]} == set(wanted.index)
    assert state(app).options[0] == f"Open {len(wanted)}"
    app.text_input[0].set_value("no review holds these words").run()
    assert "No review matches" in check_calm(app)


def test_search_finds_titles_too_and_reads_signs_as_they_are(full: Dataset) -> None:
    app = opened("reviews")
    app.text_input[0].set_value("the title 5").run()
    check_calm(app)
    assert {row["title"] for row in queue_of(app)["rows"]} == {"The Title 5"}
    app.text_input[0].set_value(".*").run()
    assert "No review matches" in check_calm(app)


def test_approving_moves_on_to_the_next_open_review(full: Dataset) -> None:
    app = opened("reviews")
    first, second = (row["id"] for row in queue_of(app)["rows"][:2])
    draft = reply(app).value
    button(app, "Approve").click().run()
    text = check_calm(app)
    assert "Reply approved" in text
    assert toasts(app) == ["Reply approved. Undo is above the review."]
    queue = queue_of(app)
    assert queue["open"] == second
    assert first not in [row["id"] for row in queue["rows"]]
    assert state(app).options[:2] == ["Open 99", "Approved 1"]
    (kept,) = replies.decisions("demo").to_dict("records")
    assert (kept["review_id"], kept["status"], kept["text"], kept["run_id"]) == (first, "approved", draft, made.RUN)


def test_a_decision_in_the_middle_of_the_queue_moves_on_from_there(full: Dataset) -> None:
    app = opened("reviews")
    third, fourth = (row["id"] for row in queue_of(app)["rows"][2:4])
    app.session_state["inbox-open"] = third
    app.run()
    assert queue_of(app)["open"] == third
    button(app, "Dismiss").click().run()
    assert queue_of(app)["open"] == fourth


def test_undo_opens_the_review_again(full: Dataset) -> None:
    app = opened("reviews")
    first = queue_of(app)["open"]
    button(app, "Dismiss").click().run()
    assert replies.decisions("demo")["status"].tolist() == ["dismissed"]
    button(app, "Undo").click().run()
    check_calm(app)
    assert replies.decisions("demo").empty
    assert queue_of(app)["open"] == first
    assert "Undo" not in [one.label for one in app.button]


def test_an_edit_is_saved_as_an_edit_and_can_be_changed_and_put_back(full: Dataset) -> None:
    app = opened("reviews")
    first = queue_of(app)["open"]
    reply(app).set_value("In our own words.").run()
    button(app, "Save edit").click().run()
    assert replies.decisions("demo")[["status", "text"]].to_numpy().tolist() == [["edited", "In our own words."]]
    state(app).set_value("approved").run()
    check_calm(app)
    (row,) = queue_of(app)["rows"]
    assert (row["id"], row["state"]) == (first, "✓ edited")
    assert reply(app).value == "In our own words."
    reply(app).set_value("Better words.").run()
    button(app, "Save edit").click().run()
    assert replies.decisions("demo")["text"].tolist() == ["Better words."]
    button(app, "Undo").click().run()
    check_calm(app)
    assert replies.decisions("demo")["text"].tolist() == ["In our own words."]


def test_an_empty_reply_is_not_approved(full: Dataset) -> None:
    app = opened("reviews")
    reply(app).set_value("  ").run()
    button(app, "Save edit").click().run()
    assert "The reply is empty" in check_calm(app)
    assert replies.decisions("demo").empty


def test_another_tone_is_another_draft_and_an_edit_waits_in_its_tone(full: Dataset) -> None:
    app = opened("reviews")
    warm = reply(app).value
    reply(app).set_value("My warm words.").run()
    app.get("button_group")[1].set_value("brief").run()
    check_calm(app)
    assert reply(app).value not in (warm, "My warm words.")
    app.get("button_group")[1].set_value("warm").run()
    assert reply(app).value == "My warm words."


def test_every_tone_is_signed_as_the_scored_draft_was(full: Dataset) -> None:
    path = home.scores(full.name) / "review_scores.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), SIGNED: "Lantern Films"}), path)
    app = opened("reviews")
    for tone in ("formal", "warm"):  # brief ones are not signed
        app.get("button_group")[1].set_value(tone).run()
        assert "Lantern Films" in reply(app).value


def test_the_last_decision_leaves_a_calm_page(full: Dataset) -> None:
    scored = pd.read_parquet(home.scores(full.name) / "review_scores.parquet")
    for review_id in scored["review_id"].iloc[1:]:
        replies.decide("demo", review_id, "dismissed")
    app = opened("reviews")
    button(app, "Approve").click().run()
    text = check_calm(app)
    assert "Nothing is left to answer here" in text
    assert "Reply approved" in text
    button(app, "Undo").click().run()
    assert queue_of(app)["open"] == scored["review_id"].iloc[0]


def test_decisions_outlive_a_new_scoring(full: Dataset) -> None:
    replies.decide("demo", "r00000", "approved", "Kept.", "old-run")
    made.write_scores(full, "review_scores", made.review_scores(full, 150))
    app = opened("reviews")
    check_calm(app)
    assert state(app).options == ["Open 149", "Approved 1", "Dismissed 0", "All 150"]


def test_a_database_that_cannot_be_used_is_a_sentence(full: Dataset) -> None:
    (home.home() / "marquee.db").write_bytes(b"no database at all " * 200)
    assert "The database" in check_calm(opened("reviews"))


def test_the_address_chooses_a_title(full: Dataset) -> None:
    app = opened("reviews", title="i5")
    check_calm(app)
    assert {row["title"] for row in queue_of(app)["rows"]} == {"The Title 5"}
    box(app, "Title").set_value("").run()
    assert len(queue_of(app)["rows"]) == 60


def test_scores_without_priorities_still_make_a_queue(full: Dataset) -> None:
    scored = made.review_scores(full, 50).assign(priority=np.nan, reply_draft=None, aspects=[[] for _ in range(50)])
    made.write_scores(full, "review_scores", scored)
    app = opened("reviews")
    check_calm(app)
    rows = queue_of(app)["rows"]
    assert rows[0]["priority"] == "No priority"
    assert rows[0]["kind"] == "bad"


def test_reviews_without_text_ask_for_it(full: Dataset) -> None:
    app = opened("reviews")
    app.session_state["reviews-tab"] = "Score a review"
    app.run()
    button(app, "Score it").click().run()
    assert "Type or paste a review first" in check_calm(app)


class Scorer:
    """Finds the same in every text."""

    def analyse(self, texts: list[str]) -> pd.DataFrame:
        aspects = [[{"aspect": "pacing", "p_positive": 0.2, "start": 0, "end": len(text)}] for text in texts]
        return pd.DataFrame({"label": "negative", "p_positive": 0.12, "aspects": aspects})


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded model whose every verdict is carried by the first three characters."""
    loaded: Future[Any] = Future()
    loaded.set_result(Scorer())
    monkeypatch.setattr(store, "live", lambda name, model: store.Live(name, made.RUN, loaded))
    monkeypatch.setattr(explained, "_words", lambda *of: [(0, 3, -1.0)])


def test_a_typed_review_shows_verdict_aspects_and_words(full: Dataset, live: None) -> None:
    app = opened("reviews")
    app.session_state["reviews-tab"] = "Score a review"
    app.run()
    app.text_area[0].set_value("Far <b>too long").run()
    button(app, "Score it").click().run()
    text = check_calm(app)
    assert "Negative <small> (88 %)" in text
    assert "Pacing" in text
    assert "−0.60" in text
    assert "<sup>−</sup>&NoBreak;Far</span> &lt;b&gt;too long<b>− pacing</b>" in text


def test_the_words_that_decided_are_shown_when_asked_for(full: Dataset, live: None) -> None:
    app = opened("reviews")
    assert "<sup>" not in check_calm(app)
    app.toggle[0].set_value(True).run()
    assert 'mq-word mq-bad mq-strong"><sup>−</sup>' in check_calm(app)


def test_without_a_usable_model_the_words_are_missing_and_the_rest_is_there(
    full: Dataset, live: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*of: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(explained, "_words", broken)
    app = opened("reviews")
    app.toggle[0].set_value(True).run()
    assert "The words could not be found" in check_calm(app)
    assert reply(app).value


def test_the_digest_sums_up_the_service_and_a_title(full: Dataset) -> None:
    made.write_scores(full, "review_scores", made.review_scores(full, 200))
    app = opened("reviews")
    app.session_state["reviews-tab"] = "Digest"
    app.run()
    text = check_calm(app)
    assert "95 % interval" in text
    assert "Story" in text
    assert "points" in text
    box(app, "Digest of").set_value("i1").run()
    assert "of 5" in check_calm(app)


def test_the_title_page_tells_aspects_quotes_and_the_way_to_the_inbox(full: Dataset) -> None:
    text = check_calm(opened("title", title="i1"))
    assert "linked review" in text
    assert "mq-diverging" in text
    assert "For" in text
    assert "Against" in text


def test_a_title_without_reviews_says_so(full: Dataset) -> None:
    assert "No review is linked to this title" in check_calm(opened("title", title="i2"))


def test_markup_in_a_review_is_text_wherever_it_stands(marquee_home: Path) -> None:
    bad = '<img src=x onerror="alert(1)"> **bold** $x$ </span><script>alert(2)</script> &amp; the plot is awful'
    tables = generated_tables()
    tables["reviews"]["text"] = bad
    tables["reviews"]["item_id"] = "i1"
    data = write_dataset("demo", tables, sources=[Source("generated", "generated")])
    made.write_everything(data)
    app = opened("reviews")
    assert "<img" not in check_calm(app)
    assert "<script" not in text_of(app)
    assert "&amp;amp; the plot is awful" in text_of(app)
    button(app, "Approve").click().run()
    assert "<img" not in check_calm(app)
    app.session_state["reviews-tab"] = "Digest"
    app.run()
    assert "<img" not in check_calm(app)
    assert "<img" not in check_calm(opened("title", title="i1"))


# Marks ---------------------------------------------------------------------------------------------------------------


def said(aspect: str, p: float, start: int, end: int) -> dict[str, Any]:
    return {"aspect": aspect, "p_positive": p, "start": start, "end": end}


def bare(marks: str) -> str:
    """The text of marked HTML, without labels and signs."""
    return re.sub(r"<[^>]*>", "", re.sub(r"<b>.*?</b>|<sup>.*?</sup>|&NoBreak;", "", marks))


def test_a_sentence_carries_the_sign_and_name_of_each_aspect() -> None:
    found = marked.marked_html("Fine cast. Dull plot.", [said("acting", 0.9, 0, 10), said("story", 0.1, 11, 21)])
    assert '<span class="mq-said mq-good">Fine cast.<b>+ acting</b></span>' in found
    assert '<span class="mq-said mq-bad">Dull plot.<b>− story</b></span>' in found


def test_aspects_that_differ_in_one_sentence_make_it_mixed() -> None:
    found = marked.marked_html("Fine cast, dull plot.", [said("acting", 0.9, 0, 21), said("story", 0.1, 0, 21)])
    assert found == '<span class="mq-said mq-warn">Fine cast, dull plot.<b>+ acting</b><b>− story</b></span>'


def test_words_are_marked_in_and_out_of_sentences() -> None:
    text = "A <b>fine</b> cast & more."
    found = marked.marked_html(text, [said("acting", 0.9, 2, 18)], [(5, 9, 1.0), (21, 25, -0.3)])
    assert 'mq-good mq-strong"><sup>+</sup>&NoBreak;fine' in found
    assert 'mq-bad mq-weak"><sup>−</sup>&NoBreak;more' in found
    assert bare(found) == "A &lt;b&gt;fine&lt;/b&gt; cast &amp; more."


@pytest.mark.parametrize("seed", range(30))
def test_no_mark_loses_repeats_or_frees_a_character(seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = "".join(rng.choice(list("ab <>&\"'\n"), 40))
    spans = rng.integers(-5, 50, (4, 2))
    words = [
        (int(a), int(b), float(s)) for (a, b), s in zip(rng.integers(-5, 50, (5, 2)), rng.normal(size=5), strict=True)
    ]
    found = marked.marked_html(text, [said("<i>", rng.random(), int(a), int(b)) for a, b in spans], words)
    assert html.unescape(bare(found)) == text
    assert "<i>" not in found


def test_line_break_tags_become_breaks_and_spans_stay_in_place() -> None:
    text = "So it goes.<br /><br />Dull plot."
    found = marked.marked_html(text, [said("story", 0.1, 23, 33)])
    assert found.startswith('So it goes.\n\n<span class="mq-said mq-bad">Dull plot.')


def test_the_next_open_review_follows_in_the_queue_and_then_begins_again() -> None:
    still_open = ["a", "b", "d"]
    assert inbox.next_open(still_open, ["a", "b", "c", "d"], "b") == "d"
    assert inbox.next_open(still_open, ["a", "b", "c", "d"], "d") == "a"
    assert inbox.next_open(still_open[:1], ["a"], "a") is None


def test_quotes_are_escaped() -> None:
    quote = {"text": "<b>x</b>", "aspect": "<i>", "item_id": "i1"}
    found = summary.quotes_html([quote], [], {"i1": "<u>"})
    assert "&lt;b&gt;x&lt;/b&gt;" in found
    assert not {"<b>", "<i>", "<u>"} & set(re.findall(r"<[^>]*>", found))


def test_priorities_and_confidences_have_words() -> None:
    assert [moods.priority_words(p)[1] for p in (0.9, 0.5, 0.3, 0.0)] == ["Urgent", "High", "Medium", "Low"]
    assert moods.confidence_words(0.9) == "likely this title (90 %)"
    assert moods.confidence_words(float("nan")) == "not known how surely"


def test_bars_go_left_for_ill_and_right_for_well() -> None:
    assert "left:25.0%;width:25.0%" in moods.diverging_bar("Story", -0.5, "−0.50")
    assert "left:50.0%;width:25.0%" in moods.diverging_bar("Story", 0.5, "+0.50")
    assert "<script" not in moods.diverging_bar("<script>", 0.5, "<script>", "<script>")
