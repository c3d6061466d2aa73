"""Maximal marginal relevance against its definition, list by list."""

import numpy as np
import pytest
import torch

from recsys.variety import CONTRAST, diversified, jaccard


def test_likeness_is_the_share_of_common_genres() -> None:
    genres = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]]).bool()
    third = 1 / 3
    expected = torch.tensor([[[1, 0.5, third, 0], [0.5, 1, 0, 0], [third, 0, 1, 0], [0, 0, 0, 0]]])
    assert jaccard(genres, torch.tensor([[0, 1, 2, 3]])).allclose(expected)
    assert jaccard(genres, torch.tensor([[2, 2], [1, 0]])).allclose(
        torch.tensor([[[1, 1], [1, 1]], [[1, 0.5], [0.5, 1]]])
    )


def test_marginal_relevance_is_the_formula() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -torch.inf]])
    similarity = torch.zeros(1, 4, 4)
    similarity[0, 0, 1] = similarity[0, 1, 0] = 1.0
    assert diversified(logits, similarity, 3, 0.0).tolist() == [[0, 1, 2]]
    # At 0.5 the second title loses 0.5 * 3 for its likeness to the first: more than the 0.5 * 1.22 it is ahead.
    assert diversified(logits, similarity, 3, 0.5).tolist() == [[0, 2, 1]]
    assert diversified(logits, similarity, 4, 0.5)[0, 3] == 3


def by_hand(logits: np.ndarray, similarity: np.ndarray, k: int, variety: float) -> list[int]:
    """One list, title by title, as the module's text says."""
    real = [i for i in range(len(logits)) if np.isfinite(logits[i])]
    spread = logits[real].std() if real else 0.0
    chosen: list[int] = []
    while len(chosen) < min(k, len(real)):
        worth = {
            i: (1 - variety) * logits[i] / max(spread, 1e-6)
            - variety * CONTRAST * max((similarity[i, j] for j in chosen), default=0.0)
            for i in real
            if i not in chosen
        }
        chosen.append(max(worth, key=lambda i: worth[i]))
    return chosen


@pytest.mark.parametrize("variety", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_every_list_is_built_as_the_text_says(variety: float) -> None:
    rng = np.random.default_rng(0)
    lists, candidates, k = 30, 12, 6
    logits = -np.sort(-rng.normal(-200.0, 4.0, (lists, candidates)))
    for row in range(0, lists, 3):
        logits[row, 12 - row // 3 :] = -np.inf  # lists of 12, 11, ... 3 candidates
    similarity = rng.random((lists, candidates, candidates))
    similarity += similarity.transpose(0, 2, 1)
    found = diversified(torch.from_numpy(logits), torch.from_numpy(similarity), k, variety).tolist()
    for row in range(lists):
        expected = by_hand(logits[row], similarity[row], k, variety)
        assert found[row][: len(expected)] == expected
        assert len(set(found[row])) == k


def test_equal_logits_leave_the_choice_to_the_likeness() -> None:
    similarity = torch.tensor([[[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]]])
    assert diversified(torch.full((1, 3), 2.0), similarity, 3, 0.5).tolist() == [[0, 2, 1]]
    assert diversified(torch.full((1, 3), -torch.inf), similarity, 3, 0.5).tolist() == [[0, 1, 2]]
