"""What the transformer has to beat: always the same answer, a lexicon, and bags of words with linear models."""

from typing import Protocol

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
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


class NBSVM:
    """Naive Bayes log-count ratios as scales of binary n-grams, and a linear model on them.

    Wang and Manning, "Baselines and bigrams: simple, good sentiment and topic classification" (2012), with the logistic
    loss in place of the hinge as in Mesnil et al., "Ensemble of generative and discriminative techniques for sentiment
    analysis of movie reviews" (2015), so that it gives probabilities. Its penalty was chosen on validation among 0.01,
    0.1 and 1.
    """

    def fit(self, texts: list[str], positive: np.ndarray) -> "NBSVM":
        self.words = CountVectorizer(ngram_range=(1, 2), binary=True, min_df=2, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
        counts = self.words.fit_transform([clean(text) for text in texts])
        good, bad = (1.0 + np.asarray(counts[side].sum(0))[0] for side in (positive, ~positive))
        self.ratio = scipy.sparse.diags(np.log(good / good.sum()) - np.log(bad / bad.sum()))
        self.model = LogisticRegression(C=0.1, max_iter=300).fit(counts @ self.ratio, positive)
        return self

    def predict(self, texts: list[str]) -> np.ndarray:
        if not texts:
            return np.zeros(0)
        return self.model.predict_proba(self.words.transform([clean(text) for text in texts]) @ self.ratio)[:, 1]


class Vader:
    """Hutto and Gilbert, "VADER: a parsimonious rule-based model for sentiment analysis of social media text" (2014).

    It learns nothing. Its compound score in [-1, 1], as (score + 1) / 2; a probability only in form.
    """

    def fit(self, texts: list[str], positive: np.ndarray) -> "Vader":
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self.analyser = SentimentIntensityAnalyzer()
        return self

    def predict(self, texts: list[str]) -> np.ndarray:
        score = [self.analyser.polarity_scores(clean(text))["compound"] for text in texts]
        return (np.array(score, float) + 1) / 2


def baselines() -> dict[str, Baseline]:
    """Every baseline by its name in reports."""
    return {
        "majority": Majority(),
        "VADER": Vader(),
        "TF-IDF + logistic regression": BagOfWords(),
        "NB-SVM": NBSVM(),
    }
