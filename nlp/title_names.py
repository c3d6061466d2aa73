"""The forms in which a review may write a catalogue's title, as tuples of normalised words.

Words are compared without case, accents and punctuation, and numbers without their spelling: `Part II`, `part 2` and
`Part Two` are one. Titles and texts pass through the same `normalise_word`, so that a form needs no spelling variants.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from data.titles import alternate_titles, display_title

MOST_WORDS = 8  # of a form; longer titles are recognised by their first eight words
WORD = re.compile(r"[^\W_]+|&")
ARTICLES = frozenset({
    "the", "a", "an", "la", "le", "les", "l", "un", "une", "il", "lo", "gli", "el", "los", "las", "der", "die",
    "das", "ein", "eine", "o", "os", "um", "uma", "de", "het", "den", "det",
})  # fmt: skip
_ENGLISH_ARTICLES = ("the", "a", "an")
_NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
_ROMAN = ["ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii"]
_SAME = {
    **{word: str(n) for n, word in enumerate(_NUMBERS, 2)},
    # One letter alone is a letter ("Malcolm X", "V"), not a number.
    **{word: str(n) for n, word in enumerate(_ROMAN, 2) if len(word) > 1},
    "&": "and",
    "versus": "vs",
    "v": "vs",
    "mister": "mr",
    "doctor": "dr",
    "saint": "st",
    "pt": "part",
}
_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ß": "ss", "ł": "l", "đ": "d", "ı": "i"})
_SUBTITLE = re.compile(r"\s*(?::| - |, or\b:?| or:)\s*", re.IGNORECASE)
_HYPHEN = re.compile(r"(?<=\w)-(?=\w)")


def normalise_word(word: str) -> str:
    """The word without case and accents; numbers in digits.

    >>> [normalise_word(word) for word in ("Véronique", "III", "Two", "&")]
    ['veronique', '3', '2', 'and']
    """
    word = word.lower()
    if not word.isascii():
        word = unicodedata.normalize("NFKD", word.translate(_LETTERS))
        word = "".join(letter for letter in word if not unicodedata.combining(letter))
    return _SAME.get(word, word)


def words_of(name: str) -> tuple[str, ...]:
    """The normalised words of a name.

    >>> words_of("L.A. Confidential"), words_of("8½")
    (('l', 'a', 'confidential'), ('8', '1', '2'))
    """
    return tuple(normalise_word(word) for word in WORD.findall(name.replace("½", " 1/2")))


def forms_of(title: str) -> dict[tuple[str, ...], str]:
    """Every form of a catalogue's title, with its kind: `whole`, or `part` where words of the title are left out.

    >>> sorted(" ".join(form) for form in forms_of("Matrix, The (1999)"))
    ['matrix', 'the matrix']
    >>> sorted(" ".join(form) for form in forms_of("Twelve Monkeys (a.k.a. Army of Monkeys)"))
    ['12 monkeys', 'army of monkeys']
    >>> forms_of("Kids in the Hall: Brain Candy")[("brain", "candy")]
    'part'
    """
    forms: dict[tuple[str, ...], str] = {}
    for name in (display_title(title), *alternate_titles(title)):
        for spelling in {name, _HYPHEN.sub("", name), _joined_letters(name)}:
            words = words_of(spelling)
            if not words or len("".join(words)) == 0:
                continue
            for form in (words, *_without_article(words), *_part_variants(words)):
                forms.setdefault(form[:MOST_WORDS], "whole")
        pieces = [words_of(piece) for piece in _SUBTITLE.split(name)]
        if len(pieces) > 1:
            # What stands before "Part II" is another film's title, and "Part II" is nobody's.
            numbered = pieces[-1][:1] == ("part",) or any(word.isdigit() for word in pieces[-1])
            for piece in () if numbered else (pieces[0], pieces[-1]):
                if len(next(iter(_without_article(piece)), piece)) >= 2:
                    forms.setdefault(piece[:MOST_WORDS], "part")
    return forms


def _joined_letters(name: str) -> str:
    """`L.A. Confidential` as `LA Confidential`."""
    return re.sub(r"\b(\w)\.(?=\w\b)", r"\1", name)


def _without_article(words: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    # A single letter or number ("The 6") says nothing without its article.
    if len(words) > 1 and words[0] in _ENGLISH_ARTICLES and len("".join(words[1:])) > 2:
        yield words[1:]


def _part_variants(words: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """`Godfather Part 2` as `Godfather 2` and the other way round."""
    for bare in (words, *_without_article(words)):
        if "part" in bare[1:-1] and bare[bare.index("part") + 1].isdigit():
            at = bare.index("part")
            yield bare[:at] + bare[at + 1 :]
            yield bare[:at] + bare[at + 1 : at + 2]
        elif len(bare) > 1 and len(bare[-1]) == 1 and bare[-1].isdigit() and not bare[-2].isdigit():
            yield (*bare[:-1], "part", bare[-1])


def bare(form: tuple[str, ...]) -> tuple[str, ...]:
    """The form without an English article in front, unless hardly anything would be left.

    >>> bare(("the", "matrix")), bare(("the", "6"))
    (('matrix',), ('the', '6'))
    """
    return next(iter(_without_article(form)), form)


def hash_words(words: Sequence[str] | np.ndarray) -> np.ndarray:
    """A number for each word, the same on every machine. Shape: (words,), uint64."""
    return pd.util.hash_array(np.asarray(words, dtype=object), categorize=False)


def hash_form(hashes: np.ndarray) -> np.ndarray:
    """One number for each row of word hashes, in their order. Shape: (forms, words) -> (forms,), uint64."""
    key = np.zeros(len(hashes), np.uint64)
    for column in hashes.T:
        key = key * np.uint64(0x9E3779B97F4A7C15) + column
    return key
