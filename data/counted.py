"""Counts of a table of interactions, piece by piece: memory does not grow with the rows.

Ids are looked at as they lie in the file, in numbers of a dictionary, which takes a third of a query's time.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data import schema


class Ids:
    """The distinct texts of a column that comes piece by piece."""

    def __init__(self) -> None:
        self._known = pa.array([], pa.string())
        self._new: list[pa.Array] = []
        self._number = 0

    def add(self, column: pa.Array | pa.ChunkedArray) -> None:
        """Text, encoded or not; nulls do not count."""
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            self._new.append(_distinct(chunk).cast(pa.string()).drop_null())
            self._number += len(self._new[-1])
        if self._number > max(1 << 16, len(self._known)):  # seldom: or else many pieces of many ids are looked at anew
            self.all()

    def all(self) -> pa.Array:
        """Each once, in the order in which they came, but for encoded text: there in that of its dictionary."""
        self._known, self._new, self._number = pa.concat_arrays([self._known, *self._new]).unique(), [], 0
        return self._known


def _distinct(array: pa.Array) -> pa.Array:
    if not pa.types.is_dictionary(array.type):
        return array.unique()
    used = np.zeros(len(array.dictionary), bool)  # not all of a dictionary need occur
    used[array.indices.drop_null().to_numpy()] = True
    return array.dictionary.filter(pa.array(used))


def counted(path: Path) -> dict[str, Any]:
    """members, titles, rows; first and last, microseconds since 1970; of ratings how many there are (rated), their sum,
    the least and the greatest; rows by kind.

    Raises:
        pa.ArrowException: a column is missing, or the file is damaged.
    """
    ids = {name: Ids() for name in (schema.USER_ID, schema.ITEM_ID)}
    kinds: Counter[str] = Counter()
    rows, rated, total = 0, 0, 0.0
    ends: list[tuple[int, int]] = []
    marks: list[float] = []
    names = [*ids, schema.KIND, schema.TIMESTAMP, schema.RATING]
    there = pq.read_schema(path).names
    if missing := [name for name in names if name not in there]:
        raise pa.ArrowKeyError(f"there is no column {missing[0]}")
    with pq.ParquetFile(path, read_dictionary=names[:3]) as file:
        for batch in file.iter_batches(batch_size=1 << 20, columns=names):
            if not len(batch):
                continue
            for name, known in ids.items():
                known.add(batch.column(name))
            counted = batch.column(schema.KIND).value_counts()
            kinds.update({one["values"].as_py(): one["counts"].as_py() for one in counted})
            span = pc.min_max(batch.column(schema.TIMESTAMP).cast(pa.int64())).as_py()
            ends.append((span["min"], span["max"]))
            ratings = batch.column(schema.RATING)
            if known_ratings := len(ratings) - ratings.null_count:
                marks += pc.min_max(ratings).as_py().values()
                rated, total = rated + known_ratings, total + pc.sum(ratings).as_py()
            rows += len(batch)
    return {
        "members": len(ids[schema.USER_ID].all()),
        "titles": len(ids[schema.ITEM_ID].all()),
        "rows": rows,
        "first": min(first for first, _ in ends),
        "last": max(last for _, last in ends),
        "rated": rated,
        "sum": total,
        "least": min(marks, default=None),
        "greatest": max(marks, default=None),
        "kinds": kinds,
    }
