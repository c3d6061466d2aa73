"""A table's Parquet file, written block by block in a thread of its own, and hashed while it grows."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from data import schema
from data.counted import Ids


class TableWriter:
    """As a context; after it the file is whole, unless there was no block: then there is none.

    A block is written while the caller makes the next one, and no third one waits.
    """

    def __init__(self, table: str, target: Path) -> None:
        self.ids = {name: Ids() for name in (schema.USER_ID, schema.ITEM_ID) if table == "interactions"}
        self._base, self._target = schema.TABLES[table], target
        self._pool = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None
        self._writer: pq.ParquetWriter | None = None
        self._read: IO[bytes] | None = None
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        """Of the whole file."""
        return self._digest.digest()

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._pool.shutdown()
            if self._writer is not None:
                self._writer.close()
            if self._read is not None:
                self._hash()
                self._read.close()

    def add(self, rows: pa.Table) -> None:
        """Rows with the table's columns or more, text dictionary-encoded or not.

        Raises:
            OSError: those before could not be written.
        """
        self._wait()
        self._written = self._pool.submit(self._write, rows)
        for name, known in self.ids.items():
            known.add(rows[name])

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()

    def _write(self, rows: pa.Table) -> None:
        fields = [*self._base, *(f for f in rows.schema if f.name not in self._base.names)]
        rows = rows.select([f.name for f in fields])
        if self._writer is None:
            # Encoded text is written as it comes, and read as text: the types of Arrow are not kept.
            fields = [f.with_type(rows.schema.field(f.name).type) for f in fields]
            self._writer = _writer(self._target, pa.schema(fields))
            self._read = self._target.open("rb")
        self._writer.write_table(_as(self._writer.schema, rows))
        self._hash()

    def _hash(self) -> None:
        """What has been written since: at the end little is left to do."""
        assert self._read is not None
        self._digest.update(self._read.read())


def _writer(target: Path, arrow: pa.Schema) -> pq.ParquetWriter:
    """Few texts that occur often are encoded, and numbers as ratings are; times hardly ever occur twice. Least and
    greatest are kept of times: of ids nobody asks."""
    times = [f.name for f in arrow if pa.types.is_timestamp(f.type)]
    others = [f.name for f in arrow if f.name not in times]
    encoded = any(pa.types.is_dictionary(kind) for kind in arrow.types)
    return pq.ParquetWriter(
        target, arrow, compression="zstd", use_dictionary=others, write_statistics=times, store_schema=not encoded
    )


def _as(arrow: pa.Schema, rows: pa.Table) -> pa.Table:
    """The rows in the types of the first block: a later one may have few repeats, or many."""
    columns = []
    for kind, column in zip(arrow.types, rows.columns, strict=True):
        to_encode = pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type)
        columns.append(column.dictionary_encode() if to_encode else column.cast(kind))
    return pa.table(columns, schema=arrow)
