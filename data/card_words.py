"""The words of a model card that depend on what a model is for, and the limits that its own figures show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from data.headline import Headline, headline_of, metric_label

FEW_CASES = 100
CALIBRATED = 0.05  # mean distance of probabilities from what was observed, above which a card says not to trust them
NOMINAL, SLACK = 0.9, 0.05  # of the 90 % intervals of forecasts: how far their coverage may be off
# What a report calls the number of cases behind a table's row.
COUNTS = ("reviews", "series", "members", "cases")


@dataclass(frozen=True)
class Use:
    """What a model is for.

    Attributes:
        title: its name.
        task: of the header, as the Hugging Face Hub names tasks.
        intended: what it is meant for, sentences.
        not_for: what it is not meant for.
    """

    title: str
    task: str
    intended: str
    not_for: str


USES = {
    "recommender": Use(
        "Recommender",
        "other",
        "Orders the titles of one catalogue for one member of the service, by what they and others watched, rated, "
        "liked or listed. For rows of a home page, mails with suggestions, and titles to win a member back.",
        "Decisions about people: it says which titles are watched next, nothing about who somebody is. Its scores "
        "order titles for one member and do not compare between members.",
    ),
    "sentiment": Use(
        "Review sentiment",
        "text-classification",
        "Tells whether a review of a film or series is positive or negative, how sure that is, and which aspects it "
        "speaks of. For sorting an inbox and for counts over many reviews.",
        "Judging who wrote a review, languages and subjects other than those of the training reviews, or answering "
        "without a person who reads the draft.",
    ),
    "engagement": Use(
        "Engagement forecast",
        "time-series-forecasting",
        "Forecasts how much will be watched in all, by genre, title and segment, with intervals. For planning and for "
        "seeing that a day was unusual.",
        "Steps beyond the horizon, and what has never happened in the history, such as a price change or a new market.",
    ),
    "retention": Use(
        "Retention",
        "tabular-classification",
        "Gives the probability that a member is active again within the horizon, and the reason. For choosing whom to "
        "write to first.",
        "Worsening anybody's terms, or prices by person: a low chance to return is no fault, and writing to a member "
        "does not by itself bring them back (the model was not trained on who was written to).",
    ),
}


def limits(report: Mapping[str, Any]) -> list[str]:
    """What a run's own figures warn of, a sentence each."""
    found = headline_of(report)
    told = [*_age(report), *_tested(report)]
    if found is None:
        return ["There is no headline figure: nobody knows how good it is.", *told]
    metrics = report.get("metrics") or {}
    table = metrics.get(found.split) or {}
    ours = table.get(found.ours) or {}
    told += _segments(metrics, found, set((report.get("headline") or {}).get("parts", ())))
    if (ece := (report.get("calibration") or {}).get("ece_after")) is not None:
        off = f"Probabilities were off by {ece:.1%} on average (expected calibration error)"
        told.append(f"{off}: read them as ranks, not as shares." if ece > CALIBRATED else f"{off}.")
    if (coverage := ours.get("coverage_90")) is not None and abs(coverage - NOMINAL) > SLACK:
        narrow = "narrower" if coverage < NOMINAL else "wider"
        told.append(f"{coverage:.0%} of the values lay inside the 90 % intervals: they are {narrow} than they say.")
    if (shown := ours.get("coverage@10")) is not None:
        told.append(
            f"The first ten titles of all members together are {shown:.0%} of the catalogue; the rest is in none."
        )
    popular = (table.get("popularity") or {}).get("popularity@10")
    if popular and (bias := ours.get("popularity@10")) is not None:
        told.append(
            f"It leans to what is popular: a title in a first ten was wanted by {bias:.0%} of the members on average, "
            f"one in the list of the most popular by {popular:.0%}."
        )
    return told


def _age(report: Mapping[str, Any]) -> list[str]:
    try:
        last, trained = pd.Timestamp(str(report["as_of"])), pd.Timestamp(str(report["created_at"]))
        years = (trained - last).days / 365.25
    except (KeyError, ValueError, TypeError):
        return []
    if years < 1:
        return []
    return [
        f"The data end on {last:%Y-%m-%d}, {years:.0f} years before the training: tastes and titles since are unknown."
    ]


def _tested(report: Mapping[str, Any]) -> list[str]:
    split = report.get("split") or {}
    n = (split.get("members") or {}).get("test") or (split.get("rows") or {}).get("test")
    told = []
    if isinstance(n, (int, float)) and n < FEW_CASES:
        told.append(f"It was tested on {n:,.0f} cases only: its figures could have come out quite differently.")
    rate = (split.get("base_rate") or {}).get("test")
    if rate is not None:
        told.append(
            f"Of the cases tested {rate:.0%} came back: most members get a low probability, also those who return."
        )
    return told


def _segments(metrics: Mapping[str, Any], found: Headline, parts: set[str]) -> list[str]:
    """Where a baseline is better than ours, and where ours is weakest."""
    told, values = [], {}
    for name, row, best, other in segments(metrics, found, parts):
        value = row.get(found.metric)
        if value is None:
            continue
        values[name] = value
        if best and ((value < other) if found.higher else (value > other)):
            told.append(
                f"On {name}{_of(row)} {best} was better: {metric_label(found.metric)} {other:.3f} to {value:.3f}."
            )
    if len(values) > 1:
        weakest = (min if found.higher else max)(values, key=lambda name: values[name])
        told.append(
            f"It is weakest on {weakest}: {metric_label(found.metric)} {values[weakest]:.3f}, {found.value:.3f} on all."
        )
    return told


def segments(
    metrics: Mapping[str, Any], found: Headline, parts: set[str]
) -> list[tuple[str, Mapping[str, Any], str, float]]:
    """The parts of the headline's split that were measured apart: name, our row, the best baseline and its figure."""
    rows = []
    for split, table in metrics.items():
        if not split.startswith(f"{found.split}:") and not split.startswith(f"{found.split},"):
            continue
        others = {
            method: row[found.metric]
            for method, row in table.items()
            if method not in {found.ours, *parts} and row.get(found.metric) is not None
        }
        best = (max if found.higher else min)(others, key=lambda m: others[m]) if others else ""
        name = split[len(found.split) + 1 :].strip()
        rows.append((name, table.get(found.ours) or {}, best, others.get(best, float("nan"))))
    return rows


def _of(row: Mapping[str, Any]) -> str:
    return next((f" ({row[name]:,.0f} {name})" for name in COUNTS if row.get(name)), "")
