"""On a share of the draws the top picks stand in an order that every title has the same chance of any place in."""

import numpy as np
import pandas as pd

from recsys.exploration import NOTE, explored
from recsys.pages import Page, Row
from recsys.rows import cards
from recsys.signals import SOUR_NOTE


def page(n: int = 6, sour: int = 0) -> Page:
    notes = [""] * (n - sour) + [SOUR_NOTE] * sour
    picks = Row("picks", "Top picks for you", cards([f"t{i}" for i in range(n)], note=notes))
    return Page(cards(["top"]), [picks, Row("gems", "Hidden gems", cards(["g0", "g1", "g2"]))])


def order(found: Page, row: int = 0) -> list[str]:
    return found.rows[row].cards["item_id"].tolist()


def test_every_title_stands_at_every_place_equally_often() -> None:
    drawn = pd.DataFrame([order(explored(page(), f"u{i}", 1.0)[0]) for i in range(3000)])
    counts = pd.concat([drawn[place].value_counts() for place in drawn], axis=1)
    assert counts.shape == (6, 6)
    # 500 expected, with a standard deviation of 20
    assert counts.to_numpy().min() > 400
    assert counts.to_numpy().max() < 600


def test_the_share_of_draws_is_what_was_asked_for_and_the_rest_is_left_alone() -> None:
    numbers = np.array([explored(page(), f"u{i}", 0.1)[1] for i in range(3000)])
    assert 0.08 < (numbers > 0).mean() < 0.12
    assert set(numbers) == {0, 6}
    for i in range(50):
        found, number = explored(page(), f"u{i}", 0.1)
        if not number:
            assert order(found) == order(page())
            assert found.rows[0].note == ""
    assert all(explored(page(), f"u{i}", 0.0)[1] == 0 for i in range(300))


def test_the_same_member_and_day_get_the_same_order_and_only_the_picks_are_shuffled() -> None:
    first, number = explored(page(), "u1 on a day", 1.0)
    again, _ = explored(page(), "u1 on a day", 1.0)
    other, _ = explored(page(), "u1 on another day", 1.0)
    assert order(first) == order(again) != order(other)
    assert (number, first.rows[0].note) == (6, NOTE)
    assert order(first, 1) == ["g0", "g1", "g2"]
    assert first.billboard["item_id"].tolist() == ["top"]


def test_soured_titles_stay_at_the_end_and_out_of_the_count() -> None:
    for i in range(20):
        found, number = explored(page(6, sour=2), f"u{i}", 1.0)
        assert number == 4
        assert order(found)[4:] == ["t4", "t5"]
    assert explored(page(1), "u", 1.0)[1] == 0
    assert explored(Page(cards([]), []), "u", 1.0)[1] == 0
