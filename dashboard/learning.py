"""What a run's report and curves say, as words and frames: pure functions, tested without Streamlit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.headline import HALF_WIDTH

_PREFIX = re.compile(r"^(train|training|val|valid|validation)[_/ ]+(.+?)(_epoch)?$")


# Smaller is better for the first; the second describe without being good or bad; of all others more is better.
LOSSES = ("loss", "mae", "rmse", "mase", "smape", "wql", "brier", "ece", "error", "perplexity")
TRAITS = ("coverage", "novelty", "diversity", "popularity")
# What reports count beside their metrics.
COUNTS = ("reviews", "members", "users", "cases", "rows", "series", "origins", "n")


def metric_names(methods: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Names of the metrics that any method has, in the order of their first appearance; counts of cases are none."""
    names = dict.fromkeys(name for row in methods.values() for name, value in row.items() if value is not None)
    return [name for name in names if name not in COUNTS]


def better(metric: str, headline: Mapping[str, Any]) -> str:
    """ "lower", "higher" or "": the report says so of its headline, the names of losses and traits of the others."""
    if metric == headline.get("metric"):
        return "higher" if headline.get("higher_is_better", True) else "lower"
    if any(trait in metric.lower() for trait in TRAITS):
        return ""
    return "lower" if any(loss in metric.lower() for loss in LOSSES) else "higher"


@dataclass(frozen=True)
class Delta:
    """One metric of two runs on the same split, each of its own method."""

    metric: str
    split: str
    now: float  # of the run in use
    then: float  # of the other
    kind: str  # "better", "worse", "same", or "" for a metric that only describes

    @property
    def difference(self) -> float:
        return self.then - self.now


def compared(in_use: Mapping[str, Any], other: Mapping[str, Any]) -> list[Delta]:
    """What `other` would change: every metric that both reports hold for their own method on the headline's split, the
    headline's first. Empty where they were measured on different splits."""
    mine, its = in_use.get("headline") or {}, other.get("headline") or {}
    split = its.get("split")
    if split is None or split != mine.get("split"):
        return []
    now, then = (
        ((report.get("metrics") or {}).get(split) or {}).get((report.get("headline") or {}).get("ours")) or {}
        for report in (in_use, other)
    )
    names = [name for name in metric_names({"": then}) if name != HALF_WIDTH and now.get(name) is not None]
    names.sort(key=lambda name: name != its.get("metric"))
    return [Delta(name, split, now[name], then[name], _change(then[name] - now[name], better(name, its)))
            for name in names]  # fmt: skip


def _change(difference: float, direction: str) -> str:
    if difference == 0:
        return "same"
    return "" if not direction else "better" if (difference > 0) == (direction == "higher") else "worse"


def read_curves(path: Path) -> pd.DataFrame:
    """Lightning's metrics.csv; empty when it is missing or damaged."""
    try:
        return pd.read_csv(path)
    except (OSError, ValueError):
        return pd.DataFrame()


def curves(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name of a quantity to `epoch`, `value`, `curve` ("training" or "validation"); the loss first.

    Lightning writes a row for each log call with gaps: the last value of an epoch is the epoch's.
    """
    if "epoch" not in frame:
        return {}
    found: dict[str, list[pd.DataFrame]] = {}
    for column in frame.columns:
        match = _PREFIX.match(column)
        if match is None or column.endswith("_step"):
            continue
        values = pd.to_numeric(frame[column], errors="coerce")
        last = values.groupby(frame["epoch"]).last().dropna()
        if last.empty:
            continue
        curve = "training" if match.group(1).startswith("train") else "validation"
        part = pd.DataFrame({"epoch": last.index, "value": last.to_numpy(), "curve": curve})
        found.setdefault(match.group(2), []).append(part)
    order = sorted(found, key=lambda name: ("loss" not in name, name))
    return {name: pd.concat(found[name], ignore_index=True) for name in order}
