"""Score again only what has changed: what a scores table was made from, kept beside it.

`.NAME.state.parquet` beside the table NAME holds for each id a digest of all that its score was made from; both files
carry the same key, which says what else the scores depend on. Where they do not match, or either is gone, everything
counts as changed.
"""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic_file
from data.shards import Shards, digest

_KEY = b"marquee.scored_by"
_DIGEST = "digest"
_BATCH_ROWS = 65_536


def state_of(out: Path) -> Path:
    """Where it is kept what a table was made from."""
    return out.with_name(f".{out.stem}.state.parquet")


def metadata(key: dict[str, Any], ids: np.ndarray, digests: np.ndarray) -> dict[bytes, bytes]:
    """What both files carry: of one scoring, and of no other.

    Args:
        key: all that the scores depend on besides what the digests are of, as JSON.
        ids: who or what was scored. Shape: (n,).
        digests: of what each was scored by. Shape: (n,), uint64.
    """
    return {_KEY: json.dumps({**key, "of": [digest(ids), digest(digests)]}, sort_keys=True).encode()}


def write_state(out: Path, column: str, ids: np.ndarray, digests: np.ndarray, carried: dict[bytes, bytes]) -> None:
    """Keep what `out` was made from, once it is there; `carried` is what it carries itself."""
    table = pa.table({column: pa.array(ids, pa.string()), _DIGEST: pa.array(digests, pa.uint64())})
    with atomic_file(state_of(out)) as temporary:
        pq.write_table(table.replace_schema_metadata(carried), temporary, compression="zstd")


def changed(out: Path, column: str, ids: np.ndarray, digests: np.ndarray, key: dict[str, Any]) -> np.ndarray | None:
    """Which of `ids` `out` does not tell as they would be scored now. Shape: (n,), bool; None: nothing in it is of use.

    Args:
        column: of the ids.
        ids, digests, key: as they are now, see `metadata`.
    """
    try:
        carried: dict[bytes, bytes] = pq.read_schema(out).metadata or {}
        state = pq.read_table(state_of(out))
        earlier = json.loads(carried[_KEY])
        if (state.schema.metadata or {}).get(_KEY) != carried[_KEY]:
            return None
        known = pd.Series(state[_DIGEST].to_numpy(), pd.Index(state[column].to_pylist(), dtype=object))
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None
    del earlier["of"]
    if earlier != json.loads(json.dumps(key)) or not known.index.is_unique or known.empty:
        return None
    at = known.index.get_indexer(pd.Index(ids, dtype=object))
    return (at < 0) | (known.to_numpy()[at] != digests)


def told(out: Path, new: np.ndarray | None, things: str, why: str, then: str, depends: str = "run") -> str:
    """What `changed` found, in a sentence: `3 of 1,500 members have new events and are scored.`

    Args:
        out, new: its first argument and its answer.
        things: what the ids are of.
        why, then: of those that changed, and what happens to them.
        depends: what made `out`, where it was another.
    """
    if new is None:
        return f"{out} is {f'of another {depends}' if out.exists() else 'not there'}: all {things} {then}."
    return f"{int(new.sum()):,} of {len(new):,} {things} {why} and {then}."


def merge(
    earlier: Path,
    column: str,
    ids: np.ndarray,
    new: Shards,
    new_ids: np.ndarray,
    out: Path,
    carried: dict[bytes, bytes] | None = None,
    order: str | None = None,
) -> None:
    """Write the rows of all of `ids`, in their order, atomically: those of an earlier table, but newly scored ones.

    Args:
        earlier: the table; it may have more columns than are wanted.
        column: of the ids.
        ids: all that belong there.
        new: shards of those who changed, all scored.
        new_ids: who they are.
        out: where to; may be `earlier`.
        carried: see `metadata`.
        order: column by which the rows of one id are sorted.
    """
    target = new.work.target
    then = "" if order is None else f', "{order}"'
    columns = ", ".join(f'"{name}"' for name in target.names)
    with duckdb.connect() as query, atomic_file(out) as temporary:
        query.register("places", pa.table({column: pa.array(ids, pa.string()), "place": np.arange(len(ids))}))
        query.register("anew", pa.table({column: pa.array(new_ids, pa.string())}))
        rows = f'select {columns} from read_parquet($earlier) anti join anew using ("{column}")'
        files: dict[str, object] = {"earlier": str(earlier)}
        if len(new):
            rows += f" union all select {columns} from read_parquet($fresh)"
            files["fresh"] = [str(path) for path in new.paths]
        found = query.sql(
            f'select {columns} from ({rows}) join places using ("{column}") order by place{then}', params=files
        ).to_arrow_reader(_BATCH_ROWS)
        assert found is not None  # for the types' sake
        with pq.ParquetWriter(temporary, target.with_metadata(carried), compression="zstd") as writer:
            for batch in found:
                table = pa.Table.from_batches([batch]).cast(target)
                writer.write_table(table.replace_schema_metadata(carried))
