"""Today: what changed lately, what needs a look, and how the models are."""

import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import streamlit as st

from dashboard import attention, changes, onboarding, page, sparks, store
from dashboard.changes import Number
from dashboard.road import SCORE_TABLE
from dashboard.skeleton import loading
from data import events
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from data.schema import CREATED_AT, REVIEW_ID


def render() -> None:
    data = page.header("Today", "What changed, what needs a look, and how the models are")
    if data is None:
        onboarding.offer(None)
        return
    st.html(f"<p class='mq-muted' style='margin:0'>{html.escape(_clock(data))}</p>")
    page.guarded(_numbers)(data)
    left, right = st.columns([3, 2], gap="large")
    with left:
        attention.sour(data)
        st.space("small")
        attention.newly(data)
    with right:
        attention.models(data)
        st.space("small")
        page.guarded(_since_export)(data)


def _clock(data: Dataset) -> str:
    if data.time_kind == "order":
        return f"Dataset '{data.name}' has an order of events but no times."
    if data.as_of is None:
        return f"Dataset '{data.name}' has no clock: nothing in it but reviews."
    return f"Today is {page.when(data.as_of)}, {data.as_of:%H:%M} UTC, the last moment in dataset '{data.name}'."


# Four numbers --------------------------------------------------------------------------------------------------------


def _numbers(data: Dataset) -> None:
    if data.time_kind == "order":
        page.empty(
            "This dataset has no calendar",
            f"Dataset '{data.name}' came without times, so there is no last week to compare with the one before. "
            "Import it again with a time column to see here what changed.",
            "python -m data import --map timestamp=COLUMN …",
        )
        return
    ages = tuple(store.scored_at(data.name, table) for table in (*SCORE_TABLE.values(), "unusual"))
    with loading("cards", "Counting the last week …", once=f"today-{data.name}"):
        numbers = _all_numbers(str(data.folder), data.fingerprint, ages)
    st.html(f'<div class="mq-grid">{"".join(map(_card, numbers))}</div>')
    with st.container(horizontal=True, gap="medium"):
        for view, label, icon in (
            ("engagement", "Audience and members", "show_chart"),
            ("reviews", "Reviews", "inbox"),
            ("winback", "Whom to win back", "group"),
        ):
            st.page_link(
                f"views/{view}.py", label=label, icon=f":material/{icon}:", query_params=page.address(), width="content"
            )


@st.cache_resource(max_entries=8, show_spinner=False)
def _all_numbers(folder: str, fingerprint: str, ages: tuple[float | None, ...]) -> list[Number]:
    data = open_dataset(Path(folder).name)
    asked: list[tuple[str, Callable[[Dataset], Number]]] = [
        ("Audience", _audience),
        ("Active members", _active),
        ("Positive reviews", _positive),
        ("Members at risk", _risk),
    ]
    found = []
    for label, ask in asked:
        try:
            found.append(ask(data))
        except UserError as mistake:  # one damaged table takes one card away
            found.append(changes.missing(label, str(mistake)))
    return found


def _audience(data: Dataset) -> Number:
    if not data.has("interactions") and not data.has("metrics"):
        return changes.missing("Audience", "This dataset has neither interactions nor ready-made series")
    seen = store.viewing(data)
    forecast = store.scores(data.name, "engagement_forecast")
    return changes.audience(store.panel(data), forecast, store.unusual(data), seen.noun if seen is not None else "view")


def _active(data: Dataset) -> Number:
    if not data.has("interactions"):
        return changes.missing("Active members", "This dataset has no interactions, so nobody is known to be active")
    panel = store.panel(data)
    steps, last = panel.frequency, changes.last_day(panel)
    return changes.active(store.stickiness(data), last, weekly=steps.name in ("hourly", "daily"))


def _positive(data: Dataset) -> Number:
    label = "Positive reviews"
    written = store.review_dates(data)
    if written is None:
        return changes.missing(label, "This dataset has no reviews")
    if not written[CREATED_AT].notna().any():
        return changes.missing(label, "The reviews have no dates, so nobody knows which of them are recent")
    scored = store.scores(data.name, "review_scores")
    if scored is None:
        return changes.missing(label, "No review is scored yet")
    reviewed = scored[[REVIEW_ID, "p_positive"]].merge(written[[REVIEW_ID, CREATED_AT]], on=REVIEW_ID)
    reviewed = reviewed[reviewed["p_positive"].notna()]
    if data.as_of is not None:
        return changes.positive(reviewed, data.as_of)
    last = written[CREATED_AT].max()
    found = changes.positive(reviewed, last)
    return replace(found, told=(*found.told, f"counted from the last review, {page.when(last)}"))


def _risk(data: Dataset) -> Number:
    if not data.has("interactions"):
        return changes.missing("Members at risk", "This dataset has no interactions, so nobody can be followed")
    scored = attention.retention(data)
    return changes.missing("Members at risk", "No member is scored yet") if scored is None else changes.risk(scored)


def _card(number: Number) -> str:
    told = "".join(f'<p class="mq-compare mq-muted">{html.escape(_sentence(part))}</p>' for part in number.told)
    drawn = sparks.image(number.spark, page.dark()) if number.spark is not None else ""
    return (
        f'<div class="mq-card mq-change"><p class="mq-label">{html.escape(number.label)}</p>'
        f'<p class="mq-number">{html.escape(number.number)} <small>{html.escape(number.unit)}</small></p>'
        f"{drawn}{told}</div>"
    )


def _sentence(text: str) -> str:
    text = text.replace(" %", "\u00a0%")  # on a phone a line would end between them
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


# What members did ----------------------------------------------------------------------------------------------------


def _since_export(data: Dataset) -> None:
    st.header("Since the last export")
    counts = events.counts(data)
    words, looked = changes.done_words(counts), changes.looked(counts)
    if not counts:
        page.notice("none", "Nothing has happened in the dashboard that is not in the tables already.")
        return
    seen = f"{page.count(looked, 'offer')} shown or opened" if looked else ""
    did = f"Members gave {words}" if words else "Members looked only"
    st.html(
        f"<p>{html.escape(did)}{f', with {seen}' if seen else ''}. The models do not know of it before it is exported "
        "into the tables:</p>"
        f'<p class="mq-command"><code>python -m data export-events {html.escape(data.name)}</code></p>'
    )


page.guarded(render)()
