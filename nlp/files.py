"""Tables of any kind, read and written a chunk at a time: CSV and Parquet."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from data.errors import UserError

Chunk = tuple[pa.Table, list[str], int]  # rows with all columns, their texts, bytes of the file read so far
_SEPARATORS = ",;\t|"


def read_chunks(path: Path, text_column: str, rows: int) -> Iterator[Chunk]:
    """The file's rows in order. What is wrong with the file's head is raised here, not at the first chunk.

    CSV values stay the strings that they are; a Parquet file keeps its types.

    Raises:
        UserError: no such file, not readable as what its name says, or without the column.
    """
    if not path.is_file():
        raise UserError(f"--input {path} does not exist: give a .csv or .parquet file.")
    kind = path.suffix.lower()
    if kind == ".parquet":
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as failure:
            raise UserError(f"--input {path} cannot be read as Parquet ({failure}): write it again.") from None
        _require(path, text_column, file.schema_arrow.names)
        return _parquet(path, file, text_column, rows)
    if kind not in (".csv", ".tsv", ".txt"):
        raise UserError(f"--input {path}: only .csv and .parquet files can be scored: convert it to one of them.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            head = handle.read(1 << 16)
    except UnicodeDecodeError as failure:
        raise UserError(f"--input {path} is no UTF-8 text ({failure.reason}): save it as CSV in UTF-8.") from None
    if "\0" in head:
        raise UserError(f"--input {path} holds binary data, no CSV: save it as CSV in UTF-8.")
    first = head.splitlines()[0] if head.strip() else ""
    if not first.strip():
        raise UserError(f"--input {path} is empty: it needs a header line with a column of texts.")
    separator = max(_SEPARATORS, key=first.count) if text_column != first.strip() else ","
    _require(path, text_column, next(csv.reader([first], delimiter=separator)))
    return _csv(path, text_column, rows, separator)


def _require(path: Path, text_column: str, names: list[str]) -> None:
    if text_column not in names:
        raise UserError(
            f"--text-column {text_column}: {path} has no such column (there: {', '.join(names)}): name one of them."
        )


def _parquet(path: Path, file: pq.ParquetFile, text_column: str, rows: int) -> Iterator[Chunk]:
    done, size = 0, path.stat().st_size
    with file:
        if file.metadata.num_rows == 0:
            yield file.schema_arrow.empty_table(), [], size
        for batch in file.iter_batches(rows):
            table = pa.Table.from_batches([batch])
            done += len(table)
            texts = ["" if value is None else str(value) for value in table[text_column].to_pylist()]
            yield table, texts, size * done // max(1, file.metadata.num_rows)


def _csv(path: Path, text_column: str, rows: int, separator: str) -> Iterator[Chunk]:
    with path.open("rb") as handle:
        try:
            reader = pd.read_csv(
                handle, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", chunksize=rows
            )
            for frame in reader:
                yield pa.Table.from_pandas(frame, preserve_index=False), frame[text_column].tolist(), handle.tell()
        except UnicodeDecodeError as failure:
            raise UserError(f"--input {path} is no UTF-8 text ({failure.reason}): save it as CSV in UTF-8.") from None
        except pd.errors.ParserError as failure:
            reason = str(failure).strip().removeprefix("Error tokenizing data. C error: ")
            raise UserError(f"--input {path} is broken CSV ({reason}): mend that line, or save it again.") from None


@contextmanager
def writer(out: Path, temporary: Path) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends tables to `temporary`, in the format that the name `out` asks for.

    Raises:
        UserError: neither .csv nor .parquet.
    """
    kind = out.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"--out {out}: give a name that ends in .csv or .parquet.")
    opened: list[pq.ParquetWriter | pyarrow.csv.CSVWriter] = []

    def write(table: pa.Table) -> None:
        if not opened:
            make = pq.ParquetWriter if kind == ".parquet" else pyarrow.csv.CSVWriter
            opened.append(make(str(temporary), table.schema))
        opened[0].write_table(table)

    try:
        yield write
    finally:
        for one in opened:
            one.close()
