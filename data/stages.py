"""How far a training is, in lines for a log: a bar that renews itself is nothing for a file or another program."""

import math
import time
from typing import Any

import pytorch_lightning as pl

EVERY_SECONDS = 5.0


class Stages(pl.Callback):
    """Prints `Training, 37 %: epoch 2 of at most 4` when the number has changed, every few seconds at most.

    The share is that of the epochs asked for; a training that stops early was never to reach its end.

    Args:
        word: what it is, such as "Training".
        at_most: whether it may stop earlier.
    """

    def __init__(self, word: str, at_most: bool) -> None:
        self._word, self._at_most = word, at_most
        self._told, self._last = -math.inf, ""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and time.monotonic() - self._told >= EVERY_SECONDS:
            self._tell(trainer, batch_idx + 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._tell(trainer, 0)

    def _tell(self, trainer: pl.Trainer, done: int) -> None:
        line = self.line(trainer, done)
        if line != self._last:
            self._told, self._last = time.monotonic(), line
            print(line, flush=True)

    def line(self, trainer: Any, done: int) -> str:
        """What there is to tell when `done` batches of the epoch are; without a percentage where the trainer knows no
        number of epochs or batches."""
        epoch, epochs, batches = trainer.current_epoch, trainer.max_epochs, trainer.num_training_batches
        if not epochs or epochs < 0:
            return f"{self._word}: epoch {epoch + 1}"
        where = f"epoch {epoch + 1} of {'at most ' if self._at_most else ''}{epochs}"
        if not batches or not math.isfinite(batches):
            return f"{self._word}: {where}"
        return f"{self._word}, {100 * min(1.0, (epoch + min(done / batches, 1.0)) / epochs):.0f} %: {where}"
