"""Several commands at once, and clocks that are put back: nothing is lost, doubled or taken for something else."""

import datetime as dt
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from toy_package import Toy

from data import atomic, events, feedback, home, jobs, runs
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from data.served import load_served
from data.workspace import workspace
from recsys.__main__ import main as recsys_main

ROOT = Path(__file__).resolve().parents[1]
Make = Callable[..., Dataset]


def start(*argv: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, *argv], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    err = process.communicate(timeout=240)[1]
    assert "Traceback" not in err, err
    return process.returncode, err


def toy_config(tmp_path: Path, epochs: int) -> str:
    config = tmp_path / f"toy{epochs}.yaml"
    content = {
        "trainer": {"max_epochs": epochs, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {"class_path": "toy_package.Toy", "init_args": {"learning_rate": 0.2}},
        "data": {"class_path": "toy_package.ToyData"},
    }
    config.write_text(yaml.safe_dump(content))
    return str(config)


# --- at once ---


def test_two_trainings_while_the_dataset_is_replaced_and_a_run_promoted(
    small_dataset: Make, tmp_path: Path, marquee_home: Path
) -> None:
    """One of two trainings is refused; the other, the imports and the promotions each end well, and all is whole."""
    small_dataset(n_users=6, n_items=20, reviews=0)
    fit, of = ["-m", "toy_command", "fit", "--config"], ["--data.dataset", "small"]
    code, said = ended(start(*fit, toy_config(tmp_path, 1), *of))
    assert code == 0, said
    first = runs.current_run("small", "recommender")
    assert first is not None
    log = tmp_path / "log.csv"
    log.write_text("user,item,ts\n" + "".join(f"new{n % 9},{n % 40},2024-01-{1 + n % 28:02}\n" for n in range(400)))
    trainings = [start(*fit, toy_config(tmp_path, 12), *of) for _ in range(2)]
    others = [
        start("-m", "data", "import", "--name", "small", "--replace", "--interactions", str(log)),
        start("-m", "data", "import", "--name", "small", "--replace", "--interactions", str(log)),
        start("-m", "toy_command", "promote", first.name),
    ]
    seen = 0
    while any(process.poll() is None for process in others):
        assert open_dataset("small").rows["interactions"] > 0  # at every moment there is a dataset
        assert runs.current_run("small", "recommender") is not None
        seen += 1
    assert seen > 10
    assert [code for code, _ in map(ended, others)] == [0, 0, 0]
    results = sorted(map(ended, trainings))
    assert [code for code, _ in results] == [0, 2]
    assert "Another training" in results[1][1]
    assert len(open_dataset("small").interactions()) == 400
    for run in runs.list_runs("small", "recommender"):
        load_served(Toy, run.folder)
    assert len(runs.list_runs("small", "recommender")) == 2


def test_scoring_while_promoting_writes_one_run_whole(small_dataset: Make, marquee_home: Path) -> None:
    small_dataset(n_users=12, n_items=20, reviews=0)
    fit = ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset", "small"]
    for _ in range(2):
        assert recsys_main([*fit, "--trainer.max_epochs", "1", "--model.size", "8", "--model.hidden", "8"]) == 0
    both = runs.list_runs("small", "recommender")
    scoring = start("score.py", "recommend", "--dataset", "small", "--top-k", "3")
    turns = 0
    while scoring.poll() is None:
        runs.promote(both[turns % 2].folder)
        turns += 1
    assert turns > 10
    assert ended(scoring)[0] == 0
    scored = pd.read_parquet(marquee_home / "scores/small/recommendations.parquet")
    assert scored["run_id"].nunique() == 1
    assert not scored.duplicated(["user_id", "rank"]).any()
    assert set(scored["run_id"]) <= {run.id for run in both}


def test_a_dataset_keeps_the_work_of_another_whose_name_goes_on(small_dataset: Make, marquee_home: Path) -> None:
    """What a killed command left of dataset `small` goes; what one of `small.two` is writing now stays."""
    small_dataset(reviews=0)
    root = marquee_home / "tables"
    mine = [root / ".small.abcd1234.work", root / ".small.abcd1234.tmp", root / ".small.abcd1234.old"]
    others = [root / ".small.two.abcd1234.work", root / ".small.two.abcd1234.tmp", root / ".small.two.abcd1234.old"]
    for folder in (*mine, *others):
        folder.mkdir()
    feedback.export_events("small")
    assert not any(folder.exists() for folder in mine)
    assert all(folder.exists() for folder in others)


def test_a_workspace_in_use_is_kept_and_one_of_a_killed_process_goes(tmp_path: Path) -> None:
    (tmp_path / ".import-dead").mkdir()
    with workspace(tmp_path, ".import") as first:
        (first / "table.parquet").write_text("x")
        with workspace(tmp_path, ".import") as second:
            assert (first / "table.parquet").exists()
            assert second != first
        assert not second.exists()
        assert not (tmp_path / ".import-dead").exists()
    assert not first.exists()


def test_a_file_left_by_a_killed_process_goes_an_hour_later(tmp_path: Path) -> None:
    old, young, other = (
        tmp_path / f".{name}.tmp" for name in ("a.json.0123abcd", "a.json.0123abce", "b.json.0123abcd")
    )
    for left in (old, young, other):
        left.write_text("half")
    for left in (old, other):
        os.utime(left, (time.time() - 4000,) * 2)
    atomic.write_json(tmp_path / "a.json", {})
    assert [left.exists() for left in (old, young, other)] == [False, True, True]


def test_a_reader_brings_back_what_a_killed_writer_moved_aside(small_dataset: Make, marquee_home: Path) -> None:
    """Where two folders cannot change places, a kill between two renames leaves the dataset aside."""
    dataset = small_dataset(reviews=0)
    dataset.folder.rename(dataset.folder.with_name(".small.0123abcd.old"))
    assert open_dataset("small").fingerprint == dataset.fingerprint
    dataset.folder.rename(dataset.folder.with_name(".small.0123abcd.old"))
    held = FileLock(marquee_home / "tables" / ".small.lock")
    with held:  # a writer that lives is waited for, not disturbed
        found: list[Dataset] = []
        reader = threading.Thread(target=lambda: found.append(open_dataset("small")))
        reader.start()
        reader.join(0.3)
        assert not found
        assert not dataset.folder.exists()
    reader.join(20)
    assert [one.fingerprint for one in found] == [dataset.fingerprint]


# --- clocks put back ---


class Clock(dt.datetime):
    """A wall clock that is set by hand."""

    at = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        return cls.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(dt, "datetime", Clock)
    monkeypatch.setattr(Clock, "at", dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC))
    return Clock


def test_a_run_never_takes_the_folder_of_another(
    marquee_home: Path, clock: type[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same second twice, and the same digits."""
    digits = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(digits))
    monkeypatch.delenv(runs.RUN_ID_VARIABLE, raising=False)
    first, second = (runs.new_run("d", "recommender") for _ in range(2))
    assert [first.name, second.name] == ["20240501-120000-aaaa", "20240501-120000-bbbb"]


def test_events_after_a_clock_was_put_back_are_kept_once_and_exported_once(
    small_dataset: Make, clock: type[Clock]
) -> None:
    dataset = small_dataset(reviews=0)
    rows, as_of = dataset.rows["interactions"], dataset.as_of
    assert as_of is not None
    for hours in (2, -48, 1):
        clock.at += dt.timedelta(hours=hours)
        events.record(dataset, [events.Event("u1", "watch", "i1", made_at=clock.at)])
        feedback.export_events("small")
    after = open_dataset("small")
    assert after.rows["interactions"] == rows + 3
    assert after.as_of is not None
    assert after.as_of >= as_of
    assert feedback.export_events("small").events == 0
    assert after.interactions()["timestamp"].max() <= after.as_of


def test_a_job_of_a_clock_put_back_is_not_pruned_as_the_oldest(marquee_home: Path) -> None:
    for number in range(jobs.KEEP):
        folder = home.jobs() / f"20990101-0000{number:02}-aaaa"
        state = {"id": folder.name, "kind": "later", "state": "done", "started_at": "2099-01-01T00:00:00+00:00"}
        atomic.write_json(folder / "job.json", state | {"ended_at": "2098-01-01T00:00:00+00:00", "exit_code": 0})
    assert jobs.list_jobs()[0].seconds == 0
    job = jobs.start("now", [sys.executable, "-c", "print('hello')"])
    until = time.monotonic() + 20
    while (found := jobs.get_job(job.id)) is not None and found.state == "running" and time.monotonic() < until:
        time.sleep(0.05)
    jobs._prune(keep=job.id)  # as `start` does where a command ends while it is being started
    found = jobs.get_job(job.id)
    assert found is not None
    assert found.state == "done"
    assert jobs.tail(found) == ["hello"]


def test_a_lock_is_free_once_a_job_is_seen_to_have_ended(marquee_home: Path) -> None:
    for _ in range(6):
        job = jobs.start("short", [sys.executable, "-c", ""], lock="one")
        until = time.monotonic() + 20
        while (found := jobs.get_job(job.id)) is not None and found.state == "running":
            assert time.monotonic() < until
    with pytest.raises(UserError, match="no job"):
        jobs.cancel("20200101-000000-0000")
