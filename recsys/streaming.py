"""Histories that do not fit in memory: laid out on disk once, in order and as integers, and looked at where they lie.

DuckDB reads the interactions a row group at a time and sorts them by member and time, on disk where memory does not
suffice. They come back some members at a time, as recsys/interactions.py and data/splits.py have them: ties in time by
their hash, a member's first event on each title, the protocol's split. What is written is the vocabulary and, for each
part of the split, plain arrays of 16 bytes for each event,

    tables/NAME/.histories/PROTOCOL-SEED/   users.parquet  items.parquet  store.json
                                            PART.start.npy  PART.items  PART.times  PART.ratings

which a training maps into memory and gathers from: the system keeps what is asked for often, and gives it up under
pressure. They lie in the dataset's folder, so an import, an export or a `forget` that replaces the dataset takes them
along.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from filelock import FileLock

from data import home, sql
from data.atomic import write_json
from data.dataset import Dataset, only_writer, open_dataset, readable
from data.errors import UserError
from data.schema import ITEM_ID, USER_ID
from data.splits import POSITIVE_KINDS, tie_breaker
from data.workspace import workspace
from recsys.interactions import Histories, Vocabulary, nothing_wanted
from recsys.partition import everything_of, masks_of

MEMORY = "2GB"  # of DuckDB while it sorts; the rest goes to the disk
_ROWS = 2**20  # events that come back at once, and of a row group
_FORMAT = 1
_COLUMNS: dict[str, Any] = {"items": np.int32, "times": np.int64, "ratings": np.float32}


def stored(dataset: Dataset, seed: int, protocol: str) -> tuple[Vocabulary, dict[str, Histories]]:
    """The vocabulary and the parts of the split (`everything` too), on disk; laid out if they are not there yet.

    Args:
        dataset: with interactions.
        seed: of ties in time and of members held out.
        protocol: see recsys.datamodule.PROTOCOLS.

    Raises:
        UserError: there is no positive event, a file is damaged, or the dataset is replaced meanwhile.
    """
    folder = dataset.folder / ".histories" / f"{protocol}-{seed}"
    # Of several processes one lays them out, and the others find them.
    with FileLock(home.tables(dataset.name).parent / f".{dataset.name}.histories.lock"):
        if not _is_of(folder, dataset):
            _lay_out(dataset, seed, protocol, folder)
    with readable(folder):
        vocabulary, _ = Vocabulary.load(folder, mend=f"delete {folder}, and it is made again")
    store = json.loads((folder / "store.json").read_text("utf-8"))
    return vocabulary, {name: _opened(folder, name, len(vocabulary.item_ids)) for name in store["parts"]}


def _is_of(folder: Path, dataset: Dataset) -> bool:
    try:
        store = json.loads((folder / "store.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(store.get("fingerprint") == dataset.fingerprint and store.get("format") == _FORMAT)


def _lay_out(dataset: Dataset, seed: int, protocol: str, folder: Path) -> None:
    if not dataset.has("interactions"):
        dataset.read("interactions")  # which says what is missing
    rows = dataset.rows["interactions"]
    print(f"Laying {rows:,} interactions of '{dataset.name}' out on disk, once for this dataset ...", flush=True)
    with workspace(home.tables(dataset.name).parent, f".{dataset.name}.laying-out") as work:
        new = work / "store"
        new.mkdir()
        vocabulary = _sort(dataset, work)
        n_users, n_items = len(vocabulary.user_ids), len(vocabulary.item_ids)
        if n_users == 0:
            raise nothing_wanted(dataset)
        with _Writer(new, "everything") as everything:
            for events in _members(work / "sorted.parquet"):
                everything.add(everything_of(_in_order(events, vocabulary, seed), n_items))
        (work / "sorted.parquet").unlink()
        whole = _opened(new, "everything", n_items)
        masks, writers = masks_of(whole, protocol, seed, vocabulary.user_ids), dict[str, _Writer]()
        with ExitStack() as stack:
            for first, block in whole.blocks():
                for name, mask in masks(first, block).items():
                    if name not in writers:
                        writers[name] = stack.enter_context(_Writer(new, name))
                    writers[name].add(block.of_events(mask))
        parts = ["everything", *writers]
        vocabulary.save(new, whole.popularity)
        write_json(new / "store.json", {"format": _FORMAT, "fingerprint": dataset.fingerprint, "parts": parts})
        with only_writer(dataset.name):
            if open_dataset(dataset.name).fingerprint != dataset.fingerprint:
                raise UserError(f"Dataset '{dataset.name}' was replaced meanwhile: run the same command again.")
            folder.parent.mkdir(exist_ok=True)
            if folder.exists():  # of an earlier format
                folder.rename(work / "earlier")
            new.rename(folder)


def _sort(dataset: Dataset, work: Path) -> Vocabulary:
    """Write sorted.parquet: user, item, time (microseconds) and rating of every positive event by member and time, in
    the order of the rows where time does not tell; and return the vocabulary."""
    interactions = dataset.path("interactions")
    titles = "SELECT item_id AS id FROM positive"
    if dataset.has("items"):
        titles += f" UNION SELECT item_id AS id FROM {sql.rows_of(dataset.path('items'))}"
    kinds = ", ".join(f"'{kind}'" for kind in POSITIVE_KINDS)
    with readable(interactions), duckdb.connect(work / "work.duckdb") as query:
        query.execute(f"SET memory_limit = '{MEMORY}'")
        query.execute(f"SET temp_directory = {sql.text(work / 'spilled')}")
        query.execute("SET enable_progress_bar = false")
        query.execute(
            f"CREATE TEMP VIEW positive AS SELECT * FROM {sql.rows_of(interactions, numbered=True)} "
            f"WHERE kind IN ({kinds}) AND item_id IS NOT NULL"
        )
        members = "SELECT DISTINCT user_id AS id FROM positive"
        for table, ids in (("users", members), ("items", titles)):
            query.execute(
                f"CREATE TABLE {table} AS "
                f"SELECT id, (row_number() OVER (ORDER BY id) - 1)::INTEGER AS place FROM ({ids})"
            )
        query.execute(
            "COPY (SELECT users.place AS user, items.place AS item, epoch_us(timestamp) AS time, "
            "rating::FLOAT AS rating FROM positive JOIN users ON users.id = user_id JOIN items ON items.id = item_id "
            f"ORDER BY users.place, timestamp, file_row_number) TO {sql.text(work / 'sorted.parquet')} "
            f"(FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {_ROWS})"
        )
        user_ids, item_ids = (
            pd.Index(query.execute(f"SELECT id FROM {table} ORDER BY place").df()["id"].to_numpy(object))
            for table in ("users", "items")
        )
    return Vocabulary(user_ids, item_ids)


def _members(path: Path) -> Iterator[pd.DataFrame]:
    """sorted.parquet piece by piece; no member is cut in two."""
    rest: pd.DataFrame | None = None
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS):
            frame = batch.to_pandas()
            if rest is not None:
                frame = pd.concat([rest, frame], ignore_index=True)
            whole = int(np.searchsorted(frame["user"].to_numpy(), frame["user"].iloc[-1]))  # events of all but the last
            if whole:
                yield frame.iloc[:whole]
            rest = frame.iloc[whole:]
    if rest is not None and len(rest):
        yield rest


def _in_order(events: pd.DataFrame, vocabulary: Vocabulary, seed: int) -> pd.DataFrame:
    """Events by member and time with ties as in `data.splits.order_events`."""
    user, time = events["user"].to_numpy(), events["time"].to_numpy()
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    ties = np.zeros(len(events), np.uint64)
    ids = {USER_ID: vocabulary.user_ids[user[tied]], ITEM_ID: vocabulary.item_ids[events["item"].to_numpy()[tied]]}
    ties[tied] = tie_breaker(pd.DataFrame(ids), seed)
    return events.iloc[np.lexsort((ties, time, user))]


class _Writer:
    """Writes a part of the split, some members at a time, as arrays."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.files = {column: (folder / f"{name}.{column}").open("wb") for column in _COLUMNS}
        self.lengths: list[np.ndarray] = []

    def __enter__(self) -> "_Writer":
        return self

    def add(self, block: Histories) -> None:
        self.lengths.append(block.lengths)
        for column, dtype in _COLUMNS.items():
            getattr(block, column).astype(dtype, copy=False).tofile(self.files[column])

    def __exit__(self, *failure: object) -> None:
        for file in self.files.values():
            file.close()
        start = np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *self.lengths]))])
        np.save(self.folder / f"{self.name}.start.npy", start)


def _opened(folder: Path, name: str, n_items: int) -> Histories:
    """A part of the split, where it lies.

    Raises:
        UserError: a file is missing or has another length than it should.
    """
    try:
        start = np.load(folder / f"{name}.start.npy", allow_pickle=False)
        columns: Mapping[str, np.ndarray] = {
            column: np.memmap(folder / f"{name}.{column}", dtype, "r", shape=(int(start[-1]),))
            if start[-1]
            else np.zeros(0, dtype)
            for column, dtype in _COLUMNS.items()
        }
    except (OSError, ValueError) as failure:
        raise UserError(f"{folder} is damaged ({failure}): delete it, and it is made again.") from None
    return Histories(start, columns["items"], columns["times"], n_items, columns["ratings"])
