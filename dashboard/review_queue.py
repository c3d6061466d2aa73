"""The queue of reviews as a component: real buttons, one of them open. Its HTML, CSS and JavaScript lie in components/.

A review's text reaches the page through textContent only.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd

from dashboard import page
from dashboard.inbox import opening, records
from dashboard.inline import component
from dashboard.moods import mood_kind, mood_words, priority_words
from data.schema import CREATED_AT, ITEM_ID, LABEL, REVIEW_ID, TEXT

_STATES = {"approved": "✓ approved", "edited": "✓ edited", "dismissed": "✕ dismissed"}
KEYS = "Keys: j and k for the next and the one before, a approve, d dismiss, e edit, x choose, u undo"
LISTED = 60  # rows at first; as many again for each "more"


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
    listed: int,
    ticked: Collection[str],
    key: str,
    on_picked: Callable[[], None],
    on_more: Callable[[], None],
    on_ticked: Callable[[], None],
    on_all: Callable[[], None],
) -> None:
    """Draw the first `listed` reviews of the queue; a pick is told through the callbacks.

    Args:
        queue: rows of the inbox, in order.
        titles: the shown title of each item_id.
        status: of the reviews that were decided.
        ticked: the reviews that are chosen; open ones of the queue.
    """
    # The open review is always among them, wherever it came from.
    at = queue[REVIEW_ID].tolist().index(open_id) if open_id in set(queue[REVIEW_ID]) else 0
    shown = queue.head(max(listed, at + 1))
    rows = [row_data(review, titles.get(review[ITEM_ID]), status.get(review[REVIEW_ID])) for review in records(shown)]
    left = len(queue) - len(rows)
    component("queue")(
        key=key,
        data={
            "count": page.count(len(queue), "review") + (", the first to answer on top" if len(queue) > 1 else ""),
            "rows": rows,
            "open": open_id,
            "more": f"Show more ({left:,} further)" if left else "",
            "ticked": list(ticked),
            "open_count": int((~queue[REVIEW_ID].isin(status.keys())).sum()),
            "keys": KEYS,
        },
        on_picked_change=on_picked,
        on_more_change=on_more,
        on_ticked_change=on_ticked,
        on_all_change=on_all,
    )
