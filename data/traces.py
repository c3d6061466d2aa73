"""What there is of a member in a dataset: asked before the member is forgotten (data/feedback.py), changing nothing."""

import duckdb

from data import events, schema
from data.dataset import Dataset
from data.errors import UserError
from data.schema import USER_ID


def traces(dataset: Dataset, user_id: str) -> dict[str, int]:
    """Rows of the member by table, and what of theirs is in the database; places without any are left out.

    Raises:
        UserError: the database or a table cannot be read.
    """
    found = {}
    with duckdb.connect() as connection:
        for table in schema.TABLES:
            if not dataset.has(table) or table in ("items", "metrics"):
                continue
            try:
                rows = connection.execute(
                    f"select count(*) from read_parquet(?) where {USER_ID} = ?", [str(dataset.path(table)), user_id]
                ).fetchall()[0][0]
            except duckdb.Error as failure:
                reason = str(failure).split("\n")[0]
                raise UserError(f"{dataset.path(table)} cannot be read ({reason}): import it again.") from None
            found[f"rows of {table}"] = rows
    found["events in the database"] = len(events.events(dataset.name, user_id))
    found["reviews in the database"] = len(events.reviews(dataset.name, user_id))
    return {place: rows for place, rows in found.items() if rows}
