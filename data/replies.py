"""What a team decided about drafts of replies: approved, edited or dismissed. Nothing is sent from here or anywhere.

Kept in a database beside the tables, because decisions come one by one and from several people at once, and have to
outlive a new scoring: `marquee.db` (SQLite) under `MARQUEE_HOME`, or whatever `MARQUEE_DATABASE_URL` names (SQLite or
PostgreSQL). A review without a row is open.
"""

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pandas as pd
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from data import home
from data.errors import UserError
from data.schema import REVIEW_ID, TEXT

STATUSES = ("approved", "edited", "dismissed")
BUSY_SECONDS = 10

_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_METADATA = MetaData()
REPLIES = Table(
    "replies",
    _METADATA,
    Column("dataset", String(100), primary_key=True),
    Column(REVIEW_ID, String(1000), primary_key=True),
    Column("status", String(20), nullable=False),
    Column(TEXT, Text, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("run_id", String(100)),
    CheckConstraint(f"status IN ({', '.join(map(repr, STATUSES))})", name="known_status"),
)


def database_url() -> str:
    """`MARQUEE_DATABASE_URL`, or else that of `marquee.db` under `MARQUEE_HOME`."""
    return os.environ.get("MARQUEE_DATABASE_URL") or f"sqlite:///{home.home() / 'marquee.db'}"


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
        UserError: the database cannot be reached or written.
        ValueError: there is no such status.
    """
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
    moment = (decided_at or dt.datetime.now(dt.UTC)).astimezone(dt.UTC)
    row = {"status": status, TEXT: text, "decided_at": moment, "run_id": run_id}
    with _connection() as connection:
        added: Any = _INSERT[connection.dialect.name](REPLIES).values(dataset=dataset, review_id=review_id, **row)
        connection.execute(added.on_conflict_do_update(index_elements=["dataset", REVIEW_ID], set_=row))


def undo(dataset: str, review_id: str) -> bool:
    """Make a review open again; False when it was open already.

    Raises:
        UserError: the database cannot be reached or written.
    """
    mine = (REPLIES.c.dataset == dataset) & (REPLIES.c.review_id == review_id)
    with _connection() as connection:
        return connection.execute(delete(REPLIES).where(mine)).rowcount > 0


def decisions(dataset: str) -> pd.DataFrame:
    """Every decision about a dataset's reviews, oldest first: review_id, status, text, decided_at (UTC), run_id.

    Raises:
        UserError: the database cannot be reached.
    """
    columns = [REPLIES.c[name] for name in (REVIEW_ID, "status", TEXT, "decided_at", "run_id")]
    chosen = select(*columns).where(REPLIES.c.dataset == dataset).order_by(REPLIES.c.decided_at, REPLIES.c.review_id)
    with _connection() as connection:
        rows = connection.execute(chosen).all()
    frame = pd.DataFrame(rows, columns=[column.name for column in columns], dtype=object)
    # SQLite keeps no zone: what it gives is the UTC that was written.
    return frame.assign(decided_at=pd.to_datetime(frame["decided_at"], utc=True))


@contextmanager
def _connection() -> Iterator[Connection]:
    """A transaction on a database that has the table."""
    url = database_url()
    try:
        if not os.environ.get("MARQUEE_DATABASE_URL"):
            home.home().mkdir(parents=True, exist_ok=True)
        with _engine(url).begin() as connection:
            connection.execute(CreateTable(REPLIES, if_not_exists=True))
            yield connection
    except (DBAPIError, OSError) as failure:
        reason = str(getattr(failure, "orig", failure)).strip().splitlines()[0]
        place = make_url(url).render_as_string(hide_password=True)
        raise UserError(
            f"The database of decisions {place} cannot be used ({reason}): make it reachable and writable, or name "
            "another in MARQUEE_DATABASE_URL."
        ) from failure


@cache
def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
        if name not in _INSERT:
            raise UserError(f"MARQUEE_DATABASE_URL names a {name} database: choose sqlite:/// or postgresql://.")
        if name == "postgresql":
            return create_engine(parsed, pool_pre_ping=True)
        # No pool: a connection kept open would go on writing into a file that was deleted or replaced.
        engine = create_engine(parsed, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    except (ArgumentError, NoSuchModuleError, ImportError) as failure:
        raise UserError(
            f"MARQUEE_DATABASE_URL cannot be read ({failure}): write it as sqlite:///path or postgresql://host/name."
        ) from None

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
        connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer

    return engine
