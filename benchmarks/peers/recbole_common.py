"""What RecBole's models have in common here: a split in the library's own files, its configuration, its numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.config import Config

from benchmarks.peers.exchange import Split

NAME = "split"  # the library names its files by the data set
PAIRS_AT_ONCE = 2**18


def configuration(model: str, folder: Path, settings: dict[str, Any], seed: int) -> Config:
    """The library's, for the files that `write` wrote into `folder`. Of `settings`, `negatives` are drawn for each
    positive, 0 for a model that takes none."""
    own = dict(settings)
    negatives = own.pop("negatives", 1)
    fixed = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "benchmark_filename": ["train", "validation", "validation"],  # it wants a third: the test stays with us
        "USER_ID_FIELD": "user",
        "ITEM_ID_FIELD": "item",
        "load_col": {"inter": ["user", "item"]},
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": negatives, "dynamic": False}
        if negatives
        else None,
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
    return Config(model=model, dataset=NAME, config_dict=own | fixed)


def write(split: Split, folder: Path) -> None:
    """The library's own tab-separated files, named by what they hold."""
    target = folder / NAME
    target.mkdir()
    for name in ("train", "validation"):
        table = split.table(name)
        named = pd.DataFrame({"user:token": table["user"], "item:token": table["item"]})
        named.to_csv(target / f"{NAME}.{name}.inter", sep="\t", index=False)


def known(dataset: Any, field: str, size: int) -> np.ndarray:
    """The library's number of each user or title of ours, 0 where it has none. Shape: (size,)."""
    numbers = dataset.field2token_id[field]
    return np.array([numbers.get(str(ours), 0) for ours in range(size)])
