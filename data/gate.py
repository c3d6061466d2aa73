"""The gate between a training and the run in use: a run that is worse than what serves does not take its place.

A run is compared with the run in use, where both were measured by the same metric on the same tables and split, and
with its own best baseline. It is held back where it is worse than one of them beyond chance: where the whole 95 %
interval of the difference is on the bad side. The interval is paired, over the test cases that both runs kept (see
data/cases.py): a bootstrap of means, DeLong's for an AUROC. Runs without cases (those of earlier versions) are compared
by the half-width that their report gives, or else by TOLERANCE.

What is better than nothing is served:

- The first run of a dataset comes into use even if a baseline is better, with a sentence that says so: pages without a
  model show nothing at all.
- Behind a baseline, but not behind a run in use that is behind its own baseline too, a run comes into use: holding it
  back would keep the worse or the older of the two.
- A run that cannot be judged (no headline figure, as with a test of one class) is let through, with a sentence.

`fit --gate fail` is for pipelines: none of these exceptions holds for a baseline, and what is held back ends in exit
code 3. `--gate off` lets everything through.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data import runs
from data.cases import Interval, difference
from data.errors import UserError
from data.headline import HALF_WIDTH, Headline, headline_of, metric_label

Gate = Literal["keep", "fail", "off"]
# Of the other's value, where nothing better is known; how far seeds lie apart is in docs/monitoring.md.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Comparison:
    """A run's headline figure beside another one.

    Attributes:
        other: "the run in use", "its best baseline, EASE".
        figures: "NDCG@10 0.050 instead of 0.080 on the test split".
        below: whether it is worse at all.
        worse: whether beyond chance.
        by: by what that was told, in words.
    """

    other: str
    figures: str
    below: bool
    worse: bool
    by: str

    @property
    def told(self) -> str:
        if self.worse:
            return f"It is worse than {self.other}: {self.figures} ({self.by})."
        if self.below:
            return f"It is below {self.other}, within what chance explains: {self.figures} ({self.by})."
        return f"It is not worse than {self.other}: {self.figures} ({self.by})."


@dataclass(frozen=True)
class Ruling:
    """Whether a run may come into use.

    Attributes:
        passes: whether it may.
        told: what it was compared with, a sentence each.
        why: why it is held back, one sentence; empty where it is not.
        doubts: what speaks against it all the same, sentences.
    """

    passes: bool
    told: tuple[str, ...] = ()
    why: str = ""
    doubts: tuple[str, ...] = ()

    def as_json(self, used: bool, gate: str) -> dict[str, Any]:
        return {"gate": gate, "used": used, "why": self.why, "told": list(self.told), "doubts": list(self.doubts)}


def measured_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the figures of two reports are of the same tables and the same split."""

    def of(report: Mapping[str, Any]) -> tuple[object, ...]:
        split = report.get("split") or {}
        return report.get("fingerprint"), split.get("protocol"), split.get("seed"), split.get("frequency")

    return of(one) == of(other)


def with_baseline(run: Path, report: Mapping[str, Any]) -> Comparison | None:
    """The run beside its best baseline; None where none was measured."""
    found = headline_of(report)
    if found is None or not found.best:
        return None
    interval = difference(run, found.ours, run, found.best)
    if interval is None:
        kept = (report.get(f"paired_{found.metric}") or {}).get(found.best)
        interval = Interval(kept[1], kept[2], 0, "paired bootstrap") if kept else None
    return _compared(f"its best baseline, {found.best}", found, found.other, interval, _half_width(report, found))


def with_run(run: Path, report: Mapping[str, Any], other: Path, in_use: Mapping[str, Any]) -> Comparison | None:
    """The run beside another one; None where their figures cannot be compared."""
    found, now = headline_of(report), headline_of(in_use)
    if found is None or now is None or (found.metric, found.split) != (now.metric, now.split):
        return None
    if not measured_alike(report, in_use):
        return None
    interval = difference(run, found.ours, other, now.ours)
    return _compared("the run in use", found, now.value, interval, _half_width(in_use, now))


def _half_width(report: Mapping[str, Any], found: Headline) -> float | None:
    methods = (report.get("metrics") or {}).get(found.split) or {}
    return (methods.get(found.ours) or {}).get(HALF_WIDTH)


def _compared(
    other: str, found: Headline, value: float, interval: Interval | None, half_width: float | None
) -> Comparison:
    figures = f"{metric_label(found.metric)} {found.value:.3f} instead of {value:.3f} on the {found.split} split"
    below = found.value < value if found.higher else found.value > value
    if interval is not None:
        beyond = interval.high < 0 if found.higher else interval.low > 0
        of = f" over {interval.cases:,} cases" if interval.cases else ""
        by = f"95 % interval of the difference {interval.low:+.4f} to {interval.high:+.4f}, {interval.how}{of}"
    elif half_width is not None:
        beyond, by = abs(found.value - value) > half_width, f"±{half_width:.4f} passes for chance"
    else:
        beyond, by = abs(found.value - value) > TOLERANCE * abs(value), f"{TOLERANCE:.0%} passes for chance"
    return Comparison(other, figures, below, below and beyond, by.replace("-", "−") if interval is not None else by)


def judge(run: Path, report: Mapping[str, Any], in_use: Path | None, strict: bool = False) -> Ruling:
    """Whether a run may take the place of the one in use.

    Args:
        run: its folder, with its cases; the report may not be written yet.
        report: what it will say or says.
        in_use: folder of the run in use, None where there is none.
        strict: a better baseline holds back whatever is in use, see the module's text.
    """
    if in_use is not None and in_use.name == run.name:
        return Ruling(True)
    if headline_of(report) is None:
        return Ruling(True, doubts=("Its report holds no headline figure, so nobody knows how good it is.",))
    baseline = with_baseline(run, report)
    now, behind = None, False
    told, doubts = [], []
    if in_use is not None:
        try:
            used = runs.read_report(in_use)
        except UserError:
            used = {}
        now, served = with_run(run, report, in_use, used), with_baseline(in_use, used)
        behind = served is not None and served.worse
        if now is None:
            told.append("It was measured on other tables or another split than the run in use: they do not compare.")
    found = [comparison for comparison in (now, baseline) if comparison is not None]
    told += [comparison.told for comparison in found]
    if now is not None and now.worse:
        return Ruling(False, tuple(told), now.told, tuple(c.told for c in found if c.worse and c is not now))
    if baseline is not None and baseline.worse:
        if strict or (in_use is not None and not behind):
            return Ruling(False, tuple(told), baseline.told)
        served_all_the_same = "nothing else is there to serve" if in_use is None else "so is the run in use"
        doubts.append(f"{baseline.told[:-1]}, and {served_all_the_same}.")
    return Ruling(True, tuple(told), doubts=tuple(doubts))


def outcome(run: Path, ruling: Ruling, in_use: Path | None, held: bool) -> str:
    """What became of a new run, in a sentence or two, with the command that decides otherwise.

    Args:
        run: its folder.
        ruling: on it.
        in_use: the run that was in use before it.
        held: whether it was held back.
    """
    if not held:
        return f"run {run.name} is now in use." + (f" All the same: {ruling.why}" if ruling.why else "")
    kept = "nothing is in use" if in_use is None else f"run {in_use.name} stays in use"
    command = f"python -m {runs.PACKAGE[run.parent.name]} promote {run.name} --force"
    return f"run {run.name} was not put into use, {kept}. {ruling.why} '{command}' uses it all the same."


def held_back(dataset: str, model: str, fingerprint: str) -> runs.Run | None:
    """The newest run that was trained on the tables of this fingerprint and not put into use by the gate, if no newer
    one is in use; None otherwise."""
    for run in runs.list_runs(dataset, model):
        if run.is_current:
            return None
        if run.report.get("fingerprint") == fingerprint and (run.report.get("gate") or {}).get("used") is False:
            return run
    return None
