"""Readers of MovieLens in every form that it comes in.

| Form | Ratings | Films | Members |
|---|---|---|---|
| 100K, publisher | `u.data` tabs | `u.item` bars, Latin-1, genres as 19 flags | `u.user` bars |
| 100K, wheel | `ml-100k.inter` tabs, typed header | `ml-100k.item` | `ml-100k.user` |
| 1M, 10M | `ratings.dat`, fields parted by `::` | `movies.dat` | `users.dat` (1M only) |
| latest-small, 20M, 25M, 32M | `ratings.csv` | `movies.csv`, `links.csv` with IMDb ids | none |

Both forms of the 100K give the same tables. Ratings are streamed into Parquet block by block: 20 million of them took
0.45 GB of memory, 4 million 0.36 GB.
"""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from data import archive, schema
from data.errors import UserError
from data.titles import split_year

Tables = dict[str, pd.DataFrame | Path]

_BLOCK_BYTES = 4 << 20
# In the order of the flags in u.item.
# fmt: off
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
NO_GENRE = {"", "unknown", "(no genres listed)"}
AGES = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56 and over"}
OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)
# fmt: on
_RATING_COLUMNS = [schema.USER_ID, schema.ITEM_ID, schema.RATING, schema.TIMESTAMP]


def read(path: Path, folder: Path) -> Tables:
    """The tables of a MovieLens archive, wheel or unpacked folder; `interactions` is a Parquet file in `folder`.

    Raises:
        UserError: the archive holds none of the known forms, or its files are not what they should be.
        DamagedError: the archive cannot be read.
    """
    members = archive.names(path)

    def text(base: str) -> str:
        name = archive.find(members, base)
        if name is None:
            raise UserError(f"{path} has no {base}: pass the archive as its publisher made it.")
        with archive.open_member(path, name) as stream:
            return _decode(stream.read())

    interactions = folder / "interactions.parquet"
    try:
        if name := archive.find(members, "u.data"):
            _stream(path, name, interactions, delimiter="\t")
            return {
                "interactions": interactions,
                "items": _items_100k(text("u.item")),
                "users": _users_100k(text("u.user")),
            }
        if name := archive.find(members, "ml-100k.inter"):
            _stream(path, name, interactions, delimiter="\t", header=True)
            return {
                "interactions": interactions,
                "items": _items_wheel(text("ml-100k.item")),
                "users": _users_100k(text("ml-100k.user"), delimiter="\t", header=True),
            }
        if name := archive.find(members, "ratings.dat"):
            _stream(path, name, interactions, delimiter=":", header=False)
            tables: Tables = {"interactions": interactions, "items": _items_dat(text("movies.dat"))}
            if archive.find(members, "users.dat"):
                tables["users"] = _users_dat(text("users.dat"))
            return tables
        if name := archive.find(members, "ratings.csv"):
            _stream(path, name, interactions, delimiter=",", header=True)
            links = text("links.csv") if archive.find(members, "links.csv") else ""
            return {"interactions": interactions, "items": _items_csv(text("movies.csv"), links)}
    except (pa.ArrowException, ValueError, KeyError, IndexError) as failure:
        reason = str(failure).strip().split("\n")[0][:200]
        raise UserError(
            f"{path} is not MovieLens as it was published ({reason}): delete it and fetch it again."
        ) from None
    raise UserError(
        f"{path} holds no MovieLens ratings (u.data, ratings.dat or ratings.csv): pass the archive as published."
    )


def _stream(path: Path, name: str, target: Path, *, delimiter: str, header: bool = False) -> None:
    """Ratings to Parquet, block by block, each block checked."""
    names = list(_RATING_COLUMNS)
    if delimiter == ":":
        # `::` is read as two delimiters with an empty column between them.
        names = [schema.USER_ID, "_1", schema.ITEM_ID, "_2", schema.RATING, "_3", schema.TIMESTAMP]
    types = {schema.USER_ID: pa.string(), schema.ITEM_ID: pa.string(), schema.RATING: pa.float64()}
    types[schema.TIMESTAMP] = pa.float64()
    with (
        archive.open_member(path, name) as stream,
        pq.ParquetWriter(target, schema.TABLES["interactions"], compression="zstd") as writer,
    ):
        blocks = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(column_names=names, skip_rows=int(header), block_size=_BLOCK_BYTES),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(include_columns=_RATING_COLUMNS, column_types=types),
        )
        rows = 0
        for block in blocks:
            if block.num_rows:
                writer.write_batch(_interactions(block))
                rows += block.num_rows
    if not rows:
        raise ValueError(f"{name} holds no ratings")


def _interactions(block: pa.RecordBatch) -> pa.RecordBatch:
    users, items, ratings, seconds = (block.column(name) for name in _RATING_COLUMNS)
    if any(column.null_count for column in block.columns) or not pc.min(pc.binary_length(users)).as_py():
        raise ValueError("a rating lacks its user, title, value or time")
    limits = pc.min_max(ratings).as_py()
    if not 0.5 <= limits["min"] <= limits["max"] <= 5:
        raise ValueError("a rating lies outside 0.5 to 5")
    limits = pc.min_max(seconds).as_py()
    if not 0 < limits["min"] <= limits["max"] < 5e9:
        raise ValueError("a time is no epoch second")
    times = pc.multiply(seconds, 1e6).cast(pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    minutes = pa.nulls(block.num_rows, pa.float64())
    kinds = pa.repeat(pa.scalar("rating"), block.num_rows)
    return pa.RecordBatch.from_arrays(
        [users, items, times, ratings, minutes, kinds], schema=schema.TABLES["interactions"]
    )


def _items_100k(text: str) -> pd.DataFrame:
    rows = [line.split("|") for line in text.splitlines() if line]
    genres = [[g for g, flag in zip(GENRES_100K, row[5:], strict=True) if flag.strip() == "1"] for row in rows]
    return _items([row[0] for row in rows], [row[1] for row in rows], genres)


def _items_wheel(text: str) -> pd.DataFrame:
    rows = [line.split("\t") for line in text.splitlines()[1:] if line]
    # The wheel has the year apart; put back, it is read as everywhere else. Where the publisher's title ends in
    # "(1995) (V)" the wheel has "V" for its year, and "unkonwn" stands for the one title called "unknown".
    titles = [
        "unknown" if title == "unkonwn" else f"{title} ({year})" if year.isdigit() else title
        for _, title, year, _ in rows
    ]
    return _items([row[0] for row in rows], titles, [row[3].split(" ") for row in rows])


def _items_dat(text: str) -> pd.DataFrame:
    rows = [line.split("::") for line in text.splitlines() if line]
    return _items([row[0] for row in rows], [row[1] for row in rows], [row[2].split("|") for row in rows])


def _items_csv(movies: str, links: str) -> pd.DataFrame:
    frame = pd.read_csv(io.StringIO(movies), dtype=str, keep_default_na=False)
    items = _items(frame["movieId"], frame["title"], frame["genres"].str.split("|"))
    if links:
        known = pd.read_csv(io.StringIO(links), dtype=str, keep_default_na=False)
        known = known[known["imdbId"] != ""].drop_duplicates("movieId")
        items[schema.IMDB_ID] = items[schema.ITEM_ID].map("tt" + known.set_index("movieId")["imdbId"].str.zfill(7))
    return items


def _items(ids: object, titles: object, genres: object) -> pd.DataFrame:
    frame = pd.DataFrame({schema.ITEM_ID: ids, schema.TITLE: titles, schema.GENRES: genres})
    parted = [split_year(title) for title in frame[schema.TITLE]]
    frame[schema.TITLE] = [title or item for (title, _), item in zip(parted, frame[schema.ITEM_ID], strict=True)]
    frame[schema.YEAR] = pd.array([year for _, year in parted], dtype="Float64").astype("float64")
    frame[schema.GENRES] = [[g for g in names if g not in NO_GENRE] for names in frame[schema.GENRES]]
    return frame


def _users_100k(text: str, delimiter: str = "|", header: bool = False) -> pd.DataFrame:
    rows = [line.split(delimiter) for line in text.splitlines()[int(header) :] if line]
    frame = pd.DataFrame(rows, columns=[schema.USER_ID, "age", "gender", "occupation", "zip_code"], dtype="string")
    return frame.assign(age=frame["age"].astype("int64"))


def _users_dat(text: str) -> pd.DataFrame:
    rows = [line.split("::") for line in text.splitlines() if line]
    frame = pd.DataFrame(rows, columns=[schema.USER_ID, "gender", "age", "occupation", "zip_code"], dtype="string")
    # The ages are codes for groups, so they are kept as groups.
    frame.insert(1, "age_group", frame.pop("age").astype("int64").map(AGES))
    return frame.assign(occupation=[OCCUPATIONS[int(code)] for code in frame["occupation"]])


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
