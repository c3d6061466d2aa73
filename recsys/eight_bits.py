"""A matrix in eight bits for each entry, of which sums of rows are read quickly on a CPU.

An entry is scale · (code - zero), with the code from 0 to 255 and scale and zero of its row. It is off by half a step
at most, a step being a 254th of what lies between the row's least and greatest entry; and what is 0 stays 0, so that a
column of zeros has no sum. Such sums take the time in which rows are read: with one byte for an entry they are three to
four times as quick as with four. The format is that of torch's quantised embeddings (FBGEMM's row-wise 8-bit rows),
with scale and -scale · zero behind the codes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EXTRA = 8  # bytes behind the codes of a row: two numbers as float32


@dataclass(frozen=True)
class EightBits:
    """Zeros are zeros: a tensor `packed` of nothing else is a matrix of zeros."""

    packed: Tensor  # (rows, width + EXTRA) uint8

    @staticmethod
    def of(matrix: Tensor) -> "EightBits":
        """From float32. Shape: (rows, width)."""
        least, greatest = matrix.amin(1).clamp_max(0.0), matrix.amax(1).clamp_min(0.0)
        scale = (greatest - least) / 254  # one code is left for the rounding of `zero`
        step = torch.where(scale > 0, scale, 1.0)
        zero = (-least / step).round()
        codes = (matrix / step[:, None] + zero[:, None]).round().to(torch.uint8)
        behind = torch.stack([scale, -scale * zero], dim=1).view(torch.uint8)
        return EightBits(torch.cat([codes, behind], dim=1))

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        both = self.packed[:, -EXTRA:].contiguous().view(torch.float32)
        return both[:, 0], both[:, 1]  # (rows,)

    def numbers(self) -> Tensor:
        """What the codes stand for. Shape: (rows, width), float32."""
        scale, shift = self._scale_and_shift()
        return torch.addcmul(shift[:, None], self.packed[:, :-EXTRA].to(scale.dtype), scale[:, None])

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Of two tensors of places that can be broadcast together; float32, of the shape they then have."""
        scale, shift = self._scale_and_shift()
        return torch.addcmul(shift[rows], self.packed[rows, columns].to(scale.dtype), scale[rows])

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
