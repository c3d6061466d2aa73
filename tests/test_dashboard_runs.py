"""Models: putting a run into use and back, what is said before the second click, and what if the run is gone."""

import html
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dashboard_home as made
import pytest
import torch
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import check_calm, opened

from dashboard import promotion, run_list, store
from dashboard.learning import compared
from data import home, jobs, runs
from data.atomic import write_json, write_text
from data.dataset import Dataset
from data.headline import headline_of
from recsys.__main__ import main as recommender

OLD = "20240501-120000-0000"


@pytest.fixture
def full(small_dataset: Callable[..., Dataset]) -> Dataset:
    data = small_dataset("demo")
    made.write_everything(data)
    made.write_recommender(data)
    return data


def older(data: Dataset, model: str, run_id: str = OLD, value: float | None = None, **report: object) -> Path:
    """A finished run that is not in use, like the one that is; `value` is its headline's."""
    current = home.runs(data.name, model) / made.RUN
    folder = current.parent / run_id
    shutil.copytree(current, folder)
    found = json.loads((folder / "report.json").read_text()) | {
        "run_id": run_id,
        "created_at": "2024-05-01T12:00:00+00:00",
    }
    headline = found["headline"]
    if value is not None:
        found["metrics"]["test"][headline["ours"]][headline["metric"]] = value
    write_json(folder / "report.json", found | report)
    return folder


def named(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label.startswith(label))


def plainly(app: AppTest) -> str:
    """What the page says, with its quotation marks."""
    return html.unescape(check_calm(app))


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def current(data: Dataset, model: str = "recommender") -> str:
    run = runs.current_run(data.name, model)
    assert run is not None
    return run.name


def test_a_worse_run_needs_a_second_click_that_knows_it(full: Dataset) -> None:
    older(full, "recommender", value=0.05)
    app = opened("models")
    check_calm(app)
    named(app, "Use this run").click().run()
    text = check_calm(app)
    assert current(full) == made.RUN  # one click changes nothing
    figures = "NDCG@10 0.050 instead of 0.080 on the test split (2% passes for chance)"
    assert f"It is worse than the run in use: {figures}." in text
    assert f"It is worse than its best baseline, EASE: {figures.replace('0.080', '0.070')}." in text
    assert "The scores on disk stay those of the run before" in text
    named(app, "Use it all the same").click().run()
    text = plainly(app)
    assert current(full) == OLD
    assert f"Run {OLD} is in use on dataset 'demo'." in text
    assert f"The scores on disk are from run {made.RUN}, not from the one in use." in text
    assert "python score.py recommend --dataset demo --top-k 100" in text
    assert "Score now" in labels(app)
    named(app, "Undo").click().run()
    text = check_calm(app)
    assert current(full) == made.RUN
    assert "The scores on disk are from" not in text
    assert not any(label.startswith("Undo") for label in labels(app))


def test_a_better_run_is_offered_without_a_warning_and_can_be_left(full: Dataset) -> None:
    older(full, "recommender", value=0.09)
    app = opened("models")
    named(app, "Use this run").click().run()
    text = check_calm(app)
    assert "NDCG@10 on the test split, higher is better: 0.090; of the run in use 0.080." in text
    assert "It is worse" not in text
    assert "Use it" in labels(app)
    named(app, "Keep the one in use").click().run()
    check_calm(app)
    assert current(full) == made.RUN
    assert "Use this run" in labels(app)


def test_where_less_is_better_more_is_worse(full: Dataset) -> None:
    older(full, "engagement", value=0.95)
    said = promotion.against(*runs.list_runs("demo", "engagement")[::-1])
    assert said == [
        "It is worse than the run in use: relMAE 0.950 instead of 0.900 on the test split (2% passes for chance)."
    ]


def test_other_tables_and_other_metrics_are_told(full: Dataset) -> None:
    folder = older(full, "recommender", fingerprint="0123456789abcdef")
    now, old = runs.list_runs("demo", "recommender")
    assert promotion.against(old, now) == [
        "The two were measured on different tables, or by another metric or split: which is better is not known."
    ]
    report = json.loads((folder / "report.json").read_text())
    write_json(folder / "report.json", report | {"headline": report["headline"] | {"split": "validation"}})
    assert promotion.against(runs.list_runs("demo", "recommender")[1], now)[0].startswith(
        "Its report holds no headline"
    )


def test_a_run_that_was_deleted_meanwhile_is_a_sentence(full: Dataset) -> None:
    folder = older(full, "recommender")
    app = opened("models")
    named(app, "Use this run").click().run()
    shutil.rmtree(folder)
    named(app, "Use it").click().run()
    assert f"Run {OLD} was deleted meanwhile: nothing was changed." in check_calm(app)
    assert current(full) == made.RUN
    folder = older(full, "recommender")
    app = opened("models")
    shutil.rmtree(folder)
    named(app, "Use this run").click().run()
    assert "was deleted meanwhile: nothing was changed" in check_calm(app)


def test_a_run_that_lost_its_weights_is_not_put_into_use(full: Dataset) -> None:
    folder = older(full, "recommender")
    app = opened("models")
    named(app, "Use this run").click().run()
    (folder / "model.ckpt").unlink()
    named(app, "Use it").click().run()
    said = check_calm(app)
    assert "is not a finished run" in said
    assert f"The weights (model.ckpt) of recommender run {folder.name}" in said
    assert current(full) == made.RUN


def test_a_model_whose_only_run_lost_its_weights_is_not_called_untrained(full: Dataset) -> None:
    for run in runs.list_runs(full.name, "retention"):
        (run.folder / "model.ckpt").unlink()
    app = opened("models")
    app.session_state["model"] = "retention"
    said = check_calm(app.run())
    assert "The model was trained, but its weights are gone" in said
    assert "No model is trained" not in said


def test_a_run_that_the_code_cannot_load_is_not_put_into_use(full: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Its weights are of a model of another shape, as after a change of the code."""
    folder = older(full, "recommender")
    checkpoint = torch.load(folder / "model.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["gmf_size"] = 3
    torch.save(checkpoint, folder / "model.ckpt")
    app = opened("models")
    named(app, "Use this run").click().run()
    named(app, "Use it").click().run()
    text = plainly(app)
    assert f"Run {OLD} was not put into use: " in text
    assert "model.ckpt cannot be loaded (RuntimeError): train again or promote another run." in text
    assert current(full) == made.RUN
    assert recommender(["promote", OLD]) == 2
    assert f"error: Run {OLD} was not put into use: " in capsys.readouterr().err
    assert current(full) == made.RUN


def test_a_training_that_would_take_its_place_is_told(full: Dataset) -> None:
    older(full, "recommender", value=0.09)
    app = opened("models")
    with runs.training_lock("demo", "recommender"):
        named(app, "Use this run").click().run()
        assert "A training of this model runs now: at its end, its own run comes into use" in check_calm(app)
        assert "Use it all the same" in labels(app)
    app.run()
    assert "A training of this model" not in check_calm(app)
    job = jobs.start(
        "train recommender on demo (quick)",
        [sys.executable, "-c", "import time; time.sleep(60)"],
        lock=jobs.model_lock("demo", "recommender"),
    )
    app.run()
    assert "A training of this model runs now" in check_calm(app)  # it does not hold the training's own lock yet
    jobs.cancel(job.id)


def test_unfinished_runs_are_counted_but_not_offered(full: Dataset) -> None:
    (home.runs("demo", "recommender") / "20240701-000000-ffff").mkdir()
    app = opened("models")
    assert "1 further folder holds a training that goes on or was interrupted" in check_calm(app).replace("\\", "")
    assert "Use this run" not in labels(app)


def test_no_run_in_use_can_be_mended(full: Dataset) -> None:
    write_text(home.runs("demo", "recommender") / "current", "20200101-000000-gone\n")
    app = opened("models")
    assert "No run is in use" in check_calm(app)
    named(app, "Use this run").click().run()
    named(app, "Use it").click().run()
    check_calm(app)
    assert current(full) == made.RUN
    assert not any(label.startswith("Undo") for label in labels(app))  # there was none before


def test_a_run_of_another_dataset_says_whom_it_serves(
    full: Dataset, small_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp.scorer.SentimentScorer.load", lambda run: run)  # these runs hold no weights
    small_dataset("other", n_users=20)
    older(full, "sentiment", value=0.9)
    app = opened("models", dataset="other")
    app.get("button_group")[0].set_value("sentiment").run()
    assert "Dataset 'other' is served by the model trained on 'demo'." in plainly(app)
    named(app, "Use this run").click().run()
    text = plainly(app)
    assert f"Dataset 'demo' uses run {OLD} from then on." in text
    assert "Without a sentiment model of their own, 'other' would use it too." in text
    named(app, "Use it").click().run()
    check_calm(app)
    assert current(full, "sentiment") == OLD
    third = small_dataset("third", n_users=20)
    made.write_run(third, "sentiment")
    now, old = runs.list_runs("demo", "sentiment")
    assert promotion.served_with(now, "other") == made.RUN
    told = promotion.consequences("sentiment", old, now)
    assert "would use run 20240601-120000-ab12 of another dataset" in told[-1]


def test_the_chosen_run_stands_beside_the_one_in_use(full: Dataset) -> None:
    folder = older(full, "recommender", value=0.09)
    for run in (folder, folder.parent / made.RUN):
        report = json.loads((run / "report.json").read_text())
        report["metrics"]["test"]["NeuMF"] |= {"log_loss": 0.3 if run == folder else 0.2, "±": 0.01, "users": 9}
        write_json(run / "report.json", report)
    now, old = runs.list_runs("demo", "recommender")
    deltas = compared(now.report, old.report)
    assert [(d.metric, d.kind) for d in deltas] == [("ndcg@10", "better"), ("log_loss", "worse")]
    assert deltas[0].difference == pytest.approx(0.01)
    app = opened("models")
    assert "Beside the run in use" not in [head.value for head in app.header]
    next(box for box in app.selectbox if box.label == "Run").set_value(OLD).run()
    text = check_calm(app)
    assert "Beside the run in use" in [head.value for head in app.header]
    assert "+0.0100, better" in text
    assert "+0.1000, worse" in text


def test_a_long_list_grows_on_demand_and_the_table_has_all(full: Dataset) -> None:
    for number in range(12):
        older(full, "recommender", run_id=f"20240501-1200{number:02d}-0000")
    app = opened("models")
    check_calm(app)
    assert labels(app).count("Use this run") == run_list.LISTED - 1
    assert len(next(frame.value for frame in app.dataframe if "Run" in frame.value)) == 13
    named(app, "Show 5 more").click().run()
    check_calm(app)
    assert labels(app).count("Use this run") == 12


def test_markup_in_a_report_is_shown_as_text(full: Dataset) -> None:
    bad = "<img src=x onerror=alert(1)>"
    folder = older(full, "recommender", device=bad)
    report = json.loads((folder / "report.json").read_text())
    metrics = {bad: {"ndcg@10": 0.1}, "EASE <b>": {"ndcg@10": 0.2}}
    headline = report["headline"] | {"ours": bad}
    write_json(folder / "report.json", report | {"metrics": {"test": metrics}, "headline": headline})
    app = opened("models")
    named(app, "Use this run").click().run()
    text = check_calm(app)
    assert "<img" not in text
    assert "EASE <b>" not in text
    found = headline_of(runs.list_runs("demo", "recommender")[1].report)
    assert found is not None
    assert found.is_worse


def test_the_live_model_is_the_run_that_was_asked_for(full: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when another one came into use before its turn to be loaded came."""
    older(full, "recommender")
    waiting: list[tuple[Any, ...]] = []

    class Loaders:
        def submit(self, load: Callable[..., Any], *arguments: Any) -> Any:
            waiting.append(arguments)
            return None

    monkeypatch.setattr(store, "_loaders", Loaders())
    store._start_loading.clear()
    first = store.live("demo", "recommender")
    runs.promote(home.runs("demo", "recommender") / OLD)
    second = store.live("demo", "recommender")
    assert first is not None
    assert second is not None
    assert (first.run_id, second.run_id) == (made.RUN, OLD)
    assert [run.name for _, run in waiting] == [made.RUN, OLD]
    loaded: list[Path] = []

    class Engine:
        feedback = ()

        @staticmethod
        def load(run: Path) -> "Engine":
            loaded.append(run)
            return Engine()

    monkeypatch.setattr("recsys.scorer.Recommender", Engine)
    for arguments in waiting:
        store._load(*arguments)
    assert [run.name for run in loaded] == [made.RUN, OLD]
    store._start_loading.clear()
