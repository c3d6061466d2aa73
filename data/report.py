"""What a training leaves behind to be judged by: `report.json`, and the same figures as a table on the terminal."""

import datetime as dt
import hashlib
import importlib.metadata
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.dataset import Dataset, describe
from data.errors import UserError

Metrics = Mapping[str, Mapping[str, float | None]]  # method -> metric -> value

_PACKAGES = ("torch", "pytorch-lightning", "transformers", "pandas", "numpy", "scikit-learn", "marquee")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def recipe(argv: Sequence[str]) -> dict[str, Any]:
    """What was asked for: config files with their SHA-256, and every other argument in order.

    Two trainings with equal recipes on datasets with equal fingerprints are the same training; this is how
    `make demo` knows that a model is there already.
    """
    configs: list[str] = []
    overrides: list[str] = []
    rest = iter(argv)
    for argument in rest:
        if argument in ("--config", "-c"):
            configs.append(next(rest, ""))
        elif argument.startswith("--config="):
            configs.append(argument.removeprefix("--config="))
        else:
            overrides.append(argument)
    return {"config": configs, "config_sha256": [file_sha256(Path(c)) for c in configs], "overrides": overrides}


def data_of(dataset: Dataset) -> dict[str, Any]:
    """What a report says of the tables: rows, kind and begin of the times, and the sources with their licences."""
    first = describe(dataset).get("first") if dataset.has("interactions") else None
    sources = [asdict(source) for source in dataset.sources]
    return {"rows": dataset.rows, "time_kind": dataset.time_kind, "first": first, "sources": sources}


def code_sha256(*packages: str) -> str:
    """SHA-256 over the modules of some packages: whether they are the program that made an earlier result."""
    root = Path(__file__).resolve().parents[1]
    files = sorted(file for package in packages for file in (root / package).rglob("*.py"))
    together = hashlib.sha256()
    for file in files:
        together.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return together.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as failure:
        raise UserError(f"--config {path} cannot be read ({failure.strerror}): give the path of a YAML file.") from None


def jsonable(value: Any) -> Any:
    """`value` with NaN and infinities as None and numpy scalars as Python numbers, so that it can be JSON."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_metrics(metrics: Metrics, title: str, best: Mapping[str, str] | None = None) -> None:
    """Print one table: a line for each method, a column for each metric. A missing value is shown as a dash.

    Args:
        metrics: method to metric to value.
        title: what the table shows: split, protocol, number of cases.
        best: metric to `min` or `max`: the best value of such a column is marked with `*`.
    """
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(name for row in metrics.values() for name in row))
    winners = {}
    for column, direction in (best or {}).items():
        values = {m: v for m, row in metrics.items() if (v := row.get(column)) is not None}
        if values:
            winners[column] = (min if direction == "min" else max)(values, key=lambda m: values[m])
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="left", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for method, row in metrics.items():
        table.add_row(method, *(_number(row.get(c)) + ("*" if winners.get(c) == method else "") for c in columns))
    # Piped output has no terminal to fit: never fold a number.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(f"\n[bold]{title}[/bold]", soft_wrap=True)
    console.print(table)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if float(value).is_integer() and abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4f}"
