"""Scoring: every text whole, every row kept, in the order given, in bounded memory."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import BAD, GOOD, generated_tables
from tiny_encoder import LEARN, train_tiny, write_tiny_encoder

from data import schema
from data.dataset import Source, open_dataset, write_dataset
from data.errors import UserError
from data.runs import current_run
from nlp import scorer as module
from nlp.scorer import SentimentScorer, choose, find_current, load_current, score_file, score_reviews

N_REVIEWS = 300


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with dataset `small` and a model that has learned its planted words; tests work on a copy."""
    home = tmp_path_factory.mktemp("home")
    encoder = write_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(home))
        write_dataset("small", generated_tables(reviews=N_REVIEWS), sources=[Source("generated", "generated")])
        assert train_tiny("quick", encoder, "small", *LEARN) == 0
    shutil.rmtree(encoder)
    return home


@pytest.fixture
def home(trained_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "home"
    shutil.copytree(trained_home, copy)
    monkeypatch.setenv("MARQUEE_HOME", str(copy))
    return copy


@pytest.fixture(scope="module")
def scorer(trained_home: Path) -> SentimentScorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(trained_home))
        return load_current("small", device="cpu")


def texts(n: int, seed: int = 0) -> list[str]:
    """Planted reviews of very different lengths; every third is negative."""
    rng = np.random.default_rng(seed)
    words = [BAD if i % 3 == 0 else GOOD for i in range(n)]
    return [
        " ".join(["the film"] * int(rng.integers(0, 60)) + [str(rng.choice(w))] + ["home"] * int(rng.integers(0, 9)))
        for w in words
    ]


def test_results_come_in_the_order_given(scorer: SentimentScorer) -> None:
    given = texts(60)
    together = scorer.predict(given, batch_size=3)
    one_by_one = pd.concat([scorer.predict([text]) for text in given], ignore_index=True)
    np.testing.assert_allclose(together["p_positive"], one_by_one["p_positive"], atol=1e-5)
    assert together["label"].tolist() == one_by_one["label"].tolist()
    short = [i for i, text in enumerate(given) if len(text.split()) < 25]
    assert (together["label"][short] == np.where(np.array(short) % 3 == 0, "negative", "positive")).mean() > 0.9


def test_the_last_word_of_a_long_text_counts(scorer: SentimentScorer) -> None:
    filler = "the film with a story about people in town " * 240
    assert len(filler) > 10_000
    p = scorer.predict([filler + "brilliant", filler + "awful"])["p_positive"]
    assert p[0] > p[1]
    middle = filler[: 43 * 120] + "{} " + filler[43 * 120 :]
    p = scorer.predict([middle.format("brilliant"), middle.format("awful")])["p_positive"]
    assert p[0] > p[1]


def test_any_text_gets_a_probability(scorer: SentimentScorer) -> None:
    odd = ["", "   \n", None, "🙂🙂", "<b>film</b>\x00", "фильм", "=HYPERLINK(1)", "film " * 20_000]
    scored = scorer.predict(odd)  # type: ignore[arg-type]
    assert scored["p_positive"].between(0, 1).all()
    assert scored["label"].tolist()[:3] == ["neutral"] * 3
    assert scored["p_positive"].tolist()[:3] == [0.5] * 3
    assert set(scored["label"]) <= set(schema.LABELS)
    assert len(scorer.predict([])) == 0


def test_review_scores_follow_the_schema(home: Path) -> None:
    path = score_reviews("small", progress=False)
    assert path == home / "scores" / "small" / "review_scores.parquet"
    table = pq.read_table(path)
    assert table.schema.equals(schema.SCORES["review_scores"])
    scores, reviews = table.to_pandas(), open_dataset("small").reviews()
    assert scores["review_id"].tolist() == reviews["review_id"].tolist()
    assert (scores["label"] == reviews["label"]).mean() > 0.9
    assert scores["item_id"].isna().equals(reviews["item_id"].isna())
    assert (scores["link_confidence"] == 1).equals(reviews["item_id"].notna())
    run = current_run("small", "sentiment")
    assert run is not None
    assert set(scores["run_id"]) == {run.name}


def test_a_limit_takes_linked_and_newest_reviews_and_every_source(home: Path) -> None:
    path = score_reviews("small", limit=40, progress=False)
    scores, reviews = pd.read_parquet(path), open_dataset("small").reviews().set_index("review_id")
    assert len(scores) == 40
    taken = reviews.loc[scores["review_id"]]
    assert taken["item_id"].notna().all()
    others = reviews[reviews["item_id"].notna()].drop(taken.index)
    assert taken["created_at"].min() >= others["created_at"].max()
    assert taken.index.is_monotonic_increasing  # table order
    frame = pd.DataFrame({"review_id": [f"x{i}" for i in range(1000)], "text": "film"})
    frame["source"] = ["big"] * 900 + ["small"] * 100
    found = write_dataset("two", {"reviews": frame}, sources=[])
    chosen = frame.set_index("review_id").loc[choose(found, 60)]["source"]
    assert chosen.value_counts().to_dict() == {"big": 30, "small": 30}
    assert choose(found, 60).tolist() == choose(found, 60).tolist()


def test_a_dataset_without_a_model_borrows_one_and_prefers_its_own(home: Path) -> None:
    frame = pd.DataFrame({"review_id": ["a"], "text": ["brilliant film"]})
    write_dataset("mine", {"reviews": frame}, sources=[])
    borrowed = find_current("mine")
    assert borrowed.parents[1].name == "small"
    assert find_current() == borrowed
    assert pd.read_parquet(score_reviews("mine", progress=False))["label"].tolist() == ["positive"]
    own = home / "runs" / "mine" / "sentiment" / "20200101-000000-aaaa"
    shutil.copytree(borrowed, own)
    (own.parent / "current").write_text(own.name)
    assert find_current("mine") == own
    shutil.rmtree(home / "runs")
    with pytest.raises(UserError, match="python -m nlp fit"):
        find_current("mine")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_keeps_its_rows_and_columns(
    kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    sizes: list[int] = []
    predict = SentimentScorer.predict

    def watched(self: SentimentScorer, given: list[str], batch_size: int) -> pd.DataFrame:
        sizes.append(len(given))
        return predict(self, given, batch_size)

    monkeypatch.setattr(SentimentScorer, "predict", watched)
    frame = pd.DataFrame(
        {
            "id": [f"{i:03d}" for i in range(40)],
            "body": [t if i % 10 else f'"{t}",\nquoted' for i, t in enumerate(texts(40))],
            "label": "theirs",
            "n": np.arange(40),
        }
    )
    source, out = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    _ = frame.to_csv(source, index=False) if kind == "csv" else frame.to_parquet(source, index=False)
    assert score_file(source, "body", out, progress=False) == out
    scored = pd.read_csv(out, dtype={"id": str}) if kind == "csv" else pd.read_parquet(out)
    pd.testing.assert_frame_equal(scored[frame.columns], frame)
    assert list(scored.columns) == [*frame.columns, "label_predicted", "p_positive"]
    assert max(sizes) == 7
    assert sum(sizes) == 40
    cut = score_file(source, "body", out, limit=10, progress=False)
    assert len(pd.read_csv(cut) if kind == "csv" else pd.read_parquet(cut)) == 10


def test_semicolons_missing_values_and_a_byte_order_mark(home: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text;stars\nbrilliant, moving;5\n;3\nNA;1\n", "utf-8-sig")
    scored = pd.read_csv(score_file(source, "text", out, progress=False), keep_default_na=False)
    assert scored["text"].tolist() == ["brilliant, moving", "", "NA"]
    assert scored["label"].tolist()[:2] == ["positive", "neutral"]
    for empty in ("csv", "parquet"):
        source = tmp_path / f"header.{empty}"
        nothing = pd.DataFrame({"text": pd.Series([], dtype=str)})
        _ = nothing.to_csv(source, index=False) if empty == "csv" else nothing.to_parquet(source)
        result = score_file(source, "text", tmp_path / "none.parquet", progress=False)
        assert pq.read_table(result).column_names == ["text", "label", "p_positive"]


@pytest.mark.parametrize(
    ("name", "content", "column", "out", "words"),
    [
        ("in.csv", b"a,b\n1,2\n", "text", "out.csv", ["--text-column text", "a, b"]),
        ("in.csv", b"", "text", "out.csv", ["is empty"]),
        ("in.csv", b"\x00\x01PK\x00\x00", "text", "out.csv", ["binary"]),
        ("in.csv", b"text\n\xff\xfe\xfa\n", "text", "out.csv", ["UTF-8"]),
        ("in.csv", b"text,n\ngood,1\nbad,2,3,4\n", "text", "out.csv", ["line 3"]),
        ("in.parquet", b"no parquet", "text", "out.csv", ["Parquet"]),
        ("in.xlsx", b"x", "text", "out.csv", [".csv and .parquet"]),
        ("in.csv", b"text\ngood\n", "text", "out.xlsx", ["--out", ".parquet"]),
        (None, b"", "text", "out.csv", ["does not exist"]),
    ],
)
def test_a_file_that_cannot_be_scored_says_why(
    name: str | None, content: bytes, column: str, out: str, words: list[str], home: Path, tmp_path: Path
) -> None:
    source = tmp_path / (name or "missing.csv")
    if name:
        source.write_bytes(content)
    with pytest.raises(UserError) as told:
        score_file(source, column, tmp_path / out, progress=False)
    assert all(word in str(told.value) for word in words), told.value
    assert not (tmp_path / out).exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_damaged_checkpoint_is_named(home: Path) -> None:
    run = find_current("small")
    (run / "model.ckpt").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"model\.ckpt cannot be loaded"):
        load_current("small")


def test_interrupting_leaves_the_earlier_scores(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = score_reviews("small", limit=5, progress=False)
    before = path.read_bytes()

    def interrupted(*_: object) -> pd.DataFrame:
        raise KeyboardInterrupt

    monkeypatch.setattr(SentimentScorer, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_reviews("small", progress=False)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
