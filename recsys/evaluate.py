"""NeuMF and its baselines on the same split: for the report of a fit, and `python -m recsys evaluate`.

Everything ranks the whole catalogue without what the member has seen. Baselines choose their settings on the
validation split; the test split is looked at once. Methods learn from the training titles alone; those that can take in
further titles without training (the baselines) are given the validation title as history when the test is ranked.

NeuMF knows a member by an embedding. It cannot rank for somebody whom it was not trained on, and is then absent from
the table, with a note, instead of being shown with an embedding that means nothing.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from data import command, evaluation, splits
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from recsys.baselines import baselines
from recsys.datamodule import RecommenderData
from recsys.interactions import Histories, Vocabulary, histories_of, positive_events
from recsys.neumf import NeuMFModule
from recsys.ranking import Ranking, Score, Values, after_first_picks, linear, neural, rank

OURS = "NeuMF"
PROTOCOLS = ("leave-one-out", "temporal", "held-out-users")
QUICK = Path(__file__).parent / "configs" / "quick.yaml"
FIRST_PICKS = (3, 5, 10)
LINKS = (("n_users", "n_users"), ("n_items", "n_items"))


def chosen_baselines(
    train: Histories, validation: Ranking, seed: int
) -> tuple[dict[str, tuple[Score, Values]], list[str]]:
    """Each baseline at its best NDCG@10 on validation, with its figures there, and notes on settings and absences."""
    found: dict[str, tuple[Score, Values]] = {}
    notes = []
    for choice in baselines(train.n_items):
        if choice.skipped:
            notes.append(choice.skipped)
            continue
        tried = []
        for settings, make in choice.candidates:
            score = linear(make().fit(train))
            tried.append((settings, score, rank(score, validation, train, seed)))
        settings, score, values = max(tried, key=lambda t: t[2]["ndcg@10"] or 0.0)
        found[choice.name] = score, values
        if len(tried) > 1:
            best = ", ".join(f"{name} {value:g}" for name, value in settings.items())
            notes.append(f"{choice.name}: {best}, the best of {len(tried)} on validation.")
    return found, notes


def measure(module: pl.LightningModule, data: pl.LightningDataModule, run: Path) -> dict[str, Any]:
    """The parts of a fit's report that only this package knows: metrics, headline, split and notes."""
    if not isinstance(module, NeuMFModule) or not isinstance(data, RecommenderData):
        raise TypeError(f"cannot measure {type(module).__name__} on {type(data).__name__}")
    data.load()
    validation, test = data.ranking("validation"), data.ranking("test")
    found, notes = chosen_baselines(data.train, validation, data.seed)
    ours = neural(module.eval())
    tables = {
        "validation": {OURS: rank(ours, validation, data.train, data.seed)}
        | {name: values for name, (_, values) in found.items()},
        "test": {OURS: rank(ours, test, data.train, data.seed)}
        | {name: rank(score, test, data.train, data.seed) for name, (score, _) in found.items()},
    }
    notes.append(
        f"{OURS} ranks the test from the training titles alone; baselines are given the validation titles as history."
    )
    if data.protocol == "temporal":
        notes += _new_members(data, found, tables)
    return {
        "metrics": tables,
        "headline": {"metric": "ndcg@10", "higher_is_better": True, "split": "test", "ours": OURS},
        "split": {
            "protocol": data.protocol,
            "ties": splits.TIES,
            "seed": data.seed,
            "ranking": "the whole catalogue without what the member has seen",
            "rows": {
                "train": len(data.train.items),
                "validation": len(data.validation.items),
                "test": len(data.test.items),
            },
            "members": {"validation": len(validation.users), "test": len(test.users)},
            "titles": data.n_items,
        },
        "notes": notes,
    }


def _new_members(
    data: RecommenderData, found: dict[str, tuple[Score, Values]], tables: dict[str, dict[str, Values]]
) -> list[str]:
    """Add a table for members who start after the cut, for each number of first picks; return the notes on it."""
    new = ~data.known & (data.test.lengths > 0)
    for picks in FIRST_PICKS:
        ranking = after_first_picks(data.test, np.flatnonzero(new), picks)
        if not len(ranking.users):
            continue
        tables[f"test, new members, first {picks} picks"] = {
            name: rank(score, ranking, data.train, data.seed) for name, (score, _) in found.items()
        }
    return [
        f"{int(new.sum()):,} members start after the cut and are reported apart; {OURS} has never seen them and cannot "
        "rank for them, so it has no line there."
    ]


def held_out(dataset: Dataset, seed: int) -> dict[str, Any]:
    """Baselines on members whom nobody trained on, from the first 80 % of their history.

    Raises:
        UserError: there are too few members to hold some out.
    """
    events = positive_events(dataset, seed)
    vocabulary = Vocabulary.of(dataset, events)
    split = splits.held_out_users(events, seed)
    train, *parts = (histories_of(vocabulary, frame) for frame in split)
    validation, test = Ranking.of(parts[0], parts[1]), Ranking.of(parts[2], parts[3])
    if not len(train.items) or not len(validation.users) or not len(test.users):
        raise UserError(
            f"Dataset '{dataset.name}' has {len(vocabulary.user_ids):,} members, too few to hold some of them out: "
            "import more, or choose --protocol leave-one-out."
        )
    found, notes = chosen_baselines(train, validation, seed)
    notes.append(
        f"{OURS} is absent: it knows a member by an embedding that is trained, and these members are not trained on."
    )
    return {
        "metrics": {
            "validation": {name: values for name, (_, values) in found.items()},
            "test": {name: rank(score, test, train, seed) for name, (score, _) in found.items()},
        },
        "split": {
            "protocol": "held-out-users",
            "ties": splits.TIES,
            "seed": seed,
            "ranking": "the whole catalogue without the part of the history that is given",
            "rows": {"train": len(train.items), "validation": len(parts[1].items), "test": len(parts[3].items)},
            "members": {"validation": len(validation.users), "test": len(test.users)},
            "titles": len(vocabulary.item_ids),
        },
        "notes": notes,
    }


def evaluate(args: list[str]) -> None:
    """`python -m recsys evaluate`: train and measure by one protocol, print the table and keep it; `current` stays.

    Raises:
        UserError: a flag, the dataset or the configuration is at fault.
    """
    parser = command.Parser(
        prog="python -m recsys evaluate",
        description="NeuMF beside its baselines by one protocol. Further flags are those of 'fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--protocol", default="leave-one-out", help=f"one of {', '.join(PROTOCOLS)}")
    parser.add_argument("--config", action="append", help="configuration of NeuMF (default: the quick one)")
    parser.add_argument("--again", action="store_true", help="measure even if the same was measured before")
    known, rest = parser.parse_known_args(args)
    if known.protocol not in PROTOCOLS:
        raise UserError(f"--protocol {known.protocol} is unknown: choose one of {', '.join(PROTOCOLS)}.")
    dataset = open_dataset(known.dataset)
    argv = [argument for config in known.config or [str(QUICK)] for argument in ("--config", config)] + rest
    result = evaluation.kept(
        dataset,
        "recommender",
        argv,
        {"protocol": known.protocol},
        lambda: _train_and_measure(argv, dataset, known.protocol),
        known.again,
    )
    evaluation.show(result, dict.fromkeys(("hr@10", "ndcg@10", "mrr", "recall@20"), "max"))


def _train_and_measure(argv: list[str], dataset: Dataset, protocol: str) -> dict[str, Any]:
    where = ["--data.dataset", dataset.name]
    if protocol != "held-out-users":
        where += ["--data.protocol", protocol]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cli = evaluation.configured("recsys", [*argv, *where], LINKS, folder)
        if protocol == "held-out-users":
            return held_out(dataset, cli.datamodule.seed)
        epochs = evaluation.train(cli, folder)
        module = NeuMFModule.load_from_checkpoint(folder / "best.ckpt", map_location="cpu", weights_only=True)
        return {**measure(module, cli.datamodule, folder), "epochs": epochs}
