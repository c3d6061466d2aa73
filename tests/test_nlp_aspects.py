"""Finding aspects: key words, what labels teach beyond them, and how a sentence speaks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from nlp.aspects import NGRAM_BUCKETS, AspectFinder, KeyWords, Sentences, fit, fit_sentiment, read_config

WORDS = {"story": ["plot", "storyline*", "plot hole*"], "price": ["cost*", "too dear"]}
SIZE = 8


def features(rng: np.random.Generator, n: int, keywords: np.ndarray) -> Sentences:
    row = np.repeat(np.arange(n), 3)
    return Sentences(keywords, row, rng.integers(0, 40, 3 * n), rng.normal(size=(n, SIZE)))


def test_the_packaged_aspects_are_those_of_the_labels() -> None:
    names = {"story", "acting", "direction", "characters", "visuals", "sound", "pacing", "humour", "script", "ending"}
    assert set(read_config()) == names


def test_key_words_are_whole_words_prefixes_and_phrases() -> None:
    said = ["The PLOT, the plot!", "storylines and plotting", "It costs; too dear.", "a plot hole", "", "dear plots"]
    counts = KeyWords(WORDS).count(said)
    assert counts.tolist() == [[2, 0], [1, 0], [0, 2], [2, 0], [0, 0], [0, 0]]


@given(st.lists(st.text(max_size=30), max_size=8))
def test_key_words_of_a_sentence_do_not_depend_on_its_neighbours(texts: list[str]) -> None:
    finder = KeyWords(WORDS)
    together = finder.count(texts)
    assert together.shape == (len(texts), 2)
    assert together.tolist() == [finder.count([text])[0].tolist() for text in texts]


@pytest.mark.parametrize("content", ["", "[a, b]", "story: plot", "story: []", "a: [b\n", "{"])
def test_a_list_of_aspects_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "aspects.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=r"aspects\.yaml"):
        read_config(path)
    with pytest.raises(UserError, match="missing"):
        read_config(tmp_path / "missing.yaml")


def test_without_labels_one_key_word_makes_a_mention() -> None:
    finder = AspectFinder.by_words(WORDS, 1, SIZE)
    nothing = np.zeros(0, np.int64)
    p = finder.mentions(Sentences(np.array([[1, 0], [0, 0]]), nothing, nothing, np.zeros((2, 2))))
    assert (p > finder.arrays["threshold"]).tolist() == [[True, False], [False, False]]
    assert finder.sentiment(np.array([2.0, -2.0]), np.zeros(2), np.array([-9.0, 9.0])).round(2).tolist() == [0.88, 0.12]


def test_labels_teach_what_the_key_words_miss_and_unlabelled_aspects_keep_theirs() -> None:
    rng = np.random.default_rng(0)
    n = 400
    keywords = np.zeros((n, 2))
    keywords[::5, 0] = 1  # says nothing here
    made = features(rng, n, keywords)
    truth = np.zeros((n, 2), bool)
    truth[:, 0] = made.state[:, 3] > 0.8  # the encoder's states know
    finder, held_out = fit(WORDS, 1, made, truth, np.arange(n), np.ones(n, bool))
    found = held_out[:, 0] > finder.arrays["threshold"]
    assert (found == truth[:, 0]).mean() > 0.85
    p = finder.mentions(made._replace(state=made.state @ finder.arrays["state"].T))
    assert ((p[:, 0] > finder.arrays["threshold"]) == truth[:, 0]).mean() > 0.85
    by_words = AspectFinder.by_words(WORDS, 1, SIZE)
    assert (finder.arrays["keyword"][1], finder.arrays["bias"][1]) == (by_words.arrays["keyword"][1], -3.0)


def test_sentences_of_one_review_are_never_on_both_sides() -> None:
    """Labels that only the review gives away: with reviews kept together nothing can be learned."""
    rng = np.random.default_rng(1)
    n, group = 300, np.repeat(np.arange(60), 5)
    taste = rng.integers(0, 2, 60).astype(bool)
    made = features(rng, n, np.zeros((n, 2)))
    state = rng.normal(size=(60, SIZE))[group]  # the same for all sentences of a review
    truth = np.stack([taste[group], np.zeros(n, bool)], 1)
    made = made._replace(state=state, ngram_row=np.arange(n), ngram=group)
    _, held_out = fit(WORDS, 1, made, truth, group, np.ones(n, bool))
    assert ((held_out[:, 0] > 0.5) == truth[:, 0]).mean() < 0.75


def test_the_sentiment_is_learned_from_its_three_logits() -> None:
    rng = np.random.default_rng(2)
    finder = AspectFinder.by_words(WORDS, 1, SIZE)
    logits = rng.normal(size=(500, 3))
    fit_sentiment(finder, logits, logits[:, 1] > 0)
    assert ((finder.sentiment(*logits.T) > 0.5) == (logits[:, 1] > 0)).mean() > 0.95
    before = finder.arrays["mood"].copy()
    fit_sentiment(finder, logits[:10], np.ones(10, bool))  # too little to learn from
    assert (finder.arrays["mood"] == before).all()


def test_a_finder_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    made = features(rng, 60, rng.integers(0, 2, (60, 2)))
    truth = np.stack([made.keywords[:, 0] > 0, np.zeros(60, bool)], 1)
    finder, _ = fit(WORDS, 2, made, truth, np.arange(60), np.ones(60, bool))
    assert AspectFinder.load(tmp_path) is None
    finder.save(tmp_path)
    again = AspectFinder.load(tmp_path)
    assert again is not None
    assert (again.words, again.layer) == (WORDS, 2)
    reading = made._replace(state=made.state @ finder.arrays["state"].T)
    np.testing.assert_allclose(again.mentions(reading), finder.mentions(reading))
    assert finder.arrays["ngram"].shape == (NGRAM_BUCKETS, 2)
    assert again.linear().weight.detach().numpy() == pytest.approx(finder.arrays["state"])
    (tmp_path / "aspects.npz").write_bytes(b"broken")
    with pytest.raises(UserError, match="python -m nlp aspects"):
        AspectFinder.load(tmp_path)
