"""Sums that must hold: what the genres, the titles and each kind of segment have to do with the total.

    total = sum of genres = sum of titles + the rest = sum of new and other members = sum over a column's values

Forecasts made series by series do not add up. `reconciled` moves their means as little as possible until they do. With
A the matrix of the sums (one row for each: parts minus total) and W the variances, the least-squares answer is

    x - W A' (A W A')^-1 A x                                    (Hyndman et al. 2011; Wickramasuriya et al. 2019)

and with variances in proportion to the means, as counts have, each sum scales its parts by one common factor: nothing
becomes negative that was not. Quantiles are left alone: those of a sum are no sums of quantiles.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from forecasting.series import GENRE, NEW_MEMBERS, OTHER_MEMBERS, SEGMENT, TITLE, TOTAL, Panel

REST = "title:(rest)"
_LEAST_FACTOR = 0.05  # of its own forecast that a part keeps


def partitions(series_ids: Sequence[str]) -> list[np.ndarray]:
    """Rows of each group of series that adds up to the total; titles only if the rest of them is there.

    >>> [p.tolist() for p in partitions(["total", "genre:A", "genre:B", "title:1"])]
    [[1, 2]]
    """
    if TOTAL not in series_ids:
        return []
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(series_ids):
        if name.startswith(GENRE) or (name.startswith(TITLE) and REST in series_ids):
            groups.setdefault(name.partition(":")[0], []).append(row)
        elif name in (NEW_MEMBERS, OTHER_MEMBERS):
            groups.setdefault("new", []).append(row)
        elif name.startswith(SEGMENT) and "=" in name:
            groups.setdefault(name.partition("=")[0], []).append(row)
    return [np.array(rows) for rows in groups.values()]


def with_rest(panel: Panel) -> Panel:
    """The panel and, if it has a total and titles, the viewing of all other titles as its last row."""
    titles = [row for row, name in enumerate(panel.series_ids) if name.startswith(TITLE)]
    if TOTAL not in panel.series_ids or not titles or REST in panel.series_ids:
        return panel
    total = panel.values[panel.series_ids.index(TOTAL)]
    rest = np.maximum(total - np.nan_to_num(panel.values[titles]).sum(axis=0), 0.0)
    return replace(panel, series_ids=(*panel.series_ids, REST), values=np.vstack([panel.values, rest]))


def reconciled(series_ids: Sequence[str], mean: np.ndarray) -> np.ndarray:
    """Means that add up. Shape: (n_series, horizon) as given; NaN (not forecast) counts as nothing and stays.

    Series that are part of no sum are left as they are.
    """
    groups = partitions(series_ids)
    if not groups:
        return mean
    x = np.nan_to_num(mean)
    sums = np.zeros((len(groups), len(x)))
    for row, group in enumerate(groups):
        sums[row, group] = 1.0
    sums[:, list(series_ids).index(TOTAL)] = -1.0
    gaps = sums @ x  # (sums, horizon)
    weight = np.maximum(x, 1e-9)
    system = np.einsum("gs,sh,ks->hgk", sums, weight, sums)
    ridge = 1e-12 * np.trace(system, axis1=1, axis2=2)[:, None, None] * np.eye(len(groups))
    force = np.linalg.solve(system + ridge, gaps.T[..., None])[..., 0]  # (horizon, sums)
    moved = x - weight * (sums.T @ force.T)
    # Where forecasts contradict each other so much that a part would turn negative, everything follows the total.
    moved = np.maximum(moved, _LEAST_FACTOR * x)
    total = moved[list(series_ids).index(TOTAL)]
    for group in groups:
        part = moved[group].sum(axis=0)
        moved[group] *= np.where(part > 0, total / np.where(part > 0, part, 1.0), 1.0)
    return np.where(np.isnan(mean), np.nan, moved)
