"""The protocols' splits (data/splits.py) of histories that lie on disk, block by block: the same events in each part.

A test on the same data holds the two together (tests/test_recsys_streaming.py).
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from data.splits import held_out
from recsys.interactions import Histories

Mask = Callable[[int, Histories], np.ndarray]  # the first member's number, a block -> which of its events (bool)


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


def parts_of(whole: Histories, protocol: str, seed: int, user_ids: pd.Index) -> dict[str, Iterator[Histories]]:
    """Each part of a protocol's split, block by block.

    Args:
        whole: every event.
        protocol: see recsys.datamodule.PROTOCOLS.
        seed: of members held out.
        user_ids: of the members.
    """
    masks = {
        "leave-one-out": lambda: _last_out(1),
        "leave-five-out": lambda: _last_out(5),
        "temporal": lambda: _temporal(whole),
        "held-out-users": lambda: _held_out(seed, user_ids),
    }[protocol]()
    return {name: _chosen(whole, mask) for name, mask in masks.items()}


def _chosen(whole: Histories, mask: Mask) -> Iterator[Histories]:
    for first, block in whole.blocks():
        yield block.of_events(mask(first, block))


def _last_out(n_test: int) -> dict[str, Mask]:
    def enough(block: Histories) -> np.ndarray:
        return np.asarray(block.lengths[block.users] >= n_test + 2)

    def test(first: int, block: Histories) -> np.ndarray:
        return enough(block) & (block.age < n_test)

    def validation(first: int, block: Histories) -> np.ndarray:
        return enough(block) & (block.age == n_test)

    def train(first: int, block: Histories) -> np.ndarray:
        return ~enough(block) | (block.age > n_test)

    return {"train": train, "validation": validation, "test": test}


def _temporal(whole: Histories, validation_share: float = 0.1, test_share: float = 0.1) -> dict[str, Mask]:
    n = len(whole.times)
    test_from = _smallest(whole, min(n - 1, round(n * (1 - test_share))))
    validation_from = _smallest(whole, min(n - 1, round(n * (1 - test_share - validation_share))))
    return {
        "train": lambda first, block: (block.times < validation_from) & (block.times < test_from),
        "validation": lambda first, block: (block.times >= validation_from) & (block.times < test_from),
        "test": lambda first, block: block.times >= test_from,
    }


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


def _held_out(seed: int, user_ids: pd.Index) -> dict[str, Mask]:
    def mask(group: str, given: bool | None) -> Mask:
        def of(first: int, block: Histories) -> np.ndarray:
            held = held_out(user_ids[first : first + len(block)].to_numpy(object), block.lengths, seed)
            inside = held.groups[group][block.users]
            if given is None:
                return np.asarray(inside)
            place = np.arange(len(block.items)) - block.start[block.users]
            return np.asarray(inside & ((place < held.given[block.users]) == given))

        return of

    return {
        "train": mask("train", None),
        "before_validation": mask("validation", True),
        "validation": mask("validation", False),
        "before_test": mask("test", True),
        "test": mask("test", False),
    }
