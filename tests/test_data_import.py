"""Importing the user's own files: what is kept, what is rejected and why, and what is refused as a whole."""

import csv
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import csvfile
from data.__main__ import main
from data.columns import parse_map
from data.dataset import Dataset, list_datasets, open_dataset
from data.errors import UserError
from data.importer import Imported, import_dataset

RATINGS = "userId,movieId,rating,timestamp\n"


@pytest.fixture
def file(tmp_path: Path, marquee_home: Path):
    """Write a file and return its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def take(name: str = "mine", mapping: str = "", **arguments) -> Imported:
    tables = ("interactions", "items", "users", "reviews", "metrics")
    files = {table: arguments.pop(table) for table in tables if table in arguments}
    return import_dataset(name, files, mapping=parse_map([mapping]), progress=False, **arguments)


def rejects(imported: Imported) -> list[tuple[int, str, str]]:
    if imported.rejects is None:
        return []
    with imported.rejects.open(newline="") as handle:
        return [(int(row["line"]), row["reason"], row["text"]) for row in csv.DictReader(handle)]


def seconds(dataset: Dataset) -> list[int]:
    return [int(t.timestamp()) for t in dataset.interactions()["timestamp"]]


# --- what is kept ---


def test_movielens_csv_files_import_without_a_flag(file):
    ratings = file("ratings.csv", RATINGS + "1,1,4.0,964982703\n007,3,3.5,964981247\n")
    movies = file(
        "movies.csv",
        'movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n3,"Lion, The (1994)",(no genres listed)\n',
    )
    file("links.csv", "movieId,imdbId,tmdbId\n1,0114709,862\n3,,\n")
    done = take(interactions=ratings, items=movies)
    events, items = done.dataset.interactions(), done.dataset.items()
    assert events["user_id"].tolist() == ["1", "007"]
    assert events["rating"].tolist() == [4.0, 3.5]
    assert events["kind"].tolist() == ["rating", "rating"]
    assert seconds(done.dataset) == [964982703, 964981247]
    assert done.dataset.as_of == pd.Timestamp(964982703, unit="s", tz="UTC")
    assert items["title"].tolist() == ["Toy Story", "Lion, The"]
    assert items["year"].tolist() == [1995, 1994]
    assert [list(g) for g in items["genres"]] == [["Adventure", "Animation"], []]
    assert items["imdb_id"].tolist()[0] == "tt0114709"
    assert items["imdb_id"].isna().tolist() == [False, True]
    assert done.rejects is None


def test_movielens_dat_files_import_without_a_flag(file):
    films = "1193::Misérables, Les (1995)::Drama|Musical\n661::James: A (1996)::Children's\n"
    done = take(
        interactions=file("ratings.dat", "1::1193::5::978300760\n2::661::3::978302109\n"),
        items=file("movies.dat", films.encode("latin-1")),
        users=file("users.dat", "1::F::1::10::00501\n2::M::56::16::70072\n"),
    )
    assert done.dataset.interactions()["item_id"].tolist() == ["1193", "661"]
    assert done.dataset.items()["title"].tolist() == ["Misérables, Les", "James: A"]
    assert any("Latin-1" in note for note in done.dataset.notes)
    users = done.dataset.users()
    assert users["age_group"].tolist() == ["under 18", "56 and over"]
    assert users["occupation"].tolist() == ["K-12 student", "self-employed"]
    assert users["zip_code"].tolist() == ["00501", "70072"]


def test_movielens_100k_files_import_without_a_flag(file):
    flags = ["0"] * 19
    flags[3] = flags[5] = "1"
    done = take(
        interactions=file("u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n"),
        items=file("u.item", "|".join(["242", "Kolya (1996)", "24-Jan-1997", "", "http://a", *flags]) + "\n"),
        users=file("u.user", "196|49|M|writer|55105\n186|39|F|executive|00000\n"),
    )
    assert done.dataset.interactions()["user_id"].tolist() == ["196", "186"]
    item = done.dataset.items().iloc[0]
    assert (item["title"], item["year"], list(item["genres"])) == ("Kolya", 1996, ["Animation", "Comedy"])
    assert done.dataset.users()["age"].tolist() == [49, 39]
    assert done.dataset.users()["zip_code"].tolist() == ["55105", "00000"]


def test_a_folder_is_read_by_the_usual_names(file, tmp_path, capsys):
    file("ratings.csv", RATINGS + "1,1,4,964982703\n")
    file("movies.csv", "movieId,title,genres\n1,Heat,Crime\n")
    assert main(["import", "--name", "mine", "--from", str(tmp_path)]) == 0
    assert open_dataset("mine").rows == {"interactions": 1, "items": 1}
    assert "python -m recsys fit" in capsys.readouterr().out


@pytest.mark.parametrize("header", ["user_id,item_id,ts", "Member ID;Show ID;Watched At", "CustomerId\tasin\tdate"])
def test_common_column_names_are_guessed_in_any_dialect(file, header):
    delimiter = next(d for d in ",;\t" if d in header)
    row = delimiter.join(["a", "b", "2024-01-31"])
    events = take(interactions=file("log.csv", f"{header}\n{row}\n")).dataset.interactions()
    assert events.iloc[0][["user_id", "item_id"]].tolist() == ["a", "b"]
    assert events["timestamp"][0] == pd.Timestamp("2024-01-31", tz="UTC")
    assert events["kind"][0] == "watch"


def test_a_map_goes_before_the_guess_and_can_leave_a_column_out(file):
    path = file("log.csv", "user_id,who,item_id,ts,rating\na,b,c,2024-01-31,4\n")
    events = take(interactions=path, mapping="interactions.user_id=who,rating=").dataset.interactions()
    assert events["user_id"].tolist() == ["b"]
    assert events["rating"].isna().all()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["964982703", "964982704.5"], ["2000-07-30T18:45:03", "2000-07-30T18:45:04.5"]),
        (["964982703000", "964982703500"], ["2000-07-30T18:45:03", "2000-07-30T18:45:03.5"]),
        (["964982703000001", "964982703000002"], ["2000-07-30T18:45:03.000001", "2000-07-30T18:45:03.000002"]),
        (["964982703000000000"], ["2000-07-30T18:45:03"]),
        (["2000-07-30", "2001-07-30"], ["2000-07-30", "2001-07-30"]),
        (["2000-07-30 18:45:03", "2000-07-30T18:45"], ["2000-07-30T18:45:03", "2000-07-30T18:45"]),
        (["2000-07-30T18:45:03Z", "2000-07-30T18:45:03.250Z"], ["2000-07-30T18:45:03", "2000-07-30T18:45:03.25"]),
        (["2000-07-30T18:45:03+02:00", "2000-07-30 18:45:03"], ["2000-07-30T16:45:03", "2000-07-30T18:45:03"]),
        (["2000-07-30 18:45:03 UTC"], ["2000-07-30T18:45:03"]),
        (["2000-07-30T18:45:03.123456789Z"], ["2000-07-30T18:45:03.123456"]),
        (["20000730", "20010101"], ["2000-07-30", "2001-01-01"]),
    ],
)
def test_times_in_every_usual_writing(file, times, expected):
    content = "user,item,time\n" + "".join(f"u,i,{t}\n" for t in times)
    got = take(interactions=file("log.csv", content)).dataset.interactions()["timestamp"]
    assert got.tolist() == [pd.Timestamp(t, tz="UTC") for t in expected]


def test_a_time_format_reads_what_is_not_iso(file):
    path = file("log.csv", "user,item,time\nu,i,31/12/2019 23:10\nu,i,01/02/2020 00:00\n")
    with pytest.raises(UserError, match="--time-format"):
        take(interactions=path)
    events = take(interactions=path, time_format="%d/%m/%Y %H:%M").dataset.interactions()
    assert events["timestamp"].tolist() == [
        pd.Timestamp("2019-12-31 23:10", tz="UTC"),
        pd.Timestamp("2020-02-01", tz="UTC"),
    ]


def test_without_times_the_order_of_the_rows_is_the_time(file, capsys):
    path = file("log.csv", "user,item\nb,1\na,2\nb,3\n")
    assert main(["import", "--name", "mine", "--interactions", str(path)]) == 0
    assert "order of the rows" in capsys.readouterr().out
    dataset = open_dataset("mine")
    assert dataset.time_kind == "order"
    assert dataset.interactions()["timestamp"].is_monotonic_increasing
    assert dataset.interactions()["timestamp"].is_unique
    with pytest.raises(UserError, match="no real times"):
        dataset.require_calendar("forecasting")


def test_small_numbers_as_times_are_an_order_too(file):
    dataset = take(interactions=file("log.csv", "user,item,timestamp\nb,1,17\na,2,3\n")).dataset
    assert dataset.time_kind == "order"
    assert dataset.interactions()["timestamp"].is_monotonic_decreasing


def test_kinds_and_minutes_from_their_usual_spellings(file):
    content = (
        "user,item,ts,event_type,watch_seconds\nu,1,2024-01-01,Play,90\nu,2,2024-01-01,thumbs-up,\n"
        "u,3,2024-01-01,add_to_watchlist,\nu,4,2024-01-01,,30\n"
    )
    events = take(interactions=file("log.csv", content)).dataset.interactions()
    assert events["kind"].tolist() == ["watch", "thumb_up", "list_add", "watch"]
    assert events["minutes"].dropna().tolist() == [1.5, 0.5]


def test_reviews_keep_what_the_file_has(file):
    content = (
        "id,review,rating,sentiment,date\nr1,Great film,9.5,Positive,2024-01-01\n"
        'r2,"Dull, ""very"" dull\nand long",2,neg,\nr3,So so,,,2024-01-02\n'
    )
    reviews = take(reviews=file("my.reviews.csv", content)).dataset.reviews()
    assert reviews["review_id"].tolist() == ["r1", "r2", "r3"]
    assert reviews["text"][1] == 'Dull, "very" dull\nand long'
    assert reviews["label"].fillna("").tolist() == ["positive", "negative", ""]
    assert reviews["stars"].fillna(0).tolist() == [9.5, 2, 0]
    assert reviews["created_at"].isna().tolist() == [False, True, False]
    assert reviews["source"].tolist() == ["my"] * 3


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["0", "1"], ["negative", "positive"]),
        (["-1", "0", "1"], ["negative", "neutral", "positive"]),
        (["0", "1", "2"], ["negative", "neutral", "positive"]),
        (["0", "4"], ["negative", "positive"]),
        (["fresh", "ROTTEN"], ["positive", "negative"]),
    ],
)
def test_labels_in_words_and_numbers(file, values, labels):
    content = "text,label\n" + "".join(f"text {v},{v}\n" for v in values)
    reviews = take(reviews=file("reviews.csv", content)).dataset.reviews()
    assert reviews["label"].tolist() == labels
    assert reviews["review_id"].is_unique


def test_metrics_long_and_wide(file):
    long = file("usage.csv", "date,series,value\n2024-01-01,total,5\n2024-01-02,total,6.5\n")
    wide = file("wide.csv", "day,north,south\n2024-01-01,1,2\n2024-01-02,,4\n2024-01-03,x,6\n")
    dataset = take("long", metrics=long).dataset
    assert dataset.metrics()["value"].tolist() == [5, 6.5]
    assert dataset.as_of == pd.Timestamp("2024-01-02", tz="UTC")
    done = take("wide", metrics=wide, max_bad=0.5)
    assert sorted(done.dataset.metrics().set_index("series_id")["value"].items()) == [
        ("north", 1),
        ("south", 2),
        ("south", 4),
    ]
    assert rejects(done) == [(4, "north 'x' is not a finite number", "2024-01-03,x,6")]


@pytest.mark.parametrize(
    "value",
    ["A|B", "A, B", "A;B", '"[""A"", ""B""]"', "\"['A', 'B']\"", '"[{""id"": 1, ""name"": ""A""}, {""name"": ""B""}]"'],
)
def test_genres_in_every_usual_writing(file, value):
    value = f'"{value}"' if value == "A, B" else value
    items = take(items=file("items.csv", f"id,title,genres\n1,T,{value}\n")).dataset.items()
    assert list(items["genres"][0]) == ["A", "B"]


def test_ids_are_text_as_they_stand(file):
    ids = ["007", "7", "🎬", "'; drop table users; --", "x" * 1000, "NA", "null"]
    content = "user,item,ts\n" + "".join(f"{i},{i},2024-01-01\n" for i in ids)
    assert take(interactions=file("log.csv", content)).dataset.interactions()["item_id"].tolist() == ids


def test_parquet_types_are_understood(file, tmp_path):
    times = pd.to_datetime(["2024-01-01 10:00", "2024-01-02 11:30"])
    frame = pd.DataFrame({"userId": [1, 2], "item": [12.0, None], "time": times, "score": [4, 5]})
    frame["userId"] = frame["userId"].astype("category")
    frame.to_parquet(tmp_path / "log.parquet")
    events = take(interactions=tmp_path / "log.parquet").dataset.interactions()
    assert events["user_id"].tolist() == ["1", "2"]
    assert events["item_id"].fillna("-").tolist() == ["12", "-"]
    assert events["timestamp"].tolist() == [t.tz_localize("UTC") for t in times]
    assert events["rating"].tolist() == [4, 5]


def test_compressed_and_utf16_files_are_read(file):
    content = RATINGS + "é,1,4,964982703\r\n"
    zipped = take("zipped", interactions=file("a.csv.gz", gzip.compress(content.encode())))
    wide = take("wide", interactions=file("b.csv", content.encode("utf-16")))
    marked = take("marked", interactions=file("c.csv", content.encode("utf-8-sig")))
    for done in (zipped, wide, marked):
        assert done.dataset.interactions()["user_id"].tolist() == ["é"]


def test_the_clock_can_be_set_but_not_before_the_last_row(file):
    path = file("log.csv", "user,item,ts\nu,i,2024-01-31T18:00\n")
    assert take(interactions=path, as_of="2024-01-31").dataset.as_of.date().isoformat() == "2024-01-31"
    with pytest.raises(UserError, match="lies before the last row"):
        take("other", interactions=path, as_of="2024-01-30")
    with pytest.raises(UserError, match="is no date"):
        take("other", interactions=path, as_of="tomorrow-ish")


def test_ids_that_do_not_meet_are_told(file):
    done = take(
        interactions=file("log.csv", "user,item,ts\nu,tt1,2024-01-31\n"), items=file("items.csv", "id,title\n1,Heat\n")
    )
    assert "tt1" in done.warnings[0]
    assert "written alike" in done.warnings[0]
    assert done.warnings[0] in done.dataset.notes


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


# --- properties ---

IDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=20).filter(lambda t: t != "\\N")
EVENTS = st.lists(
    st.tuples(
        IDS,
        st.none() | IDS,
        st.integers(10**9, 4 * 10**9),
        st.none() | st.integers(-50, 50).map(lambda n: n / 4),
        st.none() | st.integers(0, 1000).map(float),
        st.sampled_from(["rating", "watch", "thumb_up", "click"]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, as_parquet=st.booleans(), delimiter=st.sampled_from([",", ";", "\t", "|"]))
def test_what_goes_in_comes_out(file, tmp_path, monkeypatch, events, as_parquet, delimiter):
    monkeypatch.setattr(csvfile, "_BLOCK_BYTES", 256)
    columns = ["user_id", "item_id", "timestamp", "rating", "minutes", "kind"]
    frame = pd.DataFrame(events, columns=columns)
    if as_parquet:
        path = tmp_path / "log.parquet"
        # pa.string() for a column of nulls, which pandas would write without a type.
        arrow = pa.schema([(c, pa.string()) for c in columns[:2]] + [("timestamp", pa.int64())])
        for name in ("rating", "minutes"):
            arrow = arrow.append(pa.field(name, pa.float64()))
        pq.write_table(pa.Table.from_pandas(frame, schema=arrow.append(pa.field("kind", pa.string()))), path)
    else:
        path = tmp_path / "log.csv"
        frame.to_csv(path, index=False, sep=delimiter, quoting=csv.QUOTE_NONNUMERIC)
    got = take(interactions=path, replace=True).dataset.interactions()
    assert got["user_id"].tolist() == frame["user_id"].tolist()
    assert got["item_id"].astype(object).where(got["item_id"].notna(), None).tolist() == frame["item_id"].tolist()
    assert (got["timestamp"].astype("int64") // 10**6).tolist() == frame["timestamp"].tolist()
    for name in ("rating", "minutes"):
        assert got[name].astype(float).fillna(-999).tolist() == frame[name].astype(float).fillna(-999).tolist()
    assert got["kind"].tolist() == frame["kind"].tolist()


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
    assert [p.name for p in (home / "tables").iterdir()] == ["mine"]


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
