"""What a title says of itself, as hashed tokens: genres, year, decade and the words of its name.

Tokens share buckets by a hash (Weinberger et al. 2009, "Feature hashing for large scale multitask learning"), so there
is no vocabulary to keep: a title that enters tomorrow, with a genre that nobody has seen, has tokens by the same rule.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data.schema import GENRES, ITEM_ID, TITLE, YEAR

WIDTH = 24  # tokens kept of a title


def content_tokens(items: pd.DataFrame, item_ids: pd.Index, buckets: int) -> np.ndarray:
    """The tokens of titles, genres first; `buckets` fills up. Shape: (len(item_ids), WIDTH), int64.

    Args:
        items: the catalogue: item_id, title, year (or NaN), genres (a list, perhaps empty).
        item_ids: titles in the order wanted; one that the catalogue lacks has no tokens.
        buckets: how many there are.
    """
    known = items.drop_duplicates(ITEM_ID).set_index(ITEM_ID).reindex(item_ids).reset_index(drop=True)
    year = pd.to_numeric(known[YEAR], errors="coerce").dropna().astype(int)
    words = known[TITLE].fillna("").astype(str).str.lower().str.replace(r"\(\d{4}\)", " ", regex=True)
    parts = [
        _tokens("genre", known[GENRES].explode().dropna().astype(str).str.lower()),
        _tokens("decade", year // 10),
        # A year shares two of its three tokens with the year beside it.
        *(_tokens("year", year + shift) for shift in (-1, 0, 1)),
        _tokens("word", words.str.findall(r"\w+").explode().dropna()),
    ]
    tokens = pd.concat(parts)
    row = tokens.index.to_numpy()
    bucket = (pd.util.hash_array(tokens.to_numpy(object), categorize=False) % np.uint64(buckets)).astype(np.int64)
    frame = pd.DataFrame({"row": row, "bucket": bucket}).drop_duplicates()
    place = frame.groupby("row", sort=False).cumcount().to_numpy()
    found = np.full((len(item_ids), WIDTH), buckets, np.int64)
    kept = place < WIDTH
    found[frame["row"].to_numpy()[kept], place[kept]] = frame["bucket"].to_numpy()[kept]
    return found


def genre_matrix(items: pd.DataFrame, item_ids: pd.Index) -> tuple[np.ndarray, Tensor]:
    """Names of the genres, sorted, and which each of `item_ids` has: (genres,) and (len(item_ids), genres) bool."""
    long = items.drop_duplicates(ITEM_ID).set_index(ITEM_ID)[GENRES].reindex(item_ids).explode().dropna().astype(str)
    codes, names = pd.factorize(long, sort=True)
    has = torch.zeros(len(item_ids), len(names), dtype=torch.bool)
    has[torch.from_numpy(item_ids.get_indexer(long.index)), torch.from_numpy(codes)] = True
    return np.asarray(names, dtype=object), has


def _tokens(kind: str, values: pd.Series) -> pd.Series:
    return kind + ":" + values.astype(str)
