"""A matrix in eight bits for each entry, of which sums of rows are read quickly on a CPU.

An entry is scale · (code - zero), with the code from 0 to 255 and scale and zero of its row. It is off by half a step
at most, a step being a 254th of what lies between the row's least and greatest entry. What is 0 stays 0; if instead
the least entry had the code 0, each row would give up to half a step to a column of zeros. Sums of rows take the time
in which they are read: with one byte for an entry they are three to four times as quick as with four. The format is
that of torch's quantised embeddings (FBGEMM's row-wise 8-bit rows), with scale and -scale · zero behind the codes.
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
        """From numbers of any floating type. Shape: (rows, width)."""
        matrix = matrix.float()
        least, greatest = matrix.amin(1).clamp_max(0.0), matrix.amax(1).clamp_min(0.0)
        scale = (greatest - least) / 254  # one code is left for the rounding of `zero`
        step = torch.where(scale > 0, scale, 1.0)
        zero = (-least / step).round()
        codes = (matrix / step[:, None] + zero[:, None]).round().to(torch.uint8)
        behind = torch.stack([scale, -scale * zero], dim=1).view(torch.uint8)
        return EightBits(torch.cat([codes, behind], dim=1))

    def _scale_and_zero(self) -> tuple[Tensor, Tensor]:
        scale, shift = self.packed[:, -EXTRA:].contiguous().view(torch.float32).unbind(1)  # (rows,) each
        return scale, torch.where(scale > 0, -shift / scale, 0.0).round()

    def numbers(self) -> Tensor:
        """What the codes stand for. Shape: (rows, width), float32."""
        scale, zero = self._scale_and_zero()
        return (self.packed[:, :-EXTRA] - zero[:, None]) * scale[:, None]

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Of two tensors of places that can be broadcast together; float32, of the shape they then have."""
        scale, zero = self._scale_and_zero()
        return (self.packed[rows, columns] - zero[rows]) * scale[rows]

    def tiles(self, width: int) -> list["EightBits"]:
        """The same matrix cut into pieces of `width` columns (the last may have fewer), each in memory of its own."""
        scale_and_zero = self.packed[:, -EXTRA:]
        return [
            EightBits(torch.cat([codes, scale_and_zero], dim=1))
            for codes in self.packed[:, :-EXTRA].split(width, dim=1)
        ]

    def sums(self, rows: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of rows, as torch.nn.functional.embedding_bag makes them.

        Args:
            rows: of all sums, one after the other. Shape: (entries,).
            offsets: where each sum begins, and where the last ends. Shape: (sums + 1,).
            weights: of any floating type. Shape: (entries,).

        Returns:
            Shape (sums, width), float32. On a CPU a sum of zeros is off by some 1e-10 of the rows' size.
        """
        weights = weights.float()
        if self.packed.device.type == "cpu":
            return torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
                self.packed, rows, offsets, per_sample_weights=weights, include_last_offset=True
            )
        return F.embedding_bag(
            rows, self.numbers(), offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
