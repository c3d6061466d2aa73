"""From a run to recommendations: exact, nothing seen, strangers served, bounded batches, one sentence for mistakes."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from data import home, schema
from data.arguments import users_named
from data.dataset import Dataset, open_dataset, write_dataset
from data.errors import UserError
from recsys import scorer
from recsys.__main__ import main
from recsys.scorer import Recommender, load_current, score

FIT = ["fit", "--config", "recsys/configs/quick.yaml", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false",
       "--trainer.accelerator=cpu"]  # fmt: skip


@pytest.fixture
def served(small_dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A trained recommender on a dataset that has since gained a member, a silent one, a title and a thumb down."""
    dataset = small_dataset(reviews=0)
    assert main([*FIT, "--data.dataset=small"]) == 0
    tables = {name: dataset.read(name) for name in ("interactions", "items", "users")}
    late = pd.DataFrame(
        {
            "user_id": ["newcomer", "newcomer", "u1"],
            "item_id": ["i0", "i39", "i38"],
            "timestamp": tables["interactions"]["timestamp"].max(),
            "kind": ["watch", "watch", "thumb_down"],
        }
    )
    tables["interactions"] = pd.concat([tables["interactions"], late], ignore_index=True)
    tables["items"] = pd.concat(
        [tables["items"], pd.DataFrame({"item_id": ["new"], "title": ["New"]})], ignore_index=True
    )
    tables["users"] = pd.concat([tables["users"], pd.DataFrame({"user_id": ["silent"]})], ignore_index=True)
    return write_dataset("small", tables, sources=dataset.sources, replace=True)


def test_top_k_equals_brute_force_without_what_was_seen(served: Dataset) -> None:
    recommender = load_current("small")
    events = served.interactions()
    table = recommender.recommend(["u1", "u7", "u3"], k=5, batch_size=2)
    assert table["user_id"].drop_duplicates().tolist() == ["u1", "u7", "u3"]
    for user in ("u1", "u7", "u3"):
        seen = set(events.loc[events["user_id"] == user, "item_id"])
        position = torch.tensor([recommender.vocabulary.user_ids.get_loc(user)])
        with torch.no_grad():
            pairs, _ = recommender.module.net(position, torch.arange(40)[None])
        logits = dict(zip(recommender.vocabulary.item_ids, pairs[0].tolist(), strict=True))
        best = sorted((i for i in logits if i not in seen), key=lambda i: -logits[i])[:5]
        mine = table[table["user_id"] == user]
        assert mine["item_id"].tolist() == best
        assert mine["rank"].tolist() == [1, 2, 3, 4, 5]
        expected = [1 / (1 + np.exp(-logits[i])) for i in best]
        np.testing.assert_allclose(mine["score"], expected, rtol=1e-5)
    assert "i38" not in table.loc[table["user_id"] == "u1", "item_id"].tolist()  # the thumb down


def test_seen_titles_may_be_shown_and_others_excluded(served: Dataset) -> None:
    recommender = load_current("small")
    everything = recommender.recommend(["u1"], k=100, hide_seen=False)
    assert len(everything) == 40
    without = recommender.recommend(["u1"], k=100, hide_seen=False, exclude={"i3", "not a title"})
    assert set(everything["item_id"]) - set(without["item_id"]) == {"i3"}


def test_lists_end_where_the_unseen_titles_end(served: Dataset) -> None:
    seen = served.interactions().query("user_id == 'u1'")["item_id"].nunique()
    assert len(load_current("small").recommend(["u1"], k=100)) == 40 - seen


def test_members_without_training_get_what_is_popular(served: Dataset) -> None:
    recommender = load_current("small")
    table = recommender.recommend(["silent", "u2", "newcomer"], k=6)
    by_popularity = pd.Series(recommender.popularity, index=recommender.vocabulary.item_ids)
    for user, seen in (("silent", []), ("newcomer", ["i0", "i39"])):
        mine = table[table["user_id"] == user]
        top = by_popularity.drop(seen).nlargest(6)
        assert sorted(by_popularity[mine["item_id"]], reverse=True) == by_popularity[mine["item_id"]].tolist()
        np.testing.assert_allclose(mine["score"], top.to_numpy() / 60, rtol=1e-5)
        assert not set(seen) & set(mine["item_id"])


def test_similar_titles_share_a_group_of_members(served: Dataset) -> None:
    similar = load_current("small").similar("i4", k=5)
    assert "i4" not in similar["item_id"].tolist()
    assert similar["score"].is_monotonic_decreasing
    assert similar["score"].between(-1.001, 1.001).all()
    with pytest.raises(UserError, match="'new' is unknown"):
        load_current("small").similar("new")


def test_the_table_has_the_schema_whatever_the_batches(served: Dataset, tmp_path) -> None:
    path = score("small", top_k=4)
    assert path == home.scores("small") / "recommendations.parquet"
    table = pq.read_table(path)
    assert table.schema.equals(schema.SCORES["recommendations"])
    assert table.num_rows == 62 * 4
    in_small_batches = pq.read_table(score("small", out=tmp_path / "r.parquet", top_k=4, batch_size=5))
    pd.testing.assert_frame_equal(in_small_batches.to_pandas(), table.to_pandas(), rtol=1e-5)
    assert set(table["run_id"].to_pylist()) == {load_current("small").run_id}
    assert not list(tmp_path.glob(".*tmp"))
    assert score("small", out=tmp_path, users="u1,u2", top_k=2) == tmp_path / "recommendations.parquet"


def test_the_model_needs_nothing_but_its_run(served: Dataset) -> None:
    recommender = load_current("small")
    before = recommender.recommend(["u1"], k=40, hide_seen=False)["item_id"].tolist()
    run = home.runs("small", "recommender") / recommender.run_id
    for path in home.tables("small").glob("*.parquet"):
        path.unlink()
    vocabulary, _ = scorer.Vocabulary.load(run)
    module = Recommender.load(run).module
    logits = module(torch.tensor([vocabulary.user_ids.get_loc("u1")]))[0]
    assert vocabulary.item_ids[logits.argsort(descending=True).numpy()].tolist() == before


def test_users_by_list_and_by_file(tmp_path) -> None:
    lines, table = tmp_path / "ids.txt", tmp_path / "ids.csv"
    lines.write_text("\ufeffu1\n\nu2\nu1\n")
    table.write_text('age,"user_id"\n3,u5\n4,007\n')
    assert users_named("u3, u4 ,u3") == ["u3", "u4"]
    assert users_named(str(lines)) == ["u1", "u2"]
    assert users_named(str(table)) == ["u5", "007"]


def test_mistakes_are_told_in_one_sentence(served: Dataset, tmp_path) -> None:
    binary, empty = tmp_path / "b.txt", tmp_path / "e.txt"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    empty.write_text("\n")
    for users, sentence in (
        ("u1,ghost,phantom", "'ghost' is not in dataset 'small'"),
        (str(tmp_path / "gone.csv"), "does not exist"),
        (str(binary), "not a text file"),
        (str(empty), "names nobody"),
    ):
        with pytest.raises(UserError, match=sentence):
            score("small", out=tmp_path / "out.parquet", users=users)
    with pytest.raises(UserError, match="1 or more"):
        score("small", out=tmp_path / "out.parquet", top_k=0)
    assert not (tmp_path / "out.parquet").exists()


def test_without_a_run_or_with_a_broken_one(small_dataset) -> None:
    small_dataset(reviews=0)
    with pytest.raises(UserError, match="python -m recsys fit"):
        score("small")
    assert main([*FIT, "--data.dataset=small"]) == 0
    run = home.runs("small", "recommender") / load_current("small").run_id
    (run / "model.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_current("small")
    assert open_dataset("small").name == "small"
