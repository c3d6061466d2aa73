"""What a replay says, in sentences, and ranges drawn as HTML: pure functions, tested without Streamlit."""

import html
from collections.abc import Sequence
from typing import NamedTuple

from data.words import count
from recsys import replay
from recsys.clicks import Interval
from recsys.replay import FEWEST_CLICKS, FEWEST_MEMBERS, Comparison

SHARES = (0.1, 0.2, 0.5)  # differences, as shares of what there is, whose cost in pages is told
_ROWS = {
    "picks": "Top picks for you",
    "billboard": "Billboard",
    "list": "My list",
    "like": "Because you watched",
    "trending": "Trending now",
    "new": "New for you",
    "gems": "Hidden gems",
    "again": "Watch again",
    "popular": "Popular with everyone",
}


class Range(NamedTuple):
    """A line of a range plot: what, its value and interval, and what it rests on."""

    name: str
    interval: Interval
    value: str  # "0.48 clicks per page"
    rests_on: str
    strong: bool = False


def place_name(place: str) -> str:
    """The heading that members know a row by.

    >>> place_name("home:gems"), place_name("home:genre-Sci-Fi"), place_name("title page")
    ('Hidden gems', 'Sci-Fi for you', 'Title page')
    """
    row = place.removeprefix("home:")
    if row.startswith("genre-"):
        return f"{row.removeprefix('genre-')} for you"
    return _ROWS.get(row, row[:1].upper() + row[1:])


def per_page(interval: Interval) -> str:
    """ "0.48 clicks per page (0.41 to 0.55)"."""
    value, low, high = interval
    around = "" if low != low else f" ({low:.2f} to {high:.2f})"
    return f"{value:.2f} clicks per page{around}"


def difference(interval: Interval) -> str:
    """ "−0.33 (−0.40 to −0.26)"."""
    value, low, high = interval
    return f"{signed(value)} ({signed(low)} to {signed(high)})"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\u00a0%"


def signed(value: float, digits: int = 2) -> str:
    """With a sign, and a real minus.

    >>> signed(0.5), signed(-0.123), signed(-0.001)
    ('+0.50', '−0.12', '0.00')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def headline(found: Comparison) -> tuple[str, str]:
    """The verdict on B against A: how it looks (good, warn, none), and the sentence."""
    said = replay.verdict(found)
    value, base = found.difference[0], found.a.replay[0]
    share = f" ({signed(100 * value / base, 0)}\u00a0%)" if base > 0 else ""
    clicks = f"{abs(value):.2f} clicks per page"
    match said:
        case "same":
            return "none", "A and B put the same titles in the same places on every page."
        case "too few":
            return "warn", "There are too few clicks to say which is better."
        case "better":
            return "good", f"B is better than A by {clicks}{share}."
        case "worse":
            less = f" (B brings {100 * -value / base:.0f}\u00a0% less)" if base > 0 else ""
            return "good", f"A is better than B by {clicks}{less}."
        case _:
            return "none", "A and B cannot be told apart by the clicks that there are."


def because(found: Comparison) -> str:
    """What the verdict rests on."""
    on = f"{count(found.pages, 'page')} in random order, of {count(found.members, 'member')}"
    said = replay.verdict(found)
    if said == "same":
        return f"On {on}. Nothing is there to be compared."
    if said == "too few":
        return (
            f"{count(found.telling, 'click')} {'tells' if found.telling == 1 else 'tell'} the two apart, on {on}. "
            f"From {FEWEST_CLICKS} such clicks of at least {FEWEST_MEMBERS} members on, an interval can be trusted."
        )
    value, low, high = found.difference
    return f"B − A: {signed(value)} clicks per page, 95\u00a0% interval {signed(low)} to {signed(high)}, on {on}."


def needed(base: float, spread: float, there: int, a_day: float | None = None) -> list[tuple[str, str]]:
    """Pages in random order that a difference takes, for differences of `SHARES` of `base` clicks per page.

    Args:
        base: clicks per page to compare with, above 0.
        spread: see recsys.replay.pages_needed.
        there: pages that there are.
        a_day: how many come in a day; None when nobody knows.
    """
    lines = []
    for share in SHARES:
        pages = replay.pages_needed(share * base, spread)
        left = max(0, pages - there)
        text = f"about {rounded(pages)} pages" if left else f"about {rounded(pages)} pages: enough are there"
        if left and a_day:
            text += f", {_days(left / a_day)} at the present pace"
        lines.append((f"Of {100 * share:.0f}\u00a0% ({share * base:.2f} clicks per page)", text))
    return lines


def rounded(number: float) -> str:
    """Two digits that count: more would be a promise.

    >>> rounded(78_412), rounded(312), rounded(7)
    ('78,000', '310', '7')
    """
    scale = max(1, 10 ** (len(str(int(number))) - 2))
    return f"{round(number / scale) * scale:,}"


def _days(days: float) -> str:
    if days < 60:
        return f"{max(1, round(days))} more {'day' if round(days) <= 1 else 'days'}"
    if days > 5 * 365:
        return "more than 5 years"
    return f"{rounded(days / 30.4)} more months" if days < 730 else f"{rounded(days / 365)} more years"


def ranges(lines: Sequence[Range]) -> str:
    """HTML of a plot from 0: a bar from low to high with its value as a mark, each with its words beside it."""
    top = max((part for line in lines for part in line.interval if part == part), default=0.0) or 1.0
    return "<div class='mq-ranges'>" + "".join(_range(line, top) for line in lines) + "</div>"


def _range(line: Range, top: float) -> str:
    value, low, high = (100 * max(0.0, part) / top if part == part else 0.0 for part in line.interval)
    low, high = (value, value) if line.interval[1] != line.interval[1] else (low, high)
    strong = " mq-strong" if line.strong else ""
    marks = f"<i style='left:{low:.1f}%;width:{max(0.5, high - low):.1f}%'></i><u style='left:{value:.1f}%'></u>"
    marks = "" if line.interval[0] != line.interval[0] else marks
    return (
        f"<div class='mq-range{strong}'><b>{html.escape(line.name)}</b>"
        f"<span class='mq-scale-line' aria-hidden='true'>{marks}</span>"
        f"<span>{html.escape(line.value)}</span><small>{html.escape(line.rests_on)}</small></div>"
    )
