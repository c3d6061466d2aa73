"""Zip files (wheels are zip files), tar files and unpacked folders: read member by member, never unpacked whole."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class DamagedError(Exception):
    """The archive cannot be trusted or read; the message is a clause that says why."""


def check(path: Path, *, thorough: bool) -> None:
    """Refuse an archive that is none, holds a path out of its folder or, where `thorough`, does not unpack whole.

    Raises:
        DamagedError: saying which of them.
    """
    with _telling(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_names(archive.namelist())
                if thorough and (bad := archive.testzip()) is not None:
                    raise DamagedError(f"its member {bad} is damaged")
        else:
            # A tar file is read to its end to list it, which is thorough in itself.
            with tarfile.open(path, "r|*") as archive:
                for member in archive:
                    _check_names([member.name])
                    if not (member.isfile() or member.isdir()):
                        raise DamagedError(f"its member {member.name} is neither file nor folder")


def names(path: Path) -> list[str]:
    """Paths of the files in the archive or folder, with `/` between their parts."""
    with _telling(path):
        if path.is_dir():
            return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return [name for name in archive.namelist() if not name.endswith("/")]
        with tarfile.open(path) as archive:
            return [member.name for member in archive if member.isfile()]


def find(members: list[str], base: str) -> str | None:
    """The member called `base` in the topmost folder that has one."""
    found = [name for name in members if PurePosixPath(name).name == base]
    return min(found, key=lambda name: (name.count("/"), name), default=None)


@contextmanager
def open_member(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The bytes of one member, as a stream."""
    with _telling(path):
        if path.is_dir():
            with (path / name).open("rb") as stream:
                yield stream
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
                yield stream
        else:
            with tarfile.open(path) as tar:
                found = tar.extractfile(name)
                if found is None:
                    raise DamagedError(f"its member {name} is no file")
                with found:
                    yield found


def each(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and contents of the wanted members in the archive's own order, in one pass over it."""
    with _telling(path):
        if path.is_dir():
            for name in filter(wanted, names(path)):
                yield name, (path / name).read_bytes()
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in filter(wanted, archive.namelist()):
                    yield name, archive.read(name)
        else:
            with tarfile.open(path, "r|*") as archive:
                for member in archive:
                    if member.isfile() and wanted(member.name):
                        stream = archive.extractfile(member)
                        yield member.name, stream.read() if stream else b""


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as failure:
        raise DamagedError(f"{path.name} is truncated or no zip or tar archive ({failure})") from None
    except OSError as failure:
        # gzip reports a bad header as an OSError without a number; those with one are the machine's.
        if failure.errno is not None:
            raise
        raise DamagedError(f"{path.name} is no archive ({failure})") from None


def _check_names(members: list[str]) -> None:
    for name in members:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or ":" in (parts[0] if parts else ""):
            raise DamagedError(f"it holds a path that climbs out of its folder ({name[:100]})")
