"""Where texts mention titles, and what stands around each mention.

A form of n words is found by the hash of n words in a row, for all texts and forms at once. Where one form lies inside
another, the longer one is meant ("Die Hard" in "Die Hard 2").
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nlp.title_names import ARTICLES, MOST_WORDS, hash_form, hash_words
from nlp.title_words import Words

# Words that a title in title case may have in small letters.
_SMALL = ARTICLES | {"of", "and", "in", "on", "to", "for", "at", "by", "with", "from", "or", "vs", "s", "t", "2"}
_AGAINST = [
    "like", "than", "as", "from", "unlike", "recall", "reminds", "reminded", "reminiscent", "remake", "remade",
    "sequel", "sequels", "prequel", "rip", "ripoff", "ripped", "off", "copy", "similar", "inspired", "spoof",
    "parody", "version", "director", "directed", "creator", "creators", "makers", "maker", "star", "starred",
    "between", "and", "or", "both", "including", "films", "movies", "classics", "such", "beyond", "after",
    "before", "since", "until", "compared", "compare", "rivals", "rival", "better", "worse", "best", "part",
    "original",
]  # fmt: skip
_SEEN = [
    "saw", "seen", "watched", "watch", "watching", "see", "viewed", "rented", "bought", "called", "titled",
    "entitled", "film", "movie", "about",
]  # fmt: skip
_LIKENED = {
    "like", "unlike", "than", "reminds", "reminded", "reminiscent", "recalls", "remake", "sequel", "prequel", "similar",
    "inspired", "spoof", "parody", "compared", "compare", "comparable", "copy", "ripoff", "echoes",
}  # fmt: skip
_IS = [
    "is", "was", "has", "tells", "stars", "takes", "opens", "begins", "follows", "concerns", "remains", "may",
    "isn", "wasn", "will", "does", "deals",
]  # fmt: skip
_MENTIONED_EARLY = 15  # words before it
_ISLAND_GAP = 10  # mentions further apart than so many texts belong to different blocks of texts


def find_forms(words: Words, forms: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """Every mention of a form: columns form (index into `forms`), first, last (word positions), ordered by first.

    A mention inside a longer one is left out, and so is one word in small letters, unless its text has no capitals.
    """
    by_length: dict[int, list[int]] = {}
    for i, form in enumerate(forms):
        by_length.setdefault(len(form), []).append(i)
    word_hash = words.hashes[words.word]
    parts = [pd.DataFrame({"form": [], "first": [], "last": []}, dtype=np.int64)]
    for n, members in by_length.items():
        if len(word_hash) < n:
            continue
        hashed = hash_words([word for i in members for word in forms[i]]).reshape(len(members), n)
        keys = hash_form(hashed)
        order = np.argsort(keys)
        keys = keys[order]
        possible = np.isin(words.hashes, hashed[:, 0])[words.word[: len(word_hash) - n + 1]]
        starts = np.flatnonzero(possible & (words.capital | words.plain) if n == 1 else possible)
        if n > 1:
            starts = starts[np.isin(words.hashes, hashed[:, 1])[words.word[starts + 1]]]
        starts = starts[words.text[starts] == words.text[starts + n - 1]]
        seen = hash_form(word_hash[starts[:, None] + np.arange(n)])
        place = np.minimum(np.searchsorted(keys, seen), len(keys) - 1)
        hit = keys[place] == seen
        found = {"form": np.array(members)[order][place[hit]], "first": starts[hit], "last": starts[hit] + n - 1}
        parts.append(pd.DataFrame(found))
    every = pd.concat(parts).sort_values(["first", "last"], ascending=[True, False], ignore_index=True)
    # In this order a mention lies inside an earlier one exactly if one of them ends where it ends or later.
    last = every["last"].to_numpy()
    inside = np.append(False, last[1:] <= np.maximum.accumulate(last)[:-1])[: len(last)]
    return every[~inside].reset_index(drop=True)


def describe(words: Words, found: pd.DataFrame) -> pd.DataFrame:
    """What stands around each mention: `found` with further columns, all bool but the first four.

    text, place (words before it), size (words), year (right after it, else 0), quoted, shouted (in capitals), titled
    (title case, not only for beginning a sentence), numbered (a number follows), extended (part of a longer name),
    against (a comparison before it), likened (the plainest: like X), watched (saw X, the film X), verb (X is), opening
    (a sentence begins with X is), article (with a capital: The X), possessive (X's), bracket (X followed by a name in
    brackets, as an actor's).
    """
    first, last = found["first"].to_numpy(), found["last"].to_numpy()
    end = max(len(words.word) - 1, 0)
    text, size = words.text[first], last - first + 1
    small, quiet = words.among(_SMALL), ~words.loud[first]
    n_proper, n_plain, n_capital, n_upper = (
        _within(flag, first, last)
        for flag in (words.capital & ~words.start, ~words.capital & ~small, words.capital, words.upper)
    )
    shouted = (n_upper == size) & quiet
    titled = (n_plain == 0) & (n_proper > 0) & quiet
    quoted = words.quote_before[first] & words.quote_after[last]
    before, after, over = np.maximum(first - 1, 0), np.minimum(last + 1, end), np.minimum(last + 2, end)
    has_before = (first > 0) & (words.text[before] == text)
    has_after = (last < end) & (words.text[after] == text)
    joined_before, joined_after = has_before & words.joined[first], has_after & words.joined[after]
    number = (words.digits & (words.letters < 3))[words.word]
    numbered = joined_after & (number | words.among(["part"]))[after]
    name_before = joined_before & words.capital[before] & ~words.start[before] & ~small[before]
    name_after = joined_after & words.capital[after] & (words.capital[last] | number[last]) & ~words.among(["i"])[after]
    # In a shouted title only shouted neighbours belong to it.
    name_before &= ~shouted | words.upper[before]
    name_after &= ~shouted | words.upper[after]
    bridge = joined_after & words.among(["of", "and", "the", "in"])[after] & words.joined[over] & words.capital[over]
    bridge &= (words.text[over] == text) & titled
    subtitle = words.colon_after[last] & has_after & words.capital[after] & (n_capital > 0)
    extended = numbered | subtitle | (~quoted & quiet & (name_before | name_after | bridge))
    against, likened, watched = np.zeros((3, len(found)), bool)
    versus, alike, seen = (words.among(some) for some in (_AGAINST, _LIKENED, _SEEN))
    for back in range(1, 5):
        position = np.maximum(first - back, 0)
        near = (first >= back) & (words.text[position] == text) & (_within(words.start, position + 1, first) == 0)
        against |= near & versus[position]
        likened |= near & alike[position] & (back <= 3)
        watched |= near & seen[position] & (back <= 2)
    verb = has_after & words.among(_IS)[after]
    article = has_before & words.capital[before] & ~words.start[before] & words.among(ARTICLES)[before]
    year = _years(words)
    year_after = np.where(has_after & (words.bracket_before[after] | joined_after), year[after] if end else 0, 0)
    return found.assign(
        text=text,
        place=words.place[first],
        size=size,
        year=year_after,
        quoted=quoted,
        shouted=shouted,
        titled=titled | (shouted & ((size > 1) | (words.letters[words.word[first]] > 3))),
        numbered=numbered,
        subtitle=subtitle,
        extended=extended,
        against=against,
        likened=likened,
        watched=watched,
        verb=verb,
        opening=words.start[first] & verb,
        article=article,
        possessive=joined_after & words.among(["s"])[after],
        bracket=has_after & words.bracket_before[after] & words.capital[after] & (year_after == 0),
    )


def _years(words: Words) -> np.ndarray:
    """Each word as a year from 1900 to 2099, else 0. Shape: (words,)."""
    value = [int(w) if len(w) == 4 and w.isdecimal() and w[:2] in ("19", "20") else 0 for w in words.vocabulary]
    return np.array(value, dtype=np.int64)[words.word]


def years_in(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Years that the texts mention, as text * 10,000 + year: all, and those of some version ("the 1995 film")."""
    year = _years(words)
    at = np.flatnonzero(year)
    after, before = np.minimum(at + 1, len(year) - 1), np.maximum(at - 1, 0)
    kinds = [
        "version",
        "adaptation",
        "film",
        "movie",
        "original",
        "classic",
        "remake",
        "miniseries",
        "production",
        "bbc",
        "tv",
    ]
    version = words.among(kinds)[after] | words.among(["the", "s", "original"])[before]
    code = words.text[at].astype(np.int64) * 10_000 + year[at]
    return np.unique(code), np.unique(code[version])


def longer_forms(words: Words, described: pd.DataFrame, forms: Sequence[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Names that begin with a form and go on with a number or a subtitle, as the texts have them: other titles."""
    longer: set[tuple[str, ...]] = set()
    goes_on = described[described["numbered"] | described["subtitle"]]
    for form, last, text in zip(goes_on["form"], goes_on["last"], goes_on["text"], strict=True):
        window = slice(last + 1, last + 5)
        following = words.vocabulary[words.word[window]][words.text[window] == text].tolist()
        numbers = 0
        while numbers < len(following) and (following[numbers].isdigit() or following[numbers] == "part"):
            numbers += 1
        longer.add((*forms[form], *following[: max(numbers, 0) or 2])[:MOST_WORDS])
    for form in forms:
        for place, word in enumerate(form):
            if word.isdecimal() and len(word) < 4:  # 102 Dalmatians is not 101 Dalmatians
                near = [int(word) + step for step in (-2, -1, 1, 2)]
                longer |= {(*form[:place], str(number), *form[place + 1 :]) for number in near if number > 0}
    return longer - set(forms)


def summarise(described: pd.DataFrame, n_forms: int) -> pd.DataFrame:
    """One row for each text and form: counts and flags over its mentions, ordered by text and form.

    Columns: text, form, place (first), size, year, mentions (not extended), good (of them in quotes, capitals or title
    case), quoted, free (good without a comparison), apart (good, not likened), extended (counts); opening, early,
    watched, verb, shouted, article, possessive, bracket (any good mention, 0 or 1); islands and plain_islands: of the
    form, over all texts, in how many separate places good or other mentions occur.
    """
    d = described
    whole = ~d["extended"]
    good = whole & (d["titled"] | d["quoted"])
    flags = {name: good & d[name] for name in ("opening", "watched", "verb", "shouted", "article", "possessive")}
    flags |= {"bracket": good & d["bracket"], "early": good & (d["place"] < _MENTIONED_EARLY)}
    sums = {"mentions": whole, "good": good, "quoted": whole & d["quoted"], "free": good & ~d["against"]}
    sums["apart"] = good & ~d["likened"]
    sums["extended"] = d["extended"]
    kept = d[["text", "form", "place", "size", "year"]].assign(**{k: v.astype(int) for k, v in (sums | flags).items()})
    how = {"place": "min", "size": "max", "year": "max"} | dict.fromkeys(sums, "sum") | dict.fromkeys(flags, "max")
    pairs = kept.groupby(["text", "form"], sort=True).agg(how).reset_index()
    for name, some in (
        ("islands", pairs["good"] > 0),
        ("plain_islands", (pairs["good"] == 0) & (pairs["mentions"] > 0)),
    ):
        order = pairs[some].sort_values(["form", "text"])
        new = (order["form"].diff() != 0) | (order["text"].diff() > _ISLAND_GAP)
        pairs[name] = np.bincount(order["form"][new].astype(int), minlength=max(n_forms, 1))[pairs["form"].astype(int)]
    return pairs


def _within(flag: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """How many flags are set from `first` to `last`, both included."""
    total = np.append(0, np.cumsum(flag))
    return total[np.minimum(last + 1, len(flag))] - total[np.minimum(first, len(flag))]
