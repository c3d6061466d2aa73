"""Does a dataset, or a file that is to become one, keep every rule? Each broken rule with its count and first rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data import columns, importer, schema
from data.convert import Converter
from data.dataset import Dataset, fingerprint, last_time, open_dataset, open_folder
from data.errors import UserError
from data.rejects import Seen, broken_rules
from data.sql import rows_of
from data.tablefile import open_table

_BATCH_ROWS = 250_000
_SHOWN = 5


@dataclass
class Broken:
    """A rule that does not hold: in how many rows of which file, and the first of them (lines of a CSV file)."""

    file: str
    rule: str
    count: int = 0  # 0 when it is not about rows
    first: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.count:
            return f"{self.file}: {self.rule}"
        where = ", ".join(f"{row:,}" for row in self.first) + (", ..." if self.count > len(self.first) else "")
        return f"{self.file}: {self.rule}, {self.count:,} time{'s' * (self.count > 1)} (row {where})"


def validate(what: str, *, table: str = "", mapping: dict[str, str] | None = None) -> tuple[str, list[Broken]]:
    """Check a dataset by name or folder, or a file as import would read it; a description and the broken rules.

    Raises:
        UserError: there is no such dataset or file, or the file cannot be understood at all.
    """
    path = Path(what)
    if path.is_dir():
        return _dataset(open_folder(path))
    if path.exists() or "/" in what or path.suffix:
        return _file(path, table, mapping or {})
    return _dataset(open_dataset(what))


def _dataset(dataset: Dataset) -> tuple[str, list[Broken]]:
    broken = [problem for table in dataset.rows for problem in _table(dataset, table)]
    if not broken:
        files = sorted(dataset.folder.glob("*.parquet"))
        if fingerprint(files) != dataset.fingerprint:
            broken.append(Broken("dataset.json", "the tables have been changed since it was written"))
        last = last_time(dataset.folder)
        if last is not None and (dataset.as_of is None or dataset.as_of < last):
            broken.append(Broken("dataset.json", f"the clock (as_of) lies before the last row ({last.isoformat()})"))
        broken += _unknown_titles(dataset)
    counted = ", ".join(f"{n:,} {table}" for table, n in dataset.rows.items() if n)
    return f"Dataset '{dataset.name}' ({counted or 'no rows'})", broken


def _table(dataset: Dataset, table: str) -> Iterator[Broken]:
    """Types, rules and row count of one table as it lies on disk."""
    path = dataset.path(table)
    try:
        with pq.ParquetFile(path) as file:
            yield from _rules(file, path.name, table, dataset.rows[table])
    except schema.UNREADABLE as failure:
        yield Broken(path.name, f"cannot be read as Parquet ({str(failure).splitlines()[0][:200]})")


def _rules(file: pq.ParquetFile, name: str, table: str, expected: int) -> Iterator[Broken]:
    there = file.schema_arrow
    wrong = []
    for field in schema.TABLES[table]:
        if field.name not in there.names:
            wrong.append(f"there is no column {field.name}")
        elif _plain(there.field(field.name).type) != _plain(field.type):
            wrong.append(f"{field.name} is {there.field(field.name).type} instead of {field.type}")
    if wrong:
        yield from (Broken(name, rule) for rule in wrong)
        return
    if file.metadata.num_rows != expected:
        yield Broken(name, f"{file.metadata.num_rows:,} rows instead of {expected:,}")
    rules: dict[str, Broken] = {}
    seen, first = Seen(table), 1
    for batch in file.iter_batches(_BATCH_ROWS, columns=schema.TABLES[table].names):
        for row, reason in sorted(broken_rules(table, pa.Table.from_batches([batch]), {}, seen).items()):
            _count(rules, name, importer.rule_of(reason), first + row)
        first += batch.num_rows
    yield from rules.values()


def _plain(kind: pa.DataType) -> str:
    # The name of a list's element differs between writers and means nothing.
    return f"list<{kind.value_type}>" if pa.types.is_list(kind) else str(kind)


def _unknown_titles(dataset: Dataset) -> list[Broken]:
    if not dataset.has("interactions"):
        return []
    import duckdb

    items = "(select null as item_id where false)" if not dataset.has("items") else rows_of(dataset.path("items"))
    query = (
        f"select count(distinct item_id) from {rows_of(dataset.path('interactions'))} seen "
        f"anti join {items} known on seen.item_id = known.item_id where item_id is not null"
    )
    with duckdb.connect() as connection:
        unknown = connection.execute(query).fetchall()[0][0]
    return [Broken("items.parquet", f"{unknown:,} titles of the interactions are missing")] if unknown else []


def _file(path: Path, table: str, mapping: dict[str, str]) -> tuple[str, list[Broken]]:
    file = open_table(path, columns.KNOWN)
    table = table or importer.guess_table(path)
    columns.check_map({table: file}, mapping)
    choice = columns.choose(table, file, mapping)
    rules: dict[str, Broken] = {}

    def reject(_: Path, line: int, reason: str, __: str) -> None:
        _count(rules, path.name, importer.rule_of(reason), line)

    report = importer.read_rows(Converter(table, file, choice), lambda rows: None, reject, progress=False)
    return f"{path} as {table} ({report.columns}; {report.read:,} rows)", list(rules.values())


def _count(rules: dict[str, Broken], file: str, rule: str, row: int) -> None:
    broken = rules.setdefault(rule, Broken(file, rule))
    broken.count += 1
    if len(broken.first) < _SHOWN:
        broken.first += (row,)


def refuse(broken: list[Broken], what: str) -> None:
    """Raise for broken rules, which were listed before.

    Raises:
        UserError: there is at least one.
    """
    if broken:
        rows = sum(problem.count for problem in broken)
        places = f" in {rows:,} places" if rows else ""
        rules = f"{len(broken)} rule{'s' * (len(broken) > 1)}"
        raise UserError(f"{what} breaks {rules}{places}, listed above: mend the rows, or import the source again.")
