"""Rows of the home page: counted by hand on six events, and as properties on generated histories."""

import numpy as np
import pandas as pd
import pytest
from conftest import generated_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import rows
from data.schema import SCORES

AS_OF = pd.Timestamp("2024-04-30 12:00", tz="UTC")


def events(*lines: tuple[str, str | None, int, float | None]) -> pd.DataFrame:
    """(member, title, days before AS_OF, rating) as an interactions table."""
    frame = pd.DataFrame(lines, columns=["user_id", "item_id", "ago", "rating"])
    frame["timestamp"] = (AS_OF - pd.to_timedelta(frame.pop("ago"), unit="D")).dt.as_unit("us")
    return frame.assign(rating=frame["rating"].astype(float), kind="rating")


def catalogue(*ids: str, genres: dict[str, list[str]] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "shown_title": [f"Title {i}" for i in ids],
            "title": [f"Title {i}" for i in ids],
            "year": 1990.0,
            "genres": [(genres or {}).get(i, ["Drama"]) for i in ids],
        },
        index=pd.Index(ids, name="item_id"),
    )


def picks(*ids: str, user: str = "a") -> pd.DataFrame:
    frame = pd.DataFrame({"user_id": user, "rank": np.arange(1, len(ids) + 1), "item_id": list(ids), "score": 1.0})
    return frame.reindex(columns=SCORES["recommendations"].names)


def test_one_members_events_are_one_slice_in_time_order() -> None:
    seen = rows.viewing(events(("b", "x", 5, 1), ("a", "y", 3, 2), ("b", "z", 9, 3), ("a", "x", 7, 4)), AS_OF)
    assert seen.item_ids[seen.item[seen.of("b")]].tolist() == ["z", "x"]
    assert seen.rating[seen.of("a")].tolist() == [4, 2]
    assert seen.of("nobody") == slice(0, 0)
    assert set(seen.seen("a")) == {"x", "y"}
    assert seen.events_per_member.sum() == 4


def test_what_does_not_show_a_title_was_seen_is_left_out() -> None:
    frame = events(("a", "x", 5, 1), ("a", "y", 3, None), ("a", None, 2, None))
    frame.loc[1, "kind"] = "impression"
    assert set(rows.viewing(frame, AS_OF).seen("a")) == {"x"}


def test_title_figures_by_hand() -> None:
    seen = rows.viewing(
        events(("a", "x", 1, 5), ("b", "x", 2, 3), ("a", "x", 84, None), ("c", "y", 60, 2)),
        AS_OF,
    )
    x = seen.titles.loc["x"]
    assert (x["events"], x["members"], x["recent"], x["ratings"], x["mean_rating"]) == (3, 2, 2, 2, 4.0)
    # one event in the 56 days between its first and the last 28: half an event expected in 28 days
    assert x["expected"] == pytest.approx(0.5)


def test_match_is_the_share_of_unseen_titles_ranked_below() -> None:
    cards = rows.scored(picks("x", "y"), unseen=200)
    assert cards["match"].tolist() == [1 - 1 / 200, 1 - 2 / 200]
    assert [rows.match_percent(m) for m in (1.0, 0.995, 0.5, 0.0, None, float("nan"))] == [99, 99, 50, 1, None, None]


def test_a_score_that_is_a_probability_is_shown_as_it_is() -> None:
    table = picks("x", "y").assign(score=[0.83, 0.4])
    assert rows.are_probabilities(table)
    assert rows.scored(table, unseen=200, probabilities=True)["match"].tolist() == [0.83, 0.4]
    assert not rows.are_probabilities(table.assign(score=[1.2, 0.4]))
    assert not rows.are_probabilities(table.head(0))


def test_trending_prefers_the_unusual_to_the_always_popular() -> None:
    always = [(f"m{i}", "always", ago, None) for i, ago in enumerate(range(1, 360, 4))]
    sudden = [(f"m{i}", "sudden", 2 + i % 9, None) for i in range(12)]
    early = [("m0", "sudden", 300, None), ("m1", "fading", 3, None)]
    early += [(f"m{i}", "fading", 100 + i, None) for i in range(30)]
    trend = rows.trending(rows.viewing(events(*always, *sudden, *early), AS_OF))
    assert trend["item_id"].iloc[0] == "sudden"
    assert "12 ratings in the last 28 days" in trend["note"].iloc[0]
    assert "fading" not in trend["item_id"].tolist()


def test_titles_of_the_same_members_are_together() -> None:
    lines = [(f"m{i}", title, 10, None) for i in range(20) for title in (("x", "y") if i < 10 else ("z",))]
    lines += [(f"m{i}", "everywhere", 11, None) for i in range(20)]
    alike = rows.together(rows.viewing(events(*lines), AS_OF), "x")
    assert alike["item_id"].tolist()[:2] == ["y", "everywhere"]
    assert "z" not in alike["item_id"].tolist()
    # both 10 of 10 and 10: 10 / (10 + 5)
    assert alike["score"].iloc[0] == pytest.approx(10 / 15)
    assert rows.together(rows.viewing(events(*lines), AS_OF), "unknown").empty


def test_watch_again_takes_the_best_rated_the_longest_ago_first() -> None:
    seen = rows.viewing(events(("a", "p", 9, 5), ("a", "q", 90, 5), ("a", "r", 5, 1), ("a", "s", 7, 2)), AS_OF)
    again = rows.watch_again(seen, "a")
    assert again["item_id"].tolist() == ["q", "p"]
    assert again["note"].iloc[0] == "You rated it 5"
    assert rows.latest_favourite(seen, "a") == "p"
    assert rows.watch_again(seen, "nobody").empty
    assert rows.latest_favourite(seen, "nobody") is None


def test_histories_without_ratings_work() -> None:
    seen = rows.viewing(events(("a", "p", 9, None), ("a", "q", 90, None), ("b", "p", 3, None)), AS_OF)
    assert rows.latest_favourite(seen, "a") == "p"
    assert rows.watch_again(seen, "a")["item_id"].tolist() == ["q", "p"]


def test_favourite_genres_are_what_the_member_likes_more_than_others() -> None:
    genres = {f"d{i}": ["Drama"] for i in range(8)} | {f"h{i}": ["Horror", "Drama"] for i in range(4)}
    lines = [(f"m{j}", f"d{i}", 50, 4) for j in range(9) for i in range(8)]
    lines += [("a", f"h{i}", 10, 5) for i in range(4)] + [("a", "d0", 11, 1)]
    seen = rows.viewing(events(*lines), AS_OF)
    found = rows.favourite_genres(seen, "a", catalogue(*genres, genres=genres)["genres"])
    assert found[0] == "Horror"


def test_hidden_gems_are_the_less_known_half_in_order_of_match() -> None:
    lines = [(f"m{i}", "famous", 50, 4) for i in range(9)] + [("m1", "rare", 50, 4)]
    seen = rows.viewing(events(*lines), AS_OF)
    gems = rows.hidden_gems(rows.scored(picks("famous", "rare", "new"), 100), seen)
    assert gems["item_id"].tolist() == ["new"]
    assert rows.hidden_gems(rows.cards([]), seen).empty


def test_rows_use_a_title_once_and_short_rows_go() -> None:
    a = rows.Row("a", "A", rows.cards(["1", "2", "3", "4", "5"]), length=4)
    b = rows.Row("b", "B", rows.cards(["3", "4", "6", "7", "8", "8", "9"]))
    c = rows.Row("c", "C", rows.cards(["10", "11"]))
    kept = rows.without_repeats([a, b, c], taken=["2"])
    assert [row.key for row in kept] == ["a", "b"]
    assert kept[0].cards["item_id"].tolist() == ["1", "3", "4", "5"]
    assert kept[1].cards["item_id"].tolist() == ["6", "7", "8", "9"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), user=st.integers(0, 59), k=st.integers(0, 30), similar=st.booleans())
def test_no_title_twice_and_nothing_seen_but_under_watch_again(seed: int, user: int, k: int, similar: bool) -> None:
    tables = generated_tables(reviews=0, seed=seed % 5)
    interactions = tables["interactions"].assign(kind="rating")
    interactions["timestamp"] = interactions["timestamp"].dt.as_unit("us")
    interactions["rating"] = interactions["rating"].astype(float)
    seen = rows.viewing(interactions, interactions["timestamp"].max())
    items = tables["items"].set_index("item_id")
    items["shown_title"] = items["title"]
    member = f"u{user}"
    rng = np.random.default_rng(seed)
    mine = picks(*rng.permutation(items.index)[:k], user=member)
    alike = pd.DataFrame({"item_id": rng.permutation(items.index)[:20], "score": 1.0}) if similar else None
    top, shelves = rows.home_rows(member, seen, items, mine, alike)
    shown = [*top["item_id"], *(title for row in shelves for title in row.cards["item_id"])]
    assert len(shown) == len(set(shown))
    fresh = [*top["item_id"], *(t for row in shelves if row.key != "again" for t in row.cards["item_id"])]
    assert not set(fresh) & set(seen.seen(member))
    assert all(rows.SHORTEST_ROW <= len(row.cards) <= rows.ROW_LENGTH for row in shelves)
    assert all(set(row.cards.columns) == set(rows.CARDS) for row in shelves)


def test_home_of_a_member_with_many_picks_has_its_rows_in_order() -> None:
    tables = generated_tables(n_items=300, reviews=0)
    interactions = tables["interactions"].assign(kind="rating")
    interactions["timestamp"] = interactions["timestamp"].dt.as_unit("us")
    interactions["rating"] = interactions["rating"].astype(float)
    seen = rows.viewing(interactions, interactions["timestamp"].max())
    items = tables["items"].set_index("item_id")
    items["shown_title"] = items["title"]
    fresh = items.index[~items.index.isin(seen.seen("u1"))]
    top, shelves = rows.home_rows("u1", seen, items, picks(*fresh[:100], user="u1"))
    assert top["item_id"].tolist() == [fresh[0]]
    keys = [row.key for row in shelves]
    assert keys[0] == "picks"
    assert keys[-1] == "again"
    assert "gems" in keys
    assert any(key.startswith("genre-") for key in keys)
    assert shelves[0].cards["match"].is_monotonic_decreasing


def test_before_the_first_scoring_the_popular_row_leads() -> None:
    tables = generated_tables(reviews=0)
    interactions = tables["interactions"].assign(kind="rating")
    interactions["timestamp"] = interactions["timestamp"].dt.as_unit("us")
    interactions["rating"] = interactions["rating"].astype(float)
    seen = rows.viewing(interactions, interactions["timestamp"].max())
    items = tables["items"].set_index("item_id")
    items["shown_title"] = items["title"]
    _, shelves = rows.home_rows("u1", seen, items, picks(user="u1"))
    assert shelves[0].title == "Popular with everyone"
    assert shelves[0].cards["match"].isna().all()
