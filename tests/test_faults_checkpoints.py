"""Runs that somebody has damaged or tampered with: refused in a sentence, and no code in them is run."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import generated_tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_package import PACKAGE

from data import runs, training
from data.dataset import Source, write_dataset
from data.errors import UserError


class Program:
    """What a pickle can hold: a call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def toy(marquee_home: Path, tmp_path: Path) -> Path:
    """A finished run of the toy, in use."""
    write_dataset("small", generated_tables(n_users=4, n_items=20, reviews=0), sources=[Source("g", "generated")])
    content = {
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {"class_path": "toy_package.Toy", "init_args": {"learning_rate": 0.2}},
        "data": {"class_path": "toy_package.ToyData"},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(content))
    assert run("fit", "--config", str(tmp_path / "toy.yaml")) == 0
    current = runs.current_run("small", "recommender")
    assert current is not None
    return current


def run(command: str, *arguments: str) -> int:
    return training.main(PACKAGE, [command, *arguments, "--data.dataset", "small"])


def told(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    sentence = error.strip().splitlines()[-1]
    assert sentence.startswith("error: ")
    return sentence


def with_program(path: Path, marker: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "callbacks": {"more": Program(marker)}}, path)
    torch.load(path, weights_only=False)  # so a program that is loaded does run
    assert marker.is_dir()
    marker.rmdir()


def test_a_program_in_a_checkpoint_is_not_run(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker, copy = tmp_path / "was-run", toy.with_name("20200101-000000-0000")
    shutil.copytree(toy, copy)
    for name in ("model.ckpt", "best.ckpt"):
        with_program(copy / name, marker)
    capsys.readouterr()
    assert training.main(PACKAGE, ["promote", copy.name]) == 2
    assert copy.name in told(capsys)
    assert runs.current_run("small", "recommender") == toy
    runs.promote(copy)  # as if the files of the run in use had been changed
    for command in ("predict", "test", "validate"):
        assert run(command) == 2
        assert "more than plain weights" in told(capsys)
    assert not marker.exists()


def test_a_program_in_what_is_resumed_is_not_run(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(tmp_path / "toy.yaml")
    assert run("fit", "--config", config, "--model.fail_at_epoch", "2") == 130
    last = next(toy.parent.glob("*/checkpoints/last.ckpt"))
    with_program(last, tmp_path / "was-run")
    capsys.readouterr()
    assert run("fit", "--config", config, "--ckpt_path", str(last)) == 2
    assert "more than plain weights" in told(capsys)
    assert not (tmp_path / "was-run").exists()
    assert runs.current_run("small", "recommender") == toy


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), noise=st.binary(max_size=40))
def test_a_cut_checkpoint_is_a_sentence(toy: Path, share: float, noise: bytes) -> None:
    copy = toy.with_name("20200101-000000-0001")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(toy, copy)
    whole = (copy / "model.ckpt").read_bytes()
    (copy / "model.ckpt").write_bytes(whole[: int(len(whole) * share)] + noise)
    assert training.main(PACKAGE, ["promote", copy.name]) == 2
    assert runs.current_run("small", "recommender") == toy


@pytest.mark.parametrize("content", ["", "[]", "null", '"x"', "{", "7", "[" * 100_000, "\ud800"])
def test_a_report_that_is_none_is_a_sentence(toy: Path, content: str) -> None:
    (toy / "report.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"report\.json cannot be read"):
        runs.read_report(toy)


def test_a_report_names_no_class_of_its_own(toy: Path) -> None:
    """The class in a report is looked up among ours, never imported."""
    from recsys.scorer import Recommender

    report = runs.read_report(toy) | {"class": "os.system"}
    (toy / "report.json").write_text(json.dumps(report))
    with pytest.raises(UserError):
        Recommender.load(toy)


@pytest.mark.parametrize(
    "content", [": : :", "[1, 2", "model: 5", "\x00", "trainer: {max_epochs: x}", "!!python/name:os.system"]
)
def test_a_tampered_config_is_a_sentence(toy: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "config.yaml").write_text(content)
    capsys.readouterr()
    assert run("predict") == 2
    told(capsys)
    assert run("card") == 0  # what is not known of the settings is left out


@pytest.mark.parametrize("content", ["", "../../elsewhere", "x\ny", "\x00", "a" * 5000, "\udcff"])
def test_a_tampered_pointer_is_a_sentence(
    toy: Path, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished run outside of its folder is not followed to."""
    shutil.copytree(toy, toy.parents[1] / "elsewhere")
    shutil.copytree(toy, toy.parents[2] / "elsewhere")
    (toy.parent / "current").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert run("predict") == 2
    assert "There is no trained recommender" in told(capsys)


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_a_cut_checkpoint_ends_every_command_in_a_sentence(
    toy: Path, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.ckpt", "best.ckpt"):
        (toy / name).write_bytes((toy / name).read_bytes()[:keep])
    capsys.readouterr()
    for command in ("predict", "test", "validate"):
        assert run(command) == 2
        told(capsys)
