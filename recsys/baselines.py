"""Methods that the neural recommender has to beat.

Each is fitted on the members' histories and then scores the catalogue for any histories, those of strangers included:

    method = Ease(regularisation=200.0).fit(train)
    scores = method.score(histories)      # (members, n_items) float32

A method that wants order or time finds both in `Histories`. Add one by writing the two functions and naming it in
`baselines`; `evaluate` does the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
from scipy import linalg

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
        matrix = train.matrix()
        gram = np.asarray((matrix.T @ matrix).todense(), np.float64)
        gram[np.diag_indices_from(gram)] += self.regularisation
        inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        self.weights = weights.astype(np.float32)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        return histories.matrix() @ _fitted(self.weights)


class Choice(NamedTuple):
    """A method by name: the settings to choose from on validation data, or the reason why it cannot run here."""

    name: str
    candidates: list[tuple[dict[str, float], Callable[[], Baseline]]]
    skipped: str | None = None


def baselines(n_items: int) -> list[Choice]:
    """Every baseline, with its settings, for a catalogue of `n_items` titles."""
    choices = [Choice("popularity", [({}, Popularity)])]
    if n_items > EASE_MAX_ITEMS:
        reason = (
            f"EASE is left out: its matrix of {n_items:,} x {n_items:,} titles needs "
            f"{n_items**2 * 8 / 2**30:,.0f} GiB (limit: {EASE_MAX_ITEMS:,} titles)."
        )
        return [*choices, Choice("EASE", [], reason)]
    # One inversion takes seconds from some 5,000 titles on: then the middle of the grid, without a search.
    grid = (50.0, 100.0, 200.0, 400.0, 800.0) if n_items <= 5_000 else (200.0,)
    return [*choices, Choice("EASE", [({"regularisation": r}, _ease(r)) for r in grid])]


def _ease(regularisation: float) -> Callable[[], Baseline]:
    return lambda: Ease(regularisation)


def _fitted(parameter: np.ndarray | None) -> np.ndarray:
    if parameter is None:
        raise RuntimeError("call fit before score")
    return parameter
