"""The database of what people do in the dashboard: `marquee.db` (SQLite) under `MARQUEE_HOME`, or another by
`MARQUEE_DATABASE_URL` (SQLite or PostgreSQL).

Events come one by one and from several people at once, so they do not go into Parquet files. `connection()` is the only
door: one transaction on a database that has the tables as this version of Marquee knows them; older ones are brought up
to date by Alembic (data/migrations). SQLite writes ahead (WAL), so readers never wait for a writer, and writers wait
their turn for BUSY_SECONDS.
"""

import importlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from data import home
from data.errors import UserError

METADATA = MetaData()
BUSY_SECONDS = 10
HEAD = "0003"  # the newest of data/migrations/versions
_KNOWN = ("sqlite", "postgresql")
_ASK = "SELECT version_num FROM alembic_version"
_MIGRATING = threading.Lock()  # Alembic keeps its state in the module


def database_url() -> str:
    """`MARQUEE_DATABASE_URL`, or else that of `marquee.db` under `MARQUEE_HOME`."""
    return os.environ.get("MARQUEE_DATABASE_URL") or f"sqlite:///{home.home() / 'marquee.db'}"


@contextmanager
def connection() -> Iterator[Connection]:
    """A transaction on an up-to-date database: committed at the end of the block, undone on any exception.

    Raises:
        UserError: the database cannot be reached, read or written, or a newer Marquee has made it.
    """
    url = database_url()
    try:
        if not os.environ.get("MARQUEE_DATABASE_URL"):
            home.home().mkdir(parents=True, exist_ok=True)
        engine = _engine(url)
        if _revision(engine) != HEAD:
            _migrate(engine)
        with engine.begin() as opened:
            yield opened
    except (DBAPIError, OSError) as failure:
        reason = str(getattr(failure, "orig", failure)).strip().splitlines()[0]
        raise UserError(
            f"The database {_shown(url)} cannot be used ({reason}): make it reachable and writable, or name another in "
            "MARQUEE_DATABASE_URL."
        ) from failure


def insert(opened: Connection, table: Table) -> Any:
    """The dialect's `insert`, which knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    # Only the one that is used: to import PostgreSQL's takes a tenth of a second.
    return importlib.import_module(f"sqlalchemy.dialects.{opened.dialect.name}").insert(table)


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


@cache
def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
        if name not in _KNOWN:
            raise UserError(f"MARQUEE_DATABASE_URL names a {name} database: choose sqlite:/// or postgresql://.")
        if name == "postgresql":
            return create_engine(parsed, pool_pre_ping=True)
        if parsed.database in (None, "", ":memory:") or parsed.query.get("mode") == "memory":
            raise UserError(
                "MARQUEE_DATABASE_URL names a SQLite database in memory, of which every connection would have its own: "
                "name a file, as sqlite:////home/me/marquee.db."
            )
        # No pool: a connection kept open would go on writing into a file that was deleted or replaced.
        engine = create_engine(parsed, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    except (ArgumentError, NoSuchModuleError, ImportError) as failure:
        raise UserError(
            f"MARQUEE_DATABASE_URL cannot be read ({failure}): write it as sqlite:///path or postgresql://host/name."
        ) from None

    @event.listens_for(engine, "do_connect")
    def read_only(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        """A file that cannot be written is opened to be read; who writes all the same gets SQLite's own sentence."""
        path = Path(arguments[0])
        if not path.is_file() or os.access(path, os.W_OK):
            return
        # Where no file can be made beside it, SQLite reads a WAL database only if told that nobody writes.
        unchanging = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
        arguments[0] = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if unchanging else ''}"
        options["uri"] = True

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
        with suppress(sqlite3.OperationalError):  # of a file that can only be read
            connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
        connection.execute("PRAGMA synchronous = FULL")  # what was said to be kept outlives a power cut

    return engine


def _revision(engine: Engine) -> str | None:
    """The migration that the database is at; None for a new one, or one from before there were migrations."""
    with engine.connect() as opened:
        try:
            return opened.execute(text(_ASK)).scalar()
        except DBAPIError:
            opened.rollback()
            if not inspect(opened).has_table("alembic_version"):
                return None
        return opened.execute(text(_ASK)).scalar()  # somebody has made it between the two questions


def _migrate(engine: Engine) -> None:
    """Bring the database up to date; whoever comes second, thread, process or machine, finds it done.

    Raises:
        UserError: a newer Marquee has made it.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    with _MIGRATING, _one_process(engine), engine.begin() as opened:
        if opened.dialect.name == "postgresql":
            opened.execute(text("SELECT pg_advisory_xact_lock(7238201)"))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = opened
        try:
            command.upgrade(config, "head")
        except CommandError as failure:
            raise UserError(
                f"The database {_shown(str(engine.url))} was made by a newer Marquee ({failure}): update this one, or "
                "name another database in MARQUEE_DATABASE_URL."
            ) from None


@contextmanager
def _one_process(engine: Engine) -> Iterator[None]:
    """SQLite cannot wait inside a transaction that begins by reading: a lock beside the file can."""
    if engine.url.get_backend_name() != "sqlite" or not engine.url.database:
        yield
        return
    with FileLock(f"{engine.url.database}.lock"):
        yield
