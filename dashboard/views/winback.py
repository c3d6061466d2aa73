"""Win-back: who may leave, what that costs, why, and three titles to bring each of them back."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard import artwork, inbox, moods, onboarding, page, store
from dashboard.posters import poster, poster_html
from data import home
from data.as_csv import rounded_csv
from data.dataset import Dataset
from data.schema import GENRES, USER_ID, YEAR
from forecasting.winback import BANDS, PICKS, at_risk, picks_of, with_picks

SHOWN = 12
SEEN = {"30 days": 30, "60 days": 60, "90 days": 90, "180 days": 180, "Any time": None}
POSTER_WIDTH = 104


def render() -> None:
    data = page.header("Win-back", "Who may leave, what that costs, and what would bring them back")
    if data is None:
        onboarding.offer(None)
        return
    if not data.has("interactions") or data.time_kind == "order":
        page.empty(
            "Nobody can be followed here",
            f"Dataset '{data.name}' has no interactions with real times, so nobody knows who was away for how long. "
            "Choose another dataset, or import one with times.",
        )
        return
    scored = store.scores(data.name, "retention")
    if scored is None or scored.empty:
        onboarding.offer_model(data, "retention")
        return
    cohort(data, scored.assign(band=moods.risk_bands(scored)))


@st.fragment
@page.guarded
def cohort(data: Dataset, scored: pd.DataFrame) -> None:
    """The filters, the numbers and the members of the chosen cohort."""
    horizon = int(scored["horizon_days"].median()) if scored["horizon_days"].notna().any() else 30
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        band = st.segmented_control(
            "Risk",
            BANDS,
            default="high",
            required=True,
            format_func=moods.risk_words,
            key=f"winback-band-{data.name}",
        )
    with right:
        seen = st.selectbox("Seen within", list(SEEN), index=2, key=f"winback-seen-{data.name}")
    members = at_risk(scored, (str(band),), SEEN[seen])
    if members.empty:
        page.empty(
            "Nobody in this group",
            f"No member who is {moods.risk_words(str(band)).lower()} was seen within this time. Choose another risk or "
            "a longer time.",
        )
        return
    page.number_cards(_numbers(members, scored, horizon))
    st.space("small")
    catalogue = store.catalogue(data) if data.has("items") else None
    listed = with_picks(members, _picks(data, members), _titles(catalogue))
    listed = _with_reviews(data, listed, catalogue)
    key = f"winback-shown-{data.name}-{band}-{seen}"
    shown = st.session_state.get(key, SHOWN)
    _heading(data, listed, str(band), SEEN[seen])
    listed_now = listed.head(shown)
    picks = [item_id for rank in range(1, PICKS + 1) for item_id in listed_now[f"item_{rank}"]]
    real = {} if catalogue is None else artwork.addresses(catalogue, picks)
    st.html("".join(_row(data, member, catalogue, real, horizon) for member in listed_now.to_dict("records")))
    if len(members) > shown:
        more = f"Show {min(SHOWN, len(members) - shown)} more"
        st.button(more, key=f"{key}-more", on_click=st.session_state.update, args=({key: shown + SHOWN},))
        st.html(f"<p class='mq-muted mq-small'>{shown:,} of {page.count(len(members), 'member')}</p>")
    if catalogue is not None:
        artwork.late(catalogue, picks, key=f"late-winback-{data.name}")


def _numbers(members: pd.DataFrame, scored: pd.DataFrame, horizon: int) -> list[tuple[str, str, str, str]]:
    share = len(members) / len(scored)
    cards = [
        (
            "In this group",
            f"{len(members):,}",
            "members",
            f"{_percent(share)} of the {len(scored):,} who were ever here",
        ),
        (
            f"Expected back within {horizon} days",
            f"{members['p_return'].sum():,.0f}",
            "members",
            f"{_percent(members['p_return'].mean())} of the group, by the model",
        ),
        ("Last seen", f"{members['days_since_last'].median():,.0f}", "days ago", "the median of the group"),
    ]
    if members["expected_loss"].notna().any():
        cards.insert(
            2,
            (
                "Expected loss",
                f"{members['expected_loss'].sum():,.0f}",
                "visits",
                f"in {horizon} days, if nothing is done: usual visits times the risk",
            ),
        )
    return cards


def _picks(data: Dataset, members: pd.DataFrame) -> pd.DataFrame:
    path = home.scores(data.name) / "recommendations.parquet"
    age = store.scored_at(data.name, "recommendations")
    return _read_picks(str(path), age, tuple(members[USER_ID].astype(str)))


@st.cache_data(max_entries=8, show_spinner=False)
def _read_picks(path: str, age: float | None, user_ids: tuple[str, ...]) -> pd.DataFrame:
    return picks_of(Path(path), user_ids)


def _with_reviews(data: Dataset, listed: pd.DataFrame, catalogue: pd.DataFrame | None) -> pd.DataFrame:
    """`listed` with what each member wrote last and what was answered; the same where nobody is known to have written.

    Which reviews are a member's own is known of those written here, and of tables with a user_id.
    """
    box = inbox.inbox(data)
    if box is None or not box.frame[USER_ID].notna().any():
        return listed
    titles = {} if catalogue is None else inbox.shown_titles(catalogue)
    wrote = inbox.last_of_members(box, inbox.decided(data), titles)
    if not listed[USER_ID].isin(wrote[USER_ID]).any():
        return listed
    columns = [str(name) for name in wrote if name != USER_ID]
    joined = listed.merge(wrote, on=USER_ID, how="left")
    joined[columns] = joined[columns].fillna("")
    return joined


def _wrote(member: Mapping[Any, Any]) -> str:
    """ "Wrote of Heat: negative. Reply approved", or nothing."""
    label = str(member.get("review_label") or "")
    if not label:
        return ""
    mood = moods.MOODS.get(label, ("", label))[1].lower()
    about = f" of {member['review_of']}" if member["review_of"] else " a review"
    answers = {
        "approved": "the reply is approved",
        "edited": "the reply is approved",
        "dismissed": "the reply was dismissed",
    }
    answer = answers.get(str(member["reply_status"]), "a reply waits in the inbox")
    return f"Wrote{about}: {mood}; {answer}"


def _titles(catalogue: pd.DataFrame | None) -> pd.Series:
    return pd.Series(dtype=object) if catalogue is None else catalogue["shown_title"].astype(object)


def _heading(data: Dataset, listed: pd.DataFrame, band: str, seen_within: int | None) -> None:
    has_picks = (listed["item_1"] != "").any()
    left, right = st.columns([3, 1], vertical_alignment="center")
    with left:
        st.html(
            "<p class='mq-muted'>The largest expected loss first: how often a member used to come, times the risk to "
            "leave."
            + ("" if has_picks else " Titles will stand beside the members once recommendations are scored.")
            + "</p>"
        )
    with right:
        st.download_button(
            "Export as CSV",
            rounded_csv(pa.Table.from_pandas(listed, preserve_index=False)),
            file_name=f"win-back-{data.name}-{band}{'' if seen_within is None else f'-{seen_within}-days'}.csv",
            mime="text/csv",
            icon=":material/download:",
            width="stretch",
        )


def _row(
    data: Dataset,
    member: Mapping[Any, Any],
    catalogue: pd.DataFrame | None,
    real: Mapping[str, str],
    horizon: int,
) -> str:
    band = str(member["band"])
    risk = page.sign(moods.risk_kind(band), f"{moods.risk_words(band)} ({_percent(1 - member['p_return'])})")
    days = int(member["days_since_last"])
    seen = "last seen within the last day" if days == 0 else f"last seen {page.count(days, 'day')} ago"
    facts = [] if str(member["reason"]).startswith("last seen") else [seen]
    if member["usual_visits"] == member["usual_visits"]:
        facts.append(f"{_few(member['usual_visits'])} in {horizon} days while here")
        facts.append(f"expected loss {_few(member['expected_loss'])}")
    if member["expected_days"] == member["expected_days"]:
        until = member["expected_days"]
        facts.append(
            f"next visit in {until:.0f} days, on average" if until < 2.5 * horizon else "next visit not to be expected"
        )
    told = " · ".join(facts)
    picks = "".join(
        _pick(catalogue, real, member[f"title_{rank}"], member[f"item_{rank}"], member[f"why_{rank}"])
        for rank in range(1, PICKS + 1)
        if member[f"title_{rank}"]
    )
    return (
        f"<article class='mq-back'><div><h2>{html.escape(store.member_label(data, str(member[USER_ID])))}</h2>"
        f"<p>{risk}</p><p>{html.escape(_because(member))}</p>"
        f"<p class='mq-muted mq-small'>{html.escape(told[:1].upper() + told[1:])}</p>"
        + (f"<p class='mq-small'>{html.escape(wrote)}</p>" if (wrote := _wrote(member)) else "")
        + "</div>"
        f"<div class='mq-picks'>{picks}</div></article>"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"


def _few(visits: float) -> str:
    return "1 visit" if round(visits, 1) == 1 else f"{visits:.1f} visits"


def _because(member: Mapping[Any, Any]) -> str:
    reason = str(member["reason"] or "")
    if not reason or reason == "nan":
        return ""
    effect = member["reason_effect"]
    told = f"{reason[:1].upper()}{reason[1:]}"
    if effect != effect or abs(effect) < 0.005:
        return told
    return (
        f"{told}. Were that as with members who come back, the chance to return would be "
        f"{_percent(member['p_return'] + effect)} instead of {_percent(member['p_return'])}."
    )


def _pick(catalogue: pd.DataFrame | None, real: Mapping[str, str], title: str, item_id: str, why: str) -> str:
    drawn = poster(title)
    if catalogue is not None and item_id in catalogue.index:
        drawn = poster(title, catalogue.at[item_id, YEAR], catalogue.at[item_id, GENRES])  # type: ignore[arg-type]
    caption = f"<figcaption>{html.escape(why[:1].upper() + why[1:])}</figcaption>" if why else ""
    return f"<figure>{poster_html(drawn, POSTER_WIDTH, artwork.over(real, item_id))}{caption}</figure>"


page.guarded(render)()
