"""Distinct ids of a column that comes piece by piece, and what an import does with them."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from data import csvfile
from data.counted import Ids
from data.dataset import fingerprint
from data.importer import import_dataset
from data.times import Times


def test_distinct_texts_of_all_pieces_in_their_order() -> None:
    ids = Ids()
    for piece in (["b", "a", None, "b"], [], ["c", "a"]):
        ids.add(pa.array(piece, pa.string()))
    assert ids.all().to_pylist() == ["b", "a", "c"]
    ids.add(pa.chunked_array([pa.array(["c", None, "d"]).dictionary_encode(), pa.array(["d"]).dictionary_encode()]))
    assert ids.all().to_pylist() == ["b", "a", "c", "d"]
    assert Ids().all().to_pylist() == []


def test_an_id_of_a_dictionary_that_no_row_has_does_not_count() -> None:
    ids = Ids()
    encoded = pa.array(["only bad", "a", "b", "a"]).dictionary_encode()
    ids.add(encoded.filter(pa.array([False, True, True, True])))
    ids.add(encoded.slice(3))
    assert ids.all().to_pylist() == ["a", "b"]


def test_many_ids_are_told_apart_whenever_they_come() -> None:
    """More than are kept before they are looked at."""
    ids = Ids()
    for first in range(0, 200_000, 20_000):
        ids.add(pa.array([str(n) for n in range(first // 2, first // 2 + 20_000)]))  # half of them are known
    assert ids.all().to_pylist() == [str(n) for n in range(110_000)]


def test_the_catalogue_has_the_titles_of_good_rows_of_every_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    monkeypatch.setattr(csvfile, "_BLOCK_BYTES", 64)
    rows = [f"u{n % 3},i{n % 17},2024-01-{1 + n % 28:02d}" for n in range(60)] + ["u9,only bad,never"]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,ts", *rows]) + "\n")
    done = import_dataset("mine", {"interactions": tmp_path / "log.csv"}, progress=False)
    assert sorted(done.dataset.items()["item_id"]) == sorted(f"i{n}" for n in range(17))
    assert sorted(done.files[0].ids["user_id"].all().to_pylist()) == ["u0", "u1", "u2"]
    assert len(done.dataset.interactions()) == 60
    assert isinstance(done.dataset.as_of, pd.Timestamp)
    content = (tmp_path / "log.csv").read_bytes()
    assert done.dataset.sources[0].checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"
    # The log was hashed while it grew.
    assert fingerprint(sorted(done.dataset.folder.glob("*.parquet"))) == done.dataset.fingerprint


def test_how_times_are_written_is_learnt_from_the_first_there_are() -> None:
    read = Times("seen", "log.csv", [])(pa.array([""] * 20_000 + ["1700000000"] * 10 + ["soon"]))
    assert read.values.null_count == 20_001
    assert np.flatnonzero(read.bad).tolist() == [20_010]
    assert read.values[20_000].as_py() == pd.Timestamp(1_700_000_000, unit="s", tz="UTC")
