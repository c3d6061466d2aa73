"""Tables to batches: positives for training, members with their targets for ranking.

A batch is a dict of tensors; whoever uses one finds the shapes here.

    train            user (b,) int64, item (b,) int64, weight (b,) float32: one positive each
    val, test        user (b,) int64
                     seen_row, seen_item (pairs,) int64: titles to leave out of the ranking, as rows of `user`
                     target_row, target_item (targets,) int64: the titles to be ranked high
    predict          user, seen_row, seen_item

Batches are cut from tensors as a whole: there is no Python per example, so no workers are needed.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from data import splits
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from data.faster import pinned
from recsys.interactions import Histories, Vocabulary, histories_of, positive_events
from recsys.ranking import Ranking

Batch = dict[str, Tensor]
Protocol = Literal["leave-one-out", "leave-five-out", "temporal", "held-out-users"]
PROTOCOLS = get_args(Protocol)
SPLITS: dict[str, Callable[[pd.DataFrame, int], splits.Split]] = {
    "leave-one-out": splits.leave_one_out,
    "leave-five-out": partial(splits.leave_last_out, n_test=5),
    "temporal": splits.temporal,
}


class Batches(IterableDataset[Batch]):
    """Calls `batch_of` with the rows of each batch; over all processes each row comes once in an epoch.

    Every process gets equally many batches, or a distributed step would wait for ever: the rows are cut into
    (steps x processes) parts of nearly equal size. With fewer rows than processes rows repeat.

    Args:
        n_rows: how many rows there are.
        batch_size: rows of a batch in one process, at most.
        batch_of: rows (b,) to a batch.
        seed: shuffle by this seed and the epoch; None keeps the order.
        epoch: tells the epoch, so that a resumed training goes on with its own order.
        limit: take no more rows than this in an epoch; 0: all.
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        batch_of: Callable[[Tensor], Batch],
        seed: int | None = None,
        epoch: Callable[[], int] = lambda: 0,
        limit: int = 0,
    ) -> None:
        self.n_rows, self.batch_size, self.batch_of, self.seed, self.epoch = n_rows, batch_size, batch_of, seed, epoch
        self.n_taken = min(n_rows, limit) if limit else n_rows

    def __len__(self) -> int:
        return -(-self.n_taken // (self.batch_size * _processes()[1]))

    def __iter__(self) -> Iterator[Batch]:
        rank, processes = _processes()
        if self.seed is None:
            rows = torch.arange(self.n_rows)
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
            rows = torch.randperm(self.n_rows, generator=generator)
        rows = rows[: self.n_taken]
        if 0 < self.n_rows < processes:
            rows = rows.repeat(processes)[:processes]
        parts = rows.tensor_split(max(1, len(self)) * processes)
        for part in parts[rank::processes]:
            if len(part):
                yield self.batch_of(part)


def _processes() -> tuple[int, int]:
    """This process's number and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class RecommenderData(pl.LightningDataModule):
    """A dataset's positive events, split, as batches of integers.

    Args:
        dataset: name of the dataset.
        protocol: how train, validation and test are cut: each member's last titles, two cuts in time, or over members.
        batch_size: positives of a training step (in each process).
        eval_batch_size: members ranked at once.
        half_life: after how many later titles of the same member a positive weighs half in the loss; 0: all alike.
        weight_floor: the least weight of a positive, as a share of the latest one's, when `half_life` is set.
        seed: of the shuffling and of ties in time.
        max_eval_members: members that validation and test ask, at most, chosen at random; 0: all.
    """

    takes_strangers = False  # whether the model can rank for members whom it was not trained on

    def __init__(
        self,
        dataset: str = "demo",
        protocol: Protocol = "leave-one-out",
        batch_size: int = 4096,
        eval_batch_size: int = 512,
        half_life: float = 0.0,
        weight_floor: float = 0.1,
        seed: int = 42,
        max_eval_members: int = 0,
    ) -> None:
        super().__init__()
        self.dataset, self.protocol, self.seed = dataset, protocol, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.half_life, self.weight_floor = half_life, weight_floor
        self.max_eval_members = max_eval_members
        self.fit_on: Literal["train", "everything"] = "train"
        self._loaded = False

    @property
    def n_users(self) -> int:
        self.load()
        return len(self.vocabulary.user_ids)

    @property
    def n_items(self) -> int:
        self.load()
        return len(self.vocabulary.item_ids)

    def load(self) -> None:
        """Read and split the dataset, once.

        Raises:
            UserError: there is no dataset, or too little in it to train and to measure.
        """
        if self._loaded:
            return
        dataset = open_dataset(self.dataset)
        self._read(dataset)
        _check(dataset, self)
        self._loaded = True

    def _read(self, dataset: Dataset) -> None:
        events = positive_events(dataset, self.seed)
        self.vocabulary = Vocabulary.of(dataset, events)
        self.everything = histories_of(self.vocabulary, events)
        if self.protocol == "held-out-users":
            parts = splits.held_out_users(events, self.seed)
            self.train, self.before_validation, self.validation, self.before_test, self.test = (
                histories_of(self.vocabulary, part) for part in parts
            )
        else:
            train, validation, test = SPLITS[self.protocol](events, self.seed)
            self.train, self.validation, self.test = (
                histories_of(self.vocabulary, p) for p in (train, validation, test)
            )

    def setup(self, stage: str) -> None:
        self.load()

    @property
    def fitted(self) -> Histories:
        """What the model learns from."""
        return self.everything if self.fit_on == "everything" else self.train

    @property
    def known(self) -> np.ndarray:
        """Members that training has seen: the others have no embedding worth the name. Shape: (n_users,) bool."""
        return self.train.lengths > 0

    def ranking(self, split: Literal["validation", "test"]) -> Ranking:
        """The members that the model can be measured on. For `test` the validation titles are history."""
        targets = self.validation if split == "validation" else self.test
        asked = targets.lengths > 0
        if not (self.protocol == "held-out-users" and self.takes_strangers):
            asked &= self.known  # nobody is known whom nobody trained on: there all are ranked for
        users = np.flatnonzero(asked)
        if 0 < self.max_eval_members < len(users):
            chosen = np.random.default_rng(self.seed).permutation(len(users))[: self.max_eval_members]
            users = users[np.sort(chosen)]
        ranking = Ranking(users, self._before(split, users), targets.take(users))
        # The last five are predicted one at a time.
        return ranking.one_by_one() if self.protocol == "leave-five-out" and split == "test" else ranking

    def _before(self, split: Literal["validation", "test"], users: np.ndarray) -> Histories:
        """What `users` have seen before the titles that they are asked for."""
        if self.protocol == "held-out-users":
            return (self.before_validation if split == "validation" else self.before_test).take(users)
        before = self.train.take(users)
        return before if split == "validation" else before.joined(self.validation.take(users))

    def wanted_keys(self) -> Tensor:
        """Sorted user * n_items + item of every positive that is learned from: what a negative must not be."""
        keys = self.fitted.users * self.n_items + self.fitted.items
        return torch.from_numpy(np.sort(keys))

    def weights(self) -> np.ndarray:
        """The positives' weights in the loss, 1 on average. Shape: (n_events,)."""
        if not self.half_life:
            return np.ones(len(self.fitted.items), np.float32)
        fading = self.weight_floor + (1 - self.weight_floor) * 0.5 ** (self.fitted.age / self.half_life)
        return (fading / fading.mean()).astype(np.float32)

    def train_dataloader(self) -> DataLoader[Batch]:
        users, items = torch.from_numpy(self.fitted.users), torch.from_numpy(self.fitted.items)
        weights = torch.from_numpy(self.weights())

        def batch_of(rows: Tensor) -> Batch:
            return {"user": users[rows], "item": items[rows], "weight": weights[rows]}

        return loader(Batches(len(items), self.batch_size, batch_of, self.seed, self.epoch))

    def epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer is not None else 0

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._ranking_loader(self.ranking("validation"))

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._ranking_loader(self.ranking("test"))

    def predict_dataloader(self) -> DataLoader[Batch]:
        everyone = np.arange(self.n_users)
        nothing = Histories.of(*(np.zeros(0, np.int64),) * 3, self.n_users, self.n_items)
        return self._ranking_loader(Ranking(everyone, self.everything, nothing))

    def _ranking_loader(self, ranking: Ranking) -> DataLoader[Batch]:
        return loader(Batches(len(ranking.users), self.eval_batch_size, lambda rows: ranking_batch(ranking, rows)))

    def save(self, run: Path) -> None:
        """Write the vocabulary, in model order, into the run's folder."""
        self.vocabulary.save(run, self.everything.popularity)


def ranking_batch(ranking: Ranking, rows: Tensor) -> Batch:
    """The batch of the members at `rows` of `ranking`."""
    at = rows.numpy()
    seen, targets = ranking.seen.take(at), ranking.targets.take(at)
    return {
        "user": torch.from_numpy(ranking.users[at]),
        "seen_row": torch.from_numpy(seen.users),
        "seen_item": torch.from_numpy(seen.items),
        "target_row": torch.from_numpy(targets.users),
        "target_item": torch.from_numpy(targets.items),
    }


def loader(batches: Batches) -> DataLoader[Batch]:
    # It warns of lengths that workers would get wrong: there are none.
    warnings.filterwarnings("ignore", ".*IterableDataset` has `__len__` defined.*")
    return DataLoader(batches, batch_size=None, pin_memory=pinned())


def _check(dataset: Dataset, data: RecommenderData) -> None:
    if len(data.vocabulary.item_ids) < 2:
        raise UserError(
            f"Dataset '{dataset.name}' has one title only, so there is nothing to choose from: import more."
        )
    splits_to_measure: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    if data.protocol == "held-out-users" and not data.takes_strangers:
        raise UserError("--data.protocol held-out-users needs a model that takes strangers: use recsys.history_data.")
    for split in splits_to_measure:
        if len(data.ranking(split).users) == 0:
            usual = "no member with three or more titles, so none can be held out and predicted from the rest"
            need = {
                "temporal": f"no member with titles both before and after the cut for {split}",
                "held-out-users": f"only {len(data.vocabulary.user_ids):,} members, too few to hold some of them out",
                "leave-five-out": "no member with seven or more titles, so that six can be held out",
            }.get(data.protocol, usual)
            raise UserError(f"Dataset '{dataset.name}' has {need}: import more interactions.")
