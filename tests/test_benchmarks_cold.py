"""Cold titles: held out entirely, and judged as they should be."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.__main__ import main
from benchmarks.cold import auc, of_cold
from recsys.interactions import Histories


def test_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores, label = rng.integers(0, 6, (40, 9)) / 5, rng.random((40, 9)) < 0.3  # many ties
    label[0], label[1] = False, True
    rows, columns = label.nonzero()
    found = auc(torch.from_numpy(scores).float(), torch.from_numpy(rows), torch.from_numpy(columns)).numpy()
    for row in range(40):
        if 0 < label[row].sum() < 9:
            assert found[row] == pytest.approx(roc_auc_score(label[row], scores[row]), abs=1e-6)
        else:
            assert np.isnan(found[row])


def test_figures_are_of_cold_titles_among_all() -> None:
    """Members 0 and 2 watched a cold title: 0 has it first, 2 last."""
    of_cold_titles = np.array([False] * 30 + [True] * 3)
    histories = Histories.of(np.array([0, 1, 2]), np.array([4, 5, 6]), np.arange(3), 3, 33)
    targets = Histories.of(np.array([0, 2]), np.array([30, 31]), np.arange(2), 3, 33)
    scores = torch.arange(33.0).flip(0).repeat(3, 1)  # 0 is the best title, the last the worst
    scores[0, 30] = 33.0
    scores[2, 31] = -1.0
    found = of_cold(lambda users, seen: scores[torch.from_numpy(users)], histories, targets, of_cold_titles, seed=0)
    assert found["auc of members"] == pytest.approx((1 + 0) / 2)
    assert found["auc of titles"] == pytest.approx((1 + 0) / 2)
    assert found["recall@20"] == pytest.approx(1 / 2)  # of member 2 it is the 32nd
    assert found["recall@100"] == 1


def test_the_table_is_printed_and_kept(small_dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = small_dataset(n_users=60, reviews=0)
    ask = ["cold", "--data.dataset", "small", "--seeds", "1", "--trainer.max_epochs", "2", "--trainer.accelerator",
           "cpu", "--trainer.enable_progress_bar", "false", "--model.hidden", "8", "--model.size", "8"]  # fmt: skip
    assert main(ask) == 0
    out = capsys.readouterr().out
    assert "HistoryNet" in out
    assert "5% of the titles have no events" in out
    assert main(ask) == 0
    assert "Kept from" in capsys.readouterr().out
    assert main(["cold", "--seeds", "0"]) == 2
    assert "--seeds 0" in capsys.readouterr().err
    assert dataset.interactions()["item_id"].nunique() > 30  # the dataset itself is whole
