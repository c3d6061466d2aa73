"""Who scores shards (data/shards.py): this process, several of this machine, or the actors of a Ray cluster.

Whoever it is holds the model once and scores one shard after the other. One who is killed in the midst of a shard has
written nothing of it; another takes it up.
"""

import contextlib
import importlib.util
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
from tqdm import tqdm

from data import home
from data.errors import UserError
from data.shards import Scorer, Shards, Work, keep

ENGINES = ("local", "ray")
_TRIES = 3  # of a pool of processes that scores nothing
_CONNECT_SECONDS = 10
_IN_HAND = 2  # shards that wait for each process


@dataclass(frozen=True)
class Engine:
    """Where shards are scored.

    Args:
        name: local or ray.
        processes: how many hold the model. Local: this process with all its threads unless given; several have the
            same threads between them, at least one each. Ray: as many as the cluster has GPUs, or CPUs where it has
            none.
        address: of a Ray cluster, e.g. ray://head:10001, or auto; unless given Ray is started on this machine.

    Raises:
        UserError: an impossible combination.
    """

    name: str = "local"
    processes: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise UserError(f"--engine {self.name}: choose {' or '.join(ENGINES)}.")
        if self.processes is not None and self.processes < 1:
            raise UserError(f"--processes {self.processes}: give a number of 1 or more.")
        if self.address is not None and self.name != "ray":
            raise UserError("--address names a Ray cluster: add --engine ray.")
        if self.name == "ray" and importlib.util.find_spec("ray") is None:
            raise UserError("--engine ray needs Ray: install it by pip install 'marquee[ray]'.")

    @property
    def apart(self) -> bool:
        """Whether processes of their own score, and this one does not."""
        return self.name == "ray" or (self.processes is not None and self.processes > 1)

    def prepare(self, *modules: str) -> None:
        """Let processes of this machine import modules while this one reads tables."""
        if self.apart and self.name == "local":
            context = _context()
            context.set_forkserver_preload(list(modules))
            if context.get_start_method() == "forkserver":
                forkserver.ensure_running()


def score_missing(
    shards: Shards, engine: Engine, scorer: Scorer | None = None, unit: str = "member", progress: bool = True
) -> None:
    """Score the shards that are missing; all are there when this returns.

    Args:
        shards: what to score, and how.
        engine: where.
        scorer: one that this process has already, if any.
        unit: what the progress counts.
        progress: whether it is shown.

    Raises:
        UserError: a scorer's own, or processes came to an end again and again.
        KeyboardInterrupt: Ctrl-C; with a sentence on what is kept.
    """
    missing = shards.missing()
    before = shards.scored(missing)
    if before:
        print(f"Going on after {before:,} of {len(shards.things):,} {unit}s.")
    if not missing:
        return
    began = time.perf_counter()
    with tqdm(total=len(shards.things), initial=before, desc="Scoring", unit=unit, disable=not progress) as bar:
        try:
            if engine.name == "ray":
                _by_ray(shards, missing, engine, bar.update)
            elif engine.apart:
                _by_processes(shards, missing, engine.processes or 1, bar.update)
            else:
                scorer = scorer or shards.work.open_scorer()
                for shard in missing:
                    shards.work.write(scorer, shard, shards[shard], bar.update)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted: {shards.scored():,} of {len(shards.things):,} {unit}s are scored and kept. Run the "
                "same command to go on."
            ) from None
        finally:
            keep(shards)
    n, seconds = len(shards.things) - before, time.perf_counter() - began
    print(f"Scored {n:,} {unit}s in {seconds:.1f} s ({n / seconds:,.0f} a second).")


# Processes of this machine -------------------------------------------------------------------------------------------

_mine: tuple[Work, Scorer]  # of a process of the pool


def _context() -> BaseContext:
    """How processes begin: as copies of one that has imported everything, has no threads and no model; else anew."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def _by_processes(shards: Shards, missing: list[int], number: int, done: Callable[[int], object]) -> None:
    """By a pool of processes, which is made anew when one of them is killed."""
    left, tries = missing, 0
    while left:
        with contextlib.suppress(BrokenProcessPool):
            for shard in _by_pool(shards, left, number):
                done(len(shards[shard]))
        still = shards.missing()
        tries = tries + 1 if len(still) == len(left) else 0
        if still and tries == _TRIES:
            raise UserError(
                f"The scoring processes came to an end {_TRIES} times without a result (killed, or out of memory): "
                f"give fewer than --processes {number}. What is scored is kept."
            )
        left = still


def _by_pool(shards: Shards, missing: list[int], number: int) -> Iterator[int]:
    number = min(number, len(missing))
    with ProcessPoolExecutor(number, _context(), _begin, (shards.work, number, str(home.home().resolve()))) as pool:
        todo = iter(missing)
        running: dict[Future[None], int] = {}
        try:
            while True:
                for shard in todo:
                    running[pool.submit(_write, shard, shards[shard])] = shard
                    if len(running) >= _IN_HAND * number:
                        break
                if not running:
                    return
                for one in wait(running, return_when=FIRST_COMPLETED).done:
                    one.result()
                    yield running.pop(one)
        finally:
            for one in running:
                one.cancel()


def _begin(work: Work, number: int, folder: str) -> None:
    """Open the scorer in one of `number` processes, for MARQUEE_HOME as it is now: the first copy may be older."""
    global _mine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's: a shard that is begun is kept
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    os.environ["MARQUEE_HOME"] = folder
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // number))  # OMP_NUM_THREADS, or the cores that we may use
    _mine = work, work.open_scorer()


def _end_with_the_driver() -> None:
    """A driver that is killed takes its processes along."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _write(shard: int, things: np.ndarray) -> None:
    work, scorer = _mine
    work.write(scorer, shard, things)


# Ray -----------------------------------------------------------------------------------------------------------------


class _Actor:
    """Holds the model on a machine of a Ray cluster."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._scorer = work.open_scorer()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for shard, things in zip(batch["shard"], batch["things"], strict=True):
            if not self._work.path(int(shard)).exists():  # somebody was killed between the file and the answer
                self._work.write(self._scorer, int(shard), np.asarray(things))
        return {"n": np.array([len(things) for things in batch["things"]])}


def _by_ray(shards: Shards, missing: list[int], engine: Engine, done: Callable[[int], object]) -> None:
    import ray
    import ray.data
    from ray.exceptions import RayError

    begun = not ray.is_initialized()
    try:
        if begun:
            _connect(engine)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        cluster = ray.cluster_resources()
        gpus = int(cluster.get("GPU", 0))
        number = min(engine.processes or gpus or int(cluster.get("CPU", 1)), len(missing))
        rows = [{"shard": shard, "things": shards[shard].tolist()} for shard in missing]
        scored = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(shards.work,),
            batch_size=1,
            concurrency=number,
            num_cpus=1,
            num_gpus=min(1.0, gpus / number),
        )
        for row in scored.iter_rows():
            done(int(row["n"]))
    except RayError as failure:
        cause: BaseException | None = failure
        while cause is not None and not isinstance(cause, UserError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise UserError(str(cause)) from None
        raise UserError(
            f"Ray gave up ({str(failure).splitlines()[0][:200]}): what is scored is kept, run the same command again."
        ) from failure
    finally:
        if begun:
            ray.shutdown()


def _connect(engine: Engine) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    there = {"env_vars": {"MARQUEE_HOME": str(home.home().resolve())}}
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "runtime_env": there}
    if engine.address is None:
        ray.init(num_cpus=engine.processes, include_dashboard=False, **quiet)
        return
    _check_reachable(engine.address)
    try:
        ray.init(address=engine.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as failure:
        why = str(failure).splitlines()[0]
        raise UserError(f"--address {engine.address}: no Ray cluster answers there ({why}).") from None


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes before it says that nobody is there."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if not separator:
        return  # auto, or a name that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as failure:
        raise UserError(f"--address {address}: no Ray cluster answers there ({failure}).") from None
