"""Rank the catalogue for members by any method, and measure the ranking."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recsys import metrics
from recsys.baselines import Baseline
from recsys.interactions import Histories

Score = Callable[[np.ndarray, Histories], Tensor]  # members (b,), what they have seen -> (b, n_items)
Values = dict[str, float | None]


class Ranking(NamedTuple):
    """Whom to rank for: members, what each has seen, and what each wanted next; the three are aligned."""

    users: np.ndarray  # (members,) in model order
    seen: Histories
    targets: Histories

    @staticmethod
    def of(seen: Histories, targets: Histories, keep: np.ndarray | None = None) -> "Ranking":
        """Members with at least one target (among `keep` if given, shape (n_users,) bool)."""
        chosen = targets.lengths > 0
        users = np.flatnonzero(chosen if keep is None else chosen & keep)
        return Ranking(users, seen.take(users), targets.take(users))


def after_first_picks(histories: Histories, users: np.ndarray, picks: int) -> Ranking:
    """Members with more than `picks` titles: their first ones as history, the rest to be predicted."""
    users = users[histories.lengths[users] > picks]
    whole = histories.take(users)
    given = np.arange(len(whole.items)) - whole.start[whole.users] < picks

    def part(mask: np.ndarray) -> Histories:
        return Histories.of(whole.users[mask], whole.items[mask], whole.times[mask], len(users), whole.n_items)

    return Ranking(users, part(given), part(~given))


def rank(score: Score, ranking: Ranking, train: Histories, seed: int, batch_size: int = 512) -> Values:
    """Every metric of one method on one split.

    Args:
        score: the method.
        ranking: whom to rank for, what is hidden, what should come first.
        train: what the method learned from: novelty counts there who had wanted a title.
        seed: decides between equal scores.
        batch_size: members ranked at once.
    """
    n_items, ranks, tops = train.n_items, [], []
    order = metrics.tie_order(n_items, seed)
    for first in range(0, len(ranking.users), batch_size):
        at = np.arange(first, min(first + batch_size, len(ranking.users)))
        seen, targets = ranking.seen.take(at), ranking.targets.take(at)
        scores = score(ranking.users[at], seen).to("cpu", torch.float32, copy=True)
        scores[torch.from_numpy(seen.users), torch.from_numpy(seen.items)] = -torch.inf
        ranks.append(metrics.ranks_of(scores, torch.from_numpy(targets.users), torch.from_numpy(targets.items), order))
        best = scores.topk(min(10, n_items))
        tops.append(best.indices.masked_fill(best.values == -torch.inf, -1))
    n, members = len(ranking.users), torch.from_numpy(ranking.targets.users)
    if n == 0:
        return dict.fromkeys(("hr@10", "ndcg@10", "mrr", "recall@20", "coverage@10", "novelty@10"))
    place, top = torch.cat(ranks), torch.cat(tops)
    popularity = torch.from_numpy(train.popularity)
    return {
        "hr@10": metrics.mean(metrics.hit_rate(place, members, n, 10)),
        "ndcg@10": metrics.mean(metrics.ndcg(place, members, n, 10)),
        "mrr": metrics.mean(metrics.reciprocal_rank(place, members, n)),
        "recall@20": metrics.mean(metrics.recall(place, members, n, 20)),
        "coverage@10": metrics.coverage(top, n_items),
        "novelty@10": metrics.novelty(top, popularity, int((train.lengths > 0).sum())),
    }


def neural(module: nn.Module) -> Score:
    """The trained module as a method to rank with; histories do not concern it."""

    device = next(module.parameters()).device

    @torch.no_grad()
    def score(users: np.ndarray, seen: Histories) -> Tensor:
        return module(torch.from_numpy(users).to(device))

    return score


def linear(method: Baseline) -> Score:
    """A fitted baseline as a method to rank with; it looks at histories, not at who has them."""
    return lambda users, seen: torch.from_numpy(np.array(method.score(seen)))
