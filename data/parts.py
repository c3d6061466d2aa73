"""The folder beside an output where its parts grow: `.NAME.parts/`, locked by who writes, kept if they are killed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from data.errors import UserError

_SUFFIX = ".parts"
STATE = "state.json"  # what the parts belong to; parts without it are nothing


def parts_of(out: Path) -> Path:
    """Where the parts of `out` lie."""
    return out.with_name(f".{out.name}{_SUFFIX}")


def drop_parts(folder: Path) -> None:
    """Delete the parts of all outputs of a folder that nobody is writing now."""
    for left in folder.glob(f".*{_SUFFIX}"):
        with suppress(Timeout), FileLock(left / "lock", timeout=0):
            shutil.rmtree(left)


@contextmanager
def passing_folder(folder: Path) -> Iterator[Path]:
    """A folder for parts in another one, which is gone after the block."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=_SUFFIX) as inside:
        yield Path(inside)


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
