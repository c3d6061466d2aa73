"""The next title in closed form: its sums equal the naive ones, the ridge is solved, and a planted order is found."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import next_title
from recsys.interactions import Histories
from recsys.next_title import MAX_LAG, NextTitle, coming_weights, fading, moments, solve


def histories_of(titles: list[list[int]], n_items: int) -> Histories:
    users = np.repeat(np.arange(len(titles)), [len(row) for row in titles])
    items = np.array([item for row in titles for item in row], np.int64)
    return Histories.of(users, items, np.arange(len(items)), len(titles), n_items)


def naive_moments(
    titles: list[list[int]], n_items: int, fade: np.ndarray, future: float
) -> tuple[np.ndarray, np.ndarray]:
    """x_t' x_t and x_t' y_t of every event, as the module's text has them; an age of len(fade) or more says nothing.

    Of y_t counts, for each title of x_t, what lies at most len(fade) events after it (see `coming_weights`).
    """
    gram, coming = np.zeros((n_items, n_items)), np.zeros((n_items, n_items))
    for row in titles:
        for t in range(len(row)):
            x = np.zeros(n_items)
            for age, item in enumerate(row[:t][::-1]):
                if item < 0 or age >= len(fade):
                    continue
                x[item] += fade[age]
                for ahead, wanted in enumerate(row[t:]):
                    if wanted >= 0 and age + ahead < len(fade):
                        coming[item, wanted] += fade[age] * (1 - future) * future**ahead
            gram += np.outer(x, x)
    return gram, coming


def random_titles(lengths: list[int], n_items: int, unknown: float = 0.0, seed: int = 0) -> list[list[int]]:
    """Distinct titles for each member; some of them become -1."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(n_items)[:length] for length in lengths]
    return [np.where(rng.random(len(row)) < unknown, -1, row).tolist() for row in rows]


@pytest.mark.parametrize("future", [0.0, 0.5])
@pytest.mark.parametrize("max_lag", [1, 2, 4, 50])
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_moments_equal_the_sums_over_events(future: float, max_lag: int, unknown: float) -> None:
    titles = random_titles([5, 1, 9, 5, 0, 2, 9, 12], n_items=13, unknown=unknown)
    fade = fading(0.7, max_lag)
    gram, coming = moments(histories_of(titles, 13), fade, future)
    expected_gram, expected_coming = naive_moments(titles, 13, fade, future)
    assert gram.dtype == coming.dtype == torch.float64
    np.testing.assert_allclose(gram, expected_gram, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(coming, expected_coming, rtol=1e-12, atol=1e-12)
    assert expected_coming.any()


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 8), min_size=0, max_size=5),
    max_lag=st.integers(1, 9),
    future=st.sampled_from([0.0, 0.25, 0.9]),
    unknown=st.sampled_from([0.0, 0.5, 1.0]),
    rows=st.sampled_from([1, 3, 2**22]),
    seed=st.integers(0, 9),
)
def test_moments_equal_the_sums_over_events_whatever_is_added_at_once(
    lengths: list[int], max_lag: int, future: float, unknown: float, rows: int, seed: int
) -> None:
    titles = random_titles(lengths, n_items=8, unknown=unknown, seed=seed)
    fade = fading(1.0, max_lag)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(next_title, "_ROWS", rows)
        found = moments(histories_of(titles, 8), fade, future)
    for mine, expected in zip(found, naive_moments(titles, 8, fade, future), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-10, atol=1e-12)


def test_an_unknown_title_still_takes_a_place() -> None:
    """0, unknown, 1: nothing comes directly after 0, and 1 finds 0 at age 1."""
    fade = np.array([1.0, 0.5])
    gram, coming = moments(histories_of([[0, -1, 1]], 2), fade)
    assert coming.tolist() == [[0.0, 0.5], [0.0, 0.0]]
    assert gram.tolist() == [[1.25, 0.0], [0.0, 0.0]]


def test_fading_is_a_power_of_the_age() -> None:
    np.testing.assert_allclose(fading(0.5, 4), [1, 2**-0.5, 3**-0.5, 0.5])
    assert fading(0.0).tolist() == [1.0] * MAX_LAG


@pytest.mark.parametrize("future", [0.0, 0.4])
def test_coming_weights_join_every_age_with_every_step_ahead(future: float) -> None:
    fade = np.array([1.0, 0.6, 0.5, 0.1])
    expected = [
        sum(fade[age] * (1 - future) * future ** (distance - 1 - age) for age in range(distance))
        for distance in range(1, 5)
    ]
    np.testing.assert_allclose(coming_weights(fade, future), expected)
    if future == 0:
        np.testing.assert_allclose(expected, fade)  # only the next title: the distance is the age


def test_solve_leaves_no_residual() -> None:
    gram, coming = moments(histories_of(random_titles([9] * 20, 10), 10), fading(0.6))
    weights = solve(gram, coming, 3.0)
    assert weights.dtype == torch.float32
    residual = (gram + 3.0 * torch.eye(10)) @ weights.double() - coming
    assert residual.abs().max() < 1e-5 * coming.abs().max()


def test_solve_minimises_the_squared_error_of_the_next_title() -> None:
    """Against an optimiser's point of view: rows x_t stacked over rows of the ridge, solved by least squares."""
    titles, n, regularisation = random_titles([7, 9, 9, 3], 10), 10, 2.0
    fade = fading(0.8)
    x, y = [], []
    for row in titles:
        for t in range(len(row)):
            x.append(np.zeros(n))
            x[-1][row[:t][::-1]] = fade[:t]
            y.append(np.eye(n)[row[t]])
    stacked = np.concatenate([np.array(x), np.sqrt(regularisation) * np.eye(n)])
    wanted = np.concatenate([np.array(y), np.zeros((n, n))])
    expected = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
    found = solve(*moments(histories_of(titles, n), fade), regularisation)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def cycles(n_members: int, n_items: int, seed: int) -> list[list[int]]:
    """After title i always comes i + 1, and 0 after the last one."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, n_items, n_members), rng.integers(2, n_items - 2, n_members)
    return [((start + np.arange(length)) % n_items).tolist() for start, length in zip(starts, lengths, strict=True)]


def test_finds_a_planted_order_in_histories_it_has_not_seen() -> None:
    n_items = 15
    model = NextTitle(regularisation=1.0).fit(histories_of(cycles(200, n_items, seed=0), n_items))
    strangers = cycles(40, n_items, seed=1)
    best = model.score(histories_of(strangers, n_items)).argmax(1)
    assert best.tolist() == [(row[-1] + 1) % n_items for row in strangers]


def test_scores_are_the_faded_history_times_the_weights() -> None:
    model = NextTitle(regularisation=1.0, power=0.9).fit(histories_of(cycles(50, 8, seed=0), 8))
    assert model.weights is not None
    scores = model.score(histories_of([[3, 1, 6], [], [2]], 8))
    expected = model.weights[6] + 2**-0.9 * model.weights[1] + 3**-0.9 * model.weights[3]
    np.testing.assert_allclose(scores, [expected, np.zeros(8), model.weights[2]], rtol=1e-5, atol=1e-7)


def test_looks_at_no_more_events_than_the_longest_lag() -> None:
    n_items = MAX_LAG + 30
    titles = np.random.default_rng(0).permutation(n_items)
    model = NextTitle(regularisation=1.0)
    model.weights = np.random.default_rng(1).normal(size=(n_items, n_items)).astype(np.float32)
    whole = model.score(histories_of([titles.tolist()], n_items))
    latest = model.score(histories_of([titles[-MAX_LAG:].tolist()], n_items))
    one_less = model.score(histories_of([titles[-MAX_LAG + 1 :].tolist()], n_items))
    np.testing.assert_allclose(whole, latest, rtol=1e-5, atol=1e-5)
    assert np.abs(whole - one_less).max() > 1e-3


def test_scoring_before_fitting_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="fit before score"):
        NextTitle().score(histories_of([[0]], 1))
