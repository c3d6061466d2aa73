"""NeuMF (He et al. 2017) of RecBole: trained on a split by the library's trainer, scoring the members that it knows.

It knows a member by an embedding and does not look at histories: what it scores for `before_test` it learned from
`train` alone.
"""

import contextlib
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import NeuMF
from recbole.trainer import Trainer
from recbole.utils import init_seed

from benchmarks.peers.exchange import LOWEST, Asked, Scorer, Split, Watch, answer

NAME = "split"  # the library names its files by the data set
PAIRS_AT_ONCE = 2**18


class _OverError(Exception):
    """The watch says that training should end."""


def configuration(folder: Path, settings: dict[str, Any], seed: int) -> Config:
    """The library's, for the files that `write` wrote into `folder`; `negatives` are drawn for each positive."""
    own = dict(settings)
    negatives = own.pop("negatives", 1)
    fixed = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "benchmark_filename": ["train", "validation", "validation"],  # it wants a third: the test stays with us
        "USER_ID_FIELD": "user",
        "ITEM_ID_FIELD": "item",
        "load_col": {"inter": ["user", "item"]},
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": negatives, "dynamic": False},
        "eval_args": {"group_by": "user", "order": "RO", "mode": "full", "split": None},
        "metrics": ["NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 8,
        "eval_batch_size": PAIRS_AT_ONCE,
        "seed": seed,
        "use_gpu": False,
        "show_progress": False,
    }
    return Config(model="NeuMF", dataset=NAME, config_dict=own | fixed)


def write(split: Split, folder: Path) -> None:
    """The library's own tab-separated files, named by what they hold."""
    target = folder / NAME
    target.mkdir()
    for name in ("train", "validation"):
        table = split.table(name)
        named = pd.DataFrame({"user:token": table["user"], "item:token": table["item"]})
        named.to_csv(target / f"{NAME}.{name}.inter", sep="\t", index=False)


def fit(split: Split, settings: dict[str, Any], seed: int, watch: Watch) -> Scorer:
    """Train NeuMF; `settings` are the library's, and `negatives`."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(split, folder)
        config = configuration(folder, settings | {"stopping_step": watch.patience}, seed)
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, validation, _ = data_preparation(config, dataset)
        model = NeuMF(config, train.dataset).to(config["device"])
        best: dict[str, torch.Tensor] = {}

        def told(epoch: int, value: float) -> None:
            if watch.better(value):
                best.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
            if watch.over:
                raise _OverError

        with contextlib.suppress(_OverError):
            Trainer(config, model).fit(train, validation, verbose=False, saved=False, callback_fn=told)
        model.load_state_dict(best)
    users, items = known(dataset, "user", split.n_users), known(dataset, "item", split.n_items)
    return lambda asked: scores(model, split, asked, users, items)


def known(dataset: Any, field: str, size: int) -> np.ndarray:
    """The library's number of each user or title of ours, 0 where it has none. Shape: (size,)."""
    numbers = dataset.field2token_id[field]
    return np.array([numbers.get(str(ours), 0) for ours in range(size)])


@torch.no_grad()
def scores(model: NeuMF, split: Split, asked: Asked, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Logits of the members of the rows asked for. Shape: (rows, n_items), float32."""
    model.eval()
    members, row = np.unique(split.members(asked), return_inverse=True)
    there = np.flatnonzero(items)
    titles = torch.from_numpy(items[there])
    found = np.full((len(members), split.n_items), LOWEST, np.float32)
    at_once = max(1, PAIRS_AT_ONCE // len(titles))
    for first in range(0, len(members), at_once):
        some = torch.from_numpy(users[members[first : first + at_once]])
        logits = model(some.repeat_interleave(len(titles)), titles.repeat(len(some)))
        found[first : first + at_once, there] = logits.view(len(some), -1).numpy()
    return found[row]


if __name__ == "__main__":
    answer(fit)
