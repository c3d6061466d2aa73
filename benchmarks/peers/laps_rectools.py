"""SASRec of RecTools, trained in laps (benchmarks/peers/laps.py): `laps_rectools.py SPLIT SETTINGS`. A sample is a
title that is to be predicted. Of `settings`, `batches` is how many of them a lap has."""

import json
import sys
from pathlib import Path

from pytorch_lightning import seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from benchmarks.peers.exchange import Split
from benchmarks.peers.laps import EpochLaps, trainer
from benchmarks.peers.sequences import interactions

if __name__ == "__main__":
    split, settings = Split(Path(sys.argv[1])), json.loads(sys.argv[2])
    seed_everything(42)
    batches = settings.pop("batches", None)
    laps = EpochLaps(lambda batch: int((batch["y"] != 0).sum()))
    model = SASRecModel(**settings, get_trainer_func=lambda: trainer(laps, batches))
    model.fit(Dataset.construct(interactions(split.table("train"))))
