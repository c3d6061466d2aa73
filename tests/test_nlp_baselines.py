"""The baselines: they learn what is there to be learned, and say so as probabilities."""

import numpy as np
import pytest

from nlp.baselines import NBSVM, BagOfWords, Vader, baselines


def reviews(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """The planted words are no sentiment words; "not" turns them around, so that pairs of words are needed."""
    rng = np.random.default_rng(seed)
    planted, turned = rng.integers(0, 2, n).astype(bool), rng.random(n) < 0.3
    words = [("not " if t else "") + ("zork" if p else "blip") for p, t in zip(planted, turned, strict=True)]
    fill = [" ".join(rng.choice(["film", "scene", "night", "river"], 6)) for _ in range(n)]
    return [f"{a} {w} {a}" for a, w in zip(fill, words, strict=True)], planted ^ turned


@pytest.mark.parametrize("kind", [BagOfWords, NBSVM])
def test_bags_learn_words_and_pairs(kind: type) -> None:
    model = kind().fit(*reviews(400, 0))
    texts, positive = reviews(200, 1)
    assert ((model.predict(texts) > 0.5) == positive).mean() > 0.95
    assert model.predict([]).shape == (0,)


def test_vader_needs_no_training_and_knows_common_words() -> None:
    p = Vader().fit([], np.zeros(0, bool)).predict(["A wonderful, happy film", "A terrible, sad mess", "The film"])
    assert p[0] > 0.7
    assert p[1] < 0.3
    assert p[2] == 0.5


def test_every_baseline_gives_probabilities() -> None:
    texts, positive = reviews(60, 2)
    for name, model in baselines().items():
        p = model.fit(texts, positive).predict([*texts, "", "<br />"])
        assert p.shape == (62,), name
        assert ((p >= 0) & (p <= 1)).all(), name
