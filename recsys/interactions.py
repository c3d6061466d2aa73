"""From the interactions table to integers: what counts as positive, the vocabulary, and histories.

One place for the rules that every model, baseline and protocol here shares:

* Positive feedback is implicit: a rating (of any height), a watch, a thumb up or a title added to the list
  (`data.splits.POSITIVE_KINDS`). Impressions, clicks and removals are not.
* A member's first positive event on a title counts, later ones are repeats: nobody is asked to predict a title that
  is in the history already.
* What is hidden from a member: every positive title and every title with a thumb down.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

from data import runs
from data.atomic import atomic_file
from data.dataset import Dataset, read_parquet, readable
from data.errors import UserError
from data.schema import ITEM_ID, KIND, RATING, TIMESTAMP, USER_ID
from data.splits import POSITIVE_KINDS, order_events

HIDDEN_KINDS = (*POSITIVE_KINDS, "thumb_down")
BLOCK = 2**24  # events that are looked at at once where a sum over all of them is wanted


def positive_events(dataset: Dataset, seed: int) -> pd.DataFrame:
    """user_id, item_id, timestamp and rating of each member's first positive event on each title, by member and time.

    Raises:
        UserError: the dataset has no interactions, or none of them is a positive event on a title.
    """
    frame = dataset.interactions([USER_ID, ITEM_ID, TIMESTAMP, KIND, RATING])
    frame = frame[frame[KIND].isin(POSITIVE_KINDS) & frame[ITEM_ID].notna()]
    if frame.empty:
        raise nothing_wanted(dataset)
    frame = order_events(frame[[USER_ID, ITEM_ID, TIMESTAMP, RATING]], seed)
    return frame.drop_duplicates([USER_ID, ITEM_ID], keep="first", ignore_index=True)


def nothing_wanted(dataset: Dataset) -> UserError:
    """What to say of a dataset without a positive event on a title."""
    return UserError(
        f"Dataset '{dataset.name}' has no event that says which title a member wanted, so there is nothing to "
        f"recommend from: import interactions with an item_id and a kind among {', '.join(POSITIVE_KINDS)}."
    )


@dataclass(frozen=True)
class Vocabulary:
    """Ids in model order: the position of an id is its integer."""

    user_ids: pd.Index
    item_ids: pd.Index

    @staticmethod
    def of(dataset: Dataset, events: pd.DataFrame) -> "Vocabulary":
        """Members with a positive event, and the whole catalogue (titles that nobody has watched included)."""
        catalogue = dataset.items()[ITEM_ID] if dataset.has("items") else events[ITEM_ID]
        items = pd.concat([catalogue, events[ITEM_ID]]).astype(str).unique()
        return Vocabulary(pd.Index(np.sort(events[USER_ID].astype(str).unique())), pd.Index(np.sort(items)))

    def users(self, ids: pd.Series) -> np.ndarray:
        """Integers of `ids`; -1 where a member is unknown. Shape: (len(ids),)."""
        return self.user_ids.get_indexer(pd.Index(ids.astype(str)))

    def items(self, ids: pd.Series) -> np.ndarray:
        """Integers of `ids`; -1 where a title is unknown. Shape: (len(ids),)."""
        return self.item_ids.get_indexer(pd.Index(ids.astype(str)))

    def save(self, folder: Path, popularity: np.ndarray) -> None:
        """Write users.parquet and items.parquet into `folder`.

        Args:
            folder: the run's.
            popularity: how many members wanted each title, in model order: what a stranger is shown. Shape: (n_items,).
        """
        tables = {
            "users.parquet": pa.table({USER_ID: pa.array(self.user_ids, pa.string())}),
            "items.parquet": pa.table(
                {
                    ITEM_ID: pa.array(self.item_ids, pa.string()),
                    "popularity": pa.array(popularity, pa.int64()),
                }
            ),
        }
        for name, table in tables.items():
            with atomic_file(folder / name) as temporary:
                pq.write_table(table, temporary, compression="zstd")

    @staticmethod
    def load(folder: Path, mend: str = runs.MEND) -> tuple["Vocabulary", np.ndarray]:
        """The vocabulary that `save` wrote, and the titles' popularity.

        Args:
            mend: what to do when a file is lost or damaged.

        Raises:
            UserError: a file is missing or damaged.
        """
        users = read_parquet(folder / "users.parquet", [USER_ID], mend=mend)[USER_ID]
        items = read_parquet(folder / "items.parquet", [ITEM_ID, "popularity"], mend=mend)
        vocabulary = Vocabulary(pd.Index(users.to_numpy(object)), pd.Index(items[ITEM_ID].to_numpy(object)))
        return vocabulary, items["popularity"].to_numpy()


@dataclass(frozen=True)
class Histories:
    """What each member wanted, oldest first, in compressed rows: member m's titles are items[start[m]:start[m + 1]].

    Events that do not fit in memory lie on disk (recsys/streaming.py); sums over them go block by block.
    """

    start: np.ndarray  # (n_users + 1,) int64
    items: np.ndarray  # (n_events,) int64, or int32 on disk
    times: np.ndarray  # (n_events,) int64, microseconds
    n_items: int
    ratings: np.ndarray  # (n_events,) float32, NaN where there is none

    @staticmethod
    def of(
        users: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        n_users: int,
        n_items: int,
        ratings: np.ndarray | None = None,
    ) -> "Histories":
        """From events in any order of members, each member's oldest first; without `ratings` nothing was rated."""
        order = np.argsort(users, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=n_users))])
        rated = np.full(len(items), np.nan, np.float32) if ratings is None else ratings[order].astype(np.float32)
        return Histories(start, items[order].astype(np.int64), times[order].astype(np.int64), n_items, rated)

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Titles per member. Shape: (n_users,)."""
        return np.diff(self.start)

    @cached_property
    def users(self) -> np.ndarray:
        """The member of each event. Shape: (n_events,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def popularity(self) -> np.ndarray:
        """How many members wanted each title. Shape: (n_items,)."""
        counts = np.zeros(self.n_items, np.int64)
        for _, block in self.blocks():
            counts += np.bincount(block.items, minlength=self.n_items)
        return counts

    @cached_property
    def age(self) -> np.ndarray:
        """How many events of the same member came later: 0 for the last one. Shape: (n_events,)."""
        return np.repeat(self.start[1:], self.lengths) - 1 - np.arange(len(self.items))

    def take(self, users: np.ndarray) -> "Histories":
        """The histories of `users`, in that order, as members 0, 1, ... of a smaller whole."""
        lengths = self.lengths[users]
        start = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(self.start[:-1][users] - start[:-1], lengths) + np.arange(start[-1])
        items = self.items[at].astype(np.int64, copy=False)
        return Histories(start, items, self.times[at], self.n_items, self.ratings[at])

    def blocks(self, events: int | None = None) -> Iterator[tuple[int, "Histories"]]:
        """Members one after the other, in memory, about `events` (BLOCK) events at a time: the first one's number, and
        their histories as members 0, 1, ... of a smaller whole."""
        events = BLOCK if events is None else events
        if len(self.items) <= events and self.items.dtype == np.int64:
            yield 0, self
            return
        first = 0
        while first < len(self):
            last = max(first + 1, int(np.searchsorted(self.start, self.start[first] + events, "right")) - 1)
            at = slice(int(self.start[first]), int(self.start[last]))
            yield (
                first,
                Histories(
                    self.start[first : last + 1] - self.start[first],
                    self.items[at].astype(np.int64),
                    np.array(self.times[at]),
                    self.n_items,
                    np.array(self.ratings[at]),
                ),
            )
            first = last

    def of_items(self, position: np.ndarray, n_items: int) -> "Histories":
        """The same events, title i as `position[i]`, or as -1 if that is not below `n_items`."""
        items = position[self.items]
        return Histories(self.start, np.where(items < n_items, items, -1), self.times, n_items, self.ratings)

    def first(self, lengths: np.ndarray) -> "Histories":
        """The same members, each with their first `lengths` (n_users,) events."""
        place = np.arange(len(self.items)) - self.start[self.users]
        return self.of_events(place < lengths[self.users])

    def only(self, keep: np.ndarray) -> "Histories":
        """The same members, with the events of those in `keep` (n_users,) bool alone."""
        return self.of_events(np.repeat(keep, self.lengths))

    def of_events(self, keep: np.ndarray) -> "Histories":
        """The same members, with the events in `keep` (n_events,) bool alone."""
        start = np.concatenate([[0], np.cumsum(keep)])[self.start]
        return Histories(start, self.items[keep], self.times[keep], self.n_items, self.ratings[keep])

    def with_members(self, n_users: int) -> "Histories":
        """The same, with members without events behind its own up to `n_users`."""
        start = np.pad(self.start, (0, n_users - len(self)), mode="edge")
        return Histories(start, self.items, self.times, self.n_items, self.ratings)

    def joined(self, later: "Histories") -> "Histories":
        """Each member's events followed by those of the same member in `later`."""
        users = np.concatenate([self.users, later.users])
        parts = ((self.items, later.items), (self.times, later.times), (self.ratings, later.ratings))
        items, times, ratings = (np.concatenate(part) for part in parts)
        return Histories.of(users, items, times, len(self), self.n_items, ratings)

    def with_events(self, member: int, items: np.ndarray, times: np.ndarray, ratings: np.ndarray) -> "Histories":
        """The same, with more events of one member, which need not be later than theirs."""
        first, last = self.start[member], self.start[member + 1]
        times = np.concatenate([self.times[first:last], times])
        order = np.argsort(times, kind="stable")

        def spliced(whole: np.ndarray, new: np.ndarray) -> np.ndarray:
            return np.concatenate([whole[:first], new[order], whole[last:]]).astype(whole.dtype)

        start = self.start + len(items) * (np.arange(len(self.start)) > member)
        return Histories(
            start,
            spliced(self.items, np.concatenate([self.items[first:last], items])),
            spliced(self.times, times),
            self.n_items,
            spliced(self.ratings, np.concatenate([self.ratings[first:last], ratings])),
        )

    def without_titles(self, member: int, items: np.ndarray) -> "Histories":
        """The same, without these titles of one member."""
        first, last = self.start[member], self.start[member + 1]
        kept = np.ones(len(self.items), bool)
        kept[first:last] = ~np.isin(self.items[first:last], items)
        start = self.start - (last - first - kept[first:last].sum()) * (np.arange(len(self.start)) > member)
        return Histories(start, self.items[kept], self.times[kept], self.n_items, self.ratings[kept])

    def matrix(self, weights: np.ndarray | None = None) -> sparse.csr_matrix:
        """Members by titles, 1 (or the event's weight) where wanted. Shape: (n_users, n_items)."""
        values = np.ones(len(self.items), np.float32) if weights is None else weights.astype(np.float32)
        return sparse.csr_matrix((values, self.items, self.start), shape=(len(self), self.n_items))


def histories_of(vocabulary: Vocabulary, events: pd.DataFrame) -> Histories:
    """Events by id, each member's oldest first, as histories of the whole vocabulary."""
    return Histories.of(
        vocabulary.users(events[USER_ID]),
        vocabulary.items(events[ITEM_ID]),
        events[TIMESTAMP].astype("int64").to_numpy(),
        len(vocabulary.user_ids),
        len(vocabulary.item_ids),
        events[RATING].to_numpy(dtype=np.float32),
    )


def disliked_titles(dataset: Dataset, vocabulary: Vocabulary, users: pd.Index) -> Histories:
    """The titles that `users` gave a thumb down, unless a thumb up came later, by their position in `users`."""
    nothing = np.zeros(0, np.int64)
    if not dataset.has("interactions"):
        return Histories.of(nothing, nothing, nothing, len(users), len(vocabulary.item_ids))
    path = dataset.path("interactions")
    with readable(path):
        thumbs = pq.read_table(
            path,
            columns=[USER_ID, ITEM_ID, TIMESTAMP, KIND],
            filters=[(KIND, "in", ("thumb_up", "thumb_down"))],
        ).to_pandas()
    last = thumbs.sort_values(TIMESTAMP, kind="stable").drop_duplicates([USER_ID, ITEM_ID], keep="last")
    down = last[last[KIND] == "thumb_down"]
    rows, items = users.get_indexer(pd.Index(down[USER_ID])), vocabulary.items(down[ITEM_ID])
    times = down[TIMESTAMP].astype("int64").to_numpy()
    known = (rows >= 0) & (items >= 0)
    return Histories.of(rows[known], items[known], times[known], len(users), len(vocabulary.item_ids))


def hidden_titles(dataset: Dataset, vocabulary: Vocabulary, users: pd.Index) -> Histories:
    """What must not be recommended to `users` again (see the module's text), by their position in `users`.

    Ids are compared in dictionary form, so memory grows with the number of events by a few bytes for each.
    """
    if not dataset.has("interactions"):
        nothing = np.zeros(0, np.int64)
        return Histories.of(nothing, nothing, nothing, len(users), len(vocabulary.item_ids))
    path = dataset.path("interactions")
    with readable(path):
        table = pq.read_table(path, columns=[USER_ID, ITEM_ID, KIND], read_dictionary=[USER_ID, ITEM_ID])
    table = table.filter(pc.is_in(table[KIND], pa.array(HIDDEN_KINDS))).unify_dictionaries()
    codes = []
    for name, ids in ((USER_ID, users), (ITEM_ID, vocabulary.item_ids)):
        column = table[name].combine_chunks()
        if len(column) == 0:
            codes.append(np.zeros(0, np.int64))
            continue
        to_model = ids.get_indexer(pd.Index(column.dictionary.to_pylist()))
        position = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        codes.append(np.where(position >= 0, to_model[position], -1))
    known = (codes[0] >= 0) & (codes[1] >= 0)
    rows, items = codes[0][known], codes[1][known]
    return Histories.of(rows, items, np.zeros(len(rows), np.int64), len(users), len(vocabulary.item_ids))
