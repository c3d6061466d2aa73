"""Titles are found by parts of words, with wrong letters and without accents; others are not."""

import doctest

import numpy as np
import pandas as pd
import pytest

from recsys import search
from recsys.search import folded_titles, found

SHOWN = [
    "The Godfather",
    "The Godfather: Part II",
    "Heat",
    "Heathers",
    "Dead Heat",
    "Le Fabuleux destin d'Amélie Poulain",
    "M",
    "Toy Story",
    "Twelve Monkeys",
    "<script>alert(1)</script>",
    "8 1/2",
]
CATALOGUE = pd.DataFrame({"shown_title": SHOWN, "title": [*SHOWN[:8], "12 Monkeys", *SHOWN[9:]]})
POPULARITY = np.array([400, 200, 30, 20, 90, 60, 5, 450, 300, 1, 2])


def titles(words: str, k: int = 20) -> list[str]:
    return [SHOWN[i] for i in found(words, folded_titles(CATALOGUE), POPULARITY, k)]


def test_doctests() -> None:
    assert doctest.testmod(search).attempted >= 1
    assert doctest.testmod(search).failed == 0


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("godfahter", "The Godfather"),
        ("GODFATHER part", "The Godfather: Part II"),
        ("toy stroy", "Toy Story"),
        ("amelie", "Le Fabuleux destin d'Amélie Poulain"),
        ("12 monkeys", "Twelve Monkeys"),
        ("heat", "Heat"),  # the very title before a more popular one that holds the word
        ("m", "M"),
        ("script", "<script>alert(1)</script>"),
    ],
)
def test_what_is_meant_comes_first(words: str, first: str) -> None:
    assert titles(words)[0] == first


def test_titles_that_hold_the_words_come_before_those_that_resemble_them() -> None:
    assert titles("heat")[:3] == ["Heat", "Dead Heat", "Heathers"]
    assert titles("heat", k=2) == ["Heat", "Dead Heat"]


@pytest.mark.parametrize("words", ["", "   ", "!?", "xyzzyq", "matirx", "%_'; DROP TABLE", "\x00"])
def test_nothing_is_found_for_nothing_and_for_nonsense(words: str) -> None:
    assert titles(words) == []


def test_a_text_without_end_is_looked_at_as_far_as_it_may_be_meant() -> None:
    assert titles("toy story " + "z" * 100_000) == titles("toy story " + "z" * 90)


def test_no_titles() -> None:
    assert len(found("heat", [], np.zeros(0))) == 0
