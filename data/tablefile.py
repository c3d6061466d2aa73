"""A user's table file, read block by block, with the line of every row. Parquet is read here, CSV in `data.csvfile`."""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.errors import UserError
from data.schema import UNREADABLE

TYPE_SUFFIX = r":(token|float)(_seq)?$"  # of RecBole's column names
MOST_COLUMNS = 2_000
UNPACKED_GB = 20.0
_BATCH_ROWS = 250_000
_BATCH_BYTES = 1 << 31  # of the texts of one column
_TEXTS = (pa.string(), pa.large_string())


@dataclass(frozen=True)
class Block:
    """Some rows of a file: `columns` by their position in the file, `lines` the physical line of each row."""

    columns: dict[int, pa.Array]
    lines: np.ndarray  # (rows,) int64
    broken: list[tuple[int, str, str]]  # line, reason, text of the records that could not be taken apart
    text: Callable[[int], str]  # the text of a row, by its position in the block

    @property
    def n_read(self) -> int:
        return len(self.lines) + len(self.broken)


class TableFile(Protocol):
    """What a file of rows offers, whatever its format."""

    path: Path
    columns: tuple[str, ...]  # as in the header; "1", "2", ... without one
    has_header: bool
    first_row: tuple[str, ...]
    delimiter: str  # empty for Parquet
    notes: list[str]  # grows while the blocks are read

    def blocks(self, needed: Sequence[int], advance: Callable[[int], object]) -> Iterator[Block]: ...

    def size(self) -> int: ...


def open_table(path: Path, known: frozenset[str] = frozenset()) -> TableFile:
    """Look at the beginning of a file and say how it is to be read.

    Args:
        known: names that a header may hold, normalised (see `normalise`); they tell a header from a first row.

    Raises:
        UserError: no such file, a folder, an empty file, one that is neither text nor Parquet, or one that is no table
            that anybody has: with too many columns, or much larger unpacked than packed.
    """
    file = _open(path, known)
    if len(file.columns) > MOST_COLUMNS:
        raise UserError(
            f"{path} has {len(file.columns):,} columns, more than the {MOST_COLUMNS:,} that a table may have: leave "
            "out those that are not needed."
        )
    return file


def refuse_unpacked(path: Path, unpacked: int) -> None:
    """Refuse a file of which so many bytes came out: a few megabytes can be made to unpack to any size.

    Raises:
        UserError: they are more than MARQUEE_UNPACKED_GB allows, or that is no number.
    """
    given = os.environ.get("MARQUEE_UNPACKED_GB") or f"{UNPACKED_GB:g}"
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise UserError(f"MARQUEE_UNPACKED_GB is '{given}': give a number of gigabytes above 0.")
    if unpacked > limit * 1e9:
        raise UserError(
            f"{path} unpacks to more than {limit:g} GB: if it is meant to be so large, set MARQUEE_UNPACKED_GB higher."
        )


def _open(path: Path, known: frozenset[str]) -> TableFile:
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a CSV or Parquet file in it, or read the whole folder with --from.")
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path.")
    if not path.is_file():
        raise UserError(f"{path} is not a regular file: save the table as a CSV or Parquet file first.")
    with path.open("rb") as handle:
        magic = handle.read(4)
    if magic == b"PAR1":
        return _open_parquet(path)
    if magic == b"PK\x03\x04":
        raise UserError(f"{path} is a zip archive or an Excel workbook: unpack it, or save the sheet as CSV.")
    from data.csvfile import open_csv

    return open_csv(path, known)


def _refuse_other_text(path: Path, name: str, column: pa.Array, first: int) -> None:
    """Parquet holds text as bytes and does not look at them: what is no text would fail whoever reads it later."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raise UserError(
            f"{path}: column '{name}' holds something that is no text in UTF-8 (half of a character, say) in rows "
            f"{first:,} to {first + len(column) - 1:,}: mend it and write the file again."
        ) from None


def normalise(name: str) -> str:
    """A column's name without case, separators and a RecBole type suffix.

    >>> normalise("User_ID"), normalise("movieId:token"), normalise("watch time (min)")
    ('userid', 'movieid', 'watchtimemin')
    """
    return re.sub(r"[\W_]+", "", re.sub(TYPE_SUFFIX, "", name.strip()).lower())


def _open_parquet(path: Path) -> "ParquetFile":
    try:
        metadata = pq.read_metadata(path)
        columns = tuple(metadata.schema.to_arrow_schema().names)
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    except UNREADABLE as failure:
        raise UserError(f"{path} cannot be read as Parquet ({_first_line(failure)}): write it again.") from None
    refuse_unpacked(path, unpacked)
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise UserError(f"{path} has several columns called '{twice[:60]}': give each a name of its own.")
    return ParquetFile(path, columns)


@dataclass
class ParquetFile:
    path: Path
    columns: tuple[str, ...]
    has_header: bool = True
    first_row: tuple[str, ...] = ()
    delimiter: str = ""
    notes: list[str] = field(default_factory=list)

    def size(self) -> int:
        return pq.read_metadata(self.path).num_rows

    def blocks(self, needed: Sequence[int], advance: Callable[[int], object]) -> Iterator[Block]:
        """`lines` are row numbers from 1: a Parquet file has no lines."""
        first, names = 1, [self.columns[i] for i in needed]
        try:
            schema = pq.read_schema(self.path)
            texts = [name for name in names if schema.field(name).type in _TEXTS]
            with pq.ParquetFile(self.path, read_dictionary=texts) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                    columns = {i: self._plain(batch.column(self.columns[i])) for i in needed}
                    for i, column in columns.items():
                        _refuse_other_text(self.path, self.columns[i], column, first)
                    lines = np.arange(first, first + batch.num_rows)
                    first += batch.num_rows
                    yield Block(columns, lines, [], partial(_as_text, batch))
                    advance(batch.num_rows)
        except UNREADABLE as failure:
            raise UserError(f"{self.path} is damaged ({_first_line(failure)}): write it again.") from None

    def _plain(self, column: pa.Array) -> pa.Array:
        """The column itself, texts not as numbers of a dictionary: there a long text costs 4 bytes in each row."""
        if not pa.types.is_dictionary(column.type) or column.type.value_type not in _TEXTS:
            return column
        lengths = pc.binary_length(column.dictionary).cast(pa.int64()).take(column.indices)
        if (pc.sum(lengths).as_py() or 0) > _BATCH_BYTES:
            raise UserError(
                f"{self.path} unpacks to more than {_BATCH_BYTES / 1e9:.0f} GB of text in {_BATCH_ROWS:,} rows: is it "
                "a table of ids and reviews?"
            )
        return column.dictionary_decode()


def _as_text(batch: pa.RecordBatch, row: int) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(column[row].as_py() for column in batch.columns)
    return out.getvalue().rstrip("\r\n")


def _first_line(failure: BaseException) -> str:
    return str(failure).strip().split("\n")[0][:200]
