"""Words, moods, series and verdicts: what the pages say."""

import doctest
import io
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit import config

from dashboard import charts, learning, moods, series, shelf, uploads
from data import headline, words
from data.dataset import Dataset
from data.errors import UserError
from data.headline import verdict
from forecasting.series import load_panel
from recsys.viewing import viewing


@pytest.mark.parametrize("module", [words, moods, series, learning, headline])
def test_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "p", "text"),
    [
        ("positive", 0.94, "Positive (94 %)"),
        ("negative", 0.08, "Negative (92 %)"),
        ("neutral", 0.52, "Mixed (52 % positive)"),
        ("positive", 1.0, "Positive (99 %)"),
        (None, float("nan"), "Not scored"),
    ],
)
def test_moods_in_words_and_number(label: str | None, p: float, text: str) -> None:
    assert moods.mood_words(label, p) == text


def test_a_badge_never_promises_certainty() -> None:
    percents = [shelf.match_percent(match) for match in (1.0, 0.995, 0.5, 0.0, None, float("nan"))]
    assert percents == [99, 99, 50, 1, None, None]


def test_risk_bands_are_the_scorers_own_or_cut_in_thirds() -> None:
    frame = pd.DataFrame({"p_return": [0.1, 0.5, 0.9, 0.9], "band": [None, None, None, "high"]})
    assert moods.risk_bands(frame).tolist() == ["high", "medium", "low", "high"]
    assert moods.risk_words("high") == "Likely to leave"
    assert moods.risk_words("about_to_return") == "About to return"


def frame(*events: tuple[str, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
    times = pd.to_datetime(table["timestamp"], utc=True).dt.as_unit("us")
    return table.assign(timestamp=times, rating=np.nan, kind="watch")


def test_a_titles_days_by_hand() -> None:
    seen = viewing(
        frame(("a", "x", "2024-01-01 10:00"), ("a", "y", "2024-01-01 23:59"), ("b", "x", "2024-01-03 00:00")),
        pd.Timestamp("2024-01-05 12:00", tz="UTC"),
    )
    past = series.of_title(seen, "x")
    assert past["value"].tolist() == [1, 0, 1, 0, 0]
    assert past["date"].iloc[-1] == pd.Timestamp("2024-01-05", tz="UTC")
    assert series.window(past, 2)["value"].tolist() == [0, 0]
    assert series.window(past, 2, back=2)["value"].tolist() == [0, 1]


def test_series_of_the_panel_have_names_and_known_days_only(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset()
    panel = load_panel(data)
    past = series.of_panel(panel, "total")
    assert past["value"].notna().all()
    assert past["value"].sum() <= data.rows["interactions"]
    assert series.of_panel(panel, "nothing").empty
    catalogue = pd.DataFrame({"shown_title": ["The Title 0"]}, index=pd.Index(["i0"], name="item_id"))
    assert series.name("title:i0", catalogue) == "The Title 0"
    assert series.ordered(["title:i0", "genre:Drama", "active_members", "total", "total"]) == [
        "total", "active_members", "genre:Drama", "title:i0",
    ]  # fmt: skip


def test_change_has_a_sign_and_something_to_compare_with() -> None:
    assert series.change_text(112, 100, "the 7 days before") == "+12 % on the 7 days before"
    assert series.change_text(5, float("nan"), "the 7 days before") == "the 7 days before are not known"


REPORT = {
    "headline": {"metric": "relmae", "higher_is_better": False, "split": "test", "ours": "LSTM"},
    "metrics": {
        "test": {"LSTM": {"relmae": 0.9}, "naive": {"relmae": 1.0}, "ARIMA": {"relmae": 0.8}, "gap": {"relmae": None}}
    },
}


def test_verdict_compares_with_the_best_baseline() -> None:
    text = verdict(REPORT)
    assert text == "LSTM: relMAE 0.900 on the test split, 12.5 % worse than the best baseline, ARIMA (0.800)."
    better = {**REPORT, "headline": {**REPORT["headline"], "ours": "ARIMA"}}
    assert "11.1 % better than the best baseline, LSTM" in verdict(better)
    parts = {**REPORT, "headline": {**REPORT["headline"], "parts": ["ARIMA"]}}
    assert "10.0 % better than the best baseline, naive" in verdict(parts)
    assert verdict({}) == "This run has no headline figure."


def test_curves_join_training_and_validation(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(
        "epoch,step,train_loss_step,train_loss_epoch,val_loss,val_ndcg@10\n"
        "0,10,0.9,,,\n0,20,0.8,,,\n0,20,,0.85,,\n0,20,,,0.7,0.1\n1,40,,0.6,,\n1,40,,,0.5,0.2\n"
    )
    found = learning.curves(learning.read_curves(path))
    assert list(found) == ["loss", "ndcg@10"]
    loss = found["loss"]
    assert loss[loss["curve"] == "training"]["value"].tolist() == [0.85, 0.6]
    assert loss[loss["curve"] == "validation"]["value"].tolist() == [0.7, 0.5]
    assert learning.curves(learning.read_curves(tmp_path / "missing.csv")) == {}


def test_every_chart_is_a_valid_specification_in_both_themes() -> None:
    dates = pd.date_range("2024-01-01", periods=5, tz="UTC")
    past = pd.DataFrame({"date": dates, "value": range(5)})
    ahead = pd.DataFrame({"date": dates, **dict.fromkeys(("q05", "q25", "q50", "q75", "q95", "mean"), 1.0)})
    curves = pd.DataFrame({"epoch": [0, 1], "value": [1.0, 0.5], "curve": ["training", "validation"]})
    for dark in (True, False):
        drawn = [
            charts.fan_chart(past, ahead, title="All", unit="events", dark=dark),
            charts.fan_chart(past, pd.DataFrame(), title="All", unit="events", dark=dark),
            charts.fan_chart(past.head(0), ahead, title="All", unit="events", dark=dark),
            charts.dot_plot(REPORT["metrics"]["test"], "LSTM", "relmae", better="lower", split="test", dark=dark),
            charts.learning_curves(curves, title="loss", unit="loss", dark=dark),
            charts.calibration([{"predicted": 0.1, "observed": 0.2, "count": 4}], title="x", dark=dark),
            charts.histogram(pd.Series([0.0, 0.5, 1.0]), title="x", unit="members", dark=dark),
        ]
        for chart in drawn:
            assert "config" in charts.themed(chart, dark).to_dict()


def lines_of(chart: Any) -> list[str]:
    title = chart.to_dict()["title"]
    return [*title["text"], *title["subtitle"]]


def test_headings_are_cut_into_lines_that_a_phone_has_room_for() -> None:
    dates = pd.date_range("2024-09-01", periods=5, tz="UTC")
    past = pd.DataFrame({"date": dates, "value": range(5)})
    ahead = pd.DataFrame({"date": dates, **dict.fromkeys(("q05", "q25", "q50", "q75", "q95", "mean"), 1.0)})
    name = "Adventures of Priscilla, Queen of the Desert: ratings per day"
    figures = {"ours": {"lift@10%": 1.0}}
    drawn = [
        charts.fan_chart(past, ahead, title=name, unit="ratings per day", dark=True),
        charts.dot_plot(
            figures, "ours", "lift@10%", better="higher", split="test, new members, first 10 picks", dark=True
        ),
        charts.calibration([{"predicted": 0.1, "observed": 0.2, "count": 4}], title="Against observed", dark=True),
        charts.histogram(pd.Series([0.5]), title="Chance to come back within 30 days", unit="members", dark=True),
    ]
    for chart in drawn:
        assert all(len(line) <= 48 for line in lines_of(chart))
    assert " ".join(lines_of(drawn[0])) == (
        f"{name} History to 5 Sep 2024, forecast to 5 Sep 2024 Line: median; bands: 50\u00a0% and 90\u00a0%"
    )


def test_names_of_methods_stand_above_their_rows() -> None:
    """However long a name, the dots and the legend have the whole width."""
    figures = {"a name that is much longer than a phone is wide": {"mae": 2.0}, "ours": {"mae": 1.0}, "gap": {}}
    chart = charts.dot_plot(figures, "ours", "mae", better="lower", split="test", dark=True)
    assert lines_of(chart) == ["MAE, lower is better", "Split: test"]
    for layer in chart.to_dict()["layer"]:
        y, x = layer["encoding"]["y"], layer["encoding"]["x"]
        assert y["sort"] == ["ours", "a name that is much longer than a phone is wide"]
        assert (y["axis"]["labelAlign"], y["axis"]["labelPadding"], y["title"], x["title"]) == ("left", 0, None, None)
        assert y["axis"]["labelOffset"] < 0
    undirected = charts.dot_plot(figures, "ours", "mae", better="", split="test", dark=True)
    assert lines_of(undirected)[0] == "MAE"


def test_epochs_are_counted_from_one_and_counts_in_whole_numbers() -> None:
    curves = pd.DataFrame({"epoch": [0, 1], "value": [1.0, 0.5], "curve": ["training", "training"]})
    (rows,) = charts.learning_curves(curves, title="loss", unit="loss", dark=True).to_dict()["datasets"].values()
    assert [row["epoch"] for row in rows] == [1, 2]
    dates = pd.date_range("2024-01-01", periods=2, tz="UTC")
    for values, step in (([0, 1], 1), ([0.0, 0.5], None), ([2.0, 2.5], None)):
        past = pd.DataFrame({"date": dates, "value": values})
        chart = charts.fan_chart(past, pd.DataFrame(), title="x", unit="x", dark=True).to_dict()
        assert chart["layer"][0]["encoding"]["y"]["axis"].get("tickMinStep") == step


def test_the_histogram_holds_everyone() -> None:
    spec = charts.histogram(pd.Series([0.0, 0.05, 0.5, 1.0]), title="x", unit="members", dark=True).to_dict()
    (rows,) = spec["datasets"].values()
    assert [row["count"] for row in rows] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.csv", "items.csv"),
        ("/etc/passwd", "items.csv"),
        ("..\\..\\boot.ini", "items.csv"),
        ("x.%2e./evil", "items.csv"),
        ("x.parquet", "items.parquet"),
        ("x.PARQUET\0.sh", "items.csv"),
        ("x\0y.tsv", "items.tsv"),
        ("x." + "csv" * 5000, "items.csv"),
        ("a" * 5000 + ".csv.gz", "items.gz"),
        ("x.sh", "items.csv"),
        ("\udcff.", "items.csv"),
        ("", "items.csv"),
    ],
)
def test_uploads_take_no_path_from_outside(marquee_home: Path, name: str, kept: str) -> None:
    folder = uploads.new_folder()
    path = uploads.keep(folder, "items", name, io.BytesIO(b"a"))
    assert path == folder / kept
    assert [p for p in marquee_home.rglob("*") if p.is_file()] == [path]
    assert path.read_bytes() == b"a"


@pytest.fixture
def _small_limit() -> Iterator[None]:
    before = config.get_option("server.maxUploadSize")
    config.set_option("server.maxUploadSize", 1)
    yield
    config.set_option("server.maxUploadSize", before)


@pytest.mark.usefixtures("_small_limit")
def test_uploads_have_a_limit_each_and_together(marquee_home: Path) -> None:
    folder, largest = uploads.new_folder(), b"x" * (1 << 20)
    with pytest.raises(UserError, match="has 2 MB, more than the 1 MB that a file may have"):
        uploads.keep(folder, "items", "a.csv", io.BytesIO(largest + b"x"))
    for _ in range(2):  # the second takes the place of the first
        uploads.keep(folder, "items", "a.csv", io.BytesIO(largest))
    uploads.keep(folder, "users", "a.csv", io.BytesIO(largest))
    with pytest.raises(UserError, match="have 3 MB together, more than the 2 MB of one import"):
        uploads.keep(folder, "reviews", "a.csv", io.BytesIO(largest))
    assert sorted(path.name for path in folder.iterdir()) == ["items.csv", "users.csv"]


def test_an_upload_leaves_room_on_the_disk(marquee_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = uploads.new_folder()
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "SPARE_BYTES", 1 << 60)
        with pytest.raises(
            UserError, match=r"needs [\d,]+ MB of disk with the table made of it, and [\d,]+ MB are free"
        ):
            uploads.keep(folder, "items", "a.csv", io.BytesIO(b"x"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as if the disk were full after a thousand bytes
    try:
        with pytest.raises(UserError, match="cannot be kept"):
            uploads.keep(folder, "items", "a.csv", io.BytesIO(b"x" * 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(folder.iterdir())


def test_old_uploads_go(marquee_home: Path) -> None:
    import os

    old, seen = uploads.new_folder(), uploads.new_folder()
    past = time.time() - uploads.KEPT_SECONDS - 60
    for folder in (old, seen):
        os.utime(folder, (past, past))
    uploads.still_used(seen)
    uploads.new_folder()
    assert not old.exists()
    assert seen.exists()
