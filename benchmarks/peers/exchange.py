"""What passes between us and a peer, which lives in an environment of its own.

We write a folder for each split:

    split.json                  n_users, n_items and, of before_validation and before_test, the number of rows
    train.parquet               what is learned from
    before_validation.parquet   a history for each row that is to be ranked for
    validation.parquet          what these rows wanted next: for stopping early, never to be learned from
    before_test.parquet         histories for the test; what the last of a user's rows wanted next is nowhere

Each table has the columns row, user, item, time: integers in model order (time in microseconds), each row's oldest
first. Ties in time have an order of ours, so it is the order that counts. In `train` the row is the user; elsewhere a
user may have several rows (where titles are predicted one by one, each row's history holds what the rows before it
wanted: nothing is learned from it). The peer answers with a folder for each of its trials:

    before_validation.npy, before_test.npy      scores (rows, n_items) float32, the more the better
    about.json                                  see `About`; written last

A peer's file is a function `fit` given to `answer`. This module needs numpy, pandas, pyarrow and torch alone.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from recsys import metrics
from recsys.cost import Cost

if TYPE_CHECKING:
    from recsys.datamodule import RecommenderData

Asked = Literal["before_validation", "before_test"]
ASKED: tuple[Asked, Asked] = ("before_validation", "before_test")
LOWEST = float(np.finfo(np.float32).min)  # the score of a title that the peer does not know


class About(NamedTuple):
    """What a trial says of itself."""

    epochs: int  # that the model which scored has seen
    trained: int  # epochs in all
    out_of_time: bool
    seconds: float
    peak_mib: float | None
    scoring_seconds: float  # of before_test


def write_split(data: "RecommenderData", folder: Path) -> None:
    """Write the split that `data` holds into `folder` (see the module's text)."""
    validation, test = data.ranking("validation"), data.ranking("test")
    tables = {
        "train": (np.arange(data.n_users), data.train),
        "before_validation": (validation.users, validation.seen),
        "validation": (validation.users, validation.targets),
        "before_test": (test.users, test.seen),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (users, histories) in tables.items():
        row, item = histories.users, histories.items
        pd.DataFrame({"row": row, "user": users[row], "item": item, "time": histories.times}).to_parquet(
            folder / f"{name}.parquet", index=False
        )
    rows = {"before_validation": len(validation.users), "before_test": len(test.users)}
    about = {"n_users": data.n_users, "n_items": data.n_items, "rows": rows}
    (folder / "split.json").write_text(json.dumps(about), "utf-8")


class Split:
    """The folder that `write_split` wrote."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "split.json").read_text("utf-8"))
        self.folder = folder
        self.n_users, self.n_items, self.rows = about["n_users"], about["n_items"], about["rows"]

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"{name}.parquet")

    def members(self, asked: Asked) -> np.ndarray:
        """The user of each row; every row has a history. Shape: (rows,)."""
        return self.table(asked).drop_duplicates("row").sort_values("row")["user"].to_numpy()


class Validation:
    """NDCG@10 on the validation titles, without what a row has seen: by it a peer stops early."""

    def __init__(self, split: Split) -> None:
        seen, targets = split.table("before_validation"), split.table("validation")
        self.rows = split.rows["before_validation"]
        self.seen = torch.from_numpy(seen["row"].to_numpy()), torch.from_numpy(seen["item"].to_numpy())
        self.targets = torch.from_numpy(targets["row"].to_numpy()), torch.from_numpy(targets["item"].to_numpy())
        self.order = metrics.tie_order(split.n_items, 0)

    def ndcg(self, scores: np.ndarray) -> float:
        """Of scores (rows, n_items)."""
        unseen = torch.from_numpy(scores).index_put(self.seen, torch.tensor(-torch.inf))
        ranks = metrics.ranks_of(unseen, *self.targets, self.order)
        return float(metrics.ndcg(ranks, self.targets[0], self.rows, 10).nanmean())


class Watch:
    """Says when training should end: `patience` epochs without a better value, or `minutes` after it began."""

    def __init__(self, patience: int, minutes: float) -> None:
        self.patience, self.until = patience, time.monotonic() + 60 * minutes
        self.epoch = self.best_epoch = 0
        self.best = -np.inf
        self.out_of_time = False

    def better(self, value: float) -> bool:
        """An epoch ended with `value` on validation: whether it is the best so far."""
        self.epoch += 1
        if value > self.best:
            self.best, self.best_epoch = value, self.epoch
        self.out_of_time = time.monotonic() > self.until
        return self.best_epoch == self.epoch

    @property
    def over(self) -> bool:
        return self.out_of_time or self.epoch - self.best_epoch >= self.patience


Scorer = Callable[[Asked], np.ndarray]  # -> (rows, n_items) float32
Fit = Callable[[Split, dict[str, Any], int, Watch], Scorer]


def answer(fit: Fit) -> None:
    """The whole of a peer's command: `peer.py SPLIT OUT --settings JSON --seed N --minutes M`.

    Args:
        fit: trains on a split with settings (but `patience`) and a seed, tells the watch of each epoch, and returns
            what scores with the best epoch's model.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("split", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    split, settings = Split(given.split), dict(given.settings)
    watch = Watch(settings.pop("patience", 10), given.minutes)
    with Cost() as cost:
        scorer = fit(split, settings, given.seed, watch)
    given.out.mkdir(parents=True, exist_ok=True)
    scoring = 0.0
    for asked in ASKED:
        began = time.perf_counter()
        scores = scorer(asked)
        scoring = time.perf_counter() - began
        np.save(given.out / f"{asked}.npy", scores.astype(np.float32))
    about = About(watch.best_epoch, watch.epoch, watch.out_of_time, cost.seconds, cost.peak_mib, scoring)
    whole = given.out / ".about.json"
    whole.write_text(json.dumps(about._asdict()), "utf-8")
    whole.replace(given.out / "about.json")


def _end_with(parent: int) -> None:
    """Wait until the process that started us is gone, however it ended, and end too."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
