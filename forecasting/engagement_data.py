"""Series to batches of windows: what was seen, and what came after it.

A window is a series and an origin, the step at which its future begins. A batch holds

    context    (batch, context_steps)            float32   values before the origin, oldest first, NaN where unknown
    target     (batch, horizon_steps)            float32   values from the origin on, NaN where unknown or not yet known
    weekday    (batch, context + horizon steps)  int64     0 Monday to 6 Sunday, of each step's first day
    recent     (batch, context_steps)            bool      the steps of the last 28 days
    age        (batch,)                          float32   steps from the series' first known value to the origin
    series     (batch,)                          int64     row in the panel
    origin     (batch,)                          int64     step in the panel

The split is one in time, with blocks of one horizon: the last is test, the one before it validation, and nothing of a
block is seen by a window of an earlier one. Origins in a block lie a week apart; the later ones see less than a whole
horizon ahead, because their block ends.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from data.atomic import write_json
from data.dataset import open_dataset
from data.errors import UserError
from forecasting.series import Panel, load_panel

Batch = dict[str, Tensor]
RECENT_DAYS = 28
MIN_KNOWN_DAYS = 14  # of a context, for a window to teach or be judged
MIN_CONTEXT_DAYS = 28  # between the panel's begin and the first origin
BLOCK_STRIDE_DAYS = 7
_THURSDAY = 3  # 1970-01-01


class Windows(Dataset[Batch]):
    """Windows of `panel` at `origins`, drawn many at a time by one gather."""

    def __init__(
        self, panel: Panel, context_steps: int, horizon_steps: int, origins: np.ndarray, min_known: int, min_future: int
    ) -> None:
        """Take every series at every origin with `min_known` known steps in the context and `min_future` after it."""
        values = torch.from_numpy(panel.values.astype(np.float32))
        padded = F.pad(values, (context_steps, horizon_steps), value=torch.nan)
        self._windows = padded.unfold(1, context_steps + horizon_steps, 1)  # (n_series, n_steps + 1, window): a view
        self._context_steps = context_steps
        known = F.pad(padded.isfinite().to(torch.int32).cumsum(1, dtype=torch.int32), (1, 0))
        at = torch.from_numpy(origins.astype(np.int64))
        before = known[:, at + context_steps] - known[:, at]
        after = known[:, at + context_steps + horizon_steps] - known[:, at + context_steps]
        series, origin = torch.nonzero((before >= min_known) & (after >= min_future), as_tuple=True)
        self.series, self.origin = series.to(torch.int32), at[origin].to(torch.int32)
        any_known = values.isfinite()
        self._first_known = torch.where(any_known.any(1), any_known.to(torch.int8).argmax(1), values.shape[1])
        offsets = torch.arange(context_steps + horizon_steps) - context_steps
        self._day_offset = panel.first_day + _THURSDAY + offsets * panel.step_days
        self._step_days = panel.step_days
        self._recent = offsets[:context_steps] >= -panel.steps(RECENT_DAYS)

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.tensor(indices)
        series, origin = self.series[chosen].long(), self.origin[chosen].long()
        window = self._windows[series, origin]  # (batch, context + horizon)
        return {
            "context": window[:, : self._context_steps],
            "target": window[:, self._context_steps :],
            "weekday": (self._day_offset + origin[:, None] * self._step_days) % 7,
            "recent": self._recent.expand(len(chosen), -1).clone(),
            "age": (origin - self._first_known[series]).clamp_min(0).float(),
            "series": series,
            "origin": origin,
        }


class Draw(Sampler[int]):
    """`number` of `n` positions at random, anew in each epoch and alike in all processes, which share them out.

    Lightning replaces torch's RandomSampler under DDP by one of its own that draws everything.
    """

    def __init__(self, n: int, number: int) -> None:
        self.n, self.number, self.epoch = n, number, 0
        self.seed = int(torch.initial_seed() % 2**31)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.n, generator=generator)[: self.number].tolist())


def loader(windows: Windows, batch_size: int, windows_per_epoch: int = 0) -> DataLoader[Batch]:
    """Batches of `windows`: in order, or `windows_per_epoch` (at most all) at random without repetition."""
    sampler = Draw(len(windows), min(windows_per_epoch, len(windows))) if windows_per_epoch else None
    return DataLoader(windows, batch_size=batch_size, sampler=sampler, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch  # `Windows` makes whole batches


class EngagementData(pl.LightningDataModule):
    """Windows over all series of a dataset.

    Args:
        dataset: name of the dataset.
        horizon_days: how far a window looks ahead; also the length of the validation and the test block.
        context_days: how far it looks back.
        n_titles: how many of the most watched titles get a series of their own.
        batch_size: windows in a batch.
        windows_per_epoch: windows drawn in an epoch of training, at most all there are.
    """

    def __init__(
        self,
        dataset: str = "demo",
        horizon_days: int = 28,
        context_days: int = 84,
        n_titles: int = 20,
        batch_size: int = 128,
        windows_per_epoch: int = 4096,
    ) -> None:
        super().__init__()
        least = {"horizon_days": 1, "context_days": 1, "n_titles": 0, "batch_size": 1, "windows_per_epoch": 1}
        for name, value in zip(
            least, (horizon_days, context_days, n_titles, batch_size, windows_per_epoch), strict=True
        ):
            if value < least[name]:
                raise UserError(f"--data.{name} {value} must be at least {least[name]}.")
        if context_days < RECENT_DAYS:
            raise UserError(f"--data.context_days {context_days} must be at least {RECENT_DAYS}.")
        self.dataset = dataset
        self.horizon_days, self.context_days, self.n_titles = horizon_days, context_days, n_titles
        self.batch_size, self.windows_per_epoch = batch_size, windows_per_epoch
        self.fit_on: Literal["train", "everything"] = "train"
        self._panel: Panel | None = None

    @property
    def panel(self) -> Panel:
        """The series; read from the dataset when first asked for.

        Raises:
            UserError: the dataset has too little history for three blocks of one horizon and a context before them.
        """
        if self._panel is None:
            self.use(load_panel(open_dataset(self.dataset), self.n_titles, 2 * self.horizon_days))
        assert self._panel is not None
        return self._panel

    def use(self, panel: Panel, to_predict: bool = False) -> "EngagementData":
        """Work on `panel` instead of the dataset's own: for a backtest, which cuts it off. Returns itself.

        Args:
            panel: the series.
            to_predict: nothing will be trained or measured, so a short history will do.

        Raises:
            UserError: see `panel`.
        """
        needed = panel.steps(MIN_CONTEXT_DAYS) + 3 * panel.steps(self.horizon_days)
        if panel.n_steps < needed and not to_predict:
            there, wanted = panel.n_steps * panel.step_days, needed * panel.step_days
            shorter = (there - MIN_CONTEXT_DAYS) // 3
            fix = f"or forecast less far with --data.horizon_days {min(14, shorter)}" if shorter >= 7 else ""
            raise UserError(
                f"Dataset '{self.dataset}' has {there} days of history, but a forecast of {self.horizon_days} days "
                f"that can be checked needs {wanted}: add earlier data{' ' if fix else ''}{fix}."
            )
        self._panel = panel
        return self

    # -- the split -----------------------------------------------------------------------------------------------

    @property
    def context_steps(self) -> int:
        return self.panel.steps(self.context_days)

    @property
    def horizon_steps(self) -> int:
        return self.panel.steps(self.horizon_days)

    def block(self, split: Literal["validation", "test"]) -> tuple[int, int]:
        """First step of a block and the step after its last."""
        stop = self.panel.n_steps - (self.horizon_steps if split == "validation" else 0)
        return stop - self.horizon_steps, stop

    def origins(self, split: Literal["validation", "test"]) -> np.ndarray:
        """Origins in a block, a week apart: the first sees the whole horizon, the last at least a week of it."""
        start, stop = self.block(split)
        week = self.panel.steps(BLOCK_STRIDE_DAYS)
        return np.arange(start, max(start + 1, stop - week + 1), week)

    def windows(self, origins: np.ndarray, until: int, min_future: int = 1) -> Windows:
        """Windows at `origins` that see nothing from step `until` on, not even as a target."""
        panel = self.panel.until(until)
        min_known = panel.steps(MIN_KNOWN_DAYS)
        return Windows(panel, self.context_steps, self.horizon_steps, origins, min_known, min_future)

    def training_windows(self) -> Windows:
        stop = self.block("validation")[0] if self.fit_on == "train" else self.panel.n_steps
        week = min(self.panel.steps(BLOCK_STRIDE_DAYS), self.horizon_steps)
        origins = np.arange(self.panel.steps(MIN_CONTEXT_DAYS), max(stop - week, 0) + 1)
        windows = self.windows(origins, stop, min_future=week)
        if len(windows) == 0:
            raise UserError(
                f"No series of dataset '{self.dataset}' has {MIN_KNOWN_DAYS} known days and a week after them before "
                f"the validation block, so there is nothing to learn from: add earlier data."
            )
        return windows

    def train_dataloader(self) -> DataLoader[Batch]:
        return loader(self.training_windows(), self.batch_size, self.windows_per_epoch)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._held_out("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._held_out("test")

    def _held_out(self, split: Literal["validation", "test"]) -> DataLoader[Batch]:
        start, stop = self.block(split)
        windows = self.windows(self.origins(split), stop)
        if len(windows) == 0:
            first, last = self.panel.dates(start, stop)[[0, -1]]
            raise UserError(
                f"No series of dataset '{self.dataset}' is known from {first:%Y-%m-%d} to {last:%Y-%m-%d} and before, "
                f"the days of {split}, so a forecast cannot be checked: import what is missing there, or set the "
                "clock with --as-of to the last known day."
            )
        return loader(windows, self.batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """One window for each series that can be forecast, at the panel's end."""
        end = self.panel.n_steps
        return loader(self.windows(np.array([end]), end, min_future=0), self.batch_size)

    def save(self, run: Path) -> None:
        """Write window.json: what the scorer must know to cut the same windows."""
        settings = {
            "step_days": self.panel.step_days,
            "horizon_days": self.horizon_days,
            "context_days": self.context_days,
            "n_titles": self.n_titles,
        }
        write_json(run / "window.json", settings)
