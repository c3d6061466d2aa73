"""A disk that is full or read-only: one sentence, exit code 2, and what was there before is still whole."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import small_disk
import yaml
from conftest import generated_tables
from toy_package import PACKAGE as TOY
from toy_package import Toy

from data import events, runs, training
from data.dataset import Source, open_dataset, write_dataset
from data.served import load_served
from score import main as score

pytestmark = pytest.mark.skipif(small_disk.unshare() is None, reason="no mount namespace can be made here (unshare -m)")

Home = Callable[[], Path]
SCORES = "scores/scored/recommendations.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset, a toy run in use, a recommender, its scores, and an event."""
    folder = tmp_path_factory.mktemp("disks")
    home = folder / "home"
    patch = pytest.MonkeyPatch()
    patch.setenv("MARQUEE_HOME", str(home))
    tables = generated_tables(n_users=12, n_items=20, reviews=0)
    for name in ("mine", "scored"):
        write_dataset(name, tables, sources=[Source("generated", "generated")])
    config = folder / "toy.yaml"
    content = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {"class_path": "toy_package.Toy", "init_args": {"learning_rate": 0.2}},
        "data": {"class_path": "toy_package.ToyData"},
    }
    config.write_text(yaml.safe_dump(content))
    assert training.main(TOY, ["fit", "--config", str(config), "--data.dataset", "mine"]) == 0
    from recsys.__main__ import PACKAGE

    fit = ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset", "scored", "--trainer.max_epochs", "1"]
    assert training.main(PACKAGE, [*fit, "--model.size", "8", "--model.hidden", "8"]) == 0
    assert score(["recommend", "--dataset", "scored", "--top-k", "3"]) == 0
    events.record(open_dataset("mine"), [events.Event("u1", "watch", "i1")])
    patch.undo()
    return home


def check(home: Path, monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    """All that was there is there, whole, and nothing half-written stands under a name that is read."""
    monkeypatch.setenv("MARQUEE_HOME", str(home))
    assert open_dataset("mine").interactions()["user_id"].nunique() == 12
    run = runs.current_run("mine", "recommender")
    assert run is not None
    assert run.name == run_id
    load_served(Toy, run)
    assert [r.id for r in runs.list_runs("mine", "recommender")] == [run_id]
    assert pd.read_parquet(home / SCORES).groupby("user_id").size().max() == 3
    assert len(events.events("mine")) == 1


COMMANDS = {
    "import": ["-m", "data", "import", "--name", "mine", "--replace", "--interactions", "NEW"],
    "promote": ["-m", "toy_command", "promote", "RUN"],
    "fit": ["-m", "toy_command", "fit", "--config", "TOY", "--data.dataset", "mine"],
    "score": ["score.py", "recommend", "--dataset", "scored", "--top-k", "5"],
    "forget": ["-m", "data", "forget", "u1", "--dataset", "mine"],
    "export": ["-m", "data", "export-events", "mine"],
}
FULL = [("import", 0), ("import", 9000), ("promote", 0), ("fit", 0), ("fit", 20_000), ("fit", 45_000), ("score", 0),
        ("forget", 0), ("export", 0)]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "free"), [*FULL, *((name, "read-only") for name in COMMANDS)], ids=lambda value: str(value)
)
def test_one_sentence_and_nothing_lost(
    command: str, free: int | str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new.csv"
    new.write_text("user,item,ts\n" + "".join(f"new{i},{i * 7919 % 997},2024-01-01\n" for i in range(4000)))
    run_id = (made / "runs/mine/recommender/current").read_text().strip()
    places = {"NEW": str(new), "RUN": run_id, "TOY": str(made.parent / "toy.yaml")}
    ended = small_disk.run(made, free, *[places.get(word, word) for word in COMMANDS[command]])
    last = ended.err.strip().splitlines()[-1]
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert last.startswith("error: ")
    assert "No space left" in last or "read-only" in last or "disk" in last, last
    if "while writing" in last:  # what is named lies on the disk that is full
        assert "/disk-" in last or "the disk" in last
    check(ended.left, monkeypatch, run_id)


@pytest.mark.parametrize("free", [0, "read-only"])
def test_an_event_and_a_job_are_refused_in_a_sentence(
    free: int | str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import sys; from data import command, events, jobs; from data.dataset import open_dataset\n"
        "def event(): events.record(open_dataset('mine'), [events.Event(f'u{i % 9}', 'watch', 'i2') for i in "
        "range(4000)])\n"
        "def job(): jobs.start('nothing', [sys.executable, '-c', ''])\n"
        "print(command.run(event), command.run(job)); sys.exit(2)"
    )
    ended = small_disk.run(made, free, "-c", program)
    lines = ended.err.strip().splitlines()
    assert "Traceback" not in ended.err
    assert len(lines) == 2, ended.err
    assert all(line.startswith("error: ") for line in lines), ended.err
    assert "database" in lines[0]
    run_id = (made / "runs/mine/recommender/current").read_text().strip()
    check(ended.left, monkeypatch, run_id)
