"""One pass over texts: the logits of texts, sentences and clauses are what reading each by itself would say."""

import numpy as np
import pytest
import torch
from tiny_encoder import write_tiny_encoder
from torch import Tensor

from nlp.reading import means, read_texts, speaking, tokenise_sentences, tokens_of
from nlp.tokens import frame_of, tokenise

TEXTS = [
    "good film. bad plot, but brilliant end!<br /><br />word1 word2",
    "",
    "awful " * 70,
    "... ",
    "word3; word4",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    from nlp.encoder import load_tokenizer

    folder = write_tiny_encoder(tmp_path_factory.mktemp("tiny"))
    return load_tokenizer(str(folder))


def by_id(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """An engine whose token logit is the token's id, and whose two aspects are its square and 1."""
    value = ids.float()
    return value, torch.stack([value**2, torch.ones_like(value)], -1)


def test_cutting_at_clauses_changes_no_token(tokenizer) -> None:
    tokens, _ = tokenise_sentences(tokenizer, TEXTS)
    whole = tokenise(tokenizer, TEXTS)
    assert tokens.flat.tolist() == whole.flat.tolist()
    assert tokens.offsets.tolist() == whole.offsets.tolist()


def test_spans_know_their_text_and_their_tokens(tokenizer) -> None:
    tokens, spans = tokenise_sentences(tokenizer, TEXTS)
    for text, start, end, first, last in zip(*spans[:5], strict=True):
        alone = tokenise(tokenizer, [TEXTS[text][start:end]])
        assert tokens.flat[first:last].tolist() == alone.flat.tolist()
    clauses = spans.clauses
    for sentence, start, end, first, last in zip(*clauses, strict=True):
        alone = tokenise(tokenizer, [TEXTS[spans.text[sentence]][start:end]])
        assert tokens.flat[first:last].tolist() == alone.flat.tolist()
    assert [TEXTS[0][a:b] for a, b in zip(spans.start[:3], spans.end[:3], strict=True)] == [
        "good film.",
        "bad plot, but brilliant end!",
        "word1 word2",
    ]
    assert clauses.sentence[:4].tolist() == [0, 1, 1, 2]


def test_token_values_come_back_in_their_place_though_windows_overlap(tokenizer) -> None:
    tokens = tokenise(tokenizer, TEXTS)
    frame = frame_of(tokenizer)
    found = read_texts(by_id, tokens, frame, 16, by_token=True)
    assert found.token_logit is not None
    assert found.token_aspect is not None
    torch.testing.assert_close(found.token_logit, torch.from_numpy(tokens.flat).float())
    torch.testing.assert_close(found.token_aspect[:, 0], torch.from_numpy(tokens.flat).float() ** 2)
    torch.testing.assert_close(found.token_aspect[:, 1], torch.ones(len(tokens.flat)))


def test_a_texts_logit_is_the_mean_over_windows_of_the_mean_over_their_tokens(tokenizer) -> None:
    frame = frame_of(tokenizer)
    texts = ["good bad", "awful"]
    tokens = tokenise(tokenizer, texts)
    found = read_texts(by_id, tokens, frame, 16, by_token=False)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    assert found.logit.tolist() == pytest.approx([np.mean(one) for one in ids])
    assert found.token_logit is None


def test_means_over_stretches() -> None:
    values = torch.tensor([1.0, 2.0, 6.0, 4.0])
    assert means(values, np.array([0, 1, 2]), np.array([2, 4, 2])).tolist() == [1.5, 4.0, 0.0]
    assert means(torch.stack([values, -values], 1), np.array([1]), np.array([3])).tolist() == [[4.0, -4.0]]


def test_stretches_are_texts_of_their_own() -> None:
    tokens, which = tokens_of(np.arange(10), np.array([1, 4]), np.array([3, 8]))
    assert [tokens.flat[tokens.offsets[i] : tokens.offsets[i + 1]].tolist() for i in which] == [[1, 2], [4, 5, 6, 7]]


def test_the_first_clause_with_a_key_word_speaks_for_the_aspect(tokenizer) -> None:
    _, spans = tokenise_sentences(tokenizer, ["good film, but bad plot; plot word1. word2 word3"])
    keywords = np.array([[1, 0], [0, 1], [0, 1], [0, 0]], float)  # clauses x aspects
    first, last = speaking(spans, keywords, np.array([0, 0, 1]), np.array([0, 1, 0]))
    clause = spans.clauses
    assert (first[0], last[0]) == (clause.first[0], clause.last[0])
    assert (first[1], last[1]) == (clause.first[1], clause.last[1])
    assert (first[2], last[2]) == (spans.first[1], spans.last[1])
    nothing = speaking(spans, np.zeros((4, 2)), np.array([0]), np.array([1]))
    assert (nothing[0][0], nothing[1][0]) == (spans.first[0], spans.last[0])
