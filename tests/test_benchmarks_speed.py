"""The speed table: all of it runs, its ratios are of its figures, and what is missing is a line and no traceback."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import pace, speed, speed_lines, trial
from benchmarks.__main__ import main
from benchmarks.speed_lines import LINES, Line, Options
from data import home
from data.errors import UserError

pytestmark = pytest.mark.usefixtures("one_thread")

WITHOUT_PEERS = "lists,import"
WITH_PEERS = ("historynet-rectools", "historynet-recbole", "neumf-recbole")


def test_the_table_is_printed_and_kept(
    marquee_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name that cannot be measured, here for want of the peers' environment, takes nothing from the others."""
    monkeypatch.setattr(trial, "PYTHON", tmp_path / "nowhere")
    assert main(["--quick", "--only", f"{WITHOUT_PEERS},neumf-recbole"]) == 0
    out = capsys.readouterr().out
    assert "Traceback" not in out
    (told,) = [line for line in out.splitlines() if line.startswith("- neumf-recbole was not measured")]
    assert "make benchmark-peers-env" in told
    (path,) = home.benchmarks("demo").glob("speed-*.json")
    kept = json.loads(path.read_text("utf-8"))
    assert [line["name"] for line in kept["lines"]] == WITHOUT_PEERS.split(",")
    for line in kept["lines"]:
        assert line["ratio"] == pytest.approx(line["ours"] / line["theirs"])
        assert line["what"] in out
        assert line["peer"] in out
    assert kept["machine"]["cores"] >= 1
    assert {"torch", "implicit", "recbole (peers)", "RecTools (peers)"} <= set(kept["versions"])
    assert kept["machine"]["CPU"] in out


@pytest.mark.parametrize("name", WITH_PEERS)
def test_without_the_peers_environment_it_says_how_to_make_it(
    name: str, marquee_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trial, "PYTHON", tmp_path / "nowhere")
    assert main(["speed", "--quick", "--only", name]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert told.count("\n") == 0
    assert "make benchmark-peers-env" in told


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--only", "lists,speed"], ["--only speed", "historynet-rectools"]),
        (["--rounds", "0"], ["--rounds 0"]),
        (["--only", "documents", "--data.dataset", "none"], ["none"]),
    ],
)
def test_mistakes_are_one_sentence(
    flags: list[str], words: list[str], marquee_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["speed", *flags]) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert all(word in told for word in words), told


def test_turns_alternate_and_the_best_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def side(name: str, *values: float):
        left = iter(values)

        def turn() -> float:
            calls.append(name)
            return next(left)

        return turn

    def lines(seconds: bool, compared: bool):
        yield Line("work", "u", "P 1", side("ours", 6.0, 3.0, 5.0), side("theirs", 2.0, 3.0, 1.0), seconds, compared)

    monkeypatch.setitem(LINES, "rate", lambda options: lines(False, True))
    monkeypatch.setitem(LINES, "time", lambda options: lines(True, True))
    monkeypatch.setitem(LINES, "alone", lambda options: lines(True, False))
    options = Options("demo", 3, False)
    (rate,), (time,), (alone,) = (list(speed._measured(name, options)) for name in ("rate", "time", "alone"))
    assert calls[:6] == ["ours", "theirs"] * 3
    assert (rate["ours"], rate["theirs"], rate["ratio"], rate["median_ratio_of_a_round"]) == (6.0, 3.0, 2.0, 3.0)
    assert (time["ours"], time["theirs"]) == (3.0, 1.0)
    assert time["ratio"] == pytest.approx(1 / 3)
    assert time["median_ratio_of_a_round"] == pytest.approx(1 / 3)
    assert alone["ratio"] is None


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("historynet", {"model.search": False, "model.hidden": 8, "model.size": 8}),
        ("neumf", {"model.n_negatives": 2}),
    ],
)
def test_a_lap_is_an_epoch_of_all_titles_that_are_learned_from(name: str, settings: dict, small_dataset) -> None:
    small_dataset(reviews=0)
    from recsys.datamodule import RecommenderData

    data = RecommenderData("small")
    data.load()
    with pace.training(pace.ours(name, "small", settings)) as training:
        for _ in range(2):
            samples, seconds = training.lap_of()
            assert samples == len(data.train.items)
            assert seconds > 0


def test_a_training_finds_the_home_that_stands_where_we_do(small_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a folder of its own, and the home is `artifacts` in ours unless something else is said."""
    small_dataset(reviews=0)
    root = home.home().parent
    (root / "artifacts").symlink_to(home.home())
    monkeypatch.delenv("MARQUEE_HOME")
    monkeypatch.chdir(root)
    with pace.training(pace.ours("neumf", "small", {"model.n_negatives": 2})) as training:
        assert training.lap() > 0


def test_a_training_that_ends_is_one_sentence(marquee_home: Path) -> None:
    with (
        pytest.raises(UserError, match=r"has ended: .*too wide"),
        pace.training([sys.executable, "-c", "raise MemoryError('too wide')"]),
    ):
        pass


def test_ratings_are_like_those_of_movielens() -> None:
    found = speed_lines.ratings(10_000)
    assert list(found.columns) == ["userId", "movieId", "rating", "timestamp"]
    assert found["userId"].is_monotonic_increasing
    assert found["rating"].between(0.5, 5).all()
    assert found["movieId"].value_counts().iloc[0] > 20 * found["movieId"].value_counts().median()


@pytest.mark.benchmark
@pytest.mark.parametrize("name", WITH_PEERS)
def test_the_peers_train_beside_ours(name: str, small_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(n_users=100, reviews=0)
    assert main(["--quick", "--only", name, "--data.dataset", "small"]) == 0
    assert "was not measured" not in capsys.readouterr().out
