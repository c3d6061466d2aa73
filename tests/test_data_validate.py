"""`python -m data validate` of a dataset: every change of its tables is noticed, and said in a line that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import schema
from data.__main__ import main
from data.dataset import Dataset, Source, fingerprint, write_dataset
from data.validate import validate

TABLES = ["interactions", "items", "users", "reviews", "metrics"]


@pytest.fixture
def whole(small_dataset: Callable[..., Dataset], tmp_path: Path) -> Dataset:
    """A dataset with every table."""
    made = small_dataset("drawn")
    days = pd.date_range("2024-01-01", periods=30, tz="UTC")
    metrics = pd.DataFrame({"series_id": "all", "date": days, "value": range(30)}).astype({"value": float})
    tables = {table: made.path(table) for table in TABLES if table != "metrics"}
    return write_dataset("whole", tables | {"metrics": metrics}, sources=[Source("generated", "generated")])


def rewrite(dataset: Dataset, table: str, change: Callable[[pa.Table], pa.Table]) -> None:
    path = dataset.path(table)
    pq.write_table(change(pq.read_table(path)), path)


def test_a_dataset_as_it_was_written_is_sound(whole: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(TABLES) <= set(whole.rows)
    assert main(["validate", "whole"]) == 0
    assert "sound" in capsys.readouterr().out


@pytest.mark.parametrize("table", TABLES)
def test_a_table_whose_rows_were_put_in_another_order_is_noticed(
    table: str, whole: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows keep every rule: only the fingerprint can tell."""
    rewrite(whole, table, lambda rows: rows.take(pa.array(range(len(rows))[::-1])))
    assert main(["validate", "whole"]) == 2
    captured = capsys.readouterr()
    assert "dataset.json: the tables have been changed since it was written" in captured.out
    assert captured.err.count("\n") == 1


def test_the_fingerprint_knows_the_names_of_the_tables(whole: Dataset, tmp_path: Path) -> None:
    renamed = copyfile(whole.path("users"), tmp_path / "members.parquet")
    assert fingerprint([renamed]) != fingerprint([whole.path("users")])


@pytest.mark.parametrize(
    ("table", "change", "told"),
    [
        ("interactions", lambda rows: rows.slice(1), "interactions.parquet: 1,050 rows instead of 1,051"),
        ("users", lambda rows: rows.drop_columns("user_id"), "users.parquet: there is no column user_id"),
        (
            "reviews",
            lambda rows: rows.set_column(rows.schema.get_field_index("stars"), "stars", pa.array(["5"] * len(rows))),
            "reviews.parquet: stars is string instead of double",
        ),
        (
            "items",
            lambda rows: pa.concat_tables([rows, rows.slice(3, 1)]),
            "items.parquet: item_id occurs more than once, 1 time (row 41)",
        ),
        ("metrics", lambda rows: pa.concat_tables([rows, rows.slice(0, 2)]), "2 times (row 31, 32)"),
    ],
)
def test_a_broken_rule_names_its_file_and_rows(
    table: str, change: Callable[[pa.Table], pa.Table], told: str, whole: Dataset
) -> None:
    rewrite(whole, table, change)
    assert any(told in str(problem) for problem in validate("whole")[1]), validate("whole")[1]


def test_a_title_that_the_catalogue_lacks_and_a_clock_before_the_last_row(whole: Dataset) -> None:
    rewrite(whole, "items", lambda rows: rows.slice(2))
    path = whole.folder / "dataset.json"
    meta = json.loads(path.read_text("utf-8"))
    meta["rows"]["items"] -= 2
    meta["as_of"] = "2024-01-02T00:00:00+00:00"
    path.write_text(json.dumps(meta), "utf-8")
    told = [str(problem) for problem in validate("whole")[1]]
    assert "items.parquet: 2 titles of the interactions are missing" in told
    assert any("the clock (as_of) lies before the last row (2024-04" in line for line in told)


def test_what_is_no_parquet_is_told_of_and_the_other_tables_are_looked_at(whole: Dataset) -> None:
    whole.path("users").write_bytes(b"nothing")
    rewrite(whole, "items", lambda rows: pa.concat_tables([rows, rows.slice(3, 1)]))
    told = [problem.file for problem in validate("whole")[1]]
    assert set(told) == {"users.parquet", "items.parquet"}
    assert set(schema.TABLES) == set(TABLES)
