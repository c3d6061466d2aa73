"""Fixtures that every test file may use: a home of its own, and small generated datasets with a known answer."""

import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, Source, write_dataset

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so all commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(Path(__file__).parent))  # so that `import device_check` works in every test file

GENRES = ("Drama", "Comedy", "Action", "Horror")
GOOD = ("wonderful", "moving", "brilliant", "funny", "charming")
BAD = ("dull", "awful", "clumsy", "boring", "lifeless")
PLAIN = ("the", "film", "with", "a", "story", "about", "people", "in", "town", "and", "their", "long", "way", "home")


@pytest.fixture
def marquee_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty MARQUEE_HOME of the test's own."""
    home = tmp_path / "home"
    monkeypatch.setenv("MARQUEE_HOME", str(home))
    monkeypatch.delenv("MARQUEE_DATASET", raising=False)
    return home


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the demo's data, four short trainings and four score tables; see short_road.py."""
    import short_road

    return short_road.make(tmp_path_factory.mktemp("road"))


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """A browser for a file's tests; not for the session, because its event loop runs as long as it is open."""
    import browser

    with browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of the tests' own; skips where none is installed."""
    import database_server

    if database_server.programs() is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    with database_server.postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, marquee_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database of each kind, as the environment names it; returns its kind."""
    if request.param == "postgresql":
        import sqlalchemy

        server, name = request.getfixturevalue("postgres_server"), f"test_{uuid.uuid4().hex[:12]}"
        engine = sqlalchemy.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as opened:
            opened.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        monkeypatch.setenv("MARQUEE_DATABASE_URL", f"{server}/{name}")
    else:
        monkeypatch.delenv("MARQUEE_DATABASE_URL", raising=False)
    return str(request.param)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: small models gain nothing from two, and two that share a busy core wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generated_tables(
    n_users: int = 60, n_items: int = 40, n_days: int = 120, reviews: int = 200, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Tables with planted structure.

    Members belong to one of two groups and mostly choose titles of their group, popular titles more often; activity
    has a weekly rhythm (twice as much at weekends); half of the members leave halfway; a review is positive exactly
    when it holds a word of GOOD.
    """
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2024-01-01", tz="UTC")
    group = np.arange(n_items) % 2
    popularity = 1 / (1 + np.arange(n_items) / 4)
    days = np.arange(n_days)
    weight = np.where(days % 7 >= 5, 2.0, 1.0)
    rows = []
    for user in range(n_users):
        last_day = n_days // 2 if user % 4 in (2, 3) else n_days
        p_day = weight[:last_day] / weight[:last_day].sum()
        n = min(n_items - 2, int(rng.integers(12, 24)))
        p_item = popularity * np.where(group == user % 2, 12.0, 1.0)
        items = rng.choice(n_items, n, replace=False, p=p_item / p_item.sum())
        when = np.sort(rng.choice(last_day, n, p=p_day)) * 86_400 + rng.integers(0, 86_000, n)
        liked = group[items] == user % 2
        rating = np.clip(np.where(liked, 4, 2) + rng.integers(-1, 2, n), 1, 5)
        rows.append(
            pd.DataFrame({"user_id": f"u{user}", "item_id": [f"i{i}" for i in items], "s": when, "rating": rating})
        )
    interactions = pd.concat(rows, ignore_index=True)
    interactions["timestamp"] = start + pd.to_timedelta(interactions.pop("s"), unit="s")
    items = pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(n_items)],
            "title": [f"Title {i}, The" if i % 5 == 0 else f"Title {i}" for i in range(n_items)],
            "year": 1980.0 + np.arange(n_items) % 40,
            "genres": [[GENRES[i % 2]] if i % 3 else [GENRES[i % 2], GENRES[2 + i % 2]] for i in range(n_items)],
        }
    )
    users = pd.DataFrame({"user_id": [f"u{i}" for i in range(n_users)], "age": 18 + np.arange(n_users) % 50})
    tables = {"interactions": interactions, "items": items, "users": users}
    if reviews:
        positive = rng.random(reviews) < 0.5
        words = [
            [*rng.choice(PLAIN, 8), rng.choice(GOOD if p else BAD), *rng.choice(PLAIN, 4), f"n{i}"]
            for i, p in enumerate(positive)
        ]
        tables["reviews"] = pd.DataFrame(
            {
                "review_id": [f"r{i:05d}" for i in range(reviews)],
                "text": [" ".join(w) for w in words],
                "item_id": [f"i{i % n_items}" if i % 2 else None for i in range(reviews)],
                "label": np.where(positive, "positive", "negative"),
                "source": "generated",
                "created_at": start + pd.to_timedelta(np.arange(reviews) % n_days, unit="D"),
            }
        )
    return tables


@pytest.fixture
def small_dataset(marquee_home: Path) -> Callable[..., Dataset]:
    """Write a generated dataset (see `generated_tables`) and return it; `drop` leaves tables out."""

    def make(name: str = "small", drop: tuple[str, ...] = (), **sizes: int) -> Dataset:
        tables = {k: v for k, v in generated_tables(**sizes).items() if k not in drop}
        return write_dataset(name, tables, sources=[Source("generated", "generated")], replace=True)

    return make
