"""A member's home page: rows of titles in an order made for the member, no title twice. The one door to rows.

    recommender = recsys.scorer.load_current("demo")
    seen, catalogue = read_viewing(dataset), read_catalogue(dataset)      # once
    recommender.update(member, events)
    page = home_page(recommender, member, seen, catalogue)                # page.billboard, page.rows

The dashboard calls `home_rows` with a precomputed table of recommendations instead of a recommender.

Known titles. Each row says what it does with titles that the member knows: `hide` shows only those that are new to the
member, `allow` both, `again` only known ones.

Order. Top picks, the member's own list, because you watched, trending, new for you, one row for each of three favourite
genres, hidden gems, watch again. A title stands in the first row that may have it, except that the list chooses before
all, and hidden gems and new titles, which are few, right after the top picks; a row left with fewer than four titles
goes, but for the list. Without recommendations a row of what is popular leads.

Reviews. A title whose reviews have soured (recsys/signals.py) sinks: of the cards that a row shows it stands behind
all that have not, and its note says why. It is never the billboard while another pick could be. In `again` rows, where
the member's own judgement counts, it keeps its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from data.errors import UserError
from recsys.rows import (
    are_probabilities,
    by_score,
    cards,
    favourite_genres,
    first_of_each,
    genre_lines,
    hidden_gems,
    latest_favourite,
    new_titles,
    of_genre,
    popular,
    scored,
    together,
    trending,
    watch_again,
)
from recsys.signals import SOUR_NOTE, soured
from recsys.viewing import RECENT_DAYS, MemberHistory, Viewing, shown

if TYPE_CHECKING:
    from recsys.scorer import Recommender

KnownTitles = Literal["hide", "allow", "again"]
ROW_LENGTH = 20
SHORTEST_ROW = 4
LEADING = ("picks", "trending", "popular")  # rows that the billboard is taken from
# The list is the member's own, the others' titles are few; further rows choose in the order of the page.
CHOOSE_FIRST = {"list": -1, "picks": 0, "gems": 1, "new": 2}


@dataclass(frozen=True)
class Row:
    """A heading and its cards (see recsys/rows.py); before it is on a page, all that it might show, best first."""

    key: str
    title: str
    cards: pd.DataFrame
    note: str = ""
    length: int = ROW_LENGTH
    known_titles: KnownTitles = "hide"
    shortest: int = SHORTEST_ROW


class Page(NamedTuple):
    billboard: pd.DataFrame  # cards: the one on top of the page, or none
    rows: list[Row]


@dataclass(frozen=True)
class Shelves:
    """What may still be put on a page: which titles of the catalogue are known, which taken. Shapes: (titles,)."""

    titles: pd.Index
    known: np.ndarray
    taken: np.ndarray

    def admitted(self, row: Row) -> pd.DataFrame:
        """The cards of a row that its rule for known titles admits and that are not taken, each once."""
        at = self.titles.get_indexer(pd.Index(row.cards["item_id"]))
        places = np.flatnonzero(at >= 0)
        places = places[~self.taken[at[places]]]
        if row.known_titles != "allow":
            places = places[self.known[at[places]] == (row.known_titles == "again")]
        _, first = np.unique(at[places], return_index=True)
        return row.cards.iloc[places[np.sort(first)]]

    def take(self, frame: pd.DataFrame) -> None:
        """Let no later row have these cards."""
        self.taken[self.titles.get_indexer(pd.Index(frame["item_id"]))] = True


def filled(rows: Sequence[Row], shelves: Shelves) -> list[Row]:
    """Cut each row to its length in cards that are still there, in this order; rows that are left too short go."""
    kept = []
    for row in rows:
        cut = shelves.admitted(row).head(row.length)
        if len(cut) >= row.shortest:
            shelves.take(cut)
            kept.append(replace(row, cards=cut.reset_index(drop=True)))
    return kept


def sunk(frame: pd.DataFrame, sour: pd.Index) -> pd.DataFrame:
    """The cards with the titles of `sour` behind the others, and the reason as their note; else in their order."""
    is_sour = frame["item_id"].isin(sour)
    if not is_sour.any():
        return frame
    note = frame["note"].mask(is_sour, SOUR_NOTE)
    return frame.assign(note=note).iloc[np.argsort(is_sour, kind="stable")].reset_index(drop=True)


def home_rows(
    mine: MemberHistory,
    seen: Viewing,
    catalogue: pd.DataFrame,
    recommendations: pd.DataFrame,
    similar: pd.DataFrame | None = None,
    *,
    probabilities: bool = False,
    forecasts: pd.DataFrame | None = None,
    sentiment: pd.DataFrame | None = None,
    listed: Sequence[str] = (),
) -> Page:
    """The home page of the member whose history is `mine`.

    Args:
        catalogue: index item_id, columns shown_title, year and genres (see `read_catalogue`).
        recommendations: the member's rows of the recommendations table; may be empty.
        similar: `item_id`, `score` of titles like the member's latest favourite; None to count who saw both.
        probabilities: whether the whole table's scores are (see `are_probabilities`).
        forecasts: see `title_forecasts` (recsys/signals.py).
        sentiment: see `title_sentiment` (recsys/signals.py).
        listed: titles on the member's list, latest first: a row of their own after the top picks, however few.
    """
    shelves = Shelves(catalogue.index, catalogue.index.isin(mine.known), np.zeros(len(catalogue), dtype=bool))
    unseen = int((~shelves.known).sum())
    picks = scored(recommendations, unseen, mine.known, probabilities=probabilities)
    picks = picks[picks["item_id"].isin(catalogue.index)]
    sour = pd.Index([]) if sentiment is None else soured(sentiment)

    rows = _candidates(mine, seen, catalogue, picks, similar, forecasts)
    rows.insert(1, Row("list", "My list", cards(listed), known_titles="allow", shortest=1))
    leading = [shelves.admitted(row) for key in LEADING for row in rows if row.key == key]
    leading = [frame[~frame["item_id"].isin(listed)] for frame in leading]  # those have a row of their own
    billboard = sunk(next((frame for frame in leading if len(frame)), cards([])), sour).head(1)
    shelves.take(billboard)
    place = {row.key: position for position, row in enumerate(rows)}
    rows = filled(sorted(rows, key=lambda row: (CHOOSE_FIRST.get(row.key, len(rows)), place[row.key])), shelves)
    rows.sort(key=lambda row: place[row.key])
    billboard, *shown_cards = _with_match([billboard, *(row.cards for row in rows)], picks)
    return Page(
        billboard,
        [
            replace(row, cards=frame if row.known_titles == "again" else sunk(frame, sour))
            for row, frame in zip(rows, shown_cards, strict=True)
        ],
    )


def _with_match(frames: Sequence[pd.DataFrame], picks: pd.DataFrame) -> list[pd.DataFrame]:
    """The cards with the match of the scored list, and its reason where they have none of their own."""
    every = pd.concat(frames)
    listed = picks.set_index("item_id").reindex(every["item_id"])
    reason = every["reason_item_id"].where(every["reason_item_id"].notna(), listed["reason_item_id"].to_numpy())
    every = every.assign(match=listed["match"].to_numpy(), reason_item_id=reason.where(reason.notna(), None))
    ends = np.cumsum([len(frame) for frame in frames])
    return [every.iloc[end - len(frame) : end].reset_index(drop=True) for end, frame in zip(ends, frames, strict=True)]


def _candidates(
    mine: MemberHistory,
    seen: Viewing,
    catalogue: pd.DataFrame,
    picks: pd.DataFrame,
    similar: pd.DataFrame | None,
    forecasts: pd.DataFrame | None,
) -> list[Row]:
    """Every row with all that it might show, in the order of the page."""
    genres, everyones = genre_lines(catalogue), popular(seen)
    best = first_of_each([picks, everyones])
    # A third of a short scored list: the genres and the hidden gems need some of it too.
    rows = [Row("picks", "Top picks for you", picks, length=min(ROW_LENGTH, max(8, len(picks) // 3)))]
    favourite = latest_favourite(mine)
    if favourite is not None and favourite in catalogue.index:
        like = together(seen, favourite) if similar is None else similar
        because = cards(like["item_id"]).assign(reason_item_id=favourite)
        rows.append(Row("like", f"Because you watched {shown(catalogue, favourite)}", because))
    usual = f"against each title's usual {RECENT_DAYS} days"
    by_forecast = f"by forecast, then by the last {RECENT_DAYS} days"
    rows.append(Row("trending", "Trending now", trending(seen, forecasts), usual if forecasts is None else by_forecast))
    rows.append(Row("new", "New for you", by_score(new_titles(seen, catalogue), picks)))
    rows += [
        Row(f"genre-{genre}", f"{genre} for you", of_genre(best, genre, genres))
        for genre in favourite_genres(seen, mine, genres)
    ]
    rows.append(Row("gems", "Hidden gems", hidden_gems(picks, seen)))
    rows.append(Row("again", "Watch again", watch_again(mine), known_titles="again"))
    return rows if len(picks) else [Row("popular", "Popular with everyone", everyones), *rows]


def home_page(
    recommender: "Recommender",
    member: str,
    seen: Viewing,
    catalogue: pd.DataFrame,
    *,
    forecasts: pd.DataFrame | None = None,
    sentiment: pd.DataFrame | None = None,
    variety: float = 0.0,
) -> Page:
    """A member's home page by what the recommender knows now, events of `Recommender.update` included.

    What all members watch (trending, popular, new, hidden) is as of `seen`. Somebody whom the recommender does not know
    gets what is popular.

    Args:
        seen, catalogue: of the recommender's dataset, see `read_viewing` and `read_catalogue`.
        forecasts, sentiment: as for `home_rows`.
        variety: 0 to 1, for the top picks; see recsys/variety.py.

    Raises:
        UserError: `variety` is not between 0 and 1.
    """
    mine = history_of(recommender, member, seen)
    scores = ranked(recommender, member, variety)
    favourite = latest_favourite(mine)
    return home_rows(
        mine,
        seen,
        catalogue,
        scores,
        None if favourite is None else _similar(recommender, favourite),
        probabilities=are_probabilities(scores),
        forecasts=forecasts,
        sentiment=sentiment,
    )


def history_of(recommender: "Recommender", member: str, seen: Viewing) -> MemberHistory:
    """The member's history in `seen`, followed by what the recommender has been told since by `update`.

    Known is also what the recommender hides: titles with a thumb down and those on the member's list. It does not tell
    a title put on the list from one that was watched, so an update with either makes it a part of the history.
    """
    mine = seen.history(member)
    if member not in recommender.members:
        return mine
    at, item_ids = recommender.positions([member]), recommender.vocabulary.item_ids
    wanted = recommender.feedback.wanted.take(at)
    titles = item_ids[wanted.items]
    since = (wanted.times > seen.time.max(initial=0)) & ~titles.isin(mine.known)
    mine = mine.followed_by(titles[since], wanted.times[since], wanted.ratings[since].astype(float))
    mine = mine.without(item_ids[recommender.feedback.disliked.take(at).items])
    return mine._replace(known=mine.known.union(item_ids[recommender.feedback.hidden.take(at).items], sort=False))


def ranked(recommender: "Recommender", member: str, variety: float = 0.0) -> pd.DataFrame:
    """All titles new to the member as rows of the recommendations table: those of billboard and top picks with variety
    and reasons first, then the rest by score. Empty for somebody whom the recommender does not know."""
    if member not in recommender.members:
        return pd.DataFrame({"user_id": [], "rank": [], "item_id": [], "score": [], "reason_item_id": []})
    best = recommender.recommend([member], k=ROW_LENGTH + 1, reasons=True, variety=variety)
    everything = recommender.recommend([member], k=len(recommender.vocabulary.item_ids))
    every = first_of_each([best, everything.assign(reason_item_id=None)])
    return every.assign(rank=np.arange(1, len(every) + 1))


def _similar(recommender: "Recommender", item_id: str) -> pd.DataFrame | None:
    try:
        return recommender.similar(item_id, 3 * ROW_LENGTH)
    except UserError:  # a title that came after the training
        return None


def more_like(
    item_id: str,
    seen: Viewing,
    catalogue: pd.DataFrame,
    similar: pd.DataFrame | None = None,
    sentiment: pd.DataFrame | None = None,
) -> Row:
    """The row under a title: those most like it, known ones among them; it may be empty.

    Args:
        similar: `item_id`, `score` from the recommender; None to count who saw both.
        sentiment: see `title_sentiment` (recsys/signals.py).
    """
    note = "seen by the same members" if similar is None else "as the recommender sees it"
    alike = together(seen, item_id) if similar is None else similar
    frame = cards(alike.loc[(alike["item_id"] != item_id) & alike["item_id"].isin(catalogue.index), "item_id"])
    frame = sunk(frame.head(ROW_LENGTH), pd.Index([]) if sentiment is None else soured(sentiment))
    return Row("like", "More like this", frame, note, known_titles="allow")
