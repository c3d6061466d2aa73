"""`python -m benchmarks cold`: how well titles are ranked that nobody has watched yet.

A twentieth of the titles is held out entirely: HistoryNet is trained on a copy of the dataset without a single event of
theirs, and knows their genres, year and name alone. Then it ranks the whole catalogue for members who did watch some of
them, by the rest of their history.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.compare import CONFIG
from benchmarks.scale import elsewhere
from data import command, evaluation
from data.dataset import Dataset, open_dataset, write_dataset
from data.errors import UserError
from data.schema import ITEM_ID, USER_ID
from recsys import metrics
from recsys.evaluate import FIRST_SEED, means, trained
from recsys.interactions import Histories, histories_of, positive_events
from recsys.ranking import Score, Values, neural

SHARE = 0.05
_ROWS = 512


def cold(args: list[str]) -> None:
    """Measure, print the table and keep it.

    Raises:
        UserError: a flag or the dataset is at fault.
    """
    parser = command.Parser(
        prog="python -m benchmarks cold",
        description="HistoryNet on titles without a single event. Further flags are those of 'python -m recsys fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions, each with other titles (default: 3)")
    parser.add_argument("--again", action="store_true", help="measure even if the same was measured before")
    known, rest = parser.parse_known_args(args)
    if known.seeds < 1:
        raise UserError(f"--seeds {known.seeds} must be at least 1.")
    dataset, argv = open_dataset(known.dataset), ["--config", str(CONFIG), *rest]
    result = evaluation.kept(
        dataset,
        "recommender",
        argv,
        {"benchmark": "cold", "share": SHARE, "seeds": known.seeds},
        lambda: _measure(dataset, argv, known.seeds),
        known.again,
    )
    evaluation.show(result, {})


def _measure(dataset: Dataset, argv: list[str], seeds: int) -> dict[str, Any]:
    table = means([_one_seed(dataset, argv, FIRST_SEED + number) for number in range(seeds)])
    notes = [
        f"{SHARE:.0%} of the titles have no events; means over {seeds} choices of them.",
        "AUC of members: that a cold title which the member watched is ranked above one that they did not; of titles: "
        "that the title has a higher probability for a member who watched it than for one who did not. Chance and "
        "popularity: 0.5.",
        "Recall: of the cold titles that a member watched, in lists of the whole unseen catalogue. Popularity, which "
        "has nothing to go by, ranks them last.",
    ]
    split = {"protocol": f"{SHARE:.0%} of the titles held out", "seed": FIRST_SEED}
    return {"metrics": {"test": table}, "split": split, "notes": notes}


def _one_seed(dataset: Dataset, argv: list[str], seed: int) -> dict[str, Values]:
    tables = {name: dataset.read(name) for name in dataset.rows}
    titles = np.sort(dataset.items()[ITEM_ID].astype(str).unique())
    chosen = np.random.default_rng(seed).permutation(titles)[: max(1, round(SHARE * len(titles)))]
    events = positive_events(dataset, seed)
    wanted = events[events[ITEM_ID].isin(chosen)]
    tables["interactions"] = tables["interactions"][~tables["interactions"][ITEM_ID].isin(chosen)]
    with elsewhere():
        copy = write_dataset("cold", tables, sources=dataset.sources)
        one = trained(argv, copy, "leave-one-out", seed)
        vocabulary, histories = one.data.vocabulary, one.data.everything
        targets = histories_of(vocabulary, wanted[wanted[USER_ID].isin(vocabulary.user_ids)])
        if not len(targets.items):
            raise UserError(f"Dataset '{dataset.name}' is too small: nobody watched one of the titles held out.")
        is_cold = np.isin(vocabulary.item_ids, chosen)
        popularity = torch.from_numpy(histories.popularity).float()
        methods: dict[str, Score] = {
            "HistoryNet": neural(one.module),
            "popularity": lambda users, seen: popularity.expand(len(users), -1),
        }
        return {name: of_cold(score, histories, targets, is_cold, seed) for name, score in methods.items()}


@torch.no_grad()
def of_cold(score: Score, histories: Histories, targets: Histories, is_cold: np.ndarray, seed: int) -> Values:
    """Figures on titles without events.

    Args:
        score: the method.
        histories: of all members, without cold titles.
        targets: the cold titles that each of them watched.
        is_cold: of each title. Shape: (n_items,).
        seed: decides between equal scores.
    """
    members = np.flatnonzero(targets.lengths > 0)
    seen, wanted = histories.take(members), targets.take(members)
    order, places = metrics.tie_order(len(is_cold), seed), torch.from_numpy(np.flatnonzero(is_cold))
    of_places, ranks = [], []
    for first in range(0, len(members), _ROWS):
        at = np.arange(first, min(first + _ROWS, len(members)))
        before, titles = seen.take(at), wanted.take(at)
        scores = score(members[at], before).to("cpu", torch.float32, copy=True)
        of_places.append(scores.log_softmax(1)[:, places])  # comparable between members
        scores[torch.from_numpy(before.users), torch.from_numpy(before.items)] = -torch.inf
        ranks.append(metrics.ranks_of(scores, torch.from_numpy(titles.users), torch.from_numpy(titles.items), order))
    rows, rank = torch.from_numpy(wanted.users), torch.cat(ranks)
    row_of_title = torch.full((len(is_cold),), -1).index_put((places,), torch.arange(len(places)))
    title, cold_scores = row_of_title[torch.from_numpy(wanted.items)], torch.cat(of_places)
    return {
        "auc of members": metrics.mean(auc(cold_scores, rows, title)),
        "auc of titles": metrics.mean(auc(cold_scores.T.contiguous(), title, rows)),
        "recall@20": metrics.mean(metrics.recall(rank, rows, len(members), 20)),
        "recall@100": metrics.mean(metrics.recall(rank, rows, len(members), 100)),
    }


def auc(scores: Tensor, rows: Tensor, wanted: Tensor) -> Tensor:
    """Area under the ROC curve of each row: the chance that one of its wanted columns scores above one that is not.

    Equal scores count half (Mann and Whitney's U). NaN for a row without wanted columns, or with no others.
    Shapes: (n, m), and (pairs,) each, to (n,).

    >>> auc(torch.tensor([[0.9, 0.1, 0.5]]), torch.tensor([0, 0]), torch.tensor([0, 1]))
    tensor([0.5000])
    """
    n, m = scores.shape
    number = torch.zeros(n).index_add(0, rows, torch.ones(len(rows)))
    up, down = torch.arange(m), torch.arange(m).flip(0)
    rank = (metrics.ranks_of(scores, rows, wanted, up) + metrics.ranks_of(scores, rows, wanted, down)).float() / 2
    above = torch.zeros(n).index_add(0, rows, rank) - number * (number + 1) / 2  # pairs with the other one above
    return 1 - above / (number * (m - number)).where((number > 0) & (number < m), torch.nan)
