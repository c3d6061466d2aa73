"""Inline components: no frame, no build step. Their HTML, CSS and JavaScript lie in components/.

What they get is data; a title's text reaches the page through textContent only.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_FOLDER = Path(__file__).parent / "components"
_SHARED = "shared"  # what stands before the CSS and JavaScript of each


@cache
def component(name: str) -> Callable[..., Any]:
    """The component whose files in components/ have that name."""
    css, js = ("\n".join(_read(f"{part}.{kind}") for part in (_SHARED, name)) for kind in ("css", "js"))
    return st.components.v2.component(f"marquee_{name}", html=_read(f"{name}.html"), css=css, js=js)


def _read(file: str) -> str:
    path = _FOLDER / file
    return path.read_text("utf-8") if path.exists() else ""
