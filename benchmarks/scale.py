"""`python -m benchmarks scale`: how HistoryNet's cost grows with the interactions, and its scoring beside implicit's.

The data are generated: titles by a Zipf law with an exponent of 1, members with log-normal histories, visits of many
titles a minute apart, and tastes of a few dozen kinds that drift, so that there is something to learn. Titles and
members grow as in MovieLens 100K, 1M and 10M.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from benchmarks.compare import CONFIG
from data import command, home, report
from data.dataset import Dataset, Source, write_dataset
from data.errors import UserError
from recsys.cost import Cost
from recsys.datamodule import RecommenderData
from recsys.evaluate import trained
from recsys.filters import Chosen
from recsys.interactions import Histories
from recsys.module import RankingModule
from recsys.scorer import Recommender

FACTORS, TOP, RUNS = 128, 20, 5
_TASTES, _MINUTE = 40, 60_000_000
_START = 1_600_000_000_000_000  # microseconds since 1970


def scale(args: list[str]) -> None:
    """Measure and print the table.

    Raises:
        UserError: a flag is at fault.
    """
    parser = command.Parser(
        prog="python -m benchmarks scale",
        description="Costs on generated interactions. Further flags are those of 'python -m recsys fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--interactions", default="100000,1000000", help="how many, with commas (default: %(default)s)")
    known, rest = parser.parse_known_args(args)
    try:
        numbers = [int(part) for part in known.interactions.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1000:
        raise UserError(f"--interactions {known.interactions}: give whole numbers of 1,000 or more, with commas.")
    table = {f"{number:,} interactions": _measured(number, rest) for number in numbers}
    report.print_metrics(table, f"HistoryNet, {CONFIG.name}, and top {TOP} lists beside implicit's ({FACTORS} factors)")


def _measured(number: int, flags: list[str]) -> dict[str, float | None]:
    with elsewhere():
        return _costs(generated(number), flags)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Datasets are written into a folder of their own, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("MARQUEE_HOME")
        os.environ["MARQUEE_HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("MARQUEE_HOME")
            if before is not None:
                os.environ["MARQUEE_HOME"] = before


def generated(number: int, seed: int = 0, titles: int | None = None) -> Dataset:
    """A dataset 'generated' with about so many interactions, under MARQUEE_HOME; as many `titles` as such data usually
    have, unless given."""
    rng = np.random.default_rng(seed)
    members, titles = max(20, number // 120), titles or round(1700 * (number / 1e5) ** 0.4)
    lengths = np.clip(rng.lognormal(4.2, 1.0, members), 5, titles // 4)
    # A quarter of the draws are titles that the member has had.
    lengths = np.maximum(3, np.round(1.4 * number * lengths / lengths.sum())).astype(np.int64)
    user = np.repeat(np.arange(members), lengths)
    place = np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # A taste is an order of the titles of its own, asked for three times in ten; it changes every 30 titles or so.
    taste = (rng.integers(0, _TASTES, members)[user] + place // 30) % _TASTES
    popularity = (1.0 + np.arange(titles)) ** -1.0
    rank = np.searchsorted(np.cumsum(popularity) / popularity.sum(), rng.random(len(user)))
    rank = np.minimum(rank, titles - 1)
    shuffled = np.stack([rng.permutation(titles) for _ in range(_TASTES)])
    item = np.where(rng.random(len(user)) < 0.7, rank, shuffled[taste, rank])
    visits = np.cumsum(rng.random(len(user)) < 0.05) * 1440  # now and then a day passes
    minutes = rng.integers(0, 500_000, members)[user] + place + visits - np.repeat(visits[place == 0], lengths)
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(user).astype(str),
            "item_id": pd.Series(item).astype(str),
            "timestamp": pd.to_datetime(_START + minutes * _MINUTE, unit="us", utc=True),
            "kind": "watch",
        }
    ).drop_duplicates(["user_id", "item_id"])
    ids = pd.Series(np.arange(titles).astype(str))
    genre = [[f"Genre {kind}"] for kind in rng.integers(0, 18, titles)]
    items = pd.DataFrame({"item_id": ids, "title": "Title " + ids, "year": 2000.0, "genres": genre})
    source = Source("generated", "generated")
    return write_dataset("generated", {"interactions": frame, "items": items}, sources=[source])


def _costs(dataset: Dataset, flags: list[str]) -> dict[str, float | None]:
    one = trained(["--config", str(CONFIG), *flags], dataset, "leave-one-out", seed=42)
    data = one.data
    members = len(data.vocabulary.user_ids)
    ours, peer = _quickest(lists(one.module, data)), _quickest(implicit_lists(data.everything))
    return {
        "interactions": float(len(data.everything.items)),
        "members": float(members),
        "titles": float(data.n_items),
        "fit s": one.cost.seconds,
        "fit MiB": one.cost.peak_mib,
        "members/s": members / ours,
        "implicit members/s": members / peer,
        "ratio": peer / ours,
    }


def lists(module: RankingModule, data: RecommenderData) -> Callable[[], None]:
    """What makes everybody's list as score.py does, without reasons: histories encoded, tables made."""
    folder = home.runs(data.dataset, "recommender") / "untrained"
    recommender = Recommender(module, data.vocabulary, data.everything.popularity, folder)
    everybody = np.arange(len(recommender.members))
    recommender.feedback  # noqa: B018  (what members have seen is at hand for implicit too)

    def run() -> None:
        if sum(table.num_rows for table, _ in recommender.batches(everybody, TOP, Chosen())) < len(everybody):
            raise RuntimeError("some members have no list")

    return run


def _quickest(run: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs, in a row: what the machine can do when nothing else disturbs it."""
    seconds = []
    for _ in range(RUNS):
        with Cost() as cost:
            run()
        seconds.append(cost.seconds)
    return min(seconds)


def implicit_lists(histories: Histories) -> Callable[[], None]:
    """What makes the same of implicit, whose members need no encoding; its threads are its own, BLAS' would be more
    than there are cores."""
    matrix: Any = histories.matrix()
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=FACTORS, iterations=2, random_state=0, use_gpu=False)
        model.fit(matrix, show_progress=False)
    everybody = np.arange(len(histories))

    def run() -> None:
        with threadpool_limits(1, "blas"):
            model.recommend(everybody, matrix, N=TOP, filter_already_liked_items=True)

    return run
