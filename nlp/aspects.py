"""Which aspects the sentences of a review speak of, and how.

For each aspect one logistic regression over a sentence (a span of nlp/sentences.py), fitted on sentences labelled by
hand (docs/aspect-labels.md):

    logit = weight of key words · min(key words of the aspect, 2)  +  sum of weights of the sentence's n-grams
            +  mean over its tokens of a linear reading of the encoder's states after `layer` layers  +  bias

The states come from the pass that the review's sentiment needs anyway, so aspects cost no second one; what the sentence
lies in is in them. An aspect that no label teaches (a service's own, say price) goes by its key words alone.

How a sentence speaks is another logistic regression, the same for all aspects, on the mean of its tokens' sentiment
logits, the n-gram bag's logit of the sentence alone, and the review's logit.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch
import yaml
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from torch import nn

from data.atomic import atomic_file
from data.errors import UserError

CONFIG = Path(__file__).parent / "aspects.yaml"
TRAIN_LABELS = Path(__file__).parent / "labels" / "aspects-train.csv"
FILE = "aspects.npz"  # in a run
NGRAM_BUCKETS = 2**14
LEAST_LABELLED = 20  # sentences with an aspect, to learn it from labels
_THRESHOLD = 0.35  # where no label says
_KEYWORD_SCALE, _NGRAM_SCALE, _STATE_SCALE = 2.0, 0.4, 0.1  # how freely each part moves, by cross-validation
_INVERSE_L2 = 0.5
_FOLDS = 5
_BY_WORDS = (4.0, -3.0)  # weight of a key word, and bias, where there are no labels: p = 0.05 without, 0.73 with one
_WORD = re.compile(r"\w[\w'’-]*")


class Sentences(NamedTuple):
    """What the finder knows of sentences."""

    keywords: np.ndarray  # (sentences, aspects): key words of each aspect
    ngram_row: np.ndarray  # (n-grams,): sentence of each hashed n-gram
    ngram: np.ndarray  # (n-grams,): its bucket
    state: np.ndarray  # in fitting (sentences, size): mean state; in reading (sentences, aspects): its linear reading


def read_config(path: Path = CONFIG) -> dict[str, list[str]]:
    """Aspects and their key words.

    Raises:
        UserError: not a YAML mapping of names to lists of words.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as failure:
        raise UserError(
            f"--aspects {path} cannot be read ({str(failure).splitlines()[0]}): see nlp/aspects.yaml."
        ) from None
    sound = isinstance(content, dict) and all(isinstance(words, list) and words for words in content.values())
    if not sound or not content:
        raise UserError(f"--aspects {path}: give each aspect a list of key words, as nlp/aspects.yaml does.")
    return {str(name): [str(word) for word in words] for name, words in content.items()}


class KeyWords:
    """Counts of key words in sentences. `direct*` stands for every word that begins so; a phrase counts as one word."""

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        single = [[w.lower() for w in of if " " not in w] for of in words.values()]
        self._single = [re.compile("|".join(map(_pattern, of)) or r"(?!)") for of in single]
        self._phrase = [
            re.compile(rf"\b(?:{'|'.join(map(_pattern, of))})\b") if of else None
            for of in ([w.lower() for w in of if " " in w] for of in words.values())
        ]

    def count(self, sentences: Sequence[str]) -> np.ndarray:
        """Shape: (sentences, aspects)."""
        lowered = [sentence.lower() for sentence in sentences]
        found = [_WORD.findall(sentence) for sentence in lowered]
        code, vocabulary = pd.factorize(np.array([word for words in found for word in words], object))
        hit = np.array([[p.fullmatch(word) is not None for p in self._single] for word in vocabulary], float)
        hit = hit.reshape(len(vocabulary), len(self._single))
        row = np.repeat(np.arange(len(found)), [len(words) for words in found])
        where = scipy.sparse.csr_matrix((np.ones(len(code)), (row, code)), shape=(len(found), len(vocabulary)))
        counts = np.asarray(where @ hit)
        for aspect, phrase in enumerate(self._phrase):
            if phrase is not None:
                counts[:, aspect] += [len(phrase.findall(sentence)) for sentence in lowered]
        return counts


def _pattern(word: str) -> str:
    return re.escape(word).replace(r"\*", r"[\w'’-]*")


class AspectFinder:
    """A linear model for each aspect; see the module's docstring. Make one with `fit` or `load`."""

    def __init__(self, arrays: Mapping[str, np.ndarray], words: Mapping[str, Sequence[str]], layer: int) -> None:
        self.arrays = dict(arrays)
        self.words = {name: list(of) for name, of in words.items()}
        self.names = list(self.words)
        self.layer = layer

    @cached_property
    def keywords(self) -> KeyWords:
        return KeyWords(self.words)

    def mentions(self, sentences: Sentences) -> np.ndarray:
        """Probability that a sentence speaks of each aspect, (sentences, aspects); `state` is the linear reading."""
        a = self.arrays
        logit = a["bias"] + a["keyword"] * np.minimum(sentences.keywords, 2) + sentences.state
        grams = _gram_matrix(sentences, len(logit))
        return expit(logit + grams @ a["ngram"])

    def sentiment(self, sentence: np.ndarray, bag: np.ndarray, review: np.ndarray) -> np.ndarray:
        """Probability that what a sentence says is positive, from three logits. All of shape (sentences,)."""
        return expit(np.stack([sentence, bag, review], 1) @ self.arrays["mood"][:3] + self.arrays["mood"][3])

    @classmethod
    def by_words(cls, words: Mapping[str, Sequence[str]], layer: int, size: int) -> "AspectFinder":
        """A finder that has learned nothing: one key word is enough, a sentence's sentiment is its tokens'."""
        n = len(words)
        arrays = {
            "keyword": np.full(n, _BY_WORDS[0]),
            "bias": np.full(n, _BY_WORDS[1]),
            "ngram": np.zeros((NGRAM_BUCKETS, n), np.float32),
            "state": np.zeros((n, size), np.float32),
            "threshold": np.array(_THRESHOLD),
            "mood": np.array([1.0, 0.0, 0.0, 0.0]),
        }
        return cls(arrays, words, layer)

    def linear(self) -> nn.Linear:
        """The reading of the encoder's states, for nlp/engines.py."""
        layer = nn.Linear(self.arrays["state"].shape[1], len(self.names), bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.arrays["state"]))
        return layer

    def save(self, run: Path) -> None:
        with atomic_file(run / FILE) as temporary, temporary.open("wb") as handle:
            words = np.array(yaml.safe_dump(self.words, sort_keys=False))
            content: dict[str, Any] = {"words": words, "layer": np.array(self.layer), **self.arrays}
            np.savez_compressed(handle, **content)

    @classmethod
    def load(cls, run: Path) -> "AspectFinder | None":
        """The finder of a run, None if it has none.

        Raises:
            UserError: the file is damaged.
        """
        path = run / FILE
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return cls(arrays, yaml.safe_load(str(arrays.pop("words"))), int(arrays.pop("layer")))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, yaml.YAMLError):
            raise UserError(f"{path} is damaged: make it again with 'python -m nlp aspects'.") from None


def _gram_matrix(sentences: Sentences, n: int) -> scipy.sparse.csr_matrix:
    one = np.ones(len(sentences.ngram))
    return scipy.sparse.csr_matrix((one, (sentences.ngram_row, sentences.ngram)), shape=(n, NGRAM_BUCKETS))


def fit(
    words: Mapping[str, Sequence[str]],
    layer: int,
    sentences: Sentences,
    mentioned: np.ndarray,
    group: np.ndarray,
    random: np.ndarray,
) -> tuple[AspectFinder, np.ndarray]:
    """Learn the mentions from labelled sentences; the sentiment is `fit_sentiment`'s.

    Args:
        sentences: their features, `state` being the mean states.
        mentioned: (sentences, aspects) bool.
        group: (sentences,) sentences of one group (a review) are in one fold.
        random: (sentences,) bool: drawn at random, not by key words; the threshold is chosen on these.

    Returns:
        The finder, and the probability of each mention from the folds that did not hold it, (sentences, aspects).
    """
    n, n_aspects = mentioned.shape
    mean, scale = sentences.state.mean(0), np.maximum(sentences.state.std(0), 1e-6)
    state = _STATE_SCALE * (sentences.state - mean) / scale
    grams = _NGRAM_SCALE * _gram_matrix(sentences, n)
    finder = AspectFinder.by_words(words, layer, sentences.state.shape[1])
    arrays = finder.arrays
    held_out = np.zeros(mentioned.shape)
    folds = list(GroupKFold(min(_FOLDS, len(np.unique(group)))).split(state, groups=group))
    learned = []
    for aspect in range(n_aspects):
        if mentioned[:, aspect].sum() < LEAST_LABELLED:
            continue
        keyword = _KEYWORD_SCALE * np.minimum(sentences.keywords[:, [aspect]], 2)
        features = scipy.sparse.hstack([keyword, state, grams]).tocsr()
        for train, test in folds:
            model = _regression(features[train], mentioned[train, aspect])
            held_out[test, aspect] = model.predict_proba(features[test])[:, 1]
        model = _regression(features, mentioned[:, aspect])
        weight, bias = model.coef_[0], model.intercept_[0]
        of_state = _STATE_SCALE * weight[1 : 1 + len(mean)] / scale
        arrays["keyword"][aspect] = _KEYWORD_SCALE * weight[0]
        arrays["state"][aspect] = of_state
        arrays["ngram"][:, aspect] = _NGRAM_SCALE * weight[1 + len(mean) :]
        arrays["bias"][aspect] = bias - of_state @ mean
        learned.append(aspect)
    arrays["threshold"] = np.array(_threshold(mentioned[random][:, learned], held_out[random][:, learned]))
    return finder, held_out


def _regression(features: Any, mentioned: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=_INVERSE_L2, max_iter=500).fit(features, mentioned)


def _threshold(mentioned: np.ndarray, p: np.ndarray) -> float:
    """The one threshold for all aspects with the best F1 over all of them together; single ones are too rare to say."""
    if not mentioned.any():
        return _THRESHOLD
    steps = np.arange(0.15, 0.65, 0.05)
    hits = np.array([(mentioned & (p > t)).sum() for t in steps])
    said = np.array([(p > t).sum() for t in steps])
    return float(steps[np.argmax(2 * hits / (mentioned.sum() + said))])


def fit_sentiment(finder: AspectFinder, logits: np.ndarray, positive: np.ndarray) -> None:
    """Set the finder's sentiment from labelled mentions that are not neutral.

    Args:
        logits: (mentions, 3): of the sentence's tokens, of the bag, of the review.
        positive: (mentions,) bool.
    """
    if min(positive.sum(), (~positive).sum()) < LEAST_LABELLED:
        return
    model = LogisticRegression(C=1.0).fit(logits, positive)
    finder.arrays["mood"] = np.append(model.coef_[0], model.intercept_[0])
