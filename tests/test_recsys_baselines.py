"""Baselines against their definitions."""

import numpy as np
import pytest

from recsys.baselines import EASE_MAX_ITEMS, Ease, Popularity, baselines
from recsys.interactions import Histories


def random_histories(n_users: int = 30, n_items: int = 12, seed: int = 0) -> Histories:
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.3)
    return Histories.of(users, items, np.arange(len(users)), n_users, n_items)


def test_ease_solves_its_problem() -> None:
    """Against the textbook: column by column, ridge regression of a title on all others, without itself."""
    train, regularisation = random_histories(), 3.0
    x = train.matrix().toarray().astype(np.float64)
    n = x.shape[1]
    expected = np.zeros((n, n))
    for j in range(n):
        others = np.delete(np.arange(n), j)
        gram = x[:, others].T @ x[:, others] + regularisation * np.eye(n - 1)
        expected[others, j] = np.linalg.solve(gram, x[:, others].T @ x[:, j])
    ease = Ease(regularisation).fit(train)
    np.testing.assert_allclose(ease.weights, expected, atol=1e-5)
    strangers = random_histories(n_users=4, seed=1)
    np.testing.assert_allclose(ease.score(strangers), strangers.matrix().toarray() @ expected, atol=1e-5)


def test_popularity_counts_members() -> None:
    train = Histories.of(np.array([0, 0, 1, 2]), np.array([2, 1, 2, 2]), np.arange(4), 3, 4)
    scores = Popularity().fit(train).score(train.take(np.array([1, 0])))
    assert scores.tolist() == [[0, 1, 3, 0]] * 2


def test_scoring_before_fitting_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="fit before score"):
        Ease().score(random_histories())


def test_ease_is_left_out_with_a_reason_where_its_matrix_does_not_fit() -> None:
    ease = baselines(EASE_MAX_ITEMS + 1)[-1]
    assert not ease.candidates
    assert ease.skipped is not None
    assert "20,001" in ease.skipped
    assert all(choice.candidates for choice in baselines(EASE_MAX_ITEMS))


def test_histories_know_order_age_and_popularity() -> None:
    histories = Histories.of(np.array([1, 0, 1, 1]), np.array([3, 2, 0, 1]), np.array([5, 6, 7, 8]), 3, 4)
    assert histories.items.tolist() == [2, 3, 0, 1]
    assert histories.users.tolist() == [0, 1, 1, 1]
    assert histories.age.tolist() == [0, 2, 1, 0]
    assert histories.popularity.tolist() == [1, 1, 1, 1]
    taken = histories.take(np.array([2, 1, 1]))
    assert taken.lengths.tolist() == [0, 3, 3]
    assert taken.items.tolist() == [3, 0, 1, 3, 0, 1]
    assert taken.times.tolist() == [5, 7, 8, 5, 7, 8]
