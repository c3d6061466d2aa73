"""HistoryNet's logits of a whole catalogue on a CPU, in a third of the passes over memory that its `decode` takes.

    logit(i) = neural_weight (m · e[i] + b[i]) + sharpness · log(max(S(i), 0) + lift · floor · popularity(i))

is what recsys/history.py and recsys/mixture.py say. Here what does not depend on a member is computed once: the titles'
vectors times their weight, with what is added to a title as one number more, so that all of it is one product of
matrices; and the logarithm for titles that T does not know, of which S is 0. These stand behind the titles that it
knows, so that what T says is added to a part of each row without being spread over the catalogue first. The rest
happens in place, for many members and so few titles at once that their scores stay near the processor, and so do the
columns of T that they are made of, which are read once for all of the members.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.history import Encoded, HistoryModule

_SCORES = 2**21  # of a block of members: eight megabytes
_MOST = 512  # members in a block
_TILE = 2**18  # scores of it that are made at once: a megabyte, about what a core's own cache holds


class Decoder:
    """Of a module as it is now: make another one when it has learned.

    The titles have columns of their own here: those that T knows come first.

    Args:
        module: on the CPU, in evaluation.
    """

    @torch.no_grad()
    def __init__(self, module: HistoryModule) -> None:
        n_items, mixture = module.n_items, module.mixture
        transition = module.transition if module.hparams["linear"] else None
        known = transition.titles if transition is not None else torch.zeros(0, dtype=torch.long)
        others = torch.ones(n_items, dtype=torch.bool).index_fill_(0, known, False).nonzero()[:, 0]
        self.titles = torch.cat([known, others])  # of each column
        self.columns = torch.empty_like(self.titles)  # of each title
        self.columns[self.titles] = torch.arange(n_items)
        size = len(known)
        self.rows = min(_MOST, max(1, _SCORES // n_items))  # members that are decoded at once
        self._width = max(1, _TILE // self.rows)
        self._sharpness = float(mixture.sharpness)
        weight, lift = mixture.served
        popularity = mixture.popularity.index_select(0, mixture.half_life)[0][self.titles]
        share = mixture.log_floor.exp() * lift * popularity
        self._shares = share[:size].split(self._width)
        # Columns of T, a second time in memory.
        self._tiles = [] if transition is None else transition.matrix.tiles(self._width)
        if not module.hparams["neural"]:
            weight = torch.zeros_like(weight)
        added = weight * module.bias[self.titles]
        added[size:] += mixture.sharpness * share[size:].log()
        vectors = weight * module.title_vectors()[:-1][self.titles]
        vectors = torch.cat([vectors, added[:, None]], dim=1).T  # (size of a vector + 1, n_items)
        self._vectors = [tile.contiguous() for tile in vectors.split(self._width, dim=1)]

    @torch.no_grad()
    def decode(self, encoded: Encoded, out: Tensor | None = None) -> Tensor:
        """Logits of every title as the next one, in the order of the columns. Shape: (batch, n_items).

        Args:
            encoded: members, as the module's `encode` gives them.
            out: where to; rows that are not needed are left as they are. Shape: (at least batch, n_items).
        """
        vector = F.pad(encoded.vector, (0, 1), value=1.0)
        logits = vector.new_empty(len(vector), len(self.titles)) if out is None else out[: len(vector)]
        for number, (vectors, tile) in enumerate(zip(self._vectors, logits.split(self._width, dim=1), strict=True)):
            torch.mm(vector, vectors, out=tile)
            if encoded.bags is not None and number < len(self._tiles):
                estimate = encoded.bags.sums(self._tiles[number])[0]  # nobody else's: it is changed in place
                estimate = estimate.clamp_min_(0.0).add_(self._shares[number]).log_()
                tile[:, : estimate.shape[1]].add_(estimate, alpha=self._sharpness)
        return logits
