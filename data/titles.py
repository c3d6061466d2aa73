"""How a catalogue's titles are taken apart and shown. Pure functions on strings.

Catalogues file titles by their first telling word and carry other names in brackets:

    Shanghai Triad (Yao a yao yao dao waipo qiao) (1995)        Convent, The (Convento, O) (1995)
"""

import re

_ARTICLES = (
    "the|a|an|"  # English
    "la|le|les|l'|un|une|"  # French
    "il|lo|gli|uno|una|"  # Italian
    "el|los|las|"  # Spanish
    "der|die|das|ein|eine|"  # German
    "o|os|um|uma|"  # Portuguese
    "de|het|den|det|en|et"  # Dutch, Danish, Swedish, Norwegian
)
_INVERTED = re.compile(rf"(?P<rest>.+), (?P<article>{_ARTICLES})", re.IGNORECASE | re.DOTALL)
_BRACKETED = re.compile(r"\s*\((?P<inside>(?:[^()]|\([^()]*\))*)\)\s*$")
_YEAR = re.compile(
    r"\s*\(\s*(?P<year>1[89]\d\d|20\d\d)\s*(?:[-–]\s*(?:\d{4})?\s*)?\)\s*(?P<medium>\((?:V|TV|VG)\))?\s*$"
)
_ALSO_KNOWN_AS = re.compile(r"a\.?k\.?a\.?:?\s+", re.IGNORECASE)
# A name that stops in the middle of a phrase: what follows in brackets belongs to it.
_OPEN_ENDED = re.compile(r"(?:\b(?:or|and|of)|[:,&-])$", re.IGNORECASE)


def split_year(title: str) -> tuple[str, int | None]:
    """Title and year of a title that ends in its year; `(V)` or `(TV)` after the year goes too.

    >>> split_year("Toy Story (1995)")
    ('Toy Story', 1995)
    >>> split_year("Land Before Time III: The Time of the Great Giving (1995) (V)")
    ('Land Before Time III: The Time of the Great Giving', 1995)
    >>> split_year("Fawlty Towers (1975-1979)")
    ('Fawlty Towers', 1975)
    >>> split_year("2001")
    ('2001', None)
    """
    found = _YEAR.search(title)
    if found is None or not title[: found.start()].strip():
        return title.strip(), None
    return title[: found.start()].strip(), int(found["year"])


def display_title(title: str) -> str:
    """The title as it is shown: article in front, other names and the year left out.

    >>> display_title("War at Home, The")
    'The War at Home'
    >>> display_title("Convent, The (Convento, O) (1995)")
    'The Convent'
    >>> display_title("Avventura, L'")
    "L'Avventura"
    >>> display_title("Paris, Texas"), display_title("(500) Days of Summer"), display_title("Me, Myself, I")
    ('Paris, Texas', '(500) Days of Summer', 'Me, Myself, I')
    >>> display_title("Birdman: Or (The Unexpected Virtue of Ignorance)")
    'Birdman: Or (The Unexpected Virtue of Ignorance)'
    """
    return _article_first(_without_brackets(title)[0])


def alternate_titles(title: str) -> list[str]:
    """The other names in brackets, each as it is shown, in their order.

    >>> alternate_titles("Convent, The (Convento, O) (1995)")
    ['O Convento']
    >>> alternate_titles("Twelve Monkeys (a.k.a. 12 Monkeys)")
    ['12 Monkeys']
    >>> alternate_titles("Heat")
    []
    """
    return [_article_first(_ALSO_KNOWN_AS.sub("", name, count=1)) for name in _without_brackets(title)[1]]


def _without_brackets(title: str) -> tuple[str, list[str]]:
    name, _ = split_year(title)
    others: list[str] = []
    while found := _BRACKETED.search(name):
        before = name[: found.start()].strip()
        if not before or _OPEN_ENDED.search(before):
            break
        if found["inside"].strip():
            others.insert(0, found["inside"].strip())
        name = before
    return name, others


def _article_first(name: str) -> str:
    found = _INVERTED.fullmatch(name.strip())
    if found is None:
        return name.strip()
    article = found["article"]
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{found['rest']}"
