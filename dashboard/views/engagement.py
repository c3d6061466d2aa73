"""Engagement: how much is watched and will be, and who is about to leave."""

import html

import pandas as pd
import streamlit as st

from dashboard import charts, moods, onboarding, page, series, store
from data.dataset import Dataset
from data.schema import SERIES_ID

PERIODS = {"3 months": 91, "6 months": 182, "1 year": 365, "All": None}
LAST_DAYS = 28


def render() -> None:
    data = page.header("Engagement", "How much is watched, what comes next, and who may leave")
    if data is None:
        onboarding.offer(None)
        return
    if data.time_kind == "order":
        page.empty(
            "This dataset has no calendar",
            f"Dataset '{data.name}' came without times, so its rows have an order but no days: there is nothing to "
            "forecast. Import it again with a time column to see its history here.",
            "python -m data import --map timestamp=COLUMN …",
        )
        return
    if not data.has("interactions") and not data.has("metrics"):
        page.empty(
            "No history in this dataset",
            f"Dataset '{data.name}' has neither interactions nor ready-made series. Choose another dataset, or import "
            "one with either.",
        )
        return
    audience(data)
    st.space("medium")
    retention(data)


@st.fragment
@page.guarded
def audience(data: Dataset) -> None:
    """History and forecast of one series, chosen by name."""
    catalogue, seen = store.catalogue(data), store.viewing(data)
    forecast, metrics = store.scores(data.name, "engagement_forecast"), store.table(data, "metrics")
    options = _series(forecast, metrics, seen is not None)
    names = {series_id: series.name(series_id, catalogue) for series_id in options}
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        chosen = st.selectbox(
            "Series", options, format_func=lambda series_id: names[series_id], key=f"series-{data.name}"
        )
    with right:
        period = st.segmented_control("History", list(PERIODS), default="6 months", required=True)
    past = series.history(chosen, seen, catalogue, metrics)
    ahead = pd.DataFrame() if forecast is None else forecast[forecast[SERIES_ID] == chosen].sort_values("date")
    if past.empty and ahead.empty:
        page.empty("Nothing to show for this series", "It has neither history nor a forecast in this dataset.")
        return
    unit = series.unit(chosen)
    if len(past):
        _numbers(past, ahead, unit)
    st.space("small")
    days = PERIODS[period or "6 months"]
    chart = charts.fan_chart(
        past.tail(days) if days else past, ahead, title=f"{names[chosen]}, {unit}", unit=unit, dark=page.dark()
    )
    charts.show(chart, page.dark(), f"{names[chosen]}: history and forecast, {unit}", height=340)
    if forecast is None:
        onboarding.offer_model(data, "engagement")
    elif ahead.empty:
        st.caption("The forecaster does not follow this series; only its history is shown.")


def _series(forecast: pd.DataFrame | None, metrics: pd.DataFrame | None, counted: bool) -> list[str]:
    """Ids to choose from: the service first, then genres, then titles, each in the forecaster's order."""
    ids = [] if forecast is None else list(forecast[SERIES_ID].unique())
    if metrics is not None:
        ids += list(metrics[SERIES_ID].unique())
    if counted:
        ids = [series.TOTAL, series.ACTIVE, *ids]
    rank = {"Service": 0, "Segments": 1, "Genres": 2, "Titles": 3}
    return sorted(dict.fromkeys(ids), key=lambda series_id: rank[series.group(series_id)])


def _numbers(past: pd.DataFrame, ahead: pd.DataFrame, unit: str) -> None:
    sums = series.summary(past, ahead, LAST_DAYS)
    what = unit.removesuffix(" per day")
    mean = what == "members"  # members of several days are not a sum of different people
    share = LAST_DAYS if mean else 1
    measured = f"{what} per day" if mean else what
    as_of = past["date"].max()
    ahead_days = min(LAST_DAYS, len(ahead))
    cards = [
        (
            f"Last {LAST_DAYS} days to {page.when(as_of)}",
            f"{sums['last'] / share:,.0f}",
            measured,
            series.change_text(sums["last"], sums["before"], f"the {LAST_DAYS} days before"),
        )
    ]
    if len(ahead):
        fair = float(past["value"].tail(ahead_days).sum())
        cards.append(
            (
                f"Forecast, next {ahead_days} days",
                f"{sums['next'] / (ahead_days if mean else 1):,.0f}",
                measured,
                series.change_text(sums["next"], fair, f"the last {ahead_days} days") + ", sum of daily medians",
            )
        )
    week = past["value"].tail(7)
    recent = past.tail(LAST_DAYS)
    busiest = recent.iloc[int(recent["value"].argmax())]
    cards.append(
        (
            "Last 7 days",
            f"{week.mean():,.0f}",
            f"{what} per day",
            series.change_text(week.mean(), past["value"].tail(LAST_DAYS).mean(), f"the mean of {LAST_DAYS} days"),
        )
    )
    cards.append(
        (
            f"Busiest of {LAST_DAYS} days",
            f"{busiest['value']:,.0f}",
            what,
            f"on {page.when(busiest['date'])}",
        )
    )
    page.number_cards(cards)


def retention(data: Dataset) -> None:
    """Who is about to leave: shares per band and the members, most at risk first."""
    st.subheader("Retention")
    scored = store.scores(data.name, "retention")
    if scored is None or scored.empty:
        if not data.has("interactions"):
            page.notice("none", "This dataset has no members, so there is nobody to keep.")
        else:
            onboarding.offer_model(data, "retention")
        return
    bands = moods.risk_bands(scored)
    horizon = int(scored["horizon_days"].median()) if scored["horizon_days"].notna().any() else 30
    as_of = f", counted from {page.when(data.as_of)}" if data.as_of is not None else ""
    st.html(
        f"<p class='mq-muted'>The chance that a member is active again within {horizon} days{html.escape(as_of)}. "
        f"On average the model expects {100 * scored['p_return'].mean():.0f} % of "
        f"{page.count(len(scored), 'member')} back.</p>"
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        _bands(scored, bands)
        chart = charts.histogram(
            scored["p_return"].dropna(),
            title=f"Chance to come back within {horizon} days",
            unit="members",
            dark=page.dark(),
        )
        charts.show(chart, page.dark(), "How many members lie in each tenth of the chance to come back", height=220)
    with right:
        _members(data, scored, bands)


def _bands(scored: pd.DataFrame, bands: pd.Series) -> None:
    risk = (1 - scored["p_return"]).groupby(bands).agg(["size", "mean"]).sort_values("mean", ascending=False)
    colours = {"good": charts.GOOD, "warn": charts.WARN, "bad": charts.BAD}
    st.html(
        "".join(
            moods.bar(
                f"{moods.risk_words(str(band))} ({100 * row['mean']:.0f} %)",
                row["size"] / len(scored),
                f"{int(row['size']):,} · {100 * row['size'] / len(scored):.0f} %",
                colours[moods.risk_kind(str(band))],
            )
            for band, row in risk.iterrows()
        )
    )


@st.fragment
@page.guarded
def _members(data: Dataset, scored: pd.DataFrame, bands: pd.Series) -> None:
    present = list((1 - scored["p_return"]).groupby(bands).mean().sort_values(ascending=False).index)
    chosen = st.segmented_control(
        "Members",
        ["all", *present],
        default="all",
        required=True,
        format_func=lambda band: "All" if band == "all" else moods.risk_words(band),
        key=f"band-{data.name}",
    )
    shown = scored if chosen in (None, "all") else scored[bands == chosen]
    shown = shown.sort_values("p_return").head(2000)
    words = bands.loc[shown.index].map(moods.risk_words)
    table = pd.DataFrame(
        {
            "Member": [store.member_label(data, user_id) for user_id in shown["user_id"].astype(str)],
            "Risk": [f"{w} ({100 * (1 - p):.0f} %)" for w, p in zip(words, shown["p_return"], strict=True)],
            "Last seen": shown["days_since_last"].to_numpy(),
            "Reason": shown["top_reason"].to_numpy(),
        }
    )
    if table["Reason"].isna().all():
        table = table.drop(columns="Reason")
    st.dataframe(
        table,
        hide_index=True,
        height=420,
        column_config={
            "Last seen": st.column_config.NumberColumn("Last seen", format="%.0f days ago", width=110),
            "Risk": st.column_config.TextColumn(width=180),
        },
    )


page.guarded(render)()
