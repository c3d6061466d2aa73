"""The command that all three model packages share: `python -m PACKAGE fit|validate|test|predict|evaluate|promote`.

`fit` is two trainings. The first learns from the training split and lets the validation split choose the number of
epochs; `measure` then compares its best checkpoint with the baselines. The second, the refit, starts afresh and learns
for that many epochs from everything there is, so that what is served knows the latest events. All figures in the
report are from before the refit: afterwards nothing unseen is left to measure with.

A LightningModule that is trained here has `model_name`, `monitor` and `monitor_mode` as class attributes; a
LightningDataModule has `dataset`, `fit_on` ("train" or "everything") and `save(run)`.
"""

import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from data import command, report, runs
from data.arguments import one_sentence, run_of, with_defaults
from data.atomic import atomic_file, write_json, write_text
from data.checkpoints import check_plain, slim
from data.dataset import open_dataset
from data.errors import UserError
from data.quiet import quiet_lightning
from data.refit import prepare_refit
from data.served import promote
from data.stages import Stages

_OF_SETTINGS = re.compile(r"[/\\]torch[/\\](nn|optim)[/\\]")

Complete = Callable[[Path, pl.LightningDataModule], dict[str, Any]]  # (run folder with model.ckpt, datamodule)
Measure = Callable[[pl.LightningModule, pl.LightningDataModule, Path], dict[str, Any]]


@dataclass(frozen=True)
class Package:
    """What one model package brings to the shared command."""

    name: str  # "recsys"
    models: tuple[str, ...]  # names of the runs that it makes, from data.runs.MODELS
    measure: Measure  # (best module, datamodule, run folder) -> metrics, headline, split, notes, calibration
    evaluate: Callable[[list[str]], None]  # the arguments after `evaluate`
    open_run: Callable[[Path], object]  # loads a run as the scorer does; raises where it cannot be used
    links: tuple[tuple[str, str], ...] = ()  # datamodule attribute -> module argument, e.g. ("n_users", "n_users")
    complete: Complete | None = None  # what a run needs besides its checkpoint; what it returns joins the report
    further: Mapping[str, Callable[[list[str]], None]] = field(default_factory=dict)  # commands of this package alone


def main(package: Package, args: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code (see data/command.py); callable in-process from a test."""
    argv = list(sys.argv[1:] if args is None else args)
    return command.run(lambda: _dispatch(package, argv))


def _dispatch(package: Package, argv: list[str]) -> None:
    quiet_lightning()
    try:
        if argv[:1] == ["evaluate"]:
            package.evaluate(argv[1:])
        elif argv and argv[0] in package.further:
            package.further[argv[0]](argv[1:])
        elif argv[:1] == ["promote"]:
            _promote(package, argv[1:])
        else:
            _lightning(package, argv)
    except ValueError as failure:
        mistake = _mistake_behind(failure)
        if mistake is None:
            raise
        raise mistake from None


def _promote(package: Package, argv: list[str]) -> None:
    if len(argv) != 1 or argv[0].startswith("-"):
        raise UserError(f"Usage: python -m {package.name} promote RUN, where RUN is a run's folder or its id.")
    run = runs.find_run(argv[0], package.models)
    promote(run, package.open_run)
    print(f"{run.parent.name} of dataset '{run.parent.parent.name}' is now run {run.name}.")


def _lightning(package: Package, argv: list[str]) -> None:

    def links(parser: LightningArgumentParser) -> None:
        parser.add_argument("--refit", type=bool, default=True, help="Refit on everything once epochs are chosen.")
        for source, target in package.links:
            parser.link_arguments(f"data.{source}", f"model.init_args.{target}", apply_on="instantiate")

    class PackageCLI(_MarqueeCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            links(parser)

    PackageCLI.package, PackageCLI.argv = package, argv
    raw = {"exit_on_error": False}
    try:
        PackageCLI(
            args=with_defaults(package.models, argv),
            save_config_callback=None,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={"enable_model_summary": False},
            parser_kwargs=raw | dict.fromkeys(LightningCLI.subcommands(), raw),
        )
    except ArgumentError as mistake:
        raise _mistake_behind(mistake) or UserError(one_sentence(package.name, package.models, str(mistake))) from None


def _mistake_behind(failure: BaseException | None) -> UserError | None:
    """The sentence behind an error: of a module or datamodule that refused its arguments (jsonargparse wraps it in a
    ValueError), or of a torch layer or optimiser that refused a setting, e.g. a dropout of 2."""
    while failure is not None and not isinstance(failure, UserError):
        raised_in = traceback.extract_tb(failure.__traceback__)[-1:]
        if isinstance(failure, ValueError) and raised_in and _OF_SETTINGS.search(raised_in[0].filename):
            return UserError(f"A setting under --model is impossible: {str(failure).splitlines()[0].rstrip('.')}.")
        failure = failure.__cause__ or failure.__context__
    return failure


class _MarqueeCLI(LightningCLI):
    package: Package
    argv: list[str]
    run: Path
    resumed_from: str | None = None
    _in_lines = False  # how far it is, as lines of a log

    def _parse_ckpt_path(self) -> None:
        # The run's config.yaml already holds the hyper-parameters; Lightning's own merge chokes on linked arguments.
        pass

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        if config.get("model") is None or config.get("data") is None:
            raise UserError(
                f"No model is configured: add --config, e.g. --config {runs.QUICK_CONFIG[self.package.models[0]]}."
            )
        self.dataset = open_dataset(config.data.init_args.dataset)
        if self.subcommand == "fit":
            checkpoint = config.get("ckpt_path")
            if checkpoint is not None and not Path(checkpoint).is_file():
                raise UserError(f"--ckpt_path {checkpoint} does not exist: give RUN/checkpoints/last.ckpt.")
            self.resumed_from = checkpoint
        checkpoint = config.get("ckpt_path")
        if checkpoint is not None and Path(checkpoint).is_file():
            check_plain(Path(checkpoint))

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        if self.subcommand == "fit":
            # The folder is made here, when data and model are known to be sound.
            self.model_name = self.model.model_name
            self.run = run_of(Path(self.resumed_from)) if self.resumed_from else self._new_run()
            config = self._get(self.config_init, "trainer")
            self._best = ModelCheckpoint(
                dirpath=self.run / "checkpoints",
                filename="best",
                monitor=self.model.monitor,
                mode=self.model.monitor_mode,
                save_last=True,
                enable_version_counter=False,
            )
            kwargs = {"default_root_dir": str(self.run), **kwargs}
            if config.get("logger") is None:
                kwargs["logger"] = [
                    CSVLogger(self.run, name="logs", version=""),
                    TensorBoardLogger(self.run, name="logs", version="", default_hp_metric=False),
                ]
            kwargs["callbacks"] = [*(config.get("callbacks") or []), self._best]
            self._in_lines = config.get("enable_progress_bar") is not False and not sys.stdout.isatty()
            if self._in_lines:
                kwargs["enable_progress_bar"] = False
                kwargs["callbacks"].append(Stages("Training", at_most=True))
        else:
            kwargs = {"logger": False, **kwargs}
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, ModuleNotFoundError) as failure:
            if self.subcommand == "fit":
                self._drop_unfinished()
            if "backend found" in str(failure) or isinstance(failure, ModuleNotFoundError):
                raise UserError(
                    "--trainer.accelerator: there is no such device on this machine: use --trainer.accelerator auto."
                ) from None
            raise UserError(f"The trainer cannot be made as asked: {str(failure).splitlines()[0]}") from failure

    def _new_run(self) -> Path:
        run = runs.new_run(self.dataset.name, self.model_name)
        os.environ[runs.RUN_ID_VARIABLE] = run.name
        return run

    # -- fit -----------------------------------------------------------------------------------------------------

    def fit(self, model: pl.LightningModule, datamodule: pl.LightningDataModule, **kwargs: Any) -> None:
        trainer = self.trainer
        if self._get(self.config_init, "trainer").get("fast_dev_run"):
            trainer.fit(model, datamodule=datamodule)
            shutil.rmtree(self.run)
            return
        try:
            if _is_first_process():
                with runs.training_lock(self.dataset.name, self.model_name), runs.earlier_curves_kept(self.run):
                    self._fit(model, datamodule)
            else:
                self._fit(model, datamodule)
        finally:
            self._drop_unfinished()

    def _drop_unfinished(self) -> None:
        """Delete the run's folder when there is nothing in it to resume from or to serve."""
        if _is_first_process():
            os.environ.pop(runs.RUN_ID_VARIABLE, None)
            if not any((self.run / "checkpoints").glob("*.ckpt")) and not runs.is_finished(self.run):
                shutil.rmtree(self.run, ignore_errors=True)

    def _fit(self, model: pl.LightningModule, datamodule: Any) -> None:
        trainer, started = self.trainer, time.perf_counter()
        parameters = sum(p.numel() for p in model.parameters())
        self._say(
            f"{type(model).__name__} ({parameters:,} parameters) on dataset '{self.dataset.name}', "
            f"{_device(trainer)}, run {self.run}"
        )
        self._save_config()
        self._train(trainer, model, datamodule, ckpt_path=self.resumed_from)
        fitted = time.perf_counter()

        best = self._best.best_model_path or self._best.last_model_path
        epochs = slim(Path(best), self.run / "best.ckpt") if trainer.is_global_zero else 0
        epochs = trainer.strategy.broadcast(epochs)
        self._say(f"Measuring the best of {trainer.current_epoch} epochs (epoch {epochs}) beside the baselines ...")
        measured: dict[str, Any] = {}
        if trainer.is_global_zero:
            # On one device, in one process, whatever the training used: the figures must not depend on it.
            module = type(model).load_from_checkpoint(self.run / "best.ckpt", map_location="cpu", weights_only=True)
            with torch.no_grad():
                measured = self.package.measure(module.to(trainer.strategy.root_device).eval(), datamodule, self.run)
        trainer.strategy.barrier()
        measured_at = time.perf_counter()

        refit = bool(self.config.fit.refit)
        if refit:
            self._refit(model, datamodule, epochs)
        elif trainer.is_global_zero:
            with atomic_file(self.run / "model.ckpt") as temporary:
                shutil.copyfile(self.run / "best.ckpt", temporary)
        ended = time.perf_counter()
        if trainer.is_global_zero:
            datamodule.save(self.run)
            if self.package.complete is not None:
                measured |= self.package.complete(self.run, datamodule)
            ended = time.perf_counter()
            seconds = {
                "fit": fitted - started,
                "measure": measured_at - fitted,
                "refit": ended - measured_at,
                "total": ended - started,
            }
            self._finish(measured, epochs if refit else None, seconds)
        trainer.strategy.barrier()

    def _train(self, trainer: pl.Trainer, model: pl.LightningModule, datamodule: Any, ckpt_path: str | None) -> None:
        try:
            trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
        except SystemExit:
            if not trainer.interrupted:
                raise
        except Exception as failure:
            if ckpt_path and isinstance(failure, (RuntimeError, EOFError, KeyError)):
                raise UserError(
                    f"--ckpt_path {ckpt_path} cannot be resumed from ({str(failure).splitlines()[0]}): "
                    "use the same configuration and dataset, or leave the flag out to start over."
                ) from failure
            raise
        if trainer.interrupted:
            last = self.run / "checkpoints" / "last.ckpt"
            again = f" Go on with --ckpt_path {last}" if last.is_file() else " Run the same command to start over"
            raise KeyboardInterrupt(f"Interrupted: the current run is unchanged.{again}.")

    def _refit(self, fitted: Any, datamodule: Any, epochs: int) -> None:
        self._say(f"Refitting on everything for {epochs} epochs ...")
        model, trainer = prepare_refit(
            fitted,
            self.run / "best.ckpt",
            datamodule,
            self._get(self.config_init, "trainer"),
            epochs,
            self.config.fit.seed_everything,
            logger=CSVLogger(self.run, name="logs/refit", version=""),
            default_root_dir=str(self.run),
            **({"enable_progress_bar": False} if self._in_lines else {}),
        )
        if self._in_lines:
            trainer.callbacks.append(Stages("Refitting", at_most=False))  # type: ignore[attr-defined]
        self._train(trainer, model, datamodule, ckpt_path=None)
        with atomic_file(self.run / "model.ckpt") if trainer.is_global_zero else nullcontext(self.run) as temporary:
            trainer.save_checkpoint(temporary, weights_only=True)  # every process takes part, the first one writes

    def _save_config(self) -> None:
        if not self.trainer.is_global_zero:
            return
        config = self.config.fit.clone()
        for key in ("config", "ckpt_path"):
            config.pop(key, None)
        parser = self._subcommand_parsers["fit"]
        write_text(self.run / "config.yaml", parser.dump(config, skip_validation=True))

    def _finish(self, measured: dict[str, Any], epochs: int | None, seconds: dict[str, float]) -> None:
        notes = list(measured.pop("notes", ()))
        if epochs is not None:
            notes.insert(0, "All figures are from before the refit; the served model has since seen every row.")
        content = {
            "run_id": self.run.name,
            "model": self.model_name,
            "class": f"{type(self.model).__module__}.{type(self.model).__qualname__}",
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "as_of": None if self.dataset.as_of is None else self.dataset.as_of.isoformat(),
            "created_at": report.now(),
            "seed": self.config.fit.seed_everything,
            "device": _device(self.trainer),
            "versions": report.versions(),
            "seconds": {name: round(value, 1) for name, value in seconds.items()},
            "parameters": sum(p.numel() for p in self.model.parameters()),
            **measured,
            "refit": None if epochs is None else {"epochs": epochs},
            "notes": notes,
            "recipe": report.recipe([a for a in self.argv if a != "fit"]),
        }
        write_json(self.run / "report.json", report.jsonable(content))
        shutil.rmtree(self.run / "checkpoints", ignore_errors=True)
        runs.promote(self.run)
        for split, metrics in measured.get("metrics", {}).items():
            report.print_metrics(metrics, f"{self.model_name} on '{self.dataset.name}', {split}")
        for note in notes:
            print(f"- {note}")
        print(f"Done in {seconds['total']:.0f} s: run {self.run.name} is now in use.")

    @rank_zero_only
    def _say(self, text: str) -> None:
        print(text, flush=True)

    # -- validate, test, predict ---------------------------------------------------------------------------------

    def predict(self, model: pl.LightningModule, datamodule: pl.LightningDataModule, **kwargs: Any) -> None:
        """Predict, and write what `predict_step` returns (a dict of equally long columns) beside the checkpoint."""
        import pandas as pd

        kwargs["weights_only"] = True
        batches = self.trainer.predict(model, datamodule=datamodule, **{**kwargs, "return_predictions": True})
        if not batches or not self.trainer.is_global_zero:
            return
        columns = {name: _column([batch[name] for batch in batches]) for name in batches[0]}
        out = run_of(Path(kwargs["ckpt_path"])) / "predictions.parquet"
        with atomic_file(out) as temporary:
            frame = pd.DataFrame(columns)
            frame.to_parquet(temporary, index=False)
        print(f"{len(frame):,} predictions in {out}")

    def validate(self, **kwargs: Any) -> None:
        self.trainer.validate(**{**kwargs, "weights_only": True})

    def test(self, **kwargs: Any) -> None:
        self.trainer.test(**{**kwargs, "weights_only": True})


def _is_first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _column(parts: list[Any]) -> list[Any]:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat([part.detach().cpu() for part in parts]).tolist()
    return [value for part in parts for value in part]


def _device(trainer: pl.Trainer) -> str:
    kind = trainer.strategy.root_device.type
    name = torch.cuda.get_device_name(0) if kind == "cuda" else kind
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"
