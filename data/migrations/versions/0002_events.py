"""What members do: events, and the reviews that they write."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KINDS = ("rating", "watch", "thumb_up", "thumb_down", "list_add", "list_remove", "click", "impression")


def _number() -> sa.Column[int]:
    # In the order of writing, and never given twice: exports remember how far they came.
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def upgrade() -> None:
    there = sa.inspect(op.get_bind()).has_table  # SQLite keeps each step of a migration that was killed
    if not there("events"):
        _make_events()
    if not there("member_reviews"):
        _make_reviews()
    for name, table, columns in (
        ("events_of_member", "events", ["dataset", "user_id", "number"]),
        ("events_of_dataset", "events", ["dataset", "number"]),
        ("reviews_of_member", "member_reviews", ["dataset", "user_id", "number"]),
        ("reviews_of_title", "member_reviews", ["dataset", "item_id", "number"]),
    ):
        op.create_index(name, table, columns, if_not_exists=True)


def _make_events() -> None:
    op.create_table(
        "events",
        _number(),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("user_id", sa.String(1000), nullable=False),
        sa.Column("item_id", sa.String(1000)),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("rating", sa.Float),
        sa.Column("minutes", sa.Float),
        sa.Column("place", sa.String(200)),
        sa.Column("rank", sa.Integer),
        sa.Column("run_id", sa.String(100)),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("service_time", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"kind IN ({', '.join(map(repr, _KINDS))})", name="known_kind"),
        sqlite_autoincrement=True,
    )


def _make_reviews() -> None:
    op.create_table(
        "member_reviews",
        _number(),
        sa.Column("review_id", sa.String(36), nullable=False, unique=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("user_id", sa.String(1000), nullable=False),
        sa.Column("item_id", sa.String(1000), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("stars", sa.Float),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("service_time", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
