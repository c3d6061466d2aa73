"""Tables of any size, read a chunk at a time with no row lost: CSV, TSV and Parquet.

A row that cannot be read keeps its place: its cells stand from the left as they are, missing ones are empty, surplus
ones stay together in the last column, and a reason is given. data/csvfile.py, the importer's reader, is not used here:
it sets rejected rows aside, drops rows of empty cells, and changes line breaks within cells.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import UserError
from data.schema import UNREADABLE

LONGEST_TEXT = 1_000_000  # characters; a text of so many takes as long as a thousand reviews
LONGEST_RECORD = 8_000_000  # characters of a CSV row: more are not held in memory, and the rest of the line is lost
MOST_LINES = 1_000  # of a CSV row: a quotation mark that closes later than that was none
CHUNK_CHARACTERS = 4_000_000
_HEAD_BYTES = 1 << 20
_SEPARATORS = ",;\t|"
_ESCAPED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that is not UTF-8
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_RETURN = "\ud800"  # stands for a carriage return within a line, which the csv module does not take; in no UTF-8 text
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

NOT_UTF8 = "bytes that are not UTF-8"
NULL_BYTE = "null byte"
OPEN_QUOTE = "quotation marks that do not match"
TOO_LONG = f"longer than {LONGEST_TEXT:,} characters"
RECORD_TOO_LONG = f"a row of more than {LONGEST_RECORD:,} characters, cut there"


@dataclass(frozen=True)
class Chunk:
    table: pa.Table  # rows with all columns
    texts: list[str]  # of each row; empty where there is none
    problems: list[str]  # of each row: why it cannot be read; empty if it can
    position: int  # bytes of the file read so far


@dataclass(frozen=True)
class Table:
    """A file whose head has been looked at. `chunks(rows, skip)` are its rows in order, without the first `skip`."""

    path: Path
    columns: list[str]
    chunks: Callable[[int, int], Iterator[Chunk]]


def open_table(path: Path, text_column: str) -> Table:
    """Look at the file's head. CSV cells stay the strings that they are; a Parquet file keeps its types.

    Of a CSV file, UTF-8 or UTF-16 with a byte order mark, blank lines are no rows unless there is one column only.

    Raises:
        UserError: no such file, not readable as what its name says, or without the column.
    """
    if not path.is_file():
        raise UserError(f"--input {path} does not exist: give a .csv, .tsv or .parquet file.")
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _open_parquet(path, text_column)
    if kind not in (".csv", ".tsv", ".txt"):
        raise UserError(f"--input {path}: only .csv, .tsv and .parquet files can be scored: convert it to one of them.")
    return _open_csv(path, text_column)


def _require(path: Path, text_column: str, names: list[str]) -> None:
    if text_column not in names:
        raise UserError(
            f"--text-column {text_column}: {path} has no such column (there: {', '.join(names)}): name one of them."
        )


def _open_csv(path: Path, text_column: str) -> Table:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8-sig"
    text = head.decode(encoding, _on_error(encoding))
    if not text.strip():
        raise UserError(f"--input {path} is empty: it needs a header line with a column of texts.")
    if encoding != "utf-16":
        first = head.lstrip(b"\r\n").splitlines()[0]
        if _CONTROL.search(first) or (len(head) >= 1_000 and 10 * len(_CONTROL.findall(head)) > len(head)):
            raise UserError(f"--input {path} holds binary data, no CSV: save it as CSV in UTF-8.")
    announced = re.match(r"\s*sep=(.)\r?\n", text)
    candidates = announced[1] if announced else "\t" if path.suffix.lower() == ".tsv" else _SEPARATORS
    headers = {one: _header(text[announced.end() if announced else 0 :], one) for one in candidates}
    separator = max(candidates, key=lambda one: (text_column in headers[one], len(headers[one])))
    names = headers[separator]
    if not names:
        raise UserError(f"--input {path} has no header line that ends: mend its quotation marks.")
    if any(_ESCAPED.search(name) for name in names):
        raise UserError(f"--input {path} is no UTF-8 text: save it as CSV in UTF-8.")
    _require(path, text_column, names)

    first_break = _LINE_BREAK.search(text)
    # Python before 3.13 and pandas do not quote a cell with a carriage return: it ends no row where \n does.
    newline = "" if first_break and first_break[0] == "\r" else "\n"

    def chunks(rows: int, skip: int) -> Iterator[Chunk]:
        with path.open("rb") as raw, io.TextIOWrapper(raw, encoding, _on_error(encoding), newline=newline) as handle:
            records = _records(handle, separator, len(names))
            named = (fields for fields, _, _ in records if any(fields))  # blank lines may come before the header
            for _ in range(2 if announced else 1):
                next(named, None)
            for _ in range(skip):
                next(records, None)
            held: list[list[str]] = []
            problems: list[str] = []
            characters, yielded = 0, skip > 0
            for fields, problem, size in records:
                held.append(fields)
                problems.append(problem)
                characters += size
                if len(held) >= rows or characters >= CHUNK_CHARACTERS:
                    yield _chunk(names, text_column, held, problems, raw.tell())
                    held, problems, characters, yielded = [], [], 0, True
            if held or not yielded:
                yield _chunk(names, text_column, held, problems, raw.tell())

    return Table(path, names, chunks)


def _on_error(encoding: str) -> str:
    return "replace" if encoding == "utf-16" else "surrogateescape"


def _header(text: str, separator: str) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return next((fields for fields in reader if fields), [])
    except csv.Error:
        return []


def _chunk(names: list[str], text_column: str, rows: list[list[str]], problems: list[str], position: int) -> Chunk:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    texts = list(columns[names.index(text_column)])
    table = pa.table([pa.array(column, pa.string()) for column in columns], names=names)
    return Chunk(table, texts, _too_long(texts, problems), position)


def _too_long(texts: list[str], problems: list[str]) -> list[str]:
    return [p or (TOO_LONG if len(t) > LONGEST_TEXT else "") for t, p in zip(texts, problems, strict=True)]


class _Lines:
    """A file's physical lines with their ends, of which some can be given back."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle
        self._back: list[str] = []  # last one first
        self.taken: list[str] = []  # since the caller emptied it
        self._characters = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else self._read()
        if not line:
            raise StopIteration
        if self.taken:
            self._characters += len(line)
            if self._characters > LONGEST_RECORD or len(self.taken) >= MOST_LINES:
                self._back.append(line)
                raise csv.Error("a quotation mark does not close")
        else:
            self._characters = len(line)
        self.taken.append(line)
        return line

    def _read(self) -> str:
        line = self._handle.readline(LONGEST_RECORD)
        if len(line) == LONGEST_RECORD and line[-1] not in "\r\n":
            while (rest := self._handle.readline(1 << 16)) and rest[-1] not in "\r\n":
                pass
        if 0 <= line.find("\r") < len(line) - 2:
            end = len(line.rstrip("\r\n"))
            line = line[:end].replace("\r", _RETURN) + line[end:]
        return line

    def give_back(self, lines: list[str]) -> None:
        self._back += reversed(lines)


def _records(handle: TextIO, separator: str, width: int) -> Iterator[tuple[list[str], str, int]]:
    """Each record's `width` cells, what is wrong with it, and its characters; the header is the first one.

    A record that does not come out right costs its first line alone: the next line begins a new one.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD))
    lines = _Lines(handle)
    taken = lines.taken
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        taken.clear()
        problem = ""
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            lines.give_back(taken[1:])
            del taken[1:]
            fields, problem = _leniently(taken[0], separator)
        record = taken[0] if len(taken) == 1 else "".join(taken)
        if not fields:
            if width > 1:
                continue  # a blank line
            fields = [""]
        if len(record) >= LONGEST_RECORD:
            problem = RECORD_TOO_LONG
        elif len(fields) != width and not problem:
            problem = f"{len(fields)} field{'s' * (len(fields) != 1)} instead of {width}"
        if not record.isascii():
            if _RETURN in record:
                record = record.replace(_RETURN, "\r")
                fields = [cell.replace(_RETURN, "\r") for cell in fields]
            try:
                record.encode()
            except UnicodeEncodeError:
                problem = problem or NOT_UTF8
                fields = [_ESCAPED.sub("\ufffd", cell) for cell in fields]
        if "\0" in record:
            problem = problem or NULL_BYTE
            fields = [cell.replace("\0", "\ufffd") for cell in fields]
        if len(fields) != width:
            fields += [""] * (width - len(fields))
            fields[width - 1 :] = [separator.join(fields[width - 1 :])]
        yield fields, problem, len(record)


def _leniently(line: str, separator: str) -> tuple[list[str], str]:
    """The cells of a line that breaks the rules of quoting: readable if its marks come in pairs: `"so"-called`."""
    if line.count('"') % 2 == 0:
        try:
            return next(csv.reader([line], delimiter=separator), []), ""
        except csv.Error:
            pass
    return line.rstrip("\r\n").split(separator), OPEN_QUOTE


def _open_parquet(path: Path, text_column: str) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except UNREADABLE as failure:
        raise UserError(f"--input {path} cannot be read as Parquet ({failure}): write it again.") from None
    _require(path, text_column, schema.names)
    kind = schema.field(schema.get_all_field_indices(text_column)[0]).type
    if pa.types.is_nested(kind):
        raise UserError(f"--text-column {text_column}: {path} holds {kind} there, no texts: name a column of texts.")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    sizes = [group.num_rows for group in groups]
    row_bytes = sum(group.total_byte_size for group in groups) / max(1, metadata.num_rows)

    def chunks(rows: int, skip: int) -> Iterator[Chunk]:
        if metadata.num_rows == 0 and not skip:
            yield Chunk(schema.empty_table(), [], [], path.stat().st_size)
        done, first = 0, 0
        while first < len(sizes) and done + sizes[first] <= skip:
            done += sizes[first]
            first += 1
        # A buffer, or else all of a column in a row group is read at once.
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            several = max(1, min(rows, int(2 * CHUNK_CHARACTERS / max(1.0, row_bytes))))
            try:
                for batch in file.iter_batches(several, row_groups=list(range(first, len(sizes)))):
                    before, done = done, done + len(batch)
                    if done > skip:
                        table = pa.Table.from_batches([batch]).slice(max(0, skip - before))
                        yield from _bounded(table, text_column, path.stat().st_size * done // metadata.num_rows)
            except UNREADABLE as failure:
                raise UserError(
                    f"--input {path} is damaged after row {done:,} ({str(failure).splitlines()[0]}): write it again."
                ) from None

    return Table(path, schema.names, chunks)


def _bounded(table: pa.Table, text_column: str, position: int) -> Iterator[Chunk]:
    """The rows in chunks of a bounded number of characters."""
    texts, problems = _texts(table.column(table.schema.get_all_field_indices(text_column)[0]))
    problems = _too_long(texts, problems)
    start = characters = 0
    for end, text in enumerate(texts, 1):
        characters += len(text)
        if end == len(texts) or characters >= CHUNK_CHARACTERS:
            yield Chunk(table.slice(start, end - start), texts[start:end], problems[start:end], position)
            start, characters = end, 0


def _texts(column: pa.ChunkedArray) -> tuple[list[str], list[str]]:
    """Cells of any plain type as texts, as a CSV file would hold them, and what is wrong with each."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:  # a writer that did not look
        values = column.cast(pa.large_binary()).to_pylist()
    texts, problems = [], []
    for value in values:
        problem = ""
        if value is None or value != value:
            text = ""
        elif isinstance(value, bytes):
            text = value.decode(errors="replace")
            problem = NOT_UTF8 if "\ufffd" in text and text.encode() != value else ""
        else:
            text = value if isinstance(value, str) else str(value)
        texts.append(text)
        problems.append(problem or (NULL_BYTE if "\0" in text else ""))
    return texts, problems
