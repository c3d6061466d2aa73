"""Reasons are true: whoever removes the event and scores again finds what is compared here."""

import numpy as np
import pytest
import torch
from made_histories import N_ITEMS, random_histories

from recsys import reasons as reasons_module
from recsys.content import WIDTH
from recsys.eight_bits import EightBits
from recsys.history import HistoryModule
from recsys.interactions import Histories
from recsys.reasons import logits_without_each, reasons, sums_without_each
from recsys.windows import CONTEXT, History, latest_events

pytestmark = pytest.mark.usefixtures("one_thread")


def module_of(n_items: int = N_ITEMS, seed: int = 0, **settings: object) -> HistoryModule:
    """A module whose every part is random, large enough for each to speak."""
    torch.manual_seed(seed)
    sizes: dict = {
        "size": 6,
        "hidden": 10,
        "powers": [0.0, 1.0],
        "content_buckets": 16,
        "dropout": 0.5,
        "search": False,
    }
    module = HistoryModule(1, n_items, **sizes | settings)
    for parameter in (module.title.weight, module.token.weight, module.event, module.bias):
        torch.nn.init.normal_(parameter.data, std=0.7)
    linear = module.transition
    if linear is not None:
        linear.packed[:-1] = EightBits.of(0.1 * torch.randn(linear.size, linear.size)).packed
        linear.titles.copy_(torch.randperm(n_items)[: linear.size].sort().values)
        linear.row.fill_(linear.size)
        linear.row[linear.titles] = torch.arange(linear.size)
    module.tokens.copy_(torch.randint(0, 17, (n_items, WIDTH)))
    module.mixture.popularity.copy_(torch.rand(n_items).expand(4, -1) / n_items)
    module.rating_scale.copy_(torch.tensor([3.0, 1.2]))
    return module.eval()


def without(histories: Histories, event: int) -> Histories:
    """The same histories without event number `event` of all."""
    parts = (histories.users, histories.items, histories.times, histories.ratings)
    users, items, times, ratings = (np.delete(part, event) for part in parts)
    return Histories.of(users, items, times, len(histories), histories.n_items, ratings)


@torch.no_grad()
def by_brute_force(
    module: HistoryModule, histories: Histories, titles: torch.Tensor, context: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reason and share by removing each event that the model sees from the histories themselves."""
    items, shares = np.full(titles.shape, -1), np.full(titles.shape, np.nan)
    for member, length in enumerate(histories.lengths):
        alone, wanted = histories.take(np.array([member])), titles[member : member + 1]
        before = module.candidate_logits(latest_events(alone, context), wanted.clamp_min(0))[0]
        seen = range(max(0, length - context), length)
        losses = [
            before - module.candidate_logits(latest_events(without(alone, event), context), wanted.clamp_min(0))[0]
            for event in seen
        ]
        for place, title in enumerate(wanted[0].tolist()):
            costs = np.array([float(loss[place]) for loss in losses])
            if title < 0 or not (costs > 0).any():
                continue
            items[member, place] = alone.items[seen[int(costs.argmax())]]
            shares[member, place] = costs.max() / costs[costs > 0].sum()
    return items, shares


def assert_true(module: HistoryModule, histories: Histories, titles: torch.Tensor, context: int = CONTEXT) -> None:
    found = reasons(module, histories, titles)
    items, shares = by_brute_force(module, histories, titles, context)
    np.testing.assert_array_equal(found.item, items)
    np.testing.assert_allclose(found.share, shares, rtol=2e-3)
    assert (items >= 0).any()


def some_titles(members: int, k: int = 4, seed: int = 3) -> torch.Tensor:
    return torch.randint(0, N_ITEMS, (members, k), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def short_context(monkeypatch: pytest.MonkeyPatch) -> int:
    """A model's view of five events."""
    monkeypatch.setattr(reasons_module, "CONTEXT", 5)
    return 5


@pytest.mark.parametrize(
    "settings", [{}, {"linear": False}, {"neural": False}, {"max_linear_titles": 12}, {"content": False}], ids=str
)
def test_reasons_equal_removing_each_event_for_real(settings: dict) -> None:
    histories = random_histories([7, 1, 0, 12, 2, 7, 20])
    assert_true(module_of(**settings), histories, some_titles(7))


@pytest.mark.parametrize("settings", [{}, {"linear": False}, {"neural": False}], ids=str)
def test_an_event_that_comes_into_view_takes_the_place_of_a_removed_one(short_context: int, settings: dict) -> None:
    histories = random_histories([9, 5, 6, 4, 1, 0, 30])
    assert_true(module_of(**settings), histories, some_titles(7), short_context)


def test_reasons_of_a_history_longer_than_the_models_view() -> None:
    histories = random_histories([CONTEXT + 15, CONTEXT, CONTEXT + 1], n_items=300)
    titles = torch.tensor([[3, 299], [0, 17], [40, 41]])
    assert_true(module_of(n_items=300), histories, titles)


def test_reasons_do_not_depend_on_how_many_members_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, histories, titles = module_of(), random_histories([3, 8, 0, 8, 1, 14, 2]), some_titles(7)
    together = reasons(module, histories, titles)
    held: list[int] = []

    def counted(module: HistoryModule, history: History, candidates: torch.Tensor) -> torch.Tensor:
        held.append((history.item.shape[1] - 1) * len(history.item))
        return logits_without_each(module, history, candidates)

    monkeypatch.setattr(reasons_module, "_NUMBERS", 18 * 20)  # 18: three sums of 6 numbers for each event
    monkeypatch.setattr(reasons_module, "logits_without_each", counted)
    in_parts = reasons(module, histories, titles)
    assert len(held) > 1
    assert max(held) <= 20
    assert held[-1] == 14
    np.testing.assert_array_equal(in_parts.item, together.item)
    np.testing.assert_allclose(in_parts.share, together.share, rtol=1e-3)
    for member in range(7):
        alone = reasons(module, histories.take(np.array([member])), titles[[member]])
        np.testing.assert_array_equal(alone.item[0], together.item[member])


def test_what_fills_up_a_list_gets_no_reason() -> None:
    histories, titles = random_histories([6, 6, 4]), some_titles(3)
    whole = reasons(module_of(), histories, titles)
    titles[0, 2] = titles[2, 0] = titles[2, 3] = -1
    found = reasons(module_of(), histories, titles)
    filled = titles.numpy() < 0
    assert (found.item[filled] == -1).all()
    assert np.isnan(found.share[filled]).all()
    np.testing.assert_array_equal(found.item[~filled], whole.item[~filled])
    assert (whole.item[filled] >= 0).any()  # it was the -1 that made the difference


def test_one_event_is_the_whole_reason_or_none() -> None:
    histories, titles = random_histories([1] * 12), some_titles(12)
    found = reasons(module_of(), histories, titles)
    helps = found.item >= 0
    assert helps.any()
    assert not helps.all()
    np.testing.assert_array_equal(found.item[helps], np.broadcast_to(histories.items[:, None], titles.shape)[helps])
    assert (found.share[helps] == 1.0).all()
    assert np.isnan(found.share[~helps]).all()


def test_nobody_has_a_reason_without_an_event() -> None:
    module, titles = module_of(), some_titles(2)
    for histories in (random_histories([0, 0]), random_histories([0, 0, 4]).take(np.array([1, 0]))):
        found = reasons(module, histories, titles)
        assert (found.item == -1).all()
        assert np.isnan(found.share).all()


def test_no_members_no_reasons() -> None:
    found = reasons(
        module_of(), random_histories([3]).take(np.zeros(0, np.int64)), torch.zeros(0, 4, dtype=torch.int64)
    )
    assert found.item.shape == found.share.shape == (0, 4)


def test_the_reason_is_the_title_that_alone_leads_there() -> None:
    """A transition from title 2 to title 9 and nothing else: whoever has seen 2 is told so."""
    module = module_of(neural=False)
    assert module.transition is not None
    only = torch.zeros(N_ITEMS + 1, N_ITEMS)
    only[2, 9] = 0.5
    module.transition.packed.copy_(EightBits.of(only).packed)
    histories = Histories.of(np.zeros(4, int), np.array([5, 2, 8, 1]), np.arange(4), 1, N_ITEMS)
    found = reasons(module, histories, torch.tensor([[9, 7]]))
    assert found.item[0].tolist() == [2, -1]
    assert found.share[0, 0] == 1.0


@pytest.mark.parametrize("power", [0.0, 0.7])
def test_sums_without_each_event_are_the_sums_of_the_others(power: float) -> None:
    values = torch.randn(2, 6, 3, dtype=torch.float64)
    found = sums_without_each(values, power)
    assert found.shape == (2, 5, 3)
    for place in range(1, 6):
        others = torch.cat([values[:, :place], values[:, place + 1 :]], dim=1)
        expected = sum((1.0 + age) ** -power * others[:, 4 - age] for age in range(5))
        torch.testing.assert_close(found[:, place - 1], expected)
