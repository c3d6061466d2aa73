"""A review with marks in it: sentences that speak of an aspect, and words that carried the verdict.

Colour never stands alone: a sentence ends in a label with a sign (+ acting, − pacing), a word is in front of a small
sign. Everything of the review is escaped piece by piece, so it can never become markup.
"""

import html
from collections.abc import Iterable, Mapping
from typing import Any

from dashboard.inbox import plain
from dashboard.moods import MIXED_WITHIN

_KINDS = {"good": "+", "warn": "±", "bad": "−"}
LEGEND = (
    '<span>Sentences that speak <span class="mq-said mq-good">well<b>+ aspect</b></span></span>'
    '<span><span class="mq-said mq-bad">ill<b>− aspect</b></span></span>'
    '<span><span class="mq-said mq-warn">half and half<b>± aspect</b></span></span>'
)
WORD_LEGEND = (
    '<span>Words that decided: <span class="mq-word mq-good mq-strong"><sup>+</sup>for</span> '
    '<span class="mq-word mq-bad mq-strong"><sup>−</sup>against</span></span>'
)


def kind_of(p_positive: float) -> str:
    value = 2 * p_positive - 1
    return "warn" if abs(value) <= MIXED_WITHIN else "bad" if value < 0 else "good"


def marked_html(
    text: str,
    aspects: Iterable[Mapping[str, Any]] = (),
    words: Iterable[tuple[int, int, float]] = (),
) -> str:
    """HTML of `text` with its marks.

    Args:
        aspects: dicts of aspect, p_positive, start and end (characters of `text`); those outside of it are left out.
        words: (start, end, share in -1..1) of the words that decided, positive for positive.
    """
    sentences: list[tuple[int, int, list[tuple[str, float]]]] = []
    for one in sorted(aspects, key=lambda a: (a["start"], a["end"])):
        start, end, said = int(one["start"]), int(one["end"]), (str(one["aspect"]), float(one["p_positive"]))
        if sentences and (start, end) == sentences[-1][:2]:
            sentences[-1][2].append(said)
        elif (sentences[-1][1] if sentences else 0) <= start < end <= len(text):
            sentences.append((start, end, [said]))
    strong = [word for word in sorted(words) if 0 <= word[0] < word[1] <= len(text)]
    parts, at = [], 0
    for start, end, spoken in sentences:
        parts.append(_words(text, at, start, strong))
        kinds = {kind_of(p) for _, p in spoken}
        kind = kinds.pop() if len(kinds) == 1 else "warn"
        labels = "".join(f"<b>{_KINDS[kind_of(p)]} {html.escape(aspect)}</b>" for aspect, p in spoken)
        parts.append(f'<span class="mq-said mq-{kind}">{_words(text, start, end, strong)}{labels}</span>')
        at = end
    return "".join(parts) + _words(text, at, len(text), strong)


def _words(text: str, start: int, end: int, strong: list[tuple[int, int, float]]) -> str:
    """The piece from start to end, escaped, with its deciding words marked; words across its ends are cut there."""
    parts, at = [], start
    for first, last, share in strong:
        first, last = max(first, at), min(last, end)
        if first >= last:
            continue
        kind, sign = ("good", "+") if share > 0 else ("bad", "−")
        weight = "strong" if abs(share) >= 0.5 else "weak"
        parts.append(html.escape(plain(text[at:first])))
        word = html.escape(text[first:last])
        parts.append(f'<span class="mq-word mq-{kind} mq-{weight}"><sup>{sign}</sup>&NoBreak;{word}</span>')
        at = last
    return "".join(parts) + html.escape(plain(text[at:end]))
