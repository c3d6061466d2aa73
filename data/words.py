"""Numbers, days and durations as people say them."""

from typing import Any


def when(time: Any) -> str:
    """ "22 April 1998" for a timestamp."""
    return f"{time.day} {time:%B %Y}"


def count(number: float, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "title"), count(1682, "title")
    ('1 title', '1,682 titles')
    """
    return f"{int(number):,} {noun}{'' if int(number) == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in the two units that matter.

    >>> duration(45), duration(200), duration(7500)
    ('45 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
