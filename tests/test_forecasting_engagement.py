"""The engagement forecaster: windows and blocks by hand, nothing from the future, and planted rhythms learned."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from device_check import on_meta, one_device
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.errors import UserError
from forecasting.engagement import LEVELS, EngagementLSTM, pinball, spread_correction
from forecasting.engagement_data import Batch, EngagementData, Windows
from forecasting.evaluate import MEAN_28, NAIVE, OURS, forecasts, measure
from forecasting.series import Panel

pytestmark = pytest.mark.usefixtures("one_thread")

MONDAY = 19_723  # 2024-01-01, in days after 1970-01-01
CONTEXT, HORIZON = 35, 14
NAN = np.nan


def panel_of(values: np.ndarray | list[list[float]], step_days: int = 1) -> Panel:
    return Panel(tuple(f"s{i}" for i in range(len(values))), MONDAY, step_days, np.asarray(values, float))


def weekly_panel(n_series: int = 6, n_days: int = 120, gaps: float = 0.0, seed: int = 0) -> Panel:
    """Poisson counts around a level of each series' own and a weekly rhythm of each series' own; a share of gaps."""
    rng = np.random.default_rng(seed)
    level = np.geomspace(8, 400, n_series)[:, None]
    rhythm = np.exp(rng.normal(0, 0.6, (n_series, 7)))
    values = rng.poisson(level * rhythm[:, np.arange(n_days) % 7]).astype(float)
    values[rng.random(values.shape) < gaps] = NAN
    return panel_of(values)


def dated_panel(n_days: int = 120) -> Panel:
    """Every value is the number of its step."""
    return panel_of(np.tile(np.arange(n_days, dtype=float), (3, 1)))


def data_of(panel: Panel, horizon: int = HORIZON, **more: int) -> EngagementData:
    return EngagementData("generated", horizon, CONTEXT, **more).use(panel)


def module_of(**sizes: float) -> EngagementLSTM:
    """An untrained module whose answers depend on everything that it reads: its last layer is not near zero."""
    torch.manual_seed(0)
    module = EngagementLSTM(**{"hidden_size": 6, **sizes}).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(module.net.head.weight, std=0.7)
    return module


def whole(windows: Windows) -> Batch:
    return windows.__getitems__(list(range(len(windows))))


def batch_at(panel: Panel, origin: int) -> Batch:
    return whole(Windows(panel, CONTEXT, HORIZON, np.array([origin]), min_known=0, min_future=0))


@pytest.fixture
def batch() -> Batch:
    """Three windows of each of six series, with gaps before and after the origin."""
    windows = data_of(weekly_panel(gaps=0.15)).windows(np.array([60, 80, 110]), 120)
    found = whole(windows)
    assert len(windows) == 18
    assert found["context"].isnan().any()
    assert found["target"].isnan().any()
    return found


# -- windows and split -----------------------------------------------------------------------------------------------


def test_windows_by_hand() -> None:
    panel = panel_of([[0, 1, 2, NAN, 4, 5, 6, 7], [NAN, NAN, NAN, 30, 40, NAN, NAN, 70]])
    found = whole(Windows(panel, 3, 2, np.array([2, 5, 8]), min_known=2, min_future=0))
    assert found["series"].tolist() == [0, 0, 0, 1]  # the other knows two of three steps before step 5 alone
    assert found["origin"].tolist() == [2, 5, 8, 5]
    np.testing.assert_array_equal(found["context"], [[NAN, 0, 1], [2, NAN, 4], [5, 6, 7], [NAN, 30, 40]])
    np.testing.assert_array_equal(found["target"], [[2, NAN], [5, 6], [NAN, NAN], [NAN, NAN]])
    assert found["weekday"].tolist() == [[6, 0, 1, 2, 3], [2, 3, 4, 5, 6], [5, 6, 0, 1, 2], [2, 3, 4, 5, 6]]
    assert found["age"].tolist() == [2, 5, 8, 2]  # steps from the first known value
    assert {name: part.dtype for name, part in found.items()} == {
        **dict.fromkeys(("context", "target", "age"), torch.float32),
        **dict.fromkeys(("weekday", "series", "origin"), torch.int64),
        "recent": torch.bool,
    }


def test_windows_need_enough_known_steps_on_both_sides() -> None:
    panel = panel_of([[1, 1, NAN, 1, 1, 1, NAN, NAN]])
    kept = Windows(panel, 3, 2, np.arange(9), min_known=2, min_future=2)
    assert kept.origin.tolist() == [3, 4]  # at 2 a step is missing after it, at 5 and later too


def test_recent_steps_are_those_of_28_days() -> None:
    for step_days, recent in ((1, 28), (7, 4)):
        window = Windows(panel_of(np.ones((1, 60)), step_days), 30, 2, np.array([50]), 1, 0)[0]
        assert window["recent"].tolist() == [False] * (30 - recent) + [True] * recent


def test_weeks_all_begin_on_the_same_weekday() -> None:
    window = Windows(panel_of(np.ones((1, 60)), step_days=7), 4, 2, np.array([50]), 1, 0)[0]
    assert window["weekday"].tolist() == [0] * 6


def test_blocks_and_origins_by_hand() -> None:
    data = data_of(weekly_panel(n_days=70))
    assert (data.block("validation"), data.block("test")) == ((42, 56), (56, 70))
    assert data.origins("validation").tolist() == [42, 49]
    assert data.origins("test").tolist() == [56, 63]
    month = data_of(weekly_panel(n_days=200), horizon=28)
    assert month.origins("test").tolist() == [172, 179, 186, 193]
    odd = data_of(weekly_panel(n_days=70), horizon=10)
    assert odd.origins("test").tolist() == [60]  # a week later less than a week would be left
    weeks = data_of(panel_of(np.ones((2, 30)), step_days=7), horizon=28)
    assert weeks.horizon_steps == 4
    assert weeks.origins("test").tolist() == [26, 27, 28, 29]


def test_blocks_are_seen_by_no_window_of_an_earlier_one() -> None:
    """In a panel whose values are their own steps, every value that a window holds says when it is from."""
    panel = dated_panel()
    data = data_of(panel, batch_size=10_000, windows_per_epoch=10_000)
    validation, test = data.block("validation"), data.block("test")
    train, held_out, tested = (
        next(iter(loader)) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    )
    assert train["target"].nan_to_num(0).max() == validation[0] - 1
    assert held_out["target"].nan_to_num(0).max() == validation[1] - 1 == test[0] - 1
    assert held_out["target"][held_out["target"].isfinite()].min() == validation[0]
    assert tested["target"][tested["target"].isfinite()].min() == test[0]
    for batch in (train, held_out, tested):
        origin = batch["origin"][:, None]
        steps = torch.arange(-CONTEXT, HORIZON)
        expected = (origin + steps).float()
        seen = torch.cat([batch["context"], batch["target"]], dim=1)
        assert ((seen == expected) | seen.isnan()).all()
    data.fit_on = "everything"
    assert next(iter(data.train_dataloader()))["target"].nan_to_num(0).max() == 119


@pytest.mark.parametrize("fit_on", ["train", "everything"])
def test_a_cut_panel_trains_on_nothing_from_after_the_cut(fit_on: str) -> None:
    data = data_of(dated_panel().until(97))
    data.fit_on = fit_on  # type: ignore[assignment]
    batch = whole(data.training_windows())
    latest = torch.cat([batch["context"], batch["target"]], dim=1).nan_to_num(0).max()
    assert latest == (96 if fit_on == "everything" else 97 - 2 * HORIZON - 1)
    assert len(next(iter(data.predict_dataloader()))["series"]) == 3
    assert next(iter(data.predict_dataloader()))["origin"].unique().tolist() == [97]


def test_an_epoch_draws_as_many_windows_as_asked_for() -> None:
    data = data_of(weekly_panel(), batch_size=16, windows_per_epoch=40)
    sizes = [len(batch["context"]) for batch in data.train_dataloader()]
    assert sizes == [16, 16, 8]


def test_a_short_history_is_refused_with_what_would_do() -> None:
    with pytest.raises(UserError, match=r"70 days of history.* 28 days .*needs 112: .*--data.horizon_days 14\."):
        data_of(weekly_panel(n_days=70), horizon=28)
    with pytest.raises(UserError, match=r"needs 112: add earlier data\."):
        data_of(weekly_panel(n_days=40), horizon=28)
    EngagementData("generated", 28, CONTEXT).use(weekly_panel(n_days=40), to_predict=True)


@pytest.mark.parametrize(
    ("setting", "value"), [("horizon_days", 0), ("context_days", -1), ("context_days", 27), ("batch_size", 0)]
)
def test_bad_arguments_are_refused(setting: str, value: int) -> None:
    with pytest.raises(UserError, match=f"--data.{setting} {value} must be at least"):
        EngagementData("generated", **{setting: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("setting", "value"), [("windows_per_epoch", 0), ("windows_per_epoch", -1), ("n_titles", -1)])
def test_other_bad_arguments_are_refused(setting: str, value: int) -> None:
    with pytest.raises(UserError, match=f"--data.{setting} {value}"):
        EngagementData("generated", **{setting: value})  # type: ignore[arg-type]


def test_a_horizon_of_less_than_a_week_can_be_learned() -> None:
    windows = data_of(weekly_panel(), horizon=3).training_windows()
    assert len(windows) > 100


def test_a_panel_with_nothing_to_learn_from_is_refused() -> None:
    values = np.full((2, 120), NAN)
    values[:, -10:] = 3
    with pytest.raises(UserError, match="nothing to learn from"):
        data_of(panel_of(values)).train_dataloader()


# -- forecasts -------------------------------------------------------------------------------------------------------


def test_nothing_after_an_origin_changes_the_forecast_there() -> None:
    module, origin = module_of(), 90
    panel = weekly_panel(gaps=0.1)
    rng = np.random.default_rng(1)
    later = panel.values.copy()
    later[:, origin:] = rng.permuted(later[:, origin:], axis=1) * 9
    later[1, origin:] = NAN
    for until in (origin, panel.n_steps):
        before, after = (
            forecasts(module, data_of(panel_of(values)), np.array([origin]), until) for values in (panel.values, later)
        )
        np.testing.assert_array_equal(before, after)
        assert np.isfinite(before).all()
    earlier = panel.values.copy()
    earlier[:, origin - 1] += 50
    changed = forecasts(module, data_of(panel_of(earlier)), np.array([origin]), origin)
    assert (changed != before).any(axis=(1, 2, 3)).all()  # what was known does matter


def test_a_forecast_does_not_depend_on_its_neighbours_in_the_batch(batch: Batch) -> None:
    module = module_of()
    together, _ = module(batch)
    alone, _ = module({name: part[3:4] for name, part in batch.items()})
    torch.testing.assert_close(together[3:4], alone)


known_or_not = st.one_of(st.just(NAN), st.just(0.0), st.floats(0, 1e9, width=32))


@settings(max_examples=60, deadline=None)
@given(context=arrays(float, CONTEXT, elements=known_or_not), seed=st.integers(0, 3))
def test_quantiles_are_finite_ordered_and_never_negative(context: np.ndarray, seed: int) -> None:
    module = module_of()
    torch.manual_seed(seed)
    module.spread.copy_(torch.rand(len(LEVELS)) * 4)
    with torch.no_grad():
        quantiles, mean = module(batch_at(panel_of([context]), CONTEXT))
    assert torch.isfinite(quantiles).all()
    assert torch.isfinite(mean).all()
    assert (quantiles >= 0).all()
    assert (mean >= 0).all()
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_edges_of_a_context() -> None:
    nothing = np.zeros(CONTEXT)
    single = np.full(CONTEXT, NAN)
    single[3] = 5.0
    unknown = np.full(CONTEXT, NAN)
    with torch.no_grad():
        quantiles, mean = module_of()(batch_at(panel_of([nothing, single, unknown]), CONTEXT))
    assert (quantiles[0] == 0).all()  # a series where nothing ever happened
    assert (mean[0] == 0).all()
    assert (quantiles[1, :, -1] > 0).all()
    assert torch.isfinite(quantiles).all()
    assert (quantiles[2] == 0).all()


def test_gaps_are_not_zeros() -> None:
    full = np.full(CONTEXT, 10.0)
    gap, zero = full.copy(), full.copy()
    gap[::2], zero[::2] = NAN, 0.0
    torch.manual_seed(0)
    module = EngagementLSTM(hidden_size=6).eval()  # starts near the simple method
    with torch.no_grad():
        quantiles, mean = module(batch_at(panel_of([full, gap, zero]), CONTEXT))
    torch.testing.assert_close(mean[1], mean[0], rtol=0.1, atol=0)
    torch.testing.assert_close(quantiles[1], quantiles[0], rtol=0.1, atol=0)
    assert (mean[2] < 0.7 * mean[0]).all()


@pytest.mark.parametrize("sizes", [{}, {"n_layers": 2, "dropout": 0.3}])
def test_every_step_stays_on_one_device(batch: Batch, sizes: dict[str, float]) -> None:
    module = on_meta(EngagementLSTM(hidden_size=6, l1=0.1, **sizes))  # type: ignore[arg-type]
    module.trainer = pl.Trainer(accelerator="cpu", barebones=True)
    with one_device():
        module.training_step(on_meta(batch), 0).backward()
        module.validation_step(on_meta(batch), 0)
        module.on_validation_epoch_end()
        module.test_step(on_meta(batch), 0)
        module.on_test_epoch_end()
        predicted = module.predict_step(on_meta(batch), 0)
    assert {column.device.type for column in predicted.values()} == {"meta"}


def test_predictions_name_their_series_and_step(batch: Batch) -> None:
    module = module_of()
    predicted = module.predict_step(batch, 0)
    quantiles, mean = module(batch)
    n = len(mean)
    at = 5 * HORIZON + 3
    assert {len(column) for column in predicted.values()} == {n * HORIZON}
    assert predicted["series"][at] == batch["series"][5]
    assert predicted["step"][at] == batch["origin"][5] + 3
    assert predicted["mean"][at] == mean[5, 3]
    assert [predicted[name][at] for name in ("q05", "q25", "q50", "q75", "q95")] == quantiles[5, 3].tolist()


# -- training --------------------------------------------------------------------------------------------------------


def test_pinball_by_hand() -> None:
    loss = pinball(torch.tensor([[2.0]]), torch.tensor([[[1.0, 1.0, 2.0, 4.0, 4.0]]]))
    torch.testing.assert_close(loss[0, 0], torch.tensor([0.05, 0.25, 0.0, 0.5, 0.1]))


def test_unknown_targets_do_not_count(batch: Batch) -> None:
    module = module_of(dropout=0.0)
    two, one = ({name: part[:n].clone() for name, part in batch.items()} for n in (2, 1))
    two["target"][1] = NAN
    torch.testing.assert_close(module.training_step(two, 0), module.training_step(one, 0))
    two["target"][0] = NAN
    module.training_step(two, 0).backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_l1_enters_the_training_loss(batch: Batch) -> None:
    plain, heavy = (float(module_of(dropout=0.0, l1=l1).training_step(batch, 0).detach()) for l1 in (0.0, 0.1))
    assert heavy > plain + 0.1


def test_spread_correction_by_hand() -> None:
    """Targets from 0 to 20 in even steps around a median of 10: half of them lie within 5 of it, 90 % within 9."""
    target = torch.linspace(0, 20, 2001)
    quantiles = torch.tensor([10.0 - 36, 10 - 5, 10, 10 + 1, 10 + 4]).expand(len(target), -1)
    factors = spread_correction(target, quantiles)
    torch.testing.assert_close(factors, torch.tensor([0.5, 1.0, 1.0, 2.0, 1.5]), atol=2e-3, rtol=0)
    flat = torch.full((len(target), len(LEVELS)), 10.0)
    assert spread_correction(target, flat).tolist() == [1.0] * len(LEVELS)


def fitted(data: EngagementData, epochs: int, **sizes: float) -> tuple[EngagementLSTM, pl.Trainer]:
    pl.seed_everything(0, verbose=False)
    module = EngagementLSTM(**sizes)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    trainer.fit(module, datamodule=data)
    return module.eval(), trainer


def test_learns_planted_rhythms_and_beats_both_simple_methods(tmp_path: Path) -> None:
    """The last week repeats its noise, the mean of the last month has no rhythm: whoever learns both is better."""
    data = data_of(weekly_panel(n_series=10, n_days=500), windows_per_epoch=1500)
    module, _ = fitted(data, epochs=8, hidden_size=16, learning_rate=0.01)
    report = measure(module, data, tmp_path)
    for split in ("validation", "test"):
        table = report["metrics"][split]
        assert table[OURS]["relmae"] < 0.85 * min(table[NAIVE]["relmae"], table[MEAN_28]["relmae"])
        assert table[OURS]["wql"] < 0.8 * min(table[NAIVE]["wql"], table[MEAN_28]["wql"])
        assert 0.75 < table[OURS]["coverage_90"] < 0.99
        assert 0.3 < table[OURS]["coverage_50"] < 0.7
    assert "beats" in report["notes"][0]


def test_a_checkpoint_is_plain_weights_and_keeps_the_correction(tmp_path: Path) -> None:
    data = data_of(weekly_panel(n_series=3, n_days=100), windows_per_epoch=64)
    module, trainer = fitted(data, epochs=1, hidden_size=4)
    assert not torch.equal(module.spread, torch.ones(len(LEVELS)))
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    loaded = EngagementLSTM.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu", weights_only=True).eval()
    batch = next(iter(data.predict_dataloader()))
    for ours, theirs in zip(loaded(batch), module(batch), strict=True):
        assert torch.equal(ours, theirs)
    fresh = EngagementLSTM(hidden_size=4)
    fresh.warm_start(loaded)
    assert torch.equal(fresh.spread, module.spread)
