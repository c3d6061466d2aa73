"""Who is watching: profiles, a new member made of a few titles, the live recommender, and what pages offered."""

import doctest
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dashboard_home as made
import numpy as np
import pandas as pd
import pytest
from test_dashboard_pages import check_calm, opened, text_of

from dashboard import members, offers, store, welcome
from data import events
from data.dataset import Dataset
from data.errors import UserError
from data.events import Event
from data.feedback import export_events
from recsys.pages import Page, Row
from recsys.rows import cards


@pytest.fixture
def data(small_dataset: Any) -> Dataset:
    found: Dataset = small_dataset("demo")
    made.write_everything(found)
    return found


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    state: dict[str, Any] = {}
    monkeypatch.setattr(offers.st, "session_state", state)
    return state


def logged(*kinds: str) -> pd.DataFrame:
    return events.events("demo", kinds=kinds or ("impression", "click"))


def test_doctests() -> None:
    assert doctest.testmod(members).attempted >= 1
    assert doctest.testmod(members).failed == 0


# A new member -------------------------------------------------------------------------------------------------------


def test_a_new_member_is_refused_until_there_is_a_name_and_enough_titles(data: Dataset) -> None:
    seen = store.viewing(data)
    assert seen is not None
    assert "Give the new member a name" in welcome.problem(data, seen, "", ["i1", "i2", "i3"])
    assert "already" in welcome.problem(data, seen, "u1", ["i1", "i2", "i3"])
    assert "Pick 2 more titles" in welcome.problem(data, seen, "Ada", ["i1"])
    assert "Pick 1 more title:" in welcome.problem(data, seen, "Ada", ["i1", "i2"])
    assert welcome.problem(data, seen, "Ada", ["i1", "i2", "i3"]) == ""
    for _ in range(2):  # the button clicked twice
        welcome.add(data, "Ada", ["i1", "i2", "i3"])
    kept = events.events("demo")
    assert kept[["user_id", "item_id", "kind", "rank"]].to_numpy().tolist() == [
        ["Ada", f"i{i}", "thumb_up", i] for i in (1, 2, 3)
    ]
    assert "already" in welcome.problem(data, seen, "Ada", ["i1", "i2", "i3"])


def test_a_new_member_is_there_before_and_after_an_export(data: Dataset) -> None:
    assert store.newcomers(data) == []
    welcome.add(data, "Ada", ["i1", "i2", "i3"])
    events.record(data, [Event("u1", "watch", "i4"), Event("Eve", "impression", "i4")])
    assert store.newcomers(data) == ["Ada"]  # u1 was there before, Eve has only been shown something
    assert store.member_label(data, "Ada") == "Ada"
    app = opened("home", member="Ada")
    check_calm(app)
    assert app.query_params["member"] == "Ada"
    assert next(box for box in app.selectbox if box.label == "Who is watching?").value == "Ada"
    app = opened("title", title="i1", member="Ada")
    assert "Your review" in [header.value for header in app.header]
    after = export_events("demo").dataset
    assert store.newcomers(after) == []
    assert store.member_label(after, "Ada") == "Ada"
    assert opened("home", member="Ada").query_params["member"] == "Ada"


def test_the_titles_offered_are_well_known_and_of_many_kinds(data: Dataset) -> None:
    seen, catalogue = store.viewing(data), store.catalogue(data)
    assert seen is not None
    offered = welcome.suggestions(seen, catalogue, 8)
    first = [catalogue.at[item_id, "genres"][0] for item_id in offered]
    assert sorted(first[:2]) == ["Comedy", "Drama"]
    assert sorted(first) == ["Comedy"] * 4 + ["Drama"] * 4
    assert offered[0] == seen.titles["members"].idxmax()
    assert len(set(offered)) == 8


def test_faces_keep_their_place_and_are_few(data: Dataset, session: dict[str, Any]) -> None:
    assert members.profiles(data, "u1", []) == ["u1"]
    assert members.profiles(data, "u2", ["Ada"]) == ["u2", "Ada", "u1"]
    assert members.profiles(data, "u1", ["Ada"]) == ["u2", "Ada", "u1"]
    for number in range(3, 9):
        assert f"u{number}" in members.profiles(data, f"u{number}", ["Ada"])
    assert len(members.profiles(data, "u8", ["Ada"])) == members.PROFILES


# The live recommender ------------------------------------------------------------------------------------------------


class Recommender:
    """Stands in for the trained one: what it was told decides what it says."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def update(self, member: str, happened: pd.DataFrame) -> None:
        self.told = [*self.told, *happened["item_id"]]

    members = ("u1", "u3")
    vocabulary = SimpleNamespace(item_ids=pd.Index([f"i{i}" for i in range(40)]))

    def recommend(self, users: list[str], k: int, reasons: bool = False, variety: float = 0.0) -> pd.DataFrame:
        item_ids = [f"i{i}" for i in range(40) if f"i{i}" not in self.told][::-1][:k]
        frame = pd.DataFrame({"user_id": users[0], "rank": np.arange(1, len(item_ids) + 1), "item_id": item_ids})
        return frame.assign(score=np.linspace(0.9, 0.1, len(frame)), reason_item_id=None, reason_share=None)


def test_the_live_recommender_knows_at_once_what_a_member_did_and_tells_nobody_else(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    shared, future = Recommender(), Future()  # type: ignore[var-annotated]
    future.set_result(shared)
    monkeypatch.setattr(store, "live", lambda name, model: store.Live("demo", f"run {uuid.uuid4()}", future))
    ranked, probabilities = members.ranked(data, "u1", members.happened(data, "u1"))
    assert probabilities
    assert ranked["item_id"].iloc[0] == "i39"
    events.record(data, [Event("u1", "watch", "i39"), Event("u1", "impression", "i38")])
    ranked, _ = members.ranked(data, "u1", members.happened(data, "u1"))
    assert ranked["item_id"].iloc[0] == "i38"  # offered is not watched
    assert shared.told == []
    assert members.ranked(data, "u3", members.happened(data, "u3"))[0]["item_id"].iloc[0] == "i39"
    seen = store.viewing(data)
    assert seen is not None
    told = members.match(data, seen, "u1", ["i39", "i38", "no title"])
    assert told["match"].isna().tolist() == [True, False, True]
    assert told.loc["i38", "match"] == pytest.approx(0.9)


# What pages offered --------------------------------------------------------------------------------------------------


def page_of(n: int = 12) -> Page:
    return Page(
        cards(["top"]),
        [
            Row("picks", "Top picks for you", cards([f"p{i}" for i in range(n)])),
            Row("trending", "Trending now", cards(["t0", "t1", "t2"])),
        ],
    )


def test_a_page_is_kept_once_with_place_rank_and_run(
    data: Dataset, session: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_EXPLORE", "0")
    for _ in range(3):  # drawn again and again
        offered = offers.offer(data, "u1", page_of(), "run-1")
        offers.shown(data, "u1", offered)
    kept = logged()
    assert len(kept) == 1 + offers.VISIBLE + 3
    assert kept["page_id"].nunique() == 1
    assert set(kept["kind"]) == {"impression"}
    assert kept["propensity"].isna().all()
    picks = kept[kept["place"] == "home:picks"]
    assert picks["item_id"].tolist() == [f"p{i}" for i in range(8)]
    assert picks["rank"].tolist() == list(range(1, 9))
    assert set(picks["run_id"]) == {"run-1"}
    assert kept.loc[kept["place"] == "home:trending", "run_id"].isna().all()
    assert kept.loc[kept["place"] == "home:billboard", "run_id"].tolist() == ["run-1"]

    offers.clicked(data, "u1", offered, "picks", "p3")
    offers.clicked(data, "u1", offered, "picks", "p3")  # twice on the same card of the same page
    offers.clicked(data, "u1", offered, offers.BILLBOARD, "top")
    offers.clicked(data, "u1", offered, "picks", "not there")
    clicks = logged("click")
    assert clicks[["place", "item_id", "rank"]].to_numpy().tolist() == [
        ["home:picks", "p3", 4],
        ["home:billboard", "top", 1],
    ]
    assert set(clicks["page_id"]) == set(kept["page_id"])

    other = offers.offer(data, "u1", page_of(9), "run-1")
    later = dict.fromkeys(session["offers"], (offered.page_id, 0.0))
    session["offers"] = later
    again = offers.offer(data, "u1", page_of(), "run-1")
    assert len({offered.page_id, other.page_id, again.page_id}) == 3  # other titles, or half an hour later


def test_of_a_row_in_random_order_all_is_kept_with_its_chance(
    data: Dataset, session: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_EXPLORE", "1")
    offered = offers.offer(data, "u1", page_of(), "run-1")
    offers.shown(data, "u1", offered)
    picks = logged().query("place == 'home:picks'")
    assert sorted(picks["item_id"]) == sorted(f"p{i}" for i in range(12))
    assert picks["item_id"].tolist() == offered.page.rows[0].cards["item_id"].tolist() != [f"p{i}" for i in range(12)]
    assert picks["propensity"].tolist() == pytest.approx([1 / 12] * 12)
    assert logged().query("place != 'home:picks'")["propensity"].isna().all()
    offers.clicked(data, "u1", offered, "picks", "p3")
    (click,) = logged("click").to_dict("records")
    assert click["propensity"] == pytest.approx(1 / 12)
    (same,) = picks[picks["item_id"] == "p3"].to_dict("records")
    assert click["rank"] == same["rank"]


@pytest.mark.parametrize("given", ["2", "-0.1", "often", "nan"])
def test_a_share_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_EXPLORE", given)
    with pytest.raises(UserError, match=r"MARQUEE_EXPLORE is '.*give a share from 0"):
        offers.share_explored()


def test_home_keeps_what_it_showed_and_search_finds_with_wrong_letters(data: Dataset) -> None:
    app = opened("home", member="u1")
    check_calm(app)
    first = logged("impression")
    assert {"home:billboard", "home:picks"} <= set(first["place"])
    assert set(first["user_id"]) == {"u1"}
    assert set(first.loc[first["place"] == "home:picks", "run_id"]) == {made.RUN}
    app.run()
    assert len(logged("impression")) == len(first)
    box = next(field for field in app.text_input if field.label == "Search titles")
    box.set_value("no such thing xq").run()
    assert "No title is like that" in check_calm(app)
    box = next(field for field in app.text_input if field.label == "Search titles")
    box.set_value("<b>Title</b> 7").run()
    assert "<b>Title</b>" not in check_calm(app)


def test_home_is_there_while_the_database_is_not(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MARQUEE_DATABASE_URL", f"sqlite:///{tmp_path / 'no folder' / 'x.db'}")
    app = opened("home", member="u1")
    assert "cannot be used" in check_calm(app)
    assert "where the data end" in text_of(app)  # the rows are there
