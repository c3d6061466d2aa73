"""Writing small files and importing them, for the tests of `data.importer`."""

import csv
from pathlib import Path
from typing import Any

from data.columns import parse_map
from data.importer import Imported, import_dataset

RATINGS = "userId,movieId,rating,timestamp\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def take(name: str = "mine", mapping: str = "", **arguments: Any) -> Imported:
    """Import files given by table; the other arguments are those of `import_dataset`."""
    tables = ("interactions", "items", "users", "reviews", "metrics")
    files = {table: arguments.pop(table) for table in tables if table in arguments}
    return import_dataset(name, files, mapping=parse_map([mapping]), progress=False, **arguments)


def rejects(imported: Imported) -> list[tuple[int, str, str]]:
    """Line, reason and text of each rejected row."""
    if imported.rejects is None:
        return []
    with imported.rejects.open(newline="") as handle:
        return [(int(row["line"]), row["reason"], row["text"]) for row in csv.DictReader(handle)]
