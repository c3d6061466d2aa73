"""`python -m recsys evaluate`: every protocol, the table, its intervals, and what is kept of it."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import toy_package

from data import evaluation, home, runs
from data.dataset import Dataset, write_dataset
from recsys import metrics
from recsys.__main__ import main
from recsys.cost import Cost
from recsys.datamodule import RecommenderData
from recsys.evaluate import LINKS, OURS, Judge, comparison
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


# -- what all `evaluate` commands share ------------------------------------------------------------------------------


def asked(dataset: Dataset, answer: float, *argv: str, model: str = "recommender", **question: int) -> float:
    """The figure of a measurement, or of the one that was kept before it."""
    result = evaluation.kept(dataset, model, argv, question, lambda: {"metrics": {"test": {"ours": {"x": answer}}}})
    return result["metrics"]["test"]["ours"]["x"]


def test_a_result_answers_the_same_question_alone(small_dataset, tmp_path: Path) -> None:
    dataset, config, copy = small_dataset(reviews=0), tmp_path / "a.yaml", tmp_path / "b.yaml"
    for path in (config, copy):
        path.write_text("seed_everything: 1\n")
    assert asked(dataset, 1.0, "--config", str(config), "--x", "1", seeds=1, protocol=2) == 1.0
    assert (
        asked(dataset, 2.0, "--config", str(copy), "--x", "1", protocol=2, seeds=1) == 1.0
    )  # the same, said otherwise
    assert asked(dataset, 3.0, "--config", str(config), "--x", "2", seeds=1, protocol=2) == 3.0
    assert asked(dataset, 4.0, "--config", str(config), "--x", "1", seeds=2, protocol=2) == 4.0
    assert asked(dataset, 5.0, "--config", str(config), "--x", "1", seeds=1, protocol=2, model="retention") == 5.0
    config.write_text("seed_everything: 2\n")
    assert asked(dataset, 6.0, "--config", str(config), "--x", "1", seeds=1, protocol=2) == 6.0
    tables = {name: dataset.read(name) for name in ("interactions", "items", "users")}
    ordered = write_dataset("small", tables, sources=dataset.sources, time_kind="order", replace=True)
    assert ordered.as_of == dataset.as_of
    assert asked(ordered, 7.0, "--config", str(copy), "--x", "1", seeds=1, protocol=2) == 7.0


def test_what_is_not_a_number_is_kept_as_nothing(small_dataset) -> None:
    dataset = small_dataset(reviews=0)
    assert asked(dataset, np.nan) is None
    assert asked(dataset, 1.0) is None


def test_a_result_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    table = {"ours": {"ndcg@10": 0.25, "rows": 3}, "theirs": {"ndcg@10": 0.5, "rows": 4}}
    result = {
        "model": "recommender",
        "dataset": "small",
        "metrics": {"validation": table, "test": {"ours": {"ndcg@10": 0.75}}},
        "notes": ["First note.", "Second note."],
        "split": {"protocol": "by lot", "seed": 7},
        "fingerprint": "f00",
        "seconds": 2.0,
    }
    evaluation.show(result, {"ndcg@10": "max"})
    told = capsys.readouterr().out
    assert "recommender on 'small', validation" in told
    assert "recommender on 'small', test" in told
    assert "0.500*" in told
    assert "0.250*" not in told
    assert "- First note.\n- Second note.\nSplit: by lot. Seed 7, dataset fingerprint f00, measured in 2 s." in told


class Planned(toy_package.Toy):
    """Its validation score is what the plan says for each epoch."""

    monitor = "val/score"

    plan = (0.5, 0.9, 0.1, 0.4)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/score", self.plan[self.current_epoch])


def a_trainer(folder: Path, epochs: int, **more: Any) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return pl.Trainer(default_root_dir=folder, max_epochs=epochs, num_sanity_val_steps=0, **quiet, **more)


@pytest.mark.parametrize(("mode", "epochs"), [("max", 2), ("min", 3)])
def test_training_keeps_the_best_epoch_on_validation(mode: str, epochs: int, tmp_path: Path) -> None:
    module = Planned(7)
    module.monitor_mode = mode
    cli = SimpleNamespace(model=module, datamodule=toy_package.ToyData(), trainer=a_trainer(tmp_path, 4))
    assert evaluation.train(cli, tmp_path) == epochs
    checkpoint = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == epochs - 1
    assert "optimizer_states" not in checkpoint


def test_a_refit_is_fresh_on_everything_for_the_epochs_given(tmp_path: Path) -> None:
    config = {"enable_progress_bar": False, "logger": False, "accelerator": "cpu", "max_epochs": 9}
    cli = SimpleNamespace(
        model=Planned(7),
        datamodule=toy_package.ToyData(),
        config_init=SimpleNamespace(trainer=config),
        config=SimpleNamespace(seed_everything=3),
    )
    found = evaluation.refit(cli, tmp_path, epochs=2)
    assert found is not cli.model
    assert not found.training
    assert cli.datamodule.fit_on == "everything"
    assert found.trainer.current_epoch == 2
    assert found.linear.weight.equal(evaluation.refit(cli, tmp_path, epochs=2).linear.weight)


def test_an_interrupted_training_leaves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning is deaf to Ctrl-C after the first one
    module = toy_package.Toy(7, fail_at_epoch=1)
    cli = SimpleNamespace(model=module, datamodule=toy_package.ToyData(), trainer=a_trainer(tmp_path, 3))
    with pytest.raises(KeyboardInterrupt, match="nothing was kept"):
        evaluation.train(cli, tmp_path)
    cli.config_init = SimpleNamespace(trainer={"enable_progress_bar": False, "logger": False, "accelerator": "cpu"})
    cli.config = SimpleNamespace(seed_everything=True)
    with pytest.raises(KeyboardInterrupt, match="nothing was kept"):
        evaluation.refit(cli, tmp_path, epochs=3)


def test_a_configuration_without_a_seed_has_the_usual_one(small_dataset, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    config = tmp_path / "model.yaml"
    lines = [line for line in OURS[0].read_text().splitlines() if not line.startswith("seed_everything")]
    config.write_text("\n".join(lines))
    argv = ["--config", str(config), "--data.dataset", "small", *SHORT]
    assert evaluation.configured("recsys", argv, LINKS, tmp_path).config.seed_everything == 42


# -- cost ------------------------------------------------------------------------------------------------------------

with_peak = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux keeps the peak")


def test_cost_is_seconds() -> None:
    before = time.perf_counter()
    with Cost() as cost:
        time.sleep(0.05)
    assert 0.05 <= cost.seconds <= time.perf_counter() - before


# In a process of its own: here the allocators of a thousand tests give memory back when they like.
PEAKS = """
import numpy as np
from recsys.cost import Cost

with Cost() as held:
    kept = np.ones(40 * 2**20, np.uint8)
assert np.ones(200 * 2**20, np.uint8).sum() > 0  # before the work, and given back
with Cost() as in_turn:
    assert np.ones(60 * 2**20, np.uint8).sum() > 0  # given back before the end
    assert np.ones(50 * 2**20, np.uint8).sum() > 0
print(held.peak_mib, in_turn.peak_mib)
"""


@with_peak
def test_the_peak_is_what_was_held_at_once_during_the_work() -> None:
    told = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True, timeout=60)
    held, in_turn = map(float, told.stdout.split())
    assert held == pytest.approx(40, abs=5)
    assert in_turn == pytest.approx(60, abs=5)


def test_without_a_way_to_reset_the_peak_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.cost._CLEAR", tmp_path / "no folder" / "clear_refs")
    with Cost() as cost:
        pass
    assert cost.peak_mib is None
    assert cost.seconds >= 0
