"""Series as the forecaster counts them (see forecasting/series.py), and their names as people read them."""

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from data.schema import DATE, VALUE
from recsys.viewing import Viewing, shown

if TYPE_CHECKING:
    from forecasting.series import Panel

TOTAL, ACTIVE = "total", "active_members"
_DAY = 86_400_000_000
_NONE = re.compile(r"\(none\)$")


def unit(series_id: str, noun: str, step: str = "day") -> str:
    """What the values count.

    >>> unit("total", "rating"), unit("active_members", "rating"), unit("plays", "rating", step="week")
    ('ratings per day', 'members per day', 'per week')
    """
    if series_id == ACTIVE:
        return f"members per {step}"
    return f"{noun}s per {step}" if series_id == TOTAL or group(series_id) != "Service" else f"per {step}"


def name(series_id: str, catalogue: pd.DataFrame) -> str:
    """What a person calls the series; never a title's id where its title is known.

    >>> name("genre:Drama", pd.DataFrame()), name("genre:(none)", pd.DataFrame())
    ('Genre: Drama', 'Genre: none given')
    """
    kind, _, rest = series_id.partition(":")
    if series_id == TOTAL:
        return "All viewing"
    if series_id == ACTIVE:
        return "Active members"
    if kind == "title" and rest:
        return shown(catalogue, rest) if rest in catalogue.index else f"Title {rest}"
    if kind in ("genre", "segment") and rest:
        return f"{kind.capitalize()}: {_NONE.sub('none given', rest)}"
    return series_id


def group(series_id: str) -> str:
    kind, colon, _ = series_id.partition(":")
    return {"genre": "Genres", "title": "Titles", "segment": "Segments"}.get(kind, "Service") if colon else "Service"


def ordered(series_ids: list[str]) -> list[str]:
    """Each once: the service first, then segments, genres and titles, otherwise in the order given."""
    rank = {"Service": 0, "Segments": 1, "Genres": 2, "Titles": 3}
    first = {TOTAL: -2, ACTIVE: -1}
    return sorted(dict.fromkeys(series_ids), key=lambda s: first.get(s, rank[group(s)]))


def of_panel(panel: "Panel", series_id: str) -> pd.DataFrame:
    """`date` (UTC), `value` of a series of the panel, known steps only; empty for one that it does not hold."""
    dates = panel.dates(0, panel.n_steps)
    if series_id not in panel.series_ids:
        return pd.DataFrame({DATE: dates[:0], VALUE: np.array([], dtype=float)})
    values = panel.values[panel.series_ids.index(series_id)]
    known = ~np.isnan(values)
    return pd.DataFrame({DATE: dates[known], VALUE: values[known]})


def of_title(seen: Viewing, item_id: str) -> pd.DataFrame:
    """`date` (UTC midnight), `value`: events of one title on each day from the first of all to the clock's day."""
    day = seen.time // _DAY
    if len(day) == 0:
        return pd.DataFrame({DATE: pd.to_datetime([], utc=True), VALUE: np.array([], dtype=float)})
    first, last = int(day.min()), max(int(day.max()), seen.as_of.value // 1000 // _DAY)
    value = np.bincount(day[seen.item == seen.position(item_id)] - first, minlength=last - first + 1).astype(float)
    dates = pd.to_datetime((np.arange(first, last + 1) * _DAY).astype("datetime64[us]"), utc=True)
    return pd.DataFrame({DATE: dates, VALUE: value})


def window(past: pd.DataFrame, days: float, back: float = 0) -> pd.DataFrame:
    """The rows of the `days` days that end `back` days before the last one."""
    end = past[DATE].max() - pd.Timedelta(days=back)
    return past[(past[DATE] > end - pd.Timedelta(days=days)) & (past[DATE] <= end)]


def change_text(now: float, reference: float, words: str) -> str:
    """ "+12 % on WORDS", or what can be said when there is nothing to compare with."""
    if reference != reference or now != now:
        return f"{words} are not known"
    if reference == 0:
        return f"nothing in {words}" if now else f"as {words}"
    return f"{100 * (now / reference - 1):+.0f} % on {words}"
