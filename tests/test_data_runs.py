"""Runs: only a finished run can be current, and the switch is whole or not at all."""

import json
from pathlib import Path

import pytest

from data import home, runs
from data.errors import UserError


def finish(run: Path, **report: object) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / "model.ckpt").write_bytes(b"weights")
    (run / "report.json").write_text(json.dumps(report))
    return run


def test_a_run_without_a_report_cannot_be_promoted(marquee_home: Path) -> None:
    run = runs.new_run("small", "recommender")
    (run / "model.ckpt").write_bytes(b"weights")
    with pytest.raises(UserError, match=r"not a finished run"):
        runs.promote(run)
    assert runs.current_run("small", "recommender") is None
    with pytest.raises(UserError, match=r"recsys fit --config recsys/configs/quick\.yaml --data.dataset small"):
        runs.require_run("small", "recommender")


def test_promote_and_roll_back(marquee_home: Path) -> None:
    root = home.runs("small", "sentiment")
    old, new = finish(root / "20240101-000000-aaaa", n=1), finish(root / "20240102-000000-bbbb", n=2)
    runs.promote(new)
    assert runs.current_run("small", "sentiment") == new
    runs.promote(old)
    listed = runs.list_runs("small", "sentiment")
    assert [(r.id, r.is_current, r.report["n"]) for r in listed] == [(new.name, False, 2), (old.name, True, 1)]
    assert sorted(p.name for p in root.iterdir()) == [old.name, new.name, "current"]  # no temporary file is left


def test_a_deleted_current_run_is_no_run(marquee_home: Path) -> None:
    run = finish(home.runs("small", "engagement") / "20240101-000000-aaaa")
    runs.promote(run)
    (run / "model.ckpt").unlink()
    assert runs.current_run("small", "engagement") is None


def test_find_run_by_id_and_by_folder(marquee_home: Path) -> None:
    run = finish(home.runs("small", "retention") / "20240101-000000-aaaa")
    assert runs.find_run(run.name, ("engagement", "retention")) == run
    assert runs.find_run(str(run), ("retention",)) == run
    for wanted, models in ((str(run), ("recommender",)), ("20990101-000000-ffff", ("retention",))):
        with pytest.raises(UserError):
            runs.find_run(wanted, models)


def test_a_damaged_report_is_told_in_a_sentence(marquee_home: Path) -> None:
    run = finish(home.runs("small", "retention") / "20240101-000000-aaaa")
    (run / "report.json").write_text("{")
    with pytest.raises(UserError, match=r"report\.json"):
        runs.read_report(run)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\\b", ".hidden", "x" * 101, "a\nb"])
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        home.tables(name)
