"""A table or a file of a run that is damaged: every command that reads it says so in one sentence that names it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from conftest import generated_tables
from tiny_encoder import train_tiny, write_tiny_encoder

from data import runs
from data.__main__ import main as data
from data.dataset import Source, write_dataset
from data.incremental import state_of
from forecasting.__main__ import main as forecasting
from forecasting.frequency import FREQUENCIES
from forecasting.prior import prior_weights
from nlp.__main__ import main as nlp
from recsys.__main__ import main as recsys
from score import main as score

OF = ["--data.dataset", "small"]
QUIET = ["--gate", "off", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
RETENTION = ["--config", "forecasting/configs/retention-quick.yaml"]
ENGAGEMENT = ["--config", "forecasting/configs/engagement-quick.yaml"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset and three of its models in use; the fourth takes a minute, and reads what `fit` reads."""
    home = tmp_path_factory.mktemp("tables") / "home"
    encoder = write_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(home))
        write_dataset("small", generated_tables(reviews=120), sources=[Source("generated", "generated")])
        assert recsys(["fit", "--config", "recsys/configs/quick.yaml", *OF, *QUIET]) == 0
        assert forecasting(["fit", *RETENTION, *OF, *QUIET]) == 0
        assert train_tiny("quick", encoder, "small", *QUIET) == 0
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "home"
    shutil.copytree(made, copy)
    monkeypatch.setenv("MARQUEE_HOME", str(copy))
    return copy


Command = Callable[[], int]
ALWAYS: list[Command] = [
    lambda: data(["validate", "small"]),
    lambda: data(["export-events", "small"]),
    lambda: data(["forget", "u1", "--dataset", "small"]),
]
FORECAST: Command = lambda: forecasting(["fit", *ENGAGEMENT, *OF, *QUIET])  # noqa: E731
RECOMMEND: Command = lambda: score(["recommend", "--dataset", "small"])  # noqa: E731
READ_BY: dict[str, list[Command]] = {
    "interactions": [
        lambda: data(["describe", "small"]),
        lambda: data(["ready", "small"]),
        lambda: data(["drift", "small"]),
        lambda: forecasting(["fit", *RETENTION, *OF, *QUIET]),
        lambda: forecasting(["predict", *RETENTION, *OF]),
        lambda: score(["retention", "--dataset", "small"]),
        RECOMMEND,
    ],
    "items": [
        lambda: data(["drift", "small"]),
        lambda: recsys(["fit", "--config", "recsys/configs/quick.yaml", *OF, *QUIET]),
    ],
    "users": [RECOMMEND],
    "reviews": [
        lambda: data(["ready", "small"]),
        lambda: data(["drift", "small"]),
        lambda: nlp(["predict", *OF]),
        lambda: score(["reviews", "--dataset", "small"]),
        lambda: score(["reviews", "--dataset", "small", "--limit", "9"]),
    ],
}
# What a command need not notice: one that reads only the file's end, or no damaged page, may do its work.
PATIENT = {("items", "middle"), ("users", "middle"), ("users", "wrong"), ("items", "wrong"), ("interactions", "wrong"),
           ("reviews", "wrong"), ("reviews", "middle"), ("interactions", "middle")}  # fmt: skip


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "middle":  # the file's end is whole, so that it opens; its pages are not
        path.write_bytes(whole[:40] + bytes(byte ^ 0x5A for byte in whole[40:400]) + whole[400:])
    elif how == "wrong":
        pd.DataFrame({"user_id": [1.5], "when": ["now"]}).to_parquet(path)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()


@pytest.mark.parametrize("how", ["cut", "middle", "wrong", "gone", "folder"])
@pytest.mark.parametrize("table", READ_BY)
def test_a_damaged_table_is_a_sentence(table: str, how: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "tables" / "small" / f"{table}.parquet"
    damage(path, how)
    before = {p: p.read_bytes() for p in (home / "tables").rglob("*") if p.is_file()}
    capsys.readouterr()
    forecast = [FORECAST] if table != "reviews" and (table, how) not in PATIENT else []  # trains where it can
    codes = [command() for command in (*ALWAYS, *READ_BY[table], *forecast)]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert set(codes) <= {0, 2}
    assert len(said) == codes.count(2) > 0
    if (table, how) not in PATIENT:
        assert set(codes) == {2}
    assert any(path.name in sentence for sentence in said)
    left = {p: p.read_bytes() for p in (home / "tables").rglob("*") if p.is_file() and not p.name.endswith(".lock")}
    assert left == {p: content for p, content in before.items() if not p.name.endswith(".lock")}


@pytest.mark.parametrize("how", ["gone", "of nothing", "folder"])
def test_a_checkpoint_that_is_none_is_a_sentence(how: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("recommender", "retention", "sentiment"):
        run = runs.current_run("small", model)
        assert run is not None
        best = run / "best.ckpt"
        best.unlink()
        if how == "of nothing":
            torch.save({"state_dict": {}}, best)
        elif how == "folder":
            best.mkdir()
    capsys.readouterr()
    assert [recsys(["test", *OF]), forecasting(["validate", *RETENTION, *OF]), nlp(["test", *OF])] == [2, 2, 2]
    said = capsys.readouterr().err
    assert said.count("error: ") == said.count("best.ckpt") == 3


@pytest.mark.parametrize("how", ["empty", "cut", "gone"])
def test_weights_of_made_up_series_that_are_damaged_are_made_again(how: str, marquee_home: Path) -> None:
    device = torch.device("cpu")
    made = prior_weights(FREQUENCIES["daily"], 3, 4, 1, 2, device)
    first = {name: value.clone() for name, value in made.items()}  # they are mapped from the file
    (path,) = (marquee_home / "priors").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if how == "cut" else b"")
    if how == "gone":
        path.unlink()
    again = prior_weights(FREQUENCIES["daily"], 3, 4, 1, 2, device)
    assert path.read_bytes() == whole
    assert all(torch.equal(again[name], value) for name, value in first.items())


def test_scores_whose_state_is_empty_or_a_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scoring what changed scores all where it cannot know."""
    argv = ["recommend", "--dataset", "small", "--changed-only", "true"]
    assert score(argv) == 0
    out = home / "scores" / "small" / "recommendations.parquet"
    whole, state = pd.read_parquet(out), state_of(out)
    pq.write_table(pq.read_table(state).slice(0, 0), state)
    assert score(argv) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out), whole)
    state.unlink()
    state.mkdir()
    capsys.readouterr()
    assert score(argv) == 2
    assert "is a folder where a file should be" in capsys.readouterr().err


def test_a_run_whose_weights_are_gone_is_told_of(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.current_run("small", "recommender")
    assert run is not None
    assert runs.told_of_lost("small", "recommender") == ""
    (run / "model.ckpt").unlink()
    capsys.readouterr()
    assert [score(["recommend", "--dataset", "small"]), recsys(["serve", "--dataset", "small"])] == [2, 2]
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2
    assert all(f"The weights (model.ckpt) of recommender run {run.name}" in line for line in said)
