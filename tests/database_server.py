"""A PostgreSQL server of the tests' own, on a free port, in a folder that goes with it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where no server is installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server; yields its address without a database's name, and stops it at the end."""
    binaries = programs()
    assert binaries is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg") as short:  # a socket's path has at most 107 characters
        data = Path(short) / "data"
        if user is not None:
            shutil.chown(short, user)
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={short} -c fsync=off"
        quiet = {"user": user, "cwd": short, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([binaries / "initdb", "-D", data, "-U", "marquee", "-A", "trust", "-E", "UTF8"], **quiet)  # type: ignore[call-overload]
        control = [binaries / "pg_ctl", "-D", data, "-w", "-l", f"{short}/log"]
        subprocess.run([*control, "-o", options, "start"], **quiet)  # type: ignore[call-overload]
        try:
            yield f"postgresql://marquee@127.0.0.1:{port}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]
