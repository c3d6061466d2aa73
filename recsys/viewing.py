"""What pages are made from: who saw what and when, one member's own history, and the catalogue as it is shown."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from data.dataset import Dataset
from data.schema import GENRES, ITEM_ID, KIND, RATING, TIMESTAMP, TITLE, USER_ID, YEAR
from data.titles import display_title

THUMB_UP, THUMB_DOWN = "thumb_up", "thumb_down"
# Kinds that mean: the member knows this title.
SEEN_KINDS = ("rating", "watch", THUMB_UP, THUMB_DOWN)
RECENT_DAYS = 28
_DAY_US = 86_400_000_000


class MemberHistory(NamedTuple):
    """What one member saw, oldest first, but for titles whose last thumb is down. Shapes: (events,)."""

    item_ids: pd.Index
    time: np.ndarray  # microseconds since 1970
    rating: np.ndarray  # NaN where there is none
    known: pd.Index  # every title that is not new to the member: all of the above, and those left out

    def without(self, item_ids: pd.Index) -> "MemberHistory":
        """The same without the events on some titles, which stay known."""
        kept = ~self.item_ids.isin(item_ids)
        return MemberHistory(
            self.item_ids[kept], self.time[kept], self.rating[kept], self.known.union(item_ids, sort=False)
        )

    def followed_by(self, item_ids: pd.Index, time: np.ndarray, rating: np.ndarray) -> "MemberHistory":
        """The same with later events."""
        return MemberHistory(
            self.item_ids.append(item_ids),
            np.concatenate([self.time, time]),
            np.concatenate([self.rating, rating]),
            self.known.union(item_ids.unique(), sort=False),
        )

    def continued(self, happened: pd.DataFrame) -> "MemberHistory":
        """The same with what the member did since: item_id, kind, rating and service_time, oldest first."""
        about = happened[happened[KIND].isin(SEEN_KINDS) & happened[ITEM_ID].notna()]
        if about.empty:
            return self
        time = about["service_time"].dt.as_unit("us").astype("int64").to_numpy()
        item_ids = pd.Index(about[ITEM_ID].astype(object))
        last = about[about[KIND].isin([THUMB_UP, THUMB_DOWN])].drop_duplicates(ITEM_ID, keep="last")
        disliked = pd.Index(last.loc[last[KIND] == THUMB_DOWN, ITEM_ID].astype(object))
        return self.followed_by(item_ids, time, about[RATING].to_numpy(float)).without(disliked)


@dataclass(frozen=True, eq=False)
class Viewing:
    """Who saw what and when, sorted by member and time; ids as positions in `user_ids` and `item_ids`.

    Shapes: `user`, `item`, `time`, `rating`, `disliked` (events,); one member's events are one slice.
    """

    user_ids: pd.Index
    item_ids: pd.Index
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray  # microseconds since 1970
    rating: np.ndarray  # NaN where there is none
    disliked: np.ndarray  # whether the event is a thumb down, and the last of the member's thumbs on the title
    as_of: pd.Timestamp
    has_times: bool  # False: times are the order of the rows, and nothing is recent
    noun: str  # what one event is: "rating" when the source holds nothing else, else "view"
    _bounds: np.ndarray = field(repr=False)

    def of(self, user_id: str) -> slice:
        """Positions of a member's events, oldest first; empty for an unknown member."""
        at = int(self.user_ids.get_indexer(pd.Index([user_id]))[0])
        return slice(0, 0) if at < 0 else slice(int(self._bounds[at]), int(self._bounds[at + 1]))

    def position(self, item_id: str) -> int:
        """Where a title stands in `item_ids`; -1 for one that nobody saw."""
        return int(self.item_ids.get_indexer(pd.Index([item_id]))[0])

    def history(self, user_id: str) -> MemberHistory:
        """A member's own history; empty for an unknown member."""
        events = self.of(user_id)
        item_ids = self.item_ids[self.item[events]]
        history = MemberHistory(item_ids, self.time[events], self.rating[events], item_ids.unique())
        return history.without(item_ids[self.disliked[events]])

    @cached_property
    def events_per_member(self) -> np.ndarray:
        return np.diff(self._bounds)

    @cached_property
    def last_time(self) -> np.ndarray:
        """Time of each member's last event. Shape: (members,)."""
        return self.time[self._bounds[1:] - 1]

    def since(self, days: float) -> np.ndarray:
        """Events of each title in the last `days` days before the clock. Shape: (titles,)."""
        recent = self.time > self.days_ago(days)
        return np.bincount(self.item[recent], minlength=len(self.item_ids))

    def days_ago(self, days: float) -> int:
        """The moment so many days before the clock, in microseconds since 1970."""
        return self.as_of.value // 1000 - round(days * _DAY_US)

    @cached_property
    def titles(self) -> pd.DataFrame:
        """One row for each title: events, distinct members, recent events, events expected in as many days, ratings,
        their mean, and the time of the first event in microseconds since 1970."""
        n = len(self.item_ids)
        pairs = distinct(self.user.astype(np.int64) * n + self.item) % max(n, 1)
        events = np.bincount(self.item, minlength=n)
        recently = self.since(RECENT_DAYS)
        first = np.full(n, np.iinfo(np.int64).max)
        np.minimum.at(first, self.item, self.time)
        days_before = np.clip((self.days_ago(RECENT_DAYS) - first) / _DAY_US, 0, None)
        expected = np.divide(
            (events - recently) * float(RECENT_DAYS), np.maximum(days_before, RECENT_DAYS), where=n > 0, out=np.zeros(n)
        )
        rated = ~np.isnan(self.rating)
        ratings = np.bincount(self.item[rated], minlength=n)
        total = np.bincount(self.item[rated], weights=self.rating[rated], minlength=n)
        mean = np.divide(total, ratings, out=np.full(n, np.nan), where=ratings > 0)
        return pd.DataFrame(
            {
                "events": events,
                "members": np.bincount(pairs, minlength=n),
                "recent": recently,
                "expected": expected,
                "ratings": ratings,
                "mean_rating": mean,
                "first": first,
            },
            index=self.item_ids,
        )


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Each number once, in order; none is negative. np.unique hashes, which takes ten times as long."""
    numbers = np.sort(numbers)
    return numbers[np.diff(numbers, prepend=-1) > 0]


def viewing(interactions: pd.DataFrame, as_of: pd.Timestamp, has_times: bool = True) -> Viewing:
    """Take what shows that a member knows a title out of `interactions`; events without a title are left out."""
    kept = interactions[interactions[KIND].isin(SEEN_KINDS) & interactions[ITEM_ID].notna()]
    user, user_ids = pd.factorize(kept[USER_ID])
    item, item_ids = pd.factorize(kept[ITEM_ID])
    time = kept[TIMESTAMP].dt.as_unit("us").astype("int64").to_numpy()
    order = np.argsort(time, kind="stable")
    # NumPy sorts integers of 16 bits by their digits, ten times as fast as others.
    order = order[np.argsort(user[order].astype(np.min_scalar_type(len(user_ids))), kind="stable")]
    user, item = user[order], item[order]
    thumb_up, thumb_down = (kept[KIND].eq(kind).to_numpy(bool)[order] for kind in (THUMB_UP, THUMB_DOWN))
    thumbs = np.flatnonzero(thumb_up | thumb_down)
    pairs = user[thumbs].astype(np.int64) * len(item_ids) + item[thumbs]
    last = thumbs[::-1][np.unique(pairs[::-1], return_index=True)[1]]  # of each member on each title
    disliked = np.zeros(len(user), bool)
    disliked[last[thumb_down[last]]] = True
    return Viewing(
        user_ids=pd.Index(user_ids.astype(object)),
        item_ids=pd.Index(item_ids.astype(object)),
        user=user,
        item=item,
        time=time[order],
        rating=kept[RATING].to_numpy(dtype=float)[order],
        disliked=disliked,
        as_of=as_of,
        has_times=has_times,
        noun="rating" if bool((kept[KIND] == "rating").all()) else "view",
        _bounds=np.searchsorted(user, np.arange(len(user_ids) + 1)),
    )


def read_viewing(dataset: Dataset) -> Viewing:
    """The viewing of a dataset, which must have interactions (`dataset.has`)."""
    frame = dataset.interactions([USER_ID, ITEM_ID, TIMESTAMP, RATING, KIND], categories=[USER_ID, ITEM_ID, KIND])
    as_of = dataset.as_of if dataset.as_of is not None else frame[TIMESTAMP].max()
    return viewing(frame, as_of, dataset.time_kind == "real")


# The catalogue -------------------------------------------------------------------------------------------------------


class Title(NamedTuple):
    """One line of the catalogue, typed."""

    item_id: str
    shown: str  # as people say it
    listed: str  # as the source lists it
    year: float | None
    genres: list[str]


def read_catalogue(dataset: Dataset) -> pd.DataFrame:
    """Every title: index item_id; title, year, genres (lists) and shown_title. Empty without a table of items."""
    if not dataset.has("items"):
        return pd.DataFrame(columns=[TITLE, YEAR, GENRES, "shown_title"], index=pd.Index([], name=ITEM_ID))
    items = dataset.read("items", [ITEM_ID, TITLE, YEAR, GENRES])
    frame = items.set_index(items[ITEM_ID].astype(object))[[TITLE, YEAR, GENRES]]
    frame[GENRES] = [[] if names is None else [str(g) for g in names] for names in frame[GENRES]]
    return frame.assign(shown_title=[display_title(title) for title in frame[TITLE]])


def title_of(catalogue: pd.DataFrame, item_id: str) -> Title:
    """The title with that id; KeyError when the catalogue (index item_id) has none."""
    line: Any = catalogue.loc[item_id]
    return Title(item_id, str(line["shown_title"]), str(line[TITLE]), float(line[YEAR]), list(line[GENRES]))


def shown(catalogue: pd.DataFrame, item_id: str) -> str:
    """The title as people say it; KeyError when the catalogue has none."""
    return str(catalogue.at[item_id, "shown_title"])
