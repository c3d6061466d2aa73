"""From runs to forecasts and chances to return: the tables, the reasons behind them, and one sentence for mistakes."""

import doctest
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import generated_tables

import score
from data import home, runs, schema
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.engines import Engine
from data.errors import UserError
from data.served import load_served
from forecasting import baselines, retention_reasons, scorer
from forecasting.__main__ import main
from forecasting.anomalies import anomalies, expected, score_unusual
from forecasting.engagement import EngagementLSTM
from forecasting.evaluate import probabilities
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import CHANNELS, STATIC, Activity, Cases, cases_at, load_activity
from forecasting.retention_reasons import DRIVERS, LEAST_EFFECT, Reference, changed, top_reasons
from forecasting.scorer import bands, forecast, panel_of_run, returns, score_engagement, score_retention
from forecasting.series import load_panel

DAY = pd.Timedelta(days=1)
SOURCES = [Source("generated", "generated")]
FIT = ("--trainer.max_epochs=2", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu",
       "--model.hidden_size=8", "--data.dataset=small")  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[Path]:
    """A home with a dataset and both models trained on it. Tests read it; one that writes uses `own`."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("trained") / "home"
        patch.setenv("MARQUEE_HOME", str(folder))
        patch.delenv("MARQUEE_DATASET", raising=False)
        write_dataset("small", generated_tables(reviews=0), sources=SOURCES)
        for model, more in (("engagement", ["--model.prior_steps=2"]), ("retention", [])):
            assert main(["fit", "--config", f"forecasting/configs/{model}-quick.yaml", *FIT, *more]) == 0
        yield folder


@pytest.fixture
def served(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("MARQUEE_HOME", str(trained))
    monkeypatch.delenv("MARQUEE_DATASET", raising=False)
    return open_dataset("small")


@pytest.fixture
def own(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The same in a home that the test may write into."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MARQUEE_DATASET", raising=False)
    return open_dataset("small")


def run_of(model: str) -> Path:
    return runs.require_run("small", model)


def forecasts_of(dataset: Dataset, **how: int) -> pd.DataFrame:
    return pa.concat_tables(table for table, _ in forecast(dataset, run_of("engagement"), **how)).to_pandas()  # type: ignore[arg-type]


def returns_of(activity: Activity, positions: np.ndarray, **how: int) -> pd.DataFrame:
    tables = (table for table, _ in returns(activity, positions, run_of("retention"), **how))  # type: ignore[arg-type]
    return pa.concat_tables(tables).to_pandas()


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".")]


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one sentence that score.py ends with on a mistake."""
    capsys.readouterr()
    assert score.main(list(argv)) == 2
    sentences = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1
    return sentences[0]


@pytest.mark.parametrize("module", [scorer, retention_reasons, baselines])
def test_doctests(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0


# -- engagement ------------------------------------------------------------------------------------------------------


def test_every_series_is_forecast_from_the_day_after_the_clock(served: Dataset, tmp_path: Path) -> None:
    path = score_engagement("small", tmp_path / "new" / "forecast.parquet")
    assert path == tmp_path / "new" / "forecast.parquet"
    assert pq.read_schema(path).equals(schema.SCORES["engagement_forecast"])
    table = pd.read_parquet(path)
    assert table["series_id"].drop_duplicates().tolist() == list(load_panel(served).series_ids)
    assert not table.isna().any(axis=None)
    assert served.as_of is not None
    tomorrow = served.as_of.normalize() + DAY
    for _, rows in table.groupby("series_id"):
        assert rows["date"].tolist() == [tomorrow + n * DAY for n in range(28)]
    levels = table[["q05", "q25", "q50", "q75", "q95"]].to_numpy()
    assert (np.diff(levels, axis=1) >= 0).all()
    assert (levels >= 0).all()
    assert (table["mean"] >= 0).all()
    assert table["run_id"].unique().tolist() == [run_of("engagement").name]
    assert not left_over(tmp_path)


@pytest.mark.parametrize("hour", [8, 22])
def test_a_day_that_is_not_over_is_not_forecast_again(own: Dataset, hour: int) -> None:
    clock = pd.Timestamp("2024-04-25", tz="UTC") + pd.Timedelta(hours=hour)
    tables = {"interactions": own.interactions(), "items": own.items()}
    dataset = write_dataset("small", tables, sources=SOURCES, as_of=clock, replace=True)
    assert forecasts_of(dataset)["date"].min() == pd.Timestamp("2024-04-26", tz="UTC")


def test_a_shorter_horizon_is_the_beginning_of_a_longer_one(served: Dataset, tmp_path: Path) -> None:
    whole = forecasts_of(served)
    week = pd.read_parquet(score_engagement("small", tmp_path / "week.parquet", horizon=7))
    expected = whole[whole["date"] < whole["date"].min() + 7 * DAY].reset_index(drop=True)
    pd.testing.assert_frame_equal(week, expected, check_dtype=False)


@pytest.mark.parametrize("days", [29, 0, -3])
def test_a_horizon_that_was_not_trained_is_refused(
    served: Dataset, days: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    sentence = told(capsys, "engagement", "--dataset", "small", "--horizon", str(days), "--out", str(out))
    assert f"--horizon {days}" in sentence
    assert "1 to 28 days" in sentence
    if days > 28:
        assert f"--data.horizon {days}" in sentence
    assert not list(tmp_path.iterdir())


def test_batches_do_not_change_the_forecasts(served: Dataset) -> None:
    pd.testing.assert_frame_equal(forecasts_of(served, batch_size=5), forecasts_of(served), rtol=1e-4, atol=1e-6)


def test_a_series_of_a_few_days_is_forecast_with_wide_intervals(own: Dataset) -> None:
    events = own.interactions()
    last = events["timestamp"].max().normalize()
    new = pd.DataFrame(
        {
            "user_id": [f"u{i % 60}" for i in range(300)],
            "item_id": ["fresh" if i % 2 else "settled" for i in range(300)],
            "kind": "watch",
            "timestamp": [last - (1 + i % (10 if i % 2 else 40)) * DAY for i in range(300)],
        }
    )
    tables = {"interactions": pd.concat([events, new], ignore_index=True), "items": own.items()}
    dataset = write_dataset("small", tables, sources=SOURCES, replace=True)
    assert {"title:fresh", "title:settled"} <= set(load_panel(dataset).series_ids)
    found = forecasts_of(dataset).groupby("series_id")[["q05", "q50", "q95"]].mean()
    fresh, settled = (found.loc[name] for name in ("title:fresh", "title:settled"))
    assert (fresh["q95"] - fresh["q05"]) / fresh["q50"] > (settled["q95"] - settled["q05"]) / settled["q50"]


def test_nothing_to_forecast_from_is_said(own: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    morning = pd.DataFrame({"user_id": ["u1"], "timestamp": pd.to_datetime(["2024-01-01 08:00"], utc=True)})
    write_dataset("small", {"interactions": morning}, sources=SOURCES, replace=True)  # a day that is not over
    assert "nothing to forecast from" in told(capsys, "engagement", "--dataset", "small")
    assert not left_over(home.home())


def test_other_steps_than_in_training_are_refused(own: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    dates = pd.date_range("2024-01-01", periods=40, freq="7D", tz="UTC")
    plays = pd.DataFrame({"series_id": "plays", "date": dates, "value": 3.0})
    write_dataset("small", {"metrics": plays}, sources=SOURCES, replace=True)
    assert "weekly series, but run" in told(capsys, "engagement", "--dataset", "small")


def test_series_without_a_known_value_are_left_out(own: Dataset) -> None:
    dates = pd.date_range("2024-01-01", periods=60, tz="UTC")
    plays = pd.DataFrame({"series_id": "plays", "date": dates, "value": 3.0})
    morning = pd.DataFrame({"user_id": ["u1"], "timestamp": [dates[-1] + pd.Timedelta(hours=8)]})
    dataset = write_dataset("small", {"metrics": plays, "interactions": morning}, sources=SOURCES, replace=True)
    assert set(load_panel(dataset).series_ids) > {"plays", "total"}
    assert forecasts_of(dataset)["series_id"].unique().tolist() == ["plays"]  # a log of one morning says nothing yet


def test_a_run_counts_the_series_as_it_was_trained(served: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "engagement" / "a-run"
    run.mkdir(parents=True)
    window = {"frequency": "weekly", "frequency_was_asked_for": True, "horizon": 8, "n_titles": 3}
    (run / "window.json").write_text(json.dumps(window))
    panel = panel_of_run(served, run)
    assert panel.frequency.name == "weekly"
    assert len([name for name in panel.series_ids if name.startswith("title:")]) == 3
    (run / "window.json").write_text(json.dumps({**window, "frequency_was_asked_for": False}))
    with pytest.raises(UserError, match=r"has daily series, but run a-run was trained on weekly ones: train again"):
        panel_of_run(served, run)


# -- retention -------------------------------------------------------------------------------------------------------


def test_every_member_with_an_event_has_a_chance_to_return(served: Dataset, tmp_path: Path) -> None:
    path = score_retention("small", tmp_path)
    assert path == tmp_path / "retention.parquet"
    assert pq.read_schema(path).equals(schema.SCORES["retention"])
    table = pd.read_parquet(path)
    events = served.interactions()
    assert sorted(table["user_id"]) == sorted(events["user_id"].unique())
    assert table["p_return"].between(0, 1).all()
    assert table["horizon_days"].unique().tolist() == [30]
    ago = (served.as_of - events.groupby("user_id")["timestamp"].max()) // DAY
    assert table.set_index("user_id")["days_since_last"].to_dict() == ago.to_dict()
    wanted = np.select([table["p_return"] < 1 / 3, table["p_return"] < 2 / 3], ["high", "medium"], "low")
    assert table["band"].tolist() == wanted.tolist()
    assert table["run_id"].unique().tolist() == [run_of("retention").name]
    assert (table["top_reason"].str.len() > 0).all()
    assert table["expected_days"].between(0, 90).all()
    day = (served.as_of - events["timestamp"]) // DAY
    days = day.groupby(events["user_id"]).agg(["min", "max", "nunique"])
    usual = days["nunique"] / np.maximum(days["max"] - days["min"] + 1, 30) * 30
    pd.testing.assert_series_equal(
        table.set_index("user_id")["usual_visits"].sort_index(),
        usual.sort_index(),
        check_names=False,
        check_index_type=False,
    )


def test_retention_by_processes_and_in_shards_is_the_same(served: Dataset, tmp_path: Path) -> None:
    alone = pd.read_parquet(score_retention("small", tmp_path / "alone.parquet"))
    shared = score_retention("small", tmp_path / "two.parquet", engine=Engine(processes=2), shard_size=20)
    pd.testing.assert_frame_equal(pd.read_parquet(shared), alone, rtol=1e-5)


def test_a_run_keeps_its_own_horizon_and_visits(own: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("retention")
    window = json.loads((run / "window.json").read_text())
    activity = load_activity(own)
    everybody = np.arange(len(activity.user_ids))
    asked: list[Cases] = []

    def noted(module: RetentionLSTM, cases: Cases, reference: Reference) -> Any:
        asked.append(cases)
        return top_reasons(module, cases, reference)

    monkeypatch.setattr(scorer, "top_reasons", noted)
    window |= {"horizon_days": 14, "n_visits": 6}
    window["reference"]["sequence"] = window["reference"]["sequence"][-6:]
    (run / "window.json").write_text(json.dumps(window))
    table = returns_of(activity, everybody)
    assert table["horizon_days"].unique().tolist() == [14]
    days = [activity.day[activity.user == member] for member in everybody]
    usual = [len(part) / max(part.max() - part.min() + 1, 14) * 14 for part in days]
    assert table["usual_visits"].tolist() == pytest.approx(usual)
    np.testing.assert_array_equal(asked[0].sequence, cases_at(activity, 0, 14, 6).sequence)


def test_the_chance_of_a_week_before_is_what_the_model_said_then(served: Dataset) -> None:
    activity = load_activity(served)
    now = returns_of(activity, np.arange(len(activity.user_ids)), batch_size=7)
    earlier = activity.before(7)
    there = np.unique(earlier.user)
    then = returns_of(earlier, there)
    found = now.set_index("user_id")["p_return_before"]
    np.testing.assert_allclose(found[then["user_id"]], then["p_return"], rtol=1e-5)
    assert set(found.index[found.isna()]) == set(activity.user_ids) - set(then["user_id"])


def test_who_came_within_the_week_has_no_chance_before_it(served: Dataset) -> None:
    activity = load_activity(served)
    late = activity.day < 7
    members, user = np.unique(activity.user[late], return_inverse=True)
    columns = (part[late] for part in (activity.day, activity.events, activity.newest))
    young = Activity(activity.user_ids.take(members), user, *columns)
    assert returns_of(young, np.arange(len(members)))["p_return_before"].isna().all()


def test_bands_at_their_borders() -> None:
    p = np.array([0, np.nextafter(1 / 3, 0), 1 / 3, np.nextafter(2 / 3, 0), 2 / 3, 1])
    assert bands(p).tolist() == ["high", "high", "medium", "medium", "low", "low"]


def test_batches_do_not_change_the_chances(served: Dataset) -> None:
    activity = load_activity(served)
    everybody = np.arange(len(activity.user_ids))
    small, large = returns_of(activity, everybody, batch_size=7), returns_of(activity, everybody)
    pd.testing.assert_frame_equal(small, large, rtol=1e-5)


def test_users_by_list_by_file_and_unknown(served: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everybody = pd.read_parquet(score_retention("small", tmp_path / "all.parquet")).set_index("user_id")
    ids = tmp_path / "ids.txt"
    ids.write_text("u9\nu3\nu3\n")
    table = tmp_path / "ids.csv"
    table.write_text("age,user_id\n1,u9\n2,u3\n")
    for users in ("u9,u3", str(ids), str(table)):
        some = pd.read_parquet(score_retention("small", tmp_path / "some.parquet", users=users))
        assert some["user_id"].tolist() == ["u9", "u3"]
        expected = everybody.loc[["u9", "u3"]].reset_index()
        pd.testing.assert_frame_equal(some, expected, rtol=1e-5, check_dtype=False)
    before = (tmp_path / "some.parquet").read_bytes()
    for users, words in (
        ("u9,ghost,phantom", ["'ghost' has no event in dataset 'small'", "2 of 3"]),
        (str(tmp_path / "gone.txt"), ["--users", "gone.txt does not exist"]),
        (" , ", ["names nobody"]),
    ):
        out = str(tmp_path / "some.parquet")
        sentence = told(capsys, "retention", "--dataset", "small", "--users", users, "--out", out)
        assert all(word in sentence for word in words), sentence
    assert (tmp_path / "some.parquet").read_bytes() == before
    assert not left_over(tmp_path)


# -- reasons ---------------------------------------------------------------------------------------------------------

BEGINNINGS = {
    "recency": ("last seen ", "seen within "),
    "activity": ("active on ",),
    "tenure": ("a member for ", "joined within "),
    "rhythm": ("usually ", "came on 1 day only"),
}


def driver_of(reason: str) -> str | None:
    return next((driver for driver, begin in BEGINNINGS.items() if reason.startswith(begin)), None)


def random_cases(n: int = 80) -> Cases:
    rng = np.random.default_rng(0)
    user = np.sort(rng.integers(0, n, 6 * n))
    day = rng.integers(0, 200, len(user))
    kept = np.unique(np.stack([user, -day], 1), axis=0)
    names = pd.Index([f"m{i}" for i in range(n)], dtype=object)
    events, newest = rng.integers(1, 5, len(kept)).astype(float), -kept[:, 1] + 0.5
    return cases_at(Activity(names, kept[:, 0], -kept[:, 1], events, newest), 0, 30, 12)


def test_changed_replaces_the_inputs_of_one_driver_alone() -> None:
    cases = random_cases(3)
    sequence, static = torch.from_numpy(cases.sequence), torch.from_numpy(cases.static)
    reference = Reference(torch.full((12, len(CHANNELS)), -7.0), torch.full((len(STATIC),), -9.0))
    owners = {name: [d for d, (inputs, _) in DRIVERS.items() if name in inputs] for name in STATIC}
    assert all(len(found) == 1 for name, found in owners.items() if name != "lateness")
    for driver, (static_names, channel_names) in DRIVERS.items():
        new_sequence, new_static = changed(sequence, static, reference, driver)
        for at, name in enumerate(CHANNELS):
            expected = torch.full_like(sequence[..., at], -7.0) if name in channel_names else sequence[..., at]
            assert torch.equal(new_sequence[..., at], expected), (driver, name)
        for at, name in enumerate(STATIC):
            if name == "lateness":
                continue
            expected = torch.full_like(static[:, at], -9.0) if name in static_names else static[:, at]
            assert torch.equal(new_static[:, at], expected), (driver, name)
        late, recency, gap = (new_static[:, STATIC.index(name)] for name in ("lateness", "recency", "usual_gap"))
        assert torch.equal(late, recency - gap)
    assert torch.equal(static, torch.from_numpy(random_cases(3).static))  # nothing was changed in place


def test_the_reason_is_the_driver_whose_replacement_moves_the_model_most() -> None:
    """Measured afresh, one member and one driver at a time, on a model with arbitrary weights."""
    torch.manual_seed(4)  # every driver is somebody's reason
    module = RetentionLSTM(hidden_size=8).eval()
    cases = random_cases()
    module.fit_encoding(cases)
    for parameter in module.average.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    drifts = np.linspace(-9, 9, 451)
    means = [module.drift.fill_(drift) and float(np.median(probabilities(module, cases))) for drift in drifts]
    module.drift.fill_(drifts[np.abs(np.array(means) - 0.5).argmin()])  # half are likelier to leave
    middle = {name: np.median(getattr(cases, name), axis=0).tolist() for name in ("sequence", "static")}
    reference = Reference.of(middle)
    p, reasons, effects, days = top_reasons(module, cases, reference)
    for row, reason in enumerate(reasons):
        sequence, static = (torch.from_numpy(part[row : row + 1]) for part in (cases.sequence, cases.static))
        with torch.no_grad():
            own = module(sequence, static).item()
            effect = {d: module(*changed(sequence, static, reference, d)).item() - own for d in DRIVERS}
        assert p[row] == pytest.approx(own, abs=1e-5)
        wanted = max(effect.values()) if own < 0.5 else -min(effect.values())
        driver = driver_of(reason)
        if driver is None:
            assert reason == "nothing out of the ordinary"
            assert effects[row] == 0
            assert wanted <= LEAST_EFFECT
        else:
            assert (effect[driver] if own < 0.5 else -effect[driver]) == pytest.approx(wanted, abs=1e-5)
            assert effects[row] == pytest.approx(effect[driver], abs=1e-5)
    assert {driver_of(reason) for reason in reasons} >= set(DRIVERS)
    inputs = torch.from_numpy(cases.sequence), torch.from_numpy(cases.static)
    with torch.no_grad():
        np.testing.assert_allclose(days, module.expected_days(module.survival(*inputs)), rtol=1e-4)
    usual = cases.take(np.arange(1))  # a member like the reference in everything has no reason
    for name, values in middle.items():
        getattr(usual, name)[:] = values
    usual.static[:, STATIC.index("lateness")] = usual.static[:, 0] - usual.static[:, STATIC.index("usual_gap")]
    assert top_reasons(module, usual, Reference.of(middle))[1] == ["nothing out of the ordinary"]
    assert 0.4 < (p < 0.5).mean() < 0.6


def test_a_reason_states_the_members_own_values(served: Dataset) -> None:
    activity = load_activity(served)
    table = returns_of(activity, np.arange(len(activity.user_ids))).set_index("user_id")
    for position, user in enumerate(activity.user_ids):
        days = activity.day[activity.user == position]
        gap = round((days.max() - days.min()) / max(len(days) - 1, 1))
        events = int(activity.events[activity.user == position].sum())
        values = {
            "recency": [days.min()],
            "activity": [len(days), events],
            "tenure": [days.max()],
            "rhythm": [gap],
        }
        reason = table.loc[user, "top_reason"]
        driver = driver_of(reason)
        numbers = [int(word.replace(",", "")) for word in reason.replace(",", " ").split() if word.isdigit()]
        if driver is not None and numbers:
            assert numbers[: len(values[driver])] == values[driver], (user, reason)


def test_unusual_steps_are_scored_with_the_forecast(own: Dataset) -> None:
    out = home.scores("small") / "elsewhere.parquet"
    assert score.main(["engagement", "--dataset", "small", "--out", str(out)]) == 0
    path = home.scores("small") / "unusual.parquet"
    assert not path.exists()  # a file asked for by name is all that is written
    assert score.main(["engagement", "--dataset", "small"]) == 0
    assert pq.read_schema(path).equals(schema.SCORES["unusual"])
    panel = panel_of_run(own, run_of("engagement"))
    found = anomalies(panel, expected(load_served(EngagementLSTM, run_of("engagement")), panel, 56))
    table = pd.read_parquet(path)
    assert len(table) == len(found) > 0
    assert table["series_id"].tolist() == found["series_id"].tolist()
    np.testing.assert_allclose(table["once_in"], found["once_in"], rtol=1e-6)
    for kept, told in zip(table["genres"], found["genres"], strict=True):
        assert [(part["series_id"], part["surplus"]) for part in kept] == told


def test_a_history_too_short_to_say_what_is_unusual_takes_back_what_was_said(own: Dataset) -> None:
    path = score_unusual("small")
    assert path is not None
    assert path.exists()
    dates = pd.date_range("2024-01-01", periods=7, tz="UTC")
    write_dataset(
        "small",
        {"metrics": pd.DataFrame({"series_id": "plays", "date": dates, "value": 3.0})},
        sources=SOURCES,
        replace=True,
    )
    assert score_unusual("small") is None
    assert not path.exists()


# -- mistakes --------------------------------------------------------------------------------------------------------


def test_score_writes_into_the_scores_of_the_dataset(own: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    for what, name in (("engagement", "engagement_forecast"), ("retention", "retention")):
        assert score.main([what, "--dataset", "small"]) == 0
        path = home.scores("small") / f"{name}.parquet"
        assert pq.read_schema(path).equals(schema.SCORES[name])
        assert str(path) in capsys.readouterr().out
        assert score.main([what, "--dataset", "small", "--out", str(home.home())]) == 0
        pd.testing.assert_frame_equal(pd.read_parquet(home.home() / f"{name}.parquet"), pd.read_parquet(path))


def damage(run: Path, how: str) -> None:
    checkpoint, window = run / "model.ckpt", run / "window.json"
    content = checkpoint.read_bytes()
    match how:
        case "no checkpoint":
            checkpoint.write_bytes(b"not a checkpoint")
        case "empty checkpoint":
            checkpoint.write_bytes(b"")
        case "half a checkpoint":
            checkpoint.write_bytes(content[: len(content) // 2])
        case "another model's checkpoint":
            other = "retention" if run.parent.name == "engagement" else "engagement"
            shutil.copyfile(run_of(other) / "model.ckpt", checkpoint)
        case "no window":
            window.unlink()
        case "half a window":
            window.write_text(window.read_text()[:30])
        case "another window":
            window.write_text("[1]")
        case "an empty window":
            window.write_text("{}")


@pytest.mark.parametrize(
    "how",
    [
        *("no checkpoint", "empty checkpoint", "half a checkpoint", "another model's checkpoint"),
        *("no window", "half a window"),
        "another window",
        "an empty window",
    ],
)
@pytest.mark.parametrize(("what", "name"), [("engagement", "engagement_forecast"), ("retention", "retention")])
def test_a_damaged_run_is_one_sentence_and_leaves_the_scores(
    own: Dataset, what: str, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.scores("small") / f"{name}.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"as it was")
    damage(run_of(what), how)
    sentence = told(capsys, what, "--dataset", "small")
    assert ("model.ckpt" if "checkpoint" in how else "window.json") in sentence
    assert "train again or promote another run" in sentence
    assert path.read_bytes() == b"as it was"
    assert not left_over(home.home())


@pytest.mark.parametrize(("what", "source"), [("engagement", "forecast"), ("retention", "returns")])
def test_an_interruption_leaves_the_earlier_scores(
    own: Dataset, what: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score.main([what, "--dataset", "small"]) == 0
    (path,) = [p for p in home.scores("small").iterdir() if p.name != "unusual.parquet"]
    before, tables = path.read_bytes(), sorted(home.scores("small").iterdir())
    whole = getattr(scorer, source)

    def interrupted(*args: object, **kwargs: object) -> Iterator[object]:
        yield from itertools.islice(whole(*args, **kwargs), 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(scorer, source, interrupted)
    assert score.main([what, "--dataset", "small"]) == 130
    assert path.read_bytes() == before
    assert sorted(home.scores("small").iterdir()) == tables


def test_a_run_says_how_its_inputs_are_cut(served: Dataset) -> None:
    window = json.loads((run_of("engagement") / "window.json").read_text())
    assert window == {"frequency": "daily", "frequency_was_asked_for": False, "horizon": 28, "n_titles": 20}
    window = json.loads((run_of("retention") / "window.json").read_text())
    assert (window["horizon_days"], window["n_visits"]) == (30, 12)
    assert np.array(window["reference"]["sequence"]).shape == (12, len(CHANNELS))
