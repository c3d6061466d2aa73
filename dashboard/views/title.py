"""One title: what it is, why it is shown, its audience, what people say, what is like it."""

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import artwork, choices, members, page, posters, series, shelf, store, summary
from data.dataset import Dataset
from recsys import pages
from recsys.viewing import Viewing, shown, title_of

HISTORY_DAYS = 182


def render() -> None:
    with page.titled("Title"):
        data = page.current_dataset()
        catalogue = pd.DataFrame() if data is None else store.catalogue(data)
        seen = None if data is None else store.viewing(data)
    if data is None:
        page.empty("No dataset is loaded", "Titles appear here once a dataset is: start on the Home or the Data page.")
        return
    item_id = st.query_params.get("title") or st.session_state.get("title")
    if item_id is None or item_id not in catalogue.index:
        page.empty(
            "Choose a title",
            "This page shows one title: pick a card on the Home page or search for a title there."
            if item_id is None
            else f"Dataset '{data.name}' has no such title. It may belong to another dataset.",
        )
        st.page_link("views/home.py", label="Go to Home", icon=":material/arrow_back:")
        return
    st.session_state["title"] = item_id
    member = members.chosen_member(data, seen) if seen is not None else None
    st.page_link("views/home.py", label="Home", icon=":material/arrow_back:", query_params=page.address(member=member))
    for sentence in store.damaged(data.name, ["recommendations"]):
        page.notice("warn", sentence)
    _head(data, item_id, member, catalogue, seen)
    if member is not None:
        st.space("small")
        choices.choices(data, item_id, member)
    st.space("medium")
    audience, said = st.columns(2, gap="large")
    with audience:
        page.guarded(_audience)(data, item_id, catalogue, seen)
        if member is not None:
            st.space("small")
            choices.own_reviews(data, item_id, member)
    with said:
        page.guarded(summary.what_people_say)(data, item_id)
    st.space("medium")
    like = _more_like(data, item_id, member, catalogue, seen)
    artwork.late(catalogue, [item_id, *like], key=f"late-{item_id}")


def _head(data: Dataset, item_id: str, member: str | None, catalogue: pd.DataFrame, seen: Viewing | None) -> None:
    title = title_of(catalogue, item_id)
    year, genres = posters.year_text(title.year), ", ".join(title.genres)
    percent, reason = None, ""
    if seen is not None and member is not None:
        told = members.match(data, seen, member, [item_id]).iloc[0]
        percent, reason = shelf.match_percent(told["match"]), shelf.reason_text(told["reason_item_id"], catalogue)
    known = seen is not None and item_id in seen.titles.index
    facts: Any = seen.titles.loc[item_id] if seen is not None and known else None
    lines = []
    if percent:
        lines.append(f"{percent} % match for {store.member_label(data, member or '')}")
    if facts is not None:
        lines.append(f"Seen by {page.count(facts['members'], 'member')}")
        if facts["ratings"]:
            lines.append(f"Rated {facts['mean_rating']:.1f} on average ({page.count(facts['ratings'], 'rating')})")
    own = ""
    if seen is not None and member is not None:
        own = _own_history(seen, member, item_id)
    drawn, real = posters.poster(title.shown, title.year, title.genres), artwork.addresses(catalogue, [item_id])
    full = title.listed if title.listed != title.shown else ""
    st.html(
        f'<div class="mq-title">{posters.poster_html(drawn, 220, artwork.over(real, item_id))}<div>'
        f"<h1>{html.escape(title.shown)}</h1>"
        f'<p class="mq-title-facts">{html.escape("  ·  ".join(part for part in (year, genres) if part))}</p>'
        + "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        + (f'<p class="mq-title-reason">{html.escape(reason)}.</p>' if reason else "")
        + (f'<p class="mq-muted">{html.escape(own)}</p>' if own else "")
        + (f'<p class="mq-muted">Listed as “{html.escape(full)}”</p>' if full else "")
        + "</div></div>"
    )


def _own_history(seen: Viewing, member: str, item_id: str) -> str:
    events = seen.of(member)
    mine = seen.item[events] == seen.position(item_id)
    if not mine.any():
        return ""
    rating, time = seen.rating[events][mine][-1], pd.Timestamp(seen.time[events][mine][-1], unit="us", tz="UTC")
    return f"You rated it {rating:g} on {page.when(time)}." if rating == rating else f"You saw it on {page.when(time)}."


def _audience(data: Dataset, item_id: str, catalogue: pd.DataFrame, seen: Viewing | None) -> None:
    st.header("Audience")
    if seen is None or data.time_kind != "real":
        page.notice("none", "This dataset has no times, so there is no history to show.")
        return
    from dashboard import charts

    past = series.window(series.of_title(seen, item_id), HISTORY_DAYS)
    forecast = store.scores(data.name, "engagement_forecast")
    ahead = pd.DataFrame() if forecast is None else forecast[forecast["series_id"] == f"title:{item_id}"]
    weekly = past.set_index("date")["value"].resample("7D", origin="end").sum()
    name = shown(catalogue, item_id)
    if len(ahead):
        chart = charts.fan_chart(
            past, ahead, title=f"{name}: {seen.noun}s per day", unit=f"{seen.noun}s per day", dark=page.dark()
        )
    else:
        frame = weekly.reset_index(name="value")
        chart = charts.fan_chart(
            frame, ahead, title=f"{name}: {seen.noun}s per week", unit=f"{seen.noun}s per week", dark=page.dark()
        )
    charts.show(chart, page.dark(), f"Audience of {name} over the last {HISTORY_DAYS} days", height=260)
    if not len(ahead):
        st.caption("No forecast for this title: the forecaster follows the most-watched titles only.")


def _more_like(
    data: Dataset, item_id: str, member: str | None, catalogue: pd.DataFrame, seen: Viewing | None
) -> list[str]:
    """A row of titles like this one; returns which."""
    if seen is None:
        return []
    row = pages.more_like(item_id, seen, catalogue, store.similar(data, item_id), store.title_sentiment(data))
    if not len(row.cards):
        return []
    picked = shelf.shelf(row, catalogue, key=f"like-{item_id}")
    if picked is not None:
        st.switch_page("views/title.py", query_params=page.address(title=picked, member=member))
    return list(row.cards["item_id"])


page.guarded(render)()
