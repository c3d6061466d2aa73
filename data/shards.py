"""A long table scored shard by shard: what is scored stays when a process, the driver or the machine dies.

A shard is a piece of what is to be scored, always cut at the same places, scored as a whole and written to a file of
its own, which is whole or not there. So it does not matter who scores it (data/engines.py) nor how often: the same
call goes on with the shards that are missing, and what comes out has the rows of one process that was never disturbed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic_file, atomic_folder, write_json
from data.errors import UserError
from data.parts import STATE

# Scores some of the things that a shard is made of: tables, each with how many of them it is about.
Scorer = Callable[[np.ndarray], Iterator[tuple[pa.Table, int]]]
_SHARD = "part-{:06d}.parquet"


@dataclass(frozen=True)
class Work:
    """What somebody who scores shards has to know; it can be pickled.

    Args:
        open_scorer: loads the model. A function that can be imported, or a `functools.partial` of one.
        target: columns of the tables that it gives.
        folder: of the shards' files.
    """

    open_scorer: Callable[[], Scorer]
    target: pa.Schema
    folder: Path

    def path(self, shard: int) -> Path:
        return self.folder / _SHARD.format(shard)

    def write(self, scorer: Scorer, shard: int, things: np.ndarray, done: Callable[[int], object] = int) -> None:
        """Score a shard into its file; `done` hears of how many things each table is about."""
        with (
            atomic_file(self.path(shard)) as temporary,
            pq.ParquetWriter(temporary, self.target, compression="zstd") as writer,
        ):
            for table, n in scorer(things):
                writer.write_table(table)
                done(n)


@dataclass(frozen=True)
class Shards:
    """Things to score, cut into shards.

    Args:
        work: how.
        things: ids, or places in a table. Shape: (things,).
        size: things in a shard.
    """

    work: Work
    things: np.ndarray
    size: int

    def __len__(self) -> int:
        return -(-len(self.things) // self.size)

    def __getitem__(self, shard: int) -> np.ndarray:
        return self.things[shard * self.size : (shard + 1) * self.size]

    @property
    def paths(self) -> list[Path]:
        """Files of the shards, in order."""
        return [self.work.path(shard) for shard in range(len(self))]

    def missing(self) -> list[int]:
        """Shards that nobody has scored yet, in order."""
        there = set(self.work.folder.glob(_SHARD.format(0)[:5] + "*"))
        return [shard for shard, path in enumerate(self.paths) if path not in there]

    def scored(self, missing: list[int] | None = None) -> int:
        """Things in the shards that are there, or in all but those that were `missing`."""
        return len(self.things) - sum(len(self[shard]) for shard in (self.missing() if missing is None else missing))


def shards_in(
    parts: Path,
    things: np.ndarray,
    size: int,
    key: dict[str, Any],
    open_scorer: Callable[[], Scorer],
    target: pa.Schema,
) -> Shards:
    """Shards in a parts folder (data/parts.py), with those that an earlier call of the same key has left.

    Args:
        parts: the folder; whatever belongs to another key is deleted.
        key: all that the scores depend on besides `things` and `size`, as JSON: model, data, settings.
        things, size, open_scorer, target: see Shards and Work.
    """
    asked = {**key, "things": digest(things), "size": size}
    text = json.dumps(asked, sort_keys=True)
    # Of its own for each key: who was left behind by a driver that was killed may still write.
    folder = parts / hashlib.sha256(text.encode()).hexdigest()[:16]
    for other in parts.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    shards = Shards(Work(open_scorer, target, folder), things, size)
    keep(shards)
    return shards


def keep(shards: Shards) -> None:
    """Let the parts folder stand if something fails, where anything is scored; see data/parts.py."""
    if shards.scored():
        write_json(shards.work.folder.parent / STATE, {"shards": shards.work.folder.name})


def digest(values: np.ndarray) -> str:
    """SHA-256 of values in their order, 16 hex digits; strings are told apart from where others begin."""
    array = pa.array(values, from_pandas=True)
    whole = hashlib.sha256(str(array.type).encode() + len(array).to_bytes(8))
    for buffer in array.buffers():
        whole.update(b"-" if buffer is None else memoryview(buffer))
    return whole.hexdigest()[:16]


def gathered(paths: Sequence[Path]) -> Iterator[pa.Table]:
    """The tables of some shards in order, a row group at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)


def write_one(shards: Shards, out: Path, metadata: dict[bytes, bytes] | None = None) -> None:
    """All shards as one Parquet file, atomically."""
    target = shards.work.target.with_metadata(metadata)
    with atomic_file(out) as temporary, pq.ParquetWriter(temporary, target, compression="zstd") as writer:
        for table in gathered(shards.paths):
            writer.write_table(table.replace_schema_metadata(metadata))


def check_folder(out: Path) -> None:
    """That a folder of shards may take the place of `out`.

    Raises:
        UserError: there is something else.
    """
    if out.exists() and not (out.is_dir() and all(p.match("part-*-of-*.parquet") for p in out.iterdir())):
        raise UserError(f"--out {out} holds something else: name a new folder for the shards, or remove it first.")


def move_to(shards: Shards, out: Path) -> None:
    """All shards as files of a folder, which takes the place of an earlier one of the kind, atomically.

    The files are called part-00000-of-00025.parquet, as engines for large tables call theirs, in the order of the rows.

    Raises:
        UserError: see check_folder.
    """
    check_folder(out)
    with atomic_folder(out) as folder:
        for number, path in enumerate(shards.paths):
            path.rename(folder / f"part-{number:05d}-of-{len(shards):05d}.parquet")
