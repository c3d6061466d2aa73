"""A real disk that is full or read-only: a tmpfs in a mount namespace of the command's own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SCRIPT = """
set -e
mount -t tmpfs -o size="$SIZE" none "$DISK"
cp -a "$HOME_OF"/. "$DISK"/
if [ "$FREE" = read-only ]; then
    mount -o remount,ro "$DISK"
else
    room=$(( $(stat -f -c '%f * %S' "$DISK") - FREE ))
    [ "$room" -gt 0 ] && fallocate -l "$room" "$DISK/filler"
fi
set +e
MARQUEE_HOME="$DISK" "$@"
code=$?
rm -f "$DISK/filler"
cp -a "$DISK"/. "$LEFT"/
exit $code
"""


@dataclass(frozen=True)
class Ended:
    code: int
    err: str
    left: Path  # the home as the command left it


@cache
def unshare() -> tuple[str, ...] | None:
    """How to make a mount namespace here; None where the system lets nobody."""
    for flags in ("-m", "-rm"):
        command = ("unshare", flags)
        if (
            shutil.which("unshare")
            and not subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
        ):
            return command
    return None


def run(home: Path, free: int | str, *argv: str) -> Ended:
    """Run a Python command with a copy of `home` on a disk with `free` bytes left, or `read-only`."""
    how = unshare()
    assert how is not None
    number = len(list(home.parent.glob("disk-*")))
    disk, left = home.parent / f"disk-{number}", home.parent / f"left-{number}"
    disk.mkdir()
    left.mkdir()
    used = sum(path.stat().st_size + 8192 for path in home.rglob("*"))
    done = subprocess.run(
        [*how, "sh", "-c", _SCRIPT, "sh", sys.executable, *argv],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "OMP_NUM_THREADS": "1",
            "SIZE": str(used * 2 + (16 << 20)),
            "HOME_OF": str(home),
            "DISK": str(disk),
            "LEFT": str(left),
            "FREE": str(free),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Ended(done.returncode, done.stderr, left)
