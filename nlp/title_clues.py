"""What else a text says that tells a title from its namesakes, sequels and versions."""

import numpy as np

from nlp.title_mentions import years_in
from nlp.title_words import Words

_SEQUEL = ["sequel", "sequels", "prequel", "prequels", "original", "remake", "remakes", "spinoff"]
_VERSION = ["version", "versions", "adaptation", "adaptations", "remake", "remakes"]
# Log odds that a text about a title of a known year names that year, one beside it, or others only. By hand: a tenth
# of reviews names the year of its film, a fiftieth that of any other year. "The 1995 version" is mostly another one.
_YEAR_HIT, _YEAR_NEAR, _YEAR_MISS, _YEAR_OF_VERSION = 1.8, 0.8, -0.2, -1.5


class Clues:
    """Years, sequels and versions that texts speak of. All arrays: (texts,)."""

    def __init__(self, words: Words, n: int) -> None:
        self.years, self.version_years = years_in(words)
        self.dated = np.bincount(self.years // 10_000, minlength=n) > 0
        self.sequel = np.bincount(words.text, words.among(_SEQUEL), n) > 0
        self.version = np.bincount(words.text, words.among(_VERSION), n) > 0

    def mentions(self, text: np.ndarray, year: np.ndarray) -> np.ndarray:
        return np.isin(text * 10_000 + year, self.years)

    def year_odds(self, text: np.ndarray, year: np.ndarray) -> np.ndarray:
        """Log odds of the years that a text mentions if its title is of `year` (0: not known)."""
        near = self.mentions(text, year - 1) | self.mentions(text, year + 1)
        odds = np.where(self.dated[text], _YEAR_MISS, 0.0)
        odds = np.where(near, _YEAR_NEAR, odds)
        odds = np.where(self.mentions(text, year), _YEAR_HIT, odds)
        odds = np.where(np.isin(text * 10_000 + year, self.version_years), _YEAR_OF_VERSION, odds)
        return np.where(year > 0, odds, 0.0)
