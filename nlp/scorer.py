"""From a run to scored texts: the only door for score.py and the dashboard.

A text of any length is read whole: its overlapping windows (nlp/tokens.py) are scored and their logits averaged, as in
training. Windows of many texts are sorted by length before they become batches, and the results put back in order.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from data import home, runs, schema
from data.atomic import atomic_file
from data.dataset import Dataset, list_datasets, open_dataset, read_parquet
from data.errors import UserError
from data.schema import CREATED_AT, ITEM_ID, LABEL, REVIEW_ID, SOURCE, TEXT
from data.served import load_served
from nlp import encoder as encoders
from nlp.calibration import label_of, probability
from nlp.datamodule import window_batch
from nlp.files import read_chunks, writer
from nlp.sentiment import SentimentModule
from nlp.tokens import Windows, batches_by_length, cut, frame_of, tokenise

CHUNK_ROWS = 2_000  # rows in memory at a time; enough to make batches of equal length
P_POSITIVE = "p_positive"
_SAMPLE_SEED = 42


class SentimentScorer:
    """A trained model with its tokenizer. Make one with `load`."""

    def __init__(self, module: SentimentModule, tokenizer: object, run_id: str) -> None:
        self.module = module.eval()
        self.tokenizer = tokenizer
        self.run_id = run_id
        self.frame = frame_of(tokenizer)
        self.max_tokens = int(module.hparams["max_tokens"])

    @classmethod
    def load(cls, run: Path, device: str = "auto") -> "SentimentScorer":
        """The served model of a run folder; neither hub nor training data are needed.

        Args:
            run: see `find_current`.
            device: `cpu`, `cuda`, `mps` or `auto`: the fastest there is.

        Raises:
            UserError: the run's files are missing or damaged.
        """
        module = load_served(SentimentModule, run, device)
        tokenizer = encoders.load_tokenizer(str(run / encoders.FOLDER), str(run / encoders.FOLDER))
        return cls(module, tokenizer, run.name)

    @torch.inference_mode()
    def logits(self, texts: Sequence[str], batch_size: int = 64, progress: bool = False) -> np.ndarray:
        """Each text's logit, before the temperature: the mean over its windows and the bag's share. Shape: (texts,)."""
        tokens = tokenise(self.tokenizer, texts)
        windows = cut(tokens.lengths, self.max_tokens - self.frame.size)
        length = windows.length + self.frame.size
        of_window = np.zeros(len(length))
        with tqdm(total=len(length), desc="Windows", disable=not progress) as bar:
            for index in batches_by_length(length, batch_size * self.max_tokens):
                chosen = Windows(windows.text[index], windows.start[index], windows.length[index])
                of_window[index] = self._window_logits(window_batch(tokens, chosen, self.frame))
                bar.update(len(index))
        count = np.bincount(windows.text, minlength=len(texts))
        logits = np.bincount(windows.text, of_window, minlength=len(texts)) / np.maximum(count, 1)
        bag = self.module.bag
        return logits if bag is None else logits + float(self.module.mix) * bag.logits(tokens, np.arange(len(texts)))

    def _window_logits(self, batch: dict[str, object]) -> np.ndarray:
        mask = batch["mask"]
        assert isinstance(mask, torch.Tensor)
        each = torch.arange(len(mask))
        batch |= {"review": each, "windows": torch.ones(len(mask))}
        device = self.module.device
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        return self.module(moved).float().cpu().numpy()

    def predict(self, texts: Sequence[str], batch_size: int = 64, progress: bool = False) -> pd.DataFrame:
        """`label` and calibrated `p_positive` of each text, in the order given.

        A text without a word (empty, spaces) says nothing: it is neutral with 0.5.

        Args:
            batch_size: full windows in a batch; of shorter ones there are as many more.
        """
        texts = ["" if text is None or text is pd.NA else str(text) for text in texts]
        p = probability(self.logits(texts, batch_size, progress), float(self.module.temperature))
        label = label_of(p, float(self.module.neutral_band)).astype(object)
        silent = np.array([not text.strip() for text in texts], dtype=bool)
        p[silent], label[silent] = 0.5, "neutral"
        return pd.DataFrame({LABEL: label, P_POSITIVE: p})


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


def load_current(dataset: str | None = None, device: str = "auto") -> SentimentScorer:
    """The scorer of `find_current(dataset)`.

    Raises:
        UserError: there is no trained model, or it cannot be loaded.
    """
    return SentimentScorer.load(find_current(dataset), device)


def score_reviews(
    dataset: str,
    out: Path | None = None,
    limit: int | None = None,
    run: Path | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Path:
    """Score a dataset's reviews into `review_scores.parquet` (data/schema.py) and return its path.

    `item_id` is the review's own, with confidence 1; `aspects`, `priority` and `reply_draft` are empty: a later
    version fills them.

    Args:
        out: the file; default `scores/<dataset>/review_scores.parquet`.
        limit: score so many reviews only (see `choose`); None scores all.
        run: the run to use; default `find_current(dataset)`.

    Raises:
        UserError: there is no such dataset, no reviews in it or no trained model.
    """
    found = open_dataset(dataset)
    if not found.has("reviews"):
        found.reviews()  # says what is missing
    path = out or home.scores(dataset) / "review_scores.parquet"
    scorer = SentimentScorer.load(run or find_current(dataset))
    chosen = None if limit is None or limit >= found.rows["reviews"] else choose(found, limit)
    total = found.rows["reviews"] if chosen is None else len(chosen)
    if chosen is not None:
        print(f"Scoring {total:,} of {found.rows['reviews']:,} reviews: linked and newest first, sources in turn.")
    target = schema.SCORES["review_scores"]
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(temporary, target, compression="zstd") as writer,
        tqdm(total=total, desc="Reviews", unit="review", disable=not progress) as bar,
    ):
        for reviews in _pieces(found, chosen):
            scored = scorer.predict(reviews[TEXT].tolist(), batch_size)
            linked = reviews[ITEM_ID].notna().to_numpy()
            columns = {
                REVIEW_ID: reviews[REVIEW_ID].tolist(),
                LABEL: scored[LABEL].tolist(),
                P_POSITIVE: scored[P_POSITIVE].tolist(),
                "aspects": [[] for _ in range(len(reviews))],
                ITEM_ID: [item if there else None for item, there in zip(reviews[ITEM_ID], linked, strict=True)],
                "link_confidence": [1.0 if there else None for there in linked],
                "priority": [None] * len(reviews),
                "reply_draft": [None] * len(reviews),
                "run_id": [scorer.run_id] * len(reviews),
            }
            writer.write_table(pa.Table.from_pydict(columns, schema=target))
            bar.update(len(reviews))
    return path


def choose(dataset: Dataset, limit: int) -> np.ndarray:
    """Ids of `limit` reviews: linked ones before others, then newest first, then in seeded order, sources in turn."""
    keys = read_parquet(dataset.path("reviews"), [REVIEW_ID, ITEM_ID, CREATED_AT, SOURCE])
    order = pd.DataFrame(
        {
            "unlinked": keys[ITEM_ID].isna(),
            "age": -keys[CREATED_AT].astype("int64").where(keys[CREATED_AT].notna(), -(2**62)),
            "source": keys[SOURCE].fillna("").astype(object),
            "chance": np.random.default_rng(_SAMPLE_SEED).random(len(keys)),
        }
    )
    order["turn"] = order.sort_values("chance").groupby(["unlinked", "age", "source"]).cumcount()
    first = order.sort_values(["unlinked", "age", "turn", "chance"]).index[:limit]
    return keys[REVIEW_ID].to_numpy(object)[np.sort(first)]


def _pieces(dataset: Dataset, chosen: np.ndarray | None) -> Iterator[pd.DataFrame]:
    """The reviews (or the chosen ones) in table order, `CHUNK_ROWS` at a time."""
    wanted = None if chosen is None else pd.Index(chosen)
    held: list[pd.DataFrame] = []
    n_held = 0
    columns = [REVIEW_ID, TEXT, ITEM_ID]
    with pq.ParquetFile(dataset.path("reviews")) as file:
        for batch in file.iter_batches(CHUNK_ROWS, columns=columns):
            piece = batch.to_pandas()
            if wanted is not None:
                piece = piece[piece[REVIEW_ID].isin(wanted)]
            held.append(piece)
            n_held += len(piece)
            if n_held >= CHUNK_ROWS:
                yield pd.concat(held, ignore_index=True)
                held, n_held = [], 0
    if n_held:
        yield pd.concat(held, ignore_index=True)


def score_file(
    path: Path,
    text_column: str,
    out: Path,
    run: Path | None = None,
    dataset: str | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Path:
    """Score any CSV or Parquet file: all its columns and rows in their order, and `label` and `p_positive`.

    A column of the file that has one of these names already keeps it; ours is then called `label_predicted` or
    `p_positive_predicted`.

    Args:
        path: a .csv (any usual separator) or .parquet file.
        text_column: the column that holds the texts; a missing text is neutral.
        out: a .csv or .parquet file.
        run: the run to use; default `find_current(dataset)`.
        limit: score and write the first so many rows only; None does all.

    Raises:
        UserError: a file cannot be read or written as what its name says, the column is missing (the sentence names
            those that there are), or there is no trained model.
    """
    if dataset is not None:
        open_dataset(dataset)
    chunks = read_chunks(path, text_column, CHUNK_ROWS)
    scorer = SentimentScorer.load(run or find_current(dataset))
    with (
        atomic_file(out) as temporary,
        writer(out, temporary) as write,
        tqdm(total=path.stat().st_size, desc="Texts", unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        left = limit
        for table, texts, position in chunks:
            if left is not None:
                table, texts = table.slice(0, left), texts[:left]
                left -= len(texts)
            scored = scorer.predict(texts, batch_size)
            for name, kind in ((LABEL, pa.string()), (P_POSITIVE, pa.float64())):
                free = name if name not in table.column_names else f"{name}_predicted"
                table = table.append_column(free, pa.array(scored[name].tolist(), kind))
            write(table)
            bar.update(position - bar.n)
            if left == 0:
                break
    return out
