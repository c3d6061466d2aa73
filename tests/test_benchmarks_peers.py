"""`python -m benchmarks peers`: what peers are given, how their answers are ranked and chosen, and how they end.

The peers here are fakes that run in this environment, but for the test with the marker `benchmark`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import trial, trials
from benchmarks.__main__ import main
from benchmarks.compare import PROTOCOLS
from benchmarks.peers.exchange import Split, Validation, Watch, write_split
from benchmarks.trials import OURS, PEERS, Peer
from data import home
from data.errors import UserError
from recsys.datamodule import Protocol, RecommenderData
from recsys.evaluate import Judge
from recsys.interactions import Histories
from recsys.ranking import rank

pytestmark = pytest.mark.usefixtures("one_thread")

ACCURACY = ("hr@10", "ndcg@10", "±", "mrr", "recall@20", "coverage@10", "novelty@10", "popularity@10")
SHORT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
START = """
import os
import time
from pathlib import Path
import numpy as np
from benchmarks.peers.exchange import answer
"""
POPULAR = """
def fit(split, settings, seed, watch):
    watch.better(0.5)
    counts = np.bincount(split.table("train")["item"], minlength=split.n_items)
    return lambda asked: np.tile(settings[asked] * counts, (split.rows[asked], 1))
"""
AFTER = """
def fit(split, settings, seed, watch):
    with Path("count").open("a") as file:
        file.write(".")
    def score(asked):
        last = split.table(asked).drop_duplicates("row", keep="last").set_index("row")["item"]
        near = np.arange(split.n_items)[None, :] - last.sort_index().to_numpy()[:, None]
        return -((near - 1) % split.n_items)
    return score
"""
SLEEPER = """
def fit(split, settings, seed, watch):
    Path("pid").write_text(str(os.getpid()))
    time.sleep(120)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a peer of a function `fit`; it runs in this environment."""
    monkeypatch.setattr(trial, "PYTHON", Path(sys.executable))

    def make(name: str, fit: str, *settings: dict) -> Peer:
        script = tmp_path / f"{name}.py"
        script.write_text(START + fit + "\nanswer(fit)\n")
        peer = Peer(name, script, list(settings))
        monkeypatch.setitem(PEERS, name, peer)
        return peer

    return make


def same(table: pd.DataFrame, histories: Histories) -> bool:
    columns = {"row": histories.users, "item": histories.items, "time": histories.times}
    return all(np.array_equal(table[name], values) for name, values in columns.items())


@pytest.mark.parametrize("protocol", ["leave-one-out", "leave-five-out", "temporal"])
def test_the_files_are_the_datamodules_split(protocol: Protocol, small_dataset, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small", protocol)
    data.load()
    write_split(data, tmp_path)
    split, validation, test = Split(tmp_path), data.ranking("validation"), data.ranking("test")
    assert same(split.table("train"), data.train)
    assert np.array_equal(split.table("train")["user"], data.train.users)
    assert same(split.table("before_validation"), validation.seen)
    assert same(split.table("validation"), validation.targets)
    assert same(split.table("before_test"), test.seen)
    assert np.array_equal(split.members("before_test"), test.users)
    assert split.rows == {"before_validation": len(validation.users), "before_test": len(test.users)}
    assert (split.n_users, split.n_items) == (data.n_users, data.n_items)


def test_the_test_titles_are_not_among_the_files(small_dataset, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small", "leave-one-out")
    data.load()
    write_split(data, tmp_path / "split")
    names = ("train", "before_validation", "validation", "before_test")
    assert {path.name for path in (tmp_path / "split").glob("*.parquet")} == {f"{name}.parquet" for name in names}
    split = Split(tmp_path / "split")
    given = {
        (user, item)
        for name in names
        for user, item in zip(split.table(name)["user"], split.table(name)["item"], strict=True)
    }
    assert not given & set(zip(data.test.users, data.test.items, strict=True))


def test_a_peer_goes_through_the_pipeline(small_dataset, fake, capsys: pytest.CaptureFixture[str]) -> None:
    """Popularity as a peer has the figures of the baseline, and the choice does not look at the test."""
    small_dataset(n_items=150, reviews=0)
    up, down = {"before_validation": 1, "before_test": 1}, {"before_validation": -1, "before_test": -1}
    fake("popular", POPULAR, down, up)
    fake("misled", POPULAR, up | {"before_test": -1}, down | {"before_test": 1})
    ask = ["peers", "--data.dataset", "small", "--peers", "popular,misled", "--trials", "2", *SHORT]
    assert main(ask) == 0
    printed = capsys.readouterr().out
    (path,) = home.evaluations("small", "recommender").glob("*.json")
    result = json.loads(path.read_text("utf-8"))
    for part in ("validation", "test"):
        table = result["metrics"][part]
        for column in ACCURACY:
            assert table["popular"][column] == table["popularity"][column], (part, column)
    test = result["metrics"]["test"]
    assert {"HistoryNet", "EASE, fading", "popular", "misled"} <= set(test)
    assert test["popular"]["fit s"] >= 0
    assert test["popular"]["members/s"] > 0
    assert test["misled"]["ndcg@10"] < 0.5 * test["popularity"]["ndcg@10"]  # right on validation, wrong on the test
    validation = result["metrics"]["validation"]
    assert validation["misled"]["ndcg@10"] == validation["popularity"]["ndcg@10"]
    assert result["paired_ndcg@10"]["popular"] == result["paired_ndcg@10"]["popularity"]
    (tried,) = result["tried"]
    assert [len(tried[name]) for name in ("HistoryNet", "popular", "misled")] == [2, 2, 2]
    assert tried["popular"][1]["ndcg@10"] > tried["popular"][0]["ndcg@10"]
    assert any(
        note.startswith("popular: before_validation 1, before_test 1, the best of 2") for note in result["notes"]
    )
    assert "popular, trial 2 of 2" in printed
    assert "HistoryNet is better by" in printed
    assert not list(home.benchmarks("small").iterdir())  # the scores have done their work
    assert main(ask) == 0
    assert "Kept from" in capsys.readouterr().out


def test_each_row_has_its_own_scores_and_a_trial_is_made_once(small_dataset, fake, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small", "leave-five-out")
    judge = Judge(data)
    write_split(data, tmp_path / "split")
    peer = fake("after", AFTER, {})

    def score(users: np.ndarray, seen: Histories) -> torch.Tensor:
        last = seen.items[seen.start[1:] - 1]
        return -torch.from_numpy((np.arange(data.n_items) - last[:, None] - 1) % data.n_items).float()

    for _ in range(2):
        out, about = trial.run(peer, {}, 1, 5.0, tmp_path / "split", tmp_path / "work")
    assert (out / "count").read_text() == "."
    assert about.peak_mib is None or about.peak_mib >= 0
    expected = judge.rank(score, "test")
    for batch_size in (64, 512):
        found = rank(trial.written(out, "before_test"), judge.rankings["test"], data.train, 42, batch_size)
        assert np.array_equal(found.ndcg, expected.ndcg)
    assert judge.rank(trial.written(out, "before_validation"), "validation").values == (
        judge.rank(score, "validation").values
    )


def test_a_crash_after_the_answer_is_no_failure_and_one_before_it_is(small_dataset, fake, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small", "leave-five-out")
    Judge(data)
    write_split(data, tmp_path / "split")
    late = AFTER.replace("def fit", "import atexit\natexit.register(os.abort)\ndef fit")
    out, _ = trial.run(fake("late", late, {}), {}, 1, 5.0, tmp_path / "split", tmp_path / "work")
    assert (out / "before_test.npy").is_file()
    early = AFTER.replace("def score", "os.abort()\n    def score")
    with pytest.raises(UserError, match="early ended with exit code -6"):
        trial.run(fake("early", early, {}), {}, 1, 5.0, tmp_path / "split", tmp_path / "work")


def test_what_a_peer_stops_by_is_our_metric(small_dataset, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small", "temporal")
    judge = Judge(data)
    write_split(data, tmp_path)
    scores = np.random.default_rng(0).random((len(judge.rankings["validation"].users), data.n_items), np.float32)
    expected = judge.rank(lambda users, seen: torch.from_numpy(scores), "validation").values["ndcg@10"]
    assert Validation(Split(tmp_path)).ndcg(scores) == pytest.approx(expected, abs=1e-6)


def test_a_watch_stops_by_patience_and_by_time() -> None:
    watch = Watch(patience=2, minutes=10.0)
    assert [(watch.better(value), watch.over) for value in (0.1, 0.3, 0.2, 0.3)] == [
        (True, False),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert (watch.best_epoch, watch.epoch, watch.out_of_time) == (2, 4, False)
    hurried = Watch(patience=2, minutes=0.0)
    assert hurried.better(0.1)
    assert hurried.over
    assert hurried.out_of_time


def test_everybody_has_the_same_number_of_trials() -> None:
    assert {len(peer.settings) for peer in PEERS.values()} == {len(OURS)}
    assert all(peer.script.is_file() for peer in PEERS.values())
    assert all(settings["epochs"] for peer in PEERS.values() for settings in peer.settings)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--peers", "sasrec,hstu"], ["hstu", "bert4rec", "recbole-neumf"]),
        (["--protocol", "ncf-2017"], ["ncf-2017", "held-out-users"]),
        (["--protocol", "held-out-users", "--peers", "sasrec,recbole-neumf"], ["recbole-neumf", "leave it out"]),
        (["--trials", "7"], ["--trials 7", "1 to 6"]),
        (["--seeds", "0"], ["--seeds 0"]),
        (["--max-minutes", "0"], ["--max-minutes 0"]),
        ([], ["make benchmark-peers-env"]),
    ],
)
def test_mistakes_are_one_sentence(
    flags: list[str],
    words: list[str],
    small_dataset,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    small_dataset(reviews=0)
    monkeypatch.setattr(trial, "PYTHON", tmp_path / "nowhere")
    assert main(["peers", "--data.dataset", "small", *flags]) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("error: ") == 1
    assert told.count("\n") == 0
    assert all(word in told for word in words), told


def test_an_unknown_benchmark_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speeed"]) == 2
    assert "'speeed' is unknown" in capsys.readouterr().err


def test_a_peer_that_fails_is_told_with_its_log(small_dataset, fake, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small")
    data.load()
    write_split(data, tmp_path / "split")
    peer = fake("broken", "def fit(split, settings, seed, watch):\n    raise MemoryError('too wide')\n", {})
    with pytest.raises(UserError, match=r"broken ended with exit code 1: .*log\.txt") as mistake:
        trial.run(peer, {}, 1, 5.0, tmp_path / "split", tmp_path / "work")
    log = Path(str(mistake.value).split(": ")[1].removesuffix(" says why."))
    assert "too wide" in log.read_text()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_peer_ends_with_us(ending: signal.Signals, small_dataset, fake, tmp_path: Path) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small")
    data.load()
    write_split(data, tmp_path / "split")
    peer = fake("sleeper", SLEEPER, {})
    code = f"""
import signal, sys
from pathlib import Path
from benchmarks import trial
from benchmarks.trials import Peer
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
trial.PYTHON = Path(sys.executable)
peer = Peer("sleeper", Path({str(peer.script)!r}), [])
trial.run(peer, {{}}, 1, 5.0, Path({str(tmp_path / "split")!r}), Path({str(tmp_path / "work")!r}))
"""
    ours = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(trials.HERE.parent)},
        stderr=subprocess.DEVNULL,
    )
    try:
        pid = until(lambda: int(next(tmp_path.glob("work/*/pid")).read_text()))
        os.kill(ours.pid, ending)
        ours.wait(60)
        until(lambda: gone(pid))
    finally:
        ours.kill()
        ours.wait()


def until(found, seconds: float = 90.0):
    """What `found` returns, once it neither fails nor is empty."""
    end = time.monotonic() + seconds
    while True:
        try:
            if value := found():
                return value
        except (StopIteration, ValueError):
            pass
        assert time.monotonic() < end
        time.sleep(0.1)


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.benchmark
@pytest.mark.skipif(not trial.PYTHON.is_file(), reason="make benchmark-peers-env")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_real_peers_learn_something(protocol: str, small_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset(n_users=200, reviews=0)
    for name, peer in PEERS.items():
        narrow = {"n_factors": 16, "n_heads": 1, "batch_size": 32}
        if name.startswith("recbole"):
            narrow = {"train_batch_size": 32} if name == "recbole-multvae" else {}
        first = peer.settings[0] | {"epochs": 15} | narrow
        monkeypatch.setitem(PEERS, name, peer._replace(settings=[first]))
    assert main(["peers", "--data.dataset", "small", "--protocol", protocol, "--trials", "1", *SHORT]) == 0
    (path,) = home.evaluations("small", "recommender").glob("*.json")
    table = json.loads(path.read_text("utf-8"))["metrics"]["test"]
    by_chance = np.mean([1 / np.log2(1 + r) if r <= 10 else 0 for r in range(1, 25)])
    asked = [peer for peer in PEERS.values() if peer.strangers or protocol != "held-out-users"]
    assert len(asked) >= 3
    for peer in asked:
        assert table[peer.title]["ndcg@10"] > by_chance, peer.title
