"""From a run to scored reviews: the only door for score.py and the dashboard.

A dataset's reviews are read twice, a piece at a time. The first pass says what each review is like, what it speaks of
and of which title, and counts the complaints; the second, which knows how many complain of the same, gives priorities
and drafts replies.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data import home, runs, schema
from data.dataset import Dataset, list_datasets, open_dataset, read_parquet
from data.errors import UserError
from data.schema import CREATED_AT, ITEM_ID, REVIEW_ID, SIGNED, SOURCE, TEXT
from nlp.linking import LINK_CONFIDENCE, TitleLinker
from nlp.predictor import P_POSITIVE, SentimentScorer
from nlp.replies import DEFAULT_SERVICE, draft_replies, tones
from nlp.table_scoring import parts_folder
from nlp.triage import complaint_counts, priorities

__all__ = [
    "P_POSITIVE",
    "SentimentScorer",
    "TableScorer",
    "choose",
    "find_current",
    "load_current",
    "open_run",
    "score_reviews",
]

CHUNK_ROWS = 4_000  # rows in memory at a time; enough for batches of equal length and for links to see neighbours
LINK_ROWS = 40_000  # rows whose titles are looked for together: the more neighbours, the surer; 1.5 GB at most
_SAMPLE_SEED = 42


def find_current(dataset: str | None = None) -> Path:
    """The sentiment run to use for `dataset`: its own current one, else the newest current one of any dataset.

    A model of reviews serves every dataset: it knows words, not titles.

    Raises:
        UserError: no dataset has one.
    """
    own = runs.current_run(dataset, "sentiment") if dataset else None
    if own is not None:
        return own
    there = [run for name in list_datasets() if (run := runs.current_run(name, "sentiment")) is not None]
    if not there:
        raise UserError(
            f"There is no trained sentiment model: train one with '{runs.fit_command(dataset or 'demo', 'sentiment')}'."
        )
    return max(there, key=lambda run: run.name)


def open_run(run: Path) -> SentimentScorer:
    """The scorer of a run folder; see nlp.predictor.SentimentScorer.load.

    Raises:
        UserError: the run's files are missing or damaged.
    """
    return SentimentScorer.load(run)


def load_current(dataset: str | None = None, device: str = "auto") -> SentimentScorer:
    """The scorer of `find_current(dataset)`.

    Raises:
        UserError: there is no trained model, or it cannot be loaded.
    """
    return SentimentScorer.load(find_current(dataset), device)


@dataclass
class TableScorer:
    """Everything that is known of the texts of any table, a chunk at a time; see nlp/table_scoring.py.

    Its columns are those of review_scores (data/schema.py) without the ids: label, p_positive, aspects, with a
    catalogue item_id and link_confidence, then priority and reply_draft. A chunk knows nothing of the others: how many
    complain of the same does not count for the priority, and titles are told by the neighbours in the chunk.

    Args:
        items: the catalogue to link to; None: there is none.
        tone, service, reply_model: of the drafts, see `score_reviews`.
        sentiment_only: give label and p_positive alone, which is quicker.
    """

    scorer: SentimentScorer
    items: pd.DataFrame | None = None
    tone: str = "warm"
    service: str = DEFAULT_SERVICE
    reply_model: str | None = None
    sentiment_only: bool = False
    dataset: str | None = None

    @classmethod
    def load(cls, run: Path | None, dataset: str | None, **settings: Any) -> "TableScorer":
        """Of a run (default `find_current(dataset)`) and a dataset's catalogue.

        Raises:
            UserError: there is no trained model, no such dataset or no such tone.
        """
        _check_tone(settings.get("tone", "warm"))
        found = None if dataset is None else open_dataset(dataset)
        items = found.items() if found is not None and found.has("items") else None
        return cls(SentimentScorer.load(run or find_current(dataset)), items, dataset=dataset, **settings)

    def __post_init__(self) -> None:
        self.linker = None if self.items is None or self.sentiment_only else TitleLinker(self.items)
        self.titles = _titles(self.items)

    @property
    def run_id(self) -> str:
        return self.scorer.run_id

    @property
    def flags(self) -> dict[str, Any]:
        """What the scores depend on, besides the run."""
        if self.sentiment_only:
            return {"sentiment_only": True}
        names = ("dataset", "tone", "service", "reply_model")
        return {name: getattr(self, name) for name in names}

    def score(self, texts: Sequence[str]) -> pa.Table:
        """A row for each text."""
        if self.sentiment_only:
            return self._typed(self.scorer.predict(texts))
        scored = self.scorer.analyse(texts)
        # Alike texts get the same draft: there is no id to tell them apart by.
        reviews = scored.assign(**{REVIEW_ID: list(texts), TEXT: list(texts)})
        if self.linker is not None:
            links = self.linker.link(reviews[[TEXT]])
            scored[ITEM_ID], scored[LINK_CONFIDENCE] = links[ITEM_ID], links[LINK_CONFIDENCE]
            reviews = reviews.assign(
                title=links[ITEM_ID].map(self.titles.get), link_confidence=links[LINK_CONFIDENCE].to_numpy()
            )
        alone = complaint_counts(scored.iloc[:0])
        scored["priority"] = priorities(scored, None, counts=alone)
        drafts = draft_replies(reviews, self.tone, self.service, self.reply_model)
        scored["reply_draft"] = [draft or None for draft in drafts]
        return self._typed(scored)

    def _typed(self, scored: pd.DataFrame) -> pa.Table:
        target = schema.SCORES["review_scores"]
        return pa.Table.from_pandas(scored, pa.schema([target.field(name) for name in scored]), preserve_index=False)


def score_reviews(
    dataset: str,
    out: Path | None = None,
    limit: int | None = None,
    run: Path | None = None,
    tone: str = "warm",
    service: str = DEFAULT_SERVICE,
    reply_model: str | None = None,
    progress: bool = True,
) -> Path:
    """Score a dataset's reviews into `review_scores.parquet` (data/schema.py) and return its path.

    A review with an `item_id` keeps it, with confidence 1; others are linked where a title is found for certain
    (nlp/linking.py). Nothing is sent: `reply_draft` is a draft.

    Args:
        out: the file; default `scores/<dataset>/review_scores.parquet`.
        limit: score so many reviews only (see `choose`); None scores all.
        run: the run to use; default `find_current(dataset)`.
        tone: of the drafts (nlp/replies.py).
        service: the name that the drafts are signed with.
        reply_model: a text-generation model for the drafts; None: they are compiled from parts.

    Raises:
        UserError: there is no such dataset, no reviews in it, no trained model or no such tone, or another run is
            writing the file.
    """
    found = open_dataset(dataset)
    if not found.has("reviews"):
        found.reviews()  # says what is missing
    _check_tone(tone)
    path = out or home.scores(dataset) / "review_scores.parquet"
    scorer = SentimentScorer.load(run or find_current(dataset))
    items = found.items() if found.has("items") else None
    links = _links(found, items, progress)
    chosen = None if limit is None or limit >= found.rows["reviews"] else choose(found, limit, links)
    total = found.rows["reviews"] if chosen is None else len(chosen)
    if chosen is not None:
        print(f"Scoring {total:,} of {found.rows['reviews']:,} reviews: linked and newest first, sources in turn.")
    titles = _titles(items)
    drafts = partial(draft_replies, tone=tone, service=service, generator=reply_model)
    with (
        parts_folder(path) as folder,
        tqdm(total=total, desc="Reviews", unit="review", disable=not progress) as bar,
    ):
        first, whole = folder / "first.parquet", folder / "whole.parquet"
        counts = _first_pass(scorer, _pieces(found, chosen), links, first, bar)
        _second_pass(_pieces(found, chosen), first, counts, titles, found.as_of, drafts, whole, service)
        whole.replace(path)
    return path


def _check_tone(tone: str) -> None:
    if tone not in tones():
        raise UserError(f"--tone {tone}: choose {', '.join(tones())}.")


def _titles(items: pd.DataFrame | None) -> dict[str, str]:
    return {} if items is None else dict(zip(items[ITEM_ID], items["title"], strict=True))


def _links(found: Dataset, items: pd.DataFrame | None, progress: bool) -> pd.DataFrame:
    """item_id and link_confidence of every review of the dataset, by review_id: all of them, as neighbours help."""
    linker = TitleLinker(items if items is not None else pd.DataFrame({ITEM_ID: [], "title": []}))
    parts = []
    with tqdm(total=found.rows["reviews"], desc="Titles", unit="review", disable=not progress) as bar:
        for reviews in _pieces(found, None, LINK_ROWS):
            parts.append(linker.link(reviews).set_axis(reviews[REVIEW_ID].to_numpy(object)))
            bar.update(len(reviews))
    return pd.concat(parts) if parts else pd.DataFrame({ITEM_ID: [], LINK_CONFIDENCE: []})


def _first_pass(
    scorer: SentimentScorer, pieces: Iterator[pd.DataFrame], links: pd.DataFrame, out: Path, bar: Any
) -> pd.Series | None:
    """Sentiment, aspects and links of every piece as a row group of `out`; returns the counts of complaints."""
    target = schema.SCORES["review_scores"]
    counts: pd.Series | None = None
    with pq.ParquetWriter(out, target) as writer:
        for reviews in pieces:
            scored = scorer.analyse(reviews[TEXT].tolist())
            linked = links.loc[reviews[REVIEW_ID].to_numpy(object)]
            rows = scored.assign(
                review_id=reviews[REVIEW_ID].to_numpy(object),
                item_id=linked[ITEM_ID].to_numpy(object),
                link_confidence=linked[LINK_CONFIDENCE].to_numpy(float),
            )
            found = complaint_counts(rows)
            counts = found if counts is None else counts.add(found, fill_value=0)
            writer.write_table(_table(rows.assign(priority=None, reply_draft=None, run_id=scorer.run_id), target))
            bar.update(len(reviews))
    return counts


def _second_pass(
    pieces: Iterator[pd.DataFrame],
    first: Path,
    counts: pd.Series | None,
    titles: dict[str, str],
    as_of: pd.Timestamp | None,
    drafts: Callable[[pd.DataFrame], list[str]],
    out: Path,
    service: str,
) -> None:
    """Priorities and drafts beside what the first pass wrote; who signs them is metadata of the file."""
    target = schema.SCORES["review_scores"].with_metadata({SIGNED: service})
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


def _pieces(dataset: Dataset, chosen: np.ndarray | None, rows: int | None = None) -> Iterator[pd.DataFrame]:
    """The reviews (or the chosen ones) in table order, `rows` at a time (`CHUNK_ROWS`)."""
    rows = rows or CHUNK_ROWS
    wanted = None if chosen is None else pd.Index(chosen)
    held: list[pd.DataFrame] = []
    n_held = 0
    columns = [REVIEW_ID, TEXT, ITEM_ID, CREATED_AT, SOURCE]
    with pq.ParquetFile(dataset.path("reviews")) as file:
        for batch in file.iter_batches(rows, columns=columns):
            piece = batch.to_pandas()
            if wanted is not None:
                piece = piece[piece[REVIEW_ID].isin(wanted)]
            held.append(piece)
            n_held += len(piece)
            if n_held >= rows:
                yield pd.concat(held, ignore_index=True)
                held, n_held = [], 0
    if n_held:
        yield pd.concat(held, ignore_index=True)
