"""A matrix in eight bits for each entry, of which sums of rows are read quickly on a CPU.

An entry is scale · code + least, with the code from 0 to 255 and scale and least of its row, so it is off by (greatest
- least) / 510 at most. A sum of long rows takes the time in which they are read: with one byte for an entry it is three
to four times as quick as with four. The format is that of torch's quantised embeddings (FBGEMM's row-wise 8-bit rows).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EXTRA = 8  # bytes behind the codes of a row: scale and least as float32


@dataclass(frozen=True)
class EightBits:
    """Zeros are zeros: a tensor `packed` of nothing else is a matrix of zeros."""

    packed: Tensor  # (rows, width + EXTRA) uint8

    @staticmethod
    def of(matrix: Tensor) -> "EightBits":
        """From float32. Shape: (rows, width)."""
        packed = torch.ops.quantized.embedding_bag_byte_prepack(matrix.cpu())
        return EightBits(packed.to(matrix.device))

    def _scale_and_least(self) -> tuple[Tensor, Tensor]:
        both = self.packed[:, -EXTRA:].contiguous().view(torch.float32)
        return both[:, 0], both[:, 1]  # (rows,)

    def numbers(self) -> Tensor:
        """What the codes stand for. Shape: (rows, width), float32."""
        scale, least = self._scale_and_least()
        return self.packed[:, :-EXTRA] * scale[:, None] + least[:, None]

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Of two tensors of places that can be broadcast together; float32, of the shape they then have."""
        scale, least = self._scale_and_least()
        return self.packed[rows, columns] * scale[rows] + least[rows]

    def sums(self, rows: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of rows, as torch.nn.functional.embedding_bag makes them.

        Args:
            rows: of all sums, one after the other. Shape: (entries,).
            offsets: where each sum begins, and where the last ends. Shape: (sums + 1,).
            weights: float32. Shape: (entries,).

        Returns:
            Shape (sums, width), float32.
        """
        if self.packed.device.type == "cpu":
            return torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
                self.packed, rows, offsets, per_sample_weights=weights, include_last_offset=True
            )
        return F.embedding_bag(
            rows, self.numbers(), offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
