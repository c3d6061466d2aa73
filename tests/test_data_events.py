"""What members do is kept once, in order, in both times, by many writers at once, in SQLite and in PostgreSQL."""

import datetime as dt
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from data import database as db
from data import events, replies
from data.dataset import Dataset
from data.errors import UserError
from data.events import Event, Review

WRITTEN = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
AS_OF = pd.Timestamp("1998-04-22 23:10", tz="UTC")


def dataset(name: str = "mine", as_of: pd.Timestamp | None = AS_OF) -> Dataset:
    return Dataset(name, Path(name), as_of, "real", "f", created_at=WRITTEN.isoformat())


def test_an_event_is_read_back_with_both_times(database: str) -> None:
    made = WRITTEN.astimezone(dt.timezone(dt.timedelta(hours=9))) + dt.timedelta(days=2, microseconds=7)
    event = Event(
        "ü'1", "rating", "i<b>", 4.5, place="Because you watched; DROP TABLE", rank=3, run_id="r", made_at=made
    )
    assert events.record(dataset(), [event]) == 1
    (row,) = events.events("mine").to_dict("records")
    assert {k: row[k] for k in ("user_id", "item_id", "kind", "rating", "place", "rank", "run_id")} == {
        "user_id": "ü'1",
        "item_id": "i<b>",
        "kind": "rating",
        "rating": 4.5,
        "place": "Because you watched; DROP TABLE",
        "rank": 3,
        "run_id": "r",
    }
    assert row["made_at"] == pd.Timestamp(made)
    assert row["service_time"] == AS_OF + pd.Timedelta(days=2, microseconds=7)
    assert pd.isna(row["minutes"])


def test_an_event_is_kept_once_however_often_it_is_sent(database: str) -> None:
    first, second = Event("u1", "watch", "i1"), Event("u1", "watch", "i1")
    assert events.record(dataset(), [first]) == 1
    assert events.record(dataset(), [first, second]) == 1
    assert events.record(dataset(), [replace(first, user_id="u2")]) == 0
    assert events.events("mine")["event_id"].tolist() == [first.event_id, second.event_id]
    review = Review("u1", "i1", "Fine.")
    assert events.write_review(dataset(), review)
    assert not events.write_review(dataset(), replace(review, text="Changed"))
    assert events.reviews("mine")["text"].tolist() == ["Fine."]


def test_many_events_are_kept_all_or_none(database: str) -> None:
    many = [Event(f"u{i % 7}", "impression", f"i{i}", rank=i) for i in range(1201)]
    assert events.record(dataset(), many) == 1201
    assert events.events("mine")["rank"].tolist() == list(range(1201))
    assert events.record(dataset(), []) == 0
    broken = Event("u", "watch", "i", place="x" * 201 if database == "postgresql" else None)
    if database == "sqlite":
        object.__setattr__(broken, "kind", "unheard of")
    with pytest.raises(UserError, match="cannot be used"):
        events.record(dataset(), [*(Event("u", "watch", f"i{i}") for i in range(600)), broken])
    assert len(events.events("mine")) == 1201


def test_what_is_asked_for_is_what_comes(database: str) -> None:
    for name in ("mine", "other"):
        events.record(dataset(name), [Event("u1", "watch", "i1"), Event("u2", "thumb_up", "i2")])
    found = events.events("mine")
    assert found["user_id"].tolist() == ["u1", "u2"]
    assert events.events("mine", user_id="u2")["item_id"].tolist() == ["i2"]
    assert events.events("mine", kinds=("watch",))["user_id"].tolist() == ["u1"]
    assert events.events("mine", after=int(found["number"].iloc[0]))["user_id"].tolist() == ["u2"]
    events.write_review(dataset(), Review("u1", "i1", "a", 3))
    events.write_review(dataset(), Review("u2", "i2", "b\x00"))
    assert events.reviews("mine")["text"].tolist() == ["a", "b"]
    assert events.reviews("mine", item_id="i2")["user_id"].tolist() == ["u2"]
    assert events.reviews("mine", user_id="u1")["stars"].tolist() == [3.0]
    assert events.reviews("mine", after=1)["text"].tolist() == ["b"]
    empty = events.events("nothing")
    assert empty.empty
    assert str(empty["made_at"].dtype) == "datetime64[us, UTC]"


def test_the_clock_goes_on_from_where_the_tables_end() -> None:
    assert events.service_time(dataset(), WRITTEN - dt.timedelta(days=1)) == AS_OF  # a wall clock set back
    assert events.service_time(dataset(), WRITTEN + dt.timedelta(hours=5)) == AS_OF + pd.Timedelta(hours=5)
    assert events.service_time(dataset(as_of=None), WRITTEN) == WRITTEN


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "bought"}, "'bought' is none of"),
        ({"user_id": ""}, "user_id must have 1 to 1,000"),
        ({"user_id": "u" * 1001}, "user_id must have 1 to 1,000"),
        ({"item_id": "a\x00b"}, "null character"),
        ({"kind": "rating"}, "needs a rating"),
        ({"kind": "rating", "rating": float("nan")}, "no number"),
        ({"minutes": float("inf")}, "no number"),
    ],
)
def test_what_no_table_could_hold_is_refused(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Event(**({"user_id": "u", "kind": "watch"} | fields))


@pytest.mark.parametrize("fields", [{"text": "  "}, {"user_id": ""}, {"item_id": ""}])
def test_an_empty_review_is_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match=r"text|must have"):
        Review(**({"user_id": "u", "item_id": "i", "text": "x"} | fields))


def _write_some(number: int) -> None:
    for i in range(20):
        events.record(dataset(), [Event(f"u{number}", "watch", f"i{i}", event_id=f"{number}-{i}")] * 2)


def test_processes_write_at_once_into_a_new_database(database: str) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_write_some, [0, 1, 2, 3, 3, 2]))  # two of them are sent twice
    found = events.events("mine")
    assert sorted(found["event_id"]) == sorted(f"{n}-{i}" for n in range(4) for i in range(20))


def test_threads_write_at_once_into_a_new_database(database: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_write_some, range(8)))
    assert len(events.events("mine")) == 160


def test_a_number_is_never_given_twice(database: str) -> None:
    """An export remembers how far it came: a number that came back would be passed over."""
    events.record(dataset(), [Event("u", "watch", "i1")])
    number = int(events.events("mine")["number"].iloc[0])
    with db.connection() as opened:
        opened.execute(sqlalchemy.delete(events.EVENTS))
    events.record(dataset(), [Event("u", "watch", "i2")])
    assert int(events.events("mine")["number"].iloc[0]) > number


def test_every_acknowledged_event_outlives_a_kill(marquee_home: Path) -> None:
    writer = textwrap.dedent("""
        from pathlib import Path
        import pandas as pd
        from data.dataset import Dataset
        from data.events import Event, record
        mine = Dataset("mine", Path("mine"), pd.Timestamp("2024-01-01", tz="UTC"), "real", "f",
                       created_at="2024-01-01T00:00:00+00:00")
        for i in range(1000):
            record(mine, [Event("u", "watch", f"i{i}", event_id=str(i))])
            print(i, flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", writer], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [next(process.stdout) for _ in range(100)]
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.readlines()
    process.wait()
    kept = events.events("mine")["event_id"].astype(int).tolist()
    assert 100 <= len(said) < 1000
    assert kept[: len(said)] == list(range(len(said)))
    assert len(kept) <= len(said) + 1  # one may be kept that could not be acknowledged any more
    assert events.record(dataset(), [Event("u", "watch", f"i{i}", event_id=str(i)) for i in range(1000)]) == 1000 - len(
        kept
    )


def test_a_database_that_cannot_be_written_can_be_read(marquee_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is mounted read-only, where SQLite's write-ahead log cannot be made."""
    events.record(dataset(), [Event("u", "watch", "i")])
    path = marquee_home / "marquee.db"
    path.chmod(0o444)
    marquee_home.chmod(0o555)
    real = os.access  # root may write anywhere

    def access(asked: Path, mode: int, **more: bool) -> bool:
        return False if mode == os.W_OK and Path(asked) in (path, marquee_home) else real(asked, mode, **more)

    monkeypatch.setattr(os, "access", access)
    before = path.read_bytes()
    assert events.events("mine")["user_id"].tolist() == ["u"]
    with pytest.raises(UserError, match=r"marquee.db cannot be used \(attempt to write a readonly database\): make it"):
        events.record(dataset(), [Event("u", "watch", "i")])
    assert path.read_bytes() == before
    assert [file.name for file in marquee_home.iterdir() if file.suffix != ".lock"] == ["marquee.db"]
    marquee_home.chmod(0o755)


def test_a_database_with_another_journal_can_be_read_where_it_cannot_be_changed(
    marquee_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.record(dataset(), [Event("u", "watch", "i")])
    path = marquee_home / "marquee.db"
    with sqlite3.connect(path) as opened:
        opened.execute("PRAGMA journal_mode = DELETE")
    opened.close()
    monkeypatch.setenv("MARQUEE_DATABASE_URL", f"sqlite:///file:{path}?mode=ro&uri=true")
    assert events.events("mine")["user_id"].tolist() == ["u"]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused(url: str, marquee_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_DATABASE_URL", url)
    with pytest.raises(UserError, match="in memory, of which every connection would have its own: name a file"):
        events.events("mine")


# -- migrations ----------------------------------------------------------------------------------------------------


def test_the_migrations_end_where_the_code_begins(database: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == db.HEAD
    replies.decide("mine", "r", "approved")
    with db.connection() as opened:
        context = MigrationContext.configure(opened, opts={"compare_type": True})
        assert compare_metadata(context, db.METADATA) == []


def test_a_database_that_another_makes_meanwhile_is_no_failure(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replies.decide("mine", "r", "approved")
    asked = iter(["SELECT version_num FROM not_there_yet", "SELECT version_num FROM alembic_version"])
    monkeypatch.setattr(db, "text", lambda _: sqlalchemy.text(next(asked)))
    assert db._revision(db._engine(db.database_url())) == db.HEAD


def test_a_database_from_before_there_were_migrations_keeps_its_decisions(marquee_home: Path) -> None:
    marquee_home.mkdir()
    with sqlite3.connect(marquee_home / "marquee.db") as old:
        old.execute(
            "CREATE TABLE replies (dataset VARCHAR(100) NOT NULL, review_id VARCHAR(1000) NOT NULL, status VARCHAR(20) "
            "NOT NULL, text TEXT NOT NULL, decided_at DATETIME NOT NULL, run_id VARCHAR(100), "
            "PRIMARY KEY (dataset, review_id))"
        )
        old.execute("INSERT INTO replies VALUES ('mine', 'r1', 'approved', 'Thanks', '2024-01-01 00:00:00', NULL)")
    old.close()
    assert replies.decisions("mine")["text"].tolist() == ["Thanks"]
    events.record(dataset(), [Event("u", "watch", "i")])
    assert len(events.events("mine")) == 1


@pytest.mark.parametrize("made", ["", "events", "page_id"])
def test_a_migration_that_was_killed_goes_on(
    database: str, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # SQLite keeps what was done before the end; PostgreSQL nothing
    replies.decide("mine", "r1", "approved", "Thanks")
    event = Event("u", "impression", "i", page_id="p", propensity=0.25)
    events.record(dataset(), [event])
    back_to = "0001" if made == "events" else "0002"
    with db.connection() as opened:
        opened.execute(sqlalchemy.text(f"UPDATE alembic_version SET version_num = '{back_to}'"))
        if made == "events":
            opened.execute(sqlalchemy.text("DROP TABLE member_reviews"))
        for column in ("page_id", "propensity"):
            if column != made:
                opened.execute(sqlalchemy.text(f"ALTER TABLE events DROP COLUMN {column}"))
    assert replies.decisions("mine")["text"].tolist() == ["Thanks"]
    assert events.events("mine")["kind"].tolist() == ["impression"]
    events.record(dataset(), [replace(event, event_id="another")])
    (row,) = events.events("mine", after=int(events.events("mine")["number"].iloc[0])).to_dict("records")
    assert (row["page_id"], row["propensity"]) == ("p", 0.25)
    assert len(events.reviews("mine")) == 0


def test_the_database_of_a_newer_marquee_is_refused(database: str) -> None:
    replies.decide("mine", "r", "approved")
    with db.connection() as opened:
        opened.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match=r"made by a newer Marquee .*update this one"):
        events.events("mine")
