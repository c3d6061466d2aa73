"""The slider's table: at 0 the figures of the evaluation, and towards 1 lists that differ more."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from recsys import variety_cost as variety
from recsys.baselines import Ease
from recsys.evaluate import Judge
from recsys.history_data import HistoryData
from recsys.interactions import Histories
from recsys.ranking import Ranking, linear


def test_without_variety_the_lists_are_those_of_the_evaluation(
    small_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_dataset(n_users=50, n_items=60, reviews=0)
    monkeypatch.setattr(variety, "_ROWS", 7)
    data = HistoryData("small")
    judge = Judge(data)
    score = linear(Ease(20.0).fit(data.train))  # no ties, which each side would break its own way
    expected = judge.rank(score, "test").values
    assert judge.genres is not None
    figures = [variety.of_lists(score, judge.rankings["test"], judge.genres, step).values for step in (0.0, 0.5, 1.0)]
    for name, value in figures[0].items():
        if "±" in name:
            continue
        assert value == pytest.approx(expected[name], rel=1e-5), name
    assert np.diff([row["diversity@10"] for row in figures]).min() >= 0
    assert figures[1]["diversity@10"] > figures[0]["diversity@10"]


def test_a_target_counts_where_the_list_holds_it() -> None:
    genres = torch.eye(4, dtype=torch.bool).repeat_interleave(3, 0)  # twelve titles, three of each genre

    def asked(step: float) -> float:
        ranking = Ranking(np.array([0]), of_one([11]), of_one([2]))
        return (
            variety.of_lists(lambda users, seen: -torch.arange(12.0)[None], ranking, genres, step).values["ndcg@10"]
            or 0.0
        )

    assert asked(0.0) == pytest.approx(1 / np.log2(4))
    assert asked(1.0) < 1 / np.log2(5)  # titles of the other genres come first


def of_one(items: list[int]) -> Histories:
    return Histories.of(np.zeros(len(items), int), np.array(items), np.arange(len(items)), 1, 12)


def test_the_table_is_printed_and_kept(small_dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(n_users=40, reviews=0)
    ask = ["variety", "--data.dataset", "small", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
           "--trainer.enable_progress_bar", "false", "--model.hidden", "8", "--model.size", "8"]  # fmt: skip
    assert main(ask) == 0
    assert "variety 0.3" in capsys.readouterr().out
    assert main(ask) == 0
    assert "Kept from" in capsys.readouterr().out
    assert main(["variety", "--protocol", "ncf-2017"]) == 2
    assert "leave-five-out" in capsys.readouterr().err
