"""Which events of a member speak for a title; recsys/reasons.py says how that is told."""

import numpy as np
import pandas as pd
import torch

from data.errors import UserError
from recsys.history import HistoryModule
from recsys.reasons import logits_without_each
from recsys.scorer import Recommender
from recsys.windows import CONTEXT, History, latest_events
from recsys.workers import workers_on


@torch.no_grad()
def events_behind(recommender: Recommender, member: str, item_id: str, k: int = 5) -> list[tuple[str, float]]:
    """The titles of a member's events without which a title would score less, most first, each with its share (0 to 1)
    in what all of them add; at most `k`.

    Raises:
        UserError: the model does not know the member or the title, or is of a kind that has no reasons.
    """
    module = recommender.module
    if not isinstance(module, HistoryModule):
        raise UserError(f"Run {recommender.run_id} is no HistoryNet, and names no reasons: train one.")
    at = recommender.positions([member])
    title = int(recommender.vocabulary.item_ids.get_indexer(pd.Index([item_id], dtype=object))[0])
    if title < 0:
        raise UserError(f"Title '{item_id[:100]}' is unknown to recommender run {recommender.run_id}.")
    mine = recommender.feedback.wanted.take(at)
    longest = int(min(mine.lengths[0], CONTEXT))
    if longest == 0:
        return []
    history = latest_events(mine, longest + 1).to(module.device)
    candidate = torch.tensor([[title]], device=module.device)
    with workers_on(module.device, alone=True):  # so little that cores would wait for each other
        whole = module.candidate_logits(History(*(part[:, 1:] for part in history)), candidate)
        each = logits_without_each(module, history, candidate)
    loss = (whole[:, None] - each)[0, :, 0].clamp_min(0).cpu().numpy()  # (longest,)
    removed = history.item[0, 1:].cpu().numpy()
    first = np.argsort(-loss, kind="stable")[:k]
    first = first[(loss[first] > 0) & (removed[first] < module.n_items)]
    ids = recommender.vocabulary.item_ids
    return [(str(ids[removed[i]]), float(loss[i] / loss.sum())) for i in first]
