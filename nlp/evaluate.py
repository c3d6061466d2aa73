"""Model and baselines on the same reviews of the same split: for a run's report, and as `python -m nlp evaluate`."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from data import command, evaluation
from data.atomic import atomic_file
from data.cases import write_cases
from data.dataset import open_dataset
from data.schema import SOURCE, TEXT
from nlp.baselines import baselines
from nlp.calibration import Joint, fit_joint, join, neutral_band, probability
from nlp.datamodule import ReviewData
from nlp.metrics import all_metrics, expected_calibration_error, reliability
from nlp.sentiment import SentimentModule
from nlp.slices import slices
from nlp.splits import PROTOCOL

QUICK = Path(__file__).parent / "configs" / "quick.yaml"
HIGHER_IS_BETTER = {"accuracy": "max", "f1": "max", "auroc": "max", "log_loss": "min", "ece": "min"}


@torch.inference_mode()
def logits_on(module: SentimentModule, data: ReviewData, side: str) -> np.ndarray:
    """The module's logit of each review of `side`, in the order of `data.rows(side)`."""
    module.eval()
    position = {review_id: i for i, review_id in enumerate(data.ids(side))}
    logits = np.zeros(len(position), np.float64)
    for batch in data.loader(side):
        on_device = {k: v.to(module.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        where = [position[review_id] for review_id in batch["review_id"]]
        logits[where] = module(on_device).float().cpu().numpy()
    return logits


def measure(module: pl.LightningModule, datamodule: pl.LightningDataModule, run: Path) -> dict[str, Any]:
    """Calibrate on validation, compare on validation and test, whole and by source; see `data.training`.

    What it finds goes into `run/best.ckpt`, from where the refit takes them.
    """
    if not isinstance(module, SentimentModule) or not isinstance(datamodule, ReviewData):
        raise TypeError(f"{type(module).__name__} and {type(datamodule).__name__} are not a sentiment model's")
    data = datamodule
    data.setup()
    ours = Path(data.encoder).name
    truth = {side: data.reviews["positive"].to_numpy(bool)[data.rows(side)] for side in ("train", "validation", "test")}
    texts = {side: data.reviews[TEXT].iloc[data.rows(side)].tolist() for side in truth}
    sides = ("validation", "test")
    module.mix.zero_()
    module.slopes.zero_()
    encoder = {side: logits_on(module, data, side) for side in sides}
    length = {side: data.tokens.lengths[data.rows(side)] for side in sides}
    bag: dict[str, Any] = dict.fromkeys(sides)
    parts = {}
    alone = fit_joint(encoder["validation"], None, length["validation"], truth["validation"])
    if module.bag is not None:
        bag = {side: module.bag.logits(data.tokens, data.rows(side)) for side in sides}
        parts = {
            f"{ours} without n-grams": {s: _probability(encoder[s], None, length[s], alone) for s in sides},
            "n-grams without encoder": {side: probability(bag[side], 1.0) for side in sides},
        }
    joint = fit_joint(encoder["validation"], bag["validation"], length["validation"], truth["validation"])
    ours_on = {side: _probability(encoder[side], bag[side], length[side], joint) for side in sides}
    band = neutral_band(ours_on["validation"], truth["validation"])
    _write_calibration(run / "best.ckpt", joint, band)

    predicted = {ours: ours_on, **parts}
    for name, baseline in baselines().items():
        baseline.fit(texts["train"], truth["train"])
        predicted[name] = {side: baseline.predict(texts[side]) for side in sides}

    metrics = {side: {m: all_metrics(truth[side], p[side]) for m, p in predicted.items()} for side in sides}
    right = {m: (p["test"] > 0.5) == truth["test"] for m, p in predicted.items()}  # as metrics.accuracy has it
    write_cases(run, data.ids("test"), right)
    source = data.reviews[SOURCE].to_numpy(object)[data.rows("test")]
    names = sorted(set(source)) if len(set(source)) > 1 else []
    parts_of_test = {str(name).removesuffix("-train"): source == name for name in names} | slices(texts["test"])
    for name, rows in parts_of_test.items():
        metrics[f"test: {name}"] = {
            method: all_metrics(truth["test"][rows], p["test"][rows]) for method, p in predicted.items()
        }
    return {
        "metrics": metrics,
        "headline": {
            "metric": "accuracy",
            "higher_is_better": True,
            "split": "test",
            "ours": ours,
            "parts": list(parts),
        },
        "split": {
            "protocol": PROTOCOL,
            "seed": data.seed,
            "rows": {side: len(t) for side, t in truth.items()},
            "left_out": data.left_out,
            "usable": data.n_usable,
        },
        "calibration": {
            **joint._asdict(),
            "neutral_band": band,
            "ece_before": expected_calibration_error(truth["test"], probability(encoder["test"], 1.0)),
            "ece_after": expected_calibration_error(truth["test"], predicted[ours]["test"]),
            "bins": reliability(truth["test"], predicted[ours]["test"]),
        },
        "notes": _notes(data, joint.mix),
    }


def _notes(data: ReviewData, mix: float) -> list[str]:
    used = len(data.reviews)
    notes = [f"The baselines learned from the same {len(data.rows('train')):,} reviews, unabridged."]
    if used < data.n_usable:
        notes.append(
            f"A seeded sample: {used:,} of {data.n_usable:,} usable reviews were read at all, those of the "
            "source with the shorter texts first."
        )
    if data.train_windows is not None:
        notes.append(
            f"Training reads at most {data.train_windows} windows of {data.max_tokens} tokens of a review, from its "
            "first to its last word; measuring and scoring read all of it."
        )
    if data.ngram_buckets:
        notes.append(
            f"The model is an encoder and a bag of n-grams with weight {mix:.2f} beside it, chosen on validation; each "
            "alone has a line of its own."
        )
    if data.warm_refit:
        notes.append(
            "The refit goes on from the fitted weights with the held-out reviews and as many of the others, "
            "instead of starting afresh."
        )
    return notes


def _probability(encoder: np.ndarray, bag: np.ndarray | None, length: np.ndarray, joint: Joint) -> np.ndarray:
    both = join(encoder, 0.0 if bag is None else bag, length, joint.mix, joint.encoder_slope, joint.bag_slope)
    return probability(both, joint.temperature)


def _write_calibration(checkpoint: Path, joint: Joint, band: float) -> None:
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content["state_dict"] |= {
        "temperature": torch.tensor(joint.temperature),
        "neutral_band": torch.tensor(band),
        "mix": torch.tensor(joint.mix),
        "slopes": torch.tensor([joint.encoder_slope, joint.bag_slope]),
    }
    with atomic_file(checkpoint) as temporary:
        torch.save(content, temporary)


# -- python -m nlp evaluate ----------------------------------------------------------------------------------------

LINKS = tuple((name, name) for name in ("encoder", "max_tokens", "warm_refit", "ngram_buckets"))


def evaluate(args: list[str]) -> None:
    """Train by a configuration on the training side alone, measure beside the baselines, print one table a slice.

    The result is kept by dataset fingerprint, configuration and seed; no run is made and `current` is not touched.

    Raises:
        UserError: the configuration or the dataset cannot be read.
    """
    parser = command.Parser(
        prog="python -m nlp evaluate",
        description="The sentiment model beside its baselines. Further flags are those of 'fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="name of the dataset (default: demo)")
    parser.add_argument("--config", default=str(QUICK), help="configuration of the fit (default: quick.yaml)")
    parser.add_argument("--seed", type=int, default=42, help="seed of split and training (default: 42)")
    parser.add_argument("--again", action="store_true", help="train again even if the result is kept")
    options, rest = parser.parse_known_args(args)
    found = open_dataset(options.dataset)
    argv = ["--config", options.config, *rest]
    result = evaluation.kept(
        found,
        "sentiment",
        argv,
        {"protocol": PROTOCOL, "seed": options.seed},
        lambda: _train_and_measure(argv, found.name, options.seed),
        options.again,
    )
    evaluation.show(result, HIGHER_IS_BETTER)


def _train_and_measure(argv: list[str], dataset: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = ["--data.dataset", dataset, "--data.seed", str(seed), "--seed_everything", str(seed)]
        cli = evaluation.configured("nlp", [*argv, *where], LINKS, folder)
        epochs = evaluation.train(cli, folder)
        module = SentimentModule.load_from_checkpoint(folder / "best.ckpt", map_location="cpu", weights_only=True)
        measured = measure(module.to(cli.trainer.strategy.root_device), cli.datamodule, folder)
        return {**measured, "epochs": epochs}
