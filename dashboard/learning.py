"""What a run's report and curves say, as words and frames: pure functions, tested without Streamlit."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

_PREFIX = re.compile(r"^(train|training|val|valid|validation)[_/ ]+(.+?)(_epoch)?$")


# What reports count beside their metrics.
COUNTS = ("reviews", "members", "users", "cases", "rows", "series", "origins", "n")
_SHORT = {
    "ndcg": "NDCG",
    "hr": "HR",
    "mrr": "MRR",
    "auroc": "AUROC",
    "auc": "AUC",
    "pr-auc": "PR-AUC",
    "f1": "F1",
    "ece": "ECE",
    "mae": "MAE",
    "rmse": "RMSE",
    "relmae": "relMAE",
    "mase": "MASE",
    "smape": "sMAPE",
    "wql": "WQL",
}


def metric_label(name: str) -> str:
    """A metric's name as the field writes it.

    >>> metric_label("ndcg@10"), metric_label("log_loss"), metric_label("relmae_7d"), metric_label("pr_auc")
    ('NDCG@10', 'Log loss', 'relMAE 7d', 'PR-AUC')
    """
    head, at, tail = name.partition("@")
    if (whole := head.lower().replace("_", "-")) in _SHORT:
        return _SHORT[whole] + at + tail
    words = [_SHORT.get(word.lower(), word) for word in head.replace("/", "_").split("_") if word]
    text = " ".join(words)
    return (text if words and words[0] in _SHORT.values() else text[:1].upper() + text[1:]) + at + tail


def metric_names(methods: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Names of the metrics that any method has, in the order of their first appearance; counts of cases are none."""
    names = dict.fromkeys(name for row in methods.values() for name, value in row.items() if value is not None)
    return [name for name in names if name not in COUNTS]


def verdict(report: Mapping[str, Any]) -> str:
    """The headline in one sentence: our value, the best baseline's, and the relative difference.

    Says plainly when the best baseline is better. Parts of our model that were measured alone are no baselines.
    """
    headline = report.get("headline") or {}
    metric, ours, split = headline.get("metric"), headline.get("ours"), headline.get("split")
    methods = (report.get("metrics") or {}).get(split) or {}
    value = (methods.get(ours) or {}).get(metric)
    if value is None:
        return "This run has no headline figure."
    higher = headline.get("higher_is_better", True)
    own = {ours, *headline.get("parts", ())}
    others = {m: row[metric] for m, row in methods.items() if m not in own and row.get(metric) is not None}
    text = f"{ours}: {metric_label(str(metric))} {value:.3f} on the {split} split"
    if not others:
        return f"{text}; no baseline was measured."
    best = (max if higher else min)(others, key=lambda method: others[method])
    other = others[best]
    if other == value:
        return f"{text}, the same as {best}."
    better = (value > other) == higher
    if other == 0:
        return f"{text}; {best}: {other:.3f}."
    size = abs(value / other - 1)
    return f"{text}, {100 * size:.1f} % {'better' if better else 'worse'} than the best baseline, {best} ({other:.3f})."


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
