"""Reasons that are true: the event without which a title would score least.

For each recommended title every event of the member's history is taken out in turn and the title is scored again; the
reason is the event whose absence costs the title most, its share what it costs over what all events that help cost
together. Nothing is estimated: whoever removes the event finds the score that was compared here.

Nor is a history encoded once for each of its events. Without the event at place c the later ones keep their age a and
the earlier ones are one younger, so a fading sum of values v, be they vectors or entries of the transition matrix, is

    sum over j > c of (1 + a_j)^-power v_j + sum over j < c of (a_j)^-power v_j

and two cumulative sums give it for every c at once. The event after c also changes: more time has passed before it.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.history import HistoryModule
from recsys.interactions import Histories
from recsys.windows import CONTEXT, History, latest_events

_NUMBERS = 2**22  # of changed sums held at once by each thread


class Reasons(NamedTuple):
    """For each member and title; both of shape (members, k)."""

    item: np.ndarray  # position of the title whose event is the reason; -1 where none helps
    share: np.ndarray  # of the reason in what all events that help add, 0 to 1; NaN where none helps


def sums_without_each(values: Tensor, power: float) -> Tensor:
    """Fading sums of all events but one, for each place after the first.

    The first place holds the event that comes into the model's view when another goes.

    Args:
        values: zeros where there is no event. Shape: (batch, events, any).
        power: of the fading.

    Returns:
        Shape (batch, events - 1, any): entry c - 1 is the sum without the event at c.
    """
    age = torch.arange(values.shape[1] - 1, -1, -1, device=values.device, dtype=values.dtype)
    fade = ((1.0 + age) ** -power)[:, None]  # (events, 1)
    younger = F.pad(fade[1:], (0, 0, 0, 1))  # the age of an event is that of the one after it
    earlier = (younger * values).cumsum(1)[:, :-1]
    later = (fade * values).flip(1).cumsum(1).flip(1)[:, 2:]
    return earlier + F.pad(later, (0, 0, 0, 1))


def logits_without_each(module: HistoryModule, history: History, candidates: Tensor) -> Tensor:
    """Logits of some titles after each event but the first is taken out.

    Shapes: (batch, events), (batch, k) to (batch, events - 1, k).
    """
    titles = module.title_vectors()
    neural = torch.zeros((), device=candidates.device)
    if module.hparams["neural"]:
        members = _members_without_each(module, history, titles)
        neural = torch.einsum("bcd,bkd->bck", members, titles[candidates]) + module.bias[candidates][:, None]
    estimate = None
    if module.transition is not None and module.hparams["linear"]:
        estimate = sums_without_each(
            module.transition.entries(history, candidates), float(module.transition.settings[3])
        )
    return module.mixture(neural, estimate, candidates[:, None])


def _members_without_each(module: HistoryModule, history: History, titles: Tensor) -> Tensor:
    """m after each event but the first is taken out. Shape: (batch, events - 1, size)."""
    vectors = module.event_vectors(history, titles[history.item])  # (batch, events, size)
    known = (history.item < module.n_items).to(vectors.dtype)
    # By how much the event after each place changes when that place is emptied; the first of all has no gap.
    gap = history.gap.clamp_min(0)
    after = (gap[:, 1:-1] + gap[:, 2:]) * known[:, :-2]
    change = (torch.log1p(after) - torch.log1p(gap[:, 2:])) / 6 * known[:, 2:] * known[:, 1:-1]
    change = F.pad(change[..., None] * module.event[2], (0, 0, 0, 1))  # (batch, events - 1, size): of the event after
    latest = vectors[:, -1:].repeat(1, change.shape[1], 1)
    latest[:, -2:-1] += change[:, -2:-1]
    latest[:, -1] = vectors[:, -2]
    age_after = torch.arange(change.shape[1] - 2, -2, -1, device=gap.device, dtype=gap.dtype).clamp_min(0)
    sums = []
    for power in module.member.powers.tolist():
        fade = ((1.0 + age_after) ** -power)[:, None]
        total = sums_without_each(known[..., None], power).clamp_min(1e-6).sqrt()
        sums.append((sums_without_each(vectors, power) + fade * change) / total)
    return module.member.mlp(torch.cat([*sums, latest], dim=2))


@torch.no_grad()
def reasons(module: HistoryModule, histories: Histories, titles: Tensor) -> Reasons:
    """The reason for each of `titles` (members, k) of the members of `histories`; -1 fills up lists and gets none."""
    members, k = titles.shape
    item, share = np.full((members, k), -1), np.full((members, k), np.nan)
    lengths = np.minimum(histories.lengths, CONTEXT)
    order = np.argsort(lengths, kind="stable")  # alike lengths together: short histories then cost little
    width = max(k, int(module.hparams["size"]) * (len(module.member.powers) + 1))
    first = 0
    while first < members:
        # As many members as fit when all are as long as the last of them.
        fits = np.arange(1, members - first + 1) * np.maximum(1, lengths[order[first:]]) * width <= _NUMBERS
        last = first + max(1, int(fits.sum()))
        longest = max(1, int(lengths[order[last - 1]]))
        at = order[first:last]
        first = last
        history = latest_events(histories.take(at), longest + 1).to(module.device)
        shown = torch.from_numpy(titles[at].numpy()).to(module.device)
        candidates = shown.clamp_min(0)
        whole = module.candidate_logits(History(*(part[:, 1:] for part in history)), candidates)  # (batch, k)
        each = logits_without_each(module, history, candidates)  # (batch, longest, k)
        removed = history.item[:, 1:]  # (batch, longest)
        loss = (whole[:, None] - each).where((removed < module.n_items)[:, :, None], -torch.inf)
        most = loss.max(1)
        total = loss.clamp_min(0).sum(1)
        helps = (most.values > 0) & (shown >= 0)
        chosen = removed.gather(1, most.indices)
        item[at] = chosen.where(helps, -1).cpu().numpy()
        share[at] = (most.values / total).where(helps, torch.nan).cpu().numpy()
    return Reasons(item, share)
