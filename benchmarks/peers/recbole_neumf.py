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
import torch
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import NeuMF
from recbole.trainer import Trainer
from recbole.utils import init_seed

from benchmarks.peers.exchange import LOWEST, Asked, Scorer, Split, Watch, answer
from benchmarks.peers.recbole_common import PAIRS_AT_ONCE, configuration, known, write


class _OverError(Exception):
    """The watch says that training should end."""


def fit(split: Split, settings: dict[str, Any], seed: int, watch: Watch) -> Scorer:
    """Train NeuMF; `settings` are the library's, and `negatives`."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(split, folder)
        config = configuration("NeuMF", folder, settings | {"stopping_step": watch.patience}, seed)
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
