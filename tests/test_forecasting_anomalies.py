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
from forecasting.anomalies import Expected, anomalies, drivers, expected, once_in, sentence
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
    module = EngagementLSTM(hidden_size=6).eval()
    module.lean.fill_(0.0)
    return module


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
    narrow = np.expm1(np.array([[2.0] * 5] * 2)), np.expm1(np.array([2.05, 1.95]))
    np.testing.assert_allclose(once_in(*narrow), [100, -100])  # a constant history is no proof of a constant future


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
    steps = [line for line in out.splitlines() if line.startswith("20")]
    assert all("  total: " in line for line in steps)
    assert f"{len(steps)} of the last 56 days of total were rarer than once in 60; " in out
    assert int(out.rpartition("% of all values")[0].rpartition(" ")[2]) < 50
    assert main(["anomalies", "--data.dataset", "small", "--series", "title:i3", "--once-in", "20"]) == 0
    out = capsys.readouterr().out
    assert all("  title:i3: " in line for line in out.splitlines() if line.startswith("20"))
    assert f"{day:%Y-%m-%d}" in out
    assert "of title:i3 were rarer than once in 20; " in out
    assert main(["anomalies", "--data.dataset", "small", "--steps", "5"]) == 0
    out = capsys.readouterr().out
    assert f"{day:%Y-%m-%d}" not in out  # the burst was before those
    assert "of the last 5 days" in out
    assert main(["anomalies", "--data.dataset", "small", "--once-in", "2e6"]) == 0
    assert capsys.readouterr().out.startswith("0 of the last 56 days of total")
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


def of_values(actual: list[list[float]]) -> Expected:
    """Quantiles 1, 2, 3, 4 and 5 and a mean of 3 at every step."""
    values = np.array(actual)
    quantiles = np.broadcast_to(np.arange(1.0, 6), (*values.shape, 5))
    return Expected(quantiles, np.full(values.shape, 3.0), values)


def test_drivers_are_the_three_that_moved_most_with_the_total() -> None:
    ids = ("genre:A", "total", "genre:B", "genre:C", "genre:D", "genre:E", "title:1")
    found = of_values([[4, 3], [40, 1], [13, 2], [0, 9], [23, 1], [9, 3], [30, 3]])
    assert drivers(ids, found, 0, "genre:") == [("genre:D", 20.0), ("genre:B", 10.0), ("genre:E", 6.0)]
    assert drivers(ids, found, 1, "genre:") == [("genre:D", -2.0), ("genre:B", -1.0)]  # the total fell


def test_the_latest_is_first_and_of_a_step_the_rarest() -> None:
    panel = Panel(IDS[:3], 19_723, FREQUENCIES["daily"], np.ones((3, 10)))
    found = of_values([[3, 8, 3], [0, 3, 9], [3, 90, 99]])
    table = anomalies(panel, found, rarer_than=21)
    assert table["series_id"].tolist() == ["genre:B", "genre:A", "genre:B", "total", "genre:A"]
    assert table["date"].dt.day.tolist() == [10, 10, 9, 9, 8]
    assert (table["once_in"] < 0).tolist() == [False] * 4 + [True]
    assert table["genres"].tolist() == [[], [], [], [("genre:B", 87.0)], []]
    rarer = anomalies(panel, found, rarer_than=table["once_in"][3] + 1)
    assert rarer["series_id"].tolist() == ["genre:B", "genre:A", "genre:B"]
    words = [sentence(row, "day") for row in table.to_dict("records")]
    assert words[0] == "genre:B: 99, expected 3 (1 to 5); so much comes less than once in 1,000 days"
    assert words[4].startswith("genre:A: 0, expected 3 (1 to 5); so little comes once in ")
