"""Forecasting many series beside AutoETS: the same series, and what both say of them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import series as benchmark
from benchmarks.__main__ import main
from forecasting.engagement import EngagementLSTM


@pytest.mark.parametrize("steps", ["60", "28"])
def test_the_table_has_both_and_their_rates(
    steps: str, marquee_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "EngagementLSTM", partial(EngagementLSTM, hidden_size=4, prior_steps=2))
    argv = ["series", "--series", "30", "--steps", steps, "--horizon", "7", "--sample", "6"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    for words in (f"the first 6 of 30 daily series of {steps} days, 7 days ahead", "LSTM", "AutoETS", "times as many"):
        assert words in printed


def test_series_are_counts_and_the_same_every_time() -> None:
    panel = benchmark.generated(40, 100)
    assert (panel.values >= 0).all()
    assert (panel.values == panel.values.round()).all()
    np.testing.assert_array_equal(panel.values, benchmark.generated(40, 100).values)
    assert panel.values.std(axis=1).min() > 0


@pytest.mark.parametrize("flag", ["series", "steps", "horizon", "sample"])
def test_bad_numbers_are_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["series", f"--{flag}", "0"]) == 2
    assert f"--{flag} 0 must be at least" in capsys.readouterr().err
