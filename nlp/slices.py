"""Parts of a test set that are hard for one reason each, so that a table shows where a model's errors are."""

import re

import numpy as np

SHORT_WORDS, LONG_WORDS = 20, 200
LEAST_ROWS = 30  # below that an accuracy says nothing

_NEGATION = re.compile(r"\b(?:not|no|never|nothing|nobody|hardly|barely|without|cannot|\w+ ?n't)\b", re.IGNORECASE)
_RATING = re.compile(
    r"\b(?:good|great|best|better|excellent|wonderful|fantastic|amazing|brilliant|superb|perfect|beautiful|love[ds]?|"
    r"loving|enjoy(?:ed|able)?|fun|funny|recommend(?:ed)?|bad|worst|worse|awful|terrible|horrible|poor(?:ly)?|boring|bored|dull|"
    r"waste[d]?|stupid|lame|crap|hate[ds]?|fails?|failed|disappoint(?:ed|ing|ment)?|mess|\d+ ?(?:/|out of) ?10)\b",
    re.IGNORECASE,
)


def slices(texts: list[str]) -> dict[str, np.ndarray]:
    """A mask over `texts` for each slice that has at least `LEAST_ROWS` of them but not all.

    Short (up to 20 words), long (over 200), with a negation, and without a word that rates ("good", "waste", "9/10").

    >>> rows = slices(["not good"] * 30 + ["a film"] * 30)
    >>> {name: int(mask.sum()) for name, mask in rows.items()}
    {'with a negation': 30, 'no rating word': 30}
    """
    words = np.array([text.count(" ") + 1 for text in texts])
    masks = {
        f"up to {SHORT_WORDS} words": words <= SHORT_WORDS,
        f"over {LONG_WORDS} words": words > LONG_WORDS,
        "with a negation": np.array([_NEGATION.search(text) is not None for text in texts], bool),
        "no rating word": np.array([_RATING.search(text) is None for text in texts], bool),
    }
    return {name: mask for name, mask in masks.items() if LEAST_ROWS <= mask.sum() < len(texts)}
