"""What members do in the dashboard: views, ratings, thumbs, their list, clicks, impressions and reviews.

Kept in the database (data/database.py) the moment it happens. An event is written once, however often it is sent: its
`event_id` is made where it happens and names it. Each has two times: `made_at` by the wall clock, and `service_time`,
which continues from the dataset's own clock, so that events of today join a dataset that ends in 1998 without a gap of
decades. `python -m data export-events` turns them into rows of the tables.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    select,
    text,
)

from data import permission
from data.database import METADATA, connection, insert
from data.dataset import Dataset
from data.schema import ITEM_ID, KIND, KINDS, MINUTES, RATING, REVIEW_ID, STARS, TEXT, USER_ID

MAX_ID = 1000
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")
EVENTS = Table(
    "events",
    METADATA,
    Column("number", _NUMBER, primary_key=True),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("dataset", String(100), nullable=False),
    Column(USER_ID, String(MAX_ID), nullable=False),
    Column(ITEM_ID, String(MAX_ID)),
    Column(KIND, String(20), nullable=False),
    Column(RATING, Float),
    Column(MINUTES, Float),
    Column("place", String(200)),
    Column("rank", Integer),
    Column("run_id", String(100)),
    Column("page_id", String(36)),
    Column("propensity", Float),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("service_time", DateTime(timezone=True), nullable=False),
    CheckConstraint(f"kind IN ({', '.join(map(repr, KINDS))})", name="known_kind"),
    Index("events_of_member", "dataset", USER_ID, "number"),
    Index("events_of_dataset", "dataset", "number"),
    sqlite_autoincrement=True,
)
REVIEWS = Table(
    "member_reviews",
    METADATA,
    Column("number", _NUMBER, primary_key=True),
    Column(REVIEW_ID, String(36), nullable=False, unique=True),
    Column("dataset", String(100), nullable=False),
    Column(USER_ID, String(MAX_ID), nullable=False),
    Column(ITEM_ID, String(MAX_ID), nullable=False),
    Column(TEXT, Text, nullable=False),
    Column(STARS, Float),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("service_time", DateTime(timezone=True), nullable=False),
    Index("reviews_of_member", "dataset", USER_ID, "number"),
    Index("reviews_of_title", "dataset", ITEM_ID, "number"),
    sqlite_autoincrement=True,
)
# What a member did, as against what was only offered or looked at.
DONE_KINDS = tuple(kind for kind in KINDS if kind not in ("click", "impression"))


def _new_id() -> str:
    return str(uuid.uuid4())


def now() -> dt.datetime:
    """The time by the wall, in UTC."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Event:
    """One thing that a member did, or saw offered.

    Attributes:
        kind: one of data.schema.KINDS.
        rating: of a rating, on the dataset's own scale.
        place: where it happened: the page, or the row that offered the title.
        rank: place of the title in that row, from 1.
        run_id: of the recommender that offered it.
        page_id: names the page, as it was drawn once, whose offer it was; impressions and clicks of a page share it.
        propensity: with which probability the title was to stand at this place; None where nothing was left to chance.
        event_id: names the event; sent twice, it is kept once.
        made_at: with a time zone.
    """

    user_id: str
    kind: str
    item_id: str | None = None
    rating: float | None = None
    minutes: float | None = None
    place: str | None = None
    rank: int | None = None
    run_id: str | None = None
    page_id: str | None = None
    propensity: float | None = None
    event_id: str = field(default_factory=_new_id)
    made_at: dt.datetime = field(default_factory=now)

    def __post_init__(self) -> None:
        """Raise a ValueError for what no table could hold."""
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        _require_id(USER_ID, self.user_id)
        if self.item_id is not None:
            _require_id(ITEM_ID, self.item_id)
        for name, value, low, high in ((RATING, self.rating, -1e6, 1e6), (MINUTES, self.minutes, 0, 60 * 24 * 366)):
            if value is not None and not low <= value <= high:  # NaN is neither
                raise ValueError(f"{name} {value} is no number from {low:g} to {high:g}")
        if self.propensity is not None and not 0 < self.propensity <= 1:
            raise ValueError(f"propensity {self.propensity} is no probability above 0")
        if self.kind == "rating" and self.rating is None:
            raise ValueError("a rating needs a rating")


@dataclass(frozen=True)
class Review:
    """A review that a member wrote; `review_id` names it as `event_id` does an event."""

    user_id: str
    item_id: str
    text: str
    stars: float | None = None
    review_id: str = field(default_factory=_new_id)
    made_at: dt.datetime = field(default_factory=now)

    def __post_init__(self) -> None:
        """Raise a ValueError for what no table could hold."""
        _require_id(USER_ID, self.user_id)
        _require_id(ITEM_ID, self.item_id)
        if not self.text.replace("\x00", "").strip():
            raise ValueError("a review needs a text")


def _require_id(name: str, value: str) -> None:
    if not 1 <= len(value) <= MAX_ID:
        raise ValueError(f"{name} must have 1 to {MAX_ID:,} characters")
    if "\x00" in value:
        raise ValueError(f"{name} holds a null character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} holds half of a character (a lone surrogate)")


def service_time(dataset: Dataset, made_at: dt.datetime) -> dt.datetime:
    """The time on the dataset's clock: its `as_of`, plus what has passed since the clock was set to that.

    Never before `as_of`; without a clock the time by the wall.
    """
    made_at = made_at.astimezone(dt.UTC)
    if dataset.as_of is None:
        return made_at
    set_at = dt.datetime.fromisoformat(dataset.clock_set_at or dataset.created_at).astimezone(dt.UTC)
    return dataset.as_of.to_pydatetime() + max(made_at - set_at, dt.timedelta(0))


def record(dataset: Dataset, happened: Sequence[Event]) -> int:
    """Keep events, all or none; returns how many were new. When this returns, they are on disk.

    Raises:
        UserError: the database cannot be reached or written, or who asks may not change anything.
    """
    permission.check()
    rows = [
        {name: getattr(one, name) for name in _OF_EVENT} | _times(dataset, one.made_at) | {"dataset": dataset.name}
        for one in happened
    ]
    return _add(EVENTS, rows, "event_id")


def take_back(dataset: Dataset, event_id: str) -> bool:
    """Undo an event; False when it is not there, or was exported into the tables already.

    Raises:
        UserError: the database cannot be reached or written, or who asks may not change anything.
    """
    permission.check()
    mine = (EVENTS.c.dataset == dataset.name) & (EVENTS.c.event_id == event_id)
    with connection() as opened:
        asked = delete(EVENTS).where(mine, EVENTS.c.number > dataset.exported.get("events", 0))
        return opened.execute(asked).rowcount > 0


def write_review(dataset: Dataset, review: Review) -> bool:
    """Keep a review; False when it was kept before.

    Raises:
        UserError: the database cannot be reached or written, or who asks may not change anything.
    """
    permission.check()
    row = {name: getattr(review, name) for name in (REVIEW_ID, USER_ID, ITEM_ID, TEXT, STARS)}
    row[TEXT] = row[TEXT].replace("\x00", "")  # which PostgreSQL does not take
    return _add(REVIEWS, [row | _times(dataset, review.made_at) | {"dataset": dataset.name}], REVIEW_ID) == 1


_OF_EVENT = (
    *("event_id", USER_ID, ITEM_ID, KIND, RATING, MINUTES),
    *("place", "rank", "run_id", "page_id", "propensity"),
)


def _times(dataset: Dataset, made_at: dt.datetime) -> dict[str, dt.datetime]:
    return {"made_at": made_at.astimezone(dt.UTC), "service_time": service_time(dataset, made_at)}


def _add(table: Table, rows: list[dict[str, Any]], name: str) -> int:
    if not rows:
        return 0
    added = 0
    with connection() as opened:
        for start in range(0, len(rows), 500):  # SQLite takes 32,766 values in a statement
            part = rows[start : start + 500]
            asked = insert(opened, table).on_conflict_do_nothing(index_elements=[name])
            added += len(opened.execute(asked.returning(table.c[name]), part).all())
    return added


def events(
    dataset: str, user_id: str | None = None, kinds: Sequence[str] = KINDS, after: int = 0, settled: bool = False
) -> pd.DataFrame:
    """Events of a dataset in the order of writing.

    Columns: number, event_id, user_id, item_id, kind, rating, minutes, place, rank, run_id, page_id, propensity,
    made_at and service_time (both UTC).

    Args:
        dataset: its name.
        user_id: of one member alone.
        kinds: of these kinds alone.
        after: with a higher number alone.
        settled: wait for whoever is writing, so that no number below the last one returned can still come.

    Raises:
        UserError: the database cannot be reached.
    """
    chosen = select(*[column for column in EVENTS.c if column.name != "dataset"])
    chosen = chosen.where(EVENTS.c.dataset == dataset, EVENTS.c.number > after)
    if user_id is not None:
        chosen = chosen.where(EVENTS.c.user_id == user_id)
    if tuple(kinds) != KINDS:
        chosen = chosen.where(EVENTS.c.kind.in_(kinds))
    return _read(EVENTS, chosen, settled)


def members(dataset: str, after: int = 0) -> list[str]:
    """Who did something, by name.

    Args:
        after: with events of a higher number.

    Raises:
        UserError: the database cannot be reached.
    """
    asked = select(EVENTS.c.user_id).distinct().where(EVENTS.c.dataset == dataset, EVENTS.c.number > after)
    with connection() as opened:
        return sorted(opened.execute(asked.where(EVENTS.c.kind.in_(DONE_KINDS))).scalars())


def extent(dataset: str) -> tuple[int, int]:
    """The number of a dataset's last event, and how many there are: what is made of them is as new as that.

    Raises:
        UserError: the database cannot be reached.
    """
    asked = select(func.coalesce(func.max(EVENTS.c.number), 0), func.count()).where(EVENTS.c.dataset == dataset)
    with connection() as opened:
        last, number = opened.execute(asked).one()
    return int(last), int(number)


def reviews(
    dataset: str, user_id: str | None = None, item_id: str | None = None, after: int = 0, settled: bool = False
) -> pd.DataFrame:
    """Reviews that members wrote, in the order of writing: number, review_id, user_id, item_id, text, stars, made_at,
    service_time (both UTC); arguments as of `events`.

    Raises:
        UserError: the database cannot be reached.
    """
    chosen = select(*[column for column in REVIEWS.c if column.name != "dataset"])
    chosen = chosen.where(REVIEWS.c.dataset == dataset, REVIEWS.c.number > after)
    if user_id is not None:
        chosen = chosen.where(REVIEWS.c.user_id == user_id)
    if item_id is not None:
        chosen = chosen.where(REVIEWS.c.item_id == item_id)
    return _read(REVIEWS, chosen, settled)


def counts(dataset: Dataset) -> dict[str, int]:
    """How often members did what since the last export into the tables: kind, or "review", to a number above 0.

    Raises:
        UserError: the database cannot be reached.
    """
    of_kind = select(EVENTS.c.kind, func.count()).group_by(EVENTS.c.kind)
    of_kind = of_kind.where(EVENTS.c.dataset == dataset.name, EVENTS.c.number > dataset.exported.get("events", 0))
    written = select(func.count()).select_from(REVIEWS)
    written = written.where(REVIEWS.c.dataset == dataset.name, REVIEWS.c.number > dataset.exported.get("reviews", 0))
    with connection() as opened:
        found = {str(kind): int(n) for kind, n in opened.execute(of_kind).all()}
        reviews = int(opened.execute(written).scalar_one())
    return found | ({"review": reviews} if reviews else {})


def waiting(dataset: Dataset) -> tuple[int, int]:
    """How many events and reviews of a dataset are not in its tables yet; what was only shown or clicked does not
    count.

    Raises:
        UserError: the database cannot be reached.
    """
    found = counts(dataset)
    return sum(found.get(kind, 0) for kind in DONE_KINDS), found.get("review", 0)


def nothing() -> pd.DataFrame:
    """Events as of a member who did nothing."""
    return _typed([], EVENTS)


def no_reviews() -> pd.DataFrame:
    """Reviews as of members who wrote none."""
    return _typed([], REVIEWS)


def _read(table: Table, chosen: Any, settled: bool) -> pd.DataFrame:
    with connection() as opened:
        if settled and opened.dialect.name == "postgresql":  # in SQLite one writes after the other
            opened.execute(text(f"LOCK TABLE {table.name} IN SHARE MODE"))
        rows = opened.execute(chosen.order_by(table.c.number)).all()
    return _typed(rows, table)


def _typed(rows: Sequence[Any], table: Table) -> pd.DataFrame:
    names = [column.name for column in table.c if column.name != "dataset"]
    frame = pd.DataFrame(rows, columns=names, dtype=object)
    for name in ("made_at", "service_time"):  # SQLite keeps no zone: what it gives is the UTC that was written
        frame[name] = pd.to_datetime(frame[name], utc=True).dt.as_unit("us")
    numeric = {name: "float64" for name in (RATING, MINUTES, STARS, "propensity") if name in frame}
    return frame.astype(numeric | {"number": "int64"})
