"""A command with all the processes that it starts: seconds, seconds of the cores, and their memory at its peak."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ran:
    """What a command took; memory that processes share is counted once (PSS)."""

    said: str
    complained: str
    code: int
    seconds: float
    core_seconds: float
    peak_mib: float


def ran(command: Sequence[str], environment: Mapping[str, str], interval: float = 0.1) -> Ran:
    """Run a command to its end; its processes are looked at every `interval` seconds, by what Linux tells of them."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ended, peak, ticks = threading.Event(), 0.0, dict[int, int]()

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            tree = tree_of(process.pid)
            peak = max(peak, sum(map(memory_mib, tree)))
            ticks.update({pid: n for pid in tree if (n := _ticks(pid))})
            ended.wait(interval)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    said, complained = process.communicate()
    seconds = time.perf_counter() - began
    ended.set()
    watching.join()
    return Ran(said, complained, process.returncode, seconds, sum(ticks.values()) / _TICK, peak)


def tree_of(root: int) -> list[int]:
    """A process and all below it."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            below.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:  # which grows
        found.extend(below.get(pid, []))
    return found


def memory_mib(pid: int) -> float:
    """What it holds of the memory, a page that n processes hold as an nth; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the name: state, parent, ...; none of a process that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0
