"""What a team decided about drafts of replies: approved, edited or dismissed. Nothing is sent from here or anywhere.

Kept in the database (data/database.py) and not beside the scores, as decisions have to outlive a new scoring. A review
without a row is open.
"""

import datetime as dt

import pandas as pd
from sqlalchemy import CheckConstraint, Column, ColumnElement, DateTime, String, Table, Text, delete, func, select

from data import permission
from data.database import METADATA, connection, insert
from data.schema import REVIEW_ID, TEXT

STATUSES = ("approved", "edited", "dismissed")

REPLIES = Table(
    "replies",
    METADATA,
    Column("dataset", String(100), primary_key=True),
    Column(REVIEW_ID, String(1000), primary_key=True),
    Column("status", String(20), nullable=False),
    Column(TEXT, Text, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("run_id", String(100)),
    CheckConstraint(f"status IN ({', '.join(map(repr, STATUSES))})", name="known_status"),
)


def decide(
    dataset: str,
    review_id: str,
    status: str,
    text: str = "",
    run_id: str | None = None,
    decided_at: dt.datetime | None = None,
) -> None:
    """Keep a decision; an earlier one about the same review is replaced.

    Args:
        status: one of `STATUSES`.
        text: the reply as it was approved or edited; of a dismissed draft, the draft.
        run_id: of the model whose draft it was.
        decided_at: with a time zone; None: now.

    Raises:
        UserError: the database cannot be reached or written, or who asks may not change anything.
        ValueError: there is no such status.
    """
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
    permission.check()
    moment = (decided_at or dt.datetime.now(dt.UTC)).astimezone(dt.UTC)
    row = {"status": status, TEXT: text, "decided_at": moment, "run_id": run_id}
    with connection() as opened:
        added = insert(opened, REPLIES).values(dataset=dataset, review_id=review_id, **row)
        opened.execute(added.on_conflict_do_update(index_elements=["dataset", REVIEW_ID], set_=row))


def decide_all(dataset: str, decisions: pd.DataFrame, decided_at: dt.datetime) -> int:
    """Keep many decisions, all or none; reviews that were decided already, by whomever, keep theirs.

    Args:
        decisions: columns review_id, status, text and run_id (None where there is none), as in `decide`.
        decided_at: with a time zone; names these decisions together for `undo_all`.

    Returns:
        How many are kept.

    Raises:
        UserError: the database cannot be reached or written, a decision has no text, or who asks may change nothing.
        ValueError: there is no such status.
    """
    permission.check()
    if unknown := set(decisions["status"]) - set(STATUSES):
        raise ValueError(f"status {unknown.pop()!r} is none of {', '.join(STATUSES)}")
    moment = decided_at.astimezone(dt.UTC)
    columns = decisions[[REVIEW_ID, "status", TEXT, "run_id"]].astype(object)
    filled = columns.where(columns.notna(), None).assign(dataset=dataset, decided_at=moment)
    rows = [{str(name): value for name, value in row.items()} for row in filled.to_dict("records")]
    if not rows:
        return 0
    with connection() as opened:
        opened.execute(insert(opened, REPLIES).on_conflict_do_nothing(), rows)
        return opened.execute(select(func.count()).where(_together(dataset, moment))).scalar_one()


def undo_all(dataset: str, decided_at: dt.datetime) -> int:
    """Make the reviews that one call of `decide_all` decided open again; returns how many.

    Raises:
        UserError: the database cannot be reached or written, or who asks may not change anything.
    """
    permission.check()
    with connection() as opened:
        return opened.execute(delete(REPLIES).where(_together(dataset, decided_at.astimezone(dt.UTC)))).rowcount


def _together(dataset: str, moment: dt.datetime) -> ColumnElement[bool]:
    return (REPLIES.c.dataset == dataset) & (REPLIES.c.decided_at == moment)


def undo(dataset: str, review_id: str) -> bool:
    """Make a review open again; False when it was open already.

    Raises:
        UserError: the database cannot be reached or written, or who asks may not change anything.
    """
    permission.check()
    mine = (REPLIES.c.dataset == dataset) & (REPLIES.c.review_id == review_id)
    with connection() as opened:
        return opened.execute(delete(REPLIES).where(mine)).rowcount > 0


def decisions(dataset: str) -> pd.DataFrame:
    """Every decision about a dataset's reviews, oldest first: review_id, status, text, decided_at (UTC), run_id.

    Raises:
        UserError: the database cannot be reached.
    """
    columns = [REPLIES.c[name] for name in (REVIEW_ID, "status", TEXT, "decided_at", "run_id")]
    chosen = select(*columns).where(REPLIES.c.dataset == dataset).order_by(REPLIES.c.decided_at, REPLIES.c.review_id)
    with connection() as opened:
        rows = opened.execute(chosen).all()
    frame = pd.DataFrame(rows, columns=[column.name for column in columns], dtype=object)
    # SQLite keeps no zone: what it gives is the UTC that was written.
    return frame.assign(decided_at=pd.to_datetime(frame["decided_at"], utc=True))
