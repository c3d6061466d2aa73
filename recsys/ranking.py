"""Rank the catalogue for members by any method, and measure the ranking."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys import metrics
from recsys.baselines import Baseline
from recsys.interactions import Histories
from recsys.module import RankingModule

Score = Callable[[np.ndarray, Histories], Tensor]  # members (b,), what they have seen -> (b, n_items)
Values = dict[str, float | None]
_SCORES = 2**26  # of members for titles, held at once


class Ranking(NamedTuple):
    """Whom to rank for: members, what each has seen, and what each wanted next; the three are aligned."""

    users: np.ndarray  # (members,) in model order
    seen: Histories
    targets: Histories

    def one_by_one(self) -> "Ranking":
        """A row for each target, predicted from everything before it: what was seen, and the targets before it."""
        seen, targets = self.seen, self.targets
        number = np.arange(len(targets.items)) - targets.start[targets.users]  # of the target among its member's
        before = seen.joined(targets).take(targets.users).first(seen.lengths[targets.users] + number)
        start = np.arange(len(targets.items) + 1)
        single = Histories(start, targets.items, targets.times, targets.n_items, targets.ratings)
        return Ranking(self.users[targets.users], before, single)


def after_first_picks(histories: Histories, users: np.ndarray, picks: int) -> Ranking:
    """Members with more than `picks` titles: their first ones as history, the rest to be predicted."""
    users = users[histories.lengths[users] > picks]
    whole = histories.take(users)
    given = np.arange(len(whole.items)) - whole.start[whole.users] < picks

    def part(mask: np.ndarray) -> Histories:
        items, times, ratings = whole.items[mask], whole.times[mask], whole.ratings[mask]
        return Histories.of(whole.users[mask], items, times, len(users), whole.n_items, ratings)

    return Ranking(users, part(given), part(~given))


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k greatest of each row, the greatest first: values and places, as torch.topk, in less time for long rows.

    A row is cut into groups of 16 places. One of the k greatest is its group's greatest or stands behind it, so all of
    them are in the k groups whose greatest are greatest; the values are exact, equal ones may come in another order.
    Shapes: (rows, n) to (rows, k) each, k at most n.
    """
    size = 16
    groups = scores.shape[1] // size
    if groups < 4 * k:
        best = scores.topk(k)
        return best.values, best.indices
    whole = size * groups
    # The places of group g are g, g + groups, g + 2 groups and so on; what is left over at the end is always looked at.
    greatest = scores[:, :whole].view(len(scores), size, groups).amax(1)
    chosen = greatest.topk(k, sorted=False).indices
    step = groups * torch.arange(size, device=scores.device)
    rest = torch.arange(whole, scores.shape[1], device=scores.device).expand(len(scores), -1)
    places = torch.cat([(chosen[:, None] + step[:, None]).flatten(1), rest], dim=1)
    best = scores.gather(1, places).topk(k)
    return best.values, places.gather(1, best.indices)


class Ranked(NamedTuple):
    """One method's figures on one split."""

    values: Values
    ndcg: np.ndarray  # NDCG@10 of each member, in the order of their ids: what intervals and paired tests are made of


def rank(
    score: Score,
    ranking: Ranking,
    train: Histories,
    seed: int,
    batch_size: int | None = None,
    genres: Tensor | None = None,
    negatives: int = 0,
) -> Ranked:
    """Every metric of one method on one split. A member with several rows counts once, with the mean of their rows.

    Args:
        score: the method.
        ranking: whom to rank for, what is hidden, what should come first.
        train: what the method learned from: novelty counts there who had wanted a title.
        seed: decides between equal scores.
        batch_size: members ranked at once (default: 512, fewer where the catalogue is large).
        genres: which genres each title has, for the diversity. Shape: (n_items, genres) bool.
        negatives: rank the targets among so many unseen titles drawn at random, alike for every method; 0: among all.
    """
    generator = torch.Generator().manual_seed(seed)
    n_items, ranks, tops = train.n_items, [], []
    batch_size = batch_size or max(1, min(512, _SCORES // n_items))
    order = metrics.tie_order(n_items, seed)
    for first in range(0, len(ranking.users), batch_size):
        at = np.arange(first, min(first + batch_size, len(ranking.users)))
        seen, targets = ranking.seen.take(at), ranking.targets.take(at)
        scores = score(ranking.users[at], seen).to("cpu", torch.float32, copy=True)
        scores[torch.from_numpy(seen.users), torch.from_numpy(seen.items)] = -torch.inf
        if negatives:
            lots = torch.rand(scores.shape, generator=generator)
            lots[torch.from_numpy(seen.users), torch.from_numpy(seen.items)] = 2.0
            lots[torch.from_numpy(targets.users), torch.from_numpy(targets.items)] = -1.0
            bound = lots.kthvalue(min(n_items, negatives + 1), dim=1, keepdim=True).values
            scores[lots > bound] = -torch.inf
        ranks.append(metrics.ranks_of(scores, torch.from_numpy(targets.users), torch.from_numpy(targets.items), order))
        best, places = top_k(scores, min(10, n_items))
        tops.append(places.masked_fill(best == -torch.inf, -1))
    n, rows = len(ranking.users), torch.from_numpy(ranking.targets.users)
    if n == 0:
        return Ranked(dict.fromkeys(COLUMNS), np.zeros(0))
    place, top = torch.cat(ranks), torch.cat(tops)
    popularity, n_members = torch.from_numpy(train.popularity), int((train.lengths > 0).sum())
    member = torch.from_numpy(np.unique(ranking.users, return_inverse=True)[1])

    def of_members(of_rows: Tensor) -> Tensor:
        return metrics.mean_by(of_rows, member)

    ndcg = of_members(metrics.ndcg(place, rows, n, 10))
    values: Values = {
        "hr@10": metrics.mean(of_members(metrics.hit_rate(place, rows, n, 10))),
        "ndcg@10": metrics.mean(ndcg),
        "±": metrics.half_width(ndcg.numpy(), seed),
        "mrr": metrics.mean(of_members(metrics.reciprocal_rank(place, rows, n))),
        "recall@20": metrics.mean(of_members(metrics.recall(place, rows, n, 20))),
        "coverage@10": metrics.coverage(top, n_items),
        "novelty@10": metrics.novelty(top, popularity, n_members),
        "diversity@10": None if genres is None else metrics.diversity(top, genres),
        "popularity@10": metrics.popularity_bias(top, popularity, n_members),
    }
    return Ranked(values, ndcg.numpy())


COLUMNS = ("hr@10", "ndcg@10", "±", "mrr", "recall@20", "coverage@10", "novelty@10", "diversity@10", "popularity@10")


def neural(module: RankingModule) -> Score:
    """The trained module as a method to rank with."""

    @torch.no_grad()
    def score(users: np.ndarray, seen: Histories) -> Tensor:
        return module.score(torch.from_numpy(users).to(module.device), seen)

    return score


def linear(method: Baseline) -> Score:
    """A fitted baseline as a method to rank with; it looks at histories, not at who has them."""
    return lambda users, seen: torch.from_numpy(np.array(method.score(seen)))
