"""Reviews that members wrote here and the last scoring has not seen, read by the live model as they come.

Each is read once for a run, by whoever looks first. Until the model is loaded they wait; nothing is lost, since the
review itself is in the database, or after an export in the tables.
"""

import threading

import pandas as pd
import streamlit as st

from dashboard import store
from dashboard.skeleton import loading
from data import events
from data.dataset import Dataset
from data.errors import UserError
from data.feedback import EXPORTED
from data.schema import CREATED_AT, ITEM_ID, LABEL, REVIEW_ID, SOURCE, STARS, TEXT, USER_ID
from nlp.replies import draft_replies
from nlp.triage import priorities

LOADING_SECONDS = 30.0
COLUMNS = (REVIEW_ID, USER_ID, TEXT, ITEM_ID, STARS, CREATED_AT, SOURCE)
_reading = threading.Lock()


def unscored(data: Dataset) -> pd.DataFrame:
    """Columns `COLUMNS`; none while the database cannot be read.

    Raises:
        UserError: a table is damaged.
    """
    try:
        written = events.reviews(data.name, after=data.exported.get("reviews", 0))
    except UserError:
        written = events.no_reviews()
    found = written.rename(columns={"service_time": CREATED_AT}).assign(**{SOURCE: EXPORTED})[list(COLUMNS)]
    if data.exported.get("reviews", 0):
        exported = _exported(str(data.folder), data.fingerprint, store.scored_at(data.name, "review_scores"), data)
        if len(exported):
            found = pd.concat([exported, found.astype(exported.dtypes)], ignore_index=True)
    return found


@st.cache_resource(max_entries=4, show_spinner=False)
def _exported(folder: str, fingerprint: str, age: float | None, _data: Dataset) -> pd.DataFrame:
    written = store.table(_data, "reviews")
    if written is None:
        return pd.DataFrame(columns=list(COLUMNS))
    known = store.scores(_data.name, "review_scores")
    mine = written[(written[SOURCE] == EXPORTED).fillna(False)]
    return mine[~mine[REVIEW_ID].isin([] if known is None else known[REVIEW_ID])][list(COLUMNS)]


@st.cache_resource(show_spinner=False)
def _reads(run_id: str) -> dict[str, pd.Series]:
    """What a run said of each review; grows as reviews are read."""
    return {}


def read(data: Dataset, written: pd.DataFrame, *, wait: bool = False) -> pd.DataFrame:
    """`review_id`, `label`, `p_positive`, `aspects` and `run_id` of the reviews that the live model has read by now.

    Args:
        written: see `unscored`.
        wait: until the model is loaded; else nothing is read before it is.
    """
    model = store.live(data.name, "sentiment") if len(written) else None
    if model is not None and wait and not model.ready:
        with loading("list", "Loading the sentiment model, which reads what members wrote …"):
            model.wait(LOADING_SECONDS)
    if model is None or not model.ready:
        return pd.DataFrame({name: [] for name in (REVIEW_ID, LABEL, "p_positive", "aspects", "run_id")})
    reads = _reads(model.run_id)
    with _reading:
        left = written[~written[REVIEW_ID].isin(list(reads))]
        if len(left):
            said = model.future.result().analyse(left[TEXT].tolist())
            reads.update(zip(left[REVIEW_ID], (row for _, row in said.iterrows()), strict=True))
    rows = pd.DataFrame([reads[review_id] for review_id in written[REVIEW_ID]])[[LABEL, "p_positive", "aspects"]]
    rows.insert(0, REVIEW_ID, written[REVIEW_ID].to_numpy())
    return rows.reset_index(drop=True).assign(run_id=model.run_id)


def with_priority(
    said: pd.DataFrame, written: pd.DataFrame, titles: pd.Series, as_of: pd.Timestamp | None, service: str
) -> pd.DataFrame:
    """`said` with priority and reply_draft, as score.py gives them to reviews of a table.

    Args:
        titles: the listed title of each item_id.
    """
    about = said.merge(written[[REVIEW_ID, TEXT, ITEM_ID, CREATED_AT]], on=REVIEW_ID)
    about["title"] = about[ITEM_ID].map(titles).astype(object)
    return said.assign(priority=priorities(about, as_of).to_numpy(), reply_draft=draft_replies(about, service=service))
