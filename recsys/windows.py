"""What HistoryNet looks at: the last events of each member as tensors of one length, and how much each counts."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.eight_bits import EightBits
from recsys.interactions import Histories
from recsys.module import Batch
from recsys.next_title import MAX_LAG

CONTEXT = MAX_LAG  # events of a member that the model looks at


class History(NamedTuple):
    """Events of members, the latest last. All of shape (batch, events).

    On the left it is filled up with n_items as item, no rating and a gap of 0.
    """

    item: Tensor  # int64
    rating: Tensor  # float32, NaN where there is none
    gap: Tensor  # float32, minutes since the member's event before

    @staticmethod
    def of(batch: Batch) -> "History":
        return History(batch["item"], batch["rating"], batch["gap"])

    def to(self, device: torch.device) -> "History":
        return History(*(part.to(device) for part in self))


def latest_events(histories: Histories, length: int | None = None) -> History:
    """The last `length` events of each member (default: as many as the longest has, of those that the model looks at).

    Shapes: (members, length).
    """
    length = min(CONTEXT, max(1, int(histories.lengths.max(initial=0)))) if length is None else length
    return stretch(histories, np.arange(len(histories)), histories.lengths, length)


def stretch(histories: Histories, users: np.ndarray, until: np.ndarray, length: int) -> History:
    """The `length` events of `users` before their event number `until`, filled up on the left.

    Shapes: (rows,), (rows,) to (rows, length).
    """
    place = until[:, None] - length + np.arange(length)  # number of the event in the history
    there = (place >= 0) & (place < histories.lengths[users][:, None])
    at = np.where(there, histories.start[:-1][users][:, None] + place, 0)
    if len(histories.items) == 0:
        return History(torch.full(at.shape, histories.n_items), torch.full(at.shape, torch.nan), torch.zeros(at.shape))
    minutes = np.where(there & (place > 0), histories.times[at] - histories.times[np.maximum(at - 1, 0)], 0) / 60e6
    return History(
        torch.from_numpy(np.where(there, histories.items[at], histories.n_items).astype(np.int64, copy=False)),
        torch.from_numpy(np.where(there, histories.ratings[at], np.nan).astype(np.float32)),
        torch.from_numpy(minutes.astype(np.float32)),
    )


def pieces(lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories cut into pieces of `size` events, from the end, so that only a first piece is shorter.

    Returns:
        The member of each piece, and the number of events up to its end. Shapes: (pieces,).
    """
    number = -(-lengths // size)
    users = np.repeat(np.arange(len(lengths)), number)
    place = np.arange(len(users)) - np.repeat(np.cumsum(number) - number, number)
    return users, lengths[users] - place * size


def fading_windows(powers: Tensor, events: int, targets: int) -> Tensor:
    """Weights of `events` events for predicting each of the `targets` that follow the first events - targets + 1.

    Target l may look at the events before it: event c has age (events - targets + l) - c, and (1 + age)^-power as its
    weight, or nothing when it comes later. Shape: (len(powers), targets, events).
    """
    last = events - targets + torch.arange(targets, device=powers.device)[:, None]  # (targets, 1)
    age = last - torch.arange(events, device=powers.device)  # (targets, events)
    age = torch.where(age < MAX_LAG, age, -1)
    return torch.where(age >= 0, (1.0 + age.clamp_min(0)) ** -powers[:, None, None], 0.0)


class Bags(NamedTuple):
    """Rows of a table, by member, with what each counts: fading sums of them without a copy of any.

    Nothing of shape (batch, events, width) is made, and events that are not there cost nothing.
    """

    rows: Tensor  # (entries,), those of one member after those of another
    offsets: Tensor  # (batch + 1,): where each member's begin
    weights: Tensor  # (rates, entries)

    @staticmethod
    def of(rows: Tensor, known: Tensor, powers: Tensor) -> "Bags":
        """For the target after the last event: a row counts (1 + a)^-power, a the age of its event.

        Args:
            rows: of each event. Shape: (batch, events).
            known: which events there are. Shape: (batch, events).
            powers: of the fading. Shape: (rates,).
        """
        weights = fading_windows(powers, rows.shape[1], 1)[:, 0]  # (rates, events)
        at = known.flatten().nonzero()[:, 0]
        offsets = F.pad(known.sum(1).cumsum(0), (1, 0))
        return Bags(rows.flatten()[at], offsets, weights.index_select(1, at % rows.shape[1]))

    def block(self, first: int, last: int) -> "Bags":
        """Those of members `first` to before `last`."""
        start, end = int(self.offsets[first]), int(self.offsets[last])
        return Bags(self.rows[start:end], self.offsets[first : last + 1] - start, self.weights[:, start:end])

    def sums(self, table: Tensor | EightBits) -> Tensor:
        """Sums of rows of `table`: a tensor (rows, width), or the same in eight bits. Shape: (rates, batch, width), of
        the table's type, or float32."""
        if isinstance(table, EightBits):
            sums = [table.sums(self.rows, self.offsets, weights) for weights in self.weights]
        else:
            sums = [
                F.embedding_bag(
                    self.rows, table, self.offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
                )
                for weights in self.weights.to(table.dtype)
            ]
        return torch.stack(sums) if len(sums) > 1 else sums[0][None]
