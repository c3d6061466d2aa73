"""How long a step is, what repeats in it, and how far is far: everything about time that depends on the data.

Steps are whole hours, days or months since 1970-01-01 00:00 UTC in bundles: a week is seven days, a quarter three
months. Months differ in length, so arithmetic is done in numpy's calendar units and never in seconds.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000


@dataclass(frozen=True)
class Frequency:
    """One kind of step.

    Attributes:
        name: as configurations and `--data.frequency` spell it.
        noun: a step, in the singular.
        unit: numpy's calendar unit.
        size: units in a step.
        seasons: periods that repeat, in steps, shortest first; the first is that of seasonal naive and MASE.
        windows: how many steps "lately", "recently" and "for long" are.
        context: steps that the forecaster looks back.
        horizon: steps ahead, unless asked for otherwise.
    """

    name: str
    noun: str
    unit: Literal["h", "D", "M"]
    size: int
    seasons: tuple[int, ...]
    windows: tuple[int, int, int]
    context: int
    horizon: int

    @property
    def step_us(self) -> int:
        """Microseconds in a step. Months have no fixed length; theirs is the mean one."""
        return round({"h": HOUR_US, "D": DAY_US, "M": 30.436875 * DAY_US}[self.unit] * self.size)

    def units(self, micros: np.ndarray) -> np.ndarray:
        """Whole units since 1970 at microseconds since 1970. Shape: as given, int64."""
        return micros.astype("datetime64[us]").astype(f"datetime64[{self.unit}]").astype(np.int64)

    def dates(self, first_unit: int, start: int, stop: int) -> pd.DatetimeIndex:
        """Begin (UTC) of the steps from `start` up to `stop`, counted from the step that begins at `first_unit`."""
        units = first_unit + np.arange(start, stop, dtype=np.int64) * self.size
        return pd.DatetimeIndex(units.astype(f"datetime64[{self.unit}]").astype("datetime64[us]"), tz="UTC")

    def count(self, steps: int) -> str:
        """
        >>> FREQUENCIES["daily"].count(1), FREQUENCIES["hourly"].count(1200)
        ('1 day', '1,200 hours')
        """
        return f"{steps:,} {self.noun}{'' if steps == 1 else 's'}"

    def season(self, n_steps: int) -> int:
        """The first season, if a history of `n_steps` holds two of them; otherwise 1.

        >>> FREQUENCIES["weekly"].season(104), FREQUENCIES["weekly"].season(103)
        (52, 1)
        """
        return self.seasons[0] if n_steps >= 2 * self.seasons[0] else 1


FREQUENCIES = {
    frequency.name: frequency
    for frequency in (
        Frequency("hourly", "hour", "h", 1, (24, 168), (24, 168, 672), 672, 48),
        Frequency("daily", "day", "D", 1, (7,), (7, 28, 84), 112, 28),
        Frequency("weekly", "week", "D", 7, (52,), (4, 13, 52), 208, 8),
        Frequency("monthly", "month", "M", 1, (12,), (3, 12, 36), 60, 12),
        Frequency("quarterly", "quarter", "M", 3, (4,), (2, 8, 16), 32, 4),
        Frequency("yearly", "year", "M", 12, (2,), (2, 5, 10), 30, 4),
    )
}
# The usual distance between two values of a series, in days, up to which each frequency is meant.
_UP_TO = (("hourly", 0.75), ("daily", 3.0), ("weekly", 20.0), ("monthly", 45.0), ("quarterly", 200.0))


def of_distance(days: float) -> Frequency:
    """The frequency whose steps are about `days` long.

    >>> [of_distance(d).name for d in (1 / 48, 1, 7, 30.4, 91, 365)]
    ['hourly', 'daily', 'weekly', 'monthly', 'quarterly', 'yearly']
    """
    return FREQUENCIES[next((name for name, limit in _UP_TO if days <= limit), "yearly")]


def of_events(span_days: float, events_per_day: float, share_of_empty_days: float) -> Frequency:
    """The frequency to count an event log in.

    Hours for under four weeks of a busy log (100 events a day), weeks for two years or more of one whose days are
    mostly empty, otherwise days.

    >>> of_events(10, 500, 0).name, of_events(10, 5, 0.5).name, of_events(1000, 0.3, 0.8).name
    ('hourly', 'daily', 'weekly')
    """
    if span_days < 28 and events_per_day >= 100:
        return FREQUENCIES["hourly"]
    return FREQUENCIES["weekly" if span_days >= 728 and share_of_empty_days > 0.5 else "daily"]
