"""`python -m benchmarks peers`: HistoryNet beside other people's recommenders, on one split and by one ranking.

Everybody has the same number of trials and is chosen by NDCG@10 on validation; the test is ranked for the chosen trial
alone. Baselines (recsys/baselines.py) keep their own grids. Peers get the histories to score for and never the test
titles: the ranking is ours (recsys/ranking.py).
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import trial
from benchmarks.peers.exchange import About, write_split
from benchmarks.trials import OURS, PEERS, Peer, Settings, told
from data import command, evaluation, home, report
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from recsys.cost import Cost
from recsys.datamodule import Protocol
from recsys.evaluate import BEST, CONFIGS, Judge, Run, Trained, check_protocol, measured, over_seeds, split_of, trained
from recsys.history_data import HistoryData
from recsys.ranking import Ranked, neural

PROTOCOLS = ("leave-one-out", "leave-five-out", "temporal", "held-out-users")
CONFIG = CONFIGS / "quick.yaml"
NAME = "HistoryNet"
MOST = len(OURS)


class Tried(NamedTuple):
    """A trial that ended: what the choice is made by, and what the report says of it."""

    settings: Settings
    validation: Ranked
    epochs: int
    seconds: float
    out_of_time: bool = False

    @property
    def ndcg(self) -> float:
        return self.validation.values["ndcg@10"] or 0.0

    def told(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "ndcg@10": self.ndcg,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "out_of_time": self.out_of_time,
        }


def best(tried: list[Tried]) -> int:
    """The number of the trial with the best NDCG@10 on validation; of equals the first."""
    return max(range(len(tried)), key=lambda number: tried[number].ndcg)


def peers(args: list[str]) -> None:
    """Measure, print the table and keep it. A run that is interrupted goes on with the peers' trials that ended.

    Raises:
        UserError: a flag or the dataset is at fault, the peers' environment is missing, or a peer failed.
    """
    parser = command.Parser(
        prog="python -m benchmarks peers",
        description="HistoryNet beside SASRec, BERT4Rec, NeuMF and Mult-VAE of other libraries. Further flags are "
        "those of 'python -m recsys fit', for HistoryNet.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--protocol", default="leave-one-out", help=f"one of {', '.join(PROTOCOLS)}")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions, each with a seed of its own (default: 1)")
    parser.add_argument("--trials", type=int, default=4, help=f"settings tried by everybody, 1 to {MOST} (default: 4)")
    parser.add_argument("--peers", help=f"whom to ask (default: all who can: {','.join(PEERS)})")
    parser.add_argument("--max-minutes", type=float, default=30.0, help="training of a peer's trial (default: 30)")
    parser.add_argument("--again", action="store_true", help="measure even if the same was measured before")
    known, rest = parser.parse_known_args(args)
    check_protocol(known.protocol, PROTOCOLS)
    able = [name for name in PEERS if PEERS[name].strangers or known.protocol != "held-out-users"]
    chosen = able if known.peers is None else list(dict.fromkeys(known.peers.split(",")))
    if unknown := [name for name in chosen if name not in PEERS]:
        raise UserError(f"--peers {unknown[0]} is unknown: choose among {', '.join(PEERS)}.")
    if unable := [name for name in chosen if name not in able]:
        raise UserError(f"--peers {unable[0]} ranks for the members of its training alone: leave it out here.")
    if known.seeds < 1:
        raise UserError(f"--seeds {known.seeds} must be at least 1.")
    if not 1 <= known.trials <= MOST:
        raise UserError(f"--trials {known.trials} must be from 1 to {MOST}.")
    if known.max_minutes <= 0:
        raise UserError(f"--max-minutes {known.max_minutes:g} must be above 0.")
    dataset = open_dataset(known.dataset)
    trial.check_environment()
    work = home.benchmarks(dataset.name) / f"peers-{known.protocol}-{dataset.fingerprint[:12]}"
    if known.again:
        shutil.rmtree(work, ignore_errors=True)
    result = evaluation.kept(
        dataset,
        "recommender",
        ["--config", str(CONFIG), *rest],
        {
            "benchmark": "peers",
            "protocol": known.protocol,
            "seeds": known.seeds,
            "settings": {NAME: OURS[: known.trials]}
            | {PEERS[name].title: PEERS[name].settings[: known.trials] for name in chosen},
            "max_minutes": known.max_minutes,
            "pins_sha256": hashlib.sha256(trial.PINS.read_bytes()).hexdigest(),
        },
        lambda: _measure(
            Contest(dataset, known.protocol, chosen, known.trials, known.max_minutes, rest, work), known.seeds
        ),
        known.again,
    )
    shutil.rmtree(work, ignore_errors=True)
    evaluation.show(result, BEST)
    gains = {
        name: dict(zip((f"{NAME} is better by", "from", "to"), interval, strict=True))
        for name, interval in result["paired_ndcg@10"].items()
    }
    report.print_metrics(gains, "NDCG@10, test: difference and its 95 % interval, a paired bootstrap over members")


class Contest(NamedTuple):
    """What is measured."""

    dataset: Dataset
    protocol: Protocol
    peers: list[str]
    trials: int
    minutes: float
    flags: list[str]  # of `fit`, for HistoryNet
    work: Path


def _measure(contest: Contest, seeds: int) -> dict[str, Any]:
    tried: list[dict[str, Any]] = []

    def one(seed: int) -> Run:
        run, trials = _one_seed(contest, seed)
        tried.append({"seed": seed, **{name: [one.told() for one in those] for name, those in trials.items()}})
        return run

    try:
        return {**over_seeds(one, seeds), "tried": tried}
    except KeyboardInterrupt:
        kept = "Interrupted: the peers' trials that ended are kept. Run the same command to go on."
        raise KeyboardInterrupt(kept) from None


def _one_seed(contest: Contest, seed: int) -> tuple[Run, dict[str, list[Tried]]]:
    """The tables of one seed, and everybody's trials."""
    data = HistoryData(contest.dataset.name, contest.protocol, seed=seed)  # as HistoryNet's: strangers are ranked for
    judge = Judge(data)
    ours, trials = _train_ours(contest, seed, judge)
    tried = {NAME: trials}
    tables, members, notes = measured({NAME: ours.module}, judge, thorough=True, costs={NAME: ours.cost})
    work = contest.work / str(seed)
    write_split(data, work / "split")
    for name in contest.peers:
        title = PEERS[name].title
        out, about, tried[title] = _train_peer(contest, PEERS[name], seed, judge, work)
        with Cost() as cost:
            ranked = judge.rank(trial.written(out, "before_test"), "test")
        rate = len(judge.rankings["test"].users) / (about.scoring_seconds + cost.seconds)
        spent = {"fit s": about.seconds, "fit MiB": about.peak_mib, "members/s": rate}
        validation = tried[title][best(tried[title])].validation
        tables["validation"][title], members["validation"][title] = validation.values, validation.ndcg
        tables["test"][title], members["test"][title] = ranked.values | spent, ranked.ndcg
    choices = [_choice(method, those) for method, those in tried.items()]
    remarks = [PEERS[name].note for name in contest.peers if PEERS[name].note]
    return Run(tables, members, [*choices, *remarks, *notes], split_of(judge), NAME), tried


def _train_peer(contest: Contest, peer: Peer, seed: int, judge: Judge, work: Path) -> tuple[Path, About, list[Tried]]:
    """What the trial that is best on validation wrote and says of itself, and all trials."""
    found, tried = [], []
    for settings in peer.settings[: contest.trials]:
        out, about = trial.run(peer, settings, seed, contest.minutes, work / "split", work)
        ranked = judge.rank(trial.written(out, "before_validation"), "validation")
        found.append((out, about))
        tried.append(Tried(settings, ranked, about.epochs, about.seconds, about.out_of_time))
        _progress(peer.title, contest, tried)
    return *found[best(tried)], tried


def _train_ours(contest: Contest, seed: int, judge: Judge) -> tuple[Trained, list[Tried]]:
    """HistoryNet of the trial that is best on validation, and all trials."""
    found, tried = [], []
    for settings in OURS[: contest.trials]:
        flags = [part for name, value in settings.items() for part in (f"--model.{name}", str(value))]
        one = trained(["--config", str(CONFIG), *flags, *contest.flags], contest.dataset, contest.protocol, seed)
        ranked = judge.rank(neural(one.module), "validation")
        found.append(one)
        tried.append(Tried(settings, ranked, one.epochs, one.cost.seconds))
        _progress(NAME, contest, tried)
    return found[best(tried)], tried


def _progress(name: str, contest: Contest, tried: list[Tried]) -> None:
    one = tried[-1]
    asked = f"{name}, trial {len(tried)} of {contest.trials} ({told(one.settings)})"
    found = f"NDCG@10 {one.ndcg:.4f} on validation at epoch {one.epochs}, {one.seconds:.0f} s"
    print(f"{asked}: {found}{', out of time' if one.out_of_time else ''}.", flush=True)


def _choice(name: str, tried: list[Tried]) -> str:
    """The note on a method's trials."""
    chosen = tried[best(tried)]
    late = sum(one.out_of_time for one in tried)
    stopped = f" {late} of its trials ended by --max-minutes, with the best epoch so far." if late else ""
    return (
        f"{name}: {told(chosen.settings)}, the best of {len(tried)} on validation, at epoch {chosen.epochs}.{stopped}"
    )
