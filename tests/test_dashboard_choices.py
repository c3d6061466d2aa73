"""What a member does on a title's page is kept, shown at once, can be undone, and changes the rows of the home page."""

import doctest
from pathlib import Path

import dashboard_home as made
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import opened, text_of, toasts

from dashboard import choices, store
from dashboard.choices import Standing, standing
from data import events
from data.dataset import Dataset, Source, write_dataset
from data.events import Event
from data.feedback import export_events

AS_OF = pd.Timestamp("2024-04-30 12:00", tz="UTC")


@pytest.fixture
def data(small_dataset) -> Dataset:
    found = small_dataset("demo")
    made.write_everything(found)
    return found


def page_of(item_id: str, member: str = "u1") -> AppTest:
    app = opened("title", title=item_id, member=member)
    assert not app.exception
    return app


def button(app: AppTest, label: str):  # type: ignore[no-untyped-def]
    return next(found for found in app.button if found.label == label)


def kept() -> list[tuple[str, str, str]]:
    found = events.events("demo", kinds=events.DONE_KINDS)
    return list(found[["user_id", "item_id", "kind"]].itertuples(index=False, name=None))


def labels(app: AppTest) -> list[str]:
    return [found.label for found in app.button]


def test_doctests() -> None:
    assert doctest.testmod(choices).attempted >= 1
    assert doctest.testmod(choices).failed == 0


def test_every_click_is_kept_and_shown(data: Dataset) -> None:
    app = page_of("i3")
    assert kept() == []
    assert "Undo" not in labels(app)
    for label, kind, after in (
        ("Watch", "watch", "Watch again"),
        ("My list", "list_add", "On my list"),
        ("On my list", "list_remove", "My list"),
        ("Like", "thumb_up", "Like"),
        ("Not for me", "thumb_down", "Not for me"),
    ):
        app = button(app, label).click().run()
        assert not app.exception
        assert kept()[-1] == ("u1", "i3", kind)
        assert {after, "Undo"} <= set(labels(app))
    assert len(kept()) == 5
    app = button(app, "Undo").click().run()
    assert [kind for _, _, kind in kept()] == ["watch", "list_add", "list_remove", "thumb_up"]
    assert "Undo" not in labels(app)
    (row,) = events.events("demo", kinds=("watch",)).to_dict("records")
    assert row["place"] == "title page"
    assert row["service_time"] >= data.as_of


def test_a_second_click_on_the_same_button_is_the_same_event(data: Dataset) -> None:
    event = Event("u1", "watch", "i3")
    for _ in range(2):
        choices.do(data, event, "Watched")
    assert len(kept()) == 1


def test_a_rating_is_on_the_scale_of_the_dataset(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rated = data.interactions().query("user_id == 'u1'").sort_values("timestamp")["item_id"].iloc[-1]
    monkeypatch.setattr(choices, "highest_rating", lambda data: 10.0)
    choices.st.session_state["stars"] = 3
    choices._rate(data, "u1", rated, 10.0, "stars", None)
    assert events.events("demo")["rating"].tolist() == [8.0]
    before, since = store.told_before(data, "u1", rated), store.happened(data, "u1")
    assert standing(before, since.iloc[:0], False, rated, 5.0).stars == round(before["rating"].iloc[-1])
    assert standing(before, since, False, rated, 10.0).stars == 4


def test_the_star_that_was_given_stays_given(data: Dataset) -> None:
    app = page_of("i3")
    app = app.feedback[0].set_value(3).run()
    assert app.feedback[0].value == 3
    app = app.feedback[0].set_value(None).run()  # what Streamlit makes of a click on the fourth star
    assert app.feedback[0].value == 3
    assert toasts(app)[0].startswith("You gave 4 stars")
    assert events.events("demo")["rating"].tolist() == [4.0]
    app = app.feedback[0].set_value(0).run()
    assert events.events("demo")["rating"].tolist() == [4.0, 1.0]
    app = button(app, "Undo").click().run()
    assert app.feedback[0].value == 3


def test_what_was_done_is_told_where_it_was_done_and_then(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def left_at_once(item_id: str) -> AppTest:
        """A click whose answer is never drawn, since the member went on to another page at once."""
        app = page_of(item_id)
        app.session_state["choice-told"] = (("u1", item_id), choices.time.monotonic(), "Watched it", "")
        return app

    assert toasts(left_at_once("i3").run()) == ["Watched it"]
    elsewhere = left_at_once("i3")
    elsewhere.query_params["title"] = "i4"
    assert toasts(elsewhere.run()) == []
    home = left_at_once("i3").switch_page("views/home.py").run()
    assert toasts(home) == []
    late = left_at_once("i3")
    now = choices.time.monotonic
    monkeypatch.setattr(choices.time, "monotonic", lambda: now() + 60)
    assert toasts(late.run()) == []


def test_a_database_that_cannot_be_written_is_said(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = page_of("i3")
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("MARQUEE_DATABASE_URL", f"sqlite:///{tmp_path / 'no folder' / 'x.db'}")
    app = button(app, "Watch").click().run()
    assert not app.exception
    assert "cannot be used" in text_of(app)
    assert "Audience" in [header.value for header in app.header]  # the rest of the page is there


def test_how_a_member_stands_to_a_title_by_hand(marquee_home: Path) -> None:
    table = pd.DataFrame(
        {
            "user_id": ["a"] * 4,
            "item_id": ["t0", "t0", "t1", "t2"],
            "timestamp": AS_OF - pd.to_timedelta([4, 3, 2, 1], unit="D"),
            "rating": [2.0, 4.0, None, None],
            "kind": ["rating", "rating", "thumb_down", "watch"],
        }
    )
    mine = write_dataset("mine", {"interactions": table}, sources=[Source("t", "t")])
    nothing = pd.DataFrame({"item_id": [], "kind": [], "rating": []}).astype({"rating": float})

    def of(item_id: str, since: pd.DataFrame = nothing, listed: list[str] | None = None) -> Standing:
        return standing(store.told_before(mine, "a", item_id), since, item_id in (listed or []), item_id, 5.0)

    assert of("t0") == Standing(0, False, None, 4)
    assert of("t1") == Standing(0, False, "thumb_down", None)
    assert of("t2") == Standing(1, False, None, None)
    assert of("t9", listed=["t9"]) == Standing(0, True, None, None)
    since = pd.DataFrame(
        {
            "item_id": ["t1", "t0", "t0", "t0", "t2"],
            "kind": ["thumb_up", "watch", "watch", "rating", "rating"],
            "rating": [None, None, None, 1.0, 5.0],
        }
    ).astype({"rating": float})
    assert of("t1", since) == Standing(0, False, "thumb_up", None)
    assert of("t0", since) == Standing(2, False, None, 1)
    assert of("t2", since) == Standing(1, False, None, 5)


def test_the_list_is_that_of_the_tables_and_what_happened_since(marquee_home: Path) -> None:
    table = pd.DataFrame(
        {
            "user_id": ["a", "a", "a", "b", "a"],
            "item_id": ["t0", "t1", "t0", "t2", "t3"],
            "timestamp": AS_OF - pd.to_timedelta([4, 3, 2, 1, 0.5], unit="D"),
            "kind": ["list_add", "list_add", "list_remove", "list_add", "list_add"],
        }
    )
    mine = write_dataset("mine", {"interactions": table}, sources=[Source("t", "t")])
    assert store.listed(mine, "a", store.happened(mine, "a")) == ["t3", "t1"]
    assert store.listed(mine, "nobody", store.happened(mine, "nobody")) == []
    for kind, item_id in (("list_add", "t5"), ("list_remove", "t3"), ("list_add", "t1"), ("watch", "t7")):
        events.record(mine, [Event("a", kind, item_id)])
    assert store.listed(mine, "a", store.happened(mine, "a")) == ["t1", "t5"]
    after = export_events("mine").dataset
    assert store.happened(after, "a").empty
    assert store.listed(after, "a", store.happened(after, "a")) == ["t1", "t5"]


def test_rows_change_with_what_was_done(data: Dataset) -> None:
    from dashboard.views import home as view

    def rows() -> dict[str, list[str]]:
        since = store.happened(data, "u1")
        did = tuple(since["event_id"])
        found, _, _ = view.home_page(str(data.folder), data.fingerprint, (None,), None, "u1", did, data, since)
        return {row.title: row.cards["item_id"].tolist() for row in found.rows} | {
            "billboard": found.billboard["item_id"].tolist()
        }

    before = rows()
    (top,) = before["billboard"]
    assert "My list" not in before
    events.record(data, [Event("u1", "watch", top)])
    events.record(data, [Event("u1", "list_add", before["Top picks for you"][0])])
    after = rows()
    assert after["My list"] == before["Top picks for you"][:1]
    assert all(top not in items for title, items in after.items() if title != "Watch again")
    highest = choices.highest_rating(data)
    events.record(data, [Event("u1", "rating", before["Top picks for you"][1], rating=highest)])
    name = store.catalogue(data).at[before["Top picks for you"][1], "shown_title"]
    assert f"Because you watched {name}" in rows()


def sent(app: AppTest, text: str) -> AppTest:
    app.text_area[0].set_value(text)
    return button(app, "Send").click().run()


def test_a_review_is_kept_and_shown_and_text_stays_text(data: Dataset) -> None:
    app = sent(page_of("i3"), "<script>alert(1)</script> **Fine** & [more](x)")
    assert not app.exception
    (row,) = events.reviews("demo").to_dict("records")
    assert (row["user_id"], row["item_id"]) == ("u1", "i3")
    assert row["text"].startswith("<script>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; **Fine** &amp; [more](x)" in text_of(app)
    sent(app, "<script>alert(1)</script> **Fine** & [more](x)")
    assert len(events.reviews("demo")) == 1
    sent(app, "Another one.")
    assert events.reviews("demo")["text"].tolist()[1] == "Another one."
    other = page_of("i3", member="u2")
    assert "Another one." not in text_of(other)


def test_an_empty_review_is_asked_for_words(data: Dataset) -> None:
    app = sent(page_of("i3"), "   ")
    assert "Write a sentence first" in text_of(app)
    assert events.reviews("demo").empty


def test_what_was_exported_is_not_undone(data: Dataset) -> None:
    app = button(page_of("i3"), "Like").click().run()
    export_events("demo")
    app = button(app, "Undo").click().run()
    assert not app.exception
    assert kept() == [("u1", "i3", "thumb_up")]
    assert any("cannot be undone" in toast for toast in toasts(app))


def test_home_has_its_rows_without_the_database(data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("MARQUEE_DATABASE_URL", f"sqlite:///{tmp_path / 'no folder' / 'x.db'}")
    app = opened("home", member="u1")
    assert not app.exception
    assert "cannot be used" in text_of(app)
    assert "The per cent on a card is" in text_of(app)
