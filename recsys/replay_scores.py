"""What policies would have put where on logged pages, each page with its member's history as it was at that moment.

Tables and event store hold today what happened after a page too: the watch that its click led to would tell a model
which title was clicked. So a page is a pseudo-member, and all that is known of it is cut strictly before its time: what
the member wanted, which thumbs were down then, and how popular titles were. Whether a run's weights have learned from
the page's outcome is another question: recsys.replay.not_seen_by.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from data.dataset import Dataset
from data.schema import ITEM_ID, KIND, RATING, TIMESTAMP, USER_ID
from data.splits import POSITIVE_KINDS, order_events
from recsys.content import genre_matrix
from recsys.feedback import TIES_SEED, Feedback
from recsys.interactions import Histories, Vocabulary, histories_of
from recsys.replay import places
from recsys.scorer import Recommender
from recsys.variety import diversified, jaccard

_PAGES = 4096  # histories in memory at once
_NEVER = np.iinfo(np.int64).max


def run_scores(recommender: Recommender, dataset: Dataset, cards: pd.DataFrame, since: pd.DataFrame) -> np.ndarray:
    """Scores that a recommender gives the cards of each page, for its member as of that page. Shape: (cards,).

    NaN for a title that it does not know.

    Args:
        recommender: a finished run, loaded; nothing in it is changed.
        dataset: whose tables hold the histories.
        cards: see recsys.replay.explored.
        since: events that are not in the tables yet, see data.events.events.
    """
    vocabulary = recommender.vocabulary
    page = cards["page"].to_numpy()
    column = cards["rank"].to_numpy() - 1
    titles = np.full((page.max(initial=-1) + 1, column.max(initial=-1) + 1), -1)
    titles[page, column] = vocabulary.items(cards[ITEM_ID])
    pages = cards.drop_duplicates("page")
    known = vocabulary.users(pages[USER_ID])
    users = np.where(known < 0, len(vocabulary.user_ids), known)
    members = pd.Index(pages[USER_ID].unique())
    past = Past.of(dataset, Vocabulary(members, vocabulary.item_ids), since)
    rows, times = members.get_indexer(pd.Index(pages[USER_ID])), pages["time"].to_numpy()
    found = np.full(titles.shape, np.nan)
    for first in range(0, len(titles), _PAGES):
        part = slice(first, first + _PAGES)
        found[part] = recommender.scores_among(users[part], past.until(rows[part], times[part]), titles[part])
    return found[page, column]


def scores_of_run(run: Path, dataset: Dataset, cards: pd.DataFrame, since: pd.DataFrame) -> np.ndarray:
    """`run_scores` by the recommender of a run folder.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    return run_scores(Recommender.load(run), dataset, cards, since)


def popularity_scores(dataset: Dataset, cards: pd.DataFrame, since: pd.DataFrame) -> np.ndarray:
    """How many members had wanted each card's title before its page. Shape: (cards,). Arguments as of `run_scores`."""
    wanted = _wanted(dataset, since)
    ids = pd.Index(cards[ITEM_ID].unique())
    item = ids.get_indexer(pd.Index(wanted[ITEM_ID]))
    times = wanted[TIMESTAMP].astype("int64").to_numpy()[item >= 0]
    item = item[item >= 0]
    asked, asked_item = cards["time"].to_numpy(), ids.get_indexer(pd.Index(cards[ITEM_ID]))
    # Title and time as one number, so that one search counts the events of a title before a moment.
    moments = np.unique(np.concatenate([times, asked]))
    events = np.sort(item * len(moments) + np.searchsorted(moments, times))
    before = np.searchsorted(events, asked_item * len(moments) + np.searchsorted(moments, asked), side="left")
    return (before - np.searchsorted(events, asked_item * len(moments), side="left")).astype(float)


def varied_places(dataset: Dataset, cards: pd.DataFrame, scores: np.ndarray, variety: float) -> np.ndarray:
    """Where a policy with `scores` puts each card when its row is re-ranked for variety. Shape: (cards,).

    Args:
        dataset: whose items have genres; without any the order stays that of the scores.
        cards: see recsys.replay.explored.
        scores: see `run_scores`.
        variety: 0 to 1, see recsys/variety.py.
    """
    plain = places(cards, scores)
    if variety == 0 or not dataset.has("items") or cards.empty:
        return plain
    ids = pd.Index(cards[ITEM_ID].unique())
    genres = genre_matrix(dataset.items(), ids)[1]
    page, best = cards["page"].to_numpy(), plain - 1
    shape = (int(page.max()) + 1, int(best.max()) + 1)
    titles = torch.zeros(shape, dtype=torch.int64)
    logits = torch.full(shape, -torch.inf)
    titles[page, best] = torch.from_numpy(ids.get_indexer(pd.Index(cards[ITEM_ID])))
    lowest = float(np.nanmin(scores)) if np.isfinite(scores).any() else 0.0
    logits[page, best] = torch.from_numpy(np.where(np.isnan(scores), lowest, scores)).float()
    chosen = diversified(logits, jaccard(genres, titles), shape[1], variety)  # (pages, n): which comes at each place
    place = torch.empty_like(chosen)
    place.scatter_(1, chosen, torch.arange(1, shape[1] + 1).expand(shape))
    return place[page, best].numpy()


class Past:
    """What members have said, as it can be asked for at any moment: by position in a vocabulary of those members."""

    def __init__(self, wanted: Histories, disliked: Histories, until: Histories) -> None:
        self.wanted, self.disliked, self.disliked_until = wanted, disliked, until

    @staticmethod
    def of(dataset: Dataset, vocabulary: Vocabulary, since: pd.DataFrame) -> "Past":
        """From the tables and the events that are not in them yet.

        Args:
            vocabulary: the members and titles in question.
            since: see data.events.events.
        """
        wanted = _known(_wanted(dataset, since), vocabulary)
        thumbs = _known(_events(dataset, since, ("thumb_up", "thumb_down")), vocabulary)
        thumbs = thumbs.sort_values(TIMESTAMP, kind="stable")
        # A thumb holds until the next one of the same member on the same title.
        times = thumbs[TIMESTAMP].astype("int64")
        until = times.groupby([thumbs[USER_ID], thumbs[ITEM_ID]]).shift(-1, fill_value=_NEVER).to_numpy()
        down = (thumbs[KIND] == "thumb_down").to_numpy()
        users, items = vocabulary.users(thumbs[USER_ID])[down], vocabulary.items(thumbs[ITEM_ID])[down]
        size = (len(vocabulary.user_ids), len(vocabulary.item_ids))
        given, taken = (Histories.of(users, items, at[down], *size) for at in (times.to_numpy(), until))
        return Past(histories_of(vocabulary, wanted), given, taken)

    def until(self, members: np.ndarray, times: np.ndarray) -> Feedback:
        """What each of `members` had said before its time, as rows in that order. Shapes: (rows,), (rows,).

        `hidden` holds nothing: titles of a page that was shown are not left out of it.
        """
        wanted = self.wanted.take(members)
        number = np.bincount(wanted.users[wanted.times < times[wanted.users]], minlength=len(members))
        given, taken = self.disliked.take(members), self.disliked_until.take(members)
        down = (given.times < times[given.users]) & (times[given.users] <= taken.times)
        size = (len(members), self.wanted.n_items)
        disliked = Histories.of(given.users[down], given.items[down], given.times[down], *size)
        nothing = np.zeros(0, np.int64)
        return Feedback(wanted.first(number), Histories.of(nothing, nothing, nothing, *size), disliked)


def _wanted(dataset: Dataset, since: pd.DataFrame) -> pd.DataFrame:
    """Each member's first positive event on each title, by member and time, as recsys.interactions has it."""
    frame = _events(dataset, since, POSITIVE_KINDS)
    ordered = order_events(frame[[USER_ID, ITEM_ID, TIMESTAMP, RATING]], TIES_SEED)
    return ordered.drop_duplicates([USER_ID, ITEM_ID], keep="first", ignore_index=True)


def _events(dataset: Dataset, since: pd.DataFrame, kinds: tuple[str, ...]) -> pd.DataFrame:
    """Events on titles of some kinds, in tables and event store."""
    columns = [USER_ID, ITEM_ID, TIMESTAMP, KIND, RATING]
    later = since.rename(columns={"service_time": TIMESTAMP})[columns]
    parts = [later.astype({USER_ID: object, ITEM_ID: object, KIND: object, RATING: "float64"})]
    if dataset.has("interactions"):
        parts.insert(0, dataset.interactions(columns))
    parts = [part[part[KIND].isin(kinds) & part[ITEM_ID].notna()] for part in parts]
    there = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(there, ignore_index=True)


def _known(frame: pd.DataFrame, vocabulary: Vocabulary) -> pd.DataFrame:
    return frame[frame[USER_ID].isin(vocabulary.user_ids) & frame[ITEM_ID].isin(vocabulary.item_ids)]
