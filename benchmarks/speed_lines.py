"""The lines of `python -m benchmarks`: for each, what ours does and what the peer does with the same data."""

import contextlib
import importlib.metadata
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks import pace, trial
from benchmarks.peers.exchange import write_split
from benchmarks.scale import TOP, elsewhere, implicit_lists, lists
from benchmarks.scale import generated as generated_interactions
from benchmarks.series import first, forecaster
from benchmarks.series import generated as generated_series
from benchmarks.visitor import Visitor, app
from data import home, runs
from data.dataset import open_dataset
from data.errors import UserError
from data.schema import TEXT

CATALOGUES = (1_700, 4_270, 10_726)  # titles; those of MovieLens 100K and of `scale` at 1e6 and 1e7 interactions
RATINGS = (1_000_000, 10_000_000)  # as many as those of MovieLens 1M and 10M
_SEED = 42
# RecBole's own NeuMF (its default settings), as arguments of ours: widths, layers, dropout, no decays and no weights.
_NEUMF = {
    "model.gmf_size": 64,
    "model.mlp_size": 64,
    "model.mlp_layers": [128, 64],
    "model.dropout": 0.1,
    "model.learning_rate": 1e-3,
    "model.learning_rate_decay": 1.0,
    "model.l2": 0.0,
    "data.half_life": 0,
}
_PAIRS = 2048  # (member, title) pairs of a step of both NeuMFs, positives and negatives: RecBole's default


class Options(NamedTuple):
    """What was asked for."""

    dataset: str
    rounds: int
    quick: bool


class Line(NamedTuple):
    """Two sides that do the same; each call is one turn and returns work a second, or seconds."""

    what: str
    unit: str
    peer: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    seconds: bool = False  # whether the unit is seconds, of which fewer are better
    compared: bool = True  # whether the other side does the same work: else it is there for orientation alone
    rounds: int = 0  # turns of each side; 0: as many as asked for


def rate(work: float, run: Callable[[], object]) -> Callable[[], float]:
    """A turn: how much of `work` is done in a second."""

    def turn() -> float:
        started = time.perf_counter()
        run()
        return work / (time.perf_counter() - started)

    return turn


def pinned(name: str) -> str:
    """A peer's name and version in the environment of benchmarks/peers.txt."""
    for line in trial.PINS.read_text("utf-8").splitlines():
        if line.lower().startswith(f"{name.lower()}=="):
            return line.replace("==", " ")
    return name


def installed(name: str) -> str:
    return f"{name} {importlib.metadata.version(name)}"


# -- training ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _split(options: Options) -> Iterator[Path]:
    """The training split of the dataset, as peers read it."""
    from recsys.datamodule import RecommenderData

    trial.check_environment()
    data = RecommenderData(options.dataset, seed=_SEED)
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        write_split(data, Path(folder) / "split")
        yield Path(folder) / "split"


def _training(
    what: str, unit: str, peer: str, ours: list[str], theirs: list[str], own_samples: float = 1.0, samples: float = 1.0
) -> Iterator[Line]:
    """A line for two trainings in laps, after one lap of each to warm up.

    Args:
        own_samples: what one of our samples counts.
        samples: what one of the peer's does.
    """
    with pace.training(ours) as our, pace.training(theirs) as their:
        our.lap()
        their.lap()
        yield Line(what, unit, peer, lambda: own_samples * our.lap(), lambda: samples * their.lap())


def history_beside_rectools(options: Options) -> Iterator[Line]:
    with _split(options) as split:
        ours = pace.ours("historynet", options.dataset, {"model.search": False, "batches": 40})
        widths: list[tuple[str, dict[str, Any]]] = [
            ("", {}),
            (", 64 wide", {"n_factors": 64, "n_heads": 2}),
        ]  # else as it comes
        for told, settings in widths:
            theirs = pace.peer(trial.PYTHON, "laps_rectools.py", split, settings | {"batches": 2})
            yield from _training("train HistoryNet", "titles/s", f"SASRec{told}, {pinned('RecTools')}", ours, theirs)


def history_beside_recbole(options: Options) -> Iterator[Line]:
    with _split(options) as split:
        ours = pace.ours("historynet", options.dataset, {"model.search": False, "batches": 40})
        theirs = pace.peer(
            trial.PYTHON, "laps_recbole.py", split, {"model": "SASRec", "batches": 1 if options.quick else 4}
        )
        yield from _training("train HistoryNet", "titles/s", f"SASRec, {pinned('recbole')}", ours, theirs)


def neumf_beside_recbole(options: Options) -> Iterator[Line]:
    with _split(options) as split:
        for negatives in (1, 4):
            asked = _NEUMF | {"model.n_negatives": negatives, "data.batch_size": _PAIRS // (1 + negatives)}
            ours = pace.ours("neumf", options.dataset, asked)
            theirs = pace.peer(trial.PYTHON, "laps_recbole.py", split, {"negatives": negatives})
            each = f"{negatives} negative{'s' * (negatives > 1)} each"
            yield from _training(f"train NeuMF, {each}", "positives/s", f"NeuMF, {pinned('recbole')}", ours, theirs)


# -- serving and scoring -----------------------------------------------------------------------------------------------


def top_lists(options: Options) -> Iterator[Line]:
    """HistoryNet before its network has learned anything, which costs what it costs afterwards."""
    import torch

    from recsys.history import HistoryModule
    from recsys.history_data import HistoryData

    number = 5_000 if options.quick else 300_000
    for titles in CATALOGUES[:1] if options.quick else CATALOGUES:
        with elsewhere():
            dataset = generated_interactions(number, titles=titles)
            data = HistoryData(dataset.name, seed=_SEED)
            data.load()
            data.fit_on = "everything"
            torch.manual_seed(_SEED)
            module = HistoryModule(data.n_users, data.n_items, search=False, folds=1)
            module.prepare(data)
            module.on_fit_end()
            ours, theirs = lists(module, data), implicit_lists(data.everything)
            ours(), theirs()
            yield Line(
                f"lists of {TOP} of {titles:,} titles",
                "members/s",
                installed("implicit"),
                rate(data.n_users, ours),
                rate(data.n_users, theirs),
                rounds=1 if options.quick else max(5, options.rounds),
            )


def documents(options: Options) -> Iterator[Line]:
    from benchmarks.reviews import PIPELINE, measure, pipelines, reader, unseen
    from nlp.predictor import SentimentScorer

    open_dataset(options.dataset)
    run = runs.current_run(options.dataset, "sentiment")
    if run is None:
        fit = runs.fit_command(options.dataset, "sentiment")
        raise UserError(f"Dataset '{options.dataset}' has no trained sentiment model: train one with '{fit}'.")
    scorer = SentimentScorer.load(run, "cpu")
    texts = unseen(options.dataset, 16 if options.quick else 200)[TEXT].tolist()
    from nlp.sentiment import SentimentModule

    module = SentimentModule.load_from_checkpoint(run / "best.ckpt", map_location="cpu", weights_only=True).eval()
    ours = "ours"
    plain = pipelines(module.encoder, scorer.tokenizer)
    seconds, _ = measure(plain, {ours: reader(scorer)}, texts, options.rounds)
    rates = {name: iter([len(texts) / one for one in each]) for name, each in seconds.items()}
    yield Line(
        "read reviews",
        "documents/s",
        f"pipeline, {installed('transformers')}",
        lambda: next(rates[ours]),
        lambda: next(rates[PIPELINE]),
        rounds=options.rounds,
    )


def series(options: Options) -> Iterator[Line]:
    from forecasting.classical import ETS, classical
    from forecasting.forecast import forecast_panel

    many, some, steps, horizon = (40, 6, 60, 7) if options.quick else (10_000, 200, 365, 28)
    history = generated_series(many, steps + horizon).until(steps).known()
    few = first(history, some)
    module = forecaster(few, horizon)
    forecast_panel(module, history, horizon)
    yield Line(
        f"forecast series of {steps} days",
        "series/s",
        f"AutoETS, {installed('statsforecast')}",
        rate(many, lambda: forecast_panel(module, history, horizon)),
        lambda: some / classical(few, horizon, (ETS,))[ETS].seconds,
        rounds=min(2, options.rounds),
    )


def importing(options: Options) -> Iterator[Line]:
    from data.__main__ import main

    for number in (20_000,) if options.quick else RATINGS:
        yield from _imports(number, main, options)


def _imports(number: int, main: Callable[[list[str]], int], options: Options) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder, elsewhere():
        path = Path(folder) / "ratings.csv"
        ratings(number).to_csv(path, index=False)
        asked = ["import", "--name", "ratings", "--interactions", str(path), "--replace"]

        def ours() -> None:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
                code = main(asked)
            if code:
                raise UserError(f"The import has failed: {said.getvalue().strip()[-300:]}")

        ours()
        yield Line(
            f"import {number:,} ratings",
            "rows/s",
            f"read_csv, {installed('pandas')}",
            rate(number, ours),
            rate(number, lambda: pd.read_csv(path)),
            rounds=1 if options.quick else max(5, options.rounds, 20_000_000 // number),  # short turns differ more
        )


def ratings(number: int, seed: int = 0) -> pd.DataFrame:
    """A table like MovieLens' ratings.csv: sorted by member, half stars, seconds since 1970."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "userId": np.sort(rng.integers(1, max(2, number // 160), number)),
            "movieId": np.minimum((20 * rng.pareto(0.8, number)).astype(np.int64) + 1, 4_000),
            "rating": rng.integers(1, 11, number) / 2,
            "timestamp": rng.integers(956_000_000, 1_046_000_000, number),
        }
    )


def dashboard_start(options: Options) -> Iterator[Line]:
    """From the command to the first whole page; an app of one line is the least that Streamlit takes."""
    dataset = open_dataset(options.dataset)

    def turn(script: str, asked: Path) -> Callable[[], float]:
        def start() -> float:
            started = time.perf_counter()
            with app(script, asked, dataset.name, MARQUEE_DATABASE_URL=f"sqlite:///{database}") as server:
                visitor = Visitor(server.url)
                answer = visitor.open()
                seconds = time.perf_counter() - started
                visitor.close()
            if answer.exceptions:
                raise UserError(f"The dashboard's first page fails: {answer.exceptions[0][:300]}")
            return seconds

        return start

    with tempfile.TemporaryDirectory() as folder:
        empty, database = Path(folder) / "empty.py", Path(folder) / "events.db"
        empty.write_text("import streamlit\n\nstreamlit.write('Hello')\n")
        yield Line(
            "start the dashboard, first page",
            "s",
            f"empty app, {installed('streamlit')}",
            turn("dashboard", home.home()),
            turn(os.fspath(empty), home.home()),
            seconds=True,
            compared=False,
        )


LINES: dict[str, Callable[[Options], Iterator[Line]]] = {
    "historynet-rectools": history_beside_rectools,
    "historynet-recbole": history_beside_recbole,
    "neumf-recbole": neumf_beside_recbole,
    "lists": top_lists,
    "documents": documents,
    "series": series,
    "import": importing,
    "dashboard": dashboard_start,
}
