"""Which column of a user's file is which column of ours.

Names are compared without case and separators (`movieId` = `movie_id` = `Movie ID`). For each field the first name of
its list below that the file has is taken; a column is taken once, by the first field that wants it. `--map` goes
before every guess. The MovieLens files without a header are known by their shape.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from data import movielens, schema
from data.errors import UserError
from data.schema import (
    CREATED_AT,
    DATE,
    GENRES,
    IMDB_ID,
    ITEM_ID,
    KIND,
    LABEL,
    MINUTES,
    RATING,
    REVIEW_ID,
    SERIES_ID,
    SOURCE,
    STARS,
    TEXT,
    TIMESTAMP,
    TITLE,
    USER_ID,
    VALUE,
    YEAR,
)
from data.tablefile import TYPE_SUFFIX, TableFile, normalise

_USER = (
    "userid user memberid member customerid customer accountid account subscriberid subscriber viewerid viewer "
    "profileid profile reviewerid uid username clientid visitorid personid"
)
_ITEM = (
    "itemid item movieid movie titleid filmid film showid show contentid content productid product videoid video "
    "assetid asin programid seriesid trackid bookid iid mid"
)
_TIME = (
    "timestamp ts unixtimestamp unixtime epoch datetime eventtimestamp eventtime createdat watchedat ratedat "
    "startedat viewedat occurredat unixreviewtime createdon created date time day watchdate"
)
_CREATED = "createdat created createdon timestamp ts datetime unixreviewtime unixtime reviewedat reviewdate date time"
# Fields are served in this order, and the names of a field in theirs.
_SYNONYMS = {
    "interactions": {
        USER_ID: _USER,
        ITEM_ID: _ITEM + " title movietitle",
        TIMESTAMP: _TIME,
        RATING: "rating score stars star overall value userrating rate",
        MINUTES: (
            "minutes minuteswatched watchedminutes watchminutes durationminutes durationmin watchtimeminutes "
            "watchtimemin minuteswatch playminutes seconds secondswatched watchedseconds watchseconds durationseconds "
            "durationsec watchtimeseconds watchtimesec hours hourswatched watchhours durationhours watchtimehours "
            "watchtime watchduration viewtime viewduration viewingtime playtime playduration duration"
        ),
        KIND: "kind eventtype event interactiontype interaction action actiontype type",
    },
    "items": {
        ITEM_ID: _ITEM + " id",
        TITLE: "title movietitle itemtitle titlename primarytitle name movie film show originaltitle itemname",
        YEAR: "year releaseyear movieyear startyear productionyear releasedate released",
        GENRES: "genres genre class categories category listedin",
        IMDB_ID: "imdbid imdb tconst imdbtitleid",
    },
    "users": {USER_ID: _USER + " id"},
    "reviews": {
        REVIEW_ID: "reviewid commentid id",
        TEXT: "text reviewtext review reviewbody body comment comments content message sentence reviewcontent",
        ITEM_ID: _ITEM.replace(" content", ""),
        USER_ID: _USER + " author",
        STARS: "stars star rating score overall starrating userrating reviewscore reviewrating",
        LABEL: "label sentiment polarity class target",
        CREATED_AT: _CREATED,
        SOURCE: "source origin channel platform",
    },
    "metrics": {
        DATE: "date day ds timestamp datetime week weekstart weekstarting month time ts period",
        SERIES_ID: "seriesid series metric metricname name uniqueid item key",
        VALUE: "value y count amount total minutes hours views quantity number",
    },
}
SYNONYMS = {table: {name: tuple(text.split()) for name, text in fields.items()} for table, fields in _SYNONYMS.items()}
KNOWN = frozenset(
    {name for fields in SYNONYMS.values() for names in fields.values() for name in names}
    | {normalise(name) for table in schema.TABLES.values() for name in table.names}
)

# MovieLens' files without a header: (table, delimiter, number of fields) -> columns.
_MOVIELENS = {
    ("interactions", "::", 4): (USER_ID, ITEM_ID, RATING, TIMESTAMP),
    ("interactions", "\t", 4): (USER_ID, ITEM_ID, RATING, TIMESTAMP),
    ("items", "::", 3): (ITEM_ID, TITLE, GENRES),
    ("items", "|", 24): (ITEM_ID, TITLE, "released_here", "video_released", "imdb_url", *movielens.GENRES_100K),
    ("users", "::", 5): (USER_ID, "gender", "age_code", "occupation_code", "zip_code"),
    ("users", "|", 5): (USER_ID, "age", "gender", "occupation", "zip_code"),
}

# Without these there is no table; what else is missing in a file stays empty.
REQUIRED = {
    "interactions": (USER_ID,),
    "items": (ITEM_ID, TITLE),
    "users": (USER_ID,),
    "reviews": (TEXT,),
    "metrics": (DATE, VALUE),
}

Mapping_ = Mapping[str, str]


@dataclass(frozen=True)
class Choice:
    """The columns of a file that are used: position by field; `flags` are genre columns of zeros and ones by name."""

    fields: dict[str, int]
    names: tuple[str, ...]
    flags: dict[str, int] = field(default_factory=dict)
    wide: dict[str, int] = field(default_factory=dict)  # metrics with one column for each series
    further: dict[str, int] = field(default_factory=dict)  # what else a users table holds

    @property
    def needed(self) -> list[int]:
        parts = (self.fields, self.flags, self.wide, self.further)
        return sorted({position for part in parts for position in part.values()})

    def missing(self, table: str) -> list[str]:
        """The required columns of `table` that were not found; metrics need no value where each series has a column."""
        return [name for name in REQUIRED[table] if name not in self.fields and not (name == VALUE and self.wide)]

    def described(self) -> str:
        """Which column was taken for what, for the reader."""
        taken = [
            name if self.names[position] == name else f"{name} from {self.names[position] or 'the nameless column'}"
            for name, position in self.fields.items()
        ]
        if self.flags:
            taken.append(f"{GENRES} from {len(self.flags)} columns")
        if self.wide:
            taken.append(f"a series from each of {', '.join(self.wide)}")
        return ", ".join(taken)

    def unused(self) -> list[str]:
        used = set(self.needed)
        return [name for position, name in enumerate(self.names) if position not in used]


def parse_map(texts: Sequence[str]) -> dict[str, str]:
    """`["user_id=userId,items.title=name"]` as a dict; a column's name may hold commas.

    Raises:
        UserError: a part has no `=`, or its left side is no column of ours.
    """
    mapping: dict[str, str] = {}
    for text in texts:
        for part in re.split(r",(?=\s*[A-Za-z_.]+\s*=)", text):
            if not part.strip():
                continue
            left, equals, right = part.partition("=")
            name = left.strip()
            table, _, column = name.rpartition(".")
            if not equals or (table and table not in SYNONYMS):
                raise UserError(
                    f"--map {part.strip()!r} is not understood: write COLUMN=YOURS such as user_id=userId, or "
                    "items.title=name for one table alone."
                )
            tables = [table] if table else list(SYNONYMS)
            if not any(column in SYNONYMS[t] for t in tables):
                known = dict.fromkeys(c for t in tables for c in SYNONYMS[t])
                raise UserError(f"--map names '{name}', which is no column of ours: use one of {', '.join(known)}.")
            if mapping.get(name, right.strip()) != right.strip():
                raise UserError(f"--map gives '{name}' twice: leave one of them out.")
            mapping[name] = right.strip()
    return mapping


def check_map(files: Mapping[str, TableFile], mapping: Mapping_) -> None:
    """Refuse a mapping whose column is in none of the files that it is for.

    Raises:
        UserError: the sentence names the columns that were found.
    """
    for name, column in mapping.items():
        table, _, wanted = name.rpartition(".")
        concerned = {t: f for t, f in files.items() if wanted in SYNONYMS[t] and table in ("", t)}
        if not concerned:
            flags = " or ".join(f"--{t}" for t in SYNONYMS if wanted in SYNONYMS[t] and table in ("", t))
            raise UserError(f"--map names '{name}', but no file has it: add {flags}, or leave it out.")
        if column and not any(column in file.columns for file in concerned.values()):
            found = "; ".join(f"{f.path.name} has {', '.join(f.columns[:40])}" for f in concerned.values())
            raise UserError(f"--map {name}={column}: there is no column '{column}' ({found}): name one of these.")


def choose(table: str, file: TableFile, mapping: Mapping_) -> Choice:
    """Find the columns of `table` in `file`.

    Args:
        mapping: field (or `table.field`) to the file's column; an empty column means that the field is left out.

    Raises:
        UserError: a required column is not found; the sentence names those that are there.
    """
    choice = guess(table, file, mapping)
    if missing := choice.missing(table):
        _refuse_missing(table, file, missing)
    return choice


def guess(table: str, file: TableFile, mapping: Mapping_) -> Choice:
    """What `choose` finds, whether or not all required columns are there (see `Choice.missing`)."""
    names = file.columns
    if not file.has_header and (shape := _movielens_shape(table, file)):
        names = shape
        if "a MovieLens file" not in " ".join(file.notes):
            file.notes.append("read as a MovieLens file without a header")
    fields: dict[str, int] = {}
    left_out = set()
    for name in SYNONYMS[table]:
        column = mapping.get(f"{table}.{name}", mapping.get(name))
        if column == "":
            left_out.add(name)
        elif column is not None and column in file.columns:
            fields[name] = file.columns.index(column)
    folded = [normalise(column) for column in names]
    for name, candidates in SYNONYMS[table].items():
        if name in fields or name in left_out:
            continue
        free = [i for i in range(len(names)) if i not in fields.values()]
        # Our own spelling goes first, then the list's order; of equals, the leftmost.
        wanted = [i for i in free if names[i] == name]
        wanted += [i for candidate in (normalise(name), *candidates) for i in free if folded[i] == candidate]
        if wanted:
            fields[name] = wanted[0]
    fields = {name: fields[name] for name in SYNONYMS[table] if name in fields}
    others = {names[i]: i for i in range(len(names)) if i not in fields.values()}
    flags = {g: i for g, i in others.items() if g in movielens.GENRES_100K} if names is not file.columns else {}
    wide: dict[str, int] = {}
    if table == "metrics" and VALUE not in fields and SERIES_ID not in fields:
        wide = {name: i for name, i in others.items() if name}
    further = {re.sub(TYPE_SUFFIX, "", name): i for name, i in others.items()} if table == "users" else {}
    return Choice(fields, tuple(names), flags, wide, further)


def _movielens_shape(table: str, file: TableFile) -> tuple[str, ...] | None:
    shape = _MOVIELENS.get((table, file.delimiter, len(file.first_row)))
    if table == "interactions" and not all(re.fullmatch(r"\d+(\.\d+)?", value) for value in file.first_row):
        return None
    return shape


def _refuse_missing(table: str, file: TableFile, missing: Sequence[str]) -> NoReturn:
    if not file.has_header:
        first = ", ".join(file.first_row[:8])
        raise UserError(
            f"{file.path} seems to have no header line (it begins with {first[:200]}): add one, or give the columns by "
            f"number with --map {missing[0]}=1."
        )
    found = ", ".join(name or "''" for name in file.columns[:40])
    raise UserError(
        f"{file.path} has no column for {' and '.join(missing)} (found: {found[:1000]}): name it with --map "
        f"{table}.{missing[0]}=COLUMN."
    )
