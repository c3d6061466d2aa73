"""Outputs of the frozen layers, computed once for each window and kept on disk in half precision.

On a CPU this is most of the training time: with four of six layers frozen an epoch runs two layers, not six.
"""

import tempfile
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data import home
from nlp.tokens import Frame, Tokens, Windows, batches_by_length, pad

Lower = Callable[[Tensor, Tensor], Tensor]  # (input_ids, mask) -> hidden states; all (windows, tokens[, size])

_BATCH_TOKENS = 4_096


class FrozenStates:
    """Hidden states of windows, by text and first token. Holds an unnamed file that goes with the object."""

    def __init__(self, size: int) -> None:
        folder = home.home()
        folder.mkdir(parents=True, exist_ok=True)
        self.size = size
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the object
        self._place: dict[tuple[int, int], tuple[int, int]] = {}  # (text, start) -> (first row in the file, rows)
        self._rows = 0
        self._states = np.zeros((0, size), np.float16)

    def has(self, windows: Windows) -> bool:
        return all(key in self._place for key in zip(windows.text.tolist(), windows.start.tolist(), strict=True))

    def add(self, tokens: Tokens, windows: Windows, frame: Frame, lower: Lower) -> None:
        """Compute what is not there yet, longest windows first, with a progress bar."""
        keys = list(zip(windows.text.tolist(), windows.start.tolist(), strict=True))
        missing = np.array([i for i, key in enumerate(keys) if key not in self._place], dtype=np.int64)
        if not len(missing):
            return
        length = windows.length[missing] + frame.size
        with tqdm(total=int(length.sum()), desc="Frozen layers, once", unit="token", unit_scale=True) as bar:
            for batch in batches_by_length(length, _BATCH_TOKENS):
                index = missing[batch]
                chosen = Windows(windows.text[index], windows.start[index], windows.length[index])
                ids, mask = pad(tokens, chosen, frame)
                states = lower(ids, mask)[mask].half().cpu().numpy()  # (all tokens of the batch, size)
                self._file.write(states.tobytes())
                for i, rows in zip(index.tolist(), length[batch].tolist(), strict=True):
                    self._place[keys[i]] = (self._rows, rows)
                    self._rows += rows
                bar.update(int(length[batch].sum()))
        self._file.flush()
        self._states = np.memmap(self._file, np.float16, "r", shape=(self._rows, self.size))

    def get(self, windows: Windows) -> Tensor:
        """Padded hidden states, half precision: (windows, longest, size)."""
        places = [self._place[key] for key in zip(windows.text.tolist(), windows.start.tolist(), strict=True)]
        padded = np.zeros((len(places), max(rows for _, rows in places), self.size), np.float16)
        for i, (first, rows) in enumerate(places):
            padded[i, :rows] = self._states[first : first + rows]
        return torch.from_numpy(padded)
