"""What the slider from accuracy to variety costs, and what it brings: `python -m recsys evaluate --variety`.

HistoryNet is trained on the training split of a protocol, as every evaluation is (the served model has seen the test
titles), and its lists are re-ranked at each step of the slider (recsys/variety.py). All steps rank for the same
members, so the cost of a step is a paired difference: less noisy by far than two figures with an interval each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data import evaluation
from data.dataset import Dataset
from data.errors import UserError
from data.intervals import bootstrap
from data.schema import ITEM_ID
from recsys import metrics
from recsys.content import genre_matrix
from recsys.evaluate import OURS, Judge, split_of, trained
from recsys.ranking import Ranking, Score, Values, neural
from recsys.variety import CANDIDATES, diversified, jaccard

MEASURE = "variety"  # how a kept result says what it answers
CONFIG = OURS[0]
STEPS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
LENGTH = 10
SEED = 42
ACCURACY = ("hr@10", "ndcg@10")
_ROWS = 512


class Lists(NamedTuple):
    """Figures of the lists at one step, and each member's accuracy in the order of their ids."""

    values: Values
    members: dict[str, np.ndarray]


def measure_variety(
    dataset: Dataset, flags: Sequence[str], protocol: str, again: bool = False, config: str | None = None
) -> dict[str, Any]:
    """Train and measure once for a dataset, configuration and protocol; kept as every evaluation is.

    Args:
        dataset: what is measured on.
        flags: further arguments of `fit`.
        protocol: one of recsys.datamodule.PROTOCOLS.
        again: measure even if the same was measured before.
        config: configuration of the model (default: the quick one of HistoryNet).

    Raises:
        UserError: a flag is at fault, or the titles have no genres.
    """
    argv = ["--config", config or str(CONFIG), *flags]
    question = {"measure": MEASURE, "protocol": protocol}
    return evaluation.kept(dataset, "recommender", argv, question, lambda: _measure(dataset, argv, protocol), again)


def _measure(dataset: Dataset, argv: list[str], protocol: str) -> dict[str, Any]:
    if not has_genres(dataset):  # said before the training
        raise _no_genres(dataset)
    one = trained(argv, dataset, protocol, SEED)
    judge = Judge(one.data)
    if judge.genres is None:
        raise _no_genres(dataset)
    score, ranking = neural(one.module), judge.rankings["test"]
    lists = [of_lists(score, ranking, judge.genres, step) for step in STEPS]
    paired = {}
    for step, at in zip(STEPS, lists, strict=True):
        differences = {name: at.members[name] - lists[0].members[name] for name in ACCURACY}
        paired[f"variety {step:g}"] = {
            name: [float(np.nanmean(values)), *bootstrap(values, SEED)] for name, values in differences.items()
        }
    return {
        "metrics": {"test": {f"variety {step:g}": at.values for step, at in zip(STEPS, lists, strict=True)}},
        "steps": list(STEPS),
        "paired": paired,
        "split": split_of(judge),
        "notes": [
            f"Lists of {LENGTH} titles; ±: half of the 95 % interval, a bootstrap over members.",
            *(_sentence(step, paired[f"variety {step:g}"]["ndcg@10"]) for step in (0.3, 1.0)),
        ],
    }


def has_genres(dataset: Dataset) -> bool:
    """Whether any title has a genre: the slider knows titles apart by nothing else."""
    if not dataset.has("items"):
        return False
    items = dataset.items()
    return genre_matrix(items, pd.Index(items[ITEM_ID].unique()))[1].shape[1] > 0


def _no_genres(dataset: Dataset) -> UserError:
    return UserError(f"Dataset '{dataset.name}' has no genres, and the slider knows titles apart by nothing else.")


def _sentence(step: float, paired: Sequence[float]) -> str:
    difference, low, high = paired
    sure = "below" if high < 0 else "above" if low > 0 else "not told apart from"
    return (
        f"Variety {step:g} is {sure} variety 0: NDCG@10 {difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} "
        "(paired bootstrap over members)."
    )


@torch.no_grad()
def of_lists(score: Score, ranking: Ranking, genres: Tensor, step: float) -> Lists:
    """Accuracy, diversity and coverage of the lists that the slider at `step` gives.

    Args:
        score: the method.
        ranking: whom to rank for, and what they wanted.
        genres: which genres each title has, (n_items, genres) bool.
        step: 0 to 1, see recsys/variety.py.
    """
    n, n_items = len(ranking.users), len(genres)
    tops, places, rows = [], [], []
    for first in range(0, n, _ROWS):
        at = torch.arange(first, min(first + _ROWS, n)).numpy()
        seen, targets = ranking.seen.take(at), ranking.targets.take(at)
        logits = score(ranking.users[at], seen).to("cpu", torch.float32, copy=True)
        logits[torch.from_numpy(seen.users), torch.from_numpy(seen.items)] = -torch.inf
        best = logits.topk(min(CANDIDATES * LENGTH, n_items))
        chosen = diversified(best.values, jaccard(genres, best.indices), min(LENGTH, n_items), step)
        top = best.indices.gather(1, chosen).masked_fill(best.values.gather(1, chosen) == -torch.inf, -1)
        found = top[torch.from_numpy(targets.users)] == torch.from_numpy(targets.items)[:, None]  # (targets, LENGTH)
        places.append(torch.where(found.any(1), found.int().argmax(1) + 1, n_items))
        rows.append(torch.from_numpy(targets.users) + first)
        tops.append(top)
    place, row, top = torch.cat(places), torch.cat(rows), torch.cat(tops)
    member = torch.from_numpy(np.unique(ranking.users, return_inverse=True)[1])
    hits = metrics.mean_by(metrics.hit_rate(place, row, n, LENGTH), member)
    ndcg = metrics.mean_by(metrics.ndcg(place, row, n, LENGTH), member)
    values: Values = {
        "hr@10": metrics.mean(hits),
        "hr@10 ±": metrics.half_width(hits.numpy(), SEED),
        "ndcg@10": metrics.mean(ndcg),
        "ndcg@10 ±": metrics.half_width(ndcg.numpy(), SEED),
        "diversity@10": metrics.diversity(top, genres),
        "coverage@10": metrics.coverage(top, n_items),
    }
    return Lists(values, {"hr@10": hits.numpy(), "ndcg@10": ndcg.numpy()})
