"""A command that is killed before its N-th change to a disk, for every N: run by test_faults_crashes.py.

    python crash_sweep.py SPEC.json

The spec holds `home` (copied for each crash), `work` (where the copies go), `argv` (one of our commands: its module and
its arguments), `steps` (which N; all when empty) and `no_exchange` (a system that cannot swap two folders). For each N
a fork of this process runs the command in `work`/N with an audit hook that counts what Python opens to write, renames,
makes and deletes under MARQUEE_HOME and ends the process at once at the N-th, as `kill -9` would. What is left then is
copied to `work`/N.left, and the command is run again, undisturbed. Printed: a line of JSON for each N with both exit
codes; the last N is the first at which the command came to its end.
"""

import contextlib
import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

KILLED = 137
_PATHS = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.truncate": 1}


def _changes(event: str, arguments: tuple[Any, ...], root: str) -> bool:
    if event == "open":
        path, mode, flags = arguments
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(flags, int) else "r" not in mode
        return writes and isinstance(path, (str, bytes)) and os.fsdecode(path).startswith(root)
    paths = arguments[: _PATHS.get(event, 0)]
    return any(isinstance(p, (str, bytes, os.PathLike)) and os.fsdecode(p).startswith(root) for p in paths)


def _forked(argv: list[str], home: Path, stop_at: int | None) -> int:
    """Exit code of the command in a fork; `stop_at` counts from 1."""
    child = os.fork()
    if child == 0:
        os.environ["MARQUEE_HOME"] = str(home)
        log = os.open(home.parent / f"{home.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if stop_at is not None and (event == "open" or event in _PATHS) and _changes(event, arguments, str(home)):
                count += 1
                if count == stop_at:
                    os._exit(KILLED)

        sys.addaudithook(hook)
        code = 99
        try:
            code = importlib.import_module(argv[0]).main(argv[1:])
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            if home.name == "modules":
                (home.parent / "modules.json").write_text(json.dumps(sorted(sys.modules)), "utf-8")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(spec: dict[str, Any]) -> None:
    argv, work = spec["argv"], Path(spec["work"])
    # All modules that the command needs are imported once, for all forks; importing starts no thread, running does.
    importlib.import_module(argv[0])
    shutil.copytree(spec["home"], work / "modules")
    _forked(argv, work / "modules", None)
    for module in json.loads((work / "modules.json").read_text("utf-8")):
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    if spec.get("no_exchange"):
        atomic = importlib.import_module("data.atomic")
        atomic._exchange = lambda one, other: False  # type: ignore[attr-defined]
    for step in spec.get("steps") or range(1, 1000):
        home = work / str(step)
        shutil.copytree(spec["home"], home)
        first = _forked(argv, home, step)
        shutil.copytree(home, work / f"{step}.left")
        again = _forked(argv, home, None)
        print(json.dumps({"step": step, "first": first, "again": again}), flush=True)
        if first != KILLED:
            break


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
