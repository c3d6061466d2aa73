"""Threads that share the members of a batch between them, and the memory that each keeps."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

import torch
from torch import Tensor

_lock, _users, _before = Lock(), 0, 1


class _Here(Executor):
    """Does at once what it is given, in the thread that gives it."""

    def submit(self, fn: Any, /, *args: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **named))
        return done


class _Memory(local):
    """Of each thread, for scores of members on a CPU: to get some anew costs as much as to fill it."""

    def __init__(self) -> None:
        self._kept = [torch.empty(0), torch.empty(0)]

    def scores(self, which: int, rows: int, columns: int) -> Tensor:
        """One of the two tensors of a thread, with anything in it. Shape: (rows, columns)."""
        if len(self._kept[which]) < rows * columns:
            self._kept[which] = torch.empty(rows * columns)
        return self._kept[which][: rows * columns].view(rows, columns)


memory = _Memory()


@contextmanager
def workers_on(device: torch.device, alone: bool = False) -> Iterator[Executor]:
    """Threads that take shares of the members; `alone`: this one, where there is one share, which is quicker.

    A core that has a share of its own waits for no other, where one that takes a part of each operation waits dozens of
    times in a share. A GPU has one queue. What a thread sets is also the default of threads that begin after it: it is
    set back when nobody makes lists any more.
    """
    global _users, _before
    with _lock:
        if _users == 0:
            _before = torch.get_num_threads()
        _users += 1
    number, each = (_before, 1) if device.type == "cpu" else (1, _before)
    try:
        if alone:
            torch.set_num_threads(each)
            yield _Here()
        else:
            with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(each,)) as workers:
                yield workers
    finally:
        if alone:
            torch.set_num_threads(_before)
        with _lock:
            _users -= 1
            if _users == 0:
                torch.set_num_threads(_before)
