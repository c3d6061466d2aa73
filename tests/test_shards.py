"""Shards and who scores them, by a scorer without a model: order, deaths, what is kept and what is not."""

import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from toy_scorer import DEADLY, TARGET, opened

from data import engines, incremental, shards
from data.engines import Engine, score_missing
from data.errors import UserError
from data.parts import STATE, drop_parts, parts_folder, parts_of, passing_folder

IDS = np.array([f"t{i}" for i in range(23)], object)
KEY = {"run": "r"}


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    Engine(processes=2).prepare("torch", "data.engines")


@pytest.fixture
def marks(tmp_path: Path, marquee_home: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def work(parts: Path, marks: Path, ids: np.ndarray = IDS, size: int = 5, deaths: int = 0) -> shards.Shards:
    parts.mkdir(exist_ok=True)
    return shards.shards_in(parts, ids, size, KEY, partial(opened, marks, deaths), TARGET)


def scored_by(marks: Path) -> dict[str, str]:
    """The process that scored each shard, by the first thing in it."""
    return dict(path.name.split("-") for path in marks.iterdir() if not path.name.startswith("death"))


@pytest.mark.parametrize("processes", [None, 2])
def test_rows_have_the_order_of_the_things_whoever_scores(processes: int | None, marks: Path, tmp_path: Path) -> None:
    todo = work(tmp_path / "parts", marks)
    assert (len(todo), todo.scored()) == (5, 0)
    score_missing(todo, Engine(processes=processes), progress=False)
    assert (todo.missing(), todo.scored()) == ([], 23)
    shards.write_one(todo, tmp_path / "out.parquet", {b"made": b"by"})
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == [one for one in IDS for _ in (1, 2)]
    assert table["rank"].to_pylist() == [1, 2] * 23
    assert table.schema.metadata == {b"made": b"by"}
    by = scored_by(marks)
    assert sorted(by) == ["t0", "t10", "t15", "t20", "t5"]
    here = str(os.getpid())
    assert set(by.values()) == {here} if processes is None else here not in by.values()


def test_processes_share_the_threads_and_know_the_home_of_now(
    marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):  # those of the second come from a process that began under the first
        monkeypatch.setenv("MARQUEE_HOME", str(tmp_path / name))
        todo = work(tmp_path / f"parts-{name}", marks)
        score_missing(todo, Engine(processes=2), progress=False)
        (said,) = set(next(shards.gathered(todo.paths))["value"].to_pylist())
        assert said == f"{max(1, torch.get_num_threads() // 2)} {tmp_path / name}"


def test_a_killed_process_is_replaced(marks: Path, tmp_path: Path) -> None:
    ids = np.concatenate([IDS, np.array([DEADLY, "last"], object)])
    todo = work(tmp_path / "parts", marks, ids, deaths=2)
    score_missing(todo, Engine(processes=2), progress=False)
    assert len(list(marks.glob("death-*"))) == 2
    shards.write_one(todo, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == [one for one in ids for _ in (1, 2)]


def test_deaths_are_counted_from_the_last_result(marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five processes that each score a shard and die have scored all; three deaths in a row would have been the end."""
    todo = work(tmp_path / "parts", marks)
    deaths = []

    def one_and_dead(shards: shards.Shards, missing: list[int], number: int) -> Iterator[int]:
        shards.work.write(shards.work.open_scorer(), missing[0], shards[missing[0]])
        yield missing[0]
        deaths.append(missing[0])
        raise BrokenProcessPool

    monkeypatch.setattr(engines, "_by_pool", one_and_dead)
    score_missing(todo, Engine(processes=2), progress=False)
    assert deaths == [0, 1, 2, 3, 4]
    assert todo.missing() == []


def test_an_actor_that_takes_over_scores_only_what_is_missing(marks: Path, tmp_path: Path) -> None:
    """Ray asks again for what it has no answer to, though the file may be there."""
    todo = work(tmp_path / "parts", marks)
    scored: list[str] = []
    counting = replace(
        todo.work, open_scorer=lambda: lambda things: (scored.extend(things), todo.work.open_scorer()(things))[1]
    )
    actor = engines._Actor(counting)
    batch = {"shard": np.array([1, 3]), "things": [todo[1].tolist(), todo[3].tolist()]}
    for _ in range(2):
        assert actor(batch)["n"].tolist() == [5, 5]
    assert scored == [*todo[1], *todo[3]]
    assert todo.missing() == [0, 2, 4]


def test_who_is_killed_again_and_again_is_told_of_and_the_rest_is_kept(marks: Path, tmp_path: Path) -> None:
    ids = np.concatenate([IDS, np.array([DEADLY], object)])
    out = tmp_path / "out.parquet"
    with (
        pytest.raises(UserError, match=r"came to an end 3 times.*fewer than --processes 2"),
        parts_folder(out) as parts,
    ):
        score_missing(work(parts, marks, ids, deaths=99), Engine(processes=2), progress=False)
    assert 3 <= len(list(marks.glob("death-*"))) <= 8
    with parts_folder(out) as parts:
        todo = work(parts, marks, ids)
        assert todo.missing() == [4]
        score_missing(todo, Engine(), progress=False)
        assert scored_by(marks)["t20"] == str(os.getpid())
    assert not parts.exists()


def test_only_the_same_work_goes_on(marks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = tmp_path / "parts"
    todo = work(parts, marks)
    score_missing(todo, Engine(), progress=False)
    todo.paths[1].unlink()
    before = {path.name for path in marks.iterdir()}
    again = work(parts, marks)
    assert (again.missing(), again.scored(), again.scored([0, 4])) == ([1], 18, 15)
    capsys.readouterr()
    score_missing(again, Engine(), unit="thing", progress=False)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "Going on after 18 of 23 things."
    assert told[1].startswith("Scored 5 things in ")
    assert {path.name for path in marks.iterdir()} == before  # that shard again, by this process
    score_missing(again, Engine(), partial(pytest.fail, "scored twice"), progress=False)
    for other in (
        partial(work, ids=IDS[::-1].copy()),
        partial(work, size=4),
        lambda parts, marks: shards.shards_in(parts, IDS, 5, {"run": "s"}, partial(opened, marks), TARGET),
    ):
        score_missing(work(parts, marks), Engine(), progress=False)
        assert other(parts, marks).scored() == 0
        assert len([path for path in parts.iterdir() if path.is_dir()]) == 1


def test_a_shard_is_there_whole_or_not_at_all(marks: Path, tmp_path: Path) -> None:
    def broken(things: np.ndarray) -> Iterator[tuple[pa.Table, int]]:
        yield next(opened(marks)(things))
        raise ZeroDivisionError

    todo = work(tmp_path / "parts", marks)
    with pytest.raises(ZeroDivisionError):
        score_missing(todo, Engine(), broken, progress=False)
    assert list(todo.work.folder.iterdir()) == []
    assert not (tmp_path / "parts" / STATE).exists()


def test_ctrl_c_says_how_much_is_kept(marks: Path, tmp_path: Path) -> None:
    scorer = opened(marks)

    def interrupted(things: np.ndarray) -> Iterator[tuple[pa.Table, int]]:
        if things[0] == "t10":
            raise KeyboardInterrupt
        return scorer(things)

    out = tmp_path / "out.parquet"
    with (
        pytest.raises(KeyboardInterrupt, match=r"^Interrupted: 10 of 23 things are scored and kept\. Run the same"),
        parts_folder(out) as parts,
    ):
        score_missing(work(parts, marks), Engine(), interrupted, unit="thing", progress=False)
    assert work(parts, marks).scored() == 10


def test_a_digest_tells_values_their_order_and_their_kind_apart() -> None:
    of = [["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c", ""], ["ab", None], [1, 2], [1.0, 2.0], []]
    digests = {shards.digest(np.array(values, object)) for values in of}
    assert len(digests) == len(of)
    assert {len(one) for one in digests} == {16}
    assert shards.digest(np.array(["ab", "c"], object)) in digests


def test_a_folder_of_shards_never_takes_the_place_of_something_else(marks: Path, tmp_path: Path) -> None:
    out = tmp_path / "pieces"
    for ids, number in ((IDS, 5), (IDS[:12], 3)):
        todo = work(tmp_path / "parts", marks, ids)
        score_missing(todo, Engine(), progress=False)
        shards.move_to(todo, out)
        assert sorted(path.name for path in out.iterdir()) == [
            f"part-{i:05d}-of-{number:05d}.parquet" for i in range(number)
        ]
        assert pd.read_parquet(out)["id"].drop_duplicates().tolist() == list(ids)
    (out / "notes.txt").touch()
    for other in (out, out / "notes.txt"):
        with pytest.raises(UserError, match="holds something else"):
            shards.check_folder(other)


def test_merged_rows_are_those_of_now_in_their_order(marks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    earlier = pd.DataFrame({"id": list("baxcab"), "rank": [1, 2, 1, 1, 1, 2], "value": "old", "more": 7})
    earlier.to_parquet(out)
    ids, new = np.array(["c", "new", "a", "b"], object), np.array(["new", "b"], object)
    todo = work(tmp_path / "parts", marks, new, size=1)
    score_missing(todo, Engine(), progress=False)
    incremental.merge(out, "id", ids, todo, new, out, {b"k": b"v"}, order="rank")
    table = pq.read_table(out)
    assert table.schema.equals(TARGET.with_metadata({b"k": b"v"}), check_metadata=True)
    rows = table.to_pandas()
    assert list(zip(rows["id"], rows["rank"], strict=True)) == [
        ("c", 1), ("new", 1), ("new", 2), ("a", 1), ("a", 2), ("b", 1), ("b", 2)
    ]  # fmt: skip
    assert (rows["value"] == "old").tolist() == [True, False, False, True, True, False, False]
    nobody = work(tmp_path / "parts", marks, ids[:0])
    incremental.merge(out, "id", ids[2:], nobody, ids[:0], tmp_path / "other.parquet", order="rank")
    assert pd.read_parquet(tmp_path / "other.parquet")["id"].tolist() == ["a", "a", "b", "b"]


def test_parts_stay_where_something_is_scored_and_go_otherwise(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with parts_folder(out) as parts:
        assert parts == parts_of(out)
        with pytest.raises(UserError, match=r"out\.parquet is being written by another run"), parts_folder(out):
            pass
        assert parts.exists()
    assert not parts.exists()
    for scored in (False, True):
        with suppress(ZeroDivisionError), parts_folder(out):
            (parts / (STATE if scored else "other")).write_text("{}")
            raise ZeroDivisionError
        assert parts.exists() == scored
    with parts_folder(out):
        assert (parts / STATE).exists()
    assert not parts.exists()


def test_parts_that_nobody_writes_are_dropped(tmp_path: Path) -> None:
    left, held, other = parts_of(tmp_path / "a.parquet"), parts_of(tmp_path / "b.parquet"), tmp_path / ".c.work"
    for folder in (left, held, other):
        folder.mkdir()
    with FileLock(held / "lock"):
        drop_parts(tmp_path)
        assert {path for path in (left, held, other) if path.exists()} == {held, other}
    with passing_folder(tmp_path) as inside:
        assert inside.parent == tmp_path
        drop_parts(tmp_path)
        assert not inside.exists()
        inside.mkdir()
    assert not inside.exists()
    drop_parts(tmp_path / "nowhere")
