"""Sentence and clause spans: where they end, and that nothing is lost or changed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.sentences import clause_spans, sentence_spans


def said(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Dean met Dr. No. It was late.", ["Mr. Dean met Dr. No. It was late."]),
        ("By J. R. Smith. Good.", ["By J. R. Smith.", "Good."]),
        ("first line\nsecond<br /><br/>third", ["first line", "second", "third"]),
        ("a film that works . mostly .", ["a film that works .", "mostly ."]),
        ("no space here...Then more", ["no space here...", "Then more"]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("", []),
        (" ... !! \n", []),
        ("\U0001f600 \U0001f600", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_a_text_without_full_stops_is_cut_at_spaces() -> None:
    text = "word " * 1000
    pieces = said(text)
    assert " ".join(pieces) == text.strip()
    assert max(map(len, pieces)) <= 600


@given(st.text(alphabet=st.sampled_from("aB1 .,!?\n<br/>…\"')é\x00"), max_size=300))
def test_spans_are_in_order_apart_and_hold_every_letter(text: str) -> None:
    spans = sentence_spans(text)
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    outside = "".join(
        text[a:b] for a, b in zip([0, *(e for _, e in spans)], [*(s for s, _ in spans), len(text)], strict=True)
    )
    for tag in ("<br/>", "<br />", "<br>", "<br >"):
        outside = outside.replace(tag, "")
    assert not any(character.isalnum() for character in outside)


def test_a_sentence_is_cut_where_it_turns() -> None:
    text = "The acting is superb, but the script is a mess; still, I laughed though."
    clauses = [text[a:b] for a, b in clause_spans(text, 0, len(text))]
    assert clauses == ["The acting is superb", ", but the script is a mess", "; still, I laughed", " though."]
    assert clause_spans("But why", 0, 7) == [(0, 7)]


@given(st.lists(st.sampled_from(["a", " but ", "; ", " ", "though"]), max_size=40))
def test_clauses_add_up_to_their_sentence(parts: list[str]) -> None:
    text = "".join(parts)
    for start, end in sentence_spans(text):
        spans = clause_spans(text, start, end)
        assert [spans[0][0], spans[-1][1]] == [start, end]
        assert all(first[1] == second[0] for first, second in itertools.pairwise(spans))
        assert all(a < b for a, b in spans)
