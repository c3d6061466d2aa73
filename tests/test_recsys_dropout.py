"""Dropout by bits: as many values as asked for, each on its own, and the mean stays."""

import pytest
import torch

from recsys.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    found = Dropout(p)(torch.ones(1001, 1003))  # a number of values that four does not divide
    dropped = (found == 0).double()
    assert dropped.mean().item() == pytest.approx(p, abs=0.003)
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)
    assert len(found.unique()) == 2
    # Rows, columns and neighbours: no pattern.
    assert dropped.mean(0).std().item() == pytest.approx((p * (1 - p) / 1001) ** 0.5, rel=0.1)
    assert dropped.mean(1).std().item() == pytest.approx((p * (1 - p) / 1003) ** 0.5, rel=0.1)
    both = (dropped.flatten()[1:] * dropped.flatten()[:-1]).mean().item()
    assert both == pytest.approx(p * p, abs=0.003)


def test_the_gradient_is_that_of_what_was_kept() -> None:
    values = torch.randn(50, 7, requires_grad=True)
    found = Dropout(0.4)(values)
    found.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad == 0, found == 0)
    torch.testing.assert_close(values.grad[found != 0], torch.full_like(found[found != 0], 1 / 0.6), rtol=1e-4, atol=0)


def test_nothing_is_dropped_when_nothing_is_learned() -> None:
    values = torch.randn(3, 4)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values
    assert Dropout(0.5)(torch.zeros(0, 4)).shape == (0, 4)
    assert torch.equal(Dropout(0.5)(torch.zeros((), dtype=torch.bfloat16)), torch.zeros((), dtype=torch.bfloat16))


def test_a_seed_makes_it_the_same_again() -> None:
    values, dropout = torch.ones(100), Dropout(0.5)
    torch.manual_seed(3)
    first = dropout(values)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(values))
    assert not torch.equal(first, dropout(values))
