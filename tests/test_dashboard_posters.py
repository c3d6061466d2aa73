"""Posters: words stay whole and fit, the same title always looks the same, nothing of a title becomes markup."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import posters

WORDS = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ'-.", min_size=1, max_size=14)


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_the_longest_word_fits_and_so_does_the_title(words: list[str]) -> None:
    title = " ".join(words)
    size = posters.font_size(title)
    width = posters.WIDTH - 2 * posters.MARGIN
    assert max(posters.text_width(word) for word in words) * size <= width
    if size in posters.SIZES[:-1]:
        assert posters.line_count(title, size) * size * posters.LINE_HEIGHT <= posters.TITLE_HEIGHT


@pytest.mark.parametrize(
    ("title", "size"),
    [("HEAT", 34), ("PHILADELPHIA", 21), ("FARGO", 34), ("SUPERCALIFRAGILISTICEXPIALIDOCIOUS", 8), ("", 34)],
)
def test_sizes_by_example(title: str, size: int) -> None:
    assert posters.font_size(title) == size


def test_a_larger_size_is_taken_when_it_fits() -> None:
    for title in ("HEAT", "TOY STORY", "THE SILENCE OF THE LAMBS", "INDEPENDENCE DAY"):
        size = posters.font_size(title)
        larger = [s for s in posters.SIZES if s > size]
        for other in larger:
            too_wide = max(posters.text_width(w) for w in title.split()) * other > posters.WIDTH - 2 * posters.MARGIN
            too_high = posters.line_count(title, other) * other * posters.LINE_HEIGHT > posters.TITLE_HEIGHT
            assert too_wide or too_high


def test_lines_break_between_words_only() -> None:
    assert posters.line_count("ONE", 30) == 1
    assert posters.line_count("THE SILENCE OF THE LAMBS", 34) == 4
    assert posters.line_count("A B", 10, width=1000) == 1


def test_a_title_looks_the_same_every_time_and_differs_from_another() -> None:
    heat = posters.poster("Heat", 1995.0, ["Action", "Crime"])
    assert heat == posters.poster("Heat", 1995.0, ["Action", "Crime"])
    assert heat.background != posters.poster("Ronin", 1995.0, ["Action", "Crime"]).background
    assert (heat.title, heat.foot) == ("HEAT", "1995 · Action")


def test_missing_year_and_genres() -> None:
    plain = posters.poster("Unknown", float("nan"), [])
    assert plain.foot == ""
    assert posters.poster("", None).title == "UNTITLED"


def test_genres_under_other_names_share_their_colours() -> None:
    assert posters.colours("Children's") == posters.colours("children")
    assert posters.colours("Polka") == posters.colours("Polka") != posters.colours("Yodel")


@given(st.text(max_size=60), st.lists(st.text(max_size=20), max_size=3))
def test_nothing_of_a_title_or_genre_becomes_markup_or_style(title: str, genres: list[str]) -> None:
    drawn = posters.poster(title + "<b>\"'", 1999, [*genres, "x;url(evil)"])
    page = posters.poster_html(drawn)
    assert "<B>" not in page
    assert "evil" not in drawn.background
    assert page.count("<") == 6  # div, span, span and their ends
