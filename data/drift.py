"""Drift: whether the tables and scores still look like those that the run in use learned from and first gave.

Each distribution of today is put into the bins of the one that was kept (data/profile.py), with shares p then, q now:

    PSI = sum over bins of (q - p) ln(q / p)

the population stability index (Lewis, "An Introduction to Credit Scoring", 1994), which is Jeffreys' divergence: 0 or
more. Half a count is added to each bin, so that an empty one is not infinite. Below 0.1 nothing has changed to speak
of, from 0.1 on something has, from 0.25 on much has: the bands of Lewis and of Siddiqi, "Credit Risk Scorecards"
(2006). They are a convention. With few values PSI is large by chance alone: where nothing has changed it is distributed
like (1/n + 1/m) times chi-squared with bins - 1 degrees of freedom (Yurdakul, "Statistical Properties of Population
Stability Index", Western Michigan University, 2018), so nothing below its 95 % quantile is called drift.

    JS = sqrt of the mean of KL(p, m) and KL(q, m), to base 2, with m = (p + q) / 2

the Jensen-Shannon distance (Endres & Schindelin, "A new metric for probability distributions", 2003), from 0 (the same)
to 1 (nothing in common), stands beside it: it is bounded, and empty bins do not drive it.

Kind, rating, label, stars and length are looked at in the rows since the run's clock, if there are 100: in a table that
only grows, the old rows hide what the new ones are like. Events of a member or title are of the whole table.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data import home, profile, runs
from data.dataset import Dataset
from data.errors import UserError
from data.profile import Distribution, Profile

MODERATE, LARGE = 0.1, 0.25
NEW_MODERATE, NEW_LARGE = 0.1, 0.25  # shares of ids that the run has never seen: no convention, the same numbers
STABLE, SOME, MUCH = "stable", "drifted", "drifted much"


@dataclass(frozen=True)
class Change:
    """One thing compared.

    Attributes:
        what: "rating", "chance to come back", "new members".
        of: "inputs" or "scores".
        then: values that the kept distribution is made of.
        now: values today.
        psi: None for a share of new ids.
        distance: Jensen-Shannon, None for a share.
        share: of new ids; None for a distribution.
        by_chance: PSI that so few values reach by chance once in twenty times.
    """

    what: str
    of: str
    then: int
    now: int
    psi: float | None = None
    distance: float | None = None
    share: float | None = None
    by_chance: float = 0.0

    @property
    def state(self) -> str:
        if self.share is not None:
            return MUCH if self.share >= NEW_LARGE else SOME if self.share >= NEW_MODERATE else STABLE
        if self.psi is None or self.psi < max(MODERATE, self.by_chance):
            return STABLE
        return MUCH if self.psi >= LARGE else SOME

    @property
    def told(self) -> str:
        """ "rating (PSI 0.31)", "new members (40 %)"."""
        return (
            f"{self.what} ({100 * self.share:.0f} %)" if self.share is not None else f"{self.what} (PSI {self.psi:.2f})"
        )


@dataclass(frozen=True)
class Drift:
    """What changed for one model since its run in use was trained.

    Attributes:
        model: one of data.runs.MODELS.
        run: id of the run in use; empty where there is none.
        changes: what was compared.
        missing: columns that held something then and hold nothing now, as "interactions.rating".
        notes: what could not be compared, sentences.
    """

    model: str
    run: str = ""
    changes: tuple[Change, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def state(self) -> str:
        states = {change.state for change in self.changes}
        return MUCH if self.missing or MUCH in states else SOME if SOME in states else STABLE

    @property
    def told(self) -> list[str]:
        """Sentences on what drifted; empty where nothing did."""
        found = []
        for of, words in (
            ("inputs", "The data have changed since the training"),
            ("scores", "The scores have changed"),
        ):
            drifted = [c.told for c in self.changes if c.of == of and c.state != STABLE]
            if drifted:
                found.append(f"{words}: {', '.join(drifted)}.")
        if self.missing:
            found.append(f"What the model learned from is gone: {', '.join(self.missing)}.")
        return found

    def as_json(self) -> dict[str, Any]:
        changes = [{**asdict(change), "state": change.state} for change in self.changes]
        return {"model": self.model, "run": self.run, "state": self.state, "changes": changes,
                "missing": list(self.missing), "notes": list(self.notes)}  # fmt: skip


def _shares(counts: Sequence[int]) -> np.ndarray:
    """With half a count more in each bin."""
    smooth = np.asarray(counts, float) + 0.5
    return smooth / smooth.sum()


def psi(then: Sequence[int], now: Sequence[int]) -> float:
    """Population stability index of counts in the same bins: 0 or more; see the module's text.

    >>> round(psi([50, 50], [50, 50]), 3), round(psi([500, 500], [250, 750]), 3)
    (0.0, 0.274)
    """
    p, q = _shares(then), _shares(now)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(then: Sequence[int], now: Sequence[int]) -> float:
    """Jensen-Shannon distance of counts in the same bins, to base 2: 0 (the same) to 1 (nothing in common).

    >>> jensen_shannon([10, 0], [0, 10]), jensen_shannon([3, 3], [30, 30])
    (1.0, 0.0)
    """
    p, q = (np.asarray(counts, float) / max(1, sum(counts)) for counts in (then, now))
    middle = (p + q) / 2

    def divergence(a: np.ndarray) -> float:
        there = a > 0
        return float((a[there] * np.log2(a[there] / middle[there])).sum())

    return float(np.sqrt(max(0.0, (divergence(p) + divergence(q)) / 2)))


def by_chance(then: int, now: int, bins: int) -> float:
    """The PSI that is exceeded once in twenty times where nothing has changed; see the module's text."""
    from scipy.stats import chi2

    return float((1 / max(1, then) + 1 / max(1, now)) * chi2.ppf(0.95, max(1, bins - 1)))


def _change(what: str, of: str, then: Distribution, now: Distribution) -> Change:
    # A category that is new stands at the end of today's counts.
    before = [*then.counts, *[0] * (len(now.counts) - len(then.counts))]
    chance = by_chance(then.n, now.n, len(before))
    return Change(what, of, then.n, now.n, psi(before, now.counts), jensen_shannon(before, now.counts), None, chance)


def compared(then: Profile, now: Profile, of: str) -> list[Change]:
    """Every distribution that both have, and of ids the share of new ones."""
    found = [
        _change(name, of, kept, now.distributions[name])
        for name, kept in then.distributions.items()
        if name in now.distributions
    ]
    for name, kept_ids in then.ids.items():
        if name not in now.ids:
            continue
        known, seen = set(kept_ids["hashes"]), now.ids[name]["hashes"]
        new = sum(h not in known for h in seen) / max(1, len(seen))
        found.append(Change(f"new {name}", of, len(known), len(seen), share=new))
    return found


def drift(dataset: Dataset, model: str) -> Drift:
    """Of the tables as they are against those that the run in use was trained on, and of the scores on disk against the
    first ones that it gave.

    Raises:
        UserError: a table is damaged.
    """
    run = runs.current_run(dataset.name, model)
    if run is None:
        return Drift(model, notes=("No run of its own is in use, so there is nothing to compare with.",))
    changes: list[Change] = []
    missing: list[str] = []
    notes: list[str] = []
    then = profile.read_profile(run / profile.INPUTS)
    if then is None:
        notes.append(
            f"Run {run.name} kept no picture of its data (it is of an earlier version): train again to have one."
        )
    else:
        now = profile.profile(dataset, model, then)
        changes += compared(then, now, "inputs")
        missing += [
            f"{t}.{c}" for t, columns in then.columns.items() for c in columns if c not in now.columns.get(t, ())
        ]
    scored = _scores(dataset, model, run)
    if isinstance(scored, str):
        notes.append(scored)
    else:
        changes += scored
    return Drift(model, run.name, tuple(changes), tuple(missing), tuple(notes))


def _scores(dataset: Dataset, model: str, run: Path) -> list[Change] | str:
    """What changed in the scores, or the sentence why that is not known."""
    path = home.scores(dataset.name) / f"{profile.SCORES[model][0]}.parquet"
    if not path.is_file():
        return "Nothing is scored yet."
    if profile.run_of_scores(path) != run.name:
        return "The scores on disk are not of the run in use: score again to compare them."
    then = profile.read_profile(run / profile.scores_file(dataset.name))
    if then is None:
        return "The first scores of this run were not kept (it is of an earlier version): the next ones will be."
    return compared(then, profile.score_profile(path, model, then), "scores")


def table(found: Sequence[Drift]) -> list[list[str]]:
    """Rows of text: model, of what, what, values then and now, PSI or share, JS, state."""
    rows = []
    for one in found:
        for change in one.changes:
            figure = f"{change.psi:.3f}" if change.psi is not None else f"{100 * (change.share or 0):.0f} %"
            distance = f"{change.distance:.3f}" if change.distance is not None else ""
            rows.append(
                [
                    one.model,
                    change.of,
                    change.what,
                    f"{change.then:,}",
                    f"{change.now:,}",
                    figure,
                    distance,
                    change.state,
                ]
            )
    return rows


def require_stable(found: Sequence[Drift], dataset: str) -> None:
    """Raises:
    UserError: something drifted much.
    """
    much = [one for one in found if one.state == MUCH]
    if much:
        raise UserError(
            f"Dataset '{dataset}', {much[0].model}: {' '.join(much[0].told)} Look at the data, or train again."
        )
