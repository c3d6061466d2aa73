"""What every page shares: the wrapper that lets no exception through, the header, notices, empty states, choices."""

import hashlib
import html
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard import access, logbook, store
from data.dataset import Dataset, list_datasets
from data.errors import UserError
from data.words import count, duration, when

__all__ = ["count", "duration", "when"]  # the words that pages use, from one door

_log = logging.getLogger("dashboard")
_within = threading.local()  # each session's script runs in a thread of its own
_SIGNS = {"good": "✓", "warn": "!", "bad": "✕", "none": "i"}


def guarded(view: Callable[..., Any]) -> Callable[..., Any]:
    """`view` with every exception turned into a notice: the sentence of a user's mistake, or where the log is.

    Streamlit runs a fragment apart from its page, so a fragment needs this as much as a page does. The outermost one
    that is drawn shows what `toast` was given.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outermost, result = not getattr(_within, "guard", False), None
        if outermost and not access.is_admitted():  # signed out, or off the list, since the page was drawn
            st.rerun()
        _within.guard = True
        try:
            result = view(*args, **kwargs)
        except UserError as mistake:
            notice("warn", str(mistake))
        except Exception:
            place = _keep_traceback(view.__name__)
            notice(
                "bad", f"This part of the page could not be drawn; nothing was changed. What went wrong is in {place}."
            )
        finally:
            store.first_page.set()
            if outermost:
                _within.guard = False
        if outermost:
            _draw_toast()
        return result

    return wrapper


def toast(text: str) -> None:
    """Say what was just done, for some seconds and on this page only; shown as text. May be called in a callback.

    Streamlit's own outlives its page, must not be called in a fragment's callback, and is a dialog without a name.
    """
    st.session_state["toast"] = (_place(), text)


def _place() -> str:
    """The page whose script runs: a name that Streamlit gives it."""
    context = get_script_run_ctx()
    return "" if context is None else context.page_script_hash


def _draw_toast() -> None:
    where, text = st.session_state.pop("toast", (None, ""))
    if where == _place():  # who left the page before it was drawn does not meet it elsewhere
        # Two names in turn: the same animation would not begin again.
        st.session_state["toast-turn"] = turn = 1 - st.session_state.get("toast-turn", 0)
        st.html(f'<div class="mq-toast mq-toast-{turn}" role="status">{html.escape(text)}</div>')


@contextmanager
def titled(title: str) -> Iterator[None]:
    """Around what comes before a page's heading: where it fails, the notice stands under a heading all the same."""
    try:
        yield
    except Exception:
        header_html(title)
        raise


def _keep_traceback(where: str) -> str:
    """Append the current traceback to the dashboard's log; returns the log's name for the notice."""
    _log.exception("%s failed", where)
    return logbook.keep(f"{where}\n{traceback.format_exc()}")


def notice(kind: str, text: str) -> None:
    """A calm line with a sign; `text` is shown as text, whatever it holds. Kinds: good, warn, bad, none."""
    st.html(
        f'<div class="mq-notice mq-{kind}" role="status"><span class="mq-mark" aria-hidden="true">{_SIGNS[kind]}</span>'
        f"<span>{html.escape(text)}</span></div>"
    )


def empty(title: str, text: str, command: str = "") -> None:
    """What will be here, and the one thing to do."""
    code = f'<p style="margin-top:12px"><code>{html.escape(command)}</code></p>' if command else ""
    st.html(f'<div class="mq-empty"><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{code}</div>')


def sign(kind: str, words: str) -> str:
    """HTML of a coloured dot with its words: colour never stands alone."""
    return f'<span class="mq-sign mq-{kind}"><span class="mq-dot"></span>{html.escape(words)}</span>'


def number_cards(cards: Sequence[tuple[str, str, str, str]]) -> None:
    """Cards with one number each: (label, number, unit, what it is compared with)."""
    st.html(
        '<div class="mq-grid">'
        + "".join(
            f'<div class="mq-card"><p class="mq-label">{html.escape(label)}</p>'
            f'<p class="mq-number">{html.escape(number)} <small>{html.escape(unit)}</small></p>'
            f'<p class="mq-compare mq-muted">{html.escape(compare)}</p></div>'
            for label, number, unit, compare in cards
        )
        + "</div>"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """A short list of name and value."""
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in pairs if value)
    st.html(f'<dl class="mq-facts">{rows}</dl>')


# What means something in one line of markdown: CommonMark, tables, bare addresses, and Streamlit's :colour[...] and
# :icon:. Nothing else is escaped, because a button's name that is read aloud keeps the backslashes.
_MARKUP = re.compile(
    r"[\\`*\[\]<>~$|]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|:(?=\S)|(?<=www)\.|(?<=\S)@(?=\S)|^[#+=-]", re.IGNORECASE
)


def plain(text: str) -> str:
    """`text` in one line for a place that reads markdown (labels, captions): every sign of markup escaped."""
    escaped = _MARKUP.sub(lambda sign: f"\\{sign[0]}", " ".join(text.split()))
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", escaped)


def avatar_colour(name: str) -> str:
    hue = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest(), "big") % 360
    return f"hsl({hue} 42% 38%)"


def dark() -> bool:
    """Whether the reader's theme is dark (also when the browser has not said yet)."""
    return st.context.theme.type != "light"


def header(title: str, subtitle: str = "") -> Dataset | None:
    """The page's heading, with the choice of the dataset at its right when there are several; returns the dataset."""
    names = list_datasets()
    left, right = st.columns([3, 1], vertical_alignment="bottom") if len(names) > 1 else (st.container(), None)
    with left:
        header_html(title, subtitle)
    if right is not None:
        with right:
            choose_dataset(names)
    return current_dataset()


def header_html(title: str, subtitle: str = "") -> None:
    """The heading alone."""
    st.html(
        f'<div class="mq-header"><h1>{html.escape(title)}</h1>'
        + (f"<p>{html.escape(subtitle)}</p>" if subtitle else "")
        + "</div>"
    )


def choose_dataset(names: Sequence[str], label_visibility: Literal["visible", "collapsed"] = "visible") -> None:
    """A select box for the dataset; the choice is kept for the session and in the address."""
    now, options = _current_name(), list(names)
    start = options.index(now) if now in options else 0
    chosen = st.selectbox(
        "Dataset", options, index=start, key=f"choose-dataset-{now}", label_visibility=label_visibility
    )
    if chosen is not None and chosen != now:
        st.session_state["dataset"] = chosen
        st.session_state.pop("member", None)
        st.query_params.from_dict({"dataset": chosen})
        st.rerun()


def _current_name() -> str | None:
    """The dataset named in the address, else the session's, else the default; None when there is none."""
    there = list_datasets()
    for name in (st.query_params.get("dataset"), st.session_state.get("dataset")):
        if name in there:
            st.session_state["dataset"] = name
            return name
    return store.default_dataset()


def current_dataset() -> Dataset | None:
    """The chosen dataset, or None when nothing is loaded yet."""
    name = _current_name()
    return None if name is None else store.dataset(name)


def address(**extra: str | None) -> dict[str, str]:
    """Query parameters for a link: the dataset when it is not the default one, and whatever is given."""
    name = _current_name()
    base = {"dataset": name} if name and name != store.default_dataset() else {}
    return base | {key: value for key, value in extra.items() if value}
