"""Scoring: every text whole, every row kept, in the order given, in bounded memory."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import BAD, GOOD, generated_tables
from filelock import FileLock
from tiny_encoder import LEARN, train_tiny, write_tiny_encoder

import score
from data import schema, shards
from data.dataset import Source, open_dataset, write_dataset
from data.engines import Engine
from data.errors import UserError
from data.runs import current_run
from nlp import batch
from nlp.batch import choose, score_reviews
from nlp.scorer import SentimentScorer, find_current, load_current

ROOT = Path(__file__).parents[1]
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
    together = scorer.predict(given)
    one_by_one = pd.concat([scorer.predict([text]) for text in given], ignore_index=True)
    np.testing.assert_allclose(together["p_positive"], one_by_one["p_positive"], atol=0.01)  # bfloat16
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


def test_a_warning_of_spoilers_speaks_of_no_aspect(scorer: SentimentScorer) -> None:
    said = ["Story spoilers ahead! The story is dull.", "The story spoils the fun of a good plot."]
    found = scorer.analyse(said)["aspects"]
    assert found[0]
    assert {mention["start"] for mention in found[0]} == {said[0].index("The")}
    assert found[1]


@pytest.mark.parametrize(
    ("said", "aspect"),
    [
        ('We saw "Toy Story" at home.', None),
        ("we saw the film Toy Story at home.", None),
        ('We saw "Toy Story" and its story at home.', "story"),
        ("The story of the film was awful.", "story"),
    ],
)
def test_a_word_in_a_title_is_no_aspect(scorer: SentimentScorer, said: str, aspect: str | None) -> None:
    found = {mention["aspect"] for mention in scorer.analyse([said])["aspects"][0]}
    assert ("story" in found) == (aspect == "story")


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
    score_reviews("small", limit=3, service="Lantern", progress=False)
    assert (pq.read_schema(path).metadata or {})[schema.SIGNED.encode()] == b"Lantern"


def test_processes_and_shards_change_nothing(home: Path, tmp_path: Path) -> None:
    alone = pq.read_table(score_reviews("small", progress=False)).to_pandas()
    out = score_reviews("small", tmp_path / "two.parquet", engine=Engine(processes=2), shard_size=50, progress=False)
    table = pq.read_table(out)
    assert table.schema.equals(schema.SCORES["review_scores"])
    pd.testing.assert_frame_equal(table.to_pandas(), alone, rtol=1e-4)
    some = score_reviews("small", tmp_path / "some.parquet", limit=40, shard_size=7, progress=False)
    again = score_reviews("small", tmp_path / "again.parquet", limit=40, progress=False)
    pd.testing.assert_frame_equal(pd.read_parquet(some), pd.read_parquet(again), rtol=1e-4)


def test_only_new_and_changed_reviews_are_read_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = score_reviews("small", changed_only=True, progress=False)
    reviews = open_dataset("small").reviews()
    reviews.loc[3, "text"] = "a brilliant film"
    new = reviews.iloc[[0]].assign(review_id="new", text="an awful film")
    tables = {name: pd.read_parquet(open_dataset("small").path(name)) for name in ("interactions", "items")}
    tables["reviews"] = pd.concat([new, reviews.drop(index=5)], ignore_index=True)
    write_dataset("small", tables, sources=[], replace=True)
    read: list[str] = []
    analyse = SentimentScorer.analyse
    with monkeypatch.context() as patch:
        patch.setattr(SentimentScorer, "analyse", lambda self, said: (read.extend(said), analyse(self, said))[1])
        found = pd.read_parquet(score_reviews("small", changed_only=True, progress=False))
    assert sorted(read) == ["a brilliant film", "an awful film"]
    whole = pd.read_parquet(score_reviews("small", progress=False))
    pd.testing.assert_frame_equal(found, whole, rtol=1e-4)
    assert path.exists()


@pytest.mark.parametrize("what", ["nothing", "run", "tables"])
def test_what_another_run_or_other_tables_gave_is_not_taken(
    what: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(work: shards.Shards, engine: Engine, scorer: shards.Scorer, *_: Any) -> None:
        work.work.write(scorer, 0, work[0])
        path = work.work.path(0)
        table = pq.read_table(path)
        wrong = pa.array(["neutral"] * len(table))  # who takes the shard can be told by it
        pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", wrong), path)
        shards.keep(work)
        raise KeyboardInterrupt

    out = tmp_path / "r.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(batch, "score_missing", stopped)
        with pytest.raises(KeyboardInterrupt):
            score_reviews("small", out, progress=False, shard_size=50)
    run = find_current("small")
    if what == "run":
        run = Path(shutil.copytree(run, tmp_path / "another"))
    if what == "tables":
        found = open_dataset("small")
        tables = {name: pd.read_parquet(found.path(name)) for name in ("interactions", "items", "reviews")}
        tables["reviews"].loc[0, "text"] = "an awful film"
        write_dataset("small", tables, sources=[], replace=True)
    labels = pd.read_parquet(score_reviews("small", out, run=run, progress=False, shard_size=50))["label"]
    assert (labels[:50] == "neutral").all() == (what == "nothing")
    capsys.readouterr()
    score_reviews("small", out, run=Path(shutil.copytree(run, tmp_path / "third")), progress=False, changed_only=True)
    assert "all reviews are read" in capsys.readouterr().out


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


def test_the_command_scores_a_table_and_goes_on_after_a_kill(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    some = ["=brilliant", "", 'awful, "dull"\nfilm', "film " * 40, "moving", "the clumsy story"]
    frame = pd.DataFrame({"body": some * 1_000, "label": "theirs", "n": np.arange(6_000) - 5})
    frame.to_csv(source, index=False)
    argv = ["reviews", "--input", str(source), "--text-column", "body", "--out", str(out), "--dataset", "small"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([sys.executable, "score.py", *argv], cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / ".out.csv.parts" / "state.json").exists():
            assert running.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        running.kill()
        running.wait()
    assert not out.exists()
    assert score.main(argv) == 0
    told = capsys.readouterr().out
    assert re.match(r"Going on after [24],000 rows\.\n", told)
    assert re.fullmatch(r"Wrote .*out\.csv in \d+ s\.", told.splitlines()[-1])
    assert not (tmp_path / ".out.csv.parts").exists()
    scored = pd.read_csv(out, keep_default_na=False)
    added = ["label_predicted", "p_positive", "aspects", "item_id", "link_confidence", "priority", "reply_draft"]
    assert list(scored) == ["body", "label", "n", *added, "problem"]
    assert scored["n"].tolist() == frame["n"].tolist()
    assert scored["body"].tolist() == frame["body"].str.replace("=brilliant", "'=brilliant").tolist()
    whole = load_current("small").analyse(some)
    assert [[found["aspect"] for found in json.loads(cell)] for cell in scored["aspects"][:6]] == [
        [found["aspect"] for found in cell] for cell in whole["aspects"]
    ]
    assert "story" in scored["aspects"][5]
    assert (scored["reply_draft"] == "").equals(frame["body"] == "")
    assert scored["priority"].between(0, 1).all()
    whole = load_current("small").predict(frame["body"].tolist())
    np.testing.assert_allclose(scored["p_positive"].astype(float), whole["p_positive"], atol=1e-4)
    assert (scored["problem"] == "empty text").equals(frame["body"] == "")


def test_a_table_is_linked_to_a_catalogue_or_gets_the_sentiment_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = open_dataset("small").items()
    titles = items.assign(text=[f'"{title}" is a brilliant film.' for title in items["title"]])
    titles[["text"]].to_parquet(tmp_path / "in.parquet")
    argv = ["reviews", "--input", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out.parquet")]
    assert score.main([*argv, "--dataset", "small", "--service", "Lantern"]) == 0
    scored = pd.read_parquet(tmp_path / "out.parquet")
    linked = scored["item_id"].notna()
    assert linked.any()
    assert (scored["item_id"] == items["item_id"])[linked].all()
    assert scored["link_confidence"][linked].between(0.8, 1).all()
    assert scored["reply_draft"].str.contains("Lantern").all()
    assert score.main(argv) == 0
    assert "item_id" not in pd.read_parquet(tmp_path / "out.parquet")
    assert score.main([*argv, "--sentiment-only", "true"]) == 0
    assert list(pd.read_parquet(tmp_path / "out.parquet")) == ["text", "label", "p_positive", "problem"]
    assert score.main([*argv, "--tone", "shrill"]) == 2
    assert "--tone shrill: choose" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(home: Path) -> None:
    run = find_current("small")
    (run / "model.ckpt").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"model\.ckpt cannot be loaded"):
        load_current("small")


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{\n", b"\x00\xff"])
@pytest.mark.parametrize("name", ["encoder/tokenizer.json", "encoder/tokenizer_config.json", "aspects.npz"])
def test_a_damaged_file_of_a_run_is_named(home: Path, name: str, content: bytes | None) -> None:
    """Without its tokenizer.json transformers would read every text as unknown words, and the scores be nonsense."""
    path = find_current("small") / name
    if content is not None:
        path.write_bytes(content)
    else:
        path.unlink(missing_ok=True)
        if name == "aspects.npz":  # not every run has one
            load_current("small")
            return
    with pytest.raises(UserError, match=r"(encoder|aspects\.npz)[^\n]*(train again|make it again)[^\n]*$"):
        load_current("small")


def test_half_a_file_of_aspects_is_named(home: Path) -> None:
    path = find_current("small") / "aspects.npz"
    np.savez(path, words=np.arange(300))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"aspects\.npz is damaged"):
        load_current("small")


def test_what_a_killed_scoring_left_goes_with_the_next_one(home: Path) -> None:
    folder = home / "scores" / "small"
    left = folder / ".review_scores.parquet.parts"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "first.parquet").write_bytes(b"half a file")
    with FileLock(left / "lock"), pytest.raises(UserError, match="is being written by another run"):
        score_reviews("small", limit=5, progress=False)
    assert (left / "first.parquet").exists()
    score_reviews("small", limit=5, progress=False)
    assert {path.name for path in folder.iterdir()} == {"review_scores.parquet", ".review_scores.state.parquet"}


def test_interrupting_leaves_the_earlier_scores(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = score_reviews("small", limit=5, progress=False)
    before = path.read_bytes()

    def interrupted(*_: object) -> pd.DataFrame:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SentimentScorer, "analyse", interrupted)
        with pytest.raises(KeyboardInterrupt, match="Run the same command to go on"):
            score_reviews("small", progress=False)
    assert path.read_bytes() == before
    score_reviews("small", progress=False)
    assert {p.name for p in path.parent.iterdir()} == {path.name, ".review_scores.state.parquet"}
