"""The words that carried a verdict, found on demand by the live sentiment model and kept for the next look."""

import logging
from typing import Any, NamedTuple

import streamlit as st

from dashboard import store
from data.errors import UserError

_log = logging.getLogger("dashboard")
_WAIT_SECONDS = 120


class Deciding(NamedTuple):
    """Words as (start, end, share in -1..1), positive for positive; or the sentence that says why there are none."""

    words: list[tuple[int, int, float]]
    run_id: str
    problem: str = ""


def offered(dataset: str) -> bool:
    """Whether there is a model to ask."""
    return store.run_source(dataset, "sentiment") is not None


def deciding_words(dataset: str, text: str) -> Deciding:
    """The words of `text` that carried its sentiment most; waits for the model while it loads."""
    model = store.live(dataset, "sentiment")
    if model is None:
        return Deciding([], "", "The sentiment model is not there any more.")
    try:
        return Deciding(_words(model.dataset, model.run_id, text, model.future.result(_WAIT_SECONDS)), model.run_id)
    except TimeoutError:
        return Deciding([], model.run_id, "The sentiment model is still loading: try again in a minute.")
    except UserError as mistake:
        store.forget_failed(model)
        return Deciding([], model.run_id, str(mistake))
    except Exception:  # the review and its draft are there without the words
        _log.exception("The words that decided could not be found")
        store.forget_failed(model)
        return Deciding([], model.run_id, "The words could not be found; the server's log says why.")


@st.cache_data(max_entries=500, show_spinner=False)
def _words(dataset: str, run_id: str, text: str, _scorer: Any) -> list[tuple[int, int, float]]:
    from nlp.explain import explain, highlight  # brings torch

    return highlight(text, explain(_scorer, text))
