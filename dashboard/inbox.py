"""The review inbox: which reviews are scored, what they speak of, which match the filters, what was decided.

Rows are reviews with scores, the first to answer on top. `text` is the source's own, because the characters that the
aspects name are of that; for reading, `plain` takes its line-break tags out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard import fresh, store
from data import replies
from data.as_csv import rounded_csv
from data.dataset import Dataset
from data.schema import ASPECTS, CREATED_AT, ITEM_ID, LABEL, REVIEW_ID, SOURCE, STARS, TABLES, TEXT, TITLE, USER_ID
from nlp.replies import DEFAULT_SERVICE, draft_replies, tones
from nlp.triage import complaint_counts, priority_reason

OPEN, APPROVED, DISMISSED, ALL = "open", "approved", "dismissed", "all"
STATES = {OPEN: "Open", APPROVED: "Approved", DISMISSED: "Dismissed", ALL: "All"}
LINKED, UNLINKED = "linked", "unlinked"
_BREAK = re.compile(r"\s*<br\s*/?>\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Inbox:
    """Shared by all sessions: never change it in place."""

    frame: pd.DataFrame  # by priority; index 0..n-1
    mentions: pd.DataFrame  # row (position in frame), aspect, p_positive, start, end
    complaints: pd.Series  # nlp.triage.complaint_counts of all of them
    n_reviews: int  # of the dataset, scored or not
    service: str = DEFAULT_SERVICE  # signs the drafts


@dataclass(frozen=True)
class Filters:
    """What the queue shows, whatever its state; "" lets everything through."""

    mood: str = ""
    aspect: str = ""
    link: str = ""  # LINKED, UNLINKED
    item_id: str = ""
    source: str = ""
    words: str = ""


def inbox(data: Dataset, *, wait: bool = False) -> Inbox | None:
    """The scored reviews of a dataset, and what members wrote since (dashboard/fresh.py); None when it has no reviews.
    Its frame is empty when none is scored.

    Args:
        wait: for the model that reads what members wrote since; else they are left out until it is loaded.

    Raises:
        UserError: a table is damaged.
    """
    written = fresh.unscored(data)
    if not data.has("reviews") and written.empty:
        return None
    said = fresh.read(data, written, wait=wait)
    read = tuple(zip(said[REVIEW_ID], said["run_id"], strict=True))
    age = store.scored_at(data.name, "review_scores")
    return _inbox(str(data.folder), data.fingerprint, age, read, len(written), data, written, said)


@st.cache_resource(max_entries=4, show_spinner=False)
def _inbox(
    folder: str,
    fingerprint: str,
    age: float | None,
    read: tuple[tuple[str, str], ...],
    n_fresh: int,
    _data: Dataset,
    _fresh: pd.DataFrame,
    _said: pd.DataFrame,
) -> Inbox:
    data, known = _data, store.scores(_data.name, "review_scores")
    written = data.reviews() if data.has("reviews") else pd.DataFrame(columns=TABLES["reviews"].names)
    n_reviews = len(written) + int((~_fresh[REVIEW_ID].isin(written[REVIEW_ID])).sum())
    if known is None:
        known = pd.DataFrame({name: [] for name in (REVIEW_ID, LABEL, "p_positive", "aspects", ITEM_ID, "priority")})
        known = known.assign(link_confidence=None, reply_draft=None, run_id=None).astype(object)
    service = store.signed_by(data.name)
    columns = [REVIEW_ID, USER_ID, TEXT, ITEM_ID, STARS, LABEL, CREATED_AT, SOURCE]
    if len(_said):
        titles = store.catalogue(data)["title"]
        more = fresh.with_priority(_said, _fresh, titles, data.as_of, service)
        known = pd.concat([known, more], ignore_index=True) if len(known) else more.reindex(columns=known.columns)
        new = _fresh[~_fresh[REVIEW_ID].isin(written[REVIEW_ID])].reindex(columns=columns)
        written = pd.concat([written[columns], new.astype(written[columns].dtypes)]) if len(written) else new
    frame = known.rename(columns={ITEM_ID: "linked"}).merge(
        written[columns].rename(columns={LABEL: "given_label"}), on=REVIEW_ID
    )
    frame = frame[frame["p_positive"].notna()]
    own = frame[ITEM_ID].astype(object)
    item = own.where(own.notna(), frame["linked"].astype(object))
    frame = frame.assign(
        item_id=item.where(item.notna(), None),
        is_own=own.notna(),
        p_positive=frame["p_positive"].astype(float),
        # Scores of an earlier version have no priority: the most negative comes first.
        priority=frame["priority"].astype(float),
    ).drop(columns="linked")
    for name in (
        "reply_draft",
        "run_id",
        SOURCE,
        USER_ID,
        "given_label",
    ):  # what is missing is None, which can be compared
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    frame = frame.sort_values(["priority", "p_positive"], ascending=[False, True], kind="stable", ignore_index=True)
    counts = complaint_counts(frame)
    return Inbox(frame, mentions_of(frame["aspects"]), counts, n_reviews, service)


def mentions_of(aspects: pd.Series) -> pd.DataFrame:
    """Every aspect of every review: row (position), aspect, p_positive, start, end."""
    lists = aspects.astype(object)
    listed = pa.array(lists.where(lists.notna(), None).tolist(), type=ASPECTS)
    found = pc.list_flatten(listed)
    columns = {name: found.field(name).to_pandas() for name in ("aspect", "p_positive", "start", "end")}
    frame = pd.DataFrame({"row": pc.list_parent_indices(listed).to_pandas(), **columns})
    return frame[frame["aspect"].notna() & frame["p_positive"].notna()].reset_index(drop=True)


def plain(text: str) -> str:
    """`text` with the line-break tags that review sites leave in it as line breaks."""
    return _BREAK.sub("\n", text)


def opening(text: str, characters: int = 140) -> str:
    """The first words, on one line."""
    line = " ".join(_BREAK.sub(" ", text[: 3 * characters]).split())
    return line if len(line) <= characters else line[:characters].rsplit(" ", 1)[0] + " …"


def states(box: Inbox, decided: pd.DataFrame) -> pd.Series:
    """The state of each row of the inbox: OPEN, APPROVED (edited ones too) or DISMISSED."""
    status = dict(zip(decided[REVIEW_ID], decided["status"], strict=True))
    names = {None: OPEN, "approved": APPROVED, "edited": APPROVED, "dismissed": DISMISSED}
    return box.frame[REVIEW_ID].map(lambda review_id: names[status.get(review_id)]).astype(object)


def matching(box: Inbox, filters: Filters, titles: Mapping[str, str]) -> pd.Series:
    """Which rows pass the filters.

    Args:
        titles: the shown title of each item_id; the search looks into it too.
    """
    frame = box.frame
    keep = pd.Series(True, index=frame.index)
    if filters.mood:
        keep &= (frame[LABEL] == filters.mood).fillna(False)
    if filters.aspect:
        keep &= frame.index.isin(box.mentions.loc[box.mentions["aspect"] == filters.aspect, "row"])
    if filters.link:
        keep &= frame[ITEM_ID].notna() == (filters.link == LINKED)
    if filters.item_id:
        keep &= (frame[ITEM_ID] == filters.item_id).fillna(False)
    if filters.source:
        keep &= (frame[SOURCE] == filters.source).fillna(False)
    if words := filters.words.strip():
        named = frame[ITEM_ID].map(titles).fillna("").astype(object)
        keep &= frame[TEXT].str.contains(words, case=False, regex=False) | named.str.contains(
            words, case=False, regex=False
        )
    return keep.astype(bool)


def in_state(state: pd.Series, wanted: str) -> pd.Series:
    return state.notna() if wanted == ALL else state == wanted


def next_open(still_open: Sequence[str], queue: Sequence[str], review_id: str) -> str | None:
    """The first open review after `review_id` in the queue, or else the first one; None when no other is open.

    Args:
        still_open: reviews that pass the filters and are open, in order.
        queue: those that are listed; may hold decided ones.
    """
    others = [other for other in still_open if other != review_id]
    there, at = set(others), queue.index(review_id) if review_id in queue else -1
    return next((other for other in queue[at + 1 :] if other in there), others[0] if others else None)


def aspects_of(mentions: pd.DataFrame) -> pd.DataFrame:
    """What is said of each aspect, the most spoken of first: aspect, p_positive (mean), mentions, reviews."""
    found = mentions.groupby("aspect").agg(
        p_positive=("p_positive", "mean"), mentions=("row", "size"), reviews=("row", "nunique")
    )
    return found.sort_values(["reviews", "mentions"], ascending=False, kind="stable").reset_index()


def reason(box: Inbox, row: int, as_of: pd.Timestamp | None) -> str:
    """Why the review in this row has its priority, such as "Very negative about the ending"."""
    return str(priority_reason(box.frame.iloc[[row]], as_of, counts=box.complaints).iloc[0])


def drafts(review: pd.Series, title: str | None, service: str = DEFAULT_SERVICE) -> dict[str, str]:
    """The draft in each tone; the one that was scored as "as scored", if no tone gives it."""
    one = pd.DataFrame([{**review.to_dict(), "title": title}])
    found = {tone: draft_replies(one, tone, service)[0] for tone in tones()}
    scored = review["reply_draft"]
    if isinstance(scored, str) and scored and scored not in found.values():
        return {"as scored": scored, **found}
    return found


def scored_tone(review: pd.Series, by_tone: Mapping[str, str]) -> str:
    """The tone whose draft was scored."""
    return next((tone for tone, text in by_tone.items() if text == review["reply_draft"]), next(iter(by_tone)))


def reviews_per_title(box: Inbox) -> dict[str, int]:
    """How many reviews each title has, the most first."""
    counts = box.frame[ITEM_ID].dropna().value_counts()
    return {str(item_id): int(n) for item_id, n in zip(counts.index, counts, strict=True)}


def last_of_members(box: Inbox, decided: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """The latest review of each member who is known to have written one, with what was answered.

    Columns: user_id, review_of (shown title or ""), review_label, reply_status (open, approved, edited or dismissed)
    and reply (its text, "" unless approved).
    """
    mine = box.frame[box.frame[USER_ID].notna()]
    mine = mine.sort_values(CREATED_AT, kind="stable", na_position="first").drop_duplicates(USER_ID, keep="last")
    answer = decided.drop_duplicates(REVIEW_ID, keep="last").set_index(REVIEW_ID).reindex(mine[REVIEW_ID])
    status = answer["status"].astype(object).where(answer["status"].notna(), OPEN).to_numpy()
    said = answer["text"].astype(object).where(answer["status"].isin(["approved", "edited"]), "").to_numpy()
    return pd.DataFrame(
        {
            USER_ID: mine[USER_ID].to_numpy(object),
            "review_of": mine[ITEM_ID].map(titles).fillna("").to_numpy(object),
            "review_label": mine[LABEL].to_numpy(object),
            "reply_status": status,
            "reply": said,
        }
    )


def as_csv(box: Inbox, rows: pd.Index, decided: pd.DataFrame, titles: Mapping[str, str]) -> bytes:
    """These rows for a spreadsheet, with what was decided; no text that one would run as a formula."""
    columns = [REVIEW_ID, USER_ID, ITEM_ID, CREATED_AT, SOURCE, TEXT, LABEL, "p_positive", "priority"]
    frame = box.frame.loc[rows, columns]
    answers = decided.set_index(REVIEW_ID).reindex(frame[REVIEW_ID])
    frame.insert(3, "title", frame[ITEM_ID].map(titles))
    frame = frame.assign(decision=answers["status"].to_numpy(), reply=answers[TEXT].to_numpy())
    return rounded_csv(pa.Table.from_pandas(frame, preserve_index=False))


def listed_title(catalogue: pd.DataFrame, item_id: str | None) -> str | None:
    """A title as its source lists it, which is what drafts are made from; None where it is not in the catalogue."""
    return str(catalogue.at[item_id, TITLE]) if item_id is not None and item_id in catalogue.index else None


def shown_titles(catalogue: pd.DataFrame) -> dict[str, str]:
    """The shown title of each item_id."""
    return {str(item_id): str(title) for item_id, title in catalogue["shown_title"].items()} if len(catalogue) else {}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts of their columns."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def decided(data: Dataset) -> pd.DataFrame:
    """See data.replies.decisions."""
    return replies.decisions(data.name)
