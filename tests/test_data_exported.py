"""Tables that are imported anew: what members did is in them once, whoever imports and exports in which order."""

import threading
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from import_files import take

from data import events, home
from data.dataset import Dataset, only_writer, open_dataset
from data.events import Event, Review
from data.feedback import export_events, forget


def happened(data: Dataset, *users: str) -> None:
    made = pd.Timestamp(data.clock_set_at or data.created_at).to_pydatetime()
    events.record(data, [Event(user, "rating", "i1", 4.0, made_at=made + pd.Timedelta(minutes=5)) for user in users])


def ratings_of(name: str, user: str) -> int:
    table = open_dataset(name).interactions()
    return int(((table["user_id"] == user) & (table["item_id"] == "i1")).sum())


def kept_copy(data: Dataset, folder: Path) -> dict[str, Path]:
    folder.mkdir()
    paths = {}
    for table in ("interactions", "items", "users", "reviews"):
        if data.has(table):
            paths[table] = folder / f"{table}.parquet"
            paths[table].write_bytes(data.path(table).read_bytes())
    return paths


@pytest.fixture
def data(small_dataset) -> Dataset:
    return small_dataset("mine", n_users=6, reviews=10)


def test_our_own_tables_do_not_double_what_members_did(data: Dataset, tmp_path: Path) -> None:
    happened(data, "new-a", "new-b")
    events.write_review(data, Review("new-a", "i1", "A moving film."))
    export_events("mine")
    take("mine", replace=True, **kept_copy(open_dataset("mine"), tmp_path / "copy"))
    assert events.waiting(open_dataset("mine")) == (0, 0)
    again = export_events("mine")
    assert (again.events, again.reviews) == (0, 0)
    assert ratings_of("mine", "new-a") == 1
    happened(open_dataset("mine"), "new-c")
    assert export_events("mine").events == 1
    assert [ratings_of("mine", user) for user in ("new-a", "new-b", "new-c")] == [1, 1, 1]


def test_the_original_source_gets_all_of_it_again(data: Dataset, tmp_path: Path) -> None:
    source = kept_copy(data, tmp_path / "copy")
    happened(data, "new-a")
    export_events("mine")
    take("mine", replace=True, **source)
    assert ratings_of("mine", "new-a") == 0
    assert export_events("mine").events == 1
    assert ratings_of("mine", "new-a") == 1


def test_an_older_copy_gets_what_came_later(data: Dataset, tmp_path: Path) -> None:
    happened(data, "new-a")
    export_events("mine")
    older = kept_copy(open_dataset("mine"), tmp_path / "copy")
    happened(open_dataset("mine"), "new-b")
    export_events("mine")
    take("mine", replace=True, **older)
    assert export_events("mine").events == 1
    assert [ratings_of("mine", user) for user in ("new-a", "new-b")] == [1, 1]


def test_what_somebody_took_out_stays_out_and_is_said(data: Dataset, tmp_path: Path) -> None:
    happened(data, "new-a", "new-b")
    export_events("mine")
    paths = kept_copy(open_dataset("mine"), tmp_path / "copy")
    table = pd.read_parquet(paths["interactions"])
    table[table["user_id"] != "new-a"].to_parquet(paths["interactions"])
    done = take("mine", replace=True, **paths)
    assert any("1 event that members made in the dashboard is not in interactions" in said for said in done.warnings)
    assert export_events("mine").events == 0


def test_exported_tables_under_another_name_are_rows_like_others(data: Dataset, tmp_path: Path) -> None:
    happened(data, "new-a")
    export_events("mine")
    take("other", **kept_copy(open_dataset("mine"), tmp_path / "copy"))
    assert export_events("other").events == 0
    assert ratings_of("other", "new-a") == 1


def test_an_import_without_a_database_makes_none(tmp_path: Path, marquee_home: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user_id,item_id\na,b\n")
    take("mine", interactions=path)
    assert not (marquee_home / "marquee.db").exists()


def test_an_import_waits_for_whoever_rewrites_the_dataset(data: Dataset, tmp_path: Path) -> None:
    paths = kept_copy(data, tmp_path / "copy")
    rows = pq.read_metadata(paths["interactions"]).num_rows
    ended: list[float] = []

    def replace() -> None:
        take("mine", replace=True, **paths)
        ended.append(time.monotonic())

    with only_writer("mine"):
        thread = threading.Thread(target=replace)
        thread.start()
        thread.join(timeout=2)
        assert thread.is_alive()
        released = time.monotonic()
    thread.join(timeout=20)
    assert ended
    assert ended[0] > released
    assert open_dataset("mine").rows["interactions"] == rows


def test_forget_waits_for_an_import_that_writes(data: Dataset) -> None:
    gone = threading.Thread(target=lambda: forget("mine", "u1"))
    with only_writer("mine"):
        gone.start()
        gone.join(timeout=1)
        assert gone.is_alive()
    gone.join(timeout=20)
    assert "u1" not in set(open_dataset("mine").interactions()["user_id"])
    assert [p for p in home.tables("mine").parent.glob(".mine.*") if p.name != ".mine.lock"] == []
