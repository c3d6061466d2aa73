"""A little chance in the order of the top picks, so that any other order can be judged by what members did later.

What was shown in a fixed order says nothing of another order: members click what stands in front. On a small share of
member-days the row stands in an order that is drawn uniformly, so that each of its n titles had the probability 1/n of
standing at each place; that is logged with the impressions, and recsys/replay.py reads it (Li, Chu, Langford & Wang
2011, "Unbiased offline evaluation of contextual-bandit-based news article recommendation algorithms"). The draw is made
of the member, the day and the dataset: reloading a page does not shuffle it again.
"""

import hashlib
from dataclasses import replace

import numpy as np

from recsys.pages import Page, Row
from recsys.signals import SOUR_NOTE

EXPLORED_ROW = "picks"
NOTE = "in random order today, to learn from"


def explored(page: Page, who: str, share: float) -> tuple[Page, int]:
    """The page, with its top picks shuffled if chance has it so; titles that have sunk stay at the end.

    Args:
        who: the member, the day and whatever else decides the draw.
        share: of the draws that shuffle, 0 to 1.

    Returns:
        The page, and how many titles stand in random order: 0 for none.
    """
    chance = np.random.default_rng(int.from_bytes(hashlib.blake2b(who.encode(), digest_size=16).digest(), "big"))
    if chance.random() >= share:
        return page, 0
    rows, number = [], 0
    for row in page.rows:
        kept = row
        if row.key == EXPLORED_ROW:
            kept, number = _shuffled(row, chance)
        rows.append(kept)
    return page._replace(rows=rows), number


def _shuffled(row: Row, chance: np.random.Generator) -> tuple[Row, int]:
    number = int((row.cards["note"] != SOUR_NOTE).sum())
    if number < 2:
        return row, 0
    order = np.concatenate([chance.permutation(number), np.arange(number, len(row.cards))])
    return replace(row, cards=row.cards.iloc[order].reset_index(drop=True), note=NOTE), number
