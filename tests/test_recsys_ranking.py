"""The evaluator, checked with methods whose result is known beforehand."""

import math

import numpy as np
import pytest
import torch

from recsys import metrics
from recsys.baselines import Popularity
from recsys.datamodule import RecommenderData
from recsys.interactions import Histories
from recsys.ranking import Ranking, Score, after_first_picks, linear, rank, top_k


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
    ratings = np.arange(6, dtype=np.float32)
    histories = Histories.of(np.array([0, 0, 0, 1, 1, 2]), np.array([4, 3, 2, 1, 0, 4]), np.arange(6), 3, 5, ratings)
    cut = after_first_picks(histories, np.array([0, 1, 2]), picks=2)
    assert cut.users.tolist() == [0]
    assert cut.seen.items.tolist() == [4, 3]
    assert cut.targets.items.tolist() == [2]
    one = after_first_picks(histories, np.array([2, 1]), picks=1)
    assert one.users.tolist() == [1]
    assert (one.seen.items.tolist(), one.targets.items.tolist()) == ([1], [0])
    assert (one.seen.times.tolist(), one.targets.ratings.tolist()) == ([3], [4.0])


def test_one_by_one_each_target_follows_those_before_it() -> None:
    seen = Histories.of(np.array([0, 2, 2]), np.array([4, 3, 2]), np.arange(3), 3, 6)
    targets = Histories.of(
        np.array([0, 0, 2, 2, 2]), np.array([5, 3, 1, 0, 5]), np.arange(10, 15), 3, 6, np.arange(5, dtype=np.float32)
    )
    rows = Ranking(np.arange(3), seen, targets).one_by_one()
    assert rows.users.tolist() == [0, 0, 2, 2, 2]
    histories = [rows.seen.take(np.array([row])).items.tolist() for row in range(5)]
    assert histories == [[4], [4, 5], [3, 2], [3, 2, 1], [3, 2, 1, 0]]
    assert rows.targets.items.tolist() == [5, 3, 1, 0, 5]
    assert rows.targets.lengths.tolist() == [1] * 5
    some = np.array([1, 2])
    kept = Ranking(some, seen.take(some), targets.take(some)).one_by_one()
    assert kept.users.tolist() == [2, 2, 2]
    assert kept.seen.lengths.tolist() == [2, 3, 4]
    assert kept.targets.items.tolist() == [1, 0, 5]
    assert kept.targets.times.tolist() == [12, 13, 14]
    assert kept.targets.ratings.tolist() == [2.0, 3.0, 4.0]


N_ITEMS, TARGET, SEEN = 40, 20, 39


def at_place(place: int, members: int = 3) -> tuple[Score, Ranking]:
    """A method that gives every member's one target this place among the 39 titles that they have not seen."""
    each = np.arange(members)
    order = [title for title in range(N_ITEMS) if title not in (TARGET, SEEN)]
    order.insert(place - 1, TARGET)
    fixed = torch.zeros(N_ITEMS)
    fixed[torch.tensor([SEEN, *order])] = -torch.arange(N_ITEMS).float()  # what was seen scores best of all
    seen, targets = (Histories.of(each, np.full(members, i), each, members, N_ITEMS) for i in (SEEN, TARGET))
    return lambda users, _: fixed.expand(len(users), -1), Ranking(each, seen, targets)


@pytest.mark.parametrize("place", [1, 9, 10, 11, 20, 21, 39])
def test_each_metric_has_the_cut_in_its_name(place: int) -> None:
    score, wanted = at_place(place)
    values = rank(score, wanted, wanted.seen, seed=0).values
    assert values["mrr"] == pytest.approx(1 / place)
    assert values["hr@10"] == (place <= 10)
    assert values["ndcg@10"] == pytest.approx(1 / math.log2(1 + place) if place <= 10 else 0.0)
    assert values["recall@20"] == (place <= 20)
    assert values["coverage@10"] == 10 / N_ITEMS


@pytest.mark.parametrize("negatives", [1, 5, 37, 38, 500])
def test_targets_are_ranked_among_exactly_as_many_negatives(negatives: int) -> None:
    """A target that is last has all of them before it; one that is in the middle has their better half."""
    score, wanted = at_place(39)
    last = rank(score, wanted, wanted.seen, seed=0, negatives=negatives).values
    assert last["mrr"] == pytest.approx(1 / (1 + min(negatives, 38)))
    score, wanted = at_place(20, members=500)
    middle = rank(score, wanted, wanted.seen, seed=0, negatives=5)
    by_place = middle.values["mrr"]
    half = sum(math.comb(5, n) / 2**5 / (1 + n) for n in range(6))
    assert by_place == pytest.approx(half, abs=0.05)
    assert (rank(score, wanted, wanted.seen, seed=0, negatives=5).ndcg == middle.ndcg).all()
    assert (rank(score, wanted, wanted.seen, seed=1, negatives=5).ndcg != middle.ndcg).any()


def test_equal_scores_are_decided_by_the_seed() -> None:
    _, wanted = at_place(1)

    def same(users: np.ndarray, seen: Histories) -> torch.Tensor:
        return torch.zeros(len(users), N_ITEMS)

    found = {rank(same, wanted, wanted.seen, seed=seed).values["mrr"] for seed in range(8)}
    assert len(found) > 3


def test_lists_are_described_by_what_the_method_learned_from() -> None:
    """Four members, one without a title: three had something, two of them title 0 and one title 1."""
    train = Histories.of(np.array([0, 1, 2]), np.array([0, 0, 1]), np.arange(3), 4, 5)
    targets = Histories.of(np.arange(2), np.array([2, 2]), np.arange(2), 2, 5)
    scores = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    genres = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]).bool()
    ranking = Ranking(np.array([0, 2]), train.take(np.array([0, 2])), targets)
    values = rank(lambda users, seen: scores.expand(2, -1), ranking, train, seed=0, genres=genres).values
    # Lists: 1, 2, 3, 4 and 0, 2, 3, 4. What was seen is in no list, though it would fill it up.
    assert values["coverage@10"] == 1.0
    assert values["diversity@10"] == 0.5
    assert values["popularity@10"] == pytest.approx((1 / 3 + 2 / 3) / 8)
    bits = [math.log2(3)] * 7 + [math.log2(3 / 2)]  # a title that nobody had counts as had by one
    assert values["novelty@10"] == pytest.approx(np.mean(bits))
    assert rank(lambda users, seen: scores.expand(2, -1), ranking, train, seed=0).values["diversity@10"] is None


def test_the_interval_is_that_of_the_members() -> None:
    score, wanted = at_place(3, members=40)

    def mixed(users: np.ndarray, seen: Histories) -> torch.Tensor:
        """Each member's target is somewhere else."""
        scores = score(users, seen).clone()
        scores[:, TARGET] = 0.5 - torch.from_numpy(users % 13)
        return scores

    found = rank(mixed, wanted, wanted.seen, seed=3, batch_size=7)
    assert found.values["±"] == metrics.half_width(found.ndcg, 3) != metrics.half_width(found.ndcg, 0)
    # Members twice, in any order: as many members as before, and so the same interval.
    twice = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 2))
    again = Ranking(twice, wanted.seen.take(twice), wanted.targets.take(twice))
    np.testing.assert_allclose(rank(mixed, again, wanted.seen, seed=3).ndcg, found.ndcg)


def test_a_methods_own_scores_stay_as_they_are() -> None:
    score, wanted = at_place(2, members=1)
    own = score(np.arange(1), wanted.seen).clone()
    before = own.clone()
    rank(lambda users, seen: own, wanted, wanted.seen, seed=0, negatives=3)
    assert own.equal(before)


@pytest.mark.parametrize("n", [1, 16, 79, 80, 333, 1600])
@pytest.mark.parametrize("k", [1, 5])
def test_top_k_is_torchs(n: int, k: int) -> None:
    """Short rows, rows in groups of 16, rows with places left over; with titles that may not be listed."""
    torch.manual_seed(n)
    for trial in range(20):
        scores = torch.randperm(6 * n).float().view(6, n)
        scores[torch.rand(6, n) < 0.05 * trial] = -torch.inf
        if trial % 2:
            scores[:, -min(n, 4) :] += 10 * n  # the best stand at the end
        expected = scores.topk(min(k, n))
        values, places = top_k(scores, min(k, n))
        assert torch.equal(values, expected.values)
        assert torch.equal(scores.gather(1, places), expected.values)
        assert all(len(set(row)) == len(row) for row in places.tolist())
