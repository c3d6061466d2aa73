"""Why a member may not come back (or will), measured: what the model says when one thing about the member is changed.

For each driver its inputs are replaced by those of a typical member who came back (the reference, see
retention_data.RetentionData.reference), everything else stays, and the model is asked again. The driver whose
replacement moves the probability most is the reason: upwards for a member who is likelier to leave than to come back,
downwards for one who is likelier to come back. The sentence states the member's own value, not the model's opinion.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forecasting.retention import RetentionLSTM
from forecasting.retention_data import CHANNELS, STATIC, Cases

# Inputs of each driver: columns of `static` and of `sequence`. What a member did lately follows from when it was last
# seen. Lateness belongs to two and is computed afresh.
DRIVERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "recency": (
        ("recency", "hours", "events_7", "days_7", "events_28", "days_28", "events_84", "days_84", "trend"),
        ("ago",),
    ),
    "activity": (("events", "active_days", "last_events", "first_events"), ("events", "present", "again")),
    "tenure": (("tenure",), ()),
    "rhythm": (("usual_gap",), ("gap",)),
}

LEAST_EFFECT = 0.005  # what moves the chance by less is no reason


@dataclass(frozen=True, eq=False)
class Reference:
    """The inputs of a typical member who came back."""

    sequence: Tensor  # (n_visits, channels)
    static: Tensor  # (features,)

    @staticmethod
    def of(content: dict[str, Any]) -> "Reference":
        """From a run's window.json."""
        sequence, static = (torch.tensor(content[name], dtype=torch.float32) for name in ("sequence", "static"))
        return Reference(sequence, static)


@torch.no_grad()
def top_reasons(
    module: RetentionLSTM, cases: Cases, reference: Reference
) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Each case's probability of a return, its reason in words, what that does, and the days to the next visit.

    What a reason does is the change of the probability when the driver is as with a typical member who came back, 0
    without a reason. Shapes: (cases,), one string for each, (cases,), (cases,).

    All drivers are tried in one pass over (drivers x cases) inputs.
    """
    sequence, static = torch.from_numpy(cases.sequence), torch.from_numpy(cases.static)
    tried = [(sequence, static), *(changed(sequence, static, reference, driver) for driver in DRIVERS)]
    inputs = [torch.cat(parts).to(module.device) for parts in zip(*tried, strict=True)]
    survival = module.survival(*inputs)
    p = module.p_return(survival).cpu().numpy().reshape(len(tried), len(cases))
    days = module.expected_days(survival[: len(cases)]).cpu().numpy()
    effect = p[1:] - p[0]  # (drivers, cases)
    leaving = p[0] < 0.5
    best = np.where(leaving, effect.argmax(0), effect.argmin(0))
    moves = np.where(leaving, effect.max(0) > LEAST_EFFECT, effect.min(0) < -LEAST_EFFECT)
    reasons = np.full(len(cases), "nothing out of the ordinary", object)
    for number, driver in enumerate(DRIVERS):
        inputs_of, words = PHRASES[driver]
        rows = np.flatnonzero(moves & (best == number))
        columns = [STATIC.index(name) for name in inputs_of]
        values = np.round(np.expm1(cases.static[rows][:, columns].astype(float))).astype(int)
        distinct, of_row = np.unique(values, axis=0, return_inverse=True)
        reasons[rows] = np.array([words(*map(int, value)) for value in distinct], object)[of_row.ravel()]
    strongest = np.take_along_axis(effect, best[None], axis=0)[0]
    return p[0], reasons.tolist(), np.where(moves, strongest, 0.0), days


def changed(sequence: Tensor, static: Tensor, reference: Reference, driver: str) -> tuple[Tensor, Tensor]:
    """The inputs with one driver's replaced by the reference's. Shapes: (cases, visits, channels), (cases, static)."""
    static_names, channel_names = DRIVERS[driver]
    sequence, static = sequence.clone(), static.clone()
    for name in channel_names:
        at = CHANNELS.index(name)
        sequence[:, :, at] = reference.sequence[:, at]
    for name in static_names:
        at = STATIC.index(name)
        static[:, at] = reference.static[at]
    recency, gap, late = (STATIC.index(name) for name in ("recency", "usual_gap", "lateness"))
    static[:, late] = static[:, recency] - static[:, gap]
    return sequence, static


def recency_words(days: int) -> str:
    """
    >>> recency_words(0), recency_words(1), recency_words(45)
    ('seen within the last day', 'last seen 1 day ago', 'last seen 45 days ago')
    """
    return "seen within the last day" if days == 0 else f"last seen {count(days, 'day')} ago"


def activity_words(active_days: int, events: int) -> str:
    """
    >>> activity_words(1, 20), activity_words(9, 130)
    ('active on 1 day in all, with 20 events', 'active on 9 days in all, with 130 events')
    """
    return f"active on {count(active_days, 'day')} in all, with {count(events, 'event')}"


def tenure_words(days: int) -> str:
    """
    >>> tenure_words(0), tenure_words(200)
    ('joined within the last day', 'a member for 200 days')
    """
    return "joined within the last day" if days == 0 else f"a member for {count(days, 'day')}"


def rhythm_words(usual_gap: int, active_days: int) -> str:
    """
    >>> rhythm_words(0, 1), rhythm_words(1, 30), rhythm_words(12, 4)
    ('came on 1 day only', 'usually comes every day', 'usually 12 days between visits')
    """
    if active_days <= 1:
        return "came on 1 day only"
    return "usually comes every day" if usual_gap <= 1 else f"usually {usual_gap:,} days between visits"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# The inputs that each driver's words state, in its order.
PHRASES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "recency": (("recency",), recency_words),
    "activity": (("active_days", "events"), activity_words),
    "tenure": (("tenure",), tenure_words),
    "rhythm": (("usual_gap", "active_days"), rhythm_words),
}
