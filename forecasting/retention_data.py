"""Events to cases: a member at a cut in the past, and when the member came back after it.

Days are counted backward from the dataset's clock: day 0 is the last 24 hours, so a cut `c` days back divides the
events into those known (day >= c) and those to come (day < c), and no day is cut in half. A case's features are made
of known events alone; its outcome is the first day after the cut with an event. Any kind counts but impressions, which
are not an act of the member.

The split is one in time, for a horizon of 30 days:

    test         cut 30 days back                  outcomes up to the clock
    validation   cut 60 days back                  outcomes up to the test cut
    train        cuts 61, 63, 65, ... days back    outcomes up to the validation cut

A case of the training split is known for as many days as lie between its cut and the validation cut: an older one says
whether the member was back within 30 days, a younger one only that nothing was seen for, say, five (it is censored, and
teaches the first five days; see forecasting/retention.py). Every member seen before a cut is a case of it, however long
ago. A batch holds

    sequence     (batch, n_visits, 5)  float32   the last active days, oldest first, zeros before them: see CHANNELS
    static       (batch, 16)           float32   see STATIC
    label        (batch,)              float32   1: back within the horizon, 0: not, NaN: the horizon is not over
    next_visit   (batch,)              float32   days from the cut to the next active day, 1 or more; inf: none is known
    observed     (batch,)              float32   days after the cut that are known
    weight       (batch,)              float32   how much the case counts in training
    user         (batch,)              int64     position in `Activity.user_ids`
    cut          (batch,)              int64     days back
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from data.atomic import write_json
from data.dataset import Dataset, open_dataset, readable
from data.errors import UserError
from data.faster import pinned
from forecasting.batches import as_it_is
from forecasting.events import members_events

Batch = dict[str, Tensor]
Split = Literal["train", "validation", "test", "everything"]
# Of a visit, that is an active day: log(1 + days since the visit before), whether there was one before,
# log(1 + events), log(1 + days from it to the cut), 1.
CHANNELS = ("gap", "again", "events", "ago", "present")
# All are log(1 + x): days since the last event and since the first, events, active days, events and active days in the
# last 7, 28 and 84 days, mean days between active days (0 with one), hours since the last event, events of the last
# and of the first active day; then lateness, recency less usual gap; and trend, events_28 less those of the 28 days
# before.
STATIC = (
    "recency", "tenure", "events", "active_days", "events_7", "days_7", "events_28", "days_28", "events_84", "days_84",
    "usual_gap", "hours", "last_events", "first_events", "lateness", "trend",
)  # fmt: skip
RFT = ("recency", "events", "active_days", "tenure", "events_28", "usual_gap", "lateness", "trend")
MIN_HISTORY_DAYS = 14  # before the earliest cut
CUT_STRIDE_DAYS = 2
_HALF_LIVES = 7  # cuts that count less than 1 % are left out
_DAY_US = 86_400_000_000


@dataclass(frozen=True, eq=False)
class Activity:
    """Who was active when: one row for each member and active day, by member and from the oldest day on.

    Shapes: `user`, `day`, `events`, `newest` (rows,); `user_ids` (members,).
    """

    user_ids: pd.Index
    user: np.ndarray
    day: np.ndarray  # days before the clock
    events: np.ndarray
    newest: np.ndarray  # days before the clock of the day's latest event, with their fraction: day <= newest < day + 1

    @property
    def span_days(self) -> int:
        return int(self.day.max()) + 1 if len(self.day) else 0

    def before(self, days: int) -> "Activity":
        """The activity as it was known `days` before the clock, with the clock set back to then."""
        kept = self.day >= days
        return replace(
            self,
            user=self.user[kept],
            day=self.day[kept] - days,
            events=self.events[kept],
            newest=self.newest[kept] - days,
        )

    def of_members(self, positions: np.ndarray) -> "Activity":
        """The members at `positions` alone, in that order. Costs no more than their own rows."""
        first, stop = np.searchsorted(self.user, positions), np.searchsorted(self.user, positions, side="right")
        size = stop - first
        within = np.arange(size.sum()) - np.repeat(size.cumsum() - size, size)
        rows = np.repeat(first, size) + within
        user = np.repeat(np.arange(len(positions)), size)
        names = self.user_ids.take(positions)
        return Activity(names, user, self.day[rows], self.events[rows], self.newest[rows])


def load_activity(dataset: Dataset) -> Activity:
    """Active days of every member up to the dataset's clock; DuckDB reads the Parquet file.

    Raises:
        UserError: the rows have no real times, or there is no event of a member, or the table is damaged.
    """
    connection = members_events(dataset, "retention")
    assert dataset.as_of is not None
    clock = dataset.as_of.value // 1000
    with readable(dataset.path("interactions")):
        connection.execute(
            f"CREATE TEMP TABLE days AS SELECT user_id, ({clock} - us) // {_DAY_US} AS day, count(*) AS events, "
            f"min({clock} - us) / {_DAY_US}.0 AS newest FROM acts GROUP BY ALL"
        )
    connection.execute(
        "CREATE TEMP TABLE members AS SELECT user_id, row_number() OVER (ORDER BY user_id) - 1 AS code "
        "FROM (SELECT DISTINCT user_id FROM days)"
    )
    ids = connection.execute("SELECT user_id FROM members ORDER BY code").fetchnumpy()["user_id"]
    rows = connection.execute(
        "SELECT code, day, events, newest FROM days JOIN members USING (user_id) ORDER BY code, day DESC"
    ).fetchnumpy()
    code, day, events, newest = (np.asarray(rows[name]) for name in ("code", "day", "events", "newest"))
    return Activity(
        pd.Index(np.asarray(ids, object)),
        code.astype(np.int64),
        day.astype(np.int64),
        events.astype(float),
        newest.astype(float),
    )


@dataclass(frozen=True, eq=False)
class Cases:
    """Members at cuts; see the module's text for the shapes. `weight` is 1 unless the cases are to be trained on."""

    sequence: np.ndarray
    static: np.ndarray
    label: np.ndarray
    next_visit: np.ndarray
    observed: np.ndarray
    weight: np.ndarray
    user: np.ndarray
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> "Cases":
        return Cases(*(getattr(self, name)[rows] for name in _PARTS))

    @property
    def rft(self) -> np.ndarray:
        """Recency, frequency, tenure and trend: what the logistic regression and gradient boosting see."""
        return self.static[:, [STATIC.index(name) for name in RFT]]

    @property
    def known(self) -> "Cases":
        """Those of which it is known whether the member came back within the horizon."""
        return self.take(np.flatnonzero(np.isfinite(self.label)))

    def batches(self, batch_size: int, shuffle: bool = False) -> DataLoader[Batch]:
        return DataLoader(_Rows(self), batch_size=batch_size, shuffle=shuffle, collate_fn=as_it_is, pin_memory=pinned())


_PARTS = tuple(part.name for part in fields(Cases))


class _Rows(TorchDataset[Batch]):
    """Cases as tensors, a batch of rows taken at once."""

    def __init__(self, cases: Cases) -> None:
        self.parts = {name: torch.from_numpy(getattr(cases, name)) for name in _PARTS}

    def __len__(self) -> int:
        return len(self.parts["label"])

    def __getitem__(self, index: int) -> Batch:
        return {name: part[index] for name, part in self.parts.items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = torch.tensor(indices)
        return {name: part[rows] for name, part in self.parts.items()}


def cases_at(activity: Activity, cut: int, horizon_days: int, n_visits: int, until: int = 0) -> Cases:
    """Every member with an event before the cut. Features read the days before it, the outcome those after it.

    Args:
        activity: of the members.
        cut: days back.
        horizon_days: for the label.
        n_visits: active days that are read one by one.
        until: days back that are not known yet, nor any later one; at most `cut`.
    """
    n = len(activity.user_ids)
    known = activity.day >= cut
    user, events, newest = activity.user[known], activity.events[known], activity.newest[known] - cut
    ago = activity.day[known] - cut  # whole days before the cut
    rows_of = np.bincount(user, minlength=n)
    members = np.flatnonzero(rows_of)
    stop, days = rows_of.cumsum()[members], rows_of[members]
    start, latest = stop - days, stop - 1
    first, last = ago[start], ago[latest]

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(user, weights=weights, minlength=n)[members]

    lately = [total(of) for back in (7, 28, 84) for of in (events * (ago < back), ago < back)]
    usual_gap = np.where(days > 1, (first - last) / np.maximum(days - 1, 1), 0.0)
    counts = [last, first, total(events), days, *lately, usual_gap, newest[latest] * 24, events[latest], events[start]]
    static = np.log1p(np.stack(counts, axis=1))
    earlier = np.log1p(total(events * ((ago >= 28) & (ago < 56))))
    of = STATIC.index
    derived = (static[:, of("recency")] - static[:, of("usual_gap")], static[:, of("events_28")] - earlier)
    static = np.concatenate([static, np.stack(derived, axis=1)], axis=1)

    row = stop[:, None] - n_visits + np.arange(n_visits)  # (members, n_visits), oldest first
    present, again = row >= start[:, None], row > start[:, None]
    row = np.maximum(row, start[:, None])
    gap = np.where(again, ago[np.maximum(row - 1, 0)] - ago[row], 0)
    sequence = np.stack([np.log1p(gap), again, np.log1p(events[row]), np.log1p(ago[row]), present], axis=2)
    sequence *= present[..., None]

    after = (activity.day < cut) & (activity.day >= until)
    newest_after = np.full(n, -1, np.int64)
    np.maximum.at(newest_after, activity.user[after], activity.day[after])
    next_visit = np.where(newest_after >= 0, cut - newest_after, np.inf)[members]
    label = np.where(next_visit <= horizon_days, 1.0, 0.0) if cut - until >= horizon_days else np.nan
    ones = np.ones(len(members), np.float32)
    return Cases(
        sequence.astype(np.float32),
        static.astype(np.float32),
        (ones * label).astype(np.float32),
        next_visit.astype(np.float32),
        ones * np.float32(cut - until),
        ones,
        members,
        np.full(len(members), cut, np.int64),
    )


def together(parts: list[Cases]) -> Cases:
    return Cases(*(np.concatenate([getattr(part, name) for part in parts]) for name in _PARTS))


class RetentionData(pl.LightningDataModule):
    """Cases of all members of a dataset.

    Args:
        dataset: name of the dataset.
        horizon_days: within how many days after a cut a member must be active again.
        n_visits: how many active days before a cut are read one by one.
        half_life_days: a cut that many days older counts half in training, as habits change.
        batch_size: cases in a batch.
        max_cases: at most about so many cases are trained on, drawn at random (seeded) from all cuts.
    """

    def __init__(
        self,
        dataset: str = "demo",
        horizon_days: int = 30,
        n_visits: int = 12,
        half_life_days: float = 45.0,
        batch_size: int = 512,
        max_cases: int = 200_000,
    ) -> None:
        super().__init__()
        settings = {"horizon_days": horizon_days, "n_visits": n_visits, "half_life_days": half_life_days}
        settings |= {"batch_size": batch_size, "max_cases": max_cases}
        for name, value in settings.items():
            if value < 1:
                raise UserError(f"--data.{name} {value} must be at least 1.")
        self.dataset = dataset
        self.horizon_days, self.n_visits, self.half_life_days = horizon_days, n_visits, half_life_days
        self.batch_size, self.max_cases = batch_size, max_cases
        self.fit_on: Literal["train", "everything"] = "train"
        self._activity: Activity | None = None
        self._latest_cases: tuple[Split, Cases] | None = None

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
        self._activity, self._latest_cases = activity, None
        return self

    def until(self, split: Split) -> int:
        """Days back from which on nothing is known to a split's cases, not even as an outcome."""
        return {"train": 2, "validation": 1, "test": 0, "everything": 0}[split] * self.horizon_days

    def cuts(self, split: Split) -> list[int]:
        """Days back of the cuts in a split, latest first."""
        until = self.until(split)
        if split in ("validation", "test"):
            return [until + self.horizon_days]
        oldest = min(self.activity.span_days - MIN_HISTORY_DAYS, until + int(_HALF_LIVES * self.half_life_days))
        return list(range(until + 1, oldest + 1, CUT_STRIDE_DAYS))

    def cases(self, split: Split) -> Cases:
        """All cases of a split, a sample of them with weights for those that are trained on. The last split is kept.

        Raises:
            UserError: there is no case.
        """
        if self._latest_cases is None or self._latest_cases[0] != split:
            self._latest_cases = split, self._cases(split)
        return self._latest_cases[1]

    def _cases(self, split: Split) -> Cases:
        cuts, until = self.cuts(split), self.until(split)
        is_training = split in ("train", "everything")
        n = len(self.activity.user_ids)
        wanted = self.max_cases // max(1, len(cuts)) if is_training else n
        rng = np.random.default_rng(0)
        parts = []
        for cut in cuts:
            chosen = np.arange(n) if wanted >= n else np.sort(rng.choice(n, max(1, wanted), replace=False))
            activity = self.activity if wanted >= n else self.activity.of_members(chosen)
            found = cases_at(activity, cut, self.horizon_days, self.n_visits, until)
            weight = 0.5 ** ((cut - until) / self.half_life_days) if is_training else 1.0
            parts.append(replace(found, user=chosen[found.user], weight=found.weight * np.float32(weight)))
        whole = together(parts)
        if len(whole) == 0:
            raise UserError(
                f"No member of dataset '{self.dataset}' was seen {min(cuts)} days before its clock, so there is "
                f"nobody to learn from: add earlier events or shorten --data.horizon_days {self.horizon_days}."
            )
        return replace(whole, weight=whole.weight / whole.weight.mean())

    def latest(self, split: Literal["validation", "test"]) -> Cases:
        """All that a horizon held out tells: the split's cut, and later ones a quarter of a horizon apart, censored."""
        until = self.until(split)
        cuts = sorted({until + -(-self.horizon_days * quarters // 4) for quarters in range(1, 5)}, reverse=True)
        return together([cases_at(self.activity, cut, self.horizon_days, self.n_visits, until) for cut in cuts])

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.cases(self.fit_on).batches(self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.latest("validation").batches(self.batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.cases("test").batches(self.batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Every member at the dataset's clock."""
        return cases_at(self.activity, 0, self.horizon_days, self.n_visits).batches(self.batch_size)

    def at(self, activity: Activity, days: int) -> Cases:
        """Cases at a cut `days` before the clock of `activity`, which may know more than this datamodule."""
        return cases_at(activity, days, self.horizon_days, self.n_visits)

    def reference(self) -> Cases:
        """One case that stands for the members who came back: the median of each input over them (or over all)."""
        cases = self.cases("everything")
        back = cases.take(np.flatnonzero(cases.label == 1)) if (cases.label == 1).any() else cases
        none, one = np.zeros(1, np.int64), np.ones(1, np.float32)
        sequence, static = (np.median(part, axis=0, keepdims=True) for part in (back.sequence, back.static))
        return Cases(sequence, static, one, one, one, one, none, none)

    def save(self, run: Path) -> None:
        """Write window.json: what the scorer must know to make the same cases, and the reference for its reasons."""
        reference = self.reference()
        settings = {
            "horizon_days": self.horizon_days,
            "n_visits": self.n_visits,
            "channels": list(CHANNELS),
            "static": list(STATIC),
            "reference": {"sequence": reference.sequence[0].tolist(), "static": reference.static[0].tolist()},
        }
        write_json(run / "window.json", settings)
