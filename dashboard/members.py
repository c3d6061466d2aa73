"""Who is watching: the choice of a member, kept for the session and in the address."""

import html

import numpy as np
import streamlit as st

from dashboard import page, store
from data.dataset import Dataset
from recsys.viewing import Viewing

# So many are sent to the browser; any other member is reached by typing the id.
LISTED = 2000


def members(seen: Viewing) -> list[str]:
    """Member ids for the list: all in natural order, or the most active ones when there are too many."""
    ids = [str(user_id) for user_id in seen.user_ids]
    if len(ids) > LISTED:
        events = dict(zip(ids, seen.events_per_member.tolist(), strict=True))
        ids = sorted(ids, key=lambda user_id: -events[user_id])[:LISTED]
    return sorted(ids, key=lambda user_id: (len(user_id), user_id))


def default_member(seen: Viewing) -> str | None:
    """The member seen last among those with at least twenty events (or the longest history there is)."""
    if len(seen.user_ids) == 0:
        return None
    enough = seen.events_per_member >= min(20, seen.events_per_member.max())
    return str(seen.user_ids[int(np.argmax(np.where(enough, seen.last_time, np.iinfo(np.int64).min)))])


def chosen_member(seen: Viewing) -> str | None:
    """The member in the address, else the session's, else the default; unknown ids are passed over."""
    for user_id in (st.query_params.get("member"), st.session_state.get("member")):
        if user_id in seen.user_ids:
            st.session_state["member"] = user_id
            return user_id
    return default_member(seen)


def choose_member(data: Dataset, seen: Viewing) -> str | None:
    """Draw the choice; returns the member's id."""
    now = chosen_member(seen)
    options = members(seen)
    if now is not None and now not in options:
        options = [now, *options]
    label = store.member_label(data, now or "")
    initial = next((c for c in label.removeprefix("Member ") if c.isalnum()), "?").upper()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", wrap=False):
        st.html(
            f'<div class="mq-avatar" style="background:{page.avatar_colour(now or "")}" aria-hidden="true">'
            f"{html.escape(initial)}</div>",
            width=40,
        )
        picked = st.selectbox(
            "Who is watching?",
            options,
            index=options.index(now) if now is not None else None,
            format_func=lambda user_id: store.member_label(data, user_id),
            accept_new_options=len(seen.user_ids) > LISTED,
            key=f"choose-member-{data.name}-{now}",
        )
    if picked is not None and picked != now:
        if picked in seen.user_ids:
            st.session_state["member"] = picked
            st.query_params.from_dict(page.address(member=picked))
            st.rerun()
        page.notice("warn", f"There is no member '{picked}' in dataset '{data.name}': choose one from the list.")
    return now
