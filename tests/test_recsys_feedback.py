"""What members have said, in numbers that tell who has said something new."""

import numpy as np
import pytest

from recsys.feedback import Feedback
from recsys.interactions import Histories


def said(change: str = "") -> Feedback:
    """Of three members with two events each; the change is in the second one's."""
    users, items, times = np.repeat(np.arange(3), 2), np.array([0, 1, 0, 2, 1, 2]), np.arange(6)
    ratings, wanted = np.full(6, 4.0, np.float32), np.ones(6, bool)
    if change == "an item":
        items[3] = 3
    if change == "a time":
        times[3] = 99
    if change == "a rating":
        ratings[3] = 5.0
    if change == "no rating":
        ratings[3] = np.nan
    if change in ("less", "hidden instead"):
        wanted[3] = False

    def part(chosen: np.ndarray) -> Histories:
        return Histories.of(users[chosen], items[chosen], times[chosen], 3, 5, ratings[chosen])

    return Feedback(part(wanted), part(~wanted & (change != "less")), part(np.zeros(6, bool)))


@pytest.mark.parametrize("change", ["an item", "a time", "a rating", "no rating", "less", "hidden instead"])
def test_who_has_said_something_else_has_another_digest_and_nobody_but_them(change: str) -> None:
    assert (said().digests() != said(change).digests()).tolist() == [False, True, False]


def test_digests_are_the_same_again_and_tell_members_and_kinds_apart() -> None:
    assert said().digests().tolist() == said().digests().tolist()
    assert len(set(said().digests().tolist())) == 3
    assert said("less").digests()[1] != said("hidden instead").digests()[1]
