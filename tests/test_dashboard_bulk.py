"""Many reviews at once: chosen, decided in one go, taken back in one go; and the inbox without a mouse."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import dashboard_home as made
import pandas as pd
import pytest
from browser import Tab, settled, violations
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import check_calm, opened, toasts
from test_dashboard_reviews import button, queue_of, reply

from benchmarks.visitor import dashboard
from dashboard import bulk, inbox
from data import replies
from data.dataset import Dataset
from nlp.replies import tones


@pytest.fixture
def full(small_dataset: Callable[..., Dataset]) -> Dataset:
    data = small_dataset("demo")
    made.write_everything(data)
    return data


def chosen(app: AppTest, *review_ids: str) -> AppTest:
    """The page after a click on these boxes (a component that AppTest does not see)."""
    app.session_state[bulk.TICKED] = frozenset(review_ids)
    return app.run()


def labels(app: AppTest) -> list[str]:
    return [one.label for one in app.button]


def test_the_chosen_are_approved_each_with_the_draft_that_its_review_shows(full: Dataset) -> None:
    app = opened("reviews")
    assert "Approve drafts" not in labels(app)
    ids = [row["id"] for row in queue_of(app)["rows"]]
    app = button(chosen(app, ids[1], ids[4]), "Approve drafts").click().run()
    check_calm(app)
    assert toasts(app) == ["2 drafts approved. Undo is above the queue."]
    found = replies.decisions("demo").set_index("review_id")
    box = inbox.inbox(full)
    assert box is not None
    scored = box.frame.set_index("review_id").loc[[ids[1], ids[4]]]
    assert found["text"].to_dict() == scored["reply_draft"].to_dict()
    assert found["run_id"].eq(made.RUN).all()
    assert not {ids[1], ids[4]} & {row["id"] for row in queue_of(app)["rows"]}
    assert queue_of(app)["ticked"] == []
    app = button(app, "Undo").click().run()
    assert replies.decisions("demo").empty
    assert toasts(app) == ["2 reviews open again."]


def test_a_tone_that_was_chosen_and_words_that_were_written_are_kept(full: Dataset) -> None:
    app = opened("reviews")
    ids = [row["id"] for row in queue_of(app)["rows"]]
    other = tones()[1]
    app.segmented_control[-1].set_value(other).run()
    reply(app).set_value("In our own words.").run()
    app = button(chosen(app, ids[0], ids[1]), "Approve drafts").click().run()
    found = replies.decisions("demo").set_index("review_id")
    assert found.loc[ids[0], ["status", "text"]].tolist() == ["edited", "In our own words."]
    assert found.loc[ids[1], "status"] == "approved"
    assert found.loc[ids[1], "text"] != inbox.inbox(full).frame.set_index("review_id").loc[ids[1], "reply_draft"]  # type: ignore[union-attr]


def test_many_are_asked_about_first(full: Dataset) -> None:
    app = opened("reviews")
    ids = [row["id"] for row in queue_of(app)["rows"]][: bulk.SURE_ABOVE + 1]
    app = button(chosen(app, *ids), "Dismiss drafts").click().run()
    assert f"Dismiss {len(ids)} drafts?" in check_calm(app)
    assert replies.decisions("demo").empty
    app = button(app, "Not now").click().run()
    assert "Yes, dismiss" not in labels(app)
    app = button(button(app, "Dismiss drafts").click().run(), "Yes, dismiss").click().run()
    assert replies.decisions("demo")["status"].tolist() == ["dismissed"] * len(ids)


def test_only_what_is_open_and_matches_is_chosen(full: Dataset) -> None:
    app = opened("reviews")
    ids = [row["id"] for row in queue_of(app)["rows"]]
    replies.decide("demo", ids[0], "approved", "a")
    app = chosen(app, ids[0], ids[1], "no such review")
    assert queue_of(app)["ticked"] == [ids[1]]
    app.text_input[0].set_value("no review holds these words").run()
    assert "Approve drafts" not in labels(app)


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


@pytest.mark.slow
def test_the_inbox_is_worked_through_without_a_mouse(page: Page) -> None:
    rows = page.locator(".queue .row")
    expect(rows).to_have_count(60)
    names = [str(row.get_attribute("aria-label")) for row in rows.all()[:5]]

    def decided(words: str, row: str) -> None:
        """Said, and the next review is open and has the focus."""
        expect(page.get_by_text(words).first).to_be_visible()
        expect(page.locator(".queue .row.open")).to_have_attribute("aria-label", row)
        expect(page.locator(".queue .row.open")).to_be_focused()
        settled(page)

    rows.first.focus()
    page.keyboard.press("a")
    decided("Reply approved", names[1])
    page.keyboard.press("d")
    decided("Draft dismissed", names[2])
    page.keyboard.press("u")
    decided("open again", names[1])
    page.keyboard.press("j")
    expect(page.locator(".queue .row.open")).to_have_attribute("aria-label", names[2])
    page.keyboard.press("x")
    expect(page.get_by_text("1 review chosen")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    expect(page.get_by_text("2 reviews chosen")).to_be_visible()
    settled(page)
    assert violations(page) == []
    page.get_by_role("button", name="Approve drafts").click()
    expect(page.get_by_text("2 drafts approved").first).to_be_visible()
    settled(page)
    page.locator(".queue .row.open").focus()
    page.keyboard.press("e")
    answer = page.get_by_role("textbox", name="Reply")
    expect(answer).to_be_focused()
    before = answer.input_value()
    page.keyboard.type("jad")  # letters in a text are letters
    expect(answer).to_have_value(f"{before}jad")
    assert replies.decisions("demo")["status"].tolist() == ["approved"] * 3
    page.get_by_label("Choose all").check()
    expect(page.get_by_text("97 reviews chosen")).to_be_visible()
