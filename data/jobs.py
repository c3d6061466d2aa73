"""Background jobs: commands that outlive the page that started them.

    jobs/<job id>/job.json      what runs, since when, how it ended; replaced atomically
    jobs/<job id>/log.txt       everything that the command prints
    jobs/<job id>/cancel        a flag: somebody asked for the end
    jobs/locks/<name>.lock      held by the runner for as long as its command lives, see also `holding`

`start` launches `python -m data.jobs FOLDER` in a session of its own. That runner takes the lock, starts the command,
waits for it and writes how it ended; nothing of it lives in the dashboard, so the dashboard may go and come back. A
job whose runner is no longer alive although it never wrote an ending has failed.
"""

import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from data import home, permission
from data.atomic import write_json
from data.errors import UserError

State = Literal["running", "done", "failed", "cancelled"]
KEEP = 50
START_SECONDS = 20.0
# A command gets this long to end after Ctrl-C before it is terminated, and again before it is killed.
GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.2
_LONGEST_LOCK = 100
_PERCENT = re.compile(r"(\d{1,3})(?:\.\d+)? ?%")
# Cursor movements and colours that progress bars write.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Job:
    id: str
    kind: str
    state: State
    started_at: str  # ISO, UTC
    ended_at: str | None
    exit_code: int | None
    log: Path
    lock: str | None

    @property
    def seconds(self) -> float:
        end = dt.datetime.fromisoformat(self.ended_at) if self.ended_at else dt.datetime.now(dt.UTC)
        return max(0.0, (end - dt.datetime.fromisoformat(self.started_at)).total_seconds())  # a clock may be put back


def start(kind: str, argv: Sequence[str], *, lock: str | None = None, cwd: Path | None = None, stdin: str = "") -> Job:
    """Start `argv` in the background.

    Args:
        kind: a few words for the list, such as "fetch ml-100k".
        lock: a name that only one running job may hold, such as "demo-recommender"; None for no lock.
        cwd: the folder that the command starts in; this process's unless given.
        stdin: what the command reads; unlike `argv` it is kept nowhere and stands in no list of processes.

    Raises:
        UserError: a running job holds the lock, the runner could not be started, or who asks may not change anything.
    """
    permission.check()
    job_id = f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = home.jobs() / job_id
    folder.mkdir(parents=True)
    state = {
        "id": job_id,
        "kind": kind,
        "argv": list(argv),
        "lock": lock,
        "cwd": None if cwd is None else str(cwd),
        "state": "starting",
        "started_at": _now(),
    }
    write_json(folder / "job.json", state)
    log = (folder / "log.txt").open("ab")
    with log:
        runner = subprocess.Popen(
            [sys.executable, "-m", "data.jobs", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "MARQUEE_HOME": str(home.home()), "PYTHONUNBUFFERED": "1"},
        )
    _give(runner, stdin.encode())
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        current = _read(folder)
        if current["state"] == "refused":
            holder = next(
                (job.kind for job in list_jobs() if job.state == "running" and job.lock == lock), "Another command"
            )
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(f"{holder} is still running and uses the same data: wait for its end or cancel it first.")
        if current["state"] != "starting":
            _prune(keep=job_id)
            return _job(current)
        if runner.poll() is not None and _read(folder)["state"] == "starting":
            break
        time.sleep(0.02)
    runner.kill()
    raise UserError(f"The background job '{kind}' did not start: its log is {folder / 'log.txt'}.")


def list_jobs() -> list[Job]:
    """All jobs that are still kept, newest first."""
    jobs = []
    for path in sorted(home.jobs().glob("*/job.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError):  # removed or damaged meanwhile
            jobs.append(_job(_read(path.parent)))
    return jobs


def get_job(job_id: str) -> Job | None:
    try:
        return _job(_read(home.jobs() / home.check_name(job_id)))
    except (OSError, ValueError, KeyError):
        return None


def cancel(job_id: str) -> None:
    """Ask a job to end: its command gets Ctrl-C, then terminate, then kill. A job that has ended is left alone.

    Raises:
        UserError: there is no such job, or who asks may not change anything.
    """
    permission.check()
    folder = home.jobs() / home.check_name(job_id)
    if not (folder / "job.json").exists():
        raise UserError(f"There is no job '{job_id}' in {home.jobs()}.")
    (folder / "cancel").touch()


def tail(job: Job, lines: int = 12) -> list[str]:
    """The last lines of a job's log as a terminal would show them: a progress bar counts as one line."""
    try:
        with job.log.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - 32_768))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return []
    text = _CONTROL.sub("", text)
    shown = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for line in shown if line][-lines:]


def progress(job: Job) -> float | None:
    """The share done (0 to 1) that the log's last percentage tells; None when it tells none.

    A line without one that ends in `...` begins something new, so what was said before it no longer holds. Lines that
    begin with `- ` are remarks on a result: their percentages are none of progress.
    """
    if job.state == "done":
        return 1.0
    for line in reversed(tail(job, 12)):
        if line.startswith("- "):
            continue
        if found := _PERCENT.search(line):
            return min(1.0, int(found.group(1)) / 100)
        if line.endswith("..."):
            return None
    return None


def _give(process: "subprocess.Popen[bytes]", stdin: bytes) -> None:
    """Write what a process is to read, and its end; one that is gone already or does not read misses nothing."""
    with contextlib.suppress(BrokenPipeError), process.stdin or contextlib.nullcontext() as pipe:
        if pipe is not None:
            pipe.write(stdin)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "job.json").read_text("utf-8"))


def _job(state: dict[str, Any]) -> Job:
    folder = home.jobs() / state["id"]
    now: State = "running" if state["state"] in ("starting", "running") else state["state"]
    ended_at = state.get("ended_at")
    if now == "running" and "pid" in state and _birth(state["pid"]) != state.get("birth"):
        now, ended_at = "failed", _last_sign_of_life(folder)
    return Job(
        state["id"], state["kind"], now, state["started_at"], ended_at, state.get("exit_code"), folder / "log.txt",
        state.get("lock"),
    )  # fmt: skip


def _last_sign_of_life(folder: Path) -> str:
    last = max(path.stat().st_mtime for path in (folder / "log.txt", folder / "job.json") if path.exists())
    return dt.datetime.fromtimestamp(last, dt.UTC).isoformat(timespec="seconds")


def _birth(pid: int) -> str | None:
    """What tells a process from a later one with the same number: its start time; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "alive"


def _prune(keep: str) -> None:
    ended = [job for job in list_jobs()[KEEP:] if job.state != "running" and job.id != keep]
    for job in ended:
        shutil.rmtree(job.log.parent, ignore_errors=True)


def _run(folder: Path, stdin: bytes) -> int:
    """The runner: hold the lock, run the command, pass on `stdin` and a cancel, write how it ended."""
    state = _read(folder)
    state |= {"pid": os.getpid(), "birth": _birth(os.getpid())}
    lock = FileLock(_lock_path(state["lock"])) if state["lock"] else None
    try:
        with lock.acquire(timeout=0) if lock else contextlib.nullcontext():
            ended = _run_command(folder, state, stdin)
    except Timeout:
        write_json(folder / "job.json", state | {"state": "refused", "ended_at": _now()})
        return 1
    write_json(folder / "job.json", ended)  # behind the lock: who sees the end may start the next
    return int(ended["exit_code"])


@contextmanager
def holding(lock: str, waits: Callable[[], object]) -> Iterator[bool]:
    """Hold a job's lock from a command that is no job itself, or does several things one after the other.

    Args:
        lock: its name, as for `start`.
        waits: called once when a job holds it, whose end is then waited for.

    Yields whether there was one.
    """
    path = FileLock(_lock_path(lock))
    waited = False
    try:
        path.acquire(timeout=0)
    except Timeout:
        waited = True
        waits()
        path.acquire(poll_interval=0.2)
    try:
        yield waited
    finally:
        path.release()


def model_lock(dataset: str, model: str) -> str:
    """The lock of whatever trains or scores with a model of a dataset."""
    return f"{dataset}-{model}"


def data_lock(dataset: str) -> str:
    """The lock of whatever reads or writes the tables of a dataset as a whole."""
    return f"data-{dataset}"


def _lock_path(name: str) -> Path:
    if len(name) > _LONGEST_LOCK:  # a dataset's name may be as long as a name can be
        name = f"{name[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    path = home.jobs() / "locks" / f"{home.check_name(name)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _run_command(folder: Path, state: dict[str, Any], stdin: bytes) -> dict[str, Any]:
    """The state that the job ends in."""
    try:
        command = subprocess.Popen(
            state["argv"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd=state.get("cwd"),
        )
    except OSError as failure:
        print(f"error: {state['argv'][0]} cannot be started ({failure.strerror}).", flush=True)
        return state | {"state": "failed", "exit_code": 127, "ended_at": _now()}
    _give(command, stdin)
    write_json(folder / "job.json", state | {"state": "running"})
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    asked_at = None
    while (exit_code := command.poll()) is None:
        asked = (folder / "cancel").exists()
        if asked and signals and (asked_at is None or time.monotonic() - asked_at > GRACE_SECONDS):
            asked_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signals.pop(0))
        time.sleep(_POLL_SECONDS)
    ending = "cancelled" if asked_at is not None and exit_code != 0 else "done" if exit_code == 0 else "failed"
    return state | {"state": ending, "exit_code": exit_code, "ended_at": _now()}


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1]), sys.stdin.buffer.read()))
