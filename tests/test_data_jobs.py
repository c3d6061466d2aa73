"""Background jobs: they run apart, tell how they ended, exclude each other by lock and can be cancelled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import jobs
from data.errors import UserError

PYTHON = sys.executable


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path / "home"))


def wait(job: jobs.Job, *, seconds: float = 20) -> jobs.Job:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = jobs.get_job(job.id)
        assert now is not None
        if now.state != "running":
            return now
        time.sleep(0.05)
    raise AssertionError(f"job still runs after {seconds} s; log: {jobs.tail(job)}")


def sleeper(seconds: int = 60) -> list[str]:
    return [PYTHON, "-c", f"import time; print('started', flush=True); time.sleep({seconds})"]


def test_job_runs_to_its_end_and_keeps_its_log() -> None:
    job = wait(jobs.start("say hello", [PYTHON, "-c", "print('hello'); print('50 %')"]))
    assert (job.state, job.exit_code, job.kind) == ("done", 0, "say hello")
    assert jobs.tail(job) == ["hello", "50 %"]
    assert jobs.progress(job) == 1.0
    assert job.ended_at is not None
    assert [j.id for j in jobs.list_jobs()] == [job.id]


def test_what_a_command_reads_is_kept_nowhere() -> None:
    code = "import sys; print(len(sys.stdin.read()))"
    job = wait(jobs.start("read", [PYTHON, "-c", code], stdin="häm-and-eggs"))
    assert jobs.tail(job) == ["12"]
    assert not [path for path in job.log.parent.rglob("*") if "eggs" in path.read_text()]
    assert jobs.tail(wait(jobs.start("nothing", [PYTHON, "-c", code]))) == ["0"]


def test_failing_command_keeps_its_exit_code() -> None:
    job = wait(jobs.start("fail", [PYTHON, "-c", "raise SystemExit('error: no such file')"]))
    assert (job.state, job.exit_code) == ("failed", 1)
    assert "no such file" in jobs.tail(job)[-1]


def test_command_that_does_not_exist_fails() -> None:
    job = wait(jobs.start("nothing", ["/no/such/command"]))
    assert (job.state, job.exit_code) == ("failed", 127)


def test_lock_is_held_by_one_job_and_free_after_its_end() -> None:
    first = jobs.start("fit recommender", sleeper(), lock="demo-recommender")
    with pytest.raises(UserError, match="fit recommender is still running"):
        jobs.start("fit again", sleeper(), lock="demo-recommender")
    assert [job.id for job in jobs.list_jobs()] == [first.id]
    other = wait(jobs.start("another model", [PYTHON, "-c", ""], lock="demo-sentiment"))
    assert other.state == "done"
    jobs.cancel(first.id)
    wait(first)
    assert wait(jobs.start("fit again", [PYTHON, "-c", ""], lock="demo-recommender")).state == "done"


def test_cancel_is_heard_by_the_command_as_ctrl_c() -> None:
    code = (
        "import time\ntry:\n print('up', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n raise SystemExit(130)"
    )
    job = jobs.start("long", [PYTHON, "-c", code])
    while not jobs.tail(job):
        time.sleep(0.05)
    jobs.cancel(job.id)
    ended = wait(job)
    assert (ended.state, ended.exit_code) == ("cancelled", 130)


def test_cancel_kills_what_ignores_ctrl_c() -> None:
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    job = jobs.start("stubborn", [PYTHON, "-c", code])
    while not jobs.tail(job):
        time.sleep(0.05)
    jobs.cancel(job.id)
    assert wait(job, seconds=jobs.GRACE_SECONDS + 10).state == "cancelled"


def test_job_outlives_the_process_that_started_it() -> None:
    argv = [PYTHON, "-c", "import time; time.sleep(1); print('still here')"]
    code = f"from data import jobs; print(jobs.start('child', {argv!r}).id)"
    job_id = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    job = jobs.get_job(job_id)
    assert job is not None
    assert wait(job).state == "done"
    assert jobs.tail(job) == ["still here"]


def test_killed_runner_is_a_failed_job_not_a_running_one() -> None:
    job = jobs.start("killed", sleeper(5))
    pid = jobs._read(job.log.parent)["pid"]
    os.kill(pid, signal.SIGKILL)
    ended = wait(job)
    assert (ended.state, ended.exit_code) == ("failed", None)


def test_tail_shows_a_progress_bar_once() -> None:
    code = r"import sys; sys.stdout.write('one\n\r 10%|#\r 70%|####')"
    job = wait(jobs.start("bar", [PYTHON, "-c", code]))
    assert jobs.tail(job) == ["one", " 70%|####"]


def test_progress_of_a_running_job() -> None:
    code = r"import time; print('step [2/8]  34 %  about 4 min left', flush=True); time.sleep(30)"
    job = jobs.start("steps", [PYTHON, "-c", code])
    while not jobs.tail(job):
        time.sleep(0.05)
    assert jobs.progress(job) == pytest.approx(0.34)
    jobs.cancel(job.id)
    wait(job)


def test_cancel_of_an_unknown_job_is_refused() -> None:
    with pytest.raises(UserError, match="no job 'nothing'"):
        jobs.cancel("nothing")


def test_damaged_state_is_passed_over() -> None:
    job = wait(jobs.start("fine", [PYTHON, "-c", ""]))
    broken = job.log.parents[1] / "20200101-000000-abcd"
    broken.mkdir()
    (broken / "job.json").write_text("{", "utf-8")
    assert [j.id for j in jobs.list_jobs()] == [job.id]
