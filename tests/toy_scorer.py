"""A scorer without a model, for tests of who scores: it can be told to die, and leaves a mark of each shard."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from data.shards import Scorer

TARGET = pa.schema([("id", pa.string()), ("rank", pa.int32()), ("value", pa.string())])
DEADLY = "deadly"


def opened(marks: Path, deaths: int = 0) -> Scorer:
    """Args:
    marks: a folder; a file NAME-PID for each shard that is scored, by its first thing.
    deaths: how often a process is killed in the midst of the shard that holds DEADLY.
    """
    return partial(_scored, marks, deaths)


def _scored(marks: Path, deaths: int, things: np.ndarray) -> Iterator[tuple[pa.Table, int]]:
    for some in np.array_split(things, 2):
        if DEADLY in some and len(list(marks.glob("death-*"))) < deaths:
            (marks / f"death-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        value = f"{torch.get_num_threads()} {os.environ.get('MARQUEE_HOME')}"
        n = len(some)
        columns = [np.repeat(some, 2), np.tile(np.array([1, 2], np.int32), n), np.full(2 * n, value, object)]
        yield pa.table([pa.array(c, f.type) for c, f in zip(columns, TARGET, strict=True)], schema=TARGET), n
    (marks / f"{things[0]}-{os.getpid()}").touch()
