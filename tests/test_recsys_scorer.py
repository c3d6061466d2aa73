"""From a run to recommendations: exact, nothing seen, strangers served, bounded batches, one sentence for mistakes."""

import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from conftest import generated_tables
from sklearn.metrics import roc_auc_score

from data import home, schema
from data.arguments import users_named
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.errors import UserError
from recsys import scorer
from recsys.__main__ import main
from recsys.interactions import Histories
from recsys.scorer import Recommender, load_current, score
from recsys.variety import diversified, jaccard
from recsys.windows import latest_events

CONFIG = {"HistoryNet": "recsys/configs/quick.yaml", "NeuMF": "recsys/configs/neumf-quick.yaml"}
FIT = ["fit", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
both = pytest.mark.parametrize("served", list(CONFIG), indirect=True)
only_history = pytest.mark.parametrize("served", ["HistoryNet"], indirect=True)
only_neumf = pytest.mark.parametrize("served", ["NeuMF"], indirect=True)


@pytest.fixture
def served(small_dataset, request: pytest.FixtureRequest) -> Dataset:
    """A trained recommender on a dataset that has since gained a member, a silent one, a title and a thumb down."""
    dataset = small_dataset(reviews=0)
    assert main([*FIT, "--config", CONFIG[request.param], "--data.dataset=small"]) == 0
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


@only_neumf
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


@only_history
def test_history_net_ranks_by_what_was_wanted_up_to_the_latest_event(served: Dataset) -> None:
    recommender = load_current("small")
    events = served.interactions()
    table = recommender.recommend(["u7", "newcomer"], k=5, batch_size=1)
    for user in ("u7", "newcomer"):
        mine = events[events["user_id"] == user].sort_values("timestamp", kind="stable")
        history = Histories.of(
            np.zeros(len(mine), np.int64),
            recommender.vocabulary.items(mine["item_id"]),
            mine["timestamp"].astype("int64").to_numpy(),
            1,
            41,
            mine["rating"].to_numpy(np.float32),
        )
        with torch.no_grad():
            p = recommender.module(latest_events(history))[0].softmax(0).numpy()
        best = sorted((i for i in range(41) if i not in history.items), key=lambda i: -p[i])[:5]
        listed = table[table["user_id"] == user]
        assert listed["item_id"].tolist() == recommender.vocabulary.item_ids[best].tolist()
        np.testing.assert_allclose(listed["score"], p[best] / (p[best] + 8 / 41), rtol=1e-4)


@only_history
def test_a_new_title_is_told_by_its_content_and_a_thumb_down_lowers_its_neighbours(served: Dataset) -> None:
    recommender = load_current("small")
    assert "new" in recommender.recommend(["u2"], k=100)["item_id"].tolist()
    assert "i38" not in recommender.recommend(["u1"], k=100)["item_id"].tolist()

    shown = recommender.recommend(["u2"], k=100).set_index("item_id")["score"]
    disliked = shown.index[0]
    recommender.update("u2", pd.DataFrame({"item_id": [disliked], "kind": ["thumb_down"]}))
    after = recommender.recommend(["u2"], k=100).set_index("item_id")["score"]
    assert disliked not in after.index
    odds = np.log(after / (1 - after)) - np.log(shown / (1 - shown))
    nearest = recommender.similar(disliked, k=40)
    near = nearest[nearest["item_id"].isin(after.index)].set_index("item_id")["score"]
    change = odds[near.index]
    assert near.iloc[0] > 0
    assert change[near.index[0]] < change[near.index[-1]]
    assert np.corrcoef(near.clip(lower=0), change)[0, 1] < -0.9


@only_history
def test_an_update_changes_the_next_page_at_once_as_if_the_dataset_had_it(served: Dataset) -> None:
    recommender, reloaded = load_current("small"), load_current("small")
    before = recommender.recommend(["u3"], k=40)
    watched = before["item_id"].tolist()[:2]
    moment = served.interactions()["timestamp"].max() + pd.Timedelta(minutes=5)
    events = pd.DataFrame(
        {"item_id": watched, "kind": ["watch", "rating"], "rating": [np.nan, 5.0],
         "timestamp": [moment, moment + pd.Timedelta(minutes=90)]}
    )  # fmt: skip
    started = time.perf_counter()
    recommender.update("u3", events)
    after = recommender.recommend(["u3"], k=40)
    assert time.perf_counter() - started < 1.0
    assert not set(watched) & set(after["item_id"])
    assert not np.allclose(before.set_index("item_id")["score"].reindex(after["item_id"]), after["score"], rtol=1e-3)
    tables = {name: served.read(name) for name in ("interactions", "items", "users")}
    written = events.assign(user_id="u3")
    tables["interactions"] = pd.concat([tables["interactions"], written], ignore_index=True)
    write_dataset("small", tables, sources=served.sources, replace=True)
    pd.testing.assert_frame_equal(load_current("small").recommend(["u3"], k=40), after, rtol=1e-5)
    pd.testing.assert_frame_equal(reloaded.recommend(["u4"], k=5), recommender.recommend(["u4"], k=5))


@only_history
def test_somebody_nobody_knows_gets_rows_from_three_picks(served: Dataset) -> None:
    recommender = load_current("small")
    recommender.update("guest", pd.DataFrame({"item_id": ["i0", "i2", "i4", "no title"]}))
    recommender.update("other", pd.DataFrame({"item_id": ["i1", "i3", "i5"]}))
    table = recommender.recommend(["guest", "other"], k=10)
    assert not {"i0", "i2", "i4"} & set(table.loc[table["user_id"] == "guest", "item_id"])
    group = table["item_id"].str.removeprefix("i").replace("new", "0").astype(int) % 2
    share = group.groupby(table["user_id"]).mean()
    assert share["guest"] < share["other"]  # members of the planted groups want titles of their own group
    with pytest.raises(UserError, match="needs a column item_id"):
        recommender.update("guest", pd.DataFrame({"title": ["i0"]}))
    with pytest.raises(UserError, match="Kind 'loved' is unknown"):
        recommender.update("guest", pd.DataFrame({"item_id": ["i0"], "kind": ["loved"]}))


@only_history
def test_filters_admit_only_what_was_asked_for(served: Dataset) -> None:
    recommender = load_current("small")
    items = served.items().set_index("item_id")
    horror = recommender.recommend(["u1", "silent"], k=40, genres=("Horror", "no genre"))
    assert len(horror)
    assert all("Horror" in items.at[i, "genres"] for i in horror["item_id"])
    young = recommender.recommend(["u1"], k=40, years=(1990, 1995))
    assert items.loc[young["item_id"], "year"].between(1990, 1995).all()
    assert not len(recommender.recommend(["u1"], k=40, genres=("no genre",)))
    both = recommender.recommend(["u1"], k=40, genres=("Horror",), years=(1990, 1995), exclude={"i13"})
    assert set(both["item_id"]) == (set(young["item_id"]) & set(horror["item_id"])) - {"i13"}


@only_history
def test_variety_trades_likeness_for_difference(served: Dataset) -> None:
    recommender = load_current("small")
    genres = recommender.catalogue.has_genre
    members = list(recommender.members[:30])

    def alike_and_score(variety: float) -> tuple[float, float]:
        table = recommender.recommend(members, k=6, variety=variety)
        assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6] * 30
        assert not table.duplicated(["user_id", "item_id"]).any()
        at = torch.from_numpy(recommender.vocabulary.items(table["item_id"])).view(30, 6)
        return float(jaccard(genres, at).mean()), float(table["score"].mean())

    found = [alike_and_score(variety) for variety in (0.0, 0.3, 0.7, 1.0)]
    assert found[0][0] > found[1][0] >= found[2][0] >= found[3][0]
    assert found[0][1] > found[1][1] >= found[2][1] >= found[3][1]
    plain = recommender.recommend(members, k=6)
    pd.testing.assert_frame_equal(recommender.recommend(members, k=6, variety=0.0), plain)
    with pytest.raises(UserError, match=r"variety of 1\.5 is impossible"):
        recommender.recommend(members, k=6, variety=1.5)


def test_marginal_relevance_is_the_formula() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -torch.inf]])
    similarity = torch.zeros(1, 4, 4)
    similarity[0, 0, 1] = similarity[0, 1, 0] = 1.0
    assert diversified(logits, similarity, 3, 0.0).tolist() == [[0, 1, 2]]
    # At 0.5 the second title loses 0.5 * 3 for its likeness to the first: more than the 0.5 * 1.22 it is ahead.
    assert diversified(logits, similarity, 3, 0.5).tolist() == [[0, 2, 1]]
    assert diversified(logits, similarity, 4, 0.5)[0, 3] == 3


@only_history
def test_every_title_listed_has_a_reason_that_the_member_wanted(served: Dataset) -> None:
    recommender = load_current("small")
    table = recommender.recommend(["u1", "silent", "u9"], k=4, reasons=True)
    assert table.loc[table["user_id"] == "silent", ["reason_item_id", "reason_share"]].isna().all(axis=None)
    known = table[table["user_id"] != "silent"]
    assert known["reason_share"].between(0, 1).all()
    for user, reason in zip(known["user_id"], known["reason_item_id"], strict=True):
        events = served.interactions()
        assert reason in events.loc[events["user_id"] == user, "item_id"].tolist()


@both
def test_seen_titles_may_be_shown_and_others_excluded(served: Dataset) -> None:
    recommender = load_current("small")
    everything = recommender.recommend(["u1"], k=100, hide_seen=False)
    assert len(everything) == len(recommender.vocabulary.item_ids) >= 40
    without = recommender.recommend(["u1"], k=100, hide_seen=False, exclude={"i3", "not a title"})
    assert set(everything["item_id"]) - set(without["item_id"]) == {"i3"}


@both
def test_lists_end_where_the_unseen_titles_end(served: Dataset) -> None:
    seen = served.interactions().query("user_id == 'u1'")["item_id"].nunique()
    recommender = load_current("small")
    assert len(recommender.recommend(["u1"], k=100)) == len(recommender.vocabulary.item_ids) - seen


@only_neumf
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


@both
def test_similar_titles_share_a_group_of_members(served: Dataset) -> None:
    similar = load_current("small").similar("i4", k=5)
    assert "i4" not in similar["item_id"].tolist()
    assert similar["score"].is_monotonic_decreasing
    assert similar["score"].between(-1.001, 1.001).all()
    with pytest.raises(UserError, match="'newer' is unknown"):
        load_current("small").similar("newer")


@both
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


@only_neumf
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


@only_history
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
    assert main([*FIT, "--config", CONFIG["NeuMF"], "--data.dataset=small"]) == 0
    run = home.runs("small", "recommender") / load_current("small").run_id
    (run / "model.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_current("small")
    assert open_dataset("small").name == "small"


def test_titles_that_nobody_has_watched_are_ranked_by_what_they_are(marquee_home) -> None:
    """A twentieth of the titles is held out entirely. Their genres tell who will want them; popularity cannot."""
    tables = generated_tables(n_users=150, n_items=120, reviews=0)
    cold = {f"i{i}" for i in (3, 8, 21, 34, 47, 60)}
    events = tables["interactions"]
    wanted = events[events["item_id"].isin(cold)]
    known = tables | {"interactions": events[~events["item_id"].isin(cold)]}
    write_dataset("cold", known, sources=[Source("generated", "generated")])
    assert main([*FIT, "--config", CONFIG["HistoryNet"], "--data.dataset=cold", "--trainer.max_epochs=6"]) == 0
    recommender = load_current("cold")
    listed = recommender.recommend(list(recommender.members), k=200)
    listed = listed[listed["item_id"].isin(cold)]
    assert len(listed) == 150 * len(cold)
    pairs = set(zip(wanted["user_id"], wanted["item_id"], strict=True))
    label = np.array([pair in pairs for pair in zip(listed["user_id"], listed["item_id"], strict=True)])
    # Within each title, or else the most wanted of them would do.
    by_title = [
        roc_auc_score(label[rows], listed["score"].to_numpy()[rows])
        for title in sorted(cold)
        if label[rows := (listed["item_id"] == title).to_numpy()].any()
    ]
    assert np.mean(by_title) > 0.55
    popularity = pd.Series(recommender.popularity, index=recommender.vocabulary.item_ids)
    assert (popularity[list(cold)] == 0).all()  # and so it has the same for everybody
