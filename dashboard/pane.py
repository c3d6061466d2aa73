"""The reading pane of the inbox: one review with its marks, why it comes now, and the draft to decide about.

What its buttons do is in dashboard/deciding.py.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, explained, inbox, page, store
from dashboard.deciding import DONE, TONE, Listed, base, decide, keep_text, open_review, shown_reply, undo
from dashboard.marked import LEGEND, WORD_LEGEND, marked_html
from dashboard.moods import MOODS, aspect_bars, confidence_words, mood_kind, mood_words, priority_words
from data.dataset import Dataset
from data.schema import CREATED_AT, ITEM_ID, LABEL, REVIEW_ID, SOURCE, STARS, TEXT, USER_ID
from recsys.viewing import title_of

LONGEST_REPLY = 5_000


def pane(listed: Listed, row: int, decision: Mapping[str, Any] | None) -> None:
    """Draw the review in this row of the inbox.

    Args:
        listed: the queue, this review among it.
        decision: what was decided about it, None while it is open.
    """
    data, box = listed.data, listed.box
    review = box.frame.iloc[row]
    with st.container(border=True, key="inbox-pane"):
        _steps(listed.ids, review[REVIEW_ID])
        _about(review, listed.catalogue)
        st.html(_why(box, row, data))
        _text(data, box, row)
        _reply(listed, review, decision)


def _steps(queue: Sequence[str], review_id: str) -> None:
    """Where this review stands in the queue, and the way to its neighbours."""
    at = queue.index(review_id)
    with st.container(horizontal=True, vertical_alignment="center", key="inbox-steps"):
        st.html(f'<span class="mq-muted mq-small">{at + 1:,} of {len(queue):,}</span>', width="stretch")
        for step, label, icon in ((-1, "Previous", "arrow_upward"), (1, "Next", "arrow_downward")):
            there = queue[at + step] if 0 <= at + step < len(queue) else ""
            st.button(
                label,
                icon=f":material/{icon}:",
                type="tertiary",
                key=f"inbox-{label.lower()}",
                disabled=not there,
                on_click=open_review,
                args=(there,),
            )


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


def _reply(listed: Listed, review: pd.Series, decision: Mapping[str, Any] | None) -> None:
    data, review_id = listed.data, str(review[REVIEW_ID])
    start = base(data.name, review_id)
    reply = shown_reply(data, listed.box, listed.catalogue, review, decision)
    if decision is None:
        with st.container(horizontal=True, vertical_alignment="center", key="inbox-tone"):
            st.html("<b>Reply</b>", width="content")
            st.segmented_control(
                "Tone of the reply",
                list(reply.by_tone),
                default=reply.tone,
                format_func=str.capitalize,
                required=True,
                label_visibility="collapsed",
                key=f"{start}-tone",
                on_change=_keep_tone,
                args=(f"{start}-tone",),
            )
    else:
        when = f"{page.when(decision['decided_at'])}, {decision['decided_at']:%H:%M} UTC"
        page.notice("none" if decision["status"] == "dismissed" else "good", f"{DONE[decision['status']]} on {when}.")
    st.text_area(
        "Reply",
        value=reply.text,
        key=f"{start}-{reply.mark}",
        height=140,
        label_visibility="collapsed",
        max_chars=LONGEST_REPLY,
        disabled=not access.may_edit(),
        on_change=keep_text,
        args=(data.name, review_id, reply.mark),
    )
    with st.container(horizontal=True, vertical_alignment="center", key="inbox-decide"):
        if decision is None or reply.is_changed:
            label, icon = ("Save edit", ":material/edit:") if reply.is_changed else ("Approve", ":material/check:")
            asked = (listed, review_id, "approved")
            access.button(label, type="primary", icon=icon, key=f"{start}-yes", on_click=decide, args=asked)
        if decision is None:
            asked = (listed, review_id, "dismissed")
            access.button("Dismiss", icon=":material/close:", key=f"{start}-no", on_click=decide, args=asked)
        else:
            access.button(
                "Undo", icon=":material/undo:", key=f"{start}-undo", on_click=undo, args=(data.name, review_id)
            )
    if not access.viewer_told("decide about replies"):
        st.caption("Nothing is ever sent from here: your decision and the text are kept, no more.")


def _keep_tone(key: str) -> None:
    st.session_state[TONE] = st.session_state[key]
