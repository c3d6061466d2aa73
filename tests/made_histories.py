"""Histories made at random, for tests."""

import numpy as np

from recsys.interactions import Histories

N_ITEMS = 30


def random_histories(lengths: list[int], n_items: int = N_ITEMS, seed: int = 0) -> Histories:
    """Distinct titles, minutes to hours apart, some of them rated."""
    rng = np.random.default_rng(seed)
    items = np.concatenate([np.zeros(0, np.int64), *(rng.permutation(n_items)[:length] for length in lengths)])
    users = np.repeat(np.arange(len(lengths)), lengths)
    times = np.cumsum(rng.integers(1, 600, len(items))) * 60_000_000
    ratings = np.where(rng.random(len(items)) < 0.6, rng.integers(1, 6, len(items)), np.nan).astype(np.float32)
    return Histories.of(users, items, times, len(lengths), n_items, ratings)
