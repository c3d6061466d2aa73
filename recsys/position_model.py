"""A second estimate of what another order would have brought: far less noisy, from a stronger assumption.

Replay (recsys/replay.py) uses a click only where chance put the title at the very place that the policy gives it, once
in n places. The position-based model (Richardson, Dominowska & Ragno 2007; Chuklin, Markov & de Rijke 2015, "Click
Models for Web Search") says more: a click is a look at the place and an attraction of the title to the member,

    P(click | title i at place r) = look(r) · attraction(i).

Under random order the titles at each place are alike on average, so a place's click rate is proportional to its look
(Joachims, Swaminathan & Schnabel 2017, "Unbiased Learning-to-Rank with Biased Feedback"). A click at place l then tells
what the title would have brought at place b, whatever b is: it counts look(b) / look(l). Titles stand in the K visible
places with probability K / n:

    V(B) = 1/pages · sum over clicks at places l <= K on titles with B's place b <= K of  n/K · look(b) / look(l)

Looks and sum are both drawn anew in each draw of the bootstrap over members, so the interval knows that looks are
estimated. Where a title is clicked for its place, or looks fall off differently from page to page, this is biased; it
then disagrees with the replay, which is why both are shown.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from data.schema import USER_ID
from recsys.clicks import DRAWS, SEED, VISIBLE, Interval, bootstrap, interval_of

FEWEST_CLICKS = 5  # at each visible place
FEWEST_MEMBERS = 20


class ByPosition(NamedTuple):
    """Clicks per page in the visible places by the position-based model; `difference` is B - A."""

    a: Interval
    b: Interval
    difference: Interval


def by_position(
    cards: pd.DataFrame,
    place_a: np.ndarray,
    place_b: np.ndarray,
    visible: int = VISIBLE,
    draws: int = DRAWS,
    seed: int = SEED,
) -> ByPosition | None:
    """The same question as recsys.replay.compare; None while there are too few clicks to know how places are looked at.

    Args:
        cards: see recsys.replay.explored.
        place_a: where policy A puts each card. Shape: (cards,).
        place_b: the same of B.
        visible: places that count.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    rank, n = cards["rank"].to_numpy(), cards["n"].to_numpy(float)
    k = min(visible, int(n.max(initial=0)))
    clicked = (rank <= k) & cards["clicked"].to_numpy(bool)
    if k == 0 or np.bincount(rank[clicked], minlength=k + 1)[1:].min() < FEWEST_CLICKS:
        return None
    member, members = pd.factorize(cards[USER_ID].to_numpy(object))
    if len(members) < FEWEST_MEMBERS:
        return None
    # Columns of each member: pages, cards and clicks at each place; then for A and B the clicks from place l to b.
    size = 1 + 2 * k + 2 * k * k
    worth = n / np.minimum(visible, n)
    first, seen = rank == 1, rank <= k
    entries = [
        (first, np.zeros_like(rank), np.ones_like(n)),
        (seen, rank, np.ones_like(n)),
        (clicked, k + rank, np.ones_like(n)),
        *(
            (clicked & (place <= k), 1 + 2 * k + number * k * k + (rank - 1) * k + place - 1, worth)
            for number, place in enumerate((place_a, place_b))
        ),
    ]
    at = np.concatenate([member[rows] * size + column[rows] for rows, column, _ in entries])
    weights = np.concatenate([value[rows] for rows, _, value in entries])
    sums = np.bincount(at, weights, minlength=len(members) * size).reshape(-1, size)

    def values(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            look = totals[:, 1 + k : 1 + 2 * k] / totals[:, 1 : 1 + k]  # (draws, k)
            ratio = look[:, None, :] / look[:, :, None]  # (draws, l, b)
            moved = totals[:, 1 + 2 * k :].reshape(-1, 2, k, k)
            a, b = (np.where(moved[:, i] > 0, moved[:, i] * ratio, 0.0).sum((1, 2)) / totals[:, 0] for i in (0, 1))
        return a, b

    (a, b), (drawn_a, drawn_b) = values(sums.sum(0)[None]), values(bootstrap(sums, draws, seed))
    return ByPosition(
        interval_of(float(a[0]), drawn_a),
        interval_of(float(b[0]), drawn_b),
        interval_of(float(b[0] - a[0]), drawn_b - drawn_a),
    )
