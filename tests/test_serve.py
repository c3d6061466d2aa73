"""The HTTP services: the answers of score.py, gathered requests, another run without a pause, limits, odd input."""

import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import schemathesis
from conftest import generated_tables
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tiny_encoder import LEARN, train_tiny, write_tiny_encoder

import data.service
from benchmarks.__main__ import main as bench_main
from data import events, runs
from data.dataset import Source, write_dataset
from nlp.predictor import SentimentScorer
from nlp.scorer import load_current as sentiment
from nlp.serve import app_of as reviews_app
from recsys.__main__ import main as recsys
from recsys.batch import score
from recsys.scorer import Recommender, load_current
from recsys.serve import app_of

ROOT = Path(__file__).resolve().parents[1]
FIT = ["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset", "small", "--trainer.max_epochs", "1"]
ODD = ["🦉" * 300, "'; drop table events; --", "x" * 10_000, "../../etc/passwd", "\u202e", " ", "a\nb"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with both models in use on one dataset, of two recommenders the later one."""
    home = tmp_path_factory.mktemp("served") / "home"
    encoder = write_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(home))
        patch.delenv("MARQUEE_DATASET", raising=False)
        write_dataset("small", generated_tables(120, 60, reviews=400), sources=[Source("generated", "generated")])
        for _ in range(2):
            assert recsys([*FIT, "--gate", "off", "--trainer.enable_progress_bar", "false"]) == 0
        assert train_tiny("quick", encoder, "small", *LEARN) == 0
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "home"
    shutil.copytree(trained, copy)
    monkeypatch.setenv("MARQUEE_HOME", str(copy))
    return copy


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(app_of("small"), raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def reader(home: Path) -> Iterator[TestClient]:
    with TestClient(reviews_app("small"), raise_server_exceptions=False) as found:
        yield found


def picks(client: TestClient, member: str, **wanted: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/recommend", json={"member": member, **wanted})
    assert answer.status_code == 200, answer.text
    return answer.json()["lists"][0]["picks"]


def test_lists_are_those_of_the_batch(client: TestClient, tmp_path: Path) -> None:
    table = pd.read_parquet(score("small", out=tmp_path / "r.parquet", top_k=5))
    members = ["u3", "u9", "u3"]
    many = client.post("/v1/recommend/many", json={"members": members, "k": 5, "reasons": True}).json()
    assert [one["member"] for one in many["lists"]] == members
    assert many["run_id"] == table["run_id"].iloc[0]
    for one in many["lists"]:
        mine = table[table["user_id"] == one["member"]].drop(columns=["user_id", "run_id"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(pd.DataFrame(one["picks"]), mine, check_dtype=False, rtol=1e-5)
        alone = pd.DataFrame(picks(client, one["member"], k=5, reasons=True))
        pd.testing.assert_frame_equal(alone, mine, check_dtype=False, rtol=1e-5)
    without = picks(client, "u3", k=3, exclude=[many["lists"][0]["picks"][0]["item_id"]])
    assert [pick["item_id"] for pick in without[:2]] == [p["item_id"] for p in many["lists"][0]["picks"][1:3]]
    assert without[0]["reason_item_id"] is None
    assert picks(client, "u3", years=(1800, 1801)) == []


def test_requests_of_the_same_moment_share_a_pass(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[str]] = []
    recommend = Recommender.recommend
    monkeypatch.setattr(
        Recommender,
        "recommend",
        lambda self, ids, *rest, **more: (passes.append(list(ids)), recommend(self, ids, *rest, **more))[1],
    )
    with TestClient(app_of("small", window=0.5)) as client:
        alone = {f"u{i}": picks(client, f"u{i}", k=4) for i in range(1, 3)}
        passes.clear()
        asked = [f"u{1 + i % 10}" for i in range(30)]
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            found = list(pool.map(lambda member: picks(client, member, k=4), asked))
            assert len(passes) <= 3
            lengths = list(pool.map(lambda k: len(picks(client, "u1", k=k)), [1, 5, 2, 5, 1]))
    assert lengths == [1, 5, 2, 5, 1]  # each its own kind of list
    assert max(len(members) for members in passes) == 10  # nobody twice in a pass
    for member, mine in zip(asked, found, strict=True):
        if member in alone:
            assert [pick["item_id"] for pick in mine] == [pick["item_id"] for pick in alone[member]]


def test_an_update_is_known_from_the_next_request_on(client: TestClient) -> None:
    assert client.post("/v1/recommend", json={"member": "guest"}).status_code == 404
    event = {"item_id": "i4", "event_id": "e-1", "timestamp": "2024-05-01T10:00:00"}
    told = {"member": "guest", "events": [event, {"item_id": "nowhere"}], "keep": True}
    assert client.post("/v1/update", json=told).json() == {"known": 1, "kept": 2}
    listed = [pick["item_id"] for pick in picks(client, "guest", k=60)]
    assert len(listed) == 59
    assert "i4" not in listed
    assert "i4" in [pick["item_id"] for pick in picks(client, "guest", k=60, hide_seen=False)]
    assert client.post("/v1/update", json={**told, "events": [event]}).json()["kept"] == 0  # sent twice, kept once
    assert sorted(events.events("small")["item_id"]) == ["i4", "nowhere"]
    assert client.post("/v1/update", json={"member": "guest", "events": [{"item_id": "i5"}]}).json()["kept"] == 0
    assert len(events.events("small")) == 2
    rating = {"member": "guest", "events": [{"item_id": "i4", "kind": "rating"}], "keep": True}
    refused = client.post("/v1/update", json=rating)
    assert (refused.status_code, refused.json()["error"]) == (422, "events: a rating needs a rating.")


def test_explain_and_similar(client: TestClient) -> None:
    first = picks(client, "u3", k=1, reasons=True)[0]
    why = client.get("/v1/explain", params={"member": "u3", "item_id": first["item_id"], "k": 50}).json()["events"]
    assert why[0]["item_id"] == first["reason_item_id"]
    assert why[0]["share"] == pytest.approx(first["reason_share"], rel=1e-4)
    assert sum(event["share"] for event in why) == pytest.approx(1.0, rel=1e-4)
    near = client.get("/v1/similar", params={"item_id": "i4", "k": 3}).json()["titles"]
    expected = load_current("small").similar("i4", 3)
    assert [title["item_id"] for title in near] == expected["item_id"].tolist()
    for path, asked in (
        ("similar", {"item_id": "none"}),
        ("explain", {"member": "none", "item_id": "i4"}),
        ("explain", {"member": "u3", "item_id": "none"}),
    ):
        refused = client.get(f"/v1/{path}", params=asked)
        assert refused.status_code == 404
        assert "'none'" in refused.json()["error"]


def test_a_promoted_run_is_served_without_a_pause_and_knows_the_updates(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.service, "_LOOK_SECONDS", 0.05)
    folder = home / "runs/small/recommender"
    newer, older = (folder / run.id for run in runs.list_runs("small", "recommender")[:2])
    with TestClient(app_of("small")) as client:
        assert client.get("/ready").json()["run_id"] == newer.name
        client.post("/v1/update", json={"member": "guest", "events": [{"item_id": "i4"}]})
        assert recsys(["promote", older.name, "--force"]) == 0
        end = time.monotonic() + 20
        while client.get("/ready").json()["run_id"] != older.name:
            assert client.post("/v1/recommend", json={"member": "u3"}).status_code == 200
            assert time.monotonic() < end
            time.sleep(0.05)
        assert "i4" not in [pick["item_id"] for pick in picks(client, "guest", k=60)]
        assert client.get("/v1/model").json()["headline"]["metric"] == "ndcg@10"
        (newer / "model.ckpt").write_bytes(b"cut short")
        (folder / "current").write_text(newer.name)
        time.sleep(0.5)
        assert client.get("/ready").json()["run_id"] == older.name  # one that cannot be loaded is left alone
        assert picks(client, "u3")


def test_reviews_are_scored_as_by_the_scorer(reader: TestClient) -> None:
    texts = ["a brilliant story", "an awful film", ""]
    answer = reader.post("/v1/score", json={"texts": texts, "replies": True, "titles": True}).json()
    expected = sentiment("small").analyse(texts)
    assert [review["label"] for review in answer["reviews"]] == expected["label"].tolist()
    assert [review["p_positive"] for review in answer["reviews"]] == pytest.approx(expected["p_positive"], rel=1e-4)
    assert [len(review["aspects"]) for review in answer["reviews"]] == expected["aspects"].str.len().tolist()
    assert answer["reviews"][0]["reply_draft"]
    assert answer["reviews"][2]["reply_draft"] is None
    plain = reader.post("/v1/score", json={"texts": texts[:1]}).json()["reviews"][0]
    assert plain["reply_draft"] is None
    why = reader.post("/v1/explain", json={"text": texts[0]}).json()
    assert texts[0][why["words"][1]["start"] : why["words"][1]["end"]] == "brilliant"
    assert why["words"][1]["attribution"] > 0


def test_texts_of_the_same_moment_are_read_together(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    analyse = SentimentScorer.analyse
    monkeypatch.setattr(
        SentimentScorer, "analyse", lambda self, texts: (read.append(len(texts)), analyse(self, texts))[1]
    )
    texts = [["a brilliant film", f"number {i}"] if i % 2 else [f"an awful film {i}"] for i in range(16)]
    with TestClient(reviews_app("small", window=0.5)) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda some: client.post("/v1/score", json={"texts": some}).json(), texts))
    assert len(read) <= 2
    assert sum(read) == 24
    assert [len(answer["reviews"]) for answer in found] == [len(some) for some in texts]
    assert {answer["reviews"][0]["label"] for answer in found[1::2]} == {"positive"}
    assert {answer["reviews"][0]["label"] for answer in found[::2]} == {"negative"}


def test_limits(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for body in (
        {"member": "u1", "k": 0},
        {"member": "u1", "k": 10_000},
        {"member": ""},
        {"member": "u1", "kk": 3},
        {"member": "x" * 1001},
        {"member": "u1", "variety": 2},
        {},
        [],
    ):
        refused = client.post("/v1/recommend", json=body)
        assert refused.status_code == 422, body
        assert re.fullmatch(r"[^\n]+\.", refused.json()["error"])
    assert client.post("/v1/recommend/many", json={"members": ["u1"] * 501}).status_code == 422
    assert client.post("/v1/recommend", content=b"x" * (2 << 20)).status_code == 413
    chunked = client.post("/v1/recommend", content=(b"x" * (1 << 18) for _ in range(8)))  # of no told length
    assert chunked.status_code == 413
    assert client.post("/v1/recommend", content=b"{").status_code == 422
    assert client.get("/v1/recommend").json() == {"error": "Method Not Allowed."}
    assert client.get("/nowhere").json() == {"error": "Not Found."}


def test_too_many_and_too_late(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = threading.Event()
    recommend = Recommender.recommend
    monkeypatch.setattr("recsys.serve.SECONDS", 1.0)
    monkeypatch.setattr("recsys.serve.WAITING", 2)
    app = app_of("small", window=0.0)
    monkeypatch.setattr(
        Recommender, "recommend", lambda self, *rest, **more: (going.wait(20), recommend(self, *rest, **more))[1]
    )
    with TestClient(app) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/v1/recommend", json={"member": "u1"}) for _ in range(8)]
        answers = [one.result() for one in asked]
        going.set()
        assert {answer.status_code for answer in answers} == {503, 504}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert client.post("/v1/recommend", json={"member": "u1"}).status_code == 200


def test_a_token_is_asked_for_where_there_is_one(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(data.service.TOKEN, "sesame")
    body = {"member": "u1"}
    assert client.post("/v1/recommend", json=body).status_code == 401
    for header in ("Bearer wrong", "Bearer", "Basic sesame", "Bearer sésame"):
        answer = client.post("/v1/recommend", json=body, headers={"Authorization": header.encode()})
        assert answer.status_code == 401
    assert client.post("/v1/recommend", json=body, headers={"Authorization": "Bearer sesame"}).status_code == 200
    assert client.get("/health").status_code == 200


def test_what_breaks_inside_is_in_the_log_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of the house")

    monkeypatch.setattr(Recommender, "recommend", broken)
    answer = client.post("/v1/recommend", json={"member": "u1"})
    assert answer.status_code == 500
    (name,) = re.findall(r"under (\w+)\.", answer.json()["error"])
    assert "secret" not in answer.text
    assert name in caplog.text
    assert "a secret of the house" in caplog.text


@pytest.mark.parametrize("odd", ODD)
def test_odd_ids_and_texts_are_ids_and_texts(odd: str, client: TestClient, reader: TestClient) -> None:
    told = {"member": odd, "events": [{"item_id": odd}, {"item_id": "i4"}], "keep": True}
    answer = client.post("/v1/update", json=told)
    if len(odd) > 1000:
        assert answer.status_code == 422
    else:
        assert answer.json() == {"known": 1, "kept": 2}
        assert len(picks(client, odd, k=5)) == 5
        assert odd in events.events("small")["user_id"].tolist()
    assert reader.post("/v1/score", json={"texts": [odd]}).status_code == 200


def test_half_a_surrogate_and_nul_are_refused(client: TestClient) -> None:
    for text in ('"\\ud800"', '"a\\u0000b"'):
        answer = client.post(
            "/v1/recommend", content=f'{{"member": {text}}}', headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422


@pytest.fixture(params=[app_of, reviews_app], ids=["recsys", "nlp"])
def app(request: pytest.FixtureRequest, home: Path) -> FastAPI:
    return request.param("small")


def test_whatever_is_sent_is_answered_as_the_openapi_says(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(data.service.TOKEN, "sesame")
    header = {"Authorization": "Bearer sesame"}
    # A rating needs a rating, and other rules that no schema can say.
    stricter = [positive_data_acceptance]
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 5
    for operation in operations:

        @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def answered(case: Any) -> None:
            case.call_and_validate(headers=header, excluded_checks=stricter)

        answered()


class Server:
    """`python -m recsys serve` in a process of its own."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recsys", "serve", "--dataset", "small", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )

    def address(self) -> str:
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found is not None, self.process.communicate()
        return found[0]


def test_a_connection_that_is_kept_waits_for_no_confirmation(home: Path) -> None:
    """Headers and body are sent apart; a client's system confirms the headers after 40 ms, if it is left to that."""
    server = Server("--port", "0")
    connection = http.client.HTTPConnection(server.address().removeprefix("http://"))
    seconds = []
    for _ in range(15):
        began = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - began)
    server.process.terminate()
    server.process.communicate(timeout=30)
    assert sorted(seconds)[7] < 0.03


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(home: Path, ending: signal.Signals) -> None:
    server = Server("--port", "0")
    url = server.address()
    body = json.dumps({"member": "u3", "k": 2}).encode()
    request = urllib.request.Request(f"{url}/v1/recommend", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert len(json.load(answer)["lists"][0]["picks"]) == 2
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/v1/similar?item_id=ghost")
    assert "ghost" in json.load(refused.value)["error"]
    server.process.send_signal(ending)
    said, logged = server.process.communicate(timeout=30)
    assert server.process.returncode == 0, logged
    assert "Traceback" not in logged + said
    assert "POST /v1/recommend 200" in logged
    assert "u3" not in logged
    assert "ghost" not in logged


def test_mistakes_of_the_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        for flags, sentence in (
            (["--dataset", "none"], "There is no dataset 'none'"),
            (["--port", "99999"], "--port 99999: give a number from 0 to 65535"),
            (["--dataset", "small", "--port", str(port)], f"--port {port} cannot be listened at"),
            (["--batch", "0"], "--batch 0: give a number from 1 to 256"),
            (["--bogus", "1"], "--bogus"),
        ):
            assert recsys(["serve", *flags]) == 2
            complained = capsys.readouterr().err
            assert sentence in complained
            assert complained.count("\n") == 1


@pytest.mark.slow
def test_the_benchmark_measures_real_services(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["serving", "--dataset", "small", "--seconds", "0.3", "--clients", "3"]
    assert bench_main(asked) == 0
    rows = {line.split("  ")[0]: line.split()[-5:] for line in capsys.readouterr().out.splitlines()}
    for row in ("recommend, 1 client", "recommend, 3 clients, --batch 1", "score a review, 3 clients"):
        each_second, p50, p95, p99, n = (float(part.replace(",", "")) for part in rows[row])
        assert 0 < p50 <= p95 <= p99
        assert n >= 1
        assert each_second > 0
    assert bench_main([*asked, "--clients", "1"]) == 2
    assert bench_main([*asked, "--services", "rest"]) == 2
