"""Finding titles by what somebody types: parts of words, wrong letters and a missing accent do not matter.

Similarity of two texts is RapidFuzz's: the best of the ratio of edits of the whole, of the best matching part and of
the words in any order, 0 to 100.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd
from rapidfuzz import fuzz, process

LEAST = 72.0  # similarity of what is shown: "godfahter" has 73 with "the godfather"
NEAR = 88.0  # of near ones: also shown where other titles have the very words
SHORTEST = 3  # letters of a title, and of what is typed, that likeness means something for
LONGEST = 100  # characters that are looked at


def folded(text: str) -> str:
    """Small letters and digits without accents, words apart by one space.

    >>> folded("Amélie  (2001): L'été!")
    'amelie 2001 l ete'
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def folded_titles(catalogue: pd.DataFrame) -> list[str]:
    """What `found` looks into, in the order of the catalogue (see recsys.viewing.read_catalogue): made once."""
    names = (
        shown if shown == listed else f"{shown} {listed}"
        for shown, listed in zip(catalogue["shown_title"], catalogue["title"], strict=True)
    )
    return [folded(name) for name in names]


def found(words: str, titles: Sequence[str], popularity: np.ndarray, k: int = 20) -> np.ndarray:
    """Positions of the titles that `words` may mean, best first; none for no words.

    Titles with all the words, each the beginning of one of the title's, come first, the most popular in front; then
    the others that are similar enough: near ones first, in both the more popular in front.

    Args:
        titles: see `folded_titles`.
        popularity: of each title. Shape: (titles,).
    """
    asked = folded(words[:LONGEST])
    if not asked:
        return np.zeros(0, dtype=np.int64)
    parts = [f" {part}" for part in asked.split()]
    begun = np.array([all(part in f" {title}" for part in parts) for title in titles], dtype=bool)
    exact = np.array([title == asked for title in titles], dtype=bool)
    alike = np.zeros(len(titles))
    if len(asked) >= SHORTEST:
        least = NEAR if begun.any() else LEAST
        alike = process.cdist([asked], titles, scorer=fuzz.WRatio, score_cutoff=least)[0]
        alike[[len(title) < SHORTEST for title in titles]] = 0
        alike = np.where(alike > 0, np.where(alike < NEAR, 50.0, 100.0), 0.0)
    worth = np.where(exact, 300.0, np.where(begun, 200.0, alike))
    order = np.lexsort((-popularity, -worth))
    return order[worth[order] > 0][:k]
