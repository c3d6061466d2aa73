"""Tables scored: every row in its place, whatever it holds; nothing done twice after a kill; CSV safe to open."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import UserError
from nlp import files, table_scoring
from nlp.files import open_table
from nlp.table_scoring import EMPTY, UNFAMILIAR, score_file, unfamiliar

ROOT = Path(__file__).parents[1]
MENTIONS = pa.list_(pa.struct([("aspect", pa.string()), ("p", pa.float64())]))
OURS = ["label", "p_positive", "aspects", "problem"]


class Stub:
    """The share of e's in a text, and what a later version adds: a list of dicts."""

    run_id = "stub"

    def __init__(self) -> None:
        self.flags: dict[str, object] = {}
        self.sizes: list[int] = []
        self.seen: list[str] = []

    def score(self, texts: Sequence[str]) -> pa.Table:
        self.sizes.append(len(texts))
        self.seen += texts
        frame = self.frame(texts)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return table.set_column(2, "aspects", pa.array(frame["aspects"].tolist(), MENTIONS))

    def frame(self, texts: Sequence[str]) -> pd.DataFrame:
        p = np.array([text.count("e") / max(1, len(text)) for text in texts])
        aspects = [[{"aspect": "story", "p": 0.5}] if "story" in text else [] for text in texts]
        return pd.DataFrame({"label": np.where(p > 0.5, "positive", "negative"), "p_positive": p, "aspects": aspects})


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_scoring, "CHUNK_ROWS", 7)


def scored(source: Path, column: str = "text", kind: str = "csv", **options: object) -> pd.DataFrame:
    out = source.with_name(f"out.{kind}")
    score_file(source, column, out, progress=False, scorer=Stub(), **options)  # type: ignore[arg-type]
    assert not source.with_name(f".out.{kind}.parts").exists()
    return read(out)


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_and_columns_keep_their_order_and_values(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": [f"{i:03d}" for i in range(40)],
            "body": [f"the film {i}" if i % 10 else f'"a" story,\r\nquoted {i}\n' for i in range(40)],
            "label": "theirs",
            "label_predicted": "theirs too",
            "n": np.arange(40) - 3.5,
        }
    )
    source = tmp_path / f"in.{kind}"
    _ = frame.to_csv(source, index=False) if kind == "csv" else frame.to_parquet(source, index=False)
    stub = Stub()
    for out_kind in ("csv", "parquet"):
        out = tmp_path / f"out.{out_kind}"
        assert score_file(source, "body", out, progress=False, scorer=stub) == out
        result = read(out)
        assert list(result) == [*frame, "label_predicted_predicted", *OURS[1:]]
        expected = frame if kind == out_kind == "parquet" else frame.astype(str)
        pd.testing.assert_frame_equal(result[list(frame)].astype(expected.dtypes), expected)
        assert [bool(json.loads(a) if out_kind == "csv" else len(a)) for a in result["aspects"]] == [
            i % 10 == 0 for i in range(40)
        ]
        assert set(result["problem"]) == {""}
    assert stub.sizes == [7, 7, 7, 7, 7, 5] * 2
    assert stub.seen == frame["body"].tolist() * 2
    assert scored(source, "body", limit=10)["id"].tolist() == frame["id"].tolist()[:10]


BROKEN_ROWS = {
    b"2,too,many,fields": ("2", "too", "many,fields", "4 fields instead of 3"),
    b"3,few": ("3", "few", "", "2 fields instead of 3"),
    b'4,"opens, no end,5': ("4", '"opens', " no end,5", files.OPEN_QUOTE),
    b"5,ab\xff\xfec,1": ("5", "ab\ufffd\ufffdc", "1", files.NOT_UTF8),
    b"6,ab\x00c,1": ("6", "ab\ufffdc", "1", files.NULL_BYTE),
    b"7," + b"x" * 1_000_001 + b",1": ("7", "x" * 1_000_001, "1", files.TOO_LONG),
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("broken", BROKEN_ROWS, ids=[row[:12] for row in BROKEN_ROWS])
def test_a_row_that_cannot_be_read_keeps_its_place(broken: bytes, end: bytes, tmp_path: Path) -> None:
    good = [b"0,see,1", b'1,"he said ""e"",\nthen e",2']
    source = tmp_path / "in.csv"
    for rows, at in (([*good, broken, *good], 2), ([*good, broken], 2), ([broken, *good * 10], 0)):
        source.write_bytes(end.join([b"id,text,stars", *rows]) + end)
        for kind in ("csv", "parquet"):
            result = scored(source, kind=kind)
            assert len(result) == len(rows)
            assert tuple(result.loc[at, ["id", "text", "stars", "problem"]]) == BROKEN_ROWS[broken]
            assert result.loc[at, "p_positive"] == "" if kind == "csv" else np.isnan(result.loc[at, "p_positive"])
            assert not result.loc[at, "label"]
            others = result.drop(index=at)
            assert (others["problem"] == "").all()
            assert others["id"].tolist() == [row[:1].decode() for row in rows if row != broken]
            assert (others["p_positive"].astype(float) > 0).all()


def test_a_quote_that_never_closes_costs_one_row_however_long_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_scoring, "CHUNK_ROWS", 700)
    rows = [f"{i},some film" for i in range(3_000)]
    rows[5] = '5,"some film'
    (tmp_path / "in.csv").write_text("id,text\n" + "\n".join(rows))
    result = scored(tmp_path / "in.csv")
    assert result["id"].tolist() == [str(i) for i in range(3_000)]
    assert result.index[result["problem"] != ""].tolist() == [5]


def test_a_quote_that_closes_too_late_was_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_LINES", 10)
    for breaks, rows in ((9, 2), (10, 12)):
        (tmp_path / "in.csv").write_text('id,text\n1,"see' + "\nhere" * breaks + '"\n2,see\n')
        result = scored(tmp_path / "in.csv")
        assert len(result) == rows
        assert (result["problem"] == "").tolist() == [rows == 2] + [False] * (rows - 2) + [True]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_parts_without_a_readable_row_or_with_another_type(kind: str, tmp_path: Path) -> None:
    class Mixed(Stub):
        def frame(self, texts: Sequence[str]) -> pd.DataFrame:
            many = any("e" in text for text in texts)
            return super().frame(texts).assign(priority=1.5 if many else 2, item_id="i" if many else None)

    source, out = tmp_path / "in.csv", tmp_path / f"out.{kind}"
    source.write_text("id,text\n" + "few\n" * 7 + "1,none\n" * 7 + "2,nothing\n" * 7 + "few\n" * 7)
    score_file(source, "text", out, progress=False, scorer=Mixed())
    result = read(out)
    assert result["id"].tolist() == ["few"] * 7 + ["1"] * 7 + ["2"] * 7 + ["few"] * 7
    assert pd.to_numeric(result["priority"])[7:21].tolist() == [1.5] * 7 + [2] * 7
    assert pd.to_numeric(result["priority"])[[*range(7), *range(21, 28)]].isna().all()
    if kind == "parquet":
        assert result["p_positive"].dtype == float
        assert result["item_id"].tolist()[6:15] == [None, *["i"] * 7, None]


@pytest.mark.parametrize("skip", [0, 1, 9, 10, 11, 25, 29, 30])
def test_parquet_goes_on_at_any_row(skip: int, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pd.DataFrame({"text": [str(i) for i in range(30)]}).to_parquet(source, row_group_size=10)
    chunks = list(open_table(source, "text").chunks(4, skip))
    assert [text for chunk in chunks for text in chunk.texts] == [str(i) for i in range(skip, 30)]
    assert [x for chunk in chunks for x in chunk.table["text"].to_pylist()] == [str(i) for i in range(skip, 30)]


def test_a_line_without_end_is_cut_and_the_next_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_RECORD", 100)
    (tmp_path / "in.csv").write_text("id,text\n1," + "long " * 100_000 + '\n2,here\n3,"' + "x\n" * 80 + '"\n4,see\n')
    result = scored(tmp_path / "in.csv")
    assert len(result.loc[0, "text"]) == 98
    assert result.loc[0, "problem"] == files.RECORD_TOO_LONG
    good = result[result["problem"] == ""]
    assert good["id"].tolist() == ["2", "4"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_odd_texts_are_scored_and_some_have_a_reason_beside(kind: str, tmp_path: Path) -> None:
    texts = ["", "  \n", "🙂🙂", "<b>film</b><br />", "Этот фильм прекрасен", "e" * 100_000, "12.5", "Crème brûlée"]
    frame = pd.DataFrame({"id": range(8), "text": texts})
    source = tmp_path / f"in.{kind}"
    _ = frame.to_csv(source, index=False) if kind == "csv" else frame.to_parquet(source)
    result = scored(source, kind="parquet")
    assert result["p_positive"].notna().all()
    assert result["problem"].tolist() == [EMPTY, EMPTY, "", "", UNFAMILIAR, "", "", ""]
    assert result.loc[5, "p_positive"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这部电影很好看", True),
        ("Der Film war leider nicht sehr gut und ich habe mich gelangweilt.", True),
        ("La película es muy buena, me encantó la historia y los actores.", True),
        ("Ce film est magnifique, une histoire touchante", True),
        ("Kurosawa's 七人の侍 is the best film that there is", False),
        ("Y tu mamá también and El Mariachi are the films to see con gusto", False),
        ("a gorgeous , witty , seductive movie .", False),
        ("!!! 10/10 🙂", False),
        ("", False),
    ],
)
def test_other_languages_are_told_by_letters_or_small_words(text: str, expected: bool) -> None:
    assert unfamiliar(text) is expected


def test_cells_that_a_spreadsheet_would_run_get_an_apostrophe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = ['=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "=", "-"]
    safe = ["-3.5", "+4", "-1e5", "-.5", "1-1", "a=b", "'=1", "", "– dash"]
    frame = pd.DataFrame({"text": cells + safe, "=note": safe[::-1] + cells[::-1], "n": -3.5})
    frame.to_parquet(tmp_path / "in.parquet")
    frame.to_csv(tmp_path / "in.csv", index=False)
    for source in (tmp_path / "in.parquet", tmp_path / "in.csv"):
        for kind, separator in (("csv", ","), ("tsv", "\t")):
            out = tmp_path / f"out.{kind}"
            score_file(source, "text", out, progress=False, scorer=Stub())
            with out.open(newline="") as handle:
                header, *rows = list(csv.reader(handle, delimiter=separator))
            assert header == ["text", "'=note", "n", *OURS]
            assert [row[0] for row in rows] == [f"'{cell}" for cell in cells] + safe
            assert [row[1] for row in rows] == safe[::-1] + [f"'{cell}" for cell in cells[::-1]]
            assert {row[2] for row in rows} == {"-3.5"}
            assert "17 cells" in capsys.readouterr().out
        left = scored(source, kind="parquet")
        assert left["text"].tolist() == cells + safe
        assert "=note" in left
        assert "apostrophe" not in capsys.readouterr().out


CELL = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)) | st.sampled_from('",;\t\r\n=-'))
DANGEROUS = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), max_size=20),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_cell_comes_through_csv_as_it_was(
    rows: list[tuple[str, str, str]], separator: str, end: str, encoding: str, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    # With \n as its line end, the csv module of Python 3.11 leaves a last cell's \r unquoted.
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    with source.open("w", newline="", encoding=encoding) as handle:
        writer = csv.writer(handle, delimiter=separator, lineterminator=end, quoting=quoting)
        writer.writerows([("a", "text", "b"), *rows])
    score_file(source, "text", out, progress=False, scorer=Stub())
    with out.open(newline="", encoding="utf-8") as handle:
        header, *found = list(csv.reader(handle))
    assert header == ["a", "text", "b", *OURS]
    expected = [
        tuple(f"'{c}" if DANGEROUS.match(c) and not PLAIN_NUMBER.fullmatch(c) else c for c in row) for row in rows
    ]
    assert [tuple(row[:3]) for row in found] == expected
    assert [row[-1] in ("", UNFAMILIAR) for row in found] == [bool(text.strip()) for _, text, _ in rows]
    score_file(source, "text", tmp_path / "out.parquet", progress=False, scorer=Stub())
    columns = pq.read_table(tmp_path / "out.parquet", columns=["a", "text", "b"])
    assert [tuple(row.values()) for row in columns.to_pylist()] == rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from([b",", b'"', b"\n", b"a", b"\xff", b"\0", b"\r", b"="]) | st.binary(max_size=3))
)
def test_any_bytes_below_a_header_become_rows_with_and_without_a_skip(content: list[bytes], tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"id,text\n" + b"".join(content))
    table = open_table(source, "text")
    chunks = list(table.chunks(3, 0))
    rows = pa.concat_tables([chunk.table for chunk in chunks]).to_pylist()
    assert all(len(chunk.table) == len(chunk.texts) == len(chunk.problems) for chunk in chunks)
    letters = "".join(f"{row['id']}{row['text']}" for row in rows).count("a")
    assert letters == b"".join(content).count(b"a")
    for skip in (2, len(rows)):
        rest = [row for chunk in table.chunks(3, skip) for row in chunk.table.to_pylist()]
        assert rest == rows[skip:]


def test_dialects_missing_values_and_headers(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text;stars, of 5\nbrilliant, moving;5\n;3\n\nNA;1\n", "utf-8-sig")
    result = scored(source)
    assert result["text"].tolist() == ["brilliant, moving", "", "NA"]
    assert result["problem"].tolist() == ["", EMPTY, ""]
    source.write_text("sep=|\ntext|a,b,c\nsee|1\n")
    assert scored(source)["a,b,c"].tolist() == ["1"]
    source.write_text("text\nsee\n\nhere\n")  # one column: a blank line is an empty text
    assert scored(source)["text"].tolist() == ["see", "", "here"]
    source.write_text("n,n,text\n1,2,see\n")
    assert list(pd.read_csv(scored(source) is None or tmp_path / "out.csv", header=None).loc[0]) == [
        "n",
        "n",
        "text",
        *OURS,
    ]
    assert scored(source, kind="parquet").columns.tolist() == ["n", "n.1", "text", *OURS]
    source.with_suffix(".tsv").write_text("a,b,c\ttext\n1\tsee\n")
    assert scored(source.with_suffix(".tsv"))["a,b,c"].tolist() == ["1"]
    for empty in ("csv", "parquet"):
        source, nothing = tmp_path / f"header.{empty}", pd.DataFrame({"text": pd.Series([], dtype=str)})
        _ = nothing.to_csv(source, index=False) if empty == "csv" else nothing.to_parquet(source)
        for kind in ("csv", "parquet"):
            assert list(scored(source, kind=kind)) == ["text", *OURS]
        assert pq.read_schema(tmp_path / "out.parquet").field("p_positive").type == pa.float64()


def test_parquet_of_other_types(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    columns = {
        "text": pa.array(["see", None, "=1", "a\0b"]).dictionary_encode(),
        "large": pa.array(["see", "=y", None, "+1"], pa.large_string()),
        "bytes": pa.array([b"\xff", "é".encode(), None, b"=1"]),
        "number": pa.array([-1.5, None, float("nan"), 2]),
        "list": [["é"], [], None, ["x"]],
        "day": pd.to_datetime(["2024-01-01"] * 4, utc=True),
        "none": pa.nulls(4),
    }
    pq.write_table(pa.table(columns), source)
    problems = {
        "text": ["", EMPTY, "", files.NULL_BYTE],
        "large": ["", "", EMPTY, ""],
        "bytes": [files.NOT_UTF8, "", EMPTY, ""],
        "number": ["", EMPTY, EMPTY, ""],
        "day": [""] * 4,
        "none": [EMPTY] * 4,
    }
    for column, expected in problems.items():
        result = scored(source, column)
        assert result["problem"].tolist() == expected
        assert result["text"].tolist() == ["see", "", "'=1", "a\ufffdb"]
        assert result["large"].tolist() == ["see", "'=y", "", "+1"]
        assert result["bytes"].tolist() == ["/w==", "é", "", "'=1"]
        assert [json.loads(x) for x in result["list"] if x] == [["é"], [], ["x"]]
        result = scored(source, column, "parquet")
        assert result["problem"].tolist() == expected
        kept = pq.read_table(tmp_path / "out.parquet").select(list(columns))
        assert kept.schema.equals(pq.read_schema(source))
        assert str(kept.to_pydict()) == str(pq.read_table(source).to_pydict())  # as texts, for nan is not nan
    with pytest.raises(UserError, match="--text-column list"):
        scored(source, "list")


@pytest.mark.parametrize(
    ("name", "content", "out", "words"),
    [
        ("in.csv", b"a,b\n1,2\n", "out.csv", ["--text-column text", "a, b"]),
        ("in.csv", b"", "out.csv", ["is empty"]),
        ("in.csv", b"\n \n", "out.csv", ["is empty"]),
        ("in.csv", b"PK\x03\x04\x00\x01\x00", "out.csv", ["binary"]),
        ("in.csv", b"text\n" + bytes(range(32)) * 100, "out.csv", ["binary"]),
        ("in.csv", b"text,pr\xe9nom\nsee,x\n", "out.csv", ["UTF-8"]),
        ("in.csv", b'"text,b\nsee,x\n', "out.csv", ["header"]),
        ("in.parquet", b"no parquet", "out.csv", ["Parquet"]),
        ("in.xlsx", b"x", "out.csv", [".csv, .tsv and .parquet"]),
        ("in.csv", b"text\ngood\n", "out.xlsx", ["--out", ".parquet"]),
        ("in.csv", b"text\ngood\n", "in.csv", ["--input itself"]),
        (None, b"", "out.csv", ["does not exist"]),
    ],
)
def test_a_file_that_cannot_be_scored_says_why(
    name: str | None, content: bytes, out: str, words: list[str], tmp_path: Path
) -> None:
    source = tmp_path / (name or "missing.csv")
    if name:
        source.write_bytes(content)
    with pytest.raises(UserError) as told:
        score_file(source, "text", tmp_path / out, progress=False, scorer=Stub())
    assert all(word in str(told.value) for word in words), told.value
    assert [path.name for path in tmp_path.iterdir()] == [name] * bool(name)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    frame = pd.DataFrame({"text": [f"see {i}" * 50 for i in range(4_000)]})
    frame.to_parquet(source, row_group_size=1_000, compression="zstd")
    content = bytearray(source.read_bytes())
    at = pq.read_metadata(source).row_group(2).column(0).dictionary_page_offset
    content[at : at + 3_000] = bytes(3_000)
    source.write_bytes(content)
    with pytest.raises(UserError, match=r"in\.parquet is damaged after row 1,\d\d\d|after row 2,000"):
        scored(source)


# The command in a process of its own, killed where `die` says: as a power cut would, without a chance to tidy up.
KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import test_nlp_files as tests
from nlp import table_scoring as module

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(n, function):
    calls = []
    def counted(*a, **k):
        calls.append(1)
        return die() if len(calls) > n else function(*a, **k)
    return counted

module.CHUNK_ROWS = 7
stub = tests.Stub()
{die}
module.score_file(module.Path({source!r}), "text", module.Path({out!r}), progress=False, scorer=stub)
"""


@pytest.mark.parametrize(
    ("die", "rows", "kinds"),
    [
        ("stub.score = after(0, stub.score)", 0, ("csv", "csv")),
        ("stub.score = after(3, stub.score)", 21, ("csv", "csv")),
        ("stub.score = after(3, stub.score)", 21, ("parquet", "parquet")),
        ("module._write = after(4, module._write)", 28, ("parquet", "csv")),
        # The part is there, but not in the state.
        ("module.write_json = after(2, module.write_json)", 14, ("csv", "parquet")),
        ("module._join = die", 100, ("parquet", "parquet")),
        ("module.shutil.copyfileobj = die", 100, ("csv", "csv")),
        ("module.shutil.rmtree = die", 100, ("parquet", "csv")),
    ],
)
def test_a_killed_run_goes_on_behind_the_last_whole_part(
    die: str, rows: int, kinds: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, expected = tmp_path / f"in.{kinds[0]}", tmp_path / f"out.{kinds[1]}", tmp_path / f"whole.{kinds[1]}"
    frame = pd.DataFrame({"id": range(100), "text": ["", "=see", "a story\nhere"] * 33 + ["e"]})
    _ = frame.to_csv(source, index=False) if kinds[0] == "csv" else frame.to_parquet(source)
    score_file(source, "text", expected, progress=False, scorer=Stub())
    summary = capsys.readouterr().out
    paths = [str(ROOT), str(ROOT / "tests")]
    script = KILLED.format(paths=paths, die=die, source=str(source), out=str(out))
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == -signal.SIGKILL
    assert (tmp_path / f".{out.name}.parts").is_dir()
    stub = Stub()
    score_file(source, "text", out, progress=False, scorer=stub)
    assert stub.seen == frame["text"].tolist()[rows:]
    told = capsys.readouterr().out
    assert told == (f"Going on after {rows} rows.\n" if rows else "") + summary
    assert out.read_bytes() == expected.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, out.name, expected.name])


def interrupted_at(calls: int) -> Stub:
    stub = Stub()
    score = stub.score

    def until(texts: Sequence[str]) -> pa.Table:
        if len(stub.sizes) == calls:
            raise KeyboardInterrupt
        return score(texts)

    stub.score = until  # type: ignore[method-assign]
    return stub


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A table of 50 rows whose scoring was stopped after 14."""
    source = tmp_path / "in.csv"
    pd.DataFrame({"text": [f"see {i}" for i in range(50)], "body": "e"}).to_csv(source, index=False)
    with pytest.raises(KeyboardInterrupt, match="after 14 rows: the same command"):
        score_file(source, "text", tmp_path / "out.csv", progress=False, scorer=interrupted_at(2))
    return source


def _touch(source: Path) -> None:
    os.utime(source, ns=(1, 1))


def _cut_part(source: Path) -> None:
    part = source.with_name(".out.csv.parts") / "000001.csv"
    part.write_bytes(part.read_bytes()[:-5])


def _lose_part(source: Path) -> None:
    (source.with_name(".out.csv.parts") / "000000.csv").unlink()


def _spoil_state(source: Path) -> None:
    (source.with_name(".out.csv.parts") / "state.json").write_text("[1")


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (None, {}, "Going on after 14 rows."),
        (_touch, {}, "anew: an earlier run did not finish, and the input changed"),
        (None, {"text_column": "body"}, "a flag changed"),
        (None, {"limit": 30}, "a flag changed"),
        (None, {"run_id": "other"}, "the model changed"),
        (_cut_part, {}, "damaged"),
        (_lose_part, {}, "damaged"),
        (_spoil_state, {}, "damaged"),
    ],
)
def test_what_changed_begins_anew(
    change: Callable[[Path], None] | None,
    options: dict[str, object],
    told: str,
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if change:
        change(stopped)
    capsys.readouterr()
    stub = Stub()
    stub.run_id = str(options.get("run_id", "stub"))
    column, limit = str(options.get("text_column", "text")), options.get("limit")
    out = score_file(stopped, column, stopped.with_name("out.csv"), limit=limit, progress=False, scorer=stub)  # type: ignore[arg-type]
    assert told in capsys.readouterr().out
    assert len(stub.seen) == (36 if told.startswith("Going") else limit or 50)
    assert read(out)["text"].tolist() == [f"see {i}" for i in range(limit or 50)]  # type: ignore[call-overload]
    assert not stopped.with_name(".out.csv.parts").exists()


def test_a_limit_is_kept_over_a_stop(tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    pd.DataFrame({"text": [f"see {i}" for i in range(50)]}).to_csv(source, index=False)
    for limit in (10, 14):
        stops = interrupted_at(1)
        with pytest.raises(KeyboardInterrupt):
            score_file(source, "text", out, limit=limit, progress=False, scorer=stops)
        score_file(source, "text", out, limit=limit, progress=False, scorer=Stub())
        assert read(out)["text"].tolist() == [f"see {i}" for i in range(limit)]


def test_a_second_run_on_the_same_output_is_refused(stopped: Path) -> None:
    out = stopped.with_name("out.csv")
    with FileLock(stopped.with_name(".out.csv.parts") / "lock"), pytest.raises(UserError, match="by another run"):
        score_file(stopped, "text", out, progress=False, scorer=Stub())
    stub = Stub()
    score_file(stopped, "text", out, progress=False, scorer=stub)
    assert len(stub.seen) == 36


MEMORY = """
import re, sys
sys.path[:0] = {paths!r}
import test_nlp_files as tests
from nlp.table_scoring import score_file, Path
class Stub(tests.Stub):
    def score(self, texts):
        self.seen.clear()
        return super().score(texts)
score_file(Path({source!r}), "text", Path({out!r}), progress=False, scorer=Stub())
# Not ru_maxrss: that begins at what the parent held.
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for rows in (10_000, 100_000):
        source = tmp_path / f"{rows}.csv"
        source.write_text("id,text\n" + "".join(f'{i},"{"a short film, " * 15}"\n' for i in range(rows)))
        script = MEMORY.format(
            paths=[str(ROOT), str(ROOT / "tests")], source=str(source), out=str(source.with_suffix(".out.csv"))
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 15, peaks  # MB
