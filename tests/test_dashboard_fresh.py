"""What members write is in the inbox at once, read by the live model, and beside the member in the win-back list."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import dashboard_home as made
import pandas as pd
import pytest
from test_dashboard_pages import check_calm, opened

from dashboard import fresh, inbox, store
from data import events, replies
from data.dataset import Dataset
from data.events import Review
from data.feedback import export_events

TEXT = "The ending was <b>awful</b> and the acting dull."


class Model:
    """Stands in for the trained scorer: awful is negative."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def analyse(self, texts: list[str]) -> pd.DataFrame:
        self.asked += texts
        rows = []
        for text in texts:
            p = 0.05 if "awful" in text else 0.95
            story = {"aspect": "story", "p_positive": p, "start": 0, "end": len(text)}
            rows.append({"label": "negative" if p < 0.5 else "positive", "p_positive": p, "aspects": [story]})
        return pd.DataFrame(rows)


@pytest.fixture
def data(small_dataset: Callable[..., Dataset]) -> Dataset:
    found = small_dataset("demo")
    made.write_everything(found)
    return found


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    found, future = Model(), Future[Any]()
    future.set_result(found)
    real = store.live

    def live(name: str, which: str) -> store.Live | None:
        return store.Live(name, made.RUN, future) if which == "sentiment" else real(name, which)

    monkeypatch.setattr(store, "live", live)
    fresh._reads.clear()
    return found


def written(data: Dataset, user_id: str, text: str = TEXT, item_id: str = "i3") -> str:
    review = Review(user_id, item_id, text, 2.0)
    events.write_review(data, review)
    return review.review_id


def test_a_review_is_in_the_inbox_at_once_and_read_once(data: Dataset, model: Model) -> None:
    before = inbox.inbox(data)
    assert before is not None
    review_id = written(data, "u1")
    box = inbox.inbox(data)
    assert box is not None
    assert (len(box.frame), box.n_reviews) == (len(before.frame) + 1, before.n_reviews + 1)
    (row,) = box.frame[box.frame["review_id"] == review_id].to_dict("records")
    assert (row["label"], row["item_id"], row["user_id"], row["source"]) == ("negative", "i3", "u1", "dashboard")
    assert row["is_own"]
    assert 0 < row["priority"] <= 1
    assert row["priority"] > box.frame["priority"].median()
    assert row["reply_draft"]
    assert row["text"] == TEXT
    assert box.mentions.loc[box.mentions["row"] == box.frame.index[box.frame["review_id"] == review_id][0], "aspect"
                            ].tolist() == ["story"]  # fmt: skip
    other = written(data, "u2", "What a lovely film.")
    inbox.inbox(data)
    inbox.inbox(data)
    assert model.asked == [TEXT, "What a lovely film."]
    after = export_events("demo").dataset
    box = inbox.inbox(after)
    assert box is not None
    assert {review_id, other} <= set(box.frame["review_id"])  # exported, not yet scored
    assert box.n_reviews == before.n_reviews + 2
    assert len(box.frame["review_id"]) == box.frame["review_id"].nunique()
    assert model.asked == [TEXT, "What a lovely film."]


def test_until_the_model_is_loaded_the_review_waits(
    data: Dataset, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(data, "u1")
    future = Future[Any]()
    monkeypatch.setattr(store, "live", lambda name, which: store.Live(name, made.RUN, future))
    box = inbox.inbox(data)
    assert box is not None
    assert "u1" not in set(box.frame["user_id"])
    assert box.n_reviews == data.rows["reviews"] + 1
    future.set_result(model)
    box = inbox.inbox(data)
    assert box is not None
    assert "u1" in set(box.frame["user_id"])


def test_a_dataset_without_reviews_gets_an_inbox_with_the_first(
    small_dataset: Callable[..., Dataset], model: Model
) -> None:
    data = small_dataset("demo", drop=("reviews",))
    made.write_everything(data)
    assert inbox.inbox(data) is None
    written(data, "u1")
    box = inbox.inbox(data)
    assert box is not None
    assert box.frame["user_id"].tolist() == ["u1"]


def test_the_inbox_shows_it_as_text_with_its_member(data: Dataset, model: Model) -> None:
    review_id = written(data, "u1", "The ending was <script>awful</script>, awful, awful and the story bad." * 3)
    box = inbox.inbox(data)
    assert box is not None
    assert box.frame["review_id"].iloc[0] == review_id  # the first to answer
    text = check_calm(opened("reviews"))
    assert "<script>" not in text
    assert "&lt;script&gt;awful" in text
    assert "by Member u1" in text


def test_the_win_back_list_tells_what_a_member_wrote_and_was_answered(data: Dataset, model: Model) -> None:
    away = made.retention(data).sort_values("p_return")["user_id"].iloc[0]
    assert "Wrote of" not in check_calm(opened("winback"))
    review_id = written(data, away)
    app = opened("winback")
    app.selectbox(key=f"winback-seen-{data.name}").set_value("Any time").run()
    text = check_calm(app)
    title = store.catalogue(data).at["i3", "shown_title"]
    assert f"Wrote of {title}: negative; a reply waits in the inbox" in text
    replies.decide("demo", review_id, "edited", "We are sorry.", made.RUN)
    app.run()
    assert f"Wrote of {title}: negative; the reply is approved" in check_calm(app)
    box = inbox.inbox(data)
    assert box is not None
    told = inbox.last_of_members(box, inbox.decided(data), {"i3": title}).set_index("user_id")
    assert told.loc[away, "reply"] == "We are sorry."
    replies.decide("demo", review_id, "dismissed", "We are sorry.", made.RUN)
    told = inbox.last_of_members(box, inbox.decided(data), {"i3": title}).set_index("user_id")
    assert (told.loc[away, "reply_status"], told.loc[away, "reply"]) == ("dismissed", "")
