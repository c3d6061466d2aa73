"""NeuMF: neural matrix factorisation (He et al. 2017, "Neural collaborative filtering", WWW).

Two towers look at a member u and a title i through embeddings of their own:

    GMF   g = p_u * q_i                                       (element-wise product)
    MLP   h = relu(W_n ... relu(W_1 [p'_u; q'_i] + b_1) ...)
    NeuMF score(u, i) = w' [g; h] + b_i                       (their fusion; sigmoid(score) is the probability)

The objective is the paper's: binary cross-entropy of the observed pairs against negatives drawn uniformly, afresh in
every step. `bpr` (Rendle et al. 2009) and `softmax` (the positive against its negatives) take the same negatives.
The paper has no b_i, the title's own bias: it lets the embeddings speak of taste instead of popularity.
"""

from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.optimisation import adamw
from recsys.dropout import Dropout
from recsys.interactions import Histories
from recsys.module import Batch, RankingModule

Loss = Literal["bce", "bpr", "softmax"]
_BLOCK = 2**24  # hidden values held at once while a catalogue is scored


class GMF(nn.Module):
    """Generalised matrix factorisation: the weighted product of two embeddings."""

    def __init__(self, n_users: int, n_items: int, size: int) -> None:
        super().__init__()
        self.user, self.item = _embedding(n_users, size), _embedding(n_items, size)
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Embeddings (batch, size) and (batch, candidates, size) to (batch, candidates)."""
        return torch.einsum("bd,bcd->bc", user * self.weight, item)

    def catalogue(self, user: Tensor) -> Tensor:
        """Embeddings (batch, size) to (batch, n_items)."""
        return (user * self.weight) @ self.item.weight.T


class MLP(nn.Module):
    """A tower of ReLU layers over both embeddings."""

    def __init__(self, n_users: int, n_items: int, size: int, layers: list[int], dropout: float) -> None:
        super().__init__()
        self.user, self.item = _embedding(n_users, size), _embedding(n_items, size)
        # The first layer on [user; item] is the sum of a layer on each: over a catalogue each is computed once.
        self.first_user, self.first_item = nn.Linear(size, layers[0]), nn.Linear(size, layers[0], bias=False)
        self.rest = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(layers))
        self.weight = nn.Parameter(0.1 * torch.randn(layers[-1]))
        self.dropout = Dropout(dropout)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Embeddings (batch, size) and (batch, candidates, size) to (batch, candidates)."""
        return self._tower(self.first_user(user)[:, None], self.first_item(item))

    def catalogue(self, user: Tensor) -> Tensor:
        """Embeddings (batch, size) to (batch, n_items), in blocks of titles that bound the memory."""
        first_user, first_item = self.first_user(user)[:, None], self.first_item(self.item.weight)
        block = max(1, _BLOCK // max(1, first_user.numel()))
        return torch.cat([self._tower(first_user, part[None]) for part in first_item.split(block)], dim=1)

    def _tower(self, first_user: Tensor, first_item: Tensor) -> Tensor:
        """(batch, 1, width) and (batch or 1, candidates, width) to (batch, candidates)."""
        hidden = F.relu(first_user + first_item)
        for layer in self.rest:
            hidden = F.relu(layer(self.dropout(hidden)))
        return hidden @ self.weight


class NeuMF(nn.Module):
    """The fusion: w' [g; h] is the sum of what each tower adds. One tower alone is GMF or MLP as in the paper."""

    def __init__(
        self, n_users: int, n_items: int, gmf_size: int, mlp_size: int, mlp_layers: list[int], dropout: float
    ) -> None:
        super().__init__()
        self._towers = nn.ModuleList()
        if gmf_size:
            self._towers.append(GMF(n_users, n_items, gmf_size))
        if mlp_layers:
            self._towers.append(MLP(n_users, n_items, mlp_size, mlp_layers, dropout))
        self.bias = nn.Embedding(n_items, 1)
        nn.init.zeros_(self.bias.weight)
        self.dropout = Dropout(dropout)

    @property
    def towers(self) -> list[GMF | MLP]:
        return cast("list[GMF | MLP]", list(self._towers))

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits of each member's candidates, and the embeddings that took part.

        (batch,) and (batch, candidates) to (batch, candidates); the embeddings end in (..., size).
        """
        logits: Tensor = self.bias(items).squeeze(-1)
        embedded: list[Tensor] = []
        for tower in self.towers:
            user, item = tower.user(users), tower.item(items)
            logits = logits + tower(self.dropout(user), self.dropout(item))
            embedded += [user, item]
        return logits, embedded

    def catalogue(self, users: Tensor) -> Tensor:
        """Logits of every title: (batch,) to (batch, n_items)."""
        logits = self.bias.weight.T.expand(len(users), -1)
        for tower in self.towers:
            logits = logits + tower.catalogue(tower.user(users))
        return logits

    def item_directions(self) -> Tensor:
        """The titles' embeddings, each tower's at unit length, so that products are mean cosines.

        Shape: (n_items, sum of the towers' widths).
        """
        towers = [F.normalize(tower.item.weight, dim=1) for tower in self.towers]
        return torch.cat(towers, dim=1) / max(1, len(towers)) ** 0.5


def _embedding(rows: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(rows, size)
    nn.init.normal_(embedding.weight, std=0.05)
    return embedding


class NeuMFModule(RankingModule):
    """Training and ranking of NeuMF.

    Args:
        n_users: members in the vocabulary (set from the data).
        n_items: titles in the vocabulary (set from the data).
        gmf_size: width of the GMF embeddings; 0 leaves the tower out.
        mlp_size: width of the MLP's embeddings.
        mlp_layers: widths of the MLP's layers; none leaves the tower out.
        dropout: share of embedding values and hidden units dropped in training.
        n_negatives: negatives drawn for each positive; one that the member wanted too is left out of the loss.
        loss: `bce` (the paper's), `bpr` or `softmax`.
        learning_rate: of Adam, in the first epoch.
        learning_rate_decay: factor on the learning rate after each epoch (1: constant).
        l2: weight of the squared length of the embeddings in a step: who occurs more often is shrunk more often.
        l1: weight of the sum of their absolute values.
        weight_decay: of all parameters, decoupled from the gradient (AdamW).
    """

    compiled = ("net",)

    def __init__(
        self,
        n_users: int,
        n_items: int,
        gmf_size: int = 32,
        mlp_size: int = 32,
        mlp_layers: list[int] = [32, 16],  # noqa: B006  (a plain list keeps the checkpoint loadable weights_only)
        dropout: float = 0.0,
        n_negatives: int = 4,
        loss: Loss = "bce",
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 1.0,
        l2: float = 0.0,
        l1: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(n_items)
        self.save_hyperparameters()
        self.net = NeuMF(n_users, n_items, gmf_size, mlp_size, mlp_layers, dropout)
        self.wanted: Tensor | None = None  # sorted keys user * n_items + item, on the device, while fitting

    def forward(self, users: Tensor) -> Tensor:
        """Logits of every title: (batch,) to (batch, n_items)."""
        return self.net.catalogue(users)

    def rank_logits(self, batch: Batch) -> Tensor:
        return self(batch["user"])

    def score(self, users: Tensor, seen: Histories) -> Tensor:
        return self(users)

    @torch.no_grad()
    def similarity(self, titles: Tensor) -> Tensor:
        """Cosines of the titles' embeddings, the mean over the towers. (b,) to (b, n_items)."""
        directions = self.net.item_directions()
        return directions[titles] @ directions.T

    def on_fit_start(self) -> None:
        self.wanted = self.trainer.datamodule.wanted_keys().to(self.device)  # type: ignore[attr-defined]

    def on_fit_end(self) -> None:
        self.wanted = None

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        users, positives, weights = batch["user"], batch["item"], batch["weight"]
        negatives = torch.randint(
            self.hparams["n_items"], (len(users), self.hparams["n_negatives"]), device=self.device
        )
        candidates = torch.cat([positives[:, None], negatives], dim=1)  # (batch, 1 + n_negatives)
        logits, embedded = self.net(users, candidates)
        keep = torch.ones_like(negatives, dtype=torch.bool) if self.wanted is None else ~self._wanted(users, negatives)
        loss = (self._losses(logits, keep) * weights).sum() / weights.sum()
        for weight, size_of in ((self.hparams["l2"], torch.square), (self.hparams["l1"], torch.abs)):
            if weight:  # what counts nothing need not be looked at
                loss = loss + weight * sum(size_of(vectors).sum(-1).mean() for vectors in embedded)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(users), prog_bar=True)
        return loss

    def _wanted(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether the members (batch,) wanted the titles (batch, n_negatives), by search in the sorted keys."""
        wanted = cast(Tensor, self.wanted)
        keys = users[:, None] * self.hparams["n_items"] + items
        return wanted[torch.searchsorted(wanted, keys).clamp_max(len(wanted) - 1)] == keys

    def _losses(self, logits: Tensor, keep: Tensor) -> Tensor:
        """One loss for each positive, from logits (batch, 1 + n_negatives), the positive first. Shape: (batch,)."""
        positive, negative = logits[:, :1], logits[:, 1:]
        if self.hparams["loss"] == "bce":
            return F.softplus(-positive).squeeze(1) + (F.softplus(negative) * keep).sum(1)
        if self.hparams["loss"] == "bpr":
            return (F.softplus(negative - positive) * keep).sum(1) / keep.sum(1).clamp_min(1)
        negative = negative.masked_fill(~keep, -torch.inf)
        return torch.logsumexp(torch.cat([positive, negative], dim=1), dim=1) - positive.squeeze(1)

    def configure_optimizers(self) -> Any:
        chosen = self.hparams
        return adamw(self.parameters(), chosen["learning_rate"], chosen["learning_rate_decay"], chosen["weight_decay"])
