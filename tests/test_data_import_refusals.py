"""Importing the user's own files: rejected rows, refused files, and what happens when it breaks off."""

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_files import RATINGS, rejects, take, write

from data import csvfile, events, home
from data.__main__ import main
from data.dataset import list_datasets, open_dataset
from data.errors import UserError


@pytest.fixture
def file(tmp_path: Path, marquee_home: Path) -> Callable[..., Path]:
    """Write a file and return its path."""
    return lambda name, content: write(tmp_path / name, content)


# --- what is rejected ---


def test_bad_rows_are_rejected_with_their_physical_line(file):
    content = (
        "user,note,item,rating,ts\n"  # 1
        'a,"two\nlines",1,4,2024-01-01\n'  # 2, 3
        "\n"  # 4
        ",x,1,4,2024-01-01\n"  # 5: no user
        "b,x,1,abc,2024-01-01\n"  # 6: no number
        "b,x,1,4,yesterday\n"  # 7: no time
        'b,"three\n\nlines",1,nan,2024-01-01\n'  # 8-10: not finite
        ",,,,\n"  # 11: an empty line of a spreadsheet
        "b,x,1\n"  # 12: fields missing
        "b,x,1,1e9,2024-01-01\n"  # 13: out of range
        f"{'y' * 1001},x,1,4,2024-01-01\n"  # 14: id too long
        "b,x,1,4,2201-01-01\n"  # 15: not in our time
        "b,x,1,4,2024-01-02\n"  # 16
    )
    done = take(interactions=file("log.csv", content), max_bad=0.9)
    assert [(line, reason) for line, reason, _ in rejects(done)] == [
        (5, "user_id is missing"),
        (6, "rating 'abc' is not a finite number"),
        (7, "timestamp 'yesterday' is not a date or time"),
        (8, "rating 'nan' is not a finite number"),
        (12, "3 fields instead of 5"),
        (13, "rating must be a finite number"),
        (14, "user_id must have 1 to 1,000 characters"),
        (15, "timestamp must lie between 1900 and 2200"),
    ]
    assert rejects(done)[3][2] == 'b,"three\n\nlines",1,nan,2024-01-01'
    assert done.dataset.interactions()["user_id"].tolist() == ["a", "b"]
    assert (done.files[0].read, done.files[0].kept) == (10, 2)


def test_lines_stay_right_across_blocks(file, monkeypatch):
    monkeypatch.setattr(csvfile, "_BLOCK_BYTES", 700)
    rows, bad = ["user,text,ts,item"], []
    line = 2
    for i in range(400):
        text = f'"line {i}\nof ""{i}"""' if i % 7 == 0 else f"plain {i}"
        stamp = "2024-01-01" if i % 40 != 3 else "never"
        if stamp == "never":
            bad.append(line)
        rows.append(f"u{i},{text},{stamp},{i}")
        line += 2 if i % 7 == 0 else 1
    done = take(interactions=file("log.csv", "\n".join(rows)), max_bad=0.5)
    assert [line for line, *_ in rejects(done)] == bad
    assert len(done.dataset.interactions()) == 400 - len(bad)


def test_an_unclosed_quotation_mark_costs_its_own_line_only(file):
    lines = ["user,item,ts", *(f"u{i},{i},2024-01-01" for i in range(50))]
    lines[10] = 'u9,"9,2024-01-01'
    done = take(interactions=file("log.csv", "\n".join(lines) + "\n"))
    assert rejects(done) == [(11, "a quotation mark is not closed", 'u9,"9,2024-01-01')]
    assert done.files[0].kept == 49


def test_unknown_kinds_and_labels_are_rejected(file):
    log = file("log.csv", "user,item,ts,event\nu,1,2024-01-01,view\nu,1,2024-01-01,teleport\n")
    reviews = file("reviews.csv", "text,label\ngood,pos\nbad,meh\n,pos\n")
    done = take(interactions=log, reviews=reviews, max_bad=0.9)
    assert [reason for _, reason, _ in rejects(done)] == [
        "kind 'teleport' is no known kind",
        "label 'meh' is no label (negative, neutral, positive)",
        "text is missing",
    ]


@pytest.mark.parametrize("block_bytes", [60, 1 << 20])
def test_repeated_ids_are_rejected_in_and_across_blocks(file, monkeypatch, block_bytes):
    monkeypatch.setattr(csvfile, "_BLOCK_BYTES", block_bytes)
    ids = [*range(30), 3, *range(30, 40), 39]
    content = "id,title\n" + "".join(f"{i},Title {n}\n" for n, i in enumerate(ids))
    done = take(items=file("items.csv", content))
    assert [(line, reason) for line, reason, _ in rejects(done)] == [
        (32, "item_id '3' occurs more than once"),
        (43, "item_id '39' occurs more than once"),
    ]
    assert done.dataset.items().set_index("item_id")["title"]["3"] == "Title 3"


def test_a_bad_row_does_not_take_its_id(file):
    content = "date,series,value\n2024-01-01,a,x\n2024-01-01,a,1\n2024-01-01,a,2\n2024-01-02,a,3\n"
    done = take(metrics=file("usage.csv", content), max_bad=0.5)
    assert [line for line, *_ in rejects(done)] == [2, 4]
    assert done.dataset.metrics()["value"].tolist() == [1, 3]


def test_a_column_of_another_epoch_unit_is_not_mixed(file):
    content = RATINGS + "".join(f"u,{i},4,{964982703 + i}\n" for i in range(30)) + "u,99,4,964982703000\n"
    done = take(interactions=file("ratings.csv", content))
    assert [(line, reason) for line, reason, _ in rejects(done)] == [(32, "timestamp must lie between 1900 and 2200")]


# --- what is refused as a whole ---


def test_eight_percent_of_bad_rows_are_refused_unless_allowed(file, capsys):
    rows = [f"u,{i},4,964982703\n" if i % 25 >= 2 else f"u,{i},x,964982703\n" for i in range(100)]
    path = str(file("ratings.csv", RATINGS + "".join(rows)))
    assert main(["import", "--name", "mine", "--interactions", path]) == 2
    told = capsys.readouterr().err
    assert "8 of 100 rows are bad (8.0%, more than the 5% allowed)" in told
    assert "line 2: rating 'x' is not a finite number" in told
    assert "--max-bad 0.08" in told
    assert list_datasets() == []
    assert main(["import", "--name", "mine", "--interactions", path, "--max-bad", "8%"]) == 0
    assert open_dataset("mine").rows["interactions"] == 92


def test_an_existing_name_is_refused_before_any_work(file, capsys):
    path = file("ratings.csv", RATINGS + "u,1,4,964982703\n")
    take(interactions=path)
    assert main(["import", "--name", "mine", "--interactions", "/nowhere.csv"]) == 2
    assert "--replace" in capsys.readouterr().err
    path.write_text(RATINGS + "u,2,4,964982703\n")
    assert take(interactions=path, replace=True).dataset.interactions()["item_id"].tolist() == ["2"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n  \n", "is empty"),
        ("a.csv", RATINGS.encode(), "no rows"),
        ("a.csv", RATINGS.strip().encode(), "no rows"),
        ("a.csv", b"\x00\x01\x02\xff" * 500, "binary"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "binary"),
        ("a.csv", b"PK\x03\x04rest", "zip archive"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("a.csv.gz", gzip.compress(RATINGS.encode() * 99)[:40], "damaged"),
        ("a.csv", b"film,rating\n1,5\n", "no column for user_id (found: film, rating)"),
        ("a.csv", b"196,242,3\n186,302,3\n", "no header line"),
        ("a.csv", b"user,item,ts\n,1,2024-01-01\n", "all 1 rows are bad"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(file, capsys, name, content, words):
    path = file(name, content)
    assert main(["import", "--name", "mine", "--interactions", str(path)]) == 2
    told = capsys.readouterr().err.strip()
    assert words in told
    assert path.name in told
    assert "\n" not in told
    assert list_datasets() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--interactions", "missing.csv"], "missing.csv does not exist"),
        (["--interactions", "."], "is a folder"),
        ([], "nothing to import"),
        (["--from", "nowhere"], "is no folder"),
        (["--interactions", "LOG", "--map", "user_id=who"], "there is no column 'who'"),
        (["--interactions", "LOG", "--map", "wizard=user"], "no column of ours"),
        (["--interactions", "LOG", "--map", "user"], "not understood"),
        (["--interactions", "LOG", "--map", "text=user"], "no file has it"),
        (["--interactions", "LOG", "--max-bad", "7"], "--max-bad"),
        (["--interactions", "LOG", "--as-of", "soon"], "--as-of"),
        (["--interactions", "LOG", "--shiny"], "--shiny"),
    ],
)
def test_wrong_flags_are_one_sentence(file, capsys, arguments, words):
    path = file("log.csv", "user,item,ts\nu,1,2024-01-01\n")
    argv = [str(path) if a == "LOG" else a for a in arguments]
    assert main(["import", "--name", "mine", *argv]) == 2
    told = capsys.readouterr().err.strip()
    assert words in told
    assert "\n" not in told
    assert list_datasets() == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from(
        [b"", b"user,item,ts\n", b"user,item,ts\nu,1,2024-01-01\n", b"id,title,genres\n", b"text,stars\n"]
    ),
    body=st.binary(max_size=300) | st.text('ab,"\n\r;1.\x1f:é', max_size=200).map(str.encode),
    table=st.sampled_from(["interactions", "items", "users", "reviews", "metrics"]),
)
def test_no_bytes_end_in_a_traceback(file, monkeypatch, head, body, table):
    monkeypatch.setattr(csvfile, "_BLOCK_BYTES", 50)
    path = file("fuzz.csv", head + body)
    try:
        done = take(**{table: path}, replace=True, max_bad=1.0)
    except UserError as mistake:
        assert "\n" not in str(mistake)  # noqa: PT017
    else:
        report = done.files[0]
        assert report.kept + len(rejects(done)) == report.read
        n_lines = len((head + body).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
        assert all(1 < line <= n_lines for line, *_ in rejects(done))


# --- what goes wrong outside ---

COMMAND = [sys.executable, "-m", "data", "import", "--replace", "--name", "mine", "--interactions"]


@pytest.fixture
def large(file) -> Path:
    """A file that takes a second or two, and an older dataset that must outlive it."""
    take(interactions=file("old.csv", RATINGS + "old,1,4,964982703\n"))
    rows = "".join(f"user{i * 7919 % 99991},{i * 104729 % 49999},4,{964982703 + i}\n" for i in range(400_000))
    return file("large.csv", RATINGS + rows)


def assert_old_dataset_alone(home: Path) -> None:
    assert open_dataset("mine").interactions()["user_id"].tolist() == ["old"]
    assert {p.name for p in (home / "tables").iterdir()} <= {"mine", ".mine.lock", ".import.lock"}


def test_a_full_disk_leaves_the_old_dataset(large, marquee_home):
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "from data.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run([sys.executable, "-c", limited, *COMMAND[3:], str(large)], capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "No space left" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert_old_dataset_alone(marquee_home)


def test_ctrl_c_leaves_the_old_dataset(large, marquee_home):
    with subprocess.Popen([*COMMAND, str(large)], stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not list((marquee_home / "tables").glob(".import-*/*.parquet")) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "Interrupted" in told
    assert "Traceback" not in told
    assert_old_dataset_alone(marquee_home)


def test_text_that_is_no_text_is_refused_before_anything_is_written(tmp_path: Path, marquee_home: Path) -> None:
    """Half of a surrogate pair, which Parquet takes and nobody can read back."""
    values = pa.array([b"u\xed\xa0\x80", b"b"])
    ids = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"user_id": ids, "item_id": ["1", "2"]}), path)
    with pytest.raises(
        UserError, match=r"x.parquet: column 'user_id' holds something that is no text in UTF-8 .* rows 1 "
    ):
        take(interactions=path)
    assert not home.tables("mine").exists()
    with pytest.raises(ValueError, match="half of a character"):
        events.Event("u\ud800", "watch", "i")
