"""The shared training command, on the smallest model there is: what a fit leaves behind, and what it must not touch."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock
from toy_package import PACKAGE, STEPS_SEEN, Toy

from data import home, runs, training
from data.dataset import Dataset


@pytest.fixture
def toy(small_dataset, tmp_path: Path):
    """A function that runs the toy package's command on a small dataset; returns its exit code."""
    dataset: Dataset = small_dataset(n_users=4, n_items=20, reviews=0)
    config = tmp_path / "toy-config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "trainer": {"max_epochs": 4, "accelerator": "cpu", "enable_progress_bar": False},
                "model": {"class_path": "toy_package.Toy", "init_args": {"learning_rate": 0.2}},
                "data": {"class_path": "toy_package.ToyData"},
            }
        )
    )

    def run(command: str, *flags: str, with_config: bool = True) -> int:
        configured = ["--config", str(config)] if with_config else []
        return training.main(PACKAGE, [command, *configured, "--data.dataset", dataset.name, *flags])

    run.dataset, run.config = dataset, config  # type: ignore[attr-defined]
    return run


def current() -> Path:
    run = runs.current_run("small", "recommender")
    assert run is not None
    return run


def test_fit_leaves_a_whole_run(toy, capsys: pytest.CaptureFixture[str]) -> None:
    STEPS_SEEN.clear()
    assert toy("fit") == 0
    run = current()
    report = runs.read_report(run)
    assert report["dataset"] == "small"
    assert report["fingerprint"] == toy.dataset.fingerprint
    assert report["metrics"]["test"]["Toy"]["loss"] < 4.0
    assert report["recipe"]["config"] == [str(toy.config)]
    assert report["refit"]["epochs"] >= 1
    assert set(report["seconds"]) == {"fit", "measure", "refit", "total"}
    assert "before the refit" in report["notes"][0]
    assert STEPS_SEEN == ["train", "everything"]
    assert {"val/loss", "train/loss"} <= set(pd.read_csv(run / "logs" / "metrics.csv").columns)
    assert (run / "vocabulary.json").exists()
    assert not (run / "checkpoints").exists()
    assert "is now in use" in capsys.readouterr().out


def test_checkpoints_load_as_plain_weights(toy) -> None:
    assert toy("fit") == 0
    for name in ("best.ckpt", "model.ckpt"):
        content = torch.load(current() / name, weights_only=True)
        assert content["hyper_parameters"]["n_users"] == 7
        assert "optimizer_states" not in content
        Toy.load_from_checkpoint(current() / name, weights_only=True)


def test_test_and_predict_use_the_current_run(toy) -> None:
    assert toy("predict", with_config=False) == 2  # nothing trained: refused, not predicted from random weights
    assert toy("fit") == 0
    assert toy("test", with_config=False) == 0
    assert toy("validate", with_config=False) == 0
    assert toy("predict", with_config=False) == 0
    predicted = pd.read_parquet(current() / "predictions.parquet")
    served = Toy.load_from_checkpoint(current() / "model.ckpt", weights_only=True)
    expected = served.linear(torch.tensor(predicted["x"].to_numpy())[:, None].float())[:, 0]
    assert torch.allclose(expected, torch.tensor(predicted["y"].to_numpy()).float(), atol=1e-5)


def test_an_interrupted_fit_changes_nothing_and_can_go_on(toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("fit") == 0
    before = current()
    assert toy("fit", "--model.fail_at_epoch", "2") == 130
    assert current() == before
    last = next(home.runs("small", "recommender").glob("*/checkpoints/last.ckpt"))
    assert str(last) in capsys.readouterr().err
    assert toy("fit", "--ckpt_path", str(last)) == 0
    assert current() == last.parents[1]
    curve = pd.read_csv(current() / "logs" / "metrics.csv")
    assert sorted(curve["epoch"].unique()) == [0, 1, 2, 3]  # the epochs before the interruption are kept


def test_a_failed_start_leaves_no_folder(toy) -> None:
    assert toy("fit", "--trainer.devices", "0") == 2
    assert toy("fit", "--model.fail_at_epoch", "0") == 130
    assert not [p for p in home.runs("small", "recommender").glob("*") if p.is_dir()]


def test_no_refit_serves_the_best(toy) -> None:
    assert toy("fit", "--refit", "false") == 0
    best, served = (torch.load(current() / n, weights_only=True)["state_dict"] for n in ("best.ckpt", "model.ckpt"))
    assert all(torch.equal(best[k], served[k]) for k in best)
    assert runs.read_report(current())["refit"] is None


def test_two_trainings_at_once_are_refused(toy, capsys: pytest.CaptureFixture[str]) -> None:
    home.jobs().mkdir(parents=True)
    with FileLock(home.jobs() / "small-recommender.lock"):
        assert toy("fit") == 2
    assert "Another training" in capsys.readouterr().err


def test_promote_rolls_back(toy) -> None:
    assert toy("fit") == 0
    first = current()
    assert toy("fit") == 0
    assert current() != first
    assert training.main(PACKAGE, ["promote", first.name]) == 0
    assert current() == first


def test_another_logger_stands_beside_the_curves_of_the_dashboard(toy, tmp_path: Path) -> None:
    logger = f"--trainer.logger.save_dir={tmp_path / 'elsewhere'}"
    assert toy("fit", "--trainer.logger", "TensorBoardLogger", logger) == 0
    assert {"val/loss", "train/loss"} <= set(pd.read_csv(current() / "logs" / "metrics.csv").columns)
    assert list((tmp_path / "elsewhere").rglob("events.out.tfevents*"))
    assert toy("fit", "--trainer.logger", "false") == 0
    assert not (current() / "logs" / "metrics.csv").exists()


def test_mlflow_gets_the_curves(toy, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    where = f"sqlite:///{tmp_path / 'mlflow.db'}"
    flags = ["--trainer.logger.experiment_name=marquee", f"--trainer.logger.tracking_uri={where}"]
    assert toy("fit", "--trainer.logger", "MLFlowLogger", *flags) == 0
    mlflow.set_tracking_uri(where)
    found = mlflow.search_runs(experiment_names=["marquee"])
    assert "metrics.val/loss" in found
    assert {"val/loss", "train/loss"} <= set(pd.read_csv(current() / "logs" / "metrics.csv").columns)


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed")
def test_a_logger_that_is_not_installed_is_one_sentence(toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("fit", "--trainer.logger", "MLFlowLogger", "--trainer.logger.experiment_name=marquee") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mlflow" in error


def test_evaluate_is_dispatched(toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert training.main(PACKAGE, ["evaluate", "--data.dataset", "small"]) == 0
    assert "evaluate --data.dataset small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trainer.max_epochs", "many"], ["--trainer.max_epochs", "int", "many"]),
        (["--model.learning_rate", "fast"], ["--model.learning_rate", "float", "fast"]),
        (["--nonsense", "1"], ["--nonsense"]),
        (["--data.dataset", "missing"], ["missing", "python -m data"]),
        (["--trainer.accelerator", "tpu"], ["accelerator"]),
        (["--ckpt_path", "missing.ckpt"], ["--ckpt_path", "missing.ckpt"]),
        (["--config", "missing.yaml"], ["missing.yaml"]),
    ],
)
def test_mistakes_are_one_sentence(toy, flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("fit", *flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert all(word in error for word in words), error


@pytest.mark.parametrize("argv", [[], ["fit"], ["nonsense"], ["promote"], ["promote", "nonsense"]])
def test_usage_mistakes(marquee_home: Path, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert training.main(PACKAGE, argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
