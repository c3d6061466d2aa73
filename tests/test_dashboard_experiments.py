"""The Experiments page: with nothing logged, with little, with enough; and variety, measured or not."""

import datetime as dt
import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dashboard_home as made
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import check_calm, opened

from dashboard import ab_words, slider
from data import home, jobs, runs
from data.atomic import write_json
from data.dataset import Dataset
from data.events import Event, extent, record
from recsys.__main__ import main
from recsys.replay import ROW

N = 10
TITLES = [f"i{i}" for i in range(N)]
DAY = dt.datetime(2026, 12, 1, 12, tzinfo=dt.UTC)  # after the runs of dashboard_home


@pytest.fixture
def demo(small_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A dataset with a run in use; what it scores is the title's number, so that i9 comes first."""
    data = small_dataset("demo", reviews=0)
    made.write_run(data, "recommender")
    monkeypatch.setattr(
        "recsys.replay_scores.scores_of_run",
        lambda run, dataset, cards, since: cards["item_id"].str[1:].astype(float).to_numpy(),
    )
    return data


def view(data: Dataset, members: int, each: int, *, drawn: bool, best: int = 9, made_at: dt.datetime = DAY) -> None:
    """Members open home pages; the nearer a title's number is to `best`, the likelier it is clicked."""
    rng = np.random.default_rng(members)
    kept = []
    for number in range(members * each):
        order = rng.permutation(N) if drawn else np.arange(N)[::-1]
        about = {"place": ROW, "run_id": made.RUN, "page_id": f"{drawn}-{made_at:%Y}-{number}"}
        about["made_at"] = made_at + dt.timedelta(minutes=number)  # type: ignore[assignment]
        member = f"u{number % members}"
        for rank, title in enumerate(order, 1):
            known = {"item_id": f"i{title}", "rank": rank} | about
            kept.append(Event(member, "impression", propensity=1 / N if drawn else None, **known))  # type: ignore[arg-type]
            if rng.random() < 0.6 * np.exp(-abs(title - best)) / np.sqrt(rank):
                kept.append(Event(member, "click", **known))  # type: ignore[arg-type]
    record(data, kept)


def experiments(part: str = "clicks") -> AppTest:
    app = opened("experiments")
    if part != "clicks":
        app.session_state["experiment-demo"] = part
        app.run()
    return app


def test_nothing_is_loaded(marquee_home: Path) -> None:
    assert "Nothing is loaded yet" in check_calm(experiments())


def test_before_any_page_was_logged_it_says_what_will_be_here_and_what_it_takes(demo: Dataset) -> None:
    text = check_calm(experiments())
    assert "No page was logged yet" in text
    assert "about 78,000 pages" in text  # (2.8 / (10 % of 0.4))² of a variance of 16
    assert "is better than" not in text


def test_pages_in_the_usual_order_alone_compare_nothing(demo: Dataset) -> None:
    view(demo, members=10, each=2, drawn=False)
    text = check_calm(experiments())
    assert "No page in random order yet" in text
    assert "Top picks for you" in text
    assert "is better than" not in text


def test_few_clicks_are_not_taken_for_a_result(demo: Dataset) -> None:
    view(demo, members=12, each=2, drawn=True)
    text = check_calm(experiments())
    assert "There are too few clicks to say" in text
    assert "on 24 pages in random order, of 12 members" in text
    assert text.count("too early to tell") == 2
    assert "is better than" not in text


@pytest.mark.parametrize(
    ("best", "said"), [(9, "A is better than B by"), (4, "cannot be told apart"), (0, "B is better")]
)
def test_what_members_clicked_decides(demo: Dataset, best: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A puts i9 first and i0 last, B the other way round."""
    monkeypatch.setattr(
        "recsys.replay_scores.popularity_scores",
        lambda dataset, cards, since: -cards["item_id"].str[1:].astype(float).to_numpy(),
    )
    view(demo, members=60, each=10, drawn=True, best=best)
    view(demo, members=30, each=2, drawn=False, best=best)
    app = experiments()
    text = check_calm(app)
    assert said in text
    assert "on 600 pages in random order, of 60 members" in text
    assert "clicks per page" in text
    assert "B − A, by that model" in text
    # The same policy twice is no contest, whatever was clicked.
    app.selectbox(key="policy-b-demo").set_value(f"run:{made.RUN}").run()
    assert "A and B put the same titles in the same places" in check_calm(app)


def test_pages_whose_outcome_a_run_has_learned_are_not_used(demo: Dataset) -> None:
    before = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)  # the run was trained in June, its tables' clock is later
    view(demo, members=30, each=2, drawn=True, made_at=before)
    folder = runs.require_run("demo", "recommender")
    report = runs.read_report(folder) | {"as_of": "2100-01-01T00:00:00+00:00"}
    write_json(folder / "report.json", report)
    text = check_calm(experiments())
    assert "None of the 60 pages in random order can be used" in text
    assert "B − A" not in text
    view(demo, members=29, each=1, drawn=True)
    text = check_calm(experiments())
    assert "29 of 89 pages in random order are used" in text
    # On tables that end before the pages they are all safe, although the run was trained later.
    write_json(folder / "report.json", report | {"as_of": "1990-01-01T00:00:00+00:00"})
    assert "pages in random order are used" not in check_calm(experiments())


def test_a_page_with_an_order_that_was_not_drawn_is_found_out(demo: Dataset) -> None:
    shown = [
        Event(f"u{m}", "impression", title, place=ROW, rank=rank, page_id=f"p{m}", propensity=1 / N, made_at=DAY)
        for m in range(40)
        for rank, title in enumerate(reversed(TITLES), 1)
    ]
    record(demo, shown)
    assert "does not look drawn at random" in check_calm(experiments())


def test_without_a_recommender_there_is_nothing_to_compare(small_dataset: Callable[..., Dataset]) -> None:
    view(small_dataset("demo", reviews=0), members=5, each=1, drawn=True)
    text = check_calm(experiments())
    assert "No recommender to compare yet" in text
    assert "python -m recsys fit" in text


def test_the_store_tells_how_far_it_goes(demo: Dataset) -> None:
    assert extent("demo") == (0, 0)
    view(demo, members=1, each=1, drawn=False)
    last, number = extent("demo")
    assert last >= number >= N
    assert extent("other") == (0, 0)


# Variety -------------------------------------------------------------------------------------------------------------


def result(**changes: Any) -> dict[str, Any]:
    """As `evaluate --variety` keeps it, with two steps."""
    row = {"hr@10": 0.2, "hr@10 ±": 0.02, "ndcg@10": 0.1, "ndcg@10 ±": 0.01, "diversity@10": 0.5, "coverage@10": 0.4}
    return {
        "measure": "variety",
        "steps": [0.0, 0.3],
        "metrics": {"test": {"variety 0": row, "variety 0.3": row | {"ndcg@10": 0.095, "diversity@10": 0.55}}},
        "paired": {"variety 0": {"ndcg@10": [0.0, 0.0, 0.0]}, "variety 0.3": {"ndcg@10": [-0.005, -0.009, -0.001]}},
        "created_at": "2026-11-28T10:00:00+00:00",
        "split": {"protocol": "leave-one-out", "members": {"test": 60}},
    } | changes


def test_a_step_in_words() -> None:
    assert slider.in_words(result(), 0.3) == (
        "warn",
        "Variety 0.3: 5.0\u00a0% less accurate, lists 10\u00a0% more different.",
    )
    unsure = result(paired={"variety 0.3": {"ndcg@10": [-0.001, -0.004, 0.002]}})
    assert slider.in_words(unsure, 0.3)[1] == (
        "Variety 0.3: 1.0\u00a0% less accurate (not told apart), lists 10\u00a0% more different."
    )
    assert "−1.0\u00a0%, 95\u00a0% interval −4.0 to +2.0\u00a0%" in slider.rests_on(unsure, 0.3)
    assert slider.in_words(result(), 0.0)[0] == "none"


def test_before_it_was_measured_there_is_a_command_and_a_button(demo: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(jobs, "start", lambda kind, argv, **more: started.append((kind, argv[1:], more["lock"])))
    app = experiments("variety")
    assert "python -m recsys evaluate --data.dataset demo --variety" in check_calm(app)
    app.button(key="measure-variety-demo").click().run()
    assert started == [
        ("Measure variety of demo", ["-m", "recsys", "evaluate", "--data.dataset", "demo", "--variety"], "variety-demo")
    ]


def test_what_was_measured_is_read_off(demo: Dataset) -> None:
    folder = home.evaluations("demo", "recommender")
    folder.mkdir(parents=True)
    (folder / "damaged.json").write_text("{")
    write_json(folder / "table.json", {"metrics": {}, "created_at": "2027"})  # another evaluation
    write_json(folder / "old.json", result(created_at="2026-01-01", fingerprint="old"))
    write_json(folder / "new.json", result(fingerprint=demo.fingerprint))
    app = experiments("variety")
    text = check_calm(app)
    assert "Variety 0.3: 5.0\u00a0% less accurate" in text
    assert "has changed since" not in text
    app.select_slider(key="variety-demo").set_value(0.0).run()
    assert "Variety 0: the most likely titles" in check_calm(app)
    write_json(folder / "new.json", result(fingerprint="another"))
    app = experiments("variety")
    assert "has changed since" in check_calm(app)
    assert "Measure again" in [button.label for button in app.button]


def test_without_titles_there_is_nothing_to_tell_apart(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("demo", drop=("items",), reviews=0)
    app = experiments("variety")
    assert "Variety cannot be measured here" in check_calm(app)
    assert not any(button.label == "Measure now" for button in app.button)


def test_the_command_keeps_what_the_page_reads_and_its_lists_are_the_recommenders(
    small_dataset: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_dataset("demo", n_users=40, reviews=0)
    tiny = ["--data.dataset", "demo", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
            "--trainer.enable_progress_bar", "false", "--model.hidden", "8", "--model.size", "8"]  # fmt: skip
    assert main(["evaluate", "--variety", *tiny]) == 0
    assert main(["fit", "--config", "recsys/configs/quick.yaml", *tiny]) == 0
    capsys.readouterr()
    kept = slider.measured("demo")
    assert kept is not None
    assert kept["fingerprint"] == data.fingerprint
    assert kept["paired"]["variety 0"]["ndcg@10"] == [0.0, 0.0, 0.0]
    for step in kept["steps"]:
        now, before = (kept["metrics"]["test"][f"variety {at:g}"]["ndcg@10"] for at in (step, 0.0))
        assert kept["paired"][f"variety {step:g}"]["ndcg@10"][0] == pytest.approx(now - before, abs=1e-6)
    app = experiments("variety")
    app.select_slider(key="variety-demo").set_value(1.0).run()
    text = check_calm(app)
    assert "Variety 1: " in text
    assert text.count("Poster of") == 20
    assert "the plain list" in text or "another order" in text
    assert main(["evaluate", "--variety", "--seeds", "2", *tiny]) == 2
    assert "one seed" in capsys.readouterr().err


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(ab_words).failed == 0


def test_names_from_data_are_text() -> None:
    drawn = ab_words.ranges([ab_words.Range("<b>x", (0.5, np.nan, np.nan), "1 < 2", "<i>")])
    assert "<b>x" not in drawn
    assert "&lt;b&gt;x" in drawn
    assert "nan" not in drawn
