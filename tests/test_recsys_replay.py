"""Replay against simulated members whose click probabilities are known, so that each policy's true value is too."""

import datetime as dt
import doctest
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset
from data.events import Event, events, record
from recsys import clicks, replay
from recsys.position_model import by_position

N, PLACES = 10, 8
LOOK = 1 / np.sqrt(np.arange(1, N + 1))  # the share of members who look at each place


class World(NamedTuple):
    """Titles 0 to N - 1 with an attraction each; members who click more or less. A click: attraction · look · keen."""

    attraction: np.ndarray
    keen: np.ndarray  # of each member, mean 1

    def value(self, order: np.ndarray) -> float:
        """True clicks per page of the titles in this order, over these members."""
        return float((self.attraction[order] * LOOK)[:PLACES].sum() * self.keen.mean())


def world(members: int, seed: int) -> World:
    attraction = np.random.default_rng(7).permutation(np.linspace(0.02, 0.3, N))
    return World(attraction, np.random.default_rng(seed).uniform(0.3, 1.7, members))


def pages_of(members: World, each: int, seed: int, orders: np.ndarray | None = None) -> pd.DataFrame:
    """Cards as `explored` gives them: `each` pages for every member, in uniformly random order unless it is given."""
    rng = np.random.default_rng(seed)
    pages = len(members.keen) * each
    drawn = np.argsort(rng.random((pages, N)), axis=1) if orders is None else np.broadcast_to(orders, (pages, N))
    keen = np.repeat(members.keen, each)
    p = members.attraction[drawn] * LOOK * keen[:, None]
    return pd.DataFrame(
        {
            "page": np.repeat(np.arange(pages), N),
            "user_id": np.repeat(np.arange(len(members.keen)), each * N),
            "item_id": drawn.ravel(),
            "rank": np.tile(np.arange(1, N + 1), pages),
            "n": N,
            "clicked": rng.random((pages, N)).ravel() < p.ravel(),
        }
    )


def place_of(cards: pd.DataFrame, order: np.ndarray) -> np.ndarray:
    """Where a policy that always shows `order` puts each card."""
    return (np.argsort(order) + 1)[cards["item_id"]]


def test_the_estimate_of_a_known_policy_is_right() -> None:
    members = world(3000, seed=1)
    worst, best = np.argsort(members.attraction), np.argsort(-members.attraction)
    cards = pages_of(members, each=4, seed=2)
    found = replay.compare(cards, place_of(cards, worst), place_of(cards, best), draws=400)
    for estimate, order in ((found.a, worst), (found.b, best)):
        for value, low, high in (estimate.replay, estimate.normalised):
            assert abs(value - members.value(order)) < 3 * (high - low) / (2 * 1.96)
            assert value == pytest.approx(members.value(order), rel=0.1)
    difference = members.value(best) - members.value(worst)
    for value, low, high in (found.difference, found.normalised_difference):
        assert abs(value - difference) < 3 * (high - low) / (2 * 1.96)
    assert replay.verdict(found) == "better"
    assert abs(found.a.fair) < 3
    # Matches are one in N places, all of the same weight.
    assert found.a.matches == found.a.effective == pytest.approx(12_000 * PLACES / N, rel=0.05)


def test_what_was_served_in_one_order_tells_another_policy_nothing_or_the_wrong_thing() -> None:
    """The naive estimate: the share of clicks on titles that B would have shown first, from pages of another policy."""
    members = world(2000, seed=1)
    best = np.argsort(-members.attraction)
    served = np.argsort(members.attraction)  # the least attractive first, where most members look
    cards = pages_of(members, each=4, seed=2, orders=served)
    naive = cards[cards["item_id"].isin(best[:PLACES])]["clicked"].sum() / cards["page"].nunique()
    assert abs(naive - members.value(best)) > 0.15 * members.value(best)
    drawn = pages_of(members, each=4, seed=2)
    found = replay.compare(drawn, place_of(drawn, served), place_of(drawn, best), draws=400)
    assert abs(found.b.replay[0] - members.value(best)) < 0.1 * members.value(best)
    # Were pages in a fixed order logged as random ones, both policies would meet them too often or never.
    fixed = replay.compare(cards, place_of(cards, served), place_of(cards, best), draws=400)
    assert fixed.a.fair > 10
    assert fixed.b.fair < -10
    assert abs(found.a.fair) < 3
    assert abs(found.b.fair) < 3


def test_how_fair_the_draw_was_is_in_standard_errors() -> None:
    """Over many sets of pages in random order it has mean 0 and variance 1."""
    order = np.arange(N)
    fair = []
    for seed in range(300):
        cards = pages_of(world(40, seed), each=1, seed=seed)
        fair.append(replay.compare(cards, place_of(cards, order), place_of(cards, order[::-1]), draws=2).a.fair)
    assert abs(np.mean(fair)) < 0.2
    assert np.std(fair) == pytest.approx(1, abs=0.15)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    best, other = np.argsort(-world(1, 0).attraction), np.arange(N)
    inside = np.zeros(3)
    for seed in range(200):
        members = world(150, seed)
        cards = pages_of(members, each=4, seed=seed)
        found = replay.compare(cards, place_of(cards, other), place_of(cards, best), draws=300, seed=seed)
        whole = World(members.attraction, np.ones(1))  # the members are a sample too
        truths = (whole.value(best), whole.value(best), whole.value(best) - whole.value(other))
        intervals = (found.b.replay, found.b.normalised, found.difference)
        inside += [low <= truth <= high for (_, low, high), truth in zip(intervals, truths, strict=True)]
    assert ((inside / 200 >= 0.89) & (inside / 200 <= 0.99)).all(), inside / 200


def test_a_members_pages_are_drawn_together() -> None:
    """A page repeated four times is no more evidence than the page itself."""
    cards = pages_of(world(150, 3), each=1, seed=3)
    size = cards["page"].nunique()
    copies = pd.concat([cards.assign(page=cards["page"] + size * copy) for copy in range(4)], ignore_index=True)
    order = np.arange(N)
    one = replay.compare(cards, place_of(cards, order), place_of(cards, order[::-1]))
    four = replay.compare(copies, place_of(copies, order), place_of(copies, order[::-1]))
    np.testing.assert_allclose(four.difference, one.difference)
    assert four.pages == 4 * one.pages


def test_a_hand_made_page() -> None:
    cards = pd.DataFrame(
        {
            "page": [0, 0, 0, 1, 1],
            "user_id": ["a", "a", "a", "b", "b"],
            "item_id": ["x", "y", "z", "x", "y"],
            "rank": [1, 2, 3, 1, 2],
            "n": [3, 3, 3, 2, 2],
            "clicked": [True, True, False, False, True],
        }
    )
    # A agrees at places 1 and 3 of the first page, B at place 2 of it and at both of the second.
    found = replay.compare(cards, np.array([1, 3, 2, 2, 1]), np.array([3, 2, 1, 1, 2]), visible=2)
    assert found.pages == 2
    assert found.members == 2
    assert found.logged[0] == 3 / 2
    assert found.a.replay[0] == 3 / 2
    assert found.a.clicks == 1
    assert found.a.matches == 1
    assert found.b.replay[0] == (3 + 2) / 2
    assert found.b.clicks == 2
    assert found.b.matches == 3
    assert found.b.normalised[0] == pytest.approx((3 + 2) / (3 + 2 + 2) * 4 / 2)
    assert found.b.effective == pytest.approx(7**2 / (9 + 4 + 4))
    assert found.difference[0] == 1.0
    assert found.telling == 3
    assert replay.verdict(found) == "too few"
    assert replay.verdict(replay.compare(cards, cards["rank"].to_numpy(), cards["rank"].to_numpy())) == "same"
    with pytest.raises(ValueError, match="no page"):
        replay.compare(cards[:0], np.zeros(0), np.zeros(0))


def test_the_needed_pages_find_the_difference_four_times_of_five() -> None:
    members = world(400, 5)
    order, other = np.argsort(-members.attraction), np.arange(N)
    cards = pages_of(members, each=5, seed=5)
    spread = replay.compare(cards, place_of(cards, other), place_of(cards, order)).spread
    truth = members.value(order) - members.value(other)
    needed = replay.pages_needed(truth, spread)
    found = 0
    for seed in range(100):
        some = pages_of(world(needed, 1000 + seed), each=1, seed=1000 + seed)
        one = replay.compare(some, place_of(some, other), place_of(some, order), draws=200, seed=seed)
        found += one.difference[1] > 0
    assert 65 <= found <= 95
    # Before there is data: not far below what is needed, even where policies agree now and then.
    shown = members.attraction.mean() * LOOK[:PLACES].mean()
    assert spread < 1.2 * replay.assumed_spread(shown, N, PLACES)


def test_places_are_by_score_with_ties_that_do_not_know_the_log() -> None:
    cards = pd.DataFrame({"page": [0, 0, 0, 1, 1, 1], "item_id": [*"abc", *"cab"], "rank": [1, 2, 3] * 2})
    assert replay.places(cards, np.array([0.1, 0.9, np.nan, 5.0, 1.0, 3.0])).tolist() == [2, 1, 3, 1, 3, 2]
    tied = pd.Series(replay.places(cards, np.zeros(6)), index=pd.MultiIndex.from_frame(cards[["page", "item_id"]]))
    assert tied[0].to_dict() == tied[1].to_dict()


# By the position-based model ------------------------------------------------------------------------------------------


def test_the_position_model_gives_the_same_answer_with_less_noise() -> None:
    members = world(1000, seed=1)
    worst, best = np.argsort(members.attraction), np.argsort(-members.attraction)
    cards = pages_of(members, each=4, seed=2)
    places = place_of(cards, worst), place_of(cards, best)
    found, replayed = by_position(cards, *places), replay.compare(cards, *places)
    assert found is not None
    truth = members.value(worst), members.value(best)
    for (value, low, high), true in zip(found, (*truth, truth[1] - truth[0]), strict=True):
        assert abs(value - true) < 3 * (high - low) / (2 * 1.96)
        assert value == pytest.approx(true, rel=0.05)
    narrow, wide = (high - low for _, low, high in (found.difference, replayed.difference))
    assert narrow < wide / 2.5


def test_intervals_of_the_position_model_cover_the_truth_too() -> None:
    best, other = np.argsort(-world(1, 0).attraction), np.arange(N)
    inside = np.zeros(3)
    for seed in range(200):
        members = world(150, seed)
        cards = pages_of(members, each=4, seed=seed)
        found = by_position(cards, place_of(cards, other), place_of(cards, best), draws=300, seed=seed)
        assert found is not None
        whole = World(members.attraction, np.ones(1))
        truths = (whole.value(other), whole.value(best), whole.value(best) - whole.value(other))
        inside += [low <= truth <= high for (_, low, high), truth in zip(found, truths, strict=True)]
    assert ((inside / 200 >= 0.89) & (inside / 200 <= 0.99)).all(), inside / 200


def test_where_a_title_needs_its_place_the_position_model_is_wrong_and_replay_is_right() -> None:
    """Title i is clicked at place i + 1 alone: looks and attraction do not come apart."""
    rng = np.random.default_rng(0)
    pages = 8000
    drawn = np.argsort(rng.random((pages, N)), axis=1)
    cards = pd.DataFrame(
        {
            "page": np.repeat(np.arange(pages), N),
            "user_id": np.repeat(np.arange(pages) % 400, N),
            "item_id": drawn.ravel(),
            "rank": np.tile(np.arange(1, N + 1), pages),
            "n": N,
        }
    )
    cards["clicked"] = (cards["item_id"] + 1 == cards["rank"]) & (rng.random(len(cards)) < 0.2)
    own, turned = np.arange(N), np.arange(N)[::-1]
    found = by_position(cards, place_of(cards, turned), place_of(cards, own), draws=100)
    replayed = replay.compare(cards, place_of(cards, turned), place_of(cards, own), draws=100)
    assert found is not None
    assert replayed.b.replay[0] == pytest.approx(0.2 * PLACES, rel=0.1)
    assert found.b[0] < 0.5 * replayed.b.replay[0]


def test_the_position_model_waits_for_clicks_at_each_place() -> None:
    cards = pages_of(world(30, 1), each=2, seed=1)
    order = np.arange(N)
    assert by_position(cards.assign(clicked=cards["rank"] < 8), place_of(cards, order), place_of(cards, order)) is None
    assert by_position(cards[:0], np.zeros(0), np.zeros(0)) is None
    found = by_position(cards.assign(clicked=True), place_of(cards, order), place_of(cards, order[::-1]), visible=N)
    assert found is not None
    assert found.a == pytest.approx((N, N, N))  # every card is clicked, wherever it stands
    assert found.difference == pytest.approx((0, 0, 0), abs=1e-9)


# From the event store ------------------------------------------------------------------------------------------------

NOON = dt.datetime(2026, 12, 1, 12, tzinfo=dt.UTC)


def page(member: str, name: str, titles: list[str], clicked: str = "", chance: float | None = None) -> list[Event]:
    """What a drawn row leaves in the event store."""
    about = {"place": replay.ROW, "run_id": "r1", "page_id": name, "made_at": NOON}
    shown = [
        Event(member, "impression", title, rank=rank, propensity=chance, **about)  # type: ignore[arg-type]
        for rank, title in enumerate(titles, 1)
    ]
    seen = [Event(member, "click", t, rank=titles.index(t) + 1, **about) for t in clicked]  # type: ignore[arg-type]
    return shown + seen


def logged(data: Dataset, *pages: list[Event]) -> pd.DataFrame:
    record(data, [event for page in pages for event in page])
    return clicks.impressions(events(data.name, kinds=("impression", "click")))


def test_only_whole_and_fairly_drawn_pages_are_used(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset(reviews=0)
    third = 1 / 3
    shown = logged(
        data,
        page("u1", "good", ["b", "a", "c"], "aa", third),
        page("u2", "usual", ["a", "b"], "a"),
        page("u3", "half", ["a", "b"], "a", third),  # a card is missing
        page("u4", "twice", ["a", "a", "b"], "", third),
        page("u5", "odd", ["a", "b", "c"], "", 0.5),
        [Event("u6", "click", "a", place=replay.ROW, rank=1, page_id="never shown")],
        [Event("u6", "impression", "a", place="home:gems", rank=1, propensity=1.0, page_id="gems")],
    )
    found = replay.explored(shown)
    assert found.left_out == 3
    assert found.cards["page_id"].unique().tolist() == ["good"]
    assert found.cards["item_id"].tolist() == ["b", "a", "c"]
    assert found.cards["clicked"].tolist() == [False, True, False]
    assert found.cards["n"].tolist() == [3, 3, 3]
    assert found.cards["page"].tolist() == [0, 0, 0]
    assert clicks.per_page(shown, replay.ROW) == (1, (1.0, 1.0, 1.0))
    nothing = replay.explored(clicks.impressions(events("small", kinds=("watch",))))
    assert nothing.cards.empty
    assert nothing.left_out == 0


def test_rates_by_row_and_run(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset(reviews=0)
    gems = [Event("u1", "impression", "z", place="home:gems", rank=rank, page_id="p0") for rank in (1, 9)]
    shown = logged(data, *(page(f"u{i}", f"p{i}", ["a", "b"], "a" if i < 2 else "") for i in range(4)), gems)
    found = clicks.rates(shown, "place")
    assert found.loc[replay.ROW, ["pages", "members", "impressions", "clicks", "rate"]].tolist() == [4, 4, 8, 2, 0.25]
    assert found.loc[replay.ROW, "low"] < 0.25 < found.loc[replay.ROW, "high"]
    none = found.loc["home:gems"]  # the second card is out of sight
    assert none["impressions"] == 1
    assert none["low"] == 0
    assert none["high"] > 0.5
    runs = clicks.rates(shown, "run_id")
    assert runs["impressions"].tolist() == [8, 1]
    assert pd.isna(runs.index[1])
    assert clicks.rates(shown[:0], "place").empty


def test_clicks_that_come_from_few_members_widen_the_interval() -> None:
    even = pd.DataFrame({"user_id": np.repeat(np.arange(50), 8), "place": "p", "rank": 1})
    even["page_id"] = even["user_id"]
    even["clicked"] = np.tile([True] + [False] * 7, 50)
    lumpy = even.assign(clicked=(even["user_id"] < 7) & (even.index < 50))
    wide, narrow = (clicks.rates(frame, "place").iloc[0] for frame in (lumpy, even))
    assert wide["rate"] == narrow["rate"]
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


def test_pages_that_a_run_may_have_learned_from_are_known() -> None:
    day = pd.Timestamp("1998-04-22", tz="UTC")
    cards = pd.DataFrame(
        {
            "time": [(day + pd.Timedelta(days=d)).value // 1000 for d in (1, 3, 5)],
            "made_at": [pd.Timestamp("2026-12-01", tz="UTC") + pd.Timedelta(days=d) for d in (1, 3, 5)],
        }
    )
    # Trained after all of them, on tables that end between the first and the second.
    report = {"created_at": "2026-12-20T00:00:00+00:00", "as_of": "1998-04-24T00:00:00+00:00"}
    assert replay.not_seen_by(cards, report).tolist() == [False, True, True]
    # Trained before the last one was made, on tables whose clock is not known.
    assert replay.not_seen_by(cards, {"created_at": "2026-12-05"}).tolist() == [False, False, True]
    assert not replay.not_seen_by(cards, {}).any()


@pytest.mark.parametrize("module", [replay, clicks])
def test_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
