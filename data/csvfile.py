"""CSV files of any dialect, block by block, with the physical line of every row.

A file is cut into blocks of whole records; each is parsed by Arrow, all columns as text. Arrow tells which record has
the wrong number of fields; lines are counted here, with quoted line breaks and blank lines, because a number that an
editor cannot jump to is of no use. A block whose quotation marks do not add up is read again line by line, so that one
stray mark costs its own line and not the rest of the file.
"""

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from data.errors import UserError
from data.tablefile import Block, normalise, refuse_unpacked

_BLOCK_BYTES = 4 << 20
_HEAD_BYTES = 1 << 18
_CONTROL = bytes(sorted({*range(0x20)} - {*b"\0\t\n\v\f\r"}))
_LONGEST_RECORD_BYTES = 64 << 20
_MOST_LINES_OF_A_RECORD = 1_000
_DELIMITERS = (",", ";", "\t", "|", "::")
_PART = "\x1f"  # stands in for `::`, which Arrow does not take
_NOT_UTF8 = "not all of it is UTF-8: what is not was read as Latin-1 (Windows-1252)"
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def open_csv(path: Path, known: frozenset[str]) -> "CsvFile":
    """Look at the beginning of a CSV file; see `data.tablefile.open_table`."""
    file = CsvFile(path)
    with file.stream() as read:
        content = read(_HEAD_BYTES)
    if b"\0" in content or (len(content) - len(content.translate(None, _CONTROL))) * 20 > len(content):
        raise UserError(f"{path} is a binary file, no CSV: save the table as CSV (UTF-8) or Parquet.")
    head = _utf8(content)[0].decode()
    if not head.strip():
        raise UserError(f"{path} is empty: it needs a header line and rows.")
    lines = head.split("\n")
    if len(content) >= _HEAD_BYTES and len(lines) > 1:
        lines.pop()  # probably cut in the middle
    skipped = next(n for n, line in enumerate(lines) if line.strip())
    if found := re.fullmatch(r"sep=(.)", lines[skipped].strip() or " "):
        file.delimiter = found[1]
        skipped += 1
    else:
        file.delimiter = _sniff([line for line in lines[skipped : skipped + 50] if line.strip()])
    reader = csv.reader((line + "\n" for line in lines[skipped:]), delimiter=file.delimiter[0])
    try:
        first = next(reader, [])
    except csv.Error as failure:
        raise UserError(f"{path} is no CSV ({failure}): save the table as CSV (UTF-8) or Parquet.") from None
    n_lines = max(1, reader.line_num)
    if file.delimiter == "::":
        first, n_lines = lines[skipped].split("::"), 1
    if n_lines > _MOST_LINES_OF_A_RECORD or not first:
        raise UserError(f"{path} has no header line that ends: mend the quotation marks of line {skipped + 1}.")
    first = [" ".join(name.split()) for name in first]
    named = any(normalise(name) in known for name in first)
    file.has_header = named or not any(_NUMBER.fullmatch(name) for name in first)
    file.columns = tuple(first) if file.has_header else tuple(str(n + 1) for n in range(len(first)))
    file.first_row = tuple(first)
    file.skip_lines = skipped + (n_lines if file.has_header else 0)
    return file


def _sniff(lines: list[str]) -> str:
    """The delimiter that splits the lines into the same number of fields most often; more fields win a tie."""
    best, delimiter = (0.0, 1), ","
    for candidate in _DELIMITERS:
        try:
            if candidate == "::":
                counts = [line.count("::") + 1 for line in lines]
            else:
                counts = [len(row) for row in csv.reader(lines, delimiter=candidate) if row]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            score = (sum(n == counts[0] for n in counts) / len(counts), counts[0])
            if score > best:
                best, delimiter = score, candidate
    return delimiter


@dataclass
class CsvFile:
    path: Path
    columns: tuple[str, ...] = ()
    has_header: bool = True
    first_row: tuple[str, ...] = ()
    delimiter: str = ","
    skip_lines: int = 0
    notes: list[str] = field(default_factory=list)

    def size(self) -> int:
        return self.path.stat().st_size

    @contextmanager
    def stream(self) -> Iterator[Callable[[int], bytes]]:
        """A function that reads about so many bytes: decompressed, without a byte order mark, line ends as `\\n`."""
        with self.path.open("rb") as raw:
            self._raw = raw
            magic = raw.read(2)
            raw.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if magic == b"\x1f\x8b" else raw  # type: ignore[assignment]
            try:
                mark = stream.read(3)
                stream.seek(0)
                decode = None
                if mark[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                    decode = codecs.getincrementaldecoder("utf-16")("replace").decode
                elif mark == codecs.BOM_UTF8:
                    stream.read(3)

                def read(n_bytes: int) -> bytes:
                    data = stream.read(n_bytes)
                    if stream is not raw:
                        refuse_unpacked(self.path, stream.tell())
                    if decode is not None:
                        data = decode(data, final=not data).encode("utf-8", "replace")
                    while data.endswith(b"\r") and (more := stream.read(1 if decode is None else 2)):
                        data += more if decode is None else decode(more).encode("utf-8", "replace")
                    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data

                yield read
            except (EOFError, zlib.error, gzip.BadGzipFile) as failure:
                raise UserError(f"{self.path} is damaged or cut off ({failure}): copy it again.") from None

    def blocks(self, needed: Sequence[int], advance: Callable[[int], object]) -> Iterator[Block]:
        for line, content in self._records(advance):
            content, mended = _utf8(content)
            if mended and _NOT_UTF8 not in self.notes:
                self.notes.append(_NOT_UTF8)
            yield self._parse(content, line, needed)

    def _records(self, advance: Callable[[int], object]) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole records, each with the number of its first line."""
        line, rest, done = 1, b"", 0
        to_skip = self.skip_lines
        with self.stream() as read:
            while True:
                fresh = read(_BLOCK_BYTES)
                data = rest + fresh
                while to_skip and (end := data.find(b"\n") + 1):
                    data, to_skip, line = data[end:], to_skip - 1, line + 1
                if to_skip and not fresh:
                    return  # the header is the last line and has no end
                end = len(data) if not fresh else 0 if to_skip else _cut(data, self._quotes)
                if end:
                    yield line, data[:end]
                    line += int(np.count_nonzero(np.frombuffer(data, np.uint8, end) == 10))  # bytes.count takes longer
                rest = data[end:]
                if len(rest) > _LONGEST_RECORD_BYTES:
                    raise UserError(f"{self.path} has a line of more than 64 MB at line {line}: is it a CSV file?")
                advance(self._raw.tell() - done)
                done = self._raw.tell()
                if not fresh:
                    return

    @property
    def _quotes(self) -> bool:
        return self.delimiter != "::"

    def _parse(self, content: bytes, line: int, needed: Sequence[int]) -> Block:
        quoted = self._quotes and b'"' in content
        delimiter = self.delimiter
        if delimiter == "::":
            delimiter, content = _PART, content.replace(b"::", _PART.encode())
        names = [str(i) for i in range(len(self.columns))]
        # Without quotes no value can hold a line break, and the other columns need not be looked at.
        kept = names if quoted else [names[i] for i in needed]
        invalid: list[tuple[int, int, str]] = []

        def skip(row: arrow_csv.InvalidRow) -> str:
            invalid.append((row.number, row.actual_columns, row.text))
            return "skip"

        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(content),
                arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(content) + 1024),
                arrow_csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char='"' if quoted else False,
                    newlines_in_values=quoted,
                    ignore_empty_lines=False,
                    invalid_row_handler=skip,
                ),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), include_columns=kept, check_utf8=False
                ),
            ).combine_chunks()
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return self._parse_slowly(content, line, needed, delimiter)
        columns = {int(name): _one(table[name]) for name in kept}
        total = table.num_rows + len(invalid)
        if not invalid and not quoted:
            lines = np.arange(line, line + total)
            text = _Texts(content, line, lines, np.zeros(total, np.int64), delimiter)
            return _without_blank(Block({i: columns[i] for i in needed}, lines, [], text), self.delimiter)
        breaks = np.zeros(total, np.int64)
        valid = np.ones(total, bool)
        valid[[number - 1 for number, _, _ in invalid]] = False
        if quoted and content.count(b"\n") + (not content.endswith(b"\n")) != total:
            inside = sum(np.asarray(pc.count_substring(column, "\n")) for column in columns.values())
            breaks[valid] = inside
            if any("\n" in text for *_, text in invalid) or breaks.max(initial=0) >= _MOST_LINES_OF_A_RECORD:
                return self._parse_slowly(content, line, needed, delimiter)
        starts = line + np.arange(total) + np.cumsum(breaks) - breaks
        broken = [(int(starts[number - 1]), self._wrong_count(n), text) for number, n, text in invalid if text.strip()]
        lines, breaks = starts[valid], breaks[valid]
        text = _Texts(content, line, lines, breaks, delimiter)
        return _without_blank(Block({i: columns[i] for i in needed}, lines, broken, text), self.delimiter)

    def _parse_slowly(self, content: bytes, line: int, needed: Sequence[int], delimiter: str) -> Block:
        """Record by record: one that does not come out right is rejected with its first line alone."""
        lines = content.decode().split("\n")
        if not lines[-1]:
            lines.pop()
        rows, starts, breaks, broken = [], [], [], []
        position = 0
        while position < len(lines):
            text = lines[position]
            fields, used = self._record(lines, position, delimiter)
            if len(fields) == len(self.columns):
                rows.append(fields)
                starts.append(line + position)
                breaks.append(used - 1)
                position += used
                continue
            if text.strip():
                reason = "a quotation mark is not closed" if text.count('"') % 2 else self._wrong_count(len(fields))
                broken.append((line + position, reason, text))
            position += 1
        columns = {i: pa.array([row[i] for row in rows], pa.string()) for i in needed}
        numbers = np.array(starts, np.int64)
        texts = _Texts(content, line, numbers, np.array(breaks, np.int64), delimiter)
        return _without_blank(Block(columns, numbers, broken, texts), self.delimiter)

    def _record(self, lines: list[str], position: int, delimiter: str) -> tuple[list[str], int]:
        """Fields of the record that begins at a line, and how many lines it takes; no fields if it does not end."""
        if not self._quotes or '"' not in lines[position]:
            return lines[position].split(delimiter), 1
        following = (text + "\n" for text in lines[position : position + _MOST_LINES_OF_A_RECORD])
        for strict, source in ((True, following), (False, iter([lines[position]]))):
            reader = csv.reader(source, delimiter=delimiter, strict=strict)
            try:
                return next(reader), reader.line_num
            except (csv.Error, StopIteration):
                continue
        return [], 1

    def _wrong_count(self, n_fields: int) -> str:
        return f"{n_fields} field{'s' * (n_fields != 1)} instead of {len(self.columns)}"


class _Texts:
    """The text of a row of a block, found only when somebody asks: most blocks have no bad row."""

    def __init__(self, content: bytes, line: int, lines: np.ndarray, breaks: np.ndarray, delimiter: str) -> None:
        self._content, self._line, self._lines, self._breaks, self._delimiter = content, line, lines, breaks, delimiter

    @cached_property
    def _ends(self) -> np.ndarray:
        ends = np.flatnonzero(np.frombuffer(self._content, np.uint8) == 10)
        return np.concatenate([[-1], ends, [len(self._content)]])

    def __call__(self, row: int) -> str:
        first = int(self._lines[row]) - self._line
        start, end = self._ends[first] + 1, self._ends[first + 1 + int(self._breaks[row])]
        return (
            self._content[start:end].decode().replace(_PART, "::")
            if self._delimiter == _PART
            else (self._content[start:end].decode())
        )


def _without_blank(block: Block, delimiter: str) -> Block:
    """Drop the rows whose line is blank or holds nothing but delimiters; spreadsheets leave such lines behind."""
    if not block.columns or not len(block.lines):
        return block
    empty = np.ones(len(block.lines), bool)
    for column in block.columns.values():
        empty &= np.asarray(pc.equal(pc.binary_length(column), 0))
        if not empty.any():
            return block
    nothing = f'"{delimiter} \t'
    blank = np.array([row for row in np.flatnonzero(empty).tolist() if not block.text(row).strip(nothing)], np.int64)
    if len(blank) == 0:
        return block
    kept = np.delete(np.arange(len(block.lines)), blank)
    columns = {i: column.take(pa.array(kept)) for i, column in block.columns.items()}
    return Block(columns, block.lines[kept], block.broken, lambda row: block.text(int(kept[row])))


def _cut(data: bytes, quotes: bool) -> int:
    """Where the last whole record of `data` ends: at a line end with an even number of quotation marks before it."""
    last = data.rfind(b"\n") + 1
    if not quotes or b'"' not in data or not data.count(b'"', 0, last) % 2:
        return last
    end = last
    for _ in range(_MOST_LINES_OF_A_RECORD):
        before = data.rfind(b"\n", 0, end - 1) + 1
        if before == 0:
            break
        odd_line = data.count(b'"', before, end) % 2
        end = before
        if odd_line:
            return end
    return last


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], pa.string()), *column.chunks])


def _as_windows_text(failure: UnicodeError) -> tuple[str, int]:
    if not isinstance(failure, UnicodeDecodeError):
        raise failure
    wrong = failure.object[failure.start : failure.end]
    try:
        return wrong.decode("cp1252"), failure.end
    except UnicodeDecodeError:
        return wrong.decode("latin-1"), failure.end


codecs.register_error("marquee-latin-1", _as_windows_text)


def _utf8(content: bytes) -> tuple[bytes, bool]:
    """Valid UTF-8: bytes that are none are taken as Latin-1, one by one; whether there were any."""
    if content.isascii():
        return content, False
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("utf-8", "marquee-latin-1").encode(), True
    return content, False
