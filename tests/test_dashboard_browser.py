"""What only a browser sees: the menu on a phone, stars, what stands on the page while it is made. On generated data."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dashboard_home as made
import pytest
from browser import Tab, settled
from playwright.sync_api import Browser, expect

from benchmarks.visitor import dashboard
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
