"""What each row of a page may hold: cards in their order, as functions on arrays and frames.

Cards are a frame: `item_id`, `match` (0 to 1 or NaN), `note` (a few words) and `reason_item_id` (or None). What is
done about titles that the member knows, about repeats and about length is in recsys/pages.py.

Match. Scores between 0 and 1 are the recommender's own probability that the member picks the title rather than one of
the few drawn at random that it was trained against, and are taken as they are. Any other score has no unit; the match
then tells what can be checked, the share of the titles the member has not seen that the model ranks below this one:
rank 1 of 1,601 unseen titles is a match of 1 - 1/1601. Titles outside the scored list have none.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from data.schema import GENRES, YEAR
from data.words import count, when
from recsys.signals import rising
from recsys.viewing import RECENT_DAYS, MemberHistory, Viewing, distinct

CARDS = ["item_id", "match", "note", "reason_item_id"]
GEMS_AMONG = 100  # hidden gems are looked for among so many of the best


def cards(
    item_ids: Sequence[str] | np.ndarray | pd.Index | pd.Series,
    match: Sequence[float] | np.ndarray | float = np.nan,
    note: Sequence[str] | np.ndarray | str = "",
) -> pd.DataFrame:
    """Cards in the order of `item_ids`; a match or note that is given once holds for all."""
    ids = np.asarray(item_ids, dtype=object)
    columns = {"match": np.full(len(ids), match, float), "note": np.full(len(ids), note, object)}
    return pd.DataFrame({"item_id": ids, **columns, "reason_item_id": np.full(len(ids), None, object)})


def worded(numbers: pd.Series | np.ndarray, say: Callable[[float], str]) -> np.ndarray:
    """`say` of each number; equal ones are put into words once. Shape: (numbers,)."""
    distinct, which = np.unique(np.asarray(numbers), return_inverse=True)
    return np.array([say(number) for number in distinct], dtype=object)[which]


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


def trending(seen: Viewing, forecasts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Titles that are watched more than is usual for them, the most unusual first; nothing where there are no times.

    Unusual: (recent - expected) / sqrt(expected + 1), the surprise of a count whose variance is its mean; `recent` is
    what was watched in the last 28 days, `expected` the title's own pace before. Titles with fewer than three recent
    events are left out.

    With forecasts (see recsys/signals.py) titles that will rise come first, those with the largest rise in front; then
    the rule above, for the titles that have no forecast: one whose forecast does not rise is not trending.
    """
    if not seen.has_times:
        return cards([])
    recent, expected = seen.titles["recent"].to_numpy(), seen.titles["expected"].to_numpy()
    surprise = (recent - expected) / np.sqrt(expected + 1)
    order = np.argsort(-surprise, kind="stable")
    order = order[(recent[order] >= 3) & (surprise[order] > 0)]
    note = worded(recent[order], lambda n: f"{count(n, seen.noun)} in the last {RECENT_DAYS} days")
    watched = cards(seen.item_ids[order], note=note)
    if forecasts is None:
        return watched
    others = watched[~watched["item_id"].isin(forecasts["item_id"])]
    rise = rising(forecasts)
    return first_of_each([cards(rise["item_id"], note=_rise_notes(rise)), others])


def _rise_notes(rise: pd.DataFrame) -> np.ndarray:
    days = count(rise["days"].max(), "day") if len(rise) else ""

    def note(percent: float) -> str:
        how = "start" if percent == np.inf else f"rise by {percent:,.0f}\u00a0%"
        return f"Expected to {how} in the next {days}"

    return worded(rise["rise"], note)


def popular(seen: Viewing) -> pd.DataFrame:
    """All titles, those known to most members first."""
    members = seen.titles["members"].sort_values(ascending=False, kind="stable")
    return cards(members.index, note=worded(members, lambda n: f"Seen by {count(n, 'member')}"))


def new_titles(seen: Viewing, catalogue: pd.DataFrame) -> pd.DataFrame:
    """Titles that are new to the service, those seen by most members first, then the newest.

    With times a title is new when its first event lies in the last 28 days, or when it has none yet and is from the
    year of the clock or the one before; a service whose events span less than 56 days cannot tell. Without times the
    last two years of the catalogue are new, unless they hold half of it.
    """
    new = _first_seen_lately(seen, catalogue) if seen.has_times else _of_the_last_years(catalogue)
    new["members"] = seen.titles["members"].reindex(new.index, fill_value=0)
    new = new.sort_values(["members", "when"], ascending=False, kind="stable")
    return cards(new.index, note=new["note"].to_numpy())


def _first_seen_lately(seen: Viewing, catalogue: pd.DataFrame) -> pd.DataFrame:
    """`when` and `note` of the new titles of a service with times; index item_id."""
    first = seen.titles["first"].reindex(catalogue.index)
    if seen.titles["first"].min() > seen.days_ago(2 * RECENT_DAYS):
        first = first.head(0)
    lately = first[first > seen.days_ago(RECENT_DAYS)]
    note = worded(lately, lambda time: f"New since {when(pd.Timestamp(int(time), unit='us'))}")
    unseen = first[first.isna() & (catalogue[YEAR] >= seen.as_of.year - 1)].fillna(np.inf)
    return pd.concat(
        [
            pd.DataFrame({"when": lately, "note": note}),
            pd.DataFrame({"when": unseen, "note": "Nobody saw it yet"}),
        ]
    )


def _of_the_last_years(catalogue: pd.DataFrame) -> pd.DataFrame:
    """`when` and `note` of the new titles where nothing but the year tells; index item_id."""
    year = catalogue[YEAR].astype(float)
    newest = year[year > year.max() - 2]
    if 2 * len(newest) >= len(year):
        newest = newest.head(0)
    return pd.DataFrame({"when": newest, "note": worded(newest, lambda of: f"From {of:.0f}")})


def by_score(candidates: pd.DataFrame, picks: pd.DataFrame) -> pd.DataFrame:
    """`candidates` in the order of `picks`; those that are not among them follow in their own order."""
    place = pd.Series(np.arange(len(picks)), index=picks["item_id"]).reindex(candidates["item_id"]).to_numpy()
    return candidates.iloc[np.argsort(np.where(np.isnan(place), len(picks), place), kind="stable")]


def hidden_gems(picks: pd.DataFrame, seen: Viewing) -> pd.DataFrame:
    """The less popular half of the hundred best of the scored list, best match first."""
    picks = picks.head(GEMS_AMONG)
    members = seen.titles["members"].reindex(picks["item_id"]).fillna(0).to_numpy()
    if len(members) == 0:
        return picks
    is_rare = members < np.median(members)
    note = worded(members[is_rare], lambda n: f"Only {count(n, 'member')} saw it" if n else "Nobody saw it yet")
    return picks[is_rare].assign(note=note)


def watch_again(mine: MemberHistory) -> pd.DataFrame:
    """What the member rated at least as high as their own upper quartile, the longest ago first among equals."""
    if len(mine.item_ids) == 0:
        return cards([])
    frame = pd.DataFrame({"item": mine.item_ids, "rating": mine.rating, "time": mine.time})
    frame = frame.groupby("item", sort=False).last()
    if frame["rating"].notna().any():
        frame = frame[frame["rating"] >= frame["rating"].quantile(0.75)]
        frame = frame.sort_values(["rating", "time"], ascending=[False, True], kind="stable")
        note = worded(frame["rating"], lambda value: f"You rated it {value:g}")
    else:
        frame = frame.sort_values("time", kind="stable")
        note = np.full(len(frame), "")
    return cards(frame.index, note=note)


def latest_favourite(mine: MemberHistory) -> str | None:
    """The last of the member's best-rated titles; without ratings, the last title."""
    item_ids, rating = mine.item_ids, mine.rating
    if len(item_ids) == 0:
        return None
    best = np.flatnonzero(rating == np.nanmax(rating)) if not np.isnan(rating).all() else np.arange(len(item_ids))
    return str(item_ids[best[-1]])


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
    pairs = distinct(seen.user[theirs].astype(np.int64) * n + seen.item[theirs]) % n
    both = np.bincount(pairs, minlength=n).astype(float)
    known = seen.titles["members"].to_numpy()
    score = both / (np.sqrt(known * known[at]) + 5)
    score[at] = 0.0
    order = np.argsort(-score, kind="stable")[:k]
    order = order[score[order] > 0]
    return pd.DataFrame({"item_id": seen.item_ids[order], "score": score[order]})


def genre_lines(catalogue: pd.DataFrame) -> pd.Series:
    """Each genre of each title: index item_id, a title with two genres twice."""
    return catalogue[GENRES].rename("genre").explode().dropna()


def favourite_genres(seen: Viewing, mine: MemberHistory, genres: pd.Series, how_many: int = 3) -> list[str]:
    """Genres that fill a larger share of what the member liked than of everything watched, the strongest first.

    Args:
        genres: see `genre_lines`. Liked: rated at least the member's own mean, or not rated at all.
    """
    if len(mine.item_ids) == 0:
        return []
    rating = mine.rating
    mean = np.nanmean(rating) if not np.isnan(rating).all() else 0
    liked = mine.item_ids[np.isnan(rating) | (rating >= mean)].value_counts()
    code, names = pd.factorize(genres, sort=True)

    def events_of_each(events: pd.Series) -> np.ndarray:
        """Events of the titles of each genre, by events of each title (index item_id). Shape: (genres,)."""
        of_line = np.append(events.to_numpy(), 0)[events.index.get_indexer(genres.index)]  # -1 finds the 0
        return np.bincount(code, weights=of_line, minlength=len(names))

    own, everyones = events_of_each(liked), events_of_each(seen.titles["events"])
    share, usual = own / max(liked.sum(), 1), everyones / max(len(seen.item), 1)
    lift = np.where(own >= 3, (share - usual) / np.sqrt(np.maximum(usual, 1e-9)), -np.inf)
    best = np.argsort(-lift, kind="stable")[:how_many]
    return [str(name) for name in names[best[lift[best] > -np.inf]]]


def of_genre(picks: pd.DataFrame, genre: str, genres: pd.Series) -> pd.DataFrame:
    """The cards whose title has `genre`, in their order; `genres` as of `genre_lines`."""
    return picks[picks["item_id"].isin(genres.index[genres == genre])]


def first_of_each(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The cards of several frames one after the other, each title where it comes first."""
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return cards([])
    return pd.concat(filled, ignore_index=True).drop_duplicates("item_id", ignore_index=True)
