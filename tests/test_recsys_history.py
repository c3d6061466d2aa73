"""HistoryNet: histories cut right, no look ahead, folds left out, its parts add up, and it learns what was planted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from device_check import on_meta, one_device
from made_histories import N_ITEMS, random_histories
from quiet_trainer import quiet_trainer
from torch import Tensor

from data import home
from recsys import history_data, transition
from recsys.__main__ import main
from recsys.baselines import Ease
from recsys.content import WIDTH, content_tokens
from recsys.evaluate import measure
from recsys.history import FadingSums, HistoryModule
from recsys.history_data import HistoryData
from recsys.interactions import Histories
from recsys.metrics import ranks_of, tie_order
from recsys.mixture import HALF_LIVES, Mixture
from recsys.next_title import MAX_LAG, fading, moments, solve
from recsys.transition import Settings, Transition
from recsys.windows import CONTEXT, History, fading_windows, latest_events, pieces, stretch

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES: dict[str, Any] = {"size": 8, "hidden": 12, "powers": [0.0, 1.0], "content_buckets": 32, "folds": 3,
                         "search": False}  # fmt: skip
VARIANTS: list[dict[str, Any]] = [
    {},
    {"linear": False},
    {"neural": False},
    {"content": False},
    {"max_linear_titles": 7},
    {"folds": 1},
    {"ease_weight": 0.0, "future": 0.4},
]
SAMPLED: list[dict[str, Any]] = [{"n_sampled": 200}, {"n_sampled": 200, "max_linear_titles": 7}]


def data_of(histories: Histories, seed: int = 0) -> Any:
    """What `prepare` needs of a datamodule, with two or three random tokens for each title but the first."""
    rng = np.random.default_rng(seed)

    def tokens(buckets: int) -> np.ndarray:
        found = np.full((histories.n_items, WIDTH), buckets)
        for title in range(1, histories.n_items):
            number = int(rng.integers(2, 4))
            found[title, :number] = rng.permutation(buckets)[:number]
        return found

    return SimpleNamespace(
        fitted=histories, content_tokens=tokens, fold_of=lambda folds: np.arange(len(histories)) % folds
    )


def module_of(histories: Histories, seed: int = 0, **settings: Any) -> HistoryModule:
    """A prepared module in eval mode, its parameters random and large enough for each to speak."""
    torch.manual_seed(seed)
    module = HistoryModule(len(histories), histories.n_items, **SIZES | settings)
    for parameter in (module.title.weight, module.token.weight, module.event, module.bias):
        torch.nn.init.normal_(parameter.data, std=0.5)
    module.prepare(data_of(histories))
    return module.eval()


def linear_of(module: HistoryModule) -> Transition:
    assert module.transition is not None
    return module.transition


def loaded(dataset: str, **settings: Any) -> HistoryData:
    data = HistoryData(dataset, **settings)
    data.load()
    return data


def fitting(data: HistoryData, folds: int = 1, future: float = 0.0) -> HistoryData:
    """`data` as it is while a module with these settings is trained."""
    module = SimpleNamespace(hparams={"folds": folds, "future": future})
    trainer: Any = SimpleNamespace(lightning_module=module, current_epoch=0)
    data.trainer = trainer
    return data


def prefixes(histories: Histories) -> tuple[Histories, np.ndarray]:
    """For each event of all the history before it, as a member of its own; and the title that came."""
    place = np.arange(len(histories.items)) - histories.start[histories.users]
    return histories.take(histories.users).first(place), histories.items


def items_of(histories: Histories, member: int) -> list[int]:
    return histories.items[histories.start[member] : histories.start[member + 1]].tolist()


# -- histories as tensors ---------------------------------------------------------------------------------------------


def test_latest_events_stand_on_the_right() -> None:
    times = np.array([0, 60, 90, 300, 7, 7]) * 1_000_000
    ratings = np.array([1, np.nan, 3, 4, np.nan, 2], np.float32)
    histories = Histories.of(np.array([0, 0, 0, 0, 2, 2]), np.array([5, 3, 1, 2, 4, 0]), times, 3, 6, ratings)
    found = latest_events(histories, 3)
    assert found.item.tolist() == [[3, 1, 2], [6, 6, 6], [6, 4, 0]]
    assert found.gap.tolist() == [[1.0, 0.5, 3.5], [0, 0, 0], [0, 0, 0]]  # minutes, the one before the view counts too
    nan = np.nan
    np.testing.assert_array_equal(found.rating, [[nan, 3, 4], [nan, nan, nan], [nan, nan, 2]])
    assert (found.item.dtype, found.rating.dtype, found.gap.dtype) == (torch.int64, torch.float32, torch.float32)
    assert latest_events(histories).item.shape == (3, 4)  # as the longest
    assert latest_events(random_histories([CONTEXT + 5, 2], n_items=CONTEXT + 5)).item.shape == (2, CONTEXT)
    assert latest_events(histories.first(np.zeros(3, int))).item.tolist() == [[6], [6], [6]]


def test_nobodys_events_are_nothing() -> None:
    for histories in (random_histories([0, 0]), random_histories([0, 0, 5]).take(np.array([0, 1]))):
        found = latest_events(histories, 4)
        assert found.item.tolist() == [[N_ITEMS] * 4] * 2
        assert found.item.dtype == torch.int64
        assert found.rating.isnan().all()
        assert (found.gap == 0).all()


def test_a_stretch_is_the_history_up_to_an_event() -> None:
    histories = random_histories([6, 0, 9, 1])
    users = np.array([2, 0, 2, 3, 1, 0, 0])
    until = np.array([9, 4, 2, 0, 0, 6, -1])
    found = stretch(histories, users, until, 5)
    expected = latest_events(histories.take(users).first(np.maximum(until, 0)), 5)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(("events", "targets"), [(7, 1), (7, 3), (7, 7), (MAX_LAG + 5, 2), (MAX_LAG + 5, 9)])
def test_fading_windows_equal_a_loop(events: int, targets: int) -> None:
    powers = [0.0, 0.5, 2.0]
    expected = np.zeros((len(powers), targets, events))
    for rate, power in enumerate(powers):
        for target in range(targets):
            for event in range(events):
                age = events - targets + target - event
                if 0 <= age < MAX_LAG:
                    expected[rate, target, event] = (1 + age) ** -power
    np.testing.assert_allclose(fading_windows(torch.tensor(powers), events, targets), expected, rtol=1e-5)


def test_fading_sums_are_what_the_text_says() -> None:
    torch.manual_seed(0)
    powers, events, targets = [0.0, 1.5], 6, 3
    net = FadingSums(4, 5, powers, dropout=0.5).eval()
    vectors, known = torch.randn(2, events, 4), torch.ones(2, events, dtype=torch.bool)
    known[1, :4] = False
    vectors = vectors * known[..., None]
    found = net(vectors, known, torch.ones(2, targets, dtype=torch.bool)).view(2, targets, -1)
    for row in range(2):
        for target in range(targets):
            last = events - targets + target
            here = [event for event in range(last + 1) if known[row, event]]
            parts = []
            for power in powers:
                weights = [(1.0 + last - event) ** -power for event in here]
                faded = [weight * vectors[row, event] for weight, event in zip(weights, here, strict=True)]
                parts.append(sum(faded, torch.zeros(4)) / max(sum(weights), 1e-6) ** 0.5)
            expected = net.mlp(torch.cat([*parts, vectors[row, last]]))
            torch.testing.assert_close(found[row, target], expected)


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("targets", "context"), [(5, CONTEXT), (64, CONTEXT), (1, CONTEXT), (5, 4)])
def test_every_event_is_a_target_once_behind_exactly_what_came_before_it(
    small_dataset: Any, monkeypatch: pytest.MonkeyPatch, targets: int, context: int
) -> None:
    monkeypatch.setattr(history_data, "CONTEXT", context)
    small_dataset(n_users=25, reviews=0)
    data = loaded("small", batch_size=4, targets=targets, half_life=3.0)
    fitting(data, folds=data.n_users)  # so that the fold tells the member
    train, weights = data.fitted, data.weights()
    found = []
    for batch in data.train_dataloader():
        assert batch["target"].shape[1] == targets
        assert batch["item"].shape[1] == context + targets - 1
        for row, member in enumerate(batch["fold"].tolist()):
            mine = items_of(train, member)
            for place, title in enumerate(batch["target"][row].tolist()):
                if title == data.n_items:
                    assert batch["weight"][row, place] == 0
                    continue
                at = mine.index(title)
                view = slice(None, context + place)  # what target `place` may look at
                seen = latest_events(train.take(np.array([member])).first(np.array([at])), context + place)
                for part, expected in zip(("item", "rating", "gap"), seen, strict=True):
                    np.testing.assert_array_equal(batch[part][row, view], expected[0])
                np.testing.assert_allclose(batch["weight"][row, place], weights[train.start[member] + at], rtol=1e-6)
                found.append((member, title))
    assert sorted(found) == sorted(zip(train.users.tolist(), train.items.tolist(), strict=True))


def test_stretches_are_cut_from_the_end_and_limited_when_asked(small_dataset: Any) -> None:
    small_dataset(n_users=25, reviews=0)
    data = fitting(loaded("small", batch_size=4, targets=5), folds=25)
    number = 0
    for batch in data.train_dataloader():
        number += len(batch["fold"])
        for member, target in zip(batch["fold"].tolist(), batch["target"], strict=True):
            known = target[target < data.n_items].tolist()
            if len(known) < 5:  # only a member's first events lack a whole stretch
                assert known == items_of(data.fitted, member)[: len(data.fitted.take(np.array([member])).items) % 5]
                assert target[-1] < data.n_items
    assert number == sum(-(-data.fitted.lengths // 5))
    data.max_stretches = 10
    assert [len(batch["fold"]) for batch in data.train_dataloader()] in ([4, 4, 2], [4, 3, 3])


def test_future_draws_titles_at_or_after_the_event(small_dataset: Any) -> None:
    small_dataset(n_users=60, reviews=0)
    torch.manual_seed(0)
    data = loaded("small", batch_size=8, targets=6)
    fitting(data, folds=data.n_users, future=0.5)
    steps, room = [], []
    for batch in data.train_dataloader():
        for row, member in enumerate(batch["fold"].tolist()):
            mine = items_of(data.fitted, member)
            known = [item for item in batch["item"][row].tolist() if item < data.n_items]
            last = mine.index(known[-1]) + 1 if known else 0  # the event that the last target stands for
            for place, title in enumerate(batch["target"][row].tolist()):
                event = last - 5 + place
                assert (title == data.n_items) == (event < 0)
                if event >= 0:
                    steps.append(mine.index(title) - event)
                    room.append(len(mine) - 1 - event)
    ahead, left = np.array(steps), np.array(room)
    assert ahead.min() == 0
    assert (ahead <= left).all()
    assert (ahead[left == 0] == 0).all()
    free = ahead[left >= 3]
    np.testing.assert_allclose([(free == f).mean() for f in range(3)], [0.5, 0.25, 0.125], atol=0.06)


def test_ranking_batches_carry_the_latest_events(small_dataset: Any) -> None:
    small_dataset(n_users=25, reviews=0)
    data = loaded("small", eval_batch_size=10)
    ranking, first = data.ranking("test"), 0
    for batch in data.test_dataloader():
        rows = np.arange(first, first + len(batch["user"]))
        expected = latest_events(ranking.seen.take(rows))
        for mine, other in zip(History.of(batch), expected, strict=True):
            np.testing.assert_array_equal(mine, other)
        assert batch["target_item"].tolist() == ranking.targets.items[rows].tolist()
        first += len(rows)
    assert first == 25


def test_a_dataset_without_a_catalogue_has_no_tokens(small_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset(n_users=25, reviews=0)
    data = loaded("small")
    assert ((data.content_tokens(9) < 9).sum(1) > 0).all()
    monkeypatch.setattr(history_data, "open_dataset", lambda name: SimpleNamespace(has=lambda table: False))
    assert (data.content_tokens(9) == 9).all()
    assert data.content_tokens(9).shape == (data.n_items, WIDTH)


# -- protocols --------------------------------------------------------------------------------------------------------


def test_each_of_the_last_five_is_predicted_from_everything_before_it(small_dataset: Any) -> None:
    small_dataset(n_users=25, reviews=0)
    data = loaded("small", protocol="leave-five-out")
    ranking = data.ranking("test")
    asked: dict[int, list[int]] = {}
    for row, member in enumerate(ranking.users.tolist()):
        mine, (title,) = items_of(data.everything, member), items_of(ranking.targets, row)
        at = mine.index(title)
        assert items_of(ranking.seen, row) == mine[:at]
        seen = latest_events(ranking.seen.take(np.array([row])), 8)
        expected = stretch(data.everything, np.array([member]), np.array([at]), 8)
        for part, other in zip(seen, expected, strict=True):
            np.testing.assert_array_equal(part, other)
        asked.setdefault(member, []).append(at - len(mine))
    assert asked == {member: [-5, -4, -3, -2, -1] for member in range(data.n_users)}
    validation = data.ranking("validation")
    for row, member in enumerate(validation.users.tolist()):
        mine = items_of(data.everything, member)
        assert items_of(validation.targets, row) == [mine[-6]]
        assert items_of(validation.seen, row) == mine[:-6] == items_of(data.train, member)


def test_temporal_ranks_from_everything_before_the_cut(small_dataset: Any) -> None:
    small_dataset(n_users=40, reviews=0)
    data = loaded("small", protocol="temporal")
    for split, first in (("validation", data.validation.times.min()), ("test", data.test.times.min())):
        ranking = data.ranking(split)  # type: ignore[arg-type]
        assert len(ranking.users) > 0
        assert data.known[ranking.users].all()
        for row, member in enumerate(ranking.users.tolist()):
            mine, times = items_of(data.everything, member), data.everything.take(np.array([member])).times
            before = int((times < first).sum())
            seen, wanted = items_of(ranking.seen, row), items_of(ranking.targets, row)
            assert seen == mine[:before]
            assert wanted == mine[before : before + len(wanted)]
            assert wanted if split == "validation" else wanted == mine[before:]


def test_held_out_members_are_ranked_for_and_never_trained_on(small_dataset: Any) -> None:
    small_dataset(n_users=60, reviews=0)
    data = fitting(loaded("small", protocol="held-out-users", targets=4), folds=60)
    trained_on = {member for batch in data.train_dataloader() for member in batch["fold"].tolist()}
    strangers: set[int] = set()
    splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    for split in splits:
        ranking = data.ranking(split)
        assert len(ranking.users) > 0
        for row, member in enumerate(ranking.users.tolist()):
            mine, seen = items_of(data.everything, member), items_of(ranking.seen, row)
            assert seen == mine[: int(np.ceil(0.8 * len(mine)))]
            assert items_of(ranking.targets, row) == mine[len(seen) :]
        assert not strangers & set(ranking.users.tolist())
        strangers |= set(ranking.users.tolist())
    assert trained_on == set(range(60)) - strangers


# -- forward ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_candidate_logits_are_columns_of_the_catalogues(settings: dict) -> None:
    histories = random_histories([5, 0, 9, 1, 14])
    module = module_of(histories, **settings)
    candidates = torch.randint(0, N_ITEMS, (5, 6))
    with torch.no_grad():
        history = latest_events(histories, 10)
        whole = module(history)
        some = module.candidate_logits(history, candidates)
    assert whole.isfinite().all()
    assert whole.shape == (5, N_ITEMS)
    torch.testing.assert_close(some, whole.gather(1, candidates), rtol=1e-4, atol=1e-5)
    assert (whole[0] - whole[2]).abs().max() > 0.1


@torch.no_grad()
def test_logits_are_what_the_text_says() -> None:
    histories = random_histories([6, 9, 3])
    module = module_of(histories, fade_power=0.7, neural_weight=0.3)
    module.bias.copy_(torch.randn(N_ITEMS))
    history, titles, linear = latest_events(histories, 12), module.title_vectors(), linear_of(module)
    logits = module(history)
    for member in range(3):
        estimate = torch.zeros(N_ITEMS)
        for age, item in enumerate(items_of(histories, member)[::-1]):
            estimate += (1 + age) ** -0.7 * linear.matrix.numbers()[item]
        neural = titles[:-1] @ module.members(history, titles)[member] + module.bias
        known = estimate.clamp_min(0) + module.mixture.log_floor.exp() * module.mixture.popularity[0]
        expected = 0.3 * neural + module.mixture.sharpness * known.log()
        torch.testing.assert_close(logits[member], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_vectors_of_titles_and_events_are_what_the_text_says() -> None:
    histories = random_histories([7, 5])
    module = module_of(histories)
    titles = module.title_vectors()
    assert (titles[N_ITEMS] == module.title.weight[N_ITEMS]).all()
    for title in range(N_ITEMS):
        known = [token for token in module.tokens[title].tolist() if token < 32]
        told = module.token.weight[known].sum(0) / max(1, len(known)) ** 0.5
        torch.testing.assert_close(titles[title], module.title.weight[title] + told)
    history = latest_events(histories, 6)
    vectors = module.event_vectors(history, titles[history.item])
    rated = histories.ratings[~np.isnan(histories.ratings)]
    for member in range(2):
        for place in range(6):
            item, rating = int(history.item[member, place]), float(history.rating[member, place])
            if item == N_ITEMS:
                assert (vectors[member, place] == 0).all()
                continue
            expected = titles[item] + module.event[2] * np.log1p(float(history.gap[member, place])) / 6
            if not np.isnan(rating):
                expected = expected + module.event[0]
                expected = expected + module.event[1] * (rating - rated.mean()) / rated.std(ddof=1)
            torch.testing.assert_close(vectors[member, place], expected.float(), rtol=1e-4, atol=1e-5)


def test_titles_hide_their_learned_vectors_in_training_alone() -> None:
    module = module_of(random_histories([7, 5]), title_dropout=0.5)
    with torch.no_grad():
        shown = module.title_vectors()[:-1]
        told = shown - module.title.weight[:-1]
        torch.manual_seed(0)
        hidden = (module.train().title_vectors()[:-1] - told).abs().amax(1) < 1e-6
    assert 0 < int(hidden.sum()) < N_ITEMS
    torch.testing.assert_close(module.eval().title_vectors()[:-1], shown)


@torch.no_grad()
def test_alone_leaves_the_other_part_out() -> None:
    histories = random_histories([5, 0, 9, 1, 14])
    module, history = module_of(histories), latest_events(histories, 10)
    before = module(history)
    linear, neural = module.alone("linear"), module.alone("neural")
    floor = module.mixture.log_floor.exp() * module.mixture.popularity[0]
    estimates = linear_of(module)(history)
    torch.testing.assert_close(linear(history), module.mixture.sharpness * (estimates.clamp_min(0) + floor).log())
    titles = module.title_vectors()
    expected = 0.4 * (module.members(history, titles) @ titles[:-1].T + module.bias)
    torch.testing.assert_close(neural(history), expected + module.mixture.sharpness * floor.log(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module(history), before)  # the module itself keeps both
    alone = linear(history)
    torch.nn.init.normal_(module.title.weight)
    torch.testing.assert_close(linear(history), alone)
    assert (module(history) - before).abs().max() > 0.1


@pytest.mark.parametrize("settings", [{}, {"folds": 1}, {"future": 0.4}, {"ease_weight": 0.0}], ids=str)
def test_the_transition_is_what_comes_after_and_a_little_of_what_goes_together(settings: dict) -> None:
    histories = random_histories([9, 4, 7, 2, 9])
    module = module_of(histories, fade_power=0.7, regularisation=4.0, ease_regularisation=3.0, **settings)
    expected = solve(*moments(histories, fading(0.7), settings.get("future", 0.0)), 4.0)
    expected = expected + settings.get("ease_weight", 0.25) * torch.from_numpy(Ease(3.0).fit(histories).weights)
    whole = linear_of(module).matrix.numbers()
    assert (whole[-1] == 0).all()
    found = whole[:-1]
    scale = float((found * expected).sum() / expected.square().sum())
    step = (expected.amax(1) - expected.amin(1)) / 255  # of a row in eight bits
    assert ((found / scale - expected).abs() <= 0.51 * step[:, None] + 1e-3 * expected.abs().max()).all()
    # What the positive entries give to all titles at the end of a history is one, the mean over members.
    given = [
        sum(found[i].clamp_min(0).sum() * (1 + age) ** -0.7 for age, i in enumerate(reversed(items_of(histories, m))))
        for m in range(5)
    ]
    assert float(sum(given)) / 5 == pytest.approx(1.0, rel=5e-3)


@torch.no_grad()
def test_the_linear_part_knows_the_most_wanted_titles() -> None:
    histories = random_histories([3, 8, 8, 4, 9, 2])
    module = module_of(histories, max_linear_titles=6, neural=False, ease_weight=0.0)
    least = np.sort(histories.popularity)[-6]
    chosen = linear_of(module).titles.tolist()
    assert len(chosen) == 6
    assert all(histories.popularity[i] >= least for i in chosen)
    assert set(np.flatnonzero(histories.popularity > least).tolist()) <= set(chosen)
    estimates = linear_of(module)(latest_events(histories, 10))
    others = np.setdiff1d(np.arange(N_ITEMS), chosen)
    assert (estimates[:, others] == 0).all()
    assert (estimates[:, chosen].abs().sum(0) > 0).all()


# -- training stretches -----------------------------------------------------------------------------------------------


@torch.no_grad()
def in_training(module: HistoryModule, history: History, targets: int) -> tuple[Tensor, Tensor]:
    """Logits of the neural part and estimates of the linear one before each target. Shapes: (b, targets, n_items)."""
    titles = module.title_vectors()
    here = torch.ones(len(history.item), targets, dtype=torch.bool)
    neural = module.members(history, titles, here) @ titles[:-1].T
    estimates = of_others(module, history, torch.zeros(len(history.item), dtype=torch.int64), here)
    return neural.view(*here.shape, -1), estimates.view(*here.shape, -1)


def of_others(module: HistoryModule, history: History, fold: Tensor, here: Tensor) -> Tensor:
    """Estimates without the members' folds, computed now: nothing is kept of them."""
    linear = linear_of(module)
    linear._kept = None
    return linear.of_others(history, fold, here, torch.zeros_like(here, dtype=torch.int64))


@pytest.mark.parametrize("settings", [{"folds": 1}, {"folds": 1, "max_linear_titles": 7}], ids=str)
@pytest.mark.parametrize(
    ("lengths", "n_items", "targets"), [([14, 9, 1, 20], 20, 6), ([CONTEXT + 20, CONTEXT + 3, 40], 240, 9)]
)
def test_a_stretch_predicts_what_each_history_predicts_alone(
    lengths: list[int], n_items: int, targets: int, settings: dict
) -> None:
    histories = random_histories(lengths, n_items)
    module = module_of(histories, **settings)
    members = np.arange(len(lengths))
    neural, estimates = in_training(
        module, stretch(histories, members, histories.lengths - 1, CONTEXT + targets - 1), targets
    )
    titles = module.title_vectors()
    for place in range(targets):
        event = histories.lengths - targets + place  # which event the target is
        there = event >= 0
        one_by_one = latest_events(histories.first(np.maximum(event, 0)))
        with torch.no_grad():
            alone = module.members(one_by_one, titles) @ titles[:-1].T
            last = torch.ones(len(lengths), 1, dtype=torch.bool)
            estimate = of_others(module, one_by_one, torch.zeros(len(lengths), dtype=torch.int64), last)
            served = linear_of(module)(one_by_one)  # T in eight bits
        torch.testing.assert_close(estimate, served, rtol=0, atol=0.02 * float(served.abs().max()))
        torch.testing.assert_close(neural[there, place], alone[there], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(estimates[there, place], estimate[there], rtol=1e-4, atol=1e-6)


def test_nothing_looks_ahead() -> None:
    histories = random_histories([14, 9, 1, 20])
    module, targets = module_of(histories, folds=1), 6
    history = latest_events(histories, 15)
    before = in_training(module, history, targets)
    for target in range(targets - 1):
        later = 15 - targets + target + 1  # the first event that `target` must not know
        changed = History(*(part.clone() for part in history))
        changed.item[:, later:] = (changed.item[:, later:] + 7) % N_ITEMS
        changed.rating[:, later:] = 1.0
        changed.gap[:, later:] += 5000.0
        for mine, other in zip(before, in_training(module, changed, targets), strict=True):
            torch.testing.assert_close(mine[:, : target + 1], other[:, : target + 1], rtol=0, atol=1e-6)
            assert ((mine[:, target + 1 :] - other[:, target + 1 :]).abs().amax((1, 2)) > 1e-4).all()


@pytest.mark.parametrize("settings", VARIANTS[:2] + VARIANTS[4:], ids=str)
def test_the_loss_is_the_weighted_surprise_of_what_came(settings: dict) -> None:
    """Against every target on its own: no neural_weight in training, a reward of p^top_heavy, weights of the batch."""
    histories = random_histories([9, 4, 7, 2])
    module = module_of(histories, top_heavy=0.5, **settings)
    batch = training_batch(histories, module)
    before, titles_that_came = prefixes(histories)
    titles = module.title_vectors()
    total = weights = 0.0
    for row, title in enumerate(titles_that_came.tolist()):
        history = latest_events(before.take(np.array([row])))
        member = int(histories.users[row])
        with torch.no_grad():
            logits = (titles[:-1] @ module.members(history, titles)[0] + module.bias)[None]
            one = torch.ones(1, 1, dtype=torch.bool)
            estimate = None
            if module.transition is not None:
                estimate = of_others(module, history, torch.tensor([member % module.hparams["folds"]]), one)
            logits = module.mixture.in_training(logits, estimate)
            p = float(logits.softmax(1)[0, title])
        weight = (1 + member) * p**0.5
        total, weights = total - weight * np.log(p), weights + weight
    with torch.no_grad():
        loss = float(module.training_step(batch, 0))
    np.testing.assert_allclose(loss, total / weights, rtol=1e-4)


def training_batch(histories: Histories, module: HistoryModule, targets: int = 12) -> dict[str, Tensor]:
    """All events of short histories as targets, a member's weighing 1, 2, 3, ..."""
    members = np.arange(len(histories))
    weight = np.broadcast_to(members[:, None] + 1.0, (len(members), targets)).astype(np.float32)
    return {
        **stretch(histories, members, histories.lengths - 1, CONTEXT + targets - 1)._asdict(),
        "target": latest_events(histories, targets).item,
        "event": torch.from_numpy(histories.start[1:, None] - targets + np.arange(targets)),
        "weight": torch.from_numpy(weight.copy()),
        "fold": torch.from_numpy(members % module.hparams["folds"]),
    }


# -- folds ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_members_own_fold_is_left_out_of_their_estimates() -> None:
    first = random_histories([9, 8, 9, 7, 9, 9], seed=0)
    second = random_histories([9, 8, 9, 7, 9, 9], seed=1)
    own = first.only(np.arange(6) % 3 == 0).joined(second.only(np.arange(6) % 3 != 0))  # fold 0 from the first alone
    other = second
    history, here = latest_events(random_histories([8, 5], seed=2), 9), torch.ones(2, 1, dtype=torch.bool)
    left, right = module_of(own), module_of(other)

    def estimates(module: HistoryModule, fold: int) -> Tensor:
        return of_others(module, history, torch.tensor([fold, fold]), here)

    torch.testing.assert_close(estimates(left, 0), estimates(right, 0), rtol=1e-4, atol=1e-7)
    assert (estimates(left, 1) - estimates(right, 1)).abs().max() > 1e-4
    mine, theirs = linear_of(left)(history), linear_of(right)(history)
    assert (mine - theirs).abs().max() > 1e-4


@pytest.mark.parametrize("settings", [{}, {"ease_weight": 0.0}, {"future": 0.5}], ids=str)
@torch.no_grad()
def test_a_folds_estimates_are_those_of_a_model_that_never_saw_it(settings: dict) -> None:
    histories = random_histories([9, 8, 9, 7, 9, 9, 3])
    module = module_of(histories, **settings)
    history, here = latest_events(random_histories([8, 5], seed=2), 9), torch.ones(2, 1, dtype=torch.bool)
    for fold in range(3):
        others = module_of(histories.only(np.arange(7) % 3 != fold), folds=1, **settings)
        found, expected = (
            of_others(one, history, torch.tensor([f, f]), here) for one, f in ((module, fold), (others, 0))
        )
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_the_folds_are_dropped_when_the_fit_ends() -> None:
    module = module_of(random_histories([9, 8, 9]))
    assert not any("fold" in name for name in module.state_dict())
    module.on_fit_end()
    assert linear_of(module).without_fold is None


# -- new titles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@torch.no_grad()
def test_old_titles_keep_their_logits_when_new_ones_enter(settings: dict) -> None:
    histories = random_histories([5, 0, 9, 1, 14])
    module = module_of(histories, **settings)
    tokens = np.full((3, WIDTH), 32)
    tokens[0, :2] = [3, 4]
    larger = module.extended(tokens)
    wider = _wider(histories, 3)
    before, after = module.score(torch.arange(5), histories), larger.score(torch.arange(5), wider)
    assert after.shape == (5, N_ITEMS + 3)
    assert after.isfinite().all()
    torch.testing.assert_close(after[:, :N_ITEMS], before, rtol=1e-4, atol=1e-5)
    assert not larger.training
    assert module.n_items == N_ITEMS
    assert larger.extended(tokens[:0]) is larger
    with_new = larger.extended(tokens)  # and again, with titles that are themselves new
    again = with_new(latest_events(_wider(histories, 6)))
    torch.testing.assert_close(again[:, : N_ITEMS + 3], after, rtol=1e-4, atol=1e-5)


def _wider(histories: Histories, more: int) -> Histories:
    return Histories(histories.start, histories.items, histories.times, histories.n_items + more, histories.ratings)


@torch.no_grad()
def test_a_new_title_is_what_its_tokens_say() -> None:
    histories = random_histories([5, 6])
    module = module_of(histories)
    module.tokens[module.tokens == 30] = 32  # a token that no old title has
    history = latest_events(histories, 8)
    member = module.members(history, module.title_vectors())[0]
    module.token.weight[30] = member
    tokens = np.full((2, WIDTH), 32)
    tokens[0, 0] = 30
    logits = module.extended(tokens)(latest_events(_wider(histories, 2), 8))
    expected = 0.4 * member @ member
    assert expected > 0.01
    torch.testing.assert_close(logits[0, N_ITEMS] - logits[0, N_ITEMS + 1], expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_new_title_in_a_history_speaks_through_its_tokens() -> None:
    histories = random_histories([5, 6])
    tokens = np.full((2, WIDTH), 32)
    tokens[0, 0] = 3
    larger = module_of(histories).extended(tokens)
    history = latest_events(_wider(histories, 2), 8)
    before = larger(history)
    history.item[:, -1] = N_ITEMS
    told = larger(history)
    history.item[:, -1] = N_ITEMS + 1
    silent = larger(history)
    assert told.isfinite().all()
    assert (told - silent).abs().max() > 1e-2
    assert (told - before).abs().max() > 1e-2


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [*VARIANTS, *SAMPLED], ids=str)
def test_every_step_stays_on_one_device(monkeypatch: pytest.MonkeyPatch, settings: dict) -> None:
    histories = random_histories([9, 4, 7, 2])
    module = HistoryModule(4, N_ITEMS, **SIZES | {"l1": 0.1, "title_dropout": 0.2} | settings)
    batch = training_batch(histories, module)
    ranking = {
        **latest_events(histories)._asdict(),
        "user": torch.arange(4),
        "seen_row": torch.from_numpy(histories.users),
        "seen_item": torch.from_numpy(histories.items),
        "target_row": torch.tensor([0, 1, 3]),
        "target_item": torch.tensor([5, 6, 7]),
    }
    module = on_meta(module)
    with one_device():
        module.prepare(data_of(histories))
        assert (module.transition is None) == (settings.get("linear") is False)
        module.training_step(on_meta(batch), 0).backward()
        module.validation_step(on_meta(ranking), 0)
        module.test_step(on_meta(ranking), 0)
        predicted = module.predict_step(on_meta(ranking), 0)
        scores = module.score(on_meta(torch.arange(4)), histories)
        some = module.candidate_logits(History.of(on_meta(ranking)), on_meta(torch.ones(4, 3, dtype=torch.int64)))
    for found in (*predicted.values(), scores, some):
        assert found.device.type == "meta"


def test_penalties_enter_where_they_are_said_to() -> None:
    histories = random_histories([9, 4, 7, 2])

    def module_with(**settings: Any) -> HistoryModule:
        return module_of(histories, **settings)

    plain, sparse = module_with(), module_with(l1=10.0)
    batch = training_batch(histories, plain)
    difference = sparse.training_step(batch, 0) - plain.training_step(batch, 0)
    torch.testing.assert_close(difference, 10.0 * plain.title.weight.abs().mean(), rtol=1e-4, atol=1e-5)
    assert difference > 1.0
    sizes = []
    for module in (module_with(), module_with(l2=5.0)):
        optimizer = module.configure_optimizers()["optimizer"]
        before = float(module.title.weight.detach().square().sum())
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        sizes.append(float(module.title.weight.detach().square().sum()) / before)
    np.testing.assert_allclose(sizes, [1.0, (1 - 5.0 * 2e-3) ** 2], rtol=1e-4)


def test_the_learning_rate_fades_after_each_epoch() -> None:
    module = HistoryModule(1, N_ITEMS, **SIZES, learning_rate=0.1, learning_rate_decay=0.5)
    found = module.configure_optimizers()
    assert found["lr_scheduler"]["interval"] == "epoch"
    assert found["optimizer"].param_groups[0]["lr"] == 0.1
    found["optimizer"].step()
    found["lr_scheduler"]["scheduler"].step()
    assert found["optimizer"].param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize("settings", [*VARIANTS, *SAMPLED], ids=str)
def test_steps_of_the_optimiser_lower_the_loss(small_dataset: Any, settings: dict) -> None:
    small_dataset(n_users=30, reviews=0)
    torch.manual_seed(0)
    data = loaded("small", batch_size=16, targets=8)
    module = HistoryModule(data.n_users, data.n_items, **SIZES | {"dropout": 0.0, "learning_rate": 0.01} | settings)
    module.prepare(data)
    fitting(data, module.hparams["folds"])
    batches, optimizer = list(data.train_dataloader()), module.configure_optimizers()["optimizer"]

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([module.training_step(batch, 0) for batch in batches]))

    before = loss()
    for _ in range(5):
        for batch in batches:
            optimizer.zero_grad()
            module.training_step(batch, 0).backward()
            optimizer.step()
    assert loss() < before - 0.005
    for name, parameter in module.named_parameters():
        used = module.hparams["neural"] or name in ("mixture.sharpness", "mixture.log_floor")
        used = used and (module.hparams["content"] or name != "token.weight")
        if used:
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
    assert (module.title.weight[-1] == 0).all()  # what fills up stays nothing


def cycles(n_members: int, n_items: int, seed: int) -> Histories:
    """After title i always comes i + 1, and 0 after the last one."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, n_items, n_members), rng.integers(2, n_items - 2, n_members)
    items = np.concatenate(
        [(start + np.arange(length)) % n_items for start, length in zip(starts, lengths, strict=True)]
    )
    users = np.repeat(np.arange(n_members), lengths)
    return Histories.of(users, items, np.arange(len(items)), n_members, n_items)


@pytest.mark.parametrize("part", ["linear", "neural"])
def test_either_part_finds_a_planted_order(part: str) -> None:
    n_items, train, strangers = 15, cycles(100, 15, seed=0), cycles(40, 15, seed=1)
    torch.manual_seed(0)
    parts: dict[str, Any] = {"linear": part == "linear", "neural": part == "neural"}
    module = HistoryModule(
        100, n_items, size=16, hidden=32, content=False, regularisation=1.0, dropout=0.0, search=False, **parts
    )
    module.prepare(data_of(train))
    if part == "neural":
        optimizer, batch = torch.optim.Adam(module.parameters(), 0.02), training_batch(train, module)
        for _ in range(60):
            optimizer.zero_grad()
            module.training_step(batch, 0).backward()
            optimizer.step()
    with torch.no_grad():
        best = module.eval().score(torch.arange(40), strangers).argmax(1)
    assert best.tolist() == [(items_of(strangers, member)[-1] + 1) % n_items for member in range(40)]


def test_beats_popularity_on_planted_taste_and_logs_what_is_measured(small_dataset: Any, tmp_path: Path) -> None:
    small_dataset(n_users=120, n_items=60, reviews=0)
    pl.seed_everything(0)
    data = loaded("small", batch_size=16, targets=16)
    module = HistoryModule(data.n_users, data.n_items, **SIZES)
    trainer = quiet_trainer(3)
    trainer.fit(module, datamodule=data)
    assert linear_of(module).without_fold is None
    logged = float(trainer.callback_metrics["val/ndcg@10"])
    figures = measure(module.eval(), data, tmp_path)["metrics"]
    name = next(name for name in figures["validation"] if name.startswith("History") and "alone" not in name)
    for split in ("validation", "test"):
        assert figures[split][name]["ndcg@10"] > 1.2 * figures[split]["popularity"]["ndcg@10"]
    np.testing.assert_allclose(logged, figures["validation"][name]["ndcg@10"], rtol=1e-4)


def test_a_saved_module_predicts_what_the_fitted_one_did(small_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset(n_users=40, reviews=0)
    fitted: list[HistoryModule] = []
    monkeypatch.setattr(HistoryModule, "on_fit_end", lambda self: fitted.append(self))
    assert main(
        ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset=small", "--trainer.max_epochs=1",
         "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--model.init_args.size=16",
         "--model.init_args.hidden=16"]
    ) == 0  # fmt: skip
    (run,) = (path for path in home.runs("small", "recommender").iterdir() if (path / "model.ckpt").is_file())
    data = loaded("small")
    history = latest_events(data.everything)
    first, refitted = fitted
    for name, module in (("best.ckpt", first), ("model.ckpt", refitted)):
        served = HistoryModule.load_from_checkpoint(run / name, map_location="cpu", weights_only=True).eval()
        assert linear_of(served).matrix.numbers().abs().max() > 0
        with torch.no_grad():
            torch.testing.assert_close(served(history), module.eval()(history), rtol=1e-5, atol=1e-5)
    # The refit has seen everything, the first training only the training split.
    assert (first.mixture.popularity != refitted.mixture.popularity).any()


def test_tokens_of_the_fit_are_those_that_new_titles_get(small_dataset: Any) -> None:
    """One rule for both: a title that enters with the content of an old one has the same vector of tokens."""
    dataset = small_dataset(n_users=25, reviews=0)
    data = loaded("small")
    module = HistoryModule(data.n_users, data.n_items, **SIZES)
    module.prepare(data)
    items = dataset.items()
    twin = items[items["item_id"] == "i7"].assign(item_id="twin")
    tokens = content_tokens(pd.concat([items, twin]), pd.Index(["twin"]), SIZES["content_buckets"])
    larger = module.extended(tokens)
    old = data.vocabulary.item_ids.get_loc("i7")
    with torch.no_grad():
        vectors = larger.title_vectors()
    torch.testing.assert_close(vectors[data.n_items], vectors[old] - module.title.weight[old])


def test_validation_chooses_the_settings_of_the_linear_part(small_dataset) -> None:
    """From settings that are far too strong the search finds better ones, and everything is refitted with them."""
    small_dataset(n_users=80, reviews=0)
    data = loaded("small")
    bad = {"regularisation": 1e4, "ease_regularisation": 1e4, "ease_weight": 1.0, "fade_power": 3.0, "neural": False}
    fixed, free = (HistoryModule(data.n_users, data.n_items, **SIZES | bad | {"search": s}) for s in (False, True))
    gains = []
    for module in (fixed, free):
        module.prepare(data)
        ranking = data.ranking("validation")
        estimate = linear_of(module)(latest_events(ranking.seen))
        estimate[torch.from_numpy(ranking.seen.users), torch.from_numpy(ranking.seen.items)] = -torch.inf
        ranks = ranks_of(
            estimate, torch.from_numpy(ranking.targets.users), torch.from_numpy(ranking.targets.items), tie_order(40, 0)
        )
        gains.append(float((1 / torch.log2(1.0 + ranks)).mean()))
    assert gains[1] > 1.05 * gains[0]
    assert linear_of(fixed).settings.tolist() == [1e4, 1e4, 1.0, 3.0]
    assert linear_of(free).settings.tolist() != linear_of(fixed).settings.tolist()

    data.fit_on = "everything"
    refitted = HistoryModule(data.n_users, data.n_items, **SIZES | bad | {"search": True})
    refitted.warm_start(free)
    refitted.prepare(data)  # validation is now trained on, so it must not choose again
    assert linear_of(refitted).settings.tolist() == linear_of(free).settings.tolist()


# -- estimates kept, and the mixture chosen ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"max_linear_titles": 9}, {"folds": 1}], ids=str)
def test_estimates_kept_while_fitting_are_those_computed_for_each_batch(
    monkeypatch: pytest.MonkeyPatch, settings: dict
) -> None:
    monkeypatch.setattr(transition, "_PIECE", 4)
    monkeypatch.setattr(transition, "_PIECES", 2)
    histories = random_histories([9, 4, 0, 7, 2, 1])
    batch = training_batch(histories, module_of(histories, **settings))
    linear = linear_of(module_of(histories, **settings))
    here = batch["target"] < N_ITEMS
    asked = (History.of(batch), batch["fold"], here, batch["event"])
    assert linear._kept is not None
    kept = linear.of_others(*asked)
    linear._kept = None
    computed = linear.of_others(*asked)
    torch.testing.assert_close(kept, computed, rtol=5e-3, atol=1e-6)
    monkeypatch.setattr(transition, "_KEPT_BYTES", 10)
    assert linear_of(module_of(histories, **settings))._kept is None


def test_pieces_are_cut_from_the_end() -> None:
    users, until = pieces(np.array([5, 0, 8, 3]), 4)
    assert users.tolist() == [0, 0, 2, 2, 3]
    assert until.tolist() == [5, 1, 8, 4, 3]


def test_the_mixture_is_served_as_chosen_and_trained_as_learned() -> None:
    mixture = Mixture(3, neural_weight=0.5, sharpness=2.0)
    mixture.popularity.copy_(torch.tensor([[0.2, 0.3, 0.5]] * 3 + [[0.6, 0.3, 0.1]]))
    mixture.served.copy_(torch.tensor([0.5, 10.0]))
    mixture.half_life.fill_(3)
    neural, estimate, floor = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.4, -1.0, 0.0]]), np.exp(-1.6)
    served = 0.5 * neural + 2 * (torch.tensor([0.4, 0, 0]) + 10 * floor * torch.tensor([0.6, 0.3, 0.1])).log()
    learned = neural + 2 * (torch.tensor([0.4, 0, 0]) + floor * torch.tensor([0.2, 0.3, 0.5])).log()
    torch.testing.assert_close(mixture(neural, estimate), served)
    torch.testing.assert_close(mixture.in_training(neural, estimate), learned)
    some = torch.tensor([[2, 0]])
    torch.testing.assert_close(mixture(neural.gather(1, some), estimate.gather(1, some), some), served.gather(1, some))


def test_popularity_fades_by_half_lives() -> None:
    days = np.array([0.0, 20.0, 90.0])
    histories = Histories.of(np.zeros(3, int), np.array([0, 1, 0]), (days * 86_400e6).astype(np.int64), 1, 3)
    mixture = Mixture(3, 0.4, 1.0)
    mixture.learn(histories)
    for row, half_life in enumerate(HALF_LIVES):
        weights = 0.5 ** ((90 - days) / half_life)
        counts = np.array([weights[0] + weights[2], weights[1], 0.0]) + weights.sum() / 6
        np.testing.assert_allclose(mixture.popularity[row], counts / counts.sum(), rtol=1e-5)


def chosen(neural: Tensor, estimate: Tensor, targets: np.ndarray, popularity: Tensor) -> Mixture:
    members = len(targets)
    mixture = Mixture(neural.shape[1], neural_weight=0.4, sharpness=1.0)
    mixture.popularity.copy_(popularity)
    nothing = Histories.of(*(np.zeros(0, np.int64),) * 3, members, neural.shape[1])
    wanted = Histories.of(np.arange(members), targets, np.zeros(members, np.int64), members, neural.shape[1])
    mixture.choose(neural, estimate, nothing, wanted)
    return mixture


def test_validation_chooses_what_helps_and_nothing_else() -> None:
    """Members who want what the network says, what was popular lately, or what T says: each is heard."""
    rng, n, members = np.random.default_rng(0), 30, 200
    targets = rng.integers(0, n, members)
    lot = torch.from_numpy(rng.random((members, n))).float()
    hit = lot.clone()
    hit[torch.arange(members), torch.from_numpy(targets)] += 0.3
    even = torch.full((4, n), 1 / n)
    by_network = chosen(3 * hit, 0.1 * lot, targets, even)
    assert by_network.served[0] > 0.4
    by_transition = chosen(3 * lot, hit, targets, even)
    assert by_transition.served[0] < 0.4
    lately = even.clone()
    targets = rng.integers(0, 3, members)
    lately[3, 3:], lately[3, :3] = 0.1 / 27, 0.3
    by_popularity = chosen(0 * lot, lot, targets, lately)
    assert by_popularity.half_life.item() == 3
    assert by_popularity.served[1] > 1
    for _ in range(5):  # whatever is best by chance alone stays where it is
        unsure = chosen(lot, lot.flip(1), rng.integers(0, n, members), torch.from_numpy(rng.random((4, n))).float() / n)
        np.testing.assert_allclose(unsure.served, [0.4, 1.0])
        assert unsure.half_life.item() == 0


def test_seen_titles_do_not_speak_when_the_mixture_is_chosen() -> None:
    """The network is right about every title that is still to come, and only the seen one stands above it."""
    members, n = 100, 20
    targets = np.arange(members) % (n - 1)
    neural = torch.zeros(members, n)
    neural[torch.arange(members), torch.from_numpy(targets)] = 3.0
    estimate = torch.rand(members, n, generator=torch.Generator().manual_seed(0)) + 0.01
    neural[:, n - 1] = 9.0
    mixture = Mixture(n, neural_weight=0.2, sharpness=1.0)
    seen = Histories.of(np.arange(members), np.full(members, n - 1), np.zeros(members, np.int64), members, n)
    wanted = Histories.of(np.arange(members), targets, np.zeros(members, np.int64), members, n)
    ranks: list[int] = []

    def counted(*args: Tensor) -> Tensor:
        found = ranks_of(*args)
        ranks.append(int(found.min()))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.mixture.metrics.ranks_of", counted)
        mixture.choose(neural, estimate, seen, wanted)
    assert min(ranks) == 1
    assert mixture.served[0] > 0.2


def test_a_fit_chooses_the_mixture_and_the_refit_takes_it_over(small_dataset: Any, monkeypatch: Any) -> None:
    small_dataset(n_users=40, reviews=0)
    asked = []

    def choose(self: Mixture, *_: object) -> None:
        asked.append(1)
        self.served.copy_(torch.tensor([0.3, 3.0]))
        self.half_life.fill_(2)

    monkeypatch.setattr(Mixture, "choose", choose)
    assert main(
        ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset=small", "--trainer.max_epochs=2",
         "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--model.init_args.size=16",
         "--model.init_args.hidden=16"]
    ) == 0  # fmt: skip
    assert len(asked) == 2  # once for each epoch, never for the refit
    (run,) = (path for path in home.runs("small", "recommender").iterdir() if (path / "model.ckpt").is_file())
    for name in ("best.ckpt", "model.ckpt"):
        served = HistoryModule.load_from_checkpoint(run / name, map_location="cpu", weights_only=True)
        np.testing.assert_allclose(served.mixture.served, [0.3, 3.0])
        assert served.mixture.half_life.item() == 2


@pytest.mark.parametrize("limits", [{"max_linear_titles": 9}, {}], ids=str)
def test_settings_are_searched_on_fewer_titles_where_there_are_many(
    small_dataset: Any, monkeypatch: pytest.MonkeyPatch, limits: dict
) -> None:
    """T itself has as many titles as it should, and what is chosen is what the search of that smaller T chooses."""
    small_dataset(n_users=80, reviews=0)
    data = loaded("small")
    bad = {"regularisation": 1e4, "ease_regularisation": 1e4, "fade_power": 3.0, "neural": False, "search": True}
    narrow = HistoryModule(data.n_users, data.n_items, **SIZES | bad | {"max_linear_titles": 7})
    narrow.prepare(data)
    monkeypatch.setattr(transition, "_SEARCHED_TITLES", 7)
    module = HistoryModule(data.n_users, data.n_items, **SIZES | bad | limits)
    module.prepare(data)
    assert linear_of(module).size == limits.get("max_linear_titles", data.n_items)
    assert linear_of(module).chosen == linear_of(narrow).chosen != (1e4, 1e4, 0.25, 3.0)
    assert linear_of(module).settings.tolist() == linear_of(narrow).settings.tolist()


def test_settings_searched_on_a_sample_are_those_of_the_whole(small_dataset: Any, monkeypatch: Any) -> None:
    """On half of members who come twice, each ridge halved: exactly what the whole gives."""
    small_dataset(n_users=80, reviews=0)
    data = loaded("small")
    train = data.train.take(np.repeat(np.arange(80), 2))
    bad = Settings(1e4, 1e4, 0.25, 3.0)
    found = []
    for sampled in (False, True):
        if sampled:
            monkeypatch.setattr(transition, "_SEARCHED_EVENTS", len(train.items) // 2)
            monkeypatch.setattr(transition, "_sample", lambda train, events: train.take(np.arange(0, 160, 2)))
        linear = Transition(data.n_items, data.n_items, bad)
        linear.learn(train, np.zeros(160, np.int64), data.ranking("validation"))
        found.append(linear)
    assert found[0].chosen == found[1].chosen != bad
    torch.testing.assert_close(found[0].packed, found[1].packed)


def test_a_sample_is_of_whole_members_chosen_at_random() -> None:
    histories = random_histories([9, 4, 0, 7, 2] * 40)
    some = transition._sample(histories, 400)
    assert 380 <= len(some.items) <= 400
    assert set(map(tuple, map(items_of, [some] * len(some), range(len(some))))) <= set(
        map(tuple, map(items_of, [histories] * 200, range(200)))
    )
    assert not np.array_equal(some.items[:50], histories.items[:50])
