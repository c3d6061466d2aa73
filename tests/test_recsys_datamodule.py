"""Tables to batches: what counts, who is ranked, and that every example comes once."""

import numpy as np
import pandas as pd
import pytest
import torch

from data.dataset import Dataset, Source, write_dataset
from data.errors import UserError
from recsys import datamodule
from recsys.datamodule import Batches, RecommenderData
from recsys.interactions import Vocabulary, hidden_titles, positive_events


def dataset_of(rows: list[tuple[str, str | None, int, str]], name: str = "tiny", items: int = 0) -> Dataset:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "minute", "kind"])
    frame["timestamp"] = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(frame.pop("minute"), unit="min")
    tables = {"interactions": frame}
    if items:
        ids = [f"i{i}" for i in range(items)]
        tables["items"] = pd.DataFrame({"item_id": ids, "title": ids})
    return write_dataset(name, tables, sources=[Source("t", "t")], replace=True)


def test_only_positive_kinds_count_and_only_once(marquee_home) -> None:
    dataset = dataset_of(
        [
            ("a", "x", 3, "watch"),
            ("a", "x", 1, "rating"),
            ("a", "y", 2, "impression"),
            ("a", "y", 2, "thumb_down"),
            ("a", None, 2, "watch"),
            ("b", "z", 1, "list_add"),
            ("b", "z", 2, "list_remove"),
            ("b", "w", 3, "click"),
            ("b", "v", 3, "thumb_up"),
        ]
    )
    events = positive_events(dataset, seed=0)
    assert list(zip(events["user_id"], events["item_id"], strict=True)) == [("a", "x"), ("b", "z"), ("b", "v")]
    assert events["timestamp"].iloc[0].minute == 1
    vocabulary = Vocabulary.of(dataset, events)
    assert set(vocabulary.item_ids) == {"v", "w", "x", "y", "z"}
    hidden = hidden_titles(dataset, vocabulary, pd.Index(["b", "nobody", "a"]))
    named = [sorted(vocabulary.item_ids[hidden.take(np.array([i])).items].unique()) for i in range(3)]
    assert named == [["v", "z"], [], ["x", "y"]]


def test_leave_one_out_hides_history_and_asks_for_the_next_title(small_dataset) -> None:
    small_dataset()
    data = RecommenderData("small")
    data.load()
    events = positive_events(datamodule.open_dataset("small"), data.seed)
    for split, back in (("validation", 2), ("test", 1)):
        ranking = data.ranking(split)
        assert len(ranking.users) == data.n_users
        for row in (0, 17, 59):
            mine = events[events["user_id"] == data.vocabulary.user_ids[ranking.users[row]]]["item_id"].tolist()
            one = np.array([row])
            assert data.vocabulary.item_ids[ranking.targets.take(one).items].tolist() == [mine[-back]]
            assert data.vocabulary.item_ids[ranking.seen.take(one).items].tolist() == mine[:-back]


def test_temporal_ranks_only_members_known_before_the_cut(small_dataset) -> None:
    small_dataset()
    data = RecommenderData("small", protocol="temporal")
    data.load()
    assert data.train.times.max() < data.validation.times.min()
    assert data.validation.times.max() < data.test.times.min()
    assert data.known[data.ranking("test").users].all()


def test_fit_on_everything_learns_from_every_event(small_dataset) -> None:
    small_dataset()
    data = RecommenderData("small")
    data.load()
    before = sum(len(batch["user"]) for batch in data.train_dataloader())
    data.fit_on = "everything"
    after = sum(len(batch["user"]) for batch in data.train_dataloader())
    assert after == before + 2 * data.n_users
    assert len(data.wanted_keys()) == after


def test_a_positive_fades_with_later_ones(small_dataset) -> None:
    small_dataset()
    data = RecommenderData("small", half_life=2, weight_floor=0.0)
    data.load()
    weights, age = data.weights(), data.train.age
    np.testing.assert_allclose(weights[age == 2] / weights[age == 0][0], 0.5, rtol=1e-5)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-5)


@pytest.mark.parametrize(("rows", "processes"), [(10, 1), (10, 2), (7, 3), (1, 1), (64, 4)])
def test_every_row_comes_once_over_all_processes(monkeypatch, rows: int, processes: int) -> None:
    seen, counts = [], []
    for rank in range(processes):
        monkeypatch.setattr(datamodule, "_processes", lambda rank=rank: (rank, processes))
        batches = Batches(rows, 4, lambda rows: {"row": rows}, seed=1)
        mine = [batch["row"] for batch in batches]
        assert all(len(batch) <= 4 for batch in mine)
        assert len(mine) == len(batches)
        counts.append(len(mine))
        seen += torch.cat(mine).tolist()
    assert len(set(counts)) == 1
    assert sorted(seen) == list(range(rows))


def test_fewer_rows_than_processes_leaves_nobody_waiting(monkeypatch) -> None:
    for rank in range(3):
        monkeypatch.setattr(datamodule, "_processes", lambda rank=rank: (rank, 3))
        assert len(list(Batches(1, 4, lambda rows: {"row": rows}, seed=1))) == 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int | None, epoch: int) -> list[int]:
        return torch.cat([b["row"] for b in Batches(20, 4, lambda r: {"row": r}, seed, lambda: epoch)]).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert order(None, 3) == list(range(20))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("a", "x", 1, "impression")], "nothing to recommend"),
        ([("a", "x", 1, "rating")], "one title"),
        ([("a", "x", 1, "rating"), ("b", "y", 1, "rating")], "three or more"),
        ([("a", "x", 1, "rating"), ("a", "x", 2, "rating"), ("a", "y", 3, "rating")], "three or more"),
        ([("a", None, 1, "watch")], "nothing to recommend"),
    ],
)
def test_too_little_data_is_told_in_a_sentence(marquee_home, rows, sentence: str) -> None:
    dataset_of(rows)
    with pytest.raises(UserError, match=sentence):
        RecommenderData("tiny").load()


def test_one_member_is_enough(marquee_home) -> None:
    dataset_of([("a", f"i{i}", i, "rating") for i in range(4)], items=6)
    data = RecommenderData("tiny")
    assert (data.n_users, data.n_items) == (1, 6)
    assert len(data.ranking("test").users) == 1


def test_vocabulary_survives_the_disk(small_dataset, tmp_path) -> None:
    small_dataset()
    data = RecommenderData("small")
    data.load()
    data.save(tmp_path)
    vocabulary, popularity = Vocabulary.load(tmp_path)
    assert vocabulary.user_ids.tolist() == data.vocabulary.user_ids.tolist()
    assert vocabulary.item_ids.tolist() == data.vocabulary.item_ids.tolist()
    assert popularity.sum() == len(data.everything.items)
