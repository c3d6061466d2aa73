"""What genre a text sounds like, against the genres of the title it may be about: it tells a title from a namesake.

For each genre there is a set of words. Naive Bayes on whether a text holds one of them: log odds of its words if it is
about a title of these genres, against any text. The rates in reviews of titles with and without the genre were counted
on the true blocks of the development reviews (docs/linking.md), each block with the root of its size as weight, and
drawn towards the pooled ratio (2.8 and 0.72 times the rate in all reviews) with the weight of six reviews. They are
kept as ratios to that rate, which is then taken from the texts at hand: short ones hold fewer words of any kind.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nlp.title_words import Words

# Rate in all IMDb training reviews; ratio to it in reviews of titles with the genre, and of titles without it; words.
_GENRES: dict[str, tuple[float, float, float, str]] = {
    "action": (0.131, 3.11, 0.68, "action fight fights stunts explosions martial"),
    "adventure": (0.034, 3.32, 0.50, "adventure adventures quest jungle"),
    "animation": (0.056, 8.87, 0.63, "animated animation cartoon cartoons disney anime"),
    "children's": (0.212, 3.41, 0.67, "kid kids child children family families childrens disney"),
    "comedy": (
        0.299,
        1.90,
        0.67,
        "comedy comedies comedic funny hilarious laugh laughs laughed humor humour jokes funniest comic",
    ),
    "crime": (
        0.119,
        4.01,
        0.94,
        "crime criminal criminals gangster gangsters mob cop cops detective heist robbery murder police",
    ),
    "documentary": (0.046, 8.05, 0.61, "documentary documentaries footage interviews"),
    "drama": (0.128, 1.57, 0.73, "drama dramatic moving powerful emotional"),
    "fantasy": (0.043, 4.19, 1.48, "fantasy magic magical fairy"),
    "film-noir": (0.013, 2.82, 0.98, "noir femme"),
    "horror": (
        0.193,
        2.65,
        0.47,
        "horror scary scare scares slasher gore gory monster creepy zombie vampire killer blood",
    ),
    "musical": (0.105, 6.52, 0.61, "musical musicals songs song dance dancing singing numbers sing"),
    "mystery": (0.066, 4.63, 0.81, "mystery whodunit clues murder detective"),
    "romance": (0.217, 2.29, 1.00, "romance romantic love chemistry"),
    "sci-fi": (0.099, 6.12, 0.59, "sci scifi science space alien aliens robot robots futuristic planet future"),
    "thriller": (0.077, 3.88, 0.63, "thriller thrillers suspense suspenseful tension thrilling"),
    "war": (0.086, 3.78, 0.90, "war soldiers soldier army nazi nazis vietnam troops battle"),
    "western": (0.030, 2.82, 0.56, "western westerns cowboy cowboys sheriff outlaw"),
}
_OTHER_NAMES = {
    "children": "children's", "kids": "children's", "family": "children's", "science fiction": "sci-fi",
    "scifi": "sci-fi", "noir": "film-noir", "film noir": "film-noir", "music": "musical", "romantic": "romance",
    "historical war": "war", "anime": "animation", "suspense": "thriller",
}  # fmt: skip
_PRIOR_TEXTS = 200  # of the rates in all texts
_MOST = 0.9  # a rate


def genre_rows(genres: Sequence[object]) -> np.ndarray:
    """Which of the known genres each title has; a row of NaN for a title without any. Shape: (titles, genres).

    >>> genre_rows([["Comedy", "Science Fiction"], None, ["Unheard of"]]).sum(1)
    array([ 2., nan, nan])
    """
    index = {name: i for i, name in enumerate(_GENRES)}
    rows = np.zeros((len(genres), len(index)))
    for row, names in zip(rows, genres, strict=True):
        if isinstance(names, (list, tuple, np.ndarray)):
            for name in names:
                plain = str(name).strip().lower()
                place = index.get(_OTHER_NAMES.get(plain, plain))
                if place is not None:
                    row[place] = 1
    rows[rows.sum(1) == 0] = np.nan
    return rows


class GenreClues:
    """Which genres' words the texts hold.

    Args:
        words: of all texts.
        n: texts.
    """

    def __init__(self, words: Words, n: int) -> None:
        table = list(_GENRES.values())
        self.held = np.zeros((n, len(table)), bool)
        vocabulary = pd.Index(words.vocabulary)
        for i, (*_, some) in enumerate(table):
            at = np.flatnonzero(vocabulary.isin(some.split()))
            self.held[np.unique(words.text[np.isin(words.word, at)]), i] = True
        usual, with_it, without = np.array([row[:3] for row in table]).T
        rate = (self.held.sum(0) + _PRIOR_TEXTS * usual) / (n + _PRIOR_TEXTS)
        ratios = np.stack([without, with_it], 1)
        p = np.minimum(rate[:, None] * ratios, np.maximum(_MOST, rate[:, None]))
        # Of a text that lacks the words, and of one that holds them: (2, genres, the title is not or is of it).
        self.log_odds = np.stack([np.log((1 - p) / (1 - rate[:, None])), np.log(p / rate[:, None])])

    def odds(self, text: np.ndarray, genres: np.ndarray) -> np.ndarray:
        """Log odds that a text is about a title of such genres, against any text; 0 if they are not known.

        Args:
            text: which, (pairs,).
            genres: see `genre_rows`, (pairs, genres).
        """
        held = self.held[text].astype(int)
        column = np.arange(held.shape[1])
        with_it, without = self.log_odds[held, column, 1], self.log_odds[held, column, 0]
        return np.nan_to_num((genres * with_it + (1 - genres) * without).sum(1))
