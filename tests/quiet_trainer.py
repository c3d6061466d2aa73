"""A trainer for tests: on the CPU, with nothing printed and nothing written."""

from typing import Any

import pytorch_lightning as pl


def quiet_trainer(max_epochs: int, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
