"""A preview says what an import would do, by the same code; a dry run says it of every row; neither writes."""

from pathlib import Path

import pytest
from import_files import RATINGS, rejects, take, write

from data import preview as previews
from data.__main__ import main
from data.errors import UserError
from data.preview import preview


@pytest.fixture(autouse=True)
def _home(marquee_home: Path) -> None:
    """Every test has a home of its own."""


BAD = RATINGS + "1,10,4,978300760\n2,11,x,978300761\n,12,3,978300762\n3,13,5,not a time\n4,14,2,978300764\n"


def test_rejects_are_those_of_the_import_with_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.csv", BAD)
    seen = preview("interactions", path, {})
    assert seen.is_whole
    assert (seen.report.read, seen.report.rejected, seen.share_bad) == (5, 3, 0.6)
    assert [line for line, _, _ in seen.rejects] == [3, 4, 5]
    assert "rating 'x'" in seen.rejects[0][1]
    assert seen.rejects == rejects(take(interactions=path, max_bad=1.0))
    assert seen.rows["user_id"].tolist() == ["1", "4"]
    assert seen.rows["rating"].tolist() == [4.0, 2.0]


def test_a_large_file_is_read_at_its_beginning_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.csvfile._BLOCK_BYTES", 2_000)
    rows = "".join(f"{i},{i % 7},{'bad' if i == 900 else 3},{978300760 + i}\n" for i in range(1_000))
    path = write(tmp_path / "ratings.csv", RATINGS + rows)
    seen = preview("interactions", path, {}, rows=100, shown=5)
    assert not seen.is_whole
    assert 100 <= seen.report.read < 400
    assert len(seen.rows) == 5
    whole = preview("interactions", path, {}, rows=None)
    assert whole.is_whole
    assert (whole.report.read, [line for line, _, _ in whole.rejects]) == (1_000, [902])


def test_the_mapping_decides_and_an_empty_one_leaves_a_column_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "who,what,stars\na,b,3\nc,d,4\n")
    with pytest.raises(UserError, match="no column for user_id"):
        preview("interactions", path, {})
    seen = preview("interactions", path, {"interactions.user_id": "who", "rating": ""})
    assert seen.rows["user_id"].tolist() == ["a", "c"]
    assert seen.rows["rating"].isna().all()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"\x7fELF\x02\x01\x01" + b"\0" * 60, "binary file"), (b"user_id,rating\n", "no rows")],
)
def test_files_that_are_no_table_are_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        preview("interactions", write(tmp_path / "x.csv", content), {})


def run(tmp_path: Path, *flags: str, name: str = "mine") -> int:
    path = write(tmp_path / "ratings.csv", BAD)
    return main(["import", "--name", name, "--interactions", str(path), "--dry-run", *flags])


def test_dry_run_of_a_bad_file_exits_2_and_writes_nothing(
    tmp_path: Path, marquee_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 2
    said = capsys.readouterr()
    assert "3 of 5 rows are bad" in said.err
    assert "rating 'x' is not a finite number" in said.out
    assert not (marquee_home / "tables").exists()


def test_dry_run_of_a_good_file_exits_0_and_writes_nothing(
    tmp_path: Path, marquee_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--max-bad", "1") == 0
    assert "Nothing was written" in capsys.readouterr().out
    assert not (marquee_home / "tables").exists()


def test_dry_run_refuses_what_the_import_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take(interactions=write(tmp_path / "a.csv", BAD), max_bad=1.0)
    for flags, said in (
        ([], "There is a dataset 'mine' already"),
        (["--replace", "--map", "user_id=nobody"], "no column 'nobody'"),
        (["--replace", "--map", "items.title=x"], "no file has it"),
        (["--replace", "--max-bad", "1", "--as-of", "1999-01-01"], "lies before the last row"),
    ):
        assert run(tmp_path, *flags) == 2
        assert said in capsys.readouterr().err


def test_dry_run_of_two_files_gives_each_its_own_part_of_the_mapping(tmp_path: Path) -> None:
    ratings = write(tmp_path / "r.csv", "who,movieId\na,1\n")
    items = write(tmp_path / "i.csv", "movieId,called\n1,One\n")
    found, _ = previews.dry_run(
        "mine", {"interactions": ratings, "items": items}, mapping={"user_id": "who", "items.title": "called"}
    )
    assert [one.report.kept for one in found] == [1, 1]


def test_dry_run_warns_of_ids_that_do_not_match_as_the_import_does(
    tmp_path: Path, marquee_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "interactions": write(tmp_path / "r.csv", "user_id,item_id\n" + "".join(f"u{i},{i}\n" for i in range(9))),
        "items": write(tmp_path / "i.csv", "item_id,title\n" + "".join(f"tt{i},Title {i}\n" for i in range(9))),
        "users": write(tmp_path / "u.csv", "user_id,age\n" + "".join(f"u{i},30\n" for i in range(9))),
    }
    said = []
    for more in (["--dry-run"], []):
        command = ["import", "--name", "mine", *more]
        assert main(command + [part for table, path in files.items() for part in (f"--{table}", str(path))]) == 0
        said.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")])
        assert (marquee_home / "tables").exists() != bool(more)
    assert said[0] == said[1]
    assert len(said[0]) == 1
    assert said[0][0].startswith("Warning: 9 of the 9 titles in interactions are not in items (")
