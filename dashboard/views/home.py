"""Home: who is watching, one billboard, rows of titles."""

import pandas as pd
import streamlit as st

from dashboard import members, onboarding, page, shelf, store
from data import events
from data.dataset import Dataset, list_datasets
from data.errors import UserError
from data.schema import SCORES
from recsys import pages
from recsys.rows import cards, latest_favourite
from recsys.viewing import RECENT_DAYS, shown

PAGE_OF_TITLE = "views/title.py"
TABLES = ("recommendations", "engagement_forecast", "review_scores")  # what a page is made from beside the dataset


def open_title(item_id: str | None, member: str | None) -> None:
    """Go to a title's page, by an address that can be shared; nothing when no card was picked."""
    if item_id is not None:
        st.switch_page(PAGE_OF_TITLE, query_params=page.address(title=item_id, member=member))


@st.cache_data(max_entries=512, show_spinner=False)
def home_page(
    folder: str,
    fingerprint: str,
    scored_at: tuple[float | None, ...],
    run: str | None,
    member: str,
    did: tuple[str, ...] | None,
    _data: Dataset,
) -> pages.Page:
    """Billboard and rows of a member.

    Args:
        scored_at: ages of the score tables `TABLES`.
        run: the live recommender that finds similar titles, None without one.
        did: ids of what the member did since the tables were written; None where that cannot be known.
    """
    seen = store.viewing(_data)
    if seen is None:
        return pages.Page(cards([]), [])
    since = store.happened(_data, member) if did is not None else events.nothing()
    mine = seen.history(member).continued(since)
    favourite = latest_favourite(mine)
    similar = store.similar(_data, favourite) if run and favourite else None
    scored = store.scores(_data.name, "recommendations")
    empty = pd.DataFrame(columns=SCORES["recommendations"].names)
    return pages.home_rows(
        mine,
        seen,
        store.catalogue(_data),
        empty if scored is None else scored[scored["user_id"] == member],
        similar,
        probabilities=store.scores_are_probabilities(_data.name),
        forecasts=store.title_forecasts(_data),
        sentiment=store.title_sentiment(_data),
        listed=store.listed(_data, member, since),
    )


def search(data: Dataset, member: str | None) -> None:
    """A box that finds a title as one types, and opens it."""
    catalogue = store.catalogue(data)
    picked = st.selectbox(
        "Search titles",
        catalogue.index,
        index=None,
        format_func=lambda item_id: shown(catalogue, item_id),
        placeholder="Search titles",
        key=f"search-{data.name}",
    )
    open_title(picked, member)


def render() -> None:
    data = page.current_dataset()
    if data is None:
        onboarding.offer(None)
        return
    names = list_datasets()
    seen = store.viewing(data)
    if seen is None or len(seen.user_ids) == 0:
        page.header("Home")
        page.empty(
            "No viewing history in this dataset",
            f"Dataset '{data.name}' holds {', '.join(t for t, n in data.rows.items() if n) or 'nothing'}. "
            "Rows of titles need interactions: who watched or rated what, and when.",
            f"python -m data import --name {data.name} --replace --interactions FILE",
        )
        return
    columns = st.columns([4, 3, 2] if len(names) > 1 else [4, 4], vertical_alignment="bottom")
    with columns[0]:
        member = members.choose_member(data, seen)
    with columns[1]:
        search(data, member)
    if len(names) > 1:
        with columns[2]:
            page.choose_dataset(names)
    onboarding.offer(data)
    if member is None:
        return
    catalogue = store.catalogue(data)
    live = store.live(data.name, "recommender")
    run = live.run_id if live is not None and live.ready else None
    age = store.scored_at(data.name, "recommendations")
    ages = tuple(store.scored_at(data.name, table) for table in TABLES)
    try:
        did = tuple(store.happened(data, member)["event_id"])
    except UserError as mistake:  # the rows are there without what happened since
        page.notice("warn", str(mistake))
        did = None
    top, shelves = home_page(str(data.folder), data.fingerprint, ages, run, member, did, data)
    if len(top):
        open_title(shelf.billboard(top.iloc[0], catalogue, key=f"billboard-{member}"), member)
    for row in shelves:
        open_title(shelf.shelf(row, catalogue, key=f"{row.key}-{member}"), member)
    if not shelves:
        page.empty("Nothing left to show", "This member has seen every title that the dataset knows.")
    if age is not None:
        scored = store.scores(data.name, "recommendations")
        if scored is not None and not (scored["user_id"] == member).any():
            page.notice(
                "none", "This member came after the last scoring: rows show what is popular until the next one."
            )
        badge = (
            "the recommender's own probability that this member picks it rather than one of a few drawn at random"
            if store.scores_are_probabilities(data.name)
            else "the share of the titles this member has not seen that the recommender ranks below it"
        )
        st.caption(
            f"The per cent on a card is {badge}. Recent means the {RECENT_DAYS} days before "
            f"{page.when(seen.as_of)}, where the data end."
        )


page.guarded(render)()
