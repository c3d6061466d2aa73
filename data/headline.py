"""The one figure that a run is judged by, and what it says in words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

HALF_WIDTH = "±"  # of the interval beside the headline: a figure of the table, nothing to compare methods by
SHORT = {
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
    if (whole := head.lower().replace("_", "-")) in SHORT:
        return SHORT[whole] + at + tail
    words = [SHORT.get(word.lower(), word) for word in head.replace("/", "_").split("_") if word]
    text = " ".join(words)
    return (text if words and words[0] in SHORT.values() else text[:1].upper() + text[1:]) + at + tail


@dataclass(frozen=True)
class Headline:
    """The one figure that a run is judged by, beside that of the best baseline."""

    metric: str
    split: str
    ours: str  # the name of our method
    value: float
    higher: bool  # is better
    best: str = ""  # the best baseline; "" where none was measured
    other: float = float("nan")  # its value

    @property
    def is_worse(self) -> bool:
        """Whether the best baseline is better than ours."""
        return self.value < self.other if self.higher else self.value > self.other


def headline_of(report: Mapping[str, Any]) -> Headline | None:
    """The report's headline; None without a figure. Parts of our model that were measured alone are no baselines."""
    headline = report.get("headline") or {}
    metric, ours, split = headline.get("metric"), headline.get("ours"), headline.get("split")
    methods = (report.get("metrics") or {}).get(split) or {}
    value = (methods.get(ours) or {}).get(metric)
    if value is None:
        return None
    higher = bool(headline.get("higher_is_better", True))
    own = {ours, *headline.get("parts", ())}
    others = {m: row[metric] for m, row in methods.items() if m not in own and row.get(metric) is not None}
    found = Headline(str(metric), str(split), str(ours), value, higher)
    if not others:
        return found
    best = (max if higher else min)(others, key=lambda method: others[method])
    return replace(found, best=best, other=others[best])


def verdict(report: Mapping[str, Any]) -> str:
    """The headline in one sentence: our value, the best baseline's, and the relative difference.

    Says plainly when the best baseline is better.
    """
    found = headline_of(report)
    if found is None:
        return "This run has no headline figure."
    text = f"{found.ours}: {metric_label(found.metric)} {found.value:.3f} on the {found.split} split"
    if not found.best:
        return f"{text}; no baseline was measured."
    if found.other == found.value:
        return f"{text}, the same as {found.best}."
    if found.other == 0:
        return f"{text}; {found.best}: {found.other:.3f}."
    size, how = abs(found.value / found.other - 1), "worse" if found.is_worse else "better"
    return f"{text}, {100 * size:.1f} % {how} than the best baseline, {found.best} ({found.other:.3f})."
