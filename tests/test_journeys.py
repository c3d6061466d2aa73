"""The ten journeys that matter, in a real browser on real data, on a desk and on a phone.

A member is picked, finds a title, rates it and reviews it; the team finds the review, answers it, sees it beside the
member on the win-back list and exports that; an own file is imported, trained on, scored and shown. The journeys of one
width follow each other, as a visit does, and each ends with axe-core, an empty console and a picture.

With MARQUEE_SHOTS=FOLDER the pictures are kept there. Needs a Chromium.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Tab, settled, violations
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect

from benchmarks.visitor import dashboard
from data import events, home

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
WORDS = "A dull, awful, boring film; the acting is terrible and the ending is worse."


class Visit:
    """What the journeys of one width hand on to each other."""

    def __init__(self, road: Path, tab: Tab, size: str) -> None:
        self.home, self.tab, self.page, self.size = road, tab, tab.page, size
        scored = pd.read_parquet(road / "scores" / "demo" / "retention.parquet")
        listed = scored[(scored["band"] == "high") & (scored["days_since_last"] <= 90)]
        loss = ((1 - listed["p_return"]) * listed["usual_visits"]).sort_values(ascending=False)
        self.member = str(listed.at[loss.index[list(SIZES).index(size)], "user_id"])
        self.newcomer, self.dataset = f"Ada of the {size}", f"own-{size}"
        self.title = unseen(road, self.member)
        self.words = f"{WORDS} Written by {self.member}."

    def end(self, name: str) -> None:
        """The journey's picture, and what must be true at its end."""
        self.tab.picture(name)
        assert violations(self.page) == []
        assert self.tab.sideways() <= 0
        assert self.tab.complaints() == []

    def shelf(self, title: str) -> Locator:
        return self.page.locator(f'.shelf[aria-label^="{title}"]').first

    def card(self, shelf: str, title: str) -> Locator:
        return self.shelf(shelf).locator(f'.card[aria-label^="{title},"]')

    def cards(self, title: str) -> list[str]:
        return [str(card.get_attribute("aria-label")) for card in self.shelf(title).locator(".card").all()]

    def events(self) -> pd.DataFrame:
        """What the member did, as it is in the database."""
        return events.events("demo", self.member, events.DONE_KINDS)


def unseen(road: Path, member: str) -> str:
    """The most watched title of one long word that the member has not seen."""
    tables = road / "tables" / "demo"
    watched, items = pd.read_parquet(tables / "interactions.parquet"), pd.read_parquet(tables / "items.parquet")
    fame = watched["item_id"].value_counts()
    names = items[items["title"].str.fullmatch("[A-Z][a-z]{6,}")].set_index("item_id")["title"]
    names = names.drop(watched.loc[watched["user_id"] == member, "item_id"], errors="ignore")
    return str(names[fame.reindex(names.index).fillna(0).idxmax()])


@pytest.fixture(scope="module")
def address(road: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, dashboard(road) as server:
        patch.setenv("MARQUEE_HOME", str(road))
        yield server.url


@pytest.fixture(scope="module", params=SIZES)
def visit(request: pytest.FixtureRequest, road: Path, address: str, chromium: Browser) -> Iterator[Visit]:
    tab = Tab(chromium, address, *SIZES[request.param])
    yield Visit(road, tab, request.param)
    tab.close()


def test_01_somebody_new_is_welcomed(visit: Visit) -> None:
    page = visit.tab.open()
    page.get_by_role("button", name="Add a member").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(visit.newcomer)
    start = dialog.get_by_role("button", name="Start watching")
    start.click()
    expect(dialog.get_by_text("Pick 3 more titles")).to_be_visible()
    for place in (0, 3, 6):  # without waiting for an answer to each
        dialog.locator(".picker .card").nth(place).click()
    expect(dialog.get_by_text("3 picked")).to_be_visible()
    cut = "titles => titles.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
    assert dialog.locator(".picker .title").evaluate_all(cut) == []
    start.click()
    expect(dialog).to_have_count(0)
    face = page.get_by_role("button", name=visit.newcomer)
    expect(face).to_have_attribute("aria-current", "true")
    expect(visit.shelf("Top picks for you").locator(".card").first).to_be_visible()
    settled(page)
    assert "member=Ada" in page.url
    visit.end("01-welcome")


def test_02_a_profile_is_picked_and_has_rows_of_its_own(visit: Visit) -> None:
    page = visit.page
    before = visit.cards("Top picks for you")
    page.get_by_role("button", name="Everybody").click()
    choice = page.get_by_role("combobox", name="Who is watching?")
    choice.fill(visit.member)
    page.get_by_role("option", name=re.compile(rf"^(Member )?{visit.member}\b")).first.click()
    expect(page.locator('.people [aria-current="true"]')).to_have_attribute(
        "aria-label", re.compile(rf"\b{visit.member}\b")
    )
    page.keyboard.press("Escape")
    settled(page)
    assert f"member={visit.member}" in page.url
    after = visit.cards("Top picks for you")
    assert len(after) >= 10
    assert all("% match" in card for card in after)
    assert before != after
    assert page.locator(".shelf").count() >= 4
    expect(page.locator(".billboard h1")).to_be_visible()
    visit.end("02-rows")


def test_03_a_title_is_found_in_spite_of_a_typo_and_opened(visit: Visit) -> None:
    page = visit.page
    typo = visit.title[:3] + visit.title[4] + visit.title[3] + visit.title[5:]
    page.get_by_role("searchbox", name="Search titles").fill(typo.lower())
    visit.card("Found for", visit.title).click()
    heading = page.get_by_role("heading", name=visit.title, level=1)
    expect(heading).to_be_visible()
    settled(page)
    page.reload()  # an address that can be shared
    expect(heading).to_be_visible()
    settled(page)
    expect(page.get_by_text(f"match for Member {visit.member}")).to_be_visible()
    expect(visit.shelf("More like").locator(".card").first).to_be_visible()
    assert len(visit.cards("More like")) >= 5
    visit.end("03-title")


def test_04_it_is_rated_and_put_on_the_list(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="My list").click()
    expect(page.get_by_role("button", name="On my list")).to_be_visible()
    settled(page)
    stars = (
        page.get_by_test_id("stFeedback")
        .first.get_by_role("button")
        .or_(page.get_by_test_id("stFeedback").first.get_by_role("radio"))
    )
    stars.nth(4).click()
    expect(page.get_by_text("Rated 5 stars of 5.", exact=True).first).to_be_visible()
    settled(page)
    mine = visit.events()
    assert mine["kind"].tolist() == ["list_add", "rating"]
    assert mine["rating"].iloc[-1] == 5
    visit.end("04-rated")


def test_05_the_rows_change_and_can_be_changed_back(visit: Visit) -> None:
    page = visit.page
    visit.tab.go("Home")
    expect(visit.card("My list", visit.title)).to_be_visible()
    settled(page)
    before = page.locator(".billboard h1").text_content() or ""
    page.locator(".billboard").get_by_role("button", name="is not for me").click()
    expect(page.locator(".billboard h1")).not_to_have_text(before)
    settled(page)
    expect(visit.card("Top picks for you", before)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".billboard h1")).to_have_text(before)
    settled(page)
    assert visit.events()["kind"].tolist() == ["list_add", "rating"]
    visit.end("05-changed")


def test_06_a_review_is_written_and_read_at_once(visit: Visit) -> None:
    page = visit.page
    visit.shelf("My list").locator(".card").first.click()
    expect(page.get_by_role("heading", name=visit.title, level=1)).to_be_visible()
    settled(page)
    page.get_by_role("textbox", name=re.compile("What did you think")).fill(visit.words)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text(re.compile(r"The model gives \d+ % to positive"))).to_be_visible()
    settled(page)
    expect(page.locator(".mq-text .mq-word").first).to_be_visible()
    visit.end("06-review")


def test_07_the_team_finds_it_in_the_inbox(visit: Visit) -> None:
    page = visit.page
    visit.tab.go("Reviews")
    page.get_by_role("textbox", name="Search").fill(visit.words[-40:])
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"^1 review$")).first).to_be_visible()
    settled(page)
    text = page.get_by_role("region", name="Review", exact=True)
    for sentence in visit.words.split(". "):
        expect(text).to_contain_text(sentence)
    expect(page.get_by_text(f"by Member {visit.member}")).to_be_visible()
    visit.end("07-inbox")


def test_08_the_reply_is_edited_and_approved(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text(re.compile("Reply approved")).first).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Undo").first.click()
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    settled(page)
    reply = page.get_by_role("textbox", name="Reply")
    reply.fill(f"{reply.input_value()} We owe you a better evening.")
    reply.press("Control+Enter")
    page.get_by_role("button", name="Save edit").click()
    expect(page.get_by_text(re.compile("Edited reply saved")).first).to_be_visible()
    settled(page)
    visit.end("08-reply")


def test_09_the_win_back_list_knows_it_and_is_exported(visit: Visit) -> None:
    page = visit.page
    visit.tab.go("Win-back")
    mine = page.locator(".mq-back").filter(has=page.get_by_role("heading", name=f"Member {visit.member} "))
    expect(mine.get_by_text(re.compile(f"Wrote of {visit.title}: .*; the reply is approved"))).to_be_visible()
    mine.scroll_into_view_if_needed()
    with page.expect_download() as export:
        page.get_by_role("button", name="Export as CSV").click()
    exported = pd.read_csv(export.value.path(), dtype=str).set_index("user_id")
    assert exported.loc[visit.member, "review_of"] == visit.title
    assert "We owe you a better evening." in exported.loc[visit.member, "reply"]
    visit.end("09-win-back")


def own_file(path: Path, n_members: int = 60, n_titles: int = 40) -> Path:
    """A service's own export: names of columns that are not ours, two kinds of members, three bad rows of 900."""
    rng = np.random.default_rng(0)
    rows = []
    for member in range(n_members):
        odd = rng.permutation(np.arange(n_titles // 2) * 2 + member % 2)[:13]
        other = rng.choice(np.arange(n_titles // 2) * 2 + 1 - member % 2, 2, replace=False)
        rows.append(pd.DataFrame({"who": f"anna{member}", "seen": [f"Film {i}" for i in [*odd, *other]]}))
    frame = pd.concat(rows, ignore_index=True)
    start = pd.Timestamp("2024-01-01")
    frame["at"] = (start + pd.to_timedelta(rng.integers(0, 120 * 86_400, len(frame)), unit="s")).astype(str)
    frame.loc[[10, 20, 30], "at"] = "soon"
    frame.to_csv(path, index=False)
    return path


def test_10_an_own_file_is_imported_trained_on_scored_and_seen(visit: Visit, tmp_path: Path) -> None:
    page, name = visit.page, visit.dataset
    visit.tab.open("data")
    page.get_by_role("tab", name="Import your own").click()
    uploader = page.get_by_test_id("stFileUploader").filter(has_text="Interactions")
    uploader.locator('input[type="file"]').set_input_files(own_file(tmp_path / "views.csv"))
    expect(page.get_by_text(re.compile("Say which column is"))).to_be_visible()
    settled(page)
    for field, column in (("user_id", "who"), ("item_id", "seen"), ("timestamp", "at")):
        choose(page, re.compile(rf"^{field}"), column)
    expect(page.get_by_text(re.compile(r"All 900 rows were read: 3 would be rejected"))).to_be_visible()
    visit.tab.picture("10-mapping")
    page.get_by_label("Name of the new dataset").fill(name)
    page.get_by_label("Name of the new dataset").press("Enter")
    settled(page)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text(re.compile(f"“import {name}” is done"))).to_be_visible()
    assert (home.tables(name) / "interactions.parquet").is_file()

    page.goto(f"{visit.tab.url}/data?dataset={name}")
    visit.tab.drawn()
    page.get_by_role("tab", name="Train and score").click()
    train, score = (page.locator(f'[class*="st-key-{verb}-{name}-recommender"] button') for verb in ("train", "score"))
    train.click()
    expect(page.get_by_text("Running", exact=True).first).to_be_visible()
    visit.tab.picture("10-training")
    expect(page.get_by_text("In use", exact=True)).to_be_visible(timeout=240_000)
    score.click()
    expect(page.get_by_text(re.compile(r"^[\d,]+ rows, "))).to_be_visible(timeout=120_000)
    visit.end("10-trained")

    page.goto(f"{visit.tab.url}/?dataset={name}&member=anna7")
    expect(visit.shelf("Top picks for you").locator(".card").first).to_be_visible()
    settled(page)
    picks = visit.cards("Top picks for you")
    assert len(picks) >= 5
    assert all(pick.startswith("Film ") for pick in picks)
    visit.end("10-seen")


def choose(page: Page, label: re.Pattern[str], option: str) -> None:
    """Take an option of a select box; a page that is drawn meanwhile closes its list."""
    box, wanted = page.get_by_role("combobox", name=label).first, page.get_by_role("option", name=option, exact=True)
    for _ in range(5):
        box.click()
        try:
            wanted.click(timeout=3_000)
            break
        except TimeoutError:
            page.keyboard.press("Escape")
    settled(page)
