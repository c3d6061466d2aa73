"""What needs a look: titles turning sour, members newly at risk, and the models; the lists of the Today page."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, changes, job_list, moods, onboarding, page, scoring, store
from dashboard.health import Health, health
from dashboard.model_words import NAMES, SCORED
from data import home
from data.dataset import Dataset
from data.schema import CREATED_AT, ITEM_ID, USER_ID
from forecasting.winback import BEFORE_DAYS, picks_of, with_picks
from recsys.viewing import RECENT_DAYS

LISTED = 6


def retention(data: Dataset) -> pd.DataFrame | None:
    """The retention scores with a band for each member; None before anybody was scored."""
    scored = store.scores(data.name, "retention")
    return None if scored is None or scored.empty else scored.assign(band=moods.risk_bands(scored))


# Lists ---------------------------------------------------------------------------------------------------------------


@page.guarded
def sour(data: Dataset) -> None:
    st.header("Titles turning sour")
    written = store.review_dates(data)
    if written is None:
        page.notice("none", "This dataset has no reviews, so no title can be seen to turn.")
        return
    if data.time_kind == "order" or data.as_of is None:
        why = "no calendar" if data.time_kind == "order" else "no clock, having nothing but reviews"
        page.notice("none", f"This dataset has {why}, so no review counts as recent and no title can be seen to turn.")
        return
    if not written[CREATED_AT].notna().any():
        page.notice("none", "The reviews have no dates, so no title can be seen to turn.")
        return
    sentiment = store.title_sentiment(data)
    if sentiment is None:
        page.notice("none", "No review is scored yet: see Sentiment under Models.")
        return
    turned = changes.turned_sour(sentiment)
    if turned.empty:
        page.notice("good", "All well: no title's recent reviews are clearly worse than its earlier ones.")
        return
    titles = store.shown_titles(data)
    with st.container(key="sour-titles"):
        for row in turned.head(LISTED).to_dict("records"):
            _sour_title(row, titles)
    if len(turned) > LISTED:
        st.caption(f"And {page.count(len(turned) - LISTED, 'title')} more, with a smaller fall.")


def _sour_title(row: Mapping[Any, Any], titles: pd.Series) -> None:
    item_id = str(row[ITEM_ID])
    known = item_id in titles.index
    name = str(titles.at[item_id]) if known else f"Title {item_id}"
    with st.container(gap=None):
        if known:
            st.page_link(
                "views/title.py", label=page.plain(name), icon=":material/trending_down:",
                query_params=page.address(title=item_id),
            )  # fmt: skip
        else:
            st.html(f"<p>{html.escape(name)}</p>")
        st.html(
            f'<p class="mq-small mq-muted mq-row">From {100 * row["earlier_mean"]:.0f} to '
            f"{100 * row['recent_mean']:.0f} % positive: {page.count(row['earlier_reviews'], 'review')} before, "
            f"{int(row['recent_reviews']):,} in the last {RECENT_DAYS} days</p>"
        )


@page.guarded
def newly(data: Dataset) -> None:
    st.header("Members newly at risk")
    if not data.has("interactions") or data.time_kind == "order":
        page.notice("none", "Without interactions that have times nobody knows who was away for how long.")
        return
    scored = retention(data)
    if scored is None:
        page.notice("none", "No member is scored yet: see Retention under Models.")
        return
    crossed = changes.newly_at_risk(scored)
    if crossed is None:
        page.notice("none", "The scores do not know how it was a week before: score retention again to see it.")
        scoring.offer(data, "retention", "newly")
        return
    st.html(
        f"<p class='mq-muted mq-small'>Likely to leave now, and not {BEFORE_DAYS} days before, by the same model from "
        "what was known then. The largest expected loss first.</p>"
    )
    if crossed.empty:
        page.notice("good", "All well: nobody became likely to leave in this time.")
        return
    first = crossed.head(LISTED)
    picks = picks_of(home.scores(data.name) / "recommendations.parquet", first[USER_ID].astype(str).tolist())
    listed = with_picks(first, picks, store.shown_titles(data)).to_dict("records")
    st.html(f'<ul class="mq-list">{"".join(_member(data, row) for row in listed)}</ul>')
    label = f"All {len(crossed):,} and the others at risk" if len(crossed) > LISTED else "Everybody at risk"
    st.page_link("views/winback.py", label=label, icon=":material/group:", query_params=page.address())


def _member(data: Dataset, row: Mapping[Any, Any]) -> str:
    now, before = 1 - row["p_return"], 1 - row["p_return_before"]
    was = "not here a week ago" if before != before else f"{moods.percent(before)}\u00a0% a week ago"
    days = int(row["days_since_last"])
    seen = "last seen within the last day" if days == 0 else f"last seen {page.count(days, 'day')} ago"
    facts = [f"{seen[:1].upper()}{seen[1:]}"]
    if row["expected_loss"] == row["expected_loss"]:
        loss = row["expected_loss"]
        facts.append(f"expected loss {'1 visit' if round(loss, 1) == 1 else f'{loss:.1f} visits'}")
    if row["title_1"]:
        facts.append(f"to bring them back: {row['title_1']}")
    risk = page.sign("bad", f"{moods.risk_words('high')} ({moods.percent(now)}\u00a0%)")
    return (
        f"<li><p><b>{html.escape(store.member_label(data, str(row[USER_ID])))}</b></p>"
        f'<p>{risk} <span class="mq-muted">{html.escape(was)}</span></p>'
        f'<p class="mq-small mq-muted">{html.escape(" · ".join(facts))}</p></li>'
    )


# Models --------------------------------------------------------------------------------------------------------------


@page.guarded
def models(data: Dataset) -> None:
    st.header("Models")
    found = health(data)
    if all(one.kind in ("good", "none") and not one.commands for one in found):
        page.notice("good", "All well: every model is trained on the tables as they are, and the scores are its own.")
    st.html(f'<ul class="mq-list">{"".join(map(_model, found))}</ul>')
    _mend(data, found)
    if any(one.mend == "score" for one in found):
        scoring.told_failure(data.name)
    st.page_link("views/models.py", label="All runs", icon=":material/model_training:", query_params=page.address())


def _model(one: Health) -> str:
    told = "".join(f"<p class='mq-small mq-muted'>{html.escape(text)}</p>" for text in one.told)
    problems = "".join(f"<p class='mq-small'>{html.escape(text)}</p>" for text in one.problems)
    commands = "".join(f'<p class="mq-command"><code>{html.escape(text)}</code></p>' for text in one.commands)
    return (
        f'<li><p class="mq-line"><b>{NAMES[one.model]}</b>{page.sign(one.kind, one.state)}</p>'
        f"{told}{problems}{commands}</li>"
    )


def _mend(data: Dataset, found: Sequence[Health]) -> None:
    """Buttons that do what the commands say."""
    job = onboarding.preparing() or scoring.running(data.name)
    if job is not None:
        job_list.follow(job.id, job_list.line)
        return
    if any(one.mend == "train" for one in found):
        onboarding.button(data.name, "Train and score what is missing", "today")
    elif any(one.mend == "score" for one in found):
        access.viewer_told("train and score")
    for one in found:
        if one.mend == "score":
            scoring.button(data, one.model, f"Score {SCORED[one.model]} now", "today")
