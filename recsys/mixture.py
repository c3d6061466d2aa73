"""Where the two parts of HistoryNet meet: in the logarithm, above a floor of what is popular.

    logit(i) = neural(i) + sharpness · log(max(S(i), 0) + floor · popularity(i))               in training
    logit(i) = neural_weight · neural(i) + sharpness · log(max(S(i), 0) + lift · floor · popularity_h(i))     served

sharpness and floor are learned. Training asks for the next title of each history, behind a T that lacks a fold of the
members; what is served has the whole T, and may have to speak of a month in which the member has not come yet. So how
much the network counts, how high the floor is and after how many days a view counts half in the popularity h is chosen
on validation, where it makes a difference that is not chance.
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from recsys import metrics
from recsys.interactions import Histories
from recsys.sampled import Asked

HALF_LIVES = (np.inf, 90.0, 30.0, 7.0)  # days
_LIFTS = (1.0, 3.0, 10.0, 30.0)
_WEIGHTS = (0.2, 0.4, 0.7, 1.0)
_DAY = 86_400e6  # microseconds


class Mixture(nn.Module):
    """Logits from both parts.

    Args:
        n_items: titles in the vocabulary.
        neural_weight: what the neural part counts when served, unless validation knows better.
        sharpness: to start from.
    """

    def __init__(self, n_items: int, neural_weight: float, sharpness: float) -> None:
        super().__init__()
        self.neural_weight = neural_weight
        self.sharpness = nn.Parameter(torch.tensor(sharpness))
        self.log_floor = nn.Parameter(torch.tensor(-1.6))
        self.popularity: Tensor
        self.served: Tensor
        self.half_life: Tensor
        # A title's share of all events, by half-life.
        self.register_buffer("popularity", torch.full((len(HALF_LIVES), n_items), 1.0 / max(1, n_items)))
        self.register_buffer("served", torch.tensor([neural_weight, 1.0]))  # neural_weight, lift
        self.register_buffer("half_life", torch.tensor([0]))  # which of HALF_LIVES

    def learn(self, train: Histories) -> None:
        """Count how popular the titles are, seen from the last event of all."""
        last, counts = train.times.max(initial=0), np.zeros((len(HALF_LIVES), train.n_items))
        for _, block in train.blocks():
            age = (last - block.times) / _DAY
            counts += [np.bincount(block.items, 0.5 ** (age / h), minlength=train.n_items) for h in HALF_LIVES]
        # And half an event for each title, or as much of one as an event still counts on average.
        counts = counts + 0.5 * np.maximum(counts.sum(1, keepdims=True), 1e-9) / max(1, len(train.items))
        self.popularity.copy_(torch.from_numpy(counts / counts.sum(1, keepdims=True)))

    def take_choice(self, other: "Mixture") -> None:
        self.served.copy_(other.served)
        self.half_life.copy_(other.half_life)

    def forward(self, neural: Tensor, estimate: Tensor | None, candidates: Tensor | None = None) -> Tensor:
        """Logits as they are served. All of shape (batch, n_items), or of the candidates, (batch, k)."""
        popularity = self.popularity.index_select(0, self.half_life)[0]
        popularity = popularity if candidates is None else popularity[candidates]
        weight, lift = self.served
        return self._joined(weight * neural, estimate, lift * popularity)

    def in_training(self, neural: Tensor, estimate: Tensor | None, asked: Asked | None = None) -> Tensor:
        """Logits that the loss is taken of. All of shape (targets, n_items), or of what is asked, (targets, 1 + k)."""
        popularity = self.popularity[0]
        return self._joined(neural, estimate, popularity if asked is None else asked.of(popularity))

    def _joined(self, neural: Tensor, estimate: Tensor | None, popularity: Tensor) -> Tensor:
        share = self.log_floor.exp() * popularity
        share = share if estimate is None else estimate.clamp_min(0.0) + share
        return torch.addcmul(neural, share.log(), self.sharpness)

    @torch.no_grad()
    def choose(self, neural: Tensor, estimate: Tensor | None, seen: Histories, targets: Histories) -> None:
        """Choose what is served by the members' NDCG on validation, without a cut-off.

        What is best takes the place of the defaults if its mean is higher by two standard errors over the members.

        Args:
            neural: of the members of `seen` and `targets`. Shape: (members, n_items).
            estimate: S, as `neural`, or None without a linear part.
            seen: titles that are not ranked.
            targets: titles to be ranked high.
        """
        device = neural.device
        order = metrics.tie_order(neural.shape[1], seed=0).to(device)
        neural = neural.index_put(
            (torch.from_numpy(seen.users).to(device), torch.from_numpy(seen.items).to(device)),
            neural.new_full((), -torch.inf),
        )
        rows, items = torch.from_numpy(targets.users).to(device), torch.from_numpy(targets.items).to(device)

        def gains(weight: float, lift: float, half_life: int) -> Tensor:
            logits = self._joined(weight * neural, estimate, lift * self.popularity[half_life])
            values = metrics.mean_by(1 / torch.log2(1.0 + metrics.ranks_of(logits, rows, items, order)), rows)
            return values[values.isfinite()]

        best = (self.neural_weight, 1.0, 0)
        floors = [(best[0], lift, h) for lift, h in product(_LIFTS, range(len(HALF_LIVES)))]
        for step in ("floor", "weight"):
            tried = floors if step == "floor" else [(weight, *best[1:]) for weight in _WEIGHTS]
            found = {setting: gains(*setting) for setting in (best, *tried)}
            winner = max(found, key=lambda setting: float(found[setting].mean()))
            more = found[winner] - found[best]
            if len(more) > 1 and float(more.mean()) > 2 * float(more.std()) / len(more) ** 0.5:
                best = winner
        self.served.copy_(torch.tensor(best[:2]))
        self.half_life.fill_(best[2])
