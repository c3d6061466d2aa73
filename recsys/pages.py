"""A member's home page: rows of titles in an order made for the member, no title twice. The one door to rows.

    recommender = recsys.scorer.load_current("demo")
    seen, catalogue = read_viewing(dataset), read_catalogue(dataset)      # once
    recommender.update(member, events)
    page = home_page(recommender, member, seen, catalogue)                # page.billboard, page.rows

The dashboard calls `home_rows` with a precomputed table of recommendations instead of a recommender.

Known titles. Each row says what it does with titles that the member knows: `hide` shows only those that are new to the
member, `allow` both, `again` only known ones.

Order. Top picks, because you watched, trending, new for you, one row for each of three favourite genres, hidden gems,
watch again. A title stands in the first row that may have it, except that hidden gems choose right after the top
picks; a row left with fewer than four titles goes. Without recommendations a row of what is popular leads.

Reviews. A title whose reviews have soured (recsys/signals.py) sinks: of the cards that a row shows it stands behind
all that have not, and its note says why. It is never the billboard while another pick could be. In `again` rows, where
the member's own judgement counts, it keeps its place.
"""

from collections.abc import Iterable, Sequence
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
from recsys.viewing import RECENT_DAYS, History, Viewing, shown

if TYPE_CHECKING:
    from recsys.scorer import Recommender

KnownTitles = Literal["hide", "allow", "again"]
ROW_LENGTH = 20
SHORTEST_ROW = 4


@dataclass(frozen=True)
class Row:
    """A heading and its cards (see recsys/rows.py); before it is on a page, all that it might show, best first."""

    key: str
    title: str
    cards: pd.DataFrame
    note: str = ""
    length: int = ROW_LENGTH
    known_titles: KnownTitles = "hide"

    def admitted(self, known: pd.Index) -> "Row":
        """The row with the cards that its rule for known titles admits."""
        if self.known_titles == "allow":
            return self
        return replace(self, cards=self.cards[self.cards["item_id"].isin(known) == (self.known_titles == "again")])


class Page(NamedTuple):
    billboard: pd.DataFrame  # cards: the one on top of the page, or none
    rows: list[Row]


def without_repeats(rows: Sequence[Row], taken: Iterable[str] = ()) -> list[Row]:
    """Cut each row to its length in cards that no row above it has; rows left with fewer than four cards go."""
    used, kept = set(taken), []
    for row in rows:
        fresh = row.cards[~row.cards["item_id"].isin(used)].drop_duplicates("item_id").head(row.length)
        if len(fresh) >= SHORTEST_ROW:
            used.update(fresh["item_id"])
            kept.append(replace(row, cards=fresh.reset_index(drop=True)))
    return kept


def sunk(frame: pd.DataFrame, sour: pd.Index) -> pd.DataFrame:
    """The cards with the titles of `sour` behind the others, and the reason as their note; else in their order."""
    is_sour = frame["item_id"].isin(sour)
    note = frame["note"].mask(is_sour, SOUR_NOTE)
    return frame.assign(note=note).iloc[np.argsort(is_sour, kind="stable")].reset_index(drop=True)


def home_rows(
    mine: History,
    seen: Viewing,
    catalogue: pd.DataFrame,
    recommendations: pd.DataFrame,
    similar: pd.DataFrame | None = None,
    *,
    probabilities: bool = False,
    forecasts: pd.DataFrame | None = None,
    sentiment: pd.DataFrame | None = None,
) -> Page:
    """The home page of the member whose history is `mine`.

    Args:
        catalogue: index item_id, columns shown_title, year and genres (see `read_catalogue`).
        recommendations: the member's rows of the recommendations table; may be empty.
        similar: `item_id`, `score` of titles like the member's latest favourite; None to count who saw both.
        probabilities: whether the whole table's scores are (see `are_probabilities`).
        forecasts: see `title_forecasts` (recsys/signals.py).
        sentiment: see `title_sentiment` (recsys/signals.py).
    """
    unseen = int((~catalogue.index.isin(mine.known)).sum())
    picks = scored(recommendations, unseen, mine.known, probabilities=probabilities)
    picks = picks[picks["item_id"].isin(catalogue.index)].reset_index(drop=True)
    sour = pd.Index([]) if sentiment is None else soured(sentiment)
    scored_list = picks.set_index("item_id")

    def ready(row: Row) -> Row:
        """The row with titles of the catalogue that it admits, with the match and reason of the scored list."""
        frame = row.admitted(mine.known).cards
        frame = frame[frame["item_id"].isin(catalogue.index)]
        listed = scored_list.reindex(frame["item_id"])
        reason = frame["reason_item_id"].where(frame["reason_item_id"].notna(), listed["reason_item_id"].to_numpy())
        reason = reason.astype(object).where(reason.notna(), None)
        return replace(row, cards=frame.assign(match=listed["match"].to_numpy(), reason_item_id=reason))

    rows = [ready(row) for row in _candidates(mine, seen, catalogue, picks, similar, forecasts)]
    leading = [row.cards for key in ("picks", "trending", "popular") for row in rows if row.key == key]
    billboard = sunk(first_of_each(leading), sour).head(1)
    rows = _in_page_order(rows, billboard["item_id"])
    return Page(
        billboard,
        [row if row.known_titles == "again" else replace(row, cards=sunk(row.cards, sour)) for row in rows],
    )


def _candidates(
    mine: History,
    seen: Viewing,
    catalogue: pd.DataFrame,
    picks: pd.DataFrame,
    similar: pd.DataFrame | None,
    forecasts: pd.DataFrame | None,
) -> list[Row]:
    """Every row with all that it might show, in the order of the page."""
    genres, everything = genre_lines(catalogue), popular(seen)
    # A third of a short scored list: the genres and the hidden gems need some of it too.
    rows = [Row("picks", "Top picks for you", picks, length=min(ROW_LENGTH, max(8, len(picks) // 3)))]
    favourite = latest_favourite(mine)
    if favourite is not None and favourite in catalogue.index:
        like = together(seen, favourite) if similar is None else similar
        because = cards(like["item_id"]).assign(reason_item_id=favourite)
        rows.append(Row("like", f"Because you watched {shown(catalogue, favourite)}", because))
    usual = f"against each title's usual {RECENT_DAYS} days"
    by_forecast = f"by what is expected, then by the last {RECENT_DAYS} days"
    rows.append(Row("trending", "Trending now", trending(seen, forecasts), usual if forecasts is None else by_forecast))
    rows.append(Row("new", "New for you", by_score(new_titles(seen, catalogue), picks)))
    rows += [
        Row(
            f"genre-{genre}",
            f"{genre} for you",
            first_of_each([of_genre(picks, genre, genres), of_genre(everything, genre, genres)]),
        )
        for genre in favourite_genres(seen, mine, genres)
    ]
    rows.append(Row("gems", "Hidden gems", hidden_gems(picks, seen)))
    rows.append(Row("again", "Watch again", watch_again(mine), known_titles="again"))
    return rows if len(picks) else [Row("popular", "Popular with everyone", everything), *rows]


def _in_page_order(rows: Sequence[Row], taken: Iterable[str]) -> list[Row]:
    """Remove repeats, then put the rows back in their order. Hidden gems, at the foot, live from the scored list
    alone: they choose right after the first row, before the genres take the rest."""
    place = {row.key: position for position, row in enumerate(rows)}
    chosen = sorted(rows, key=lambda row: (row.key != "picks", row.key != "gems", place[row.key]))
    return sorted(without_repeats(chosen, taken), key=lambda row: place[row.key])


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
    ranked = _ranked(recommender, member, variety)
    favourite = latest_favourite(mine)
    return home_rows(
        mine,
        seen,
        catalogue,
        ranked,
        None if favourite is None else _similar(recommender, favourite),
        probabilities=are_probabilities(ranked),
        forecasts=forecasts,
        sentiment=sentiment,
    )


def history_of(recommender: "Recommender", member: str, seen: Viewing) -> History:
    """The member's history in `seen`, followed by what the recommender has been told since by `update`.

    Known is also what the recommender hides: titles with a thumb down and those on the member's list. It does not tell
    a title put on the list from one that was watched, so an update with either makes it a part of the history.
    """
    mine = seen.history(member)
    if member not in recommender.members:
        return mine
    at, item_ids = recommender.positions([member]), recommender.vocabulary.item_ids
    wanted = recommender.histories.take(at)
    titles = item_ids[wanted.items]
    since = (wanted.times > seen.time.max(initial=0)) & ~titles.isin(mine.known)
    mine = mine.followed_by(titles[since], wanted.times[since], wanted.ratings[since].astype(float))
    mine = mine.without(item_ids[recommender.disliked.take(at).items])
    return mine._replace(known=mine.known.union(item_ids[recommender.hidden.take(at).items], sort=False))


def _ranked(recommender: "Recommender", member: str, variety: float) -> pd.DataFrame:
    """All titles as rows of the recommendations table: the billboard and top picks with variety and reasons first,
    then the rest by score."""
    if member not in recommender.members:
        return pd.DataFrame({"user_id": [], "rank": [], "item_id": [], "score": [], "reason_item_id": []})
    best = recommender.recommend([member], k=ROW_LENGTH + 1, reasons=True, variety=variety)
    everything = recommender.recommend([member], k=len(recommender.vocabulary.item_ids))
    ranked = first_of_each([best, everything.assign(reason_item_id=None)])
    return ranked.assign(rank=np.arange(1, len(ranked) + 1))


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
