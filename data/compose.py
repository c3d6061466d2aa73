"""Several sources become one dataset: ratings and catalogue from one, reviews from all."""

from collections.abc import Sequence

import pandas as pd

from data import schema
from data.movielens import Tables
from data.reviews import IMDB_TEST


def join(parts: Sequence[Tables]) -> Tables:
    """The first table of each kind, and the reviews of all parts one after the other.

    A review's IMDb id becomes the `item_id` of the title that has it in the catalogue, and is dropped if none has.
    IMDb's test reviews are left out: nothing may train on them.
    """
    joined: Tables = {}
    reviews: list[pd.DataFrame] = []
    for part in parts:
        for name, table in part.items():
            if name == "reviews" and isinstance(table, pd.DataFrame):
                reviews.append(table)
            else:
                joined.setdefault(name, table)
    if reviews:
        frame = pd.concat(reviews, ignore_index=True)
        frame = frame[frame[schema.SOURCE] != IMDB_TEST].reset_index(drop=True)
        items = joined.get("items")
        frame[schema.ITEM_ID] = link(frame[schema.ITEM_ID], items if isinstance(items, pd.DataFrame) else None)
        joined["reviews"] = frame
    return joined


def link(imdb_ids: pd.Series, items: pd.DataFrame | None) -> pd.Series:
    """The catalogue's `item_id` of each IMDb id, null where there is none. Unchanged without a catalogue."""
    if items is None:
        return imdb_ids
    if schema.IMDB_ID not in items:
        return pd.Series(pd.NA, index=imdb_ids.index, dtype="string")
    known = items.dropna(subset=[schema.IMDB_ID]).drop_duplicates(schema.IMDB_ID)
    return imdb_ids.map(known.set_index(schema.IMDB_ID)[schema.ITEM_ID]).astype("string")
