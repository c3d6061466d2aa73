"""Rows that are left out of an import: where they go, and how repeated ids are found."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from data import schema
from data.dataset import TEXT_DTYPES
from data.values import decoded

Reasons = dict[int, str]  # position of a row in its block, and why it is bad
_LONGEST_TEXT = 1_000
MOST_BYTES = 256 << 20  # of rejects.csv: a file that is bad throughout must not fill the disk


def broken_rules(table: str, rows: pa.Table, reasons: Reasons, seen: "Seen") -> Reasons:
    """`reasons`, and why further rows break the rules of the schema or repeat an id."""
    if not reasons and schema.is_sound(table, rows):
        return seen.again(rows, reasons)
    frame = decoded(rows.select(schema.TABLES[table].names)).to_pandas(types_mapper=TEXT_DTYPES.get)
    failures = schema.failures(table, frame)
    # Repeated ids are found by `seen`: it knows the other blocks, and that a bad row takes no id.
    failures = failures[~failures["is_duplicate"].astype(bool)].drop_duplicates("row")
    reasons = dict(zip(failures["row"].tolist(), failures["reason"], strict=True)) | reasons
    return reasons | seen.again(rows, reasons)


class Seen:
    """Finds ids that occurred before, in this block or another, in 8 bytes for each id.

    Ids are kept as 64-bit hashes in sorted arrays of doubling size: two of 10 million ids share a hash with a
    probability of 3 in a million.
    """

    def __init__(self, table: str) -> None:
        self._columns = list(schema.KEYS[table])
        self._levels: list[np.ndarray] = []

    def again(self, rows: pa.Table, bad: Reasons) -> Reasons:
        """Position and reason of each row of a block whose id is taken; bad rows take none."""
        if not self._columns or not len(rows):
            return {}
        kept = np.setdiff1d(np.arange(len(rows)), np.array(list(bad), np.int64))
        frame = rows.select(self._columns).take(pa.array(kept)).to_pandas(types_mapper=TEXT_DTYPES.get)
        hashes = pd.util.hash_pandas_object(frame, index=False, categorize=False).to_numpy()
        repeated = frame.duplicated().to_numpy()
        for level in self._levels:
            position = np.minimum(np.searchsorted(level, hashes), len(level) - 1)
            repeated |= level[position] == hashes
        self._add(np.unique(hashes[~repeated]))
        what = " and ".join(self._columns)
        return {
            int(kept[i]): f"{what} {' '.join(str(v) for v in frame.iloc[i])[:100]!r} occurs more than once"
            for i in np.flatnonzero(repeated)
        }

    def _add(self, hashes: np.ndarray) -> None:
        while self._levels and len(self._levels[-1]) <= len(hashes):
            hashes = np.sort(np.concatenate([self._levels.pop(), hashes]))
        if len(hashes):
            self._levels.append(hashes)


class Rejects:
    """`rejects.csv`: file, line, reason and text of each rejected row, up to MOST_BYTES."""

    def __init__(self, path: Path) -> None:
        self.path, self.count, self._written = path, 0, 0

    def __enter__(self) -> "Rejects":
        self._handle = self.path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._handle)
        self._writer.writerow(["file", "line", "reason", "text"])
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._handle.close()

    def add(self, path: Path, line: int, reason: str, text: str) -> None:
        if self._written < MOST_BYTES:
            self._written += self._writer.writerow([path.name, line, reason, text[:_LONGEST_TEXT]])
        self.count += 1
