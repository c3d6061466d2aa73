"""Baselines against their definitions."""

import numpy as np
import pytest

from recsys.baselines import (
    EASE_MAX_ITEMS,
    Ease,
    FadingEase,
    ImplicitALS,
    ItemKNN,
    Popularity,
    RecentPopularity,
    baselines,
)
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


def test_recent_popularity_halves_what_is_a_half_life_old() -> None:
    day = 86_400_000_000
    train = Histories.of(np.array([0, 1, 1]), np.array([0, 0, 2]), np.array([0, 6 * day, 3 * day]), 2, 3)
    found = RecentPopularity(half_life_days=3.0).fit(train).score(train)
    np.testing.assert_allclose(found, [[1.25, 0.0, 0.5]] * 2)


def test_item_knn_keeps_the_nearest_and_sums_them() -> None:
    train = random_histories(n_users=50)
    x = train.matrix().toarray().astype(np.float64)
    norm = np.sqrt(x.sum(0))
    similarity = (x.T @ x) / (np.outer(norm, norm) + 2.0)
    np.fill_diagonal(similarity, 0.0)
    for column in similarity.T:
        column[np.argsort(-column, kind="stable")[3:]] = 0.0
    found = ItemKNN(neighbours=3, shrinkage=2.0).fit(train).score(train)
    np.testing.assert_allclose(found, x @ similarity, atol=1e-5)


def test_fading_ease_weighs_a_title_half_after_every_half_life() -> None:
    train = random_histories()
    weights = Ease(5.0).fit(train).weights
    assert weights is not None
    one = Histories.of(np.zeros(3, int), np.array([4, 1, 7]), np.arange(3), 1, 12)
    found = FadingEase(5.0, half_life=1.0).fit(train).score(one)
    np.testing.assert_allclose(found[0], weights[4] / 4 + weights[1] / 2 + weights[7], rtol=1e-5)


def test_ials_gives_strangers_what_their_kind_wants() -> None:
    """Two kinds of members with titles of their own; a stranger with two titles of one kind is given a third."""
    rng = np.random.default_rng(0)
    wanted = [(u, i) for u in range(60) for i in range(20) if (u % 2 == i % 2) and rng.random() < 0.6]
    users, items = np.array(wanted).T
    train = Histories.of(users, items, np.arange(len(users)), 60, 20)
    stranger = Histories.of(np.zeros(2, int), np.array([3, 5]), np.arange(2), 1, 20)
    scores = ImplicitALS(factors=4).fit(train).score(stranger)[0]
    assert scores[1::2].min() > scores[0::2].max()


@pytest.mark.parametrize("method", [Ease, FadingEase, ItemKNN, RecentPopularity])
def test_scoring_before_fitting_is_a_defect(method: type) -> None:
    with pytest.raises(RuntimeError, match="fit before score"):
        method().score(random_histories())


def test_ease_is_left_out_with_a_reason_where_its_matrix_does_not_fit() -> None:
    ease = baselines(EASE_MAX_ITEMS + 1)[-1]
    assert [choice.name for choice in baselines(50)] == [
        "popularity", "recent popularity", "item-kNN", "iALS", "EASE", "EASE, fading",
    ]  # fmt: skip
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
