"""All texts as one flat array of words, each with its spelling and surroundings, to find titles in.

Case, quotes, ends of sentences and brackets say more about a title than its words do ("Big" in quotes, "big" in a
sentence). They are kept as arrays beside the words, so that everything later is array work and no text is read twice.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nlp.title_names import MOST_WORDS, hash_words, normalise_word

_TOKEN = re.compile(
    r"[^\W_]+|&|<[^<>]{0,60}>|[.!?:;,()\[\]\"“”„«»\x01*_-]"
    # An apostrophe is a quotation mark only at the outer edge of a word.
    r"|(?<![^\W_])['‘’`](?=[^\W_])|(?<=[^\W_.,!?])['’`](?![^\W_])"
)
_TEXT_END = "\x01"
_WORD, _STOP, _COMMA, _QUOTE, _BRACKET, _COLON, _DASH = range(7)
_KIND = {
    **dict.fromkeys(".!?;" + _TEXT_END, _STOP),
    ",": _COMMA,
    **dict.fromkeys("\"“”„«»'‘’`*_", _QUOTE),
    **dict.fromkeys("()[]", _BRACKET),
    ":": _COLON,
    "-": _DASH,
}
_PLAIN_SHARE = 0.03  # of words with a capital letter; in a usual text every sentence has one
_LOUD_SHARE = 0.3  # of words in capitals only; above it, capitals mark nothing


@dataclass(frozen=True)
class Words:
    """The words of many texts, one after the other. All arrays but the last four: (words,)."""

    text: np.ndarray  # int32: which text
    place: np.ndarray  # int32: how many words of the text stand before it
    word: np.ndarray  # int32: index into `vocabulary`
    capital: np.ndarray  # bool: begins with a capital letter or is a number
    upper: np.ndarray  # bool: two letters or more, all capitals
    start: np.ndarray  # bool: begins a sentence
    joined: np.ndarray  # bool: nothing but a space or an apostrophe before it
    quote_before: np.ndarray  # bool
    quote_after: np.ndarray  # bool: with or without a stop inside the quotes
    bracket_before: np.ndarray  # bool
    colon_after: np.ndarray  # bool
    plain: np.ndarray  # bool: in a text (nearly) without capital letters
    loud: np.ndarray  # bool: in a text (nearly) all in capitals
    vocabulary: np.ndarray  # object, of str (normalised words,)
    letters: np.ndarray  # int (normalised words,)
    digits: np.ndarray  # bool: digits only (normalised words,)
    hashes: np.ndarray  # uint64 (normalised words,)

    def among(self, these: Iterable[str]) -> np.ndarray:
        """Which words are one of these. Shape: (words,), bool."""
        return pd.Index(self.vocabulary).isin(list(these))[self.word]


def _clean(text: object) -> str:
    if not isinstance(text, str):  # None, NaN, pd.NA
        return ""
    return text.replace(_TEXT_END, " ").replace("½", " 1/2")


def read_words(texts: Sequence[object]) -> Words:
    """The words of the texts, with what surrounds them; a missing text has none."""
    found = [_TOKEN.findall(_clean(text)) for text in texts]
    count = np.array([len(tokens) + 1 for tokens in found], dtype=np.int64)
    flat = [_TEXT_END]  # so that every word has a token before it
    for tokens in found:
        flat += tokens
        flat.append(_TEXT_END)
    del found
    codes, unique = pd.factorize(np.array(flat, dtype=object))
    del flat
    spelled = [str(token) for token in unique]
    kind_of = np.array([_STOP if t[0] == "<" else _KIND.get(t, _WORD) for t in spelled], dtype=np.int8)
    kind = np.append(kind_of[codes], [_STOP, _STOP]).astype(np.int8)
    text_of = np.append(-1, np.repeat(np.arange(len(count)), count))
    at = np.flatnonzero(kind[: len(codes)] == _WORD)
    normal, vocabulary = pd.factorize(np.array([normalise_word(token) for token in spelled], dtype=object))
    capital_of = np.array([t[0].isupper() or t[0].isdigit() for t in spelled], dtype=bool)
    upper_of = np.array([len(t) > 1 and t.isupper() for t in spelled], dtype=bool)
    code, text = codes[at], text_of[at].astype(np.int32)
    before, after, second = kind[at - 1], kind[at + 1], kind[at + 2]
    capital, upper = capital_of[code], upper_of[code]
    n_words = np.maximum(np.bincount(text, minlength=len(texts)), 1)
    return Words(
        text=text,
        place=(np.arange(len(at)) - np.searchsorted(text, text, "left")).astype(np.int32),
        word=normal[code].astype(np.int32),
        capital=capital,
        upper=upper,
        start=(before == _STOP) | ((before == _QUOTE) & (kind[np.maximum(at - 2, 0)] == _STOP)),
        joined=before == _WORD,
        quote_before=before == _QUOTE,
        quote_after=(after == _QUOTE) | (((after == _STOP) | (after == _COMMA)) & (second == _QUOTE)),
        bracket_before=before == _BRACKET,
        colon_after=after == _COLON,
        plain=(np.bincount(text, capital, len(texts)) / n_words < _PLAIN_SHARE)[text],
        loud=(np.bincount(text, upper, len(texts)) / n_words > _LOUD_SHARE)[text],
        vocabulary=np.asarray(vocabulary, dtype=object),
        letters=np.array([len(word) for word in vocabulary], dtype=np.int64),
        digits=np.array([word.isdigit() for word in vocabulary], dtype=bool),
        hashes=hash_words(vocabulary),
    )


def marked_phrases(words: Words) -> set[tuple[str, ...]]:
    """Phrases of up to eight words that the texts set in quotes (with a capital letter) or in capitals.

    They are titles of anything at all, the catalogue's or not: what a review may be about instead.
    """
    phrases: set[tuple[int, ...]] = set()
    opening = np.flatnonzero(words.quote_before & words.capital)
    for n in range(1, MOST_WORDS + 1):
        opening = opening[opening + n <= len(words.word)]
        last = opening + n - 1
        one = (words.text[last] == words.text[opening]) & ((n == 1) | ~words.start[last])
        opening, last = opening[one], last[one]
        closed = words.quote_after[last]
        phrases.update(map(tuple, words.word[opening[closed][:, None] + np.arange(n)].tolist()))
        opening = opening[~closed]
    letters = words.letters
    single = ((letters == 1) | words.digits)[words.word] & words.capital
    shouted = (words.upper | single) & ~words.loud
    goes_on = np.append(words.joined[1:] & (words.text[1:] == words.text[:-1]) & shouted[1:], False)[: len(shouted)]
    first = np.flatnonzero(shouted & ~np.append(False, goes_on[:-1] & shouted[:-1])[: len(shouted)])
    ends = np.flatnonzero(shouted & ~goes_on)
    last = ends[np.searchsorted(ends, first)] if len(first) else first
    size = last - first + 1
    # An acronym of three letters or a lone "I" is no title.
    kept = (size <= MOST_WORDS) & (words.upper[first] | words.upper[last])
    kept &= (size > 1) | (letters[words.word[first]] > 3)
    phrases.update(tuple(words.word[a : b + 1].tolist()) for a, b in zip(first[kept], last[kept], strict=True))
    return {tuple(words.vocabulary[list(phrase)].tolist()) for phrase in phrases}
