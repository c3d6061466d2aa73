"""From a run to scored reviews: the only door to the sentiment model; nlp/batch.py makes tables of a dataset's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from data import runs, schema
from data.dataset import list_datasets, open_dataset
from data.errors import UserError
from data.schema import ITEM_ID, REVIEW_ID, TEXT
from nlp.linking import LINK_CONFIDENCE, TitleLinker
from nlp.predictor import P_POSITIVE, SentimentScorer
from nlp.replies import DEFAULT_SERVICE, draft_replies, tones
from nlp.triage import complaint_counts, priorities

__all__ = [
    "P_POSITIVE",
    "SentimentScorer",
    "TableScorer",
    "find_current",
    "load_current",
    "open_run",
]


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
        tone, service, reply_model: of the drafts, see nlp.batch.score_reviews.
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
        check_tone(settings.get("tone", "warm"))
        found = None if dataset is None else open_dataset(dataset)
        items = found.items() if found is not None and found.has("items") else None
        return cls(SentimentScorer.load(run or find_current(dataset)), items, dataset=dataset, **settings)

    def __post_init__(self) -> None:
        self.linker = None if self.items is None or self.sentiment_only else TitleLinker(self.items)
        self.titles = titles_of(self.items)

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


def check_tone(tone: str) -> None:
    """Raises UserError if there is no such tone."""
    if tone not in tones():
        raise UserError(f"--tone {tone}: choose {', '.join(tones())}.")


def titles_of(items: pd.DataFrame | None) -> dict[str, str]:
    """Title by id, of a catalogue that may be missing."""
    return {} if items is None else dict(zip(items[ITEM_ID], items["title"], strict=True))
