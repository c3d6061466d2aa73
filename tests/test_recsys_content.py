"""What a title says of itself: tokens that depend on nothing else, and are shared with titles that are alike."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.content import WIDTH, content_tokens

BUCKETS = 2**40  # so many that no two tokens of a test share one
NAN = float("nan")


def catalogue(**titles: tuple[Any, Any, Any]) -> pd.DataFrame:
    """item_id = (name, year, genres)."""
    rows = [(item, name, year, genres) for item, (name, year, genres) in titles.items()]
    return pd.DataFrame(rows, columns=["item_id", "title", "year", "genres"])


def tokens(items: pd.DataFrame, *ids: str, buckets: int = BUCKETS) -> list[set[int]]:
    """The tokens of each title, without what fills up."""
    found = content_tokens(items, pd.Index(ids, dtype=object), buckets)
    return [set(row[row < buckets].tolist()) for row in found]


def only(**parts: Any) -> set[int]:
    """The tokens of a title that has `parts` and says nothing else."""
    title = {"name": None, "year": NAN, "genres": None} | parts
    return tokens(catalogue(x=(title["name"], title["year"], title["genres"])), "x")[0]


SHELF = catalogue(
    a=("Alien Dawn (1994)", 1994.0, ["Horror", "Drama"]),
    b=("The Quiet Dawn", 1995.0, ["drama"]),
    c=("Blå Øyne", NAN, []),
    d=(None, 1960.0, ["Comedy"]),
    e=("Over", NAN, ["Horror"]),
)


def test_tokens_do_not_depend_on_order_or_on_the_other_titles() -> None:
    together = tokens(SHELF, *"abcde")
    assert tokens(SHELF.iloc[::-1], *"edcba") == together[::-1]
    for item, expected in zip("abcde", together, strict=True):
        assert tokens(SHELF[SHELF["item_id"] == item], item) == [expected]
        assert tokens(SHELF, item) == [expected]
    assert len(set(map(frozenset, together))) == 5


def test_tokens_come_in_the_same_places_whatever_the_other_titles() -> None:
    together = content_tokens(SHELF, pd.Index(list("abcde")), 64)
    for row, item in enumerate("abcde"):
        alone = content_tokens(SHELF[SHELF["item_id"] == item], pd.Index([item]), 64)
        np.testing.assert_array_equal(alone, together[[row]])


def test_tokens_stay_what_they_are_in_saved_runs() -> None:
    """A run keeps vectors of buckets: another hash would give every new title the vectors of strangers."""
    bucket = int(pd.util.hash_array(np.array(["genre:drama"], object), categorize=False)[0] % np.uint64(4096))
    found = content_tokens(catalogue(x=(None, NAN, ["Drama"])), pd.Index(["x"]), 4096)
    assert found[0].tolist() == [bucket] + [4096] * (WIDTH - 1)


def test_titles_share_tokens_through_their_genres() -> None:
    drama, both = only(genres=["Drama"]), only(genres=["Horror", "DRAMA"])
    assert len(drama) == 1
    assert len(both) == 2
    assert drama < both
    assert not drama & only(genres=["Comedy"])


def test_neighbouring_years_share_two_of_their_three_tokens() -> None:
    decade = only(year=1992.0) & only(year=1997.0)
    assert len(decade) == 1
    of_year = {year: only(year=float(year)) - decade for year in range(1992, 1998)}
    assert all(len(found) == 3 for found in of_year.values())
    shared = [len(of_year[1992] & of_year[year]) for year in range(1992, 1998)]
    assert shared == [3, 2, 1, 0, 0, 0]


def test_years_on_both_sides_of_a_decade_share_their_years_and_not_the_decade() -> None:
    assert len(only(year=1989.0)) == 4
    assert len(only(year=1989.0) & only(year=1990.0)) == 2


def test_a_kind_of_token_is_no_other_kind() -> None:
    assert not only(name="drama") & only(genres=["drama"])
    assert not only(name="1990") & only(year=1990.0)


def test_words_are_taken_without_case_and_marks_and_once() -> None:
    assert only(name="Dawn, DAWN: dawn!") == only(name="dawn")
    assert len(only(name="Blå øyne")) == 2
    assert only(name="") == set()


def test_a_year_in_brackets_is_no_word() -> None:
    assert only(name="Dawn (1994)") == only(name="Dawn")
    assert only(name="1994") < only(name="Dawn 1994")  # without brackets it is one
    assert len(only(name="Dawn 1994")) == 2


def test_what_is_missing_is_filled_up() -> None:
    full = tokens(SHELF, "a")[0]
    assert full == only(name="alien dawn") | only(year=1994.0) | only(genres=["horror", "drama"])
    assert only() == set()
    found = content_tokens(catalogue(x=(None, NAN, None)), pd.Index(["x"]), 7)
    assert found.tolist() == [[7] * WIDTH]


def test_a_title_that_the_catalogue_lacks_has_no_tokens() -> None:
    here, gone = tokens(SHELF, "b", "never heard of")
    assert here == tokens(SHELF, "b")[0]
    assert gone == set()
    nothing = content_tokens(SHELF.iloc[:0], pd.Index(["b"]), 5)
    assert nothing.tolist() == [[5] * WIDTH]
    assert content_tokens(SHELF, pd.Index([], dtype=object), 5).shape == (0, WIDTH)


def test_a_title_listed_twice_counts_once() -> None:
    twice = pd.concat([SHELF, SHELF])
    assert tokens(twice, *"abc") == tokens(SHELF, *"abc")


def test_genres_come_first_where_there_are_too_many_tokens() -> None:
    genres = [f"g{i}" for i in range(WIDTH - 3)]
    long = catalogue(x=(" ".join(f"w{i}" for i in range(50)), 1990.0, genres))
    (found,) = tokens(long, "x")
    assert len(found) == WIDTH
    assert only(genres=genres) < found
    assert len(found & only(year=1990.0)) == 3


@settings(max_examples=60, deadline=None)
@given(
    titles=st.lists(
        st.tuples(
            st.none() | st.text(max_size=60),
            st.just(NAN) | st.integers(1880, 2100).map(float),
            st.none() | st.lists(st.text(max_size=6), max_size=40),
        ),
        min_size=1,
        max_size=5,
    ),
    buckets=st.sampled_from([1, 5, 4096]),
)
def test_never_more_than_the_width_nor_an_index_beyond_the_buckets(titles: list, buckets: int) -> None:
    ids = [f"t{i}" for i in range(len(titles))]
    found = content_tokens(catalogue(**dict(zip(ids, titles, strict=True))), pd.Index(ids), buckets)
    assert found.shape == (len(ids), WIDTH)
    assert found.dtype == np.int64
    assert found.min() >= 0
    assert found.max() <= buckets
    for row in found:
        known = row[row < buckets]
        assert len(set(known.tolist())) == len(known)
        assert (row[len(known) :] == buckets).all()  # what fills up stands behind


@pytest.mark.parametrize("missing", ["title", "year", "genres"])
def test_a_column_without_a_single_value_is_no_obstacle(missing: str) -> None:
    shelf = SHELF.assign(**{missing: None})
    (found,) = tokens(shelf, "a")
    assert 0 < len(found) < len(tokens(SHELF, "a")[0])
