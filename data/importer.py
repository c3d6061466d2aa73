"""The user's own files become a dataset: read, checked and written block by block, so that size does not matter.

A row that breaks a rule is left out and written to `rejects.csv` with its file, line and reason. When more than
`max_bad` of a file's rows are bad, the file is probably not what we took it for: nothing is written at all.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from data import columns, home, schema
from data.convert import Converter
from data.counted import Ids
from data.dataset import Dataset, Source, only_writer, sha256, write_dataset
from data.errors import UserError
from data.rejects import Reasons, Rejects, Seen, broken_rules
from data.sql import rows_of
from data.tablefile import Block, open_table
from data.tablewriter import TableWriter
from data.values import decoded
from data.workspace import workspace

T = TypeVar("T")

MAX_BAD = 0.05
REJECTS = "rejects.csv"
_TIME = {"interactions": schema.TIMESTAMP, "metrics": schema.DATE}
# A file with the required columns of a table and one of these is taken for it; the first that fits.
_TELLING = {
    "reviews": (schema.TEXT,),
    "interactions": (schema.ITEM_ID, schema.TIMESTAMP, schema.RATING),
    "metrics": (schema.VALUE, schema.SERIES_ID),
    "items": (schema.TITLE,),
    "users": (schema.USER_ID,),
}
# Names by which a folder's files are known, in order of preference.
_IN_FOLDER = {
    "interactions": "interactions ratings ratings.dat u.data events watches views history",
    "items": "items movies movies.dat u.item titles films shows catalogue catalog",
    "users": "users users.dat u.user members customers",
    "reviews": "reviews comments",
    "metrics": "metrics usage series",
}


@dataclass
class FileReport:
    """What became of one file."""

    table: str
    path: Path
    columns: str  # which column was taken for what
    unused: list[str]
    notes: list[str]
    read: int = 0
    rejected: int = 0
    first_bad: tuple[int, str] | None = None  # line and reason
    reasons: dict[str, int] = field(default_factory=dict)  # by rule, without the values
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    is_order: bool = False
    ids: dict[str, Ids] = field(default_factory=dict)  # of a table of interactions that was written
    sha256: bytes = b""  # of the table as it was written

    @property
    def kept(self) -> int:
        return self.read - self.rejected


@dataclass(frozen=True)
class Imported:
    dataset: Dataset
    files: list[FileReport]
    rejects: Path | None
    warnings: list[str]


def import_dataset(
    name: str,
    files: Mapping[str, Path],
    *,
    mapping: Mapping[str, str] | None = None,
    replace: bool = False,
    max_bad: float = MAX_BAD,
    as_of: str = "",
    time_format: str = "",
    progress: bool = True,
) -> Imported:
    """Import the user's files as the dataset `name`.

    Args:
        files: table to file; CSV or Parquet, known by its content.
        mapping: our column (or `table.column`) to the file's; goes before the guess.
        max_bad: the share of bad rows that each file may have, 0 to 1.
        as_of: the dataset's clock as a date or time; the last event unless given.
        time_format: strptime pattern of the times, where they are neither ISO nor numbers.

    Raises:
        UserError: the name is taken, a file cannot be understood, or too many of its rows are bad.
    """
    refuse_name_or_nothing(name, files, replace)
    clock = read_clock(as_of)
    opened = {table: open_table(path, columns.KNOWN) for table, path in files.items()}
    columns.check_map(opened, mapping or {})
    choices = {table: columns.choose(table, file, mapping or {}) for table, file in opened.items()}
    with workspace(home.home() / "tables", ".import") as folder, ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        checksums = [pool.submit(sha256, file.path) for file in opened.values()]  # while the files are read
        rejects = stack.enter_context(Rejects(folder / REJECTS))
        reports = []
        for table, file in opened.items():
            converter = Converter(table, file, choices[table], time_format)
            target = folder / f"{table}.parquet"
            with TableWriter(table, target) as writer:
                report = read_rows(converter, writer.add, rejects.add, progress, encoded=True)
            refuse_bad(report, max_bad)
            converter.finish(target)
            report.ids, report.sha256 = writer.ids, writer.sha256
            reports.append(report)
        rejects.close()
        check_clock(clock, reports)
        warnings = strangers(folder, set(files))
        notes = [f"{r.path.name}: {note}" for r in reports for note in [f"read {r.columns}", *r.notes]]
        notes += [f"{r.path.name}: {r.rejected:,} of {r.read:,} rows rejected" for r in reports if r.rejected]
        from data.exported import marks  # asks the database, which most users of this module do not need

        log = next((report for report in reports if report.table == "interactions"), None)
        with only_writer(name):
            exported, said = marks(name, folder)
            warnings += said
            dataset = write_dataset(
                name,
                {table: folder / f"{table}.parquet" for table in files},
                sources=[
                    Source(r.path.name, "import", r.table, f"sha256:{checksum.result().hex()}")
                    for r, checksum in zip(reports, checksums, strict=True)
                ],
                time_kind="order" if any(r.is_order for r in reports) else "real",
                as_of=clock,
                notes=[*notes, *warnings],
                extra_files={REJECTS: rejects.path} if rejects.count else {},
                replace=replace,
                exported=exported,
                titles=log.ids[schema.ITEM_ID].all() if log else None,
                hashes={"interactions": log.sha256} if log else {},
            )
    return Imported(dataset, reports, dataset.folder / REJECTS if rejects.count else None, warnings)


def refuse_name_or_nothing(name: str, files: Mapping[str, Path], replace: bool) -> None:
    """Refuse what can be refused before any file is opened.

    Raises:
        UserError: the name is unusable or taken, or there is no file.
    """
    if (home.tables(name) / "dataset.json").exists() and not replace:
        raise UserError(f"There is a dataset '{name}' already: choose another --name or add --replace.")
    if not files:
        raise UserError("There is nothing to import: give at least one of --interactions, --reviews or --metrics.")


def find_files(folder: Path) -> dict[str, Path]:
    """The tables of a folder by the usual names of their files.

    Raises:
        UserError: it is no folder, or holds none of them.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give --from a folder, or name each file (--interactions FILE).")
    there = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}
    found = {}
    for table, names in _IN_FOLDER.items():
        for name in names.split():
            endings = [""] if "." in name else [".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz"]
            if hit := next((there[name + ending] for ending in endings if name + ending in there), None):
                found[table] = hit
                break
    if not found:
        wanted = ", ".join(f"{names.split()[0]}.csv" for names in _IN_FOLDER.values())
        raise UserError(f"{folder} holds none of {wanted} or MovieLens' files: name the files one by one.")
    return found


def guess_table(path: Path) -> str:
    """Which table a file holds, by its name or else by its columns.

    Raises:
        UserError: it fits none of them.
    """
    for table, names in _IN_FOLDER.items():
        if path.name.lower() in names.split() or path.name.lower().split(".")[0] in names.split():
            return table
    file = open_table(path, columns.KNOWN)
    for table, telling in _TELLING.items():
        try:
            if set(telling) & set(columns.choose(table, file, {}).fields):
                return table
        except UserError:
            continue
    raise UserError(f"{path} looks like none of our tables: say which with --table {'|'.join(schema.TABLES)}.")


def read_rows(
    converter: Converter,
    sink: Callable[[pa.Table], None],
    reject: Callable[..., None],
    progress: bool,
    encoded: bool = False,
) -> FileReport:
    """Read a whole file: good rows go to `sink`, each bad one to `reject(path, line, reason, text)`.

    Args:
        encoded: whether `sink` takes dictionary-encoded text.

    Raises:
        UserError: the file cannot be understood, or has no rows.
    """
    file, table = converter.file, converter.table
    report = FileReport(table, file.path, converter.choice.described(), converter.choice.unused(), file.notes)
    seen = Seen(table)
    with tqdm(
        desc=file.path.name,
        total=file.size(),
        unit="B" if file.delimiter else " rows",
        unit_scale=True,
        disable=not progress,
        mininterval=0.1 if sys.stderr.isatty() else 10,
        leave=False,
        delay=1,
    ) as bar:
        blocks = _ahead(file.blocks(converter.choice.needed, bar.update))
        for block, (rows, reasons, source) in _ahead((block, converter.rows(block)) for block in blocks):
            reasons = broken_rules(table, rows, reasons, seen)
            bad = np.zeros(len(rows), bool)
            bad[list(reasons)] = True
            by_line = {int(source[row]): reason for row, reason in sorted(reasons.items(), reverse=True)}
            _report_bad(report, block, by_line, reject)
            report.read += block.n_read
            good = rows.filter(pa.array(~bad)) if bad.any() else rows
            if len(good):
                _widen_span(report, good)
                sink(good if encoded else decoded(good))
    report.is_order = converter.is_order
    if not report.read:
        raise UserError(f"{file.path} has a header but no rows: check that it was exported whole.")
    return report


def _report_bad(report: FileReport, block: Block, by_row: Reasons, reject: Callable[..., None]) -> None:
    if not by_row and not block.broken:
        return
    bad = [*block.broken, *((int(block.lines[row]), reason, block.text(row)) for row, reason in by_row.items())]
    bad.sort(key=lambda entry: entry[0])
    for line, reason, text in bad:
        reject(report.path, line, reason, text)
        rule = rule_of(reason)
        report.reasons[rule] = report.reasons.get(rule, 0) + 1
    report.rejected += len(bad)
    report.first_bad = report.first_bad or bad[0][:2]


def rule_of(reason: str) -> str:
    """A reason without the value that it is about, so that equal ones can be counted.

    >>> rule_of("rating 'abc' is not a finite number")
    'rating is not a finite number'
    """
    return re.sub(r" (['\"]).*\1", "", reason, flags=re.DOTALL)


def refuse_bad(report: FileReport, max_bad: float) -> None:
    """Refuse a file of which more than the share `max_bad` was rejected, or everything.

    Raises:
        UserError: the sentence names the first bad row, and why.
    """
    share = report.rejected / report.read
    if report.first_bad is None or (share <= max_bad and report.kept):
        return
    line, reason = report.first_bad
    found = f"{report.rejected:,} of {report.read:,} rows are bad"
    where = f"line {line:,}" if report.path.suffix != ".parquet" else f"row {line:,}"
    if not report.kept:
        raise UserError(
            f"{report.path}: all {report.read:,} rows are bad, first {where}: {reason}; nothing was written."
        )
    enough = min(1.0, np.ceil(share * 100 - 1e-9) / 100)
    raise UserError(
        f"{report.path}: {found} ({share:.1%}, more than the {max_bad * 100:.4g}% allowed), first {where}: {reason}; "
        f"nothing was written: mend the file, or allow them with --max-bad {enough:.2f}."
    )


def _widen_span(report: FileReport, rows: pa.Table) -> None:
    if column := _TIME.get(report.table):
        ends = pc.min_max(rows[column]).as_py()
        first, last = pd.Timestamp(ends["min"]), pd.Timestamp(ends["max"])
        report.first = first if report.first is None else min(report.first, first)
        report.last = last if report.last is None else max(report.last, last)


def _ahead(blocks: Iterator[T]) -> Iterator[T]:
    """Make the next block in a thread while this one is checked and written: Arrow lets both run."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, blocks, None)
        while (block := future.result()) is not None:
            future = pool.submit(next, blocks, None)
            yield block


def read_clock(as_of: str) -> pd.Timestamp | None:
    """The moment that `--as-of` means, a day its end; None when it is empty.

    Raises:
        UserError: it is no date.
    """
    if not as_of:
        return None
    try:
        time = pd.Timestamp(as_of)
        if not 1900 <= time.year < 2200:  # NaT compares false
            raise ValueError
    except ValueError:
        raise UserError(f"--as-of {as_of!r} is no date: write it as 2024-01-31 or 2024-01-31T18:30.") from None
    time = time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
    # A day means the whole of it.
    whole_day = re.fullmatch(r"\d{4}-?\d\d-?\d\d", as_of.strip())
    return time + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1) if whole_day else time


def check_clock(clock: pd.Timestamp | None, reports: Sequence[FileReport]) -> None:
    """Refuse a clock that lies before the last row, or where there is no time.

    Raises:
        UserError: it does.
    """
    last = max((r.last for r in reports if r.last is not None), default=None)
    if clock is None:
        return
    if any(r.is_order for r in reports):
        raise UserError("--as-of needs times, and the rows have none but their order: leave it out.")
    if last is not None and clock < last:
        raise UserError(
            f"--as-of {clock:%Y-%m-%d %H:%M} lies before the last row ({last:%Y-%m-%d %H:%M}): set it later."
        )


def strangers(folder: Path, tables: set[str]) -> list[str]:
    """Sentences on ids that should be in two tables and hardly are: usually written differently in the two files.

    Args:
        folder: holds each of `tables` as Parquet.
        tables: their names.
    """
    import duckdb

    found = []
    for table, column, what in (("items", schema.ITEM_ID, "titles"), ("users", schema.USER_ID, "members")):
        for user in ("interactions", "reviews"):
            if not {table, user} <= tables:
                continue
            used, known = (rows_of(folder / f"{t}.parquet") for t in (user, table))
            query = (
                f"with used as (select distinct {column} as id from {used} where {column} is not null), "
                f"strangers as (select id from used anti join {known} known on known.{column} = used.id) "
                "select (select count(*) from used), count(*), min(id) from strangers"
            )
            with duckdb.connect() as connection:
                total, unknown, example = connection.execute(query).fetchall()[0]
            if total and unknown > total / 2:
                found.append(
                    f"{unknown:,} of the {total:,} {what} in {user} are not in {table} ('{str(example)[:60]}', say): "
                    "are their ids written alike in both?"
                )
    return found
