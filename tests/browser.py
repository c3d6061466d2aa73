"""The dashboard in Debian's Chromium: what a page shows, what axe-core and the console say of it, and pictures."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
# How long the browser may wait: the first page that needs a model loads torch.
PATIENCE_MS = 60_000
# Opened at a deep address Streamlit's own client looks for its server under that address first; the 404 is its answer.
_PROBES = re.compile(r"/_stcore/(health|host-config)$")


@contextmanager
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    assert found, "no Chromium found: install it, e.g. sudo apt-get install chromium"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


def settled(page: Page) -> Page:
    """The page once its script has come to an end, without an exception."""
    page.wait_for_selector('[data-test-script-state="notRunning"]', state="attached")
    assert page.locator('[data-testid="stException"]').count() == 0
    return page


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds, of whatever weight: (rule, first element)."""
    page.wait_for_timeout(700)  # what is drawn late, and colours that fade in
    return [(v["id"], v["nodes"][0]["html"]) for v in Axe().run(page).response["violations"]]


class Tab:
    """A browser window that remembers what went wrong in it."""

    def __init__(self, browser: Browser, url: str, width: int, height: int, scheme: str = "dark") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="light" if scheme == "light" else "dark",
        )
        self.page, self.url, self.width = self.context.new_page(), url, width
        self.page.set_default_timeout(PATIENCE_MS)
        self._failed: list[str] = []
        self._said: list[str] = []
        self.page.on("response", lambda answer: self._failed.append(answer.url) if answer.status >= 400 else None)
        self.page.on("console", lambda line: self._said.append(line.text) if line.type == "error" else None)
        self.page.on("pageerror", lambda error: self._said.append(str(error)))

    def open(self, path: str = "") -> Page:
        """Go to an address of the dashboard and wait for its heading and its end."""
        self.page.goto(f"{self.url}/{path}")
        return self.drawn()

    def drawn(self) -> Page:
        expect(self.page.locator("h1").first).to_be_visible()
        return settled(self.page)

    def go(self, name: str) -> Page:
        """To another page by the navigation, which a phone folds into a menu."""
        unfold = self.page.get_by_test_id("stExpandSidebarButton")
        if unfold.is_visible():
            unfold.click()
        places = self.page.get_by_test_id("stSidebarNavLink").or_(self.page.get_by_test_id("stTopNavLink"))
        places.filter(has_text=re.compile(rf"^{name}$")).click()
        return self.drawn()

    def complaints(self) -> list[str]:
        """Failed requests and what the console called an error, since the last time."""
        failed = [url for url in self._failed if not _PROBES.search(url)]
        said = [line for line in self._said if "404" not in line]
        self._failed.clear()
        self._said.clear()
        return [*failed, *said]

    def sideways(self) -> int:
        """Pixels by which the page is wider than the window."""
        wide: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wide

    def picture(self, name: str) -> None:
        """Keep what is seen under MARQUEE_SHOTS, where it is set."""
        if folder := os.environ.get("MARQUEE_SHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{self.width}-{name}.png")

    def close(self) -> None:
        self.context.close()
