"""TMDB's search for films, and the judgement which of its answers is surely a title's own.

A title is asked for as it is shown, with its year; then by its other names; then without the year, which catalogues
have wrong by one now and then. What is sent is the name and the year, nothing else. Answers come from outside: only
the fields named here are read, and each is checked.

API: https://developer.themoviedb.org/reference/search-movie
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import requests
from rapidfuzz import fuzz
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from requests_cache.backends.sqlite import SQLiteCache
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from data.titles import alternate_titles, display_title
from recsys.search import folded

TIMEOUT = (3.05, 5.0)  # seconds to connect, and between two pieces of an answer
NAMES = 3  # of a title that are asked for
ALIKE = 95.0  # edit similarity of two long names that differ by one letter
_PATH = re.compile(r"/[A-Za-z0-9]+\.(?:jpg|png)")
_NUMBER = re.compile(r"\d+|[ivxlc]+")


class RefusedError(Exception):
    """The key is not accepted: asking again is of no use."""


class BusyError(Exception):
    """Too many questions: `seconds` is how long TMDB wants to be left alone."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked to wait {seconds:g} s")
        self.seconds = seconds


class UnavailableError(Exception):
    """No answer, or none that can be understood; may be asked again."""


class Film(NamedTuple):
    """One line of an answer."""

    film_id: int
    names: tuple[str, ...]  # translated and original, folded
    year: int | None
    poster: str | None  # a path such as "/abc.jpg"


def films(answer: Any) -> list[Film]:
    """The films in an answer of /search/movie; a poster's path that is not like TMDB's is none.

    Raises:
        UnavailableError: it is no such answer.
    """
    found = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise UnavailableError("the answer is not one of TMDB's search")
    return [_film(one) for one in found if isinstance(one, dict) and isinstance(one.get("id"), int)]


def _film(one: dict[str, Any]) -> Film:
    names = (one.get("title"), one.get("original_title"))
    date, path = str(one.get("release_date") or "")[:4], one.get("poster_path")
    return Film(
        one["id"],
        tuple({_name(name) for name in names if isinstance(name, str)}),
        int(date) if re.fullmatch(r"[0-9]{4}", date) else None,
        path if isinstance(path, str) and _PATH.fullmatch(path) else None,
    )


def _name(text: str) -> str:
    return folded(text.replace("&", " and "))


def sure(found: Sequence[Film], names: Sequence[str], year: int | None) -> Film | None:
    """The one film that is surely called so and of that year (give or take one); None where two may be meant.

    The very name counts more than the very year; a name with a letter or two otherwise counts in the very year only,
    and never where a number differs. Without a year, only the very name of a single film will do.

    >>> heat = Film(1, ("heat",), 1995, "/a.jpg")
    >>> sure([heat, Film(2, ("heat",), 1986, "/b.jpg")], ["Heat"], 1995).film_id
    1
    >>> sure([heat, Film(2, ("heat",), 1986, "/b.jpg")], ["Heat"], None), sure([heat], ["Heat"], 1999)
    (None, None)
    """
    wanted = [_name(name) for name in names]
    ranked: dict[int, tuple[bool, int]] = {}
    for film in found:
        off = 0 if year is None else 2 if film.year is None else abs(film.year - year)
        exact = any(name in wanted for name in film.names)
        if off <= 1 and (exact or (year is not None and off == 0 and _alike(film.names, wanted))):
            ranked[film.film_id] = (not exact, off)
    best = [film_id for film_id, rank in ranked.items() if rank == min(ranked.values())]
    return next(film for film in found if film.film_id == best[0]) if len(best) == 1 else None


def _alike(names: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(
        fuzz.ratio(one, other, score_cutoff=ALIKE) > 0 and _numbers(one) == _numbers(other)
        for one in names
        for other in wanted
    )


def _numbers(name: str) -> list[str]:
    return [word for word in name.split() if _NUMBER.fullmatch(word)]


class Search:
    """TMDB's search with a memory on disk: what was answered once, also with nothing, is not asked for again.

    Args:
        key: a v3 API key, or a v4 read access token, which has dots.
        address: of the API's version 3, such as "https://api.themoviedb.org/3".
        kept: how long an answer holds.
        cache: file where answers are kept, without the key; None: in memory.
        before: called before each question that really leaves; may wait.

    Raises:
        sqlite3.Error: the cache cannot be opened.
    """

    def __init__(
        self, key: str, address: str, kept: timedelta, cache: Path | None, before: Callable[[], None] = lambda: None
    ) -> None:
        self._address = address.rstrip("/")
        # JSON: a cache of pickles would run what somebody else wrote into it.
        backend = "memory" if cache is None else SQLiteCache(cache, serializer="json", wal=True)
        self._session = CachedSession(backend=backend, expire_after=kept, filter_fn=_is_answer)
        try:
            self._session.cache.delete(expired=True)
        except sqlite3.Error:
            self._session.close()
            raise
        self._session.headers["Accept"] = "application/json"
        if "." in key:
            self._session.headers["Authorization"] = f"Bearer {key}"
        else:
            self._session.params = {"api_key": key}
        gated = _Gated(before)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, gated)

    def poster(self, listed: str, year: int | None) -> str | None:
        """Path of the poster that is surely of the title; None when there is none.

        Args:
            listed: the title as its catalogue lists it, other names in brackets.

        Raises:
            RefusedError, BusyError, UnavailableError: see there.
        """
        names = [name for name in (display_title(listed), *alternate_titles(listed)) if folded(name)][:NAMES]
        for query, of_year in _questions(names, year):
            film = sure(self.films(query, of_year), names, year)
            if film is not None:
                return film.poster
        return None

    def films(self, query: str, year: int | None) -> list[Film]:
        """One question, answered from the cache if it can be.

        Raises:
            RefusedError, BusyError, UnavailableError: see there.
        """
        asked = {"query": query, "include_adult": "false"} | ({} if year is None else {"year": str(year)})
        try:
            answer = self._session.get(
                f"{self._address}/search/movie", params=asked, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as failure:  # whose text holds the address, and that the key
            raise UnavailableError(type(failure).__name__) from None
        if answer.status_code in (401, 403):
            raise RefusedError(str(answer.status_code))
        if answer.status_code == 429:
            raise BusyError(_seconds(answer.headers.get("Retry-After")))
        if answer.status_code == 422:  # these words are no question to TMDB
            return []
        if answer.status_code != 200:
            raise UnavailableError(f"status {answer.status_code}")
        return films(_json(answer))


def _questions(names: Sequence[str], year: int | None) -> Iterator[tuple[str, int | None]]:
    for name in names:
        yield name, year
    if year is not None and names:
        yield names[0], None


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _is_answer(answer: requests.Response) -> bool:
    """Whether it may be kept: a proxy's page of its own may come with status 200 too."""
    return isinstance(_json(answer), dict) and "results" in answer.json()


def _seconds(retry_after: str | None) -> float:
    """What Retry-After asks for: seconds or a date; a moment when it says nothing that can be read."""
    try:
        return min(max(Retry().parse_retry_after(retry_after or "1"), 1.0), 3600.0)
    except (InvalidHeader, ValueError, OverflowError):
        return 1.0


class _Gated(HTTPAdapter):
    """Calls `before` ahead of each request that the cache could not answer."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__()
        self._before = before

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        self._before()
        return super().send(*args, **kwargs)
