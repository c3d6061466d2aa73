"""Scoring by one process, several and Ray: the same table, whoever is killed; and what is new alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import generated_tables

import recsys.scorer
from benchmarks.__main__ import main as bench_main
from data import feedback, home, incremental, runs, shards
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.engines import Engine
from data.errors import UserError
from recsys import batch
from recsys.__main__ import main as fit_main
from recsys.batch import score
from recsys.feedback import Feedback
from recsys.scorer import load_current
from score import main as score_main

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = 1_500


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the file's own with a recommender in use, and the table that one process makes, 100 members a shard."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(folder / "home"))
        patch.delenv("MARQUEE_DATASET", raising=False)
        write_dataset("small", generated_tables(MEMBERS, 200, reviews=0), sources=[Source("generated", "generated")])
        fit = ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset", "small", "--trainer.max_epochs", "1"]
        assert fit_main([*fit, "--trainer.enable_progress_bar", "false"]) == 0
        yield score("small", out=folder / "alone.parquet", shard_size=100)


class Command:
    """`score.py recommend` in a process of its own, to be watched while it runs."""

    def __init__(self, out: Path, *flags: str) -> None:
        self.parts = out.with_name(f".{out.name}.parts")
        command = [sys.executable, "score.py", "recommend", "--dataset", "small", "--out", str(out), *flags]
        self.process = subprocess.Popen(
            [*command, "--shard-size", "25"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def after_shards(self, n: int) -> None:
        """Wait until so many shards are scored."""
        end = time.monotonic() + 120
        while len(list(self.parts.glob("*/part-*.parquet"))) < n:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)

    def ended(self) -> tuple[int, str, str]:
        said, complained = self.process.communicate(timeout=240)
        return self.process.returncode, said, complained


def processes(words: str, parent: int | None = None) -> list[int]:
    """Ids of processes whose command line holds `words`; of one parent, if given."""
    found = subprocess.run(
        ["pgrep", "-f", *([] if parent is None else ["-P", str(parent)]), words], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


def scoring(driver: int) -> list[int]:
    """Ids of the processes of --processes: children of the one that they are copies of."""
    (first,) = processes("multiprocessing.forkserver", driver)
    return processes("multiprocessing.forkserver", first)


def same(path: Path, other: Path) -> bool:
    return pq.read_table(path).equals(pq.read_table(other))


def test_shards_are_pieces_of_the_same_table(trained: Path, tmp_path: Path) -> None:
    whole = pq.read_table(trained).to_pandas()
    folder = tmp_path / "pieces"
    assert score("small", out=folder, sharded=True, shard_size=400) == folder
    assert sorted(path.name for path in folder.iterdir()) == [f"part-{i:05d}-of-00004.parquet" for i in range(4)]
    pd.testing.assert_frame_equal(pd.read_parquet(folder), whole, rtol=1e-5)
    assert score("small", out=folder, users="u1,u2", sharded=True) == folder  # takes the place of the earlier one
    assert pd.read_parquet(folder)["user_id"].nunique() == 2
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        score("small", out=folder, sharded=True)
    assert (folder / "mine.txt").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_killed_processes_and_a_killed_driver_lose_nothing(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    reference = score("small", out=tmp_path / "alone.parquet", shard_size=25)
    first = Command(out, "--processes", "2")
    first.after_shards(3)
    workers = scoring(first.process.pid)
    os.kill(workers[0], signal.SIGKILL)
    first.after_shards(15)
    workers = scoring(first.process.pid)
    first.process.kill()
    first.process.communicate()
    assert not out.exists()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):  # they do not outlive it
        assert time.monotonic() < end
        time.sleep(0.1)
    code, said, complained = Command(out, "--processes", "2").ended()
    assert code == 0, complained
    kept = int(said.split("Going on after ")[1].split(" ")[0].replace(",", ""))
    assert 15 * 25 <= kept < MEMBERS
    assert same(out, reference)
    assert not list(tmp_path.glob(".*.parts"))


@pytest.mark.slow
def test_ray_gives_the_same_table_whoever_is_killed(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    reference = score("small", out=tmp_path / "alone.parquet", shard_size=25)
    first = Command(out, "--engine", "ray", "--processes", "2")
    first.after_shards(2)
    driver = first.process.pid
    first.process.kill()
    first.process.communicate()
    assert not out.exists()
    second = Command(out, "--engine", "ray", "--processes", "2")
    second.after_shards(8)
    actors = [pid for pid in processes("ray::.*MapBatches") if pid != driver]
    assert actors
    os.kill(actors[-1], signal.SIGKILL)
    code, said, complained = second.ended()
    assert code == 0, complained
    assert "Going on after" in said
    assert "Traceback" not in complained
    assert same(out, reference)
    assert not list(tmp_path.glob(".*.parts"))


def test_processes_score_by_what_is_handed_over(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = load_current("small")
    for folder in ("plain", "thumbs"):  # with thumbs down and without
        (tmp_path / folder).mkdir()
        batch._hand_over(recommender, tmp_path / folder / "handed")
        expected = pa.concat_tables(table for table, _ in batch._scored(recommender, 5, True, np.array(["u9", "u2"])))
        with monkeypatch.context() as patch:
            patch.setattr(Feedback, "of", None)  # no table is read
            patch.setattr(recsys.scorer, "_ids", None)
            scorer = batch._opened(runs.require_run("small", "recommender"), tmp_path / folder / "handed", 5, True)
            assert pa.concat_tables(table for table, _ in scorer(np.array(["u9", "u2"]))).equals(expected)
        recommender.update("u9", pd.DataFrame({"item_id": ["i7", "i9"], "kind": "thumb_down"}))
    (tmp_path / "handed").mkdir()
    for folder, sentence in (("handed", "scoring machines share"), ("nowhere", "scoring machines share")):
        with pytest.raises(UserError, match=sentence):
            batch._opened(runs.require_run("small", "recommender"), tmp_path / folder, 5, True)
    (tmp_path / "plain" / "handed" / "titles.txt").write_text("3")
    with pytest.raises(UserError, match="The catalogue has changed"):
        batch._opened(runs.require_run("small", "recommender"), tmp_path / "plain" / "handed", 5, True)


def test_what_was_left_by_other_scores_is_not_taken(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    first = Command(out, "--top-k", "5")
    first.after_shards(2)
    first.process.kill()
    first.process.communicate()
    assert same(score("small", out=out, shard_size=100), trained)


@pytest.fixture
def another_run(trained: Path) -> Iterator[Callable[[], None]]:
    """Puts a copy of the run into use, by another name; the first one is in use again afterwards."""
    first = runs.require_run("small", "recommender")
    copy = first.with_name("20990101-000000-aaaa")

    def use() -> None:
        shutil.copytree(first, copy)
        runs.promote(copy)

    yield use
    runs.promote(first)
    shutil.rmtree(copy, ignore_errors=True)


CHANGES = ["nothing", "run", "reasons", "top_k", "events", "titles"]


@pytest.fixture
def changed(another_run: Callable[[], None], untouched: Dataset) -> Callable[[str], dict[str, Any]]:
    """Changes something that scores depend on; returns how to ask for them from then on."""

    def change(what: str) -> dict[str, Any]:
        if what == "run":
            another_run()
        if what in ("events", "titles"):
            new = pd.DataFrame({"user_id": ["u3"], "item_id": ["i1" if what == "events" else "brand-new"]})
            with_events(untouched, new.assign(kind="watch", timestamp=untouched.as_of + pd.Timedelta(1, "h")))
        return {"reasons": {"reasons": False}, "top_k": {"top_k": 3}}.get(what, {})

    return change


@pytest.mark.parametrize("what", CHANGES)
def test_shards_that_something_else_was_scored_by_are_not_taken(
    what: str, changed: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r.parquet"

    def stopped(work: shards.Shards, engine: Engine, scorer: shards.Scorer) -> None:
        work.work.write(scorer, 0, work[0])
        path = work.work.path(0)
        pq.write_table(pq.read_table(path).slice(0, 0), path)  # who takes it misses its members
        shards.keep(work)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batch, "score_missing", stopped)
        with pytest.raises(KeyboardInterrupt):
            score("small", out=out, shard_size=100)
    found = pd.read_parquet(score("small", out=out, shard_size=100, **changed(what)))
    assert found["user_id"].nunique() == (MEMBERS - 100 if what == "nothing" else MEMBERS)


@pytest.mark.parametrize("what", CHANGES)
def test_members_keep_their_rows_only_where_all_that_they_depend_on_is_the_same(
    what: str, changed: Callable[[str], dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.parquet"
    score("small", out=out)
    capsys.readouterr()
    score("small", out=out, changed_only=True, **changed(what))
    number = {"nothing": "0 of 1,500 members have new events", "events": "1 of 1,500 members have new events"}
    assert number.get(what, "of another run, catalogue or setting: all members are scored") in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_scored_and_says_so(trained: Path, tmp_path: Path) -> None:
    first = Command(tmp_path / "r.parquet")
    first.after_shards(2)
    first.process.send_signal(signal.SIGINT)
    code, _, complained = first.ended()
    assert code == 130
    assert "members are scored and kept. Run the same command to go on." in complained
    assert "Traceback" not in complained


def with_events(dataset: Dataset, events: pd.DataFrame) -> None:
    """The dataset once these interactions are in it."""
    tables = {name: pd.read_parquet(dataset.path(name)) for name in ("interactions", "items")}
    tables["interactions"] = pd.concat([tables["interactions"], events], ignore_index=True)
    write_dataset(dataset.name, tables, sources=[Source("generated", "generated")], replace=True)


@pytest.fixture
def untouched(trained: Path) -> Iterator[Dataset]:
    """The dataset, which is put back afterwards."""
    dataset = open_dataset("small")
    tables = {name: pd.read_parquet(dataset.path(name)) for name in ("interactions", "items")}
    yield dataset
    write_dataset("small", tables, sources=[Source("generated", "generated")], replace=True)


def test_only_members_with_new_events_are_scored_again(
    untouched: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.parquet"
    arguments = ["recommend", "--dataset", "small", "--out", str(out), "--changed-only", "true"]
    assert score_main(arguments) == 0
    assert "is not there: all members are scored." in capsys.readouterr().out
    assert score_main(arguments) == 0
    assert f"0 of {MEMBERS:,} members have new events" in capsys.readouterr().out
    before = pd.read_parquet(out)
    last = pd.read_parquet(untouched.path("interactions"))["timestamp"].max()
    picked = before[before["user_id"].isin(["u3", "u7"]) & (before["rank"] == 1)]["item_id"].tolist()
    new = pd.DataFrame({"user_id": ["u3", "u7", "stranger"], "item_id": [*picked, picked[0]], "kind": "watch"})
    with_events(untouched, new.assign(timestamp=last + pd.Timedelta(1, "h")))
    assert score_main(arguments) == 0
    assert f"3 of {MEMBERS + 1:,} members have new events" in capsys.readouterr().out
    after = pd.read_parquet(out)
    touched = ["u3", "u7", "stranger"]
    pd.testing.assert_frame_equal(
        after[~after["user_id"].isin(touched)].reset_index(drop=True),
        before[~before["user_id"].isin(touched)].reset_index(drop=True),
    )
    whole = pd.read_parquet(score("small", out=tmp_path / "whole.parquet"))
    assert after["user_id"].tolist() == whole["user_id"].tolist()
    mine = [frame[frame["user_id"].isin(touched)].reset_index(drop=True) for frame in (after, whole)]
    pd.testing.assert_frame_equal(*mine, rtol=1e-5)
    assert not {*picked} & {*after.loc[after["user_id"].isin(["u3", "u7"]), "item_id"]} or picked[0] != picked[1]
    assert score_main([*arguments, "--top-k", "3"]) == 0
    assert "of another run, catalogue or setting: all members are scored." in capsys.readouterr().out


def test_a_table_and_its_state_that_do_not_belong_together_are_scored_anew(trained: Path, tmp_path: Path) -> None:
    ids, digests = np.array(["a", "b"], object), np.array([1, 2], np.uint64)
    out, key = tmp_path / "r.parquet", {"run": "r"}
    carried = incremental.metadata(key, ids, digests)
    pd.DataFrame({"user_id": ids}).to_parquet(out)
    assert incremental.changed(out, "user_id", ids, digests, key) is None  # a table of another hand
    pq.write_table(pq.read_table(out).replace_schema_metadata(carried), out)
    assert incremental.changed(out, "user_id", ids, digests, key) is None  # killed before the state
    incremental.write_state(out, "user_id", ids, digests, carried)
    assert incremental.changed(out, "user_id", ids, np.array([1, 3], np.uint64), key).tolist() == [False, True]
    assert incremental.changed(out, "user_id", np.array(["b", "c"], object), digests, key).tolist() == [True, True]
    assert incremental.changed(out, "user_id", ids, digests, {"run": "s"}) is None
    other = incremental.metadata(key, ids, digests + np.uint64(1))
    incremental.write_state(out, "user_id", ids, digests, other)
    assert incremental.changed(out, "user_id", ids, digests, key) is None
    incremental.write_state(out, "user_id", np.array(["a", "a"], object), digests, carried)
    assert incremental.changed(out, "user_id", ids, digests, key) is None  # an id twice: which of them would it be?
    incremental.state_of(out).write_bytes(b"PAR1")
    assert incremental.changed(out, "user_id", ids, digests, key) is None


def test_a_forgotten_member_goes_from_the_state_too(untouched: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    out = score("small", changed_only=True)
    assert out.parent == home.scores("small")
    feedback.forget("small", "u5")
    assert not (pd.read_parquet(incremental.state_of(out))["user_id"] == "u5").any()
    score("small", changed_only=True)
    # The run still knows the id, of whom there is nothing any more.
    assert f"0 of {MEMBERS - 1:,} members have new events" in capsys.readouterr().out
    assert not (pd.read_parquet(out)["user_id"] == "u5").any()


def test_processes_know_too_who_was_forgotten(untouched: Dataset) -> None:
    feedback.forget("small", "u5")
    tables = [pd.read_parquet(score("small", engine=engine)) for engine in (Engine(), Engine(processes=2))]
    assert tables[0]["user_id"].nunique() == MEMBERS - 1
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--engine", "spark"], "--engine spark: choose local or ray."),
        (["--processes", "0"], "--processes 0: give a number of 1 or more."),
        (["--address", "auto"], "add --engine ray"),
        (["--sharded", "true"], "give --out FOLDER"),
        (["--shard-size", "0"], "--shard-size 0 asks for nothing"),
        (["--processes", "two"], "--processes"),
    ],
)
def test_impossible_engines_are_refused(flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert score_main(["recommend", "--dataset", "small", *flags]) == 2
    complained = capsys.readouterr().err
    assert sentence in complained
    assert complained.count("\n") == 1


def test_an_address_without_a_cluster_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--engine", "ray", "--address", "127.0.0.1:1"]
    assert score_main(["recommend", "--dataset", "small", *flags]) == 2
    assert "no Ray cluster answers there" in capsys.readouterr().err


@pytest.mark.slow
def test_the_benchmark_measures_the_command_and_compares_the_tables(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_main(["scoring", "--dataset", "small", "--engines", "processes", "--shard-size", "300"]) == 0
    said = capsys.readouterr().out
    assert said.rstrip().endswith("All tables are equal, to the last bit.")
    rows = [line.split()[-6:] for line in said.splitlines() if line.startswith(("one process", "2 processes"))]
    figures = [[float(part.replace(",", "")) for part in row] for row in rows]
    assert [row[0] for row in figures] == [MEMBERS, MEMBERS, MEMBERS // 5]
    for n, seconds, each_second, alone, core_seconds, memory in figures:
        assert each_second == pytest.approx(n / seconds, rel=0.02)
        assert alone > each_second
        assert core_seconds > 1
        assert 100 < memory < 10_000


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--processes", "1"], "give 2 or more"),
        (["--engines", "spark"], "give some of one,processes,ray"),
        (["--dataset", "none"], "no dataset 'none'"),
    ],
)
def test_impossible_benchmarks_are_refused(flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_main(["scoring", *flags]) == 2
    assert sentence in capsys.readouterr().err
