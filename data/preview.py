"""What an import would make of a file, before anything is written: by the very code of the import, on its first rows.

preview(table, path, mapping)    the first rows as they will be read, and those that would be rejected
dry_run(name, files, ...)        all rows of all files: `python -m data import --dry-run`
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data import columns, importer
from data.columns import Choice
from data.convert import Converter
from data.dataset import TEXT_DTYPES
from data.importer import FileReport
from data.schema import ITEM_ID, USER_ID
from data.tablefile import Block, TableFile, open_table

ROWS = 100_000
SHOWN = 50


@dataclass(frozen=True)
class Preview:
    """A file as the import would read it."""

    report: FileReport
    choice: Choice
    is_whole: bool  # whether all of its rows were read
    rows: pd.DataFrame  # the first good ones, as they would be written
    rejects: list[tuple[int, str, str]]  # line (row of a Parquet file), reason and text of the first bad ones

    @property
    def share_bad(self) -> float:
        """Share of the rows read that would be rejected, 0 to 1."""
        return self.report.rejected / self.report.read


def preview(
    table: str,
    path: Path,
    mapping: Mapping[str, str],
    *,
    rows: int | None = ROWS,
    shown: int = SHOWN,
    time_format: str = "",
    progress: bool = False,
    sink: Callable[[pa.Table], None] = lambda part: None,
) -> Preview:
    """Read the beginning of a file as `import_dataset` does.

    Blocks are read whole, because the import learns from the first one how times and labels are written.

    Args:
        table: what the file holds.
        mapping: our column (or `table.column`) to the file's, as for the import.
        rows: read blocks until there are so many rows; None reads all.
        shown: how many good rows and how many rejects to keep.
        sink: gets all good rows, block by block.

    Raises:
        UserError: the file cannot be understood, or has no rows.
    """
    file = _Beginning(open_table(path, columns.KNOWN), rows)
    columns.check_map({table: file}, mapping)
    choice = columns.choose(table, file, mapping)
    good: list[pa.Table] = []
    rejects: list[tuple[int, str, str]] = []

    def keep(part: pa.Table) -> None:
        sink(part)
        if sum(len(kept) for kept in good) < shown:
            good.append(part.slice(0, shown))

    def reject(_: Path, line: int, reason: str, text: str) -> None:
        if len(rejects) < shown:
            rejects.append((line, reason, text))

    report = importer.read_rows(Converter(table, file, choice, time_format), keep, reject, progress)
    frame = pa.concat_tables(good).slice(0, shown).to_pandas(types_mapper=TEXT_DTYPES.get) if good else pd.DataFrame()
    return Preview(report, choice, file.is_whole, frame, rejects)


def dry_run(
    name: str,
    files: Mapping[str, Path],
    *,
    mapping: Mapping[str, str],
    replace: bool = False,
    as_of: str = "",
    time_format: str = "",
    progress: bool = True,
) -> tuple[list[Preview], list[str]]:
    """Read all rows of all files as `import_dataset` would, and write nothing but ids into a folder that goes; whether
    too many of them are bad is for `importer.refuse_bad` to say, once they are shown.

    Returns:
        What each file holds, and what the import would warn of.

    Raises:
        UserError: the name is taken, or a file cannot be understood.
    """
    importer.refuse_name_or_nothing(name, files, replace)
    clock = importer.read_clock(as_of)
    columns.check_map({table: open_table(path, columns.KNOWN) for table, path in files.items()}, mapping)
    # Each file is asked for its own columns only: what is for another table was checked above.
    with tempfile.TemporaryDirectory(prefix="marquee-") as folder:
        found = []
        for table, path in files.items():
            with _ids_into(Path(folder) / f"{table}.parquet") as sink:
                given = _of(table, path, mapping)
                found.append(
                    preview(table, path, given, rows=None, time_format=time_format, progress=progress, sink=sink)
                )
        importer.check_clock(clock, [one.report for one in found])
        return found, importer.strangers(Path(folder), {one.report.table for one in found if one.report.kept})


@contextmanager
def _ids_into(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """What writes the ids of members and titles in the rows that it gets."""
    writer: pq.ParquetWriter | None = None

    def write(part: pa.Table) -> None:
        nonlocal writer
        ids = part.select([name for name in (USER_ID, ITEM_ID) if name in part.column_names])
        writer = writer or pq.ParquetWriter(path, ids.schema)
        writer.write_table(ids)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _of(table: str, path: Path, mapping: Mapping[str, str]) -> dict[str, str]:
    there = open_table(path, columns.KNOWN).columns
    return {
        name: column
        for name, column in mapping.items()
        if name.rpartition(".")[0] in ("", table)
        and name.rpartition(".")[2] in columns.SYNONYMS[table]
        and (not column or column in there)
    }


class _Beginning:
    """The first blocks of a file, as a file of their own."""

    def __init__(self, file: TableFile, rows: int | None) -> None:
        self._file, self._rows = file, rows
        self.path, self.columns, self.has_header = file.path, file.columns, file.has_header
        self.first_row, self.delimiter, self.notes = file.first_row, file.delimiter, file.notes
        self.is_whole = False

    def size(self) -> int:
        return self._file.size()

    def blocks(self, needed: Sequence[int], advance: Callable[[int], object]) -> Iterator[Block]:
        read = 0
        blocks = self._file.blocks(needed, advance)
        for block in blocks:
            read += block.n_read
            yield block
            if self._rows is not None and read >= self._rows:
                break
        self.is_whole = next(blocks, None) is None
