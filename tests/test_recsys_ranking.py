"""The evaluator, checked with methods whose result is known beforehand."""

import math

import numpy as np
import pytest
import torch

from recsys import ranking
from recsys.baselines import Popularity
from recsys.datamodule import RecommenderData
from recsys.interactions import Histories
from recsys.ranking import Ranking, after_first_picks, linear, rank


@pytest.fixture
def data(small_dataset) -> RecommenderData:
    small_dataset()
    data = RecommenderData("small")
    data.load()
    return data


def places(data: RecommenderData, target_score: float, seen_score: float = 0.0) -> dict[str, float | None]:
    """Everything by a method that gives titles 0, 1, 2, ... falling scores, but its own to targets and seen titles."""
    test = data.ranking("test")
    targets = dict(zip(test.users.tolist(), test.targets.items.tolist(), strict=True))

    def score(users: np.ndarray, seen: Histories) -> torch.Tensor:
        scores = -torch.arange(data.n_items).float().expand(len(users), -1).clone() / data.n_items
        scores[torch.from_numpy(seen.users), torch.from_numpy(seen.items)] = seen_score
        scores[torch.arange(len(users)), torch.tensor([targets[u] for u in users.tolist()])] = target_score
        return scores

    return rank(score, test, data.train, seed=0, batch_size=7).values


def test_a_perfect_method_is_perfect_even_when_it_loves_what_was_seen(data) -> None:
    for values in (places(data, 1.0), places(data, 1.0, seen_score=9.0)):
        assert (values["hr@10"], values["ndcg@10"], values["mrr"], values["recall@20"]) == (1.0, 1.0, 1.0, 1.0)


def test_the_worst_method_ranks_the_target_last_among_the_unseen(data) -> None:
    unseen = data.n_items - data.ranking("test").seen.lengths
    assert places(data, -5.0)["mrr"] == pytest.approx(float((1 / unseen).mean()), rel=1e-5)


def test_always_second_is_second(data) -> None:
    test = data.ranking("test")
    targets = torch.from_numpy(test.targets.items)

    def score(users: np.ndarray, seen: Histories) -> torch.Tensor:
        scores = torch.zeros(len(users), data.n_items)
        rows = torch.arange(len(users))
        taken = torch.from_numpy(seen.matrix().toarray()) > 0
        taken[rows, targets] = True
        scores[rows, targets] = 1.0
        scores[rows, (~taken).int().argmax(1)] = 2.0  # one unseen title, another than the target
        return scores

    values = rank(score, test, data.train, seed=0).values
    assert values["ndcg@10"] == pytest.approx(1 / math.log2(3))
    assert values["mrr"] == pytest.approx(0.5)


def test_a_method_that_knows_nothing_gets_what_chance_gets(data) -> None:
    """Equal scores everywhere: the seeded order decides, and a target lands in the top ten by its luck alone."""

    def same(users: np.ndarray, seen: Histories) -> torch.Tensor:
        return torch.zeros(len(users), data.n_items)

    nothing = rank(same, data.ranking("test"), data.train, seed=3).values
    chance = float((10 / (data.n_items - data.ranking("test").seen.lengths)).mean())
    assert nothing["hr@10"] == pytest.approx(chance, abs=0.2)
    assert nothing["hr@10"] < 0.9


def test_popularity_is_ranked_the_same_in_any_batches(data) -> None:
    score = linear(Popularity().fit(data.train))
    whole = rank(score, data.ranking("test"), data.train, seed=0).values
    assert rank(score, data.ranking("test"), data.train, seed=0, batch_size=1).values == pytest.approx(whole)


def test_nobody_to_rank_for_gives_no_values() -> None:
    nothing = Histories.of(*(np.zeros(0, np.int64),) * 3, 0, 5)
    values = rank(
        lambda users, seen: torch.zeros(0, 5), Ranking(np.zeros(0, np.int64), nothing, nothing), nothing, 0
    ).values
    assert set(values.values()) == {None}


def test_first_picks_are_the_earliest_titles() -> None:
    histories = Histories.of(np.array([0, 0, 0, 1, 1, 2]), np.array([4, 3, 2, 1, 0, 4]), np.arange(6), 3, 5)
    cut = after_first_picks(histories, np.array([0, 1, 2]), picks=2)
    assert cut.users.tolist() == [0]
    assert cut.seen.items.tolist() == [4, 3]
    assert cut.targets.items.tolist() == [2]
    assert ranking.after_first_picks(histories, np.array([1]), picks=1).targets.items.tolist() == [0]
