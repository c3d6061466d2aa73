"""Many reviews at once: chosen, decided in one go, taken back in one go; and the inbox without a mouse."""

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dashboard_home as made
import pandas as pd
import pytest
from browser import Tab, settled, violations
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import check_calm, opened, toasts
from test_dashboard_reviews import button, queue_of, reply

from benchmarks.visitor import dashboard
from dashboard import bulk, deciding, inbox, review_queue, store
from data import replies
from data.database import connection
from data.dataset import Dataset
from nlp.replies import tones


@pytest.fixture
def full(small_dataset: Callable[..., Dataset]) -> Dataset:
    data = small_dataset("demo")
    made.write_everything(data)
    return data


def chosen(app: AppTest, *review_ids: str) -> AppTest:
    """The page after a click on these boxes (a component that AppTest does not see)."""
    app.session_state[bulk.key("demo")] = frozenset(review_ids)
    return app.run()


def labels(app: AppTest) -> list[str]:
    return [one.label for one in app.button]


def shown(app: AppTest, review_id: str) -> str:
    """The reply that the reading pane shows for a review."""
    app.session_state["inbox-open"] = review_id
    return str(reply(app.run()).value)


def kept() -> pd.DataFrame:
    return replies.decisions("demo").set_index("review_id")


@pytest.mark.parametrize("tone", ["", *tones()])
def test_the_chosen_are_approved_each_with_the_draft_that_its_review_shows(full: Dataset, tone: str) -> None:
    app = opened("reviews")
    assert "Approve drafts" not in labels(app)
    ids = [row["id"] for row in queue_of(app)["rows"]]
    if tone:
        app.segmented_control[-1].set_value(tone).run()
    wanted = {review_id: shown(app, review_id) for review_id in ids[1:6]}
    app = button(chosen(app, *wanted), "Approve drafts").click().run()
    check_calm(app)
    assert toasts(app) == ["5 drafts approved. Undo is above the queue."]
    assert kept()["text"].to_dict() == wanted
    assert kept()["run_id"].eq(made.RUN).all()
    assert not set(wanted) & {row["id"] for row in queue_of(app)["rows"]}
    assert queue_of(app)["ticked"] == []
    app = button(app, "Undo").click().run()
    assert replies.decisions("demo").empty
    assert toasts(app) == ["5 reviews open again."]


def test_a_draft_that_was_not_scored_is_the_one_that_is_shown(full: Dataset) -> None:
    scored = made.review_scores(full, 10).assign(reply_draft=[None, "", "Scored by an earlier version.", *[None] * 7])
    made.write_scores(full, "review_scores", scored)
    app = opened("reviews")
    wanted = {review_id: shown(app, review_id) for review_id in scored["review_id"]}
    assert "Scored by an earlier version." in wanted.values()
    button(chosen(app, *wanted), "Approve drafts").click().run()
    assert kept()["text"].to_dict() == wanted


def test_words_that_were_written_count_in_the_tone_that_is_shown(full: Dataset) -> None:
    app = opened("reviews")
    ids = [row["id"] for row in queue_of(app)["rows"]]
    app.segmented_control[-1].set_value(tones()[1]).run()
    reply(app).set_value("In our own words.").run()
    shown(app, ids[1])
    app = button(chosen(app, ids[0], ids[1]), "Approve drafts").click().run()
    assert kept().loc[ids[0], ["status", "text"]].tolist() == ["edited", "In our own words."]
    assert kept().loc[ids[1], "status"] == "approved"
    app = button(app, "Undo").click().run()
    app.segmented_control[-1].set_value(tones()[2]).run()
    third = shown(app, ids[0])
    assert third != "In our own words."
    button(chosen(app, ids[0]), "Approve drafts").click().run()
    assert kept().loc[ids[0], ["status", "text"]].tolist() == ["approved", third]


def test_many_are_asked_about_first(full: Dataset) -> None:
    app = opened("reviews")
    ids = [row["id"] for row in queue_of(app)["rows"]][: bulk.SURE_ABOVE + 1]
    app.segmented_control[-1].set_value("formal").run()
    app = button(chosen(app, *ids), "Approve drafts").click().run()
    assert f"Approve {len(ids)} drafts in the formal tone?" in check_calm(app)
    assert queue_of(app)["asked"] == "approved"
    app = button(app, "Not now").click().run()
    assert replies.decisions("demo").empty
    app = button(next_of(app, "bulk-dismissed").click().run(), f"Dismiss {len(ids)}").click().run()
    assert kept()["status"].tolist() == ["dismissed"] * len(ids)


def next_of(app: AppTest, key: str) -> Any:
    return next(one for one in app.button if one.key == key)


def test_only_what_is_open_and_matches_is_chosen(full: Dataset) -> None:
    app = opened("reviews")
    ids = [row["id"] for row in queue_of(app)["rows"]]
    replies.decide("demo", ids[0], "approved", "a")
    app = chosen(app, ids[0], ids[1], "no such review")
    assert queue_of(app)["ticked"] == [ids[1]]
    app.text_input[0].set_value("no review holds these words").run()
    assert "Approve drafts" not in labels(app)
    app.text_input[0].set_value("").run()
    assert queue_of(app)["ticked"] == []  # what was out of sight is not chosen any more


def test_who_was_quicker_is_not_overruled_and_told(full: Dataset) -> None:
    app = opened("reviews")
    first, second = (row["id"] for row in queue_of(app)["rows"][:2])
    app = chosen(app, first, second)
    replies.decide("demo", second, "edited", "Their words.")
    said = check_calm(button(app, "Approve drafts").click().run())
    assert "1 review had been decided by somebody else meanwhile" in said
    assert toasts(app) == ["1 draft approved. Undo is above the queue."]
    button(app, "Undo").click().run()
    assert kept()["text"].to_dict() == {second: "Their words."}


def test_a_database_that_fails_leaves_nothing_half_done(full: Dataset) -> None:
    app = opened("reviews")
    ids = [row["id"] for row in queue_of(app)["rows"][:3]]
    app = chosen(app, *ids)
    with connection() as at:
        at.execute(
            text(
                f"CREATE TRIGGER full AFTER INSERT ON replies WHEN NEW.review_id = '{ids[2]}' "
                "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
        )
    assert "database or disk is full" in check_calm(button(app, "Approve drafts").click().run())
    assert replies.decisions("demo").empty
    assert queue_of(app)["ticked"] == ids  # to try again


def test_a_second_click_decides_nothing(full: Dataset) -> None:
    app = opened("reviews")
    box = inbox.inbox(full)
    assert box is not None
    first, second = box.frame["review_id"].head(2)
    seen = deciding.Listed(full, box, store.catalogue(full), [first, second], [first, second], [first, second])
    button(app, "Approve").click().run()
    before = replies.decisions("demo")
    app.session_state["inbox-told"] = (0.0, "", "")
    deciding.decide(seen, first, "dismissed")
    pd.testing.assert_frame_equal(replies.decisions("demo"), before)


def test_what_was_decided_is_told_on_this_page_only(full: Dataset) -> None:
    app = opened("reviews")
    app.session_state["inbox-told"] = (time.monotonic(), "Reply approved.", "")
    app.session_state["toast"] = ("the hash of another page", "Reply approved.")
    app.switch_page("views/models.py")
    assert toasts(app.run()) == []
    app.switch_page("views/reviews.py")
    assert toasts(app.run()) == ["Reply approved."]
    app.session_state["inbox-told"] = (time.monotonic() - 11, "Reply approved.", "")
    assert toasts(app.run()) == []  # no news any more


def test_what_the_queue_tells_is_done(full: Dataset) -> None:
    """As components/queue.js sends it; the keys themselves need a browser."""
    box = inbox.inbox(full)
    assert box is not None
    ids = box.frame["review_id"].tolist()
    session = bulk.st.session_state
    seen = deciding.Listed(full, box, store.catalogue(full), ids, ids, ids)

    def sent(do: str, review_id: str = "", on: Sequence[str] = (), off: Sequence[str] = ()) -> list[str]:
        turn = session.get("inbox-turn", 0) + 1
        review_queue.heard(seen, {"turn": turn, "do": do, "id": review_id, "on": list(on), "off": list(off)})
        assert session["inbox-turn"] == turn
        return bulk.ticked(full, ids)

    assert sent("tick", on=ids[:2], off=ids[2:60]) == ids[:2]
    assert sent("open", ids[5], on=ids[1:3], off=ids[:1]) == ids[1:3]
    assert session["inbox-open"] == ids[5]
    assert sent("all", on=ids[:60]) == ids
    assert sent("tick", on=ids[1:60], off=ids[:1]) == ids[1:]  # what is not listed stays chosen
    assert sent("approved all", on=ids[1:60], off=ids[:1]) == ids[1:]
    assert session["inbox-sure"] == "approved"
    assert sent("none", off=ids[:60]) == []
    assert "inbox-sure" not in session
    sent("dismissed all", on=ids[3:5], off=[*ids[:3], *ids[5:60]])
    assert sorted(kept().index) == sorted(ids[3:5])
    sent("undo", ids[0])
    sent("approved", "no such review", on=["no such review"])
    assert replies.decisions("demo").empty
    assert bulk.ticked(full, ids) == []


def test_the_download_is_what_the_filters_let_through(full: Dataset) -> None:
    box = inbox.inbox(full)
    assert box is not None
    first = box.frame["review_id"].iloc[0]
    replies.decide("demo", first, "edited", "=2+3")
    read = pd.read_csv(io.BytesIO(inbox.as_csv(box, box.frame.index[:3], replies.decisions("demo"), {"i0": "Heat"})))
    assert read["review_id"].tolist() == box.frame["review_id"].head(3).tolist()
    assert read.loc[0, ["decision", "reply"]].tolist() == ["edited", "'=2+3"]


@pytest.fixture
def page(chromium: Browser, full: Dataset, marquee_home: Path) -> Iterator[Page]:
    with dashboard(marquee_home, "demo") as server:
        tab = Tab(chromium, server.url, 1280, 900)
        yield tab.open("reviews")
        tab.close()


class Queue:
    """The inbox's queue in a browser."""

    def __init__(self, page: Page) -> None:
        self.page, self.rows, self.open = page, page.locator(".queue .row"), page.locator(".queue .row.open")
        self.ticks, self.bar = page.locator(".queue li .tick"), page.locator(".st-key-inbox-bulk")
        expect(self.rows).to_have_count(60)
        self.ids = [str(row.get_attribute("data-id")) for row in self.rows.all()]

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def is_at(self, place: int) -> None:
        """The review that was there at first is open in the pane and has the focus."""
        expect(self.open).to_have_attribute("data-id", self.ids[place])
        expect(self.open).to_be_focused()
        self.rest()

    def rest(self) -> None:
        """All that was told is answered."""
        expect(self.page.locator(".queue")).to_have_js_property("isWaiting", False)
        settled(self.page)

    def chosen(self, words: str) -> None:
        expect(self.bar).to_contain_text(words)
        self.rest()


@pytest.fixture
def queue(page: Page) -> Queue:
    return Queue(page)


@pytest.mark.slow
def test_the_inbox_is_worked_through_without_a_mouse(page: Page, queue: Queue) -> None:
    queue.rows.first.focus()
    queue.press("a")
    queue.is_at(1)
    expect(page.locator(".queue .said")).to_contain_text("Reply approved")
    queue.press("d")
    queue.is_at(2)
    assert kept()["status"].to_dict() == {queue.ids[0]: "approved", queue.ids[1]: "dismissed"}
    queue.press("j", "j", "k")  # faster than the page answers
    queue.is_at(3)
    expect(page.get_by_text("2 of 98")).to_be_visible()
    queue.press("u")
    queue.is_at(1)
    assert kept().index.tolist() == [queue.ids[0]]
    queue.press("ArrowDown", "e")
    answer = page.get_by_role("textbox", name="Reply")
    expect(answer).to_be_focused()
    before = answer.input_value()
    page.keyboard.type("jad")  # letters in a text are letters
    expect(answer).to_have_value(f"{before}jad")
    queue.press("Escape")
    queue.is_at(2)
    queue.press("a")
    queue.is_at(3)
    assert kept().loc[queue.ids[2], ["status", "text"]].tolist() == ["edited", f"{before}jad"]
    page.get_by_role("button", name="Dismiss").click()  # who takes the mouse between goes on with the keys
    queue.is_at(4)
    queue.press("?")
    expect(page.locator(".queue .keys")).to_be_visible()
    assert violations(page) == []
    queue.press("Escape")
    expect(page.locator(".queue .keys")).to_be_hidden()


@pytest.mark.slow
def test_keys_do_nothing_elsewhere(page: Page, queue: Queue) -> None:
    page.get_by_role("tab", name="Inbox").focus()
    queue.press("j", "x", "a", "d")
    page.get_by_role("combobox", name="Mood").focus()
    queue.press("a", "Escape")
    page.wait_for_timeout(500)
    queue.rest()
    expect(queue.open).to_have_attribute("data-id", queue.ids[0])
    expect(queue.bar).to_have_count(0)
    assert replies.decisions("demo").empty
    page.get_by_role("region", name="Review", exact=True).focus()  # in the reading pane they do
    queue.press("j")
    queue.is_at(1)


@pytest.mark.slow
def test_many_are_ticked_and_decided_and_taken_back(page: Page, queue: Queue) -> None:
    before = queue.ticks.first.bounding_box()
    queue.ticks.first.click()
    queue.chosen("1 chosen")
    assert queue.ticks.first.bounding_box() == before  # nothing moves under the pointer
    for place in (2, 4, 6, 8):  # faster than the page answers
        queue.ticks.nth(place).click()
    queue.chosen("5 chosen")
    queue.ticks.nth(12).click(modifiers=["Shift"])
    queue.chosen("9 chosen")
    queue.rows.nth(0).focus()
    queue.press("x")
    queue.chosen("8 chosen")
    assert violations(page) == []
    page.get_by_role("button", name="Approve drafts").click()
    expect(page.get_by_text("8 drafts approved").first).to_be_visible()
    queue.rest()
    expect(queue.open).to_be_focused()
    assert sorted(kept().index) == sorted(queue.ids[place] for place in (2, 4, 6, 8, 9, 10, 11, 12))
    queue.press("u")
    expect(page.get_by_text("8 reviews open again").first).to_be_visible()
    queue.rest()
    assert replies.decisions("demo").empty
    page.get_by_role("checkbox", name="All 60 shown").check()
    queue.chosen("60 chosen")
    page.get_by_role("button", name="All 100 that match").click()
    queue.chosen("100 chosen")
    queue.ticks.nth(1).click()
    queue.chosen("99 chosen")
    queue.press("Shift+D")
    sure = page.get_by_role("button", name="Dismiss 99")
    expect(sure).to_be_focused()
    queue.press("Enter")
    expect(page.get_by_text("99 drafts dismissed").first).to_be_visible()
    queue.rest()
    assert kept()["status"].tolist() == ["dismissed"] * 99
    assert queue.ids[1] not in kept().index


@pytest.mark.slow
def test_what_is_listed_is_downloaded(page: Page, queue: Queue) -> None:
    page.get_by_role("textbox", name="Search").fill("the title 5")
    page.keyboard.press("Enter")
    expect(page.locator(".queue .count")).not_to_contain_text(re.compile("^100 "))
    settled(page)
    with page.expect_download() as export:
        page.get_by_role("button", name="Download").click()
    read = pd.read_csv(export.value.path())
    assert read["review_id"].tolist() == [str(row.get_attribute("data-id")) for row in queue.rows.all()]
    assert set(read["title"]) == {"The Title 5"}
