"""One pass over texts that gives everything: each text's logit, each sentence's, and what its aspects need.

A text is tokenised in segments, each from the end of one clause to the end of the next, so that it is known which
tokens are a clause's or a sentence's without asking for offsets. Windows go through an engine (nlp/engines.py), whose
logits of tokens are put back in their place; where windows overlap a token has their mean. A window's logit is the mean
of its tokens', those of the frame included, and a text's the mean of its windows', as in training.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nlp.engines import BATCH_TOKENS, Engine, read, window_logits
from nlp.sentences import clause_spans, sentence_spans
from nlp.tokens import Frame, Tokens, Windows, cut, tokenise


class Spans(NamedTuple):
    """Sentences of texts, ordered by text and place."""

    text: np.ndarray  # (sentences,): position of its text
    start: np.ndarray  # (sentences,): characters of the original text
    end: np.ndarray
    first: np.ndarray  # (sentences,): its tokens are first .. last - 1 of `Tokens.flat`
    last: np.ndarray
    clauses: "Clauses"


class Clauses(NamedTuple):
    """Clauses of the sentences, ordered by sentence and place; fields as in `Spans`."""

    sentence: np.ndarray
    start: np.ndarray
    end: np.ndarray
    first: np.ndarray
    last: np.ndarray


class Reading(NamedTuple):
    """What an engine says of texts."""

    logit: np.ndarray  # (texts,): the encoder's, the bag not counted
    token_logit: Tensor | None  # (all tokens,); None unless asked for
    token_aspect: Tensor | None  # (all tokens, aspects); None unless asked for, or without aspects


def tokenise_sentences(tokenizer: Any, texts: Sequence[str]) -> tuple[Tokens, Spans]:
    """Tokens of texts and the sentences in them; a text without a sentence has tokens all the same."""
    segments: list[str] = []
    owner: list[int] = []
    sentences: list[tuple[int, int, int]] = []  # text, first and last character
    clauses: list[tuple[int, int, int, int]] = []  # sentence, first and last character, segment
    for i, text in enumerate(texts):
        at = 0
        for start, end in sentence_spans(text):
            for first, last in clause_spans(text, start, end):
                clauses.append((len(sentences), first, last, len(segments)))
                segments.append(text[at:last])
                owner.append(i)
                at = last
            sentences.append((i, start, end))
        segments.append(text[at:])
        owner.append(i)
    pieces = tokenise(tokenizer, segments)
    lengths = np.bincount(owner, pieces.lengths, minlength=len(texts)).astype(np.int64)
    tokens = Tokens(pieces.flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return tokens, spans_of(pieces, np.array(sentences, np.int64).reshape(-1, 3), np.array(clauses, np.int64))


def spans_of(pieces: Tokens, sentences: np.ndarray, clauses: np.ndarray) -> Spans:
    """Spans from rows of text, start and end, and of sentence, start, end and segment of `pieces`."""
    of_sentence, start, end, segment = clauses.reshape(-1, 4).T
    first, last = pieces.offsets[segment], pieces.offsets[segment + 1]
    found = Clauses(of_sentence, start, end, first, last)
    places = np.arange(len(sentences))
    head = np.searchsorted(of_sentence, places, "left")
    tail = np.searchsorted(of_sentence, places, "right") - 1
    text, begins, ends = sentences.T
    return Spans(text, begins, ends, first[head], last[tail], found)


def tokens_of(flat: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[Tokens, np.ndarray]:
    """Stretches of `flat` as texts of their own: their `Tokens`, and which of its texts they are (gaps are the others).

    The stretches are in order and do not overlap.
    """
    offsets = np.concatenate([np.stack([first, last], 1).ravel(), [len(flat)]])
    return Tokens(flat, offsets), 2 * np.arange(len(first))


def read_texts(
    engine: Engine, tokens: Tokens, frame: Frame, max_tokens: int, by_token: bool, progress: bool = False
) -> Reading:
    """Every window of every text through `engine`.

    Args:
        tokens: of the texts, in their order.
        max_tokens: of a window, its frame counted.
        by_token: whether each token's logits are wanted too.
    """
    windows = cut(tokens.lengths, max_tokens - frame.size)
    of_window = np.zeros(len(windows.text))
    n_tokens = len(tokens.flat)
    total = torch.zeros(n_tokens) if by_token else None
    aspect: Tensor | None = None
    with tqdm(total=len(of_window), desc="Windows", disable=not progress) as bar:
        for index, mask, logits, aspects in read(engine, tokens, windows, frame, BATCH_TOKENS):
            of_window[index] = window_logits(logits, mask).cpu().numpy()
            if total is not None:
                place, inner = _places(tokens, windows, index, frame, mask)
                total.index_add_(0, place, logits.cpu()[inner])
                if aspects is not None:
                    aspect = torch.zeros(n_tokens, aspects.shape[-1]) if aspect is None else aspect
                    aspect.index_add_(0, place, aspects.cpu()[inner])
            bar.update(len(index))
    logit = np.bincount(windows.text, of_window) / np.bincount(windows.text) if len(of_window) else of_window
    if total is None:
        return Reading(logit, None, None)
    seen = torch.from_numpy(_times_seen(tokens, windows)).clamp_min_(1)
    return Reading(logit, total / seen, None if aspect is None else aspect / seen[:, None])


def _places(tokens: Tokens, windows: Windows, index: np.ndarray, frame: Frame, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where a batch's tokens lie in `tokens.flat`, and which cells of the batch they are (frame and padding not)."""
    column = np.arange(mask.shape[1]) - len(frame.before)
    inner = (column[None, :] >= 0) & (column[None, :] < windows.length[index][:, None])
    first = tokens.offsets[windows.text[index]] + windows.start[index]
    return torch.from_numpy((first[:, None] + column)[inner]), torch.from_numpy(inner)


def _times_seen(tokens: Tokens, windows: Windows) -> np.ndarray:
    """In how many windows each token is. Shape: (all tokens,), float32."""
    first = tokens.offsets[windows.text] + windows.start
    change = np.bincount(first, minlength=len(tokens.flat) + 1) - np.bincount(
        first + windows.length, minlength=len(tokens.flat) + 1
    )
    return np.cumsum(change[: len(tokens.flat)]).astype(np.float32)


def means(values: Tensor, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean over stretches of tokens: (all tokens[, aspects]) to (stretches[, aspects]); 0 without tokens."""
    total = torch.cat([torch.zeros_like(values[:1], dtype=torch.float64), values.double().cumsum(0)])
    count = np.maximum(last - first, 1)
    sums = (total[torch.from_numpy(last)] - total[torch.from_numpy(first)]).numpy()
    return sums / (count if sums.ndim == 1 else count[:, None])


def sum_by_sentence(by_clause: np.ndarray, spans: Spans) -> np.ndarray:
    """(clauses, aspects) summed to (sentences, aspects)."""
    total = np.zeros((len(spans.text), by_clause.shape[1]))
    np.add.at(total, spans.clauses.sentence, by_clause)
    return total


def speaking(
    spans: Spans, keywords: np.ndarray, sentence: np.ndarray, aspect: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that say how a sentence speaks of an aspect: its first clause with a key word of it, else all of it.

    "The acting is superb, but the script is a mess" is positive about the one and negative about the other.

    Args:
        keywords: (clauses, aspects) key words of each aspect in each clause.
        sentence, aspect: (mentions,) positions.

    Returns:
        First and last token (exclusive), both (mentions,).
    """
    clause, of = np.nonzero(keywords)
    key = spans.clauses.sentence[clause] * keywords.shape[1] + of
    known, at = np.unique(key, return_index=True)  # the first, because clauses are in order
    wanted = sentence * keywords.shape[1] + aspect
    place = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    if not len(known):
        return spans.first[sentence], spans.last[sentence]
    there = known[place] == wanted
    chosen = clause[at[place]]
    first = np.where(there, spans.clauses.first[chosen], spans.first[sentence])
    last = np.where(there, spans.clauses.last[chosen], spans.last[sentence])
    return first, last
