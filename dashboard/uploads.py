"""Files that a browser sends: kept under names of our own, so that no path from outside reaches the disk."""

import re
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from data import home

KEPT_SECONDS = 24 * 3600.0


def keep_uploads(files: Mapping[str, tuple[str, IO[bytes]]]) -> dict[str, Path]:
    """Write each upload to jobs/uploads/<token>/<table><ending> and return the paths; uploads older than a day go.

    Args:
        files: table to (the browser's file name, content); of the name only a harmless ending is used.
    """
    root = home.jobs() / "uploads"
    _forget_old(root)
    folder = root / secrets.token_hex(8)
    folder.mkdir(parents=True)
    kept = {}
    for table, (name, content) in files.items():
        ending = Path(name).suffix.lower()
        path = folder / f"{table}{ending if re.fullmatch(r'[.][a-z0-9]{1,8}', ending) else '.csv'}"
        with path.open("wb") as target:
            shutil.copyfileobj(content, target)
        kept[table] = path
    return kept


def _forget_old(root: Path) -> None:
    for folder in root.glob("*"):
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
