"""A weighted bag of n-grams beside the encoder: single tokens and pairs, hashed, with a linear logit.

    logit = sum over the text's distinct n-grams g of weight[g] · idf[g] / norm + bias,    norm² = sum of idf[g]²

The weights are those of a logistic regression with an L2 penalty (the convex problem is solved, not stepped through),
idf[g] = log((1 + texts) / (1 + texts with g)) + 1. N-grams share buckets by a hash of their token ids (Weinberger et
al., "Feature hashing for large scale multitask learning", 2009), so that the weights are one vector of fixed length.

What it is for: a small encoder trained for an epoch on a few thousand texts knows the language but not yet the rare
words and fixed phrases of reviews; a linear bag knows little else. Their errors differ, so their sum makes fewer.
"""

import numpy as np
import scipy.sparse
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from nlp.tokens import Tokens

_MIX = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: neighbouring ids land far apart


def ngrams_of(tokens: Tokens, texts: np.ndarray, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct hashed n-grams of `texts`, as pairs ordered by text.

    Args:
        tokens: of many texts.
        texts: positions in `tokens`, distinct.
        buckets: how many there are.

    Returns:
        Position in `texts` and bucket, both of shape (n-grams,), int64.
    """
    first, size = tokens.offsets[texts], tokens.lengths[texts]
    at = np.arange(size.sum()) + np.repeat(first - (np.cumsum(size) - size), size)
    row = np.repeat(np.arange(len(texts)), size)
    ids = tokens.flat[at].astype(np.uint64) + np.uint64(1)
    pairs = (row[1:] == row[:-1]).nonzero()[0]
    hashed = np.concatenate([_scatter(ids), _scatter(_scatter(ids[pairs]) + ids[pairs + 1])])
    bucket = (hashed % np.uint64(buckets)).astype(np.int64)
    distinct = np.unique(np.concatenate([row, row[pairs]]) * buckets + bucket)
    return distinct // buckets, distinct % buckets


def _scatter(values: np.ndarray) -> np.ndarray:
    """Multiplicative hash with its high bits folded into the low ones; uint64 arithmetic wraps around."""
    product = values * np.uint64(_MIX)
    return product ^ (product >> np.uint64(32))


class NGramBag(nn.Module):
    """The bag's weights; zeros until `fit`."""

    idf: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.register_buffer("idf", torch.ones(buckets))
        self.register_buffer("weight", torch.zeros(buckets))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, ngram: Tensor, text: Tensor, like: Tensor) -> Tensor:
        """Logits of texts: buckets (n-grams,) and the text of each (n-grams,) to (texts,), the shape of `like`."""
        idf = self.idf[ngram]
        square = torch.zeros_like(like, dtype=idf.dtype).index_add(0, text, idf.square())
        total = torch.zeros_like(like, dtype=idf.dtype).index_add(0, text, idf * self.weight[ngram])
        return total / square.clamp_min(1e-12).sqrt() + self.bias

    def fit(self, tokens: Tokens, texts: np.ndarray, positive: np.ndarray, inverse_l2: float) -> None:
        """Set the weights to the optimum on `texts`. `positive`: (texts,), bool, with both values in it."""
        row, bucket = ngrams_of(tokens, texts, self.buckets)
        idf = np.log((1 + len(texts)) / (1 + np.bincount(bucket, minlength=self.buckets))) + 1
        norm = np.sqrt(np.bincount(row, idf[bucket] ** 2, minlength=len(texts)))
        value = idf[bucket] / np.maximum(norm[row], 1e-6)
        features = scipy.sparse.csr_matrix((value, (row, bucket)), shape=(len(texts), self.buckets))
        model = LogisticRegression(C=inverse_l2, max_iter=300).fit(features, positive)
        self.idf.copy_(torch.from_numpy(idf))
        self.weight.copy_(torch.from_numpy(model.coef_[0]))
        self.bias.copy_(torch.tensor(float(model.intercept_[0])))

    def logits(self, tokens: Tokens, texts: np.ndarray) -> np.ndarray:
        """Logits of `texts` of `tokens`, on the module's device. Shape: (texts,)."""
        row, bucket = (torch.from_numpy(part).to(self.idf.device) for part in ngrams_of(tokens, texts, self.buckets))
        like = torch.zeros(len(texts), device=self.idf.device)
        return self(bucket, row, like).cpu().numpy().astype(float)
