"""Logged pages: what was shown, what was clicked, and click rates with their intervals.

Cards of one member are no independent draws, and neither are a member's pages, so every interval here is made over
members.
"""

import math

import numpy as np
import pandas as pd

from data.schema import ITEM_ID, KIND, USER_ID

VISIBLE = 8  # places that a page shows without scrolling
DRAWS = 1000  # of a bootstrap
SEED = 42
_BLOCK = 2**22  # weights of the bootstrap in memory at once

Interval = tuple[float, float, float]  # value, and its 95 % interval


def impressions(events: pd.DataFrame) -> pd.DataFrame:
    """Impressions on a named page with `clicked`: each card counts once on its page, however often it was clicked.

    Args:
        events: impressions and clicks, see data.events.events.
    """
    where = ["page_id", "place", ITEM_ID]
    known = events[events[where].notna().all(axis=1)]
    shown = known[known[KIND] == "impression"].drop_duplicates(where)
    clicks = known.loc[known[KIND] == "click", where].drop_duplicates()
    # Dictionary codes: comparing three strings for each card would be the slowest part of the page.
    both = pd.concat([shown[where], clicks], ignore_index=True)
    codes = both.groupby(where, sort=False, observed=True).ngroup().to_numpy()
    return shown.assign(clicked=np.isin(codes[: len(shown)], codes[len(shown) :])).reset_index(drop=True)


def rates(shown: pd.DataFrame, by: str, visible: int = VISIBLE) -> pd.DataFrame:
    """Clicks per impression in the visible places, by place or run: index `by` (missing values are a group too).

    Columns: pages, members, impressions, clicks, rate, low, high. The 95 % interval is Wilson's on the effective number
    of impressions: cards of one member are no independent draws, so impressions are divided by the design effect, the
    variance of the rate over members through that of independent cards, and at least 1 (Korn & Graubard 1998).

    Args:
        shown: see `impressions`.
        by: column.
        visible: later places are not counted: random pages log the whole row, others what is visible.
    """
    seen = shown[(pd.to_numeric(shown["rank"]).fillna(1) <= visible)]
    seen = seen.assign(clicked=seen["clicked"].astype(float))
    groups = seen.groupby(by, dropna=False, sort=True)
    found = pd.DataFrame(
        {
            "pages": groups["page_id"].nunique(),
            "members": groups[USER_ID].nunique(),
            "impressions": groups.size(),
            "clicks": groups["clicked"].sum().astype("int64"),
        }
    )
    found["rate"] = found["clicks"] / found["impressions"]
    group = groups.ngroup().to_numpy()
    member = pd.factorize(seen[USER_ID])[0]
    cell = pd.DataFrame({"group": group, "member": member, "clicks": seen["clicked"].to_numpy(), "n": 1.0})
    sums = cell.groupby(["group", "member"], sort=True)[["clicks", "n"]].sum().reset_index()
    rate, n = found["rate"].to_numpy(), found["impressions"].to_numpy(float)
    squares = (sums["clicks"] - rate[sums["group"]] * sums["n"]) ** 2
    total = np.bincount(sums["group"], squares, minlength=len(found))
    m = found["members"].to_numpy(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = (m / (m - 1) * total / n**2) / (rate * (1 - rate) / n)
    low, high = wilson(rate, n / np.where(np.isfinite(effect), np.maximum(effect, 1.0), 1.0))
    return found.assign(low=low, high=high)


def wilson(rate: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share (Wilson 1927), which does not collapse at 0 or 1.

    >>> [round(float(bound[0]), 3) for bound in wilson(np.array([0.0]), np.array([100.0]))]
    [0.0, 0.037]
    """
    z2 = 1.96**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = 1.96 * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def per_page(
    shown: pd.DataFrame, row: str, visible: int = VISIBLE, draws: int = DRAWS, seed: int = SEED
) -> tuple[int, Interval] | None:
    """Pages on which a row stood in its usual order, and its clicks per page with a bootstrap interval; None: no page.

    What is served, measured where nothing was left to chance: which pages are shown in random order is drawn, so the
    replay of the same run should agree.
    """
    usual = shown[(shown["place"] == row) & shown["propensity"].isna()]
    usual = usual[pd.to_numeric(usual["rank"]).fillna(1) <= visible]
    if usual.empty:
        return None
    first = ~usual["page_id"].duplicated().to_numpy()
    columns = np.stack([first.astype(float), usual["clicked"].to_numpy(float)], axis=1)
    _, sums = sums_by_member(usual[USER_ID].to_numpy(object), columns)
    drawn = bootstrap(sums, draws, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        around = drawn[:, 1] / drawn[:, 0]
    total = sums.sum(0)
    return int(total[0]), interval_of(float(total[1] / total[0]), around)


def sums_by_member(members: np.ndarray, columns: np.ndarray) -> tuple[int, np.ndarray]:
    """Sums of the columns over each member's rows: how many members, and shape (members, columns)."""
    code, names = pd.factorize(members)
    sums = np.stack([np.bincount(code, column, minlength=len(names)) for column in columns.T], axis=1)
    return len(names), sums


def bootstrap(of_members: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums over members drawn with replacement, (draws, columns), from sums of each member (members, columns)."""
    generator = np.random.default_rng(seed)
    total = np.zeros((draws, of_members.shape[1]))
    size = max(1, _BLOCK // draws)
    for first in range(0, len(of_members), size):
        part = of_members[first : first + size]
        total += generator.poisson(1.0, (draws, len(part))) @ part
    return total


def interval_of(value: float, around: np.ndarray) -> Interval:
    known = around[np.isfinite(around)]
    if not len(known) or not math.isfinite(value):
        return value, math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return value, float(low), float(high)
