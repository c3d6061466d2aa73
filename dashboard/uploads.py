"""Files that a browser sends: kept under names of our own, so that no path from outside reaches the disk.

    jobs/uploads/<token>/<table><ending>    one folder for what is chosen for one import, each file once
    jobs/uploads/<token>/job                the id of the job that reads it, once it was started

A folder goes when its import has succeeded; else when nobody has looked at it for KEPT_SECONDS.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from data import home, jobs

KEPT_SECONDS = 2 * 3600.0
# What a table may be called; the content decides how it is read. MovieLens' own endings are the last ones.
ENDINGS = ("csv", "tsv", "txt", "gz", "parquet", "inter", "dat", "data", "item", "user")


def new_folder() -> Path:
    """An empty folder for the files of one import; what is no longer needed of others goes."""
    tidy()
    folder = _root() / secrets.token_hex(8)
    folder.mkdir(parents=True)
    return folder


def keep(folder: Path, table: str, name: str, content: IO[bytes]) -> Path:
    """Write an upload into `folder` in place of the table's last one; of `name` only a harmless ending is used."""
    for old in _of_table(folder, table):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    ending = Path(name).suffix.lower()
    path = folder / f"{table}{ending if ending.removeprefix('.') in ENDINGS else '.csv'}"
    content.seek(0)
    with path.open("wb") as target:
        shutil.copyfileobj(content, target)
    return path


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
