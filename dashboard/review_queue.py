"""The queue of reviews as a component: a check box and a button for each, one of them open, and keys for all of it.

Its HTML, CSS and JavaScript lie in components/.

A review's text reaches the page through textContent only.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import bulk, page
from dashboard.deciding import Listed, decide, open_review, undo, undo_last
from dashboard.inbox import opening, records
from dashboard.inline import component
from dashboard.moods import mood_kind, mood_words, priority_words
from data.schema import CREATED_AT, ITEM_ID, LABEL, REVIEW_ID, TEXT

_STATES = {"approved": "✓ approved", "edited": "✓ edited", "dismissed": "✕ dismissed"}
LISTED = 60  # rows at first; as many again for each "more"
ROWS, TURN = "inbox-rows", "inbox-turn"


def row_data(review: Mapping[str, Any], title: str | None, status: str | None) -> dict[str, Any]:
    """What the component needs of one review."""
    kind, word, number = priority_words(review["priority"])
    mood = mood_words(review[LABEL], review["p_positive"])
    aspects = (
        list(dict.fromkeys(str(one["aspect"]) for one in review["aspects"])) if review["aspects"] is not None else []
    )
    created = review[CREATED_AT]
    when = "" if created is None or pd.isna(created) else page.when(created)
    words = opening(review[TEXT])
    shown = title or "No title"
    spoken = [f"Priority {word.lower()}" + (f" {number}" if number else ""), shown, mood, when, words]
    return {
        "id": review[REVIEW_ID],
        "priority": word,
        "number": number,
        "level": kind,
        "title": shown,
        "linked": title is not None,
        "words": words,
        "kind": mood_kind(review[LABEL]),
        "mood": mood,
        "about": ", ".join(aspects),
        "when": when,
        "state": _STATES.get(status or "", ""),
        "name": ", ".join(part for part in spoken if part),
    }


def review_queue(
    queue: pd.DataFrame,
    titles: Mapping[str, str],
    status: Mapping[str, str],
    open_id: str,
    n_rows: int,
    chosen: Collection[str],
    n_open: int,
    said: str,
    key: str,
    on_sent: Callable[[], None],
) -> None:
    """Draw the first `n_rows` reviews of the queue; what is done there is told by `on_sent` (see components/queue.js).

    Args:
        queue: rows of the inbox, in order.
        titles: the shown title of each item_id.
        status: of the reviews that were decided.
        chosen: the reviews that are ticked, listed or not.
        n_open: how many of the queue can be ticked.
        said: news that is read aloud.
    """
    # The open review is always among them, wherever it came from.
    at = queue[REVIEW_ID].tolist().index(open_id) if open_id in set(queue[REVIEW_ID]) else 0
    shown = queue.head(max(n_rows, at + 1))
    rows = [row_data(review, titles.get(review[ITEM_ID]), status.get(review[REVIEW_ID])) for review in records(shown)]
    left, there = len(queue) - len(rows), set(chosen)
    component("queue")(
        key=key,
        data={
            "turn": st.session_state.get(TURN, 0),
            "count": page.count(len(queue), "review") + (", the first to answer on top" if len(queue) > 1 else ""),
            "rows": rows,
            "open": open_id,
            "more": f"Show more ({left:,} further)" if left else "",
            "ticked": [row["id"] for row in rows if row["id"] in there],
            "chosen": len(chosen),
            "openCount": n_open,
            "asked": st.session_state.get(bulk.SURE, ""),
            "said": said,
        },
        on_sent_change=on_sent,
    )


def heard(listed: Listed, sent: Mapping[str, Any] | None) -> None:
    """Do what the queue tells; nothing when it told nothing. Runs before anything is drawn."""
    if not sent:
        return
    st.session_state[TURN] = int(sent["turn"])
    can = set(listed.open_ids)
    bulk.tick_listed(listed.data, can.intersection(sent["on"]), can.intersection(sent["off"]))
    what, review_id, there = sent["do"], str(sent["id"]), set(listed.ids)
    if what == "more":
        st.session_state[ROWS] = 2 * st.session_state.get(ROWS, LISTED)
    elif what in ("all", "none"):
        bulk.tick(listed.data, listed.open_ids if what == "all" else ())
    elif what in ("approved all", "dismissed all"):
        status = what.removesuffix(" all")
        bulk.decide_chosen(listed, bulk.ticked(listed.data, listed.open_ids), status)
    elif review_id not in there:
        return
    elif what == "open":
        open_review(review_id)
    elif what in ("approved", "dismissed"):
        decide(listed, review_id, what)
    elif what == "undo":
        is_decided = review_id not in listed.open_ids
        undo(listed.data.name, review_id) if is_decided else undo_last()
