"""Where the sentences of a review lie: character spans of the original text, nothing changed and nothing left out.

A sentence ends with . ! ? or … (and quotes or brackets that close after it) before a space or a capital, at a line
break, tag or not, and at a full stop with spaces around it, as the tokenised sentences of Rotten Tomatoes have them.
Initials, common titles and "No. 5" do not end one.
"""

import itertools
import re
from collections.abc import Iterator

Span = tuple[int, int]

_BREAK = re.compile(r"(?:\s*<br\s*/?>\s*)+|\s*\n\s*", re.IGNORECASE)
_END = re.compile(r"(?:[.!?…]+[\"'”’)\]]*)(?=\s)|(?<=[a-z)\d])[.!?…]+(?=[A-Z])|\s[.!?](?=\s|$)")
_NO_END = re.compile(
    r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|etc|e\.g|i\.e|No|Vol|Gen|Col|Capt|Lt))\.$", re.IGNORECASE
)
_TURN = re.compile(
    r";|\s--+\s|,?\s(?:but|though|although|however|whereas|while|yet|except|unfortunately|thankfully)\b", re.IGNORECASE
)
_LONGEST = 600  # characters: a text without any full stop is cut at spaces, lest one span be all of it


def sentence_spans(text: str) -> list[Span]:
    """(start, end) of each sentence that holds a letter or digit, in order, without the spaces around it.

    >>> text = "Fine cast. The plot, by Dr. Who, drags!<br /><br />See it"
    >>> [text[start:end] for start, end in sentence_spans(text)]
    ['Fine cast.', 'The plot, by Dr. Who, drags!', 'See it']
    """
    return [
        piece
        for start, end in _lines(text)
        for sentence in _sentences(text, start, end)
        for piece in _pieces(text, *sentence)
    ]


def clause_spans(text: str, start: int, end: int) -> list[Span]:
    """A sentence cut where it turns (semicolons, but, though, however, while, yet ...); its clauses add up to it.

    >>> text = "The acting is superb, but the script is a mess."
    >>> [text[a:b] for a, b in clause_spans(text, 0, len(text))]
    ['The acting is superb', ', but the script is a mess.']
    """
    cuts = [turn.start() for turn in _TURN.finditer(text, start, end) if start < turn.start() < end]
    return list(itertools.pairwise([start, *cuts, end]))


def _lines(text: str) -> Iterator[Span]:
    start = 0
    for gap in _BREAK.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def _sentences(text: str, start: int, end: int) -> Iterator[Span]:
    for mark in _END.finditer(text, start, end):
        if _NO_END.search(text, max(start, mark.end() - 8), mark.end()):
            continue
        yield start, mark.end()
        start = mark.end()
    yield start, end


def _pieces(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > _LONGEST:
        cut = text.rfind(" ", start + _LONGEST // 2, start + _LONGEST)
        cut = start + _LONGEST if cut < 0 else cut
        yield start, cut
        start = cut + (text[cut : cut + 1] == " ")
    if any(character.isalnum() for character in text[start:end]):
        yield start, end
