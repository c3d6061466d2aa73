"""The folder beside an output where its parts grow: `.NAME.parts/`, locked by who writes, kept if they are killed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data.errors import UserError

STATE = "state.json"  # what the parts belong to; parts without it are nothing


def parts_of(out: Path) -> Path:
    """Where the parts of `out` lie."""
    return out.with_name(f".{out.name}.parts")


@contextmanager
def parts_folder(out: Path) -> Iterator[Path]:
    """The folder of the parts, locked: it goes if the block succeeds, or fails before there is a state. What a run that
    was killed has left in it is still there.

    Raises:
        UserError: another run is writing `out`.
    """
    folder = parts_of(out)
    lock = FileLock(folder / "lock", timeout=0)
    while not (folder / "lock").exists() or not lock.is_locked:  # another run may end, and delete it, just now
        lock.release()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"--out {out} is being written by another run: wait for it, or use another.") from None
    done = False
    try:
        yield folder
        done = True
    finally:
        if done or not (folder / STATE).exists():
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()
