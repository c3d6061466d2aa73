"""What a session decides about drafts: one by a click or a key, the last one taken back; which review is open next.

A decision is kept (data/replies.py). Nothing is sent. All but `last_decision` runs in callbacks, before anything is
drawn.
"""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, inbox, page
from data import replies
from data.dataset import Dataset
from data.errors import UserError
from data.schema import ITEM_ID, REVIEW_ID, TEXT

OPEN, LAST, TONE, TOLD = "inbox-open", "inbox-last", "inbox-tone", "inbox-told"
_TEXTS = "inbox-texts"
DONE = {"approved": "Reply approved", "edited": "Edited reply saved", "dismissed": "Draft dismissed"}
TOLD_SECONDS = 10.0  # what was done longer ago is no news


@dataclass(frozen=True)
class Listed:
    """What the inbox shows: a callback decides about this, and not about what came in meanwhile."""

    data: Dataset
    box: inbox.Inbox
    catalogue: pd.DataFrame
    ids: list[str]  # of the queue, in order
    still_open: list[str]  # that pass the filters, whatever their state in the queue
    open_ids: list[str]  # of the queue that are open

    def review(self, review_id: str) -> pd.Series | None:
        """Its row of the inbox, None when it is not listed."""
        rows = self.box.frame
        return rows[rows[REVIEW_ID] == review_id].iloc[0] if review_id in self.ids else None


@dataclass(frozen=True)
class Reply:
    """What the reading pane shows as the reply to a review."""

    by_tone: dict[str, str]  # empty when it is decided
    tone: str
    mark: str  # tells the texts that were written into one review's reply apart
    draft: str
    text: str  # the draft, or what was written over it

    @property
    def is_changed(self) -> bool:
        return self.text.strip() != self.draft.strip()


@dataclass(frozen=True)
class Last:
    """The last decision, which can be taken back."""

    dataset: str
    said: str
    review_id: str = ""  # "" for several
    before: Mapping[str, Any] | None = None  # what had been decided about it
    moment: dt.datetime | None = None  # of several
    is_shown: bool = True


# What is told ---------------------------------------------------------------------------------------------------------


def tell(toast: str = "", failed: str = "") -> None:
    """Have the inbox say it when it is drawn, and no other page."""
    st.session_state[TOLD] = (time.monotonic(), toast, failed)


def last_decision(data: Dataset) -> str:
    """Draw what was decided last, with the way back; a toast says it once. Returns what is news, to be read aloud."""
    since, toast, failed = st.session_state.pop(TOLD, (0.0, "", ""))
    if time.monotonic() - since >= TOLD_SECONDS:
        toast = failed = ""
    if toast:
        page.toast(toast)
    if failed:
        page.notice("warn", failed)
    last = st.session_state.get(LAST)
    if last is not None and last.is_shown and last.dataset == data.name:
        with st.container(horizontal=True, vertical_alignment="center", key="inbox-undo"):
            page.notice("good", last.said)
            access.button("Undo", icon=":material/undo:", key="undo-last", on_click=undo_last)
    return f"{toast} {failed}".strip()


# The reply ------------------------------------------------------------------------------------------------------------


def base(dataset: str, review_id: str) -> str:
    """What the keys of a review's widgets begin with."""
    return f"reply-{dataset}-{review_id}"


def keep_text(dataset: str, review_id: str, mark: str) -> None:
    """Remember what was written: a widget that is not drawn forgets it."""
    text = st.session_state[f"{base(dataset, review_id)}-{mark}"] or ""
    st.session_state.setdefault(_TEXTS, {}).setdefault((dataset, review_id), {})[mark] = text


def written_in(dataset: str) -> set[str]:
    """The reviews into whose reply something was written in this session."""
    return {review_id for name, review_id in st.session_state.get(_TEXTS, {}) if name == dataset}


def shown_reply(
    data: Dataset,
    box: inbox.Inbox,
    catalogue: pd.DataFrame,
    review: pd.Series,
    decision: Mapping[str, Any] | None,
) -> Reply:
    """The reply as the reading pane shows it: of an open review in the chosen tone, or else in that of its scoring."""
    review_id = str(review[REVIEW_ID])
    if decision is None:
        by_tone = inbox.drafts(review, inbox.listed_title(catalogue, review[ITEM_ID]), box.service)
        wanted = st.session_state.get(TONE)
        tone = mark = wanted if wanted in by_tone else inbox.scored_tone(review, by_tone)
        draft = by_tone[tone]
    else:
        by_tone, tone, mark, draft = {}, "", str(decision["decided_at"].timestamp()), str(decision["text"])
    kept = st.session_state.get(_TEXTS, {}).get((data.name, review_id), {}).get(mark, draft)
    now = st.session_state.get(f"{base(data.name, review_id)}-{mark}")  # newer, while its box is drawn
    return Reply(by_tone, tone, mark, draft, kept if now is None else now)


def decision_about(decided: pd.DataFrame, review_id: str) -> Mapping[str, Any] | None:
    found = inbox.records(decided[decided[REVIEW_ID] == review_id])
    return found[0] if found else None


# Deciding -------------------------------------------------------------------------------------------------------------


def open_review(review_id: str) -> None:
    """Have this review in the pane."""
    st.session_state[OPEN] = review_id
    if (last := st.session_state.get(LAST)) is not None:
        st.session_state[LAST] = replace(last, is_shown=False)  # the u key still takes it back


def told_mistakes(callback: Callable[..., None]) -> Callable[..., None]:
    """`callback` that has a user's mistake said when the inbox is drawn."""

    def careful(*args: Any) -> None:
        try:
            callback(*args)
        except UserError as mistake:
            tell(failed=str(mistake))

    return careful


@told_mistakes
def decide(listed: Listed, review_id: str, status: str) -> None:
    """Approve the reply that the pane shows for a review, or dismiss its draft; open the next open one.

    Args:
        status: approved or dismissed.
    """
    review = listed.review(review_id)
    if review is None:
        return
    data, last = listed.data, st.session_state.get(LAST)
    decision = decision_about(inbox.decided(data), review_id)
    reply = shown_reply(data, listed.box, listed.catalogue, review, decision)
    if decision is not None and (status == "dismissed" or not reply.is_changed):
        if last is None or last.review_id != review_id:  # else a second click on the same button
            tell(failed="This review is decided already: undo that to decide again.")
        return
    text = reply.text.strip()
    if status == "approved":
        if not text:
            tell(failed="The reply is empty: write one, or dismiss the draft.")
            return
        status = "edited" if reply.is_changed or decision is not None else "approved"
    run_id = review["run_id"]
    replies.decide(data.name, review_id, status, text, run_id if isinstance(run_id, str) else None)
    said = f"{DONE[status]}: “{inbox.opening(review[TEXT], 60)}”"
    st.session_state[LAST] = Last(data.name, said, review_id, decision)
    st.session_state[OPEN] = inbox.next_open(listed.still_open, listed.ids, review_id) or review_id
    tell(f"{DONE[status]}. Undo is above the review.")


@told_mistakes
def undo(dataset: str, review_id: str) -> None:
    """Make a review open again."""
    replies.undo(dataset, review_id)
    _is_undone("The review is open again.", review_id)


@told_mistakes
def undo_last() -> None:
    """Take back the last decision, about one review or several."""
    last = st.session_state.get(LAST)
    if last is None:
        tell(failed="There is nothing to undo.")
    elif last.moment is not None:
        _is_undone(f"{page.count(replies.undo_all(last.dataset, last.moment), 'review')} open again.")
    elif last.before is None:
        undo(last.dataset, last.review_id)
    else:
        before = last.before
        replies.decide(
            last.dataset, last.review_id, before["status"], before["text"], before["run_id"], before["decided_at"]
        )
        _is_undone("The earlier reply is back.", last.review_id)


def _is_undone(said: str, review_id: str | None = None) -> None:
    st.session_state.pop(LAST, None)
    if review_id is not None:
        st.session_state[OPEN] = review_id
    tell(said)
