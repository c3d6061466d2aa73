"""Unusual days: how rare by hand, nothing of the day itself in what was expected of it, and who drove it."""

import doctest

import numpy as np
import pandas as pd
import pytest
import torch

from data.dataset import Source, write_dataset
from data.errors import UserError
from forecasting import anomalies as module_under_test
from forecasting.__main__ import main
from forecasting.anomalies import anomalies, drivers, expected, once_in
from forecasting.engagement import EngagementLSTM
from forecasting.frequency import FREQUENCIES
from forecasting.series import Panel

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = ("total", "genre:A", "genre:B", "title:1", "title:2")


def panel_of(n_days: int = 150) -> Panel:
    rng = np.random.default_rng(0)
    a, b = rng.poisson(60, n_days), rng.poisson(40, n_days)
    titles = rng.poisson(5, (2, n_days))
    return Panel(IDS, 19_723, FREQUENCIES["daily"], np.stack([a + b, a, b, *titles]).astype(float))


def fresh() -> EngagementLSTM:
    """Near the simple methods, which is all that Poisson counts around a level need."""
    torch.manual_seed(0)
    return EngagementLSTM(hidden_size=6).eval()


def test_doctests() -> None:
    result = doctest.testmod(module_under_test)
    assert result.attempted >= 2
    assert result.failed == 0


def test_rarity_by_hand() -> None:
    """Quantiles whose logarithms lie a unit apart: another unit beyond makes it five times as rare as once in 20."""
    quantiles = np.expm1(np.array([1.0, 2, 3, 4, 5]))
    values = np.expm1(np.array([3.0, 5, 6, 7, 1, 0, np.nan]))
    found = once_in(np.broadcast_to(quantiles, (7, 5)), values)
    np.testing.assert_allclose(found, [0, 0, 100, 500, 0, -100, np.nan])
    assert once_in(np.zeros((1, 5)), np.array([1e9]))[0] == 1e6  # a tail says nothing about more


def test_ordinary_days_are_not_reported_and_a_burst_is() -> None:
    panel = panel_of()
    found = anomalies(panel, expected(fresh(), panel, 56))
    assert len(found[found["series_id"] == "total"]) <= 2
    panel.values[0, 120] += 400
    panel.values[2, 120] += 400
    panel.values[4, 120] += 30
    panel.values[3, 120] = 0
    found = anomalies(panel, expected(fresh(), panel, 56))
    day = found[(found["series_id"] == "total") & (found["date"] == panel.dates(120, 121)[0])]
    assert len(day) == 1
    row = day.iloc[0]
    assert row["value"] == panel.values[0, 120]
    assert row["once_in"] > 1000
    assert row["q05"] < row["q50"] < row["q95"] < row["value"]
    assert row["genres"][0][0] == "genre:B"
    assert [name for name, _ in row["titles"]] == ["title:2"]  # the other fell
    assert row["genres"][0][1] == pytest.approx(400, abs=30)
    assert found["date"].is_monotonic_decreasing
    assert (found.loc[found["series_id"] != "total", "genres"].map(len) == 0).all()


def test_what_is_expected_of_a_day_knows_nothing_of_it() -> None:
    panel, other = panel_of(), panel_of()
    other.values[:, 130:] *= 50
    first, second = (expected(fresh(), p, 56) for p in (panel, other))
    at = 130 - (150 - 56)
    np.testing.assert_array_equal(first.quantiles[:, : at + 1], second.quantiles[:, : at + 1])
    assert (first.quantiles[:, at + 1 :] != second.quantiles[:, at + 1 :]).any()
    np.testing.assert_array_equal(second.actual[:, at], other.values[:, 130])


def test_unknown_days_are_no_anomalies() -> None:
    panel = panel_of()
    panel.values[1, 100:130] = np.nan
    found = expected(fresh(), panel, 56)
    assert np.isnan(once_in(found.quantiles, found.actual)[1, 6:36]).all()
    assert drivers(IDS, found, 10, "genre:") is not None


def test_a_history_of_a_week_is_too_short() -> None:
    with pytest.raises(UserError, match="A history of 7 days is too short"):
        expected(fresh(), panel_of(7), 10)


def test_the_command_prints_what_drove_a_burst(small_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    data = small_dataset(reviews=0)
    events = data.interactions()
    day = data.as_of.normalize() - pd.Timedelta(days=9)
    burst = pd.DataFrame({"user_id": [f"u{i % 60}" for i in range(900)], "item_id": "i3", "kind": "watch"})
    burst["timestamp"] = day + pd.to_timedelta(np.arange(900), unit="min")
    tables = {"interactions": pd.concat([events, burst], ignore_index=True), "items": data.items()}
    write_dataset("small", tables, sources=[Source("generated", "generated")], replace=True)
    fit = ["fit", "--config", "forecasting/configs/engagement-quick.yaml", "--data.dataset", "small"]
    tiny = ["--trainer.max_epochs=1", "--model.prior_steps=2", "--trainer.accelerator=cpu"]
    assert main([*fit, *tiny, "--data.windows_per_epoch=64", "--trainer.enable_progress_bar=false"]) == 0
    capsys.readouterr()
    assert main(["anomalies", "--data.dataset", "small"]) == 0
    out = capsys.readouterr().out
    assert f"{day:%Y-%m-%d}  total: " in out
    assert "title:i3 +9" in out or "title:i3 +8" in out
    assert "lay outside their 90 % interval" in out
    for flags, words in (
        (["--series", "genre:Nonsense"], "no such series"),
        (["--steps", "0"], "--steps 0 must be at least 1"),
        (["--data.dataset", "missing"], "missing"),
    ):
        assert main(["anomalies", "--data.dataset", "small", *flags]) == 2
        assert words in capsys.readouterr().err


def test_without_a_run_the_command_says_what_to_do(small_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(reviews=0)
    assert main(["anomalies", "--data.dataset", "small"]) == 2
    assert "python -m forecasting fit" in capsys.readouterr().err
