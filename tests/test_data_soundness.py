"""The quick roads of an import give what the slow ones do: rules looked at by column, ids looked at once each."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import csvfile, schema
from data.counted import counted
from data.dataset import TEXT_DTYPES, describe, open_dataset
from data.errors import UserError
from data.importer import import_dataset

TABLES = [table for table in schema.TABLES if table != "users"]


def values(field: pa.Field) -> tuple[Any, list[Any]]:
    """A value that keeps the rules of a column, and some that break them or may."""
    if field.name == schema.KIND:
        return "watch", [None, "dance", ""]
    if field.name == schema.LABEL:
        return "neutral", [None, "mild", ""]
    if pa.types.is_timestamp(field.type):
        years = ("1899-12-31", "1900-01-01", "2200-01-01", "2200-01-02")
        return pd.Timestamp("2024-01-01", tz="UTC"), [None, *(pd.Timestamp(year, tz="UTC") for year in years)]
    if field.type == pa.float64():
        return 1900.0, [None, np.nan, np.inf, -np.inf, -1.0, 1e15, -1e15, 1e6, -1e6, 2200.0, 2200.5, 527_041.0]
    if pa.types.is_list(field.type):
        return ["Drama"], [None, []]
    return "x", [None, "", "é" * 501, "é" * 1001, "x" * 1000, "x" * 1001]


@pytest.mark.parametrize("table", TABLES)
def test_what_the_quick_look_calls_sound_keeps_every_rule(table: str) -> None:
    """It may send sound rows to pandera, but must never pass others."""
    for field in schema.TABLES[table]:
        for tried in values(field)[1]:
            columns = {other.name: [values(other)[0]] * 3 for other in schema.TABLES[table]}
            columns[field.name][1] = tried
            rows = pa.table(columns, schema=pa.schema([f.with_nullable(True) for f in schema.TABLES[table]]))
            failures = schema.failures(table, rows.to_pandas(types_mapper=TEXT_DTYPES.get))
            broken = bool((~failures["is_duplicate"].astype(bool)).any())
            encoded = pa.table(
                {
                    name: column.dictionary_encode() if column.type == pa.string() else column
                    for name, column in zip(rows.column_names, rows.columns, strict=True)
                }
            )
            assert not (schema.is_sound(table, rows) and broken), (field.name, tried)
            assert schema.is_sound(table, encoded) == schema.is_sound(table, rows), (field.name, tried)


@pytest.mark.parametrize("table", TABLES)
def test_sound_rows_are_called_sound(table: str) -> None:
    rows = pa.table({field.name: [values(field)[0]] * 3 for field in schema.TABLES[table]}, schema=schema.TABLES[table])
    assert schema.is_sound(table, rows)


def test_a_frame_with_an_id_twice_is_refused() -> None:
    frame = pd.DataFrame({"item_id": ["a", "a"], "title": ["A", "B"]}, dtype="string[pyarrow]")
    with pytest.raises(UserError, match="occurs more than once"):
        schema.validate("items", frame)
    assert len(schema.validate("items", frame.iloc[:1])) == 1


def test_ids_that_occur_often_are_read_as_all_others(marquee_home: Path, tmp_path: Path) -> None:
    """Spaces, missing ids and later blocks without repeats: encoded or not, the table is the same."""
    often = ["7,1,4,1700000000", " 7 ,1,3,1700000001", "8,,2,1700000002", "9,\\N,1,1700000003"] * 50
    rare = [f"u{n},i{n},5,{1_700_000_000 + n}" for n in range(200)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user_id,item_id,rating,timestamp", *often, *rare]) + "\n")
    found = import_dataset("often", {"interactions": path}, progress=False).dataset.interactions()
    assert found["user_id"].tolist() == ["7", "7", "8", "9"] * 50 + [f"u{n}" for n in range(200)]
    assert found["item_id"].isna().tolist() == [False, False, True, True] * 50 + [False] * 200
    assert set(found["kind"]) == {"rating"}
    kinds = pq.read_schema(open_dataset("often").path("interactions"))
    assert kinds.remove_metadata() == schema.TABLES["interactions"]


def test_blocks_with_and_without_repeats_make_one_table(
    marquee_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csvfile, "_BLOCK_BYTES", 2_000)
    for first, second in (("often", "rare"), ("rare", "often")):
        rows = {"often": ["7,1,4,1700000000"] * 200, "rare": [f"u{n},i{n},,1700000001" for n in range(200)]}
        path = tmp_path / f"{first}.csv"
        path.write_text("\n".join(["user_id,item_id,rating,timestamp", *rows[first], *rows[second]]) + "\n")
        found = import_dataset(first, {"interactions": path}, progress=False).dataset
        assert found.rows["interactions"] == 400
        frame = found.interactions()
        wanted = {"often": ["7"] * 200, "rare": [f"u{n}" for n in range(200)]}
        assert frame["user_id"].tolist() == wanted[first] + wanted[second]
        assert (frame["kind"] == np.where(frame["user_id"] == "7", "rating", "watch")).all()
        assert found.as_of == pd.Timestamp(1_700_000_001, unit="s", tz="UTC")


def test_what_is_told_of_a_dataset_is_what_is_there(small_dataset) -> None:
    found = describe(small_dataset(reviews=0))
    events = open_dataset("small").interactions()
    rating = events["rating"]
    assert (found["members"], found["titles"]) == (events["user_id"].nunique(), events["item_id"].nunique())
    assert found["interactions"] == len(events)
    assert (found["first"], found["last"]) == tuple(events["timestamp"].agg(["min", "max"]).map(pd.Timestamp.isoformat))
    assert found["mean_rating"] == pytest.approx(rating.mean())
    assert (found["lowest_rating"], found["highest_rating"]) == (rating.min(), rating.max())
    assert found["kinds"] == events["kind"].value_counts().to_dict()


def test_pieces_are_counted_together_and_a_missing_column_is_told(tmp_path: Path) -> None:
    columns = {
        "user_id": ["a", "b", "a", "c"],
        "item_id": ["x", None, "y", "x"],
        "timestamp": pa.array([5, 3, 9, 4], pa.timestamp("us", "UTC")),
        "rating": [None, 2.0, 5.0, None],
        "kind": ["watch", "rating", "rating", "watch"],
    }
    path = tmp_path / "interactions.parquet"
    with pq.ParquetWriter(path, pa.table(columns).schema) as writer:
        for first in (0, 2):
            writer.write_table(pa.table(columns).slice(first, 2))
    found = counted(path)
    assert found.pop("kinds") == {"watch": 2, "rating": 2}
    assert found == {
        "members": 3, "titles": 2, "rows": 4, "first": 3, "last": 9, "rated": 2, "sum": 7.0, "least": 2.0,
        "greatest": 5.0,
    }  # fmt: skip
    pq.write_table(pa.table(columns).drop_columns(["kind"]), path)
    with pytest.raises(pa.ArrowException, match="kind"):
        counted(path)
