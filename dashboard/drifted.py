"""Whether tables and scores still look like those of the run in use: a table on Models, a sentence on Today."""

from functools import lru_cache
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import page, tables
from data import home, profile
from data.dataset import Dataset, open_dataset
from data.drift import MUCH, SOME, STABLE, Drift, drift
from data.errors import UserError

_KINDS = {STABLE: "good", SOME: "warn", MUCH: "bad"}


@lru_cache(maxsize=32)
def _compared(folder: str, fingerprint: str, model: str, run: str, scored: float) -> Drift:
    return drift(open_dataset(Path(folder).name), model)


def _drift(data: Dataset, model: str, run: Path) -> Drift:
    return _compared(str(data.folder), data.fingerprint, model, str(run), _written(_scores(data, model)))


def _scores(data: Dataset, model: str) -> Path:
    return home.scores(data.name) / f"{profile.SCORES[model][0]}.parquet"


def _written(path: Path) -> float:
    """When a file was written, in seconds since 1970; 0.0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def noted(data: Dataset, model: str, run: Path, trained_on: str) -> list[str]:
    """Sentences on what drifted since the training; nothing is read where nothing can have.

    Args:
        data: the dataset as it is.
        model: one of data.runs.MODELS.
        run: the run in use, of this dataset.
        trained_on: the fingerprint of the tables that it was trained on.
    """
    first, last = _written(run / profile.scores_file(data.name)), _written(_scores(data, model))
    if trained_on == data.fingerprint and not 0.0 < first < last:
        return []
    try:
        return _drift(data, model, run).told
    except UserError:  # a damaged table is told where it is read
        return []


def show(data: Dataset, model: str, run: Path) -> None:
    """What was compared, as a table, with a sentence above."""
    st.header("Drift since the training")
    found = _drift(data, model, run)
    for sentence in found.told:
        page.notice(_KINDS[found.state], sentence)
    if found.changes and not found.told:
        page.notice("good", "Tables and scores look like those of the training.")
    for note in found.notes:
        page.notice("none", note)
    if not found.changes:
        return
    frame = pd.DataFrame(
        {
            "What": [f"{change.what[:1].upper()}{change.what[1:]}" for change in found.changes],
            "Of": [change.of for change in found.changes],
            "Then": [change.then for change in found.changes],
            "Now": [change.now for change in found.changes],
            # As text: an empty cell is better than the word None, and equal lengths sort like their numbers.
            "PSI": ["" if change.psi is None else f"{change.psi:.3f}" for change in found.changes],
            "JS": ["" if change.distance is None else f"{change.distance:.3f}" for change in found.changes],
            "New": ["" if change.share is None else f"{change.share:.0%}" for change in found.changes],
            "State": [change.state for change in found.changes],
        }
    )
    said = "How far each distribution has moved since the training"
    tables.table(frame, f"drift-{run.name}", said)
    st.caption(
        "PSI below 0.1: stable, from 0.25 on: drifted much; what so few values do by chance is no drift. JS: "
        "Jensen-Shannon distance, 0 to 1. Then and now: how many values were counted."
    )
