"""Variety: re-ranking that trades a little accuracy for lists whose titles differ (maximal marginal relevance).

Carbonell & Goldstein 1998, "The use of MMR, diversity-based reranking". From a member's best candidates the list is
built title by title; each time the one is taken with the largest

    (1 - variety) · logit / spread - variety · CONTRAST · (largest similarity to a title in the list so far)

where spread is the standard deviation of the candidates' logits, so that the slider means the same for everybody, and
the similarity of two titles is the Jaccard of their genres. 0 keeps the order of the logits; 1 looks for difference
alone, among the candidates.
"""

import torch
from torch import Tensor

CANDIDATES = 5  # times the length of the list
CONTRAST = 3.0  # standard deviations of the logits that a full likeness weighs

_NOTHING = torch.finfo(torch.float32).min


def jaccard(genres: Tensor, titles: Tensor) -> Tensor:
    """Similarity of the titles of each list, 0 to 1; titles without genres are like nothing.

    Args:
        genres: which genres each title has, (n_items, genres) bool.
        titles: (lists, k) positions.

    Returns:
        Shape (lists, k, k).
    """
    have = genres[titles].float()
    both = have @ have.transpose(1, 2)
    size = have.sum(2)
    return both / (size[:, :, None] + size[:, None] - both).clamp_min(1.0)


def diversified(logits: Tensor, similarity: Tensor, k: int, variety: float) -> Tensor:
    """Which candidates make each list, in its order.

    All lists are built together, one place after the other.

    Args:
        logits: of the candidates, best first, -inf where there is none. Shape: (lists, candidates).
        similarity: of the candidates of a list. Shape: (lists, candidates, candidates).
        k: titles of a list, at most as many as there are candidates.
        variety: 0 to 1.

    Returns:
        Positions among the candidates. Shape: (lists, k).
    """
    real = logits.isfinite()
    known = torch.where(real, logits, 0.0)
    number = real.sum(1, keepdim=True).clamp_min(1)
    mean = known.sum(1, keepdim=True) / number
    spread = (((known - mean) * real).square().sum(1, keepdim=True) / number).sqrt().clamp_min(1e-6)
    worth = (1.0 - variety) * (known - mean) / spread
    likeness = torch.zeros_like(worth)
    rows = torch.arange(len(logits), device=logits.device)
    chosen = []
    open_places = torch.ones_like(real)
    for _ in range(k):
        value = torch.where(real, worth - variety * CONTRAST * likeness, _NOTHING).where(open_places, -torch.inf)
        best = value.argmax(1)  # what does not exist comes last, each once
        chosen.append(best)
        open_places[rows, best] = False
        likeness = torch.maximum(likeness, similarity[rows, best])
    return torch.stack(chosen, dim=1)
