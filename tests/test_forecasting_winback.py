"""The win-back list: who, in which order, with which titles, and a CSV that no spreadsheet runs."""

from pathlib import Path

import dashboard_home as made
import pandas as pd
import pyarrow as pa
import pytest

import score
from data import home
from data.as_csv import rounded_csv
from data.dataset import Dataset
from forecasting.winback import at_risk, band_changes, picks_of, with_picks


def scored(**columns: list[object]) -> pd.DataFrame:
    base = {
        "user_id": ["a", "b", "c", "d"],
        "p_return": [0.1, 0.1, 0.5, 0.3],
        "horizon_days": [30] * 4,
        "band": ["high", "high", "medium", "high"],
        "days_since_last": [10.0, 90.0, 5.0, 20.0],
        "top_reason": ["one", "two", "three", "four"],
        "reason_effect": [0.2, 0.0, 0.1, 0.4],
        "expected_days": [60.0, 70.0, 40.0, 50.0],
        "usual_visits": [2.0, 4.0, 9.0, 5.0],
    }
    return pd.DataFrame(base | columns)


def test_the_order_is_that_of_the_expected_loss() -> None:
    found = at_risk(scored())
    assert found["user_id"].tolist() == ["b", "d", "a"]
    assert found["expected_loss"].tolist() == pytest.approx([3.6, 3.5, 1.8])
    assert found["reason"].tolist() == ["two", "four", "one"]
    assert at_risk(scored(), ("high", "medium"), seen_within=20)["user_id"].tolist() == ["c", "d", "a"]
    unknown = at_risk(scored(usual_visits=[float("nan")] * 4))
    assert unknown["user_id"].tolist() == ["a", "b", "d"]  # by the risk


def test_who_crossed_into_the_high_band_and_who_left_it() -> None:
    nan = float("nan")
    changes = band_changes(scored(p_return_before=[0.4, 0.2, 0.3, nan]))  # the last was not here yet
    assert changes is not None
    assert [part.tolist() for part in changes] == [[True, False, False, True], [False, False, True, False]]
    assert band_changes(scored()) is None
    assert band_changes(scored(p_return_before=[nan] * 4)) is None


def test_picks_are_the_first_three_of_the_members_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "recommendations.parquet"
    rows = [(user, rank, f"t{rank}", "seen" if rank == 1 else None) for user in "ab" for rank in (4, 3, 2, 1)]
    pd.DataFrame(rows, columns=["user_id", "rank", "item_id", "reason_item_id"]).to_parquet(path)
    picks = picks_of(path, ["b"])
    assert set(picks["user_id"]) == {"b"}
    assert sorted(picks["rank"]) == [1, 2, 3]
    titles = pd.Series({"t1": "Heat", "t2": "Fargo", "seen": "Ronin"})
    listed = with_picks(pd.DataFrame({"user_id": ["a", "b"]}), picks, titles)
    assert listed.loc[1].tolist() == [
        "b", "Heat", "t1", "because they watched Ronin", "Fargo", "t2", "", "t3", "t3", ""
    ]  # fmt: skip
    assert listed.loc[0].tolist() == ["a"] + [""] * 9
    assert picks_of(tmp_path / "none.parquet", ["a"]).empty


def test_no_text_of_the_csv_is_run_by_a_spreadsheet() -> None:
    table = pa.table({"user_id": ["=1+1", "-7", "x"], "p_return": [0.123456, 0.5, None]})
    assert rounded_csv(table).decode().splitlines() == [
        '"user_id","p_return"',
        '"\'=1+1",0.1235',
        '"-7",0.5',
        '"x",',
    ]


@pytest.fixture
def full(small_dataset) -> Dataset:
    data = small_dataset("demo")
    made.write_everything(data)
    retention = made.retention(data).assign(
        band="high", top_reason="away", reason_effect=0.1, expected_days=50.0, usual_visits=2.0
    )
    made.write_scores(data, "retention", retention)
    return data


def test_score_writes_the_list(full: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score.main(["winback", "--dataset", "demo"]) == 0
    path = home.scores("demo") / "winback.csv"
    assert str(path) in capsys.readouterr().out
    frame = pd.read_csv(path, dtype={"user_id": str}, keep_default_na=False)
    assert len(frame) == len(made.retention(full))
    assert frame["title_1"].str.contains("Title ").all()
    assert frame["why_1"].str.match("because they watched .*Title ").all()
    assert (frame["item_1"] != frame["item_2"]).all()
    assert score.main(["winback", "--dataset", "demo", "--limit", "5", "--out", str(tmp_path / "list.parquet")]) == 0
    assert len(pd.read_parquet(tmp_path / "list.parquet")) == 5


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--band", "huge"], "--band huge is none of high, medium, low and all"),
        (["--band", "low"], "No member of dataset 'demo' is in band 'low'"),
        (["--seen-within", "-1"], "--seen-within -1 is no number of days"),
        (["--limit", "0"], "--limit 0 asks for nothing"),
        (["--out", "list.txt"], "--out list.txt must end in .csv or .parquet"),
    ],
)
def test_mistakes_are_one_sentence(
    argv: list[str], sentence: str, full: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score.main(["winback", "--dataset", "demo", *argv]) == 2
    assert sentence in capsys.readouterr().err
    assert not (home.scores("demo") / "winback.csv").exists()


def test_without_scores_or_with_those_of_another_tool_it_says_what_to_run(
    full: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.scores("demo") / "retention.parquet"
    made.write_scores(full, "retention", made.retention(full))  # without what only our scorer writes
    assert score.main(["winback", "--dataset", "demo"]) == 2
    assert "has no column reason_effect, expected_days, usual_visits" in capsys.readouterr().err
    path.unlink()
    assert score.main(["winback", "--dataset", "demo"]) == 2
    assert "run 'python score.py retention --dataset demo' first" in capsys.readouterr().err
