"""NeuMF or SASRec of RecBole, trained in laps (benchmarks/peers/laps.py): `laps_recbole.py SPLIT SETTINGS`.

A sample is a title that a member wanted; what is drawn at random beside it is not counted. SASRec takes minutes for an
epoch: its lap is `batches` of one.
"""

import itertools
import json
import logging
import sys
import tempfile
from pathlib import Path

import pandas as pd
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

from benchmarks.peers.exchange import Split
from benchmarks.peers.laps import Laps
from benchmarks.peers.recbole_common import NAME, configuration, write

_SEED = 42


def sequences(split: Split, folder: Path) -> Config:
    """The library's own way with histories: it cuts them itself, one row for each title and what came before it."""
    train = split.table("train")
    table = pd.DataFrame(
        {"user:token": train["user"], "item:token": train["item"], "time:float": train.groupby("row").cumcount()}
    )
    (folder / NAME).mkdir()
    table.to_csv(folder / NAME / f"{NAME}.inter", sep="\t", index=False)
    settings = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "USER_ID_FIELD": "user",
        "ITEM_ID_FIELD": "item",
        "TIME_FIELD": "time",
        "load_col": {"inter": ["user", "item", "time"]},
        "train_neg_sample_args": None,
        "seed": _SEED,
        "use_gpu": False,
        "show_progress": False,
    }
    return Config(model="SASRec", dataset=NAME, config_dict=settings)


if __name__ == "__main__":
    split, settings = Split(Path(sys.argv[1])), json.loads(sys.argv[2])
    model, batches = settings.pop("model", "NeuMF"), settings.pop("batches", None)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        if model == "SASRec":
            config = sequences(split, Path(name))
        else:
            write(split, Path(name))
            config = configuration(model, Path(name), settings, _SEED)
        init_seed(config["seed"], config["reproducibility"])
        train, _, _ = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, get_model(model)(config, train.dataset).to(config["device"]))
    endless = itertools.chain.from_iterable(itertools.repeat(train))
    samples, epoch, laps = len(train.dataset), 0, Laps()
    while True:
        laps.wait()
        trainer._train_epoch(train if batches is None else itertools.islice(endless, batches), epoch)
        laps.done(samples if batches is None else batches * config["train_batch_size"])
        epoch += 1
