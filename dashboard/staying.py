"""How members stay: lifecycle, cohorts, retention by day and stickiness, drawn from forecasting/cohorts.py."""

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import charts, page, store
from dashboard.skeleton import loading
from data.dataset import Dataset, open_dataset
from forecasting.cohorts import MONTH_DAYS, cohort_triangle, lifecycle, n_day_retention

MAX_COHORTS = 12
STATES = {
    "new": "New",
    "returning": "Returning",
    "resurrected": "Resurrected",
    "dormant": "Dormant",
}


@st.cache_resource(max_entries=4, show_spinner=False)
def _frames(folder: str, fingerprint: str) -> dict[str, pd.DataFrame]:
    data = open_dataset(Path(folder).name)
    asked = (("lifecycle", lifecycle), ("triangle", cohort_triangle), ("days", n_day_retention))
    return {name: count(data) for name, count in asked} | {"sticky": store.stickiness(data)}


def frames(data: Dataset) -> dict[str, pd.DataFrame]:
    """The tables behind the four charts.

    Raises:
        UserError: the rows have no real times, or no member has an event.
    """
    return _frames(str(data.folder), data.fingerprint)


def render(data: Dataset) -> None:
    """Four charts, in two columns where there is room."""
    st.header("How members stay")
    with loading("charts", "Counting who stays …", once=f"staying-{data.name}"):
        drawn = frames(data)
    dark = page.dark()
    left, right = st.columns(2, gap="large")
    with left:
        charts.show(_lifecycle(drawn["lifecycle"], dark), dark, "Members by state in each 28 days", height=360)
        charts.show(_by_day(drawn["days"], dark), dark, "Share of members who came back by day", height=320)
    with right:
        charts.show(_triangle(drawn["triangle"], dark), dark, "Share of each month's new members active", height=360)
        charts.show(_sticky(drawn["sticky"], dark), dark, "Daily and monthly active members", height=320)


def _lifecycle(frame: pd.DataFrame, dark: bool) -> Any:
    c = charts.colours(dark)
    shades = {"new": charts.GOOD, "returning": "#5B8DEF", "resurrected": charts.WARN, "dormant": c.line}
    long = frame.melt("date", list(STATES), var_name="state", value_name="members")
    long["rank"] = long["state"].map({state: rank for rank, state in enumerate(STATES)})
    long["state"] = long["state"].map(STATES)
    heads = charts.heading("Lifecycle", f"Members in each {MONTH_DAYS} days", "Resurrected: back after a pause")
    return (
        alt.Chart(long)
        .mark_bar()
        .encode(
            x=alt.X(
                "yearmonthdate(date):O",
                title=f"{MONTH_DAYS} days to",
                axis=alt.Axis(format="%-d %b", labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y("members:Q", title="members"),
            color=alt.Color(
                "state:N",
                scale=alt.Scale(domain=list(STATES.values()), range=[shades[state] for state in STATES]),
                legend=alt.Legend(orient="top", columns=2, title=None),
            ),
            order=alt.Order("rank:Q"),
            tooltip=[
                alt.Tooltip("date:T", title=f"{MONTH_DAYS} days to", format="%-d %B %Y"),
                alt.Tooltip("state:N", title="State"),
                alt.Tooltip("members:Q", title="Members", format=",.0f"),
            ],
        )
        .properties(title=heads)
    )


def _triangle(frame: pd.DataFrame, dark: bool) -> Any:
    c = charts.colours(dark)
    kept = frame["cohort"].drop_duplicates().tail(MAX_COHORTS)
    shown = frame[frame["cohort"].isin(kept)].copy()
    shown["who"] = shown["cohort"].dt.strftime("%b %Y") + " (" + shown["members"].map("{:,}".format) + ")"
    shown["told"] = (100 * shown["share"]).map("{:.0f}".format)
    shown["when"] = shown["is_open"].map({True: "not over yet", False: "whole"})
    base = alt.Chart(shown).encode(
        x=alt.X("number:O", title="months since they came", axis=alt.Axis(labelAngle=0, ticks=False, domain=False)),
        y=alt.Y("who:N", sort=None, title=None, axis=alt.Axis(labelColor=c.text)),
        tooltip=[
            alt.Tooltip("who:N", title="Came in"),
            alt.Tooltip("number:O", title="Months since"),
            alt.Tooltip("active:Q", title="Active", format=",.0f"),
            alt.Tooltip("share:Q", title="Share", format=".0%"),
            alt.Tooltip("when:N", title="Month"),
        ],
    )
    cells = base.mark_rect(cornerRadius=3, stroke=None).encode(
        color=alt.Color(
            "share:Q", scale=alt.Scale(domain=[0, 1], range=[c.line, c.accent], interpolate="rgb"), legend=None
        ),
        opacity=alt.condition("datum.is_open", alt.value(0.55), alt.value(1.0)),
    )
    words = base.mark_text(font="Inter", fontSize=12).encode(
        text="told:N", color=alt.condition("datum.share > 0.55", alt.value("#FFFFFF"), alt.value(c.text))
    )
    heads = charts.heading("Cohorts by month", "Per cent active; pale: the month is not over")
    return (cells + words).properties(title=heads)


def _by_day(frame: pd.DataFrame, dark: bool) -> Any:
    c = charts.colours(dark)
    kinds = {"n_day": "On that very day", "rolling": "On that day or later"}
    long = frame.melt(["day", "members"], list(kinds), var_name="kind", value_name="share")
    long["kind"] = long["kind"].map(kinds)
    percents = alt.Axis(labelExpr="format(100 * datum.value, 'd') + '\u00a0%'", tickCount=5)
    return (
        alt.Chart(long)
        .mark_line(strokeWidth=2, point={"filled": True, "size": 50})
        .encode(
            x=alt.X("day:O", title="days after the first", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title=None, axis=percents),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=list(kinds.values()), range=[c.muted, c.accent]),
                legend=alt.Legend(orient="top", title=None),
            ),
            tooltip=[
                alt.Tooltip("day:O", title="Days after the first"),
                alt.Tooltip("kind:N", title="Came back"),
                alt.Tooltip("share:Q", title="Share", format=".1%"),
                alt.Tooltip("members:Q", title="Of members", format=",.0f"),
            ],
        )
        .properties(title=charts.heading("Retention by day", "Of members who came long enough ago"))
    )


def _sticky(frame: pd.DataFrame, dark: bool) -> Any:
    c = charts.colours(dark)
    kinds = {"daily": "Daily", "weekly": "Weekly", "monthly": "Monthly"}
    long = frame.melt("date", list(kinds), var_name="kind", value_name="members")
    long["kind"] = long["kind"].map(kinds)
    whole = frame.iloc[min(MONTH_DAYS - 1, len(frame) - 1) :]["stickiness"].dropna()
    told = f"Stickiness {whole.iloc[-1]:.0%}: that share of a month's members comes on a day" if len(whole) else ""
    return (
        alt.Chart(long)
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X("date:T", title=None, axis=alt.Axis(format="%-d %b %Y", labelOverlap=True, tickCount=5)),
            y=alt.Y("members:Q", title="active members"),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=list(kinds.values()), range=[c.muted, "#5B8DEF", c.accent]),
                legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolSize=300),
            ),
            tooltip=[
                alt.Tooltip("date:T", title="Day", format="%-d %B %Y"),
                alt.Tooltip("kind:N", title="Active"),
                alt.Tooltip("members:Q", title="Members", format=",.0f"),
            ],
        )
        .properties(title=charts.heading("Active members", *([told] if told else [])))
    )
