"""Training in two processes, by the command that a user types: one run, one report, and the figures of one process."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import generated_tables

from data import home, runs
from data.dataset import Source, write_dataset
from recsys.__main__ import main as recsys

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module", autouse=True)
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of the file's own with a dataset of two groups of members, 300 in all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(tmp_path_factory.mktemp("distributed")))
        patch.delenv("MARQUEE_DATASET", raising=False)
        write_dataset("small", generated_tables(300, 60, reviews=0), sources=[Source("generated", "generated")])
        yield


def command_of(model: str, *flags: str) -> list[str]:
    config = () if "--config" in flags else ("--config", runs.QUICK_CONFIG[model])
    command = ["fit", *config, *flags, "--data.dataset", "small"]
    return [*command, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def fitted_by_two(model: str, *flags: str) -> Path:
    """The one run that two processes leave behind, in use."""
    flags = ("--trainer.strategy", "ddp", "--trainer.devices", "2", *flags)
    command = [sys.executable, "-m", runs.PACKAGE[model], *command_of(model, *flags)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # two threads of two processes would wait for each other
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is now in use") == 1, done.stdout  # one process speaks
    (run,) = (path for path in home.runs("small", model).iterdir() if path.is_dir())
    assert runs.current_run("small", model) == run
    assert not (run / "checkpoints").exists()
    return run


def report_of(run: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The report, and the figures of our model on the test."""
    report = runs.read_report(run)
    return report, report["metrics"]["test"][report["headline"]["ours"]]


@pytest.mark.parametrize(
    ("name", "learn", "rows"),
    [
        ("HistoryNet", ("--config", "recsys/configs/quick.yaml", "--trainer.max_epochs", "4"), 8),
        (
            "HistoryNet",
            (
                *("--config", "recsys/configs/quick.yaml", "--trainer.max_epochs", "4"),
                *("--data.streaming", "true", "--model.n_sampled", "512"),
            ),
            8,
        ),
        (
            "NeuMF",
            ("--config", "recsys/configs/neumf-quick.yaml", "--trainer.max_epochs", "8", "--model.l2", "0.03"),
            512,
        ),
    ],
)
def test_a_recommender_from_two_processes_is_as_good_as_from_one(name: str, learn: tuple[str, ...], rows: int) -> None:
    shutil.rmtree(home.runs("small", "recommender"), ignore_errors=True)
    two = fitted_by_two("recommender", *learn, "--data.batch_size", str(rows // 2))
    assert recsys(command_of("recommender", *learn, "--data.batch_size", str(rows))) == 0  # as many in a step
    (report, ours), (alone, theirs) = report_of(two), report_of(runs.require_run("small", "recommender"))
    assert report["headline"]["ours"] == name
    assert (report["device"], alone["device"]) == ("2 x cpu", "cpu")
    assert report["refit"]["epochs"] >= 1
    assert ours["ndcg@10"] == pytest.approx(theirs["ndcg@10"], rel=0.15)
    assert ours["ndcg@10"] > 1.5 * report["metrics"]["test"]["popularity"]["ndcg@10"]
    assert report["metrics"]["test"]["popularity"] == alone["metrics"]["test"]["popularity"]
    curve = pd.read_csv(two / "logs" / "metrics.csv").dropna(subset="val/ndcg@10")
    best = curve.loc[curve["val/loss"].idxmin() if name == "HistoryNet" else curve["val/ndcg@10"].idxmax()]
    # What the two processes logged of their halves is what one process measures of the whole.
    assert best["val/ndcg@10"] == pytest.approx(report["metrics"]["validation"][name]["ndcg@10"], rel=0.02)


@pytest.fixture(scope="module")
def forecaster(shared_home: None) -> Path:
    return fitted_by_two(
        "engagement", "--trainer.max_epochs", "2", "--data.windows_per_epoch", "256", "--model.prior_steps", "2"
    )


def test_a_forecaster_from_two_processes_is_whole(forecaster: Path) -> None:
    report, ours = report_of(forecaster)
    assert report["device"] == "2 x cpu"
    naive = report["metrics"]["test"]["seasonal naive"]
    assert ours["wql"] < naive["wql"]
    assert (forecaster / "window.json").is_file()


def test_two_processes_share_the_windows_of_an_epoch(forecaster: Path) -> None:
    curve = pd.read_csv(forecaster / "logs" / "metrics.csv")
    steps = curve["step"].max() + 1
    assert steps == 2 * math.ceil(256 / 2 / 128)  # epochs, windows, processes, batch
