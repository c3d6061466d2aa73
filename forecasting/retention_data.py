"""Events to cases: a member at a cut in the past, and whether the member came back within the days after it.

Days are counted backward from the dataset's clock: day 0 is the last 24 hours, so a cut `c` days back divides the
events into those known (day >= c) and those to come (day < c), and no day is cut in half. A case's features are made
of known events alone; its label is 1 if any of days c - horizon to c - 1 has an event. Any kind counts but impressions,
which are not an act of the member.

The split is one in time, for a horizon of 30 days:

    test         cut 30 days back                 labels end at the clock
    validation   cut 60 days back                 labels end at the test cut
    train        cuts 90, 97, 104, ... days back  labels end at the validation cut or before

Every member seen before a cut is a case of it, however long ago. A batch holds

    sequence   (batch, n_weeks, 4)  float32   weeks before the cut, oldest first: log(1 + events), log(1 + active days),
                                              whether the member had come by then, log(1 + weeks since an active one)
    static     (batch, 7)           float32   see STATIC
    label      (batch,)             float32
    user       (batch,)             int64     position in `Activity.user_ids`
    cut        (batch,)             int64     days back
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from data.atomic import write_json
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from forecasting.events import members_events

Batch = dict[str, Tensor]
CHANNELS = ("events", "active_days", "present", "gap")
# All are log(1 + x): days since the last event, days since the first, events, active days, events in the last 28
# days, mean days between active days (0 with one), and the first less the sixth: how late the member is.
STATIC = ("recency", "tenure", "events", "active_days", "recent_events", "usual_gap", "lateness")
MIN_HISTORY_DAYS = 14  # before the earliest cut
CUT_STRIDE_DAYS = 7
_DAY_US = 86_400_000_000


@dataclass(frozen=True, eq=False)
class Activity:
    """Who was active when: one row for each member and active day, by member and from the oldest day on.

    Shapes: `user`, `day`, `events` (rows,); `user_ids` (members,).
    """

    user_ids: pd.Index
    user: np.ndarray
    day: np.ndarray  # days before the clock
    events: np.ndarray

    @property
    def span_days(self) -> int:
        return int(self.day.max()) + 1 if len(self.day) else 0

    def before(self, days: int) -> "Activity":
        """The activity as it was known `days` before the clock, with the clock set back to then."""
        kept = self.day >= days
        return replace(self, user=self.user[kept], day=self.day[kept] - days, events=self.events[kept])

    def of_members(self, positions: np.ndarray) -> "Activity":
        """The members at `positions` alone, in that order. Costs no more than their own rows."""
        first, stop = np.searchsorted(self.user, positions), np.searchsorted(self.user, positions, side="right")
        size = stop - first
        within = np.arange(size.sum()) - np.repeat(size.cumsum() - size, size)
        rows = np.repeat(first, size) + within
        user = np.repeat(np.arange(len(positions)), size)
        return Activity(self.user_ids.take(positions), user, self.day[rows], self.events[rows])


def load_activity(dataset: Dataset) -> Activity:
    """Active days of every member up to the dataset's clock; DuckDB reads the Parquet file.

    Raises:
        UserError: the rows have no real times, or there is no event of a member.
    """
    connection = members_events(dataset, "retention")
    assert dataset.as_of is not None
    connection.execute(
        f"CREATE TEMP TABLE days AS SELECT user_id, ({dataset.as_of.value // 1000} - us) // {_DAY_US} AS day, "
        "count(*) AS events FROM acts GROUP BY ALL"
    )
    connection.execute(
        "CREATE TEMP TABLE members AS SELECT user_id, row_number() OVER (ORDER BY user_id) - 1 AS code "
        "FROM (SELECT DISTINCT user_id FROM days)"
    )
    ids = connection.execute("SELECT user_id FROM members ORDER BY code").fetchnumpy()["user_id"]
    rows = connection.execute(
        "SELECT code, day, events FROM days JOIN members USING (user_id) ORDER BY code, day DESC"
    ).fetchnumpy()
    code, day, events = (np.asarray(rows[name]) for name in ("code", "day", "events"))
    return Activity(
        pd.Index(np.asarray(ids, object)), code.astype(np.int64), day.astype(np.int64), events.astype(float)
    )


@dataclass(frozen=True, eq=False)
class Cases:
    """Members at cuts; see the module's text. `label` is NaN where the days after the cut are not over."""

    sequence: np.ndarray  # (cases, n_weeks, 4)
    static: np.ndarray  # (cases, 7)
    label: np.ndarray
    user: np.ndarray
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> "Cases":
        return Cases(self.sequence[rows], self.static[rows], self.label[rows], self.user[rows], self.cut[rows])

    @property
    def rft(self) -> np.ndarray:
        """Recency, frequency (events and active days) and tenure: what the logistic regression sees."""
        return self.static[:, :4]

    def batches(self, batch_size: int, shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
        parts = (self.sequence, self.static, self.label, self.user, self.cut)
        return DataLoader(
            TensorDataset(*map(torch.from_numpy, parts)), batch_size=batch_size, shuffle=shuffle, collate_fn=_named
        )


def _named(rows: list[tuple[Tensor, ...]]) -> Batch:
    names = ("sequence", "static", "label", "user", "cut")
    return {name: torch.stack(part) for name, part in zip(names, zip(*rows, strict=True), strict=True)}


def cases_at(activity: Activity, cut: int, horizon_days: int, n_weeks: int) -> Cases:
    """Every member with an event before the cut. Features read the days before it, the label those after it."""
    n = len(activity.user_ids)
    known = activity.day >= cut
    user, events = activity.user[known], activity.events[known]
    ago = activity.day[known] - cut  # whole days before the cut
    total, days = np.bincount(user, weights=events, minlength=n), np.bincount(user, minlength=n)
    first, last = np.zeros(n, np.int64), np.full(n, np.iinfo(np.int64).max)
    np.maximum.at(first, user, ago)
    np.minimum.at(last, user, ago)
    recent = np.bincount(user, weights=events * (ago < 28), minlength=n)
    members = np.flatnonzero(days)
    first, last, days = first[members], last[members], days[members]
    usual_gap = np.where(days > 1, (first - last) / np.maximum(days - 1, 1), 0.0)
    static = np.log1p(np.stack([last, first, total[members], days, recent[members], usual_gap], axis=1))
    static = np.concatenate([static, static[:, :1] - static[:, 5:6]], axis=1)

    within = ago < 7 * n_weeks
    at = user[within] * n_weeks + (n_weeks - 1 - ago[within] // 7)
    weekly_events = np.bincount(at, weights=events[within], minlength=n * n_weeks).reshape(n, n_weeks)[members]
    weekly_days = np.bincount(at, minlength=n * n_weeks).reshape(n, n_weeks)[members]
    week = np.arange(n_weeks)
    begun = week >= (n_weeks - 1 - first // 7)[:, None]
    newest = np.maximum.accumulate(np.where(weekly_days > 0, week, -1), axis=1)
    # Before the first active week in reach the gap is unknown: counted from the first event, or 0 before it.
    gap = np.where(newest >= 0, week - newest, np.maximum(week - (n_weeks - 1 - first // 7)[:, None], 0))
    sequence = np.stack([np.log1p(weekly_events), np.log1p(weekly_days), begun, np.log1p(gap)], axis=2)

    label = np.full(len(members), np.nan)
    if cut >= horizon_days:
        after = (activity.day < cut) & (activity.day >= cut - horizon_days)
        label = (np.bincount(activity.user[after], minlength=n)[members] > 0).astype(float)
    return Cases(
        sequence.astype(np.float32),
        static.astype(np.float32),
        label.astype(np.float32),
        members,
        np.full(len(members), cut, np.int64),
    )


def together(parts: list[Cases]) -> Cases:
    names = ("sequence", "static", "label", "user", "cut")
    return Cases(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class RetentionData(pl.LightningDataModule):
    """Cases of all members of a dataset.

    Args:
        dataset: name of the dataset.
        horizon_days: within how many days after a cut a member must be active again.
        n_weeks: how many weeks before a cut are read one by one.
        batch_size: cases in a batch.
        max_cases: at most so many cases are trained on, drawn at random (seeded) from all cuts.
    """

    def __init__(
        self,
        dataset: str = "demo",
        horizon_days: int = 30,
        n_weeks: int = 26,
        batch_size: int = 256,
        max_cases: int = 200_000,
    ) -> None:
        super().__init__()
        settings = {"horizon_days": horizon_days, "n_weeks": n_weeks, "batch_size": batch_size, "max_cases": max_cases}
        for name, value in settings.items():
            if value < 1:
                raise UserError(f"--data.{name} {value} must be at least 1.")
        self.dataset = dataset
        self.horizon_days, self.n_weeks, self.batch_size, self.max_cases = horizon_days, n_weeks, batch_size, max_cases
        self.fit_on: Literal["train", "everything"] = "train"
        self._activity: Activity | None = None

    @property
    def activity(self) -> Activity:
        """Active days of every member; read from the dataset when first asked for.

        Raises:
            UserError: the history is too short for three horizons and something before them.
        """
        if self._activity is None:
            self.use(load_activity(open_dataset(self.dataset)))
        assert self._activity is not None
        return self._activity

    def use(self, activity: Activity) -> "RetentionData":
        """Work on `activity` instead of the dataset's own: for a backtest, which cuts it off. Returns itself."""
        needed = 3 * self.horizon_days + MIN_HISTORY_DAYS
        if activity.span_days < needed:
            shorter = (activity.span_days - MIN_HISTORY_DAYS) // 3
            fix = f", or ask for a return within --data.horizon_days {min(14, shorter)}" if shorter >= 7 else ""
            raise UserError(
                f"Dataset '{self.dataset}' has {activity.span_days} days of events, but whether members come back "
                f"within {self.horizon_days} days can be learnt and checked with {needed} or more: add earlier "
                f"events{fix}."
            )
        self._activity = activity
        return self

    def cuts(self, split: Literal["train", "validation", "test", "everything"]) -> list[int]:
        """Days back of the cuts in a split, latest first."""
        if split in ("validation", "test"):
            return [self.horizon_days * (2 if split == "validation" else 1)]
        start = self.horizon_days * (3 if split == "train" else 1)
        return list(range(start, self.activity.span_days - MIN_HISTORY_DAYS + 1, CUT_STRIDE_DAYS))

    def cases(self, split: Literal["train", "validation", "test", "everything"]) -> Cases:
        """All cases of a split, at most `max_cases` for those that are trained on.

        Raises:
            UserError: there is no case.
        """
        cuts = self.cuts(split)
        share = 1.0
        if split in ("train", "everything"):
            members = len(np.unique(self.activity.user))
            share = min(1.0, self.max_cases / max(1, len(cuts) * members))
        rng = np.random.default_rng(0)
        parts = []
        for cut in cuts:
            found = cases_at(self.activity, cut, self.horizon_days, self.n_weeks)
            parts.append(found if share == 1.0 else found.take(np.flatnonzero(rng.random(len(found)) < share)))
        whole = together(parts)
        if len(whole) == 0:
            raise UserError(
                f"No member of dataset '{self.dataset}' was seen {min(cuts)} days before its clock, so there is "
                f"nobody to learn from: add earlier events or shorten --data.horizon_days {self.horizon_days}."
            )
        return whole

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self.cases(self.fit_on).batches(self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self.cases("validation").batches(self.batch_size)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self.cases("test").batches(self.batch_size)

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Every member at the dataset's clock."""
        return cases_at(self.activity, 0, self.horizon_days, self.n_weeks).batches(self.batch_size)

    def at(self, activity: Activity, days: int) -> Cases:
        """Cases at a cut `days` before the clock of `activity`, which may know more than this datamodule."""
        return cases_at(activity, days, self.horizon_days, self.n_weeks)

    def reference(self) -> Cases:
        """One case that stands for the members who came back: the median of each input over them (or over all)."""
        cases = self.cases("everything")
        back = cases.take(np.flatnonzero(cases.label == 1)) if (cases.label == 1).any() else cases
        none = np.zeros(1, np.int64)
        sequence, static = (np.median(part, axis=0, keepdims=True) for part in (back.sequence, back.static))
        return Cases(sequence, static, np.ones(1, np.float32), none, none)

    def save(self, run: Path) -> None:
        """Write window.json: what the scorer must know to make the same cases, and the reference for its reasons."""
        reference = self.reference()
        settings = {
            "horizon_days": self.horizon_days,
            "n_weeks": self.n_weeks,
            "channels": list(CHANNELS),
            "static": list(STATIC),
            "reference": {"sequence": reference.sequence[0].tolist(), "static": reference.static[0].tolist()},
        }
        write_json(run / "window.json", settings)
