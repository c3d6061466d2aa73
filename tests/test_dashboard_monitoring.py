"""What the dashboard says of readiness, of the gate, of drift and of model cards."""

import html
from collections.abc import Callable

import dashboard_home as made
from test_dashboard_pages import check_calm, opened
from test_dashboard_runs import named, older

from dashboard.health import Health, health
from dashboard.road import ROOT, plan
from data import home, profile, runs
from data.dataset import Dataset, Source, write_dataset
from data.profile import keep_scores
from data.report import file_sha256

HELD = "20240701-120000-bad0"


def test_a_dataset_says_whether_it_is_enough(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("demo", n_users=20, reviews=100)
    app = opened("datasets")
    text = html.unescape(check_calm(app))
    label = next(box.label for box in app.expander if box.label.startswith("Enough to learn from?"))
    assert (
        label
        == ("Enough to learn from? Yes for engagement forecast, thin for sentiment and retention, no for recommender")
        or "no for recommender" in label
    )
    assert "Members with two titles or more: 20, and at least 25 are needed" in text
    assert "python -m data ready demo" in text


def test_what_does_not_apply_is_no_alarm(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("demo", reviews=0)
    text = html.unescape(check_calm(opened("datasets")))
    assert "There are no reviews: import them with their text, and label or stars." in text
    assert "Does not apply" in text


# The gate -----------------------------------------------------------------------------------------------------------


def held_back(data: Dataset, model: str = "recommender", **report: object) -> str:
    """A run newer than the one in use that the gate did not let through."""
    why = "It is worse than the run in use: NDCG@10 0.050 instead of 0.080 on the test split (2% passes for chance)."
    ruled = {"gate": "keep", "used": False, "why": why, "told": [why], "doubts": []}
    older(data, model, run_id=HELD, value=0.05, gate=ruled, **report)
    return HELD


def test_a_run_that_was_held_back_says_why(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    made.write_everything(data)
    made.write_recommender(data)
    held_back(data)
    app = opened("models")
    text = html.unescape(check_calm(app))
    assert "Held back" in text
    assert "It is worse than the run in use: NDCG@10 0.050 instead of 0.080 on the test split" in text
    named(app, "Use this run").click().run()
    named(app, "Use it all the same").click().run()
    assert "Held back" not in check_calm(app)
    run = runs.current_run("demo", "recommender")
    assert run is not None
    assert run.name == HELD


def test_after_a_training_that_was_held_back_nothing_asks_to_train_again(small_dataset: Callable[..., Dataset]) -> None:
    """The tables changed, a run was trained on them and is worse than its baseline: what serves stays."""
    data = small_dataset("demo")
    made.write_everything(data)
    made.write_run(data, "recommender", fingerprint="an earlier one")
    before = next(one for one in health(data) if one.model == "recommender")
    assert (before.state, before.mend) == ("To be trained again", "train")
    step = next(step for step in plan("demo") if step.key == "fit-recommender")
    assert step.state == "todo"

    config = runs.QUICK_CONFIG["recommender"]
    recipe = {"config": [config], "config_sha256": [file_sha256(ROOT / config)], "overrides": []}
    held_back(data, fingerprint=data.fingerprint, recipe=recipe)
    after = next(one for one in health(data) if one.model == "recommender")
    assert (after.state, after.mend, after.kind) == ("A run was held back", "", "warn")
    assert f"Run {HELD} knows the new tables, but was held back: It is worse" in " ".join(after.problems)
    step = next(step for step in plan("demo") if step.key == "fit-recommender")
    assert (step.state, step.why) == ("done", f"run {HELD} was no better than the one in use and was held back")
    assert "A run was held back" in check_calm(opened("today"))


# Cards --------------------------------------------------------------------------------------------------------------


def test_the_card_of_the_run_that_is_shown_is_offered(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    made.write_everything(data)
    app = opened("models")
    check_calm(app)
    offered = app.get("download_button")
    assert [button.proto.label for button in offered if button.proto.label == "Model card"] == ["Model card"]


# Drift --------------------------------------------------------------------------------------------------------------


def kept_inputs(data: Dataset) -> None:
    made.write_everything(data)
    for model in runs.MODELS:
        profile.profile(data, model).write(home.runs(data.name, model) / made.RUN / profile.INPUTS)
        keep_scores(data.name, model, home.scores(data.name) / f"{profile.SCORES[model][0]}.parquet")


def recommender_health(data: Dataset) -> Health:
    return next(one for one in health(data) if one.model == "recommender")


def test_what_drifted_is_told_on_models_and_today(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo", n_users=120)
    kept_inputs(data)
    assert recommender_health(data).state == "All well"
    app = opened("models")
    text = check_calm(app)
    assert "Tables and scores look like those of the training." in text
    compared = next(frame.value for frame in app.dataframe if "PSI" in frame.value)
    assert set(compared["State"]) == {"stable"}
    assert {"Rating", "New members", "Score"} <= set(compared["What"])

    tables = {table: data.read(table) for table in data.rows}
    tables["interactions"]["rating"] = 1.0
    data = write_dataset("demo", tables, sources=[Source("t", "t")], replace=True)
    one = recommender_health(data)
    assert (one.state, one.mend) == ("To be trained again", "train")
    assert any(text.startswith("The data have changed since the training: rating (PSI ") for text in one.problems)
    assert "The data have changed since the training: rating (PSI " in check_calm(opened("today"))
    app = opened("models")
    assert "The data have changed since the training: rating (PSI " in check_calm(app)
    compared = next(frame.value for frame in app.dataframe if "PSI" in frame.value)
    assert compared.set_index("What").at["Rating", "State"] == "drifted much"


def test_scores_that_drifted_on_the_same_tables_are_told(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo", n_users=120)
    kept_inputs(data)
    scored = made.retention(data)
    made.write_scores(data, "retention", scored.assign(p_return=scored["p_return"] ** 4))
    one = next(one for one in health(data) if one.model == "retention")
    assert (one.state, one.kind) == ("Drifted", "warn")
    assert one.problems[0].startswith("The scores have changed: chance to come back (PSI ")


def test_a_run_without_a_picture_says_so_once(small_dataset: Callable[..., Dataset]) -> None:
    made.write_everything(small_dataset("demo"))
    text = check_calm(opened("models"))
    assert text.count("kept no picture of its data") == 1
    assert "PSI below 0.1" not in text
