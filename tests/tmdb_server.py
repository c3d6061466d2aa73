"""TMDB on this machine: the search for films and their images, no more."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from file_server import FileServer
from PIL import Image

from recsys.search import folded

KEY, TOKEN = "0123456789abcdef0123456789abcdef", "eyJh.eyJz.c2ln"


def film(film_id: int, title: str, date: str, path: str | None = "", **fields: Any) -> dict[str, Any]:
    """A line of an answer; its poster is at `/p<id>.png` unless `path` says otherwise."""
    named = {"id": film_id, "title": title, "original_title": title, "release_date": date}
    return named | {"poster_path": f"/p{film_id}.png" if path == "" else path, "overview": "…"} | fields


class TmdbServer(FileServer):
    """`with TmdbServer(film(1, "Heat", "1995-12-15")) as server`; images are files at "/t/p/w342/p1.png"."""

    def __init__(self, *films: dict[str, Any]) -> None:
        super().__init__()
        self.films = list(films)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []  # given first: status, headers, body
        self.asked: list[dict[str, str]] = []  # parameters of each question, without the key
        self.headers: list[dict[str, str]] = []
        self.is_open = threading.Event()  # no question is answered before
        self.is_open.set()
        self.api, self.images = f"{self.address}/3", f"{self.address}/t/p/w342"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        if parts.path != "/3/search/movie":
            super()._answer(handler)
            return
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.headers.append(dict(handler.headers))
        key = given.pop("api_key", None)
        self.asked.append(given)
        self.is_open.wait()
        allowed = key == KEY or handler.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.answers:
            status, headers, body = self.answers.pop(0)
        elif allowed:
            status, headers, body = 200, {"Content-Type": "application/json"}, self._found(given)
        else:
            status, headers, body = 401, {}, b'{"status_code": 7, "success": false}'
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _found(self, given: dict[str, str]) -> bytes:
        words = folded(given["query"]).split()
        results = [
            one
            for one in self.films
            if set(words) <= set(folded(f"{one['title']} {one['original_title']}").split())
            and given.get("year", one["release_date"][:4]) == one["release_date"][:4]
        ]
        return json.dumps({"page": 1, "results": results, "total_results": len(results)}).encode()


def picture(colour: str, size: tuple[int, int] = (342, 513)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()
