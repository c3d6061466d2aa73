"""Reasons that are true: the event without which a title would score least.

For each recommended title every event of the member's history is taken out in turn and the title is scored again; the
reason is the event whose absence costs the title most, its share what it costs over what all events that help cost
together. Nothing is estimated: whoever removes the event finds the score that was compared here. All removals of many
members go through the model as one batch.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.history import HistoryModule
from recsys.interactions import Histories
from recsys.windows import CONTEXT, History, latest_events

_EVENTS = 2**19  # events of changed histories held at once


class Reasons(NamedTuple):
    """For each member and title; both of shape (members, k)."""

    item: np.ndarray  # position of the title whose event is the reason; -1 where none helps
    share: np.ndarray  # of the reason in what all events that help add, 0 to 1; NaN where none helps


def without_each(history: History, n_items: int) -> History:
    """Each history as often as it has places after the first, each time without the event at one of them.

    The first place holds the event that comes into the model's view when another goes. Shapes: (batch, events) to
    (batch, events - 1, events - 1); where an event was missing already nothing changes.
    """
    places, device = history.item.shape[1] - 1, history.item.device
    removed = torch.arange(1, places + 1, device=device)  # (places,)
    kept = torch.arange(places, device=device)[None].expand(places, -1)
    kept = kept + (kept >= removed[:, None]).long()  # (places, places)
    gap = history.gap[:, kept]
    # The event after a removed one is now that much later than the event before both, or the first of all.
    has_before = (history.item[:, :-1] < n_items).to(gap.dtype)  # whether something lies before `removed`
    merged = (history.gap[:, 1:-1] + history.gap[:, 2:]) * has_before[:, :-1]
    row = torch.arange(places - 1, device=device)
    gap[:, row, row + 1] = merged
    return History(history.item[:, kept], history.rating[:, kept], gap)


@torch.no_grad()
def reasons(module: HistoryModule, histories: Histories, titles: Tensor) -> Reasons:
    """The reason for each of `titles` (members, k) of the members of `histories`; -1 fills up lists and gets none."""
    members, k = titles.shape
    item, share = np.full((members, k), -1), np.full((members, k), np.nan)
    lengths = np.minimum(histories.lengths, CONTEXT)
    order = np.argsort(lengths, kind="stable")  # alike lengths together: short histories then cost little
    first = 0
    while first < members:
        # As many members as fit when all are as long as the last of them.
        fits = np.arange(1, members - first + 1) * np.maximum(1, lengths[order[first:]]) ** 2 <= _EVENTS
        last = first + max(1, int(fits.sum()))
        longest = max(1, int(lengths[order[last - 1]]))
        at = order[first:last]
        first = last
        history = latest_events(histories.take(at), longest + 1).to(module.device)
        shown = torch.from_numpy(titles[at].numpy()).to(module.device)
        candidates = shown.clamp_min(0)
        whole = module.candidate_logits(History(*(part[:, 1:] for part in history)), candidates)  # (batch, k)
        changed = without_each(history, module.n_items)
        flat = History(*(part.flatten(0, 1) for part in changed))
        each = module.candidate_logits(flat, candidates.repeat_interleave(longest, 0)).view(len(at), longest, k)
        removed = history.item[:, 1:]  # (batch, longest)
        loss = (whole[:, None] - each).where((removed < module.n_items)[:, :, None], -torch.inf)
        most = loss.max(1)
        total = loss.clamp_min(0).sum(1)
        helps = (most.values > 0) & (shown >= 0)
        chosen = removed.gather(1, most.indices)
        item[at] = chosen.where(helps, -1).cpu().numpy()
        share[at] = (most.values / total).where(helps, torch.nan).cpu().numpy()
    return Reasons(item, share)
