"""Daily series as the forecaster counts them, and their names as people read them.

    total            events that show a title was seen        genre:Drama       of those, with a title of the genre
    active_members   distinct members with such an event      title:<item_id>   of those, of the title

Days are UTC; a day without an event counts as zero between the series' first day and the dataset's last.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from dashboard.rows import Viewing
from data.schema import DATE, GENRES, SERIES_ID, VALUE

TOTAL, ACTIVE = "total", "active_members"
_DAY = 86_400_000_000
UNITS = {TOTAL: "events per day", ACTIVE: "members per day"}


def unit(series_id: str) -> str:
    return UNITS.get(series_id, "events per day" if series_id.startswith(("genre:", "title:")) else "per day")


def name(series_id: str, catalogue: pd.DataFrame) -> str:
    """What a person calls the series; never a title's id where its title is known.

    >>> name("genre:Drama", pd.DataFrame())
    'Genre: Drama'
    """
    kind, _, rest = series_id.partition(":")
    if series_id == TOTAL:
        return "All viewing"
    if series_id == ACTIVE:
        return "Active members"
    if kind == "title" and rest:
        return str(catalogue.at[rest, "shown_title"]) if rest in catalogue.index else f"Title {rest}"
    if kind in ("genre", "segment") and rest:
        return f"{kind.capitalize()}: {rest}"
    return series_id


def group(series_id: str) -> str:
    kind = series_id.partition(":")[0]
    return {"genre": "Genres", "title": "Titles", "segment": "Segments"}.get(kind, "Service")


def history(
    series_id: str, seen: Viewing | None, catalogue: pd.DataFrame, metrics: pd.DataFrame | None
) -> pd.DataFrame:
    """`date` (UTC midnight), `value` of a series, oldest first; empty when the dataset does not hold it.

    A ready-made series of the metrics table comes before one counted from interactions.
    """
    if metrics is not None and (own := metrics[metrics[SERIES_ID] == series_id]).size:
        return own[[DATE, VALUE]].sort_values(DATE).reset_index(drop=True)
    if seen is None or len(seen.time) == 0:
        return pd.DataFrame({DATE: pd.Series(dtype="datetime64[us, UTC]"), VALUE: pd.Series(dtype=float)})
    kind, _, rest = series_id.partition(":")
    chosen: Any = slice(None)
    if kind == "title":
        chosen = seen.item == seen.position(rest)
    elif kind == "genre":
        has = np.array([rest in names for names in catalogue[GENRES].reindex(seen.item_ids).map(_names)], dtype=bool)
        chosen = has[seen.item]
    elif series_id not in (TOTAL, ACTIVE):
        chosen = np.zeros(len(seen.time), dtype=bool)
    day = seen.time // _DAY
    first, last = int(day.min()), max(int(day.max()), seen.as_of.value // 1000 // _DAY)
    days = day[chosen] - first
    if series_id == ACTIVE:
        n = len(seen.user_ids)
        days = np.unique(days * n + seen.user) // n
    value = np.bincount(days, minlength=last - first + 1).astype(float)
    dates = pd.to_datetime((np.arange(first, last + 1) * _DAY).astype("datetime64[us]"), utc=True)
    return pd.DataFrame({DATE: dates, VALUE: value})


def _names(names: object) -> Iterable[str]:
    return names if isinstance(names, (list, np.ndarray)) else ()


def summary(past: pd.DataFrame, forecast: pd.DataFrame, days: int) -> dict[str, float]:
    """Sums over the last `days` days, the `days` before them, and the forecast's first `days` days (its medians)."""
    value = past[VALUE].to_numpy()
    return {
        "last": float(value[-days:].sum()),
        "before": float(value[-2 * days : -days].sum()) if len(value) >= 2 * days else float("nan"),
        "next": float(forecast["q50"].head(days).sum()) if len(forecast) else float("nan"),
    }


def change_text(now: float, reference: float, words: str) -> str:
    """ "+12 % on WORDS", or what can be said when there is nothing to compare with."""
    if reference != reference or now != now:
        return f"no {words} to compare with"
    if reference == 0:
        return f"nothing in {words}" if now else f"as {words}"
    return f"{100 * (now / reference - 1):+.0f} % on {words}"
