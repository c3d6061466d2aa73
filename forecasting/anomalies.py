"""Steps on which something unusual happened, how unusual it was, and which genres and titles drove it.

Each of the last steps is forecast from the one before it, by the model in use. A value outside the 90 % interval is
unusual; by how much follows from the tail beyond: between the quantiles of 75 and 95 % the chance of more falls to a
fifth, and on a logarithmic scale it is taken to go on falling at that rate,

    p = 0.05 * exp(-log(5) * (log(1 + value) - log(1 + q95)) / (log(1 + q95) - log(1 + q75)))

and likewise below. 1 / p is once in how many steps such a value comes. One step in ten is outside by chance alone, so
only those rarer than `once_in` are reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data import command, home, runs
from data.atomic import atomic_file
from data.dataset import open_dataset, write_parquet
from data.errors import UserError
from data.schema import SCORES, SERIES_ID
from data.served import load_served
from forecasting.engagement import EngagementLSTM
from forecasting.engagement_data import windows_at
from forecasting.forecast import answers
from forecasting.forecaster import LEVELS, MEDIAN
from forecasting.scorer import panel_of_run
from forecasting.series import GENRE, TITLE, TOTAL, Panel

ONCE_IN = 60.0
N_DRIVERS = 3
_NEVER = 1e6  # the rarest that is told: a tail says nothing about more
_RATE = np.log(5.0)


@dataclass(frozen=True, eq=False)
class Expected:
    """What each of a panel's last steps was expected to be: quantiles (n_series, steps, levels), means, actual values.

    The last axis of time ends with the panel; NaN where a series was not known before or is not known then.
    """

    quantiles: np.ndarray
    mean: np.ndarray
    actual: np.ndarray


def expected(module: EngagementLSTM, panel: Panel, steps: int, batch_size: int = 1024) -> Expected:
    """Forecasts of each of the last `steps` steps of `panel`, each from the step before it."""
    steps = min(steps, panel.n_steps - panel.frequency.windows[0])
    if steps < 1:
        raise UserError(
            f"A history of {panel.frequency.count(panel.n_steps)} is too short to say what is unusual in it: "
            "add earlier data."
        )
    origins = np.arange(panel.n_steps - steps, panel.n_steps)
    n = len(panel.series_ids)
    quantiles, mean = np.full((n, steps, len(LEVELS)), np.nan), np.full((n, steps), np.nan)
    windows = windows_at(panel, 1, origins, panel.frequency.windows[0], 1)
    for series, origin, found, means in answers(module, windows, batch_size):
        quantiles[series, origin - origins[0]], mean[series, origin - origins[0]] = found[:, 0], means[:, 0]
    return Expected(quantiles, mean, panel.values[:, -steps:])


def once_in(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Once in how many steps a value so far out comes: positive above the 95 % quantile, negative below the 5 % one.

    0 inside, NaN where nothing is known. Shapes: (..., levels) and (...) to (...).
    """
    log, value = np.log1p(quantiles), np.log1p(actual)
    inner = np.maximum(log[..., -1] - log[..., -2], 0.05), np.maximum(log[..., 1] - log[..., 0], 0.05)
    beyond = (value - log[..., -1]) / inner[0], (log[..., 0] - value) / inner[1]
    above, below = (20 * np.exp(np.minimum(_RATE * part, 30.0)) for part in beyond)
    outside = np.where(beyond[0] > 0, above, np.where(beyond[1] > 0, -below, 0.0))
    return np.where(np.isfinite(value) & np.isfinite(log[..., 0]), np.clip(outside, -_NEVER, _NEVER), np.nan)


def drivers(series_ids: Sequence[str], found: Expected, step: int, prefix: str) -> list[tuple[str, float]]:
    """The series with `prefix` that surprised most in the direction of the total, with their surplus, largest first."""
    surprise = np.nan_to_num(found.actual[:, step] - found.mean[:, step])
    total = surprise[list(series_ids).index(TOTAL)]
    rows = [row for row, name in enumerate(series_ids) if name.startswith(prefix) and surprise[row] * total > 0]
    rows.sort(key=lambda row: -abs(surprise[row]))
    return [(series_ids[row], float(surprise[row])) for row in rows[:N_DRIVERS]]


def anomalies(panel: Panel, found: Expected, rarer_than: float = ONCE_IN) -> pd.DataFrame:
    """The unusual steps of every series, the latest first and the rarest of a step first.

    Columns: date, series_id, value, q05, q50, q95, mean, once_in (negative below the interval), rarity (in words),
    genres and titles (lists of (series_id, surplus) that drove it; of the total alone).
    """
    rare = once_in(found.quantiles, found.actual)
    steps = rare.shape[1]
    series, step = np.nonzero(np.nan_to_num(np.abs(rare)) >= rarer_than)
    ids = np.array(panel.series_ids, object)
    is_total = ids[series] == TOTAL
    table = pd.DataFrame(
        {
            "date": panel.dates(panel.n_steps - steps, panel.n_steps)[step],
            "series_id": ids[series],
            "value": found.actual[series, step],
            "q05": found.quantiles[series, step, 0],
            "q50": found.quantiles[series, step, MEDIAN],
            "q95": found.quantiles[series, step, -1],
            "mean": found.mean[series, step],
            "once_in": rare[series, step],
        }
    )
    for column, prefix in (("genres", GENRE), ("titles", TITLE)):
        named = {s: drivers(panel.series_ids, found, s, prefix) for s in set(step[is_total].tolist())}
        parts = [named[s] if mine else [] for s, mine in zip(step.tolist(), is_total, strict=True)]
        table[column] = pd.Series(parts, dtype=object)
    table["rarity"] = [rarity(float(once), panel.frequency.noun) for once in table["once_in"]]
    order = np.lexsort((-np.abs(table["once_in"]), -table["date"].astype("int64")))
    return table.iloc[order].reset_index(drop=True)


def score_unusual(dataset: str) -> Path | None:
    """Write the unusual ones of the last steps as `unusual.parquet` in the dataset's scores folder; return where.

    None, and no table, where the history is too short to say what is unusual.

    Args:
        dataset: name of the dataset; its current engagement run is used.
    """
    found = open_dataset(dataset)
    run = runs.require_run(found.name, "engagement")
    panel = panel_of_run(found, run)
    module = load_served(EngagementLSTM, run)
    target = home.scores(found.name) / "unusual.parquet"
    try:
        table = anomalies(panel, expected(module, panel, 2 * panel.frequency.windows[1]))
    except UserError:
        target.unlink(missing_ok=True)
        return None
    for column in ("genres", "titles"):
        parts = [[{SERIES_ID: name, "surplus": surplus} for name, surplus in part] for part in table[column]]
        table[column] = pd.Series(parts, dtype=object)
    with atomic_file(target) as temporary:
        write_parquet(table.assign(run_id=run.name), temporary, SCORES["unusual"])
    return target


def command_line(args: list[str]) -> None:
    """`python -m forecasting anomalies`: print the unusual steps of a dataset's total, or of every series.

    Raises:
        UserError: a flag is at fault, there is no dataset or no trained model, or the history is too short.
    """
    parser = command.Parser(
        prog="python -m forecasting anomalies",
        description="Steps on which something unusual happened, and what drove it, by the model in use.",
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--series", help="one series, e.g. genre:Drama (default: total, or all where there is none)")
    parser.add_argument("--steps", type=int, help="how many of the last steps to look at (default: twice 28 days)")
    parser.add_argument("--once-in", type=float, default=ONCE_IN, help=f"rarer than once in so many ({ONCE_IN:.0f})")
    known = parser.parse_args(args)
    if known.steps is not None and known.steps < 1:
        raise UserError(f"--steps {known.steps} must be at least 1.")
    dataset = open_dataset(known.dataset)
    run = runs.require_run(dataset.name, "engagement")
    panel = panel_of_run(dataset, run)
    steps = panel.frequency
    chosen = known.series or (TOTAL if TOTAL in panel.series_ids else None)
    if chosen is not None and chosen not in panel.series_ids:
        raise UserError(
            f"--series {chosen}: dataset '{dataset.name}' has no such series; among others it has "
            f"{', '.join(panel.series_ids[:3])}."
        )
    looked_at = known.steps or 2 * steps.windows[1]
    found = expected(load_served(EngagementLSTM, run), panel, looked_at)
    table = anomalies(panel, found, known.once_in)
    if chosen is not None:
        table = table[table["series_id"] == chosen]
    for row in table.to_dict("records"):
        print(f"{row['date']:{'%Y-%m-%d %H:%M' if steps.unit == 'h' else '%Y-%m-%d'}}  {sentence(row, steps.noun)}")
        for part in (row["genres"], row["titles"]):
            if part:
                print("            " + ", ".join(f"{name} {surplus:+,.0f}" for name, surplus in part))
    share = float(np.nanmean(once_in(found.quantiles, found.actual) != 0))
    print(
        f"{len(table)} of the last {steps.count(found.actual.shape[1])}"
        + (f" of {chosen}" if chosen else "")
        + f" were rarer than once in {known.once_in:.0f}; {share:.0%} of all values lay outside their 90 % interval."
    )


def sentence(row: Mapping[Any, Any], noun: str) -> str:
    """A row of `anomalies` in words, without its date.

    >>> sentence({"series_id": "total", "value": 9, "q05": 1, "q50": 2, "q95": 4, "once_in": 80.0}, "day")
    'total: 9, expected 2 (1 to 4); so much comes once in 80 days'
    """
    expects = f"{row['q50']:,.0f} ({row['q05']:,.0f} to {row['q95']:,.0f})"
    how = "much" if row["once_in"] > 0 else "little"
    return f"{row['series_id']}: {row['value']:,.0f}, expected {expects}; so {how} comes {rarity(row['once_in'], noun)}"


def rarity(once: float, noun: str) -> str:
    """
    >>> rarity(-63.0, "day"), rarity(2e6, "day")
    ('once in 63 days', 'less than once in 1,000 days')
    """
    return f"less than once in 1,000 {noun}s" if abs(once) > 1000 else f"once in {abs(once):.0f} {noun}s"
