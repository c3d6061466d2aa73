"""Importing the user's own files: what is kept of every dialect, and how it is understood."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_files import RATINGS, rejects, take, write

from data import csvfile
from data.__main__ import main
from data.dataset import Dataset, open_dataset
from data.errors import UserError


@pytest.fixture
def file(tmp_path: Path, marquee_home: Path) -> Callable[..., Path]:
    """Write a file and return its path."""
    return lambda name, content: write(tmp_path / name, content)


def seconds(dataset: Dataset) -> list[int]:
    return [int(t.timestamp()) for t in dataset.interactions()["timestamp"]]


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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text('ab ,;"\n🎬é', min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=30))
def test_texts_with_quotes_and_line_breaks_come_out_whole(file, monkeypatch, texts):
    monkeypatch.setattr(csvfile, "_BLOCK_BYTES", 100)
    path = file("reviews.csv", "")
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["review_id", "text", "created_at"])
        writer.writerows([str(n), text, "2024-01-01"] for n, text in enumerate(texts))
    done = take(reviews=path, replace=True)
    assert done.dataset.reviews()["text"].tolist() == [text.strip() for text in texts]
    assert not rejects(done)
