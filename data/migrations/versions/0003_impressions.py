"""Which impressions were on one page, and how likely a title was to stand where it stood."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("events")}
    for column in (sa.Column("page_id", sa.String(36)), sa.Column("propensity", sa.Float)):
        if column.name not in there:  # SQLite keeps each step of a migration that was killed
            op.add_column("events", column)
