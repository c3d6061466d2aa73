"""Texts to token windows, and windows to padded batches.

A text of any length becomes one or more overlapping windows of at most `max_tokens`, evenly spread so that the first
begins at its first token and the last ends at its last: nothing is cut off. The windows of a text are of one length and
no longer than it takes: of 290 tokens three windows of 105, not three full ones of 126.
Tokens of many texts lie one after the other in one flat array with offsets; nothing is padded before it is a batch.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

OVERLAP = 0.125  # of a window: a phrase cut by one window's edge stands whole in the next
TOKENS_ALONE: dict[str, Any] = {  # how a tokenizer is asked for all of a text's tokens and nothing else
    "add_special_tokens": False,
    "truncation": False,
    "padding": False,
    "return_attention_mask": False,
    "return_token_type_ids": False,
    "verbose": False,
}
LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


def clean(text: str) -> str:
    """The text without the line-break tags and null bytes that review sites leave in it.

    >>> clean("Good.<br /><br />Very good.")
    'Good.  Very good.'
    """
    text = LINE_BREAK.sub(" ", text) if "<" in text else text
    return text.replace("\x00", " ")


@dataclass(frozen=True)
class Tokens:
    """Tokens of many texts, without special tokens: text i is `flat[offsets[i]:offsets[i + 1]]`."""

    flat: np.ndarray  # int32 (all tokens,)
    offsets: np.ndarray  # int64 (texts + 1,)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def tokenise(tokenizer: Any, texts: Sequence[str], chunk: int = 2_000) -> Tokens:
    """All tokens of all texts. In chunks, because the tokenizer's own result takes a hundred bytes a token."""
    parts: list[np.ndarray] = []
    lengths: list[int] = []
    for start in range(0, len(texts), chunk):
        cleaned = [clean(text) for text in texts[start : start + chunk]]
        ids = tokenizer(cleaned, **TOKENS_ALONE)["input_ids"]
        parts += [np.asarray(i, dtype=np.int32) for i in ids]
        lengths += [len(i) for i in ids]
    flat = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    return Tokens(flat, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))


@dataclass(frozen=True)
class Windows:
    """Windows of texts, ordered by text; `text` counts from 0 in the `Tokens` that they were cut from."""

    text: np.ndarray  # int64 (windows,)
    start: np.ndarray  # int64 (windows,), first token within its text
    length: np.ndarray  # int64 (windows,), without special tokens

    def of(self, texts: np.ndarray) -> "Windows":
        """The windows of `texts`, in the order of `texts`."""
        first = np.searchsorted(self.text, texts, "left")
        count = np.searchsorted(self.text, texts, "right") - first
        index = np.repeat(first - np.concatenate([[0], np.cumsum(count)[:-1]]), count) + np.arange(count.sum())
        return Windows(self.text[index], self.start[index], self.length[index])


def cut(lengths: np.ndarray, room: int, most: int | None = None) -> Windows:
    """Windows of at most `room` tokens over texts of the given lengths; each text has at least one, an empty one too.

    Args:
        lengths: tokens of each text. Shape: (texts,).
        room: tokens in a window, special tokens not counted.
        most: at most so many windows of a text, still spread from its first to its last token. None: as many as it
            takes to cover every token with neighbours overlapping by an eighth of a full window.
    """
    overlap = int(room * OVERLAP)
    wanted = 1 + np.ceil(np.maximum(lengths - room, 0) / max(1, room - overlap)).astype(np.int64)
    count = wanted if most is None else np.minimum(wanted, most)
    enough = np.ceil((lengths + (count - 1) * overlap) / count).astype(np.int64)
    size = np.minimum(np.where(count < wanted, room, enough), np.minimum(lengths, room))
    text = np.repeat(np.arange(len(lengths)), count)
    place = np.arange(len(text)) - np.repeat(np.cumsum(count) - count, count)
    slack = (lengths - size)[text]
    start = np.round(place * slack / np.maximum(count[text] - 1, 1)).astype(np.int64)
    return Windows(text, start, size[text])


def scatter(windows: Windows, lengths: np.ndarray, chance: np.ndarray) -> Windows:
    """The windows moved by chance: each of a text's n windows starts anywhere in its n-th of the possible starts.

    Args:
        windows: all windows of each text together.
        lengths: tokens of each text. Shape: (texts,).
        chance: a number in [0, 1) for each window. Shape: (windows,).
    """
    first = np.searchsorted(windows.text, windows.text, "left")
    count = np.searchsorted(windows.text, windows.text, "right") - first
    starts = lengths[windows.text] - windows.length + 1
    place = np.arange(len(first)) - first
    start = np.minimum(((place + chance) / count * starts).astype(np.int64), starts - 1)  # a chance may round up to 1
    return Windows(windows.text, start, windows.length)


@dataclass(frozen=True)
class Frame:
    """What a tokenizer puts around every text, and its padding and mask tokens."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    mask: int | None

    @property
    def size(self) -> int:
        return len(self.before) + len(self.after)


def frame_of(tokenizer: Any) -> Frame:
    """Learn the frame from what the tokenizer does to one letter."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return Frame(tuple(framed[:at]), tuple(framed[at + len(bare) :]), pad, tokenizer.mask_token_id)


def pad(tokens: Tokens, windows: Windows, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """Framed windows as `input_ids` and `mask` (true where there is a token). Both: (windows, longest)."""
    size = windows.length + frame.size
    column = np.arange(size.max(initial=0))
    inner = column[None, :] - len(frame.before)  # (windows, longest): position within the window
    content = (inner >= 0) & (inner < windows.length[:, None])
    ids = np.full(content.shape, frame.pad, dtype=np.int64)
    source = (tokens.offsets[windows.text] + windows.start)[:, None] + inner
    ids[content] = tokens.flat[source[content]]
    for i, token in enumerate(frame.before):
        ids[:, i] = token
    for i, token in enumerate(frame.after):
        ids[np.arange(len(size)), len(frame.before) + windows.length + i] = token
    return torch.from_numpy(ids), torch.from_numpy(column[None, :] < size[:, None])


def batches_by_length(length: np.ndarray, most_tokens: int) -> Iterator[np.ndarray]:
    """Positions in order of falling length, in batches of at most `most_tokens` padded tokens (or one position).

    Longest first: if memory does not suffice, that shows at once.
    """
    order = np.argsort(-length, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, most_tokens // max(1, int(length[order[start]])))
        yield order[start : start + rows]
        start += rows
