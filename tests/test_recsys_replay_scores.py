"""Pages are scored as of their moment: what happened later, in tables or event store, changes nothing."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from data import events, home
from data.dataset import Dataset, Source, write_dataset
from recsys.eight_bits import EightBits
from recsys.history import HistoryModule
from recsys.interactions import Vocabulary, histories_of, positive_events
from recsys.neumf import NeuMFModule
from recsys.replay import places
from recsys.replay_scores import popularity_scores, run_scores, varied_places
from recsys.scorer import Recommender

pytestmark = pytest.mark.usefixtures("one_thread")
TITLES = [f"i{i}" for i in range(20, 32)]


def tables_of(dataset: Dataset) -> dict[str, pd.DataFrame]:
    return {name: dataset.read(name) for name in ("interactions", "items", "users")}


def rewritten(dataset: Dataset, interactions: pd.DataFrame) -> Dataset:
    tables = tables_of(dataset) | {"interactions": interactions}
    return write_dataset(dataset.name, tables, sources=[Source("generated", "generated")], replace=True)


def recommender_of(dataset: Dataset, kind: str = "history") -> Recommender:
    """With random numbers for what it would learn: what it says depends on the whole history."""
    known = positive_events(dataset, 42)
    vocabulary = Vocabulary.of(dataset, known)
    n_users, n_items = len(vocabulary.user_ids), len(vocabulary.item_ids)
    torch.manual_seed(0)
    module: HistoryModule | NeuMFModule
    if kind == "history":
        module = HistoryModule(n_users, n_items, size=8, hidden=12, content_buckets=16, search=False)
        for parameter in (module.title.weight, module.event, module.bias):
            torch.nn.init.normal_(parameter.data, std=0.5)
        assert module.transition is not None
        module.transition.packed[:-1] = EightBits.of(0.1 * torch.randn(n_items, n_items)).packed
    else:
        module = NeuMFModule(n_users, n_items)
    popularity = histories_of(vocabulary, known).popularity
    return Recommender(module, vocabulary, popularity, home.runs(dataset.name, "recommender") / "untrained")


def cards_of(*pages: tuple[str, pd.Timestamp], titles: list[str] = TITLES) -> pd.DataFrame:
    n = len(titles)
    return pd.DataFrame(
        {
            "page": np.repeat(np.arange(len(pages)), n),
            "user_id": np.repeat(np.array([member for member, _ in pages], dtype=object), n),
            "item_id": np.array(titles * len(pages), dtype=object),
            "rank": np.tile(np.arange(1, n + 1), len(pages)),
            "time": np.repeat([time.value // 1000 for _, time in pages], n),
        }
    )


def happened(*rows: tuple[str, str, str, pd.Timestamp]) -> pd.DataFrame:
    """Events as the store gives them: member, kind, title, time on the dataset's clock."""
    frame = pd.DataFrame(rows, columns=["user_id", "kind", "item_id", "service_time"])
    return frame.assign(rating=np.nan, service_time=pd.to_datetime(frame["service_time"], utc=True).dt.as_unit("us"))


@pytest.mark.parametrize("kind", ["history", "neumf"])
def test_a_page_is_scored_as_if_its_moment_were_now(small_dataset: Callable[..., Dataset], kind: str) -> None:
    dataset = small_dataset(reviews=0)
    recommender = recommender_of(dataset, kind)
    interactions = dataset.interactions()
    mine = interactions[interactions["user_id"].isin(["u1", "u2"])].sort_values("timestamp")
    pages = [("u1", mine["timestamp"].iloc[8]), ("u2", mine["timestamp"].iloc[20]), ("u1", mine["timestamp"].iloc[25])]
    found = run_scores(recommender, dataset, cards_of(*pages), events.nothing()).reshape(3, -1)
    for number, (member, moment) in enumerate(pages):
        cut = rewritten(dataset, interactions[interactions["timestamp"] < moment])
        fresh = Recommender(recommender.module, recommender.vocabulary, recommender.popularity, home.home() / "small/r")
        fresh.dataset_name = cut.name
        at = fresh.positions([member])
        with torch.no_grad():
            (expected,) = fresh._scores(at, fresh.feedback.take(at))
        columns = recommender.vocabulary.items(pd.Series(TITLES))
        np.testing.assert_allclose(found[number], expected[0, columns], rtol=1e-4, atol=1e-5)
    if kind == "history":
        assert np.abs(found[0] - found[2]).max() > 0.01  # the same member, later


def test_what_a_click_led_to_is_not_known_to_its_own_page(small_dataset: Callable[..., Dataset]) -> None:
    dataset = small_dataset(reviews=0)
    recommender = recommender_of(dataset)
    assert dataset.as_of is not None
    moment = dataset.as_of + pd.Timedelta(days=2)
    cards = cards_of(("u1", moment), ("u1", moment + pd.Timedelta(days=1)))
    before = run_scores(recommender, dataset, cards, events.nothing()).reshape(2, -1)
    interactions = dataset.interactions()
    known = interactions.loc[interactions["user_id"] == "u1", "item_id"]
    title = next(title for title in TITLES if title not in set(known))
    later = ("u1", "watch", title, moment + pd.Timedelta(minutes=1))
    in_store = run_scores(recommender, dataset, cards, happened(later)).reshape(2, -1)
    np.testing.assert_array_equal(in_store[0], before[0])
    assert np.abs(in_store[1] - before[1]).max() > 0.01  # the next page knows it
    row = pd.DataFrame({"user_id": ["u1"], "item_id": [title], "kind": ["watch"], "timestamp": [later[3]]})
    exported = rewritten(dataset, pd.concat([interactions, row], ignore_index=True))
    in_tables = run_scores(recommender, exported, cards, events.nothing()).reshape(2, -1)
    np.testing.assert_allclose(in_tables, in_store, rtol=1e-5)
    recommender.update("u1", row[["item_id", "kind", "timestamp"]])
    at = recommender.positions(["u1"])
    with torch.no_grad():
        (live,) = recommender._scores(at, recommender.feedback.take(at))
    np.testing.assert_allclose(in_store[1], live[0, recommender.vocabulary.items(pd.Series(TITLES))], rtol=1e-4)


def test_a_thumb_down_counts_until_the_next_thumb(
    small_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = small_dataset(reviews=0)
    assert dataset.as_of is not None
    recommender = recommender_of(dataset)
    monkeypatch.setattr(recommender, "_similarity", lambda titles: torch.ones(len(titles), 40))
    hour = pd.Timedelta(hours=1)
    pages = [("u1", dataset.as_of + hours * hour) for hours in (1, 3, 5)]
    since = happened(
        ("u1", "thumb_down", "i39", dataset.as_of + 2 * hour), ("u1", "thumb_up", "i39", dataset.as_of + 4 * hour)
    )
    plain = run_scores(recommender, dataset, cards_of(*pages[:1]), events.nothing())
    found = run_scores(recommender, dataset, cards_of(*pages[:2]), since).reshape(2, -1)
    np.testing.assert_allclose(found[0], plain)
    np.testing.assert_allclose(found[1], plain - 2.0, rtol=1e-5)  # DISLIKE times a likeness of 1
    # The thumb up is something wanted, so the last page differs by that alone.
    up = run_scores(recommender, dataset, cards_of(pages[2]), since[1:])
    np.testing.assert_allclose(run_scores(recommender, dataset, cards_of(pages[2]), since), up)


def test_strangers_and_unknown_titles(small_dataset: Callable[..., Dataset]) -> None:
    dataset = small_dataset(reviews=0)
    assert dataset.as_of is not None
    cards = cards_of(("guest", dataset.as_of), titles=["i3", "never heard of", "i1"])
    for kind in ("history", "neumf"):
        recommender = recommender_of(dataset, kind)
        scores = run_scores(recommender, dataset, cards, events.nothing())
        assert np.isnan(scores).tolist() == [False, True, False]
        assert places(cards, scores)[1] == 3
    assert scores[0] == recommender.popularity[recommender.vocabulary.items(pd.Series(["i3"]))]


def test_popularity_counts_members_before_the_page(small_dataset: Callable[..., Dataset]) -> None:
    dataset = small_dataset(reviews=0)
    interactions = dataset.interactions()
    moments = [interactions["timestamp"].quantile(0.3), interactions["timestamp"].max() + pd.Timedelta(days=1)]
    cards = cards_of(*(("u1", moment) for moment in moments))
    since = happened(
        ("guest", "watch", "i20", moments[1] - pd.Timedelta(hours=1)),
        ("guest", "rating", "i20", moments[1] - pd.Timedelta(minutes=1)),  # a repeat
        ("other", "watch", "i20", moments[1]),  # not before
        ("other", "click", "i21", moments[1] - pd.Timedelta(hours=1)),
    )
    expected = [
        (interactions[interactions["timestamp"] < moment].groupby("item_id")["user_id"].nunique().get(title, 0))
        + (moment == moments[1] and title == "i20")
        for moment in moments
        for title in TITLES
    ]
    assert popularity_scores(dataset, cards, since).tolist() == expected


def test_variety_re_ranks_the_row_by_genres(small_dataset: Callable[..., Dataset]) -> None:
    dataset = small_dataset(reviews=0)
    assert dataset.as_of is not None
    # i1, i5 and i7: comedies; i4: a drama (see conftest.generated_tables).
    cards = cards_of(("u1", dataset.as_of), ("u2", dataset.as_of), titles=["i1", "i5", "i7", "i4"])[:7]
    scores = np.array([4.0, 3.0, 2.0, 1.0, 1.0, 2.0, 3.0])
    assert varied_places(dataset, cards, scores, 0.0).tolist() == [1, 2, 3, 4, 3, 2, 1]
    assert varied_places(dataset, cards, scores, 1.0).tolist() == [1, 3, 4, 2, 3, 2, 1]
