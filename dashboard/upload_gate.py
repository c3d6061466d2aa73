"""Which uploads the server takes at all: Streamlit itself takes any number of files from any open session, also of
somebody who has not signed in, and holds them in memory until the session ends.

Here a file is taken from sessions that were shown a form for files, and as long as all that such a session has sent is
within the limit of one import.
"""

import re
import threading
from dataclasses import dataclass, field

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

_UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/([^/]+)/?")


@dataclass
class _Sessions:
    """Bytes of each file that a session has sent, by session and file; for those that may send any."""

    limit: int = 0
    held: dict[str, dict[str, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_sessions = _Sessions()


def open_gate(limit: int) -> None:
    """Let the session whose page is drawn now send files, of so many bytes together."""
    context = get_script_run_ctx()
    if context is not None:
        with _sessions.lock:
            _sessions.limit = limit
            _sessions.held.setdefault(context.session_id, {})


def _refusal(session: str, file: str, size: int) -> tuple[int, str] | None:
    """Why a file is not taken, with the status to say it by; the size of one that is taken is noted."""
    there = runtime.get_instance() if runtime.exists() else None
    with _sessions.lock:
        for gone in [one for one in _sessions.held if there is None or not there.is_active_session(one)]:
            del _sessions.held[gone]
        held = _sessions.held.get(session)
        if held is None:
            return 403, "This page has no form for files."
        if sum(held.values()) - held.get(file, 0) + size > _sessions.limit:
            return 413, "The files of one import are too large together."
        held[file] = size
    return None


class UploadGate:
    """ASGI middleware that refuses what is not to be taken before any of it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _UPLOAD.search(scope["path"]) if scope["type"] == "http" else None
        if found is not None and scope["method"] == "PUT":
            size = dict(scope["headers"]).get(b"content-length", b"")
            refused = _refusal(found[1], found[2], int(size)) if size.isdigit() else (411, "Say how large the file is.")
            if refused is not None:
                await PlainTextResponse(refused[1], refused[0])(scope, receive, send)
                return
        elif found is not None and scope["method"] == "DELETE":
            with _sessions.lock:
                _sessions.held.get(found[1], {}).pop(found[2], None)
        await self._app(scope, receive, send)
