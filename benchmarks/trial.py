"""One trial of a peer: a process in its own environment, from the split's files to files of scores."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.exchange import About, Asked
from benchmarks.trials import HERE, Peer, Settings
from data.errors import UserError
from recsys.interactions import Histories
from recsys.ranking import Score

PYTHON = HERE / ".venv" / "bin" / "python"
PINS = HERE / "peers.txt"


def check_environment() -> None:
    """Raises:
    UserError: the environment of the peers has not been made.
    """
    if not PYTHON.is_file():
        raise UserError(f"{PYTHON} is missing: make the peers' environment with 'make benchmark-peers-env' (1.5 GB).")


def run(peer: Peer, settings: Settings, seed: int, minutes: float, split: Path, work: Path) -> tuple[Path, About]:
    """Let `peer` train and score, unless the same trial has ended before in `work`; return its folder, and on itself.

    Args:
        peer: who is asked.
        settings: one of its trials.
        seed: of its training.
        minutes: after which its training ends with the best epoch so far.
        split: the folder of `benchmarks.peers.exchange.write_split`.
        work: where a folder for the trial is made.

    Raises:
        UserError: the peer failed; its log says how.
    """
    key = hashlib.sha256(json.dumps([settings, seed, minutes], sort_keys=True).encode()).hexdigest()[:12]
    out = work / f"{peer.script.stem}-{key}"
    done = out / "about.json"
    if not done.is_file():
        out.mkdir(parents=True, exist_ok=True)
        asked = ["--settings", json.dumps(settings), "--seed", str(seed), "--minutes", str(minutes)]
        code = _run([str(PYTHON), str(peer.script), str(split), str(out), *asked], out)
        if not done.is_file():  # written last: a library that aborts in its own shutdown has answered all the same
            raise UserError(f"{peer.title} ended with exit code {code}: {out / 'log.txt'} says why.")
    return out, About(**json.loads(done.read_text("utf-8")))


def _run(command: list[str], folder: Path) -> int:
    """Its exit code; it does not outlive us."""
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,  # the libraries leave files where they stand
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        )
        try:
            return process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def written(out: Path, asked: Asked) -> Score:
    """The scores that a trial wrote, as a method for one ranking, whose rows are asked for from first to last."""
    scores = np.load(out / f"{asked}.npy", mmap_mode="r")
    done = 0

    def score(users: np.ndarray, seen: Histories) -> Tensor:
        nonlocal done
        rows = scores[done : done + len(users)]
        done += len(users)
        return torch.from_numpy(np.array(rows))

    return score
