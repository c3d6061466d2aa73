"""The events by which members are followed over time: all but impressions, which are not an act of the member."""

import duckdb

from data.dataset import Dataset, readable
from data.errors import UserError
from data.sql import rows_of


def members_events(dataset: Dataset, purpose: str) -> duckdb.DuckDBPyConnection:
    """A connection with the view `acts` (user_id, timestamp, us): every event up to the dataset's clock, in UTC.

    Args:
        dataset: with interactions.
        purpose: what they are wanted for, for the sentence about rows without times.

    Raises:
        UserError: the rows have no real times, no member has an event, or the table is damaged.
    """
    dataset.require_calendar(purpose)
    if not dataset.has("interactions") or dataset.as_of is None:
        raise UserError(
            f"Dataset '{dataset.name}' has no interactions, so nobody can be followed over time: import them with "
            "'python -m data import --interactions FILE'."
        )
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    with readable(dataset.path("interactions")):
        connection.execute(
            "CREATE TEMP VIEW acts AS SELECT user_id, timestamp, epoch_us(timestamp) AS us "
            f"FROM {rows_of(dataset.path('interactions'))} "
            f"WHERE kind <> 'impression' AND epoch_us(timestamp) <= {dataset.as_of.value // 1000}"
        )
        first = connection.execute("SELECT 1 FROM acts LIMIT 1").fetchone()
    if first is None:
        raise UserError(
            f"Dataset '{dataset.name}' has no event of a member up to its clock ({dataset.as_of:%Y-%m-%d}), so there "
            "is nobody to follow: import interactions of a kind other than impression."
        )
    return connection
