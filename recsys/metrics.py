"""Ranking metrics from ranks.

An evaluation has pairs (member, relevant title). Each pair has a rank: the title's place, from 1, among all titles
that the member had not seen. `ranks` and `members` are integer tensors of shape (pairs,) on one device; `members`
holds integers below `n_members`, in any order. The accuracy metrics return one value for each member, shape
(n_members,), so that a mean, an interval or a paired test can be taken over members; a member without a pair gets NaN
and is left out of the mean.
"""

import numpy as np
import torch
from torch import Tensor

from data.intervals import bootstrap

_BLOCK = 2**20  # elements compared at once in `ranks_of`: they stay in the cache


def tie_order(n_items: int, seed: int) -> Tensor:
    """A seeded permutation for `ranks_of`, drawn on the host so that every device ranks alike. Shape: (n_items,)."""
    return torch.randperm(n_items, generator=torch.Generator().manual_seed(seed))


def ranks_of(scores: Tensor, rows: Tensor, items: Tensor, order: Tensor) -> Tensor:
    """Rank from 1 of title `items[p]` in row `rows[p]` of `scores`. Shape: (pairs,), int64.

    rank = 1 + (titles that score higher) + (titles that score the same and come first in `order`)

    `order`, a permutation of shape (n_items,), decides between equal scores independently of the titles' ids and
    popularity. A score of NaN gives the last rank, so that a model that diverged cannot look perfect.

    >>> ranks_of(torch.tensor([[0.1, 0.9, 0.9]]), torch.tensor([0, 0]), torch.tensor([0, 2]), torch.tensor([0, 1, 2]))
    tensor([3, 2])
    """
    n_items = scores.shape[1]
    ranks = []
    for some_rows, some_items in zip(
        rows.split(max(1, _BLOCK // n_items)), items.split(max(1, _BLOCK // n_items)), strict=True
    ):
        others = scores[some_rows]  # (pairs, n_items)
        own = others.gather(1, some_items[:, None])  # (pairs, 1)
        # As if what scores the same came first: nothing scores less than NaN, and NaN not less than anything.
        found = n_items - _count(others < own)
        tied = torch.nonzero(_count(others == own) > 1).flatten()
        if len(tied):  # most scores are like no other
            later = order > order[some_items[tied]][:, None]
            found[tied] -= _count((others[tied] == own[tied]) & later)
        ranks.append(found)
    return torch.cat(ranks)


def _count(where: Tensor) -> Tensor:
    """How many of each row are true: torch sums truth values at a quarter of the speed of bytes. Shape: (rows,)."""
    return where.view(torch.uint8).sum(1, dtype=torch.int32).long()


def hit_rate(ranks: Tensor, members: Tensor, n_members: int, k: int) -> Tensor:
    """HR@k: 1 if any relevant title of the member ranks at k or better, else 0.

    >>> hit_rate(torch.tensor([3, 11]), torch.tensor([0, 1]), 2, k=10)
    tensor([1., 0.])
    """
    hits = _sum((ranks <= k).float(), members, n_members)
    return _known(hits.clamp_max(1.0), members, n_members)


def ndcg(ranks: Tensor, members: Tensor, n_members: int, k: int) -> Tensor:
    """NDCG@k with binary relevance: sum of 1/log2(1 + rank) over ranks <= k, divided by its largest possible value.

    The denominator is the sum of 1/log2(1 + i) for i = 1 to min(k, relevant titles of the member): 1 with one title.
    Range 0 to 1.

    >>> ndcg(torch.tensor([1, 3, 11]), torch.tensor([0, 1, 2]), 3, k=10)
    tensor([1.0000, 0.5000, 0.0000])
    """
    gains = torch.where(ranks <= k, 1.0 / torch.log2(1.0 + ranks), 0.0)
    ideal = (1.0 / torch.log2(2.0 + torch.arange(k, device=ranks.device))).cumsum(0)  # (k,)
    relevant = _sum(torch.ones_like(gains), members, n_members).long()
    best = ideal[(relevant - 1).clamp(0, k - 1)]
    return _known(_sum(gains, members, n_members) / best, members, n_members)


def reciprocal_rank(ranks: Tensor, members: Tensor, n_members: int) -> Tensor:
    """1/rank of the member's best-ranked relevant title, without a cut-off; its mean is the MRR. Range 0 to 1.

    >>> reciprocal_rank(torch.tensor([4, 2]), torch.tensor([0, 0]), 1)
    tensor([0.5000])
    """
    zeros = torch.zeros(n_members, device=ranks.device)
    return _known(zeros.scatter_reduce(0, members, 1.0 / ranks, "amax"), members, n_members)


def recall(ranks: Tensor, members: Tensor, n_members: int, k: int) -> Tensor:
    """Recall@k: relevant titles at rank k or better, divided by all relevant titles (not by min(k, relevant)).

    Range 0 to 1; below 1 at best for a member with more than k relevant titles.

    >>> recall(torch.tensor([1, 30, 2, 5]), torch.tensor([0, 0, 1, 1]), 2, k=20)
    tensor([0.5000, 1.0000])
    """
    hits = _sum((ranks <= k).float(), members, n_members)
    relevant = _sum(torch.ones_like(ranks, dtype=torch.float32), members, n_members)
    return _known(hits / relevant.clamp_min(1.0), members, n_members)


def coverage(top: Tensor, n_items: int) -> float:
    """Share of the catalogue that is in the list of at least one member. Range 0 to 1; 0 for an empty catalogue.

    `top` holds titles, shape (n_members, k); -1 fills lists that are shorter than k.

    >>> coverage(torch.tensor([[0, 1], [1, -1]]), n_items=4)
    0.5
    """
    return len(top[top >= 0].unique()) / n_items if n_items else 0.0


def novelty(top: Tensor, popularity: Tensor, n_members: int) -> float:
    """Mean over the listed titles of -log2(share of members who had wanted the title): bits of surprise.

    A title that nobody had wanted counts as wanted by one. 0 when every list holds what everybody has; NaN when there
    is no list. `top` as in `coverage`, `popularity` (members who wanted each title) of shape (n_items,).

    >>> novelty(torch.tensor([[0, 1]]), popularity=torch.tensor([8, 2]), n_members=8)
    1.0
    """
    share = popularity[top[top >= 0]].clamp_min(1) / max(n_members, 1)
    return abs(float(torch.log2(share.clamp_max(1.0)).mean()))


def diversity(top: Tensor, genres: Tensor) -> float | None:
    """Intra-list diversity: mean over the lists' pairs of titles of 1 - Jaccard(their genres).

    Range 0 to 1: 0 when all titles of a list have the same genres. Two titles without a genre count as alike. None when
    no list has two titles. `top` as in `coverage`, `genres` of shape (n_items, genres), bool.

    >>> diversity(torch.tensor([[0, 1, 2]]), torch.tensor([[True, False], [True, False], [False, True]]))
    0.6666666666666666
    """
    total, pairs = 0.0, 0
    for part in top.split(4096):
        have = genres[part.clamp_min(0)].float()  # (lists, k, genres)
        both = have @ have.transpose(1, 2)
        size = have.sum(2)
        either = size[:, :, None] + size[:, None] - both
        apart = torch.where(either > 0, 1 - both / either.clamp_min(1), 0.0)
        real = (part >= 0)[:, :, None] & (part >= 0)[:, None]
        upper = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool).triu(1) & real
        total, pairs = total + float(apart[upper].sum()), pairs + int(upper.sum())
    return total / pairs if pairs else None


def popularity_bias(top: Tensor, popularity: Tensor, n_members: int) -> float | None:
    """Mean share of the members who had wanted a listed title (average recommendation popularity). Range 0 to 1.

    `top` and `popularity` as in `novelty`; None when there is no list.

    >>> popularity_bias(torch.tensor([[0, 1]]), popularity=torch.tensor([8, 2]), n_members=8)
    0.625
    """
    listed = top[top >= 0]
    return float(popularity[listed].double().mean() / max(n_members, 1)) if len(listed) else None


def mean_by(values: Tensor, group: Tensor) -> Tensor:
    """Mean of the known values of each group, NaN where there is none. Shapes: (rows,), (rows,) to (groups,).

    >>> mean_by(torch.tensor([1.0, 0.0, torch.nan, 2.0]), torch.tensor([0, 0, 1, 1]))
    tensor([0.5000, 2.0000])
    """
    n, known = int(group.max()) + 1 if len(group) else 0, values.isfinite()
    total = _sum(values.nan_to_num(0.0), group, n)
    return total / _sum(known.float(), group, n).where(_sum(known.float(), group, n) > 0, torch.nan)


def half_width(values: np.ndarray, seed: int) -> float | None:
    """Half of the 95 % interval of the mean, see `bootstrap`; None without values."""
    low, high = bootstrap(values, seed)
    return None if np.isnan(low) else (high - low) / 2


def mean(per_member: Tensor) -> float | None:
    """Mean over the members who have a value; None when none has.

    >>> mean(torch.tensor([1.0, torch.nan, 0.0])), mean(torch.tensor([torch.nan]))
    (0.5, None)
    """
    value = float(per_member.nanmean())
    return None if value != value else value


def _sum(values: Tensor, members: Tensor, n_members: int) -> Tensor:
    return torch.zeros(n_members, device=values.device).index_add(0, members, values)


def _known(values: Tensor, members: Tensor, n_members: int) -> Tensor:
    has_pair = torch.zeros(n_members, dtype=torch.bool, device=values.device).index_fill(0, members, True)
    return torch.where(has_pair, values, torch.nan)
