"""Real posters: only a film that is surely meant, each title asked for once, and TMDB's troubles stay TMDB's.

TMDB is a server on this machine (tmdb_server.py).
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tmdb_server import KEY, TOKEN, TmdbServer, film

from dashboard import artwork, shelf
from dashboard.artwork import Desk, Named
from dashboard.tmdb import RefusedError, Search, UnavailableError, films, sure
from data.dataset import Dataset
from recsys.pages import Row
from recsys.rows import cards
from recsys.viewing import read_catalogue

HEAT = film(1, "Heat", "1995-12-15")
OLD_HEAT = film(2, "Heat", "1986-11-14")
MONTH = timedelta(days=30)


@pytest.fixture
def server() -> Iterator[TmdbServer]:
    with TmdbServer(HEAT, OLD_HEAT) as started:
        yield started


@pytest.fixture
def desk(server: TmdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    """Makes a desk, as a start of the dashboard does; all of them share one file of answers."""
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))

    def make(key: str = KEY, api: str = "") -> Desk:
        return Desk(key, api or server.api, server.images, tmp_path / "posters.sqlite")

    return make


def answered(desk: Desk, *named: Named, seconds: float = 10.0) -> list[str | None]:
    """What is known once everything is; a page would have been drawn again meanwhile."""
    deadline = time.monotonic() + seconds
    while len(found := desk.find(named)) < len(set(named)):
        assert time.monotonic() < deadline, f"only {found} after {seconds} s"
        time.sleep(0.01)
    return [found[name] for name in named]


def waits_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Which film it is ----------------------------------------------------------------------------------------------------


def chosen(found: Sequence[dict[str, Any]], names: Sequence[str], year: int | None) -> int | None:
    one = sure(films({"results": list(found)}), names, year)
    return None if one is None else one.film_id


def test_the_year_tells_films_of_one_name_apart() -> None:
    assert chosen([OLD_HEAT, HEAT], ["Heat"], 1995) == 1
    assert chosen([OLD_HEAT, HEAT], ["Heat"], 1986) == 2
    assert chosen([OLD_HEAT, HEAT], ["Heat"], 1996) == 1  # catalogues are wrong by one now and then
    assert chosen([OLD_HEAT, HEAT], ["Heat"], 1998) is None


@pytest.mark.parametrize(
    ("found", "names", "year"),
    [
        ([HEAT, film(3, "Heat", "1995-03-01")], ["Heat"], 1995),  # two of one name and year
        ([film(3, "Heat", "1994-03-01"), film(4, "Heat", "1996-03-01")], ["Heat"], 1995),
        ([HEAT, OLD_HEAT], ["Heat"], None),
        ([film(3, "Bloodsport III", "1996-01-01")], ["Bloodsport II"], 1996),
        ([film(3, "Police Story 3: Super Cop", "1992-01-01")], ["Police Story 4: Super Cop"], 1992),
        ([film(3, "The Making of Heat", "1995-01-01")], ["Heat"], 1995),
        ([film(3, "Heat", "")], ["Heat"], 1995),
        ([film(3, "Sleepless in Seattle", "1994-06-24")], ["Sleepless in Seatle"], 1993),  # alike, in another year
    ],
)
def test_a_doubt_is_no(found: list[dict[str, Any]], names: list[str], year: int | None) -> None:
    assert chosen(found, names, year) is None


@pytest.mark.parametrize(
    ("title", "original", "names", "year"),
    [
        ("Amelie", "Le Fabuleux Destin d'Amélie Poulain", ["Amélie"], 2001),
        ("The Double Life of Véronique", "La Double Vie de Véronique", ["La double vie de Veronique"], 1991),
        ("Sleepless in Seattle", "Sleepless in Seattle", ["Sleepless in Seatle"], 1993),
        ("Harry & Tonto", "Harry & Tonto", ["Harry and Tonto"], 1974),
        ("Heat", "Heat", ["Heat"], None),
    ],
)
def test_spelling_accents_and_the_original_name_do_not_matter(
    title: str, original: str, names: list[str], year: int | None
) -> None:
    assert chosen([film(7, title, f"{year or 1995}-06-01", original_title=original)], names, year) == 7


@pytest.mark.parametrize(
    "path",
    [
        "/../../secret.png",
        "//evil.example/a.png",
        "https://evil.example/a.png",
        '/a.png"onload="alert(1)',
        "/a.svg",
        "/a.png\n",
        "/a.png?x=1",
        "",
        5,
        None,
    ],
)
def test_a_poster_path_that_is_not_like_tmdbs_is_none(path: Any) -> None:
    answer = {"results": [HEAT | {"poster_path": path}]}
    assert films(answer)[0].poster is None


@pytest.mark.parametrize("answer", [None, [], "x", {"results": {}}, {"status_code": 11}])
def test_what_is_no_answer_is_said(answer: Any) -> None:
    with pytest.raises(UnavailableError):
        films(answer)


def test_lines_with_wrong_types_do_no_harm() -> None:
    wrong = [3, {}, {"id": "1"}, {"id": 9, "title": 5, "original_title": None, "release_date": 1995}]
    assert chosen([*wrong, HEAT], ["Heat"], 1995) == 1


# Asking --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, TOKEN])
def test_name_and_year_are_all_that_is_sent(server: TmdbServer, tmp_path: Path, key: str) -> None:
    search = Search(key, server.api, MONTH, tmp_path / "c.sqlite")
    assert search.poster("Heat", 1995) == "/p1.png"
    assert server.asked == [{"query": "Heat", "year": "1995", "include_adult": "false"}]
    assert ("Authorization" in server.headers[0]) == (key == TOKEN)
    for file in tmp_path.glob("c.sqlite*"):
        assert key.encode() not in file.read_bytes()


def test_other_names_are_asked_for_and_then_no_year(server: TmdbServer, tmp_path: Path) -> None:
    server.films.append(film(5, "The Double Life of Véronique", "1991-05-15"))
    server.films.append(film(6, "The Convent", "1994-01-01"))
    search = Search(KEY, server.api, MONTH, tmp_path / "c.sqlite")
    listed = "Double vie de Véronique, La (Double Life of Veronique, The)"
    assert search.poster(listed, 1991) == "/p5.png"
    assert [one["query"] for one in server.asked] == ["La Double vie de Véronique", "The Double Life of Veronique"]
    server.asked.clear()
    assert search.poster("Convent, The (Convento, O)", 1995) == "/p6.png"
    assert [(one["query"], one.get("year")) for one in server.asked] == [
        ("The Convent", "1995"),
        ("O Convento", "1995"),
        ("The Convent", None),
    ]


def test_a_page_of_a_proxy_is_no_answer_and_not_kept(server: TmdbServer, tmp_path: Path) -> None:
    search = Search(KEY, server.api, MONTH, tmp_path / "c.sqlite")
    server.answers += [(200, {}, b"<html>Sign in</html>"), (200, {}, b"[]")]
    for _ in range(2):
        with pytest.raises(UnavailableError):
            search.poster("Heat", 1995)
    assert search.poster("Heat", 1995) == "/p1.png"


def test_an_answer_holds_for_as_long_as_it_is_kept(server: TmdbServer, tmp_path: Path) -> None:
    search = Search(KEY, server.api, timedelta(seconds=1), tmp_path / "c.sqlite")
    for _ in range(2):
        assert search.poster("Heat", 1995) == "/p1.png"
    assert len(server.asked) == 1
    time.sleep(2.1)
    assert search.poster("Heat", 1995) == "/p1.png"
    assert len(server.asked) == 2


def test_an_error_tells_nothing_of_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnavailableError) as failure:
        Search(KEY, "http://127.0.0.1:9/3", MONTH, tmp_path / "c.sqlite").poster("Heat", 1995)
    assert KEY not in f"{failure.value!r} {failure.getrepr(style='long')} {caplog.text}"


# All sessions at one desk --------------------------------------------------------------------------------------------


def test_found_or_not_a_restart_asks_nothing_again(server: TmdbServer, desk: Callable[..., Desk]) -> None:
    named = [("Heat", 1995), ("Nowhere", 1990), ("Heat", 1986)]
    first = desk()
    assert first.find(named) == {}  # no page waits
    assert answered(first, *named) == [f"{server.images}/p1.png", None, f"{server.images}/p2.png"]
    questions = len(server.asked)
    assert questions == 4  # the one that is nowhere once more without its year
    assert answered(first, *named) == answered(desk(), *named)
    assert len(server.asked) == questions


def test_sessions_at_once_ask_once(server: TmdbServer, desk: Callable[..., Desk]) -> None:
    server.films += [film(100 + i, f"Film {i}", "1990-01-01") for i in range(8)]
    named = [(f"Film {i}", 1990) for i in range(8)]
    shared, found = desk(), []
    sessions = [threading.Thread(target=lambda: found.append(answered(shared, *named))) for _ in range(12)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    assert found == [[f"{server.images}/p{100 + i}.png" for i in range(8)]] * 12
    assert sorted(one["query"] for one in server.asked) == [name for name, _ in named]


def test_no_more_questions_in_a_second_than_allowed(server: TmdbServer, desk: Callable[..., Desk]) -> None:
    server.films += [film(100 + i, f"Film {i}", "1990-01-01") for i in range(12)]
    started = time.monotonic()
    answered(desk(), *[(f"Film {i}", 1990) for i in range(12)])
    assert time.monotonic() - started >= 11 / artwork.PER_SECOND


def test_a_bad_key_is_told_once_and_nothing_more_is_asked(
    server: TmdbServer, desk: Callable[..., Desk], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RefusedError):
        Search("no-key", server.api, MONTH, None).poster("Heat", 1995)
    server.asked.clear()
    refused = desk(key="no-key")
    named = [("Heat", year) for year in range(1900, 1960)]
    assert answered(refused, *named) == [None] * 60
    questions = len(server.asked)
    assert questions <= 2  # one more may have been on its way
    assert answered(refused, ("Heat", 1995)) == [None]
    time.sleep(0.3)
    assert len(server.asked) == questions
    said = (tmp_path / "dashboard.log").read_text()
    assert said.count("\n") == 1
    assert "TMDB does not accept MARQUEE_TMDB_KEY (status 401)" in said
    assert "no-key" not in said
    assert caplog.text.count("does not accept") == 1


def test_when_tmdb_wants_to_be_left_alone_it_is(server: TmdbServer, desk: Callable[..., Desk]) -> None:
    server.answers.append((429, {"Retry-After": "2"}, b'{"status_code": 25}'))
    shared, started = desk(), time.monotonic()
    shared.find([("Heat", 1995)])
    waits_for(lambda: server.asked)
    shared.find([("Heat", 1986)])
    time.sleep(1.0)
    assert len(server.asked) == 1
    assert answered(shared, ("Heat", 1995), ("Heat", 1986)) == [f"{server.images}/p{n}.png" for n in (1, 2)]
    assert time.monotonic() - started >= 2


def test_a_server_that_is_down_is_not_flooded_and_found_again(
    server: TmdbServer, desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artwork, "FIRST_PAUSE", 0.4)
    server.answers += [(503, {}, b"") for _ in range(3)]
    shared, started = desk(), time.monotonic()
    named = [("Heat", 1995), ("Heat", 1986)] + [("Nowhere", year) for year in range(1900, 1930)]
    assert shared.find(named) == {}
    waits_for(lambda: len(server.asked) == 3)
    assert time.monotonic() - started >= 0.4 + 0.8
    assert answered(shared, *named[:2]) == [f"{server.images}/p{n}.png" for n in (1, 2)]
    said = (tmp_path / "dashboard.log").read_text()
    assert said.count("TMDB cannot be asked") == 1
    assert "status 503" in said


def test_where_nobody_answers_the_pages_do_not_wait(desk: Callable[..., Desk], tmp_path: Path) -> None:
    shared, started = desk(api="http://127.0.0.1:9/3"), time.monotonic()
    for _ in range(100):
        assert shared.find([("Heat", 1995)]) == {}
    assert time.monotonic() - started < 0.5
    waits_for(lambda: (tmp_path / "dashboard.log").exists())
    assert "ConnectionError" in (tmp_path / "dashboard.log").read_text()
    assert KEY not in (tmp_path / "dashboard.log").read_text()


def test_a_damaged_file_of_answers_is_told(server: TmdbServer, desk: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "posters.sqlite").write_bytes(b"no database " * 1000)
    assert answered(desk(), ("Heat", 1995)) == [f"{server.images}/p1.png"]
    assert "posters.sqlite cannot be used" in (tmp_path / "dashboard.log").read_text()


# What pages get ------------------------------------------------------------------------------------------------------


def environment(server: TmdbServer, key: str = KEY) -> dict[str, str]:
    return {artwork.KEY: key, artwork.ADDRESS: server.api, artwork.IMAGES: server.images}


def test_cards_get_their_poster_when_it_is_known(
    server: TmdbServer, small_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = read_catalogue(small_dataset(reviews=0))
    year = int(catalogue.at["i0", "year"])
    server.films.append(film(40, "The Title 0", f"{year}-02-02"))
    row = Row("any", "", cards(["i0", "i1"]))
    assert [card["poster"] for card in shelf.card_data(row, catalogue)] == ["", ""]
    assert not artwork.is_on()
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    assert artwork.is_on()
    assert [card["poster"] for card in shelf.card_data(row, catalogue)] == ["", ""]
    waits_for(lambda: shelf.card_data(row, catalogue)[0]["poster"])
    poster, none = [card["poster"] for card in shelf.card_data(row, catalogue)]
    assert (poster, none) == (f"{server.images}/p40.png", "")
    assert artwork.addresses(catalogue, ["i0", "nothing"]) == {"i0": poster}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (artwork.ADDRESS, "api.example", "MARQUEE_TMDB_URL is 'api.example'"),
        (artwork.IMAGES, "javascript:alert(1)", "MARQUEE_TMDB_IMAGES is"),
        (artwork.KEY, "a key\nwith lines", "MARQUEE_TMDB_KEY holds a sign"),
    ],
)
def test_a_wrong_setting_is_told_and_posters_stay_drawn(
    marquee_home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(artwork.KEY, KEY)
    monkeypatch.setenv(name, value)
    catalogue = pd.DataFrame({"title": ["Heat"], "year": [1995.0]}, index=pd.Index(["1"], dtype=object))
    assert artwork.addresses(catalogue, ["1"]) == {}
    assert not artwork.is_on()
    assert told in (marquee_home / "dashboard.log").read_text()


def test_without_a_key_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, pandas as pd; from dashboard import artwork; "
        "assert artwork.addresses(pd.DataFrame(), []) == {}; print('requests_cache' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_of_an_address_becomes_markup() -> None:
    page = artwork.over({"1": 'https://images.example/"><script>.png'}, "1")
    assert page.count("<") == 1
    assert artwork.over({}, "1") == ""
