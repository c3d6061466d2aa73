"""Series to batches of windows: what was seen, and what came after it.

A window is a series and an origin, the step at which its future begins. A batch holds

    context    (batch, context)   float32   values before the origin, oldest first, NaN where unknown
    target     (batch, horizon)   float32   values from the origin on, NaN where unknown or not yet known
    phase      (batch,)           int64     the origin in steps since 1970, so that weekdays and hours of the day align
    age        (batch,)           float32   steps from the series' first known value to the origin
    series     (batch,)           int64     row in the panel
    origin     (batch,)           int64     step in the panel

The split is one in time: the last horizon is test, the two before it are validation, and nothing of a block is seen by
a window of an earlier one. Origins in a block lie a quarter of a horizon apart; the later ones see less than a whole
horizon ahead, because their block ends. Where the history is short the blocks are shorter than the horizon, and where
there is nothing before them to learn from, the forecaster stays what made-up series taught it.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from data.atomic import write_json
from data.dataset import open_dataset
from data.errors import UserError
from data.faster import pinned
from forecasting.batches import as_it_is
from forecasting.forecaster import Batch
from forecasting.frequency import Frequency
from forecasting.series import Panel, load_panel

MAX_HORIZON = 90
HISTORY_WINDOWS = 2048
_VALIDATION_HORIZONS = 2
_ORIGINS_IN_A_HORIZON = 4
_THURSDAY = 3  # 1970-01-01


class Windows(Dataset[Batch]):
    """Windows of `panel`, drawn many at a time by one gather."""

    def __init__(self, panel: Panel, horizon: int, series: Tensor, origin: Tensor) -> None:
        """Windows of the rows `series` at the steps `origin`; (windows,) int64 each."""
        context = panel.frequency.context
        values = torch.from_numpy(panel.values.astype(np.float32))
        padded = F.pad(values, (context, horizon), value=torch.nan)
        self._windows = padded.unfold(1, context + horizon, 1)  # (n_series, n_steps + 1, window): a view
        self._context = context
        self.series, self.origin = series.to(torch.int32), origin.to(torch.int32)
        known = values.isfinite()
        self._first_known = torch.where(known.any(1), known.to(torch.int8).argmax(1), values.shape[1])
        self._first_step = panel.first_unit // panel.frequency.size
        if panel.frequency.unit == "D" and panel.frequency.size == 1:
            self._first_step += _THURSDAY

    def __len__(self) -> int:
        return len(self.series)

    def at(self, positions: Tensor) -> "Windows":
        """The windows at `positions` alone."""
        chosen = copy.copy(self)
        chosen.series, chosen.origin = self.series[positions], self.origin[positions]
        return chosen

    def __getitem__(self, index: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.tensor(indices, dtype=torch.int64)
        series, origin = self.series[chosen].long(), self.origin[chosen].long()
        window = self._windows[series, origin]  # (batch, context + horizon)
        return {
            "context": window[:, : self._context],
            "target": window[:, self._context :],
            "phase": origin + self._first_step,
            "age": (origin - self._first_known[series]).clamp_min(0).float(),
            "series": series,
            "origin": origin,
        }


def windows_at(panel: Panel, horizon: int, origins: np.ndarray, least_past: int, least_future: int) -> Windows:
    """Every series at every origin with `least_past` known steps in the context and `least_future` after it."""
    context = panel.frequency.context
    known = torch.from_numpy(np.isfinite(panel.values)).to(torch.int32)
    until = F.pad(F.pad(known, (context, horizon)).cumsum(1, dtype=torch.int32), (1, 0))
    at = torch.from_numpy(origins.astype(np.int64))
    before = until[:, at + context] - until[:, at]
    after = until[:, at + context + horizon] - until[:, at + context]
    series, place = torch.nonzero((before >= least_past) & (after >= least_future), as_tuple=True)
    return Windows(panel, horizon, series, at[place])


def windows_to_come(panel: Panel, horizon: int) -> tuple[Windows, np.ndarray]:
    """One window at the panel's end for each series with a known value, and how many steps each is out of date.

    A series that ended before the context begins is forecast from its last known steps as if they had just been, moved
    by whole seasons; `stale` says by how many steps. Shape: (windows,).
    """
    known = np.isfinite(panel.values)
    rows = np.flatnonzero(known.any(axis=1))
    last = panel.n_steps - 1 - known[rows, ::-1].argmax(axis=1)
    season = panel.frequency.seasons[-1]
    missing = panel.n_steps - 1 - last
    too_late = missing > panel.frequency.context - 2 * panel.frequency.windows[0]
    stale = np.where(too_late, missing // season * season, 0)
    origin = torch.from_numpy(panel.n_steps - stale)
    return Windows(panel, horizon, torch.from_numpy(rows), origin), stale


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
    return DataLoader(windows, batch_size=batch_size, sampler=sampler, collate_fn=as_it_is, pin_memory=pinned())


class EngagementData(pl.LightningDataModule):
    """Windows over all series of a dataset.

    Args:
        dataset: name of the dataset.
        horizon: steps that a window looks ahead, at most 90; null: what suits the frequency.
        frequency: of the steps, a name in forecasting.frequency.FREQUENCIES; null chooses by the data.
        n_titles: how many of the most watched titles get a series of their own.
        batch_size: windows in a batch.
        windows_per_epoch: windows drawn in an epoch of training, at most all there are.
    """

    def __init__(
        self,
        dataset: str = "demo",
        horizon: int | None = None,
        frequency: str | None = None,
        n_titles: int = 20,
        batch_size: int = 128,
        windows_per_epoch: int = 4096,
    ) -> None:
        super().__init__()
        least = {"n_titles": 0, "batch_size": 1, "windows_per_epoch": 1}
        for name, value in zip(least, (n_titles, batch_size, windows_per_epoch), strict=True):
            if value < least[name]:
                raise UserError(f"--data.{name} {value} must be at least {least[name]}.")
        if horizon is not None and not 1 <= horizon <= MAX_HORIZON:
            raise UserError(f"--data.horizon {horizon} must be between 1 and {MAX_HORIZON} steps.")
        self.dataset, self.n_titles = dataset, n_titles
        self.asked_horizon, self.asked_frequency = horizon, frequency
        self.batch_size, self.windows_per_epoch = batch_size, windows_per_epoch
        self.fit_on: Literal["train", "everything"] = "train"
        self._panel: Panel | None = None

    @property
    def panel(self) -> Panel:
        """The series; read from the dataset when first asked for.

        Raises:
            UserError: there is nothing to forecast, or too little of it to measure a forecast.
        """
        if self._panel is None:
            dataset = open_dataset(self.dataset)
            panel = load_panel(dataset, self.n_titles, 0, self.asked_frequency)
            unseen = (1 + _VALIDATION_HORIZONS) * (self.asked_horizon or panel.frequency.horizon)
            self.use(load_panel(dataset, self.n_titles, min(unseen, panel.n_steps - 1), self.asked_frequency))
        assert self._panel is not None
        return self._panel

    def use(self, panel: Panel) -> "EngagementData":
        """Work on `panel` instead of the dataset's own: for a backtest, which cuts it off. Returns itself.

        Raises:
            UserError: see `panel`.
        """
        least = panel.frequency.windows[0] + 2 + _VALIDATION_HORIZONS
        if panel.n_steps < least:
            raise UserError(
                f"Dataset '{self.dataset}' has a history of {panel.frequency.count(panel.n_steps)}, but a forecast "
                f"that can be checked needs {least}: add earlier data."
            )
        self._panel = panel
        return self

    @property
    def steps(self) -> Frequency:
        return self.panel.frequency

    # What the module must know; linked to its arguments by the command line.
    @property
    def frequency(self) -> str:
        return self.steps.name

    @property
    def horizon(self) -> int:
        return self.asked_horizon or self.steps.horizon

    # -- the split -----------------------------------------------------------------------------------------------

    @property
    def block_steps(self) -> int:
        """Length of the test block: a horizon, or what a short history leaves after "lately" and two such blocks."""
        room = self.panel.n_steps - 2 * self.steps.windows[0]
        return max(1, min(self.horizon, room // (2 + _VALIDATION_HORIZONS)))

    def block(self, split: Literal["validation", "test"]) -> tuple[int, int]:
        """First step of a block and the step after its last."""
        end, length = self.panel.n_steps, self.block_steps
        return (end - length, end) if split == "test" else (end - (1 + _VALIDATION_HORIZONS) * length, end - length)

    def origins(self, split: Literal["validation", "test"]) -> np.ndarray:
        """Origins in a block, a quarter of a horizon apart, the last with at least that much ahead of it."""
        start, stop = self.block(split)
        stride = max(1, self.block_steps // _ORIGINS_IN_A_HORIZON)
        return np.arange(start, stop - stride + 1, stride)

    def windows(self, origins: np.ndarray, until: int, least_future: int = 1) -> Windows:
        """Windows at `origins` that see nothing from step `until` on, not even as a target."""
        return windows_at(self.panel.until(until), self.horizon, origins, self.steps.windows[0], least_future)

    def training_windows(self) -> Windows:
        """Windows to learn from. Where the history is too short for any, their targets are unknown and teach nothing.

        Raises:
            UserError: no series has a known value there.
        """
        stop = self.block("validation")[0] if self.fit_on == "train" else self.panel.n_steps
        short = self.steps.windows[0]
        ahead = min(short, self.horizon)
        found = self.windows(np.arange(2 * short, max(stop - ahead, 2 * short - 1) + 1), stop, least_future=ahead)
        if len(found) == 0:
            found, _ = windows_to_come(self.panel.until(stop), self.horizon)
        if len(found) == 0:
            raise UserError(
                f"No series of dataset '{self.dataset}' has a known value before the validation block, so there is "
                "nothing to learn from: add earlier data."
            )
        return found

    def train_dataloader(self) -> DataLoader[Batch]:
        return loader(self.training_windows(), self.batch_size, self.windows_per_epoch)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """The validation block, and HISTORY_WINDOWS windows evenly from before it, for leaning and intervals."""
        block = self._held_out("validation")
        earlier = self.training_windows()
        chosen = torch.linspace(0, len(earlier) - 1, min(len(earlier), HISTORY_WINDOWS)).long()
        return [block, loader(earlier.at(chosen), self.batch_size)]

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._held_out("test")

    def _held_out(self, split: Literal["validation", "test"]) -> DataLoader[Batch]:
        start, stop = self.block(split)
        windows = self.windows(self.origins(split), stop)
        if len(windows) == 0:
            first, last = self.panel.dates(start, stop)[[0, -1]]
            raise UserError(
                f"No series of dataset '{self.dataset}' is known from {first:%Y-%m-%d} to {last:%Y-%m-%d} and before, "
                f"the time of {split}, so a forecast cannot be checked: import what is missing there, or set the "
                "clock with --as-of to the last known day."
            )
        return loader(windows, self.batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """One window for each series with a known value, at the panel's end."""
        return loader(windows_to_come(self.panel, self.horizon)[0], self.batch_size)

    def save(self, run: Path) -> None:
        """Write window.json: what the scorer must know to cut the same windows."""
        settings = {
            "frequency": self.frequency,
            "frequency_was_asked_for": self.asked_frequency is not None,
            "horizon": self.horizon,
            "n_titles": self.n_titles,
        }
        write_json(run / "window.json", settings)
