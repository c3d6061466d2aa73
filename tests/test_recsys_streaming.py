"""Histories on disk are those in memory, event for event, whatever the protocol, and a training sees no difference."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from quiet_trainer import quiet_trainer

from data import home
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.errors import UserError
from data.feedback import forget
from recsys import interactions, streaming
from recsys.__main__ import main
from recsys.datamodule import PROTOCOLS
from recsys.history import HistoryModule
from recsys.history_data import HistoryData
from recsys.interactions import Histories
from recsys.partition import _smallest

pytestmark = pytest.mark.usefixtures("one_thread")
PARTS = ("everything", "train", "validation", "test")
SIZES: dict[str, Any] = {"size": 8, "hidden": 12, "powers": [0.0, 1.0], "content_buckets": 32, "folds": 3}


@pytest.fixture
def odd_dataset(marquee_home: Path) -> Dataset:
    """Many events in one instant, repeats, titles and members with odd ids, rows in no order, events of all kinds."""
    rng = np.random.default_rng(0)
    n = 6_000
    users = np.array([f"m{i}" for i in range(90)] + ["émile", "🎬", "o'brien\"", "10", "9"], object)
    titles = np.array([f"t{i}" for i in range(60)] + ["ünter", "🍿", "x;y", "B", "a"], object)
    start = pd.Timestamp("2024-01-01", tz="UTC")
    frame = pd.DataFrame(
        {
            "user_id": users[rng.integers(0, len(users), n)],
            "item_id": titles[rng.integers(0, len(titles), n)],
            "timestamp": start + pd.to_timedelta(rng.integers(0, 40, n), unit="h"),
            "kind": rng.choice(["rating", "watch", "thumb_up", "thumb_down", "click", "list_add"], n),
        }
    )
    frame["rating"] = np.where(frame["kind"] == "rating", rng.integers(1, 6, n), np.nan)
    frame.loc[rng.random(n) < 0.02, "item_id"] = None
    few = pd.DataFrame({"user_id": ["one", "two", "two"], "item_id": ["t1", "t2", "t3"], "kind": "watch"})
    few["timestamp"] = start + pd.to_timedelta(
        [0, 0, 300], unit="h"
    )  # the last event of all, of nearly the last member
    frame = pd.concat([frame, few.assign(rating=np.nan)], ignore_index=True)
    items = pd.DataFrame({"item_id": [*titles, "unseen"], "title": [*titles, "Nobody saw it"]})
    return write_dataset("odd", {"interactions": frame, "items": items}, sources=[Source("made", "made")])


def loaded(**settings: Any) -> HistoryData:
    data = HistoryData("odd", **settings)
    data.load()
    return data


def assert_same(mine: Histories, other: Histories) -> None:
    assert mine.n_items == other.n_items
    for column in ("start", "items", "times", "ratings"):
        np.testing.assert_array_equal(getattr(mine, column), getattr(other, column), column)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("rows", [2**20, 50], ids=["whole", "pieces"])
def test_on_disk_are_the_histories_of_memory(
    odd_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, protocol: Any, rows: int
) -> None:
    monkeypatch.setattr(streaming, "_ROWS", rows)
    monkeypatch.setattr(interactions, "BLOCK", rows)
    mine, other = loaded(protocol=protocol, streaming=True), loaded(protocol=protocol)
    assert mine.vocabulary.user_ids.tolist() == other.vocabulary.user_ids.tolist()
    assert mine.vocabulary.item_ids.tolist() == other.vocabulary.item_ids.tolist()
    parts = (*PARTS, "before_validation", "before_test") if protocol == "held-out-users" else PARTS
    for part in parts:
        assert_same(getattr(mine, part), getattr(other, part))
        assert len(getattr(mine, part).items) > 50
    assert isinstance(mine.everything.items, np.memmap)
    splits: tuple[Literal["validation"], Literal["test"]] = ("validation", "test")
    for split in splits:
        ranking, expected = mine.ranking(split), other.ranking(split)
        np.testing.assert_array_equal(ranking.users, expected.users)
        assert_same(ranking.seen, expected.seen)
        assert_same(ranking.targets, expected.targets)


@pytest.mark.parametrize("half_life", [0.0, 3.0])
def test_batches_are_those_of_memory(odd_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, half_life: float) -> None:
    monkeypatch.setattr(interactions, "BLOCK", 100)
    settings: dict[str, Any] = {"batch_size": 8, "targets": 16, "half_life": half_life}
    for make in ("train_dataloader", "val_dataloader", "test_dataloader"):
        mine, other = (list(getattr(loaded(streaming=on, **settings), make)()) for on in (True, False))
        assert len(mine) == len(other) > 0
        for batch, expected in zip(mine, other, strict=True):
            for name, values in expected.items():
                torch.testing.assert_close(batch[name], values, equal_nan=True, msg=name)
                assert batch[name].dtype == values.dtype, name
    weights = torch.cat([batch["weight"][batch["target"] < 66] for batch in loaded(**settings).train_dataloader()])
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-5)
    assert (weights.std() > 0.1) == (half_life > 0)


def test_sums_by_blocks_are_those_of_the_whole(odd_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The linear part, the popularities and the settings chosen do not change with the size of the blocks."""
    found = []
    for block in (2**24, 70):
        monkeypatch.setattr(interactions, "BLOCK", block)
        torch.manual_seed(0)
        data = loaded(streaming=block < 100)
        module = HistoryModule(data.n_users, data.n_items, **SIZES, search=True)
        module.prepare(data)
        found.append(module)
    assert len(list(data.train.blocks())) > 20
    whole, parts = found
    assert whole.transition is not None
    assert parts.transition is not None
    assert parts.transition.chosen == whole.transition.chosen
    torch.testing.assert_close(parts.transition.without_fold, whole.transition.without_fold, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parts.mixture.popularity, whole.mixture.popularity)


def test_a_member_larger_than_a_block_is_not_cut(odd_dataset: Dataset) -> None:
    whole = loaded().everything
    blocks = list(whole.blocks(7))
    assert [first for first, _ in blocks] == np.cumsum([0, *(len(block) for _, block in blocks[:-1])]).tolist()
    np.testing.assert_array_equal(np.concatenate([block.items for _, block in blocks]), whole.items)
    np.testing.assert_array_equal(np.concatenate([block.lengths for _, block in blocks]), whole.lengths)


def test_a_fit_from_disk_is_that_from_memory(odd_dataset: Dataset) -> None:
    figures = []
    for on in (True, False):
        torch.manual_seed(0)
        data = loaded(streaming=on, batch_size=8, targets=16)
        module = HistoryModule(data.n_users, data.n_items, **SIZES, search=False)
        trainer = quiet_trainer(1)
        trainer.fit(module, datamodule=data)
        figures.append(float(trainer.callback_metrics["val/loss"]))
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def test_members_asked_are_limited_and_chosen_at_random(odd_dataset: Dataset) -> None:
    everybody = loaded().ranking("test").users
    some, again, other = (loaded(max_eval_members=20, seed=seed).ranking("test").users for seed in (1, 1, 2))
    assert len(some) == 20
    assert (np.diff(some) > 0).all()
    assert set(some) <= set(everybody)
    assert some.tolist() == again.tolist() != other.tolist()
    assert loaded(max_eval_members=10_000).ranking("test").users.tolist() == everybody.tolist()


# -- where they lie ---------------------------------------------------------------------------------------------------


def store(dataset: Dataset, protocol: str = "leave-one-out") -> Path:
    return dataset.folder / ".histories" / f"{protocol}-42"


def test_they_are_laid_out_once(odd_dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(streaming=True)
    assert capsys.readouterr().out.count("Laying 6,003 interactions of 'odd' out on disk") == 1
    before = (store(odd_dataset) / "train.items").stat().st_mtime_ns
    loaded(streaming=True)
    assert capsys.readouterr().out == ""
    assert (store(odd_dataset) / "train.items").stat().st_mtime_ns == before
    left = [path.name for path in home.tables("odd").parent.iterdir() if path.is_dir()]
    assert left == ["odd"]


def test_another_dataset_of_the_name_gets_its_own(odd_dataset: Dataset) -> None:
    loaded(streaming=True)
    frame = odd_dataset.interactions().head(3_000)
    write_dataset("odd", {"interactions": frame}, sources=[Source("made", "made")], replace=True)
    mine, other = loaded(streaming=True), loaded()
    assert_same(mine.everything, other.everything)


def test_what_lies_there_of_other_tables_is_not_believed(odd_dataset: Dataset) -> None:
    loaded(streaming=True)
    path = store(odd_dataset) / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "0" * 16}))
    (store(odd_dataset) / "everything.items").write_bytes(b"")
    assert_same(loaded(streaming=True).everything, loaded().everything)


def test_who_is_forgotten_is_not_on_disk_any_more(odd_dataset: Dataset) -> None:
    loaded(streaming=True)
    users = store(odd_dataset) / "users.parquet"
    assert "émile" in pd.read_parquet(users)["user_id"].tolist()
    forget("odd", "émile")
    assert not users.exists()
    loaded(streaming=True)
    assert "émile" not in pd.read_parquet(users)["user_id"].tolist()


def test_a_dataset_replaced_meanwhile_leaves_nothing(odd_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = odd_dataset.interactions().head(3_000)
    sort = streaming._sort

    def replaced(*args: Any) -> Any:
        found = sort(*args)
        write_dataset("odd", {"interactions": frame}, sources=[Source("made", "made")], replace=True)
        return found

    monkeypatch.setattr(streaming, "_sort", replaced)
    with pytest.raises(UserError, match="Dataset 'odd' was replaced meanwhile: run the same command again"):
        loaded(streaming=True)
    assert not store(odd_dataset).exists()
    assert len(open_dataset("odd").interactions()) == 3_000


def test_damage_is_one_sentence(odd_dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(streaming=True)
    with (store(odd_dataset) / "train.times").open("r+b") as file:
        file.truncate(16)
    fit = ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset", "odd", "--data.streaming", "true"]
    assert main(fit) == 2
    assert re.search(
        r"histories/leave-one-out-42 is damaged .*: delete it, and it is made again", capsys.readouterr().err
    )
    (store(odd_dataset) / "users.parquet").write_bytes(b"PAR1")
    assert main(fit) == 2
    assert re.search(
        r"users\.parquet cannot be read .*: delete [^ ]*histories/leave-one-out-42, and it is made again",
        capsys.readouterr().err,
    )


def test_nothing_wanted_is_one_sentence(marquee_home: Path) -> None:
    frame = pd.DataFrame({"user_id": ["a"], "item_id": ["t"], "kind": "click", "rating": np.nan})
    frame["timestamp"] = pd.Timestamp("2024-01-01", tz="UTC")
    write_dataset("odd", {"interactions": frame}, sources=[Source("made", "made")])
    with pytest.raises(UserError, match="Dataset 'odd' has no event that says which title a member wanted"):
        loaded(streaming=True)
    assert not (home.tables("odd") / ".histories").exists()


def test_laying_out_takes_memory_that_hardly_grows_with_the_events(marquee_home: Path) -> None:
    """Peak memory of a process that lays out two million events is some blocks, not the events' own 1.3 GB as text."""
    n, rng = 2_000_000, np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(rng.integers(0, 20_000, n)).astype(str) + "-a-member",
            "item_id": pd.Series(rng.integers(0, 5_000, n)).astype(str) + "-a-title",
            "timestamp": pd.to_datetime(1_600_000_000 + rng.integers(0, 10**8, n), unit="s", utc=True),
            "kind": "watch",
            "rating": np.nan,
        }
    )
    write_dataset("odd", {"interactions": frame}, sources=[Source("made", "made")])
    del frame
    code = """
import sys
from data.dataset import open_dataset
from recsys import interactions, streaming
from recsys.cost import Cost
interactions.BLOCK, streaming._ROWS, streaming.MEMORY = 2**17, 2**17, "150MB"
found = open_dataset("odd")
with Cost() as cost:
    if sys.argv[1] == "disk":
        assert len(streaming.stored(found, 42, "leave-one-out")[1]["everything"].items) > 1_900_000
    else:
        assert len(interactions.positive_events(found, 42)) > 1_900_000
print(cost.peak_mib)
"""

    def peak_mib(how: str) -> float:
        done = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    on_disk, in_memory = peak_mib("disk"), peak_mib("memory")
    assert on_disk < 400
    assert in_memory > 2 * on_disk, (on_disk, in_memory)


@pytest.mark.parametrize("spread", [1, 5, 2**16, 2**50])
def test_the_smallest_times_are_those_of_a_sort(monkeypatch: pytest.MonkeyPatch, spread: int) -> None:
    monkeypatch.setattr(interactions, "BLOCK", 7)
    times = np.random.default_rng(0).integers(-spread, spread, 60)
    whole = Histories.of(np.repeat(np.arange(20), 3), np.zeros(60, np.int64), times, 20, 1)
    assert [_smallest(whole, k) for k in range(60)] == np.sort(times).tolist()
