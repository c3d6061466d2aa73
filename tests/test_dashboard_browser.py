"""What only a browser sees: the menu on a phone, stars, what stands on the page while it is made. On generated data."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dashboard_home as made
import pandas as pd
import pytest
from browser import Tab, settled
from playwright.sync_api import Browser, expect

from benchmarks.visitor import dashboard
from dashboard import tables
from data import home
from data.dataset import Dataset

pytestmark = pytest.mark.slow


@pytest.fixture
def url(small_dataset: Callable[..., Dataset], marquee_home: Path) -> Iterator[str]:
    made.write_everything(small_dataset("demo"))
    with dashboard(marquee_home, "demo") as server:
        yield server.url


def test_the_menu_of_a_phone_closes_when_a_page_was_chosen(chromium: Browser, url: str) -> None:
    page = Tab(chromium, url, 390, 844).open()
    for name in ("Models", "Today"):
        page.get_by_role("button", name="Expand sidebar").click()
        link = page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True)
        expect(link).to_be_in_viewport()
        link.click()
        expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
        expect(link).not_to_be_in_viewport()


def test_stars_stay_as_they_were_given(chromium: Browser, url: str) -> None:
    page = Tab(chromium, url, 1280, 900).open("title?title=i3&member=u1")
    stars = page.get_by_role("radiogroup").first.get_by_role("radio")
    for _ in range(2):  # the second click is one on the star that is given
        stars.nth(3).click()
        expect(page.locator(".mq-toast")).to_contain_text("4 stars")
        settled(page)
        expect(stars.nth(3)).to_be_checked()


def test_titles_picked_faster_than_the_page_answers_are_all_kept(chromium: Browser, url: str) -> None:
    page = Tab(chromium, url, 1280, 900).open()
    page.get_by_role("button", name="Add a member").click()
    dialog = page.get_by_role("dialog")
    cards = dialog.locator(".picker .card")
    expect(cards.first).to_be_visible()
    for place in (0, 3, 6, 3, 2):  # the second of 3 puts it back
        cards.nth(place).click()
    expect(dialog.get_by_text("3 picked")).to_be_visible()
    settled(page)
    ticked = dialog.locator('.picker [aria-pressed="true"]').all()
    assert [one.get_attribute("data-id") for one in ticked] == [
        cards.nth(place).get_attribute("data-id") for place in (0, 2, 6)
    ]


@pytest.mark.parametrize(("path", "bones"), [("", 20), ("title?title=i3", 8), ("today", 8)])
def test_bones_stand_in_the_document_itself_until_the_page_has_come(
    chromium: Browser, url: str, path: str, bones: int
) -> None:
    """Without a program of ours or Streamlit's having run; with it they go."""
    still = chromium.new_context(java_script_enabled=False, color_scheme="dark").new_page()
    still.goto(f"{url}/{path}")
    expect(still.get_by_role("status", name="Loading Marquee")).to_be_visible()
    assert still.locator("#mq-paint .mq-bone:visible").count() >= bones
    assert still.title() == "Marquee"
    page = Tab(chromium, url, 1280, 900).open(path)
    expect(page.locator("#mq-paint")).to_have_count(0)
    settled(page)
    expect(page.locator('[aria-busy="true"]:visible')).to_have_count(0)


def test_bones_stand_where_the_rows_of_a_page_will_be(chromium: Browser, url: str, marquee_home: Path) -> None:
    """While a table is slow to come: it is a pipe into which nobody has written yet."""
    page = Tab(chromium, url, 1280, 900).open("models")
    table = home.scores("demo") / "recommendations.parquet"
    pipe = marquee_home / "pipe"
    os.mkfifo(pipe)
    table.rename(marquee_home / "kept")
    table.symlink_to(pipe)
    page.get_by_role("link", name="Home", exact=True).first.click()
    bones = page.get_by_role("status", name="Putting the rows together")
    expect(bones).to_be_visible()
    expect(page.get_by_role("status", name="Loading Home")).to_be_hidden()  # who is watching stands there already
    table.unlink()
    (marquee_home / "kept").rename(table)
    pipe.write_bytes(b"")
    expect(bones).to_be_hidden()
    settled(page)


def test_a_table_is_one_at_a_desk_and_cards_with_a_file_on_a_phone(chromium: Browser, url: str) -> None:
    desk, phone = (Tab(chromium, url, width, 844).open("engagement") for width in (1280, 390))
    for page, kind, other in ((desk, "table", "cards"), (phone, "cards", "table")):
        expect(page.locator(f'[class*="st-key-{kind}-retention"]')).to_be_visible()
        expect(page.locator(f'[class*="st-key-{other}-retention"]')).to_be_hidden()
        settled(page)
    shown = phone.get_by_role("list", name="Members, the most likely to leave first").get_by_role("listitem")
    assert shown.count() == tables.CARDS
    with phone.expect_download() as file:
        phone.get_by_role("button", name="All 60 as CSV").click()
    every = pd.read_csv(file.value.path())
    assert every.columns[:3].tolist() == ["Member", "Risk", "Last seen"]
    assert len(every) == 60
    assert f"{every['Last seen'][0]:.0f} days ago" in shown.first.inner_text()
