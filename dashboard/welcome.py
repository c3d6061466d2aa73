"""A new member: a name, and a few titles that they like; the recommender knows no more of anybody."""

import datetime as dt
import html
import uuid

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import artwork, page, shelf, store
from data import events
from data.dataset import Dataset
from data.errors import UserError
from data.events import Event
from recsys.viewing import THUMB_UP, Viewing, shown

PLACE = "welcome"
FEWEST, OFFERED, LONGEST_NAME = 3, 20, 40
_AMONG = 150  # the best known titles that the offer is chosen from


def suggestions(seen: Viewing, catalogue: pd.DataFrame, k: int = OFFERED) -> list[str]:
    """Well-known titles of many kinds: genre after genre, the most watched title of each that is left."""
    known = seen.titles["members"].sort_values(ascending=False, kind="stable").index
    best = pd.Index(known[known.isin(catalogue.index)][:_AMONG])
    genre = np.array([str(names[0]) if len(names) else "" for names in catalogue.loc[best, "genres"]], dtype=object)
    turn = pd.Series(genre).groupby(genre).cumcount().to_numpy()
    return [str(item_id) for item_id in best[np.lexsort((np.arange(len(best)), turn))][:k]]


def problem(data: Dataset, seen: Viewing, name: str, chosen: list[str]) -> str:
    """Why a member cannot be added; "" when nothing stands against it.

    Raises:
        UserError: the database cannot be reached.
    """
    if not name:
        return "Give the new member a name."
    users = store.table(data, "users")
    taken = name in seen.user_ids or (users is not None and bool((users["user_id"] == name).any()))
    if taken or name in store.newcomers(data):
        return f"There is a member {name} already: choose another name."
    if len(chosen) < FEWEST:
        return f"Pick {page.count(FEWEST - len(chosen), 'more title')}: the first rows are made of them."
    return ""


def add(data: Dataset, name: str, chosen: list[str]) -> None:
    """Keep the titles as liked by a new member; sent twice it is kept once.

    Raises:
        UserError: the database cannot be reached or written.
    """
    made_at = dt.datetime.now(dt.UTC)
    liked = [
        Event(
            name,
            THUMB_UP,
            item_id,
            place=PLACE,
            rank=rank,
            event_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{data.name}\n{PLACE}\n{name}\n{item_id}")),
            made_at=made_at,
        )
        for rank, item_id in enumerate(chosen, 1)
    ]
    events.record(store.dataset(data.name), liked)


def _take() -> None:
    """Keep what is picked by now; runs before the dialog is drawn again."""
    sent = getattr(st.session_state.get("welcome-picker"), "picked", None)
    if sent is not None:
        st.session_state["welcome"] = list(dict.fromkeys(map(str, sent["chosen"])))
        st.session_state["welcome-turn"] = int(sent["turn"])


@st.dialog("Who is new?", width="large")
@page.guarded
def ask(data: Dataset, seen: Viewing) -> None:
    """The dialog; when it is done the new member is the one who is watching."""
    catalogue = store.catalogue(data)
    chosen = [item_id for item_id in st.session_state.setdefault("welcome", []) if item_id in catalogue.index]
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        name = st.text_input("Name", max_chars=LONGEST_NAME, key="welcome-name", placeholder="Ada")
    with right:
        words = st.text_input(
            "Look for a title", type="search", live=True, key="welcome-words", placeholder="Any title"
        )
    offered = store.search(data, words or "")[:OFFERED] if (words or "").strip() else suggestions(seen, catalogue)
    st.html(
        f'<p style="margin:0">Pick at least {FEWEST} titles that they like'
        f'<span class="mq-muted"> · {len(chosen)} picked'
        + (f": {html.escape(', '.join(shown(catalogue, item_id) for item_id in chosen))}" if chosen else "")
        + "</span></p>"
    )
    if not offered:
        page.notice("none", "No title is like that.")
    else:
        turn = st.session_state.get("welcome-turn", 0)
        shelf.picker(offered, chosen, turn, catalogue, key="welcome-picker", on_picked=_take)
        artwork.late(catalogue, offered, key="late-welcome")
    if st.button("Start watching", type="primary", key="welcome-start"):
        name = " ".join((name or "").split())
        try:
            wrong = problem(data, seen, name, chosen)
            if not wrong:
                add(data, name, chosen)
        except UserError as mistake:
            wrong = str(mistake)
        if wrong:
            page.notice("warn", wrong)
            return
        st.session_state["welcome"] = []
        st.session_state["member"] = name
        st.query_params.from_dict(page.address(member=name))
        st.rerun()
