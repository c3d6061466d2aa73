"""One file over HTTP: resumed after a cut, verified, retried where that helps.

urllib3 repeats a request that a server in trouble (5xx, 429) refused; what is written here is what it does not do,
carrying on in the middle of a file. Bytes gather in `<file>.part`; beside it `<file>.part.json` keeps the validator
(ETag or Last-Modified) that tells whether the file at the address is still the same one.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError
from urllib3.util.retry import Retry

CONNECT_SECONDS, READ_SECONDS = 3, 30
ATTEMPTS = 5  # in a row that bring less than WORTHWHILE_BYTES each
WORTHWHILE_BYTES = 1 << 20
BACKOFF_SECONDS = 0.5
_CHUNK_BYTES = 1 << 15


class UnavailableError(Exception):
    """A source did not give the file; the message is a clause that says why."""


def download(address: str, target: Path, *, checksum: str = "", progress: bool = True) -> None:
    """Bring the file at `address` to `target`, which appears only when it is whole and verified.

    Args:
        checksum: "md5:..." or "sha256:..." that the file must have; empty when none is known.

    Raises:
        UnavailableError: the address gives no such file, the connection fails, or the checksum is not the one expected.
    """
    part = target.with_name(f"{target.name}.part")
    if not checksum and not _state(part):
        _discard(part)  # nothing could tell whether the rest belongs to the same file
    with _session() as session:
        resumed = _complete(session, address, part, progress)
        if checksum and not matches(part, checksum) and resumed:
            _discard(part)
            _complete(session, address, part, progress)
    if checksum and not matches(part, checksum):
        found = digest(part, checksum.split(":")[0])
        _discard(part)
        raise UnavailableError(f"what came has the wrong checksum ({found} instead of {checksum})")
    part.replace(target)
    _discard(part)


def read_text(address: str) -> str:
    """A small text file.

    Raises:
        UnavailableError: the address cannot be reached or answers with an error.
    """
    try:
        with _session() as session:
            response = session.get(address, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.RequestException as failure:
        raise UnavailableError(_why(failure)) from None
    _refuse_errors(response)
    return response.text


def digest(path: Path, algorithm: str) -> str:
    """`algorithm:hex` of the file's contents."""
    with path.open("rb") as handle:
        return f"{algorithm}:{hashlib.file_digest(handle, algorithm).hexdigest()}"


def matches(path: Path, checksum: str) -> bool:
    return digest(path, checksum.split(":")[0]) == checksum


def _session() -> requests.Session:
    # connect=0 and read=0: a name that does not resolve or a refused connection will not get better, and a cut
    # is resumed by `_complete` instead of begun again.
    policy = Retry(
        total=3,
        connect=0,
        read=0,
        redirect=5,
        backoff_factor=BACKOFF_SECONDS,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=policy))
    # Compression on the way would make a byte range mean something else.
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "marquee"})
    return session


def _complete(session: requests.Session, address: str, part: Path, progress: bool) -> bool:
    """Request until `part` is whole, each time from where it ends; whether it was put together from pieces."""
    attempt = 0
    while True:
        before = _size(part)
        try:
            return _append(session, address, part, progress)
        except requests.RequestException as failure:
            attempt = 1 if _size(part) - before >= WORTHWHILE_BYTES else attempt + 1
            if not _worth_retrying(failure):
                raise UnavailableError(_why(failure)) from None
            if attempt >= ATTEMPTS:
                kept = f"; {part.name} is kept, the next try goes on from there" if part.exists() else ""
                raise UnavailableError(f"{_why(failure)}, {ATTEMPTS} times in a row{kept}") from None
        time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))


def _append(session: requests.Session, address: str, part: Path, progress: bool) -> bool:
    have = _size(part)
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator := _state(part).get("validator"):
            headers["If-Range"] = validator
    with session.get(address, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as response:
        if have and response.status_code == 416:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return True
            _discard(part)
            raise requests.ConnectionError("the file at the address is shorter than what was kept")
        _refuse_errors(response)
        goes_on = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and response.status_code == 206 and not goes_on:
            _discard(part)
            raise requests.ConnectionError("the server sent another range than the one asked for")
        if not goes_on:
            have = 0
            part.parent.mkdir(parents=True, exist_ok=True)
            _remember(part, response)
        length = response.headers.get("Content-Length", "")
        with (
            part.open("ab" if goes_on else "wb") as handle,
            tqdm(
                desc=part.name.removesuffix(".part"),
                total=have + int(length) if length.isdigit() else None,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=not progress,
                mininterval=0.1 if sys.stderr.isatty() else 10,
            ) as bar,
        ):
            for chunk in response.iter_content(_CHUNK_BYTES):
                handle.write(chunk)
                bar.update(len(chunk))
    return goes_on


def _refuse_errors(response: requests.Response) -> None:
    if response.status_code >= 400:
        raise UnavailableError(f"the server answered {response.status_code} {response.reason}".rstrip())


def _worth_retrying(failure: requests.RequestException) -> bool:
    if isinstance(failure, requests.exceptions.ConnectTimeout | requests.exceptions.SSLError):
        return False
    if isinstance(failure, requests.exceptions.ProxyError) or isinstance(_reason(failure), NewConnectionError):
        return False
    return isinstance(failure, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _reason(failure: requests.RequestException) -> object:
    cause = failure.args[0] if failure.args else None
    return cause.reason if isinstance(cause, MaxRetryError) else cause


def _why(failure: requests.RequestException) -> str:
    reason = _reason(failure)
    if isinstance(reason, NameResolutionError):
        return "the host name does not resolve"
    if isinstance(failure, requests.exceptions.ConnectTimeout):
        return f"no answer within {CONNECT_SECONDS} seconds"
    if isinstance(failure, requests.exceptions.ProxyError):
        return "the proxy cannot be reached"
    if isinstance(failure, requests.exceptions.SSLError):
        return "the secure connection failed"
    if isinstance(reason, NewConnectionError):
        return "the connection was refused"
    if isinstance(failure, requests.Timeout):
        return f"nothing came for {READ_SECONDS} seconds"
    if isinstance(failure, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
        return "the address is no web address"
    return "the connection was cut"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state(part: Path) -> dict[str, str]:
    path = part.with_name(f"{part.name}.json")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(part: Path, response: requests.Response) -> None:
    etag = response.headers.get("ETag", "")
    # A weak ETag promises the same meaning, not the same bytes.
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    path = part.with_name(f"{part.name}.json")
    if validator:
        path.write_text(json.dumps({"validator": validator}), "utf-8")
    else:
        path.unlink(missing_ok=True)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
