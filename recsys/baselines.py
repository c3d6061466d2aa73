"""Methods that the neural recommender has to beat.

Each is fitted on the members' histories and then scores the catalogue for any histories, those of strangers included:

    method = Ease(regularisation=200.0).fit(train)
    scores = method.score(histories)      # (members, n_items) float32

A method that wants order or time finds both in `Histories`. Add one by writing the two functions and naming it in
`baselines`; `evaluate` does the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

from recsys.interactions import Histories

EASE_MAX_ITEMS = 20_000


class Baseline(Protocol):
    def fit(self, train: Histories) -> Self: ...

    def score(self, histories: Histories) -> np.ndarray: ...


@dataclass
class Popularity:
    """Every member gets the same order: by the number of members who wanted the title."""

    counts: np.ndarray | None = None  # (n_items,)

    def fit(self, train: Histories) -> Self:
        self.counts = train.popularity.astype(np.float32)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        return np.broadcast_to(_fitted(self.counts), (len(histories), histories.n_items))


@dataclass
class Ease:
    """EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data"): a linear model in closed form.

    min over B of ||X - XB||^2 + regularisation * ||B||^2 with diag(B) = 0. With P = (X'X + regularisation * I)^-1:
    B = I - P / diag(P). Scores are XB. Needs n_items^2 numbers, and n_items^3 operations once.
    """

    regularisation: float = 200.0
    weights: np.ndarray | None = None  # (n_items, n_items)

    def fit(self, train: Histories) -> Self:
        self.weights = ease_weights(co_occurrence(train), self.regularisation)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        return histories.matrix() @ _fitted(self.weights)


def co_occurrence(histories: Histories) -> np.ndarray:
    """X'X: how many members wanted both titles. Shape: (n_items, n_items), float64; items of -1 are left out."""
    found = np.zeros((histories.n_items, histories.n_items))
    for _, block in histories.blocks():
        known = block.items >= 0
        start = np.concatenate([[0], np.cumsum(known)])[block.start]
        matrix = sparse.csr_matrix(
            (np.ones(known.sum(), np.float32), block.items[known], start), shape=(len(block), block.n_items)
        )
        found += (matrix.T @ matrix).todense()
    return found


def ease_weights(gram: np.ndarray, regularisation: float) -> np.ndarray:
    """B of EASE (see `Ease`) from X'X. Shape: (n_items, n_items), float32."""
    ridge = gram.copy()
    ridge[np.diag_indices_from(ridge)] += regularisation
    inverse = linalg.inv(ridge, overwrite_a=True, check_finite=False)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


@dataclass
class RecentPopularity:
    """Popularity in which an event counts half after `half_life_days`, seen from the last event of all."""

    half_life_days: float = 30.0
    counts: np.ndarray | None = None  # (n_items,)

    def fit(self, train: Histories) -> Self:
        age_days = (train.times.max(initial=0) - train.times) / 86_400e6
        weights = 0.5 ** (age_days / self.half_life_days)
        self.counts = np.bincount(train.items, weights, minlength=train.n_items).astype(np.float32)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        return np.broadcast_to(_fitted(self.counts), (len(histories), histories.n_items))


@dataclass
class ItemKNN:
    """Item-based nearest neighbours (Sarwar et al. 2001) with cosine similarity, shrunk for titles with few members.

    similarity(i, j) = members who wanted both / (sqrt(members of i · members of j) + shrinkage), of each title the
    `neighbours` most similar ones are kept. Scores are sums over the history.
    """

    neighbours: int = 100
    shrinkage: float = 10.0
    weights: sparse.csr_matrix | None = None  # (n_items, n_items): column j holds the neighbours of title j

    def fit(self, train: Histories) -> Self:
        matrix = train.matrix()
        both = sparse.coo_matrix(matrix.T @ matrix)
        size = np.sqrt(train.popularity)
        off = both.row != both.col
        row, col = both.row[off], both.col[off]
        similarity = both.data[off] / (size[row] * size[col] + self.shrinkage)
        order = np.lexsort((row, -similarity, col))
        row, col, similarity = row[order], col[order], similarity[order]
        first = np.searchsorted(col, np.arange(train.n_items))
        kept = np.arange(len(col)) - first[col] < self.neighbours
        self.weights = sparse.csr_matrix(
            (similarity[kept].astype(np.float32), (row[kept], col[kept])), shape=both.shape
        )
        return self

    def score(self, histories: Histories) -> np.ndarray:
        if self.weights is None:
            raise RuntimeError("call fit before score")
        return (histories.matrix() @ self.weights).toarray()


@dataclass
class FadingEase:
    """EASE whose history fades: a title weighs half after every `half_life` later ones of the same member.

    Order enters when scoring alone; the weights are EASE's own.
    """

    regularisation: float = 200.0
    half_life: float = 10.0
    ease: Ease | None = None

    def fit(self, train: Histories) -> Self:
        self.ease = Ease(self.regularisation).fit(train)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        if self.ease is None:
            raise RuntimeError("call fit before score")
        return histories.matrix(0.5 ** (histories.age / self.half_life)) @ _fitted(self.ease.weights)


@dataclass
class ImplicitALS:
    """iALS (Hu, Koren & Volinsky 2008), by the package `implicit`; a history's factors are solved for when scoring."""

    factors: int = 64
    regularisation: float = 0.05
    confidence: float = 5.0  # of a wanted pair; 1 for the others
    model: Any = None

    def fit(self, train: Histories) -> Self:
        # The package prints a warning about BLAS threads unless they are one while it works.
        with threadpool_limits(1, "blas"):
            self.model = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularisation,
                alpha=self.confidence,
                iterations=15,
                random_state=0,
                use_gpu=False,
            )
            self.model.fit(train.matrix(), show_progress=False)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        with threadpool_limits(1, "blas"):
            users = self.model.recalculate_user(np.arange(len(histories)), histories.matrix())
        return np.atleast_2d(users) @ self.model.item_factors.T


class Choice(NamedTuple):
    """A method by name: the settings to choose from on validation data, or the reason why it cannot run here."""

    name: str
    candidates: list[tuple[dict[str, float], Callable[[], Baseline]]]
    skipped: str | None = None


def baselines(n_items: int, thorough: bool = True) -> list[Choice]:
    """Every baseline, with its settings, for a catalogue of `n_items` titles.

    Args:
        thorough: all of them; otherwise only those that take seconds, for the report of a fit.
    """
    choices = [Choice("popularity", [({}, Popularity)])]
    if thorough:
        choices += [
            _choice(
                "recent popularity", RecentPopularity, half_life_days=(1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 120.0, 365.0)
            ),
            _choice("item-kNN", ItemKNN, neighbours=(20, 50, 100, 300), shrinkage=(0.0, 20.0)),
            _choice("iALS", ImplicitALS, factors=(32, 64), regularisation=(0.01, 0.1), confidence=(2.0, 10.0)),
        ]
    if n_items > EASE_MAX_ITEMS:
        reason = (
            f"EASE is left out: its matrix of {n_items:,} x {n_items:,} titles needs "
            f"{n_items**2 * 8 / 2**30:,.0f} GiB (limit: {EASE_MAX_ITEMS:,} titles)."
        )
        return [*choices, Choice("EASE", [], reason)]
    # One inversion takes seconds from some 5,000 titles on: then the middle of the grid, without a search.
    small = n_items <= 5_000
    grid = (50.0, 100.0, 200.0, 400.0, 800.0) if small else (200.0,)
    choices.append(_choice("EASE", Ease, regularisation=grid))
    half_lives = (3.0, 5.0, 10.0) if small else (5.0,)
    return [*choices, _choice("EASE, fading", FadingEase, regularisation=grid[2:] or grid, half_life=half_lives)]


def _choice(name: str, kind: Callable[..., Baseline], **grid: tuple[float, ...]) -> Choice:
    settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    return Choice(name, [(chosen, partial(kind, **chosen)) for chosen in settings])


def _fitted(parameter: np.ndarray | None) -> np.ndarray:
    if parameter is None:
        raise RuntimeError("call fit before score")
    return parameter
