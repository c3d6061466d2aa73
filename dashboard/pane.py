"""The reading pane of the inbox: one review with its marks, why it comes now, and the draft to decide about.

A decision is kept (data/replies.py) and the next open review takes its place. Nothing is sent.
"""

import datetime as dt
import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, explained, inbox, page, store
from dashboard.marked import LEGEND, WORD_LEGEND, marked_html
from dashboard.moods import MOODS, aspect_bars, confidence_words, mood_kind, mood_words, priority_words
from data import replies
from data.dataset import Dataset
from data.errors import UserError
from data.schema import CREATED_AT, ITEM_ID, LABEL, REVIEW_ID, SOURCE, STARS, TEXT, USER_ID
from recsys.viewing import title_of

OPEN, LAST, TOAST, PROBLEM, TONE = "inbox-open", "inbox-last", "inbox-toast", "inbox-problem", "inbox-tone"
_TEXTS = "inbox-texts"
_DONE = {"approved": "Reply approved", "edited": "Edited reply saved", "dismissed": "Draft dismissed"}
LONGEST_REPLY = 5_000


def pane(
    data: Dataset,
    box: inbox.Inbox,
    row: int,
    catalogue: pd.DataFrame,
    decision: Mapping[str, Any] | None,
    next_id: str,
    queue: Sequence[str],
) -> None:
    """Draw the review in this row of the inbox.

    Args:
        decision: what was decided about it, None while it is open.
        next_id: the review to open after a decision; "" for none.
        queue: the reviews that are listed, this one among them.
    """
    review = box.frame.iloc[row]
    with st.container(border=True, key="inbox-pane"):
        _steps(queue, review[REVIEW_ID])
        _about(review, catalogue)
        st.html(_why(box, row, data))
        _text(data, box, row)
        _reply(data, review, catalogue, decision, next_id, box.service)


def _steps(queue: Sequence[str], review_id: str) -> None:
    """Where this review stands in the queue, and the way to its neighbours."""
    at = queue.index(review_id)
    with st.container(horizontal=True, vertical_alignment="center", key="inbox-steps"):
        st.html(f'<span class="mq-muted mq-small">{at + 1:,} of {len(queue):,}</span>', width="stretch")
        for step, label, icon, letter in ((-1, "Previous", "arrow_upward", "K"), (1, "Next", "arrow_downward", "J")):
            there = queue[at + step] if 0 <= at + step < len(queue) else ""
            st.button(
                label,
                icon=f":material/{icon}:",
                type="tertiary",
                key=f"inbox-{label.lower()}",
                disabled=not there,
                on_click=open_review,
                args=(there,),
                shortcut=letter,
            )


def open_review(review_id: str | None) -> None:
    """Have this review in the pane; nothing when no click was told."""
    if review_id is not None:
        st.session_state[OPEN] = review_id
        st.session_state.pop(LAST, None)


def last_decision() -> None:
    """What was decided just now, with the way back; a toast says it once."""
    if toast := st.session_state.pop(TOAST, None):
        page.toast(toast)
    if problem := st.session_state.pop(PROBLEM, None):
        page.notice("warn", problem)
    last = st.session_state.get(LAST)
    if last is not None:
        with st.container(horizontal=True, vertical_alignment="center", key="inbox-undo"):
            page.notice("good", last.get("said") or f"{_DONE[last['status']]}: “{last['words']}”")
            access.button("Undo", icon=":material/undo:", key="undo-last", on_click=_undo_last, shortcut="U")


def written_draft(dataset: str, review_id: str) -> str | None:
    """What was written into a review's reply in this session and not saved; None where nothing was."""
    prefix = f"{_base(dataset, review_id)}-"
    texts = st.session_state.get(_TEXTS, {})
    return next((text for key, text in texts.items() if key.startswith(prefix)), None)


def _base(dataset: str, review_id: str) -> str:
    return f"reply-{dataset}-{review_id}"


def _about(review: pd.Series, catalogue: pd.DataFrame) -> None:
    item_id = review[ITEM_ID]
    if item_id is not None and item_id in catalogue.index:
        sure = "named by the source" if review["is_own"] else confidence_words(review["link_confidence"])
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.page_link(
                "views/title.py",
                label=f"**{page.plain(title_of(catalogue, item_id).shown)}**",
                icon=":material/movie:",
                query_params=page.address(title=item_id),
            )
            st.html(f'<span class="mq-muted mq-small">{html.escape(sure)}</span>', width="content")
    else:
        st.html('<p class="mq-muted mq-small">No title of the catalogue is linked to this review.</p>')


def _why(box: inbox.Inbox, row: int, data: Dataset) -> str:
    review = box.frame.iloc[row]
    facts = [str(review[SOURCE])] if isinstance(review[SOURCE], str) else []
    if isinstance(review[USER_ID], str):
        facts.append(f"by {store.member_label(data, review[USER_ID])}")
    if pd.notna(review[CREATED_AT]):
        facts.append(page.when(review[CREATED_AT]))
    if pd.notna(review[STARS]):
        facts.append(f"{review[STARS]:g} stars given")
    if isinstance(review["given_label"], str):
        given = MOODS.get(review["given_label"], ("", review["given_label"]))[1]
        facts.append(f"labelled {given.lower()} in the source")
    kind, word, number = priority_words(review["priority"])
    told = f"{word}, {number} of 100" if number else word
    mood = page.sign(mood_kind(review[LABEL]), mood_words(review[LABEL], review["p_positive"]))
    reason = html.escape(inbox.reason(box, row, data.as_of))
    return (
        f'<div class="mq-why"><p>{mood}{page.sign(kind, told)}</p><p>{reason}.</p>'
        f'<p class="mq-muted mq-small">{html.escape("  ·  ".join(facts))}</p></div>'
    )


def _text(data: Dataset, box: inbox.Inbox, row: int) -> None:
    review = box.frame.iloc[row]
    aspects = review["aspects"] if review["aspects"] is not None else []
    words: list[tuple[int, int, float]] = []
    if explained.offered(data.name) and st.toggle(
        "Show the words that decided",
        key="inbox-words",
        help="Computed when it is on; a second or two.",
    ):
        with st.spinner("Reading closely …"):
            found = explained.deciding_words(data.name, review[TEXT])
        words = found.words
        if found.problem:
            page.notice("warn", found.problem)
        elif found.run_id != review["run_id"]:
            st.caption("The words are the present model's; the score is from an earlier one.")
    legend = (LEGEND if len(aspects) else "") + (WORD_LEGEND if words else "")
    st.html(
        f'<div class="mq-text mq-scroll" tabindex="0" role="region" aria-label="Review">'
        f"{marked_html(review[TEXT], aspects, words)}</div>" + (f'<p class="mq-legend">{legend}</p>' if legend else "")
    )
    if len(aspects):
        mine = box.mentions[box.mentions["row"] == row]
        st.html(aspect_bars(inbox.aspects_of(mine), counted=False))


def _reply(
    data: Dataset,
    review: pd.Series,
    catalogue: pd.DataFrame,
    decision: Mapping[str, Any] | None,
    next_id: str,
    service: str,
) -> None:
    review_id, item_id = review[REVIEW_ID], review[ITEM_ID]
    base = _base(data.name, review_id)
    if decision is None:
        title = title_of(catalogue, item_id).listed if item_id is not None and item_id in catalogue.index else None
        by_tone = inbox.drafts(review, title, service)
        wanted = st.session_state.get(TONE)
        start = wanted if wanted in by_tone else inbox.scored_tone(review, by_tone)
        with st.container(horizontal=True, vertical_alignment="center", key="inbox-tone"):
            st.html("<b>Reply</b>", width="content")
            tone = st.segmented_control(
                "Tone of the reply",
                list(by_tone),
                default=start,
                format_func=str.capitalize,
                required=True,
                label_visibility="collapsed",
                key=f"{base}-tone",
                on_change=_keep_tone,
                args=(f"{base}-tone",),
            )
        key, draft = f"{base}-{tone}", by_tone[str(tone)]
    else:
        when = f"{page.when(decision['decided_at'])}, {decision['decided_at']:%H:%M} UTC"
        kind = "none" if decision["status"] == "dismissed" else "good"
        page.notice(kind, f"{_DONE[decision['status']]} on {when}.")
        key, draft = f"{base}-{decision['decided_at'].timestamp()}", decision["text"]
    texts = st.session_state.setdefault(_TEXTS, {})
    written = st.text_area(
        "Reply",
        value=texts.get(key, draft),
        key=key,
        height=140,
        label_visibility="collapsed",
        max_chars=LONGEST_REPLY,
        disabled=not access.may_edit(),
        on_change=_keep_text,
        args=(key,),
    )
    changed = (written or "").strip() != draft.strip()
    common = (data.name, review_id, inbox.opening(review[TEXT], 60), key, draft, review["run_id"], next_id, decision)
    with st.container(horizontal=True, vertical_alignment="center", key="inbox-decide"):
        if decision is None or changed:
            label, icon = ("Save edit", ":material/edit:") if changed else ("Approve", ":material/check:")
            access.button(
                label,
                type="primary",
                icon=icon,
                key=f"{base}-yes",
                on_click=_decide,
                args=("approved", *common),
                shortcut="A",
            )
        if decision is None:
            access.button(
                "Dismiss",
                icon=":material/close:",
                key=f"{base}-no",
                on_click=_decide,
                args=("dismissed", *common),
                shortcut="D",
            )
        else:
            access.button(
                "Undo", icon=":material/undo:", key=f"{base}-undo", on_click=_undo, args=(data.name, review_id)
            )
    if not access.viewer_told("decide about replies"):
        st.caption("Nothing is ever sent from here: your decision and the text are kept, no more.")


def _keep_tone(key: str) -> None:
    st.session_state[TONE] = st.session_state[key]


def _keep_text(key: str) -> None:
    st.session_state.setdefault(_TEXTS, {})[key] = st.session_state[key]


def _decide(
    status: str,
    dataset: str,
    review_id: str,
    words: str,
    key: str,
    draft: str,
    run_id: str | None,
    next_id: str,
    before: Mapping[str, Any] | None,
) -> None:
    text = (st.session_state.get(key) or "").strip()
    if status == "approved":
        if not text:
            st.session_state[PROBLEM] = "The reply is empty: write one, or dismiss the draft."
            return
        status = "approved" if text == draft.strip() and before is None else "edited"
    try:
        replies.decide(dataset, review_id, status, text, run_id if isinstance(run_id, str) else None)
    except UserError as mistake:
        st.session_state[PROBLEM] = str(mistake)
        return
    about = {"dataset": dataset, "review_id": review_id, "words": words}
    st.session_state[LAST] = {**about, "status": status, "before": before}
    st.session_state[TOAST] = f"{_DONE[status]}. Undo is above the review."
    st.session_state[OPEN] = next_id or review_id


def _undo(dataset: str, review_id: str) -> None:
    try:
        replies.undo(dataset, review_id)
    except UserError as mistake:
        st.session_state[PROBLEM] = str(mistake)
        return
    st.session_state.pop(LAST, None)
    st.session_state[TOAST] = "The review is open again."
    st.session_state[OPEN] = review_id


def _undo_all(dataset: str, moment: dt.datetime) -> None:
    try:
        n = replies.undo_all(dataset, moment)
    except UserError as mistake:
        st.session_state[PROBLEM] = str(mistake)
        return
    st.session_state.pop(LAST, None)
    st.session_state[TOAST] = f"{page.count(n, 'review')} open again."


def _undo_last() -> None:
    last = st.session_state.get(LAST)
    if last is None:
        return
    if "moment" in last:
        _undo_all(last["dataset"], last["moment"])
        return
    before = last["before"]
    if before is None:
        _undo(last["dataset"], last["review_id"])
        return
    try:
        replies.decide(
            last["dataset"], last["review_id"], before["status"], before["text"], before["run_id"], before["decided_at"]
        )
    except UserError as mistake:
        st.session_state[PROBLEM] = str(mistake)
        return
    st.session_state.pop(LAST, None)
    st.session_state[TOAST] = "The earlier reply is back."
    st.session_state[OPEN] = last["review_id"]
