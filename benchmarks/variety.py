"""`python -m benchmarks variety`: what the slider from accuracy to variety costs, and what it brings."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.compare import CONFIG, PROTOCOLS
from data import command, evaluation
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from recsys import metrics
from recsys.evaluate import Judge, check_protocol, split_of, trained
from recsys.ranking import Ranking, Score, Values, neural
from recsys.variety import CANDIDATES, diversified, jaccard

STEPS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
LENGTH = 10
_ROWS = 512


def variety(args: list[str]) -> None:
    """Measure, print the table and keep it.

    Raises:
        UserError: a flag or the dataset is at fault, or its titles have no genres.
    """
    parser = command.Parser(
        prog="python -m benchmarks variety",
        description="HistoryNet's lists at each step of the slider. Further flags are those of 'python -m recsys fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--protocol", default="leave-one-out", help=f"one of {', '.join(PROTOCOLS)}")
    parser.add_argument("--again", action="store_true", help="measure even if the same was measured before")
    known, rest = parser.parse_known_args(args)
    check_protocol(known.protocol, PROTOCOLS)
    dataset, argv = open_dataset(known.dataset), ["--config", str(CONFIG), *rest]
    result = evaluation.kept(
        dataset,
        "recommender",
        argv,
        {"benchmark": "variety", "protocol": known.protocol},
        lambda: _measure(dataset, argv, known.protocol),
        known.again,
    )
    evaluation.show(result, {})


def _measure(dataset: Dataset, argv: list[str], protocol: str) -> dict[str, Any]:
    one = trained(argv, dataset, protocol, seed=42)
    judge = Judge(one.data)
    if judge.genres is None:
        raise UserError(f"Dataset '{dataset.name}' has no genres, and the slider knows titles apart by nothing else.")
    score, ranking = neural(one.module), judge.rankings["test"]
    table = {f"variety {step:g}": of_lists(score, ranking, judge.genres, step) for step in STEPS}
    return {"metrics": {"test": table}, "split": split_of(judge), "notes": [f"Lists of {LENGTH} titles."]}


@torch.no_grad()
def of_lists(score: Score, ranking: Ranking, genres: Tensor, step: float) -> Values:
    """Figures of the lists that the slider at `step` gives: accuracy, diversity and coverage.

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
    return {
        "hr@10": metrics.mean(metrics.hit_rate(place, row, n, LENGTH)),
        "ndcg@10": metrics.mean(metrics.ndcg(place, row, n, LENGTH)),
        "diversity@10": metrics.diversity(top, genres),
        "coverage@10": metrics.coverage(top, n_items),
    }
