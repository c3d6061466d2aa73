"""Column names, types and rules of every table. Nothing else in Marquee spells a column's type.

Each table has a pandera schema (the rules, for frames) and a pyarrow schema (the types on disk). Every column of a
table is always there: an optional one that the source lacks is null. Ids are strings; contiguous integers exist only
inside a datamodule. Timestamps are microseconds in UTC.
"""

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import UserError

if TYPE_CHECKING:
    import pandera.pandas as pandera

USER_ID, ITEM_ID, TIMESTAMP, RATING, MINUTES, KIND = "user_id", "item_id", "timestamp", "rating", "minutes", "kind"
TITLE, YEAR, GENRES, IMDB_ID = "title", "year", "genres", "imdb_id"
REVIEW_ID, TEXT, STARS, LABEL, CREATED_AT, SOURCE = "review_id", "text", "stars", "label", "created_at", "source"
SERIES_ID, DATE, VALUE = "series_id", "date", "value"

KINDS = ("rating", "watch", "thumb_up", "thumb_down", "list_add", "list_remove", "click", "impression")
LABELS = ("negative", "neutral", "positive")

# What Arrow raises of a Parquet file that is damaged or gone; the last: of a name in its schema.
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)

_STRING, _FLOAT, _TIME = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
_STRINGS = pa.list_(pa.string())

TABLES: dict[str, pa.Schema] = {
    "interactions": pa.schema(
        [
            pa.field(USER_ID, _STRING, nullable=False),
            pa.field(ITEM_ID, _STRING),
            pa.field(TIMESTAMP, _TIME, nullable=False),
            pa.field(RATING, _FLOAT),
            pa.field(MINUTES, _FLOAT),
            pa.field(KIND, _STRING, nullable=False),
        ]
    ),
    "items": pa.schema(
        [
            pa.field(ITEM_ID, _STRING, nullable=False),
            pa.field(TITLE, _STRING, nullable=False),
            pa.field(YEAR, _FLOAT),
            pa.field(GENRES, _STRINGS),
            pa.field(IMDB_ID, _STRING),
        ]
    ),
    "users": pa.schema([pa.field(USER_ID, _STRING, nullable=False)]),
    "reviews": pa.schema(
        [
            pa.field(REVIEW_ID, _STRING, nullable=False),
            pa.field(TEXT, _STRING, nullable=False),
            pa.field(ITEM_ID, _STRING),
            pa.field(USER_ID, _STRING),
            pa.field(STARS, _FLOAT),
            pa.field(LABEL, _STRING),
            pa.field(CREATED_AT, _TIME),
            pa.field(SOURCE, _STRING),
        ]
    ),
    "metrics": pa.schema(
        [
            pa.field(SERIES_ID, _STRING, nullable=False),
            pa.field(DATE, _TIME, nullable=False),
            pa.field(VALUE, _FLOAT, nullable=False),
        ]
    ),
}

ASPECTS = pa.list_(pa.struct([("aspect", _STRING), ("p_positive", _FLOAT), ("start", pa.int64()), ("end", pa.int64())]))
_DRIVERS = pa.list_(pa.struct([(SERIES_ID, _STRING), ("surplus", _FLOAT)]))

SIGNED = "marquee.service"  # in the metadata of review_scores: the name that the drafts are signed with

SCORES: dict[str, pa.Schema] = {
    "recommendations": pa.schema(
        [
            (USER_ID, _STRING),
            ("rank", pa.int32()),
            (ITEM_ID, _STRING),
            ("score", _FLOAT),
            ("reason_item_id", _STRING),
            ("reason_share", _FLOAT),
            ("run_id", _STRING),
        ]
    ),
    "review_scores": pa.schema(
        [
            (REVIEW_ID, _STRING),
            (LABEL, _STRING),
            ("p_positive", _FLOAT),
            ("aspects", ASPECTS),
            (ITEM_ID, _STRING),
            ("link_confidence", _FLOAT),
            ("priority", _FLOAT),
            ("reply_draft", _STRING),
            ("run_id", _STRING),
        ]
    ),
    "engagement_forecast": pa.schema(
        [
            (SERIES_ID, _STRING),
            (DATE, _TIME),
            *[(name, _FLOAT) for name in ("q05", "q25", "q50", "q75", "q95", "mean")],
            ("run_id", _STRING),
        ]
    ),
    "unusual": pa.schema(
        [
            (SERIES_ID, _STRING),
            (DATE, _TIME),
            *[(name, _FLOAT) for name in ("value", "q05", "q50", "q95", "mean", "once_in")],
            ("rarity", _STRING),
            *[(name, _DRIVERS) for name in ("genres", "titles")],
            ("run_id", _STRING),
        ]
    ),
    "retention": pa.schema(
        [
            (USER_ID, _STRING),
            ("p_return", _FLOAT),
            ("horizon_days", pa.int32()),
            ("band", _STRING),
            ("days_since_last", _FLOAT),
            ("top_reason", _STRING),
            ("run_id", _STRING),
            ("reason_effect", _FLOAT),  # what the chance would change by, were the reason as with those who come back
            ("expected_days", _FLOAT),  # to the next visit, longer absences counted as three horizons
            ("usual_visits", _FLOAT),  # active days in horizon_days, between the first and the last one
            ("p_return_before", _FLOAT),  # p_return a week before the clock, by what was known then; NaN: not here yet
        ]
    ),
}

# Columns of score tables that others may write without.
OPTIONAL = {"retention": ("reason_effect", "expected_days", "usual_visits", "p_return_before")}

# What names a row: no two rows of a table have it in common.
KEYS: dict[str, tuple[str, ...]] = {
    "interactions": (),
    "items": (ITEM_ID,),
    "users": (USER_ID,),
    "reviews": (REVIEW_ID,),
    "metrics": (SERIES_ID, DATE),
}

# What the values of a column must be, where there is one.
_SMALLER = {RATING: 1e6, VALUE: 1e15}  # than this, without the sign
_BETWEEN: dict[str, tuple[float, float]] = {MINUTES: (0, 60 * 24 * 366), YEAR: (1800, 2200)}
_TIMES_BETWEEN = pd.Timestamp("1900-01-01", tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")
_ONE_OF = {KIND: KINDS, LABEL: LABELS}
_LENGTHS = dict.fromkeys((USER_ID, ITEM_ID, REVIEW_ID, SERIES_ID), (1, 1000))
_NOT_EMPTY = (TITLE, TEXT)


@cache
def rules(table: str, coerce: bool = True) -> "pandera.DataFrameSchema":
    """The pandera schema of `table`. Imported late: the dashboard's first paint does not need pandera.

    Args:
        coerce: whether values are brought to the column's type first; otherwise they must have it.
    """
    import pandera.pandas as pandera

    text = pd.StringDtype("pyarrow")
    time = pd.DatetimeTZDtype("us", "UTC")
    checks: dict[str, list[Any]] = {
        **{
            name: [pandera.Check(lambda s, limit=limit: s.abs() < limit, error=f"{name} must be a finite number")]
            for name, limit in _SMALLER.items()
        },
        MINUTES: [pandera.Check.in_range(*_BETWEEN[MINUTES], error="minutes must lie between 0 and a year")],
        YEAR: [pandera.Check.in_range(*_BETWEEN[YEAR], error="year must lie between 1800 and 2200")],
        **{
            name: [pandera.Check.isin(words, error=f"{name} must be one of {', '.join(words)}")]
            for name, words in _ONE_OF.items()
        },
        **{
            name: [pandera.Check(lambda s: s.between(*_TIMES_BETWEEN), error=f"{name} must lie between 1900 and 2200")]
            for name in (TIMESTAMP, CREATED_AT, DATE)
        },
        **{
            name: [pandera.Check.str_length(*_LENGTHS[name], error=f"{name} must have 1 to 1,000 characters")]
            for name in _LENGTHS
        },
        **{name: [pandera.Check.str_length(min_value=1, error=f"{name} must not be empty")] for name in _NOT_EMPTY},
    }

    def column(field: pa.Field) -> "pandera.Column":
        if pa.types.is_list(field.type):
            dtype: Any = object
        else:
            dtype = text if field.type == _STRING else time if field.type == _TIME else "float64"
        return pandera.Column(
            dtype,
            checks=checks.get(field.name),
            nullable=field.nullable,
            coerce=coerce and dtype is not object,
        )

    return pandera.DataFrameSchema(
        {field.name: column(field) for field in TABLES[table]},
        strict=False if table == "users" else "filter",
        unique=list(KEYS[table]) or None,
        add_missing_columns=False,
        name=table,
    )


def complete(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with every column of `table`: a missing optional one is null, a missing `kind` is `rating`.

    Raises:
        UserError: a required column is missing; the sentence names it and those that are there.
    """
    frame = frame.copy(deep=False)
    for field in TABLES[table]:
        if field.name in frame:
            continue
        if field.name == KIND:
            frame[KIND] = "rating"
        elif not field.nullable:
            raise UserError(
                f"The {table} table has no column '{field.name}' (found: {', '.join(map(str, frame.columns))}): "
                f"name the column that holds it with --map {field.name}=COLUMN."
            )
        elif pa.types.is_list(field.type):
            frame[field.name] = [[] for _ in range(len(frame))]
        else:
            dtype: Any = {_FLOAT: "float64", _TIME: "datetime64[us, UTC]"}.get(field.type, "string[pyarrow]")
            frame[field.name] = pd.Series(None, index=frame.index, dtype=dtype)
    known = [field.name for field in TABLES[table]]
    return frame[known + [c for c in frame.columns if c not in known]] if table == "users" else frame[known]


def _has_types(table: str, frame: pd.DataFrame) -> bool:
    """Whether nothing need be coerced: for times pandera does it value by value, at more cost than all its checks."""
    dtypes: dict[Any, Any] = {
        _STRING: pd.StringDtype("pyarrow"),
        _TIME: pd.DatetimeTZDtype("us", "UTC"),
        _FLOAT: "float64",
        _STRINGS: object,
    }
    return all(frame[field.name].dtype == dtypes[field.type] for field in TABLES[table])


def is_sound(table: str, rows: pa.Table) -> bool:
    """Whether all rows keep the rules, but for ids that occur twice: in a tenth of the time that `failures` takes.

    Args:
        table: one of `TABLES`.
        rows: with the columns and types of the table; text may be dictionary-encoded.
    """
    return all(_is_sound(field, rows[field.name]) for field in TABLES[table])


def _is_sound_frame(table: str, frame: pd.DataFrame) -> bool:
    """The same of a frame that has the table's types, and no id in it occurs twice."""
    if KEYS[table] and frame.duplicated(list(KEYS[table])).any():
        return False
    fields = [field for field in TABLES[table] if field.type != _STRINGS]  # of which nothing is asked
    rows = pa.Table.from_pandas(frame[[field.name for field in fields]], preserve_index=False, nthreads=1)
    return all(_is_sound(field, rows[field.name]) for field in fields)


def _is_sound(field: pa.Field, column: pa.ChunkedArray) -> bool:
    if column.null_count == len(column):
        return field.nullable or not len(column)
    if column.null_count and not field.nullable:
        return False
    name, kind = field.name, field.type
    if kind == _STRINGS:
        return True
    if kind == _STRING:
        if pa.types.is_dictionary(column.type):
            column = pa.chunked_array([chunk.dictionary for chunk in column.chunks])
        if name in _ONE_OF:
            return bool(pc.all(pc.is_in(column.drop_null(), pa.array(_ONE_OF[name], column.type))).as_py())
        lengths = pc.min_max(pc.binary_length(column)).as_py()  # bytes: at least as many as characters
        shortest, longest = _LENGTHS.get(name, (int(name in _NOT_EMPTY), np.inf))
        return bool(shortest <= lengths["min"] and lengths["max"] <= longest)
    if kind == _TIME:
        ends = pc.min_max(column.cast(pa.int64())).as_py()  # microseconds: not all of them are a datetime
        first, last = (time.value // 1_000 for time in _TIMES_BETWEEN)
        return bool(first <= ends["min"] and ends["max"] <= last)
    ends = pc.min_max(column).as_py()
    if not field.nullable and pc.any(pc.is_nan(column)).as_py():
        return False
    limit = _SMALLER.get(name, np.inf)
    least, most = _BETWEEN.get(name, (-np.inf, np.inf))
    return bool(-limit < ends["min"] and ends["max"] < limit and least <= ends["min"] and ends["max"] <= most)


def failures(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Every broken rule as a row, in the order of the rows.

    `row` is the position in `frame` (-1 when a whole column is at fault), `is_duplicate` whether what names the row
    was there before. Empty when `frame` is sound. `frame` must be complete (see `complete`).
    """
    import pandera.errors

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # pandas', about how pandera puts its findings together
            rules(table, not _has_types(table, frame)).validate(frame.reset_index(drop=True), lazy=True)
    except pandera.errors.SchemaErrors as problems:
        cases = problems.failure_cases
        column, check = cases["column"].astype(str), cases["check"].astype(str)
        is_duplicate = check == "multiple_fields_uniqueness"
        reason = check.where(check != "not_nullable", column + " is missing")
        reason = reason.where(~is_duplicate, " and ".join(KEYS[table]) + " occurs more than once")
        reason = reason.where(~check.str.startswith(("dtype", "coerce_dtype")), column + " has the wrong type")
        row = pd.to_numeric(cases["index"], errors="coerce").fillna(-1).astype("int64")
        found = pd.DataFrame({"row": row, "column": column, "reason": reason, "is_duplicate": is_duplicate})
        # A key of two columns is reported once for each of them.
        found = found[~(is_duplicate & found.duplicated(["row", "is_duplicate"]))]
        return found.sort_values("row", kind="stable", ignore_index=True)
    nothing = pd.DataFrame({"row": [], "column": [], "reason": [], "is_duplicate": []})
    return nothing.astype({"row": "int64", "is_duplicate": bool})


def validate(table: str, frame: pd.DataFrame, where: str = "") -> pd.DataFrame:
    """Return `frame` completed, coerced to the table's types and checked against every rule.

    Args:
        table: one of `TABLES`.
        frame: any column order; columns that the table does not know are dropped (kept for `users`).
        where: the file or source, for the sentence.

    Raises:
        UserError: naming the count of bad values and the first of them.
    """
    import pandera.errors

    frame = complete(table, frame).reset_index(drop=True)
    if _has_types(table, frame) and _is_sound_frame(table, frame):
        return frame
    try:
        return rules(table, not _has_types(table, frame)).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors:
        bad = failures(table, frame)
        first = bad.iloc[0]
        place = f"row {first['row'] + 1:,}" if first["row"] >= 0 else f"column {first['column']}"
        raise UserError(
            f"{where or 'The ' + table + ' table'} breaks the rules of '{table}' in {len(bad):,} places, first at "
            f"{place}: {first['reason']}; mend the file or import it again."
        ) from None


def arrow_schema(table: str, frame: pd.DataFrame) -> pa.Schema:
    """The Parquet schema for a validated `frame`; further columns of `users` keep the type that pyarrow infers."""
    base = TABLES[table]
    extra = [name for name in frame.columns if name not in base.names]
    if not extra:
        return base
    inferred = pa.Schema.from_pandas(frame[extra], preserve_index=False)
    return pa.schema([*base, *inferred]).remove_metadata()
