"""Drift: unchanged data are stable, changed data are found, and chance in small tables is not taken for change."""

import doctest
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dashboard_home as made
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from scipy.spatial.distance import jensenshannon

from data import drift as module
from data import home, profile, runs
from data.__main__ import main
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.drift import LARGE, MUCH, SOME, STABLE, by_chance, drift, jensen_shannon, psi
from data.profile import Distribution, Profile, counted, keep_scores, read_profile, score_profile
from recsys.__main__ import main as recsys
from score import main as score

COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=12)


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(module) == (0, 2)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_both_distances_by_their_formulas(data: st.DataObject) -> None:
    then = data.draw(COUNTS)
    now = data.draw(st.lists(st.integers(0, 1000), min_size=len(then), max_size=len(then)))
    assert psi(then, now) >= 0
    assert psi(then, now) == pytest.approx(psi(now, then))  # Jeffreys' divergence is symmetric
    assert psi(then, then) == 0
    if sum(then) and sum(now):
        assert jensen_shannon(then, now) == pytest.approx(jensenshannon(then, now, base=2), abs=1e-7)
    p, q = ((np.array(c) + 0.5) / (np.array(c) + 0.5).sum() for c in (then, now))
    assert psi(then, now) == pytest.approx(sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True)))


def test_a_hand_computed_psi() -> None:
    """Shares of 0.5 and 0.5 against 0.25 and 0.75: 0.25 ln 0.5 less 0.25 ln 1.5, in sum 0.25 ln 3."""
    assert psi([500_000] * 2, [250_000, 750_000]) == pytest.approx(0.25 * np.log(3), rel=1e-4)


@pytest.mark.parametrize("n", [40, 400])
def test_chance_is_called_drift_once_in_twenty_times(n: int) -> None:
    generator = np.random.default_rng(0)
    beyond = 0
    for _ in range(600):
        then, now = (generator.multinomial(n, np.full(10, 0.1)) for _ in range(2))
        beyond += psi(then, now) > by_chance(n, n, 10)
    assert 0.01 < beyond / 600 < 0.09  # half counts make it a little smaller where bins are nearly empty


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_value_is_lost_in_the_bins(values: list[int]) -> None:
    frame = pd.Series(values).value_counts().rename_axis("value").reset_index(name="n")
    found = counted(frame)
    assert found.n == len(values)
    assert len(found.counts) == len(found.edges) + 1
    assert counted(frame, found) == found
    assert list(found.edges) == sorted(set(found.edges))


def test_new_categories_stand_at_the_end() -> None:
    then = counted(pd.DataFrame({"value": ["watch", "rating"], "n": [5, 3]}))
    now = counted(pd.DataFrame({"value": ["click", "watch"], "n": [7, 2]}), then)
    assert now == Distribution((0, 2, 7), categories=("rating", "watch", "click"))
    found = module._change("kind", "inputs", then, now)
    assert found.psi == pytest.approx(psi([3, 5, 0], [0, 2, 7]))


# A dataset with a run ------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(small_dataset: Callable[..., Dataset]) -> Dataset:
    """Finished runs in use that kept their inputs as a fit does."""
    data = small_dataset("demo", n_users=120)
    for model in runs.MODELS:
        made.write_run(data, model)
        profile.profile(data, model).write(home.runs("demo", model) / made.RUN / profile.INPUTS)
    return data


def changed(data: Dataset, change: Callable[[dict[str, pd.DataFrame]], None]) -> Dataset:
    """The dataset with other tables under the same name."""
    tables = {table: data.read(table) for table in data.rows}
    change(tables)
    return write_dataset(data.name, tables, sources=[Source("t", "t")], replace=True)


def named(found: module.Drift, what: str) -> module.Change:
    return next(change for change in found.changes if change.what == what)


@pytest.mark.parametrize("model", runs.MODELS)
def test_the_same_tables_are_stable(trained: Dataset, model: str) -> None:
    found = drift(trained, model)
    assert found.changes
    assert all(change.psi in (0, None) and change.share in (0, None) for change in found.changes)
    assert (found.state, found.told, found.missing) == (STABLE, [], ())
    assert found.notes == ("Nothing is scored yet.",)


def test_other_ratings_are_found(trained: Dataset) -> None:
    def worse(tables: dict[str, pd.DataFrame]) -> None:
        tables["interactions"]["rating"] = (tables["interactions"]["rating"] - 2).clip(1, 5)

    found = drift(changed(trained, worse), "recommender")
    assert named(found, "rating").state == MUCH
    assert found.state == MUCH
    assert found.told == [f"The data have changed since the training: rating (PSI {named(found, 'rating').psi:.2f})."]
    assert named(found, "events of a member").psi == 0


def test_new_rows_are_looked_at_alone(trained: Dataset) -> None:
    """A table that only grows: its last 150 ratings are all low, a twelfth of the whole."""

    def grow(tables: dict[str, pd.DataFrame]) -> None:
        rows = tables["interactions"]
        new = rows.head(150).assign(rating=1.0)
        new["timestamp"] = rows["timestamp"].max() + pd.to_timedelta(np.arange(1, 151), unit="h")
        tables["interactions"] = pd.concat([rows, new], ignore_index=True)

    grown = changed(trained, grow)
    found = named(drift(grown, "recommender"), "rating")
    assert (found.now, found.state) == (150, MUCH)
    whole = counted(grown.interactions(["rating"]).value_counts().rename_axis("value").reset_index(name="n"))
    assert whole.n > 1000

    def grow_a_little(tables: dict[str, pd.DataFrame]) -> None:
        rows = tables["interactions"]
        tables["interactions"] = rows[rows["timestamp"] < rows["timestamp"].max() - pd.Timedelta(hours=60)]

    shrunk = changed(grown, grow_a_little)  # 90 new rows are too few to be looked at alone
    assert named(drift(shrunk, "recommender"), "rating").now == shrunk.rows["interactions"]


def test_new_members_and_titles_are_counted(trained: Dataset) -> None:
    def others(tables: dict[str, pd.DataFrame]) -> None:
        rows = tables["interactions"]
        number = rows["user_id"].str[1:].astype(int)
        rows["user_id"] = rows["user_id"].where(number >= 60, "new" + rows["user_id"])

    found = drift(changed(trained, others), "retention")
    assert named(found, "new members").share == 0.5
    assert named(found, "new members").state == MUCH
    assert "new members (50 %)" in found.told[0]
    assert named(drift(open_dataset("demo"), "recommender"), "new titles").share == 0


def test_the_share_of_new_ids_is_told_from_a_sample(trained: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SAMPLE", 40)
    kept = profile.profile(trained, "retention").ids["members"]
    assert len(kept["hashes"]) == 40
    assert drift(trained, "retention").state == STABLE

    def twice(tables: dict[str, pd.DataFrame]) -> None:
        rows = tables["interactions"]
        tables["interactions"] = pd.concat([rows, rows.assign(user_id="x" + rows["user_id"])], ignore_index=True)

    more = changed(trained, twice)
    sample = profile.profile(more, "retention", Profile(ids={"members": kept})).ids["members"]["hashes"]
    new = sum(h not in kept["hashes"] for h in sample) / len(sample)
    assert 0.3 < new < 0.7  # half of them, from about 80


def test_a_column_that_is_gone_is_missing(trained: Dataset) -> None:
    def without(tables: dict[str, pd.DataFrame]) -> None:
        tables["interactions"]["rating"] = np.nan

    found = drift(changed(trained, without), "recommender")
    assert found.missing == ("interactions.rating",)
    assert found.state == MUCH
    assert "What the model learned from is gone: interactions.rating." in found.told


def test_reviews_and_visits_drift_too(trained: Dataset) -> None:
    def other(tables: dict[str, pd.DataFrame]) -> None:
        tables["reviews"]["text"] = tables["reviews"]["text"] * 6
        rows = tables["interactions"]
        first = rows["timestamp"].min()
        rows["timestamp"] = first + (rows["timestamp"] - first) * 5

    data = changed(trained, other)
    assert named(drift(data, "sentiment"), "characters of a review").state == MUCH
    assert named(drift(data, "sentiment"), "label").state == STABLE
    assert named(drift(data, "retention"), "days between visits").state == MUCH
    assert named(drift(data, "engagement"), "events of a day").state == MUCH


def test_chance_in_small_tables_is_no_drift(small_dataset: Callable[..., Dataset]) -> None:
    """Other members and titles by the same rule: large PSI of few values, and no word of drift."""
    data = small_dataset("demo", n_users=24)
    made.write_run(data, "recommender")
    profile.profile(data, "recommender").write(home.runs("demo", "recommender") / made.RUN / profile.INPUTS)
    found = drift(small_dataset("demo", n_users=24, seed=9), "recommender")
    changes = [change for change in found.changes if change.psi is not None]
    assert max(change.psi or 0 for change in changes) > LARGE
    assert {change.state for change in changes} == {STABLE}


def test_bands() -> None:
    def state(value: float, chance: float = 0.0) -> str:
        return module.Change("x", "inputs", 9, 9, psi=value, by_chance=chance).state

    assert [state(v) for v in (0.09, 0.1, 0.249, 0.25)] == [STABLE, SOME, SOME, MUCH]
    assert [state(0.3, 0.4), state(0.3, 0.2)] == [STABLE, MUCH]


# Scores --------------------------------------------------------------------------------------------------------------


def test_the_first_scores_are_kept_and_later_ones_compared(trained: Dataset) -> None:
    scored = made.retention(trained)
    path = home.scores("demo") / "retention.parquet"
    made.write_scores(trained, "retention", scored)
    assert "were not kept" in drift(trained, "retention").notes[0]
    keep_scores("demo", "retention", path)
    kept = home.runs("demo", "retention") / made.RUN / "scores-demo.json"
    first = kept.read_text()
    assert named(drift(trained, "retention"), "chance to come back").psi == 0
    made.write_scores(trained, "retention", scored.assign(p_return=scored["p_return"] ** 4))
    keep_scores("demo", "retention", path)
    assert kept.read_text() == first
    found = drift(trained, "retention")
    assert named(found, "chance to come back").state == MUCH
    assert found.told[0].startswith("The scores have changed: chance to come back (PSI ")
    made.write_scores(trained, "retention", scored.assign(run_id="20240101-000000-aaaa"))
    assert drift(trained, "retention").notes == (
        "The scores on disk are not of the run in use: score again to compare them.",
    )
    keep_scores("demo", "retention", path)  # of a run that is not there: nothing to keep, and no mistake


@pytest.mark.parametrize("model", runs.MODELS)
def test_each_kind_of_scores_has_a_picture(small_dataset: Callable[..., Dataset], model: str) -> None:
    data = small_dataset("demo")
    made.write_everything(data)
    path = home.scores("demo") / f"{profile.SCORES[model][0]}.parquet"
    found = score_profile(path, model)
    assert set(found.distributions) == set(profile.SCORES[model][1])
    assert all(distribution.n > 0 for distribution in found.distributions.values())
    found.write(path.with_suffix(".json"))
    assert read_profile(path.with_suffix(".json")) == found


def test_a_real_fit_and_a_real_scoring_keep_both(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset(reviews=0)
    flags = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    fit = ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset=small", "--model.size=8", *flags]
    assert recsys(fit) == 0
    assert score(["recommend", "--dataset", "small", "--users", "u1,u2"]) == 0
    run = runs.require_run("small", "recommender")
    assert not (run / "scores-small.json").exists()  # two members are no picture of all
    assert score(["recommend", "--dataset", "small"]) == 0
    found = drift(data, "recommender")
    assert {"rating", "events of a title", "new members", "score", "offers of a title"} <= {
        c.what for c in found.changes
    }
    assert (found.state, found.notes) == (STABLE, ())


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command(trained: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    def worse(tables: dict[str, pd.DataFrame]) -> None:
        tables["interactions"]["rating"] = 1.0

    assert main(["drift", "demo", "--strict"]) == 0
    assert "stable" in capsys.readouterr().out
    changed(trained, worse)
    assert main(["drift", "demo"]) == 0
    out = capsys.readouterr().out
    assert "drifted much" in out
    assert "recommender: The data have changed since the training: rating (PSI " in out
    assert main(["drift", "demo", "--json", "--model", "recommender"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [(one["model"], one["state"]) for one in found["models"]] == [("recommender", MUCH)]
    assert main(["drift", "demo", "--strict"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: Dataset 'demo', recommender: The data have changed since the training: rating")
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [None, "{", "[]", '{"distributions": {"rating": 3}}'])
def test_runs_without_a_picture_are_a_sentence(
    small_dataset: Callable[..., Dataset], content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_dataset("demo")
    made.write_run(data, "recommender")
    kept: Path = home.runs("demo", "recommender") / made.RUN / profile.INPUTS
    if content is not None:
        kept.write_text(content)
    assert main(["drift", "demo"]) == 0
    out = capsys.readouterr().out
    assert f"recommender: Run {made.RUN} kept no picture of its data" in out
    assert "retention: No run of its own is in use, so there is nothing to compare with." in out
    assert main(["drift", "missing"]) == 2
