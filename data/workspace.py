"""A hidden folder for what is not finished yet, on the disk where it will lie, so that it moves there by a rename."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = "in-use.lock"


@contextmanager
def workspace(root: Path, prefix: str) -> Iterator[Path]:
    """Yield an empty folder of this process in `root`; it goes afterwards, whatever happens.

    A process that was killed cannot delete its own: the next one that comes finds its lock free, and does.

    Args:
        root: made where it is missing.
        prefix: how the folder's name begins, a dot first; who gives the same one cleans up for each other.
    """
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{prefix}.lock"):  # nobody sees a folder before its lock is held
        for left in root.glob(f"{prefix}-*"):
            with suppress(Timeout, OSError), FileLock(left / _LOCK, timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=root, prefix=f"{prefix}-"))
        mine = FileLock(folder / _LOCK)
        mine.acquire()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        mine.release()
