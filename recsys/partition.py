"""The protocols' splits (data/splits.py) of histories that lie on disk, block by block: the same events in each part.

A test on the same data holds the two together (tests/test_recsys_streaming.py).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from data.splits import held_out
from recsys.interactions import Histories

Masks = Callable[[int, Histories], dict[str, np.ndarray]]  # first member's number, block -> each part's events (bool)


def everything_of(events: pd.DataFrame, n_items: int) -> Histories:
    """Histories of members who follow each other, of their first event on each title.

    Args:
        events: user, item, time and rating, in order.
    """
    user, item = events["user"].to_numpy().astype(np.int64), events["item"].to_numpy().astype(np.int64)
    user = user - user[0]
    first = np.sort(np.unique(user * n_items + item, return_index=True)[1])
    user = user[first]
    start = np.concatenate([[0], np.cumsum(np.bincount(user))])
    times, ratings = events["time"].to_numpy()[first], events["rating"].to_numpy(dtype=np.float32)[first]
    return Histories(start, item[first], times, n_items, ratings)


def masks_of(whole: Histories, protocol: str, seed: int, user_ids: pd.Index) -> Masks:
    """Which events belong to which part of a protocol's split.

    Args:
        whole: every event.
        protocol: see recsys.datamodule.PROTOCOLS.
        seed: of members held out.
        user_ids: of the members.
    """
    if protocol == "temporal":
        return _temporal(whole)
    if protocol == "held-out-users":
        return partial(_held_out, seed, user_ids)
    return partial(_last_out, {"leave-one-out": 1, "leave-five-out": 5}[protocol])


def _last_out(n_test: int, first: int, block: Histories) -> dict[str, np.ndarray]:
    enough = block.lengths[block.users] >= n_test + 2
    test, validation = enough & (block.age < n_test), enough & (block.age == n_test)
    return {"train": ~test & ~validation, "validation": validation, "test": test}


def _temporal(whole: Histories, validation_share: float = 0.1, test_share: float = 0.1) -> Masks:
    n = len(whole.times)
    test_from = _smallest(whole, min(n - 1, round(n * (1 - test_share))))
    validation_from = _smallest(whole, min(n - 1, round(n * (1 - test_share - validation_share))))

    def masks(first: int, block: Histories) -> dict[str, np.ndarray]:
        test = block.times >= test_from
        validation = ~test & (block.times >= validation_from)
        return {"train": ~test & ~validation, "validation": validation, "test": test}

    return masks


def _smallest(whole: Histories, k: int) -> int:
    """The k-th smallest time, from 0: counted in bins that become narrower until one holds a single instant."""
    low, high, bins = int(whole.times.min()), int(whole.times.max()), 2**16
    while low < high:
        width = -(-(high - low + 1) // bins)
        counts = np.zeros(bins, np.int64)
        for _, block in whole.blocks():
            times = block.times[(block.times >= low) & (block.times <= high)]
            counts += np.bincount((times - low) // width, minlength=bins)
        below = np.cumsum(counts)
        at = int(np.searchsorted(below, k, "right"))
        k -= int(below[at - 1]) if at else 0
        low, high = low + at * width, min(high, low + (at + 1) * width - 1)
    return low


def _held_out(seed: int, user_ids: pd.Index, first: int, block: Histories) -> dict[str, np.ndarray]:
    held = held_out(user_ids[first : first + len(block)].to_numpy(object), block.lengths, seed)
    train, validation, test = (held.groups[name][block.users] for name in ("train", "validation", "test"))
    given = np.arange(len(block.items)) - block.start[block.users] < held.given[block.users]
    return {
        "train": train,
        "before_validation": validation & given,
        "validation": validation & ~given,
        "before_test": test & given,
        "test": test & ~given,
    }
