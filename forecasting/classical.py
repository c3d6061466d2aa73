"""The statisticians' methods beside which the forecaster is measured: statsforecast's AutoETS, AutoTheta and AutoARIMA.

Each method sees a series' known values up to the origin, gaps filled by straight lines, and answers a point and the
bounds of its 50 % and 90 % intervals; bounds below zero are cut to zero, as the series are amounts. Histories are cut
to the last MAX_HISTORY steps: more changes their forecasts little and their time much.

AutoARIMA with a season of more than MAX_ARIMA_SEASON steps takes minutes for one series; there it is fitted, as
statsforecast's authors advise, to what MSTL (Bandara et al. 2021) leaves of the series without its seasons.
"""

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from forecasting.baselines import mean_of_last
from forecasting.forecaster import LEVELS, MEDIAN
from forecasting.series import Panel

NAIVE, ETS, THETA, ARIMA = "seasonal naive", "AutoETS", "AutoTheta", "AutoARIMA"
COMBINED = "mean of the three"
MAX_HISTORY = 500
MAX_ARIMA_SEASON = 12
_INTERVALS = [50, 90]
_COLUMNS = ("-lo-90", "-lo-50", "", "-hi-50", "-hi-90")  # of LEVELS


@dataclass(frozen=True, eq=False)
class Answer:
    """One method's forecasts: quantiles (n_series, horizon, levels), NaN where there was no history, and its time.

    At the median stands the method's point forecast.
    """

    quantiles: np.ndarray
    seconds: float


def recent_steps(panel: Panel) -> int:
    """Length of the recent mean: 28 days, a week of hours, a quarter of weeks, a year of months."""
    return panel.frequency.windows[1]


def mean_name(panel: Panel) -> str:
    return f"mean of the last {panel.frequency.count(recent_steps(panel))}"


def recent_mean(panel: Panel, horizon: int) -> Answer:
    """The mean of the recent steps for every step ahead; its interval is the quantiles of those steps themselves."""
    started = time.perf_counter()
    length = recent_steps(panel)
    mean = mean_of_last(panel.values, horizon, length)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        spread = np.nanquantile(panel.values[:, -length:], LEVELS, axis=1).T
    quantiles = np.repeat(np.nan_to_num(spread)[:, None], horizon, axis=1)
    quantiles[..., MEDIAN] = mean
    return Answer(quantiles, time.perf_counter() - started)


def classical(panel: Panel, horizon: int, methods: Sequence[str] = (NAIVE, ETS, THETA, ARIMA)) -> dict[str, Answer]:
    """The methods' forecasts of the steps after the panel's end, the recent mean, and the mean of the last three."""
    os.environ.setdefault("NIXTLA_ID_AS_COL", "1")
    from statsforecast import StatsForecast
    from statsforecast.models import MSTL, AutoARIMA, AutoETS, AutoTheta, SeasonalNaive

    season = panel.season
    seasonal = season <= MAX_ARIMA_SEASON
    fitting = [period for period in panel.frequency.seasons if 2 * period <= min(panel.n_steps, MAX_HISTORY)]
    models = {
        NAIVE: SeasonalNaive(season_length=season),
        ETS: AutoETS(season_length=season),
        THETA: AutoTheta(season_length=season),
        ARIMA: AutoARIMA(season_length=season)
        if seasonal or not fitting
        else MSTL(season_length=fitting, trend_forecaster=AutoARIMA()),
    }
    histories, rows = _histories(panel, season)
    found = {mean_name(panel): recent_mean(panel, horizon)}
    shape = (len(panel.series_ids), horizon, len(LEVELS))
    for name in methods:
        model = models[name]
        quantiles = np.full(shape, np.nan)
        started = time.perf_counter()
        if len(histories):
            cores = (os.cpu_count() or 1) if len(rows) > 1 else 1
            runner = StatsForecast(models=[model], freq=1, n_jobs=cores, fallback_model=SeasonalNaive(season_length=1))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = runner.forecast(df=histories, h=horizon, level=_INTERVALS)
            column = next(c for c in table.columns if c not in ("unique_id", "ds") and "-" not in c)
            order = table["unique_id"].to_numpy().reshape(-1, horizon)[:, 0]
            values = np.stack([table[column + end].to_numpy() for end in _COLUMNS], -1).reshape(-1, *shape[1:])
            quantiles[order] = np.maximum(np.nan_to_num(values), 0.0)
        found[name] = Answer(quantiles, time.perf_counter() - started)
    parts = [found[name] for name in (ETS, THETA, ARIMA) if name in found]
    if len(parts) < 3:
        return found
    mean = np.mean([part.quantiles for part in parts], axis=0)
    return found | {COMBINED: Answer(mean, sum(part.seconds for part in parts))}


def _histories(panel: Panel, season: int) -> tuple[pd.DataFrame, np.ndarray]:
    """unique_id (row), ds (step) and y, each series from its first known step on; and the rows that have one."""
    values = panel.values[:, -MAX_HISTORY:]
    known = np.isfinite(values)
    rows = np.flatnonzero(known.any(axis=1))
    first = known[rows].argmax(axis=1)
    # At least three steps and a season, or the methods refuse: what is missing before is the first value again.
    first = np.minimum(first, max(0, values.shape[1] - max(3, season + 1)))
    filled = pd.DataFrame(values[rows].T).interpolate(limit_direction="both").to_numpy().T
    kept = np.arange(values.shape[1]) >= first[:, None]
    at, step = np.nonzero(kept)
    return pd.DataFrame({"unique_id": rows[at], "ds": step, "y": filled[kept]}), rows
