"""Plain facts of the Experiments page: how often cards were clicked, by row and by recommender."""

import datetime as dt

import pandas as pd
import streamlit as st

from dashboard import page
from dashboard.ab_words import Range, percent, place_name, ranges
from data import runs
from data.dataset import Dataset
from data.runs import Run
from recsys import clicks
from recsys.clicks import VISIBLE
from recsys.replay import ROW


def run_name(run: Run) -> str:
    """ "Recommender of 28 November 2026, 16:14 (in use)"."""
    made = str(run.report.get("created_at", ""))
    try:
        time = dt.datetime.fromisoformat(made)
        told = f"Recommender of {page.when(time)}, {time:%H:%M}"
    except ValueError:
        told = f"Recommender {run.id}"
    return f"{told} (in use)" if run.is_current else told


def rates(data: Dataset, shown: pd.DataFrame) -> None:
    """Draw how often cards were clicked.

    Args:
        shown: see recsys.clicks.impressions.
    """
    usual = shown[shown["propensity"].isna()]  # random order is clicked less
    if usual.empty:
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.header("Clicks by row")
        found = clicks.rates(usual, "place").sort_values("rate", ascending=False)
        st.html(ranges([_rate(place_name(str(place)), row) for place, row in found.iterrows()]))
    with right:
        st.header("Top picks by recommender")
        names = {run.id: run_name(run) for run in runs.list_runs(data.name, "recommender")}
        by_run = clicks.rates(usual[usual["place"] == ROW], "run_id")
        if by_run.empty:
            page.notice("none", "Top picks were shown in random order only so far.")
        else:
            lines = [(names.get(run, f"Run {run}, deleted") if isinstance(run, str) else "No recommender", row)
                     for run, row in by_run.iterrows()]  # fmt: skip
            st.html(ranges([_rate(name, row) for name, row in lines]))
    st.caption(
        f"Share of the cards in the first {VISIBLE} places that were clicked, with its 95 % interval; rows in "
        "random order are left out. Rows differ by where they stand and recommenders by when they served: these shares "
        "describe, they do not compare."
    )


def _rate(name: str, row: pd.Series) -> Range:
    value = f"{percent(row['rate'])} ({percent(row['low'])} to {percent(row['high'])})"
    rests_on = f"{page.count(row['clicks'], 'click')} on {page.count(row['impressions'], 'card')}, "
    return Range(name, (row["rate"], row["low"], row["high"]), value, rests_on + page.count(row["pages"], "page"))
