"""`python -m benchmarks series`: how long forecasting many series takes, beside AutoETS in the same run.

The series are generated: daily counts with a level, a week, a slow wave and noise, so that both have something to
find. Ours is the forecaster as it is served, both of its networks, with the weights learned from made-up series;
reading, scaling and the reconciled means are in its time. AutoETS (statsforecast, all cores) gets the first of the same
series, as it would take a quarter of an hour for all; the accuracies are of those.
"""

import time
from dataclasses import replace

import numpy as np
import pytorch_lightning as pl
import torch

from data import command, report
from data.errors import UserError
from data.quiet import quiet_lightning
from forecasting.accuracy import OURS, actuals, tables_of
from forecasting.classical import ETS, NAIVE, classical
from forecasting.engagement import EngagementLSTM
from forecasting.engagement_data import EngagementData
from forecasting.forecast import forecast_panel
from forecasting.frequency import FREQUENCIES
from forecasting.series import Panel

_FIRST_DAY = 19_000  # days since 1970


def series(args: list[str]) -> None:
    """Measure and print the table.

    Raises:
        UserError: a flag is at fault.
    """
    parser = command.Parser(prog="python -m benchmarks series", description=__doc__, allow_abbrev=False)
    parser.add_argument("--series", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--steps", type=int, default=365, help="days of history (default: 365)")
    parser.add_argument("--horizon", type=int, default=28, help="days ahead (default: 28)")
    parser.add_argument("--sample", type=int, default=500, help="how many AutoETS forecasts (default: 500)")
    known = parser.parse_args(args)
    for flag, least in (("series", 2), ("steps", 28), ("horizon", 1), ("sample", 2)):
        if getattr(known, flag) < least:
            raise UserError(f"--{flag} {getattr(known, flag)} must be at least {least}.")
    panel = generated(known.series, known.steps + known.horizon)
    history = panel.until(known.steps).known()
    module = forecaster(first(history, known.sample), known.horizon)
    started = time.perf_counter()
    ours = forecast_panel(module, history, known.horizon).quantiles
    seconds = {OURS: time.perf_counter() - started}
    sample = min(known.sample, known.series)
    history, panel = first(history, sample), first(panel, sample)
    found = classical(history, known.horizon, (NAIVE, ETS))
    answers = {OURS: ours[:sample]} | {name: answer.quantiles for name, answer in found.items()}
    rate = {OURS: known.series / seconds[OURS], ETS: sample / found[ETS].seconds}
    seconds |= {name: answer.seconds for name, answer in found.items()}
    actual = actuals(panel, np.array([known.steps]), known.horizon, panel.n_steps)
    answers = {name: values[:, None] for name, values in answers.items()}
    table = tables_of(panel, answers, NAIVE, actual, known.steps, seconds)[""]
    report.print_metrics(
        table,
        f"the first {sample:,} of {known.series:,} daily series of {known.steps:,} days, {known.horizon} days ahead",
        {"relmae": "min", "mase": "min", "smape": "min", "wql": "min", "seconds": "min"},
    )
    print(
        f"- The {OURS} forecasts all {known.series:,} series in {seconds[OURS]:.1f} s, {rate[OURS]:,.0f} a second; "
        f"{ETS} {rate[ETS]:,.1f} a second: {rate[OURS] / rate[ETS]:.1f} times as many."
    )


def generated(n_series: int, n_steps: int, seed: int = 0) -> Panel:
    """Daily counts: a log-normal level, a week, a slow wave and noise, Poisson on top."""
    rng = np.random.default_rng(seed)
    day = np.arange(n_steps)
    level = rng.normal(2.5, 1.2, (n_series, 1))
    week = rng.normal(0, 0.3, (n_series, 7))[:, day % 7]
    wave = rng.gamma(2, 0.1, (n_series, 1)) * np.sin(2 * np.pi * (day / rng.uniform(60, 400, (n_series, 1))))
    noise = rng.normal(0, 0.15, (n_series, n_steps))
    values = rng.poisson(np.exp(np.minimum(level + week + wave + noise, 12.0))).astype(float)
    ids = tuple(f"series:{number}" for number in range(n_series))
    return Panel(ids, _FIRST_DAY, FREQUENCIES["daily"], values)


def first(panel: Panel, n: int) -> Panel:
    """The first `n` series of a panel."""
    return replace(panel, series_ids=panel.series_ids[:n], values=panel.values[:n])


def forecaster(history: Panel, horizon: int) -> EngagementLSTM:
    """The forecaster before it is trained on a dataset; both networks are asked, as after a fit.

    What a fit finds out without training (the leaning, the width of the intervals) is found out on `history`.
    """
    module = EngagementLSTM(horizon=horizon)
    module.load_prior(torch.device("cpu"))
    data = EngagementData("generated", horizon).use(history)
    quiet_lightning()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.validate(module, data, verbose=False)
    return module.eval()
