"""A training says how far it is in lines that a job's progress is read from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from toy_package import PACKAGE

from data import jobs, training
from data.stages import Stages


def trainer(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{"current_epoch": 1, "max_epochs": 4, "num_training_batches": 10} | changes)


@pytest.mark.parametrize(
    ("changes", "done", "line"),
    [
        ({}, 0, "Training, 25 %: epoch 2 of at most 4"),
        ({}, 5, "Training, 38 %: epoch 2 of at most 4"),
        ({"current_epoch": 3}, 10, "Training, 100 %: epoch 4 of at most 4"),
        ({"max_epochs": -1}, 5, "Training: epoch 2"),
        ({"num_training_batches": float("inf")}, 5, "Training: epoch 2 of at most 4"),
    ],
)
def test_the_share_is_that_of_the_epochs_asked_for(changes: dict, done: int, line: str) -> None:
    assert Stages("Training", at_most=True).line(trainer(**changes), done) == line


def test_a_fit_without_a_terminal_tells_both_its_trainings_in_lines(
    small_dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(n_users=4, n_items=20, reviews=0)
    config = tmp_path / "toy.yaml"
    content = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "model": {"class_path": "toy_package.Toy", "init_args": {"learning_rate": 0.2}},
        "data": {"class_path": "toy_package.ToyData"},
    }
    config.write_text(yaml.safe_dump(content))
    assert training.main(PACKAGE, ["fit", "--config", str(config), "--data.dataset", "small"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    told = [line for line in lines if "%: epoch" in line]
    assert told[:2] == ["Training, 0 %: epoch 1 of at most 2", "Training, 50 %: epoch 2 of at most 2"]
    assert told[2].startswith("Refitting, 0 %: epoch 1 of ")
    assert "at most" not in told[2]
    assert "it/s" not in printed  # no bar, which renews itself and says nothing in a log


def told(tmp_path: Path, text: str, state: str = "running") -> float | None:
    log = tmp_path / "log.txt"
    log.write_text(text)
    return jobs.progress(jobs.Job("1", "fit", state, "2024-01-01T00:00:00+00:00", None, None, log, None))  # type: ignore[arg-type]


def test_a_stage_of_unknown_length_has_no_share(tmp_path: Path) -> None:
    assert told(tmp_path, "Training, 75 %: epoch 4 of at most 4\n") == 0.75
    assert told(tmp_path, "Training, 75 %: epoch 4 of at most 4\nMeasuring the best of 4 epochs ...\n") is None
    assert told(tmp_path, "Measuring ...\nRefitting on everything ...\nRefitting, 0 %: epoch 1 of 4\n") == 0.0
    assert told(tmp_path, "Refitting, 75 %: epoch 4 of 4\n- EASE: +25%, 95 % interval 1 to 2.\n") == 0.75
    assert told(tmp_path, "[3/9] 40 % of all, about 2 min left · Train: Measuring ...\n") == 0.4
