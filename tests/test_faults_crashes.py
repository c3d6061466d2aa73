"""A command that is killed at any of its changes to the disk: nothing is lost, and the same command then succeeds."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archives
import pandas as pd
import pytest
import yaml
from conftest import generated_tables
from crash_sweep import KILLED
from toy_package import Toy

from data import runs
from data.dataset import Source, list_datasets, open_dataset, write_dataset
from data.served import load_served

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = "user,item,ts\nold,1,2024-01-01\n", "user,item,ts\nnew,1,2024-01-01\nnew,2,2024-01-02\n"


@dataclass(frozen=True)
class Crash:
    step: int
    left: Path  # the home as the kill left it
    after: Path  # and after the same command again
    log: str


@pytest.fixture
def sweep(tmp_path: Path, marquee_home: Path):
    def run(*argv: str, home: Path = marquee_home, **spec: Any) -> list[Crash]:
        """Every crash of the command; the command came to its end behind the last of them, and each time when
        repeated."""
        home.mkdir(exist_ok=True)
        work = tmp_path / "sweep"
        work.mkdir()
        file = tmp_path / "sweep.json"
        file.write_text(json.dumps({"home": str(home), "work": str(work), "argv": argv, **spec}))
        ended = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("crash_sweep.py")), str(file)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"},
        )
        assert ended.returncode == 0, ended.stderr
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        found = []
        for line in lines:
            log = (work / f"{line['step']}.log").read_text()
            assert line["first"] in (KILLED, 0), log
            assert line["again"] == 0, f"step {line['step']}: {log}"
            found.append(Crash(line["step"], work / f"{line['step']}.left", work / str(line["step"]), log))
        if not spec.get("steps"):
            assert lines[-1]["first"] == 0
        assert len(found) > 3
        return found

    return run


@contextmanager
def at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(home))
        yield


def members() -> list[str]:
    dataset = open_dataset("mine")
    found = sorted(dataset.interactions()["user_id"].unique())
    assert dataset.rows["interactions"] == len(dataset.interactions())
    return found


def left_over(home: Path, folder: str) -> set[str]:
    """Hidden names besides those of locks, and of single files, which go when that file is written an hour later."""
    hidden = {p.name for p in (home / folder).iterdir() if p.name.startswith(".") and not p.name.endswith(".lock")}
    return {
        name for name in hidden if not re.fullmatch(r"\..*\.[0-9a-f]{8}\.tmp", name) or (home / folder / name).is_dir()
    }


@pytest.mark.parametrize("no_exchange", [False, True], ids=["swapping", "moving-aside"])
def test_import_keeps_the_old_dataset_or_has_the_new_one(
    no_exchange: bool, sweep, marquee_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data.__main__ import main

    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text(OLD)
    new.write_text(NEW)
    assert main(["import", "--name", "mine", "--interactions", str(old)]) == 0
    argv = ["data.__main__", "import", "--name", "mine", "--replace", "--interactions", str(new)]
    for crash in sweep(*argv, no_exchange=no_exchange):
        with at(crash.left, monkeypatch):
            assert members() in (["old"], ["new"])
        with at(crash.after, monkeypatch):
            assert members() == ["new"]
        assert left_over(crash.after, "tables") == set()


def test_fetch_is_whole_or_absent(sweep, marquee_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().endswith("_PROXY") or name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    archive = tmp_path / "ml-latest-small.zip"
    archive.write_bytes(archives.zipped(archives.MOVIELENS_CSV))
    argv = ["data.__main__", "fetch", "ml-latest-small", "--local", str(archive)]
    for crash in sweep(*argv):
        with at(crash.left, monkeypatch):
            there = list_datasets()
            assert there == [] or len(open_dataset("ml-latest-small").interactions()) == 3
        with at(crash.after, monkeypatch):
            assert open_dataset("ml-latest-small").rows == {"interactions": 3, "items": 3}
        if not there:  # else nothing was left to fetch; the next one that fetches cleans up
            assert left_over(crash.after, "tables") | left_over(crash.after, "raw") == set()


def toy_config(tmp_path: Path) -> Path:
    config = tmp_path / "toy.yaml"
    content = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {"class_path": "toy_package.Toy", "init_args": {"learning_rate": 0.2}},
        "data": {"class_path": "toy_package.ToyData"},
    }
    config.write_text(yaml.safe_dump(content))
    return config


@pytest.fixture
def toy_home(marquee_home: Path, tmp_path: Path) -> Path:
    """A dataset and one finished run of the smallest package, in use."""
    from toy_package import PACKAGE

    from data import training

    tables = generated_tables(n_users=4, n_items=20, reviews=0)
    write_dataset("small", tables, sources=[Source("generated", "generated")])
    assert training.main(PACKAGE, ["fit", "--config", str(toy_config(tmp_path)), "--data.dataset", "small"]) == 0
    return marquee_home


def fit_and_promote_are_safe(crashes: list[Crash], before: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The run in use always loads; returns which ones were in use after the kills."""
    seen = set()
    for crash in crashes:
        for home in (crash.left, crash.after):
            with at(home, monkeypatch):
                current = runs.current_run("small", "recommender")
                assert current is not None
                load_served(Toy, current)
                for run in runs.list_runs("small", "recommender"):
                    load_served(Toy, run.folder)
                    assert run.report["run_id"] == run.id
                if home == crash.left:
                    seen.add("before" if current.name == before else "after")
    return seen


def test_fit_leaves_the_run_in_use_or_a_whole_new_one(
    sweep, toy_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = runs.current_run("small", "recommender")
    assert before is not None
    argv = ["toy_command", "fit", "--config", str(tmp_path / "toy.yaml"), "--data.dataset", "small"]
    crashes = sweep(*argv, steps=[*range(1, 60, 8), *range(60, 100, 4), 1000])
    seen = fit_and_promote_are_safe(crashes, before.name, monkeypatch)
    assert seen == {"before", "after"}
    for crash in crashes:
        with at(crash.after, monkeypatch):
            assert runs.current_run("small", "recommender") != before


def test_promote_is_one_step(sweep, toy_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = runs.current_run("small", "recommender")
    assert first is not None
    second = first.with_name("20990101-000000-ffff")
    shutil.copytree(first, second)
    report = json.loads((second / "report.json").read_text())
    (second / "report.json").write_text(json.dumps(report | {"run_id": second.name}))
    crashes = sweep("toy_command", "promote", second.name)
    assert fit_and_promote_are_safe(crashes, first.name, monkeypatch) == {"before", "after"}
    for crash in crashes:
        assert (crash.after / "runs/small/recommender/current").read_text().strip() == second.name
        assert left_over(crash.left, "runs/small/recommender") == set()


def test_score_leaves_the_old_table_or_the_new_one(
    sweep, marquee_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data import training
    from recsys.__main__ import PACKAGE
    from score import main

    write_dataset("small", generated_tables(n_users=12, n_items=20, reviews=0), sources=[Source("g", "generated")])
    fit = ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset", "small", "--trainer.max_epochs", "1"]
    assert training.main(PACKAGE, [*fit, "--model.size", "8", "--model.hidden", "8"]) == 0
    assert main(["recommend", "--dataset", "small", "--top-k", "3"]) == 0
    table = "scores/small/recommendations.parquet"
    before = pd.read_parquet(marquee_home / table)
    sizes = set()
    for crash in sweep("score", "recommend", "--dataset", "small", "--top-k", "5"):
        left, after = pd.read_parquet(crash.left / table), pd.read_parquet(crash.after / table)
        sizes.add(len(left))
        assert len(after) > len(before)
        assert not after.duplicated(["user_id", "rank"]).any()
        assert left_over(crash.after, "scores/small") == {".recommendations.state.parquet"}
    assert len(sizes) == 2  # the old one whole, then the new one whole
