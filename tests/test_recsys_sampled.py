"""Sampled softmax: its mean is the softmax, no step is as large as the catalogue, and it learns a planted order."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from made_histories import random_histories
from test_recsys_history import VARIANTS, cycles, data_of, module_of, training_batch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys.history import HistoryModule
from recsys.sampled import Asked, Draws

pytestmark = pytest.mark.usefixtures("one_thread")
POPULARITY = torch.tensor([8.0, 1.0, 4.0, 0.5, 2.0]) / 15.5


def test_titles_are_drawn_by_their_popularity_to_the_three_quarters() -> None:
    torch.manual_seed(0)
    draws = Draws(5)
    draws.learn(POPULARITY)
    expected = POPULARITY**0.75 / (POPULARITY**0.75).sum()
    found = torch.bincount(draws(200_000), minlength=5) / 200_000
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0)


def test_before_anything_is_learned_all_titles_are_drawn_alike() -> None:
    torch.manual_seed(0)
    found = torch.bincount(Draws(5)(100_000), minlength=5) / 100_000
    torch.testing.assert_close(found, torch.full((5,), 0.2), rtol=0.03, atol=0)


def test_a_rare_title_among_a_million_is_drawn_as_often_as_it_should() -> None:
    torch.manual_seed(0)
    draws = Draws(1_000_000)
    popularity = torch.full((1_000_000,), 1e-7)
    popularity[:10] = 0.09
    draws.learn(popularity)
    share = float((draws(400_000) >= 10).float().mean())
    expected = 999_990 * 1e-7**0.75 / (999_990 * 1e-7**0.75 + 10 * 0.09**0.75)
    assert share == pytest.approx(expected, rel=0.01)


def test_the_estimated_sum_is_right_in_the_mean() -> None:
    """exp(loss) p is Z over exp(own logit): its mean over draws is the whole sum's, the wanted title drawn or not."""
    torch.manual_seed(0)
    draws, logits, wanted = Draws(5), 2 * torch.randn(3, 5), torch.tensor([0, 3, 0])
    draws.learn(POPULARITY)
    sums = []
    for _ in range(4_000):
        asked = Asked(wanted, draws(8))
        of_asked = torch.cat([logits.gather(1, wanted[:, None]), logits[:, asked.drawn]], dim=1)
        sums.append(draws.losses(of_asked, asked).exp())
    expected = torch.nn.functional.cross_entropy(logits, wanted, reduction="none").exp()
    torch.testing.assert_close(torch.stack(sums).mean(0), expected, rtol=0.03, atol=0)


def test_what_is_drawn_and_wanted_is_not_counted_twice() -> None:
    draws = Draws(3)
    asked = Asked(torch.tensor([1]), torch.tensor([1, 1, 1]))
    assert float(draws.losses(torch.tensor([[0.3, 0.3, 0.3, 0.3]]), asked)) == 0.0


@pytest.mark.parametrize("settings", VARIANTS[:5], ids=str)
def test_with_very_many_draws_a_step_is_that_of_the_softmax(settings: dict[str, Any]) -> None:
    histories = random_histories([9, 4, 7, 2])
    whole = module_of(histories, **settings)
    some = module_of(histories, n_sampled=40_000, **settings)
    some.load_state_dict(whole.state_dict())
    batch = training_batch(histories, whole)
    losses = [module.training_step(batch, 0) for module in (whole, some)]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)
    for loss in losses:
        loss.backward()
    for (name, expected), found in zip(whole.named_parameters(), some.parameters(), strict=True):
        if expected.grad is not None and float(expected.grad.norm()) > 1e-6:
            assert found.grad is not None
            assert float((found.grad - expected.grad).norm() / expected.grad.norm()) < 0.1, name


def test_hidden_titles_are_hidden_in_all_their_places() -> None:
    histories = random_histories([9, 4])
    module = module_of(histories, title_dropout=0.5, content=False, n_sampled=4).train()
    torch.manual_seed(0)
    titles = torch.arange(30).repeat(3)
    found = module.vectors_of(titles).view(3, 30, -1)
    assert (found[0] == found[1]).all()
    hidden = (found[0] == 0).all(1)
    assert 5 < int(hidden.sum()) < 25
    torch.testing.assert_close(module.eval().vectors_of(titles), module.title_vectors()[titles])
    told = module_of(random_histories([9, 4]), n_sampled=4)
    for title in (7, 29, 30):  # the last is none, and has no tokens
        torch.testing.assert_close(told.vectors_of(torch.tensor([title]))[0], told.title_vectors()[title])


def test_a_module_draws_by_what_it_has_learned_from() -> None:
    module = module_of(random_histories([9, 4, 7, 2]), n_sampled=4)
    assert module.draws is not None
    expected = module.mixture.popularity[0] ** 0.75
    assert expected.std() > 0
    torch.testing.assert_close(module.draws.share, expected / expected.sum())


@contextmanager
def largest() -> Iterator[list[int]]:
    """The number of elements of the largest tensor that any operator made."""
    found = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = operator(*args, **(kwargs or {}))
            found[0] = max([found[0], *(part.numel() for part in tree_leaves(result) if isinstance(part, Tensor))])
            return result

    with Watch():
        yield found


def test_nothing_in_a_step_is_as_large_as_targets_times_titles() -> None:
    n_items = 50_000
    histories = random_histories([9, 4, 7, 2], n_items=n_items)
    settings: dict[str, Any] = {"size": 2, "hidden": 4, "max_linear_titles": 100, "search": False, "folds": 2}
    module = HistoryModule(4, n_items, **settings, n_sampled=64)
    module.prepare(data_of(histories))
    batch = training_batch(histories, module)
    with largest() as found:
        module.training_step(batch, 0).backward()
    targets = len(histories.items)
    assert found[0] <= 4 * n_items < targets * n_items


def test_it_finds_a_planted_order() -> None:
    train, strangers = cycles(100, 15, seed=0), cycles(40, 15, seed=1)
    torch.manual_seed(0)
    module = HistoryModule(
        100, 15, size=16, hidden=32, content=False, dropout=0.0, search=False, linear=False, n_sampled=6
    )
    module.prepare(data_of(train))
    optimizer, batch = torch.optim.Adam(module.parameters(), 0.02), training_batch(train, module)
    for _ in range(120):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    with torch.no_grad():
        best = module.eval().score(torch.arange(40), strangers).argmax(1)
    last = strangers.items[strangers.start[1:] - 1]
    assert np.mean(best.numpy() == (last + 1) % 15) > 0.95
