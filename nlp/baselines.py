"""What the transformer has to beat: always the same answer, and a bag of words with a linear model."""

from typing import Protocol

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from nlp.tokens import clean


class Baseline(Protocol):
    """Learns from texts and says how probable it is that a text is positive."""

    def fit(self, texts: list[str], positive: np.ndarray) -> "Baseline": ...

    def predict(self, texts: list[str]) -> np.ndarray: ...


class Majority:
    """The share of positives in training, for every text."""

    def fit(self, texts: list[str], positive: np.ndarray) -> "Majority":
        self.share = float(positive.mean())
        return self

    def predict(self, texts: list[str]) -> np.ndarray:
        return np.full(len(texts), self.share)


class BagOfWords:
    """TF-IDF of words and word pairs, L2-regularised logistic regression on it.

    The settings are the usual ones for reviews and were not tuned here.
    """

    def fit(self, texts: list[str], positive: np.ndarray) -> "BagOfWords":
        # Words of one letter stay: "a" and "i" are part of pairs.
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"(?u)\b\w+\b")
        self.model = make_pipeline(words, LogisticRegression(C=4.0, max_iter=200))
        self.model.fit([clean(text) for text in texts], positive)
        return self

    def predict(self, texts: list[str]) -> np.ndarray:
        return self.model.predict_proba([clean(text) for text in texts])[:, 1] if texts else np.zeros(0)


def baselines() -> dict[str, Baseline]:
    """Every baseline by its name in reports."""
    return {"majority": Majority(), "TF-IDF + logistic regression": BagOfWords()}
