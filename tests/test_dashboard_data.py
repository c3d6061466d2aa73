"""The page Data and batch: cards with downloads and forgetting, the import with its preview, training and scoring."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dashboard_home as made
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import check_calm, opened
from test_data_jobs import wait

from dashboard import batch, dataset_cards, forgetting, mapping, prepare, road, uploads
from data import columns, events, jobs, runs
from data.as_csv import as_csv
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from data.events import Event, Review
from data.tablefile import open_table

Small = Callable[..., Dataset]
GOOD = b"who,movieId,rating\na,1,4\nb,2,x\nc,1,5\n"


@pytest.fixture(autouse=True)
def _no_job_is_left(marquee_home: Path) -> Iterator[None]:
    """Nothing that a test started outlives it."""
    yield
    for job in jobs.list_jobs():
        if job.state == "running":
            jobs.cancel(job.id)
            wait(job, seconds=40)


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def ended() -> jobs.Job:
    return wait(jobs.list_jobs()[0], seconds=60)


def said(app: AppTest) -> str:
    return check_calm(app)


# -- cards --------------------------------------------------------------------------------------------------------


def test_a_csv_of_each_table_can_be_read_again(small_dataset: Small) -> None:
    data = small_dataset(reviews=20)
    made.write_everything(data)
    frames = {path.stem: pd.read_csv(io.BytesIO(as_csv(path))) for path in dataset_cards.tables_of(data)}
    assert set(frames) == {"interactions", "items", "users", "reviews", "recommendations", "review_scores",
                           "engagement_forecast", "retention"}  # fmt: skip
    assert frames["items"]["genres"].iloc[0] == "Drama|Action"
    again = pd.to_datetime(frames["interactions"]["timestamp"], utc=True).astype("datetime64[us, UTC]")
    assert again.tolist() == data.interactions()["timestamp"].tolist()
    aspects = frames["review_scores"]["aspects"].map(json.loads)
    assert aspects.map(len).sum() > 0


def test_a_csv_holds_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"title": ['=HYPERLINK("x")', "-1"], "genres": [["=A", "B"], []]}).to_parquet(path)
    assert as_csv(path).decode().splitlines()[1].count("'=") == 2


def test_nothing_is_read_before_a_download_is_asked_for(small_dataset: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset("demo", reviews=20)
    monkeypatch.setattr(dataset_cards, "as_csv", lambda path: pytest.fail("read too early"))
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: pytest.fail("read too early") if path.suffix == ".parquet" else read(path)
    )
    app = opened("datasets")
    said(app)
    buttons = app.get("download_button")
    assert len(buttons) == 8
    assert all(button.proto.deferred_file_id and not button.proto.url for button in buttons)


def test_what_waits_is_counted_and_added_by_a_job(small_dataset: Small) -> None:
    data = small_dataset("demo", n_users=6, reviews=0)
    assert next(b for b in opened("datasets").button if b.label.endswith("(nothing waits)")).disabled
    events.record(data, [Event("u1", "watch", "i1"), Event("new", "watch", "i2")])
    events.write_review(data, Review("u1", "i1", "Moving."))
    app = press(opened("datasets"), "Add what members did (2 events and 1 review)")
    said(app)
    assert ended().state == "done"
    assert open_dataset("demo").rows["interactions"] == data.rows["interactions"] + 2
    assert next(b for b in opened("datasets").button if b.label.endswith("(nothing waits)")).disabled


def ask_to_forget(user: str) -> AppTest:
    app = press(opened("datasets"), "Forget a member")
    app.text_input(key="forgetting-id").set_value(user)
    return press(app, "Show what would go")


def test_forgetting_says_what_goes_and_asks_again(small_dataset: Small) -> None:
    data = small_dataset("demo", n_users=6, reviews=0)
    rows = int((data.interactions()["user_id"] == "u3").sum())
    app = ask_to_forget("u3")
    text = said(app)
    assert "Member &#x27;u3&#x27; is about to be removed" in text
    assert f"<dt>Rows of interactions</dt><dd>{rows}</dd>" in text
    assert not jobs.list_jobs()  # nothing has happened yet
    press(app, "Keep the member")
    assert not jobs.list_jobs()
    press(ask_to_forget("u3"), "Forget this member for good")
    job = ended()
    assert (job.state, job.kind) == ("done", "forget a member of demo")
    assert "u3" not in set(open_dataset("demo").interactions()["user_id"])
    kept = [path for path in job.log.parent.rglob("*") if path.is_file()]
    assert {path.name for path in kept} == {"job.json", "log.txt"}
    assert not [path.name for path in kept if "u3" in path.read_text()]  # whom the job has forgotten


def test_forgetting_nobody_is_a_sentence(small_dataset: Small) -> None:
    small_dataset("demo", n_users=6, reviews=0)
    assert "holds nothing of a member &#x27;nobody&#x27;" in said(ask_to_forget("nobody"))
    assert "Give the member&#x27;s id" in said(ask_to_forget("  "))


def test_an_id_that_looks_like_a_flag_is_an_id(small_dataset: Small) -> None:
    small_dataset("demo", n_users=2, reviews=0)
    done = subprocess.run(forgetting.argv("demo", fit=False), input="--fit", capture_output=True, text=True)
    assert done.returncode == 2
    assert "holds nothing of that member" in done.stderr
    assert "--fit" not in done.stderr
    assert not runs.list_runs("demo", "recommender")


# -- import -------------------------------------------------------------------------------------------------------


def choose(app: AppTest, name: str, content: bytes, table: str = "interactions", turn: int = 0) -> AppTest:
    return app.file_uploader(key=f"up-{table}-{turn}").set_value((name, content, "text/csv")).run()


def box(app: AppTest, field: str) -> "object":
    return next(b for b in app.selectbox if str(b.key).endswith(f"-{field}") and str(b.key).startswith("map-"))


def test_a_chosen_file_is_mapped_previewed_and_imported(marquee_home: Path) -> None:
    app = choose(opened("datasets"), "../../my file.csv", GOOD)
    assert "Say which column is user_id" in said(app)
    assert next(b for b in app.button if b.label == "Import").disabled
    app = box(app, "user_id").set_value("who").run()  # type: ignore[attr-defined]
    text = said(app)
    assert "All 3 rows were read: 1 would be rejected (33 %), which is more than the 5 % allowed" in text
    frames = [frame.value for frame in app.dataframe]
    assert frames[0]["Line"].tolist() == [3]
    assert "rating 'x'" in frames[0]["Why"].iloc[0]
    assert frames[1]["user_id"].tolist() == ["a", "c"]
    kept = list((marquee_home / "jobs" / "uploads").glob("*/*"))
    assert [path.name for path in kept] == ["interactions.csv"]  # once, under a name of our own
    assert not (marquee_home / "tables").exists()
    app.text_input(key="import-name-0").set_value("mine")
    app.number_input(key="import-bad").set_value(50.0).run()
    assert "they are put aside" in said(app)
    press(app, "Import")
    job = ended()
    assert job.state == "done", jobs.tail(job)
    assert open_dataset("mine").interactions()["user_id"].tolist() == ["a", "c"]
    app.run()
    text = said(app)
    assert "is done: the dataset is listed" in text
    assert not list((marquee_home / "jobs" / "uploads").glob("*"))  # what was imported is not kept twice
    assert app.text_input(key="import-name-1").value == ""


def test_a_failed_import_says_why_and_keeps_what_was_chosen(marquee_home: Path) -> None:
    content = b"user_id,item_id\n" + b"a,1\n" * 3
    app = choose(opened("datasets"), "x.csv", content)
    app.text_input(key="import-name-0").set_value("mine").run()
    (next((marquee_home / "jobs" / "uploads").glob("*/*"))).write_bytes(b"user_id,item_id\n")
    press(app, "Import")
    assert ended().state == "failed"
    app.run()
    assert "has written nothing" in said(app)
    assert app.text_input(key="import-name-0").value == "mine"
    assert not list((marquee_home / "tables").glob("*/dataset.json"))


def test_a_file_that_is_taken_back_is_kept_no_longer(marquee_home: Path) -> None:
    app = choose(opened("datasets"), "x.csv", GOOD)
    assert list((marquee_home / "jobs" / "uploads").glob("*/*"))
    app.file_uploader(key="up-interactions-0").set_value(None).run()
    said(app)
    assert not list((marquee_home / "jobs" / "uploads").glob("*/*"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "x.csv is empty"),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 64, "x.csv is a binary file"),
        (b"PK\x03\x04" + b"\0" * 64, "x.csv is a zip archive or an Excel workbook"),
        (b"user_id,item_id\n", "x.csv has a header but no rows"),
    ],
)
def test_files_that_are_no_table_are_a_sentence_with_their_own_name(
    marquee_home: Path, content: bytes, sentence: str
) -> None:
    app = choose(opened("datasets"), "x.csv", content)
    text = said(app)
    assert sentence in text
    assert str(marquee_home) not in text


def test_names_are_refused_and_a_replacement_has_to_be_confirmed(small_dataset: Small) -> None:
    small_dataset("demo", n_users=4, reviews=0)
    app = choose(opened("datasets"), "x.csv", b"user_id,item_id\na,1\n")
    app.text_input(key="import-name-0").set_value("../x").run()
    assert "cannot be a name" in said(press(app, "Import"))
    app.text_input(key="import-name-0").set_value("demo").run()
    assert "There is a dataset &#x27;demo&#x27; already" in said(press(app, "Import"))
    assert not jobs.list_jobs()
    app.checkbox(key="import-replace-demo").check().run()
    press(app, "Import")
    assert ended().state == "done"
    assert open_dataset("demo").rows["interactions"] == 1


def test_flags_are_the_differences_from_the_guess_where_that_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user_id,item_id,score,b\na,1,2,3\n")
    file = open_table(path, columns.KNOWN)
    fields = {"user_id": "user_id", "item_id": "item_id", "timestamp": "", "rating": "b", "minutes": "", "kind": ""}
    wanted = {f"interactions.{name}": column for name, column in fields.items()}
    assert mapping.flags_of("interactions", file, wanted) == ["interactions.rating=b"]
    left_out = wanted | {"interactions.rating": ""}
    assert mapping.flags_of("interactions", file, left_out) == ["interactions.rating="]
    path.write_text('user_id,"x, rating=y"\na,1\n')
    odd = open_table(path, columns.KNOWN)
    with pytest.raises(UserError, match="cannot be named in a mapping"):
        mapping.flags_of(
            "interactions", odd, wanted | {"interactions.item_id": "", "interactions.rating": odd.columns[1]}
        )


def test_an_upload_lives_as_long_as_its_job_needs_it(marquee_home: Path) -> None:
    folder = uploads.new_folder()
    uploads.keep(folder, "items", "a.csv", io.BytesIO(b"a"))
    job = jobs.start("read it", [sys.executable, "-c", "import time; time.sleep(60)"])
    uploads.hand_over(folder, job.id)
    past = time.time() - uploads.KEPT_SECONDS - 60
    os.utime(folder, (past, past))
    uploads.tidy()
    assert folder.exists()
    jobs.cancel(job.id)
    wait(job)
    uploads.tidy()
    assert not folder.exists()


# -- train and score ----------------------------------------------------------------------------------------------


def test_each_model_has_its_own_configurations_the_quick_one_first() -> None:
    for model in runs.MODELS:
        found = batch.configs(model)
        assert found[0] == runs.QUICK_CONFIG[model]
        assert len(found) > 1
        assert all(batch.about(config) for config in found)
    assert all("retention" in config for config in batch.configs("retention"))


def test_states_of_each_model(small_dataset: Small) -> None:
    data = small_dataset("demo", reviews=30)
    text = said(opened("datasets"))
    assert text.count("Not trained") == 4
    made.write_everything(data)
    text = said(opened("datasets"))
    assert text.count("In use") == 4
    assert "2024-06-01 12:00 UTC, by other, in 1 min 30 s" in text
    assert "15 rows" in text or "rows, 20" in text
    made.write_run(data, "retention", fingerprint="another")
    text = said(opened("datasets"))
    assert "Outdated" in text
    assert "the dataset has changed since" in text
    assert text.count("In use") == 3


def test_what_does_not_apply_says_why(small_dataset: Small) -> None:
    small_dataset("demo", reviews=0)
    text = said(opened("datasets"))
    assert "Does not apply" in text
    assert "The dataset has no reviews" in text
    assert not [button for button in opened("datasets").button if str(button.key) == "train-demo-sentiment"]


def test_scores_of_an_earlier_model_say_so(small_dataset: Small) -> None:
    data = small_dataset("demo", reviews=0)
    made.write_everything(data)
    made.write_scores(data, "retention", made.retention(data).assign(run_id="20200101-000000-aaaa"))
    assert "The scores on disk are from run 20200101-000000-aaaa, not from the one in use." in said(opened("datasets"))


def slow(*_: object) -> list[str]:
    return ["-c", "import time; print('Training, 40 %: epoch 2 of 4', flush=True); time.sleep(60)"]


def test_two_trainings_of_one_model_are_refused(small_dataset: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset("demo", reviews=0)
    monkeypatch.setattr(runs, "fit_argv", slow)
    first, second = opened("datasets"), opened("datasets")
    said(first.button(key="train-demo-recommender").click().run())
    text = said(second.button(key="train-demo-recommender").click().run())
    assert "train recommender on demo (quick) is still running" in text
    assert len(jobs.list_jobs()) == 1
    again = opened("datasets")
    text = said(again)
    assert again.button(key="train-demo-recommender").disabled
    assert not again.button(key="train-demo-retention").disabled
    progress = [bar.proto.value for bar in again.get("progress")]
    assert 40 in progress
    press(again, "Cancel")
    assert ended().state == "cancelled"


def test_a_training_from_a_terminal_is_seen_and_not_joined(small_dataset: Small) -> None:
    small_dataset("demo", reviews=0)
    app = opened("datasets")
    with runs.training_lock("demo", "recommender"):
        assert runs.is_training("demo", "recommender")
        text = said(app.button(key="train-demo-recommender").click().run())
        assert "Another training of the recommender on dataset &#x27;demo&#x27; is running" in text
        assert opened("datasets").button(key="train-demo-recommender").disabled
    assert not runs.is_training("demo", "recommender")
    assert not jobs.list_jobs()


def test_a_job_that_tells_no_share_shows_none(small_dataset: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset("demo", reviews=0)
    monkeypatch.setattr(runs, "fit_argv", lambda *_: ["-c", "import time; print('Measuring ...'); time.sleep(60)"])
    app = opened("datasets")
    app.button(key="train-demo-recommender").click().run()
    while not jobs.tail(jobs.list_jobs()[0]):
        time.sleep(0.05)
    app = opened("datasets")
    assert "how much is left it does not say" in said(app)
    assert not app.get("progress")


def test_the_road_waits_for_a_job_on_the_same_model(small_dataset: Small, capsys: pytest.CaptureFixture[str]) -> None:
    small_dataset("demo", reviews=0)
    step = road.Step("fit-recommender", "Train the recommender", "todo", "")
    got: list[bool] = []

    def take() -> None:
        with prepare._turn("demo", step, "[1/9]") as waited:
            got.append(waited)

    job = jobs.start(
        "train", [sys.executable, "-c", "import time; time.sleep(60)"], lock=jobs.model_lock("demo", "recommender")
    )
    thread = threading.Thread(target=take)
    thread.start()
    thread.join(timeout=1)
    assert thread.is_alive()
    assert "[1/9] Train the recommender: waits for a job" in capsys.readouterr().out
    jobs.cancel(job.id)
    thread.join(timeout=20)
    assert got == [True]


def test_a_job_is_refused_while_the_road_is_at_its_model(small_dataset: Small) -> None:
    small_dataset("demo", reviews=0)
    step, lock = road.Step("score-retention", "Score", "todo", ""), jobs.model_lock("demo", "retention")
    nothing = [sys.executable, "-c", ""]
    with prepare._turn("demo", step, "[1/9]") as waited:
        assert not waited
        with pytest.raises(UserError, match="is still running and uses the same data"):
            jobs.start("train", nothing, lock=lock)
    assert wait(jobs.start("train", nothing, lock=lock)).state == "done"


def test_a_job_goes_on_when_the_dashboard_is_killed(marquee_home: Path) -> None:
    argv = [sys.executable, "-c", "import time; print('10 %', flush=True); time.sleep(3); print('still here')"]
    code = (
        "import time; from data import jobs;"
        f"print(jobs.start('train', {argv!r}, lock='demo-recommender').id, flush=True); time.sleep(60)"
    )
    dashboard = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert dashboard.stdout is not None
    job_id = dashboard.stdout.readline().strip()
    os.killpg(dashboard.pid, signal.SIGKILL)
    dashboard.wait()
    job = jobs.get_job(job_id)
    assert job is not None
    assert job.state == "running"
    with pytest.raises(UserError, match="train is still running"):
        jobs.start("again", argv, lock="demo-recommender")
    assert wait(job).state == "done"
    assert jobs.tail(job) == ["10 %", "still here"]


def test_a_long_name_can_be_locked(marquee_home: Path) -> None:
    job = wait(jobs.start("x", [sys.executable, "-c", ""], lock=jobs.model_lock("d" * 100, "recommender")))
    assert job.state == "done"
    assert jobs.model_lock("d" * 100, "a") != jobs.model_lock("d" * 100, "b")


def test_scoring_runs_from_any_folder(small_dataset: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_dataset("demo", reviews=0)
    made.write_run(data, "retention")
    monkeypatch.chdir(tmp_path)
    opened("datasets").button(key="score-demo-retention").click().run()
    log = "\n".join(jobs.tail(ended()))
    assert "train again or promote another run" in log  # which is what score.py says of a run that is made up
