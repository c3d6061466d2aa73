"""What a model package brings to the command that all share, see data/training.py."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

Complete = Callable[[Path, pl.LightningDataModule], dict[str, Any]]  # (run folder with model.ckpt, datamodule)
Measure = Callable[[pl.LightningModule, pl.LightningDataModule, Path], dict[str, Any]]


@dataclass(frozen=True)
class Package:
    """What one model package brings to the shared command."""

    name: str  # "recsys"
    models: tuple[str, ...]  # names of the runs that it makes, from data.runs.MODELS
    measure: Measure  # (best module, datamodule, run folder) -> metrics, headline, split, notes, calibration
    evaluate: Callable[[list[str]], None]  # the arguments after `evaluate`
    open_run: Callable[[Path], object]  # loads a run as the scorer does; raises where it cannot be used
    links: tuple[tuple[str, str], ...] = ()  # datamodule attribute -> module argument, e.g. ("n_users", "n_users")
    complete: Complete | None = None  # what a run needs besides its checkpoint; what it returns joins the report
    further: Mapping[str, Callable[[list[str]], None]] = field(default_factory=dict)  # commands of this package alone
