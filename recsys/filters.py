"""Which titles may be in a list."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from data.schema import YEAR


class Chosen(NamedTuple):
    """What may be in a list and in which order, see `Recommender.recommend`."""

    hide_seen: bool = True
    exclude: frozenset[str] = frozenset()
    genres: frozenset[str] = frozenset()
    years: tuple[float, float] | None = None
    variety: float = 0.0


class Catalogue(NamedTuple):
    """What is known of the titles, in model order."""

    items: pd.DataFrame  # a row for each title, missing where the catalogue says nothing
    genre_names: np.ndarray  # (genres,)
    has_genre: Tensor  # (n_items, genres) bool

    def admitted(self, genres: Collection[str], years: tuple[float, float] | None) -> np.ndarray:
        """The titles that have one of `genres`, if any are given, and are of the years from one to another.

        Shape: (n_items,) bool.
        """
        admitted = np.ones(len(self.items), bool)
        if genres:
            admitted &= self.has_genre[:, np.isin(self.genre_names, list(genres))].any(1).numpy()
        if years is not None:
            year = self.items[YEAR].to_numpy(float)
            admitted &= (year >= years[0]) & (year <= years[1])
        return admitted
