"""The demo's road: what is planned, what counts as done, and how a failing or finished step ends it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dashboard_home as made
import pytest
from conftest import generated_tables

from dashboard import prepare, road
from data import catalogue, home, report, runs
from data.dataset import Dataset, Source, write_dataset
from data.errors import UserError


def states(name: str) -> dict[str, str]:
    return {step.key: step.state for step in road.plan(name)}


def quick_recipe(model: str) -> dict[str, list[str]]:
    config = runs.QUICK_CONFIG[model]
    return {"config": [config], "config_sha256": [report.file_sha256(road.ROOT / config)], "overrides": []}


def write_weights() -> None:
    entry = catalogue.get(road.WEIGHTS)
    assert entry.hub is not None
    folder = home.raw() / entry.name
    folder.mkdir(parents=True)
    for name in entry.hub.files:
        (folder / name).write_bytes(b"")


def write_all(data: Dataset) -> None:
    write_weights()
    made.write_everything(data)
    for model in runs.MODELS:
        made.write_run(data, model, recipe=quick_recipe(model))


def test_everything_is_to_do_at_first(marquee_home: Path) -> None:
    plan = road.plan("demo")
    assert [step.key for step in plan] == list(road.SECONDS)
    assert {step.state for step in plan} == {"todo"}
    commands = {step.key: step.argv[1:] for step in plan}
    assert commands["dataset"] == ("-m", "data", "fetch", "demo")
    assert commands["fit-engagement"] == (
        "-m", "forecasting", "fit", "--config", "forecasting/configs/engagement-quick.yaml", "--data.dataset", "demo",
    )  # fmt: skip
    assert commands["score-sentiment"] == ("score.py", "reviews", "--dataset", "demo", "--limit", "2000")


def test_a_dataset_that_is_neither_there_nor_known_is_refused(marquee_home: Path) -> None:
    with pytest.raises(UserError, match="no public dataset"):
        road.plan("my-own")


def test_what_is_done_is_not_done_again(small_dataset: Callable[..., Dataset]) -> None:
    write_all(small_dataset("demo"))
    assert set(states("demo").values()) == {"done"}


def test_new_data_ask_for_new_models(small_dataset: Callable[..., Dataset]) -> None:
    write_all(small_dataset("demo"))
    small_dataset("demo", seed=1)
    found = states("demo")
    assert {found[f"fit-{model}"] for model in runs.MODELS} == {"todo"}
    assert found["dataset"] == "done"


def test_a_changed_recipe_asks_for_a_new_model(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    write_all(data)
    made.write_run(data, "recommender", recipe=quick_recipe("recommender") | {"config_sha256": ["0" * 64]})
    found = states("demo")
    assert found["fit-recommender"] == "todo"
    assert found["fit-sentiment"] == "done"


def test_a_recipe_of_the_users_own_is_kept(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    write_all(data)
    made.write_run(data, "recommender", recipe={"config": ["recsys/configs/full.yaml"], "config_sha256": ["1"]})
    step = next(step for step in road.plan("demo") if step.key == "fit-recommender")
    assert (step.state, "full.yaml" in step.why) == ("done", True)


def test_scores_of_an_earlier_run_are_written_again(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    write_all(data)
    made.write_scores(data, "retention", made.retention(data).assign(run_id="20200101-000000-aaaa"))
    (home.scores("demo") / "recommendations.parquet").write_bytes(b"half a file")
    found = states("demo")
    assert (found["score-retention"], found["score-recommender"], found["score-engagement"]) == ("todo", "todo", "done")


def test_what_does_not_apply_is_left_out_with_a_reason(marquee_home: Path) -> None:
    tables = generated_tables(reviews=0)
    write_dataset("mine", tables, sources=[Source("x", "import")], time_kind="order")
    plan = {step.key: step for step in road.plan("mine")}
    assert plan["fit-recommender"].state == "todo"
    for key, why in {
        "weights": "no reviews",
        "fit-sentiment": "no reviews",
        "score-sentiment": "no reviews",
        "fit-engagement": "no times",
        "score-retention": "no times",
    }.items():
        assert plan[key].state == "skipped"
        assert why in plan[key].why


def test_reviews_without_labels_are_scored_by_a_model_from_elsewhere(small_dataset: Callable[..., Dataset]) -> None:
    tables = generated_tables()
    tables["reviews"] = tables["reviews"].drop(columns="label")
    write_dataset("mine", tables, sources=[Source("x", "import")])
    plan = {step.key: step for step in road.plan("mine")}
    assert (plan["fit-sentiment"].state, plan["score-sentiment"].state) == ("skipped", "skipped")
    made.write_run(small_dataset("demo"), "sentiment")
    plan = {step.key: step for step in road.plan("mine")}
    assert (plan["fit-sentiment"].state, plan["score-sentiment"].state) == ("skipped", "todo")


def test_a_finished_road_takes_two_seconds_and_no_torch(small_dataset: Callable[..., Dataset]) -> None:
    write_all(small_dataset("demo"))
    code = (
        "import sys, time; t = time.perf_counter(); from dashboard import prepare;"
        "code = prepare.main(['--dataset', 'demo']);"
        "print(code, 'torch' in sys.modules, time.perf_counter() - t < 10)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert lines[-1] == "0 False True", result.stderr
    assert sum("done already" in line for line in lines) == 10
    assert lines[-2] == "Dataset 'demo' is prepared."


def step(*argv: str) -> road.Step:
    return road.Step("score-retention", "Score everything", "todo", "", argv)


def test_a_failing_step_ends_the_road_with_its_code(marquee_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = step(sys.executable, "-c", "import sys; print('reading'); sys.exit('error: x.csv has no column y')")
    clock = prepare.Clock()
    assert prepare.take_step(failing, "[1/1]", clock, []) == 1
    told = capsys.readouterr().err
    assert "error: x.csv has no column y" in told
    assert "Score everything ended with exit code 1" in told
    killed = step(sys.executable, "-c", "import os; os.kill(os.getpid(), 2)")
    assert prepare.take_step(killed, "[1/1]", clock, []) == 130


def test_progress_is_told_while_a_step_runs(
    marquee_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "TICK_SECONDS", 0.2)
    slow = step(sys.executable, "-c", "import time; print('epoch 1', flush=True); time.sleep(1)")
    assert prepare.take_step(slow, "[9/10]", prepare.Clock(), [60.0]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("[9/10]" in line and "% of all, about" in line and "left" in line for line in lines)
    assert any(line.endswith("Score everything: epoch 1") for line in lines)


def test_a_killed_road_takes_its_step_with_it(marquee_home: Path, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    beat = (
        f"import pathlib, time\nwhile True: pathlib.Path({str(alive)!r}).write_text(str(time.time())); time.sleep(0.05)"
    )
    code = (
        "import signal, sys; from dashboard import prepare, road\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"step = road.Step('dataset', 'x', 'todo', '', (sys.executable, '-c', {beat!r}))\n"
        "prepare.take_step(step, '', prepare.Clock(), [])"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while not alive.exists():
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=30) == 143
    last = alive.read_text()
    time.sleep(0.5)
    assert alive.read_text() == last


def test_time_left_follows_the_pace() -> None:
    clock = prepare.Clock()
    assert clock.left(0, 100, [50]) == pytest.approx(150)
    clock.step_ended(seconds=180, planned=60)
    assert clock.pace() == pytest.approx(2.0)
    assert clock.left(0, 100, [50]) == pytest.approx(300)
    assert clock.left(1000, 100, []) > 0
    # a step that takes five times as long as planned slows down what comes after it too
    assert clock.left(1000, 100, [100]) - clock.left(1000, 100, []) > 400
    assert 0 < clock.share(10, 100, [50]) < 1


def test_wrong_flags_end_with_two(marquee_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["--dataset", "no/such"]) == 2
    assert prepare.main(["--datset", "demo"]) == 2
    assert prepare.main(["--dataset", "my-own"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_two_roads_to_one_dataset_exclude_each_other(marquee_home: Path) -> None:
    with prepare.one_at_a_time("demo"), pytest.raises(UserError, match="being prepared"), prepare.one_at_a_time("demo"):
        pass
