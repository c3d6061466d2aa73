"""What stands on a page until its content comes: bones in the content's shape, which say what is loading.

They are seen after a fifth of a second only, so that what is quick does not flicker (skeleton.css).
"""

import html
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st


def _bone(width: str, height: str, radius: int = 8) -> str:
    return f'<i class="mq-bone" style="width:{width};height:{height};border-radius:{radius}px"></i>'


def _lines(*widths: int) -> str:
    return "".join(_bone(f"{width}%", "16px", 4) for width in widths)


_HEADING, _SUBHEADING = _bone("min(280px,60%)", "32px"), _bone("min(200px,50%)", "22px", 6)
_LINE = f'<div class="mq-bones-line">{{}}{_bone("min(320px,60%)", "38px")}</div>'
_SHELF = f'{_SUBHEADING}<div class="mq-bones-line">{_bone("150px", "225px", 10) * 10}</div>'
_CARDS = f'<div class="mq-bones-grid">{_bone("100%", "112px", 12) * 4}</div>'
_POSTER = f'<div class="mq-bones-line">{_bone("220px", "330px", 12)}<div>{_HEADING}{_lines(90, 70, 80)}</div></div>'
SHAPES = {
    "faces": _LINE.format(_bone("48px", "48px", 10) * 3),
    "rows": _bone("100%", "320px", 16) + _SHELF * 2,
    "shelf": _SHELF,
    "cards": _CARDS,
    "chart": _bone("100%", "340px", 12),
    "charts": f'<div class="mq-bones-pair">{_bone("100%", "360px", 12) * 4}</div>',
    "list": _bone("100%", "72px", 10) * 4,
    "lines": _lines(95, 88, 92, 60),
}
_PAGES = {
    "": SHAPES["faces"] + SHAPES["rows"],
    "title": _POSTER + _LINE.format(_bone("110px", "38px") * 3) + SHAPES["charts"],
}
_PAGE = _HEADING + _lines(40) + _CARDS + SHAPES["chart"] + SHAPES["list"]


def _waiting(bones: str, words: str, kind: str = "") -> str:
    told = html.escape(words)
    seen = f"<p>{told}</p>" if not kind else ""
    return f'<div class="mq-wait {kind}" role="status" aria-busy="true" aria-label="{told}">{seen}{bones}</div>'


def page_bones(url_path: str, words: str) -> str:
    """The bones of a whole page as HTML; skeleton.css takes them away once the page has drawn anything under them."""
    return _waiting(_PAGES.get(url_path, _PAGE), words, "mq-first")


@contextmanager
def loading(shape: str, words: str, once: str = "") -> Iterator[None]:
    """Bones until the block is left.

    Args:
        shape: one of `SHAPES`.
        words: what is done meanwhile, shown and spoken.
        once: where a name is given, bones are drawn the first time in a session only: later it is there at once.
    """
    if once and once in st.session_state.setdefault("loaded", set()):
        yield
        return
    place = st.empty()
    place.html(_waiting(SHAPES[shape], words))
    try:
        yield
    finally:
        place.empty()
    if once:
        st.session_state["loaded"].add(once)
