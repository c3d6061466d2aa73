"""Retention: cases by hand, nothing from after a cut, and habits told from farewells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from device_check import on_meta, one_device
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet_trainer import quiet_trainer
from scipy.optimize import minimize

from data.dataset import write_dataset
from data.errors import UserError
from forecasting.evaluate import BASE_RATE, OURS, measure, probabilities
from forecasting.retention import Encoding, RetentionLSTM, drift_of, likelihood_loss, outcomes, still_away
from forecasting.retention_data import RFT, STATIC, Activity, Cases, RetentionData, cases_at, load_activity

pytestmark = pytest.mark.usefixtures("one_thread")

log1p = np.log1p


def activity_of(days: dict[str, dict[int, int]]) -> Activity:
    """From member to day to events."""
    rows = [(code, day, n) for code, m in enumerate(days.values()) for day, n in sorted(m.items(), reverse=True)]
    user, day, events = (np.array(part) for part in zip(*rows, strict=True))
    names = pd.Index(list(days), dtype=object)
    return Activity(names, user.astype(np.int64), day.astype(np.int64), events.astype(float), day + 0.25)


def random_activity(n_members: int = 25, n_days: int = 250, seed: int = 0) -> Activity:
    rng = np.random.default_rng(seed)
    members = {}
    for member in range(n_members):
        first, last = sorted(rng.choice(n_days, 2, replace=False))
        days = rng.choice(np.arange(first, last + 1), min(int(rng.integers(1, 30)), last - first + 1), replace=False)
        members[f"m{member:02d}"] = {int(day): int(rng.integers(1, 6)) for day in days}
    members["m00"][n_days - 1] = 1
    return activity_of(members)


def other_days_after(activity: Activity, cut: int, seed: int) -> Activity:
    """The same until `cut` days before the clock, and something else after it; one member comes as a new one."""
    rng = np.random.default_rng(seed)
    known = activity.day >= cut
    n = len(activity.user_ids) + 1
    later = np.unravel_index(rng.choice(n * cut, n * cut // 4, replace=False), (n, cut))
    user, day = np.concatenate([activity.user[known], later[0]]), np.concatenate([activity.day[known], later[1]])
    events = np.concatenate([activity.events[known], rng.integers(1, 9, len(later[0])).astype(float)])
    order = np.lexsort([-day, user])
    newest = np.concatenate([activity.newest[known], later[1] + rng.random(len(later[1]))])
    names = activity.user_ids.append(pd.Index(["new"], dtype=object))
    return Activity(names, user[order], day[order], events[order], newest[order])


def assert_same_features(one: Cases, other: Cases) -> None:
    for name in ("sequence", "static", "user"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# -- cases -----------------------------------------------------------------------------------------------------------


def test_cases_by_hand() -> None:
    activity = activity_of({"a": {100: 2, 93: 1, 40: 3, 10: 1}, "b": {35: 1}, "later": {20: 5}})
    cases = cases_at(activity, cut=30, horizon_days=30, n_visits=3)
    assert cases.user.tolist() == [0, 1]  # the third is not known yet
    assert cases.cut.tolist() == [30, 30]
    assert cases.label.tolist() == [1, 0]
    assert cases.next_visit.tolist() == [20, np.inf]
    assert cases.observed.tolist() == [30, 30]
    # recency, tenure, events, active days; events and days of 7, 28, 84 days; usual gap, hours, last and first events
    a = [10, 70, 6, 3, 0, 0, 3, 1, 6, 3, (70 - 10) / 2, 10.25 * 24, 3, 2]
    b = [5, 5, 1, 1, 1, 1, 1, 1, 1, 1, 0, 5.25 * 24, 1, 1]
    known = log1p([a, b])
    np.testing.assert_allclose(cases.static[:, :14], known, rtol=1e-6)
    lateness, trend = cases.static[:, STATIC.index("lateness")], cases.static[:, STATIC.index("trend")]
    np.testing.assert_allclose(lateness, known[:, 0] - known[:, 10], rtol=1e-5)
    np.testing.assert_allclose(trend, known[:, 6] - 0, rtol=1e-5)  # nobody came 28 to 56 days before the cut
    # gap, again, events, ago, present; the last active days, oldest first
    a = [[0, 0, 2, 70, 1], [7, 1, 1, 63, 1], [53, 1, 3, 10, 1]]
    b = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 5, 1]]
    expected = np.array([a, b], float)
    expected[..., [0, 2, 3]] = log1p(expected[..., [0, 2, 3]])
    np.testing.assert_allclose(cases.sequence, expected, rtol=1e-6)
    # a longer history than is read one by one still has its gaps
    np.testing.assert_allclose(cases_at(activity, 30, 30, 2).sequence[0], expected[0, 1:], rtol=1e-6)
    np.testing.assert_array_equal(cases.rft, cases.static[:, [STATIC.index(name) for name in RFT]])


def test_the_trend_compares_the_last_days_with_those_before() -> None:
    activity = activity_of({"a": {40: 7, 20: 1, 3: 2}})
    trend = cases_at(activity, 0, 30, 4).static[0, STATIC.index("trend")]
    assert trend == pytest.approx(log1p(3) - log1p(7))


def test_outcomes_that_are_not_over_are_censored() -> None:
    activity = activity_of({"a": {60: 1, 44: 1, 12: 1}, "b": {55: 1}})
    cases = cases_at(activity, cut=50, horizon_days=30, n_visits=2, until=30)
    assert np.isnan(cases.label).all()  # 20 of 30 days are known
    assert cases.observed.tolist() == [20, 20]
    assert cases.next_visit.tolist() == [6, np.inf]
    assert len(cases.known) == 0
    assert cases_at(activity, cut=50, horizon_days=30, n_visits=2, until=45).next_visit.tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(("day", "label"), [(60, 0), (59, 1), (40, 1), (30, 1), (29, 0), (0, 0)])
def test_a_label_covers_the_days_of_the_horizon_and_no_other(day: int, label: int) -> None:
    activity = activity_of({"a": dict.fromkeys({200, day}, 1)})
    assert cases_at(activity, cut=60, horizon_days=30, n_visits=2).label.tolist() == [label]


def test_a_label_that_is_not_over_is_unknown() -> None:
    activity = activity_of({"a": {50: 1, 10: 1}})
    assert np.isnan(cases_at(activity, cut=29, horizon_days=30, n_visits=2).label).all()
    assert cases_at(activity, cut=30, horizon_days=30, n_visits=2).label.tolist() == [1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 200))
def test_no_feature_is_from_after_the_cut(seed: int, cut: int) -> None:
    activity = random_activity(seed=seed)
    cases = cases_at(activity, cut, 30, 12)
    assert_same_features(cases, cases_at(other_days_after(activity, cut, seed), cut, 30, 12))
    assert_same_features(cases, cases_at(activity.before(cut), 0, 30, 12))


def test_what_comes_after_the_cut_is_the_label() -> None:
    activity = random_activity()
    changed = other_days_after(activity, 60, seed=1)
    cases, others = (cases_at(a, 60, 30, 12) for a in (activity, changed))
    assert (cases.label != others.label).any()
    came = {member for member, day in zip(changed.user, changed.day, strict=True) if 30 <= day < 60}
    assert others.label.tolist() == [float(user in came) for user in others.user]


positions = st.lists(st.integers(0, 24), max_size=25, unique=True)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100), chosen=positions, days=st.integers(0, 200))
def test_members_alone_are_what_a_filter_finds(seed: int, chosen: list[int], days: int) -> None:
    activity = random_activity(seed=seed).before(days)  # some members have no day left
    found = activity.of_members(np.array(chosen, np.int64))
    assert found.user_ids.tolist() == [activity.user_ids[position] for position in chosen]
    rows = [(new, row) for new, old in enumerate(chosen) for row in np.flatnonzero(activity.user == old)]
    assert found.user.tolist() == [new for new, _ in rows]
    assert found.day.tolist() == [activity.day[row] for _, row in rows]
    assert found.events.tolist() == [activity.events[row] for _, row in rows]


def test_cases_of_some_members_are_those_of_all() -> None:
    activity = random_activity()
    cases = cases_at(activity, 0, 30, 12)
    chosen = np.array([17, 3, 20])
    some = cases_at(activity.of_members(chosen), 0, 30, 12)
    np.testing.assert_array_equal(some.static, cases.static[chosen])
    np.testing.assert_array_equal(some.sequence, cases.sequence[chosen])


# -- the dataset -----------------------------------------------------------------------------------------------------


def test_activity_is_what_pandas_counts_up_to_the_clock(small_dataset) -> None:
    dataset = small_dataset(reviews=0)
    events = dataset.interactions()
    events["kind"] = np.where(np.arange(len(events)) % 5 == 0, "impression", "watch")
    clock = pd.Timestamp("2024-04-03 11:00", tz="UTC")
    activity = load_activity(
        write_dataset("clocked", {"interactions": events}, sources=dataset.sources, as_of=clock, replace=True)
    )
    counted = events[(events["kind"] != "impression") & (events["timestamp"] <= clock)]
    day = (clock - counted["timestamp"]) // pd.Timedelta(days=1)
    expected = counted.groupby([counted["user_id"].astype(object), day.rename("day")]).size().reset_index(name="n")
    expected = expected.sort_values(["user_id", "day"], ascending=[True, False])
    assert activity.user_ids.tolist() == sorted(expected["user_id"].unique())
    assert activity.user_ids[activity.user].tolist() == expected["user_id"].tolist()
    assert activity.day.tolist() == expected["day"].tolist()
    assert activity.events.tolist() == expected["n"].tolist()
    newest = ((clock - counted["timestamp"]) / pd.Timedelta(days=1)).groupby([counted["user_id"].astype(object), day])
    np.testing.assert_allclose(np.sort(activity.newest), np.sort(newest.min().to_numpy()), rtol=1e-9)
    assert ((activity.newest >= activity.day) & (activity.newest < activity.day + 1)).all()
    assert activity.span_days == expected["day"].max() + 1


def test_data_without_a_calendar_or_without_members_are_refused(small_dataset) -> None:
    dataset = small_dataset(reviews=0)
    events = dataset.interactions()

    def written(name: str, tables: dict[str, pd.DataFrame], **more: object) -> Activity:
        return load_activity(write_dataset(name, tables, sources=dataset.sources, **more))  # type: ignore[arg-type]

    with pytest.raises(UserError, match="'ordered' has no real times"):
        written("ordered", {"interactions": events}, time_kind="order")
    with pytest.raises(UserError, match="'catalogue' has no interactions"):
        written("catalogue", {"items": dataset.items()})
    with pytest.raises(UserError, match="'shown' has no event of a member"):
        written("shown", {"interactions": events.assign(kind="impression")})


def test_a_short_history_is_refused_with_what_would_do() -> None:
    data = RetentionData("generated")
    with pytest.raises(UserError, match=r"80 days of events.* 30 days .*104 or more.* --data.horizon_days 14\."):
        data.use(activity_of({"a": {79: 1, 3: 1}}))
    with pytest.raises(UserError, match=r"30 days of events.*: add earlier events\."):
        data.use(activity_of({"a": {29: 1}}))
    data.use(activity_of({"a": {103: 1}}))


@pytest.mark.parametrize("setting", ["horizon_days", "n_visits", "half_life_days", "batch_size", "max_cases"])
def test_bad_arguments_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match=f"--data.{setting} 0 must be at least 1"):
        RetentionData("generated", **{setting: 0})  # type: ignore[arg-type]


# -- the split -------------------------------------------------------------------------------------------------------


def test_cuts_by_hand() -> None:
    data = RetentionData("generated").use(activity_of({"a": dict.fromkeys(range(125), 1)}))
    assert data.cuts("test") == [30]
    assert data.cuts("validation") == [60]
    assert data.cuts("train") == list(range(61, 112, 2))  # 14 days are left before the earliest
    assert data.cuts("everything") == list(range(1, 112, 2))
    shorter = RetentionData("generated", half_life_days=5).use(activity_of({"a": dict.fromkeys(range(125), 1)}))
    assert shorter.cuts("train") == list(range(61, 61 + 35, 2))  # older ones count less than 1 %


def test_no_split_reads_what_a_later_one_is_asked() -> None:
    """Whatever happened after the validation cut (or the test cut), the cases before it stay as they are."""
    activity = random_activity(n_members=40)
    data = RetentionData("generated").use(activity)
    for split, cut in (("train", data.cuts("validation")[0]), ("validation", data.cuts("test")[0])):
        changed = other_days_after(activity, cut, seed=2)
        cases, others = (RetentionData("generated").use(a).cases(split) for a in (activity, changed))  # type: ignore[arg-type]
        assert_same_features(cases, others)
        np.testing.assert_array_equal(cases.label, others.label)
        np.testing.assert_array_equal(cases.next_visit, others.next_visit)


def test_younger_cuts_count_more() -> None:
    cases = RetentionData("generated", half_life_days=20).use(random_activity()).cases("train")
    weight = {int(cut): cases.weight[cases.cut == cut] for cut in np.unique(cases.cut)}
    assert weight[61][0] / weight[81][0] == pytest.approx(2, rel=1e-5)
    assert cases.weight.mean() == pytest.approx(1, rel=1e-5)
    assert set(RetentionData("generated").use(random_activity()).cases("validation").weight) == {1}


def test_what_is_held_out_is_asked_at_several_cuts() -> None:
    data = RetentionData("generated").use(random_activity())
    latest = data.latest("validation")
    assert np.unique(latest.cut).tolist() == [38, 45, 53, 60]
    assert latest.observed.tolist() == (latest.cut - 30).tolist()
    whole = latest.take(np.flatnonzero(latest.cut == 60))
    assert_same_features(whole, data.cases("validation"))


def test_training_takes_a_seeded_sample_of_the_cases() -> None:
    activity = random_activity(n_members=60)
    every = RetentionData("generated").use(activity).cases("train")
    sample, again = (RetentionData("generated", max_cases=800).use(activity).cases("train") for _ in range(2))
    assert 200 < len(sample) < 800 < len(every)
    assert_same_features(sample, again)
    row = {key: at for at, key in enumerate(zip(every.user.tolist(), every.cut.tolist(), strict=True))}
    rows = np.array([row[key] for key in zip(sample.user.tolist(), sample.cut.tolist(), strict=True)])
    assert_same_features(sample, every.take(rows))
    np.testing.assert_array_equal(sample.next_visit, every.next_visit[rows])


def test_batches_hold_every_case_once() -> None:
    data = RetentionData("generated", n_visits=5, batch_size=16).use(random_activity())
    batches = list(data.train_dataloader())
    cases = data.cases("train")
    assert {len(batch["label"]) for batch in batches[:-1]} == {16}
    rows = {(int(u), int(c)) for batch in batches for u, c in zip(batch["user"], batch["cut"], strict=True)}
    assert sum(len(batch["label"]) for batch in batches) == len(cases)
    assert rows == set(zip(cases.user.tolist(), cases.cut.tolist(), strict=True))
    now = next(iter(data.predict_dataloader()))
    assert now["sequence"].shape[1:] == (5, 5)
    assert now["cut"].unique().tolist() == [0]


def test_the_reference_is_the_median_of_who_came_back() -> None:
    data = RetentionData("generated", n_visits=6).use(random_activity(n_members=60))
    cases = data.cases("everything").known
    reference = data.reference()
    back = cases.label == 1
    assert 0 < back.sum() < len(cases)
    np.testing.assert_allclose(reference.static[0], np.median(cases.static[back], axis=0), rtol=1e-6)
    np.testing.assert_allclose(reference.sequence[0], np.median(cases.sequence[back], axis=0), rtol=1e-6)


# -- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, {"n_layers": 2}])
def test_every_step_stays_on_one_device(sizes: dict[str, int]) -> None:
    data = RetentionData("generated", batch_size=20).use(random_activity())
    batch = on_meta(next(iter(data.test_dataloader())))
    module = on_meta(RetentionLSTM(hidden_size=6, l1=0.1, **sizes))  # type: ignore[arg-type]
    module.trainer = pl.Trainer(accelerator="cpu", barebones=True)
    with one_device():
        module.training_step(batch, 0).backward()
        module.on_train_batch_end()
        module.validation_step(batch, 0)
        module.on_validation_epoch_end()
        module.test_step(batch, 0)
        predicted = module.predict_step(batch, 0)
        days = module.expected_days(module.survival(batch["sequence"], batch["static"]))
    assert {column.device.type for column in [*predicted.values(), days]} == {"meta"}


def test_l1_enters_the_training_loss_alone() -> None:
    batch = next(iter(RetentionData("generated").use(random_activity()).test_dataloader()))
    losses = {}
    for l1 in (0.0, 0.1):
        torch.manual_seed(0)
        module = RetentionLSTM(hidden_size=6, dropout=0.0, l1=l1)
        losses[l1] = module.training_step(batch, 0).item()
    weights = sum(float(p.detach().abs().sum()) for p in module.net.parameters())
    assert losses[0.1] == pytest.approx(losses[0.0] + 0.1 * weights, rel=1e-5)


def test_the_network_reads_the_visits_in_their_order() -> None:
    """Cases that differ in nothing but which of two visits was the longer: what the static features do not hold."""
    torch.manual_seed(0)
    which = torch.arange(64) % 2
    sequence = torch.zeros(64, 8, 5)
    sequence[:, -2:, 4] = 1.0
    sequence[torch.arange(64), 6 + which, 2] = 2.0
    came = torch.where(which == 1, 5.0, torch.inf)
    batch = {"sequence": sequence, "static": torch.ones(64, len(STATIC)), "next_visit": came}
    batch |= {"observed": torch.full((64,), 90.0), "label": which.float(), "weight": torch.ones(64)}
    module = RetentionLSTM(hidden_size=8, dropout=0.0, learning_rate=0.003, averaging=0.5)
    optimizer = module.configure_optimizers()["optimizer"]
    for _ in range(220):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
        module.on_train_batch_end()
    module.eval()
    with torch.no_grad():
        assert torch.equal(module(sequence, batch["static"]).round(), batch["label"])
        survival = module.survival(sequence, batch["static"])
        days = module.expected_days(survival)
    assert (survival.diff(dim=1) <= 0).all()
    assert (days[which == 1] < 8).all()
    assert (days[which == 0] > 80).all()


def test_outcomes_by_hand() -> None:
    ends = torch.tensor([1.0, 7.0, 30.0])
    event, at_risk = outcomes(ends, torch.tensor([1.0, 5.0, 9.0, torch.inf]), torch.tensor([30.0, 30.0, 29.0, 7.0]))
    assert event.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert at_risk.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]]


def test_the_drift_is_added_to_every_hazard() -> None:
    module = RetentionLSTM(hidden_size=2, n_heads=1).eval()
    inputs = torch.zeros(1, 3, 5), torch.zeros(1, len(STATIC))
    module.drift.fill_(1.5)
    with torch.no_grad():
        found = module.survival(*inputs)
        expected = still_away(module.average(*inputs) + 1.5)
    torch.testing.assert_close(found, expected)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-3 + 1.5)), abs=1e-5)


def test_a_case_counts_in_training_by_its_weight() -> None:
    batch = next(iter(RetentionData("generated", batch_size=9).use(random_activity()).test_dataloader()))
    module = RetentionLSTM(hidden_size=4, dropout=0.0)
    n = len(batch["label"])
    alone = {name: part[:1] for name, part in batch.items()}
    weighted = batch | {"weight": torch.tensor([float(n)] + [0.0] * (n - 1))}
    torch.testing.assert_close(module.training_step(weighted, 0), module.training_step(alone, 0))


def test_the_loss_is_the_likelihood_of_the_next_visit() -> None:
    """Summed over all that can happen, exp(-loss) is 1; and S is the product of what is left."""
    ends = torch.tensor([1.0, 7.0, 30.0])
    logits = torch.randn(1, 1, 3, generator=torch.Generator().manual_seed(0)).expand(2, 4, 3)
    event, at_risk = outcomes(ends, torch.tensor([1.0, 5.0, 9.0, torch.inf]), torch.full((4,), 30.0))
    likelihood = (-likelihood_loss(logits, event, at_risk)).exp()
    torch.testing.assert_close(likelihood.sum(1), torch.ones(2))
    survival = still_away(logits)[0]
    torch.testing.assert_close(survival[-1], likelihood[0, -1])
    torch.testing.assert_close(1 - survival[0], likelihood[0, 0])


def test_expected_days_are_the_area_under_the_survival() -> None:
    module = RetentionLSTM(horizon_days=3, hidden_size=2)
    assert module.ends.tolist() == [1, 2, 3, 6, 9]
    never, at_once = torch.ones(1, 5), torch.zeros(1, 5)
    half = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.5]])
    assert module.expected_days(torch.cat([never, at_once, half])).tolist() == [9, 0.5, 0.75 + 8 * 0.5]


@pytest.mark.parametrize("ridge", [0.1, 20.0])
def test_the_drift_minimises_what_it_says(ridge: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 3, generator=generator)
    event = (torch.rand(400, 3, generator=generator) < torch.sigmoid(z - 0.7)).float()
    at_risk = (torch.rand(400, 3, generator=generator) < 0.6).float()

    def objective(d: np.ndarray) -> float:
        entropy = np.logaddexp(0, (z.double().numpy() + d)) - event.numpy() * (z.double().numpy() + d)
        return float((entropy * at_risk.numpy()).sum() + ridge / 2 * d[0] ** 2)

    expected = minimize(objective, [0.0], tol=1e-12).x[0]
    assert drift_of(z, event, at_risk, ridge).item() == pytest.approx(expected, abs=1e-4)
    assert drift_of(z, event, torch.zeros_like(at_risk)).item() == 0
    assert -20 < drift_of(z, torch.zeros_like(event), at_risk, ridge).item() < -0.7


def test_the_encoding_finds_thresholds_and_stays_within_what_was_seen() -> None:
    static = torch.rand(500, len(STATIC), generator=torch.Generator().manual_seed(0)) * 4
    static[:, 3] = (static[:, 3] > 2).float()  # two values only
    static[:, 4] = 1.0  # one
    encoding = Encoding()
    encoding.fit(static)
    code = encoding(static)
    assert code.shape == (500, Encoding.out_features)
    assert torch.isfinite(code).all()
    steps = code[:, : len(STATIC) * (Encoding.out_features // len(STATIC) - 1)].view(500, len(STATIC), -1)
    assert (steps.diff(dim=2) <= 1e-6).all()  # a later step is never further on than an earlier one
    order = static[:, 0].argsort()
    assert (steps[order, 0].sum(1).diff() >= -1e-5).all()
    n_steps = len(STATIC) * (Encoding.out_features // len(STATIC) - 1)
    largest = encoding(static.max(0).values[None])
    far = encoding(torch.full((1, len(STATIC)), 1e6))
    torch.testing.assert_close(far[:, :n_steps], largest[:, :n_steps], atol=0.02, rtol=0)  # edges are rounded


def test_the_average_is_what_is_used_outside_training() -> None:
    torch.manual_seed(0)
    module = RetentionLSTM(hidden_size=4, n_heads=2, averaging=0.75)
    values = []
    for value in (1.0, 2.0, 6.0, 7.0, 9.0):
        with torch.no_grad():
            module.net.bias.fill_(value)
        module.on_train_batch_end()
        values.append(float(module.average.bias[0]))
    assert values == pytest.approx([1, 1.5, 3, 4, 4 + 0.25 * 5])
    batch = next(iter(RetentionData("generated").use(random_activity()).test_dataloader()))
    inputs = batch["sequence"], batch["static"]
    with torch.no_grad():
        now, used = module.train().survival(*inputs), module.eval().survival(*inputs)
    assert (used > now).all()  # hazards are lower in the average


def habits(n_members: int = 240, n_days: int = 300) -> Activity:
    """Members who come once a week or so until the clock, and as many who did so until some day and left."""
    rng = np.random.default_rng(0)
    members = {}
    for member in range(n_members):
        first = int(rng.integers(n_days // 2, n_days))
        last = 0 if member % 2 else int(rng.integers(0, first))
        days = np.arange(first, last - 1, -7) + rng.integers(-2, 3, len(np.arange(first, last - 1, -7)))
        members[f"m{member:03d}"] = {int(day): int(rng.integers(1, 4)) for day in days if day >= last} or {first: 1}
    return activity_of(members)


def test_learns_who_comes_back_and_says_it_in_probabilities(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    data = RetentionData("generated", n_visits=20, batch_size=256).use(habits())
    module = RetentionLSTM(hidden_size=12, learning_rate=0.01)
    trainer = quiet_trainer(5)
    trainer.fit(module, datamodule=data)
    report = measure(module.eval(), data, tmp_path)
    for split in ("validation", "test"):
        ours, base = (report["metrics"][split][name] for name in (OURS, BASE_RATE))
        assert ours["auroc"] > 0.95
        assert ours["log_loss"] < 0.6 * base["log_loss"]
        assert ours["brier"] < 0.6 * base["brier"]
        assert ours["ece"] < 0.1
    assert sum(b["count"] for b in report["calibration"]["bins"]) == report["split"]["rows"]["test"]

    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    loaded = RetentionLSTM.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu", weights_only=True).eval()
    cases = data.cases("test")
    assert float(loaded.drift) != 0
    np.testing.assert_array_equal(probabilities(loaded, cases), probabilities(module, cases))
    np.testing.assert_allclose(probabilities(loaded, cases, batch_size=7), probabilities(module, cases), atol=1e-6)


def test_the_refitted_model_takes_up_what_the_fitted_one_missed() -> None:
    """Members who came every week stay away from 30 days back on: the fitted model cannot know, the served one must."""
    pl.seed_everything(0, verbose=False)
    activity = habits()
    kept = activity.day >= 30
    gone = replace(activity, **{name: getattr(activity, name)[kept] for name in ("user", "day", "events", "newest")})
    drifts = {}
    for name, known in (("as ever", activity), ("gone", gone)):
        data = RetentionData("generated").use(known)
        fitted = RetentionLSTM(hidden_size=6, n_heads=2, learning_rate=0.01)
        quiet_trainer(2).fit(fitted, datamodule=data)
        data.fit_on = "everything"
        served = RetentionLSTM(hidden_size=6, n_heads=2, learning_rate=0.01)
        served.warm_start(fitted)
        trainer = quiet_trainer(1)
        trainer.limit_val_batches = 0  # as in a refit
        trainer.fit(served, datamodule=data)
        drifts[name] = float(served.drift)
        with torch.no_grad():
            for batch in data.latest("test").batches(64):
                fitted.eval().held_out(batch)
        assert drifts[name] == pytest.approx(float(fitted.drift_seen()), abs=1e-4)
    assert drifts["gone"] < drifts["as ever"] - 0.5
