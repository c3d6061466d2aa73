"""Files that a browser sends: kept under names of our own, so that no path from outside reaches the disk.

    jobs/uploads/<token>/<table><ending>    one folder for what is chosen for one import, each file once
    jobs/uploads/<token>/job                the id of the job that reads it, once it was started

A folder goes when its import has succeeded; else when nobody has looked at it for KEPT_SECONDS.

A file may have `server.maxUploadSize` (Streamlit refuses more while it arrives), the files of one import together twice
as much, and nothing is kept that would leave the disk without room for the tables made of it.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import streamlit as st

from dashboard import access
from data import home, jobs
from data.errors import UserError

TOGETHER = 2  # times the limit of a file: what the files of one import may have
SPARE_BYTES = 256 << 20  # of the disk, left to everything else
KEPT_SECONDS = 2 * 3600.0
# What a table may be called; the content decides how it is read. MovieLens' own endings are the last ones.
ENDINGS = ("csv", "tsv", "txt", "gz", "parquet", "inter", "dat", "data", "item", "user")


def new_folder() -> Path:
    """An empty folder for the files of one import; what is no longer needed of others goes.

    Raises:
        UserError: who asks may not change anything.
    """
    access.must_edit()
    tidy()
    folder = _root() / secrets.token_hex(8)
    folder.mkdir(parents=True)
    return folder


def keep(folder: Path, table: str, name: str, content: IO[bytes]) -> Path:
    """Write an upload into `folder` in place of the table's last one; of `name` only a harmless ending is used.

    Raises:
        UserError: who asks may not change anything, it is too large, or the disk is too full.
    """
    access.must_edit()
    drop(folder, table)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_too_large(folder, table, content.seek(0, os.SEEK_END))
    ending = Path(name).suffix.lower()
    path = folder / f"{table}{ending if ending.removeprefix('.') in ENDINGS else '.csv'}"
    content.seek(0)
    try:
        with path.open("wb") as target:
            shutil.copyfileobj(content, target)
    except OSError as failure:
        path.unlink(missing_ok=True)
        raise UserError(f"Your file for {table} cannot be kept ({failure.strerror}): free some disk first.") from None
    return path


def limit_bytes() -> int:
    """What one file may have."""
    return int(st.get_option("server.maxUploadSize")) << 20


def _refuse_too_large(folder: Path, table: str, size: int) -> None:
    if size > limit_bytes():
        raise UserError(
            f"Your file for {table} has {_megabytes(size)}, more than the {_megabytes(limit_bytes())} that a file may "
            "have: import it by 'python -m data import' on the machine itself."
        )
    together = size + sum(path.stat().st_size for path in folder.iterdir())
    if together > TOGETHER * limit_bytes():
        raise UserError(
            f"The files have {_megabytes(together)} together, more than the {_megabytes(TOGETHER * limit_bytes())} of "
            "one import: take one back, or import them by 'python -m data import' on the machine itself."
        )
    free, needed = shutil.disk_usage(folder).free, 2 * size + SPARE_BYTES  # the file, and the table made of it
    if free < needed:
        raise UserError(
            f"Your file for {table} needs {_megabytes(needed)} of disk with the table made of it, and "
            f"{_megabytes(free)} are free: free some first."
        )


def _megabytes(size: int) -> str:
    """
    >>> _megabytes(1 << 30), _megabytes(1)
    ('1,024 MB', '1 MB')
    """
    return f"{-(-size // (1 << 20)):,} MB"


def drop(folder: Path, table: str) -> None:
    for path in _of_table(folder, table):
        path.unlink(missing_ok=True)


def still_used(folder: Path) -> None:
    """Somebody looks at it: keep it for longer."""
    if folder.is_dir():
        os.utime(folder)


def hand_over(folder: Path, job_id: str) -> None:
    """Let the folder live for as long as the job that reads it."""
    (folder / "job").write_text(job_id, "utf-8")


def tidy() -> None:
    """Delete what was imported, and what nobody has looked at for KEPT_SECONDS."""
    for folder in _root().glob("*"):
        if not re.fullmatch(r"[0-9a-f]{16}", folder.name):
            continue
        job = _job(folder)
        if job is not None and job.state == "running":
            continue
        try:
            is_old = time.time() - folder.stat().st_mtime > KEPT_SECONDS
        except FileNotFoundError:  # another session was quicker
            continue
        if is_old or (job is not None and job.state == "done"):
            shutil.rmtree(folder, ignore_errors=True)


def _job(folder: Path) -> jobs.Job | None:
    try:
        return jobs.get_job((folder / "job").read_text("utf-8").strip())
    except FileNotFoundError:
        return None


def _of_table(folder: Path, table: str) -> Iterator[Path]:
    return iter([path for path in folder.glob(f"{table}.*") if path.stem == table])


def _root() -> Path:
    return home.jobs() / "uploads"
