"""Engagement: how much is watched and will be, and who is about to leave."""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard import charts, moods, onboarding, page, series, staying, store, tables
from dashboard.skeleton import loading
from data.dataset import Dataset
from data.schema import SERIES_ID

if TYPE_CHECKING:
    from forecasting.frequency import Frequency

DAY_US = 86_400_000_000
PERIODS = {"3 months": 91, "6 months": 182, "1 year": 365, "All": None}


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
    if data.has("interactions"):
        members(data)
        st.space("medium")
    retention(data)


@st.fragment
@page.guarded
def audience(data: Dataset) -> None:
    """History and forecast of one series, chosen by name."""
    with loading("chart", "Counting what was watched …", once=f"panel-{data.name}"):
        catalogue, panel = store.catalogue(data), store.panel(data)
    forecast = store.scores(data.name, "engagement_forecast")
    predicted = [] if forecast is None else list(forecast[SERIES_ID].unique())
    options = series.ordered([*panel.series_ids, *predicted])
    names = {series_id: series.name(series_id, catalogue) for series_id in options}
    left, right = st.columns([3, 2])
    with left:
        chosen = st.selectbox("Series", options, format_func=lambda s: names[s], key=f"series-{data.name}")
    with right:
        period = st.segmented_control("History", list(PERIODS), default="6 months", required=True)
    past = series.of_panel(panel, chosen)
    seen = store.viewing(data)
    if past.empty and chosen.startswith("title:") and seen is not None:
        past = series.of_title(seen, chosen.removeprefix("title:"))
    ahead = pd.DataFrame() if forecast is None else forecast[forecast[SERIES_ID] == chosen].sort_values("date")
    if past.empty and ahead.empty:
        page.empty("Nothing to show for this series", "It has neither history nor a forecast in this dataset.")
        return
    unit = series.unit(chosen, seen.noun if seen is not None else "view", panel.frequency.noun)
    if len(past):
        page.number_cards(numbers(past, ahead, unit, panel.frequency))
    st.space("small")
    days = PERIODS[period or "6 months"]
    shown = series.window(past, days) if days and len(past) else past
    odd = _unusual(data, chosen)
    chart = charts.fan_chart(
        shown,
        ahead,
        title=f"{names[chosen]}, {unit}",
        unit=unit,
        dark=page.dark(),
        unusual=odd[odd["date"] >= shown["date"].min()] if len(shown) else odd,
    )
    charts.show(chart, page.dark(), f"{names[chosen]}: history and forecast, {unit}", height=340)
    if len(odd):
        unusual_days(odd, lambda name: series.name(name, catalogue), panel.frequency)
    if forecast is None:
        onboarding.offer_model(data, "engagement")
    elif ahead.empty:
        st.caption("The forecaster does not follow this series; only its history is shown.")


@st.fragment
@page.guarded
def members(data: Dataset) -> None:
    """Cohorts, lifecycle and the like."""
    staying.render(data)


def _unusual(data: Dataset, series_id: str) -> pd.DataFrame:
    """The unusual steps of a series, the latest first; none before they were scored."""
    found = store.unusual(data)
    nothing = pd.DataFrame({"date": pd.to_datetime([], utc=True), "series_id": [], "value": []})
    return nothing if found is None else found[found["series_id"] == series_id]


def unusual_days(odd: pd.DataFrame, names: Callable[[str], str], steps: "Frequency") -> None:
    """What was unusual, how rare it is and which genres and titles drove it."""
    st.html(
        f"<p class='mq-muted'>Unusual {steps.noun}s: values far outside the 90&nbsp;% interval that was forecast the "
        f"{steps.noun} before.</p>"
    )

    def driven(parts: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(f"{names(part[SERIES_ID]).removeprefix('Genre: ')} {part['surplus']:+,.0f}" for part in parts)

    table = pd.DataFrame(
        {
            steps.noun.capitalize(): [page.when(date) for date in odd["date"]],
            "Value": odd["value"].round().to_numpy(),
            "Expected": [
                f"{q50:,.0f} ({q05:,.0f} to {q95:,.0f})" for q05, q50, q95 in odd[["q05", "q50", "q95"]].values
            ],
            "So far out": odd["rarity"].str.capitalize().to_numpy(),
            "Driven by": [
                "; ".join(filter(None, (driven(genres), driven(titles))))
                for genres, titles in zip(odd["genres"], odd["titles"], strict=True)
            ],
        }
    )
    if (table["Driven by"] == "").all():
        table = table.drop(columns="Driven by")
    tables.table(
        table,
        f"unusual-{steps.noun}s",
        f"Unusual {steps.noun}s, the latest first",
        formats={"Value": "localized"},
        widths={"Value": 80, "Driven by": 400},
        height=280,
        row_height=36 if "Driven by" not in table else 68,
    )


def numbers(past: pd.DataFrame, ahead: pd.DataFrame, unit: str, steps: "Frequency") -> list[tuple[str, str, str, str]]:
    """The cards above the chart: (label, number, unit, comparison).

    Members of several days are not a sum of different people: their cards show means, all others sums.
    """
    what = unit.partition("per ")[0].strip()
    mean = what == "members"
    recent = steps.windows[1]  # 28 days, 168 hours, 13 weeks

    def total(values: pd.Series) -> float:
        return float("nan") if values.empty else float(values.mean() if mean else values.sum())

    def lately(n: int, back: int = 0) -> pd.DataFrame:
        return series.window(past, (n - 0.5) * steps.step_us / DAY_US, back * steps.step_us / DAY_US)

    measured = unit if mean else what
    now = lately(recent)
    last, before = total(now["value"]), total(lately(recent, back=recent)["value"])
    cards = [
        (
            f"Last {steps.count(recent)} to {page.when(past['date'].max())}",
            f"{last:,.0f}",
            measured,
            series.change_text(last, before, f"the {steps.count(recent)} before"),
        )
    ]
    if len(ahead):
        coming = ahead.head(recent)
        n = len(coming)
        cards.append(
            (
                f"Forecast, next {steps.count(n)}",
                f"{total(coming['mean']):,.0f}",
                measured,
                series.change_text(total(coming["mean"]), total(lately(n)["value"]), f"the last {steps.count(n)}")
                + ("" if mean else f"; each {steps.noun}'s mean, added up"),
            )
        )
    short = steps.windows[0]
    newest = lately(short)["value"].mean()
    cards.append(
        (
            f"Last {steps.count(short)}",
            f"{newest:,.0f}",
            unit,
            series.change_text(newest, now["value"].mean(), f"the mean of {steps.count(recent)}"),
        )
    )
    busiest = now.iloc[int(now["value"].argmax())]
    cards.append(
        (
            f"Busiest {steps.noun} of {steps.count(recent)}",
            f"{busiest['value']:,.0f}",
            what,
            f"on {page.when(busiest['date'])}",
        )
    )
    return cards


def retention(data: Dataset) -> None:
    """Who is about to leave: shares per band and the members, most at risk first."""
    st.header("Retention")
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
        f"{page.count(len(scored), 'member')} back. Behind each band stands its mean risk to leave.</p>"
    )
    st.page_link("views/winback.py", label="Whom to win back", icon=":material/group:", query_params=page.address())
    left, right = st.columns(2, gap="large")
    with left:
        _bands(scored, bands)
    with right:
        chart = charts.histogram(
            scored["p_return"].dropna(),
            title=f"Chance to come back within {horizon} days",
            unit="members",
            dark=page.dark(),
        )
        charts.show(chart, page.dark(), "How many members lie in each tenth of the chance to come back", height=220)
    _members(data, scored, bands)


def _bands(scored: pd.DataFrame, bands: pd.Series) -> None:
    risk = (1 - scored["p_return"]).groupby(bands).agg(["size", "mean"]).sort_values("mean", ascending=False)
    colours = {"good": charts.GOOD, "warn": charts.WARN, "bad": charts.BAD}
    st.html(
        "".join(
            moods.bar(
                f"{moods.risk_words(str(band))} ({100 * row['mean']:.0f}\u00a0%)",
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
            "Reason": shown["top_reason"].str.capitalize().to_numpy(),
        }
    )
    if table["Reason"].isna().all():
        table = table.drop(columns="Reason")
    tables.table(
        table,
        f"retention-{data.name}-{chosen or 'all'}",
        "Members, the most likely to leave first",
        formats={"Last seen": "%.0f days ago"},
        widths={"Member": 240, "Risk": 190, "Last seen": 120, "Reason": 360},
    )


page.guarded(render)()
