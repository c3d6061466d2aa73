"""What every LightningModule of this package does alike: rank the catalogue for members, and be measured on it."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys import metrics
from recsys.interactions import Histories

Batch = dict[str, Tensor]


class RankingModule(pl.LightningModule):
    """A module that gives every title a logit for each member of a batch (`rank_logits`).

    Args:
        n_items: titles in the vocabulary.
    """

    model_name = "recommender"
    monitor = "val/ndcg@10"
    monitor_mode = "max"
    compiled: tuple[str, ...] = ()  # parts that data.faster.Faster may compile

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.n_items = n_items
        self.tie_order: Tensor
        self.register_buffer("tie_order", metrics.tie_order(n_items, seed=0), persistent=False)

    def rank_logits(self, batch: Batch) -> Tensor:
        """Logits of every title for the members of a ranking batch. Shape: (batch, n_items)."""
        raise NotImplementedError

    def score(self, users: Tensor, seen: Histories) -> Tensor:
        """Logits of every title for members.

        Args:
            users: members in the vocabulary's order, on the module's device. Shape: (batch,).
            seen: what each of them has wanted, oldest first.

        Returns:
            Shape (batch, n_items), on the module's device.
        """
        raise NotImplementedError

    def similarity(self, titles: Tensor) -> Tensor:
        """How alike every title is to each of `titles`: at most 1, the larger the more. (b,) to (b, n_items)."""
        raise NotImplementedError

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._rank(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._rank(batch, "test")

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Each member's best ten unseen titles, as rows of the run's users.parquet and items.parquet."""
        k = min(10, self.n_items)
        best = self._unseen(batch).topk(k)  # (batch, k)
        rank = torch.arange(1, k + 1, device=self.device)
        columns = {
            "user": batch["user"][:, None].expand(-1, k),
            "rank": rank.expand(len(batch["user"]), -1),
            "item": best.indices,
            "logit": best.values,
        }
        return {name: column.flatten() for name, column in columns.items()}

    def _unseen(self, batch: Batch) -> Tensor:
        scores = self.rank_logits(batch).float()
        return scores.index_put((batch["seen_row"], batch["seen_item"]), scores.new_full((), -torch.inf))

    def _rank(self, batch: Batch, stage: str) -> None:
        members, n = batch["target_row"], len(batch["user"])
        logits = self._unseen(batch)
        ranks = metrics.ranks_of(logits, members, batch["target_item"], self.tie_order)
        surprise = logits.logsumexp(1)[members] - logits[members, batch["target_item"]]
        values: dict[str, Any] = {
            f"{stage}/ndcg@10": metrics.ndcg(ranks, members, n, k=10).nanmean(),
            f"{stage}/hr@10": metrics.hit_rate(ranks, members, n, k=10).nanmean(),
            f"{stage}/loss": surprise.mean(),  # cross-entropy of the wanted titles among the unseen ones
        }
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=n, sync_dist=True, prog_bar=True)
