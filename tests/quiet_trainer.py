"""A trainer for tests: on the CPU, with nothing printed and nothing written."""

import pytorch_lightning as pl


def quiet_trainer(max_epochs: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
