"""What stands in the text of a query where DuckDB takes no parameters, as in views."""

from pathlib import Path


def text(value: str | Path) -> str:
    """A text or path as SQL writes it."""
    return "'" + str(value).replace("'", "''") + "'"


def rows_of(path: Path, numbered: bool = False) -> str:
    """The rows of a Parquet file.

    Args:
        numbered: whether a column `file_row_number` says where each stands.
    """
    return f"read_parquet({text(path)}{', file_row_number = true' if numbered else ''})"
