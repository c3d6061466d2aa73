"""The backtest: figures by hand, results that are kept, and forecasts that know nothing of what came after them."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data import evaluation, home
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.errors import UserError
from forecasting import backtest, metrics
from forecasting.__main__ import main
from forecasting.accuracy import (
    OURS,
    Table,
    actuals,
    as_quantiles,
    coverage_by_origin,
    level_of,
    losses,
    tables_of,
    verdict,
)
from forecasting.baselines import base_rate, gradient_boosting, logistic_regression, mean_of_last, seasonal_naive
from forecasting.classical import ARIMA, COMBINED, ETS, NAIVE, THETA, Answer, classical, recent_mean
from forecasting.engagement import EngagementLSTM
from forecasting.engagement_data import EngagementData
from forecasting.evaluate import LOGISTIC, forecasts, probabilities, simple
from forecasting.forecast import Forecast
from forecasting.forecaster import LEVELS, MEDIAN
from forecasting.frequency import FREQUENCIES, Frequency
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import Cases, RetentionData, load_activity
from forecasting.series import Panel, load_panel

pytestmark = pytest.mark.usefixtures("one_thread")

NAN = np.nan
SOURCES = [Source("generated", "generated")]
TINY = ("--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--model.hidden_size", "4")
SHORT = (*TINY, "--model.prior_steps", "2", "--data.windows_per_epoch", "64")  # for the engagement model
MEAN_28 = "mean of the last 28 days"
DAILY, WEEKLY = FREQUENCIES["daily"], FREQUENCIES["weekly"]


def panel_of(values: list[list[float]], ids: tuple[str, ...], frequency: Frequency = DAILY) -> Panel:
    return Panel(ids, 19_723, frequency, np.array(values, float))


# -- figures by hand -------------------------------------------------------------------------------------------------


def test_actuals_end_where_they_are_not_known() -> None:
    panel = panel_of([[0, 1, 2, 3, NAN, 5]], ("total",))
    found = actuals(panel, np.array([1, 3, 5]), horizon=3, until=6)
    np.testing.assert_array_equal(found, [[[1, 2, 3], [3, NAN, 5], [5, NAN, NAN]]])
    np.testing.assert_array_equal(actuals(panel, np.array([1]), horizon=3, until=3), [[[1, 2, NAN]]])


def test_simple_methods_see_what_was_before_each_origin() -> None:
    values = np.arange(60.0) % 7 + 10
    values[40:] = 1000
    found = simple(panel_of([values.tolist()], ("total",)), np.array([35, 40, 41]), horizon=8)
    # Step 35 is a first day of the week (35 % 7 == 0), 40 the sixth; step 41 has seen one thousand.
    found = {method: quantiles[..., MEDIAN] for method, quantiles in found.items()}
    assert found[NAIVE][0, 0].tolist() == [10, 11, 12, 13, 14, 15, 16, 10]
    assert found[NAIVE][0, 1].tolist() == [15, 16, 10, 11, 12, 13, 14, 15]
    assert found[NAIVE][0, 2].tolist() == [16, 10, 11, 12, 13, 14, 1000, 16]
    assert found[MEAN_28][0, 0].tolist() == [13] * 8
    assert found[MEAN_28][0, 2] == pytest.approx([(27 * 13 - 15 + 13 + 1000) / 28] * 8, abs=0.2)


def test_simple_methods_take_gaps_for_gaps_and_nothing_for_zero() -> None:
    history = np.array([[8, NAN, 4], [NAN, NAN, NAN], [7, NAN, NAN]])
    assert mean_of_last(history, horizon=1, steps=2).tolist() == [[4], [0], [0]]
    assert mean_of_last(history, horizon=1, steps=3).tolist() == [[6], [0], [7]]
    assert seasonal_naive(history, horizon=3, season=2).tolist() == [[0, 4, 0], [0, 0, 0], [0, 7, 0]]


def test_levels_of_the_hierarchy() -> None:
    assert [level_of(s) for s in ("total", "genre:Drama", "title:7", "active_members", "plays", "segment:a=b")] == [
        *("service", "genres", "titles", "service", "service", "segments")
    ]


def test_tables_by_hand() -> None:
    """Weekly steps, so that the season is one step and MASE is scaled by the mean absolute change."""
    panel = panel_of(
        [[1, 2, 3, 4, 5, 7], [8, 8, 8, 8, 6, NAN], [0, 2, 0, 2, 9, 9], [1, 1, 1, 1, 1, 1]],
        ("total", "genre:X", "title:a", "title:unforecast"),
        WEEKLY,
    )
    origins = np.array([4])
    actual = actuals(panel, origins, 2, 6)
    widths = np.array([-2.0, -1, 0, 1, 2])
    ours = np.array([[5.0, 6], [7, 7], [9, 9], [NAN, NAN]])[:, None, :, None] + widths
    answers = {OURS: ours} | {("mean" if "mean" in m else m): q for m, q in simple(panel, origins, 2).items()}
    found = tables_of(panel, answers, NAIVE, actual, start=4, seconds={OURS: 1.5})
    assert list(found) == ["", "service", "genres", "titles"]
    assert {name: table[OURS]["series"] for name, table in found.items()} == dict(zip(found, [3, 1, 1, 1], strict=True))
    service, genres, titles = (found[name] for name in ("service", "genres", "titles"))
    # total: naive 4, 4 (errors 1, 3), ours 5, 6 (errors 0, 1), changes of 1 before the origin
    assert service[OURS]["relmae"] == pytest.approx(0.5 / 2)
    assert service[OURS]["mase"] == pytest.approx(0.5)
    assert service[OURS]["smape"] == pytest.approx((0 + 2 / 13) / 2)
    assert service[OURS]["coverage_50"] == 1.0
    assert service[NAIVE]["relmae"] == pytest.approx(1.0)
    assert service[NAIVE]["mase"] == pytest.approx(2.0)
    assert service[NAIVE]["wql"] == pytest.approx((1 + 3) / (5 + 7))  # of a point: errors over values
    assert service["mean"]["relmae"] == pytest.approx(((5 - 2.5) + (7 - 2.5)) / 2 / 2)
    # genre: the unknown step counts for nobody; a history without change has no scale
    assert genres[OURS]["relmae"] == pytest.approx(1 / 2)
    assert genres[OURS]["mase"] is None
    assert genres[OURS]["coverage_50"] == 1.0
    # title: ours is exact
    assert titles[OURS]["smape"] == 0
    assert titles[OURS]["coverage_90"] == 1.0
    assert "coverage_90" not in titles[NAIVE]  # a point has no interval
    everything = found[""]
    assert everything[OURS]["seconds"] == 1.5
    assert everything[NAIVE]["relmae"] == pytest.approx(1.0)
    ratios = [0.25, 0.5, 1e-9]
    assert everything[OURS]["relmae"] == pytest.approx(np.prod(ratios) ** (1 / 3))
    levels = np.array(LEVELS)
    expected = metrics.weighted_quantile_loss([[5, 7], [6, NAN], [9, 9]], np.nan_to_num(ours[:3, 0]), levels)
    assert everything[OURS]["wql"] == pytest.approx(expected)


def test_each_interval_has_its_own_coverage() -> None:
    panel = panel_of([[1, 2, 3, 4, 5, 5, 5, 5]], ("total",), WEEKLY)
    ours = np.broadcast_to([2.0, 4, 5, 6, 8], (1, 1, 4, len(LEVELS)))
    actual = np.array([[[4.0, 7, 8, 9]]])
    table = tables_of(panel, {OURS: ours, NAIVE: as_quantiles(np.full((1, 1, 4), 4.0))}, NAIVE, actual, start=4)[""]
    assert (table[OURS]["coverage_50"], table[OURS]["coverage_90"]) == (0.25, 0.75)


def test_scaled_errors_are_averaged_over_series() -> None:
    panel = panel_of([[3, 4, 3, 4, 5]] * 3, ("a", "b", "c"), WEEKLY)
    actual = np.full((3, 1, 1), 5.0)
    points = {OURS: np.array([4.0, 3, 11])[:, None, None], NAIVE: np.full((3, 1, 1), 4.0)}
    table = tables_of(panel, {m: as_quantiles(p) for m, p in points.items()}, NAIVE, actual, start=4)[""]
    assert table[OURS]["mase"] == pytest.approx((1 + 2 + 6) / 3)


def test_a_service_without_genres_and_titles_has_one_table() -> None:
    panel = panel_of([[1, 2, 3, 4, 5]], ("total",))
    origins = np.array([4])
    ours = np.full((1, 1, 1, len(LEVELS)), 5.0)
    answers = {OURS: ours} | simple(panel, origins, 1)
    assert list(tables_of(panel, answers, NAIVE, actuals(panel, origins, 1, 5), 4)) == [""]


def test_the_verdict_says_who_is_best() -> None:
    table: Table = {OURS: {"relmae": 0.9, "auroc": 0.8}, "a": {"relmae": 0.8}, "b": {"relmae": 1.0}}
    assert verdict(table, "relmae", True) == (
        "By relmae the LSTM (0.900) does not beat the best baseline, a (0.800), 12.5% higher."
    )
    assert losses({"": table, "genres": {OURS: {"relmae": 0.1}, "a": {"relmae": 0.2}}}) == (
        "Where the LSTM loses: relmae of all series: a 0.800, LSTM 0.900."
    )
    table[OURS]["relmae"] = 0.7
    assert "beats the best baseline, a (0.800), 12.5% lower." in verdict(table, "relmae", True)
    assert "on no level" in losses({"": table})
    tie: Table = {OURS: {"relmae": 0.8}, "a": {"relmae": 0.8}}
    assert "does not beat the best baseline, a (0.800)" in verdict(tie, "relmae", True)
    assert "relmae of genres: a 0.800, LSTM 0.800." in losses({"genres": tie})
    assert "beats the best baseline, a (0.500), 60.0% higher." in verdict(
        {OURS: {"auroc": 0.8}, "a": {"auroc": 0.5}}, "auroc", False
    )
    assert "b (1.000)" in verdict(table, "relmae", False)
    assert verdict(table, "auroc", False) == "There is no auroc to compare."


def test_the_verdict_does_not_compare_what_is_not_defined() -> None:
    """As on series whose last week is right to the day: the simple method has no error to divide by."""
    assert verdict({OURS: {"relmae": NAN}, NAIVE: {"relmae": NAN}}, "relmae", True) == "There is no relmae to compare."


def test_coverage_by_origin_by_hand() -> None:
    actual = np.array([[[1.0, 2.0], [3.0, NAN]], [[9.0, 2.0], [3.0, 3.0]]])
    quantiles = np.broadcast_to(np.array([0.0, 1, 2, 3, 4]), (2, 2, 2, 5)).copy()
    quantiles[0, 1] = NAN
    assert coverage_by_origin(quantiles, actual).tolist() == [0.75, 1.0]


def test_the_classical_methods_are_statsforecasts_own() -> None:
    """On a clean weekly rhythm all follow it; gaps, a late start and a series never known are borne."""
    values = np.tile(10.0 + 5 * (np.arange(70) % 7), (4, 1)) + np.random.default_rng(0).normal(0, 0.1, (4, 70))
    values[1, 20:25] = NAN
    values[2, :60] = NAN
    values[3] = NAN
    panel = panel_of(values.tolist(), ("whole", "gap", "late", "never"))
    found = classical(panel, horizon=7)
    assert list(found) == [MEAN_28, NAIVE, ETS, THETA, ARIMA, COMBINED]
    expected = 10.0 + 5 * (np.arange(70, 77) % 7)
    for method in (NAIVE, ETS, THETA, ARIMA, COMBINED):
        quantiles = found[method].quantiles
        assert quantiles.shape == (4, 7, 5)
        assert quantiles[0, :, MEDIAN] == pytest.approx(expected, abs=0.6), method
        assert (quantiles[0, :, 0] < quantiles[0, :, -1]).all()
        assert np.isfinite(quantiles[:3]).all()
        assert (quantiles[:3] >= 0).all()
        assert np.isnan(quantiles[3]).all()
    parts = np.mean([found[m].quantiles for m in (ETS, THETA, ARIMA)], axis=0)
    np.testing.assert_array_equal(found[COMBINED].quantiles, parts)
    assert found[MEAN_28].quantiles[0, :, MEDIAN] == pytest.approx([25.0] * 7, abs=0.2)


def test_the_classical_methods_see_the_recent_past_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for statsforecast notes what it is asked."""
    asked: list[tuple[Any, pd.DataFrame]] = []

    class Noted:
        def __init__(self, models: list[Any], **settings: object) -> None:
            self.model = models[0]

        def forecast(self, df: pd.DataFrame, h: int, level: list[int]) -> pd.DataFrame:
            asked.append((self.model, df))
            ids = np.repeat(df["unique_id"].unique(), h)
            bounds = {f"it-{side}-{n}": sign * n / 10 for side, sign in (("lo", -1), ("hi", 1)) for n in level}
            return pd.DataFrame({"unique_id": ids, "ds": 0, "it": 1.0, **bounds})

    monkeypatch.setattr("statsforecast.StatsForecast", Noted)
    values = np.tile(np.arange(600.0), (4, 1))
    values[1, 550:553] = NAN
    values[2, :580] = NAN
    values[3, :598] = NAN
    found = classical(panel_of(values.tolist(), ("whole", "gap", "late", "new")), 2)
    assert found[NAIVE].quantiles[0, 0].tolist() == [0, 0, 1, 5, 9]  # cut at zero, from low to high
    assert found[COMBINED].seconds == sum(found[method].seconds for method in (ETS, THETA, ARIMA))
    for _, histories in asked:
        parts = [part["y"].tolist() for _, part in histories.groupby("unique_id")]
        assert parts[0] == parts[1] == list(range(100, 600))
        assert parts[2] == list(range(580, 600))
        assert parts[3] == [598] * 7 + [599]  # a season and a step at least
    assert [(type(model).__name__, model.season_length) for model, _ in asked] == [
        *(("SeasonalNaive", 7), ("AutoETS", 7), ("AutoTheta", 7), ("AutoARIMA", 7))
    ]
    for steps, frequency, name in ((400, "hourly", "MSTL"), (40, "hourly", "AutoARIMA"), (100, "weekly", "AutoARIMA")):
        classical(panel_of([[1.0] * steps], ("a",), FREQUENCIES[frequency]), 2, (ARIMA,))
        assert type(asked[-1][0]).__name__ == name


def test_the_recent_mean_has_the_quantiles_of_its_steps() -> None:
    values = np.concatenate([np.full(50, 900.0), np.arange(29.0) ** 2, [NAN]])
    quantiles = recent_mean(panel_of([values.tolist(), [NAN] * 80], ("a", "b")), 2).quantiles
    assert quantiles.shape == (2, 2, len(LEVELS))
    steps = np.arange(2.0, 29) ** 2  # the last 28 but for the unknown one
    expected = np.quantile(steps, LEVELS)
    expected[MEDIAN] = steps.mean()
    np.testing.assert_allclose(quantiles[0], [expected] * 2)
    assert (quantiles[1] == 0).all()


# -- retention's simple methods --------------------------------------------------------------------------------------


def test_the_base_rate_is_the_share_that_came_back() -> None:
    assert base_rate(np.array([1, 0, 0, 0]), 2).tolist() == [0.25, 0.25]
    assert base_rate(np.zeros(0), 1).tolist() == [0.5]


@pytest.mark.parametrize("method", [logistic_regression, gradient_boosting])
def test_labels_of_one_class_teach_nothing_and_others_the_same_every_time(method: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 4))
    assert method(features, np.ones(200)) is None
    label = (features[:, 0] + rng.normal(size=200) > 0).astype(int)
    first, second = (method(features, label).predict_proba(features)[:, 1] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert metrics.auroc(label, first) > 0.7


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "more", "methods"),
    [
        ("engagement", SHORT[len(TINY) :], [OURS, NAIVE, MEAN_28, ETS, THETA, ARIMA, COMBINED]),
        ("retention", [], [OURS, LOGISTIC]),
    ],
)
def test_a_backtest_is_printed_and_kept_and_makes_no_run(
    model: str, more: list[str], methods: list[str], small_dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(n_days=150, reviews=0)
    current = home.runs("small", model) / "current"
    current.parent.mkdir(parents=True)
    current.write_text("somebody\n")
    ask = ["evaluate", "--data.dataset", "small", "--model", model, "--horizon", "14", "--origins", "2", *TINY, *more]
    assert main(ask) == 0
    first = capsys.readouterr().out
    table = next(lines for lines in first.split("\n\n") if f"{model} on 'small'" in lines)
    assert all(any(line.startswith(method) for line in table.splitlines()) for method in methods)
    assert "rolling origin: 2 " in first
    assert "Seed 42" in first
    if model == "engagement":
        assert all(f"14 days ahead: {level}" in first for level in ("service", "genres", "titles", "segments"))
        assert "Where the LSTM loses" in first
        assert "standard error" in first
    assert main(ask) == 0
    again = capsys.readouterr().out
    assert again.startswith("Kept from ")
    assert again.split("\n", 1)[1].strip() in first
    (path,) = home.evaluations("small", model).iterdir()
    assert str(path) in again
    kept = json.loads(path.read_text())
    assert (kept["horizon"], kept["origins"], kept["stride"]) == (14, 2, None)
    assert kept["fingerprint"] == open_dataset("small").fingerprint
    assert current.read_text() == "somebody\n"
    assert list(current.parent.iterdir()) == [current]
    assert not home.scores("small").exists()


def told(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one sentence with which `evaluate` refuses."""
    capsys.readouterr()
    assert main(["evaluate", "--data.dataset", "small", *TINY, *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_too_many_origins_are_refused_with_how_many_fit(small_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset(reviews=0)  # 120 days
    sentence = told(capsys, "--horizon", "14", "--origins", "200")
    assert "a history of 120 days, too little for 200 origins: use --origins 37" in sentence  # 14 + 5 * 14 are taken
    sentence = told(capsys, "--model", "retention", "--horizon", "14", "--origins", "100")
    room = load_activity(open_dataset("small")).span_days - (4 * 14 + 14)
    assert f"use --origins {room + 1}." in sentence
    sentence = told(capsys, "--horizon", "60", "--origins", "2")
    assert "use a shorter --horizon or add earlier data" in sentence


def test_origins_are_a_stride_apart_or_closer_where_room_is_short() -> None:
    assert backtest._steps_back(100, 4, 14, "d", "").tolist() == [42, 28, 14, 0]
    assert backtest._steps_back(10, 4, 14, "d", "").tolist() == [9, 6, 3, 0]
    assert backtest._steps_back(3, 4, 14, "d", "").tolist() == [3, 2, 1, 0]
    assert backtest._steps_back(0, 1, 14, "d", "").tolist() == [0]
    with pytest.raises(UserError, match=r"too little for 4 origins: use --origins 3\."):
        backtest._steps_back(2, 4, 14, "d", "")


def test_room_for_one_origin_is_said() -> None:
    with pytest.raises(UserError, match=r"use --origins 1\."):
        backtest._steps_back(0, 2, 14, "d", "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--horizon", "0"], ["--horizon 0 must be at least 1"]),
        (["--horizon", "-5"], ["--horizon -5 must be at least 1"]),
        (["--horizon", "soon"], ["--horizon", "soon"]),
        (["--origins", "0"], ["--origins 0 must be at least 1"]),
        (["--stride", "0"], ["--stride 0 must be at least 1"]),
        (["--model", "sentiment"], ["--model", "sentiment"]),
        (["--data.dataset", "missing"], ["missing"]),
        (["--config", "missing.yaml"], ["missing.yaml"]),
        (["--horizon", "14", "--model.nonsense", "1"], ["nonsense"]),
        pytest.param(
            ["--horizon", "14", "--model", "retention", "--config", str(backtest.CONFIGS["engagement"])],
            ["--config"],
        ),
        pytest.param(
            ["--horizon", "14", "--config", str(backtest.CONFIGS["retention"])],
            ["--config"],
        ),
    ],
)
def test_mistakes_are_one_sentence(
    small_dataset, flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(reviews=0)
    sentence = told(capsys, "--origins", "1", *flags)
    assert all(word in sentence for word in words), sentence
    assert not home.evaluations("small", "engagement").exists()


def question(dataset: Dataset, answer: float, again: bool = False, **asked: int) -> float:
    result = evaluation.kept(dataset, "engagement", [], {"origins": 1, **asked}, lambda: {"metrics": answer}, again)
    return result["metrics"]


def test_a_result_is_kept_for_the_same_question_alone(small_dataset) -> None:
    dataset = small_dataset(reviews=0)
    assert question(dataset, 1.0) == 1.0
    assert question(dataset, 2.0) == 1.0
    assert question(dataset, 3.0, origins=2) == 3.0
    assert question(dataset, 4.0, again=True) == 4.0
    assert question(dataset, 5.0) == 4.0
    assert question(small_dataset(reviews=0, seed=1), 6.0) == 6.0


def test_a_result_is_not_kept_for_another_clock(small_dataset) -> None:
    dataset = small_dataset(reviews=0)
    assert question(dataset, 1.0) == 1.0
    events = {"interactions": dataset.interactions(), "items": dataset.items(), "users": dataset.users()}
    earlier = write_dataset("small", events, sources=SOURCES, as_of=dataset.as_of - pd.Timedelta(days=20), replace=True)
    assert question(earlier, 2.0) == 2.0


# -- the future ------------------------------------------------------------------------------------------------------


def rewritten_after(dataset: Dataset, name: str, day: pd.Timestamp) -> Dataset:
    """A copy with the same clock in which something else happens from `day` on: nobody comes but for title i39."""
    events = dataset.interactions()
    before = events[events["timestamp"] < day]
    rng = np.random.default_rng(0)
    n = 400
    span = (dataset.as_of - day) / pd.Timedelta(seconds=1)
    burst = pd.DataFrame(
        {
            "user_id": rng.choice([*events["user_id"].unique(), "newcomer"], n),
            "item_id": "i39",
            "timestamp": day + pd.to_timedelta(rng.uniform(0, span, n), unit="s"),
            "kind": "watch",
        }
    )
    tables = {"interactions": pd.concat([before, burst], ignore_index=True), "items": dataset.items()}
    return write_dataset(name, tables, sources=SOURCES, as_of=dataset.as_of)


@pytest.fixture
def two_futures(small_dataset) -> tuple[Dataset, Dataset]:
    """Two datasets that agree until 14 days before their clock."""
    dataset = small_dataset(reviews=0)
    day = dataset.as_of.normalize() - pd.Timedelta(days=13)
    other = rewritten_after(dataset, "other", day)
    assert (other.interactions()["timestamp"] >= day).sum() == 400
    return dataset, other


def test_an_engagement_forecast_at_an_origin_does_not_know_what_came(two_futures: tuple[Dataset, Dataset]) -> None:
    found, panels = [], []
    argv = ["--config", str(backtest.CONFIGS["engagement"]), *SHORT]
    for dataset in two_futures:
        panel = load_panel(dataset, chosen_before_steps=14)
        origin = panel.n_steps - 14
        known = panel.until(origin)
        ((module, data, seed),) = backtest._trained_at(argv, "engagement", dataset.name, 14, ["there"], [known])
        assert isinstance(module, EngagementLSTM)
        assert isinstance(data, EngagementData)
        assert seed == 42
        assert data.panel is known
        found.append(forecasts(module, panel, np.array([origin]), 14))
        panels.append(panel)
    assert panels[0].series_ids == panels[1].series_ids
    assert not np.array_equal(panels[0].values[:, -13:], panels[1].values[:, -13:])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.isfinite(found[0]).any()


def test_a_chance_to_return_at_a_cut_does_not_know_who_did(two_futures: tuple[Dataset, Dataset]) -> None:
    """14 days before the clock lie a few hours before the day on which the two part."""
    found, labels = [], []
    argv = ["--config", str(backtest.CONFIGS["retention"]), *TINY]
    for dataset in two_futures:
        activity = load_activity(dataset)
        known = activity.before(14)
        ((module, data, _),) = backtest._trained_at(argv, "retention", dataset.name, 14, ["there"], [known])
        assert isinstance(module, RetentionLSTM)
        cases = data.at(activity, 14)  # type: ignore[attr-defined]
        found.append(pd.Series(probabilities(module, cases), index=activity.user_ids[cases.user]))
        labels.append(cases.label)
    pd.testing.assert_series_equal(found[0], found[1])
    assert not np.array_equal(*labels)


def test_titles_are_chosen_by_what_was_watched_before_the_blocks_that_judge(
    two_futures: tuple[Dataset, Dataset],
) -> None:
    same, other = (EngagementData(dataset.name, horizon=5, n_titles=10) for dataset in two_futures)
    assert same.panel.series_ids == other.panel.series_ids
    assert "title:i39" not in other.panel.series_ids
    assert "title:i39" in load_panel(two_futures[1], n_titles=10).series_ids


def forecasts_of_nobody(panel: Panel, horizon: int) -> Answer:
    return Answer(np.ones((len(panel.series_ids), horizon, len(LEVELS))), 0.0)


@pytest.mark.parametrize("model", ["engagement", "retention"])
def test_each_model_is_trained_on_what_was_known_at_its_origin(
    model: str, small_dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backtest itself, with a stand-in that notes what it is given instead of training on it."""
    original = small_dataset(n_days=150, reviews=0)
    dataset = rewritten_after(original, "other", original.as_of.normalize() - pd.Timedelta(days=13))
    given: list[Any] = []

    def noted(
        argv: list[str], kind: str, name: str, horizon: int, origins: list[str], known: Iterable[Any]
    ) -> Iterator[tuple[Any, Any, int]]:
        for part in known:
            data = EngagementData(name, horizon) if model == "engagement" else RetentionData(name, horizon)
            data.use(part)
            given.append(part)
            module = (
                EngagementLSTM(hidden_size=2, horizon=14) if model == "engagement" else RetentionLSTM(hidden_size=2)
            )
            yield module.eval(), data, 0

    monkeypatch.setattr(backtest, "_trained_at", noted)
    measure = backtest._backtest_engagement if model == "engagement" else backtest._backtest_retention
    argv = ["--config", str(backtest.CONFIGS[model])]
    monkeypatch.setattr(backtest, "classical", lambda panel, horizon: {NAIVE: forecasts_of_nobody(panel, horizon)})
    result = measure(argv, dataset, 14, 3, 5, 3)
    if model == "engagement":
        n_steps = load_panel(dataset).n_steps
        assert [panel.n_steps for panel in given] == [n_steps - 14 - back for back in (10, 5, 0)]
        assert "2024-05-06 to 2024-05-16" in result["split"]["protocol"]
        assert "title:i39" in load_panel(dataset).series_ids
        assert "title:i39" not in given[0].series_ids  # chosen by what was watched before the first origin
    else:
        whole = load_activity(dataset)
        assert [known.span_days for known in given] == [whole.span_days - 14 - back for back in (10, 5, 0)]
        assert [len(known.day) for known in given] == [(whole.day >= 14 + back).sum() for back in (10, 5, 0)]
        assert "from 24 to 14 days before the clock" in result["split"]["protocol"]


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_series_with_nothing_known_in_the_validation_block_are_refused(
    command: str, marquee_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = np.arange(200)
    dates = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(day, unit="D")
    plays = pd.DataFrame({"series_id": "plays", "date": dates, "value": 5.0 + day % 7})
    end = 200 - (28 if command == "evaluate" else 0)  # what a fit sees at the origin of the backtest
    unknown = (day >= end - 84) & (day < end - 28)
    write_dataset("small", {"metrics": plays[~unknown]}, sources=SOURCES)
    argv = ["--config", str(backtest.CONFIGS["engagement"]), "--data.dataset", "small", *SHORT]
    assert main([command, *argv, *(["--origins", "1"] if command == "evaluate" else [])]) == 2
    assert capsys.readouterr().err.count("error: ") == 1


def test_every_method_forecasts_from_what_was_known_at_each_origin(
    small_dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for the models note what they are given; the service begins to grow after the first origin."""
    dataset = small_dataset(n_days=150, reviews=0)
    n_steps = load_panel(dataset).n_steps
    rng = np.random.default_rng(0)
    values = rng.poisson(20, (2, n_steps)).astype(float)
    ends = [n_steps - 14 - back for back in (10, 5, 0)]
    values[0, ends[0] :] *= rng.uniform(1, 9, n_steps - ends[0])
    values[1, : ends[0] + 2] = 0  # at the first origin nobody knows that this genre will begin
    panel = Panel(("total", "genre:New"), 19_723, DAILY, values)
    trained: list[Panel] = []
    asked: dict[str, list[Panel]] = {OURS: [], NAIVE: []}
    answer = np.broadcast_to([5.0, 10, 20, 30, 60], (2, 14, len(LEVELS)))

    def noted(
        argv: list[str], kind: str, name: str, horizon: int, origins: list[str], known: Iterable[Any]
    ) -> Iterator[tuple[Any, Any, int]]:
        for part in known:
            trained.append(part)
            yield None, None, 0

    def ours(module: object, part: Panel, horizon: int) -> Forecast:
        asked[OURS].append(part)
        never = ~np.isfinite(part.values).any(axis=1)
        quantiles = np.where(never[:, None, None], NAN, answer)
        return Forecast(quantiles, quantiles[..., MEDIAN], np.zeros(2, np.int64))

    def naive(part: Panel, horizon: int) -> dict[str, Answer]:
        asked[NAIVE].append(part)
        return {NAIVE: Answer(answer, 1.0)}

    for name, stand_in in (("_trained_at", noted), ("forecast_panel", ours), ("classical", naive)):
        monkeypatch.setattr(backtest, name, stand_in)
    monkeypatch.setattr(backtest, "load_panel", lambda *_: panel)
    argv = ["--config", str(backtest.CONFIGS["engagement"])]
    result = backtest._backtest_engagement(argv, dataset, 14, 3, 5, 1)
    assert [part.n_steps for part in trained] == ends[:1]  # --refits 1
    assert "trained anew at 1 of them" in result["split"]["protocol"]
    for parts in asked.values():
        for part, end in zip(parts, ends, strict=True):
            assert part.n_steps == end
            np.testing.assert_array_equal(part.values[0], values[0, :end])
            assert np.isnan(part.values[1]).all() == (end == ends[0])
    actual = actuals(panel, np.array(ends), 14, n_steps)
    table = result["metrics"]["14 days ahead: service"]
    flat = actual[:1].reshape(1, -1)
    scaled = metrics.mase(flat, np.full(flat.shape, 20.0), values[:1, : ends[0]], 7)
    assert table[OURS]["mase"] == pytest.approx(scaled[0])  # scaled by what lay before the first origin
    assert result["metrics"]["14 days ahead"][NAIVE]["seconds"] == 3.0
    quantiles = np.broadcast_to(answer[:, None], (2, 3, 14, len(LEVELS))).copy()
    quantiles[1, 0] = NAN
    covered = coverage_by_origin(quantiles, actual)
    error = metrics.standard_error(covered, overlap=3)  # 14 days reach over three origins 5 days apart
    assert error != pytest.approx(metrics.standard_error(covered, overlap=0), abs=1e-3)
    notes = "\n".join(result["notes"])
    assert f"held {covered.mean():.1%} of the values, with a standard error of {error:.1%}" in notes


def test_retentions_baselines_learn_from_everything_known_and_are_there_at_every_cut_or_not_at_all(
    small_dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = small_dataset(n_days=150, reviews=0)
    data = [RetentionData("small", 14).use(load_activity(dataset).before(14 + back)) for back in (5, 0)]
    learned: list[int] = []

    def noted(*_: object) -> Iterator[tuple[Any, Any, int]]:
        for part in data:
            yield None, part, 0

    def answers(module: object, train: Cases, judged: Cases) -> list[dict[str, np.ndarray]]:
        learned.append(len(train))
        there = {OURS: np.full(len(judged), 0.5)}
        return [there | ({LOGISTIC: there[OURS]} if len(learned) == 2 else {})]

    monkeypatch.setattr(backtest, "_trained_at", noted)
    monkeypatch.setattr(backtest, "predictions", answers)
    result = backtest._backtest_retention([], dataset, 14, 2, 5, 2)
    assert learned == [len(part.cases("everything")) for part in data]
    assert learned != [len(part.cases("train")) for part in data]
    assert list(result["metrics"]["back within 14 days"]) == [OURS]


def test_the_refit_takes_as_many_epochs_as_validation_chose(small_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = load_panel(small_dataset(reviews=0))
    monkeypatch.setattr(evaluation, "train", lambda cli, folder: 7)
    monkeypatch.setattr(evaluation, "refit", lambda cli, folder, epochs: epochs)
    argv = ["--config", str(backtest.CONFIGS["engagement"]), *SHORT]
    ((epochs, _, _),) = backtest._trained_at(argv, "engagement", "small", 14, ["there"], [panel])
    assert epochs == 7
