"""Write to a temporary name beside the target, then rename: a reader sees the old or the new, never half of one."""

import ctypes
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_LEFT_SECONDS = 3600  # nobody writes one file for so long without a byte


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` on success, delete it on any failure.

    What a process that was killed could not delete goes when the same file is written an hour later or more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = re.compile(rf"\.{re.escape(path.name[:200])}\.[0-9a-f]{{8}}\.tmp")
    for left in path.parent.glob(".*.tmp"):
        with suppress(OSError):  # somebody else deletes it too, or may
            if ours.fullmatch(left.name) and abs(time.time() - left.stat().st_mtime) > _LEFT_SECONDS:
                left.unlink()
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it takes the place of `path` on success and goes on any failure.

    A folder that stands at `path` changes places with it in one step. Where the system cannot do that, it is moved
    aside first and put back if anything stops the last rename; what a kill leaves there, `restore` puts back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:8]
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    aside = path.with_name(f".{path.name}.{token}.old")
    try:
        temporary.mkdir()
        yield temporary
        if not path.exists() or not _exchange(temporary, path):
            if path.exists():
                path.rename(aside)
            temporary.rename(path)
    finally:
        if not path.exists() and aside.exists():
            aside.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def restore(path: Path) -> None:
    """Put `path` back as it was before an `atomic_folder` that was killed, and delete what that left beside it.

    Nobody else may write `path` meanwhile.
    """
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.(tmp|old)")
    for left in sorted(path.parent.glob(".*")) if path.parent.is_dir() else ():
        found = ours.fullmatch(left.name)
        if found and found[1] == "old" and not path.exists():
            left.rename(path)
        elif found:
            shutil.rmtree(left, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; whether this system and this disk can (Linux: renameat2)."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically. NaN and infinities are refused: they are not JSON."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8")
        # The rename must not reach the disk before the content does: `current` decides what is served.
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
