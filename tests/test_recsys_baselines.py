"""Baselines against their definitions."""

import numpy as np
import pytest

from recsys.baselines import (
    EASE_MAX_ITEMS,
    Choice,
    Ease,
    FadingEase,
    ImplicitALS,
    ItemKNN,
    Popularity,
    RecentPopularity,
    baselines,
    co_occurrence,
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
    train = Histories.of(np.array([0, 1, 1]), np.array([0, 0, 2]), np.array([1, 7, 5]) * day, 2, 4)
    for half_life, old in ((2.0, 0.125), (3.0, 0.25)):
        found = RecentPopularity(half_life_days=half_life).fit(train).score(train)
        np.testing.assert_allclose(found, [[1 + old, 0.0, 0.5 ** (2 / half_life), 0.0]] * 2, rtol=1e-6)


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
    found = FadingEase(5.0, half_life=2.0).fit(train).score(one)
    np.testing.assert_allclose(found[0], weights[4] / 2 + weights[1] / 2**0.5 + weights[7], rtol=1e-5)


def test_ials_gives_strangers_what_their_kind_wants() -> None:
    """Two kinds of members with titles of their own; a stranger with two titles of one kind is given a third."""
    rng = np.random.default_rng(0)
    wanted = [(u, i) for u in range(60) for i in range(20) if (u % 2 == i % 2) and rng.random() < 0.6]
    users, items = np.array(wanted).T
    train = Histories.of(users, items, np.arange(len(users)), 60, 20)
    stranger = Histories.of(np.zeros(2, int), np.array([3, 5]), np.arange(2), 1, 20)
    scores = ImplicitALS(factors=4).fit(train).score(stranger)[0]
    assert scores[1::2].min() > scores[0::2].max()


def test_ials_solves_for_a_history_as_the_paper_does() -> None:
    """With confidence c of what was wanted: x = (Y'Y + (c - 1) sum of yy' + regularisation)^-1 (c · sum of y)."""
    train, strangers = random_histories(), random_histories(n_users=3, seed=1)
    method = ImplicitALS(factors=4, regularisation=2.0, confidence=3.0).fit(train)
    y = np.asarray(method.model.item_factors, np.float64)
    assert y.shape == (12, 4)
    for row, wanted in zip(method.score(strangers), strangers.matrix().toarray() > 0, strict=True):
        gram = y.T @ y + 2.0 * y[wanted].T @ y[wanted] + 2.0 * np.eye(4)
        np.testing.assert_allclose(row, y @ np.linalg.solve(gram, 3.0 * y[wanted].sum(0)), atol=1e-4)
    again = ImplicitALS(factors=4, regularisation=2.0, confidence=3.0).fit(train)
    np.testing.assert_array_equal(again.model.item_factors, method.model.item_factors)


def test_titles_without_a_place_are_left_out_of_the_co_occurrence() -> None:
    """Position -1 is a title outside the catalogue; its members keep their other titles to themselves."""
    train = Histories.of(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 2, 1, 2, 3, 3]), np.arange(6), 3, 4)
    without = train.of_items(np.array([0, 1, 3, 2]), 3)  # title 2 is the one that goes
    assert co_occurrence(without).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 2]]


@pytest.mark.parametrize("method", [Ease, FadingEase, ItemKNN, RecentPopularity])
def test_scoring_before_fitting_is_a_defect(method: type) -> None:
    with pytest.raises(RuntimeError, match="fit before score"):
        method().score(random_histories())


def test_ease_is_left_out_with_a_reason_where_its_matrix_does_not_fit() -> None:
    ease = baselines(EASE_MAX_ITEMS + 1)[-1]
    assert not ease.candidates
    assert ease.skipped is not None
    assert "20,001 x 20,001 titles needs 3 GiB" in ease.skipped
    assert all(choice.candidates for choice in baselines(EASE_MAX_ITEMS))


def test_every_baseline_is_tried_in_all_its_settings() -> None:
    choices = {choice.name: choice for choice in baselines(50)}
    assert list(choices) == ["popularity", "recent popularity", "item-kNN", "iALS", "EASE", "EASE, fading"]
    assert [choice.name for choice in baselines(50, thorough=False)] == ["popularity", "EASE", "EASE, fading"]
    assert {name: len(choice.candidates) for name, choice in choices.items()} == {
        "popularity": 1, "recent popularity": 8, "item-kNN": 8, "iALS": 8, "EASE": 5, "EASE, fading": 9,
    }  # fmt: skip
    for choice in choices.values():
        assert len({tuple(settings.values()) for settings, _ in choice.candidates}) == len(choice.candidates)
        for settings, make in choice.candidates:
            assert settings.items() <= vars(make()).items()


def test_large_catalogues_are_inverted_once() -> None:
    def sizes(choices: list[Choice]) -> list[int]:
        return [len(choice.candidates) for choice in choices]

    assert sizes(baselines(5_000, thorough=False)) == [1, 5, 9]
    assert sizes(baselines(5_001, thorough=False)) == [1, 1, 1]


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
