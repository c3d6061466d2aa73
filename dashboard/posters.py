"""Posters drawn from nothing but a title, its year and its genres; the same for a title every time.

The longest word decides the size: words are measured with the advance widths of Oswald Bold, the largest of four
sizes at which the longest word fits the width and the whole title the height is taken, and only a word too long for
the smallest makes it smaller still. A word is never broken.
"""

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 150, 225, 12
SIZES = (34, 28, 21, 17)
LINE_HEIGHT = 1.08
# Left for the title between the badge at the top and year and genre at the foot.
TITLE_HEIGHT = 152

# Advance widths of Oswald Bold in hundredths of an em.
_ADVANCE = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 '!\"#$%&()*+,-./:;?@·–—’",
        (
            *(55, 59, 56, 59, 45, 43, 58, 61, 30, 35, 57, 44, 70, 56, 59, 57, 59, 60, 51, 44, 59, 53, 70, 52, 49, 43),
            *(55, 38, 51, 51, 52, 51, 54, 44, 52, 54),
            *(26, 17, 26, 36, 53, 48, 101, 57, 34, 33, 42, 45, 24, 32, 24, 42, 28, 28, 48, 95, 23, 56, 105, 20),
        ),
        strict=True,
    )
)
_WIDEST = 70

# Two colours for each genre: the light of the scene and what it falls into.
_COLOURS = {
    "action": ("#C8322B", "#2A0A12"),
    "adventure": ("#C9820F", "#33200A"),
    "animation": ("#DE4B86", "#361450"),
    "children": ("#F08A3C", "#54204F"),
    "comedy": ("#DDA215", "#5E2A10"),
    "crime": ("#66707F", "#12151C"),
    "documentary": ("#4F8F74", "#0D2729"),
    "drama": ("#8450A8", "#190F33"),
    "fantasy": ("#7564E8", "#1A1550"),
    "film-noir": ("#8E939C", "#0E0F11"),
    "horror": ("#9C1526", "#0B0508"),
    "musical": ("#D6407A", "#401043"),
    "mystery": ("#34679B", "#0A152C"),
    "romance": ("#D8566B", "#3D1030"),
    "sci-fi": ("#149AAF", "#06222F"),
    "thriller": ("#2F7A78", "#07171C"),
    "war": ("#74833F", "#191D0D"),
    "western": ("#B9702A", "#2F190A"),
}
_SAME = {"children's": "children", "sci fi": "sci-fi", "science fiction": "sci-fi", "noir": "film-noir"}


@dataclass(frozen=True)
class Poster:
    """What a page needs to draw one: colours and places, no markup."""

    title: str  # capitals
    foot: str  # "1995 · Animation"
    size: int  # font size in pixels
    background: str  # CSS, made of our own colours and numbers only


def poster(title: str, year: float | None = None, genres: Sequence[str] = ()) -> Poster:
    """The poster of a title. `year` may be missing (None or NaN), `genres` empty."""
    capitals = " ".join(title.split()).upper() or "UNTITLED"
    light, dark = colours(genres[0] if len(genres) else None)
    digest = hashlib.blake2b(capitals.encode(), digest_size=4).digest()
    x, y = 10 + digest[0] * 80 // 255, 5 + digest[1] * 50 // 255
    reach = 85 + digest[2] * 45 // 255
    # The second genre glows faintly from the far side, so that two dramas are not one.
    far = colours(genres[1])[0] if len(genres) > 1 else light
    background = (
        f"linear-gradient(180deg, rgba(8,8,11,0) 38%, rgba(8,8,11,.92) 100%), "
        f"radial-gradient(70% 60% at {100 - x}% {100 - y}%, color-mix(in srgb, {far} 55%, transparent), transparent), "
        f"radial-gradient({reach}% {reach * 3 // 4}% at {x}% {y}%, {light} 0%, {dark} 100%)"
    )
    foot = " · ".join(part for part in (year_text(year), genres[0] if len(genres) else "") if part)
    return Poster(capitals, foot, font_size(capitals), background)


def year_text(year: float | None) -> str:
    """ "1995", or nothing for a missing year."""
    return "" if year is None or year != year else str(int(year))


def colours(genre: str | None) -> tuple[str, str]:
    """The two colours of a genre; of an unknown one by the hash of its name."""
    name = (genre or "").casefold()
    name = _SAME.get(name, name)
    if name in _COLOURS:
        return _COLOURS[name]
    hue = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest(), "big") % 360
    return f"hsl({hue} 34% 46%)", f"hsl({(hue + 24) % 360} 40% 11%)"


def text_width(text: str) -> float:
    """Width in ems of `text` in Oswald Bold; a character outside the table counts as the widest letter."""
    return sum(_ADVANCE.get(character, _WIDEST) for character in text) / 100


def line_count(text: str, size: float, width: float = WIDTH - 2 * MARGIN) -> int:
    """Lines that `text` takes when broken between words only."""
    lines, used = 1, 0.0
    for word in text.split():
        needed = text_width(word) * size
        gap = text_width(" ") * size if used else 0.0
        if used and used + gap + needed > width:
            lines, used = lines + 1, needed
        else:
            used += gap + needed
    return lines


def font_size(title: str) -> int:
    """The largest of four sizes at which the longest word and the whole title fit.

    A word too wide for the smallest size gets the size at which it just fits, but never below 8 pixels.
    """
    width = WIDTH - 2 * MARGIN
    longest = max((text_width(word) for word in title.split()), default=0.0)
    for size in SIZES:
        if longest * size <= width and line_count(title, size) * size * LINE_HEIGHT <= TITLE_HEIGHT:
            return size
    return max(8, min(SIZES[-1], int(width / longest)))


def poster_html(drawn: Poster, width: int = WIDTH, over: str = "") -> str:
    """The poster as HTML for a page that shows one; every text escaped. Its look is in style.css.

    Args:
        over: HTML of a real poster, see dashboard.artwork.over.
    """
    scale = width / WIDTH
    return (
        f'<div class="mq-poster" role="img" aria-label="Poster of {html.escape(drawn.title.title(), quote=True)}" '
        f'style="width:{width}px;height:{HEIGHT * scale:.0f}px;padding:{MARGIN * scale:.0f}px;'
        f'background:{drawn.background}">{over}'
        f'<span class="mq-poster-title" style="font-size:{drawn.size * scale:.1f}px">{html.escape(drawn.title)}</span>'
        f'<span class="mq-poster-foot" style="font-size:{10.5 * scale:.1f}px">{html.escape(drawn.foot)}</span></div>'
    )
