"""What a first page needs is read while the server starts, and not when the first visitor waits for it."""

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st

from data.errors import UserError

_log = logging.getLogger("dashboard")


@asynccontextmanager
async def warmed(app: st.App) -> AsyncIterator[None]:
    """The server's life: it answers at once, and warms up beside that."""
    threading.Thread(target=warm, name="warm-up", daemon=True).start()
    yield


def warm() -> None:
    """Import what pages import and read what they read of the default dataset; what is wrong with it the pages say."""
    try:
        from dashboard import choices, members, offers, onboarding, page, shelf, store  # noqa: F401

        name = store.default_dataset()
        if name is None:
            return
        data = store.dataset(name)
        seen = store.viewing(data)
        store.catalogue(data)
        if seen is not None and (member := members.default_member(seen)) is not None:
            store.member_label(data, member)
            store.listed(data, member, members.happened(data, member))
            seen.titles  # noqa: B018  (counted once)
        store.scores(name, "recommendations")
        store.scores_are_probabilities(name)
        store.title_forecasts(data)
        store.title_sentiment(data)
        store.live(name, "recommender")
        store.first_page.wait(store.FIRST_PAGE_SECONDS)
        store.described(data)
        if data.has("interactions") and data.time_kind == "real":
            from dashboard import charts, staying  # noqa: F401

            store.panel(data)
            staying.frames(data)
    except UserError as mistake:
        _log.warning("%s", mistake)
    except Exception:
        _log.exception("The server could not warm up")
