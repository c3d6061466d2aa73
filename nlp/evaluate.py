"""Model and baselines on the same reviews of the same split: for a run's report, and as `python -m nlp evaluate`."""

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningCLI

from data import home, report
from data.atomic import atomic_file, write_json
from data.dataset import open_dataset
from data.errors import UserError
from data.schema import SOURCE, TEXT
from nlp.baselines import baselines
from nlp.calibration import fit_temperature, neutral_band, probability
from nlp.datamodule import ReviewData
from nlp.metrics import all_metrics, expected_calibration_error, reliability
from nlp.sentiment import SentimentModule
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

    The temperature and the neutral band go into `run/best.ckpt`, from where the refit takes them.
    """
    if not isinstance(module, SentimentModule) or not isinstance(datamodule, ReviewData):
        raise TypeError(f"{type(module).__name__} and {type(datamodule).__name__} are not a sentiment model's")
    data = datamodule
    data.setup()
    ours = Path(data.encoder).name
    truth = {side: data.reviews["positive"].to_numpy(bool)[data.rows(side)] for side in ("train", "validation", "test")}
    texts = {side: data.reviews[TEXT].iloc[data.rows(side)].tolist() for side in truth}
    logits = {side: logits_on(module, data, side) for side in ("validation", "test")}

    temperature = fit_temperature(logits["validation"], truth["validation"])
    band = neutral_band(probability(logits["validation"], temperature), truth["validation"])
    _write_calibration(run / "best.ckpt", temperature, band)

    predicted = {ours: {side: probability(logits[side], temperature) for side in logits}}
    for name, baseline in baselines().items():
        baseline.fit(texts["train"], truth["train"])
        predicted[name] = {side: baseline.predict(texts[side]) for side in logits}

    metrics = {side: {m: all_metrics(truth[side], p[side]) for m, p in predicted.items()} for side in logits}
    source = data.reviews[SOURCE].to_numpy(object)[data.rows("test")]
    for name in sorted(set(source)) if len(set(source)) > 1 else []:
        rows = source == name
        metrics[f"test: {str(name).removesuffix('-train')}"] = {
            method: all_metrics(truth["test"][rows], p["test"][rows]) for method, p in predicted.items()
        }
    return {
        "metrics": metrics,
        "headline": {"metric": "accuracy", "higher_is_better": True, "split": "test", "ours": ours},
        "split": {
            "protocol": PROTOCOL,
            "rows": {side: len(t) for side, t in truth.items()},
            "left_out": data.left_out,
            "usable": data.n_usable,
        },
        "calibration": {
            "temperature": temperature,
            "neutral_band": band,
            "ece_before": expected_calibration_error(truth["test"], probability(logits["test"], 1.0)),
            "ece_after": expected_calibration_error(truth["test"], predicted[ours]["test"]),
            "bins": reliability(truth["test"], predicted[ours]["test"]),
        },
        "notes": _notes(data),
    }


def _notes(data: ReviewData) -> list[str]:
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
    if data.warm_refit:
        notes.append(
            "The refit goes on from the fitted weights with the held-out reviews and as many of the others, "
            "instead of starting afresh."
        )
    return notes


def _write_calibration(checkpoint: Path, temperature: float, band: float) -> None:
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content["state_dict"]["temperature"] = torch.tensor(temperature)
    content["state_dict"]["neutral_band"] = torch.tensor(band)
    with atomic_file(checkpoint) as temporary:
        torch.save(content, temporary)


# -- python -m nlp evaluate ----------------------------------------------------------------------------------------


class _Parsed(LightningCLI):
    def add_arguments_to_parser(self, parser: Any) -> None:
        parser.add_argument("--refit", type=bool, default=True)  # a fit's option; nothing here is refitted
        for source, target in LINKS:
            parser.link_arguments(f"data.{source}", f"model.init_args.{target}", apply_on="instantiate")


LINKS = (("encoder", "encoder"), ("max_tokens", "max_tokens"), ("warm_refit", "warm_refit"))


def evaluate(argv: list[str]) -> None:
    """Train by a configuration on the training side alone, measure beside the baselines, print one table a slice.

    The result is kept by dataset fingerprint, configuration and seed; no run is made and `current` is not touched.

    Raises:
        UserError: the configuration or the dataset cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="python -m nlp evaluate", description=(evaluate.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="name of the dataset (default: demo)")
    parser.add_argument("--config", type=Path, default=QUICK, help="configuration of the fit (default: quick.yaml)")
    parser.add_argument("--seed", type=int, default=42, help="seed of split and training (default: 42)")
    parser.add_argument("--again", action="store_true", help="train again even if the result is kept")
    options = parser.parse_args(argv)
    found = open_dataset(options.dataset)
    identity = {
        "fingerprint": found.fingerprint,
        "config_sha256": report.file_sha256(options.config),
        "protocol": PROTOCOL,
        "seed": options.seed,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = home.evaluations(found.name, "sentiment") / f"{key}.json"
    if path.is_file() and not options.again:
        result = json.loads(path.read_text("utf-8"))
        print(f"Kept from {result['created_at']} ({path}); --again measures anew.")
    else:
        result = {**identity, **_train_and_measure(options.config, found.name, options.seed)}
        write_json(path, report.jsonable(result))
    for split, metrics in result["metrics"].items():
        report.print_metrics(metrics, f"sentiment on '{found.name}', {split}", HIGHER_IS_BETTER)
    for note in result["notes"]:
        print(f"- {note}")
    print(
        f"Split: {result['split']['protocol']}. Seed {result['seed']}, dataset fingerprint {found.fingerprint}, "
        f"{result['seconds']:.0f} s."
    )


def _train_and_measure(config: Path, dataset: str, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    home.home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.home(), prefix=".evaluate-") as folder:
        best = ModelCheckpoint(folder, "best", SentimentModule.monitor, mode=SentimentModule.monitor_mode)
        try:
            parsed = _Parsed(
                SentimentModule,
                ReviewData,
                run=False,
                args=["--config", str(config), f"--data.dataset={dataset}", f"--data.seed={seed}"],
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,
                seed_everything_default=seed,
                auto_configure_optimizers=False,
                trainer_defaults={"logger": False, "default_root_dir": folder, "callbacks": [best]},
                parser_kwargs={"exit_on_error": False},
            )
        except Exception as failure:
            if type(failure).__name__ != "ArgumentError":
                raise
            raise UserError(f"--config {config} cannot be used: {str(failure).splitlines()[0]}") from None
        pl.seed_everything(seed, workers=True, verbose=False)
        parsed.trainer.fit(parsed.model, datamodule=parsed.datamodule)
        if parsed.trainer.interrupted:
            raise KeyboardInterrupt("Interrupted: nothing was kept.")
        checkpoint = Path(folder) / "best.ckpt"
        module = SentimentModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
        _slim_copy(checkpoint)
        measured = measure(module.to(parsed.trainer.strategy.root_device), parsed.datamodule, Path(folder))
    return {**measured, "created_at": report.now(), "seconds": time.perf_counter() - started}


def _slim_copy(checkpoint: Path) -> None:
    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    torch.save({k: content[k] for k in ("state_dict", "hyper_parameters")}, checkpoint)
