"""Mult-VAE (Liang et al. 2018) of RecBole: trained on a split's members, scoring any set of titles.

The library trains, an epoch at a time; its network reads and writes all titles of a member at once, so histories of
members whom it never met are scored by its `forward`.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import MultiVAE
from recbole.trainer import Trainer
from recbole.utils import init_seed

from benchmarks.peers.exchange import LOWEST, Asked, Scorer, Split, Validation, Watch, answer
from benchmarks.peers.recbole_common import configuration, known, write

ROWS_AT_ONCE = 512


def fit(split: Split, settings: dict[str, Any], seed: int, watch: Watch) -> Scorer:
    """Train Mult-VAE; `settings` are the library's."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(split, folder)
        config = configuration("MultiVAE", folder, settings | {"negatives": 0}, seed)
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, _, _ = data_preparation(config, dataset)
        model = MultiVAE(config, train.dataset).to(config["device"])
        trainer, validation = Trainer(config, model), Validation(split)
        items = known(dataset, "item", split.n_items)
        best: dict[str, torch.Tensor] = {}
        for epoch in range(config["epochs"]):
            trainer._train_epoch(train, epoch)
            if watch.better(validation.ndcg(scores(model, split, "before_validation", items))):
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            if watch.over:
                break
        model.load_state_dict(best)
    return lambda asked: scores(model, split, asked, items)


@torch.no_grad()
def scores(model: MultiVAE, split: Split, asked: Asked, items: np.ndarray) -> np.ndarray:
    """Logits after the histories asked for. Shape: (rows, n_items), float32."""
    model.eval()
    table, rows = split.table(asked), split.rows[asked]
    there = np.flatnonzero(items)
    seen = torch.zeros(rows, model.n_items)
    seen[torch.from_numpy(table["row"].to_numpy()), torch.from_numpy(items[table["item"].to_numpy()])] = 1.0
    seen[:, 0] = 0.0  # titles that it does not know
    found = np.full((rows, split.n_items), LOWEST, np.float32)
    for first in range(0, rows, ROWS_AT_ONCE):
        logits = model(seen[first : first + ROWS_AT_ONCE])[0]
        found[first : first + ROWS_AT_ONCE, there] = logits[:, torch.from_numpy(items[there])].numpy()
    return found


if __name__ == "__main__":
    answer(fit)
