"""What stands in the browser before Streamlit's own program has come: the bones of the page that is asked for.

Streamlit answers every address with one empty document, whose program takes a second to load and to start. The bones
are put into that document, over the place where the page will be, and go when the page shows anything. With them comes
what the document itself has to listen to (menu.js).
"""

from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard import skeleton

_FOLDER = Path(__file__).parent
_PLACE = b'<div id="root"></div>'
# Headers that would have the document answered compressed, or not at all since the browser has it.
_LEFT_OUT = {b"accept-encoding", b"if-none-match", b"if-modified-since"}
_SCRIPT = """
(() => {
  const paint = document.getElementById("mq-paint");
  const done = () => { watch.disconnect(); paint.remove(); };
  const watch = new MutationObserver(() => requestAnimationFrame(() => {
    const main = document.querySelector('[data-testid="stMainBlockContainer"]');
    // Streamlit has bars of its own in the place of an element whose program is still on its way.
    if (main?.innerText.trim() && !main.querySelector('[data-testid="stSkeleton"]')) done();
  }));
  watch.observe(document.getElementById("root"), { childList: true, subtree: true });
  setTimeout(done, 30000);
})();
"""


def painted(document: bytes, path: str) -> bytes:
    """Streamlit's document with the bones of the page at `path`; unchanged where it is not as we know it."""
    names = ("skeleton.css", "static/logo.svg", "menu.js")
    style, logo, menu = ((_FOLDER / name).read_text("utf-8") for name in names)
    bones = skeleton.page_bones(path.rstrip("/").rpartition("/")[2], "Loading Marquee …")
    paint = f'<div id="mq-paint">{logo}{bones}</div>'
    whole = f"<style>{style}</style>{paint}{_PLACE.decode()}<script>{_SCRIPT}{menu}</script>"
    return document.replace(_PLACE, whole.encode()).replace(b"<title>Streamlit</title>", b"<title>Marquee</title>")


class FirstPaint:
    """ASGI middleware that puts the bones into each document."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = dict(scope["headers"]) if scope["type"] == "http" and scope["method"] == "GET" else {}
        if b"text/html" not in asked.get(b"accept", b""):
            await self._app(scope, receive, send)
            return
        kept: list[Message] = []

        async def hold(message: Message) -> None:
            kept.append(message)
            if message["type"] != "http.response.body" or message.get("more_body"):
                return
            start, *parts = kept
            body = painted(b"".join(part.get("body", b"") for part in parts), scope["path"])
            headers = [(name, value) for name, value in start["headers"] if name not in (b"content-length", b"etag")]
            await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        headers = [(name, value) for name, value in scope["headers"] if name not in _LEFT_OUT]
        await self._app({**scope, "headers": headers}, receive, hold)
