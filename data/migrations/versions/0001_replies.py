"""Decisions about drafts of replies; databases from before there were migrations have the table already."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("replies"):
        return
    op.create_table(
        "replies",
        sa.Column("dataset", sa.String(100), primary_key=True),
        sa.Column("review_id", sa.String(1000), primary_key=True),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.String(100)),
        sa.CheckConstraint("status IN ('approved', 'edited', 'dismissed')", name="known_status"),
    )
