"""Whether a dataset is enough for each model: what is there, what is missing, how much more, and what to expect.

A check has two thresholds. Below `least` a training refuses the data, or what comes of it is not worth serving: the
model is not ready. Below `enough` it is thin: it trains and is measured, and the check says what not to expect.

Where the thresholds are from:

- **Recommender**: the minimum (1,000 interactions, 25 members with two or more) and the advice (50,000 interactions of
  1,000 members with two or more) are Amazon Personalize's ("Domain use cases" in its developer guide). What lies
  between was measured on parts of MovieLens 100K with the quick configuration (docs/monitoring.md): with 12 to 100
  members, 1,658 to 10,323 events, HistoryNet could not be told apart from popularity; with 250 it was twice as good.
  With three events for each of 943 members it was popularity; with five it was ahead by 29 %, with ten by 136 %. A
  member needs three titles to be measured: one to learn from, one to choose by, one to test on.
- **Sentiment**: 20 reviews of each label is where the training refuses (nlp/splits.py). How accuracy grows with reviews
  was measured on Rotten Tomatoes, see docs/monitoring.md; 1,000 of each leave 100 of each for the test.
- **Engagement**: the shortest history that a forecast can be checked with, and the one from which on a whole horizon is
  tested, follow from forecasting/engagement_data.py. A yearly rhythm needs to be seen twice.
- **Retention**: 104 days are three horizons of 30 and two weeks before them (forecasting/retention_data.py). To judge
  probabilities takes 100 members with and 100 without the outcome: Vergouwe et al., "Substantial effective sample sizes
  were required for external validation studies of predictive logistic regression models", J Clin Epidemiol 58 (2005).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data import tallies
from data.dataset import Dataset
from data.errors import UserError
from data.runs import MODELS
from data.words import count

READY, THIN, MISSING = "ready", "thin", "not ready"
LEAST_EVENTS, ENOUGH_EVENTS = 1_000, 50_000
LEAST_MEMBERS, ENOUGH_MEMBERS = 25, 1_000
FEW_MEMBERS, FEW_EACH = 250, 5
LEAST_REVIEWS, ENOUGH_REVIEWS = 20, 1_000
HORIZON_DAYS, HISTORY_DAYS = 30, 14
ENOUGH_OUTCOMES = 100
# Steps of a forecast, as forecasting/frequency.py chooses them: noun, days, what is "lately", horizon.
STEPS = {
    "hourly": ("hour", 1 / 24, 24, 48),
    "daily": ("day", 1.0, 7, 28),
    "weekly": ("week", 7.0, 4, 8),
    "monthly": ("month", 30.436875, 3, 12),
    "quarterly": ("quarter", 91.310625, 2, 4),
    "yearly": ("year", 365.2425, 2, 4),
}
_UP_TO = (("hourly", 0.75), ("daily", 3.0), ("weekly", 20.0), ("monthly", 45.0), ("quarterly", 200.0))
VALIDATION_HORIZONS = 2
_NO_TIMES = (
    "The rows have an order but no real times, and without times there are no forecasts: import the dataset again with "
    "--map timestamp=COLUMN."
)


@dataclass(frozen=True)
class Check:
    """One count beside what it should be.

    Attributes:
        what: what is counted, in the plural.
        have: how many there are.
        least: below this the model is not ready.
        enough: below this it is thin.
        why: what happens below `least`, after "needed": "to measure anything".
        expect: what to expect below `enough`, a sentence.
    """

    what: str
    have: float
    least: float
    enough: float
    why: str = ""
    expect: str = ""

    @property
    def state(self) -> str:
        return MISSING if self.have < self.least else THIN if self.have < self.enough else READY

    @property
    def more(self) -> float:
        """How many more are needed to be ready, or where it is thin to be enough."""
        return max(0, (self.least if self.state == MISSING else self.enough) - self.have)

    @property
    def told(self) -> str:
        """
        >>> Check("members", 20, 25, 1000, "to learn from others").told
        'Members: 20, and at least 25 are needed to learn from others: 5 more.'
        >>> Check("members", 900, 25, 1000, expect="Little.").told
        'Members: 900, 100 short of 1,000. Little.'
        """
        have, more = f"{self.what[:1].upper()}{self.what[1:]}: {self.have:,.0f}", f"{self.more:,.0f}"
        if self.state == MISSING:
            return (
                f"{have}, and at least {self.least:,.0f} are needed{f' {self.why}' if self.why else ''}: {more} more."
            )
        return f"{have}, {more} short of {self.enough:,.0f}. {self.expect}" if self.state == THIN else ""


@dataclass(frozen=True)
class Readiness:
    """How ready a dataset is for one model: the worst of the checks, unless something rules the model out."""

    model: str
    checks: tuple[Check, ...] = ()
    ruled_out: str = ""  # a sentence
    remarks: tuple[str, ...] = field(default=())

    @property
    def state(self) -> str:
        states = {check.state for check in self.checks}
        if self.ruled_out or MISSING in states:
            return MISSING
        return THIN if THIN in states else READY

    @property
    def told(self) -> list[str]:
        """What is missing and what to expect, the worst first; empty where all is well."""
        if self.ruled_out:
            return [self.ruled_out]
        worst = sorted(self.checks, key=lambda check: (MISSING, THIN, READY).index(check.state))
        return [check.told for check in worst if check.told] + list(self.remarks)

    @property
    def line(self) -> str:
        """All in one line, for the start of a training."""
        there = ", ".join(f"{check.have:,.0f} {check.what}" for check in self.checks[:2])
        head = f"Data for the {self.model}: {self.state}"
        if self.state == READY:
            return f"{head} ({there})."
        return f"{head}. {self.told[0]}" + (" See 'python -m data ready'." if len(self.told) > 1 else "")

    def as_json(self) -> dict[str, Any]:
        checks = [
            {"what": c.what, "have": c.have, "least": c.least, "enough": c.enough, "more": c.more, "state": c.state}
            for c in self.checks
        ]
        return {"model": self.model, "state": self.state, "checks": checks, "told": self.told}


def readiness(dataset: Dataset, model: str, horizon_days: int = HORIZON_DAYS) -> Readiness:
    """How ready `dataset` is for `model`.

    Args:
        dataset: on disk.
        model: one of data.runs.MODELS.
        horizon_days: of retention: within how many days a member is to come back.

    Raises:
        UserError: a table is damaged.
    """
    if model == "retention":
        return _retention(dataset, horizon_days)
    return {"recommender": _recommender, "sentiment": _sentiment, "engagement": _engagement}[model](dataset)


def all_readiness(dataset: Dataset, models: Sequence[str] = MODELS) -> list[Readiness]:
    """Every model's, in the order of `models`.

    Raises:
        UserError: a table is damaged.
    """
    return [readiness(dataset, model) for model in models]


def require_ready(found: Sequence[Readiness], dataset: str) -> None:
    """Raises:
    UserError: one is not ready.
    """
    missing = [one for one in found if one.state == MISSING]
    if missing:
        raise UserError(
            f"Dataset '{dataset}' is not ready for {' and '.join(one.model for one in missing)}: {missing[0].told[0]}"
        )


# -- each model --------------------------------------------------------------------------------------------------------


def _recommender(dataset: Dataset) -> Readiness:
    if not dataset.has("interactions"):
        return Readiness("recommender", ruled_out="There are no interactions: import who watched or rated what.")
    found = tallies.wanted(dataset)
    if found.events == 0:
        return Readiness(
            "recommender",
            ruled_out="No interaction says which title a member wanted: import rows with an item_id and a kind of "
            "rating, watch, thumb_up or list_add.",
        )
    each = found.events / found.members
    if found.members_with_two < FEW_MEMBERS or each < FEW_EACH:
        few = (
            f"With {found.members:,} members and {each:.1f} titles for each, expect no more than a list of the most "
            f"popular gives; with {FEW_MEMBERS} members and {FEW_EACH} titles each it pulls ahead."
        )
    else:
        few = "Expect it ahead of popularity, and by less than with more."
    checks = (
        Check("interactions", found.events, LEAST_EVENTS, ENOUGH_EVENTS, "before it can beat popularity", few),
        Check(
            "members with two titles or more", found.members_with_two, LEAST_MEMBERS, ENOUGH_MEMBERS,
            "to learn one member's taste from another's",
            "Intervals around the figures are wide: which of two runs is better may stay open.",
        ),
        Check("members with three titles or more", found.members_with_three, 1, LEAST_MEMBERS,
              "to hold one out and measure", "The figures rest on so few members that they are hardly figures."),
        Check("titles", found.titles, 2, 50, "to have a choice",
              "With so few there is little to choose: a list of the most popular holds most of them."),
    )  # fmt: skip
    rare = 1 - found.titles_with_five / max(1, found.titles)
    remarks = []
    if rare > 0.5:
        remarks.append(
            f"{rare:.0%} of the titles were wanted fewer than five times: they are recommended by year, genre and "
            "name, if at all."
        )
    if dataset.time_kind == "order":
        remarks.append("The rows have an order but no times: the recommender works, nothing is 'trending' or 'recent'.")
    return Readiness("recommender", checks, remarks=tuple(remarks))


def _sentiment(dataset: Dataset) -> Readiness:
    if not dataset.has("reviews"):
        return Readiness(
            "sentiment", ruled_out="There are no reviews: import them with their text, and label or stars."
        )
    found = tallies.labelled(dataset)
    if found.positive + found.negative == 0:
        return Readiness(
            "sentiment",
            ruled_out=f"{count(found.reviews, 'review')} without label or stars: nothing can be learnt from them, but "
            "a model of another dataset scores them.",
        )
    expect = "The model reads, but which of two runs is better stays open: so few are left to test on."
    why = "to train at all; a model of another dataset can score them meanwhile"
    checks = tuple(
        Check(f"{mood} reviews", n, LEAST_REVIEWS, ENOUGH_REVIEWS, why, expect)
        for mood, n in (("positive", found.positive), ("negative", found.negative))
    )
    less, more = sorted((found.positive, found.negative))
    remarks: tuple[str, ...] = ()
    if less and more / less > 9:
        remarks = (f"One label has {more / less:.0f} times as many reviews as the other: look at AUROC, not accuracy.",)
    return Readiness("sentiment", checks, remarks=remarks)


def _engagement(dataset: Dataset) -> Readiness:
    if not (dataset.has("interactions") or dataset.has("metrics")):
        return Readiness("engagement", ruled_out="There are neither interactions nor ready-made series to forecast.")
    if dataset.time_kind == "order":
        return Readiness("engagement", ruled_out=_NO_TIMES)
    remarks = []
    if dataset.has("interactions"):
        seen = tallies.calendar(dataset, HORIZON_DAYS)
        empty = 1 - seen.active_days / max(1.0, seen.viewing_days)
        busy = seen.viewing_days < 28 and seen.viewing_events / max(seen.viewing_days, 1) >= 100
        name = "hourly" if busy else "weekly" if seen.viewing_days >= 728 and empty > 0.5 else "daily"
        noun, days, lately, horizon = STEPS[name]
        unit = 3_600_000_000 if name == "hourly" else 86_400_000_000
        steps = (seen.clock_us // unit - seen.first_us // unit + 1) // (7 if name == "weekly" else 1)
        if name == "daily" and empty > 0.5:
            remarks.append(f"{empty:.0%} of the days saw nobody: expect the mean with wide intervals, not a rhythm.")
    else:
        steps, gap = tallies.series_steps(dataset)
        noun, days, lately, horizon = STEPS[next((name for name, limit in _UP_TO if gap <= limit), "yearly")]
    if steps * days < 2 * 365:
        remarks.append("With less than two years no yearly rhythm (holidays, summer) can be learnt.")
    least, enough = lately + 2 + VALIDATION_HORIZONS, 2 * lately + (2 + VALIDATION_HORIZONS) * horizon
    tested = max(1, min(horizon, (steps - 2 * lately) // (2 + VALIDATION_HORIZONS)))
    check = Check(
        f"{noun}s of history", steps, least, enough, "to check a forecast",
        f"The forecast of {count(horizon, noun)} is tested on {count(tested, noun)} only: expect a mean with wide "
        "intervals.",
    )  # fmt: skip
    return Readiness("engagement", (check,), remarks=tuple(remarks))


def _retention(dataset: Dataset, horizon_days: int = HORIZON_DAYS) -> Readiness:
    if not dataset.has("interactions"):
        return Readiness("retention", ruled_out="There are no interactions, so nobody can be followed over time.")
    if dataset.time_kind == "order":
        return Readiness("retention", ruled_out=_NO_TIMES)
    seen = tallies.calendar(dataset, horizon_days)
    needed = 3 * horizon_days + HISTORY_DAYS
    within, lately = f"within {horizon_days} days", f"in the last {horizon_days} days"
    judged = "Whether it is better than counting days stays open: AUROC is uncertain by several points."
    checks = (
        Check("days of events", seen.span_days, needed, needed, f"to learn and check who is back {within}"),
        Check(f"members back {lately}", seen.returned, 1, ENOUGH_OUTCOMES,
              "to know what a return looks like", judged),
        Check(f"members not back {lately}", seen.stayed_away, 1, ENOUGH_OUTCOMES,
              "to know what leaving looks like", judged),
    )  # fmt: skip
    share = seen.members_back / max(1, seen.members)
    remarks: tuple[str, ...] = ()
    if share < 0.5:
        remarks = (
            f"{share:.0%} of the members were active on a second day: for the others nothing is known but the first.",
        )
    return Readiness("retention", checks, remarks=remarks)


def table(found: Sequence[Readiness]) -> list[list[str]]:
    """Rows of text: model, state, what is counted, how many there are, how many are needed and how many are enough."""
    rows = []
    for one in found:
        counted = [[c.what, *(f"{n:,.0f}" for n in (c.have, c.least, c.enough))] for c in one.checks] or [[""] * 4]
        heads = [[one.model, one.state], *[["", ""]] * (len(counted) - 1)]
        rows += [[*head, *cells] for head, cells in zip(heads, counted, strict=True)]
    return rows
