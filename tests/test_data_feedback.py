"""What members did goes into the tables once, and whoever is forgotten is gone from everything at once."""

import datetime as dt
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import events, feedback, home, replies, runs
from data.__main__ import main
from data.dataset import Dataset, Source, open_dataset, write_dataset
from data.errors import UserError
from data.events import Event, Review
from data.feedback import export_events, forget

AS_OF = pd.Timestamp("2024-03-01 12:00", tz="UTC")


@pytest.fixture
def mine(marquee_home: Path, tmp_path: Path) -> Dataset:
    """Three members, two titles, two reviews; a note beside the tables that has to stay."""
    (tmp_path / "LICENSE.txt").write_text("terms")
    (tmp_path / "rejects.csv").write_text('file,line,reason,row\nx.csv,3,no time,"u2,i1,"\nx.csv,4,no time,"u22,i1,"\n')
    tables = {
        "interactions": pd.DataFrame(
            {
                "user_id": ["u1", "u2", "u2", "u3"],
                "item_id": ["i1", "i1", "i2", "i2"],
                "timestamp": AS_OF - pd.to_timedelta([3, 2, 1, 0], unit="D"),
                "rating": [5.0, 4.0, 3.0, None],
                "kind": ["rating", "rating", "rating", "watch"],
            }
        ),
        "users": pd.DataFrame({"user_id": ["u1", "u2", "u3"], "plan": ["a", "b", "a"], "age": [30, 40, 50]}),
        "items": pd.DataFrame({"item_id": ["i1", "i2"], "title": ["One", "Two"]}),
        "reviews": pd.DataFrame({"review_id": ["r1", "r2"], "text": ["Good", "Bad"], "user_id": ["u1", "u2"]}),
    }
    extra = {name: tmp_path / name for name in ("LICENSE.txt", "rejects.csv")}
    return write_dataset("mine", tables, sources=[Source("t", "t")], notes=["a note"], extra_files=extra)


def at(data: Dataset, hours: float) -> dt.datetime:
    return dt.datetime.fromisoformat(data.created_at) + dt.timedelta(hours=hours)


def test_events_join_the_tables_once(mine: Dataset, database: str) -> None:
    before = mine.interactions()
    events.record(mine, [Event("u1", "watch", "i2", minutes=90, made_at=at(mine, 5)), Event("new", "impression", "i1")])
    events.write_review(mine, Review("u1", "i2", "Fine.", 4, made_at=at(mine, 6)))
    done = export_events("mine")
    assert (done.events, done.reviews, done.members) == (2, 1, 1)
    after = open_dataset("mine")
    table = after.interactions()
    assert table["kind"].tolist() == ["rating", "rating", "rating", "watch", "watch", "impression"]
    assert table["timestamp"].iloc[4] == AS_OF + pd.Timedelta(hours=5)
    assert table["minutes"].iloc[4] == 90
    pd.testing.assert_frame_equal(table.head(4), before)
    assert after.as_of == AS_OF + pd.Timedelta(hours=6)
    review = after.reviews().iloc[2]
    assert (review["user_id"], review["item_id"], review["text"], review["stars"]) == ("u1", "i2", "Fine.", 4.0)
    assert (review["created_at"], review["source"]) == (AS_OF + pd.Timedelta(hours=6), "dashboard")
    assert after.users()["user_id"].tolist() == ["u1", "u2", "u3", "new"]
    assert after.users()["age"].tolist()[:3] == [30, 40, 50]
    assert pd.isna(after.users()["age"].iloc[3])
    assert after.fingerprint != mine.fingerprint
    assert [source.name for source in after.sources] == ["t", "the dashboard"]
    assert after.notes == ("a note",)
    assert (after.folder / "LICENSE.txt").read_text() == "terms"
    again = export_events("mine")
    assert (again.events, again.reviews, again.members) == (0, 0, 0)
    assert open_dataset("mine").fingerprint == after.fingerprint


def test_the_clock_goes_on_without_a_jump_over_an_export(mine: Dataset) -> None:
    events.record(mine, [Event("u1", "watch", "i2", made_at=at(mine, 5))])
    after = export_events("mine").dataset
    assert events.service_time(after, at(mine, 5)) == AS_OF + pd.Timedelta(hours=5)
    assert events.service_time(after, at(mine, 9)) == AS_OF + pd.Timedelta(hours=9)
    events.record(after, [Event("u2", "watch", "i2", made_at=at(mine, 9))])
    assert export_events("mine").dataset.as_of == AS_OF + pd.Timedelta(hours=9)
    forget("mine", "u3")
    assert events.service_time(open_dataset("mine"), at(mine, 10)) == AS_OF + pd.Timedelta(hours=10)


def test_a_dataset_that_is_imported_anew_gets_all_events_again(mine: Dataset) -> None:
    before = mine.interactions()
    events.record(mine, [Event("u1", "watch", "i2")])
    assert export_events("mine").events == 1
    write_dataset("mine", {"interactions": before}, sources=[], replace=True)
    assert export_events("mine").events == 1


def test_an_export_that_fails_changes_nothing(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    events.record(mine, [Event("u1", "watch", "i2")])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(feedback, "write_dataset", full)
        with pytest.raises(OSError, match="No space"):
            export_events("mine")
    assert open_dataset("mine").fingerprint == mine.fingerprint
    assert len(open_dataset("mine").interactions()) == 4
    assert {path.name for path in home.tables("mine").parent.iterdir()} == {"mine", ".mine.lock"}
    assert export_events("mine").events == 1


def test_exports_at_once_add_every_event_once(mine: Dataset, database: str) -> None:
    def work(number: int) -> int:
        if number % 3 == 0:
            return export_events("mine").events
        events.record(mine, [Event(f"m{number}", "watch", "i1") for _ in range(3)])
        return 0

    with ThreadPoolExecutor(6) as pool:
        exported = sum(pool.map(work, range(24)))
    exported += export_events("mine").events
    assert exported == 16 * 3
    assert len(open_dataset("mine").interactions()) == 4 + 16 * 3


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["event", "review", "export"]), max_size=12))
def test_whatever_the_order_the_tables_hold_everything_exported(mine: Dataset, steps: list[str]) -> None:
    data = write_dataset(
        "mine", {"interactions": mine.interactions()[:4]}, sources=[], replace=True, exported=_all_so_far()
    )
    happened = exported = 0
    for number, step in enumerate(steps):
        if step == "event":
            events.record(data, [Event(f"u{number}", "thumb_up", "i1")])
            happened += 1
        elif step == "review":
            events.write_review(data, Review("u1", "i1", "x"))
        else:
            exported += export_events("mine").events
    assert len(open_dataset("mine").interactions()) == 4 + exported
    assert export_events("mine").events == happened - exported


def _all_so_far() -> dict[str, int]:
    found = {"events": events.events("mine"), "reviews": events.reviews("mine")}
    return {name: int(frame["number"].max()) for name, frame in found.items() if len(frame)}


# -- forgetting ----------------------------------------------------------------------------------------------------


def test_a_forgotten_member_is_gone_everywhere(mine: Dataset, database: str) -> None:
    events.record(mine, [Event("u2", "watch", "i1"), Event("u2", "thumb_up", "i1"), Event("u22", "watch", "i1")])
    review = Review("u2", "i1", "Mine.")
    events.write_review(mine, review)
    for review_id in ("r1", "r2", review.review_id):
        replies.decide("mine", review_id, "approved", "Thanks")
    scores = home.scores("mine")
    scores.mkdir(parents=True)
    for name in ("recommendations", "retention"):
        pq.write_table(pa.table({"user_id": ["u1", "u2", "u2"], "x": [1, 2, 3]}), scores / f"{name}.parquet")
    pq.write_table(pa.table({"review_id": ["r1", "r2"]}), scores / "review_scores.parquet")
    pq.write_table(pa.table({"series_id": ["total"]}), scores / "engagement_forecast.parquet")
    (scores / "winback.csv").write_text('user_id,reason\nu2,"a, b"\nu22,c\n')
    other = write_dataset("other", {"interactions": mine.interactions()}, sources=[])

    found = forget("mine", "u2")
    assert found == {
        "events in the database": 2,
        "reviews in the database": 1,
        "replies in the database": 2,
        "rows of interactions": 2,
        "rows of users": 1,
        "rows of reviews": 1,
        "rejected rows": 1,
        "rows of recommendations.parquet": 2,
        "rows of retention.parquet": 2,
        "rows of review_scores.parquet": 1,
        "rows of winback.csv": 1,
    }
    after = open_dataset("mine")
    for path in [*after.folder.glob("*.parquet"), *scores.glob("*.parquet")]:
        assert "u2" not in pq.read_table(path).to_pandas().astype(str).to_numpy().ravel(), path.name
    assert after.interactions()["user_id"].tolist() == ["u1", "u3"]
    assert (after.as_of, after.time_kind, after.notes) == (mine.as_of, "real", ("a note",))
    assert (after.folder / "rejects.csv").read_text().count("u2,") == 0
    assert (after.folder / "rejects.csv").read_text().count("u22,") == 1
    assert (scores / "winback.csv").read_text().splitlines() == ["user_id,reason", "u22,c"]
    assert events.events("mine")["user_id"].tolist() == ["u22"]
    assert replies.decisions("mine")["review_id"].tolist() == ["r1"]
    assert open_dataset("other").fingerprint == other.fingerprint
    with pytest.raises(UserError, match="nothing of a member 'u2'"):
        forget("mine", "u2")
    assert open_dataset("mine").fingerprint == after.fingerprint


def test_scores_without_the_member_stay_as_they_are(mine: Dataset) -> None:
    scores = home.scores("mine")
    scores.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": ["u1", "u3"]}), scores / "retention.parquet")
    pq.write_table(pa.table({"review_id": ["r1"]}), scores / "review_scores.parquet")
    (scores / "winback.csv").write_text("user_id,reason\nu22,c\n")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in scores.iterdir()}
    forget("mine", "u2")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in scores.iterdir()} == before


def test_reviews_of_the_member_go_from_any_score_table(mine: Dataset) -> None:
    scores = home.scores("mine")
    scores.mkdir(parents=True)
    (scores / "exported.csv").write_text("review_id,label\nr1,positive\nr2,negative\n")
    pq.write_table(pa.table({"user_id": ["u1", None], "review_id": ["r1", "r2"]}), scores / "both.parquet")
    left = scores / ".review_scores.parquet.parts"  # of a scoring that was killed
    left.mkdir()
    pq.write_table(pa.table({"review_id": ["r2"]}), left / "first.parquet")
    found = forget("mine", "u2")
    assert (found["rows of exported.csv"], found["rows of both.parquet"]) == (1, 1)
    assert (scores / "exported.csv").read_text().splitlines() == ["review_id,label", "r1,positive"]
    assert pq.read_table(scores / "both.parquet")["review_id"].to_pylist() == ["r1"]
    assert {path.name for path in scores.iterdir()} == {"exported.csv", "both.parquet"}


def test_interrupted_forgetting_does_not_say_that_nothing_was_changed(
    mine: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feedback, "_forget_in_database", interrupted)
        assert main(["forget", "u2", "--dataset", "mine"]) == 130
    said = capsys.readouterr().err
    assert "some rows of the member may be gone already" in said
    assert "nothing was changed" not in said
    trained("mine", "retention", "20240101-000000-aaaa")
    monkeypatch.setattr(subprocess, "run", interrupted)
    assert main(["forget", "u1", "--dataset", "mine", "--fit"]) == 130
    assert "member 'u1' is removed, but the models know them until" in capsys.readouterr().err


def test_a_new_member_joins_users_whatever_columns_they_have(mine: Dataset) -> None:
    users = pd.DataFrame(
        {
            "user_id": ["u1"],
            "joined": [AS_OF],
            "born": [dt.date(1990, 1, 1)],
            "paying": [True],
            "devices": [["tv", "phone"]],
            "seats": [3],
        }
    )
    tables = {"interactions": mine.interactions(), "users": users}
    write_dataset("mine", tables, sources=[], replace=True)
    events.record(open_dataset("mine"), [Event("new", "watch", "i2")])
    assert export_events("mine").members == 1
    after = pq.read_table(open_dataset("mine").path("users")).to_pylist()
    assert after[0] == users.iloc[0].to_dict()
    assert after[1] == {"user_id": "new"} | dict.fromkeys(("joined", "born", "paying", "devices", "seats"))


def test_the_id_can_come_without_being_told(
    mine: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("u2\n"))
    assert main(["forget", "--stdin", "--dataset", "mine"]) == 0
    said = capsys.readouterr()
    assert "The member is removed from dataset 'mine':" in said.out
    assert "u2" not in said.out + said.err
    monkeypatch.setattr(sys, "stdin", io.StringIO("nobody"))
    assert main(["forget", "--stdin", "--dataset", "mine"]) == 2
    assert "nobody" not in capsys.readouterr().err
    for both_or_none in (["u1", "--stdin"], []):
        assert main(["forget", *both_or_none, "--dataset", "mine"]) == 2
        assert "Give the id of the member to forget" in capsys.readouterr().err


def test_the_only_member_can_be_forgotten(marquee_home: Path) -> None:
    interactions = pd.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [AS_OF]})
    write_dataset("mine", {"interactions": interactions}, sources=[])
    assert forget("mine", "u") == {"rows of interactions": 1}
    after = open_dataset("mine")
    assert not after.has("interactions")
    assert after.as_of == AS_OF


def test_events_of_a_forgotten_member_do_not_come_back(mine: Dataset) -> None:
    events.record(mine, [Event("u2", "watch", "i1"), Event("u1", "watch", "i1")])
    export_events("mine")
    events.record(mine, [Event("u2", "watch", "i2")])
    forget("mine", "u2")
    assert export_events("mine").events == 0
    assert "u2" not in set(open_dataset("mine").interactions()["user_id"])


# -- commands ------------------------------------------------------------------------------------------------------


def test_the_commands_say_what_they_did(mine: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-events", "mine"]) == 0
    assert "Nothing has happened in the dashboard on 'mine'" in capsys.readouterr().out
    events.record(mine, [Event("new", "watch", "i2", made_at=at(mine, 2))])
    assert main(["export-events", "mine"]) == 0
    told = capsys.readouterr().out
    assert "Added to 'mine': 1 event, 0 reviews, 1 new member. Its clock is now 2024-03-01 14:00 UTC." in told
    assert "Next: python -m recsys fit" in told
    assert main(["forget", "new", "--dataset", "mine"]) == 0
    told = capsys.readouterr().out
    assert "Member 'new' is removed from dataset 'mine':" in told
    assert "rows of interactions    1" in told
    assert "knows this member" not in told
    assert main(["forget", "nobody", "--dataset", "mine"]) == 2
    assert capsys.readouterr().err.startswith("error: Dataset 'mine' holds nothing of a member 'nobody'")
    assert main(["export-events", "nowhere"]) == 2


def trained(name: str, model: str, run_id: str) -> Path:
    run = home.runs(name, model) / run_id
    run.mkdir(parents=True)
    (run / "model.ckpt").write_text("")
    (run / "report.json").write_text(json.dumps({}))
    (run / "config.yaml").write_text("a: b\n")
    runs.promote(run)
    return run


def test_forgetting_says_which_models_still_know_the_member(mine: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("mine", "recommender", "20240101-000000-aaaa")
    assert main(["forget", "u2", "--dataset", "mine"]) == 0
    told = capsys.readouterr().out
    assert "What was trained (1 run: recommender) knows this member" in told
    assert runs.fit_command("mine", "recommender") in told
    assert run.exists()


@pytest.mark.parametrize("works", [True, False])
def test_the_next_training_can_be_started_and_takes_the_place_of_all_before(
    works: bool, mine: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = [trained("mine", "retention", f"2024010{day}-000000-aaaa") for day in (1, 2)]
    asked = []

    def fit(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        if works:
            trained("mine", "retention", "20240103-000000-bbbb")
        return subprocess.CompletedProcess(command, 0 if works else 2)

    monkeypatch.setattr(subprocess, "run", fit)
    assert main(["forget", "u2", "--dataset", "mine", "--fit"]) == (0 if works else 2)
    config = str(old[1] / "config.yaml")
    assert asked == [[sys.executable, "-m", "forecasting", "fit", "--config", config, "--gate", "off"]]
    assert [run.exists() for run in old] == [not works] * 2
    told = capsys.readouterr()
    if works:
        assert "Trained again: retention. 2 earlier runs deleted." in told.out
    else:
        assert "could not be trained again" in told.err


def test_a_title_that_the_catalogue_lacks_leaves_the_old_files_alone(mine: Dataset, tmp_path: Path) -> None:
    """Who reads the tables while they are rewritten has the old ones open."""
    old = tmp_path / "old.parquet"
    old.hardlink_to(mine.path("items"))
    events.record(mine, [Event("u1", "watch", "unheard of")])
    export_events("mine")
    assert len(open_dataset("mine").items()) == 3
    assert pq.read_metadata(old).num_rows == 2


def test_forgetting_that_was_killed_is_simply_run_again(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = home.scores("mine")
    scores.mkdir(parents=True)
    pq.write_table(pa.table({"review_id": ["r1", "r2"]}), scores / "review_scores.parquet")
    events.record(mine, [Event("u2", "watch", "i1")])
    left = home.tables("mine").parent / ".mine.killed.work"
    left.mkdir()
    for place in ("_forget_in_tables", "_forget_in_database"):

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(feedback, place, killed)
            with pytest.raises(KeyboardInterrupt):
                forget("mine", "u2")
    assert forget("mine", "u2") == {"events in the database": 1}
    assert pq.read_table(scores / "review_scores.parquet")["review_id"].to_pylist() == ["r1"]
    assert "u2" not in set(open_dataset("mine").interactions()["user_id"])
    assert not left.exists()


def test_a_review_moves_the_clock_too(mine: Dataset) -> None:
    events.write_review(mine, Review("u1", "i2", "Fine.", made_at=at(mine, 72)))
    assert export_events("mine").dataset.as_of == AS_OF + pd.Timedelta(hours=72)


def test_training_may_follow_a_forgetting_of_before(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    old = trained("mine", "retention", "20240101-000000-aaaa")
    (home.runs("mine", "retention") / "20240102-000000-cccc").mkdir()  # one that was never finished
    assert main(["forget", "u2", "--dataset", "mine"]) == 0

    def fit(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        trained("mine", "retention", "20240103-000000-bbbb")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", fit)
    assert main(["forget", "u2", "--dataset", "mine", "--fit"]) == 0
    assert not old.exists()
    assert {path.name for path in home.runs("mine", "retention").iterdir()} == {"20240103-000000-bbbb", "current"}


def test_an_empty_id_is_nobody(mine: Dataset) -> None:
    with pytest.raises(UserError, match="USER is empty"):
        forget("mine", "")
    assert open_dataset("mine").fingerprint == mine.fingerprint


def test_rejected_rows_of_any_kind_of_file_are_found() -> None:
    for line in ("u2\ti1\t3", "u2::i1::3", "u2;i1;3", '"u2",i1'):
        assert feedback._mentions(["x.csv", "5", "no time", line], "u2")
    assert not feedback._mentions(["u2.csv", "5", "no time", "u22,i1"], "5")
    assert not feedback._mentions([], "u2")


@pytest.mark.parametrize("damaged", ["users", "interactions", "reviews"])
def test_a_damaged_table_is_one_sentence(damaged: str, mine: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    events.record(mine, [Event("new", "watch", "i1")])
    events.write_review(mine, Review("u1", "i1", "x"))
    mine.path(damaged).write_bytes(b"PAR1 no more")
    for command in (["export-events", "mine"], ["forget", "u2", "--dataset", "mine"]):
        assert main(command) == 2
        assert capsys.readouterr().err.startswith(f"error: {mine.path(damaged)} cannot be read")
    assert len(events.events("mine")) == 1
