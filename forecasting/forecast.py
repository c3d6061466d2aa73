"""From a module and a panel to forecasts of every series: what the scorer, the backtest and the anomalies share."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from forecasting.engagement import EngagementLSTM
from forecasting.engagement_data import Windows, windows_to_come
from forecasting.forecaster import LEVELS
from forecasting.hierarchy import reconciled, with_rest
from forecasting.series import Panel


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecasts of a panel's series from its end on; NaN for a series without any known value.

    Attributes:
        quantiles: (n_series, horizon, levels).
        mean: (n_series, horizon); genres, titles and segments add up to the total.
        stale: steps by which a series had ended before the panel does, if it had before the context. (n_series,).
    """

    quantiles: np.ndarray
    mean: np.ndarray
    stale: np.ndarray


@torch.no_grad()
def answers(
    module: EngagementLSTM, windows: Windows, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Batch by batch the windows' series and origins (batch,), quantiles (batch, horizon, levels) and means."""
    for start in range(0, len(windows), batch_size):
        batch = windows.__getitems__(list(range(start, min(start + batch_size, len(windows)))))
        quantiles, mean = module({name: value.to(module.device) for name, value in batch.items()})
        found = quantiles.double().cpu().numpy(), mean.double().cpu().numpy()
        yield batch["series"].numpy(), batch["origin"].numpy(), *found


def forecast_panel(module: EngagementLSTM, panel: Panel, horizon: int, batch_size: int = 512) -> Forecast:
    """Forecast every series of `panel` for `horizon` steps after its end."""
    whole = with_rest(panel)
    n = len(whole.series_ids)
    quantiles = np.full((n, horizon, len(LEVELS)), np.nan)
    mean, stale = np.full((n, horizon), np.nan), np.zeros(n, np.int64)
    windows, late = windows_to_come(whole, horizon)
    stale[windows.series.numpy()] = late
    for series, _, *found in answers(module, windows, batch_size):
        quantiles[series], mean[series] = found
    kept = slice(0, len(panel.series_ids))
    return Forecast(quantiles[kept], reconciled(whole.series_ids, mean)[kept], stale[kept])
