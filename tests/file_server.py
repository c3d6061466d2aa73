"""A publisher on this machine: serves files with ranges and validators, and fails on demand."""

import socket
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class FileServer:
    """`with FileServer() as server: server.files["/a.zip"] = b"..."`; the address is `server.address + "/a.zip"`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.cuts: dict[str, list[int]] = defaultdict(list)  # bytes after which each next answer breaks off
        self.statuses: dict[str, list[int]] = defaultdict(list)  # each next answer has this status instead
        self.requests: list[tuple[str, str | None]] = []  # path and Range, in the order they came
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FileServer":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, wanted = handler.path, handler.headers.get("Range")
        self.requests.append((path, wanted))
        status = self.statuses[path].pop(0) if self.statuses[path] else 200 if path in self.files else 404
        content, start, etag = self.files.get(path, b""), 0, self.etags.get(path)
        if status != 200:
            content = b"no"
        elif wanted and handler.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            status = 206 if start < len(content) else 416
        handler.send_response(status)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if status == 416:
            handler.send_header("Content-Range", f"bytes */{len(content)}")
        if etag and status in (200, 206):
            handler.send_header("ETag", etag)
        body = b"" if status == 416 else content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.cuts[path] and status in (200, 206):
            handler.wfile.write(body[: self.cuts[path].pop(0)])
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_WR)
            return
        handler.wfile.write(body)
