"""Files that are made to fill memory or disk: each is refused with a sentence, and nothing is left of it."""

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from import_files import RATINGS, rejects, take, write

from data import home
from data.errors import UserError
from data.preview import preview


@pytest.fixture(autouse=True)
def _home(marquee_home: Path) -> None:
    """Every test has a home of its own."""


def bomb(path: Path, part: bytes, times: int, head: str = RATINGS) -> Path:
    """A gzip file of a few hundred kilobytes that unpacks to a head and a part repeated."""
    with gzip.open(path, "wb") as handle:
        handle.write(head.encode())
        for _ in range(times):
            handle.write(part)
    return path


def refused(path: Path) -> str:
    """What the import says that refuses the file; it leaves nothing behind."""
    with pytest.raises(UserError) as caught:
        take(interactions=path)
    assert not [p for p in home.home().rglob("*") if p.is_file() and p.suffix != ".lock"]
    return str(caught.value)


def test_a_gzip_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_UNPACKED_GB", "0.02")
    rows = "".join(f"{i},{i},4,978300760\n" for i in range(60_000)).encode()
    path = bomb(tmp_path / "ratings.csv.gz", rows, 30)  # 40 MB
    said = refused(path)
    assert said.endswith("unpacks to more than 0.02 GB: if it is meant to be so large, set MARQUEE_UNPACKED_GB higher.")
    assert preview("interactions", path, {}).report.read >= 100_000  # its beginning is read as that of any file


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "ratings.csv.gz", b"1" * (4 << 20), 30)
    assert "has a line of more than 64 MB at line 2" in refused(path)


def test_a_parquet_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_UNPACKED_GB", "0.02")
    rows = pa.table({"user_id": ["u" * 1000 + str(i % 7) for i in range(30_000)], "timestamp": [1e9] * 30_000})
    pq.write_table(rows, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    with pytest.raises(UserError, match=r"unpacks to more than 0\.02 GB"):
        preview("interactions", tmp_path / "a.parquet", {})


def test_a_long_text_in_every_row_of_a_parquet_file_is_refused(tmp_path: Path) -> None:
    """25 GB of text in 12 KB: each row is a number of a dictionary with one entry."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 250_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"user_id": long, "timestamp": [1e9] * 250_000}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    before = pa.default_memory_pool().max_memory()
    assert "unpacks to more than 2 GB of text in 250,000 rows" in refused(tmp_path / "a.parquet")
    assert pa.default_memory_pool().max_memory() < before + (1 << 28)


def test_a_row_of_thousands_of_columns_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.csv", ",".join(["user_id", *(f"c{i}" for i in range(2_000))]) + "\n")
    with pytest.raises(UserError, match=r"has 2,001 columns, more than the 2,000"):
        preview("interactions", path, {})


@pytest.mark.parametrize("given", ["many", "0", "-1", "nan"])
def test_a_limit_that_is_no_number_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("MARQUEE_UNPACKED_GB", given)
    with pytest.raises(UserError, match=f"MARQUEE_UNPACKED_GB is '{given}': give a number"):
        preview("interactions", bomb(tmp_path / "a.csv.gz", b"1,10,4,978300760\n", 1), {})


def test_rejected_rows_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.rejects.MOST_BYTES", 5_000)
    rows = io.StringIO()
    for i in range(1_000):
        rows.write(f"u{i},1,{'bad' if i % 2 else 4},978300760\n")
    done = take(interactions=write(tmp_path / "a.csv", RATINGS + rows.getvalue()), max_bad=1.0)
    assert (done.files[0].read, done.files[0].rejected) == (1_000, 500)
    assert done.rejects is not None
    assert 5_000 <= done.rejects.stat().st_size < 5_200
    assert 0 < len(rejects(done)) < 100
