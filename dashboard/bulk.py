"""Many reviews at once: what is ticked in the inbox's queue, and the bar that approves or dismisses the drafts.

Nothing is sent. All are decided in one transaction, which one click takes back.
"""

import datetime as dt
from collections.abc import Collection, Sequence

import pandas as pd
import streamlit as st

from dashboard import access, page
from dashboard.deciding import LAST, TONE, Last, Listed, shown_reply, tell, told_mistakes, written_in
from data import replies
from data.dataset import Dataset
from data.schema import ITEM_ID, REVIEW_ID, TEXT, TITLE
from nlp.replies import draft_replies, tones

SURE = "inbox-sure"
SURE_ABOVE = 20  # so many are decided without asking again
_VERBS = {"approved": "Approve", "dismissed": "Dismiss"}


def key(dataset: str) -> str:
    """Where the session keeps what is ticked."""
    return f"inbox-ticked-{dataset}"


def ticked(data: Dataset, open_ids: Sequence[str]) -> list[str]:
    """The reviews that are chosen, in the order of `open_ids`; who is not among these is chosen no longer."""
    chosen = st.session_state.get(key(data.name), frozenset())
    there = [review_id for review_id in open_ids if review_id in chosen] if chosen else []
    if len(there) < len(chosen):
        tick(data, there)
    return there


def tick(data: Dataset, review_ids: Collection[str]) -> None:
    """Choose these and no others."""
    st.session_state[key(data.name)] = frozenset(review_ids)
    st.session_state.pop(SURE, None)


def tick_listed(data: Dataset, on: Collection[str], off: Collection[str]) -> None:
    """Choose the reviews `on` and not those `off`; the others, which are not listed, stay as they are."""
    chosen = st.session_state.get(key(data.name), frozenset())
    if (now := (chosen | frozenset(on)) - frozenset(off)) != chosen:
        tick(data, now)


def _tone() -> str | None:
    tone = st.session_state.get(TONE)
    return tone if tone in tones() else None


def decisions(listed: Listed, review_ids: Sequence[str], status: str) -> pd.DataFrame:
    """What data.replies.decide_all is to keep: review_id, status, text and run_id.

    Each text is the one that the reading pane shows; what was written over a draft is approved as an edit. Reviews
    without a draft are left out of those to approve.

    Args:
        review_ids: open ones of the inbox.
        status: approved or dismissed.
    """
    box, tone = listed.box, _tone()
    rows = box.frame[box.frame[REVIEW_ID].isin(set(review_ids))].reset_index(drop=True)
    scored = rows["reply_draft"].fillna("").astype(object)
    asked = rows if tone else rows[scored == ""]  # to draft takes longer than all else
    titles = asked[ITEM_ID].map(listed.catalogue[TITLE]).astype(object)
    known = asked.assign(title=titles.where(titles.notna(), None))
    written = pd.Series(draft_replies(known, tone or tones()[0], box.service), asked.index, dtype=object)
    drafts = written.reindex(rows.index).fillna(scored)
    made = pd.DataFrame({REVIEW_ID: rows[REVIEW_ID], "status": status, TEXT: drafts, "run_id": rows["run_id"]})
    for at in rows.index[rows[REVIEW_ID].isin(written_in(listed.data.name))]:  # the few that somebody wrote into
        reply = shown_reply(listed.data, box, listed.catalogue, rows.loc[at], None)
        edited = status == "approved" and reply.is_changed
        made.loc[at, ["status", TEXT]] = ["edited" if edited else status, reply.text.strip()]
    return made[made[TEXT].str.strip() != ""] if status == "approved" else made


def bar(listed: Listed, chosen: Sequence[str]) -> None:
    """What can be done with the chosen reviews; nothing while none is."""
    if not chosen:
        return
    tone, asked = _tone(), st.session_state.get(SURE)
    how = f"in the {tone} tone" if tone else "as they were scored"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="inbox-bulk"):
        if asked in _VERBS:
            drafts = page.count(len(chosen), "draft") + (f" {how}" if asked == "approved" else "")
            st.html(f'<p class="mq-line"><strong>{_VERBS[asked]} {drafts}?</strong></p>', width="content")
            sure = f"{_VERBS[asked]} {len(chosen):,}"
            access.button(sure, type="primary", key="bulk-yes", on_click=_decide_all, args=(listed, chosen, asked))
            st.button("Not now", key="bulk-no", on_click=st.session_state.pop, args=(SURE, None))
            return
        st.html(
            f'<p class="mq-line"><strong>{len(chosen):,} chosen</strong><span class="mq-muted">drafts {how}</span></p>',
            width="content",
        )
        for status, label, icon in (("approved", "Approve drafts", "done_all"), ("dismissed", "Dismiss", "close")):
            access.button(
                label,
                icon=f":material/{icon}:",
                type="primary" if status == "approved" else "secondary",
                key=f"bulk-{status}",
                on_click=decide_chosen,
                args=(listed, chosen, status),
            )
        st.button("Clear", type="tertiary", key="bulk-none", on_click=tick, args=(listed.data, ()))


def decide_chosen(listed: Listed, chosen: Sequence[str], status: str) -> None:
    """Decide about them at once, or ask first when they are many."""
    if len(chosen) > SURE_ABOVE:
        st.session_state[SURE] = status
    elif chosen:
        _decide_all(listed, chosen, status)


@told_mistakes
def _decide_all(listed: Listed, chosen: Sequence[str], status: str) -> None:
    st.session_state.pop(SURE, None)
    data, moment = listed.data, dt.datetime.now(dt.UTC)
    made = decisions(listed, chosen, status)
    kept = replies.decide_all(data.name, made, moment)
    tick(data, ())
    left = [
        f"{page.count(n, 'review')} {why}"
        for n, why in (
            (len(chosen) - len(made), "without a draft stayed open."),
            (len(made) - kept, "had been decided by somebody else meanwhile and stayed so."),
        )
        if n
    ]
    done = f"{page.count(kept, 'draft')} {status}"
    if kept:
        st.session_state[LAST] = Last(data.name, done, moment=moment)
    tell(f"{done}. Undo is above the queue." if kept else "", " ".join(left))
