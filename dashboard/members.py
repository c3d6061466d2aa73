"""Who is watching: profiles with their faces, the choice among all members, kept for the session and in the address."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import access, page, store, welcome
from dashboard.inline import component
from data import events
from data.dataset import Dataset
from data.errors import UserError
from data.schema import SCORES
from recsys import rows
from recsys.viewing import Viewing

# So many are sent to the browser; any other member is reached by typing the id.
LISTED = 2000
PROFILES = 4  # faces beside each other


def members(seen: Viewing) -> list[str]:
    """Member ids for the list: all in natural order, or the most active ones when there are too many."""
    ids = [str(user_id) for user_id in seen.user_ids]
    if len(ids) > LISTED:
        active = dict(zip(ids, seen.events_per_member.tolist(), strict=True))
        ids = sorted(ids, key=lambda user_id: -active[user_id])[:LISTED]
    return sorted(ids, key=lambda user_id: (len(user_id), user_id))


def default_member(seen: Viewing) -> str | None:
    """The member seen last among those with at least twenty events (or the longest history there is)."""
    if len(seen.user_ids) == 0:
        return None
    enough = seen.events_per_member >= min(20, seen.events_per_member.max())
    return str(seen.user_ids[int(np.argmax(np.where(enough, seen.last_time, np.iinfo(np.int64).min)))])


def newcomers(data: Dataset) -> list[str]:
    """See dashboard.store.newcomers; nobody while the database cannot be read."""
    try:
        return store.newcomers(data)
    except UserError:
        return []


def chosen_member(data: Dataset, seen: Viewing) -> str | None:
    """The member in the address, else the session's, else the default; unknown ids are passed over."""
    for user_id in (st.query_params.get("member"), st.session_state.get("member")):
        if user_id is not None and (user_id in seen.user_ids or user_id in newcomers(data)):
            st.session_state["member"] = user_id
            if st.query_params.get("member") != user_id:  # chosen in a dialog or on another page
                st.query_params["member"] = user_id
            return user_id
    return default_member(seen)


def initial(label: str) -> str:
    """The letter or digit on a face.

    >>> initial("Member 196 · 49 · writer"), initial("ada"), initial("–")
    ('1', 'A', '?')
    """
    return next((c for c in label.removeprefix("Member ") if c.isalnum()), "?").upper()


def _profile(data: Dataset, user_id: str, now: str | None) -> dict[str, Any]:
    label = store.member_label(data, user_id)
    return {
        "id": user_id,
        "initial": initial(label),
        "colour": page.avatar_colour(user_id),
        "name": label.removeprefix("Member ").split(" · ")[0],
        "label": label,
        "current": user_id == now,
    }


def profiles(data: Dataset, now: str | None, new: list[str]) -> list[str]:
    """Whose faces are drawn: who watched in this session, and who is new, in an order that choosing does not change."""
    faces: list[str] = st.session_state.setdefault(f"profiles-{data.name}", [])
    for user_id in [*reversed(new[-PROFILES:]), now]:
        if user_id is not None and user_id not in faces:
            faces.insert(0, user_id)
    if now in faces[PROFILES:]:
        faces.remove(now)
        faces.insert(0, now)
    del faces[PROFILES:]
    return faces


def happened(data: Dataset, user_id: str) -> pd.DataFrame:
    """See dashboard.store.happened; nothing while the database cannot be read."""
    try:
        return store.happened(data, user_id)
    except UserError:
        return events.nothing()


def ranked(data: Dataset, user_id: str, since: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The member's rows of the recommendations table, by the live model or else as scored, and whether their scores are
    probabilities.

    Args:
        since: see dashboard.store.happened.
    """
    live = store.match_of(data, user_id, since)
    if live is not None:
        return live, rows.are_probabilities(live)
    scored = store.sound_scores(data.name, "recommendations")
    if scored is None:
        return pd.DataFrame(columns=SCORES["recommendations"].names), False
    return scored[scored["user_id"] == user_id], store.scores_are_probabilities(data.name)


def match(data: Dataset, seen: Viewing, user_id: str, item_ids: Sequence[str]) -> pd.DataFrame:
    """`match` (0 to 1, NaN where it is not known) and `reason_item_id` of some titles for a member, by item_id."""
    scored, probabilities = ranked(data, user_id, happened(data, user_id))
    unseen = len(store.catalogue(data)) - len(seen.history(user_id).known)
    mine = rows.scored(scored[scored["item_id"].isin(item_ids)], unseen, probabilities=probabilities)
    return mine.set_index("item_id")[["match", "reason_item_id"]].reindex(list(item_ids))


def choose_member(data: Dataset, seen: Viewing) -> str | None:
    """Draw the choice; returns the member's id."""
    now, new = chosen_member(data, seen), newcomers(data)
    options = [*new, *members(seen)]
    if now is not None and now not in options:
        options = [now, *options]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="profiles"):
        faces = [_profile(data, user_id, now) for user_id in profiles(data, now, new)]
        result = component("profiles")(
            key=f"faces-{data.name}",
            data={"profiles": faces, "may_add": access.may_edit()},
            width="content",
            on_picked_change=lambda: None,
            on_added_change=lambda: None,
        )
        with st.popover("Everybody", icon=":material/group:", type="tertiary"):
            picked = st.selectbox(
                "Who is watching?",
                options,
                index=options.index(now) if now is not None else None,
                format_func=store.member_labels(data),
                accept_new_options=len(seen.user_ids) > LISTED,
                key=f"choose-member-{data.name}-{now}",
            )
    if result.added and access.may_edit():
        welcome.ask(data, seen)
    picked = result.picked or picked
    if picked is not None and picked != now:
        if picked in seen.user_ids or picked in new:
            st.session_state["member"] = picked
            st.query_params.from_dict(page.address(member=picked))
            st.rerun()
        page.notice("warn", f"There is no member '{picked}' in dataset '{data.name}': choose one from the list.")
    return now
