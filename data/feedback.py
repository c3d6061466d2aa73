"""From the event store back to the tables, and out of everything: `export-events` and `forget`.

Both rewrite a dataset's tables, whole or not at all, and under the lock that an import or fetch takes too. Which events
have gone into the tables is kept in dataset.json beside them (`exported`), so that an export that is repeated or was
killed adds nothing twice; an import of such tables finds that out by itself (data/exported.py).
"""

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import delete, select

from data import events, home, runs, schema
from data.database import connection
from data.dataset import MEND, Dataset, Source, only_writer, open_dataset, readable, write_dataset
from data.errors import UserError
from data.parts import drop_parts, passing_folder
from data.replies import REPLIES
from data.schema import CREATED_AT, LABEL, REVIEW_ID, SOURCE, TIMESTAMP, USER_ID

EXPORTED = "dashboard"  # what the source of exported rows is called
_BATCH = 1 << 17
Gone = Callable[[pa.RecordBatch], pa.Array]  # which rows of a batch go, as booleans


@dataclass(frozen=True)
class Exported:
    """What an export added: rows of interactions, reviews, and members that were new."""

    dataset: Dataset
    events: int
    reviews: int
    members: int


@contextmanager
def _rewriting(name: str) -> Iterator[Path]:
    """Nobody else writes the dataset meanwhile; yields a folder on the disk of the tables that goes afterwards."""
    root = home.tables(name).parent
    open_dataset(name)
    with only_writer(name):
        for left in root.glob(f".{name}.*.work"):  # of a command that was killed
            if "." not in left.name.removeprefix(f".{name}.").removesuffix(".work"):  # not of dataset NAME.more
                shutil.rmtree(left, ignore_errors=True)
        try:
            _refuse_damaged(open_dataset(name))
            with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".work", dir=root) as folder:
                yield Path(folder)
        except (pa.ArrowException, UnicodeError, csv.Error, OSError) as failure:
            if isinstance(failure, OSError) and failure.errno is not None:  # of the disk, not of what is in a file
                raise
            raise UserError(
                f"A table or score file of dataset '{name}' cannot be read ({str(failure).splitlines()[0]}): find it "
                f"by 'python -m data validate {name}', write it anew, and run this again."
            ) from failure


def _refuse_damaged(dataset: Dataset) -> None:
    """A table that is gone, or lacks a column or its type, would be rewritten as if that had never been there."""
    for table in dataset.rows:
        path = dataset.path(table)
        with readable(path):
            there = {field.name: field.type for field in pq.read_schema(path)}
        missing = [name for name in schema.TABLES[table].names if name not in there]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}: {MEND}.")
        for field in schema.TABLES[table]:
            kind = there[field.name]
            if field.type == pa.string() and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(f"{path} holds {kind} as {field.name}, not text: {MEND}.")


def export_events(name: str) -> Exported:
    """Add to a dataset's tables what members did since the last export; nothing happens when they did nothing.

    The clock moves on to the last event or review. Interactions keep their kind, impressions too.

    Raises:
        UserError: there is no dataset, or the database cannot be reached.
    """
    with _rewriting(name) as folder:
        dataset = open_dataset(name)
        done = dataset.exported
        happened = events.events(name, after=done.get("events", 0), settled=True)
        written = events.reviews(name, after=done.get("reviews", 0), settled=True)
        if happened.empty and written.empty:
            return Exported(dataset, 0, 0, 0)
        rows = {
            "interactions": happened.rename(columns={"service_time": TIMESTAMP}),
            "reviews": written.rename(columns={"service_time": CREATED_AT}).assign(**{LABEL: None, SOURCE: EXPORTED}),
        }
        present = _ids(dataset, "users") if dataset.has("users") else None
        ids = pd.Series(pd.concat([happened[USER_ID], written[USER_ID]]).unique(), dtype=object)
        if present is not None:
            rows["users"] = pd.DataFrame({USER_ID: ids[~ids.isin(present)]})
        tables = {table: _link(dataset.path(table), folder) for table in schema.TABLES if dataset.path(table).exists()}
        for table, more in rows.items():
            if len(more):
                tables[table] = _appended(table, tables.get(table), more, folder)
        as_of, set_at = dataset.as_of, dataset.clock_set_at or dataset.created_at
        times = ["service_time", "made_at"]
        newest = pd.concat([happened[times], written[times]]).nlargest(1, "service_time")
        if len(newest) and (as_of is None or newest["service_time"].iloc[0] > as_of):
            as_of, set_at = newest["service_time"].iloc[0], newest["made_at"].iloc[0].isoformat()
        last = {"events": happened["number"].max(), "reviews": written["number"].max()}
        exported = dict(done) | {what: int(number) for what, number in last.items() if pd.notna(number)}
        others = [source for source in dataset.sources if source.how != EXPORTED]
        source = Source("the dashboard", EXPORTED, f"events to number {exported.get('events', 0):,}")
        after = _rewritten(
            replace(dataset, as_of=as_of, clock_set_at=set_at, exported=exported), tables, [*others, source]
        )
        return Exported(after, len(happened), len(written), len(rows.get("users", ())))


def _ids(dataset: Dataset, table: str) -> pd.Index:
    return pd.Index(pq.read_table(dataset.path(table), columns=[USER_ID])[USER_ID].to_pandas())


def _link(path: Path, folder: Path) -> Path:
    """The file again in `folder`, without its bytes being copied where the disk can do that."""
    target = folder / path.name
    try:
        target.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, target)
    return target


def _appended(table: str, old: Path | None, more: pd.DataFrame, folder: Path) -> Path:
    """A new file of the table with rows at its end; read and written batch by batch."""
    frame = schema.complete(table, more[[c for c in more if c in schema.TABLES[table].names]])
    frame = schema.validate(table, frame)
    target = folder / f"new-{table}.parquet"
    arrow = schema.TABLES[table] if old is None else pq.read_schema(old).remove_metadata()
    with pq.ParquetWriter(target, arrow, compression="zstd") as writer:
        if old is not None:
            for batch in _batches(old):
                writer.write_table(pa.Table.from_batches([batch]).cast(arrow))
        # What a new row does not know (columns of users that are the dataset's own, of any type) is missing in it.
        columns = [
            pa.array(frame[field.name], field.type, from_pandas=True)
            if field.name in frame
            else pa.nulls(len(frame), field.type)
            for field in arrow
        ]
        writer.write_table(pa.Table.from_arrays(columns, schema=arrow))
    return target


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_BATCH)


def _rewritten(
    dataset: Dataset, tables: Mapping[str, Path], sources: Sequence[Source], extra: Mapping[str, Path] | None = None
) -> Dataset:
    """The dataset with other tables; its clock goes on as `dataset` says."""
    kept = {
        p.name: p
        for p in dataset.folder.iterdir()
        if p.is_file() and p.suffix != ".parquet" and p.name != "dataset.json"
    }
    return write_dataset(
        dataset.name,
        dict(tables),
        sources=sources,
        time_kind=dataset.time_kind,
        as_of=dataset.as_of,
        notes=dataset.notes,
        extra_files=kept | dict(extra or {}),
        replace=True,
        clock_set_at=dataset.clock_set_at or dataset.created_at,
        exported=dataset.exported,
    )


# -- forgetting ----------------------------------------------------------------------------------------------------


def forget(name: str, user_id: str, required: bool = True) -> dict[str, int]:
    """Remove a member from the database, the tables and the scores of a dataset; returns where how many rows were.

    What trained models hold of the member stays until they are trained again: see `runs_with`. Killed halfway, it is
    simply run again.

    Args:
        name: of the dataset.
        user_id: of the member.
        required: whether there must be something to remove.

    Raises:
        UserError: there is no such dataset, or no trace of the member in it.
    """
    if not user_id.strip():
        raise UserError("USER is empty: give the member's id.")
    with _rewriting(name) as folder:
        dataset = open_dataset(name)
        mine = _own_reviews(dataset, user_id)
        try:
            # Scores first: which reviews are the member's, only tables and database know.
            found = _forget_in_scores(name, user_id, mine)
            found |= _forget_in_tables(dataset, user_id, folder)
            found |= _forget_in_database(name, user_id, mine)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "Interrupted: some rows of the member may be gone already, others are still there. Run the same "
                "command to remove the rest."
            ) from None
    found = {place: rows for place, rows in found.items() if rows}
    if not found and required:
        raise UserError(f"Dataset '{name}' holds nothing of a member '{user_id}': look the id up in its tables.")
    return found


def _own_reviews(dataset: Dataset, user_id: str) -> set[str]:
    """Ids of the member's reviews, in the tables and in the database."""
    mine = set(events.reviews(dataset.name, user_id)[REVIEW_ID])
    if dataset.has("reviews"):
        table = pq.read_table(
            dataset.path("reviews"), columns=[REVIEW_ID], filters=pc.field(USER_ID) == pa.scalar(user_id)
        )
        mine |= set(table[REVIEW_ID].to_pylist())
    return mine


def _forget_in_database(name: str, user_id: str, reviews: set[str]) -> dict[str, int]:
    found = {}
    with connection() as opened:
        for place, table in (("events in the database", events.EVENTS), ("reviews in the database", events.REVIEWS)):
            theirs = (table.c.dataset == name) & (table.c[USER_ID] == user_id)
            found[place] = opened.execute(delete(table).where(theirs)).rowcount
        decided = opened.execute(select(REPLIES.c[REVIEW_ID]).where(REPLIES.c.dataset == name)).scalars().all()
        theirs_too = [review_id for review_id in decided if review_id in reviews]
        for review_id in theirs_too:
            opened.execute(delete(REPLIES).where(REPLIES.c.dataset == name, REPLIES.c[REVIEW_ID] == review_id))
        found["replies in the database"] = len(theirs_too)
    return found


def _forget_in_tables(dataset: Dataset, user_id: str, folder: Path) -> dict[str, int]:
    found, tables = {}, {}
    for table in schema.TABLES:
        path = dataset.path(table)
        if not path.exists():
            continue
        tables[table] = _link(path, folder)
        if USER_ID in pq.read_schema(path).names:
            kept, found[f"rows of {table}"] = _without(path, _is({USER_ID: {user_id}}), folder / f"new-{table}.parquet")
            if found[f"rows of {table}"]:
                tables[table] = kept
    extra = {}
    rejects = dataset.folder / "rejects.csv"
    if rejects.exists():
        kept, found["rejected rows"] = _csv_without(
            rejects, lambda row: _mentions(row, user_id), folder / "rejects.csv"
        )
        extra = {"rejects.csv": kept}
    if any(found.values()):
        _rewritten(dataset, tables, dataset.sources, extra)
    return found


def _forget_in_scores(name: str, user_id: str, reviews: set[str]) -> dict[str, int]:
    """Rows of the member, or of a review of theirs; a file without any stays as it is."""
    found: dict[str, int] = {}
    folder = home.scores(name)
    drop_parts(folder)  # of scorings that were killed
    theirs = {USER_ID: {user_id}, REVIEW_ID: reviews}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*.csv")]) if folder.exists() else ():
        is_csv = path.suffix == ".csv"
        wanted = {column: theirs[column] for column in (_header(path) if is_csv else pq.read_schema(path).names)
                  if theirs.get(column)}  # fmt: skip
        if not wanted:
            continue
        with passing_folder(folder) as work:
            kept = work / path.name
            if is_csv:
                header = _header(path)
                at = [(header.index(column), ids) for column, ids in wanted.items()]
                gone = lambda row, at=at: any(row[i : i + 1] and row[i] in ids for i, ids in at)  # noqa: E731
                _, n = _csv_without(path, gone, kept)
            else:
                _, n = _without(path, _is(wanted), kept)
            if n:
                kept.replace(path)
        found[f"rows of {path.name}"] = n
    return found


def _header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _is(wanted: Mapping[str, set[str]]) -> Gone:
    """Whose value in one of the columns is among its ids."""
    ids = {column: pa.array(sorted(values), pa.string()) for column, values in wanted.items()}

    def gone(batch: pa.RecordBatch) -> pa.Array:
        found = [
            pc.fill_null(pc.is_in(batch.column(batch.schema.get_field_index(column)).cast(pa.string()), values), False)
            for column, values in ids.items()
        ]
        return reduce(pc.or_, found)

    return gone


def _without(path: Path, gone: Gone, target: Path) -> tuple[Path, int]:
    """`path` without some rows as `target`, batch by batch; and how many those were."""
    number = 0
    with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        for batch in file.iter_batches(batch_size=_BATCH):
            mask = gone(batch)
            number += pc.sum(mask).as_py() or 0
            writer.write_batch(batch.filter(pc.invert(mask)))
    return target, number


def _csv_without(path: Path, gone: Callable[[list[str]], bool], target: Path) -> tuple[Path, int]:
    """The same for a CSV file, whose first row is its header."""
    number = 0
    with (
        path.open(newline="", encoding="utf-8") as source,
        target.open("w", newline="", encoding="utf-8") as sink,
    ):
        writer = csv.writer(sink)
        for place, row in enumerate(csv.reader(source)):
            if place and gone(row):
                number += 1
            else:
                writer.writerow(row)
    return target, number


def _mentions(row: list[str], user_id: str) -> bool:
    """Whether a rejected row is the member's: the line that it quotes, in its last column, has the id as a field."""
    return any(user_id == part.strip(" \"'") for part in re.split(r"\t|::|[,;|\n]", row[-1])) if row else False


def runs_with(name: str) -> list[Path]:
    """Runs of a dataset, unfinished ones too, which know its members until they are trained again."""
    home.check_name(name)
    return sorted(path for model in runs.MODELS for path in home.runs(name, model).glob("*") if path.is_dir())


def learn_again(name: str, trained: Sequence[Path]) -> list[str]:
    """Train the models in use again with the configuration that each has, and delete the runs `trained`.

    Returns:
        Names of the models; those that had a run in use now have one that is none of `trained`.

    Raises:
        UserError: a training failed; all runs are still there.
    """
    models = sorted({run.parent.name for run in trained})
    for model in models:
        run = runs.current_run(name, model)
        if run is None:  # only unfinished ones: there is nothing in use to train again
            continue
        command = [sys.executable, "-m", runs.PACKAGE[model], "fit", "--config", str(run / "config.yaml")]
        command += ["--gate", "off"]  # the runs before go, whatever the new one is like
        if subprocess.run(command).returncode or runs.current_run(name, model) in trained:
            raise UserError(f"The {model} could not be trained again (see above): '{' '.join(command[1:])}'.")
    for run in trained:
        shutil.rmtree(run)
    return models
