"""Small charts inside cards: pictures that need no script, there with the first paint, and with words for alt."""

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dashboard.colours import colours

WIDTH, HEIGHT, EDGE = 200.0, 44.0, 3.0


@dataclass(frozen=True)
class Spark:
    """One series, oldest first.

    Attributes:
        values: what was; NaN where nothing is known.
        words: what is drawn, for who cannot see it.
        note: what cannot be guessed from the drawing, in a few words below it.
        ahead: what is expected after it.
        level: what it is compared with, as a dashed line; NaN: nothing.
        bars: draw each value as a bar from zero instead of a line.
    """

    values: tuple[float, ...]
    words: str
    note: str = ""
    ahead: tuple[float, ...] = ()
    level: float = float("nan")
    bars: bool = False


def image(spark: Spark, dark: bool) -> str:
    """The chart as an HTML image; empty where fewer than two values are known."""
    drawn = svg(spark, dark)
    if not drawn:
        return ""
    # As an address of its own: of what st.html is given, SVG among the HTML is left out.
    coded = base64.b64encode(drawn.encode()).decode()
    picture = f'<img class="mq-spark" src="data:image/svg+xml;base64,{coded}" alt="{html.escape(spark.words)}">'
    return picture + (f'<p class="mq-spark-note mq-muted">{html.escape(spark.note)}</p>' if spark.note else "")


def svg(spark: Spark, dark: bool) -> str:
    """The chart as SVG; empty where fewer than two values are known."""
    values = [*spark.values, *spark.ahead]
    known = [v for v in values if v == v]
    if len(known) < 2:
        return ""
    drawn = known + ([spark.level] if spark.level == spark.level else [])
    # A line whose lowest point is near its highest shows its course; any other, and every bar, stands on zero.
    low, high = (0.0 if spark.bars or min(drawn) < 0.5 * max(drawn) else min(drawn)), max(drawn)

    def y(value: float) -> float:
        return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * ((value - low) / (high - low) if high > low else 0.5)

    c = colours(dark)
    body = ""
    if spark.level == spark.level:
        body = _stroke(f"M0 {y(spark.level):.1f}H{WIDTH:.0f}", c.muted, 'stroke-dasharray="3 3"')
    body += _bars(values, y, c.history) if spark.bars else _lines(spark, y, c.history, c.accent)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none">'
        f"{body}</svg>"
    )


def _stroke(path: str, colour: str, more: str = "") -> str:
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round" '
        f'vector-effect="non-scaling-stroke" {more}/>'
    )


def _lines(spark: Spark, y: Callable[[float], float], past: str, ahead: str) -> str:
    """The past as a line over its shade, what is ahead as a second line that begins where the first ends."""
    n = len(spark.values) + len(spark.ahead)
    points = [(i, i * WIDTH / (n - 1), y(v)) for i, v in enumerate([*spark.values, *spark.ahead]) if v == v]
    behind = [(x, height) for i, x, height in points if i < len(spark.values)]
    before = [(x, height) for i, x, height in points if i >= len(spark.values)]
    parts = []
    if len(behind) > 1:
        line = _path(behind)
        foot = f"L{behind[-1][0]:.1f} {HEIGHT:.0f}L{behind[0][0]:.1f} {HEIGHT:.0f}Z"
        parts += [f'<path d="{line}{foot}" fill="{past}" opacity="0.1"/>', _stroke(line, past)]
    if before:
        parts.append(_stroke(_path([*behind[-1:], *before]), ahead))
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _bars(values: Sequence[float], y: Callable[[float], float], colour: str) -> str:
    slot, foot = WIDTH / len(values), HEIGHT - EDGE
    return "".join(
        f'<rect x="{i * slot + 1:.1f}" y="{min(y(v), foot - 1):.1f}" width="{slot - 2:.1f}" '
        f'height="{max(foot - y(v), 1):.1f}" fill="{colour}" opacity="0.7"/>'
        for i, v in enumerate(values)
        if v == v
    )
