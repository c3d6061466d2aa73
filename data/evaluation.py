"""What the packages' `evaluate` commands share: a training that makes no run, and results that are kept.

A result is named by everything that it depends on (the dataset's fingerprint, the configuration, the protocol, the
seed, the program's text), so the same question is answered from disk. `current` is never touched.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from data import home, report, runs
from data.arguments import readable
from data.atomic import write_json
from data.checkpoints import slim
from data.dataset import Dataset
from data.errors import UserError
from data.gate import Gate
from data.refit import prepare_refit

Links = Sequence[tuple[str, str]]


def kept(
    dataset: Dataset,
    model: str,
    argv: Sequence[str],
    question: Mapping[str, Any],
    measure: Callable[[], dict[str, Any]],
    again: bool = False,
) -> dict[str, Any]:
    """The result of `measure()`, from disk if the same was measured before and not `again`.

    Args:
        dataset: what is measured on.
        model: one of data.runs.MODELS.
        argv: the configuration, as arguments of `fit`.
        question: everything else that the result depends on, e.g. the protocol.
        measure: gives metrics (split to method to metric to value), split and notes.
    """
    recipe = report.recipe(argv)
    asked = {"config_sha256": recipe["config_sha256"], "overrides": recipe["overrides"]}
    clock = {"as_of": None if dataset.as_of is None else dataset.as_of.isoformat(), "time_kind": dataset.time_kind}
    code = report.code_sha256("data", runs.PACKAGE[model])
    identity = {"fingerprint": dataset.fingerprint, **clock, **question, **asked, "code_sha256": code}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = home.evaluations(dataset.name, model) / f"{key}.json"
    if path.is_file() and not again:
        found = json.loads(path.read_text("utf-8"))
        print(f"Kept from {found['created_at']} ({path}); --again measures anew.")
        return found
    started = time.perf_counter()
    measured = measure()
    content = {
        "model": model,
        "dataset": dataset.name,
        "created_at": report.now(),
        "recipe": recipe,
        "versions": report.versions(),
        "seconds": round(time.perf_counter() - started, 1),
        **identity,
        **measured,
    }
    content = report.jsonable(content)
    write_json(path, content)
    return content


def show(result: Mapping[str, Any], best: Mapping[str, str]) -> None:
    """Print a result: one table for each split, its notes, and what it was measured on.

    Args:
        result: what `kept` returned.
        best: metric to `min` or `max`, see data.report.print_metrics.
    """
    for split, table in result["metrics"].items():
        report.print_metrics(table, f"{result['model']} on '{result['dataset']}', {split}", best)
    for note in result["notes"]:
        print(f"- {note}")
    split = result["split"]
    print(
        f"Split: {split['protocol']}. Seed {split['seed']}, dataset fingerprint {result['fingerprint']}, measured in "
        f"{result['seconds']:.0f} s."
    )


class _Parsed(LightningCLI):
    """Lightning's parser without subcommands: it builds trainer, module and data, and we train."""

    links: Links = ()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Options of fit, so they may stand in a configuration.
        parser.add_argument("--refit", type=bool, default=True)
        parser.add_argument("--gate", type=Gate, default="keep")
        for source, target in self.links:
            parser.link_arguments(f"data.{source}", f"model.init_args.{target}", apply_on="instantiate")


def configured(package: str, argv: Sequence[str], links: Links, folder: Path) -> LightningCLI:
    """Trainer, model and datamodule as `fit` would make them from `argv`, seeded; logs go into `folder` too.

    Args:
        package: for the sentence of a mistake, e.g. "recsys".
        links: datamodule attributes that are arguments of the module, see data.training.Package.
        folder: for the checkpoints and logs of the training.

    Raises:
        UserError: a flag or configuration is at fault.
    """
    chosen = list(links)

    class Parsed(_Parsed):
        links = chosen

    # Some callbacks insist on a logger.
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "logs", "version": ""}}
    try:
        return Parsed(
            run=False,
            args=[*argv, "--trainer.default_root_dir", str(folder)],
            save_config_callback=None,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={"enable_model_summary": False, "logger": logger},
            parser_kwargs={"exit_on_error": False},
        )
    except ArgumentError as mistake:
        text = readable(str(mistake))[:400].rstrip(".")
        raise UserError(f"{text}. 'python -m {package} fit --help' lists the flags.") from None


def train(cli: LightningCLI, folder: Path) -> int:
    """Train on the training split, the best on validation in `folder`/best.ckpt; return how many epochs that has seen.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    best = ModelCheckpoint(folder, "best", monitor=str(cli.model.monitor), mode=str(cli.model.monitor_mode))
    cli.trainer.callbacks.append(best)  # type: ignore[attr-defined]
    _fit(cli.trainer, cli.model, cli.datamodule)
    return slim(folder / "best.ckpt", folder / "best.ckpt")


def refit(cli: LightningCLI, folder: Path, epochs: int) -> pl.LightningModule:
    """After `train`: a fresh module trained on everything that the datamodule holds, as `fit` makes it for serving.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    model, trainer = prepare_refit(
        cli.model, folder / "best.ckpt", cli.datamodule, cli.config_init.trainer, epochs, cli.config.seed_everything
    )
    _fit(trainer, model, cli.datamodule)
    return model.eval()


def _fit(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> None:
    try:
        trainer.fit(model, datamodule=datamodule)
    except SystemExit:  # how Lightning ends after Ctrl-C
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt("Interrupted: nothing was kept.")
