"""Whom to win back, and with what: members who may leave joined with the titles recommended to them.

The list is made of the two score tables alone (`score.py retention` and `score.py recommend`), so it is there at once
and says nothing that they do not. It is ordered by the expected loss, the visits (active days) that are lost in a
horizon if the member leaves, times the chance of that:

    expected_loss = (1 - p_return) * usual_visits
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data import home
from data.as_csv import rounded_csv
from data.atomic import atomic_file
from data.dataset import open_dataset, read_parquet
from data.errors import UserError
from data.schema import ITEM_ID, TITLE, UNREADABLE, USER_ID
from data.titles import display_title

BANDS = ("high", "medium", "low")
HIGH_BELOW = 1 / 3  # of p_return
BEFORE_DAYS = 7  # before the clock: when p_return_before was the chance
PICKS = 3
COLUMNS = (
    USER_ID, "band", "p_return", "expected_days", "days_since_last", "usual_visits", "expected_loss", "reason",
    "reason_effect",
)  # fmt: skip
_NEEDED = (
    USER_ID, "p_return", "band", "days_since_last", "top_reason", "reason_effect", "expected_days", "usual_visits",
)  # fmt: skip


def at_risk(
    retention: pd.DataFrame, bands: Collection[str] = ("high",), seen_within: int | None = None
) -> pd.DataFrame:
    """Members of some risk bands, the largest expected loss first: the columns of `COLUMNS`.

    Args:
        retention: a table of `schema.SCORES["retention"]`; without `usual_visits` the order is that of the risk.
        bands: among high, medium and low.
        seen_within: only members who were there within so many days.
    """
    chosen = retention[retention["band"].isin(list(bands))]
    if seen_within is not None:
        chosen = chosen[chosen["days_since_last"] <= seen_within]
    chosen = chosen.assign(expected_loss=(1 - chosen["p_return"]) * chosen["usual_visits"], reason=chosen["top_reason"])
    return chosen.sort_values(
        ["expected_loss", "p_return", USER_ID], ascending=[False, True, True], na_position="last", ignore_index=True
    )[list(COLUMNS)]


def band_changes(retention: pd.DataFrame) -> tuple[pd.Series, pd.Series] | None:
    """Which rows crossed into the band `high` within the last `BEFORE_DAYS` days, and which left it.

    Both chances are the same model's: today's, and the one from what was known `BEFORE_DAYS` days before the clock. So
    a change is one of the member, not of the model. A member who was not here yet then, and is likely to leave
    already, has crossed too.

    Returns:
        two boolean series, or None where the table does not know (it was written without `p_return_before`).
    """
    before = retention["p_return_before"] if "p_return_before" in retention else pd.Series(dtype=float)
    if before.isna().all():
        return None
    now, then = retention["band"] == "high", before < HIGH_BELOW
    return now & ~then, then & ~now


def picks_of(recommendations: Path, user_ids: Sequence[str]) -> pd.DataFrame:
    """The first `PICKS` titles of some members: user_id, rank, item_id, reason_item_id. Empty where there is no file.

    Raises:
        UserError: the file is damaged.
    """
    columns = [USER_ID, "rank", ITEM_ID, "reason_item_id"]
    if not recommendations.is_file():
        return pd.DataFrame(columns=columns)
    wanted = [(USER_ID, "in", list(user_ids)), ("rank", "<=", PICKS)]
    try:
        return pq.read_table(recommendations, columns=columns, filters=wanted).to_pandas()
    except UNREADABLE as failure:
        raise UserError(
            f"{recommendations} cannot be read ({failure}): write it again with 'python score.py recommend'."
        ) from None


def with_picks(members: pd.DataFrame, picks: pd.DataFrame, titles: pd.Series) -> pd.DataFrame:
    """`members` with title_1, item_1 and why_1 to title_3, item_3 and why_3; empty texts where there is none.

    Args:
        members: has user_id.
        picks: of `picks_of`.
        titles: the name of each title as it is shown, by item_id.
    """
    found = members.reset_index(drop=True)
    because = picks["reason_item_id"].map(titles)
    told = picks.assign(
        title=picks[ITEM_ID].map(titles).fillna(picks[ITEM_ID]),
        why=("because they watched " + because.astype(object)).where(because.notna(), ""),
    )
    for rank in range(1, PICKS + 1):
        of_rank = told[told["rank"] == rank].drop_duplicates(USER_ID).set_index(USER_ID)
        of_rank = of_rank.reindex(found[USER_ID]).reset_index(drop=True)
        for name, column in (("title", "title"), ("item", ITEM_ID), ("why", "why")):
            found[f"{name}_{rank}"] = of_rank[column].fillna("").astype(object)
    return found


def write_winback(
    dataset: str,
    out: Path | None = None,
    band: str = "high",
    seen_within: int | None = None,
    limit: int | None = None,
) -> Path:
    """Write the list of members to win back as a CSV (or Parquet) table, atomically; return where.

    Args:
        dataset: name of the dataset; its score tables are joined.
        out: a .csv or .parquet file (default: winback.csv in the dataset's scores folder).
        band: high, medium, low or all.
        seen_within: only members who were there within so many days.
        limit: at most so many, those with the largest expected loss.

    Raises:
        UserError: nobody was scored yet, nobody is at risk, or an argument is at fault.
    """
    if band not in (*BANDS, "all"):
        raise UserError(f"--band {band} is none of {', '.join(BANDS)} and all.")
    if seen_within is not None and seen_within < 0:
        raise UserError(f"--seen-within {seen_within} is no number of days: give 0 or more.")
    found = open_dataset(dataset)
    target = out if out is not None else home.scores(found.name) / "winback.csv"
    if target.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"--out {target} must end in .csv or .parquet.")
    scores = home.scores(found.name) / "retention.parquet"
    if not scores.is_file():
        raise UserError(
            f"No member of dataset '{found.name}' was scored yet: run 'python score.py retention --dataset "
            f"{found.name}' first."
        )
    retention = read_parquet(scores)
    lacking = [name for name in _NEEDED if name not in retention]
    if lacking:
        raise UserError(
            f"{scores} has no column {', '.join(lacking)}: write it again with 'python score.py retention --dataset "
            f"{found.name}'."
        )
    members = at_risk(retention, BANDS if band == "all" else (band,), seen_within)
    members = members if limit is None else members.head(limit)
    if members.empty:
        near = f" and was seen within {seen_within} days" if seen_within is not None else ""
        raise UserError(
            f"No member of dataset '{found.name}' is in band '{band}'{near}: choose another --band or a larger "
            "--seen-within."
        )
    picks = picks_of(home.scores(found.name) / "recommendations.parquet", members[USER_ID].tolist())
    titles = pd.Series(dtype=object)
    if found.has("items"):
        items = found.items().set_index(ITEM_ID)
        used = np.union1d(picks[ITEM_ID].dropna(), picks["reason_item_id"].dropna())
        titles = items[TITLE].reindex(used).dropna().astype(str).map(display_title)
    table = pa.Table.from_pandas(with_picks(members, picks, titles), preserve_index=False)
    with atomic_file(target) as temporary:
        if target.suffix.lower() == ".parquet":
            pq.write_table(table, temporary, compression="zstd")
        else:
            temporary.write_bytes(rounded_csv(table))
    return target
