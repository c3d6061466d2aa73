"""Real posters in a browser: they lie over the drawn ones once they are known; where none comes nothing is lost.

TMDB is a server on this machine (tmdb_server.py). Needs a Chromium.
"""

import io
from collections.abc import Callable

import dashboard_home
import pytest
from browser import Tab, settled, violations
from PIL import Image
from playwright.sync_api import Browser, Locator, expect
from tmdb_server import TOKEN, TmdbServer, film, picture

from benchmarks.visitor import dashboard
from dashboard import artwork
from data import home
from data.dataset import Dataset
from data.titles import display_title

pytestmark = pytest.mark.end_to_end

BLUE = (0x20, 0xC0, 0xF0)


def colour(place: Locator, left: float = 0.5) -> tuple[int, ...]:
    """Of its middle, or further to the left."""
    seen = Image.open(io.BytesIO(place.screenshot())).convert("RGB")
    return tuple(seen.getpixel((int(left * seen.width), seen.height // 2)))


def test_real_posters_lie_over_the_drawn_ones(small_dataset: Callable[..., Dataset], chromium: Browser) -> None:
    data = small_dataset(reviews=0)
    dashboard_home.write_scores(data, "recommendations", dashboard_home.recommendations(data))
    items = data.items().set_index("item_id")
    with TmdbServer() as server:
        for number, (title, year) in enumerate(zip(items["title"], items["year"], strict=True)):
            server.films.append(film(number, display_title(title), f"{year:.0f}-05-05"))
            if number % 4 < 2:  # the other images are not there
                server.files[f"/t/p/w342/p{number}.png"] = picture("#20c0f0")
        settings = {artwork.KEY: TOKEN, artwork.ADDRESS: server.api, artwork.IMAGES: server.images}
        server.is_open.clear()
        with dashboard(home.home(), data.name, **settings) as started:
            tab = Tab(chromium, started.url, 1280, 900)
            page = tab.open("?member=u0")
            cards = page.locator(".shelf").first.locator(".card")
            real = cards.and_(page.locator(".card:has(.real)"))
            expect(cards.first).to_be_visible()
            settled(page)
            expect(real).to_have_count(0)
            ids = cards.evaluate_all("cards => cards.map((card) => { card.seen = true; return card.dataset.id; })")
            with_image = [card for card in ids if int(card[1:]) % 4 < 2]
            shown = cards.and_(page.locator(f'[data-id="{with_image[0]}"]'))
            name = shown.get_attribute("aria-label")

            beside = Tab(chromium, started.url, 1280, 900)
            head = beside.open(f"title?title={with_image[0]}").locator(".mq-poster")
            assert colour(head) != BLUE

            server.is_open.set()  # nobody clicks, nothing is drawn again
            expect(shown.locator(".real")).to_have_js_property("naturalWidth", 342)
            assert shown.locator(".real").bounding_box() == shown.bounding_box()
            assert colour(shown) == BLUE
            assert max(colour(shown.locator(".badge"), left=0.08)) < 90  # dark under white letters, above the image
            assert shown.get_attribute("aria-label") == name
            expect(page.get_by_text(artwork.ATTRIBUTION)).to_be_visible()

            imageless = next(card for card in ids if card not in with_image)
            missing = cards.and_(page.locator(f'[data-id="{imageless}"]'))
            missing.scroll_into_view_if_needed()
            expect(missing.locator(".real")).to_have_count(0)
            expect(missing.locator(".title")).to_be_visible()
            assert violations(page) == []

            page.keyboard.press("r")  # draws the page again, now with posters in the cards' data
            page.wait_for_timeout(1000)
            settled(page)
            assert cards.evaluate_all("cards => cards.every((card) => card.seen)")

            expect(head.locator(".real")).to_have_js_property("naturalWidth", 342)
            assert colour(head) == BLUE
            head = beside.open(f"title?title={with_image[0]}").locator(".mq-poster")  # known as it is drawn
            expect(head.locator(".real")).to_have_js_property("naturalWidth", 342)
            assert colour(head) == BLUE
            assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
            head = beside.open(f"title?title={imageless}").locator(".mq-poster")
            assert colour(head) != BLUE
            expect(head.locator(".mq-poster-title")).to_be_visible()
            tab.close()
            beside.close()
