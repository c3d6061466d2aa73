"""A dataset: a folder of Parquet tables with a `dataset.json` that says where they come from and what time it is there.

tables/<name>/interactions.parquet  items.parquet  users.parquet  reviews.parquet  metrics.parquet  dataset.json
"""

import datetime as dt
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from data import home, schema
from data.atomic import atomic_folder, restore, write_json
from data.counted import Ids, counted
from data.errors import UserError

TimeKind = Literal["real", "order"]
_TEXT, _STRING = pd.StringDtype("pyarrow"), pa.string()
MEND = "fetch or import the dataset again"  # a damaged table
TEXT_DTYPES: dict[Any, Any] = {pa.string(): _TEXT, pa.large_string(): _TEXT}  # for `to_pandas(types_mapper=....get)`


@dataclass(frozen=True)
class Source:
    """Where the tables came from, kept with them for ever."""

    name: str
    how: str  # "local file", "publisher", "package index", "import", ...
    detail: str = ""  # file name, address or wheel
    checksum: str = ""  # "sha256:..." or "md5:..." of what came
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk. Tables are read when asked for; nothing is cached here."""

    name: str
    folder: Path
    as_of: pd.Timestamp | None  # the last timestamp unless set; UTC; None without interactions and metrics
    time_kind: TimeKind
    fingerprint: str  # SHA-256 of the tables' contents, 16 hex digits
    rows: dict[str, int] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    created_at: str = ""
    clock_set_at: str = ""  # by the wall clock; when the tables were written, unless set
    exported: Mapping[str, int] = field(default_factory=dict)  # up to which numbers what members did is in the tables

    def has(self, table: str) -> bool:
        return self.rows.get(table, 0) > 0

    def path(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"

    def read(self, table: str, columns: Sequence[str] | None = None, categories: Sequence[str] = ()) -> pd.DataFrame:
        """The table, checked against its schema; strings as `string[pyarrow]`, times as `datetime64[us, UTC]`.

        Args:
            columns: to read, of which no rule is checked but that text is text; default: all.
            categories: strings among `columns` that come as categories, which takes a fifth of the time.

        Raises:
            UserError: the dataset has no such table, or the file is damaged or breaks the schema.
        """
        if not self.has(table):
            raise UserError(
                f"Dataset '{self.name}' has no {table}: add them with "
                f"'python -m data import --name {self.name} --replace' and the {table} file."
            )
        frame = read_parquet(self.path(table), columns, categories=categories)
        if columns is None:
            return schema.validate(table, frame, str(self.path(table)))
        known = schema.TABLES[table]
        for name in set(columns) & set(known.names):
            is_text = isinstance(frame[name].dtype, (pd.StringDtype, pd.CategoricalDtype))
            if known.field(name).type == _STRING and not is_text:
                raise UserError(f"{self.path(table)} holds {frame[name].dtype} as {name}, not text: {MEND}.")
        return frame

    def interactions(self, columns: Sequence[str] | None = None, categories: Sequence[str] = ()) -> pd.DataFrame:
        return self.read("interactions", columns, categories)

    def items(self) -> pd.DataFrame:
        """The catalogue. Titles that occur only in interactions are in it too, titled by their id."""
        return self.read("items")

    def users(self) -> pd.DataFrame:
        return self.read("users")

    def reviews(self) -> pd.DataFrame:
        return self.read("reviews")

    def metrics(self) -> pd.DataFrame:
        return self.read("metrics")

    def require_calendar(self, purpose: str) -> None:
        """Refuse `order` data where a calendar is needed.

        Raises:
            UserError: the source had no times, so days and weeks mean nothing.
        """
        if self.time_kind == "order":
            raise UserError(
                f"Dataset '{self.name}' has no real times (its rows were numbered in file order), so {purpose} "
                "needs a source with a time column: import it again with --map timestamp=COLUMN."
            )

    @cached_property
    def titles(self) -> dict[str, str]:
        """item_id to title, for showing; ids without a title are absent."""
        if not self.has("items"):
            return {}
        items = read_parquet(self.path("items"), [schema.ITEM_ID, schema.TITLE])
        return dict(zip(items[schema.ITEM_ID], items[schema.TITLE], strict=True))


def read_parquet(
    path: Path,
    columns: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    categories: Sequence[str] = (),
    mend: str = "",
) -> pd.DataFrame:
    """Read a Parquet file with our dtypes.

    Args:
        columns: to read; default: all.
        optional: further ones, which are empty where the file lacks them.
        categories: strings that come as categories.
        mend: what to do when the file is missing or damaged, unless it is a table of a dataset.

    Raises:
        UserError: the file is missing, is no Parquet or lacks a column.
    """
    try:
        there = pq.read_schema(path).names
        missing = [name for name in columns or () if name not in there]
        wanted = None if columns is None else [name for name in (*columns, *optional) if name in there]
        table = pq.read_table(path, columns=wanted, read_dictionary=list(categories))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {mend or 'run the command that writes it again'}.") from None
    except schema.UNREADABLE as failure:
        raise UserError(f"{path} cannot be read as Parquet ({failure}): {mend or MEND}.") from None
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: {mend or MEND}.")
    frame = table.to_pandas(types_mapper=TEXT_DTYPES.get)
    return frame if columns is None or not optional else frame.reindex(columns=[*columns, *optional])


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Around what DuckDB or Arrow read of a file of a dataset.

    Raises:
        UserError: it cannot be read, since it is gone or damaged, or lacks a column.
    """
    try:
        yield
    except Exception as failure:
        duckdb = sys.modules.get("duckdb")  # only who has used it has loaded it: that takes a tenth of a second
        kinds = (pa.ArrowException, UnicodeDecodeError, FileNotFoundError, *([duckdb.Error] if duckdb else []))
        # An OSError without a number is Arrow's own: pages that hold something else, or a folder in the file's place.
        if not isinstance(failure, kinds) and not (isinstance(failure, OSError) and failure.errno is None):
            raise
        raise UserError(f"{path} cannot be read ({str(failure).splitlines()[0]}): {MEND}.") from None


def write_parquet(frame: pd.DataFrame, path: Path, arrow: pa.Schema) -> None:
    """Write `frame` with exactly the types of `arrow`. Not atomic by itself: write into an `atomic_folder`."""
    table = pa.Table.from_pandas(frame[arrow.names], schema=arrow, preserve_index=False)
    pq.write_table(table, path, compression="zstd")


def open_dataset(name: str) -> Dataset:
    """Open the dataset called `name`.

    Raises:
        UserError: there is none (the sentence lists those that there are), or its dataset.json is damaged.
    """
    folder = home.tables(name)
    if not folder.exists() and any(folder.parent.glob(f".{name}.*.old")):
        with suppress(OSError), only_writer(name):  # who has moved it aside is killed, or has ended meanwhile
            pass
    if not (folder / "dataset.json").is_file():
        there = ", ".join(list_datasets()) or "none"
        raise UserError(
            f"There is no dataset '{name}' in {home.home()} (there: {there}): get it with 'python -m data fetch NAME' "
            "or 'python -m data import', or set MARQUEE_HOME."
        )
    return open_folder(folder)


def open_folder(folder: Path) -> Dataset:
    """Open the dataset that lies in `folder`, wherever that is; it is called like the folder.

    Raises:
        UserError: the folder holds no dataset, or its dataset.json is damaged.
    """
    path, name = folder / "dataset.json", folder.absolute().name
    if not path.is_file():
        raise UserError(f"{folder} is no dataset: it has no dataset.json.")
    try:
        meta = json.loads(path.read_text("utf-8"))
        return Dataset(
            name=name,
            folder=folder,
            as_of=pd.Timestamp(meta["as_of"]) if meta["as_of"] else None,
            time_kind=meta["time_kind"],
            fingerprint=meta["fingerprint"],
            rows=meta["rows"],
            sources=tuple(Source(**source) for source in meta["sources"]),
            notes=tuple(meta["notes"]),
            created_at=meta["created_at"],
            clock_set_at=meta.get("clock_set_at", ""),
            exported=meta.get("exported", {}),
        )
    except (ValueError, KeyError, TypeError) as failure:
        raise UserError(f"{path} is damaged ({failure!r}): fetch or import '{name}' again.") from None


def list_datasets() -> list[str]:
    """Names of the datasets on disk, sorted."""
    root = home.home() / "tables"
    return sorted(p.parent.name for p in root.glob("*/dataset.json") if not p.parent.name.startswith("."))


@contextmanager
def only_writer(name: str) -> Iterator[None]:
    """Nobody else replaces the dataset, exports into it or forgets in it meanwhile; who comes second waits.

    Without it an import that ends while an export rewrites the tables would be undone by the export.
    """
    root = home.tables(name).parent
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        restore(root / name)
        yield


def write_dataset(
    name: str,
    tables: Mapping[str, pd.DataFrame | Path],
    *,
    sources: Sequence[Source],
    time_kind: TimeKind = "real",
    as_of: pd.Timestamp | None = None,
    notes: Sequence[str] = (),
    extra_files: Mapping[str, Path] | None = None,
    replace: bool = False,
    clock_set_at: str = "",
    exported: Mapping[str, int] | None = None,
    titles: pa.Array | None = None,
    hashes: Mapping[str, bytes] | None = None,
) -> Dataset:
    """Write a dataset atomically: it is there whole or not at all. Whoever may have company holds `only_writer`.

    Args:
        tables: table name to a frame (validated here) or to a Parquet file that was validated while it was streamed.
        as_of: the dataset's clock; the last timestamp of interactions and metrics unless given.
        extra_files: further files to keep beside the tables (name to path), such as `rejects.csv`.
        replace: whether a dataset of that name may be replaced.
        clock_set_at: when by the wall clock it was `as_of` (now unless given).
        exported: up to which numbers what members did is in the tables, see data/feedback.py.
        titles: the distinct ids of titles in the interactions, where they are known already.
        hashes: the SHA-256 of tables (but items) that are files, where they are known already.

    Raises:
        UserError: the name is taken or unusable, or a table breaks its schema.
    """
    folder = home.tables(name)
    if (folder / "dataset.json").exists() and not replace:
        raise UserError(f"There is a dataset '{name}' already: choose another --name or add --replace.")
    if unknown := set(tables) - set(schema.TABLES):
        raise ValueError(f"unknown tables {sorted(unknown)}")
    with atomic_folder(folder) as temporary:
        for table, content in tables.items():
            path = temporary / f"{table}.parquet"
            if isinstance(content, Path):
                content.replace(path)
            else:
                frame = schema.validate(table, content)
                write_parquet(frame, path, schema.arrow_schema(table, frame))
        _complete_catalogue(temporary, titles)
        for file_name, source_path in (extra_files or {}).items():
            shutil.copyfile(source_path, temporary / file_name)
        files = sorted(temporary.glob("*.parquet"))
        meta = {
            "name": name,
            "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "as_of": _iso(as_of if as_of is not None else last_time(temporary)),
            "time_kind": time_kind,
            "fingerprint": fingerprint(files, hashes),
            "rows": {path.stem: pq.read_metadata(path).num_rows for path in files},
            "sources": [asdict(source) for source in sources],
            "notes": list(notes),
            "clock_set_at": clock_set_at,
            "exported": dict(exported or {}),
        }
        write_json(temporary / "dataset.json", meta)
    return open_dataset(name)


def _complete_catalogue(folder: Path, titles: pa.Array | None) -> None:
    """Give every title that occurs in interactions a row in items, titled by its id where nothing else is known."""
    interactions, items = folder / "interactions.parquet", folder / "items.parquet"
    if not interactions.exists():
        return
    if titles is None:
        # Batch by batch: a table of 32 million ratings must not have to fit into memory.
        ids = Ids()
        for column in _batches(interactions, schema.ITEM_ID):
            ids.add(column)
        titles = ids.all()
    kinds = schema.TABLES["items"]
    with readable(items):
        known = pq.read_table(items, schema=kinds) if items.exists() else kinds.empty_table()
    new = titles.filter(pc.invert(pc.is_in(titles, known[schema.ITEM_ID].combine_chunks())))
    if len(new) == 0:
        return
    # They keep the rules by themselves: as ids of interactions they have been checked, and what is known was.
    columns = {field.name: pa.nulls(len(new), field.type) for field in kinds}
    columns |= {schema.ITEM_ID: new, schema.TITLE: new}
    columns[schema.GENRES] = pa.array([[]], kinds.field(schema.GENRES).type).take(pa.array(np.zeros(len(new), int)))
    items.unlink(missing_ok=True)  # it may be another name of a file that is in use
    pq.write_table(pa.concat_tables([known, pa.table(columns, schema=kinds)]), items, compression="zstd")


def last_time(folder: Path) -> pd.Timestamp | None:
    """The last moment of the interactions and metrics in a dataset's folder."""
    times = []
    for table, column in (("interactions", schema.TIMESTAMP), ("metrics", schema.DATE)):
        path = folder / f"{table}.parquet"
        if path.exists():
            times += [time for time in _lasts(path, column) if time is not None]
    return max(times, default=None)


def _lasts(path: Path, column: str) -> Iterator[pd.Timestamp | None]:
    """The last time of each part of a Parquet file: what it says of itself, or else what is there."""
    with pq.ParquetFile(path) as file:
        at = file.schema_arrow.names.index(column)
        parts = [file.metadata.row_group(number).column(at) for number in range(file.num_row_groups)]
        if all(part.is_stats_set and part.statistics.has_min_max for part in parts):
            yield from (pd.Timestamp(part.statistics.max) for part in parts)
            return
    for part in _batches(path, column):
        last = pc.max(part).as_py()
        yield None if last is None else pd.Timestamp(last)


def _batches(path: Path, column: str) -> Iterator[pa.Array]:
    """One column of a Parquet file, piece by piece; ids dictionary-encoded, as they lie there."""
    with pq.ParquetFile(path, read_dictionary=[column] if column == schema.ITEM_ID else None) as file:
        for batch in file.iter_batches(batch_size=1 << 20, columns=[column]):
            yield batch.column(0)


def _iso(time: pd.Timestamp | None) -> str | None:
    return None if time is None else time.isoformat()


def fingerprint(files: Sequence[Path], known: Mapping[str, bytes] | None = None) -> str:
    """SHA-256 over names and contents: the same tables give the same fingerprint on the same library versions.

    Args:
        known: the SHA-256 of some of them, by table.
    """
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        digest.update((known or {}).get(path.stem) or sha256(path))
    return digest.hexdigest()[:16]


def sha256(path: Path) -> bytes:
    """Of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts that a reader wants first: members, titles, density, span, ratings. Memory does not grow with the rows."""
    facts: dict[str, Any] = {
        "name": dataset.name,
        "as_of": _iso(dataset.as_of),
        "time_kind": dataset.time_kind,
        "fingerprint": dataset.fingerprint,
        "rows": dataset.rows,
    }
    if not dataset.has("interactions"):
        return facts
    with readable(dataset.path("interactions")):
        found = counted(dataset.path("interactions"))
    members, titles, rows = found["members"], found["titles"], found["rows"]
    rated = found["rated"]
    return facts | {
        "members": members,
        "titles": titles,
        "interactions": rows,
        "density": rows / (members * titles) if titles else None,
        "first": _iso(pd.Timestamp(found["first"], unit="us", tz="UTC")),
        "last": _iso(pd.Timestamp(found["last"], unit="us", tz="UTC")),
        "mean_rating": found["sum"] / rated if rated else None,
        "lowest_rating": found["least"],
        "highest_rating": found["greatest"],
        "kinds": dict(sorted(found["kinds"].items(), key=lambda one: (-one[1], one[0]))),
    }
