"""What many reviews say together: the share of positive ones over time, what drives it, quotes, and where it turned.

**Share.** The mean of the calibrated p(positive), not the share of reviews labelled positive: counting labels counts
the model's errors as well, and they do not cancel (of 90 % positive reviews a model that is right 85 times in 100
labels 78 %), while the mean of calibrated probabilities is unbiased. A neutral review, near 0.5, so counts half on each
side. The interval is Wilson's (1927) with s the share, n the reviews and z = 1.96; hits need not be whole:

    (s + z²/2n ± z · sqrt(s(1 - s)/n + z²/4n²)) / (1 + z²/n)

It holds for whether a reader liked it, of whom these n are a sample; a mean of probabilities varies less, so it is wide
rather than narrow. That the model is calibrated on these reviews is taken for granted.

**Drivers.** For each aspect a of review i, with m the mean p(positive) of its mentions, the review praises it by
x⁺ = max(0, 2m - 1) and blames it by x⁻ = max(0, 1 - 2m). A ridge regression with a free intercept

    p_i = base + Σ over a of (g_a x⁺_ia + b_a x⁻_ia) + error,    penalty Σ (g_a² + b_a²)

gives effects, in points of share per review that praises or blames it wholly, next to one that does not name it and is
otherwise alike. The penalty is one further mention without any effect. Impact = g_a mean(x⁺_a) + b_a mean(x⁻_a), in
points of share over all the reviews; the impacts and the base add up to the share. Intervals come from the influence of
each review on the impact (HC3 residuals, MacKinnon & White 1985). An effect is what goes together, not a cause, and the
model that reads the aspect reads the review too. A title has too few reviews for effects of its own: it takes the whole
service's as known, and its impacts tell how its mentions add up with them.

**Turned.** For each title, reviews by time with p > 0.5 or not, before and after each of up to ten cuts: Fisher's exact
test, twice the smaller tail, least p times the number of cuts (Bonferroni), then Benjamini & Hochberg (1995) over the
titles. Both steps are exact or safe whatever the share, where the usual approximations for the greatest of many tests
are far off for a run of five bad reviews of a liked title. The time and the shares reported are those of the cut, of
all there are, with the greatest likelihood ratio of two binomials; chosen for being great, they flatter the change.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import xlogy
from scipy.stats import false_discovery_control, hypergeom
from scipy.stats import t as student

from data.errors import UserError
from data.schema import CREATED_AT, ITEM_ID, LABEL, LABELS, REVIEW_ID, TEXT
from nlp.metrics import wilson
from nlp.quotes import choose_quotes
from nlp.scored import Mentions, mentions_of, need, p_positive

PERIODS = ("day", "week", "month", "quarter", "year")
_UP_TO_DAYS = (31, 182, 4 * 366, 12 * 366)  # so a line has at most about 50 points

LEAST_NAMED = 3  # reviews of a title that name an aspect, for an impact by the service's effects
LEAST_REVIEWS, _ROWS_PER_EFFECT = 50, 5  # for effects
_PENALTY = 1.0

_CUTS = 10
_NO_REVIEWS = {"reviews": 0, **dict.fromkeys(LABELS, 0), "share": None, "low": None, "high": None}
DRIVER_COLUMNS = [
    *("aspect", "reviews", "praised", "blamed", "share", "low", "high", "effect_praised", "effect_blamed"),
    *("impact", "impact_low", "impact_high", "against_service"),
]
TURN_COLUMNS = [
    *(ITEM_ID, "direction", "since", "before", "after", "change_points"),
    *("reviews_before", "reviews_after", "p", "q"),
]


def positive_share(scored: pd.DataFrame, by: str | None = None, period: str = "auto") -> pd.DataFrame:
    """Share of positive reviews for each period, in order of time; periods without a review have no row.

    Reviews without p_positive are left out, and those without a time if others have one. Where none has, there is one
    row (for each value of `by`) over all, whose `period` is "all" and whose `start` is missing.

    Args:
        scored: columns label, p_positive and, for more than one row, created_at.
        by: a column to group by, say item_id; rows without a value are left out.
        period: one of `PERIODS`, "all", or "auto": the finest with which the whole span has at most about 50.

    Returns:
        `by` if given, period, start (UTC, of the period), reviews, the number labelled negative, neutral and positive,
        share, low and high (all in [0, 1]).

    Raises:
        UserError: there is no such period or a column is missing.
    """
    if period not in ("auto", "all", *PERIODS):
        raise UserError(f"The period '{period}' is not known: choose auto, all, {', '.join(PERIODS)}.")
    need(scored, LABEL, "p_positive", *([by] if by else []))
    p, time = p_positive(scored), _times(scored)
    keep = ~np.isnan(p) & (scored[by].notna().to_numpy(bool) if by else True)
    dated = time.notna().to_numpy(bool)
    if not (dated & keep).any():
        period = "all"
    if period != "all":
        keep &= dated
        if period == "auto":
            days = (time[keep].max() - time[keep].min()).days
            period = PERIODS[int(np.searchsorted(_UP_TO_DAYS, days))]
    label, first = scored[LABEL].to_numpy(object)[keep], np.zeros(int(keep.sum()), dtype="int64")
    sums = {"reviews": first + 1.0, **{name: label == name for name in LABELS}, "share": p[keep]}
    groups, names = pd.factorize(scored[by].to_numpy(object)[keep], sort=True) if by else (first, [None])
    if period == "all":
        when, begins = first, pd.DatetimeIndex([pd.NaT], dtype="datetime64[us, UTC]")
    else:
        when, begins = _periods(time[keep], period)
    cells, cell = np.unique(groups * len(begins) + when, return_inverse=True)
    total = {name: np.bincount(cell, values, minlength=len(cells)) for name, values in sums.items()}
    low, high = wilson(total["share"], total["reviews"])
    return pd.DataFrame(
        {
            **({by: np.asarray(names, dtype=object)[cells // len(begins)]} if by else {}),
            "period": np.full(len(cells), period, dtype=object),
            "start": begins[cells % len(begins)],
            **{name: total[name].astype(int) for name in ("reviews", *LABELS)},
            "share": total["share"] / total["reviews"],
            "low": low,
            "high": high,
        }
    )


def aspect_drivers(scored: pd.DataFrame, minimum: int = 10, effects: pd.DataFrame | None = None) -> pd.DataFrame:
    """What the reviews say of each aspect and what that does to the share of positive ones, greatest impact first.

    An effect is missing if fewer than `minimum` reviews praise (or blame) the aspect, all are if there are fewer than
    50 reviews or five for each effect; an impact is missing without any effect. No number rather than a wild one.

    Args:
        scored: columns p_positive and aspects (lists of dicts of aspect, p_positive, start, end).
        minimum: see above.
        effects: what this function gave for the whole service: its effects are taken instead, for aspects that at least
            `LEAST_NAMED` reviews name, if there are at least `minimum` reviews. Intervals take them as known.

    Returns:
        aspect; reviews that name it, praise it (mean p above 0.5), blame it; share, the mean p of those that name it,
        in [0, 1] with low and high (Wilson); effect_praised, effect_blamed, impact, impact_low, impact_high in points
        of share (100 is all); against_service, the impact less the service's, missing without `effects`.

    Raises:
        UserError: a column is missing.
    """
    need(scored, "p_positive", "aspects")
    return _drivers(p_positive(scored), mentions_of(scored), minimum, effects)


def _drivers(p: np.ndarray, mentions: Mentions, minimum: int = 10, effects: pd.DataFrame | None = None) -> pd.DataFrame:
    known = np.flatnonzero(~np.isnan(p))
    y, n = p[known], len(known)
    cell, names, k = mentions.row * len(mentions.names) + mentions.code, mentions.names, len(mentions.names)
    times = np.bincount(cell, minlength=len(p) * k).reshape(len(p), k)[known]
    mean = np.bincount(cell, mentions.p, minlength=len(p) * k).reshape(len(p), k)[known] / np.maximum(times, 1)
    said = times > 0
    signed = np.where(said, 2 * mean - 1, 0.0)
    x = np.concatenate([np.maximum(signed, 0), np.maximum(-signed, 0)], axis=1)  # (reviews, praise then blame)
    count, total = said.sum(axis=0), mean.sum(axis=0)
    low, high = wilson(total, count)
    if effects is None:
        effect, influence = _fitted(x, y, minimum)
        ready = ~np.isnan(effect).reshape(2, k).all(axis=0)
    else:
        table = effects.drop_duplicates("aspect").set_index("aspect").reindex(names)
        effect = np.concatenate([table["effect_praised"], table["effect_blamed"]]).astype("float64")
        influence = np.zeros_like(x)
        ready = (count >= LEAST_NAMED) & (n >= minimum) & ~np.isnan(effect).reshape(2, k).all(axis=0)
    b, at = np.nan_to_num(effect), x.mean(axis=0) if n else np.zeros(2 * k)
    moved = (at * influence + b * (x - at)).reshape(n, 2, k).sum(axis=1)
    spread = np.sqrt((moved**2).sum(axis=0) / max(1, n * (n - 1))) * (student.ppf(0.975, n - 1) if n > 1 else np.nan)
    impact = np.where(ready, (at * b).reshape(2, k).sum(axis=0), np.nan)
    found = pd.DataFrame(
        {
            "aspect": names,
            "reviews": count,
            "praised": (signed > 0).sum(axis=0),
            "blamed": (signed < 0).sum(axis=0),
            "share": total / np.maximum(count, 1),
            "low": low,
            "high": high,
            "effect_praised": effect[:k],
            "effect_blamed": effect[k:],
            "impact": impact,
            "impact_low": impact - spread,
            "impact_high": impact + spread,
            "against_service": impact - table["impact"].to_numpy("float64") if effects is not None else np.nan,
        }
    )
    found = found[found["reviews"] > 0]
    order = np.lexsort((found["aspect"].to_numpy(str), -found["reviews"], -found["impact"].abs().fillna(-1)))
    return found.iloc[order].reset_index(drop=True)


def turned(
    scored: pd.DataFrame,
    as_of: pd.Timestamp | None = None,
    recent_days: float | None = None,
    minimum: int = 8,
    false_discovery: float = 0.05,
    least_points: float = 10.0,
) -> pd.DataFrame:
    """Titles whose share of positive reviews changed at some time, surest first (see the module's docstring).

    Reviews without a title, a time or p_positive do not count; without any time there is no row.

    Args:
        scored: columns item_id, p_positive, created_at.
        as_of: the dataset's clock; later reviews do not count. None: the last review's time.
        recent_days: leave out what changed more days before `as_of`. None: leave out nothing.
        minimum: reviews of a title before and after a change, at least.
        false_discovery: of the titles returned, at most this share on average has not changed.
        least_points: smaller changes, in points of share, are left out, however certain they are.

    Returns:
        item_id, direction (up, down), since (time of the first review after the change), before and after (shares),
        change_points, reviews_before, reviews_after, p (of no change, after Bonferroni), q (Benjamini and Hochberg).

    Raises:
        UserError: a column is missing or an argument out of range.
    """
    if minimum < 1 or not 0 < false_discovery < 1:
        raise UserError("Turned titles need a minimum of 1 or more and a false_discovery between 0 and 1.")
    need(scored, ITEM_ID, "p_positive")
    p, time = p_positive(scored), _times(scored)
    clock = time.max() if as_of is None else _utc(as_of)
    keep = ((time <= clock) & scored[ITEM_ID].notna().to_numpy(bool)).to_numpy(bool) & ~np.isnan(p)
    if not keep.any():
        return pd.DataFrame(columns=TURN_COLUMNS)
    code, names = pd.factorize(scored[ITEM_ID].to_numpy(object)[keep])
    ticks = time[keep].to_numpy("datetime64[us]").astype("int64")
    order = np.lexsort((ticks, code))
    code, ticks, p = code[order], ticks[order], p[keep][order]
    n = np.bincount(code)
    start = np.cumsum(n) - n
    first, last = start + minimum, start + n - minimum  # where the later part may begin

    # A cut lies between two times, never among reviews of the same one.
    begins = np.concatenate([[True], (ticks[1:] != ticks[:-1]) | (code[1:] != code[:-1])])
    at = np.arange(len(code))
    following = np.minimum.accumulate(np.where(begins, at, len(at))[::-1])[::-1]
    title = np.repeat(np.arange(len(n)), _CUTS)
    spaced = first[title] + np.round((last - first)[title] * np.tile(np.linspace(0, 1, _CUTS), len(n))).astype(int)
    possible = last[title] >= first[title]
    cut = following[spaced[possible]]
    title, cut = np.unique(np.stack([title[possible], cut])[:, cut <= last[title[possible]]], axis=1)
    if not len(cut):
        return pd.DataFrame(columns=TURN_COLUMNS)
    before = np.concatenate([[0], np.cumsum(p > 0.5)])
    hits, of, all_hits = before[cut] - before[start[title]], cut - start[title], before[start + n] - before[start]
    rest = (n[title], all_hits[title], of)
    tails = np.minimum(hypergeom.cdf(hits, *rest), hypergeom.sf(hits - 1, *rest))
    least = pd.Series(2 * tails).groupby(title).agg(["min", "size"])
    value = np.minimum(1, (least["min"] * least["size"]).to_numpy())
    q = false_discovery_control(value)
    sure = least.index.to_numpy()[q <= false_discovery]

    anywhere = np.flatnonzero(begins & (at >= first[code]) & (at <= last[code]) & np.isin(code, sure))
    of_title = code[anywhere]
    likelihood = _log_likelihood(before[anywhere] - before[start[of_title]], anywhere - start[of_title])
    likelihood += _log_likelihood(before[(start + n)[of_title]] - before[anywhere], (start + n)[of_title] - anywhere)
    best = anywhere[pd.Series(likelihood).groupby(of_title).idxmax().to_numpy(int)]
    total = np.concatenate([[0.0], np.cumsum(p)])
    found = pd.DataFrame(
        {
            ITEM_ID: np.asarray(names, dtype=object)[sure],
            "since": pd.to_datetime(ticks[best], unit="us", utc=True),
            "before": (total[best] - total[start[sure]]) / (best - start[sure]),
            "after": (total[(start + n)[sure]] - total[best]) / ((start + n)[sure] - best),
            "reviews_before": best - start[sure],
            "reviews_after": (start + n)[sure] - best,
            "p": value[q <= false_discovery],
            "q": q[q <= false_discovery],
        }
    )
    found["change_points"] = 100 * (found["after"] - found["before"])
    found["direction"] = np.where(found["change_points"] > 0, "up", "down")
    found = found[found["change_points"].abs() >= least_points]
    if recent_days is not None:
        found = found[found["since"] >= clock - pd.Timedelta(days=recent_days)]
    return found.sort_values(["p", ITEM_ID], ignore_index=True)[TURN_COLUMNS]


def digest(
    scored: pd.DataFrame,
    titles: Mapping[str, str] | None = None,
    item_id: str | None = None,
    service: Mapping[str, Any] | None = None,
    as_of: pd.Timestamp | None = None,
    recent_days: float | None = None,
    n_quotes: int = 2,
) -> dict[str, Any]:
    """All of it for the whole service or one title, of strings, numbers, lists and None only: ready for JSON.

    Make the service's once and give it to each title's: whether a title turned is decided among all, and its aspects
    have their effects from all. Without it they are computed anew, or for a frame of that title alone, from that title.

    Args:
        scored: see the functions above; all reviews, also for one title.
        titles: name of each item_id.
        item_id: the title; None: the whole service.
        service: what this function gave for the whole service.
        as_of, recent_days: see `turned`; they have no effect if `service` is given.
        n_quotes: for each side.

    Returns:
        item_id, title; reviews, negative, neutral, positive, share, low, high (over all times); period and over_time
        (rows of `positive_share`), note (None or why there is no course over time); drivers (rows of `aspect_drivers`),
        rest (points of share that no aspect's impact accounts for); quotes (`for` and `against`: rows of `quotes`);
        turned (rows of `turned`, of a title one or none). Rows with an item_id have a title. Times are ISO 8601.

    Raises:
        UserError: a column is missing.
    """
    names = titles or {}
    if item_id is not None:
        need(scored, ITEM_ID)
        if service is None:
            turns, effects = turned(scored, as_of, recent_days), aspect_drivers(scored)
        else:
            turns = pd.DataFrame(service["turned"], columns=TURN_COLUMNS)
            effects = pd.DataFrame(service["drivers"], columns=DRIVER_COLUMNS)
        turns = turns[turns[ITEM_ID] == item_id]
        scored = scored[(scored[ITEM_ID] == item_id).to_numpy(bool, na_value=False)]
    else:
        turns = turned(scored, as_of, recent_days) if ITEM_ID in scored else pd.DataFrame(columns=TURN_COLUMNS)
        effects = None
    need(scored, REVIEW_ID, TEXT, LABEL, "p_positive", "aspects")
    mentions = mentions_of(scored)
    drivers, best = _drivers(p_positive(scored), mentions, effects=effects), choose_quotes(scored, mentions, n_quotes)
    total, course = positive_share(scored, period="all"), positive_share(scored)
    whole = (_records(total.drop(columns=["period", "start"])) or [_NO_REVIEWS])[0]
    period = str(course["period"].iloc[0]) if len(course) else "all"
    undated = int(whole["reviews"]) - int(course["reviews"].sum())
    note = None
    if not whole["reviews"]:
        note = "There are no reviews yet."
    elif period == "all":
        note = "These reviews have no dates: there is no course over time."
    elif undated:
        note = f"{undated:,} of {whole['reviews']:,} reviews have no date and are not in the course."
    return {
        ITEM_ID: item_id,
        "title": names.get(item_id) if item_id is not None else None,
        **whole,
        "period": period,
        "over_time": _records(course.drop(columns="period")),
        "note": note,
        "drivers": _records(drivers),
        "rest": 100 * whole["share"] - float(drivers["impact"].sum()) if drivers["impact"].notna().any() else None,
        "quotes": {side: _records(best[best["side"] == side], names) for side in ("for", "against")},
        "turned": _records(turns, names),
    }


def _utc(time: pd.Timestamp) -> pd.Timestamp:
    stamp = pd.Timestamp(time)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _times(scored: pd.DataFrame) -> pd.Series:
    if CREATED_AT not in scored:
        return pd.Series(pd.NaT, index=scored.index, dtype="datetime64[us, UTC]")
    return pd.to_datetime(scored[CREATED_AT], utc=True)


def _periods(time: pd.Series, period: str) -> tuple[np.ndarray, pd.DatetimeIndex]:
    """Which period each time lies in, and when those periods begin, in order."""
    code = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "Y"}[period]
    ordinal = time.dt.tz_convert(None).dt.to_period(code).array.asi8
    distinct, place = np.unique(ordinal, return_inverse=True)
    starts = pd.PeriodIndex([pd.Period(ordinal=int(at), freq=code) for at in distinct]).start_time
    return place, starts.tz_localize("UTC").as_unit("us")


def _fitted(x: np.ndarray, y: np.ndarray, minimum: int) -> tuple[np.ndarray, np.ndarray]:
    """Effects in points, NaN where too few, and each review's influence on them: (columns,) and (rows, columns)."""
    n, k = x.shape
    effect, influence = np.full(k, np.nan), np.zeros((n, k))
    enough = (x > 0).sum(axis=0) >= max(1, minimum)
    if not enough.any() or n < max(LEAST_REVIEWS, _ROWS_PER_EFFECT * int(enough.sum())):
        return effect, influence
    centred = x[:, enough] - x[:, enough].mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred + _PENALTY * np.eye(int(enough.sum())))
    slope = inverse @ centred.T @ (y - y.mean())
    reach = centred @ inverse
    leverage = 1 / n + (reach * centred).sum(axis=1)
    residual = (y - y.mean() - centred @ slope) / np.maximum(1 - leverage, 1e-6)
    effect[enough], influence[:, enough] = 100 * slope, 100 * n * reach * residual[:, None]
    return effect, influence


def _log_likelihood(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Greatest log-likelihood of a binomial, without its constant; 0 · log 0 = 0."""
    return xlogy(hits, hits / of) + xlogy(of - hits, 1 - hits / of)


def _records(frame: pd.DataFrame, titles: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Rows as dicts that JSON can hold: missing is None, times ISO 8601."""
    columns = {name: [_plain(value) for value in frame[name].tolist()] for name in frame.columns}
    if titles is not None:
        columns["title"] = [titles.get(item) if item is not None else None for item in columns[ITEM_ID]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or value != value:
        return None
    return value.isoformat() if isinstance(value, pd.Timestamp) else value
