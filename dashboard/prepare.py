"""The demo's road: `python -m dashboard.prepare --dataset demo` fetches, trains and scores what is not there yet.

Each step is one of the commands that README.md shows, run as a process of its own; a step that was done is not done
again (see dashboard/road.py). Nothing here imports torch, so a road that is wholly done takes two seconds.
"""

import codecs
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from filelock import FileLock, Timeout

from dashboard.road import ROOT, Step, plan
from data import command, home, jobs, runs
from data.errors import UserError
from data.words import duration

TICK_SECONDS = 5.0
# Python's warnings: a file and line, then the line of code.
_NOISE = re.compile(r"^\S+\.py:\d+: |^  warnings\.warn\(|Warning: ")
_BREAK = re.compile(r"[\r\n]+")


def prepare(name: str) -> int:
    """Take the road for dataset `name`; returns 0, or the exit code of the step that failed.

    Raises:
        UserError: the dataset is neither on disk nor known to fetch.
    """
    clock = Clock()
    taken: set[str] = set()
    told: set[str] = set()
    while True:
        steps = plan(name)
        for place, step in enumerate(steps, start=1):
            if step.state != "todo" and step.key not in told and step.key not in taken:
                told.add(step.key)
                print(f"[{place}/{len(steps)}] {step.label}: {'done already' if step.state == 'done' else 'left out'}, "
                      f"{step.why}.", flush=True)  # fmt: skip
            elif step.state == "todo" and step.key not in taken:
                break
        else:
            break
        left = [s for s in steps if s.state == "todo" and s.key not in taken]
        step, number = left[0], f"[{steps.index(left[0]) + 1}/{len(steps)}]"
        with _turn(name, step, number) as waited:
            if waited:
                continue  # what was waited for may have done this step
            taken.add(step.key)
            code = take_step(step, number, clock, [s.seconds for s in left[1:]])
        if code != 0:
            return code
    print(f"Dataset '{name}' is prepared" + (f", in {duration(clock.spent)}." if clock.spent else "."), flush=True)
    return 0


@contextmanager
def _turn(name: str, step: Step, place: str) -> Iterator[bool]:
    """Hold the lock that a job of the Data page on the same tables or model would hold; yields whether one had it."""
    model = step.key.rpartition("-")[2]
    lock = jobs.data_lock(name) if step.key == "dataset" else jobs.model_lock(name, model)
    if step.key != "dataset" and model not in runs.MODELS:
        yield False
        return
    said = f"{place} {step.label}: waits for a job that works on it"
    with jobs.holding(lock, lambda: print(said, flush=True)) as waited:
        yield waited


class Clock:
    """How much of the road is behind us, and how long the rest may take at the pace so far."""

    def __init__(self) -> None:
        self.spent = 0.0  # seconds in steps that have ended
        self.planned = 0.0  # what those steps were expected to take

    def step_ended(self, seconds: float, planned: float) -> None:
        self.spent += seconds
        self.planned += planned

    def pace(self, elapsed: float = 0.0, planned: float = 0.0) -> float:
        """Real seconds for each planned one; one planned minute of trust in the plan keeps the first steps from
        swinging it. A step that has run for longer than that pace allows slows it down already."""
        so_far = (self.spent + 60) / (self.planned + 60)
        return max(so_far, (self.spent + elapsed + 60) / (self.planned + planned + 60))

    def left(self, elapsed: float, planned: float, ahead: Sequence[float]) -> float:
        """Seconds left when a step planned for `planned` has run for `elapsed` and `ahead` come after it."""
        pace = self.pace(elapsed, planned)
        return max(planned * pace - elapsed, 0.1 * planned * pace) + sum(ahead) * pace

    def share(self, elapsed: float, planned: float, ahead: Sequence[float]) -> float:
        """The share of the whole road that is done, 0 to 1."""
        done = self.spent + elapsed
        return done / (done + self.left(elapsed, planned, ahead))


def take_step(step: Step, place: str, clock: Clock, ahead: Sequence[float]) -> int:
    """Run a step, with a line of progress now and then (on a terminal one that renews itself)."""
    about = duration(step.seconds * clock.pace())
    print(f"{place} {step.label} (about {about}): {_shown(step.argv)}", flush=True)
    started, last = time.monotonic(), deque[str](maxlen=30)
    process = subprocess.Popen(
        step.argv,
        cwd=ROOT,
        env={**os.environ, "MARQUEE_HOME": str(home.home()), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    reader = threading.Thread(target=_read, args=(process, last), daemon=True)
    reader.start()
    terminal, told = sys.stdout.isatty(), 0.0
    try:
        while (code := process.poll()) is None:
            elapsed = time.monotonic() - started
            if elapsed - told >= (0.5 if terminal else TICK_SECONDS):
                told = elapsed
                _tell(place, elapsed, step, clock, ahead, last[-1] if last else "", terminal)
            time.sleep(0.1)
    except BaseException as ending:  # Ctrl-C, or the polite kill of a process manager
        _end(process, told=isinstance(ending, KeyboardInterrupt))
        raise
    reader.join(timeout=5)
    seconds = time.monotonic() - started
    clock.step_ended(seconds, step.seconds)
    if terminal:
        print("\r\x1b[2K", end="")
    if code == 0:
        print(f"{place} {step.label}: done in {duration(seconds)}.", flush=True)
        return 0
    code = 130 if code in (130, -signal.SIGINT) else code if code > 0 else 128 - code
    print("\n".join(f"    {line}" for line in last), file=sys.stderr)
    print(f"error: {step.label} ended with exit code {code} after {duration(seconds)}: mend what it says above and run "
          "the same command again, finished steps are kept.", file=sys.stderr, flush=True)  # fmt: skip
    return code


def _tell(
    place: str, elapsed: float, step: Step, clock: Clock, ahead: Sequence[float], line: str, terminal: bool
) -> None:
    share, left = clock.share(elapsed, step.seconds, ahead), clock.left(elapsed, step.seconds, ahead)
    text = f"{place} {100 * share:.0f} % of all, about {duration(max(left, 1))} left · {step.label}: {line}"
    if terminal:
        width = os.get_terminal_size().columns
        print(f"\r\x1b[2K{text[: width - 1]}", end="", flush=True)
    else:
        print(text[:200], flush=True)


def _read(process: "subprocess.Popen[bytes]", last: deque[str]) -> None:
    """Keep the last lines that a step prints; each state of a progress bar is a line."""
    rest = ""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    while block := os.read(process.stdout.fileno(), 4096) if process.stdout else b"":
        *lines, rest = _BREAK.split(rest + decode(block))
        last.extend(line.rstrip() for line in lines if line.strip() and not _NOISE.search(line))
    if rest.strip():
        last.append(rest.rstrip())


def _end(process: "subprocess.Popen[bytes]", told: bool) -> None:
    """End a step. `told`: it heard the Ctrl-C of the terminal itself, so wait for it before telling it again."""
    asks = (lambda: process.send_signal(signal.SIGINT), process.terminate, process.kill)
    for ask in ((lambda: None), *asks) if told else asks:
        ask()
        try:
            process.wait(timeout=10)
            return
        except subprocess.TimeoutExpired:
            continue


def _shown(argv: Sequence[str]) -> str:
    return " ".join(["python", *argv[1:]])


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command.Parser(
        prog="python -m dashboard.prepare", description="Fetch, train and score whatever is missing for a dataset."
    )
    parser.add_argument("--dataset", default="demo", help="a dataset on disk or a name to fetch (default: demo)")
    code = 0

    def run() -> None:
        nonlocal code
        name = home.check_name(parser.parse_args(args).dataset)
        with one_at_a_time(name):
            code = prepare(name)

    return command.run(run) or code


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Hold the lock of this road: `make demo` and the dashboard's button must not both take it.

    Raises:
        UserError: somebody else is on it.
    """
    path = home.jobs() / "locks" / f"road-{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"Dataset '{name}' is being prepared by another process already: wait for its end or cancel it first."
        ) from None


if __name__ == "__main__":
    # The polite kill of a process manager ends the running step too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
