"""Which review to answer first: a priority in [0, 1] whose every part can be said in words.

For a review with p = p(positive), its aspects i with p_i and weights w_i (relative to the greatest weight):

    severity   s = (1 - p) · (1 + max(0, 1 - 2p)) / 2    how negative, and how certainly so (distance from 0.5)
    aspect     a = max over i of w_i · max(0, 1 - 2p_i)  the worst thing that it complains of
    recency    r = 2^(-age / half-life)                  age by the dataset's clock, never the wall clock
    others     k = n / (n + 5)                           n others complain of the same aspect of the same title

    priority = (0.7 s + 0.3 a) · (1 + 0.25 r + 0.5 k) / (1 + 0.25 + 0.5)

The first factor is the complaint, the second how pressing it is; without a complaint nothing is pressing. A review
without a time drops the two 0.25, as if recency did not exist; one without a title or a complaint has no others (for a
service's own aspects, such as the price, the title does not matter). More negative, more recent or more others never
lower the priority.

The counts of complaints add up, so a table is triaged in chunks: sum `complaint_counts` over them first, then give the
sum to `priorities`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import UserError
from data.schema import ASPECTS, CREATED_AT, ITEM_ID
from nlp.replies import aspect_phrases

HALF_LIFE_DAYS = 30.0
SEVERITY_SHARE, ASPECT_SHARE = 0.7, 0.3
RECENCY_SHARE, OTHERS_SHARE = 0.25, 0.5
HALF_OTHERS = 5  # so many others count half of what any number can


@dataclass(frozen=True)
class Terms:
    """The parts of the priorities, one value per review; all in [0, 1] but `age_days` and `n_others`."""

    severity: np.ndarray
    aspect: np.ndarray
    recency: np.ndarray  # NaN: the time is not known
    age_days: np.ndarray  # NaN: the time is not known
    others: np.ndarray
    n_others: np.ndarray
    worst: np.ndarray  # name of the aspect that it is most negative about, None: of none
    shared: np.ndarray  # name of the aspect that most others complain of too, None: no others

    def priority(self) -> np.ndarray:
        complaint = SEVERITY_SHARE * self.severity + ASPECT_SHARE * self.aspect
        timed = np.where(np.isnan(self.recency), 0.0, RECENCY_SHARE)
        pressing = 1 + timed * np.nan_to_num(self.recency) + OTHERS_SHARE * self.others
        return complaint * pressing / (1 + timed + OTHERS_SHARE)


def priorities(
    scored: pd.DataFrame,
    as_of: pd.Timestamp | None,
    weights: Mapping[str, float] | None = None,
    counts: pd.Series | None = None,
    service_aspects: Collection[str] = (),
) -> pd.Series:
    """The priority of each review, in [0, 1]; the module's docstring gives the formula.

    Args:
        scored: columns p_positive and aspects (lists of dicts of aspect and p_positive); created_at and item_id may be
            missing, as a column or in a row. Without p_positive a review counts as undecided.
        as_of: the dataset's clock; None: recency has no effect.
        weights: of aspects, 1 for those not named; only their ratios matter.
        counts: sum of `complaint_counts` over all reviews, these included; None: these are all.
        service_aspects: aspects that are the service's own, counted over all titles.

    Raises:
        UserError: a weight is negative or no number, or a column is missing.
    """
    terms = terms_of(scored, as_of, weights, counts, service_aspects)
    return pd.Series(terms.priority(), index=scored.index, name="priority", dtype="float64")


def priority_reason(
    scored: pd.DataFrame,
    as_of: pd.Timestamp | None,
    weights: Mapping[str, float] | None = None,
    counts: pd.Series | None = None,
    service_aspects: Collection[str] = (),
) -> pd.Series:
    """The main reason for each priority, such as "Very negative about the ending; 14 others say the same".

    The arguments are those of `priorities`.
    """
    terms = terms_of(scored, as_of, weights, counts, service_aspects)
    p = _p_positive(scored)
    feeling = np.select(
        [p < 0.15, p < 0.4, p <= 0.6, p <= 0.85],
        ["Very negative", "Negative", "Undecided", "Positive"],
        "Very positive",
    ).astype(object)
    about = _phrase(terms.worst)
    links = np.select([p < 0.4, p <= 0.6], [" about ", ", negative about "], ", but not about ").astype(object)
    some = terms.worst != None  # noqa: E711 - element by element
    head = feeling + np.where(some, links + about, "")

    n = terms.n_others
    says = np.where(n == 1, "1 other says", pd.Series(n).map("{:,} others say".format).to_numpy(object)).astype(object)
    same = np.where(terms.shared == terms.worst, " the same", " the same about " + _phrase(terms.shared))
    recent = np.select(
        [terms.age_days <= 1, terms.age_days <= 7, terms.age_days <= 31],
        ["; written in the last day", "; written in the last week", "; written in the last month"],
        "",
    ).astype(object)
    by_others = (n > 0) & (OTHERS_SHARE * terms.others >= RECENCY_SHARE * np.nan_to_num(terms.recency))
    tail = np.where(by_others | ((n > 0) & (recent == "")), "; " + says + same, recent)
    return pd.Series(head + tail, index=scored.index, name="priority_reason", dtype=object)


def complaint_counts(scored: pd.DataFrame, service_aspects: Collection[str] = ()) -> pd.Series:
    """How many reviews complain of each aspect of each title; index (item_id, aspect), "" for all titles.

    Sum them over chunks with `first.add(second, fill_value=0)`.
    """
    return _counted(_keyed(_complaints(scored, {}), scored, service_aspects))


def terms_of(
    scored: pd.DataFrame,
    as_of: pd.Timestamp | None,
    weights: Mapping[str, float] | None = None,
    counts: pd.Series | None = None,
    service_aspects: Collection[str] = (),
) -> Terms:
    """The parts of the priorities; the arguments are those of `priorities`."""
    weights = dict(weights or {})
    for name, weight in weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise UserError(f"The weight {weight} of aspect '{name}' must be 0 or more: 1 is what others have.")
    n = len(scored)
    p = _p_positive(scored)
    complaints = _complaints(scored, weights)
    aspect, worst = np.zeros(n), np.full(n, None, dtype=object)
    first = complaints.sort_values(["row", "weight"], ascending=[True, False], kind="stable").drop_duplicates("row")
    first = first[first["weight"] > 0]
    aspect[first["row"]], worst[first["row"]] = first["weight"], first["aspect"]

    keyed = _keyed(complaints[complaints["weight"] > 0], scored, service_aspects)
    known = _counted(_keyed(complaints, scored, service_aspects)) if counts is None else counts
    both = pd.MultiIndex.from_frame(keyed[["title", "aspect"]])
    keyed = keyed.assign(others=np.maximum(known.reindex(both).fillna(1).to_numpy() - 1, 0))
    # Of equally shared aspects the one that the review is most negative about.
    keyed = keyed[keyed["others"] > 0].sort_values(["row", "others", "weight"], ascending=[True, False, False])
    most = keyed.drop_duplicates("row")
    n_others, shared = np.zeros(n, dtype=np.int64), np.full(n, None, dtype=object)
    n_others[most["row"]], shared[most["row"]] = most["others"].astype(np.int64), most["aspect"]

    age = _age_days(scored, as_of)
    return Terms(
        severity=(1 - p) * (1 + np.maximum(0, 1 - 2 * p)) / 2,
        aspect=aspect,
        recency=2 ** (-age / HALF_LIFE_DAYS),
        age_days=age,
        others=n_others / (n_others + HALF_OTHERS),
        n_others=n_others,
        worst=worst,
        shared=shared,
    )


def _p_positive(scored: pd.DataFrame) -> np.ndarray:
    if "p_positive" not in scored:
        raise UserError(f"Scored reviews need the column 'p_positive' (found: {', '.join(map(str, scored))}).")
    return scored["p_positive"].astype("float64").fillna(0.5).clip(0, 1).to_numpy()


def _complaints(scored: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """Each aspect that a review is negative about, once: row (position), aspect, weight (w_i · max(0, 1 - 2p_i))."""
    if "aspects" not in scored:
        raise UserError(f"Scored reviews need the column 'aspects' (found: {', '.join(map(str, scored))}).")
    lists = scored["aspects"].astype(object)
    listed = pa.array(lists.where(lists.notna(), None).tolist(), type=ASPECTS)
    found = pc.list_flatten(listed)
    names = found.field("aspect").to_numpy(zero_copy_only=False)
    strength = 1 - 2 * found.field("p_positive").to_numpy(zero_copy_only=False).astype("float64")
    frame = pd.DataFrame(
        {"row": pc.list_parent_indices(listed).to_numpy(zero_copy_only=False), "aspect": names, "weight": strength}
    )
    frame = frame[(frame["weight"] > 0) & frame["aspect"].notna()]
    # Weights only rank aspects against each other: a service that doubles all of them has changed nothing.
    relative = {name: weight / max([1.0, *weights.values()]) for name, weight in weights.items()}
    other = 1.0 / max([1.0, *weights.values()])
    frame = frame.assign(weight=frame["weight"].clip(0, 1) * frame["aspect"].map(relative).fillna(other))
    return frame.sort_values("weight", ascending=False, kind="stable").drop_duplicates(["row", "aspect"])


def _keyed(complaints: pd.DataFrame, scored: pd.DataFrame, service_aspects: Collection[str]) -> pd.DataFrame:
    """The complaints that others can share, with their title: "" for the service's own aspects."""
    if ITEM_ID in scored:
        items = scored[ITEM_ID].astype(object).to_numpy()[complaints["row"]]
    else:
        items = np.full(len(complaints), None, dtype=object)
    titles = pd.Series(items, index=complaints.index, dtype=object).mask(
        complaints["aspect"].isin(list(service_aspects)), ""
    )
    return complaints.assign(title=titles)[titles.notna()]


def _counted(keyed: pd.DataFrame) -> pd.Series:
    return keyed.groupby(["title", "aspect"]).size().rename_axis([ITEM_ID, "aspect"]).rename("n")


def _age_days(scored: pd.DataFrame, as_of: pd.Timestamp | None) -> np.ndarray:
    """Days before the clock, 0 for what is later; NaN where the time or the clock is not known."""
    if as_of is None or pd.isna(as_of) or CREATED_AT not in scored:
        return np.full(len(scored), np.nan)
    clock = pd.Timestamp(as_of)
    clock = clock.tz_localize("UTC") if clock.tzinfo is None else clock.tz_convert("UTC")
    created = pd.to_datetime(scored[CREATED_AT], utc=True)
    return ((clock - created) / pd.Timedelta(days=1)).clip(lower=0).to_numpy(dtype="float64")


def _phrase(names: np.ndarray) -> np.ndarray:
    """The phrase of each aspect's name, "" for None."""
    phrases = {name: aspect_phrases(name)[0] for name in pd.unique(pd.Series(names, dtype=object).dropna())}
    return pd.Series(names, dtype=object).map(phrases).fillna("").to_numpy(object)
