"""score.py: the arguments, the places, and what a mistake is told."""

from pathlib import Path

import pandas as pd
import pytest

import score


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["score.py recommend|reviews|engagement|retention"]),
        (["nonsense"], ["nonsense"]),
        (["recommend", "--top-k", "many"], ["top_k", "int", "many"]),
        (["recommend", "--top-k", "0"], ["--top-k 0"]),
        (["reviews", "--limit", "-1"], ["--limit -1"]),
        (["recommend", "--bogus", "1"], ["--bogus"]),
        (["recommend", "--dataset", "missing"], ["missing", "python -m data"]),
        (["recommend", "--dataset", "../up"], ["../up"]),
        (["reviews", "--input", "reviews.csv"], ["--out"]),
    ],
)
def test_mistakes_are_one_sentence(
    marquee_home: Path, argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert score.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("recommend", "python -m recsys fit"),
        ("reviews", "python -m nlp fit"),
        ("engagement", "python -m forecasting fit --config forecasting/configs/engagement-quick.yaml"),
        ("retention", "python -m forecasting fit --config forecasting/configs/retention-quick.yaml"),
    ],
)
def test_nothing_trained_names_the_command(
    small_dataset, what: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset()
    assert score.main([what, "--dataset", "small"]) == 2
    assert command in capsys.readouterr().err


def test_help_needs_no_model(marquee_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score.main(["reviews", "--help"]) == 0
    assert "--text-column" in capsys.readouterr().out


def test_a_table_that_is_missing_is_named(
    marquee_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    assert score.main(["reviews", "--input", str(tmp_path / "none.csv"), "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    pd.DataFrame({"body": ["good"]}).to_csv(tmp_path / "some.csv")
    assert score.main(["reviews", "--input", str(tmp_path / "some.csv"), "--out", str(out)]) == 2
    assert not out.exists()
