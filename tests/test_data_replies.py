"""Decisions about replies: kept once per review, undone, read back in UTC, shared by threads."""

import datetime as dt
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from data import replies
from data.errors import UserError


def test_nothing_is_decided_at_first(marquee_home: Path) -> None:
    found = replies.decisions("demo")
    assert found.empty
    assert list(found) == ["review_id", "status", "text", "decided_at", "run_id"]
    assert str(found["decided_at"].dtype) == "datetime64[ns, UTC]"


def test_a_decision_is_read_back(marquee_home: Path) -> None:
    before = pd.Timestamp.now("UTC")
    replies.decide("demo", "r1", "edited", "Danke für 'alles' <b>; DROP TABLE replies; \U0001f600", "run-1")
    (row,) = replies.decisions("demo").to_dict("records")
    assert (row["review_id"], row["status"], row["run_id"]) == ("r1", "edited", "run-1")
    assert row["text"] == "Danke für 'alles' <b>; DROP TABLE replies; \U0001f600"
    assert before <= row["decided_at"] <= pd.Timestamp.now("UTC")
    assert (marquee_home / "marquee.db").is_file()


def test_deciding_again_replaces(marquee_home: Path) -> None:
    for status, text in (("approved", "a"), ("approved", "a"), ("dismissed", "b")):
        replies.decide("demo", "r1", status, text)
    (row,) = replies.decisions("demo").to_dict("records")
    assert (row["status"], row["text"], row["run_id"]) == ("dismissed", "b", None)


def test_undo_makes_open_again(marquee_home: Path) -> None:
    replies.decide("demo", "r1", "approved", "a")
    replies.decide("demo", "r2", "approved", "b")
    assert replies.undo("demo", "r1")
    assert not replies.undo("demo", "r1")
    assert replies.decisions("demo")["review_id"].tolist() == ["r2"]


def test_datasets_are_kept_apart(marquee_home: Path) -> None:
    replies.decide("demo", "r1", "approved", "a")
    replies.decide("other", "r1", "dismissed", "b")
    replies.undo("demo", "r1")
    assert replies.decisions("demo").empty
    assert replies.decisions("other")["status"].tolist() == ["dismissed"]


def test_times_of_any_zone_are_kept_as_utc_and_give_the_order(marquee_home: Path) -> None:
    east = dt.timezone(dt.timedelta(hours=9))
    replies.decide("demo", "late", "approved", decided_at=dt.datetime(2024, 1, 1, 3, tzinfo=dt.UTC))
    replies.decide("demo", "early", "approved", decided_at=dt.datetime(2024, 1, 1, 11, tzinfo=east))
    found = replies.decisions("demo")
    assert found["review_id"].tolist() == ["early", "late"]
    assert found["decided_at"].iloc[0] == pd.Timestamp("2024-01-01 02:00", tz="UTC")


def test_an_unknown_status_is_refused(marquee_home: Path) -> None:
    with pytest.raises(ValueError, match="'sent'"):
        replies.decide("demo", "r1", "sent")


def test_threads_write_at_once_into_a_new_database(marquee_home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: replies.decide("demo", f"r{i % 20}", "approved", str(i)), range(80)))
    assert sorted(replies.decisions("demo")["review_id"]) == sorted(f"r{i}" for i in range(20))


def test_a_reader_does_not_wait_for_a_writer(marquee_home: Path) -> None:
    replies.decide("demo", "r1", "approved", "a")
    writer = sqlite3.connect(marquee_home / "marquee.db", isolation_level=None)
    try:
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM replies")
        assert len(replies.decisions("demo")) == 1
    finally:
        writer.close()


def test_a_writer_waits_for_another(marquee_home: Path) -> None:
    replies.decide("demo", "r1", "approved", "a")
    writer = sqlite3.connect(marquee_home / "marquee.db", isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(replies.decide, "demo", "r2", "approved", "b")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        writer.execute("COMMIT")
        waiting.result(timeout=5)
    writer.close()
    assert len(replies.decisions("demo")) == 2


def test_a_database_that_was_deleted_is_made_again(marquee_home: Path) -> None:
    replies.decide("demo", "r1", "approved", "a")
    for path in marquee_home.glob("marquee.db*"):
        path.unlink()
    assert replies.decisions("demo").empty
    replies.decide("demo", "r2", "approved", "b")
    assert replies.decisions("demo")["review_id"].tolist() == ["r2"]


def test_the_environment_names_another_database(
    marquee_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_DATABASE_URL", f"sqlite:///{tmp_path / 'team.db'}")
    replies.decide("demo", "r1", "approved", "a")
    assert (tmp_path / "team.db").is_file()
    assert not (marquee_home / "marquee.db").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://localhost/x", "mysql"),
        ("sqlite:////no/such/folder/x.db", "cannot be used"),
    ],
)
def test_a_bad_url_is_a_sentence(url: str, words: str, marquee_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_DATABASE_URL", url)
    with pytest.raises(UserError, match=words):
        replies.decisions("demo")


def test_a_file_that_is_no_database_is_a_sentence_that_names_it(marquee_home: Path) -> None:
    marquee_home.mkdir(parents=True)
    (marquee_home / "marquee.db").write_bytes(b"no database at all " * 200)
    with pytest.raises(UserError, match=r"marquee\.db"):
        replies.decide("demo", "r1", "approved")


NOW = dt.datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)


def batch(*review_ids: str, status: str = "approved") -> pd.DataFrame:
    return pd.DataFrame({"review_id": review_ids, "status": status, "text": "Thank you.", "run_id": None})


def test_many_are_decided_at_once_and_taken_back_at_once(database: str) -> None:
    replies.decide("demo", "r2", "dismissed", "own")
    replies.decide("other", "r1", "approved", "b")
    assert replies.decide_all("demo", batch("r1", "r2", "r3"), NOW) == 2
    assert replies.decide_all("demo", batch("r1", "r2", "r3"), NOW + dt.timedelta(seconds=1)) == 0
    east = dt.timezone(dt.timedelta(hours=9))
    assert replies.decide_all("demo", batch("r4"), (NOW + dt.timedelta(seconds=2)).astimezone(east)) == 1
    found = replies.decisions("demo").set_index("review_id")
    assert found["status"].to_dict() == {"r1": "approved", "r2": "dismissed", "r3": "approved", "r4": "approved"}
    assert found.loc["r2", "text"] == "own"  # somebody was quicker
    assert (found.loc[["r1", "r3"], "decided_at"] == NOW).all()
    assert found.loc["r1", "run_id"] is None
    replies.decide("demo", "r3", "edited", "later")  # and is not taken back with the others
    assert replies.undo_all("demo", NOW) == 1
    assert sorted(replies.decisions("demo")["review_id"]) == ["r2", "r3", "r4"]
    assert len(replies.decisions("other")) == 1


def test_many_decisions_are_kept_all_or_none(database: str) -> None:
    broken = batch("r1", "r2")
    broken.loc[1, "text"] = None
    with pytest.raises(UserError, match="cannot be used"):
        replies.decide_all("demo", broken, NOW)
    assert replies.decisions("demo").empty
    with pytest.raises(ValueError, match="status 'sent'"):
        replies.decide_all("demo", batch("r1", status="sent"), NOW)
    assert replies.decide_all("demo", batch(), NOW) == 0
    assert replies.decisions("demo").empty
