"""`python -m recsys evaluate`: every protocol, the table, its intervals, and what is kept of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data import home, runs
from recsys import metrics
from recsys.__main__ import main
from recsys.cost import Cost
from recsys.datamodule import RecommenderData
from recsys.evaluate import Judge, comparison
from recsys.interactions import Histories
from recsys.ranking import Ranking, rank

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def kept() -> dict:
    (path,) = home.evaluations("small", "recommender").glob("*.json")
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("protocol", ["leave-one-out", "leave-five-out", "temporal", "held-out-users", "ncf-2017"])
def test_every_protocol_gives_one_table_of_ours_and_every_baseline(
    protocol: str, small_dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(n_users=80, reviews=0)
    assert main(["evaluate", "--data.dataset", "small", "--protocol", protocol, *SHORT]) == 0
    result, printed = kept(), capsys.readouterr().out
    table = result["metrics"]["test"]
    parts = ["HistoryNet", "HistoryNet, linear part alone", "HistoryNet, neural part alone"]
    neumf = [] if protocol == "held-out-users" else ["NeuMF"]
    baselines = ["popularity", "recent popularity", "item-kNN", "iALS", "EASE", "EASE, fading"]
    assert list(table) == [*parts, *neumf, *baselines]
    for name, row in table.items():
        assert name in printed
        assert 0 <= row["ndcg@10"] <= row["hr@10"] <= 1
        assert row["±"] > 0
        assert 0 <= row["diversity@10"] <= 1
        assert row["members/s"] > 0
    assert all(table[name]["fit s"] > 0 for name in ("HistoryNet", "EASE"))
    assert result["split"]["protocol"] == protocol
    assert set(result["paired_ndcg@10"]) == set(table) - {"HistoryNet"}
    assert "HistoryNet is" in result["notes"][0]
    assert "95 % interval" in result["notes"][0]
    assert runs.current_run("small", "recommender") is None
    if protocol == "temporal":
        assert "0 members start after the cut" in printed
    if protocol == "ncf-2017":
        assert table["popularity"]["hr@10"] > 10 / 41  # among 40 titles at most, chance has this much


def test_seeds_are_averaged_and_the_answer_is_kept(small_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(reviews=0)
    ask = ["evaluate", "--data.dataset", "small", "--config", "recsys/configs/quick.yaml", *SHORT]
    assert main([*ask, "--seeds", "2"]) == 0
    both = kept()["metrics"]["test"]
    assert "NeuMF" not in both
    assert "Means over 2 seeds" in capsys.readouterr().out
    assert main([*ask, "--seeds", "2"]) == 0
    assert "Kept from" in capsys.readouterr().out
    for path in home.evaluations("small", "recommender").glob("*.json"):
        path.unlink()
    assert main(ask) == 0
    assert kept()["metrics"]["test"]["HistoryNet"]["ndcg@10"] != both["HistoryNet"]["ndcg@10"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--protocol", "leave-two-out"], ["leave-two-out", "leave-five-out", "ncf-2017"]),
        (["--seeds", "0"], ["--seeds 0"]),
        (["--protocol", "held-out-users", "--config", "recsys/configs/neumf-quick.yaml"], ["held-out-users"]),
        (["--config", "forecasting/configs/retention-quick.yaml"], ["no argument"]),
    ],
)
def test_mistakes_are_one_sentence(
    flags: list[str], words: list[str], small_dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(reviews=0)
    assert main(["evaluate", "--data.dataset", "small", *SHORT, *flags]) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("error: ") == 1
    assert all(word in told for word in words), told


def test_a_member_with_several_rows_counts_once(small_dataset) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small", "leave-five-out")
    judge = Judge(data)
    ranking = judge.rankings["test"]
    assert len(ranking.users) == 5 * len(np.unique(ranking.users))
    target = {tuple(k): v for k, v in zip(zip(ranking.users, ranking.seen.lengths, strict=True),
                                         ranking.targets.items, strict=True)}  # fmt: skip
    favoured = int(ranking.users[0])

    def score(users: np.ndarray, seen: Histories) -> torch.Tensor:
        """Right for one member, wrong for all others."""
        scores = torch.zeros(len(users), data.n_items)
        for row, (user, length) in enumerate(zip(users, seen.lengths, strict=True)):
            scores[row, target[user, length]] = 1.0 if user == favoured else -1.0
        return scores

    found = judge.rank(score, "test")
    assert found.values["hr@10"] == pytest.approx(1 / len(np.unique(ranking.users)), abs=1e-6)
    assert len(found.ndcg) == len(np.unique(ranking.users))
    assert found.ndcg[0] == 1.0


def test_among_sampled_negatives_chance_is_what_it_should_be(small_dataset) -> None:
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(400), 2), rng.permuted(np.tile(np.arange(300), (400, 1)), axis=1)[:, :2].ravel()
    whole = Histories.of(users, items, np.tile(np.arange(2), 400), 400, 300)
    seen = whole.first(np.ones(400, int))
    targets = Histories.of(np.arange(400), items[1::2], np.ones(400, int), 400, 300)

    def score(who: np.ndarray, seen: Histories) -> torch.Tensor:
        return torch.rand(len(who), 300, generator=torch.Generator().manual_seed(7))

    found = rank(score, Ranking(np.arange(400), seen, targets), whole, 0, negatives=99)
    assert found.values["hr@10"] == pytest.approx(0.1, abs=0.05)
    assert rank(score, Ranking(np.arange(400), seen, targets), whole, 0).values["hr@10"] < 0.07


def test_the_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = metrics.bootstrap(rng.exponential(1.0, 100), trial, draws=300)
        hits += low < 1.0 < high
    assert 0.87 < hits / 200 < 0.99
    low, high = metrics.bootstrap(np.full(30_000, 2.0), 0)
    assert low == high == 2.0
    assert np.isnan(metrics.bootstrap(np.array([np.nan]), 0)).all()


def test_a_comparison_pairs_the_members() -> None:
    """A small gain for every member is sure, however much the members differ among themselves."""
    rng = np.random.default_rng(0)
    base = rng.random(500)
    members = {"ours": base + 0.01, "ours, half": base * 2, "rival": base, "weak": base - 0.5}
    found, sentence = comparison("ours", members, seed=0)
    assert found["rival"] == pytest.approx([0.01, 0.01, 0.01])
    assert "ours is above the best other method, rival" in sentence  # a part of ours is no rival
    assert "ours is below the best other" in comparison("ours", {"ours": base, "rival": base + 0.1}, 0)[1]
    noise = {"ours": base, "rival": rng.permutation(base)}
    assert "not told apart from" in comparison("ours", noise, 0)[1]


def test_metrics_agree_with_ranx() -> None:
    """With the reference package where it is installed (extra `benchmarks`)."""
    ranx = pytest.importorskip("ranx")
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.random((40, 60)).astype(np.float32))
    rows, items = np.nonzero(rng.random((40, 60)) < 0.05)
    rows, items = torch.from_numpy(rows), torch.from_numpy(items)
    place = metrics.ranks_of(scores, rows, items, torch.arange(60))
    wanted: dict[str, dict[str, int]] = {}
    for row, item in zip(rows.tolist(), items.tolist(), strict=True):
        wanted.setdefault(str(row), {})[str(item)] = 1
    given = {row: {str(i): float(s) for i, s in enumerate(scores[int(row)].tolist())} for row in wanted}
    names = {
        "ndcg@10": metrics.ndcg(place, rows, 40, 10),
        "hit_rate@10": metrics.hit_rate(place, rows, 40, 10),
        "mrr": metrics.reciprocal_rank(place, rows, 40),
        "recall@20": metrics.recall(place, rows, 40, 20),
    }
    theirs = ranx.evaluate(ranx.Qrels(wanted), ranx.Run(given), list(names))
    for name, ours in names.items():
        assert metrics.mean(ours) == pytest.approx(theirs[name], abs=1e-6), name


def test_cost_is_seconds_and_memory() -> None:
    with Cost() as cost:
        held = np.ones(40 * 2**20, np.uint8)
    assert held.sum() > 0
    assert cost.seconds > 0
    if Path("/proc/self/clear_refs").exists():
        assert cost.peak_mib == pytest.approx(40, abs=15)
