"""Home: who is watching, a search, one billboard, rows of titles."""

import pandas as pd
import streamlit as st

from dashboard import artwork, choices, members, offers, onboarding, page, shelf, store
from dashboard.skeleton import loading
from data import events
from data.dataset import Dataset, list_datasets
from data.errors import UserError
from data.events import Event
from recsys import pages
from recsys.rows import cards, latest_favourite
from recsys.viewing import RECENT_DAYS, THUMB_DOWN, Viewing, shown

PAGE_OF_TITLE = "views/title.py"
TABLES = ("recommendations", "engagement_forecast", "review_scores")  # what a page is made from beside the dataset
LOADING_SECONDS = 20.0


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
    did: tuple[str, ...],
    _data: Dataset,
    _since: pd.DataFrame,
) -> tuple[pages.Page, str | None, bool]:
    """Billboard and rows of a member, the run of the recommender behind them, and whether its scores are probabilities.

    Args:
        scored_at: ages of the score tables `TABLES`.
        run: the live recommender; None without one, then the table of recommendations stands in.
        did: ids of what the member did since the tables were written, and `_since` these events.
    """
    seen = store.viewing(_data)
    if seen is None:
        return pages.Page(cards([]), []), None, False
    mine = seen.history(member).continued(_since)
    favourite = latest_favourite(mine)
    similar = store.similar(_data, favourite) if run and favourite else None
    ranked, probabilities = members.ranked(_data, member, _since)
    made = pages.home_rows(
        mine,
        seen,
        store.catalogue(_data),
        ranked,
        similar,
        probabilities=probabilities,
        forecasts=store.title_forecasts(_data),
        sentiment=store.title_sentiment(_data),
        listed=store.listed(_data, member, _since),
    )
    return made, None if ranked.empty else str(ranked["run_id"].iloc[0]), probabilities


@st.fragment
@page.guarded
def watching(data: Dataset, seen: Viewing) -> None:
    """Who is watching and a search, and under them what it finds or the member's own page. One click draws this again
    and nothing else."""
    names = list_datasets()
    columns = st.columns([5, 3, 2] if len(names) > 1 else [5, 4], vertical_alignment="center")
    with columns[0]:
        member = members.choose_member(data, seen)
    with columns[1]:
        words = st.text_input(
            "Search titles",
            type="search",
            live=True,
            placeholder="Search titles",
            label_visibility="collapsed",
            key=f"search-{data.name}",
        )
    if len(names) > 1:
        with columns[2]:
            page.choose_dataset(names, label_visibility="collapsed")
    onboarding.offer(data)
    if member is None:
        return
    if (words or "").strip():
        _search(data, seen, member, str(words).strip())
    else:
        _rows(data, seen, member)
    artwork.attribution()


def _search(data: Dataset, seen: Viewing, member: str, words: str) -> None:
    catalogue = store.catalogue(data)
    item_ids = store.search(data, words)
    if not item_ids:
        page.empty("No title is like that", f"Nothing in dataset '{data.name}' resembles “{words}”: try another word.")
        return
    found = cards(item_ids)
    found = found.assign(match=members.match(data, seen, member, item_ids)["match"].to_numpy())
    row = pages.Row("search", f"Found for “{words}”", found, page.count(len(found), "title"))
    open_title(shelf.shelf(row, catalogue, key=f"found-{member}"), member)
    artwork.late(catalogue, item_ids, key=f"late-{data.name}")


def _rows(data: Dataset, seen: Viewing, member: str) -> None:
    catalogue = store.catalogue(data)
    live = store.live(data.name, "recommender")
    if live is not None and not live.ready and member not in seen.user_ids:
        with loading("rows", "Loading the recommender, which makes the first rows of a new member …"):
            live.wait(LOADING_SECONDS)
    run = live.run_id if live is not None and live.ready else None
    ages = tuple(store.scored_at(data.name, table) for table in TABLES)
    try:
        since, is_known = store.happened(data, member), True
    except UserError as mistake:  # the rows are there without what happened since
        page.notice("warn", str(mistake))
        since, is_known = events.nothing(), False
    did = tuple(since["event_id"])
    with loading("rows", "Putting the rows together …", once=f"home-{data.name}"):
        damaged = store.damaged(data.name, TABLES)
        made, scored_by, probabilities = home_page(
            str(data.folder), data.fingerprint, ages, run, member, did, data, since
        )
    for sentence in damaged:
        page.notice("warn", sentence)
    offered = offers.offer(data, member, made, scored_by)
    top, shelves = offered.page
    if len(top):
        card = top.iloc[0]
        key = f"billboard-{member}"

        def acted() -> None:
            _act(data, member, offered, str(card["item_id"]), shown(catalogue, card["item_id"]), key)

        picked = shelf.billboard(card, catalogue, key=key, on_acted=acted)
        if picked is not None:
            offers.clicked(data, member, offered, offers.BILLBOARD, picked)
            open_title(picked, member)
    choices.last_done(data, member)
    for row in shelves:
        picked = shelf.shelf(row, catalogue, key=f"{row.key}-{member}")
        if picked is not None:
            offers.clicked(data, member, offered, row.key, picked)
            open_title(picked, member)
    if not shelves:
        page.empty("Nothing left to show", "This member has seen every title that the dataset knows.")
    if is_known:
        offers.shown(data, member, offered)
    artwork.late(catalogue, [item_id for row in shelves for item_id in row.cards["item_id"]], key=f"late-{data.name}")
    if not damaged:
        _foot(data, seen, scored_by, probabilities)


def _act(data: Dataset, member: str, offered: offers.Offer, item_id: str, name: str, key: str) -> None:
    """What was chosen on the billboard happens before anything is drawn, so that everything drawn knows of it."""
    kind = str(getattr(st.session_state.get(key), "acted", ""))  # none in a session from before a restart
    said = {
        "watch": f"Watched {name}",
        "list_add": f"Put {name} on your list",
        THUMB_DOWN: f"{name} is not for you",
    }.get(kind)
    if said is not None:
        place = f"home:{offers.BILLBOARD}"
        event = Event(member, kind, item_id, place=place, rank=1, run_id=offered.run_id, page_id=offered.page_id)
        choices.do(data, event, said)


def _foot(data: Dataset, seen: Viewing, scored_by: str | None, probabilities: bool) -> None:
    if scored_by is None:
        if store.scored_at(data.name, "recommendations") is not None:
            page.notice(
                "none", "This member came after the last scoring: rows show what is popular until the next one."
            )
        return
    badge = (
        "the recommender's own probability that this member picks it rather than one of a few drawn at random"
        if probabilities
        else "the share of the titles this member has not seen that the recommender ranks below it"
    )
    st.caption(
        f"The per cent on a card is {badge}. Recent means the {RECENT_DAYS} days before "
        f"{page.when(seen.as_of)}, where the data end."
    )


def render() -> None:
    with page.titled("Home"):
        data = page.current_dataset()
        seen = None if data is None else store.viewing(data)
    if data is None:
        onboarding.offer(None)
        return
    if seen is None or len(seen.user_ids) == 0:
        page.header("Home")
        page.empty(
            "No viewing history in this dataset",
            f"Dataset '{data.name}' holds {', '.join(t for t, n in data.rows.items() if n) or 'nothing'}. "
            "Rows of titles need interactions: who watched or rated what, and when.",
            f"python -m data import --name {data.name} --replace --interactions FILE",
        )
        return
    watching(data, seen)


page.guarded(render)()
