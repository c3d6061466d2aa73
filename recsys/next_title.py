"""A linear model of what comes next, in closed form.

EASE (Steck 2019) asks which titles go together; this asks which comes after which, as SLIST does within sessions
(Choi et al. 2021, "Session-aware linear item-item models for session-based recommendation"). A member's past at an
event t is a vector of faded titles,

    x_t[i] = fade(a) if the member's title of age a (0 for the latest before t) is i,   fade(a) = (1 + a)^-power

and B minimises the sum over all events of all members of ||x_t B - e(i_t)||² + regularisation · ||B||², that is

    B = (G + regularisation · I)^-1 C,    G = sum of x_t' x_t,    C = sum of x_t' e(i_t)

A power fades more slowly than the halving that is usual: what was seen long ago still speaks, and no half-life need be
chosen. Neither sum needs the vectors x_t. Titles j and k = j + d of one history with m later events meet in
m rows, so that G[i_j, i_k] gains cum[d, m] = sum over s < m of fade(s) fade(s + d), and C[i_j, i_k] gains fade(d - 1):
one pass over the events for each lag d, linear in events.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.interactions import Histories

MAX_LAG = 200  # a title this many events back, or more, says nothing


def fading(power: float, max_lag: int = MAX_LAG) -> np.ndarray:
    """(1 + a)^-power for ages below `max_lag`. Shape: (max_lag,)."""
    return (1.0 + np.arange(max_lag)) ** -power


def moments(histories: Histories, fade: np.ndarray) -> tuple[Tensor, Tensor]:
    """G and C (see the module's text) of all histories. Shapes: (n_items, n_items), float64.

    Args:
        histories: each member's titles, oldest first.
        fade: weight of each age; older titles weigh nothing. Shape: (max_lag,).
    """
    n = histories.n_items
    lags = len(fade)
    items, age, users = (torch.from_numpy(v) for v in (histories.items, histories.age, histories.users))
    gram, coming = torch.zeros(n * n, dtype=torch.float64), torch.zeros(n * n, dtype=torch.float64)
    weights = torch.from_numpy(fade)
    longest = int(histories.lengths.max(initial=0))
    for lag in range(min(lags + 1, longest)):
        together = slice(None) if lag == 0 else (users[lag:] == users[:-lag]).nonzero().squeeze(1)
        older = items if lag == 0 else items[:-lag][together]
        newer = items if lag == 0 else items[lag:][together]
        later = age if lag == 0 else age[lag:][together]  # events after the newer one
        if lag < lags:
            met = torch.cat([torch.zeros(1, dtype=torch.float64), (weights[: lags - lag] * weights[lag:]).cumsum(0)])
            gram.index_add_(0, older * n + newer, met[later.clamp_max(lags - lag)])
        if lag > 0:
            coming.index_add_(0, older * n + newer, weights[lag - 1].expand(len(older)))
    gram, coming = gram.view(n, n), coming.view(n, n)
    return gram + gram.T - torch.diag(gram.diagonal()), coming


@dataclass
class NextTitle:
    """The model as a baseline; `fit`, then `score` (see recsys/baselines.py)."""

    regularisation: float = 800.0
    power: float = 0.6
    weights: np.ndarray | None = None  # (n_items, n_items)

    def fit(self, train: Histories) -> Self:
        gram, coming = moments(train, fading(self.power))
        gram.diagonal().add_(self.regularisation)
        self.weights = torch.cholesky_solve(coming, torch.linalg.cholesky(gram)).float().numpy()
        return self

    def score(self, histories: Histories) -> np.ndarray:
        if self.weights is None:
            raise RuntimeError("call fit before score")
        fade = np.append(fading(self.power), 0.0)
        return histories.matrix(fade[np.minimum(histories.age, MAX_LAG)]) @ self.weights
