"""The reviews table as batches for the sentiment module.

A batch holds whole reviews: all windows of a review are in it, and their outputs are averaged into one for the review
(nlp/tokens.py says how windows are cut). Its keys, with R reviews, W windows and T tokens in the longest window:

    input_ids  (W, T) int64       absent when the frozen layers' outputs are kept
    hidden     (W, T, size) half  those outputs (nlp/frozen.py)
    mask       (W, T) bool        true where there is a token
    padded     bool               whether `mask` is false anywhere
    review     (W,) int64         which of the R reviews a window belongs to
    windows    (R,) float         how many windows a review has
    label      (R,) float         1 positive, 0 negative
    review_id  list of R strings
    length     (R,) int64         tokens of the whole review; not in training, as the next
    ngram, ngram_review  (n-grams,) int64  hashed n-grams of the whole reviews (nlp/ngrams.py)
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from data.atomic import write_json
from data.dataset import open_dataset
from data.errors import UserError
from data.faster import pinned
from data.schema import REVIEW_ID, SOURCE, TEXT
from nlp import encoder as encoders
from nlp.frozen import FrozenStates, Lower
from nlp.ngrams import ngrams_of
from nlp.splits import SIDES, split_reviews
from nlp.tokens import Frame, Tokens, Windows, batches_by_length, cut, frame_of, pad, scatter, tokenise

CHARACTERS_PER_TOKEN = 4.2  # English reviews with a BERT vocabulary
FIRST_SHARE = 0.8
_BUCKET_BATCHES = 50  # a shuffled stretch of this many batches is sorted by length


class ReviewData(pl.LightningDataModule):
    """Reviews of one dataset, split, tokenised once, in batches of similar length.

    Args:
        dataset: its name.
        encoder: hub name or local folder; the module gets the same (see `__main__`).
        max_tokens: tokens in a window, special tokens counted.
        train_windows: at most so many windows of a review in training, spread from its first to its last token;
            None takes all. Measuring and scoring always read all.
        random_windows: augmentation: of a text with more tokens than `train_windows` hold, other windows in each epoch.
        batch_size: reviews in a training batch.
        eval_batch_tokens: padded tokens in a batch of measuring or scoring.
        max_train_tokens: train on a seeded sample of about so many tokens (see `sample_by_cost`); None: all.
        max_eval_tokens: the same for validation and test, each.
        word_dropout: augmentation: share of tokens left out of a training text, anew in each epoch.
        token_masking: augmentation: share of tokens replaced by the tokenizer's mask, anew in each epoch.
        ngram_buckets: buckets of the module's bag of n-grams (it gets the same number); 0: there is none.
        warm_refit: refit from the fitted weights, on the held-out reviews and as many of the others, instead of
            starting afresh on everything.
        num_workers: processes that make batches.
        seed: of the split and the samples. Not of the training: that is `seed_everything`.
    """

    def __init__(
        self,
        dataset: str = "demo",
        encoder: str = encoders.DEFAULT,
        max_tokens: int = 256,
        train_windows: int | None = 2,
        random_windows: bool = False,
        batch_size: int = 32,
        eval_batch_tokens: int = 8_192,
        max_train_tokens: int | None = None,
        max_eval_tokens: int | None = None,
        word_dropout: float = 0.0,
        token_masking: float = 0.0,
        ngram_buckets: int = 2**18,
        warm_refit: bool = False,
        num_workers: int = 0,
        seed: int = 42,
    ) -> None:
        super().__init__()
        for name, value in (("word_dropout", word_dropout), ("token_masking", token_masking)):
            if not 0 <= value < 1:
                raise UserError(f"--data.{name} {value}: give a share from 0 to below 1.")
        if max_tokens < 8 or batch_size < 1 or (train_windows is not None and train_windows < 1):
            raise UserError("--data.max_tokens must be at least 8, --data.batch_size and --data.train_windows 1.")
        self.dataset = dataset
        self.encoder = encoder
        self.max_tokens = max_tokens
        self.train_windows = train_windows
        self.random_windows = random_windows
        self.batch_size = batch_size
        self.eval_batch_tokens = eval_batch_tokens
        self.max_train_tokens = max_train_tokens
        self.max_eval_tokens = max_eval_tokens
        self.word_dropout = word_dropout
        self.token_masking = token_masking
        self.ngram_buckets = ngram_buckets
        self.warm_refit = warm_refit
        self.num_workers = num_workers
        self.seed = seed
        self.fit_on = "train"
        self.states: FrozenStates | None = None
        self._ready = False

    def prepare_data(self) -> None:
        encoders.locate(self.encoder)  # once a machine, not once a process

    def setup(self, stage: str | None = None) -> None:
        """Split and tokenise, once.

        Raises:
            UserError: the dataset has too few labelled reviews, or the tokenizer cannot be loaded.
        """
        if self._ready:
            return
        self.tokenizer = encoders.load_tokenizer(self.encoder)
        self.frame: Frame = frame_of(self.tokenizer)
        self.reviews, self.left_out = split_reviews(open_dataset(self.dataset).reviews(), self.seed, self.dataset)
        self.n_usable = len(self.reviews)
        self.reviews = self.reviews[self._sample()].reset_index(drop=True)
        self.tokens: Tokens = tokenise(self.tokenizer, self.reviews[TEXT].tolist())
        room = self.max_tokens - self.frame.size
        self.every_window = cut(self.tokens.lengths, room)
        self.some_windows = cut(self.tokens.lengths, room, self.train_windows)
        self._ready = True

    def _sample(self) -> np.ndarray:
        """Which reviews are read at all: a mask. By characters, so that what is left out is never tokenised."""
        cost = self.reviews[TEXT].str.len().to_numpy() / CHARACTERS_PER_TOKEN + self.frame.size
        train = (self.reviews["side"] == "train").to_numpy()
        if self.train_windows is not None:
            cost = np.where(train, np.minimum(cost, self.train_windows * self.max_tokens), cost)
        kept = np.zeros(len(cost), bool)
        for side in SIDES:
            rows = np.flatnonzero(self.reviews["side"] == side)
            budget = self.max_train_tokens if side == "train" else self.max_eval_tokens
            source = self.reviews[SOURCE].to_numpy(object)[rows]
            kept[rows] = sample_by_cost(cost[rows], source, budget, self.seed)
        return kept

    # -- rows ----------------------------------------------------------------------------------------------------

    def rows(self, side: str) -> np.ndarray:
        """Positions in `reviews`: of one side, or of what is being trained on (`fit`)."""
        sides = self.reviews["side"].to_numpy(object)
        if side != "fit":
            return np.flatnonzero(sides == side)
        train, held_out = np.flatnonzero(sides == "train"), np.flatnonzero(sides != "train")
        if self.fit_on == "train":
            return train
        if not self.warm_refit:
            return np.arange(len(sides))
        # A held-out review is seen as often as the others were, each time beside one that is known already, so
        # that nothing is forgotten.
        replayed = np.random.default_rng(self.seed).permutation(train)[: len(held_out)]
        return np.concatenate([held_out, replayed])

    def bag_data(self) -> tuple[Tokens, np.ndarray, np.ndarray]:
        """What the bag of n-grams is fitted on: tokens, positions of the reviews, and whether each is positive."""
        sides = self.reviews["side"].to_numpy(object)
        rows = np.flatnonzero(sides == "train") if self.fit_on == "train" else np.arange(len(sides))
        return self.tokens, rows, self.reviews["positive"].to_numpy(bool)[rows]

    def windows(self, side: str) -> Windows:
        return self.some_windows if side == "fit" else self.every_window

    def keep_frozen_states(self, lower: Lower, size: int) -> None:
        """Compute the frozen layers' outputs for all that the coming fit reads; its batches then hold `hidden`.

        Raises:
            UserError: augmentation is on, which makes every epoch's texts new.
        """
        if self.word_dropout or self.token_masking or self.random_windows:
            raise UserError(
                "--model.cache_frozen true cannot go with --data.word_dropout, --data.token_masking or "
                "--data.random_windows: augmented texts are new in every epoch; set it to false."
            )
        self.states = self.states or FrozenStates(size)
        for side in ("fit", "validation"):
            self.states.add(self.tokens, self.windows(side).of(self.rows(side)), self.frame, lower)

    # -- batches -------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Any]:
        rows = self.rows("fit")
        lengths = np.minimum(self.tokens.lengths[rows], self.max_tokens)
        batches = LengthBuckets(lengths, self.batch_size, self.seed)
        return self._loader(ReviewBatches(self, rows, "fit", self.states), batches)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader("validation", self.states)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test reviews: predictions beside a truth. Whole tables are for `python score.py reviews`."""
        return self.loader("test")

    def ids(self, side: str) -> list[str]:
        return self.reviews[REVIEW_ID].iloc[self.rows(side)].tolist()

    def loader(self, side: str, states: FrozenStates | None = None) -> DataLoader[Any]:
        """Every window of one side's reviews, longest reviews first."""
        rows = self.rows(side)
        windows = self.every_window.of(rows)
        cost = np.bincount(windows.text, windows.length + self.frame.size, minlength=len(self.reviews))[rows]
        batches = [batch.tolist() for batch in batches_by_length(cost, self.eval_batch_tokens)]
        return self._loader(ReviewBatches(self, rows, side, states), batches)

    def _loader(self, dataset: "ReviewBatches", batches: Any) -> DataLoader[Any]:
        # The sampler gives lists of positions, which Lightning can share out among processes as they are.
        return DataLoader(dataset, sampler=batches, batch_size=None, num_workers=self.num_workers, pin_memory=pinned())

    def save(self, run: Path) -> None:
        """Write tokenizer and encoder configuration, so that the run predicts without the hub."""
        save_encoder_files(self.tokenizer, self.encoder, run / encoders.FOLDER)


class ReviewBatches(Dataset[dict[str, Any]]):
    """Batches by a list of positions in `rows`."""

    def __init__(self, data: ReviewData, rows: np.ndarray, side: str, states: FrozenStates | None) -> None:
        self.data, self.rows, self.side, self.states = data, rows, side, states
        self.labels = torch.from_numpy(data.reviews["positive"].to_numpy(np.float32))
        self.ids = data.reviews[REVIEW_ID].tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: list[int]) -> dict[str, Any]:
        data, rows = self.data, self.rows[positions]
        windows = data.windows(self.side).of(rows)
        if self.side == "fit" and data.random_windows:
            order = np.argsort(windows.text, kind="stable")
            windows = Windows(windows.text[order], windows.start[order], windows.length[order])
            windows = scatter(windows, data.tokens.lengths, torch.rand(len(order)).numpy()).of(rows)
        batch = window_batch(data.tokens, windows, data.frame, self.states)
        if self.side == "fit" and "input_ids" in batch:
            augment(batch, data.frame, data.word_dropout, data.token_masking)
        if self.side != "fit":
            batch["length"] = torch.from_numpy(data.tokens.lengths[rows])
        if self.side != "fit" and data.ngram_buckets:
            review, ngram = ngrams_of(data.tokens, rows, data.ngram_buckets)
            batch["ngram"], batch["ngram_review"] = torch.from_numpy(ngram), torch.from_numpy(review)
        batch["label"] = self.labels[rows]
        batch["review_id"] = [self.ids[row] for row in rows]
        return batch


def window_batch(tokens: Tokens, windows: Windows, frame: Frame, states: FrozenStates | None = None) -> dict[str, Any]:
    """The model's part of a batch (see the module's docstring); the windows of a text lie together."""
    review = np.cumsum(np.diff(windows.text, prepend=windows.text[:1]) != 0)  # the rows are distinct
    batch: dict[str, Any] = {
        "review": torch.from_numpy(review),
        "windows": torch.from_numpy(np.bincount(review).astype(np.float32)),
    }
    if states is not None and states.has(windows):
        batch["hidden"] = states.get(windows)
        size = torch.from_numpy(windows.length + frame.size)
        batch["mask"] = torch.arange(batch["hidden"].shape[1])[None, :] < size[:, None]
    else:
        batch["input_ids"], batch["mask"] = pad(tokens, windows, frame)
    batch["padded"] = not bool(batch["mask"].all())
    return batch


def augment(batch: dict[str, Any], frame: Frame, word_dropout: float, token_masking: float) -> None:
    """Leave out and mask tokens at random, in place; the tokens of the frame stay."""
    ids, mask = batch["input_ids"], batch["mask"]
    size = mask.sum(1, keepdim=True)
    column = torch.arange(ids.shape[1])
    inner = mask & (column >= len(frame.before)) & (column < size - len(frame.after))
    if token_masking and frame.mask is not None:
        ids[inner & (torch.rand(ids.shape) < token_masking)] = frame.mask
    if word_dropout:
        stays = mask & ~(inner & (torch.rand(ids.shape) < word_dropout))
        order = torch.argsort(~stays, dim=1, stable=True)  # what stays moves to the front, in its order
        longest = int(stays.sum(1).max())
        mask = torch.gather(stays, 1, order)[:, :longest]
        batch["input_ids"] = torch.gather(ids, 1, order)[:, :longest].masked_fill(~mask, frame.pad)
        batch["mask"], batch["padded"] = mask, not bool(mask.all())


class LengthBuckets(Sampler[list[int]]):
    """Shuffled batches of similar length: stretches of the shuffled rows are sorted by length and cut into batches.

    Little padding, and still a new composition in each epoch.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        shuffled = rng.permutation(len(self.lengths))
        stretch = self.batch_size * _BUCKET_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), stretch):
            part = shuffled[start : start + stretch]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch_size].tolist() for i in range(0, len(part), self.batch_size)]
        for i in rng.permutation(len(batches)):
            yield batches[i]


def sample_by_cost(cost: np.ndarray, source: np.ndarray, budget: float | None, seed: int) -> np.ndarray:
    """A seeded mask over rows whose cost adds up to about `budget`; None: all rows.

    A label teaches as much on a short text as on a long one and costs less, so the source with the shorter texts is
    served first, with at most four fifths of what is left: the others are never without.
    """
    if budget is None or cost.sum() <= budget:
        return np.ones(len(cost), bool)
    kept = np.zeros(len(cost), bool)
    rng = np.random.default_rng(seed)
    _, code = np.unique(source.astype(str), return_inverse=True)
    order = np.argsort(np.bincount(code, cost) / np.bincount(code), kind="stable")
    left = float(budget)
    for position, name in enumerate(order):
        allowed = left * (FIRST_SHARE if position < len(order) - 1 else 1.0)
        rows = rng.permutation(np.flatnonzero(code == name))
        taken = rows[np.cumsum(cost[rows]) <= allowed]
        kept[taken] = True
        left -= cost[taken].sum()
    return kept


def save_encoder_files(tokenizer: Any, encoder: str, folder: Path) -> None:
    """Tokenizer and configuration, a few hundred kilobytes of JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    write_json(folder / "config.json", json.loads(encoders.load_config(encoder)))
