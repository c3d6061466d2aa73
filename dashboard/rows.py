"""The rows of the home page, as functions on arrays and frames: no Streamlit, no model, no loop over members.

A row is a heading and cards: `item_id`, `match` (0 to 1 or NaN), `note` (a few words) and `reason_item_id` (or None).

Match. Scores between 0 and 1 are the recommender's own probability that the member picks the title rather than one of
the few drawn at random that it was trained against, and the badge shows them as they are. Any other score has no unit;
the badge then tells what can be checked, the share of the titles the member has not seen that the model ranks below
this one: rank 1 of 1,601 unseen titles is a match of 1 - 1/1601. Shown is 1 to 99 %, never certainty. Titles outside
the scored list have no badge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from data.schema import GENRES, ITEM_ID, KIND, RATING, TIMESTAMP, TITLE, USER_ID, YEAR
from data.words import count

# Kinds that mean: the member knows this title.
SEEN_KINDS = ("rating", "watch", "thumb_up", "thumb_down")
RECENT_DAYS = 28
CARDS = ["item_id", "match", "note", "reason_item_id"]
ROW_LENGTH = 20
SHORTEST_ROW = 4


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    cards: pd.DataFrame
    note: str = ""
    length: int = ROW_LENGTH


@dataclass(frozen=True, eq=False)
class Viewing:
    """Who saw what and when, sorted by member and time; ids as positions in `user_ids` and `item_ids`.

    Shapes: `user`, `item`, `time`, `rating` (events,); one member's events are one slice.
    """

    user_ids: pd.Index
    item_ids: pd.Index
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray  # microseconds since 1970
    rating: np.ndarray  # NaN where there is none
    as_of: pd.Timestamp
    noun: str  # what one event is: "rating" when the source holds nothing else, else "view"
    _bounds: np.ndarray = field(repr=False)

    def of(self, user_id: str) -> slice:
        """Positions of a member's events, oldest first; empty for an unknown member."""
        at = int(self.user_ids.get_indexer(pd.Index([user_id]))[0])
        return slice(0, 0) if at < 0 else slice(int(self._bounds[at]), int(self._bounds[at + 1]))

    def position(self, item_id: str) -> int:
        """Where a title stands in `item_ids`; -1 for one that nobody saw."""
        return int(self.item_ids.get_indexer(pd.Index([item_id]))[0])

    def seen(self, user_id: str) -> pd.Index:
        return self.item_ids[np.unique(self.item[self.of(user_id)])]

    @cached_property
    def events_per_member(self) -> np.ndarray:
        return np.diff(self._bounds)

    @cached_property
    def last_time(self) -> np.ndarray:
        """Time of each member's last event. Shape: (members,)."""
        return self.time[self._bounds[1:] - 1]

    @cached_property
    def titles(self) -> pd.DataFrame:
        """One row for each title: events, distinct members, recent events, events expected in as many days, rating."""
        n, recent_from = len(self.item_ids), self.as_of - pd.Timedelta(days=RECENT_DAYS)
        recent = self.time > recent_from.value // 1000
        pairs = np.unique(self.user.astype(np.int64) * n + self.item) % n if n else np.array([], dtype=np.int64)
        events = np.bincount(self.item, minlength=n)
        recently = np.bincount(self.item[recent], minlength=n)
        first = np.full(n, np.iinfo(np.int64).max)
        np.minimum.at(first, self.item, self.time)
        days_before = np.clip((recent_from.value // 1000 - first) / 86_400e6, 0, None)
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
            },
            index=self.item_ids,
        )


def viewing(interactions: pd.DataFrame, as_of: pd.Timestamp) -> Viewing:
    """Take what shows that a member knows a title out of `interactions`; events without a title are left out."""
    kept = interactions[interactions[KIND].isin(SEEN_KINDS) & interactions[ITEM_ID].notna()]
    user, user_ids = pd.factorize(kept[USER_ID])
    item, item_ids = pd.factorize(kept[ITEM_ID])
    time = kept[TIMESTAMP].dt.as_unit("us").astype("int64").to_numpy()
    order = np.lexsort((time, user))
    user = user[order]
    return Viewing(
        user_ids=pd.Index(user_ids.astype(object)),
        item_ids=pd.Index(item_ids.astype(object)),
        user=user,
        item=item[order],
        time=time[order],
        rating=kept[RATING].to_numpy(dtype=float)[order],
        as_of=as_of,
        noun="rating" if bool((kept[KIND] == "rating").all()) else "view",
        _bounds=np.searchsorted(user, np.arange(len(user_ids) + 1)),
    )


class Title(NamedTuple):
    """One line of the catalogue, typed."""

    item_id: str
    shown: str  # as people say it
    listed: str  # as the source lists it
    year: float | None
    genres: list[str]


def title_of(catalogue: pd.DataFrame, item_id: str) -> Title:
    """The title with that id; KeyError when the catalogue (index item_id) has none."""
    line: Any = catalogue.loc[item_id]
    return Title(item_id, str(line["shown_title"]), str(line[TITLE]), float(line[YEAR]), list(line[GENRES]))


def shown(catalogue: pd.DataFrame, item_id: str) -> str:
    return str(catalogue.at[item_id, "shown_title"])


def cards(
    item_ids: Iterable[str], match: Sequence[float] | np.ndarray | None = None, note: Sequence[str] | str = ""
) -> pd.DataFrame:
    ids = list(item_ids)
    return pd.DataFrame(
        {
            "item_id": pd.Series(ids, dtype=object),
            "match": np.full(len(ids), np.nan) if match is None else np.asarray(match, dtype=float),
            "note": [note] * len(ids) if isinstance(note, str) else list(note),
            "reason_item_id": [None] * len(ids),
        }
    )


def match_percent(match: float | None) -> int | None:
    """The badge's number: whole per cent, rounded down, between 1 and 99."""
    return None if match is None or match != match else int(np.clip(np.floor(match * 100), 1, 99))


def are_probabilities(recommendations: pd.DataFrame) -> bool:
    """Whether a recommendations table's scores can be shown as probabilities: all lie between 0 and 1."""
    return len(recommendations) > 0 and bool(recommendations["score"].between(0, 1).all())


def scored(
    recommendations: pd.DataFrame, unseen: int, seen: pd.Index | None = None, *, probabilities: bool = False
) -> pd.DataFrame:
    """A member's rows of the recommendations table as cards, best first, with their match.

    Args:
        unseen: how many titles the member has not seen, for a match by rank.
        seen: titles to leave out.
        probabilities: whether the whole table's scores are (see `are_probabilities`).
    """
    ordered = recommendations.sort_values("rank")
    if seen is not None:
        ordered = ordered[~ordered["item_id"].isin(seen)]
    rank = ordered["rank"].to_numpy(dtype=float)
    match = ordered["score"].to_numpy(dtype=float) if probabilities else 1 - rank / max(unseen, len(ordered), 1)
    picks = cards(ordered["item_id"], match=match)
    reasons = ordered["reason_item_id"].astype(object)
    picks["reason_item_id"] = reasons.where(reasons.notna(), None).to_numpy()
    return picks


def trending(seen: Viewing) -> pd.DataFrame:
    """Titles watched more in the last 28 days than before, the most unusual first.

    Unusual: (recent - expected) / sqrt(expected + 1), the surprise of a count whose variance is its mean; `expected`
    is the title's own pace before. Titles with fewer than three recent events are left out.
    """
    titles = seen.titles
    surprise = (titles["recent"] - titles["expected"]) / np.sqrt(titles["expected"] + 1)
    chosen = titles[(titles["recent"] >= 3) & (surprise > 0)]
    order = surprise[chosen.index].sort_values(ascending=False, kind="stable").index
    recent = titles.loc[order, "recent"]
    return cards(order, note=[f"{count(n, seen.noun)} in the last {RECENT_DAYS} days" for n in recent])


def popular(seen: Viewing) -> pd.DataFrame:
    """All titles, those known to most members first."""
    members = seen.titles["members"].sort_values(ascending=False, kind="stable")
    return cards(members.index, note=[f"Seen by {count(n, 'member')}" for n in members])


def hidden_gems(picks: pd.DataFrame, seen: Viewing) -> pd.DataFrame:
    """The scored titles in the less popular half of the scored list, best match first."""
    members = seen.titles["members"].reindex(picks["item_id"]).fillna(0).to_numpy()
    if len(members) == 0:
        return picks
    rare = picks[members < np.median(members)].copy()
    seen_by = members[members < np.median(members)]
    rare["note"] = [f"Only {count(n, 'member')} saw it" if n else "Nobody saw it yet" for n in seen_by]
    return rare


def watch_again(seen: Viewing, user_id: str) -> pd.DataFrame:
    """What the member rated at least as high as their own upper quartile, the longest ago first among equals."""
    events = seen.of(user_id)
    item, rating, time = seen.item[events], seen.rating[events], seen.time[events]
    if len(item) == 0:
        return cards([])
    frame = pd.DataFrame({"item": item, "rating": rating, "time": time}).groupby("item", sort=False).last()
    if frame["rating"].notna().any():
        frame = frame[frame["rating"] >= frame["rating"].quantile(0.75)]
        frame = frame.sort_values(["rating", "time"], ascending=[False, True], kind="stable")
        note = [f"You rated it {value:g}" for value in frame["rating"]]
    else:
        frame = frame.sort_values("time", kind="stable")
        note = [""] * len(frame)
    return cards(seen.item_ids[frame.index.to_numpy()], note=note)


def latest_favourite(seen: Viewing, user_id: str) -> str | None:
    """The last of the member's best-rated titles; without ratings, the last title."""
    events = seen.of(user_id)
    item, rating = seen.item[events], seen.rating[events]
    if len(item) == 0:
        return None
    best = np.flatnonzero(rating == np.nanmax(rating)) if not np.isnan(rating).all() else np.arange(len(item))
    return str(seen.item_ids[item[best[-1]]])


def together(seen: Viewing, item_id: str, k: int = 60) -> pd.DataFrame:
    """Titles known to the same members as `item_id`, best first: `item_id`, `score`.

    Score: members who know both over the geometric mean of those who know either (cosine of the two columns), shrunk
    by five imagined members so that two members in common do not make a perfect match.
    """
    at = seen.position(item_id)
    empty = pd.DataFrame({"item_id": pd.Series(dtype=object), "score": pd.Series(dtype=float)})
    if at < 0:
        return empty
    n, members = len(seen.item_ids), np.zeros(len(seen.user_ids), dtype=bool)
    members[seen.user[seen.item == at]] = True
    theirs = members[seen.user]
    pairs = np.unique(seen.user[theirs].astype(np.int64) * n + seen.item[theirs]) % n
    both = np.bincount(pairs, minlength=n).astype(float)
    known = seen.titles["members"].to_numpy()
    score = both / (np.sqrt(known * known[at]) + 5)
    score[at] = 0.0
    order = np.argsort(-score, kind="stable")[:k]
    order = order[score[order] > 0]
    return pd.DataFrame({"item_id": seen.item_ids[order], "score": score[order]})


def favourite_genres(seen: Viewing, user_id: str, genres: pd.Series, how_many: int = 3) -> list[str]:
    """Genres that fill a larger share of what the member liked than of everything watched, the strongest first.

    Args:
        genres: item_id to list of genres. Liked: rated at least the member's own mean, or not rated at all.
    """
    events = seen.of(user_id)
    item, rating = seen.item[events], seen.rating[events]
    if len(item) == 0:
        return []
    liked = item[np.isnan(rating) | (rating >= (np.nanmean(rating) if not np.isnan(rating).all() else 0))]
    titles = pd.Series(np.bincount(seen.item, minlength=len(seen.item_ids)), index=seen.item_ids, name="all").to_frame()
    titles["own"] = np.bincount(liked, minlength=len(seen.item_ids))
    long = titles.join(genres.rename("genre")).explode("genre").dropna(subset="genre")
    totals = long.groupby("genre")[["all", "own"]].sum()
    totals = totals[totals["own"] >= 3]
    share = totals / np.maximum(titles[["all", "own"]].sum().to_numpy(), 1)
    lift = (share["own"] - share["all"]) / np.sqrt(share["all"].clip(lower=1e-9))
    return [str(name) for name in lift.sort_values(ascending=False, kind="stable").index[:how_many]]


def of_genre(picks: pd.DataFrame, genre: str, genres: pd.Series) -> pd.DataFrame:
    """The cards whose title has `genre`, in their order."""
    has = genres.reindex(picks["item_id"]).map(
        lambda names: names is not None and names is not np.nan and genre in names
    )
    return picks[has.to_numpy(dtype=bool)]


def first_of_each(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The cards of several frames one after the other, each title where it comes first."""
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return cards([])
    return pd.concat(filled, ignore_index=True).drop_duplicates("item_id", ignore_index=True)


def without_repeats(rows: Sequence[Row], taken: Iterable[str] = ()) -> list[Row]:
    """Cut each row to its length in cards that no row above it has; rows left with fewer than four cards go."""
    used, kept = set(taken), []
    for row in rows:
        fresh = row.cards[~row.cards["item_id"].isin(used)].drop_duplicates("item_id").head(row.length)
        if len(fresh) >= SHORTEST_ROW:
            used.update(fresh["item_id"])
            kept.append(replace(row, cards=fresh.reset_index(drop=True)))
    return kept


def home_rows(
    user_id: str,
    seen: Viewing,
    catalogue: pd.DataFrame,
    recommendations: pd.DataFrame,
    similar: pd.DataFrame | None = None,
    *,
    probabilities: bool = False,
) -> tuple[pd.DataFrame, list[Row]]:
    """The billboard's card (none or one row) and the rows of a member's home page, no title twice.

    Args:
        catalogue: index item_id, columns shown_title and genres.
        recommendations: the member's rows of the recommendations table; may be empty.
        similar: `item_id`, `score` of titles like the member's latest favourite; None to count who saw both.
        probabilities: whether the whole table's scores are (see `are_probabilities`).
    """
    known, genres = seen.seen(user_id), catalogue[GENRES]
    unseen = int((~catalogue.index.isin(known)).sum())
    picks = scored(recommendations, unseen, known, probabilities=probabilities)
    picks = picks[picks["item_id"].isin(catalogue.index)].reset_index(drop=True)
    badge = picks.set_index("item_id")[["match", "reason_item_id"]]

    def fresh(frame: pd.DataFrame) -> pd.DataFrame:
        """Unseen titles only, with the badge and reason of the scored list where the title is in it."""
        frame = frame[~frame["item_id"].isin(known) & frame["item_id"].isin(catalogue.index)].reset_index(drop=True)
        return frame.assign(
            match=badge["match"].reindex(frame["item_id"]).to_numpy(),
            reason_item_id=badge["reason_item_id"].reindex(frame["item_id"]).to_numpy(),
        )

    best_known = fresh(popular(seen))
    billboard = picks.head(1) if len(picks) else fresh(trending(seen)).head(1)
    # A third of a short scored list: the genres and the hidden gems need some of it too.
    rows = [Row("picks", "Top picks for you", picks, length=min(ROW_LENGTH, max(8, len(picks) // 3)))]
    favourite = latest_favourite(seen, user_id)
    if favourite is not None and favourite in catalogue.index:
        like = together(seen, favourite) if similar is None else similar
        rows.append(Row("like", f"More like {shown(catalogue, favourite)}", fresh(cards(like["item_id"]))))
    rows.append(
        Row("trending", "Trending now", fresh(trending(seen)), f"against each title's usual {RECENT_DAYS} days")
    )
    rows += [
        Row(
            f"genre-{genre}",
            f"{genre} for you",
            first_of_each([of_genre(picks, genre, genres), of_genre(best_known, genre, genres)]),
        )
        for genre in favourite_genres(seen, user_id, genres)
    ]
    rows.append(Row("gems", "Hidden gems", hidden_gems(picks, seen)))
    rows.append(Row("again", "Watch again", watch_again(seen, user_id)))
    if len(picks) == 0:
        rows.insert(0, Row("popular", "Popular with everyone", best_known))
    return billboard, _in_page_order(rows, billboard["item_id"])


def _in_page_order(rows: Sequence[Row], taken: Iterable[str]) -> list[Row]:
    """Remove repeats, then put the rows back in their order. Hidden gems, at the foot, live from the scored list
    alone: they choose right after the first row, before the genres take the rest."""
    place = {row.key: position for position, row in enumerate(rows)}
    chosen = sorted(rows, key=lambda row: (row.key != "picks", row.key != "gems", place[row.key]))
    return sorted(without_repeats(chosen, taken), key=lambda row: place[row.key])
