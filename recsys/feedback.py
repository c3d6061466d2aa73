"""What members have said so far, and new events folded in."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data import schema
from data.dataset import Dataset
from data.errors import UserError
from data.schema import ITEM_ID, KIND, RATING, TIMESTAMP
from data.splits import POSITIVE_KINDS
from recsys.interactions import (
    HIDDEN_KINDS,
    Histories,
    Vocabulary,
    disliked_titles,
    hidden_titles,
    histories_of,
    positive_events,
)

TIES_SEED = 42
_COLUMNS, _TITLES = ("start", "items", "times", "ratings"), "titles.txt"
_STEP = 1_000_000  # microseconds between events that come without a time


class Feedback(NamedTuple):
    """Of some members, in their order; see recsys/interactions.py for the rules."""

    wanted: Histories  # what each has wanted, oldest first
    hidden: Histories  # what must not be shown to them
    disliked: Histories  # what they gave a thumb down

    @staticmethod
    def of(dataset: Dataset, vocabulary: Vocabulary, members: pd.Index) -> "Feedback":
        """What a dataset's tables hold of `members` and of the titles of `vocabulary`."""
        hidden = hidden_titles(dataset, vocabulary, members)
        disliked = disliked_titles(dataset, vocabulary, members)
        if not dataset.has("interactions"):
            return Feedback(hidden, hidden, disliked)
        events = positive_events(dataset, TIES_SEED)
        known = events[events[ITEM_ID].isin(vocabulary.item_ids)]
        return Feedback(histories_of(Vocabulary(members, vocabulary.item_ids), known), hidden, disliked)

    def save(self, folder: Path) -> None:
        """Write the arrays as files, which `load` maps into memory."""
        for name, part in zip(self._fields, self, strict=True):
            for column, values in zip(_COLUMNS, (part.start, part.items, part.times, part.ratings), strict=True):
                np.save(folder / f"{name}-{column}.npy", values)
        (folder / _TITLES).write_text(str(self.wanted.n_items))

    @staticmethod
    def load(folder: Path) -> "Feedback":
        """What `save` wrote; processes of one machine share the memory, and what is not looked at takes none.

        Raises:
            OSError: there is nothing.
        """
        n_items = int((folder / _TITLES).read_text())

        def histories(name: str) -> Histories:
            start, items, times, ratings = (
                np.load(folder / f"{name}-{column}.npy", mmap_mode="r") for column in _COLUMNS
            )
            return Histories(start, items, times, n_items, ratings)

        return Feedback(*(histories(name) for name in Feedback._fields))

    def take(self, members: np.ndarray) -> "Feedback":
        return Feedback(*(part.take(members) for part in self))

    def digests(self) -> np.ndarray:
        """A number for each member that changes with what is known of them. Shape: (members,), uint64."""
        found = np.zeros(len(self.wanted), np.uint64)
        for kind, part in enumerate(self):
            columns = {"kind": kind, "item": part.items, "time": part.times, "rating": part.ratings}
            sums = np.cumsum(pd.util.hash_pandas_object(pd.DataFrame(columns), index=False).to_numpy(np.uint64))
            sums = np.concatenate([np.zeros(1, np.uint64), sums])  # modulo 2^64, so differences are exact
            found += sums[part.start[1:]] - sums[part.start[:-1]]
        return found

    def with_members(self, number: int) -> "Feedback":
        """The same, with members who have said nothing behind its own up to `number`."""
        return Feedback(*(part.with_members(number) for part in self))

    def with_events(self, member: int, events: pd.DataFrame, items: np.ndarray) -> "Feedback":
        """The same, with new events of one member.

        Args:
            member: position.
            events: if known kind (default: watch), timestamp (default: after all others), rating.
            items: position of each event's title, -1 for one to leave out. Shape: (len(events),).

        Raises:
            UserError: a kind is unknown.
        """
        kinds = events[KIND] if KIND in events else pd.Series("watch", index=events.index)
        unknown = kinds[~kinds.isin(schema.KINDS)]
        if len(unknown):
            raise UserError(f"Kind '{unknown.iloc[0]}' is unknown: use one of {', '.join(schema.KINDS)}.")
        times = int(self.wanted.times.max(initial=0)) + _STEP * np.arange(1, len(items) + 1)
        if TIMESTAMP in events:
            given = pd.to_datetime(events[TIMESTAMP], utc=True)
            times = np.where(given.notna(), given.dt.as_unit("us").astype("int64"), times)
        ratings = events[RATING].to_numpy(np.float32) if RATING in events else np.full(len(items), np.nan, np.float32)
        order = np.argsort(times, kind="stable")

        def folded(into: Histories, chosen: Collection[str]) -> Histories:
            kept = order[(kinds.isin(chosen).to_numpy() & (items >= 0))[order]]
            kept = kept[~np.isin(items[kept], into.items[into.start[member] : into.start[member + 1]])]
            kept = kept[np.sort(np.unique(items[kept], return_index=True)[1])]  # a title counts once
            return into.with_events(member, items[kept], times[kept], ratings[kept])

        thumbs = order[(kinds.isin(["thumb_up", "thumb_down"]).to_numpy() & (items >= 0))[order]]
        last = pd.Series(thumbs).groupby(items[thumbs]).last().to_numpy(np.int64)  # of each title
        up, down = (last[(kinds.iloc[last] == kind).to_numpy()] for kind in ("thumb_up", "thumb_down"))
        disliked = self.disliked.without_titles(member, np.concatenate([items[up], items[down]]))
        return Feedback(
            folded(self.wanted, POSITIVE_KINDS),
            folded(self.hidden, HIDDEN_KINDS),
            disliked.with_events(member, items[down], times[down], ratings[down]),
        )
