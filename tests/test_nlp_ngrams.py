"""The n-gram bag: which n-grams a text has, what their logit is, and that the fitted weights are the optimum."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlp.ngrams import NGramBag, ngrams_of
from nlp.tokens import Tokens

BUCKETS = 2**16


def tokens_of(texts: list[list[int]]) -> Tokens:
    lengths = np.array([len(text) for text in texts], np.int64)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    flat = np.array([token for text in texts for token in text], np.int32)
    return Tokens(flat, offsets)


def grouped(texts: list[list[int]], chosen: list[int], buckets: int = BUCKETS) -> list[set[int]]:
    row, bucket = ngrams_of(tokens_of(texts), np.array(chosen, np.int64), buckets)
    return [set(bucket[row == i].tolist()) for i in range(len(chosen))]


def test_a_text_has_its_tokens_and_its_neighbouring_pairs_once_each() -> None:
    one, twice, turned = grouped([[7, 8, 9], [7, 8, 9, 7, 8, 9], [9, 8, 7]], [0, 1, 2])
    assert len(one) == 5  # 7, 8, 9, (7, 8), (8, 9)
    assert one < twice
    assert len(twice) == 6  # and (9, 7)
    assert len(one & turned) == 3  # the tokens; a pair has a direction


def test_no_pair_reaches_from_one_text_into_the_next() -> None:
    apart = grouped([[5], [6]], [0, 1])
    assert [len(text) for text in apart] == [1, 1]


@given(
    st.lists(st.lists(st.integers(0, 30_000), max_size=12), min_size=1, max_size=6), st.randoms(use_true_random=False)
)
def test_a_texts_n_grams_do_not_depend_on_the_texts_around_it(texts: list[list[int]], random) -> None:
    chosen = random.sample(range(len(texts)), random.randint(1, len(texts)))
    assert grouped(texts, chosen) == [grouped([texts[i]], [0])[0] for i in chosen]


def test_a_text_without_tokens_has_the_bias_as_its_logit() -> None:
    bag = NGramBag(BUCKETS)
    bag.bias.fill_(0.25)
    assert bag.logits(tokens_of([[], [3]]), np.array([0, 1])).tolist() == [0.25, 0.25]


def test_the_logit_is_the_formula() -> None:
    tokens = tokens_of([[4, 5]])
    _, bucket = ngrams_of(tokens, np.array([0]), BUCKETS)
    bag = NGramBag(BUCKETS)
    bag.scale[bucket] = torch.tensor([1.0, 2.0, 3.0])
    bag.weight[bucket] = torch.tensor([0.5, -1.0, 2.0])
    bag.bias.fill_(0.1)
    assert bag.logits(tokens, np.array([0]))[0] == pytest.approx((0.5 - 2.0 + 6.0) / math.sqrt(14) + 0.1, rel=1e-6)


def test_fitting_finds_the_optimum_of_the_penalised_likelihood() -> None:
    """At the optimum the gradient of C * log-loss + |w|²/2 is zero in every weight and in the bias."""
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 20, 6).tolist() for _ in range(80)]
    positive = np.array([sum(text) + generator.normal(0, 8) > 57 for text in texts])
    bag, chosen, inverse_l2 = NGramBag(BUCKETS), np.arange(80), 3.0
    bag.fit(tokens_of(texts), chosen, positive, inverse_l2)

    row, bucket = ngrams_of(tokens_of(texts), chosen, BUCKETS)
    has, good = row[bucket == bucket[0]], positive[row]
    ratio = (1 + positive[has].sum()) / (1 + (~positive[has]).sum())
    ratio *= (BUCKETS + (~good).sum()) / (BUCKETS + good.sum())
    expected = (math.log(81 / (1 + len(has))) + 1) * math.sqrt(abs(math.log(ratio)))
    assert bag.scale[bucket[0]] == pytest.approx(expected, rel=1e-5)
    error = 1 / (1 + np.exp(-bag.logits(tokens_of(texts), chosen))) - positive
    scale, weight = bag.scale.numpy(), bag.weight.numpy()
    norm = np.sqrt(np.bincount(row, scale[bucket] ** 2))
    slope = inverse_l2 * np.bincount(bucket, error[row] * scale[bucket] / norm[row], minlength=BUCKETS) + weight
    assert np.abs(slope).max() < 0.02
    assert abs(inverse_l2 * error.sum()) < 0.05
