"""From a block of a user's file to rows of one of our tables, and what is wrong with those that cannot be."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data import movielens, schema, values
from data.columns import Choice
from data.errors import UserError
from data.rejects import Reasons
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
from data.tablefile import Block, TableFile, normalise
from data.times import UTC_TIME, Times
from data.values import Ids, Labels, Read

_IDS = (USER_ID, ITEM_ID, REVIEW_ID, SERIES_ID)
_TIMES = (TIMESTAMP, CREATED_AT, DATE)
_LONGEST_SHOWN = 60


class Converter:
    """Converts the blocks of one file. What it found out about the file is in `file.notes`, for the reader."""

    def __init__(self, table: str, file: TableFile, choice: Choice, time_pattern: str = "") -> None:
        self.table, self.file, self.choice = table, file, choice
        self._names = {name: choice.names[i] for name, i in choice.fields.items()}
        self._ids = {n: Ids(self._names[n], file.notes) for n in choice.fields if n in _IDS}
        times = [n for n in choice.fields if n in _TIMES]
        self._times = {n: Times(self._names[n], str(file.path), file.notes, time_pattern) for n in times}
        self._labels = Labels(self._names.get(LABEL, ""), file.notes)
        self._imdb_ids = _linked_imdb_ids(file) if table == "items" and IMDB_ID not in choice.fields else None
        self._further = _Further(choice.further)
        self._n_rows = 0
        self._minute = _minutes_per_unit(self._names.get(MINUTES, ""))
        self._reasons: Reasons = {}
        self._say_what_is_assumed()

    @property
    def is_order(self) -> bool:
        """Whether the times are only the order of the rows."""
        return self.table == "interactions" and (TIMESTAMP not in self._times or self._times[TIMESTAMP].form == "order")

    def rows(self, block: Block) -> tuple[pa.Table, Reasons, np.ndarray]:
        """Rows in the table's types, by position why a row is bad, and for each row its position in the block.

        Text of interactions that occurs often is dictionary-encoded.

        Raises:
            UserError: a column cannot be understood as a whole.
        """
        self._block = block
        self._reasons = {}
        columns = getattr(self, f"_{self.table}")()
        self._n_rows += len(block.lines)
        if self.choice.wide:
            return self._one_row_for_each_series(columns)
        table = pa.table(columns)
        return table, self._reasons, np.arange(len(table))

    def finish(self, path: Path) -> None:
        """Give the further columns of a written users table their types."""
        if self.table == "users":
            self._further.narrow(path)

    # --- one method for each table ---

    def _interactions(self) -> dict[str, pa.Array]:
        n = len(self._block.lines)
        columns = {USER_ID: self._encoded_id(USER_ID), ITEM_ID: self._encoded_id(ITEM_ID)}
        if TIMESTAMP in self._times:
            columns[TIMESTAMP] = self._time(TIMESTAMP)
        else:
            seconds = self._n_rows + np.arange(n, dtype=np.int64)
            columns[TIMESTAMP] = pa.array(seconds * 1_000_000).cast(UTC_TIME)
        columns[RATING] = self._number(RATING)
        minutes = self._number(MINUTES)
        columns[MINUTES] = pc.multiply(minutes, self._minute) if self._minute != 1 else minutes
        if KIND not in self.choice.fields:
            which = columns[RATING].is_null().cast(pa.int8()).cast(pa.int32())
            return columns | {KIND: pa.DictionaryArray.from_arrays(which, ["rating", "watch"])}
        default = pc.if_else(columns[RATING].is_valid(), "rating", "watch")
        read = values.kinds(self._raw(KIND), self._names[KIND])
        return columns | {KIND: pc.coalesce(self._taken(KIND, read), default)}

    def _items(self) -> dict[str, pa.Array]:
        ids = self._id(ITEM_ID)
        year = values.years(self._raw(YEAR), self._names[YEAR]) if YEAR in self.choice.fields else None
        titles, year = values.titles_and_years(self._text(TITLE), year)
        columns = {ITEM_ID: ids, TITLE: pc.coalesce(titles, ids), YEAR: year}
        if self.choice.flags:
            flags = {name: self._block.columns[i] for name, i in self.choice.flags.items()}
            columns[GENRES] = values.genre_flags(flags)
        elif GENRES in self.choice.fields:
            by_space = self._names[GENRES].endswith(":token_seq")
            columns[GENRES] = values.genres(self._raw(GENRES), by_space)
        else:
            columns[GENRES] = pa.array([[]] * len(ids), schema.TABLES["items"].field(GENRES).type)
        if IMDB_ID in self.choice.fields:
            columns[IMDB_ID] = values.imdb_ids(self._raw(IMDB_ID), self._names[IMDB_ID])
        elif self._imdb_ids is not None:
            columns[IMDB_ID] = pa.array([self._imdb_ids.get(i) for i in ids.to_pylist()], pa.string())
        else:
            columns[IMDB_ID] = self._nothing(pa.string())
        return columns

    def _users(self) -> dict[str, pa.Array]:
        columns = {USER_ID: self._id(USER_ID)}
        for name, position in self.choice.further.items():
            if name:
                columns |= self._further.column(name, self._block.columns[position])
        return columns

    def _reviews(self) -> dict[str, pa.Array]:
        if REVIEW_ID in self.choice.fields:
            ids = self._id(REVIEW_ID)
        else:
            ids = pa.array([f"row-{line}" for line in self._block.lines], pa.string())
        columns = {REVIEW_ID: ids, TEXT: self._text(TEXT), ITEM_ID: self._id(ITEM_ID), USER_ID: self._id(USER_ID)}
        columns[STARS] = self._number(STARS)
        columns[LABEL] = self._nothing(pa.string())
        if LABEL in self.choice.fields:
            columns[LABEL] = self._taken(LABEL, self._labels(self._raw(LABEL)))
        columns[CREATED_AT] = self._time(CREATED_AT) if CREATED_AT in self._times else self._nothing(UTC_TIME)
        columns[SOURCE] = pc.coalesce(self._text(SOURCE), pa.scalar(self.file.path.name.split(".")[0] or "import"))
        return columns

    def _metrics(self) -> dict[str, pa.Array]:
        date = self._time(DATE)
        if self.choice.wide:
            return {DATE: date}
        name = pa.scalar(self.file.path.name.split(".")[0] or "import")
        series = self._id(SERIES_ID) if SERIES_ID in self.choice.fields else pc.if_else(date.is_valid(), name, name)
        return {SERIES_ID: series, DATE: date, VALUE: self._number(VALUE)}

    def _one_row_for_each_series(self, columns: dict[str, pa.Array]) -> tuple[pa.Table, Reasons, np.ndarray]:
        """Wide metrics become long. An empty cell is no row; a bad date or cell rejects the line once."""
        parts, sources, reasons = [], [], dict(self._reasons)
        for name, position in self.choice.wide.items():
            raw = self._block.columns[position]
            read = values.numbers(raw, name, decimal_comma=self._decimal_comma)
            for row in np.flatnonzero(read.bad).tolist():
                reasons.setdefault(row, f"{name} {_shown(raw[row])} {read.complaint}")
            there = np.flatnonzero(np.asarray(read.values.is_valid()))
            date = columns[DATE].take(pa.array(there))
            series = pa.repeat(pa.scalar(name.strip()), len(there))
            parts.append(pa.table({SERIES_ID: series, DATE: date, VALUE: read.values.take(pa.array(there))}))
            sources.append(there)
        table = pa.concat_tables(parts).combine_chunks()
        source = np.concatenate(sources)
        bad = np.isin(source, list(reasons))
        by_row = {row: reasons[int(source[row])] for row in np.flatnonzero(bad).tolist()}
        told = {int(source[row]) for row in by_row}
        for row in set(reasons) - told:  # a line of which no cell could be read
            table = pa.concat_tables([table, _null_row(table.schema)])
            source = np.append(source, row)
            by_row[len(source) - 1] = reasons[row]
        return table.combine_chunks(), by_row, source

    # --- columns ---

    @property
    def _decimal_comma(self) -> bool:
        return self.file.delimiter not in ("", ",")

    def _raw(self, name: str) -> pa.Array:
        return self._block.columns[self.choice.fields[name]]

    def _nothing(self, kind: pa.DataType) -> pa.Array:
        return pa.nulls(len(self._block.lines), kind)

    def _encoded_id(self, name: str) -> pa.Array:
        """Dictionary-encoded where that pays."""
        return self._taken(name, self._ids[name](self._raw(name))) if name in self._ids else self._nothing(pa.string())

    def _id(self, name: str) -> pa.Array:
        return self._encoded_id(name).cast(pa.string())

    def _text(self, name: str) -> pa.Array:
        if name not in self.choice.fields:
            return self._nothing(pa.string())
        return values.text(values.plain(self._raw(name), self._names[name]))

    def _number(self, name: str) -> pa.Array:
        if name not in self.choice.fields:
            return self._nothing(pa.float64())
        return self._taken(name, values.numbers(self._raw(name), self._names[name], decimal_comma=self._decimal_comma))

    def _time(self, name: str) -> pa.Array:
        read = self._times[name](self._raw(name))
        if self._times[name].form == "order" and self.table != "interactions":
            raise UserError(
                f"{self.file.path}: column '{self._names[name]}' holds small numbers, which are neither dates nor "
                f"seconds since 1970: name another column with --map {self.table}.{name}=COLUMN."
            )
        return self._taken(name, read)

    def _taken(self, name: str, read: Read) -> pa.Array:
        if read.bad.any():
            raw = self._raw(name)
            for row in np.flatnonzero(read.bad).tolist():
                self._reasons.setdefault(row, f"{name} {_shown(raw[row])} {read.complaint}")
        return read.values

    def _say_what_is_assumed(self) -> None:
        notes = self.file.notes
        if self.table == "interactions":
            if TIMESTAMP not in self._times:
                notes.append("there is no time column: the order of the rows is taken as time")
            if ITEM_ID not in self._ids:
                notes.append("there is no title column: good for forecasting only")
        if MINUTES in self.choice.fields:
            unit = {1.0: "minutes", 60.0: "hours"}.get(self._minute, "seconds")
            notes.append(f"'{self._names[MINUTES]}' is taken as {unit}")
        if self._imdb_ids is not None:
            notes.append("IMDb ids are taken from links.csv beside it")


class _Further:
    """The columns that a users table has besides the id: text at first, whole or other numbers if all values are."""

    _CODES: Mapping[str, tuple[str, Callable[[int], str | None]]] = {
        "age_code": ("age_group", movielens.AGES.get),
        "occupation_code": ("occupation", dict(enumerate(movielens.OCCUPATIONS)).get),
    }

    def __init__(self, names: Mapping[str, int]) -> None:
        self._fits = {name: {"int64", "double"} for name in names}
        self._filled: set[str] = set()

    def column(self, name: str, array: pa.Array) -> dict[str, pa.Array]:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if not pa.types.is_string(array.type):
            return {name: array}
        array = values.text(array)
        if name in self._CODES:
            new_name, lookup = self._CODES[name]
            words = [lookup(int(code)) or code if code and code.isdecimal() else code for code in array.to_pylist()]
            return {new_name: pa.array(words, pa.string())}
        if array.null_count < len(array):
            self._filled.add(name)
            # Numbers with leading zeros are codes: a ZIP code 00501 must not become 501.
            for kind, pattern in (("int64", r"^-?(0|[1-9]\d{0,14})$"), ("double", r"^-?(0|[1-9]\d{0,14})(\.\d+)?$")):
                if kind in self._fits[name] and not pc.all(pc.match_substring_regex(array, pattern)).as_py():
                    self._fits[name].discard(kind)
        return {name: array}

    def narrow(self, path: Path) -> None:
        import pyarrow.parquet as pq

        kinds = {
            name: pa.int64() if "int64" in fits else pa.float64()
            for name, fits in self._fits.items()
            if fits and name in self._filled
        }
        with pq.ParquetFile(path) as file:
            old = file.schema_arrow
            fields = [f.with_type(kinds[f.name]) if f.name in kinds else f for f in old]
            if fields == list(old):
                return
            target = path.with_suffix(".typed")
            with pq.ParquetWriter(target, pa.schema(fields), compression="zstd") as writer:
                for i in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(i).cast(pa.schema(fields)))
        target.replace(path)


def _minutes_per_unit(name: str) -> float:
    """Minutes in one unit of the column, by its name: `watch_seconds` holds seconds."""
    folded = normalise(name)
    if "sec" in folded:
        return 1 / 60
    return 60.0 if "hour" in folded or folded.endswith("hrs") else 1.0


def _linked_imdb_ids(file: TableFile) -> dict[str, str] | None:
    """MovieLens keeps the IMDb ids in a `links.csv` beside `movies.csv`."""
    path = file.path.with_name("links.csv")
    if not path.is_file() or path == file.path:
        return None
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError):
        return None
    if not {"movieId", "imdbId"} <= set(frame.columns):
        return None
    ids = values.imdb_ids(pa.Array.from_pandas(frame["imdbId"]).cast(pa.string()), "imdbId")
    return {item: found for item, found in zip(frame["movieId"], ids.to_pylist(), strict=True) if found}


def _null_row(arrow: pa.Schema) -> pa.Table:
    return pa.table({field.name: pa.nulls(1, field.type) for field in arrow})


def _shown(value: pa.Scalar) -> str:
    text = str(value.as_py())
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")
