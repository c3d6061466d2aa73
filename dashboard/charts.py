"""Every chart of the dashboard, in one look for both themes.

Each function takes frames and gives an Altair chart; titles name what is shown, the unit and the period.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.colours import colours as colours
from data.headline import metric_label
from data.schema import DATE

GOOD, WARN, BAD = "#30A46C", "#F5A524", "#E5484D"


def heading(title: str, *subtitles: str) -> alt.Title:
    """A chart's title over its subtitles, in lines for which a phone has room: Vega cuts longer ones off."""
    # Without a limit of its own a title ends where the axes do, though the chart is wider than they are.
    return alt.Title(wrap(title, 38), subtitle=[line for text in subtitles for line in wrap(text, 48)], limit=1000)


def themed(chart: Any, dark: bool, height: int = 280) -> Any:
    """`chart` with our fonts, colours and quiet axes."""
    c = colours(dark)
    axis = {
        "labelColor": c.muted,
        "titleColor": c.muted,
        "gridColor": c.line,
        "domainColor": c.line,
        "tickColor": c.line,
        "labelFont": "Inter",
        "titleFont": "Inter",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 400,
        "labelPadding": 6,
        "titlePadding": 10,
    }
    return (
        chart.properties(height=height, background="transparent")
        .configure_view(strokeWidth=0)
        .configure_axis(**axis)
        .configure_axisX(grid=False)
        .configure_axisY(ticks=False, domain=False)
        .configure_legend(
            labelColor=c.text,
            titleColor=c.muted,
            labelFont="Inter",
            titleFont="Inter",
            labelFontSize=12,
            orient="top",
            title=None,
            symbolStrokeWidth=2,
        )
        .configure_title(
            color=c.text,
            font="Inter",
            fontSize=14,
            fontWeight=700,
            anchor="start",
            offset=14,
            subtitleColor=c.muted,
            subtitleFont="Inter",
            subtitleFontSize=12,
        )
    )


def show(chart: Any, dark: bool, alt_text: str, height: int = 280) -> None:
    st.altair_chart(themed(chart, dark, height), theme=None, width="stretch", alt=alt_text)


def fan_chart(
    past: pd.DataFrame,
    forecast: pd.DataFrame,
    *,
    title: str,
    unit: str,
    dark: bool,
    unusual: pd.DataFrame | None = None,
) -> Any:
    """History as a line with a dot on each unusual step, the forecast's median with its 50 % and 90 % bands.

    Args:
        past: `date`, `value`. forecast: `date`, q05, q25, q50, q75, q95; may be empty.
        unusual: `date`, `value`, `q05`, `q50`, `q95`; may be empty or missing.
    """
    c = colours(dark)
    # Vega reads times as local: without a zone a day stays the day it is.
    past = past.assign(date=past[DATE].dt.tz_localize(None))
    x = alt.X("date:T", title=None, axis=alt.Axis(format="%-d %b %Y", labelOverlap=True, tickCount=6))
    # Where things are counted, half of one is no tick.
    counted = len(past) > 0 and past["value"].max() >= 1 and bool((past["value"] % 1 == 0).all())
    ticks = alt.Axis(tickMinStep=1) if counted else alt.Axis()
    tips = [alt.Tooltip("date:T", title="Day", format="%A %-d %B %Y")]
    layers = [
        alt.Chart(past)
        .mark_line(color=c.history, strokeWidth=1.5)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=unit, axis=ticks),
            tooltip=[*tips, alt.Tooltip("value:Q", title=unit, format=",.0f")],
        )
    ]
    told = [f"History to {_day(past['date'].max())}" if len(past) else "No history"]
    if unusual is not None and len(unusual):
        dots = unusual[["date", "value", "q05", "q50", "q95"]].assign(date=unusual["date"].dt.tz_localize(None))
        expects = [
            alt.Tooltip("q50:Q", title="Expected", format=",.0f"),
            alt.Tooltip("q05:Q", title="90 % interval from", format=",.0f"),
            alt.Tooltip("q95:Q", title="to", format=",.0f"),
        ]
        layers.append(
            alt.Chart(dots)
            .mark_point(color=WARN, filled=True, size=55, opacity=1)
            .encode(x=x, y="value:Q", tooltip=[*tips, alt.Tooltip("value:Q", title=unit, format=",.0f"), *expects])
        )
    if len(forecast):
        ahead = forecast.assign(date=forecast[DATE].dt.tz_localize(None))
        tips += [
            alt.Tooltip("q50:Q", title="Median", format=",.1f"),
            alt.Tooltip("q25:Q", title="50 % band from", format=",.1f"),
            alt.Tooltip("q75:Q", title="to", format=",.1f"),
            alt.Tooltip("q05:Q", title="90 % band from", format=",.1f"),
            alt.Tooltip("q95:Q", title="to ", format=",.1f"),
        ]
        base = alt.Chart(ahead).encode(x=x, tooltip=tips)
        layers = [
            base.mark_area(color=c.accent, opacity=0.16).encode(y=alt.Y("q05:Q", title=unit, axis=ticks), y2="q95:Q"),
            base.mark_area(color=c.accent, opacity=0.28).encode(y="q25:Q", y2="q75:Q"),
            *layers,
            base.mark_line(color=c.accent, strokeWidth=2).encode(y="q50:Q"),
        ]
        told[0] += f", forecast to {_day(ahead['date'].max())}"
        told.append("Line: median; bands: 50\u00a0% and 90\u00a0%")
    if unusual is not None and len(unusual):
        told.append("Dots: unusual")
    return alt.layer(*layers).properties(title=heading(title, *told))


def share_chart(course: pd.DataFrame, *, period: str, dark: bool) -> Any:
    """The share of positive reviews over time as a line in its 95 % band.

    Args:
        course: `date` (start of the period), share, low, high (in [0, 1]), reviews.
        period: what a point stands for, such as "week".
    """
    c = colours(dark)
    x = alt.X("date:T", title=None, axis=alt.Axis(format="%-d %b %Y", labelOverlap=True, tickCount=6))
    percents = alt.Axis(format=".0%", tickCount=5)
    tips = [
        alt.Tooltip("date:T", title=f"{period.capitalize()} from", format="%-d %B %Y"),
        alt.Tooltip("share:Q", title="Positive", format=".0%"),
        alt.Tooltip("low:Q", title="95 % interval from", format=".0%"),
        alt.Tooltip("high:Q", title="to", format=".0%"),
        alt.Tooltip("reviews:Q", title="Reviews", format=",.0f"),
    ]
    base = alt.Chart(course).encode(x=x, tooltip=tips)
    scale = alt.Scale(domain=[0, 1])
    band = base.mark_area(color=c.accent, opacity=0.2).encode(y=alt.Y("low:Q", title=None, axis=percents), y2="high:Q")
    line = base.mark_line(color=c.accent, strokeWidth=2, point={"filled": True, "color": c.accent}).encode(
        y=alt.Y("share:Q", title=None, axis=percents, scale=scale)
    )
    heads = heading(f"Share of positive reviews per {period}", "Line: mean probability; band: 95\u00a0% interval")
    return alt.layer(band, line).properties(title=heads)


def _day(time: pd.Timestamp) -> str:
    return f"{time.day} {time:%b %Y}"


def dot_plot(
    values: Mapping[str, Mapping[str, float | None]],
    ours: str,
    metric: str,
    *,
    better: str,
    split: str,
    dark: bool,
    parts: Sequence[str] = (),
) -> Any:
    """Each method as a dot on one scale, ours in the accent colour, the best one on top.

    Args:
        values: method to metric to value.
        ours: the method that stands beside the others.
        metric: which one to draw.
        better: "higher" or "lower", or "" for a metric that only describes.
        split: where it was measured.
        dark: the theme.
        parts: methods that are parts of ours, measured alone.
    """
    c = colours(dark)
    kinds = {ours: "This model"} | dict.fromkeys(parts, "A part of it alone")
    frame = pd.DataFrame(
        [
            {"method": method, "value": row[metric], "kind": kinds.get(method, "Baseline")}
            for method, row in values.items()
            if row.get(metric) is not None
        ],
        columns=["method", "value", "kind"],
    )
    order = frame.sort_values("value", ascending=better == "lower")["method"].tolist()
    # A name stands above its row, not beside it: on a phone long names would leave the dots no width.
    names = alt.Axis(
        labelAlign="left",
        labelPadding=0,
        labelOffset=-17,
        labelLimit=280,
        labelFontSize=13,
        labelColor=c.text,
        grid=True,
    )
    base = alt.Chart(frame).encode(
        y=alt.Y("method:N", sort=order, title=None, axis=names),
        x=alt.X("value:Q", title=None, axis=alt.Axis(tickCount=5), scale=alt.Scale(zero=False, padding=40, nice=True)),
    )
    looks = {
        "This model": (c.accent, "circle"),
        "A part of it alone": (c.accent, "triangle-right"),
        "Baseline": (c.muted, "diamond"),
    }
    there = set(frame["kind"])
    domain = [kind for kind in looks if kind in there]
    colour, shape = ([looks[kind][i] for kind in domain] for i in (0, 1))
    quiet = alt.Legend(orient="top", title=None)
    points = base.mark_point(filled=True, size=170, opacity=1).encode(
        color=alt.Color("kind:N", scale=alt.Scale(domain=domain, range=colour), legend=quiet),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=domain, range=shape), legend=quiet),
        tooltip=[
            alt.Tooltip("method:N", title="Method"),
            alt.Tooltip("value:Q", title=metric_label(metric), format=".4f"),
        ],
    )
    labels = base.mark_text(dx=14, align="left", font="Inter", color=c.text).encode(
        text=alt.Text("value:Q", format=".3f")
    )
    direction = f", {better} is better" if better else ""
    return (points + labels).properties(title=heading(f"{metric_label(metric)}{direction}", f"Split: {split}"))


def learning_curves(curves: pd.DataFrame, *, title: str, unit: str, dark: bool) -> Any:
    """`epoch` (from 0), `value`, `curve` ("training", "validation") as lines."""
    c = colours(dark)
    # Lightning counts epochs from 0; people, and the report's number of epochs, from 1.
    curves = curves.assign(epoch=curves["epoch"] + 1)
    names = list(dict.fromkeys(curves["curve"]))
    shades = {"training": c.muted, "validation": c.accent}
    dashes = [[5, 4] if n == "training" else [1, 0] for n in names]
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolSize=300)
    base = alt.Chart(curves).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("value:Q", title=unit, scale=alt.Scale(zero=False)),
        color=alt.Color(
            "curve:N", scale=alt.Scale(domain=names, range=[shades.get(n, c.text) for n in names]), legend=legend
        ),
    )
    lines = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("curve:N", scale=alt.Scale(domain=names, range=dashes), legend=legend)
    )
    # Points too: a training of one epoch has no line.
    points = base.mark_circle(size=44, opacity=1).encode(
        tooltip=[
            alt.Tooltip("curve:N", title="Curve"),
            alt.Tooltip("epoch:Q", title="Epoch"),
            alt.Tooltip("value:Q", title=unit, format=".4f"),
        ]
    )
    return (lines + points).properties(title=heading(title))


def calibration(bins: Sequence[Mapping[str, float]], *, title: str, dark: bool) -> Any:
    """Predicted against observed share per bin; on the diagonal a probability means what it says."""
    c = colours(dark)
    frame = pd.DataFrame(list(bins)).dropna()
    diagonal = pd.DataFrame({"predicted": [0.0, 1.0], "observed": [0.0, 1.0]})
    share = alt.Axis(tickCount=5, labelExpr="format(100 * datum.value, 'd') + '\u00a0%'")
    x = alt.X("predicted:Q", title="predicted probability", axis=share, scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("observed:Q", title="observed share", axis=share, scale=alt.Scale(domain=[0, 1]))
    line = alt.Chart(diagonal).mark_line(color=c.muted, strokeDash=[4, 4]).encode(x=x, y=y)
    dots = (alt.Chart(frame).mark_line(color=c.accent, point=False, strokeWidth=1.5).encode(x=x, y=y)) + alt.Chart(
        frame
    ).mark_circle(color=c.accent, opacity=1).encode(
        x=x,
        y=y,
        size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[40, 320])),
        tooltip=[
            alt.Tooltip("predicted:Q", title="Predicted", format=".1%"),
            alt.Tooltip("observed:Q", title="Observed", format=".1%"),
            alt.Tooltip("count:Q", title="Cases", format=",.0f"),
        ],
    )
    return (line + dots).properties(title=heading(title, "Dashed: perfect calibration", "Larger dots hold more cases"))


def histogram(probabilities: pd.Series, *, title: str, unit: str, dark: bool) -> Any:
    """How many cases lie in each tenth of a probability."""
    c = colours(dark)
    tenth = (probabilities.clip(0, 0.9999) * 10).astype(int)
    names = [f"{10 * i} to {10 * i + 10}" for i in range(10)]
    frame = pd.DataFrame({"band": names, "count": tenth.value_counts().reindex(range(10), fill_value=0).to_numpy()})
    return (
        alt.Chart(frame)
        .mark_bar(color=c.accent, cornerRadiusEnd=3)
        .encode(
            x=alt.X(
                "band:N", sort=names, title="per cent", axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False)
            ),
            y=alt.Y("count:Q", title=unit, axis=alt.Axis(tickCount=4, tickMinStep=1)),
            tooltip=[alt.Tooltip("band:N", title="Per cent"), alt.Tooltip("count:Q", title=unit, format=",.0f")],
        )
        .properties(title=heading(title))
    )
