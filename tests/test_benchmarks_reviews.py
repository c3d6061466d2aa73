"""Reviews beside the transformers pipeline: the same texts, each in its turn, and ours as the scorer reads them."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import generated_tables
from tiny_encoder import train_tiny, write_tiny_encoder

from benchmarks import reviews as benchmark
from benchmarks.__main__ import main
from data.dataset import Source, write_dataset
from data.schema import REVIEW_ID, SOURCE
from nlp.splits import split_reviews

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def trained(marquee_home: Path, tmp_path: Path) -> Path:
    tables = generated_tables(reviews=400)
    tables["reviews"]["source"] = np.where(np.arange(400) % 4 == 0, "small", "large")
    write_dataset("small", tables, sources=[Source("generated", "generated")])
    assert train_tiny("quick", write_tiny_encoder(tmp_path / "encoder"), "small") == 0
    return marquee_home


def test_the_table_has_every_method(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["reviews", "--data.dataset", "small", "--documents", "20", "--rounds", "1", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    for name in (benchmark.PIPELINE, benchmark.IN_USE, "torch-float32", "onnx-float32", "onnx-int8"):
        assert name in printed
    assert "20 test reviews" in printed


def test_documents_are_unseen_and_their_sources_alike(trained: Path) -> None:
    from data.dataset import open_dataset

    split = split_reviews(open_dataset("small").reviews(), 42).frame
    side = split.set_index(REVIEW_ID)["side"]
    found = benchmark.unseen("small", 12)
    assert (side[found[REVIEW_ID]] == "test").all()
    assert found[SOURCE].value_counts().to_dict() == {"small": 6, "large": 6}
    everything = benchmark.unseen("small", 1000)
    assert len(everything) == (split["side"] == "test").sum()
    pd.testing.assert_frame_equal(found, benchmark.unseen("small", 12))


def test_the_pipeline_gets_its_best_batch_size_and_all_take_turns() -> None:
    calls: list[str] = []

    def predict(name: str, seconds: float) -> benchmark.Predict:
        def one(texts: list[str]) -> np.ndarray:
            calls.append(name)
            time.sleep(seconds)
            return np.full(len(texts), 0.5)

        return one

    plain = {1: predict("slow", 0.05), 8: predict("quick", 0.01), 32: predict("slow", 0.05)}
    seconds, p = benchmark.measure(plain, {"ours": predict("ours", 0.0)}, ["a", "b"], rounds=3)
    assert calls == ["slow", "quick", "slow", "ours", *["quick", "ours"] * 3]
    assert [len(each) for each in seconds.values()] == [3, 3]
    assert all(0.01 <= each < 0.05 for each in seconds[benchmark.PIPELINE])
    assert p["ours"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("args", "says"),
    [(["--documents", "0"], "--documents 0"), (["--data.dataset", "none"], "none"), (["--rounds", "x"], "rounds")],
)
def test_a_mistake_is_one_sentence(
    args: list[str], says: str, marquee_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reviews", *args]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
