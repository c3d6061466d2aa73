"""The network of HistoryNet (recsys/history.py): several fading sums of a history, and an MLP on them."""

import torch
from torch import Tensor, nn

from recsys.windows import fading_windows


class FadingSums(nn.Module):
    """The network on fading sums."""

    powers: Tensor

    def __init__(self, size: int, hidden: int, powers: list[float], dropout: float) -> None:
        super().__init__()
        self.register_buffer("powers", torch.tensor(powers), persistent=False)
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear((len(powers) + 1) * size, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, size),
        )

    def forward(self, vectors: Tensor, known: Tensor, here: Tensor) -> Tensor:
        """Members before each target that is `here`: (number of them, size).

        Shapes: vectors (batch, events, size); known, which events there are, (batch, events); here (batch, targets).
        """
        events, targets = vectors.shape[1], here.shape[1]
        weights = fading_windows(self.powers, events, targets)  # (rates, targets, events)
        sums = torch.einsum("rte,bed->btrd", weights, vectors)
        total = torch.einsum("rte,be->btr", weights, known.to(vectors.dtype))
        return self.of_sums(sums[here], total[here], vectors[:, events - targets :][here])

    def of_sums(self, sums: Tensor, total: Tensor, latest: Tensor) -> Tensor:
        """Members from sums of vectors, sums of their weights and the latest vector.

        Shapes: (..., rates, size), (..., rates), (..., size) to (..., size).
        """
        sums = sums / total.clamp_min(1e-6).sqrt()[..., None]
        return self.mlp(torch.cat([sums.flatten(-2), latest], dim=-1))
