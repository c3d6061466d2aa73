"""What a page offered and what of it was chosen: impressions and clicks, with their place, rank and run.

A page that is drawn again unchanged is the same offer, for PAGE_SECONDS. Of a row the cards that stand on a screen
without scrolling count as seen; of one in random order (recsys/exploration.py) all are kept, since an estimate needs
to know what else could have stood there.
"""

import hashlib
import os
import time
import uuid
from typing import NamedTuple

import streamlit as st

from dashboard import access, page, store
from data import events
from data.dataset import Dataset
from data.errors import UserError
from data.events import Event
from recsys.exploration import EXPLORED_ROW, explored
from recsys.pages import Page, Row

VISIBLE = 8  # cards of 150 pixels beside each other on a wide screen
PAGE_SECONDS = 30 * 60
EXPLORE = 0.1
BILLBOARD = "billboard"
# Rows whose titles the recommender's scores put in order.
_SCORED = ("picks", "gems", "new", BILLBOARD)


class Offer(NamedTuple):
    """A page as a member sees it."""

    page: Page
    page_id: str
    run_id: str | None  # of the scores behind it
    in_random_order: int  # titles of the explored row, 0 for none


def share_explored() -> float:
    """`MARQUEE_EXPLORE`: on which share of member-days the top picks stand in random order.

    Raises:
        UserError: it is no number from 0 to 1.
    """
    given = os.environ.get("MARQUEE_EXPLORE") or str(EXPLORE)
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"MARQUEE_EXPLORE is '{given}': give a share from 0 (never) to 1 (always).")
    return share


def offer(data: Dataset, member: str, made: Page, run_id: str | None) -> Offer:
    """What the member gets of a page, and its id; chance may have put the top picks in another order."""
    day = events.service_time(data, events.now()).date()
    shown, number = explored(made, f"{data.name}\n{member}\n{day}", share_explored())
    named = (data.name, member, run_id, *(tuple(row.cards["item_id"]) for row in shown.rows))
    # Not the names themselves: a session that clicks a thousand times would hold a thousand pages.
    content = hashlib.blake2b(repr(named).encode(), digest_size=16).digest()
    drawn = st.session_state.setdefault("offers", {})
    page_id, since = drawn.get(content, ("", 0.0))
    if time.time() - since > PAGE_SECONDS:
        page_id = str(uuid.uuid4())
        drawn[content] = (page_id, time.time())
    return Offer(shown, page_id, run_id, number)


def _event(kind: str, member: str, offered: Offer, row: str, rank: int, item_id: str) -> Event:
    by_score = row in _SCORED or row.startswith("genre-")
    chance = row == EXPLORED_ROW and 0 < rank <= offered.in_random_order
    return Event(
        member,
        kind,
        item_id,
        place=f"home:{row}"[:200],
        rank=rank,
        run_id=offered.run_id if by_score else None,
        page_id=offered.page_id,
        propensity=1 / offered.in_random_order if chance else None,
        event_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{offered.page_id}\n{kind}\n{row}\n{rank}")),
    )


def impressions(member: str, offered: Offer) -> list[Event]:
    """What the page shows before anybody scrolls in a row."""
    rows = [Row(BILLBOARD, "", offered.page.billboard), *offered.page.rows]
    seen = [offered.in_random_order if row.key == EXPLORED_ROW else 0 for row in rows]
    return [
        _event("impression", member, offered, row.key, rank, item_id)
        for row, number in zip(rows, seen, strict=True)
        for rank, item_id in enumerate(row.cards["item_id"].head(max(VISIBLE, number)), 1)
    ]


def shown(data: Dataset, member: str, offered: Offer) -> None:
    """Keep that the page was shown, once; a database that cannot be written is said, and the page stays."""
    kept = st.session_state.setdefault("offers-kept", set())
    if offered.page_id in kept or not access.may_edit():  # what a viewer looks at was not offered to the member
        return
    try:
        events.record(store.dataset(data.name), impressions(member, offered))
    except UserError as mistake:
        page.notice("warn", str(mistake))
    else:
        kept.add(offered.page_id)


def clicked(data: Dataset, member: str, offered: Offer, row: str, item_id: str) -> None:
    """Keep that a card was chosen."""
    cards = next((r.cards for r in offered.page.rows if r.key == row), offered.page.billboard)
    places = cards.index[cards["item_id"] == item_id]
    if not len(places) or not access.may_edit():
        return
    try:
        events.record(store.dataset(data.name), [_event("click", member, offered, row, int(places[0]) + 1, item_id)])
    except UserError as mistake:
        page.notice("warn", str(mistake))
