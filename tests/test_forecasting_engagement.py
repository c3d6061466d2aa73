"""The engagement forecaster: windows and blocks by hand, nothing from the future, odd series, rhythms learned."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from device_check import on_meta, one_device
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from data.dataset import Dataset
from data.errors import UserError
from forecasting.accuracy import OURS
from forecasting.classical import NAIVE, mean_name
from forecasting.engagement import BLENDS, EngagementLSTM, leanable, widened, widths
from forecasting.engagement_data import Draw, EngagementData, Windows, windows_at, windows_to_come
from forecasting.evaluate import forecasts, measure
from forecasting.forecast import forecast_panel
from forecasting.forecaster import LEVELS, Batch, pinball, read
from forecasting.frequency import FREQUENCIES, Frequency
from forecasting.series import Panel

pytestmark = pytest.mark.usefixtures("one_thread")

MONDAY = 19_723  # 2024-01-01, in days after 1970-01-01
DAILY = FREQUENCIES["daily"]
CONTEXT, HORIZON = DAILY.context, 14
NAN = np.nan


def panel_of(values: np.ndarray | list[list[float]], frequency: Frequency = DAILY) -> Panel:
    return Panel(tuple(f"s{i}" for i in range(len(values))), MONDAY, frequency, np.asarray(values, float))


def weekly_panel(n_series: int = 6, n_days: int = 150, gaps: float = 0.0, seed: int = 0) -> Panel:
    """Poisson counts around a level of each series' own and a weekly rhythm of each series' own; a share of gaps."""
    rng = np.random.default_rng(seed)
    level = np.geomspace(8, 400, n_series)[:, None]
    rhythm = np.exp(rng.normal(0, 0.6, (n_series, 7)))
    values = rng.poisson(level * rhythm[:, np.arange(n_days) % 7]).astype(float)
    values[rng.random(values.shape) < gaps] = NAN
    return panel_of(values)


def dated_panel(n_days: int = 150) -> Panel:
    """Every value is the number of its step."""
    return panel_of(np.tile(np.arange(n_days, dtype=float), (3, 1)))


def data_of(panel: Panel, horizon: int | None = HORIZON, **more: int) -> EngagementData:
    return EngagementData("generated", horizon, **more).use(panel)


def module_of(**settings: float | str) -> EngagementLSTM:
    """An untrained module whose answers depend on everything that it reads: its last layers are not near zero."""
    torch.manual_seed(0)
    module = EngagementLSTM(**{"hidden_size": 6, "horizon": HORIZON, **settings}).eval()  # type: ignore[arg-type]
    for net in (module.net, module.prior):
        torch.nn.init.normal_(net.head.weight, std=0.7)
    return module


def whole(windows: Windows) -> Batch:
    return windows.__getitems__(list(range(len(windows))))


def batch_at(panel: Panel, origin: int) -> Batch:
    return whole(windows_at(panel, HORIZON, np.array([origin]), least_past=0, least_future=0))


@pytest.fixture
def batch() -> Batch:
    """Three windows of each of six series, with gaps before and after the origin."""
    windows = data_of(weekly_panel(gaps=0.15)).windows(np.array([60, 80, 140]), 150)
    found = whole(windows)
    assert len(windows) == 18
    assert found["context"].isnan().any()
    assert found["target"].isnan().any()
    return found


# -- windows and split -----------------------------------------------------------------------------------------------


def test_windows_by_hand() -> None:
    panel = panel_of([[0, 1, 2, NAN, 4, 5, 6, 7], [NAN, NAN, NAN, 30, 40, NAN, NAN, 70]])
    found = whole(windows_at(panel, 2, np.array([2, 5, 8]), least_past=2, least_future=0))
    assert found["series"].tolist() == [0, 0, 0, 1, 1]  # the other knows nothing before step 2
    assert found["origin"].tolist() == [2, 5, 8, 5, 8]
    assert found["context"].shape == (5, CONTEXT)
    np.testing.assert_array_equal(
        found["context"][:, -3:], [[NAN, 0, 1], [2, NAN, 4], [5, 6, 7], [NAN, 30, 40], [NAN, NAN, 70]]
    )
    np.testing.assert_array_equal(found["target"], [[2, NAN], [5, 6], [NAN, NAN], [NAN, NAN], [NAN, NAN]])
    assert (found["phase"] % 7).tolist() == [2, 5, 1, 5, 1]  # 0 is a Monday
    assert found["age"].tolist() == [2, 5, 8, 2, 5]  # steps from the first known value
    assert {name: part.dtype for name, part in found.items()} == {
        **dict.fromkeys(("context", "target", "age"), torch.float32),
        **dict.fromkeys(("phase", "series", "origin"), torch.int64),
    }


def test_windows_need_enough_known_steps_on_both_sides() -> None:
    panel = panel_of([[1, 1, NAN, 1, 1, 1, NAN, NAN]])
    kept = windows_at(panel, 2, np.arange(9), least_past=2, least_future=2)
    assert kept.origin.tolist() == [3, 4]  # at 5 and later a step is missing after it, before 2 one before it


def test_hours_of_the_day_and_weeks_of_the_year_fall_together() -> None:
    for name in ("hourly", "weekly", "monthly"):
        frequency = FREQUENCIES[name]
        season = frequency.seasons[-1]
        panel = Panel(("a",), 100 * frequency.size, frequency, np.ones((1, 3 * season)))
        first, second = (
            whole(windows_at(panel, 2, np.array([origin]), 0, 0))["phase"] for origin in (season, 2 * season)
        )
        assert (second - first).item() == season
        assert first.item() == 100 + season


def test_blocks_and_origins_by_hand() -> None:
    data = data_of(weekly_panel(n_days=90))
    assert (data.block("validation"), data.block("test")) == ((48, 76), (76, 90))
    assert data.origins("validation").tolist() == list(range(48, 74, 3))
    assert data.origins("test").tolist() == [76, 79, 82, 85]
    short = data_of(weekly_panel(n_days=50))  # 50 days, less two weeks, are four blocks of nine
    assert (short.block("validation"), short.block("test")) == ((23, 41), (41, 50))
    assert data_of(weekly_panel(n_days=11)).block("test") == (10, 11)
    hours = data_of(panel_of(np.ones((2, 600)), FREQUENCIES["hourly"]), horizon=None)
    assert (hours.horizon, hours.block("test")) == (48, (552, 600))


def test_blocks_are_seen_by_no_window_of_an_earlier_one() -> None:
    """In a panel whose values are their own steps, every value that a window holds says when it is from."""
    data = data_of(dated_panel(), batch_size=10_000, windows_per_epoch=10_000)
    validation, test = data.block("validation"), data.block("test")
    held_out, earlier = (next(iter(loader)) for loader in data.val_dataloader())
    train, tested = (next(iter(loader)) for loader in (data.train_dataloader(), data.test_dataloader()))
    assert train["target"].nan_to_num(0).max() == earlier["target"].nan_to_num(0).max() == validation[0] - 1
    assert held_out["target"].nan_to_num(0).max() == validation[1] - 1 == test[0] - 1
    assert held_out["target"][held_out["target"].isfinite()].min() == validation[0]
    assert tested["target"][tested["target"].isfinite()].min() == test[0]
    for batch in (train, held_out, earlier, tested):
        origin = batch["origin"][:, None]
        expected = (origin + torch.arange(-CONTEXT, HORIZON)).float()
        seen = torch.cat([batch["context"], batch["target"]], dim=1)
        assert ((seen == expected) | seen.isnan()).all()
    data.fit_on = "everything"
    assert next(iter(data.train_dataloader()))["target"].nan_to_num(0).max() == 149


@pytest.mark.parametrize("fit_on", ["train", "everything"])
def test_a_cut_panel_trains_on_nothing_from_after_the_cut(fit_on: str) -> None:
    data = data_of(dated_panel().until(97))
    data.fit_on = fit_on  # type: ignore[assignment]
    batch = whole(data.training_windows())
    latest = torch.cat([batch["context"], batch["target"]], dim=1).nan_to_num(0).max()
    assert latest == (96 if fit_on == "everything" else 97 - 3 * HORIZON - 1)
    assert len(next(iter(data.predict_dataloader()))["series"]) == 3
    assert next(iter(data.predict_dataloader()))["origin"].unique().tolist() == [97]


def test_an_epoch_draws_as_many_windows_as_asked_for() -> None:
    data = data_of(weekly_panel(), batch_size=16, windows_per_epoch=40)
    sizes = [len(batch["context"]) for batch in data.train_dataloader()]
    assert sizes == [16, 16, 8]


def test_a_history_of_days_is_refused_with_what_would_do() -> None:
    with pytest.raises(UserError, match=r"a history of 10 days, .* needs 11: add earlier data\."):
        data_of(weekly_panel(n_days=10))
    data_of(weekly_panel(n_days=11))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("horizon", 0), ("horizon", 91), ("batch_size", 0), ("windows_per_epoch", -1), ("n_titles", -1)],
)
def test_bad_arguments_are_refused(setting: str, value: int) -> None:
    with pytest.raises(UserError, match=f"--data.{setting} {value} must be"):
        EngagementData("generated", **{setting: value})  # type: ignore[arg-type]


def test_too_short_a_history_teaches_nothing_but_is_no_mistake() -> None:
    data = data_of(weekly_panel(n_days=20))
    batch = whole(data.training_windows())
    assert batch["target"].isnan().all()
    assert len(batch["target"]) == 6
    nothing = np.full((2, 120), NAN)
    nothing[:, -10:] = 3
    with pytest.raises(UserError, match="nothing to learn from"):
        data_of(panel_of(nothing)).train_dataloader()


def test_a_series_that_ended_long_ago_is_forecast_from_its_last_values() -> None:
    values = np.full((3, 500), NAN)
    values[0] = 5.0
    values[1, :100] = np.arange(100)  # ended 400 days ago
    windows, stale = windows_to_come(panel_of(values), HORIZON)
    assert windows.series.tolist() == [0, 1]  # the third was never known
    assert stale.tolist() == [0, 399]  # whole weeks, so that weekdays align
    context = whole(windows)["context"][1]
    assert context[-2].item() == 99
    assert (context.isfinite()).sum() == 100
    assert forecast_panel(module_of(), panel_of(values), HORIZON).stale.tolist() == [0, 399, 0]


def test_hours_that_ended_long_ago_are_moved_by_whole_weeks() -> None:
    hourly = FREQUENCIES["hourly"]  # looks back 672 hours and wants two days of them to be known
    values = np.full((3, 2000), NAN)
    values[0, : 2000 - 672 + 47] = 1.0
    values[1, : 2000 - 672 + 48] = 1.0
    values[2, :1001] = 1.0
    windows, stale = windows_to_come(panel_of(values, hourly), 48)
    assert stale.tolist() == [504, 0, 840]  # 624 or fewer may be missing; 625 are three whole weeks, 999 five
    assert windows.origin.tolist() == [2000 - 504, 2000, 2000 - 840]


def test_each_epoch_draws_anew_and_every_process_the_same() -> None:
    torch.manual_seed(5)
    ours, theirs = Draw(100, 20), Draw(100, 20)
    first = list(ours)
    assert first == list(theirs)
    assert len(set(first)) == 20
    ours.set_epoch(1)
    theirs.set_epoch(1)
    assert list(ours) == list(theirs) != first


def test_the_width_of_intervals_is_learned_from_all_of_the_history() -> None:
    data = data_of(dated_panel(1100), batch_size=10_000)
    _, earlier = data.val_dataloader()
    batch = next(iter(earlier))
    assert len(batch["origin"]) == 2048
    everything = data.training_windows()
    assert len(everything) > 3000
    for series in range(3):
        origins = batch["origin"][batch["series"] == series]
        assert origins.min() < 20
        assert origins.max() > 1000


def test_a_window_that_teaches_knows_what_comes_for_as_long_as_lately() -> None:
    values = np.ones((1, 150))
    values[0, 60:67] = NAN
    origins = data_of(panel_of(values), horizon=7).training_windows().origin.tolist()
    assert origins == [*range(14, 54), *range(67, 150 - 3 * 7 - 6)]


def test_a_short_log_still_has_its_titles(small_dataset: Callable[..., Dataset]) -> None:
    """The blocks that judge are longer than the log: titles are chosen by its first day."""
    data = EngagementData(small_dataset(n_days=40, reviews=0).name, n_titles=5)
    assert data.panel.n_steps < 3 * data.horizon
    assert len([name for name in data.panel.series_ids if name.startswith("title:")]) > 0


@pytest.mark.parametrize("asked", [None, "daily"])
def test_a_run_keeps_whether_its_steps_were_asked_for(asked: str | None, tmp_path: Path) -> None:
    EngagementData("generated", 9, asked, n_titles=3).use(weekly_panel()).save(tmp_path)
    window = json.loads((tmp_path / "window.json").read_text())
    assert window == {
        "frequency": "daily", "frequency_was_asked_for": asked is not None, "horizon": 9, "n_titles": 3,
    }  # fmt: skip


# -- forecasts -------------------------------------------------------------------------------------------------------


def test_nothing_after_an_origin_changes_the_forecast_there() -> None:
    module, origin = module_of(), 90
    panel = weekly_panel(gaps=0.1)
    rng = np.random.default_rng(1)
    later = panel.values.copy()
    later[:, origin:] = rng.permuted(later[:, origin:], axis=1) * 9
    later[1, origin:] = NAN
    before, after = (
        forecasts(module, panel_of(values), np.array([origin]), HORIZON) for values in (panel.values, later)
    )
    np.testing.assert_array_equal(before, after)
    assert np.isfinite(before).all()
    windows = [whole(windows_at(panel_of(v), HORIZON, np.array([origin]), 1, 0)) for v in (panel.values, later)]
    for ours, theirs in zip(*(module(part) for part in windows), strict=True):
        assert torch.equal(ours, theirs)  # the target in the batch is not read either
    earlier = panel.values.copy()
    earlier[:, origin - 1] = 5000
    changed = forecasts(module, panel_of(earlier), np.array([origin]), HORIZON)
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
    module.widths.copy_(torch.rand(len(LEVELS)) * 4)
    module.blend.fill_(BLENDS[seed])
    with torch.no_grad():
        quantiles, mean = module(batch_at(panel_of([context]), CONTEXT))
    assert torch.isfinite(quantiles).all()
    assert torch.isfinite(mean).all()
    assert (quantiles >= 0).all()
    assert (mean >= 0).all()
    assert (quantiles.diff(dim=-1) >= 0).all()


def near_simple() -> EngagementLSTM:
    """A fresh module: its weights are near zero, so that it trusts the experts by their evidence alone."""
    torch.manual_seed(0)
    return EngagementLSTM(hidden_size=6, horizon=HORIZON).eval()


def test_odd_series_get_sensible_forecasts() -> None:
    constant, zeros, single, unknown, burst, leap = (np.full(CONTEXT, v, float) for v in (7, 0, NAN, NAN, 10, 20))
    single[3] = 5.0
    burst[-30] = 10_000.0
    leap[-60:-40] = NAN
    found = forecast_panel(near_simple(), panel_of([constant, zeros, single, unknown, burst, leap]), HORIZON)
    q05, _, median, _, q95 = np.moveaxis(found.quantiles, -1, 0)
    assert (median[0] == 7).all()
    assert (q95[0] - q05[0] <= 1).all()
    assert (found.quantiles[1] == 0).all()  # a series where nothing ever happened
    assert (found.mean[1] == 0).all()
    assert (np.abs(median[2] - 5) <= 2).all()
    assert (q95[2] > q05[2] + 1).all()  # one value says little
    assert np.isnan(found.quantiles[3]).all()  # nothing known, nothing said
    assert (np.abs(median[4] - 10) <= 4).all()  # one day of a thousand times the mean is no new level
    assert (np.abs(median[5] - 20) <= 1).all()


def test_gaps_are_not_zeros() -> None:
    full = np.full(CONTEXT, 10.0)
    gap, zero = full.copy(), full.copy()
    gap[::2], zero[::2] = NAN, 0.0
    found = forecast_panel(near_simple(), panel_of([full, gap, zero]), HORIZON)
    assert found.mean[1] == pytest.approx(found.mean[0], rel=0.1)
    assert (found.mean[2] < 0.7 * found.mean[0]).all()


def test_counts_are_forecast_in_whole_numbers_and_amounts_are_not() -> None:
    counts = weekly_panel(2).values[:, -CONTEXT:]
    found = forecast_panel(module_of(), panel_of([counts[0], counts[0] + 0.25]), HORIZON)
    assert (found.quantiles[0] == found.quantiles[0].round()).all()
    assert (found.quantiles[1] != found.quantiles[1].round()).any()


def test_forecasts_follow_the_unit_of_the_data() -> None:
    """Seconds or hours of viewing: the same forecast in another unit."""
    values = weekly_panel(3, gaps=0.1).values[:, -CONTEXT:] + 0.5
    in_hours, in_seconds = (forecast_panel(module_of(), panel_of(values * unit), HORIZON) for unit in (1.0, 3600.0))
    # The size of the unit itself is one of the inputs, so that small counts are known as such; it moves little.
    np.testing.assert_allclose(in_seconds.quantiles / 3600, in_hours.quantiles, rtol=0.35, atol=2)


def test_plain_quantiles_are_leant_on_where_nothing_does_better() -> None:
    rng = np.random.default_rng(0)
    noise = rng.gamma(1.2, 50, CONTEXT) + 0.1
    season = 100 * np.exp(np.sin(np.arange(CONTEXT) * 2 * np.pi / 7)) + rng.normal(0, 1, CONTEXT)
    batch = batch_at(panel_of([noise, season]), CONTEXT)
    module, window = module_of(), read(batch, DAILY)
    alone, leaning = torch.zeros(()), torch.tensor(0.5)
    quantiles = []
    for module.lean in (alone, leaning):
        quantiles.append(module(batch)[0])
    moved = (quantiles[1] - quantiles[0]).abs().sum((1, 2)) / quantiles[0].sum((1, 2))
    assert moved[0] > 0.02
    assert moved[1] < 1e-3
    assert leanable(window)[0] > 0.4
    assert leanable(window)[1] < 0.02


@pytest.mark.parametrize("settings", [{}, {"n_layers": 2, "dropout": 0.3}, {"prior_steps": 0}])
def test_every_step_stays_on_one_device(
    batch: Batch, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = on_meta(EngagementLSTM(hidden_size=6, horizon=HORIZON, synthetic_share=0.0, **settings))  # type: ignore[arg-type]
    module.trainer = pl.Trainer(accelerator="cpu", barebones=True)
    window = on_meta(batch)
    with one_device():
        module.training_step(window, 0).backward()
        predicted = module.predict_step(window, 0)
        z, _ = module.net(read(window, DAILY), window["phase"])
        widened(z, module.widths)
    assert {column.device.type for column in predicted.values()} == {"meta"}


def test_predictions_name_their_series_and_step(batch: Batch) -> None:
    module = module_of()
    predicted = module.predict_step(batch, 0)
    quantiles, mean = module(batch)
    at = 5 * HORIZON + 3
    assert {len(column) for column in predicted.values()} == {len(mean) * HORIZON}
    assert predicted["series"][at] == batch["series"][5]
    assert predicted["step"][at] == batch["origin"][5] + 3
    assert predicted["mean"][at] == mean[5, 3]
    assert [predicted[name][at] for name in ("q05", "q25", "q50", "q75", "q95")] == quantiles[5, 3].tolist()


# -- training --------------------------------------------------------------------------------------------------------


def test_pinball_by_hand() -> None:
    loss = pinball(torch.tensor([[2.0]]), torch.tensor([[[1.0, 1.0, 2.0, 4.0, 4.0]]]))
    torch.testing.assert_close(loss[0, 0], torch.tensor([0.05, 0.25, 0.0, 0.5, 0.1]))


def test_unknown_targets_do_not_count(batch: Batch) -> None:
    module = module_of(dropout=0.0, synthetic_share=0.0)
    one = {name: part[:1].clone() for name, part in batch.items()}
    half = {**one, "target": one["target"].clone()}
    known = one["target"].isfinite()
    half["target"][0, 7:] = NAN
    assert module.training_step(half, 0) != module.training_step(one, 0)
    blank = {**one, "target": torch.full_like(one["target"], NAN)}
    loss = module.training_step(blank, 0)
    loss.backward()
    assert loss == 0
    assert known.any()
    assert all(torch.isfinite(p.grad).all() for p in module.net.parameters() if p.grad is not None)


def test_made_up_series_share_the_batch(batch: Batch) -> None:
    torch.manual_seed(1)
    alone, shared = (module_of(synthetic_share=s, dropout=0.0).training_step(batch, 0) for s in (0.0, 0.5))
    assert not torch.equal(alone, shared)


def test_widths_by_hand() -> None:
    """Targets from 0 to 20 in even steps around a median of 10: half of them lie within 5 of it, 90 % within 9."""
    target = torch.linspace(0, 20, 2001)
    z = torch.tensor([10.0 - 9 / 4, 10 - 5, 10, 10 + 20, 10 + 9]).expand(len(target), -1)
    factors = widths(target, z)
    torch.testing.assert_close(factors, torch.tensor([2.0, 1.0, 1.0, 0.5**0.5, 1.0]), atol=2e-3, rtol=0)
    flat = torch.full((len(target), len(LEVELS)), 10.0)
    assert widths(target, flat).tolist() == [1.0] * len(LEVELS)
    assert widened(z[0], factors).tolist() == pytest.approx([5.5, 5.5, 10, 24.142, 24.142], abs=0.05)  # in order


def fitted(data: EngagementData, epochs: int, **settings: float) -> tuple[EngagementLSTM, pl.Trainer]:
    pl.seed_everything(0, verbose=False)
    module = EngagementLSTM(frequency=data.frequency, horizon=data.horizon, **settings)  # type: ignore[arg-type]
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


def test_learns_planted_rhythms_and_beats_both_simple_methods(tmp_path: Path, marquee_home: Path) -> None:
    """The last week repeats its noise, the mean of the last month has no rhythm: whoever learns both is better."""
    data = data_of(weekly_panel(n_series=10, n_days=400), windows_per_epoch=1024)
    module, _ = fitted(data, epochs=3, hidden_size=12, learning_rate=0.005, prior_steps=30)
    report = measure(module, data, tmp_path)
    for split in ("validation", "test"):
        table = report["metrics"][split]
        simple = [table[method] for method in (NAIVE, mean_name(data.panel))]
        assert table[OURS]["relmae"] < 0.85 * min(row["relmae"] for row in simple)
        assert table[OURS]["wql"] < 0.8 * min(row["wql"] for row in simple)
        assert 0.75 < table[OURS]["coverage_90"] <= 0.99
        assert 0.3 < table[OURS]["coverage_50"] < 0.75
    assert "beats" in report["notes"][0]
    assert any("made-up series" in note for note in report["notes"])


def test_the_prior_is_made_once_and_is_not_trained_on_the_dataset(marquee_home: Path) -> None:
    data = data_of(weekly_panel(n_series=3), windows_per_epoch=64)
    module, _ = fitted(data, epochs=1, hidden_size=4, prior_steps=2)
    (kept,) = (marquee_home / "priors").glob("*.safetensors")
    written = kept.stat().st_mtime_ns
    again, _ = fitted(data, epochs=1, hidden_size=4, prior_steps=2)
    assert kept.stat().st_mtime_ns == written
    for name, value in module.prior.state_dict().items():
        assert torch.equal(value, again.prior.state_dict()[name])
    assert not torch.equal(module.prior.head.weight, module.net.head.weight)
    fitted(data, epochs=1, hidden_size=4, prior_steps=3)
    assert len(list((marquee_home / "priors").glob("*.safetensors"))) == 2


def test_without_validation_gain_the_prior_alone_speaks() -> None:
    module = module_of()
    target = torch.linspace(-1, 1, 500)
    right, wrong = (target[:, None] + offset + torch.linspace(-1, 1, 5) for offset in (0.0, 3.0))
    for prior, tuned, blend in ((right, wrong, 0.0), (wrong, right, 1.0), (right, right, 0.0)):
        module._seen.append(held_out(target, prior, tuned, recent=right, lean=0.0))
        end_validation(module)
        assert float(module.blend) == blend


def held_out(target: Tensor, prior: Tensor, tuned: Tensor, recent: Tensor, lean: float) -> dict[str, Tensor]:
    """What a step keeps of held-out windows, for `lean` the share that may be leant on the recent quantiles."""
    may = torch.full((len(target), 1), lean)
    kept = {"target": target, "prior": prior, "tuned": tuned, "recent": recent, "leanable": may}
    return kept | {"norm": torch.ones(len(target))}


def end_validation(module: EngagementLSTM) -> None:
    module.trainer = pl.Trainer(accelerator="cpu", barebones=True)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    module.on_validation_epoch_end()


@pytest.mark.parametrize(
    ("prior_is_off", "recent_is_off", "lean"), [(0.5, 0.0, 1.0), (0.0, 0.5, 0.0), (0.0, 0.0, 1.0), (0.0, 0.003, 1.0)]
)
def test_history_and_validation_decide_on_the_leaning(prior_is_off: float, recent_is_off: float, lean: float) -> None:
    """Leaning stays unless it has been wrong; one good validation block does not outweigh a history."""
    module = module_of()
    target = torch.linspace(-1, 1, 500)
    fair = target[:, None] + torch.linspace(-1, 1, 5)
    module._seen.append(held_out(target[:50], fair[:50], fair[:50], fair[:50], lean=1.0))
    module._earlier.append(held_out(target, fair + prior_is_off, fair + 9, fair + recent_is_off, lean=1.0))
    end_validation(module)
    assert float(module.lean) == lean
    assert float(module.blend) == 0.0
    assert module._earlier == []
    end_of_next = module._history
    module._seen.append(held_out(target[:50], fair[:50], fair[:50], fair[:50], lean=1.0))
    end_validation(module)
    assert module._history is end_of_next
    assert float(module.lean) == lean


def test_the_check_before_training_decides_on_nothing() -> None:
    """It sees a few batches alone; the history is read as a whole afterwards."""
    module = module_of()
    target = torch.linspace(-1, 1, 50)
    wrong = target[:, None] + 3 + torch.linspace(-1, 1, 5)
    for kept in (module._seen, module._earlier):
        kept.append(held_out(target, wrong, wrong, target[:, None].expand(-1, 5), lean=1.0))
    module.trainer = pl.Trainer(accelerator="cpu", barebones=True)
    module.trainer.sanity_checking = True
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    module.on_validation_epoch_end()
    assert module._history is None
    assert (module._seen, module._earlier) == ([], [])
    assert torch.equal(module.widths, torch.ones(len(LEVELS)))


def test_what_corrects_the_intervals_is_what_would_be_served() -> None:
    """On validation the blend, on the history the prior, both leant on the recent quantiles."""
    target = torch.linspace(-1, 1, 500)
    steps = torch.linspace(-1, 1, 5)
    right, wrong, narrow = target[:, None] + steps, target[:, None] + 3 + steps, target[:, None] + 0.6 + 0.1 * steps
    module = module_of()
    module._seen.append(held_out(target, prior=wrong, tuned=right, recent=wrong, lean=0.0))
    module._earlier.append(held_out(target, prior=narrow, tuned=wrong, recent=wrong, lean=0.0))
    end_validation(module)
    assert float(module.blend) == 1.0
    torch.testing.assert_close(module.widths, widths(torch.cat([target, target]), torch.cat([right, narrow])))

    module = module_of()
    module._seen.append(held_out(target, prior=wrong, tuned=narrow, recent=right, lean=1.0))
    module._earlier.append(held_out(target, prior=wrong, tuned=wrong, recent=narrow, lean=1.0))
    end_validation(module)
    assert float(module.lean) == 1.0
    assert float(module.blend) == 0.0  # under a full leaning both networks are the same
    torch.testing.assert_close(module.widths, widths(torch.cat([target, target]), torch.cat([right, narrow])))


def test_the_mean_is_blended_as_the_quantiles_are(batch: Batch) -> None:
    module = module_of()
    module.blend.fill_(0.0)
    _, before = module(batch)
    with torch.no_grad():
        module.net.head.bias[-1] += 2.0
    torch.testing.assert_close(module(batch)[1], before)
    module.blend.fill_(1.0)
    assert (module(batch)[1] > 1.2 * before).any()


def test_both_networks_begin_with_the_prior_and_short_horizons_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def weights(frequency: object, horizon: int, *rest: object) -> dict[str, Tensor]:
        asked.append(horizon)
        return {name: torch.full_like(value, 0.125) for name, value in module_of().net.state_dict().items()}

    monkeypatch.setattr("forecasting.engagement.prior_weights", weights)
    for horizon in (7, 90):
        module = module_of(horizon=horizon)
        module.load_prior(torch.device("cpu"))
        for net in (module.net, module.prior):
            assert all((value == 0.125).all() for value in net.state_dict().values())
    assert asked == [DAILY.horizon, 90]


def test_a_checkpoint_is_plain_weights_and_keeps_the_corrections(tmp_path: Path, marquee_home: Path) -> None:
    data = data_of(weekly_panel(n_series=3, n_days=100), windows_per_epoch=64)
    module, trainer = fitted(data, epochs=1, hidden_size=4, prior_steps=2)
    assert not torch.equal(module.widths, torch.ones(len(LEVELS)))
    module.blend.fill_(0.75)
    module.lean.fill_(0.25)
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    loaded = EngagementLSTM.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu", weights_only=True).eval()
    batch = next(iter(data.predict_dataloader()))
    for ours, theirs in zip(loaded(batch), module(batch), strict=True):
        assert torch.equal(ours, theirs)
    fresh = EngagementLSTM(hidden_size=4)
    fresh.warm_start(loaded)
    assert torch.equal(fresh.widths, module.widths)
    assert (float(fresh.blend), float(fresh.lean)) == (0.75, 0.25)


@pytest.mark.parametrize("name", list(FREQUENCIES))
def test_every_frequency_can_be_learned_and_forecast(name: str, marquee_home: Path) -> None:
    frequency = FREQUENCIES[name]
    n = 2 * frequency.seasons[-1] + 4 * frequency.horizon
    season = 1 + np.arange(n) % frequency.seasons[0]
    panel = Panel(("a", "b"), 1000 * frequency.size, frequency, np.stack([5.0 * season, 100.0 + season]))
    data = data_of(panel, horizon=None, windows_per_epoch=32, batch_size=16)
    module, _ = fitted(data, epochs=1, hidden_size=4, prior_steps=1)
    found = forecast_panel(module, panel, data.horizon)
    assert found.quantiles.shape == (2, frequency.horizon, len(LEVELS))
    assert np.isfinite(found.quantiles).all()
    assert panel.dates(n, n + 1)[0] > panel.dates(n - 1, n)[0]
