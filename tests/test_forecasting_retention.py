"""Retention: cases by hand, nothing from after a cut, and habits told from farewells."""

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
from sklearn.linear_model import LogisticRegression

from data.dataset import write_dataset
from data.errors import UserError
from forecasting.evaluate import BASE_RATE, OURS, measure, probabilities
from forecasting.retention import RetentionLSTM, platt_scaling
from forecasting.retention_data import Activity, Cases, RetentionData, cases_at, load_activity

pytestmark = pytest.mark.usefixtures("one_thread")

log1p = np.log1p


def activity_of(days: dict[str, dict[int, int]]) -> Activity:
    """From member to day to events."""
    rows = [(code, day, n) for code, m in enumerate(days.values()) for day, n in sorted(m.items(), reverse=True)]
    user, day, events = (np.array(part) for part in zip(*rows, strict=True))
    return Activity(
        pd.Index(list(days), dtype=object), user.astype(np.int64), day.astype(np.int64), events.astype(float)
    )


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
    return Activity(activity.user_ids.append(pd.Index(["new"], dtype=object)), user[order], day[order], events[order])


def assert_same_features(one: Cases, other: Cases) -> None:
    for name in ("sequence", "static", "user"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# -- cases -----------------------------------------------------------------------------------------------------------


def test_cases_by_hand() -> None:
    activity = activity_of({"a": {100: 2, 93: 1, 40: 3, 10: 1}, "b": {35: 1}, "later": {20: 5}})
    cases = cases_at(activity, cut=30, horizon_days=30, n_weeks=4)
    assert cases.user.tolist() == [0, 1]  # the third is not known yet
    assert cases.cut.tolist() == [30, 30]
    assert cases.label.tolist() == [1, 0]
    # recency, tenure, events, active days, recent events, usual gap; the last column is lateness
    known = log1p([[10, 70, 6, 3, 3, (70 - 10) / 2], [5, 5, 1, 1, 1, 0]])
    np.testing.assert_allclose(cases.static[:, :6], known, rtol=1e-6)
    np.testing.assert_allclose(cases.static[:, 6], known[:, 0] - known[:, 5], rtol=1e-5)
    # events, active days, present, weeks since an active one (from the first event, when none is in reach)
    a = [[0, 0, 1, 7], [0, 0, 1, 8], [3, 1, 1, 0], [0, 0, 1, 1]]
    b = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    expected = np.array([a, b], float)
    expected[..., [0, 1, 3]] = log1p(expected[..., [0, 1, 3]])
    np.testing.assert_allclose(cases.sequence, expected, rtol=1e-6)
    np.testing.assert_array_equal(cases.rft, cases.static[:, :4])


@pytest.mark.parametrize(("day", "label"), [(60, 0), (59, 1), (40, 1), (30, 1), (29, 0), (0, 0)])
def test_a_label_covers_the_days_of_the_horizon_and_no_other(day: int, label: int) -> None:
    activity = activity_of({"a": dict.fromkeys({200, day}, 1)})
    assert cases_at(activity, cut=60, horizon_days=30, n_weeks=2).label.tolist() == [label]


def test_a_label_that_is_not_over_is_unknown() -> None:
    activity = activity_of({"a": {50: 1, 10: 1}})
    assert np.isnan(cases_at(activity, cut=29, horizon_days=30, n_weeks=2).label).all()
    assert cases_at(activity, cut=30, horizon_days=30, n_weeks=2).label.tolist() == [1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 200))
def test_no_feature_is_from_after_the_cut(seed: int, cut: int) -> None:
    activity = random_activity(seed=seed)
    cases = cases_at(activity, cut, 30, 26)
    assert_same_features(cases, cases_at(other_days_after(activity, cut, seed), cut, 30, 26))
    assert_same_features(cases, cases_at(activity.before(cut), 0, 30, 26))


def test_what_comes_after_the_cut_is_the_label() -> None:
    activity = random_activity()
    changed = other_days_after(activity, 60, seed=1)
    cases, others = (cases_at(a, 60, 30, 26) for a in (activity, changed))
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
    cases = cases_at(activity, 0, 30, 26)
    chosen = np.array([17, 3, 20])
    some = cases_at(activity.of_members(chosen), 0, 30, 26)
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


@pytest.mark.parametrize("setting", ["horizon_days", "n_weeks", "batch_size", "max_cases"])
def test_bad_arguments_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match=f"--data.{setting} 0 must be at least 1"):
        RetentionData("generated", **{setting: 0})  # type: ignore[arg-type]


# -- the split -------------------------------------------------------------------------------------------------------


def test_cuts_by_hand() -> None:
    data = RetentionData("generated").use(activity_of({"a": dict.fromkeys(range(125), 1)}))
    assert data.cuts("test") == [30]
    assert data.cuts("validation") == [60]
    assert data.cuts("train") == [90, 97, 104, 111]  # 14 days are left before the earliest
    assert data.cuts("everything") == list(range(30, 112, 7))


def test_no_split_reads_what_a_later_one_is_asked() -> None:
    """Whatever happened after the validation cut (or the test cut), the cases before it stay as they are."""
    activity = random_activity(n_members=40)
    data = RetentionData("generated").use(activity)
    for split, cut in (("train", data.cuts("validation")[0]), ("validation", data.cuts("test")[0])):
        changed = other_days_after(activity, cut, seed=2)
        cases, others = (RetentionData("generated").use(a).cases(split) for a in (activity, changed))  # type: ignore[arg-type]
        assert_same_features(cases, others)
        np.testing.assert_array_equal(cases.label, others.label)


def test_training_takes_a_seeded_sample_of_the_cases() -> None:
    activity = random_activity(n_members=60)
    every = RetentionData("generated").use(activity).cases("train")
    sample, again = (RetentionData("generated", max_cases=200).use(activity).cases("train") for _ in range(2))
    assert 100 < len(sample) < 200 < len(every)
    assert_same_features(sample, again)
    assert set(zip(sample.user, sample.cut, strict=True)) <= set(zip(every.user, every.cut, strict=True))


def test_batches_hold_every_case_once() -> None:
    data = RetentionData("generated", n_weeks=5, batch_size=16).use(random_activity())
    batches = list(data.train_dataloader())
    cases = data.cases("train")
    assert {len(batch["label"]) for batch in batches[:-1]} == {16}
    rows = {(int(u), int(c)) for batch in batches for u, c in zip(batch["user"], batch["cut"], strict=True)}
    assert sum(len(batch["label"]) for batch in batches) == len(cases)
    assert rows == set(zip(cases.user.tolist(), cases.cut.tolist(), strict=True))
    now = next(iter(data.predict_dataloader()))
    assert now["sequence"].shape[1:] == (5, 4)
    assert now["cut"].unique().tolist() == [0]


def test_the_reference_is_the_median_of_who_came_back() -> None:
    data = RetentionData("generated", n_weeks=6).use(random_activity(n_members=60))
    cases = data.cases("everything")
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
        module.validation_step(batch, 0)
        module.on_validation_epoch_end()
        module.test_step(batch, 0)
        predicted = module.predict_step(batch, 0)
    assert {column.device.type for column in predicted.values()} == {"meta"}


def test_l1_enters_the_training_loss_alone() -> None:
    batch = next(iter(RetentionData("generated").use(random_activity()).test_dataloader()))
    losses = {}
    for l1 in (0.0, 0.1):
        torch.manual_seed(0)
        module = RetentionLSTM(hidden_size=6, dropout=0.0, l1=l1)
        losses[l1] = module.training_step(batch, 0).item(), module._step(batch, "val")[0].item()
    weights = sum(float(p.detach().abs().sum()) for p in module.net.parameters())
    assert losses[0.1][0] == pytest.approx(losses[0.0][0] + 0.1 * weights, rel=1e-5)
    assert losses[0.1][1] == losses[0.0][1]


def test_the_network_reads_the_weeks_in_their_order() -> None:
    """Cases that differ in nothing but the week of their only visit: what the static features cannot tell."""
    torch.manual_seed(0)
    week = torch.arange(64) % 8
    sequence = torch.zeros(64, 8, 4)
    sequence[torch.arange(64), week, :2] = 1.0
    batch = {"sequence": sequence, "static": torch.ones(64, 7), "label": (week >= 4).float()}
    module = RetentionLSTM(hidden_size=8, dropout=0.0, learning_rate=0.03)
    optimizer = module.configure_optimizers()["optimizer"]
    for _ in range(60):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(module(sequence, batch["static"]).round(), batch["label"])


def scattered(n: int = 400, slope: float = 2.0, shift: float = -1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that are 1 with the probability sigmoid(slope * logit + shift)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, generator=generator)
    return logits, (torch.rand(n, generator=generator) < torch.sigmoid(slope * logits + shift)).float()


@pytest.mark.parametrize("ridge", [0.1, 1.0, 50.0])
def test_platt_scaling_minimises_what_it_says(ridge: float) -> None:
    logits, label = scattered()

    def objective(scaling: np.ndarray) -> float:
        z = scaling[0] * logits.double().numpy() + scaling[1]
        entropy = np.logaddexp(0, z) - label.double().numpy() * z
        return float(entropy.sum() + ridge / 2 * ((scaling[0] - 1) ** 2 + scaling[1] ** 2))

    expected = minimize(objective, [1.0, 0.0], tol=1e-10).x
    np.testing.assert_allclose(platt_scaling(logits, label, ridge), expected, atol=1e-4)


def test_platt_scaling_without_a_ridge_is_a_logistic_regression() -> None:
    logits, label = scattered()
    regression = LogisticRegression(C=1e9, tol=1e-10).fit(logits[:, None].numpy(), label.numpy())
    a, c = platt_scaling(logits, label, ridge=1e-9)
    np.testing.assert_allclose([a, c], [regression.coef_[0, 0], regression.intercept_[0]], atol=1e-3)


def test_platt_scaling_of_one_class_or_nothing_changes_nothing() -> None:
    for label in (torch.zeros(5), torch.ones(5), torch.zeros(0)):
        assert platt_scaling(torch.linspace(-1, 1, len(label)), label).tolist() == [1, 0]


def test_platt_scaling_never_turns_the_order() -> None:
    logits, label = scattered(slope=-3.0)
    a, c = platt_scaling(logits, label)
    assert a == pytest.approx(0.05)
    assert torch.isfinite(c)
    separable = torch.tensor([-1.0, -0.5, 0.5, 1.0])
    assert torch.isfinite(platt_scaling(separable * 100, (separable > 0).float())).all()


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
    data = RetentionData("generated", n_weeks=20, batch_size=256).use(habits())
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
    assert not torch.equal(loaded.platt, torch.tensor([1.0, 0.0]))
    np.testing.assert_array_equal(probabilities(loaded, cases), probabilities(module, cases))
    np.testing.assert_allclose(probabilities(loaded, cases, batch_size=7), probabilities(module, cases), atol=1e-6)
    fresh = RetentionLSTM(hidden_size=12)
    fresh.warm_start(loaded)
    assert torch.equal(fresh.platt, loaded.platt)
