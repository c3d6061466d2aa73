"""What makes a training quicker on a GPU and changes nothing that it learns, as a Lightning callback.

    --trainer.callbacks+=data.faster.Faster --trainer.callbacks.compile=default

The rest is Lightning's own: `--trainer.precision bf16-mixed` halves what is moved, several GPUs are
`--trainer.devices 8`. Batches are cut from arrays and pinned where there is a GPU (`pinned`), so that copies to it run
beside the work.
"""

from typing import Literal

import pytorch_lightning as pl
import torch

from data.errors import UserError
from data.optimisation import fuse

Compile = Literal["none", "default", "reduce-overhead", "max-autotune"]


class Faster(pl.Callback):
    """Fused optimiser steps, compiled parts, quicker matrix products.

    Args:
        fused: one kernel for all parameters in an optimiser step instead of several for each.
        compile: compile the parts that the module names in `compiled` (torch.compile; the first steps take a minute
            more). `reduce-overhead` replays them as CUDA graphs, which helps small models whose kernels are over before
            the next one is launched; `max-autotune` also tries kernels.
        backend: what compiles, see torch.compiler.list_backends(); the modes are those of the usual one.
        matmul_precision: of products of float32 matrices, see torch.set_float32_matmul_precision; `high` lets GPUs with
            tensor cores use them.
    """

    def __init__(
        self,
        fused: bool = True,
        compile: Compile = "none",
        backend: str = "inductor",
        matmul_precision: Literal["highest", "high", "medium"] = "highest",
    ) -> None:
        self.fused, self.compile, self.backend, self.matmul_precision = fused, compile, backend, matmul_precision

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raises:
        UserError: the module names no part that can be compiled.
        """
        torch.set_float32_matmul_precision(self.matmul_precision)
        if self.compile == "none" or stage != "fit":
            return
        parts = getattr(pl_module, "compiled", ())
        if not parts:
            raise UserError(
                f"{type(pl_module).__name__} has no part that can be compiled: leave --trainer.callbacks.compile out."
            )
        for name in parts:
            part = pl_module.get_submodule(name)
            if part._compiled_call_impl is None:
                part.compile(backend=self.backend, mode=self.compile if self.backend == "inductor" else None)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.fused:
            for optimizer in trainer.optimizers:
                fuse(optimizer)


def pinned() -> bool:
    """Whether batches are to be pinned: where there is a GPU to copy them to."""
    return torch.cuda.is_available()
