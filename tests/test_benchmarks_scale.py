"""The generated interactions have a long tail and histories in time; the table is measured, not told."""

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.scale import generated
from recsys.history_data import HistoryData


def test_generated_interactions_look_like_a_service(marquee_home) -> None:
    dataset = generated(20_000)
    frame = dataset.interactions()
    assert 0.85 * 20_000 < len(frame) < 1.15 * 20_000
    assert not frame.duplicated(["user_id", "item_id"]).any()
    counts = frame["item_id"].value_counts().to_numpy()
    assert counts[: len(counts) // 10].sum() > 0.3 * len(frame)
    assert counts[len(counts) // 2 :].sum() < 0.25 * len(frame)
    data = HistoryData("generated")
    data.load()
    lengths = data.everything.lengths
    assert lengths.max() > 2 * np.median(lengths)
    gaps = np.diff(data.everything.times)[np.diff(data.everything.users) == 0] / 60e6
    assert (gaps >= 1).all()
    assert np.median(gaps) <= 2  # a visit holds many titles
    assert gaps.max() > 1000  # and days pass between visits


def test_the_table_holds_both_rates_and_their_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
             "--model.hidden", "8", "--model.size", "8", "--model.search", "false"]  # fmt: skip
    assert main(["scale", "--interactions", "3000", *flags]) == 0
    *_, header, row = capsys.readouterr().out.rstrip().splitlines()
    assert header.split() == ["interactions", "members", "titles", "fit", "s", "fit", "MiB", "members/s",
                              "implicit", "members/s", "ratio"]  # fmt: skip
    figures = [float(part.replace(",", "")) for part in row.split()[-8:]]
    assert figures[7] == pytest.approx(figures[5] / figures[6], rel=0.01)
    assert min(figures) > 0


@pytest.mark.parametrize("numbers", ["many", "10", "100000,", "-5"])
def test_how_many_must_be_numbers(numbers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", f"--interactions={numbers}"]) == 2
    assert "1,000 or more" in capsys.readouterr().err
