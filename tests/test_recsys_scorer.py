"""From a run to recommendations: exact, nothing seen, strangers served, bounded batches, one sentence for mistakes."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import generated_tables
from sklearn.metrics import roc_auc_score

from data import home, schema
from data.arguments import users_named
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.errors import UserError
from data.feedback import forget
from recsys import scorer
from recsys.__main__ import main
from recsys.batch import score
from recsys.eight_bits import EightBits
from recsys.history import Encoded, HistoryModule
from recsys.interactions import Histories, Vocabulary, disliked_titles, histories_of, positive_events
from recsys.module import RankingModule
from recsys.scorer import Recommender, load_current
from recsys.variety import jaccard
from recsys.windows import History, latest_events

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
    in_small_batches = pq.read_table(score("small", out=tmp_path / "r.parquet", top_k=4, shard_size=5))
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


# -- what surrounds the model, by modules whose logits are known ------------------------------------------------------


def around(users: torch.Tensor, n_items: int) -> torch.Tensor:
    """Member u's best title is u, then u + 1, and so on, around the catalogue."""
    return -0.1 * ((torch.arange(n_items) - users[:, None]) % n_items)


class Fixed(RankingModule):
    """A model that is asked for nothing but its logits."""

    def score(self, users: torch.Tensor, seen: Histories) -> torch.Tensor:
        return around(users, self.n_items)


class Near(HistoryModule):
    """Logits around the member's number in a batch; neighbours in the catalogue are alike, titles far away opposite."""

    def __init__(self, n_items: int) -> None:
        RankingModule.__init__(self, n_items)

    def serve(self) -> None: ...

    def encode(self, history: History) -> Encoded:
        return Encoded(torch.empty(0), torch.arange(len(history.item))[:, None], None)

    def decode(self, encoded: Encoded) -> torch.Tensor:
        return around(encoded.vector[:, 0], self.n_items)

    def similarity(self, titles: torch.Tensor) -> torch.Tensor:
        return 1 - (torch.arange(self.n_items) - titles[:, None]).abs() / 10


def history_net(n_items: int) -> HistoryModule:
    """HistoryNet with random numbers for what it would learn."""
    torch.manual_seed(0)
    module = HistoryModule(40, n_items, size=8, hidden=12, content_buckets=16, search=False, max_linear_titles=25)
    for parameter in (module.title.weight, module.event, module.bias):
        torch.nn.init.normal_(parameter.data, std=0.5)
    assert module.transition is not None
    module.transition.packed[:-1] = EightBits.of(0.1 * torch.randn(25, 25)).packed
    # The last titles: the others come first in the catalogue, but not where lists are made.
    module.transition.titles.copy_(torch.arange(n_items - 25, n_items))
    module.transition.row[n_items - 25 : n_items] = torch.arange(25)
    return module


def recommender_of(dataset: Dataset, kind: Callable[[int], RankingModule] = Fixed) -> Recommender:
    events = positive_events(dataset, 42)
    vocabulary = Vocabulary.of(dataset, events)
    popularity = histories_of(vocabulary, events).popularity
    module = kind(len(vocabulary.item_ids))
    return Recommender(module, vocabulary, popularity, home.runs(dataset.name, "recommender") / "untrained")


@pytest.fixture
def bare(small_dataset) -> Dataset:
    """A dataset with a title of which nothing is known, and a thumb down."""
    dataset = small_dataset(reviews=0)
    tables = {name: dataset.read(name) for name in ("interactions", "items", "users")}
    last = {"user_id": ["u2"], "item_id": ["i38"], "kind": ["thumb_down"],
            "timestamp": tables["interactions"]["timestamp"].max()}  # fmt: skip
    tables["interactions"] = pd.concat([tables["interactions"], pd.DataFrame(last)], ignore_index=True)
    unknown = pd.DataFrame({"item_id": ["unknown"], "title": ["Unknown"]})
    tables["items"] = pd.concat([tables["items"], unknown], ignore_index=True)
    return write_dataset("small", tables, sources=dataset.sources, replace=True)


def test_a_list_is_the_best_of_exactly_what_is_admitted(bare: Dataset) -> None:
    recommender = recommender_of(bare)
    ids, items = recommender.vocabulary.item_ids, bare.items().set_index("item_id")
    seen = bare.interactions().groupby("user_id")["item_id"].agg(set)
    has = {item: set() if genres is None else set(genres) for item, genres in items["genres"].items()}
    lengths = set()
    for genres, years, exclude, hide_seen in product(
        [(), ("Horror",), ("Horror", "Drama"), ("no genre",)],
        [None, (1990, 1995), (1995, 1995), (1995, 1990)],
        [set(), {"i3", "i15", "no title"}],
        [True, False],
    ):
        asked = {"genres": genres, "years": years, "exclude": exclude, "hide_seen": hide_seen}
        users = ["u5", "u1", "u2"]
        table = recommender.recommend(users, k=9, batch_size=2, **asked)
        for user in users:
            first = recommender.members.get_loc(user)
            order = [ids[(first + step) % len(ids)] for step in range(len(ids))]
            expected = [
                item
                for item in order
                if item not in exclude
                and (not genres or has[item] & set(genres))
                and (years is None or years[0] <= items.at[item, "year"] <= years[1])
                and not (hide_seen and item in seen[user])
            ][:9]
            mine = table[table["user_id"] == user]
            assert mine["item_id"].tolist() == expected, asked
            assert mine["rank"].tolist() == list(range(1, len(expected) + 1))
            logits = -0.1 * np.array([order.index(item) for item in expected])
            np.testing.assert_allclose(mine["score"], 1 / (1 + np.exp(-logits)), rtol=1e-5)
            lengths.add(len(expected))
    assert {0, 1, 9} <= lengths  # lists that are empty, short and full


def test_a_batch_never_holds_more_scores_than_are_allowed(bare: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = recommender_of(bare)
    positions = recommender.positions(["u1", "u2", "u3", "u4", "u5"])
    made: list[int] = []
    top_k = scorer.top_k
    monkeypatch.setattr(scorer, "top_k", lambda scores, k: (made.append(len(scores)), top_k(scores, k))[1])
    assert [n for _, n in recommender.batches(positions, 3, scorer.Chosen(), batch_size=-1)] == [1] * 5
    (whole,) = (table for table, _ in recommender.batches(positions, 3, scorer.Chosen()))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for block, share, batch, sizes in ((2, 4, 9, [1, 2, 2]), (9, 2, 9, [1, 2, 2]), (0.5, 9, 4, [1] * 5)):
        monkeypatch.setattr(scorer, "_BLOCK", int(block * len(recommender.vocabulary.item_ids)))
        monkeypatch.setattr(scorer, "_SHARE", share)
        made.clear()
        found = list(recommender.batches(positions, 3, scorer.Chosen(), batch_size=batch))
        assert [n for _, n in found] == ([5] if batch == 9 else [3, 2])
        assert sorted(made) == sizes
        assert pa.concat_tables([table for table, _ in found]).equals(whole)


def test_lists_do_not_depend_on_who_is_scored_with_whom(bare: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are encoded in shares and scored in blocks, by several threads; a member alone gets the same list."""
    recommender = recommender_of(bare, history_net)
    everybody, n_items = list(recommender.members), len(recommender.vocabulary.item_ids)
    whole = recommender.recommend(everybody, k=7, reasons=True)
    for block, share, batch in ((2, 5, 11), (3, 1, 4), (1, 50, 50)):
        monkeypatch.setattr(scorer, "_BLOCK", block * n_items)
        monkeypatch.setattr(scorer, "_SHARE", share)
        again = recommender.recommend(everybody, k=7, reasons=True, batch_size=batch)
        pd.testing.assert_frame_equal(again, whole, rtol=1e-4)
    alone = recommender.recommend(["u9"], k=7, reasons=True)
    mine = whole[whole["user_id"] == "u9"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, mine, rtol=1e-4)
    assert whole.groupby("user_id")["item_id"].agg(tuple).nunique() > 10


def test_scores_are_of_all_titles_whether_listed_or_not(bare: Dataset) -> None:
    recommender = recommender_of(bare, history_net)
    every = recommender.recommend(["u1"], k=1000, hide_seen=False).set_index("item_id")["score"]
    few = recommender.recommend(["u1"], k=1000, genres=["Horror"]).set_index("item_id")["score"]
    assert 0 < len(few) < len(every) / 2
    np.testing.assert_allclose(few, every[few.index], rtol=1e-6)
    share = every * (8 / len(every)) / (1 - every)  # score = p / (p + 8 / n)
    assert share.sum() == pytest.approx(1.0, rel=1e-4)


def test_making_lists_leaves_torch_its_threads(bare: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    asked: list[int] = []
    top_k = scorer.top_k
    monkeypatch.setattr(scorer, "top_k", lambda *args: (asked.append(torch.get_num_threads()), top_k(*args))[1])
    monkeypatch.setattr(scorer, "_SHARE", 1)
    recommender = recommender_of(bare)
    try:
        torch.set_num_threads(3)
        first, second = (recommender.batches(np.arange(4), 3, scorer.Chosen(), batch_size=2) for _ in range(2))
        next(first), next(second)  # two pages at once
        list(first)
        list(second)
        mine = torch.get_num_threads()
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(torch.get_num_threads).result()
    finally:
        torch.set_num_threads(before)
    assert asked == [1] * 8  # within a share nothing is divided further
    assert (mine, later) == (3, 3)  # neither the caller nor threads that begin afterwards are held back


@pytest.mark.parametrize("threads", [1, 4])
def test_a_batch_is_cut_alike_whatever_the_threads(
    bare: Dataset, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    made: list[int] = []
    top_k = scorer.top_k
    monkeypatch.setattr(scorer, "top_k", lambda scores, k: (made.append(len(scores)), top_k(scores, k))[1])
    monkeypatch.setattr(scorer, "_LEAST", 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        recommender_of(bare).recommend([f"u{i}" for i in range(1, 11)], k=3)
        recommender_of(bare).recommend([f"u{i}" for i in range(1, 4)], k=3)
    finally:
        torch.set_num_threads(before)
    assert sorted(made[:4]) == [1, 3, 3, 3]
    assert sorted(made[4:]) == [1, 2]


def test_titles_vectors_are_computed_once_for_serving(bare: Dataset) -> None:
    recommender = recommender_of(bare, history_net)
    module = recommender.module
    assert isinstance(module, HistoryModule)
    assert module.title_vectors() is module.title_vectors()
    module.train()
    assert module.title_vectors() is not module.title_vectors()
    module.eval()
    with torch.no_grad():
        module.title.weight.mul_(2.0)
    module.serve()
    torch.testing.assert_close(module.title_vectors()[:-1], module.title.weight[:-1])  # it has no tokens
    plain = HistoryModule(3, 9, size=4, hidden=4, content=False, search=False)
    names = set(plain.state_dict())
    plain.serve()
    assert set(plain.state_dict()) == names  # its vectors are its parameter, which is not to be registered twice


def test_variety_lists_each_title_once_down_to_the_last(bare: Dataset) -> None:
    recommender = recommender_of(bare)
    plain = recommender.recommend(["u1", "u2"], k=100)
    for variety in (0.4, 1.0):
        varied = recommender.recommend(["u1", "u2"], k=100, variety=variety)
        keys = ["user_id", "item_id"]
        pd.testing.assert_frame_equal(
            varied.sort_values(keys, ignore_index=True)[[*keys, "score"]],
            plain.sort_values(keys, ignore_index=True)[[*keys, "score"]],
        )
        assert varied["item_id"].tolist() != plain["item_id"].tolist()
    short, best = (recommender.recommend(["u1"], k=k, variety=v)["item_id"] for k, v in ((4, 1.0), (20, 0.0)))
    assert set(short) <= set(best)  # varied among five times as many as are listed
    assert not set(short) <= set(best[:4])
    with pytest.raises(UserError, match=r"variety of -0\.5 is impossible"):
        recommender.recommend(["u1"], variety=-0.5)


def history_of(recommender: Recommender, member: str, part: str = "wanted") -> Histories:
    return getattr(recommender.feedback, part).take(recommender.positions([member]))


def titles_of(recommender: Recommender, member: str, part: str = "wanted") -> list[str]:
    return recommender.vocabulary.item_ids[history_of(recommender, member, part).items].tolist()


def test_each_kind_goes_where_it_belongs(bare: Dataset) -> None:
    recommender = recommender_of(bare)
    before = {part: titles_of(recommender, "u5", part) for part in ("wanted", "hidden", "disliked")}
    new = [i for i in recommender.vocabulary.item_ids if i not in before["hidden"]][:4]
    kinds = ["watch", "thumb_down", "click", "thumb_up"]
    recommender.update("u5", pd.DataFrame({"item_id": new, "kind": kinds}, index=[3, 3, 1, 0]))
    assert titles_of(recommender, "u5") == [*before["wanted"], new[0], new[3]]
    assert titles_of(recommender, "u5", "hidden") == [*before["hidden"], new[0], new[1], new[3]]
    assert before["disliked"] == []
    assert titles_of(recommender, "u5", "disliked") == [new[1]]
    assert len(recommender.members) == 60
    assert titles_of(recommender, "u2", "disliked") == ["i38"]


def test_a_title_counts_once_and_unknown_ones_not_at_all(bare: Dataset) -> None:
    recommender = recommender_of(bare)
    recommender.update("guest", pd.DataFrame({"item_id": ["i7", "none", "i3", "i7", "i0"], "rating": [1, 2, 3, 4, 5]}))
    assert titles_of(recommender, "guest") == ["i7", "i3", "i0"]
    assert history_of(recommender, "guest").ratings.tolist() == [1.0, 3.0, 5.0]
    recommender.update("guest", pd.DataFrame({"item_id": ["i0", "i4", "i7"]}))
    recommender.update("other", pd.DataFrame({"item_id": ["i4", "i9"]}))
    assert titles_of(recommender, "guest") == titles_of(recommender, "guest", "hidden") == ["i7", "i3", "i0", "i4"]
    assert titles_of(recommender, "other") == ["i4", "i9"]
    assert recommender.members[-2:].tolist() == ["guest", "other"]
    assert np.isnan(history_of(recommender, "other").ratings).all()


def test_new_events_stand_in_the_order_of_their_times(bare: Dataset) -> None:
    recommender = recommender_of(bare)
    latest = bare.interactions()["timestamp"].max()
    hours = [latest + pd.Timedelta(hours=h) for h in (3, 1, 2)]
    events = pd.DataFrame({"item_id": ["i3", "i1", "i2"], "timestamp": pd.Series(hours).dt.as_unit("s")})
    recommender.update("guest", events.assign(rating=[3.0, 1.0, 2.0]))
    assert titles_of(recommender, "guest") == ["i1", "i2", "i3"]
    found = history_of(recommender, "guest")
    assert found.ratings.tolist() == [1.0, 2.0, 3.0]
    moments = pd.to_datetime(found.times, unit="us", utc=True)
    assert moments.tolist() == sorted(hours)
    # Without a time: as if they had come now, after everything that is known.
    recommender.update("other", pd.DataFrame({"item_id": ["i5", "i4"]}))
    assert titles_of(recommender, "other") == ["i5", "i4"]
    waited = (pd.to_datetime(history_of(recommender, "other").times, unit="us", utc=True) - max(hours)).total_seconds()
    assert waited.tolist() == [1.0, 2.0]


def test_a_thumb_down_takes_its_likeness_from_that_members_logits(bare: Dataset) -> None:
    """logit - 2 · the largest likeness with a title disliked, where that is positive; others keep their own."""
    recommender = recommender_of(bare, Near)
    n = len(recommender.vocabulary.item_ids)
    recommender.update("u7", pd.DataFrame({"item_id": recommender.vocabulary.item_ids[[4, 9]], "kind": "thumb_down"}))
    disliked = {"u5": [], "u7": [4, 9], "u2": recommender.vocabulary.item_ids.get_indexer(["i38"]).tolist()}
    table = recommender.recommend(list(disliked), k=n, hide_seen=False)
    for number, (user, thumbs) in enumerate(disliked.items()):
        logits = -0.1 * ((np.arange(n) - number) % n)
        for i in range(n):
            logits[i] -= 2 * max([0.0, *(1 - abs(i - thumb) / 10 for thumb in thumbs)])
        p = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-logits, kind="stable")
        mine = table[table["user_id"] == user].set_index("item_id")["score"]
        np.testing.assert_allclose(mine[recommender.vocabulary.item_ids[order]], (p / (p + 8 / n))[order], rtol=1e-4)
        assert (mine.diff().dropna() <= 1e-9).all()


def test_an_event_of_the_past_takes_its_place_in_the_history(bare: Dataset) -> None:
    recommender = recommender_of(bare)
    before, others = history_of(recommender, "u5"), history_of(recommender, "u6")
    new = [i for i in recommender.vocabulary.item_ids if i not in titles_of(recommender, "u5", "hidden")][:3]
    old = pd.to_datetime([before.times[1] + 1, None, before.times[-1] + 10], unit="us", utc=True)
    recommender.update("u5", pd.DataFrame({"item_id": new, "timestamp": old, "rating": [1.0, 2.0, 3.0]}))
    after = history_of(recommender, "u5")
    assert (np.diff(after.times) >= 0).all()
    known = recommender.vocabulary.item_ids[before.items].tolist()
    assert titles_of(recommender, "u5") == [*known[:2], new[0], *known[2:], new[2], new[1]]  # no time: after all others
    assert after.ratings[2] == 1.0
    assert after.ratings[-1] == 2.0
    for part, same in zip(vars(history_of(recommender, "u6")).values(), vars(others).values(), strict=False):
        np.testing.assert_array_equal(part, same)


def test_the_last_thumb_counts(bare: Dataset) -> None:
    recommender = recommender_of(bare)
    a, b = [i for i in recommender.vocabulary.item_ids if i not in titles_of(recommender, "u5", "hidden")][:2]

    def thumb(*events: tuple[str, str]) -> list[str]:
        recommender.update("u5", pd.DataFrame(events, columns=["item_id", "kind"]))
        return titles_of(recommender, "u5", "disliked")

    assert thumb((a, "thumb_down"), (b, "thumb_down")) == [a, b]
    assert thumb((a, "thumb_up")) == [b]
    assert thumb((a, "thumb_down"), (b, "thumb_up"), (a, "thumb_up"), (b, "thumb_down")) == [b]
    assert thumb((b, "watch")) == [b]
    assert {a, b} <= set(titles_of(recommender, "u5", "hidden"))
    assert titles_of(recommender, "u2", "disliked") == ["i38"]


def test_a_thumb_taken_back_is_read_as_such(small_dataset) -> None:
    tables = generated_tables(n_users=5, n_items=10, reviews=0)
    events = tables["interactions"].assign(kind="rating")
    event = events.iloc[[0]]
    day = pd.Timedelta(days=1)
    thumbs = [
        event.assign(user_id="u0", item_id=item, kind=kind, timestamp=event["timestamp"] + n * day, rating=np.nan)
        for item, kind, n in (("i1", "thumb_up", 3), ("i1", "thumb_down", 2), ("i2", "thumb_down", 5))
    ]
    dataset = write_dataset(
        "thumbs",
        tables | {"interactions": pd.concat([events, *thumbs], ignore_index=True)},
        sources=[Source("generated", "generated")],
    )
    vocabulary = Vocabulary(pd.Index(["u1", "u0"]), pd.Index([f"i{i}" for i in range(10)]))
    found = disliked_titles(dataset, vocabulary, vocabulary.user_ids)
    assert found.lengths.tolist() == [0, 1]
    assert found.items.tolist() == [2]


def test_neighbours_of_many_thumbs_are_lowered_in_parts(bare: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = recommender_of(bare, Near)
    shown = titles_of(recommender, "u5", "hidden")
    new = [i for i in recommender.vocabulary.item_ids if i not in shown][:5]
    recommender.update("u5", pd.DataFrame({"item_id": new, "kind": "thumb_down"}))
    sizes: list[int] = []
    similarity = recommender._similarity
    monkeypatch.setattr(recommender, "_similarity", lambda titles: (sizes.append(len(titles)), similarity(titles))[1])
    at = recommender.positions(["u2", "u5"])
    (whole,) = recommender._scores(at, recommender.feedback.take(at))
    monkeypatch.setattr(scorer, "_BLOCK", 2 * whole.shape[1])
    (again,) = recommender._scores(at, recommender.feedback.take(at))
    np.testing.assert_allclose(again, whole)
    assert sizes == [6, 2, 2, 2]


@both
def test_who_was_forgotten_is_recommended_nothing_though_the_model_knows_them(served: Dataset) -> None:
    before = load_current("small").recommend(["u4", "newcomer"], k=5)
    forget("small", "u3")
    recommender = load_current("small")
    assert "u3" in recommender.vocabulary.user_ids
    scored = pd.read_parquet(score("small"))
    assert set(scored["user_id"]) == {*(f"u{i}" for i in range(60)), "newcomer", "silent"} - {"u3"}
    with pytest.raises(UserError, match="Member 'u3' is not in dataset 'small'"):
        recommender.recommend(["u4", "u3"])
    pd.testing.assert_frame_equal(recommender.recommend(["u4", "newcomer"], k=5), before)  # nobody took their place
    recommender.update("u3", pd.DataFrame({"item_id": ["i7"]}))  # who comes again is new
    assert titles_of(recommender, "u3") == ["i7"]
    assert recommender.recommend(["u3"], k=5)["user_id"].tolist() == ["u3"] * 5


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"hide_seen": False},
        {"exclude": ("i0", "i3", "i12", "i39")},
        {"genres": ("Drama",), "variety": 0.6},
        {"reasons": True},
    ],
)
def test_lists_of_the_decoder_are_those_of_the_module(bare: Dataset, asked: dict) -> None:
    """Titles have other columns in the decoder: what is hidden, excluded or disliked must be the same titles."""
    recommender = recommender_of(bare, history_net)
    assert recommender._decoder is not None
    members = list(recommender.members)
    assert len(recommender.feedback.disliked.items)
    found = recommender.recommend(members, k=12, **asked)
    titles = np.tile(np.array([0, 5, -1, 30]), (len(members), 1))
    among = recommender.scores_among(np.arange(len(members)), recommender.feedback, titles)
    recommender._decoder = None
    expected = recommender.recommend(members, k=12, **asked)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
    whole = recommender.scores_among(np.arange(len(members)), recommender.feedback, titles)
    np.testing.assert_allclose(among, whole, rtol=1e-3, atol=1e-4)
