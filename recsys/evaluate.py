"""Our recommenders and their baselines on the same split: for the report of a fit, and `python -m recsys evaluate`.

Everything ranks the whole catalogue without what the member has seen. Baselines choose their settings on the
validation split; the test split is looked at once. Methods learn from the training titles alone; those that look at
histories are given the validation titles as history when the test is ranked.

NeuMF knows a member by an embedding. It ranks the test from the training titles, and cannot rank at all for somebody
whom it was not trained on; it is then absent from the table, with a note, instead of being shown with an embedding that
means nothing.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl

from data import command, evaluation, splits
from data.cases import write_cases
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from data.intervals import bootstrap
from recsys import metrics
from recsys.baselines import baselines
from recsys.content import genre_matrix
from recsys.cost import Cost
from recsys.datamodule import PROTOCOLS, RecommenderData
from recsys.history import HistoryModule
from recsys.interactions import Histories
from recsys.module import RankingModule
from recsys.neumf import NeuMFModule
from recsys.ranking import Ranked, Ranking, Score, Values, after_first_picks, linear, neural, rank

NAMES: dict[type[RankingModule], str] = {HistoryModule: "HistoryNet", NeuMFModule: "NeuMF"}
SAMPLED = "ncf-2017"  # leave-one-out among 99 negatives: the published NeuMF table, and nothing else
NEGATIVES = 99
CONFIGS = Path(__file__).parent / "configs"
OURS = (CONFIGS / "quick.yaml", CONFIGS / "neumf-quick.yaml")
FIRST_PICKS = (3, 5, 10)
FIRST_SEED = 42
LINKS = (("n_users", "n_users"), ("n_items", "n_items"))
BEST = dict.fromkeys(("hr@10", "ndcg@10", "mrr", "recall@20"), "max")

Split = Literal["validation", "test"]
SPLITS: tuple[Split, Split] = ("validation", "test")


class Method(NamedTuple):
    """A fitted method, with its figures on validation and what it cost."""

    score: Score
    validation: Ranked
    fit: Cost


class Run(NamedTuple):
    """What one seed gave."""

    tables: dict[str, dict[str, Values]]  # split to method to metric to value
    members: dict[str, dict[str, np.ndarray]]  # split to method to each member's NDCG@10
    notes: list[str]
    split: dict[str, Any]
    ours: str  # the method that the others are compared with


class Judge:
    """How rankings are judged on one dataset and split: the same for every method."""

    def __init__(self, data: RecommenderData, negatives: int = 0) -> None:
        data.load()
        self.data, self.negatives = data, negatives
        dataset = open_dataset(data.dataset)
        has = genre_matrix(dataset.items(), data.vocabulary.item_ids)[1] if dataset.has("items") else None
        self.genres = has if has is not None and has.shape[1] else None  # no title has one
        self.rankings = {split: data.ranking(split) for split in SPLITS}

    def rank(self, score: Score, ranking: Split | Ranking) -> Ranked:
        chosen = self.rankings[ranking] if isinstance(ranking, str) else ranking
        return rank(score, chosen, self.data.train, self.data.seed, genres=self.genres, negatives=self.negatives)


def chosen_baselines(train: Histories, judge: Judge, thorough: bool) -> tuple[dict[str, Method], list[str]]:
    """Each baseline at its best NDCG@10 on validation, and notes on settings and absences."""
    found: dict[str, Method] = {}
    notes = []
    for choice in baselines(train.n_items, thorough):
        if choice.skipped:
            notes.append(choice.skipped)
            continue
        tried = []
        for settings, make in choice.candidates:
            with Cost() as cost:
                score = linear(make().fit(train))
            tried.append((settings, Method(score, judge.rank(score, "validation"), cost)))
        settings, method = max(tried, key=lambda t: t[1].validation.values["ndcg@10"] or 0.0)
        found[choice.name] = method
        if len(tried) > 1:
            best = ", ".join(f"{name} {value:g}" for name, value in settings.items())
            notes.append(f"{choice.name}: {best}, the best of {len(tried)} on validation.")
    return found, notes


def parts_of(module: RankingModule) -> dict[str, Score]:
    """The module as a method, and where it has parts each of them alone: what the whole owes to the other."""
    name = NAMES[type(module)]
    found = {name: neural(module)}
    if isinstance(module, HistoryModule) and module.hparams["linear"] and module.hparams["neural"]:
        found |= {f"{name}, {part} part alone": neural(module.alone(part)) for part in ("linear", "neural")}
    return found


def measured(
    modules: Mapping[str, RankingModule], judge: Judge, thorough: bool, costs: Mapping[str, Cost] | None = None
) -> tuple[dict[str, dict[str, Values]], dict[str, dict[str, np.ndarray]], list[str]]:
    """Tables of every split, the members' NDCG@10 behind them, and notes.

    Args:
        modules: name to trained module, ready to predict.
        judge: of the split that they were trained on.
        thorough: all baselines, see recsys.baselines, and what each method cost.
        costs: what the modules' training cost.
    """
    data = judge.data
    found, notes = chosen_baselines(data.train, judge, thorough)
    ours = {name: score for module in modules.values() for name, score in parts_of(module).items()}
    tables: dict[str, dict[str, Values]] = {}
    members: dict[str, dict[str, np.ndarray]] = {}
    for split in SPLITS:
        tables[split], members[split] = {}, {}
        for name, score in (ours | {name: method.score for name, method in found.items()}).items():
            with Cost() as cost:
                known = name in found and split == "validation"
                ranked = found[name].validation if known else judge.rank(score, split)
            row = dict(ranked.values)
            if thorough and split == "test":
                fit = found[name].fit if name in found else (costs or {}).get(name)
                row["fit s"] = None if fit is None else fit.seconds
                row["fit MiB"] = None if fit is None else fit.peak_mib
                row["members/s"] = len(judge.rankings[split].users) / max(cost.seconds, 1e-9)
            tables[split][name], members[split][name] = row, ranked.ndcg
    if "NeuMF" in ours:
        notes.append("NeuMF ranks the test from the training titles alone; the others take the validation titles in.")
    if data.protocol == "temporal":
        scores = {name: score for name, score in ours.items() if name != "NeuMF"}
        notes += _new_members(judge, scores | {n: m.score for n, m in found.items()}, tables)
    return tables, members, notes


def _new_members(judge: Judge, scores: Mapping[str, Score], tables: dict[str, dict[str, Values]]) -> list[str]:
    """Add a table for members who start after the cut, for each number of first picks; return the notes on it."""
    data = judge.data
    new = ~data.known & (data.test.lengths > 0)
    for picks in FIRST_PICKS:
        ranking = after_first_picks(data.test, np.flatnonzero(new), picks)
        if len(ranking.users):
            tables[f"test, new members, first {picks} picks"] = {
                name: judge.rank(score, ranking).values for name, score in scores.items()
            }
    return [
        f"{int(new.sum()):,} members start after the cut and are reported apart; NeuMF has never seen them and cannot "
        "rank for them."
    ]


def comparison(ours: str, members: Mapping[str, np.ndarray], seed: int) -> tuple[dict[str, list[float]], str]:
    """By how much `ours` is better than each other method: mean difference of NDCG@10 and its 95 % interval.

    A paired bootstrap over members; also the sentence on the best of the others, parts of ours aside.
    """
    found = {}
    for name, values in members.items():
        if name != ours:
            difference = members[ours] - values
            found[name] = [float(np.nanmean(difference)), *bootstrap(difference, seed)]
    rivals = {name: float(np.nanmean(v)) for name, v in members.items() if not name.startswith(ours)}
    best = max(rivals, key=lambda name: rivals[name])
    gain, low, high = found[best]
    share = f" ({gain / rivals[best]:+.0%})" if rivals[best] else ""
    sure = "above" if low > 0 else "below" if high < 0 else "not told apart from"
    return found, (
        f"{ours} is {sure} the best other method, {best}: NDCG@10 {gain:+.4f}{share}, 95 % interval {low:+.4f} "
        f"to {high:+.4f} (paired bootstrap over {int(np.isfinite(members[ours]).sum()):,} members)."
    )


def measure(module: pl.LightningModule, data: pl.LightningDataModule, run: Path) -> dict[str, Any]:
    """The parts of a fit's report that only this package knows: metrics, headline, split and notes."""
    if not isinstance(module, RankingModule) or not isinstance(data, RecommenderData):
        raise TypeError(f"cannot measure {type(module).__name__} on {type(data).__name__}")
    name, judge = NAMES[type(module)], Judge(data)
    tables, members, notes = measured({name: module.eval()}, judge, thorough=False)
    paired, sentence = comparison(name, members["test"], data.seed)
    ranked = np.unique(judge.rankings["test"].users)
    write_cases(run, data.vocabulary.user_ids[ranked].tolist(), members["test"])
    return {
        "metrics": tables,
        "headline": {
            "metric": "ndcg@10",
            "higher_is_better": True,
            "split": "test",
            "ours": name,
            "parts": [part for part in parts_of(module) if part != name],
        },
        "paired_ndcg@10": paired,
        "split": split_of(judge),
        "notes": [sentence, *notes],
    }


def split_of(judge: Judge) -> dict[str, Any]:
    """What a report says of the split."""
    data = judge.data
    among = f"among {judge.negatives} unseen titles drawn at random" if judge.negatives else "the whole catalogue"
    return {
        "protocol": SAMPLED if judge.negatives else data.protocol,
        "ties": splits.TIES,
        "seed": data.seed,
        "ranking": f"{among} without what the member has seen",
        "rows": {
            "train": len(data.train.items),
            "validation": len(data.validation.items),
            "test": len(data.test.items),
        },
        "members": {split: len(np.unique(judge.rankings[split].users)) for split in SPLITS},
        "titles": data.n_items,
    }


# -- python -m recsys evaluate ---------------------------------------------------------------------------------------


def check_protocol(protocol: str, protocols: Sequence[str]) -> None:
    """Raises:
    UserError: the protocol is not among `protocols`.
    """
    if protocol not in protocols:
        raise UserError(f"--protocol {protocol} is unknown: choose one of {', '.join(protocols)}.")


def evaluate(args: list[str]) -> None:
    """`python -m recsys evaluate`: train and measure by one protocol, print the table and keep it; `current` stays.

    Raises:
        UserError: a flag, the dataset or the configuration is at fault.
    """
    protocols = (*PROTOCOLS, SAMPLED)
    parser = command.Parser(
        prog="python -m recsys evaluate",
        description="HistoryNet and NeuMF beside their baselines by one protocol. Further flags are those of 'fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--protocol", default="leave-one-out", help=f"one of {', '.join(protocols)}")
    parser.add_argument("--config", action="append", help="configuration of one model (default: both quick ones)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings, each with a seed of its own (default: 1)")
    parser.add_argument("--variety", action="store_true", help="HistoryNet's lists at each step of the variety slider")
    parser.add_argument("--again", action="store_true", help="measure even if the same was measured before")
    known, rest = parser.parse_known_args(args)
    if known.variety:
        _evaluate_variety(known, rest)
        return
    check_protocol(known.protocol, protocols)
    if known.seeds < 1:
        raise UserError(f"--seeds {known.seeds} must be at least 1.")
    dataset = open_dataset(known.dataset)
    asked = [("--config", config) for config in known.config or map(str, OURS)]
    argv = [argument for pair in asked for argument in pair] + rest
    # NeuMF knows a member by an embedding, and members who are held out have none.
    ours = OURS[:1] if known.protocol == "held-out-users" else OURS
    models = [argv] if known.config else [["--config", str(config), *rest] for config in ours]
    result = evaluation.kept(
        dataset,
        "recommender",
        argv,
        {"protocol": known.protocol, "seeds": known.seeds},
        lambda: over_seeds(lambda seed: _train_and_measure(models, dataset, known.protocol, seed), known.seeds),
        known.again,
    )
    evaluation.show(result, BEST)


def _evaluate_variety(known: Namespace, rest: list[str]) -> None:
    from recsys.variety_cost import measure_variety  # which is made of what stands here

    check_protocol(known.protocol, PROTOCOLS)
    if known.seeds != 1 or len(known.config or ()) > 1:
        raise UserError("--variety measures one model with one seed: leave --seeds out and give one --config at most.")
    config = known.config[0] if known.config else None
    result = measure_variety(open_dataset(known.dataset), rest, known.protocol, known.again, config)
    evaluation.show(result, {})


def over_seeds(run_of: Callable[[int], Run], seeds: int) -> dict[str, Any]:
    """Means over the seeds 42, 43, ...; intervals over members of each member's mean over the seeds."""
    runs = [run_of(FIRST_SEED + number) for number in range(seeds)]
    first = runs[0]
    tables = {name: means([run.tables[name] for run in runs]) for name in first.tables}
    members = {
        part: {m: np.mean([run.members[part][m] for run in runs], axis=0) for m in first.members[part]}
        for part in SPLITS
    }
    for part in SPLITS:
        for method, values in members[part].items():
            tables[part][method]["±"] = metrics.half_width(values, FIRST_SEED)
    paired, sentence = comparison(first.ours, members["test"], FIRST_SEED)
    notes = first.notes
    if seeds > 1:
        last = FIRST_SEED + seeds - 1
        notes = [
            f"Means over {seeds} seeds ({FIRST_SEED} to {last}): of training, of ties in time and of settings chosen.",
            *notes,
        ]
    return {"metrics": tables, "paired_ndcg@10": paired, "split": first.split, "notes": [sentence, *notes]}


def means(tables: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """One table of several with the same methods: of each value the mean of those that are known."""
    return {
        method: {column: _mean([table[method].get(column) for table in tables]) for column in row}
        for method, row in tables[0].items()
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


class Trained(NamedTuple):
    """A module at its best epoch on validation, ready to predict."""

    module: RankingModule
    data: RecommenderData
    epochs: int
    cost: Cost


def trained(argv: list[str], dataset: Dataset, protocol: str, seed: int) -> Trained:
    """Train what `argv`, arguments of `fit`, describe on the training split of a protocol.

    Raises:
        UserError: a flag or the configuration is at fault.
    """
    split = "leave-one-out" if protocol == SAMPLED else protocol
    where = ["--data.dataset", dataset.name, "--data.protocol", split]
    seeds = ["--seed_everything", str(seed), "--data.seed", str(seed)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cli = evaluation.configured("recsys", [*argv, *where, *seeds], LINKS, folder)
        if not isinstance(cli.model, RankingModule):
            raise UserError(f"'{type(cli.model).__name__}' is no recommender: use a configuration of recsys.")
        with Cost() as cost:
            epochs = evaluation.train(cli, folder)
        module = type(cli.model).load_from_checkpoint(folder / "best.ckpt", map_location="cpu", weights_only=True)
    return Trained(module.eval(), cli.datamodule, epochs, cost)


def _train_and_measure(models: list[list[str]], dataset: Dataset, protocol: str, seed: int) -> Run:
    found = {NAMES[type(one.module)]: one for one in (trained(argv, dataset, protocol, seed) for argv in models)}
    notes = [f"{name}: epoch {one.epochs}, the best on validation." for name, one in found.items()]
    ours = next(iter(found))
    judge = Judge(found[ours].data, NEGATIVES if protocol == SAMPLED else 0)
    if protocol == "held-out-users":
        notes.append("NeuMF is absent: it knows a member by an embedding, and members who are held out have none.")
    tables, members, more = measured(
        {name: one.module for name, one in found.items()},
        judge,
        thorough=True,
        costs={name: one.cost for name, one in found.items()},
    )
    return Run(tables, members, [*notes, *more], split_of(judge), ours)
