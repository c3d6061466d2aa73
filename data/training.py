"""The command that all three model packages share: `python -m PACKAGE fit|validate|test|predict|evaluate|promote|card`.

`fit` is two trainings. The first learns from the training split and lets the validation split choose the number of
epochs; `measure` then compares its best checkpoint with the baselines. The second, the refit, starts afresh and learns
for that many epochs from everything there is, so that what is served knows the latest events. All figures in the
report are from before the refit: afterwards nothing unseen is left to measure with. Whether the run then comes into use
is for the gate to say (data/gate.py).

A LightningModule that is trained here has `model_name`, `monitor` and `monitor_mode` as class attributes; a
LightningDataModule has `dataset`, `fit_on` ("train" or "everything") and `save(run)`.
"""

import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
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
from data.card import write_card
from data.checkpoints import check_plain, slim
from data.dataset import open_dataset
from data.errors import UserError
from data.gate import Gate, judge, outcome
from data.package import Package as Package
from data.profile import INPUTS, profile
from data.quiet import quiet_lightning
from data.readiness import HORIZON_DAYS, readiness
from data.refit import prepare_refit
from data.run_commands import promote_run, write_cards
from data.stages import Stages

_OF_SETTINGS = re.compile(r"[/\\]torch[/\\](nn|optim)[/\\]")
_NOT_INSTALLED = re.compile(r"given class_path '\S+?(\w+)':\s+Requirement '([\w-]+)\S*' not met")


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
            promote_run(package, argv[1:])
        elif argv[:1] == ["card"]:
            write_cards(package, argv[1:])
        else:
            _lightning(package, argv)
    except ValueError as failure:
        mistake = _mistake_behind(failure)
        if mistake is None:
            raise
        raise mistake from None


def _lightning(package: Package, argv: list[str]) -> None:

    def links(parser: LightningArgumentParser) -> None:
        parser.add_argument("--refit", type=bool, default=True, help="Refit on everything once epochs are chosen.")
        parser.add_argument(
            "--gate",
            type=Gate,
            default="keep",
            help="A run worse than the one in use or its baseline: keep it aside, fail with exit code 3, or off.",
        )
        for source, target in package.links:
            parser.link_arguments(f"data.{source}", f"model.init_args.{target}", apply_on="instantiate")

    class PackageCLI(_MarqueeCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            links(parser)

    PackageCLI.package, PackageCLI.argv = package, argv
    raw = {"exit_on_error": False}
    try:
        cli = PackageCLI(
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
    if cli.held_back and cli.config.fit.gate == "fail":
        raise SystemExit(command.EXIT_HELD_BACK)


def _mistake_behind(failure: BaseException | None) -> UserError | None:
    """The sentence behind an error: of a module or datamodule that refused its arguments (jsonargparse wraps it in a
    ValueError), or of a torch layer or optimiser that refused a setting, e.g. a dropout of 2."""
    if (lacks := _NOT_INSTALLED.search(str(failure))) is not None:
        return UserError(f"{lacks[1]} needs the package {lacks[2]}: 'pip install {lacks[2]}', or leave it out.")
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
    held_back = False  # by the gate
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
            if (logger := config.get("logger")) is not False:  # the Models page draws its curves from the CSV
                if logger in (None, True):
                    logger = TensorBoardLogger(self.run, name="logs", version="", default_hp_metric=False)
                asked = list(logger) if isinstance(logger, (list, tuple)) else [logger]
                kwargs["logger"] = [CSVLogger(self.run, name="logs", version=""), *asked]
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
        if trainer.is_global_zero:
            horizon_days = getattr(datamodule, "horizon_days", HORIZON_DAYS)
            print(readiness(self.dataset, self.model_name, horizon_days).line, flush=True)
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
            profile(self.dataset, self.model_name).write(self.run / INPUTS)
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
            "data": report.data_of(self.dataset),
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
        content = report.jsonable(content)
        gate, in_use = str(self.config.fit.gate), runs.current_run(self.dataset.name, self.model_name)
        ruling = judge(self.run, content, in_use, strict=gate == "fail")
        self.held_back = not ruling.passes and gate != "off"
        content["gate"] = ruling.as_json(not self.held_back, gate)
        write_json(self.run / "report.json", content)
        shutil.rmtree(self.run / "checkpoints", ignore_errors=True)
        if not self.held_back:
            runs.promote(self.run)
        write_card(self.run)
        for split, metrics in measured.get("metrics", {}).items():
            report.print_metrics(metrics, f"{self.model_name} on '{self.dataset.name}', {split}")
        for note in (*notes, *ruling.told):
            print(f"- {note}")
        for doubt in ruling.doubts:
            print(f"Warning: {doubt}")
        print(f"Done in {seconds['total']:.0f} s: {outcome(self.run, ruling, in_use, self.held_back)}")

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
