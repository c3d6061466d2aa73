"""Ready-made series: dates and values of any frequency, out of order or repeated, to a panel.

The frequency is that of the usual distance between two values. Values closer together than a step (minutes in an
hourly series, hours in a daily one) are added up, others of one step averaged. A daily or longer series whose values
all carry one time of day after noon, on the full hour, comes from a time zone ahead of UTC (midnight there): its values
belong to the next day.
"""

import numpy as np
import pandas as pd

from data.dataset import Dataset
from data.errors import UserError
from data.schema import DATE, SERIES_ID, VALUE
from forecasting.frequency import DAY_US, HOUR_US, Frequency, of_distance
from forecasting.series import LATE, Panel

MAX_STEPS = 400_000
_RECENT = 100_000  # values that the usual distance is measured on


def _rows(dataset: Dataset) -> pd.DataFrame:
    """series, micros and value up to the clock, by series and time, one row for each moment.

    Raises:
        UserError: there is nothing up to the clock, or a value is negative.
    """
    frame = dataset.metrics()
    frame = frame[frame[DATE] <= dataset.as_of]
    if frame.empty:
        raise UserError(
            f"Dataset '{dataset.name}' has no ready-made value up to its clock ({dataset.as_of:%Y-%m-%d}), so there "
            "is nothing to forecast: set the clock with --as-of, or import earlier values."
        )
    if (frame[VALUE] < 0).any():
        bad = frame[frame[VALUE] < 0].iloc[0]
        raise UserError(
            f"Series '{bad[SERIES_ID]}' of dataset '{dataset.name}' is negative on {bad[DATE]:%Y-%m-%d} "
            f"({bad[VALUE]:g}), but forecasts are of amounts, which are zero or more: leave the series out."
        )
    micros = frame[DATE].astype("int64").to_numpy()
    rows = pd.DataFrame({"series": frame[SERIES_ID].astype(object).to_numpy(), "micros": micros, "value": frame[VALUE]})
    return rows.groupby(["series", "micros"], sort=True)["value"].mean().reset_index()


def _usual(rows: pd.DataFrame) -> Frequency:
    """The frequency of the usual distance between two values in the usual series; daily where there are no two."""
    rows = rows.tail(_RECENT)
    usual = rows.groupby("series")["micros"].diff().dropna().groupby(rows["series"]).median()
    return of_distance(float(usual.median()) / DAY_US if len(usual) else 1.0)


def given_panel(dataset: Dataset, frequency: Frequency | None, last_day: int | None = None) -> Panel:
    """The ready-made series in steps of `frequency`; None chooses it by them.

    Args:
        dataset: with metrics.
        frequency: of the steps.
        last_day: with which weeks end, in days since 1970 (default: with the clock). Later values are left out.

    Raises:
        UserError: there is nothing up to the clock, a value is negative, or the series span too many steps.
    """
    assert dataset.as_of is not None
    rows = _rows(dataset)
    frequency = frequency or _usual(rows)
    micros = rows["micros"].to_numpy()
    as_of_us = dataset.as_of.value // 1000
    if frequency.unit != "h" and _is_midnight_elsewhere(micros):
        micros, as_of_us = micros + DAY_US // 2, as_of_us + DAY_US // 2
    distance = pd.Series(micros).groupby(rows["series"]).diff()
    usual = distance.groupby(rows["series"]).median()
    finer = set(usual.index[usual < 0.6 * frequency.step_us])

    unit = frequency.units(micros)
    last = int(frequency.units(np.array([as_of_us]))[0])
    unit_us = HOUR_US if frequency.unit == "h" else DAY_US
    is_open = frequency.unit != "M" and as_of_us % unit_us < LATE * unit_us
    in_weeks = frequency.size > 1 and frequency.unit == "D"
    if in_weeks:
        if last_day is None and len(finer) == len(usual):
            last_day = last - is_open  # weeks that are added up here end, as a log's, with a day that is over
        if last_day is not None and (unit <= last_day).any():
            rows, unit, last, is_open = rows[unit <= last_day], unit[unit <= last_day], last_day, False
    # Steps are laid out backward from the clock: weeks end with the week of the last value, whatever its weekday.
    n_steps = int((last - unit.min()) // frequency.size + 1)
    if n_steps > MAX_STEPS:
        raise UserError(
            f"The ready-made series of dataset '{dataset.name}' span {frequency.count(n_steps)}, too many for one "
            "panel: look for a wrong date in the file and import it again."
        )
    first = last - (n_steps - 1) * frequency.size
    if in_weeks:
        if last_day is not None:  # weekly values keep their dates, weeks that are added up have their first day's
            first -= frequency.size - 1
        step = n_steps - 1 - (last - unit) // frequency.size
    else:
        first -= first % frequency.size if frequency.unit == "M" else 0
        step = (unit - first) // frequency.size
        n_steps = int(max(n_steps, step.max() + 1))
    codes, names = pd.factorize(rows["series"])
    at, size = codes * n_steps + step, len(names) * n_steps
    shape = (len(names), n_steps)
    total = np.bincount(at, weights=rows["value"].to_numpy(), minlength=size).reshape(shape)
    number = np.bincount(at, minlength=size).reshape(shape)
    adds_up = np.array([name in finer for name in names], dtype=bool)[:, None]
    values = np.where(number > 0, total / np.where(adds_up, 1, np.maximum(number, 1)), np.nan)
    if in_weeks:  # a first week that is not whole would look like a rise
        ago = last - pd.Series(unit).groupby(codes).min().to_numpy()  # days from each series' first to the last one
        cut = np.flatnonzero(adds_up[:, 0] & ((ago + 1) % frequency.size > 0))
        values[cut, n_steps - 1 - ago[cut] // frequency.size] = np.nan
    if is_open:
        values[adds_up[:, 0], -1] = np.nan
    return Panel(tuple(map(str, names)), first, frequency, values)


def _is_midnight_elsewhere(micros: np.ndarray) -> bool:
    """Whether all times are one full hour after noon, or two that a change of the clocks puts an hour apart."""
    hours = np.unique(micros % DAY_US)
    whole = (hours % HOUR_US == 0).all() and hours.min() > DAY_US // 2
    return bool(whole and len(hours) <= 2 and hours.max() - hours.min() <= HOUR_US)
