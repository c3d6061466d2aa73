"""From one reading of texts to what the aspect finder takes; the same for teaching it and for asking it."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nlp.aspects import NGRAM_BUCKETS, AspectFinder, Sentences
from nlp.ngrams import ngrams_of
from nlp.reading import Spans, means, speaking, sum_by_sentence, tokens_of
from nlp.sentiment import SentimentModule


def sentence_features(
    finder: AspectFinder, clauses: Sequence[str], flat: np.ndarray, spans: Spans, token_aspect: Tensor
) -> tuple[np.ndarray, Sentences]:
    """Key words of each clause, (clauses, aspects), and the features of each sentence.

    Args:
        clauses: the text of each of `spans.clauses`.
        flat: tokens of all texts.
        token_aspect: states (all tokens, size) or their linear reading (all tokens, aspects).
    """
    keywords = finder.keywords.count(clauses)
    row, gram = ngrams_of(*tokens_of(flat, spans.first, spans.last), NGRAM_BUCKETS)
    state = means(token_aspect, spans.first, spans.last)
    return keywords, Sentences(sum_by_sentence(keywords, spans), row, gram, state)


def mood_logits(
    module: SentimentModule,
    flat: np.ndarray,
    spans: Spans,
    keywords: np.ndarray,
    token_logit: Tensor,
    logit: np.ndarray,
    sentence: np.ndarray,
    aspect: np.ndarray,
) -> np.ndarray:
    """What `AspectFinder.sentiment` takes, for each mention: of the tokens that speak, of the bag, of the text.

    Args:
        keywords: of each clause, (clauses, aspects).
        token_logit: (all tokens,).
        logit: of each text, (texts,).
        sentence: which sentence a mention stands in, (mentions,).
        aspect: which aspect it is of, (mentions,).

    Returns:
        Shape: (mentions, 3).
    """
    first, last = speaking(spans, keywords, sentence, aspect)
    of_tokens, of_bag = means(token_logit, first, last), bag_logits(module, flat, first, last)
    return np.stack([of_tokens, of_bag, logit[spans.text[sentence]]], 1)


def bag_logits(module: SentimentModule, flat: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The n-gram bag's logit of stretches of tokens, which may come several times; 0 without a bag. (stretches,)."""
    if module.bag is None or not len(first):
        return np.zeros(len(first))
    distinct, back = np.unique(np.stack([first, last], 1), axis=0, return_inverse=True)
    logits = np.zeros(len(distinct))
    # A clause and the sentence around it overlap: each length of overlap is a reading of its own.
    left = np.arange(len(distinct))
    while len(left):
        apart = np.concatenate([[True], distinct[left[1:], 0] >= np.maximum.accumulate(distinct[left, 1])[:-1]])
        now, left = left[apart], left[~apart]
        logits[now] = module.bag.logits(*tokens_of(flat, distinct[now, 0], distinct[now, 1]))
    return logits[back]
