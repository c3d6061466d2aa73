"""Cross-entropy over a catalogue that is too large to be looked at in every step: sampled softmax.

The sum Z over all titles in -log p(i) = log Z - logit(i) is estimated from k titles that are drawn, the same for all
targets of a step, with probabilities q: without the wanted title i, each drawn title j stands for 1 / (k q(j)) titles,

    Z = exp(logit(i)) + sum over drawn j other than i of exp(logit(j)) / (k q(j))

whose mean over draws is the sum over all titles (importance sampling: Bengio & Senécal 2003, "Quick training of
probabilistic neural nets by importance sampling"). The wanted title, which is always there, is not corrected: with a
correction its gradient would be biased (Khrylchenko et al. 2025, "Correcting the LogQ correction").

q goes with popularity^0.75 (Mikolov et al. 2013): what is often watched is often told apart, and everything may be
drawn.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

_POWER = 0.75


class Asked(NamedTuple):
    """The titles that a step looks at: those that came, each for its own target, and those drawn, for all of them."""

    wanted: Tensor  # (targets,)
    drawn: Tensor  # (k,)

    def of(self, values: Tensor) -> Tensor:
        """A value of each title, laid out for each target: (n_items,) to (targets, 1 + k)."""
        return torch.cat([values[self.wanted][:, None], values[self.drawn].expand(len(self.wanted), -1)], dim=1)


class Draws(nn.Module):
    """Draws titles, many at a time, wherever the module is.

    Args:
        n_items: titles in the vocabulary.
    """

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.share: Tensor
        self.below: Tensor
        self.register_buffer("share", torch.full((n_items,), 1.0 / max(1, n_items)), persistent=False)
        # Summed in double precision: a share of a millionth is lost in single.
        self.register_buffer("below", self.share.double().cumsum(0), persistent=False)

    @torch.no_grad()
    def learn(self, popularity: Tensor) -> None:
        """Draw by this popularity, which is above 0 for every title. Shape: (n_items,)."""
        share = popularity.double() ** _POWER
        share = share / share.sum()
        self.share.copy_(share)
        self.below.copy_(share.cumsum(0))

    @torch.no_grad()
    def forward(self, k: int) -> Tensor:
        """k titles, with replacement. Shape: (k,)."""
        lots = torch.rand(k, dtype=torch.float64, device=self.below.device) * self.below[-1]
        return torch.searchsorted(self.below, lots, right=True).clamp_max(len(self.below) - 1)

    def losses(self, logits: Tensor, asked: Asked) -> Tensor:
        """-log p of each wanted title, estimated: (targets, 1 + k) to (targets,)."""
        stands_for = -(math.log(len(asked.drawn)) + self.share[asked.drawn].log())  # (k,)
        others = (logits[:, 1:] + stands_for).masked_fill(asked.drawn == asked.wanted[:, None], -torch.inf)
        return torch.logsumexp(torch.cat([logits[:, :1], others], dim=1), dim=1) - logits[:, 0]
