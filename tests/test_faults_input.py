"""Files, ids and sizes that nobody expects: a dataset or a sentence, never a traceback and never half a dataset."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import events, training
from data.__main__ import main as data_main
from data.dataset import Dataset, list_datasets, open_dataset
from recsys.__main__ import PACKAGE as RECSYS
from recsys.__main__ import main as recsys_main
from score import main as score_main

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--config", "recsys/configs/quick.yaml", "--trainer.max_epochs", "1", "--model.size", "8"]
FIT = ["fit", *QUICK, "--model.hidden", "8"]
ODD = [
    "👩‍👩‍👧‍👦 emoji", "'; DROP TABLE events; --", "../../../etc/passwd", "/etc/passwd", 'quo"te', "a,b\t|;::c",
    "=1+1", "-1", "%s%n{0}", "<script>alert(1)</script>", "NULL", "nan", "\u202eright to left",
    "é", "e\u0301",    "x" * 1000,
]  # fmt: skip


def sound(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """A command that ended well or in one sentence; returns what it said on stderr."""
    said = capsys.readouterr().err
    assert code in (0, 2), said
    assert "Traceback" not in said
    if code == 2:
        assert said.strip().splitlines()[-1].startswith("error: ")
    return said


def test_odd_ids_and_titles_go_all_the_way(
    marquee_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Import, fit, score, record, export and forget, with each id whole at every station."""
    days = pd.date_range("2024-01-01", periods=12, tz="UTC")
    rows = [(user, item, days[(n + m) % 12]) for n, user in enumerate(ODD) for m, item in enumerate(ODD) if (n + m) % 3]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    items = pd.DataFrame({"item_id": ODD, "title": [t * (10_000 // len(t)) if t == "x" * 1000 else t for t in ODD]})
    for name, frame in (("log", log), ("items", items)):
        frame.to_parquet(tmp_path / f"{name}.parquet")
    log.to_csv(tmp_path / "log.csv", index=False)
    argv = ["import", "--name", "odd", "--interactions", str(tmp_path / "log.parquet")]
    assert data_main([*argv, "--items", str(tmp_path / "items.parquet")]) == 0
    dataset = open_dataset("odd")
    there = set(dataset.interactions()["user_id"])
    assert there == set(ODD)
    assert dataset.titles["'; DROP TABLE events; --"] == "'; DROP TABLE events; --"
    assert recsys_main([*FIT, "--data.dataset", "odd"]) == 0
    assert score_main(["recommend", "--dataset", "odd", "--top-k", "3"]) == 0
    scored = pd.read_parquet(marquee_home / "scores/odd/recommendations.parquet")
    assert set(scored["user_id"]) == there
    assert set(scored["item_id"]) <= set(ODD)
    assert events.record(dataset, [events.Event(user, "watch", ODD[0]) for user in ODD]) == len(ODD)
    assert set(events.events("odd")["user_id"]) == set(ODD)
    assert data_main(["export-events", "odd"]) == 0
    assert len(open_dataset("odd").interactions()) == len(log) + len(ODD)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for user in ODD[:-1]:
        assert data_main(["forget", "--dataset", "odd", "--", user]) == 0, user
    assert set(open_dataset("odd").interactions()["user_id"]) == {ODD[-1]}
    assert set(events.events("odd")["user_id"]) == {ODD[-1]}
    assert set(pd.read_parquet(marquee_home / "scores/odd/recommendations.parquet")["user_id"]) == {ODD[-1]}
    assert {path for path in before if not path.exists()} == set()
    assert data_main(["import", "--name", "csv", "--interactions", str(tmp_path / "log.csv")]) == 0
    sound(0, capsys)


@pytest.mark.parametrize("size", ["one row", "one member", "one title", "only reviews", "only titles", "no rows"])
def test_tiny_datasets_are_served_or_refused_in_a_sentence(
    size: str, marquee_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from forecasting.__main__ import main as forecasting_main
    from nlp.__main__ import main as nlp_main

    days = pd.date_range("2024-01-01", periods=8)
    texts = {
        "one row": ("interactions", "user,item,rating,ts\nu,i,4,2024-01-05\n"),
        "one member": ("interactions", "user,item,ts\n" + "".join(f"u,i{n},{d:%F}\n" for n, d in enumerate(days))),
        "one title": ("interactions", "user,item,ts\n" + "".join(f"u{n},i,{d:%F}\n" for n, d in enumerate(days))),
        "only reviews": ("reviews", "text,label\ngood,positive\n"),
        "only titles": ("items", "id,title\n1,One\n"),
        "no rows": ("interactions", "user,item,ts\n"),
    }
    table, text = texts[size]
    path = tmp_path / "tiny.csv"
    path.write_text(text)
    code = data_main(["import", "--name", "tiny", f"--{table}", str(path)])
    sound(code, capsys)
    assert (code == 0) == (list_datasets() == ["tiny"])
    of = ["--data.dataset", "tiny"]
    ended = {
        "fit": recsys_main([*FIT, *of]),
        "engagement": forecasting_main(["fit", "--config", "forecasting/configs/engagement-quick.yaml", *of]),
        "retention": forecasting_main(["fit", "--config", "forecasting/configs/retention-quick.yaml", *of]),
        "sentiment": nlp_main(["fit", "--config", "nlp/configs/quick.yaml", *of]),
        "evaluate": recsys_main(["evaluate", *of, "--trainer.max_epochs", "1"]),
        "forecast": forecasting_main(["evaluate", *of]),
        "read": nlp_main(["evaluate", *of]),
        **{f"score {what}": score_main([what, "--dataset", "tiny"]) for what in ("recommend", "reviews", "engagement")},
        **{f"score {what}": score_main([what, "--dataset", "tiny"]) for what in ("retention", "winback")},
        "describe": data_main(["describe", "tiny"]),
        "validate": data_main(["validate", "tiny"]),
    }
    said = sound(max(ended.values()), capsys)
    assert set(ended.values()) <= {0, 2}, (ended, said)
    assert (ended["fit"] == 0) == (size == "one member")
    assert ended["score recommend"] == ended["fit"]
    assert said.count("error: ") == sum(code == 2 for code in ended.values())


# --- fuzzed files ---

cells = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["1", "u", "2024-01-01", "4.5", "", "NaN", "1e400", "-0", "0x1", "９", "\ufeff"]),
)
columns = st.sampled_from(
    ["user_id", "item_id", "timestamp", "rating", "kind", "title", "text", "minutes", "x", "", "user_id"]
)
encodings = st.sampled_from(
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp037", "shift_jis"]
)
types = st.sampled_from(
    [pa.string(), pa.int64(), pa.float32(), pa.bool_(), pa.binary(), pa.timestamp("ns"), pa.date32(), pa.null(),
     pa.list_(pa.int32()), pa.decimal128(10, 2), pa.time64("us"), pa.duration("s"),
     pa.dictionary(pa.int32(), pa.string()),
     pa.struct([("a", pa.int64())]), pa.timestamp("s", "Asia/Tokyo"), pa.uint64()]
)  # fmt: skip


def took(path: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The import ends in 0 with a dataset that is whole, or in 2 with a sentence and what was there before."""
    before = open_dataset("mine").fingerprint if list_datasets() else None
    code = data_main(["import", "--name", "mine", "--replace", f"--{table}", str(path), "--max-bad", "1"])
    sound(code, capsys)
    if code == 2:
        assert (open_dataset("mine").fingerprint if list_datasets() else None) == before
        return
    dataset: Dataset = open_dataset("mine")
    for name, rows in dataset.rows.items():
        assert len(dataset.read(name)) == rows
    assert not list(path.parent.glob("home/tables/.import-*"))


FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    header=st.lists(columns, min_size=1, max_size=6),
    rows=st.lists(st.lists(cells, max_size=7), max_size=6),
    separator=st.sampled_from([",", ";", "\t", "|", "::"]),
    encoding=encodings,
    table=st.sampled_from(["interactions", "items", "users", "reviews", "metrics"]),
)
def test_any_csv_shape_in_any_encoding(
    header: list[str], rows: list[list[str]], separator: str, encoding: str, table: str,
    marquee_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text = "\n".join(separator.join(line) for line in [header, *rows])
    path = tmp_path / "fuzz.csv"
    path.write_bytes(text.encode(encoding, "replace"))
    took(path, table, capsys)


@FUZZ
@given(
    shape=st.lists(st.tuples(columns, types), min_size=1, max_size=5),
    number=st.integers(0, 5),
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=3),
    table=st.sampled_from(["interactions", "items", "users", "reviews"]),
)
def test_any_parquet_of_any_types_cut_or_flipped(
    shape: list[tuple[str, pa.DataType]], number: int, cut: float | None, flips: list[tuple[float, int]], table: str,
    marquee_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arrays = []
    for _, kind in shape:
        try:
            arrays.append(pa.array([1] * number).cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            arrays.append(pa.nulls(number, kind))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(shape)), sink)
    content = bytearray(sink.getvalue())
    for place, bits in flips:
        content[int(place * len(content))] ^= bits
    path = tmp_path / "fuzz.parquet"
    path.write_bytes(content if cut is None else content[: int(cut * len(content))])
    took(path, table, capsys)


# --- damaged tables of a dataset ---


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "schema", "gone", "json"])
def test_a_damaged_dataset_is_a_sentence_everywhere(
    damage: str, small_dataset: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = small_dataset(n_users=8, n_items=20, reviews=0)
    assert training.main(RECSYS, [*FIT, "--data.dataset", "small"]) == 0
    path = dataset.path("interactions")
    whole = path.read_bytes()
    if damage == "schema":
        pd.DataFrame({"user_id": [1.5], "when": ["now"]}).to_parquet(path)
    elif damage == "gone":
        path.unlink()
    elif damage == "json":
        (dataset.folder / "dataset.json").write_text('{"name": "small", "rows": []}')
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "noise": os.urandom(5000), "empty": b""}[damage])
    capsys.readouterr()
    for code in (
        recsys_main([*FIT, "--data.dataset", "small"]),
        score_main(["recommend", "--dataset", "small"]),
        data_main(["describe", "small"]),
        data_main(["forget", "u1", "--dataset", "small"]),
        data_main(["validate", "small"]),
    ):
        assert code == 2
    assert sound(2, capsys).count("error: ") == 5
    assert data_main(["list"]) == 0


def test_a_home_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log.csv"
    home.write_text("")
    log.write_text("user,item,ts\nu,1,2024-01-01\n")
    ended = subprocess.run(
        [sys.executable, "-m", "data", "import", "--name", "x", "--interactions", str(log)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "MARQUEE_HOME": str(home)},
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "MARQUEE_HOME" in ended.stderr
