"""The chart of the variety slider: figures at each step, with the chosen step marked."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from dashboard.charts import colours, heading


def by_variety(frame: pd.DataFrame, names: Sequence[str], chosen: float, *, title: str, dark: bool) -> Any:
    """Lines with 95 % bands where there are intervals.

    Args:
        frame: `variety`, `metric`, `value`, `low`, `high`.
        names: metrics in the order of the legend, the first in the accent colour.
        chosen: the step with a rule.
        title: of the chart.
        dark: the theme.
    """
    c = colours(dark)
    domain, dashes = list(names), [[1, 0], [6, 4]]
    scale = alt.Scale(domain=domain, range=[c.accent, c.history])
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolSize=300, symbolOpacity=1)
    x = alt.X("variety:Q", title="variety", axis=alt.Axis(tickCount=5), scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5), scale=alt.Scale(zero=True, nice=True))
    base = alt.Chart(frame).encode(x=x, color=alt.Color("metric:N", scale=scale, legend=legend))
    band = base.mark_area(opacity=0.14).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(
        y=y, strokeDash=alt.StrokeDash("metric:N", scale=alt.Scale(domain=domain, range=dashes), legend=legend)
    )
    dots = base.mark_circle(size=54, opacity=1).encode(
        y=y,
        tooltip=[
            alt.Tooltip("metric:N", title="Figure"),
            alt.Tooltip("variety:Q", title="Variety"),
            alt.Tooltip("value:Q", title="Value", format=".3f"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".3f"),
            alt.Tooltip("high:Q", title="to", format=".3f"),
        ],
    )
    rule = alt.Chart(pd.DataFrame({"variety": [chosen]})).mark_rule(color=c.muted, strokeDash=[4, 4]).encode(x=x)
    has_band = bool((frame["low"] < frame["high"]).any())
    told = ["Bands: 95\u00a0% interval of each figure"] if has_band else []
    layers = [rule, band, line, dots] if has_band else [rule, line, dots]
    return alt.layer(*layers).properties(title=heading(title, *told, "Dashed upright: the slider"))
