"""`python -m benchmarks reviews`: sentiment beside the plain transformers pipeline, on the same texts in the same run.

The pipeline classifies with the same encoder weights and a fresh head: what a few lines of transformers give, at the
best of some batch sizes. It cuts every text off at 512 tokens; ours reads all of it, in overlapping windows. Everybody
takes a turn in every round and a ratio is that of one round, so that a neighbour's load hits both sides of it.
"""

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from data import command, report, runs
from data.dataset import open_dataset
from data.errors import UserError
from data.schema import SOURCE, TEXT
from nlp.engines import engine_name, token_outputs
from nlp.export import engines_of
from nlp.predictor import P_POSITIVE, SentimentScorer
from nlp.sentiment import SentimentModule
from nlp.splits import split_reviews
from nlp.tokens import tokenise

BATCH_SIZES = (1, 8, 32)
PIPELINE_TOKENS = 512
PIPELINE, IN_USE = "transformers pipeline", "run in use"
_SEED = 42
Clock = Callable[[], float]
Predict = Callable[[list[str]], np.ndarray]  # p(positive) of texts, (texts,)


def reviews(args: list[str]) -> None:
    """Measure and print the table.

    Raises:
        UserError: a flag is at fault, or there is no dataset, no run in use or no labelled review.
    """
    parser = command.Parser(
        prog="python -m benchmarks reviews",
        description="Documents a second: the sentiment run in use and the plain transformers pipeline.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: %(default)s)")
    parser.add_argument("--documents", type=int, default=400, help="how many, sources alike (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all (default: %(default)s)")
    options = parser.parse_args(args)
    for flag in ("documents", "rounds", "threads"):
        if getattr(options, flag) < 1:
            raise UserError(f"--{flag} {getattr(options, flag)} must be at least 1.")
    open_dataset(options.dataset)
    run = runs.current_run(options.dataset, "sentiment")
    if run is None:
        fit = runs.fit_command(options.dataset, "sentiment")
        raise UserError(f"Dataset '{options.dataset}' has no trained sentiment model: train one with '{fit}'.")
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        _show(run, unseen(options.dataset, options.documents), options.rounds)
    finally:
        torch.set_num_threads(before)


def unseen(dataset: str, documents: int) -> pd.DataFrame:
    """Labelled test reviews in seeded order, as many of each source while they last: text, positive."""
    found = split_reviews(open_dataset(dataset).reviews(), _SEED, dataset).frame
    test = found[found["side"] == "test"].sample(frac=1, random_state=_SEED)
    turn = test.groupby(SOURCE).cumcount()
    chosen = test.loc[turn.sort_values(kind="stable").index[:documents]]
    return chosen.sample(frac=1, random_state=_SEED).reset_index(drop=True)


def _show(run: Path, documents: pd.DataFrame, rounds: int) -> None:
    # best.ckpt is the model before its refit: it has not seen these reviews. The one in use has: no accuracy of it.
    module = SentimentModule.load_from_checkpoint(run / "best.ckpt", map_location="cpu", weights_only=True).eval()
    in_use = SentimentScorer.load(run, "cpu")
    tokenizer = in_use.tokenizer
    texts, positive = documents[TEXT].tolist(), documents["positive"].to_numpy(bool)
    # With one thread the processor's own time is exact; on a busy machine the wall clock counts others' turns.
    alone = torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        engines, reasons = engines_of(token_outputs(module), Path(folder))
        ours = {name: reader(SentimentScorer(module, tokenizer, run.name, engine)) for name, engine in engines.items()}
        ours[f"{IN_USE}, {engine_name(run, in_use.module)}"] = reader(in_use)
        seconds, p = measure(pipelines(module.encoder, tokenizer), ours, texts, rounds, clock)
    own = int(tokenise(tokenizer, texts).lengths.sum())
    table: dict[str, dict[str, float | None]] = {}
    for name, each in seconds.items():
        row: dict[str, float | None] = {"documents/s": len(texts) / min(each)}
        row["ratio"] = statistics.median(a / b for a, b in zip(seconds[PIPELINE], each, strict=True))
        if name in engines:
            row["accuracy"] = _accuracy(p[name], positive)
            row["points lost"] = 100 * (_accuracy(p["torch-float32"], positive) - _accuracy(p[name], positive))
            row["changed"] = float(((p[name] > 0.5) != (p["torch-float32"] > 0.5)).mean())
            row["mean difference"] = float(np.abs(p[name] - p["torch-float32"]).mean())
        table[name] = row
    threads = torch.get_num_threads()
    report.print_metrics(table, f"{len(texts):,} test reviews ({own:,} tokens), {threads} threads, {rounds} rounds")
    cut_off = np.minimum(tokenise(tokenizer, texts).lengths, PIPELINE_TOKENS - 2).sum()
    for name, reason in reasons.items():
        print(f"- {name} was not measured: {reason}.")
    print(f"- The pipeline reads {cut_off:,} of the {own:,} tokens, ours all of them.")
    print(
        "- The seconds are wall-clock time from texts to probabilities; points lost and changed: against torch-float32."
    )


def _accuracy(p: np.ndarray, positive: np.ndarray) -> float:
    return float(((p > 0.5) == positive).mean())


def pipelines(encoder: nn.Module, tokenizer: Any) -> dict[int, Predict]:
    """transformers' own pipeline for each batch size, with the weights of `encoder` and a fresh head."""
    from transformers import AutoModelForSequenceClassification, pipeline

    model = AutoModelForSequenceClassification.from_config(encoder.config, attn_implementation="sdpa").float().eval()
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)  # the pooler is fresh too
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")

    def predict(texts: list[str], size: int) -> np.ndarray:
        found = classify(texts, batch_size=size, truncation=True, max_length=PIPELINE_TOKENS)
        return np.array([one["score"] for one in found])

    return {size: functools.partial(predict, size=size) for size in BATCH_SIZES}


def reader(scorer: SentimentScorer) -> Predict:
    return lambda texts: scorer.predict(texts)[P_POSITIVE].to_numpy()


def measure(
    plain: dict[int, Predict],
    ours: dict[str, Predict],
    texts: list[str],
    rounds: int,
    clock: Clock = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each round by method, and what each predicts.

    A round before the first warms everything up and chooses the pipeline's batch size: its quickest.
    """
    warm = {size: _seconds(predict, texts, clock)[0] for size, predict in plain.items()}
    size = min(warm, key=lambda s: warm[s])
    print("Pipeline by batch size: " + ", ".join(f"{s}: {len(texts) / t:.1f} documents/s" for s, t in warm.items()))
    methods = {PIPELINE: plain[size], **ours}
    p = {name: _seconds(predict, texts, clock)[1] for name, predict in ours.items()}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, predict in methods.items():
            seconds[name].append(_seconds(predict, texts, clock)[0])
    return seconds, p


def _seconds(predict: Predict, texts: list[str], clock: Clock) -> tuple[float, np.ndarray]:
    started = clock()
    found = predict(texts)
    return clock() - started, found
