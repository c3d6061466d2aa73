"""A dataset's reviews as a scored table: in bounded memory, on one machine or many, all or what changed.

First each review is read by the model, shard by shard (data/shards.py); that is nearly all of the work. What the shards
say is then gone through twice, a piece at a time: the first pass joins the titles and counts the complaints; the
second, which knows how many complain of the same, gives priorities and drafts replies.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from data import home, incremental, schema, shards
from data.dataset import MEND, Dataset, open_dataset, read_parquet, readable
from data.engines import Engine, score_missing
from data.errors import UserError
from data.parts import parts_folder
from data.schema import CREATED_AT, ITEM_ID, REVIEW_ID, SIGNED, SOURCE, TEXT
from nlp.linking import LINK_CONFIDENCE, TitleLinker
from nlp.replies import DEFAULT_SERVICE, draft_replies
from nlp.scorer import SentimentScorer, check_tone, find_current, titles_of
from nlp.triage import complaint_counts, priorities

CHUNK_ROWS = 4_000  # rows in memory at a time; enough for batches of equal length
LINK_ROWS = 40_000  # rows whose titles are looked for together: the more neighbours, the surer; 1.5 GB at most
_SAMPLE_SEED = 42
# What the model says of a text.
_ANALYSIS = pa.schema(
    [schema.SCORES["review_scores"].field(name) for name in (REVIEW_ID, "label", "p_positive", "aspects")]
)


def score_reviews(
    dataset: str,
    out: Path | None = None,
    limit: int | None = None,
    run: Path | None = None,
    tone: str = "warm",
    service: str = DEFAULT_SERVICE,
    reply_model: str | None = None,
    progress: bool = True,
    engine: Engine = Engine(),  # noqa: B008  (frozen)
    changed_only: bool = False,
    shard_size: int = CHUNK_ROWS,
) -> Path:
    """Score a dataset's reviews into `review_scores.parquet` (data/schema.py) and return its path.

    A review with an `item_id` keeps it, with confidence 1; others are linked where a title is found for certain
    (nlp/linking.py). Nothing is sent: `reply_draft` is a draft. One that is stopped goes on with the
    same call where it was.

    Args:
        out: the file; default `scores/<dataset>/review_scores.parquet`.
        limit: score so many reviews only (see `choose`); None scores all.
        run: the run to use; default `find_current(dataset)`.
        tone: of the drafts (nlp/replies.py).
        service: the name that the drafts are signed with.
        reply_model: a text-generation model for the drafts; None: they are compiled from parts.
        engine: who lets the model read.
        changed_only: only new or changed reviews are read; the others are taken from `out`, if the same run made it.
            Titles, priorities and drafts are made anew.
        shard_size: reviews that one process takes at a time.

    Raises:
        UserError: there is no such dataset, no reviews in it, no trained model or no such tone, or another run is
            writing the file.
    """
    engine.prepare(__name__)
    found = open_dataset(dataset)
    if not found.has("reviews"):
        found.reviews()  # says what is missing
    check_tone(tone)
    path = out or home.scores(dataset) / "review_scores.parquet"
    run = run or find_current(dataset)
    scorer = SentimentScorer.load(run)
    items = found.items() if found.has("items") else None
    links = _links(found, items, progress)
    chosen = None if limit is None or limit >= found.rows["reviews"] else choose(found, limit, links)
    asked, digests = _texts(found, chosen)
    ids, places = asked[REVIEW_ID].to_numpy(object), asked.index.to_numpy()
    if chosen is not None:
        print(f"Scoring {len(ids):,} of {found.rows['reviews']:,} reviews: linked and newest first, sources in turn.")
    key = {"run": scorer.run_id}
    carried = incremental.metadata(key, ids, digests)
    new = None
    if changed_only:
        new = incremental.changed(path, REVIEW_ID, ids, digests, key)
        print(incremental.told(path, new, "reviews", "are new or changed", "are read"))
    drafts = partial(draft_replies, tone=tone, service=service, generator=reply_model)
    with parts_folder(path) as folder:
        work = shards.shards_in(
            folder,
            places if new is None else places[new],
            shard_size,
            key | {"dataset": found.fingerprint},
            partial(_opened, run, found.path("reviews")),
            _ANALYSIS,
        )
        score_missing(work, engine, partial(_analysed, scorer, found.path("reviews")), "review", progress)
        read = work.paths
        if new is not None:
            read = [folder / "read.parquet"]
            incremental.merge(path, REVIEW_ID, ids, work, ids[new], out=read[0])
        first, whole = folder / "first.parquet", folder / "whole.parquet"
        counts = _first_pass(shards.gathered(read), links, first, scorer.run_id)
        of_file = {SIGNED.encode(): service.encode(), **carried}
        _second_pass(_pieces(found, chosen), first, counts, titles_of(items), found.as_of, drafts, whole, of_file)
        whole.replace(path)
        incremental.write_state(path, REVIEW_ID, ids, digests, carried)
    return path


def _links(found: Dataset, items: pd.DataFrame | None, progress: bool) -> pd.DataFrame:
    """item_id and link_confidence of every review of the dataset, by review_id: all of them, as neighbours help."""
    linker = TitleLinker(items if items is not None else pd.DataFrame({ITEM_ID: [], "title": []}))
    parts = []
    with tqdm(total=found.rows["reviews"], desc="Titles", unit="review", disable=not progress) as bar:
        for reviews in _pieces(found, None, LINK_ROWS):
            parts.append(linker.link(reviews).set_axis(reviews[REVIEW_ID].to_numpy(object)))
            bar.update(len(reviews))
    return pd.concat(parts) if parts else pd.DataFrame({ITEM_ID: [], LINK_CONFIDENCE: []})


def _texts(found: Dataset, chosen: np.ndarray | None) -> tuple[pd.DataFrame, np.ndarray]:
    """review_id of the reviews (or the chosen ones) by place in the table, and a digest of each text."""
    ids, digests = [], []
    with _opened_table(found) as file:
        for batch in file.iter_batches(LINK_ROWS, columns=[REVIEW_ID, TEXT]):
            ids.append(batch.column(REVIEW_ID).to_pandas())
            digests.append(pd.util.hash_array(batch.column(TEXT).to_pandas().fillna("").to_numpy(object)))
    every, digest = pd.concat(ids, ignore_index=True).to_frame(REVIEW_ID), np.concatenate(digests)
    if chosen is None:
        return every, digest
    wanted = every[REVIEW_ID].isin(pd.Index(chosen)).to_numpy()
    return every[wanted], digest[wanted]


def _opened(run: Path, table: Path) -> shards.Scorer:
    """What reads reviews in a process of its own."""
    return partial(_analysed, SentimentScorer.load(run), table)


def _analysed(scorer: SentimentScorer, table: Path, places: np.ndarray) -> Iterator[tuple[pa.Table, int]]:
    """What the model says of the reviews at some places of a table."""
    with duckdb.connect() as query:
        reviews = query.execute(
            f"select {REVIEW_ID}, {TEXT} from read_parquet($table, file_row_number = true) "
            "where file_row_number in (select unnest($places)) order by file_row_number",
            {"table": str(table), "places": places.tolist()},
        ).df()
    scored = scorer.analyse(reviews[TEXT].tolist()).assign(**{REVIEW_ID: reviews[REVIEW_ID].to_numpy(object)})
    yield _table(scored, _ANALYSIS), len(scored)


def _first_pass(analysis: Iterator[pa.Table], links: pd.DataFrame, out: Path, run_id: str) -> pd.Series | None:
    """Titles beside what the model says, a piece as a row group of `out`; returns the counts of complaints."""
    target = schema.SCORES["review_scores"]
    counts: pd.Series | None = None
    with pq.ParquetWriter(out, target) as writer:
        for table in _cut(analysis, CHUNK_ROWS):
            scored = table.to_pandas()
            linked = links.loc[scored[REVIEW_ID].to_numpy(object)]
            rows = scored.assign(
                item_id=linked[ITEM_ID].to_numpy(object), link_confidence=linked[LINK_CONFIDENCE].to_numpy(float)
            )
            found = complaint_counts(rows)
            counts = found if counts is None else counts.add(found, fill_value=0)
            writer.write_table(_table(rows.assign(priority=None, reply_draft=None, run_id=run_id), target))
    return counts


def _second_pass(
    pieces: Iterator[pd.DataFrame],
    first: Path,
    counts: pd.Series | None,
    titles: dict[str, str],
    as_of: pd.Timestamp | None,
    drafts: Callable[[pd.DataFrame], list[str]],
    out: Path,
    carried: dict[bytes, bytes],
) -> None:
    """Priorities and drafts beside what the first pass wrote; `carried` is metadata of the file."""
    target = schema.SCORES["review_scores"].with_metadata(carried)
    with pq.ParquetFile(first) as file, pq.ParquetWriter(out, target, compression="zstd") as writer:
        for group, reviews in enumerate(pieces):
            rows = file.read_row_group(group).to_pandas()
            rows[TEXT], rows[CREATED_AT] = reviews[TEXT].to_numpy(object), reviews[CREATED_AT].to_numpy()
            rows["title"] = [titles.get(item) if item is not None else None for item in rows[ITEM_ID]]
            rows["priority"] = priorities(rows, as_of, counts=counts).to_numpy()
            rows["reply_draft"] = [draft or None for draft in drafts(rows)]
            writer.write_table(_table(rows, target))


def _table(rows: pd.DataFrame, target: pa.Schema) -> pa.Table:
    return pa.Table.from_pandas(rows[target.names], schema=target, preserve_index=False)


def choose(dataset: Dataset, limit: int, links: pd.DataFrame | None = None) -> np.ndarray:
    """Ids of `limit` reviews: linked ones before others, then newest first, then in seeded order, sources in turn.

    Args:
        links: item_id by review_id, where titles were looked for; None: those that the table has.
    """
    keys = read_parquet(dataset.path("reviews"), [REVIEW_ID, ITEM_ID, CREATED_AT, SOURCE])
    linked = keys[ITEM_ID].notna().to_numpy() if links is None else links[ITEM_ID].notna().to_numpy()
    order = pd.DataFrame(
        {
            "unlinked": ~linked,
            "age": -keys[CREATED_AT].astype("int64").where(keys[CREATED_AT].notna(), -(2**62)),
            "source": keys[SOURCE].fillna("").astype(object),
            "chance": np.random.default_rng(_SAMPLE_SEED).random(len(keys)),
        }
    )
    order["turn"] = order.sort_values("chance").groupby(["unlinked", "age", "source"]).cumcount()
    first = order.sort_values(["unlinked", "age", "turn", "chance"]).index[:limit]
    return keys[REVIEW_ID].to_numpy(object)[np.sort(first)]


@contextmanager
def _opened_table(dataset: Dataset) -> Iterator[pq.ParquetFile]:
    """The reviews' file, for reading it piece by piece.

    Raises:
        UserError: it is damaged, or lacks a column or has another type in it.
    """
    path = dataset.path("reviews")
    with readable(path), pq.ParquetFile(path) as file:
        there = {field.name: field.type for field in file.schema_arrow}
        if missing := [name for name in schema.TABLES["reviews"].names if name not in there]:
            raise UserError(f"{path} has no column {', '.join(missing)}: {MEND}.")
        for name in (REVIEW_ID, TEXT):
            if not pa.types.is_string(there[name]) and not pa.types.is_large_string(there[name]):
                raise UserError(f"{path} holds {there[name]} as {name}, not text: {MEND}.")
        yield file


def _pieces(dataset: Dataset, chosen: np.ndarray | None, rows: int | None = None) -> Iterator[pd.DataFrame]:
    """The reviews (or the chosen ones) in table order, `rows` at a time (`CHUNK_ROWS`)."""
    columns = [REVIEW_ID, TEXT, ITEM_ID, CREATED_AT, SOURCE]
    wanted = None if chosen is None else pa.array(chosen, pa.string())
    with _opened_table(dataset) as file:
        read = (pa.Table.from_batches([batch]) for batch in file.iter_batches(CHUNK_ROWS, columns=columns))
        if wanted is not None:
            read = (table.filter(pc.is_in(table[REVIEW_ID].cast(pa.string()), wanted)) for table in read)
        for piece in _cut(read, rows or CHUNK_ROWS):
            yield piece.to_pandas()


def _cut(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` each, but for the last."""
    held: list[pa.Table] = []
    n_held = 0
    for table in tables:
        held.append(table)
        n_held += len(table)
        while n_held >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held, n_held = [whole.slice(rows)], n_held - rows
    if n_held:
        yield pa.concat_tables(held)
