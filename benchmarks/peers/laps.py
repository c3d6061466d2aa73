"""Training in laps, started one at a time from outside: what benchmarks/pace.py holds the other end of.

The process says `ready` when it could begin. For each line that it reads it trains an epoch, or so many batches of one
as it was told, and answers with what it has learned from and the seconds, `[samples, seconds]`; when there are no more
lines it ends. So two trainings can take turns on one machine, and neither pays for what it does before and between the
laps.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Laps:
    """The answering end. What libraries print goes to the error output from here on."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        # With one thread the processor's own time is exact; on a busy machine the wall clock counts others' turns.
        self._clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        self._began = 0.0
        print("ready", file=self._out)

    def wait(self) -> None:
        """Until the next lap is asked for; ends the process if none is."""
        if not sys.stdin.readline():
            os._exit(0)  # a library's shutdown may abort, and there is nothing to keep
        self._began = self._clock()

    def done(self, samples: int) -> None:
        seconds = self._clock() - self._began
        print(json.dumps([samples, seconds]), file=self._out)


class EpochLaps(Callback):
    """A lap for each epoch of a Lightning training.

    Args:
        count: how many samples a batch holds.
    """

    def __init__(self, count: Callable[[Any], int]) -> None:
        self.count, self.samples = count, 0
        self.laps: Laps | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "EpochLaps":
        return self  # RecTools trains a copy of the trainer

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.laps = self.laps or Laps()
        self.samples = 0
        self.laps.wait()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.samples += self.count(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.laps is not None:
            self.laps.done(self.samples)


def trainer(laps: EpochLaps, batches: int | None = None, **settings: Any) -> Trainer:
    """A trainer that does nothing but train, for as long as laps are asked for, of so many batches or a whole epoch."""
    return Trainer(
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=batches,
        limit_val_batches=0,
        callbacks=[laps],
        **settings,
    )
