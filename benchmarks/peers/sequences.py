"""SASRec and BERT4Rec of RecTools: trained on a split, scoring any histories.

The library's own code prepares sequences and trains. We watch NDCG@10 on validation after each epoch, keep the weights
of the best one, and score by the library's network.
"""

import copy
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models.nn.transformers.base import TransformerModelBase

from benchmarks.peers.exchange import LOWEST, Asked, Scorer, Split, Validation, Watch

ROWS_AT_ONCE = 256


class Histories:
    """Histories as the library's batches, each row a user of its own.

    Args:
        preparator: the trained model's; titles that it does not know are left out.
        table: row, item; each row's oldest first.
        n_rows: rows in all.
        n_items: titles in all.
    """

    def __init__(self, preparator: Any, table: pd.DataFrame, n_rows: int, n_items: int) -> None:
        self.shape = n_rows, n_items
        whole = Dataset.construct(interactions(table))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rows without a title that the model knows
            chosen = preparator.transform_dataset_u2i(whole, table["row"].unique())
        self.rows = chosen.user_id_map.external_ids.astype(int)  # in the order of the batches
        self.batches = list(preparator.get_dataloader_recommend(chosen, ROWS_AT_ONCE))
        self.items = preparator.get_known_item_ids().astype(int)
        self.places = torch.from_numpy(preparator.get_known_items_sorted_internal_ids())

    @torch.no_grad()
    def scores(self, network: Any) -> np.ndarray:
        """Shape: (n_rows, n_items), float32."""
        network.eval()
        vectors = network.item_model.get_all_embeddings()
        found = np.full(self.shape, LOWEST, np.float32)
        done = 0
        for batch in self.batches:
            last = network.encode_sessions(batch, vectors)[:, -1]  # (rows, factors)
            rows = self.rows[done : done + len(last)]
            found[np.ix_(rows, self.items)] = network.similarity_module(last, vectors)[:, self.places].numpy()
            done += len(last)
        return found


def interactions(table: pd.DataFrame) -> pd.DataFrame:
    """The library's columns. It sorts by time; the place in the history is given as such, so that ties stay ours."""
    place = table.groupby("row").cumcount()
    return pd.DataFrame(
        {
            Columns.User: table["row"],
            Columns.Item: table["item"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(place, unit="s"),
        }
    )


class Best(Callback):
    """Keeps the weights of the epoch with the best NDCG@10 on validation, and ends the training as the watch says."""

    def __init__(self, split: Split, watch: Watch) -> None:
        self.split, self.watch, self.validation = split, watch, Validation(split)
        self.weights: dict[str, torch.Tensor] = {}
        self.histories: Histories | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Best":
        return self  # the library trains a copy of the trainer; the weights must be found here

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network: Any = pl_module.torch_model
        if self.histories is None:
            self.histories = histories(self.split, "before_validation", pl_module.data_preparator)
        if self.watch.better(self.validation.ndcg(self.histories.scores(network))):
            self.weights = copy.deepcopy(network.state_dict())
        network.train()
        trainer.should_stop = self.watch.over


def histories(split: Split, asked: Asked, preparator: Any) -> Histories:
    return Histories(preparator, split.table(asked), split.rows[asked], split.n_items)


def fit(kind: type[TransformerModelBase], split: Split, settings: dict[str, Any], seed: int, watch: Watch) -> Scorer:
    """Train a model of `kind`; `settings` are its arguments, of which `epochs` is the most that it gets."""
    seed_everything(seed)
    best = Best(split, watch)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=settings["epochs"],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[best],
        )

    model = kind(**settings, get_trainer_func=trainer)
    model.fit(Dataset.construct(interactions(split.table("train"))))
    model.torch_model.load_state_dict(best.weights)
    return lambda asked: histories(split, asked, model.data_preparator).scores(model.torch_model)
