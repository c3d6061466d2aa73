"""The second half of a fit: a fresh model learns from everything, for the epochs that validation chose."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint


def prepare_refit(
    fitted: pl.LightningModule,
    best: Path,
    datamodule: Any,
    trainer_config: Mapping[str, Any],
    epochs: int,
    seed: Any,
    **overrides: Any,
) -> tuple[pl.LightningModule, pl.Trainer]:
    """A fresh module and the trainer for it; `datamodule` is switched to everything. Training is left to the caller.

    What only held-out data can teach (a calibration) the module takes over from the fitted one, by `warm_start`.

    Args:
        fitted: a module of the class and with the hyper-parameters wanted.
        best: its best checkpoint.
        datamodule: has `fit_on`.
        trainer_config: what the first trainer was made of.
        epochs: how many epochs to train for, at least one.
        seed: as `seed_everything` takes it; True and False leave the seed as it is.
        overrides: further arguments of the trainer.
    """
    if not isinstance(seed, bool) and seed is not None:
        pl.seed_everything(seed, workers=True, verbose=False)
    datamodule.fit_on = "everything"
    model = type(fitted)(**fitted.hparams)
    warm_start = getattr(model, "warm_start", None)
    if callable(warm_start):
        warm_start(type(fitted).load_from_checkpoint(best, map_location="cpu", weights_only=True))
    kept = [c for c in trainer_config.get("callbacks") or [] if not isinstance(c, (EarlyStopping, ModelCheckpoint))]
    settings = {
        **trainer_config,
        "callbacks": copy.deepcopy(kept),
        "max_epochs": max(1, epochs),
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        **overrides,
    }
    return model, pl.Trainer(**settings)
