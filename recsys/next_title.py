"""A linear model of what comes next, in closed form.

EASE (Steck 2019) asks which titles go together; this asks which comes after which, as SLIST does within sessions
(Choi et al. 2021, "Session-aware linear item-item models for session-based recommendation"). A member's past at an
event t is a vector of faded titles, what they want from there on a vector of coming ones,

    x_t[i] = (1 + a)^-power           if the title of age a is i (age 0: the latest before t)
    y_t[i] = (1 - future) future^f    if the title f events ahead is i (f = 0: the one at t); future = 0: the next only

and B minimises the sum over all events of all members of ||x_t B - y_t||² + regularisation · ||B||², that is

    B = (G + regularisation · I)^-1 C,    G = sum of x_t' x_t,    C = sum of x_t' y_t

(pairs further apart than the longest age are left out), so that x_t B estimates the probability of each title. A power
fades more slowly than the halving that is usual: what was seen long ago still speaks, and no half-life need be chosen.

Neither sum needs the vectors. Titles j and k = j + d of one history with m later events meet in m rows, so that
G[i_j, i_k] gains the sum over s < m of fade(s) fade(s + d), and C[i_j, i_k] gains the sum over a + f = d - 1 of
fade(a) ahead(f): one pass over the events for each lag d, linear in events.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.interactions import Histories

MAX_LAG = 50  # a title this many events back, or more, says nothing (200 is hardly better, see docs/recommender.md)
_ROWS = 2**22  # pairs added at once


def fading(power: float, max_lag: int = MAX_LAG) -> np.ndarray:
    """(1 + a)^-power for ages below `max_lag`. Shape: (max_lag,)."""
    return (1.0 + np.arange(max_lag)) ** -power


def coming_weights(fade: np.ndarray, future: float) -> np.ndarray:
    """What a pair of titles d events apart adds to C, for d = 1 to len(fade). Shape: (len(fade),)."""
    ahead = (1.0 - future) * future ** np.arange(len(fade))
    return np.convolve(fade, ahead)[: len(fade)]


def moments(histories: Histories, fade: np.ndarray, future: float = 0.0) -> tuple[Tensor, Tensor]:
    """G and C (see the module's text) of all histories. Shapes: (n_items, n_items), float64.

    Args:
        histories: each member's titles, oldest first, each title once; an item of -1 is an event, but no title.
        fade: weight of each age; older titles weigh nothing. Shape: (max_lag,).
        future: how much the titles after the next one count, 0 (not at all) to below 1.
    """
    n, lags = histories.n_items, len(fade)
    items, age, users = (torch.from_numpy(v) for v in (histories.items, histories.age, histories.users))
    gram, coming = torch.zeros(n * n, dtype=torch.float64), torch.zeros(n * n, dtype=torch.float64)
    weights, gains = torch.from_numpy(fade), coming_weights(fade, future)
    longest = int(histories.lengths.max(initial=0))
    for lag in range(min(lags + 1, longest)):
        met = torch.cat([torch.zeros(1, dtype=torch.float64), (weights[: lags - lag] * weights[lag:]).cumsum(0)])
        for first in range(0, len(items) - lag, _ROWS):
            last = min(first + _ROWS, len(items) - lag)
            older, newer = items[first:last], items[first + lag : last + lag]
            pairs = (users[first:last] == users[first + lag : last + lag]) & (older >= 0) & (newer >= 0)
            at = (older * n + newer)[pairs]
            if lag < lags:
                later = age[first + lag : last + lag][pairs]  # events after the newer one
                gram.index_add_(0, at, met[later.clamp_max(lags - lag)])
            if lag > 0:
                coming.index_add_(0, at, torch.full((len(at),), gains[lag - 1], dtype=torch.float64))
    gram, coming = gram.view(n, n), coming.view(n, n)
    return gram + gram.T - torch.diag(gram.diagonal()), coming


def solve(gram: Tensor, coming: Tensor, regularisation: float) -> Tensor:
    """B = (G + regularisation · I)^-1 C. Shape: (n_items, n_items), float32."""
    ridge = gram.clone()
    ridge.diagonal().add_(regularisation)
    return torch.cholesky_solve(coming, torch.linalg.cholesky(ridge)).float()


@dataclass
class NextTitle:
    """The model as a baseline; `fit`, then `score` (see recsys/baselines.py)."""

    regularisation: float = 400.0
    power: float = 0.6
    future: float = 0.0
    weights: np.ndarray | None = None  # (n_items, n_items)

    def fit(self, train: Histories) -> Self:
        gram, coming = moments(train, fading(self.power), self.future)
        self.weights = solve(gram, coming, self.regularisation).numpy()
        return self

    def score(self, histories: Histories) -> np.ndarray:
        if self.weights is None:
            raise RuntimeError("call fit before score")
        fade = np.append(fading(self.power), 0.0)
        return histories.matrix(fade[np.minimum(histories.age, MAX_LAG)]) @ self.weights
