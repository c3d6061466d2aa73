"""Histories to batches for HistoryNet (recsys/history.py).

train       item, rating, gap (b, events): a stretch of each member's history, the latest last
            target (b, targets): the titles to be predicted, target l from the events up to events - targets + l;
                `n_items` where there is none
            event (b, targets): number of the event before which each target is to be predicted
            weight (b, targets): of each target in the loss;  fold (b,): the member's
val, test   as for every recommender (recsys/datamodule.py), and item, rating, gap (b, events), as many as the longest
            has and CONTEXT at most
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.dataset import Dataset, open_dataset
from recsys.content import WIDTH, content_tokens
from recsys.datamodule import Batch, Batches, Protocol, RecommenderData, loader, ranking_batch
from recsys.interactions import Histories
from recsys.ranking import Ranking
from recsys.streaming import stored
from recsys.windows import CONTEXT, latest_events, pieces, stretch


class HistoryData(RecommenderData):
    """A dataset's positive events, split, as stretches of histories.

    Args:
        dataset: name of the dataset.
        protocol: how train, validation and test are cut, see recsys.datamodule.PROTOCOLS.
        batch_size: stretches of a training step (in each process).
        targets: titles to be predicted in a stretch.
        max_stretches: stretches of an epoch, a fresh choice in each; 0: all.
        eval_batch_size: members ranked at once.
        half_life: after how many later titles of the same member a target weighs half in the loss; 0: all alike.
        weight_floor: the least weight of a target, as a share of the latest one's, when `half_life` is set.
        seed: of the shuffling and of ties in time.
        max_eval_members: members that validation and test ask, at most, chosen at random; 0: all.
        streaming: leave the histories on disk, for more of them than memory holds, see recsys/streaming.py.
    """

    takes_strangers = True

    def __init__(
        self,
        dataset: str = "demo",
        protocol: Protocol = "leave-one-out",
        batch_size: int = 16,
        targets: int = 64,
        max_stretches: int = 0,
        eval_batch_size: int = 512,
        half_life: float = 0.0,
        weight_floor: float = 0.1,
        seed: int = 42,
        max_eval_members: int = 0,
        streaming: bool = False,
    ) -> None:
        super().__init__(
            dataset, protocol, batch_size, eval_batch_size, half_life, weight_floor, seed, max_eval_members
        )
        self.targets, self.max_stretches, self.streaming = targets, max_stretches, streaming

    def _read(self, dataset: Dataset) -> None:
        if not self.streaming:
            super()._read(dataset)
            return
        self.vocabulary, parts = stored(dataset, self.seed, self.protocol)
        for name, histories in parts.items():
            setattr(self, name, histories)

    def fold_of(self, folds: int) -> np.ndarray:
        """The fold of each member. Shape: (n_users,)."""
        return np.arange(self.n_users) % folds

    def content_tokens(self, buckets: int) -> np.ndarray:
        """Tokens of the titles in model order, see recsys.content."""
        dataset = open_dataset(self.dataset)
        if not dataset.has("items"):
            return np.full((self.n_items, WIDTH), buckets)
        return content_tokens(dataset.items(), self.vocabulary.item_ids, buckets)

    def train_dataloader(self) -> DataLoader[Batch]:
        fitted, targets = self.fitted, self.targets
        users, ends = pieces(fitted.lengths, targets)
        weight_of = self._weights_by_age(fitted)
        folds = self.fold_of(self.model_folds)

        def batch_of(rows: Tensor) -> Batch:
            at = rows.numpy()
            who, until = users[at], ends[at]
            history = stretch(fitted, who, until - 1, CONTEXT + targets - 1)
            place = until[:, None] - targets + np.arange(targets)
            event = fitted.start[:-1][who][:, None] + np.maximum(place, 0)
            last = fitted.start[1:][who][:, None] - 1
            wanted = self._later(event, last) if self.future > 0 else event
            items = fitted.items[wanted].astype(np.int64, copy=False)
            return {
                **history._asdict(),
                "target": torch.from_numpy(np.where(place >= 0, items, fitted.n_items)),
                "event": torch.from_numpy(event),
                "weight": torch.from_numpy(np.where(place >= 0, weight_of[last - wanted], 0).astype(np.float32)),
                "fold": torch.from_numpy(folds[who]),
            }

        return loader(Batches(len(users), self.batch_size, batch_of, self.seed, self.epoch, self.max_stretches))

    def _weights_by_age(self, fitted: Histories) -> np.ndarray:
        """Of a target with so many later titles of the same member, 1 on average. Shape: (longest history,)."""
        longest = max(1, int(fitted.lengths.max(initial=0)))
        if not self.half_life:
            return np.ones(longest)
        fading = self.weight_floor + (1 - self.weight_floor) * 0.5 ** (np.arange(longest) / self.half_life)
        total = np.append(0.0, np.cumsum(fading))[fitted.lengths].sum()  # over all events
        return fading * max(1, int(fitted.lengths.sum())) / total

    @property
    def model_folds(self) -> int:
        return max(1, int(self.trainer.lightning_module.hparams["folds"])) if self.trainer is not None else 1

    @property
    def future(self) -> float:
        return float(self.trainer.lightning_module.hparams["future"]) if self.trainer is not None else 0.0

    def _later(self, event: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Each event, or the f-th after it with probability (1 - future) future^f, at most the member's last."""
        uniform = torch.rand(event.shape, dtype=torch.float64).numpy()
        steps = np.floor(np.log1p(-uniform) / np.log(self.future)).astype(np.int64)
        return np.minimum(event + steps, last)

    def _ranking_loader(self, ranking: Ranking) -> DataLoader[Batch]:
        def batch_of(rows: Tensor) -> Batch:
            history = latest_events(ranking.seen.take(rows.numpy()))
            return {**ranking_batch(ranking, rows), **history._asdict()}

        return loader(Batches(len(ranking.users), self.eval_batch_size, batch_of))
