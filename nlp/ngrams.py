"""A weighted bag of n-grams beside the encoder: single tokens and pairs, hashed, with a linear logit.

    logit = sum over the text's distinct n-grams g of weight[g] · scale[g] / norm + bias,    norm² = sum of scale[g]²
    scale[g] = idf[g] · |r[g]|^½,    idf[g] = log((1 + texts) / (1 + texts with g)) + 1
    r[g] = log of: share of g among n-grams of positive texts / the same of negative ones, counts one higher

The weights are those of a logistic regression with an L2 penalty (the convex problem is solved, not stepped through);
r is the naive Bayes log-count ratio of NB-SVM (Wang and Manning, "Baselines and bigrams", 2012): what both kinds of
texts use alike counts less. Its root was chosen on validation (2**18 buckets, log loss of IMDb and Rotten Tomatoes:
.236 and .405; without r .247 and .426, with r itself .252 and .415). N-grams share buckets by a hash of their token ids
(Weinberger et al., "Feature hashing for large scale multitask learning", 2009): the weights are one vector.

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


def scale_of(bucket: np.ndarray, positive: np.ndarray, n_texts: int, buckets: int) -> np.ndarray:
    """Each bucket's scale (see above) from the distinct n-grams of texts and whether their text is positive.

    Both arguments (n-grams,), the result (buckets,).
    """
    texts_with = np.bincount(bucket, minlength=buckets)
    good = 1.0 + np.bincount(bucket[positive], minlength=buckets)
    bad = 1.0 + texts_with - (good - 1.0)
    ratio = np.log(good / good.sum()) - np.log(bad / bad.sum())
    return (np.log((1 + n_texts) / (1 + texts_with)) + 1) * np.sqrt(np.abs(ratio))


class NGramBag(nn.Module):
    """The bag's weights; zeros until `fit`."""

    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.register_buffer("scale", torch.ones(buckets))
        self.register_buffer("weight", torch.zeros(buckets))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, ngram: Tensor, text: Tensor, like: Tensor) -> Tensor:
        """Logits of texts: buckets (n-grams,) and the text of each (n-grams,) to (texts,), the shape of `like`."""
        scale = self.scale[ngram]
        square = torch.zeros_like(like, dtype=scale.dtype).index_add(0, text, scale.square())
        total = torch.zeros_like(like, dtype=scale.dtype).index_add(0, text, scale * self.weight[ngram])
        return total / square.clamp_min(1e-12).sqrt() + self.bias

    def fit(self, tokens: Tokens, texts: np.ndarray, positive: np.ndarray, inverse_l2: float) -> None:
        """Set the weights to the optimum on `texts`. `positive`: (texts,), bool, with both values in it."""
        row, bucket = ngrams_of(tokens, texts, self.buckets)
        scale = scale_of(bucket, positive[row], len(texts), self.buckets)
        norm = np.sqrt(np.bincount(row, scale[bucket] ** 2, minlength=len(texts)))
        value = scale[bucket] / np.maximum(norm[row], 1e-6)
        features = scipy.sparse.csr_matrix((value, (row, bucket)), shape=(len(texts), self.buckets))
        model = LogisticRegression(C=inverse_l2, max_iter=300).fit(features, positive)
        self.scale.copy_(torch.from_numpy(scale))
        self.weight.copy_(torch.from_numpy(model.coef_[0]))
        self.bias.copy_(torch.tensor(float(model.intercept_[0])))

    def logits(self, tokens: Tokens, texts: np.ndarray) -> np.ndarray:
        """Logits of `texts` of `tokens`, on the module's device. Shape: (texts,)."""
        row, bucket = (torch.from_numpy(part).to(self.scale.device) for part in ngrams_of(tokens, texts, self.buckets))
        like = torch.zeros(len(texts), device=self.scale.device)
        return self(bucket, row, like).cpu().numpy().astype(float)
