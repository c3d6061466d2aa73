"""A Parquet table as CSV for a spreadsheet or another program."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from data.spreadsheet import safe

_BATCH_ROWS = 100_000


def as_csv(path: Path) -> bytes:
    """The whole table as UTF-8 with a header line: times in UTC, lists of words joined by `|`, other lists as JSON.

    Text that a spreadsheet would run as a formula gets a leading apostrophe (see data/spreadsheet.py). All of it is
    held in memory, so ask for the number of rows first.
    """
    out = io.BytesIO()
    with pq.ParquetFile(path) as file:
        arrow = pa.schema([pa.field(field.name, _kind(field.type)) for field in file.schema_arrow])
        with csv.CSVWriter(out, arrow) as writer:
            for batch in file.iter_batches(_BATCH_ROWS):
                columns = [safe(pa.chunked_array([_flat(column)]))[0] for column in batch.columns]
                writer.write_table(pa.table(columns, schema=arrow))
    return out.getvalue()


def rounded_csv(table: pa.Table) -> bytes:
    """The table as CSV: numbers rounded to four places, and no text that a spreadsheet would run as a formula."""
    columns = [
        pc.round(column, 4) if pa.types.is_floating(column.type) else safe(column)[0] for column in table.columns
    ]
    sink = pa.BufferOutputStream()
    csv.write_csv(pa.table(columns, names=table.column_names), sink)
    return bytes(sink.getvalue())


def _kind(kind: pa.DataType) -> pa.DataType:
    text = pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or pa.types.is_large_string(kind)
    return pa.string() if text else kind


def _flat(column: pa.Array) -> pa.Array:
    if pa.types.is_nested(column.type):
        words = pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type)
        return pa.array([_cell(value, words) for value in column.to_pylist()], pa.string())
    return column.cast(_kind(column.type))


def _cell(value: Any, words: bool) -> str | None:
    if value is None:
        return None
    if words:
        return "|".join(word for word in value if word is not None)
    return json.dumps(value, ensure_ascii=False, default=str)
