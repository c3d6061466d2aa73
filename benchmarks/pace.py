"""How many samples a second a training learns from: ours and a peer's in turns, each in a process of its own.

`python -m benchmarks.pace NAME DATASET SETTINGS` is our side: the module and its datamodule as `python -m recsys fit`
makes them, in laps (benchmarks/peers/laps.py).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.trials import HERE, Settings
from data import home
from data.errors import UserError
from data.evaluation import configured
from data.quiet import quiet_lightning
from recsys.evaluate import CONFIGS, LINKS

_CONFIG = {"historynet": "quick.yaml", "neumf": "neumf-quick.yaml"}
_COUNT: dict[str, Callable[[Any], int]] = {
    "historynet": lambda batch: int((batch["weight"] > 0).sum()),  # titles to be predicted
    "neumf": lambda batch: len(batch["item"]),  # titles that a member wanted; negatives are not counted
}


class Pace:
    """A training that is asked for one lap after the other. As a context: it ends with it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,  # the libraries leave files where they stand
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(HERE.parent), "MARQUEE_HOME": str(home.home())},
            )
        self._answer()  # ready

    def lap(self) -> float:
        """Samples a second in an epoch; see `lap_of`."""
        samples, seconds = self.lap_of()
        return samples / seconds

    def lap_of(self) -> tuple[int, float]:
        """Samples of an epoch and its seconds.

        Raises:
            UserError: the training has failed; the sentence holds the end of what it said.
        """
        stdin = self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            if stdin is not None:
                print(file=stdin, flush=True)
        samples, seconds = json.loads(self._answer())
        return int(samples), float(seconds)

    def _answer(self) -> str:
        found = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not found:
            last = self._log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise UserError(f"A training that should be timed has ended: {' '.join(last)[:300] or 'it said nothing'}.")
        return found

    def __enter__(self) -> "Pace":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def training(command: list[str]) -> Iterator[Pace]:
    """A training that waits for its first lap."""
    with tempfile.TemporaryDirectory() as folder, Pace(command, Path(folder)) as pace:
        yield pace


def ours(name: str, dataset: str, settings: Mapping[str, Any]) -> list[str]:
    """The command of our side: `historynet` or `neumf` on a dataset, with flags of `fit` such as `data.batch_size`, and
    `batches` of a lap."""
    return [sys.executable, "-m", "benchmarks.pace", name, dataset, json.dumps(dict(settings))]


def peer(python: Path, script: str, split: Path, settings: Settings) -> list[str]:
    """The command of a peer's side, a file of benchmarks/peers."""
    return [str(python), str(HERE / "peers" / script), str(split), json.dumps(settings)]


def main(name: str, dataset: str, settings: Mapping[str, Any]) -> None:
    from benchmarks.peers.laps import EpochLaps, trainer

    quiet_lightning()
    batches = settings.get("batches")
    flags = [part for flag, value in settings.items() if flag != "batches" for part in (f"--{flag}", json.dumps(value))]
    with tempfile.TemporaryDirectory() as folder:
        argv = ["--config", str(CONFIGS / _CONFIG[name]), "--data.dataset", dataset, *flags]
        made = configured("recsys", argv, LINKS, Path(folder))
        clip = made.config_init.trainer.gradient_clip_val
    laps = EpochLaps(_COUNT[name])
    trainer(laps, batches, gradient_clip_val=clip).fit(made.model, datamodule=made.datamodule)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
