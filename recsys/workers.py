"""Threads that share the members of a batch between them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import torch

_lock, _users, _before = Lock(), 0, 1


@contextmanager
def workers_on(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that take shares of the members.

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
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(each,)) as workers:
            yield workers
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                torch.set_num_threads(_before)
