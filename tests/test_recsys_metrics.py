"""Ranking metrics by hand, by their doctests, and by properties that hold for any ranks."""

import doctest
import math

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings
from torch import tensor

from data.intervals import bootstrap
from recsys import metrics

# Three members: one hit at the top and one far away; one at the cut-off; one without any relevant title.
RANKS, MEMBERS, N = tensor([1, 40, 10, 12]), tensor([0, 0, 1, 1]), 3


def test_doctests_hold() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted >= 8
    assert result.failed == 0


def test_hit_rate_by_hand() -> None:
    values = metrics.hit_rate(RANKS, MEMBERS, N, k=10)
    assert values[:2].tolist() == [1.0, 1.0]
    assert math.isnan(values[2])
    assert metrics.mean(metrics.hit_rate(RANKS, MEMBERS, N, k=9)) == 0.5


def test_ndcg_by_hand() -> None:
    ideal = 1 + 1 / math.log2(3)
    values = metrics.ndcg(RANKS, MEMBERS, N, k=10)
    np.testing.assert_allclose(values[:2], [1 / ideal, 1 / math.log2(11) / ideal], rtol=1e-6)


def test_ndcg_denominator_stops_at_k() -> None:
    three_relevant = metrics.ndcg(tensor([1, 2, 9]), tensor([0, 0, 0]), 1, k=2)
    np.testing.assert_allclose(three_relevant, [1.0], rtol=1e-6)


def test_reciprocal_rank_takes_the_best_and_has_no_cutoff() -> None:
    np.testing.assert_allclose(metrics.reciprocal_rank(RANKS, MEMBERS, N)[:2], [1.0, 0.1], rtol=1e-6)


def test_recall_divides_by_all_relevant() -> None:
    np.testing.assert_allclose(metrics.recall(RANKS, MEMBERS, N, k=20)[:2], [0.5, 1.0])


def test_no_members_and_no_lists_have_no_mean() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert metrics.mean(metrics.ndcg(nothing, nothing, 2, k=10)) is None
    assert metrics.coverage(torch.full((2, 3), -1), 5) == 0.0
    assert math.isnan(metrics.novelty(torch.full((2, 3), -1), torch.ones(5), 2))


def test_novelty_by_hand() -> None:
    top = tensor([[0, 1], [2, -1]])
    # shares 4/4, 1/4 and (nobody, counted as one) 1/4: 0, 2 and 2 bits
    np.testing.assert_allclose(metrics.novelty(top, tensor([4, 1, 0]), n_members=4), 4 / 3, rtol=1e-6)


def test_diversity_by_hand() -> None:
    genres = tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]).bool()
    assert metrics.diversity(tensor([[0, 1, 2]]), genres) == (0.5 + 1 + 1) / 3
    assert metrics.diversity(tensor([[3, 4]]), genres) == 0.0  # neither has a genre
    assert metrics.diversity(tensor([[3, 0]]), genres) == 1.0
    # What fills up a list makes no pair; all pairs of all lists weigh the same.
    assert metrics.diversity(tensor([[0, 1, -1], [0, 1, 2], [2, -1, -1]]), genres) == (0.5 + 0.5 + 1 + 1) / 4
    assert metrics.diversity(tensor([[0, -1], [-1, -1]]), genres) is None
    many = torch.cat([tensor([[0, 1]]).expand(5000, 2), tensor([[0, 2]]).expand(5000, 2)])
    assert metrics.diversity(many, genres) == 0.75


def test_popularity_bias_by_hand() -> None:
    # shares 4/4, 1/4, and 0 for a title that nobody had wanted; what is listed twice counts twice
    top = tensor([[0, 1], [2, -1], [0, -1]])
    assert metrics.popularity_bias(top, tensor([4, 1, 0]), n_members=4) == (1 + 0.25 + 0 + 1) / 4
    assert metrics.popularity_bias(torch.full((2, 3), -1), torch.ones(5), 2) is None


def test_the_interval_is_that_of_a_mean() -> None:
    """Against 1.96 standard errors, by draws and, for many members, by the formula."""
    for n, tolerance in ((2_000, 0.07), (30_000, 1e-6)):
        values = np.random.default_rng(1).normal(3.0, 2.0, n)
        error = values.std() / np.sqrt(n)
        low, high = bootstrap(np.concatenate([values, [np.nan] * n]), 0, draws=4000)
        np.testing.assert_allclose([values.mean() - low, high - values.mean()], 1.96 * error, rtol=tolerance)


def test_the_interval_is_the_seeds_and_its_half_is_half_of_it() -> None:
    values = np.random.default_rng(1).exponential(1.0, 50)
    low, high = bootstrap(values, 5)
    assert bootstrap(values, 5) == (low, high)
    assert bootstrap(values, 6) != (low, high)
    assert metrics.half_width(values, 5) == (high - low) / 2
    assert metrics.half_width(np.array([np.nan]), 5) is None
    fewer, more = (np.std([np.diff(bootstrap(values, s, draws)) for s in range(20)]) for draws in (100, 3000))
    assert more < 0.5 * fewer


def test_a_mean_of_no_rows_is_nobodys() -> None:
    assert metrics.mean_by(torch.zeros(0), torch.zeros(0, dtype=torch.long)).tolist() == []
    assert metrics.mean_by(tensor([torch.nan]), tensor([0])).isnan().all()


def test_ranks_by_hand_with_ties_and_hidden_titles() -> None:
    scores = tensor([[3.0, 1.0, 2.0, 2.0], [0.0, -torch.inf, 0.0, 5.0]])
    order = tensor([3, 2, 1, 0])  # title 3 comes first among equals
    ranks = metrics.ranks_of(scores, tensor([0, 0, 0, 1, 1]), tensor([0, 2, 3, 0, 2]), order)
    assert ranks.tolist() == [1, 3, 2, 3, 2]


def test_a_diverged_model_ranks_last() -> None:
    scores = torch.full((1, 50), torch.nan)
    assert metrics.ranks_of(scores, tensor([0]), tensor([7]), torch.arange(50)).tolist() == [50]


def test_ranks_do_not_depend_on_how_the_work_is_cut(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (6, 30), generator=generator).float()
    rows, items = torch.arange(6).repeat(4), torch.randint(0, 30, (24,), generator=generator)
    order = metrics.tie_order(30, seed=1)
    whole = metrics.ranks_of(scores, rows, items, order)
    monkeypatch.setattr(metrics, "_BLOCK", 31)
    assert metrics.ranks_of(scores, rows, items, order).tolist() == whole.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.integers(1, 6), st.integers(0, 10_000))
def test_ranks_are_the_places_in_a_sorted_list(n_items: int, n_members: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (n_members, n_items)).astype(np.float32)
    order = metrics.tie_order(n_items, seed)
    pairs = [(m, i) for m in range(n_members) for i in range(n_items)]
    rows, items = map(tensor, map(list, zip(*pairs, strict=True)))
    ranks = metrics.ranks_of(torch.from_numpy(scores), rows, items, order).tolist()
    for (m, i), rank in zip(pairs, ranks, strict=True):
        by_hand = sorted(range(n_items), key=lambda j: (-scores[m, j], int(order[j])))
        assert by_hand.index(i) + 1 == rank


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 50)), min_size=1, max_size=30), st.integers(1, 20))
def test_every_accuracy_metric_stays_in_range_and_grows_with_better_ranks(pairs: list[tuple[int, int]], k: int) -> None:
    pairs = sorted(set(pairs))
    members, ranks = (tensor(column) for column in zip(*pairs, strict=True))
    better = (ranks - 1).clamp_min(1)
    # Moving everything up by one may put two relevant titles of a member on one place: keep one place each.
    distinct = len({(m, r) for m, r in zip(members.tolist(), better.tolist(), strict=True)}) == len(pairs)
    for metric in (
        lambda r: metrics.hit_rate(r, members, 5, k),
        lambda r: metrics.ndcg(r, members, 5, k),
        lambda r: metrics.recall(r, members, 5, k),
        lambda r: metrics.reciprocal_rank(r, members, 5),
    ):
        value = metrics.mean(metric(ranks))
        assert value is not None
        assert 0.0 <= value <= 1.0 + 1e-6
        if distinct:
            assert metrics.mean(metric(better)) >= value - 1e-6
