"""Many reviews at once: what is ticked in the inbox's queue, and the bar that approves or dismisses the drafts.

Nothing is sent. All are decided in one transaction, which one click takes back.
"""

from collections.abc import Collection, Sequence

import pandas as pd
import streamlit as st

from dashboard import access, page, store
from dashboard.inbox import Inbox, shown_titles
from dashboard.pane import LAST, PROBLEM, TOAST, TONE, written_draft
from data import replies
from data.dataset import Dataset
from data.errors import UserError
from data.schema import ITEM_ID, REVIEW_ID, TEXT
from nlp.replies import draft_replies, tones

TICKED, _SURE = "inbox-ticked", "inbox-sure"
SURE_ABOVE = 20  # so many are decided without asking again
_VERBS = {"approved": "Approve", "dismissed": "Dismiss"}
_DONE = {"approved": "approved", "dismissed": "dismissed"}


def ticked(open_ids: Collection[str]) -> list[str]:
    """The reviews that are chosen, as far as they are still open and match; in the order of `open_ids`."""
    chosen = st.session_state.get(TICKED, frozenset())
    return [review_id for review_id in open_ids if review_id in chosen] if chosen else []


def tick(review_ids: Sequence[str] | None) -> None:
    """Choose these and no others; nothing when no click was told."""
    if review_ids is not None:
        st.session_state[TICKED] = frozenset(map(str, review_ids))
        st.session_state.pop(_SURE, None)


def decisions(data: Dataset, box: Inbox, review_ids: Sequence[str], status: str, tone: str | None) -> pd.DataFrame:
    """What data.replies.decide_all is to keep: review_id, status, text and run_id.

    Args:
        status: approved or dismissed. What was written into a draft without saving it is approved as an edit.
        tone: of the drafts; None: as they were scored, or else the first tone.
    """
    rows = box.frame.set_index(REVIEW_ID, drop=False).loc[list(review_ids)]
    titles = rows[ITEM_ID].map(shown_titles(store.catalogue(data))).astype(object)
    known = rows.assign(title=titles.where(titles.notna(), None)).reset_index(drop=True)
    drafts = pd.Series(draft_replies(known, tone or tones()[0], box.service), dtype=object)
    if tone is None:
        drafts = known["reply_draft"].where(known["reply_draft"].notna(), drafts)
    made = pd.DataFrame({REVIEW_ID: known[REVIEW_ID], "status": status, TEXT: drafts, "run_id": known["run_id"]})
    own = made[REVIEW_ID].map(lambda review_id: written_draft(data.name, review_id))
    if status == "approved" and own.notna().any():
        changed = own.notna() & (own != made[TEXT])
        made = made.assign(status=made["status"].mask(changed, "edited"), text=made[TEXT].mask(changed, own))
    return made[made[TEXT].str.strip() != ""] if status == "approved" else made


def bar(data: Dataset, box: Inbox, chosen: Sequence[str]) -> None:
    """What can be done with the chosen reviews; nothing while none is."""
    if not chosen:
        return
    tone = st.session_state.get(TONE)
    tone = tone if tone in tones() else None
    how = f" in the {tone} tone" if tone else " as they were scored"
    told, sure = page.count(len(chosen), "review"), st.session_state.get(_SURE)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", border=True, key="inbox-bulk"):
        if sure in _VERBS:
            words = f"{_VERBS[sure]} {len(chosen):,} drafts{how if sure == 'approved' else ''}?"
            st.html(f'<p class="mq-line"><strong>{words}</strong></p>', width="content")
            access.button(f"Yes, {_VERBS[sure].lower()}", type="primary", key="bulk-yes", on_click=_decide_all,
                          args=(data, box, chosen, sure, tone))  # fmt: skip
            st.button("Not now", key="bulk-no", on_click=st.session_state.pop, args=(_SURE, None))
            return
        st.html(f'<p class="mq-line"><strong>{told} chosen</strong></p>', width="content")
        for status, icon in (("approved", "done_all"), ("dismissed", "close")):
            several = len(chosen) > SURE_ABOVE
            access.button(
                "Approve drafts" if status == "approved" else "Dismiss drafts",
                icon=f":material/{icon}:",
                key=f"bulk-{status}",
                help=f"The drafts are kept{how}, each as its review shows it." if status == "approved" else None,
                on_click=st.session_state.update if several else _decide_all,
                args=({_SURE: status},) if several else (data, box, chosen, status, tone),
            )
        st.button("Choose none", type="tertiary", key="bulk-none", on_click=tick, args=([],))


def _decide_all(data: Dataset, box: Inbox, chosen: Sequence[str], status: str, tone: str | None) -> None:
    st.session_state.pop(_SURE, None)
    made = decisions(data, box, chosen, status, tone)
    try:
        moment = replies.decide_all(data.name, made)
    except UserError as mistake:
        st.session_state[PROBLEM] = str(mistake)
        return
    st.session_state.pop(TICKED, None)
    done = f"{page.count(len(made), 'draft')} {_DONE[status]}"
    if left := len(chosen) - len(made):
        st.session_state[PROBLEM] = f"{page.count(left, 'review')} without a draft stayed open."
    st.session_state[LAST] = {"dataset": data.name, "moment": moment, "said": done}
    st.session_state[TOAST] = f"{done}. Undo is above the queue."
