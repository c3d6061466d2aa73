"""From the values of a user's file, text or typed, to ours: ids, numbers, kinds, labels, genres (times: `data.times`).

Every reader takes an Arrow array and returns a `Read`: the values, where they could not be understood, and what to say
of those. An empty text is a missing value; so are `NULL`, `\\N`, `None` and `NA` where a number or a time is expected.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import schema
from data.errors import UserError
from data.movielens import NO_GENRE
from data.titles import split_year

_MISSING = pa.array(["", "NULL", "null", "\\N", "None", "NA", "N/A", "n/a"])
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA_NUMBER = r"^[+-]?\d+,\d+$"


_REPEATED = 4  # times that each text occurs on average, or more: then it pays to look at each once


class Read(NamedTuple):
    values: pa.Array
    bad: np.ndarray  # (rows,) bool: there is a value, but none that can be understood
    complaint: str  # "is not a number"


def plain(array: pa.Array, name: str) -> pa.Array:
    """The array without dictionary encoding; text as `string`.

    Raises:
        UserError: the column holds structures or bytes, which are no values of a table.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise UserError(f"Column '{name}' holds {kind} values: write it as text, numbers or times.")
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return array.cast(pa.string())
    return array


def text(array: pa.Array) -> pa.Array:
    """Text without spaces around it; null where nothing is left."""
    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    content = _content(array)
    if not content.isascii() or any(space in content for space in (b" ", b"\t", b"\n")):
        array = pc.utf8_trim_whitespace(array)
    if len(array) > array.null_count and pc.min(pc.binary_length(array)).as_py() == 0:
        array = pc.if_else(pc.equal(pc.binary_length(array), 0), None, array)
    return array


def _content(array: pa.Array) -> bytes:
    """All characters of a text array in one, to learn cheaply that none of them needs care."""
    buffer = array.buffers()[2]
    return b"" if buffer is None else buffer.to_pybytes()


def repeated(array: pa.Array) -> pa.Array:
    """Text as it is, or dictionary-encoded where the texts occur several times each, as ids of events do."""
    if not pa.types.is_string(array.type) or not len(array):
        return array
    if _REPEATED * len(array[: len(array) // 16].unique()) > len(array) // 16:  # a look at the first
        return array
    encoded = array.dictionary_encode()
    return encoded if _REPEATED * len(encoded.dictionary) <= len(array) else array


def decoded(rows: pa.Table) -> pa.Table:
    """The table with text as text: nothing dictionary-encoded."""
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in rows.schema]
    return rows.cast(pa.schema([field.with_type(kind) for field, kind in zip(rows.schema, kinds, strict=True)]))


@dataclass
class Ids:
    """Ids are text as they stand. Whole numbers that a column of fractions holds lose their `.0`.

    Texts that occur often come dictionary-encoded.
    """

    name: str
    notes: list[str]
    strip_fraction: bool | None = None  # decided by the first values

    def __call__(self, array: pa.Array) -> Read:
        array = plain(array, self.name)
        if pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
            array = self._from_numbers(array.cast(pa.float64()))
        encoded = repeated(array)
        if not pa.types.is_dictionary(encoded.type):
            return self._read(array)
        each = self._read(encoded.dictionary)
        bad = np.zeros(len(array), bool)
        if each.bad.any():
            bad = np.asarray(pa.array(each.bad).take(encoded.indices).fill_null(False))
        if each.values.null_count or len(each.values.unique()) < len(each.values):  # some are nothing, or alike, now
            return Read(each.values.take(encoded.indices), bad, each.complaint)
        return Read(pa.DictionaryArray.from_arrays(encoded.indices, each.values), bad, each.complaint)

    def _read(self, array: pa.Array) -> Read:
        array = text(array)
        content = _content(array)
        if b"\\N" in content:
            array = pc.if_else(pc.equal(array, "\\N"), None, array)
        if self.strip_fraction is None and len(array) > array.null_count:
            self.strip_fraction = bool(pc.all(pc.match_substring_regex(array, r"^\d+\.0$")).as_py())
            if self.strip_fraction:
                self.notes.append(
                    f"'{self.name}' holds whole numbers such as {array.drop_null()[0]}: read without '.0'"
                )
        if self.strip_fraction:
            array = pc.replace_substring_regex(array, r"^(\d+)\.0$", r"\1")
        broken = np.zeros(len(array), bool)
        if b"\n" in content:
            broken = np.asarray(pc.match_substring(array, "\n").fill_null(False))
        return Read(array, broken, "holds a line break")

    @staticmethod
    def _from_numbers(array: pa.Array) -> pa.Array:
        numbers = array.to_numpy(zero_copy_only=False)
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53)
        integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
        others = pc.if_else(pa.array(np.isnan(numbers)), None, array.cast(pa.string()))
        return pc.if_else(pa.array(whole), integers, others)


def numbers(array: pa.Array, name: str, *, decimal_comma: bool = False) -> Read:
    """Finite numbers as float64. `decimal_comma` also reads `3,5`."""
    array = plain(array, name)
    complaint = "is not a finite number"
    if not pa.types.is_string(array.type):
        try:
            values = array.cast(pa.int8()) if pa.types.is_boolean(array.type) else array
            values = values.cast(pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise UserError(f"Column '{name}' holds {array.type} values where numbers are expected.") from None
        values = pc.if_else(pc.is_nan(values), None, values)  # pandas writes a missing number as NaN
        infinite = np.asarray(pc.is_inf(values).fill_null(False))
        return Read(null_where(values, infinite), infinite, complaint)
    try:
        values = array.cast(pa.float64())
    except pa.ArrowInvalid:
        array = present(array)
        if decimal_comma:
            swapped = pc.replace_substring(array, ",", ".")
            array = pc.if_else(pc.match_substring_regex(array, _COMMA_NUMBER), swapped, array)
        values = pc.if_else(pc.match_substring_regex(array, _NUMBER), array, None).cast(pa.float64())
    finite = pc.is_finite(values)
    values = values if pc.all(finite).as_py() is not False else pc.if_else(finite, values, None)
    bad = np.asarray(pc.and_(array.is_valid(), values.is_null()))
    return Read(values, bad, complaint)


def present(array: pa.Array) -> pa.Array:
    """Text without spaces around it; null where nothing is left or a word says that there is nothing."""
    array = text(array)
    missing = pc.is_in(array, _MISSING)
    return pc.if_else(missing, None, array) if pc.any(missing).as_py() else array


def null_where(values: pa.Array, mask: np.ndarray) -> pa.Array:
    """The values, null where `mask` is true."""
    return pc.if_else(pa.array(mask), None, values) if mask.any() else values


_KIND_WORDS: dict[str, str] = {
    "rating": "rating rate rated stars score review",
    "watch": "watch watched watching view viewed viewing play played playing playback stream streamed start started "
    "complete completed finish finished consume consumed",
    "thumb_up": "thumbup thumbsup like liked love loved upvote favorite favourite favorited favourited positive",
    "thumb_down": "thumbdown thumbsdown dislike disliked hate hated downvote negative",
    "list_add": "listadd addtolist addedtolist watchlist watchlistadd addtowatchlist bookmark bookmarked save saved "
    "wishlist addtocart",
    "list_remove": "listremove removefromlist removedfromlist watchlistremove removefromwatchlist unbookmark unsave "
    "removefromcart",
    "click": "click clicked open opened select selected tap tapped detail details pageview",
    "impression": "impression impressed shown show displayed display seen recommended",
}
_KINDS = {word: kind for kind, words in _KIND_WORDS.items() for word in words.split()}


def kinds(array: pa.Array, name: str) -> Read:
    """Kinds of event from their usual spellings; null where there is none."""
    return _by_word(present(plain(array, name).cast(pa.string())), lambda word: _KINDS.get(word), "is no known kind")


@dataclass
class Labels:
    """Sentiment labels from words or from the usual numbers; which numbers is decided by the first values."""

    name: str
    notes: list[str]
    scale: dict[str, str] = field(default_factory=dict)

    def __call__(self, array: pa.Array) -> Read:
        array = plain(array, self.name)
        array = present(array if pa.types.is_string(array.type) else numbers(array, self.name).values.cast(pa.string()))
        if not self.scale and len(array) > array.null_count:
            found = {_whole(value.as_py()) for value in array.drop_null().unique()}
            for scale in _SCALES:
                if len(found) > 0 and found <= set(scale):
                    self.scale = scale
                    said = ", ".join(f"{number} as {label}" for number, label in scale.items())
                    self.notes.append(f"'{self.name}' holds numbers, read as labels: {said}")
                    break
            else:
                self.scale = _LABEL_WORDS
        return _by_word(array, self.scale.get, f"is no label ({', '.join(schema.LABELS)})")


_LABEL_WORDS = {
    **dict.fromkeys(("negative", "neg", "bad", "rotten", "n"), "negative"),
    **dict.fromkeys(("neutral", "neu", "mixed"), "neutral"),
    **dict.fromkeys(("positive", "pos", "good", "fresh", "p"), "positive"),
}
_SCALES: tuple[dict[str, str], ...] = (
    {"0": "negative", "1": "positive"},
    {"-1": "negative", "0": "neutral", "1": "positive"},
    {"0": "negative", "1": "neutral", "2": "positive"},
    {"0": "negative", "2": "neutral", "4": "positive"},
)


def _whole(value: str) -> str:
    return re.sub(r"\.0+$", "", value.strip().lower())


def _by_word(array: pa.Array, lookup: Any, complaint: str) -> Read:
    encoded = array.dictionary_encode()
    found = []
    for word in encoded.dictionary.to_pylist():
        value = lookup(_whole(word))
        found.append(value if value is not None else lookup(re.sub(r"[\W_]+", "", word.lower())))
    values = pa.array(found, pa.string()).take(encoded.indices)
    return Read(values, np.asarray(pc.and_(array.is_valid(), values.is_null())), complaint)


def genres(array: pa.Array, parted_by_space: bool = False) -> pa.Array:
    """Lists of genres from lists, `A|B`, `A; B`, `A, B` or JSON; what only says that there is none is dropped."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    lists = [_genre_list(value, parted_by_space) for value in array.to_pylist()]
    return pa.array(lists, pa.list_(pa.string()))


def _genre_list(value: Any, parted_by_space: bool) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        names = _parted(value.strip(), parted_by_space)
    else:
        names = value if isinstance(value, list | tuple) else [value]
    named = (name.get("name", "") if isinstance(name, Mapping) else name for name in names)
    cleaned = (str(name).strip() for name in named if name is not None)
    return list(dict.fromkeys(name for name in cleaned if name not in NO_GENRE and name != "\\N"))


def _parted(value: str, parted_by_space: bool) -> Sequence[Any]:
    if value.startswith("["):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list):
                return found
    separator = next((s for s in "|;," if s in value), " " if parted_by_space else None)
    return value.split(separator) if separator else [value]


def genre_flags(columns: Mapping[str, pa.Array]) -> pa.Array:
    """Lists of genres from a column of zeros and ones for each."""
    names = [name for name in columns if name not in NO_GENRE]
    flags = np.column_stack([np.asarray(pc.equal(text(columns[name]), "1").fill_null(False)) for name in names])
    return pa.array([[names[i] for i in np.flatnonzero(row)] for row in flags], pa.list_(pa.string()))


def years(array: pa.Array, name: str) -> pa.Array:
    """The year in a year, a date or a text such as `01-Jan-1995`; null where there is none."""
    array = plain(array, name)
    if pa.types.is_temporal(array.type):
        return pc.year(array).cast(pa.float64())
    found = pc.extract_regex(array.cast(pa.string()), r"(?:^|\D)(?P<year>1[89]\d\d|2[01]\d\d)(?:\D|$)")
    return pc.struct_field(found, "year").cast(pa.float64())


def titles_and_years(titles: pa.Array, year: pa.Array | None) -> tuple[pa.Array, pa.Array]:
    """Titles without their year, and the year: the column's where it has one, else the title's.

    A year in the title that is far from the column's belongs to the title. One year apart is the same film elsewhere.
    """
    known = year.to_pylist() if year is not None else [None] * len(titles)
    kept, found = [], []
    for title, own in zip(titles.to_pylist(), known, strict=True):
        name, inside = split_year(title) if title else (title, None)
        is_its_year = inside is not None and (own is None or abs(own - inside) <= 1)
        kept.append(name if is_its_year else title)
        found.append(own if own is not None or inside is None else float(inside))
    return pa.array(kept, pa.string()), pa.array(found, pa.float64())


def imdb_ids(array: pa.Array, name: str) -> pa.Array:
    """`tt0114709` from itself, from `114709` or from an address; null where there is none."""
    array = plain(array, name)
    if pa.types.is_floating(array.type):
        array = array.cast(pa.int64(), safe=False)
    array = array.cast(pa.string())
    digits = pc.struct_field(pc.extract_regex(array, r"^\s*(?:.*\btt)?(?P<digits>\d{1,10})(?:\D.*)?$"), "digits")
    return pc.binary_join_element_wise("tt", pc.utf8_lpad(digits, 7, "0"), "")
