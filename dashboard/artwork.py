"""Real posters over the drawn ones, where MARQUEE_TMDB_KEY is set; without it nothing is asked and nothing imported.

Pages never wait: a title that nobody asked TMDB about yet is put into a queue, threads ask for it (dashboard/tmdb.py),
and what they found is there at the next draw, or sooner where a page has `late`. All sessions share one queue.

Browsers load the images from TMDB's own servers, which deliver them near to everybody and scaled, and whose terms ask
for no copy; so only addresses are kept here. The browser is told to send no referrer along.
"""

import html
import logging
import os
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from dashboard import logbook
from dashboard.inline import component
from data import home
from data.schema import TITLE, YEAR

if TYPE_CHECKING:
    from dashboard.tmdb import Search

KEY, ADDRESS, IMAGES = "MARQUEE_TMDB_KEY", "MARQUEE_TMDB_URL", "MARQUEE_TMDB_IMAGES"
DEFAULT_ADDRESS = "https://api.themoviedb.org/3"
DEFAULT_IMAGES = "https://image.tmdb.org/t/p/w342"
# TMDB's terms want these words.
ATTRIBUTION = "This product uses the TMDB API but is not endorsed or certified by TMDB."
KEPT = timedelta(days=30)  # what TMDB answered; its terms allow six months
THREADS, PER_SECOND = 4, 30  # TMDB allows about 40 in a second
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0  # seconds after a failure, twice as long after each further one
ASKS = 16  # times that a page asks for late posters, further and further apart

_log = logging.getLogger("dashboard")
Named = tuple[str, int | None]  # a title as it is listed, and its year


def addresses(catalogue: pd.DataFrame, item_ids: Sequence[str]) -> dict[str, str]:
    """Where the real posters of titles are, by item_id; titles without one, or not asked for yet, are left out.

    Args:
        catalogue: see recsys.viewing.read_catalogue.
    """
    desk = _desk()
    return {} if desk is None else _known(desk, catalogue, item_ids)[0]


def _known(desk: "Desk", catalogue: pd.DataFrame, item_ids: Sequence[str]) -> tuple[dict[str, str], int]:
    """The addresses, and how many titles are still waited for."""
    at = catalogue.index.get_indexer(pd.Index(item_ids, dtype=object))
    there = catalogue.iloc[at[at >= 0]]
    named = [
        (str(title), None if year != year else int(year))
        for title, year in zip(there[TITLE], there[YEAR].astype(float), strict=True)
    ]
    found = desk.find(named)
    known = {
        str(item_id): address
        for item_id, name in zip(there.index, named, strict=True)
        if (address := found.get(name)) is not None
    }
    return known, sum(name not in found for name in set(named))


def is_on() -> bool:
    """Whether real posters are asked for."""
    desk = _desk()
    return desk is not None and not desk.refused


def attribution() -> None:
    """The words that TMDB wants to be seen where its posters are."""
    if is_on():
        st.caption(ATTRIBUTION)


def over(known: Mapping[str, str], item_id: str) -> str:
    """HTML of a title's real poster, to be laid over the drawn one, or of the place for one that comes late.

    An image that does not come shows nothing, since it has no other text, so the drawn poster stays.

    Args:
        known: see `addresses`.
    """
    address = html.escape(known.get(item_id, ""), quote=True)
    if address:
        return f'<img class="real" src="{address}" alt="" loading="lazy" referrerpolicy="no-referrer">'
    return f'<i class="late" data-id="{html.escape(item_id, quote=True)}" hidden></i>' if is_on() else ""


@st.fragment
def late(catalogue: pd.DataFrame, item_ids: Sequence[str], key: str) -> None:
    """Lay the posters of a page's titles that become known while it stands; draws nothing itself.

    The browser asks for them, further and further apart, and only this fragment runs: nothing of the page is drawn
    again.
    """
    desk = _desk()
    if desk is None:
        return
    asked = int(getattr(st.session_state.get(key), "asked", None) or 0)
    known, waiting = _known(desk, catalogue, item_ids)
    if not waiting and not asked:
        return
    seconds = min(0.7 * 1.5**asked, 15.0) if waiting and asked < ASKS else 0.0
    component("late")(
        key=key,
        data={"posters": known, "asked": asked, "seconds": seconds},
        on_asked_change=lambda: None,
    )


class Gate:
    """Lets `per_second` callers through in a second, and none while it is closed."""

    def __init__(self, per_second: float) -> None:
        self._lock, self._interval, self._opens_at = threading.Lock(), 1 / per_second, 0.0

    def wait(self) -> None:
        while True:
            with self._lock:
                pause = self._opens_at - time.monotonic()
                if pause <= 0:
                    self._opens_at = time.monotonic() + self._interval
                    return
            time.sleep(pause)

    def close(self, seconds: float) -> None:
        """Let nobody through for so long, or longer where it was closed for longer."""
        with self._lock:
            self._opens_at = max(self._opens_at, time.monotonic() + seconds)


class Desk:
    """Titles that are asked for, and what is known of them; shared by all sessions.

    Args:
        key, address: see dashboard.tmdb.Search.
        images: what a poster's path follows.
        cache: file of answers; unless it can be used, they are kept in memory only.
    """

    def __init__(self, key: str, address: str, images: str, cache: Path) -> None:
        self._key, self._address, self._images, self._cache = key, address, images.rstrip("/"), cache
        self._lock = threading.Lock()  # of all that follows
        self._known: dict[Named, tuple[str | None, float]] = {}  # path, and when it was learnt
        self._asked: set[Named] = set()  # in the queue, or with a thread
        self._queue: queue.SimpleQueue[Named] = queue.SimpleQueue()
        self._gate = Gate(PER_SECOND)
        self._pause, self._paused_until = FIRST_PAUSE, 0.0
        self._has_begun = False
        self.refused = False

    def find(self, named: Sequence[Named]) -> dict[Named, str | None]:
        """Address of each title's poster, None where there is none; those left out are being asked for from now on.

        After a refusal nobody has one, and nothing is asked.
        """
        with self._lock:
            if self.refused:
                return dict.fromkeys(named)
            too_old = time.monotonic() - KEPT.total_seconds()
            for name in dict.fromkeys(named):
                if name not in self._asked and self._known.get(name, (None, too_old))[1] <= too_old:
                    self._asked.add(name)
                    self._queue.put(name)
            if self._asked and not self._has_begun:
                self._has_begun = True
                _start(self._begin)
            paths = {name: self._known[name][0] for name in named if name in self._known}
        return {name: f"{self._images}{path}" if path else None for name, path in paths.items()}

    def _begin(self) -> None:
        from dashboard.tmdb import Search

        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            search = Search(self._key, self._address, KEPT, self._cache, self._before)
        except (OSError, sqlite3.Error) as failure:
            _say(f"{self._cache} cannot be used ({failure}): TMDB's answers are kept in memory; delete the file.")
            search = Search(self._key, self._address, KEPT, None, self._before)
        for _ in range(THREADS):
            _start(self._work, search)

    def _before(self) -> None:
        """Wait for a question's turn; after a refusal no more are let out."""
        from dashboard.tmdb import RefusedError

        self._gate.wait()
        if self.refused:
            raise RefusedError

    def _work(self, search: "Search") -> None:
        from dashboard.tmdb import BusyError, RefusedError, UnavailableError

        while not self.refused:
            name = self._queue.get()
            path = None
            try:
                path = search.poster(*name)
            except RefusedError as refusal:
                self._refuse(str(refusal))
                return
            except BusyError as busy:
                self._gate.close(busy.seconds)
                self._queue.put(name)
                continue
            except (UnavailableError, sqlite3.Error) as failure:
                self._back_off(str(failure))
                self._queue.put(name)
                continue
            except Exception:  # of this title's making: the others shall have theirs
                _log.exception("The poster of %s could not be looked for", name)
            with self._lock:
                self._known[name] = (path, time.monotonic())
                self._asked.discard(name)
                self._pause = FIRST_PAUSE

    def _refuse(self, status: str) -> None:
        with self._lock:
            if self.refused:
                return
            self.refused = True
        _say(
            f"TMDB does not accept {KEY} (status {status}): posters are drawn until the dashboard is started again "
            "with a valid API key or read access token."
        )

    def _back_off(self, why: str) -> None:
        """Close the gate; what fails while it is closed was on its way already and makes it no longer."""
        with self._lock:
            now, pause = time.monotonic(), self._pause
            if now < self._paused_until:
                return
            self._paused_until, self._pause = now + pause, min(2 * pause, LONGEST_PAUSE)
            self._gate.close(pause)
        if pause == FIRST_PAUSE:
            _say(f"TMDB cannot be asked at {self._address} ({why}): posters are drawn, and it is tried again.")


def _start(work: Callable[..., None], *args: object) -> None:
    """As a daemon: whoever ends the dashboard does not wait for TMDB."""
    threading.Thread(target=work, args=args, name="posters", daemon=True).start()


def _say(sentence: str) -> None:
    _log.warning("%s", sentence)
    logbook.keep(sentence)


_making = threading.Lock()


def _desk() -> Desk | None:
    key = os.environ.get(KEY, "").strip()
    if not key:
        return None
    address, images = os.environ.get(ADDRESS) or DEFAULT_ADDRESS, os.environ.get(IMAGES) or DEFAULT_IMAGES
    with _making:
        return _made(key, address, images, home.home() / "posters.sqlite")


@cache
def _made(key: str, address: str, images: str, kept_in: Path) -> Desk | None:
    wrong = ""
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", key):
        wrong = f"{KEY} holds a sign that no key has: give TMDB's API key or read access token alone."
    for name, value in ((ADDRESS, address), (IMAGES, images)):
        if not re.match(r"https?://\w", value):
            wrong = f"{name} is '{value}': give an address that begins with https://, such as {DEFAULT_ADDRESS}."
    if wrong:
        _say(f"{wrong} Until then posters are drawn.")
        return None
    return Desk(key, address, images, kept_in)
