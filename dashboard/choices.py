"""What a member can do with a title: watch it, put it on the list, like it or not, rate it, review it. All is kept.

The buttons and the review are fragments of their own: one click redraws these and nothing else. What was clicked last
can be undone.
"""

import datetime as dt
import html
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, page, store, verdict
from dashboard.skeleton import loading
from data import events
from data.dataset import Dataset
from data.errors import UserError
from data.events import Event, Review
from recsys.viewing import THUMB_DOWN, THUMB_UP, shown

_log = logging.getLogger("dashboard")
STARS = 5
LONGEST = 10_000  # characters of a review
PLACE = "title page"
TOLD_SECONDS = 10.0  # what was done longer ago is no news


@dataclass(frozen=True)
class Standing:
    """How a member stands to a title."""

    views: int  # how often it was watched
    is_listed: bool
    thumb: str | None
    stars: int | None  # 1 to STARS


def stars_of(rating: float, highest: float) -> int:
    """A rating on the dataset's own scale as whole stars.

    >>> stars_of(4.0, 5.0), stars_of(7.0, 10.0), stars_of(0.5, 5.0)
    (4, 4, 1)
    """
    return min(STARS, max(1, round(rating / highest * STARS)))


def standing(before: pd.DataFrame, since: pd.DataFrame, is_listed: bool, item_id: str, highest: float) -> Standing:
    """By the tables and what happened since.

    Args:
        before: kind and rating of the member's events with this title in the tables, oldest first.
        since: see dashboard.store.happened.
        highest: rating that there is in the dataset.
    """
    both = ["kind", "rating"]
    about = pd.concat([before[both], since.loc[since["item_id"] == item_id, both]], ignore_index=True)
    thumbs = about.loc[about["kind"].isin([THUMB_UP, THUMB_DOWN]), "kind"]
    ratings = about["rating"].dropna()
    return Standing(
        int((about["kind"] == "watch").sum()),
        is_listed,
        None if thumbs.empty else str(thumbs.iloc[-1]),
        None if ratings.empty else stars_of(float(ratings.iloc[-1]), highest),
    )


def highest_rating(data: Dataset) -> float:
    """The highest rating in the dataset, which five stars stand for; 5 where there is none."""
    highest = store.described(data).get("highest_rating")
    return float(highest) if highest and highest > 0 else float(STARS)


def do(data: Dataset, event: Event, said: str) -> None:
    """Keep an event; runs before anything is drawn, so that everything drawn knows of it.

    The event got its id when its button was drawn: a second click on the same button is the same event.
    """
    where = (event.user_id, event.item_id if event.place == PLACE else None)
    try:
        events.record(store.dataset(data.name), [replace(event, made_at=dt.datetime.now(dt.UTC))])
    except UserError as mistake:
        _tell(where, failed=str(mistake))
        return
    st.session_state["choice-last"] = (event.user_id, event.item_id, event.event_id, said)
    _tell(where, said)


def _tell(where: tuple[str, str | None], toast: str = "", failed: str = "") -> None:
    """Have `last_done` say it, on the page where it happened: of this member, and of a title unless it was on Home."""
    st.session_state["choice-told"] = (where, time.monotonic(), toast, failed)


def _undo(data: Dataset, event_id: str, where: tuple[str, str | None]) -> None:
    try:
        is_undone = events.take_back(store.dataset(data.name), event_id)
    except UserError as mistake:
        _tell(where, failed=str(mistake))
        return
    st.session_state.pop("choice-last", None)
    _tell(where, "Undone" if is_undone else "This is in the tables already and cannot be undone here")


def _rate(data: Dataset, user_id: str, item_id: str, highest: float, key: str, given: int | None) -> None:
    chosen = st.session_state.get(key)
    if chosen is not None:
        rating = highest * (chosen + 1) / STARS
        event = Event(user_id, "rating", item_id, rating=rating, place=PLACE)
        do(data, event, f"Rated {page.count(chosen + 1, 'star')} of {STARS}")
    elif given is not None:  # the star that was given already: Streamlit empties all, but no event takes a rating away
        turn = f"rate-turn-{user_id}-{item_id}"
        st.session_state[turn] = st.session_state.get(turn, 0) + 1
        _tell((user_id, item_id), f"You gave {page.count(given, 'star')}: choose another number to change that")


@st.fragment
@page.guarded
def choices(data: Dataset, item_id: str, user_id: str) -> None:
    """Draw the buttons of a title's page."""
    if access.viewer_told("watch, rate and list titles for members"):
        return
    since = store.happened(data, user_id)
    highest = highest_rating(data)
    is_listed = item_id in store.listed(data, user_id, since)
    now = standing(store.told_before(data, user_id, item_id), since, is_listed, item_id, highest)
    name = shown(store.catalogue(data), item_id)

    def button(label: str, kind: str, icon: str, said: str, *, on: bool = False, main: bool = False) -> None:
        st.button(
            label,
            icon=f":material/{icon}:",
            type="primary" if main or on else "secondary",
            key=f"{kind}-{user_id}-{item_id}",
            on_click=do,
            args=(data, Event(user_id, kind, item_id, place=PLACE), said),
        )

    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        button("Watch again" if now.views else "Watch", "watch", "play_arrow", f"Watched {name}", main=True)
        if now.is_listed:
            button("On my list", "list_remove", "check", f"Took {name} off your list")
        else:
            button("My list", "list_add", "add", f"Put {name} on your list")
        button("Like", THUMB_UP, "thumb_up", f"You like {name}", on=now.thumb == THUMB_UP)
        button("Not for me", THUMB_DOWN, "thumb_down", f"{name} is not for you", on=now.thumb == THUMB_DOWN)
        turn = st.session_state.get(f"rate-turn-{user_id}-{item_id}", 0)
        key = f"rate-{user_id}-{item_id}-{len(since)}-{turn}"
        st.feedback(
            "stars",
            key=key,
            default=None if now.stars is None else now.stars - 1,
            on_change=_rate,
            args=(data, user_id, item_id, highest, key, now.stars),
        )
    last_done(data, user_id, item_id)


def last_done(data: Dataset, user_id: str, item_id: str | None = None) -> None:
    """What the member did last (with this title, if one is given), with the way back; and what went wrong."""
    here = (user_id, item_id)
    where, since, toast, failed = st.session_state.pop("choice-told", (here, 0.0, "", ""))
    if where == here and time.monotonic() - since < TOLD_SECONDS:
        if toast:
            page.toast(toast)
        if failed:
            page.notice("warn", failed)
    last = st.session_state.get("choice-last")
    if last is not None and last[0] == user_id and item_id in (None, last[1]):
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.caption(f"{page.plain(last[3])}.", width="content")
            access.button("Undo", type="tertiary", key="undo-choice", on_click=_undo, args=(data, last[2], here))


@st.fragment
@page.guarded
def own_reviews(data: Dataset, item_id: str, user_id: str) -> None:
    """What the member wrote of the title, and a box to write; what is sent is kept and scored at once."""
    name = shown(store.catalogue(data), item_id)
    source = store.run_source(data.name, "sentiment")
    if source is not None:
        store.live(data.name, "sentiment")  # loads while the member writes
    st.header("Your review")
    if not access.may_edit():
        for row in events.reviews(data.name, user_id, item_id)[::-1].to_dict("records"):
            _own(data, row, source, is_new=False)
        return
    key = f"{user_id}-{item_id}"
    with st.form(f"review-{key}", border=False):
        text = st.text_area(
            f"What did you think of {page.plain(name)}?",
            key=f"review-text-{key}",
            height=120,
            max_chars=LONGEST,
            placeholder="…",
        )
        stars = st.feedback("stars", key=f"review-stars-{key}")
        sent = st.form_submit_button("Send", type="primary")
    if sent and not text.strip():
        page.notice("none", "Write a sentence first; stars alone are a rating, given above.")
    elif sent:
        rating = None if stars is None else highest_rating(data) * (stars + 1) / STARS
        # The same words sent twice are one review: the browser may send a form again.
        named = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{data.name}\n{user_id}\n{item_id}\n{text}"))
        is_new = events.write_review(store.dataset(data.name), Review(user_id, item_id, text, rating, review_id=named))
        page.toast("Your review is kept" if is_new else "You sent this review already")
    written = events.reviews(data.name, user_id, item_id)
    for row in written[::-1].to_dict("records"):
        _own(data, row, source, is_new=sent and row["text"] == text)


def _own(data: Dataset, row: Mapping[Any, Any], source: str | None, is_new: bool) -> None:
    """One review; a new one with what the model says of it."""
    stars = "" if pd.isna(row["stars"]) else f" · {page.count(stars_of(row['stars'], highest_rating(data)), 'star')}"
    st.caption(f"{page.when(row['made_at'])}{stars}")
    result = _read(data, row["text"]) if is_new and source is not None else None
    if result is None:
        st.html(f'<p class="mq-quote">{html.escape(row["text"])}</p>')
    else:
        verdict.marks(result, row["text"], data)
        verdict.show(result, source or "", data)


def _read(data: Dataset, text: str) -> pd.Series | None:
    """What the live model says; None, and a notice, where it cannot be asked: the review is kept all the same."""
    model = store.live(data.name, "sentiment")
    try:
        with loading("lines", "Reading …" if model and model.ready else "Loading the sentiment model …"):
            return verdict.analyse(model, text)
    except Exception:
        _log.exception("A review could not be read by the sentiment model")
        page.notice("none", "Your review is kept. The sentiment model cannot read it now; the server's log says why.")
        return None
