"""What the live sentiment model says of one text, as a card and as marks: on the Reviews and Title pages."""

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import explained, inbox, page, store
from dashboard.marked import LEGEND, WORD_LEGEND, marked_html
from dashboard.moods import MOODS, aspect_bars, mood_words, percent
from dashboard.skeleton import loading
from data.dataset import Dataset
from data.schema import LABEL


def analyse(model: store.Live | None, text: str) -> pd.Series | None:
    """What the live model says of a text; None without one.

    Raises:
        UserError: the run is damaged.
    """
    if model is None:
        return None
    try:
        return model.future.result(timeout=120).analyse([text]).iloc[0]
    except Exception:
        store.forget_failed(model)
        raise


def show(result: Any, source: str, data: Dataset) -> None:
    """A card with the mood in words, its probability, and what the text speaks of.

    Args:
        result: see `analyse`.
        source: the dataset whose model it was.
    """
    if result is None:
        page.notice("warn", "The model is not there any more: train it again on the Models page's command.")
        return
    label, p_positive = str(result[LABEL]), float(result["p_positive"])
    kind, words = MOODS.get(label, ("none", label))
    colour = {"good": "#30A46C", "warn": "#F5A524", "bad": "#E5484D"}.get(kind, "#8B9098")
    foreign = "" if source == data.name else f" The model was trained on dataset '{source}'."
    positive, certainty = percent(p_positive), mood_words(label, p_positive).removeprefix(words)
    aspects = inbox.aspects_of(inbox.mentions_of(pd.Series([result["aspects"]])))
    spoken = (
        f'<p class="mq-label" style="margin-top:20px">What it speaks of</p>{aspect_bars(aspects, counted=False)}'
        if len(aspects)
        else '<p class="mq-compare mq-muted">It speaks of none of the aspects that are looked for.</p>'
    )
    st.html(
        '<div class="mq-card" role="status"><p class="mq-label">Sentiment</p>'
        f'<p class="mq-number">{html.escape(words)} <small>{html.escape(certainty)}</small></p>'
        f'<div class="mq-track" style="margin-top:14px" role="img" aria-label="Positive {positive} %">'
        f'<div class="mq-fill" style="width:{positive}%;background:{colour}"></div></div>'
        '<p class="mq-compare mq-muted" style="display:flex;justify-content:space-between">'
        "<span>negative</span><span>positive</span></p>"
        f'<p class="mq-compare">The model gives {positive} % to positive and {100 - positive} % to negative.'
        f"{html.escape(foreign)}</p>{spoken}</div>"
    )


def marks(result: Any, text: str, data: Dataset) -> None:
    """The text with its mentions and the words that decided."""
    with loading("lines", "Looking for the words that decided …"):
        found = explained.deciding_words(data.name, text)
    legend = (LEGEND if len(result["aspects"]) else "") + (WORD_LEGEND if found.words else "")
    st.html(
        f'<div class="mq-text mq-scroll">{marked_html(text, result["aspects"], found.words)}</div>'
        + (f'<p class="mq-legend">{legend}</p>' if legend else "")
    )
