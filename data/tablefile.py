"""A user's table file, read block by block, with the line of every row. Parquet is read here, CSV in `data.csvfile`."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import UserError

TYPE_SUFFIX = r":(token|float)(_seq)?$"  # of RecBole's column names
_BATCH_ROWS = 250_000


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
        UserError: no such file, a folder, an empty file, or one that is neither text nor Parquet.
    """
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
        columns = tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as failure:
        raise UserError(f"{path} cannot be read as Parquet ({_first_line(failure)}): write it again.") from None
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
        first = 1
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=[self.columns[i] for i in needed]):
                    columns = {i: batch.column(self.columns[i]) for i in needed}
                    for i, column in columns.items():
                        _refuse_other_text(self.path, self.columns[i], column, first)
                    lines = np.arange(first, first + batch.num_rows)
                    first += batch.num_rows
                    yield Block(columns, lines, [], partial(_as_text, batch))
                    advance(batch.num_rows)
        except (pa.ArrowException, OSError) as failure:
            raise UserError(f"{self.path} is damaged ({_first_line(failure)}): write it again.") from None


def _as_text(batch: pa.RecordBatch, row: int) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(column[row].as_py() for column in batch.columns)
    return out.getvalue().rstrip("\r\n")


def _first_line(failure: BaseException) -> str:
    return str(failure).strip().split("\n")[0][:200]
