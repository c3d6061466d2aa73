"""Sentences that stand for what many reviews say."""

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.feature_extraction.text import TfidfVectorizer

from data.schema import ITEM_ID, REVIEW_ID, TEXT
from nlp.scored import Mentions, column, mentions_of, need, p_positive
from nlp.sentences import sentence_spans

SHORTEST, LONGEST = 40, 240  # characters of a quote
_CLEAR, _AGREES = 0.93, 0.7  # p of the sentence's side, and of the review's
_CERTAIN = 4.5  # logit beyond which a sentence is not any clearer
_CANDIDATES = 1_000  # per side
_UNQUOTABLE = re.compile(r"[<>\x00-\x08]|&#?\w+;|https?:|www\.|\S{30}", re.IGNORECASE)
# A sentence that leans on the one before does not stand alone.
_LEANS = re.compile(
    r"[\W_]*(?:but|and|or|so|because|he|she|they|his|her|their|him|them|also|then|however|thus|instead|which|who|that|"
    r"these|those|yet|still|therefore|although|though|plus|it|its|it's|this|this is|even|not only|in fact|another|"
    r"both|either|especially|besides|on the other hand|for example|as a result|on a side note|there|here)\b"
    r"(?! (?:film|movie|picture|show|series)\b)",
    re.IGNORECASE,
)
_OPEN = re.compile(r"\?|\.\.\.|…|spoiler", re.IGNORECASE)
_NO_LETTER = re.compile(r"[\W_]+")
_ENDED = re.compile(r"[.!?…][\"'”’)\]]*$")
QUOTE_COLUMNS = ["side", REVIEW_ID, ITEM_ID, "start", "end", "text", "aspect", "p_positive"]


class _Candidates(NamedTuple):
    """Sentences that may be quoted; fields as in `Mentions`."""

    row: np.ndarray
    code: np.ndarray
    p: np.ndarray
    start: np.ndarray
    end: np.ndarray
    positive: np.ndarray
    speak: np.ndarray  # reviews that say the same side of the same aspect
    text: list[str]

    def at(self, places: np.ndarray) -> "_Candidates":
        chosen = {name: getattr(self, name)[places] for name in self._fields[:-1]}
        return _Candidates(**chosen, text=[self.text[i] for i in places] if self.text else [])


def quotes(scored: pd.DataFrame, n: int = 2) -> pd.DataFrame:
    """Up to `n` sentences for and `n` against that stand for what many of the reviews say, best first.

    Candidates are the sentences that speak of an aspect, and reviews of a single sentence; 40 to 240 characters, whole,
    without mark-up, not leaning on the one before ("But he ..."), clearly on the side that their review is on. A
    candidate is the better the closer it is to the middle of its side and the farther from the other's (cosine to the
    mean TF-IDF), the more reviews of its side speak of its aspect, and the clearer and easier to read it is. Each
    further quote is unlike those before, of another review and member. Of many thousand candidates a thousand a side
    are looked at, always the same. Rather none than a poor one: of few reviews there may be fewer than `n`.

    Args:
        scored: columns review_id, text, p_positive, aspects; of one title or of all.

    Returns:
        side (for, against), review_id, item_id, start and end (characters of the review), text (between them), aspect
        (None: of none), p_positive (of the sentence).

    Raises:
        UserError: a column is missing.
    """
    need(scored, REVIEW_ID, TEXT, "p_positive", "aspects")
    return choose_quotes(scored, mentions_of(scored), n)


def choose_quotes(scored: pd.DataFrame, mentions: Mentions, n: int) -> pd.DataFrame:
    found = _candidates(scored, mentions)
    if not found.text:
        return pd.DataFrame(columns=QUOTE_COLUMNS)
    vectors = _vectors(found.text)
    chosen = [i for side in (True, False) for i in _best(scored, found, vectors, found.positive == side, n)]
    rows = found.row[chosen]
    names = np.array([*mentions.names, None], dtype=object)  # code -1: of none
    return pd.DataFrame(
        {
            "side": np.where(found.positive[chosen], "for", "against").astype(object),
            REVIEW_ID: scored[REVIEW_ID].to_numpy(object)[rows],
            ITEM_ID: column(scored, ITEM_ID)[rows],
            "start": found.start[chosen],
            "end": found.end[chosen],
            "text": np.array([found.text[i] for i in chosen], dtype=object),
            "aspect": names[found.code[chosen]],
            "p_positive": found.p[chosen],
        }
    )


def _candidates(scored: pd.DataFrame, mentions: Mentions) -> _Candidates:
    p, texts = p_positive(scored), scored[TEXT].to_numpy(object)
    silent = np.setdiff1d(np.arange(len(scored)), mentions.row)
    single = [
        (i, *sentences[0])
        for i in silent
        if isinstance(texts[i], str)
        and SHORTEST <= len(texts[i]) <= LONGEST + 20
        and len(sentences := sentence_spans(texts[i])) == 1
    ]
    alone = np.array(single, dtype="int64").reshape(-1, 3)
    row, start, end = (np.append(a, b) for a, b in zip((mentions.row, *mentions[3:5]), alone.T, strict=True))
    row = row.astype("int64")
    code, own = np.append(mentions.code, np.full(len(alone), -1)), np.append(mentions.p, p[alone[:, 0]])
    positive = own > 0.5
    agrees = np.where(positive, (own >= _CLEAR) & (p[row] >= _AGREES), (own <= 1 - _CLEAR) & (p[row] <= 1 - _AGREES))
    said = (code + 1) * 2 + positive  # aspect and side
    once = np.unique((said * len(p) + row)[agrees & (code >= 0)]) // max(1, len(p))
    speak = np.bincount(once, minlength=2 * len(mentions.names) + 2)[said]
    found = _Candidates(row, code, own, start, end, positive, speak, [])
    length = end - start
    found = found.at(np.flatnonzero(agrees & (length >= SHORTEST) & (length <= LONGEST) & (start >= 0)))

    # A sentence that speaks of several aspects stands for the one of which most speak.
    found = found.at(np.lexsort((found.code, -found.speak, found.end, found.start, found.row)))
    spans = np.stack([found.row, found.start, found.end])
    found = found.at(np.flatnonzero(np.append(True, (spans[:, 1:] != spans[:, :-1]).any(axis=0))[: len(found.row)]))
    chance = pd.util.hash_array(scored[REVIEW_ID].to_numpy(object)[found.row]) ^ found.start.astype("uint64")
    found = found.at(np.argsort(chance, kind="stable"))
    found = found.at(
        np.sort(np.concatenate([np.flatnonzero(found.positive == s)[:_CANDIDATES] for s in (True, False)]))
    )

    places, text, seen = [], [], set()
    for i, (review, a, b) in enumerate(zip(texts[found.row], found.start.tolist(), found.end.tolist(), strict=True)):
        if isinstance(review, str) and b <= len(review) and _is_quotable(review, a, b):
            plain = _NO_LETTER.sub("", review[a:b].lower())
            if plain not in seen:
                seen.add(plain)
                places.append(i)
                text.append(review[a:b])
    return found.at(np.array(places, dtype="int64"))._replace(text=text)


def _is_quotable(text: str, start: int, end: int) -> bool:
    """Whether the span is readable, stands alone and is whole: nothing of its sentence lies before or after it."""
    quote = text[start:end]
    if not quote or _LEANS.match(quote) or _UNQUOTABLE.search(quote) or sum(map(str.isalpha, quote)) < len(quote) / 2:
        return False
    if quote.count("(") != quote.count(")"):
        return False
    before, after = text[:start].rstrip(), text[end:]
    begun = not before or before[-1] in ".!?…\"'”’)]>" or "\n" in text[len(before) : start]
    cased = quote[:1].upper() == quote[:1] or text == text.lower()
    ended = _ENDED.search(quote) is not None or not after.strip() or after.lstrip(" ")[0] in "<\n"
    return begun and cased and ended


def _vectors(texts: list[str]) -> Any:
    """TF-IDF of texts, rows of length 1. Shape: (texts, words), sparse."""
    try:
        return TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(texts)
    except ValueError:  # not one word that is no stop word
        return TfidfVectorizer(analyzer="char").fit_transform(texts)


def _best(scored: pd.DataFrame, found: _Candidates, vectors: Any, own: np.ndarray, n: int) -> list[int]:
    """Positions of the best `n` of the candidates where `own`, best first."""
    if not own.any():
        return []
    rows = np.flatnonzero(own)
    side, mine = found.at(rows), vectors[rows]
    central = mine @ np.asarray(mine.mean(axis=0)).ravel()
    if not own.all():
        central = central - 0.5 * (mine @ np.asarray(vectors[np.flatnonzero(~own)].mean(axis=0)).ravel())
    length = side.end - side.start
    confidence = column(scored, "link_confidence")[side.row]
    score = (
        central / max(float(np.abs(central).max()), 1e-9)
        + 0.5 * side.speak / max(1, side.speak.max())
        + np.minimum(np.abs(logit(side.p)), _CERTAIN) / _CERTAIN
        - np.array([_awkwardness(text) for text in side.text])
        - 0.4 * np.clip((60 - length) / 20, 0, 1)
        - 0.4 * np.clip((length - 160) / 80, 0, 1)
        - 0.5 * (1 - np.nan_to_num(pd.to_numeric(confidence).astype("float64"), nan=1.0))
    )
    review, member = column(scored, REVIEW_ID)[side.row], column(scored, "user_id")[side.row]
    chosen: list[int] = []
    while len(chosen) < n and np.isfinite(score).any():
        best = int(np.argmax(score))
        chosen.append(best)
        score = score - (mine @ mine[best].toarray().ravel()) - 0.5 * (side.code == side.code[best])
        taken = review == review[best]
        if pd.notna(member[best]):
            taken |= np.array([one is not pd.NA and one == member[best] for one in member], dtype=bool)
        score[taken] = -np.inf
    return rows[chosen].tolist()


def _awkwardness(quote: str) -> float:
    """How badly a sentence reads as a quote, 0: well."""
    letters = [letter for letter in quote if letter.isalpha()]
    return (
        0.5 * (_OPEN.search(quote) is not None)
        + 0.4 * ((quote.count('"') + quote.count("“") + quote.count("”")) % 2 > 0)
        + 0.5 * all(map(str.isupper, letters))
    )
