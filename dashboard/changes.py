"""What changed lately, in four numbers and two lists: pure functions of tables, tested without Streamlit.

Everything counts from the dataset's clock. What was "to be expected" of the past is its own level: the mean of the
steps before (28 days, where steps are days). The forecaster looks ahead from the clock only, and the table of unusual
steps holds the rare ones alone, so neither says what a whole week should have been.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboard import series
from dashboard.sparks import Spark
from data.schema import CREATED_AT, DATE, SERIES_ID
from data.words import count, when
from forecasting.winback import BEFORE_DAYS, at_risk, band_changes
from recsys.signals import FEWEST_REVIEWS, soured
from recsys.viewing import RECENT_DAYS

if TYPE_CHECKING:
    from forecasting.series import Panel

WEEKS_SHOWN = 12
_NAN = float("nan")


@dataclass(frozen=True)
class Number:
    """One card: a number with its unit, what it is compared with, and its course; without a number, why there is none.

    Attributes:
        told: sentences under the number, the comparison first.
    """

    label: str
    number: str
    unit: str
    told: tuple[str, ...]
    spark: Spark | None = None


def missing(label: str, why: str) -> Number:
    """A card that says honestly why it has no number."""
    return Number(label, "–", "", (why,))


# Audience ------------------------------------------------------------------------------------------------------------


def audience(panel: "Panel", forecast: pd.DataFrame | None, unusual: pd.DataFrame | None, noun: str) -> Number:
    """The last steps of the whole service against their level before, and what the forecast says of the next ones.

    Where a dataset has only ready-made series, the first of them, as a mean: nobody knows whether they may be added up.

    Args:
        forecast: the score table, or None; what lies before the panel's last known step counts for nothing.
        unusual: the score table, or None.
        noun: what one event is, such as "rating".
    """
    chosen = series.ordered(list(panel.series_ids))[0]
    is_total, steps = chosen == series.TOTAL, panel.frequency
    short, recent = steps.windows[:2]
    past = series.of_panel(panel, chosen)
    name = "Audience" if is_total else chosen
    if past.empty:
        return missing(name, f"No {steps.noun} is over yet up to the dataset's clock.")
    values = panel.values[panel.series_ids.index(chosen)]
    end = int(np.flatnonzero(~np.isnan(values))[-1]) + 1
    lately, before = values[max(0, end - short) : end], values[max(0, end - short - recent) : max(0, end - short)]
    known = int((~np.isnan(before)).sum())
    level = float(np.nanmean(before)) if known else _NAN
    factor = float((~np.isnan(lately)).sum()) if is_total else 1.0
    last = float(np.nanmean(lately)) * factor
    told = [_change(last, level * factor, f"the level of the {steps.count(known)} before", f"{steps.noun}s")]
    coming, ahead = _ahead(forecast, chosen, past[DATE].max(), short)
    if len(ahead):
        expected = float(ahead.sum() if is_total else ahead.mean())
        usual = last / factor * (len(ahead) if is_total else 1)
        told.append(f"{expected:,.0f} forecast for the next {steps.count(len(ahead))}, {_against(expected, usual)}")
    elif coming:
        told.append(coming)
    odd = _odd(unusual, chosen, panel.dates(max(0, end - short), max(0, end - short) + 1)[0])
    if odd:
        told.append(f"{steps.count(odd)} of them unusual: see Engagement")
    shown = values[max(0, end - short - recent) : end]
    spark = Spark(
        tuple(float(v) for v in shown),
        f"{name} in each of the last {steps.count(len(shown))}"
        + (f" and the forecast of the next {steps.count(len(ahead))}" if len(ahead) else ""),
        f"Last {steps.count(len(shown))}{', then the forecast in red' if len(ahead) else ''}; dashed: the level",
        tuple(float(v) for v in ahead),
        level,
    )
    unit = f"{noun}s" if is_total else f"a {steps.noun}, on average"
    return Number(f"{name}, last {steps.count(len(lately))}", f"{last:,.0f}", unit, tuple(told), spark)


def _change(now: float, reference: float, what: str, before: str) -> str:
    """The change on what it is compared with, and how much that is.

    >>> _change(75.0, 100.0, "the level of the 28 days before", "days")
    '−25 % on 100, the level of the 28 days before'
    """
    if reference != reference:
        return f"no {before} before to compare with"
    if reference == 0:
        return f"{'up from' if now else 'as before:'} 0, {what}"
    return f"{_percent(now, reference)} on {reference:,.0f}, {what}"


def _percent(now: float, reference: float) -> str:
    change = round(100 * (now / reference - 1))
    return f"{change:+,d} %".replace("-", "−") if change else "0 %"


def _against(value: float, reference: float) -> str:
    return f"{_percent(value, reference)} on these" if reference else "after none"


def _ahead(
    forecast: pd.DataFrame | None, series_id: str, after: pd.Timestamp, steps: int
) -> tuple[str, "pd.Series[float]"]:
    """What there is to say without a forecast, and the mean forecast of the next steps."""
    nothing = pd.Series(dtype=float)
    if forecast is None:
        return "No forecast yet", nothing
    mine = forecast[forecast[SERIES_ID] == series_id].sort_values(DATE)
    ahead = mine[mine[DATE] > after]["mean"].astype(float).head(steps)
    return ("The forecast ends before the dataset's clock" if len(mine) else "No forecast of this series"), ahead


def _odd(unusual: pd.DataFrame | None, series_id: str, since: pd.Timestamp) -> int:
    return 0 if unusual is None else int(((unusual[SERIES_ID] == series_id) & (unusual[DATE] >= since)).sum())


# Members -------------------------------------------------------------------------------------------------------------


def last_day(panel: "Panel") -> pd.Timestamp:
    """The last day that is over as the panel counts, without a zone: that of its last known step."""
    known = np.flatnonzero(~np.isnan(panel.values).all(axis=0))
    end = int(known[-1]) + 1 if len(known) else panel.n_steps
    return (panel.dates(end, end + 1)[0] - pd.Timedelta(microseconds=1)).tz_localize(None).floor("D")


def active(sticky: pd.DataFrame, last_day: pd.Timestamp, weekly: bool = True) -> Number:
    """Distinct members active in the last 7 days (28, where steps are weeks) against the windows before.

    Args:
        sticky: `forecasting.cohorts.stickiness`: date (without zone), weekly, monthly.
        last_day: the last day that counts, without zone.
        weekly: count 7 days; False: 28.
    """
    days, column = (7, "weekly") if weekly else (28, "monthly")
    known = sticky[sticky[DATE] <= last_day]
    label = f"Active members, last {days} days"
    if known.empty:
        return missing(label, "No member was active up to the dataset's clock.")
    values = known[column].to_numpy(float)
    # A window that reaches back before the first day is not whole.
    before = [values[-1 - days * k] for k in range(1, 5) if len(values) - 1 - days * k >= days - 1]
    now = values[-1]
    level = float(np.mean(before)) if before else _NAN
    weeks = "weeks" if weekly else "times 28 days"
    told = _change(now, level, f"the mean of the {len(before)} {weeks} before" if len(before) > 1 else
                   f"the {days} days before", "days")  # fmt: skip
    shown = values[-days * 5 :]
    words = f"Members active in {days} days, on each of the last {count(len(shown), 'day')}"
    note = f"On each of the last {count(len(shown), 'day')}; dashed: the mean"
    each = f"each counted once, up to {when(last_day)}"
    return Number(label, f"{now:,.0f}", "members", (told, each), Spark(tuple(shown), words, note, level=level))


def risk(retention: pd.DataFrame) -> Number:
    """Members who crossed into the band `high` within the last week, how many are in it, and the visits at stake.

    Args:
        retention: the score table, with a band for each member.
    """
    changes, there = band_changes(retention), at_risk(retention)
    horizon = int(retention["horizon_days"].median()) if retention["horizon_days"].notna().any() else 30
    label = f"Newly at risk, last {BEFORE_DAYS} days"
    share = f"{len(there):,} of {count(len(retention), 'member')} likely to leave in all"
    loss = there["expected_loss"].sum()
    lost = f"expected loss {loss:,.0f} visits in {horizon} days" if there["expected_loss"].notna().any() else ""
    week = there["days_since_last"].fillna(np.inf).to_numpy(float) // 7
    near = week[week < WEEKS_SHOWN].astype(int)
    spark = Spark(
        tuple(np.bincount(near, minlength=WEEKS_SHOWN).astype(float)),
        f"Members likely to leave by weeks since they were last seen, from 0 to {WEEKS_SHOWN - 1}",
        f"Bars: the {len(near):,} likely to leave who were seen within {WEEKS_SHOWN} weeks, this week's first",
        bars=True,
    )
    if changes is None:
        told = [share, lost, "how it was a week before is not in the scores: score retention again to see the change"]
        return Number("Likely to leave", f"{len(there):,}", "members", tuple(filter(None, told)), spark)
    crossed, left = (int(part.sum()) for part in changes)
    young = int((changes[0] & retention["p_return_before"].isna()).sum())
    came = f"{young:,} of them in their first week; " if young else ""
    told = [f"{came}{left:,} left the group meanwhile", share, lost]
    return Number(label, f"{crossed:,}", "members", tuple(filter(None, told)), spark)


def newly_at_risk(retention: pd.DataFrame) -> pd.DataFrame | None:
    """Who crossed into the band `high` within the last week, the largest expected loss first: the columns of
    `at_risk`, and `p_return_before`. None where the table does not know."""
    changes = band_changes(retention)
    if changes is None:
        return None
    crossed = retention[changes[0]]
    found = at_risk(crossed)
    before = crossed.set_index("user_id")["p_return_before"]
    return found.assign(p_return_before=before.reindex(found["user_id"]).to_numpy(float))


# Reviews -------------------------------------------------------------------------------------------------------------


def positive(reviewed: pd.DataFrame, clock: pd.Timestamp) -> Number:
    """The share of positive reviews of the last 28 days against all earlier ones, as means of the probabilities.

    Args:
        reviewed: p_positive and created_at of each scored review; without a date it counts for nothing.
        clock: the dataset's.
    """
    label = f"Positive reviews, last {RECENT_DAYS} days"
    dated = reviewed[reviewed[CREATED_AT].notna() & (reviewed[CREATED_AT] <= clock)]
    if dated.empty:
        return missing(
            label,
            "The scored reviews have no dates, so nobody knows which are recent"
            if len(reviewed)
            else "No review is scored yet",
        )
    since = clock - pd.Timedelta(days=RECENT_DAYS)
    p, late = dated["p_positive"].to_numpy(float), (dated[CREATED_AT] > since).to_numpy()
    recent, earlier = p[late], p[~late]
    spark = _weekly(dated, clock, float(earlier.mean()) if len(earlier) else _NAN)
    if len(recent) < FEWEST_REVIEWS:
        last = when(dated[CREATED_AT].max())
        few = f"{count(len(recent), 'review')} in these days" if len(recent) else f"none since {last}"
        return Number(label, "–", "", (f"{few}: too few for a share", f"{len(earlier):,} before them"), spark)
    told = [f"of {count(len(recent), 'review')}, by the model's probabilities"]
    if len(earlier) < FEWEST_REVIEWS:
        told.insert(0, "too few earlier reviews to compare with")
    else:
        change = recent.mean() - earlier.mean()
        error = np.sqrt(recent.var(ddof=1) / len(recent) + earlier.var(ddof=1) / len(earlier))
        chance = ", no more than chance does" if abs(change) <= 1.96 * error else ""
        told.insert(0, f"{_points(change)} on the {count(len(earlier), 'review')} before ({100 * earlier.mean():.0f} %)"
                       f"{chance}")  # fmt: skip
    return Number(label, f"{100 * recent.mean():.0f}", "% positive", tuple(told), spark)


def _points(change: float) -> str:
    points = round(100 * change)
    return f"{points:+d} points".replace("-", "−") if points else "0 points"


def _weekly(dated: pd.DataFrame, clock: pd.Timestamp, level: float) -> Spark:
    week = (clock - dated[CREATED_AT]).dt.days.to_numpy() // 7
    shown = week < WEEKS_SHOWN
    n = np.bincount(week[shown], minlength=WEEKS_SHOWN)[:WEEKS_SHOWN]
    total = np.bincount(week[shown], weights=dated["p_positive"].to_numpy(float)[shown], minlength=WEEKS_SHOWN)
    share = np.divide(total[:WEEKS_SHOWN], n, out=np.full(WEEKS_SHOWN, _NAN), where=n > 0)[::-1]
    words = f"Share of positive reviews in each of the last {WEEKS_SHOWN} weeks"
    return Spark(tuple(share), words, f"Last {WEEKS_SHOWN} weeks; dashed: before", level=level)


def turned_sour(sentiment: pd.DataFrame) -> pd.DataFrame:
    """The titles whose reviews have soured (see recsys/signals.py), the deepest fall first."""
    found = sentiment[sentiment["item_id"].isin(soured(sentiment))]
    fall = found["earlier_mean"] - found["recent_mean"]
    return found.assign(fall=fall).sort_values(["fall", "item_id"], ascending=[False, True], ignore_index=True)


# What members did in the dashboard ------------------------------------------------------------------------------------

_DONE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "rating": (("rating",), "rating"),
    "watch": (("watch",), "watch"),
    "thumb": (("thumb_up", "thumb_down"), "thumb"),
    "review": (("review",), "review"),
    "list": (("list_add", "list_remove"), "change"),
}


def done_words(counts: Mapping[str, int]) -> str:
    """What members did, in words; empty when they did nothing but look.

    >>> done_words({"rating": 2, "thumb_up": 1, "impression": 60}), done_words({"impression": 60})
    ('2 ratings and 1 thumb', '')
    """
    parts: list[str] = []
    for name, (kinds, noun) in _DONE.items():
        n = sum(counts.get(kind, 0) for kind in kinds)
        if n:
            words = count(n, noun) if noun != "watch" else f"{n:,} watch{'' if n == 1 else 'es'}"
            parts.append(words + (" of lists" if name == "list" else ""))
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def looked(counts: Mapping[str, Any]) -> int:
    """Offers shown and cards opened: no wish of their own, but kept and exported too."""
    return int(counts.get("impression", 0)) + int(counts.get("click", 0))
