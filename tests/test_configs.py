"""Every configuration of the recommender and the forecasters is fitted, validated, tested and predicted with.

Those of the sentiment analyser need an encoder: see test_nlp_sentiment.py.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from cases_check import check_cases

from data import runs
from forecasting.__main__ import main as forecasting
from recsys.__main__ import main as recsys

pytestmark = pytest.mark.usefixtures("one_thread")

MAIN = {"recsys": recsys, "forecasting": forecasting}
CONFIGS = sorted(path.as_posix() for package in MAIN for path in Path(package, "configs").iterdir())
# Written for real data and GPUs: what makes them slow here is made small, everything else is as it stands.
SMALLER = {
    "recsys/configs/full.yaml": ["--model.hidden", "16", "--model.size", "8"],
    "recsys/configs/gpu.yaml": ["--model.hidden", "16", "--model.size", "8"],
    "forecasting/configs/engagement-quick.yaml": ["--data.windows_per_epoch", "512", "--model.prior_steps", "2"],
    "forecasting/configs/engagement-full.yaml": ["--data.windows_per_epoch", "256", "--model.prior_steps", "2"],
    "forecasting/configs/engagement-gpu.yaml": [
        *("--data.windows_per_epoch", "256", "--model.hidden_size", "4", "--model.prior_steps", "2"),
    ],
    "forecasting/configs/retention-gpu.yaml": ["--model.hidden_size", "4"],
}


def model_of(config: str) -> str:
    package, name = Path(config).parts[0], Path(config).stem
    return "recommender" if package == "recsys" else name.split("-")[0]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_fits_validates_tests_and_predicts(
    config: str, small_dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    # oneDNN has no LSTM in bfloat16 for every processor; torch's own has, and lets the steps be tried in it.
    with torch.backends.mkldnn.flags(enabled="gpu" not in config):
        _fit_validate_test_and_predict(config, small_dataset, capsys)


def _fit_validate_test_and_predict(config: str, small_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(reviews=0)
    main, model = MAIN[Path(config).parts[0]], model_of(config)
    on_cpu = ["--data.dataset", "small", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    once = ["--trainer.max_epochs", "1", *SMALLER.get(config, [])]
    assert main(["fit", "--config", config, *on_cpu, *once]) == 0
    run = runs.current_run("small", model)
    assert run is not None
    assert [found.folder for found in runs.list_runs("small", model)] == [run]
    report = runs.read_report(run)
    headline = report["headline"]
    assert headline["metric"] in report["metrics"][headline["split"]][headline["ours"]]
    check_cases(run)
    assert report["recipe"]["config"] == [config]
    assert report["seed"] == yaml.safe_load(Path(config).read_text())["seed_everything"] == 42

    capsys.readouterr()
    of_run = ["--config", config, *on_cpu, *SMALLER.get(config, [])]
    assert main(["validate", *of_run]) == 0
    assert "val/" in capsys.readouterr().out
    assert main(["test", *of_run]) == 0
    assert "test/" in capsys.readouterr().out
    assert main(["predict", *of_run]) == 0
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert len(predictions) >= 40
    assert not predictions.isna().any(axis=None)
    assert runs.current_run("small", model) == run


def test_a_run_is_tested_as_it_was_configured(small_dataset) -> None:
    """With flags at `fit` that are not repeated at `test`: the checkpoint alone knows of them."""
    small_dataset(reviews=0)
    quiet = ["--data.dataset", "small", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    for main, config, flag in (
        (recsys, "recsys/configs/quick.yaml", ["--model.size", "8"]),
        (forecasting, "forecasting/configs/retention-quick.yaml", ["--model.hidden_size", "8"]),
    ):
        assert main(["fit", "--config", config, *quiet, *flag, "--trainer.max_epochs", "1"]) == 0
        run = runs.require_run("small", model_of(config))
        for command, checkpoint in (("test", "best.ckpt"), ("predict", "model.ckpt")):
            assert main([command, "--ckpt_path", str(run / checkpoint), *quiet]) == 0


def test_a_configuration_that_only_names_the_model_does_not_replace_the_runs(small_dataset) -> None:
    small_dataset(reviews=0)
    quiet = ["--data.dataset", "small", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    config = ["--config", "forecasting/configs/retention-quick.yaml"]
    assert forecasting(["fit", *config, *quiet, "--model.hidden_size", "8", "--trainer.max_epochs", "1"]) == 0
    assert forecasting(["test", *config, *quiet]) == 0


def test_an_argument_of_an_earlier_version_is_named(
    small_dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(reviews=0)
    config = yaml.safe_load(Path("forecasting/configs/engagement-quick.yaml").read_text())
    config["model"]["init_args"]["shrinkage"] = 0.75
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(config))
    assert forecasting(["fit", "--config", str(tmp_path / "old.yaml"), "--data.dataset", "small"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --model.shrinkage is no argument of EngagementLSTM: if a configuration of an")


@pytest.mark.parametrize("flag", [["--model.dropout", "2"], ["--model.learning_rate", "-1"]])
@pytest.mark.parametrize(
    ("main", "config"),
    [(recsys, "recsys/configs/quick.yaml"), (forecasting, "forecasting/configs/engagement-quick.yaml")],
)
def test_a_value_that_no_network_can_have_is_one_sentence(
    main: Callable[[list[str]], int], config: str, flag: list[str], small_dataset
) -> None:
    small_dataset(reviews=0)
    quiet = ["--data.dataset", "small", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    assert main(["fit", "--config", config, *quiet, *flag, "--trainer.max_epochs", "1"]) == 2


def test_every_model_has_a_quick_a_full_and_a_gpu_configuration() -> None:
    assert set(runs.QUICK_CONFIG) == set(runs.MODELS)
    for quick in map(Path, runs.QUICK_CONFIG.values()):
        beside = {use: quick.with_name(quick.name.replace("quick", use)) for use in ("quick", "full", "gpu")}
        for use, path in beside.items():
            trainer = yaml.safe_load(path.read_text())["trainer"]
            assert (trainer.get("accelerator") == "gpu") == (use == "gpu"), path
