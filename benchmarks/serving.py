"""`python -m benchmarks serving`: requests a second and their latency, of both services as real processes.

One client, and many at once, each of which asks again as soon as it is answered. `--batch 1` has every request answered
by a pass of the model of its own. The clients take part of the same machine.
"""

import asyncio
import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from benchmarks.processes import ROOT
from data import command, report, runs
from data.dataset import open_dataset
from data.errors import UserError
from data.service import BATCH
from recsys.scorer import load_current

_TEXTS = (
    "A brilliant film, though the ending drags.",
    "The plot is thin, the acting wooden, and the two hours felt like four. I wanted to like it for the music alone, "
    "which is wonderful, but nobody on the screen seems to know why they are there.",
    "Funny and moving.",
)
Ask = Callable[[int], tuple[str, str, Any]]  # the number of a request to method, path and body


def serving(args: list[str]) -> None:
    """Measure and print the table.

    Raises:
        UserError: a flag is at fault, there is no model in use, or a service refuses.
    """
    parser = command.Parser(prog="python -m benchmarks serving", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--dataset", "--data.dataset", default="demo", help="dataset (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row (default: %(default)s)")
    parser.add_argument("--services", default="recsys,nlp", help="some of %(default)s (default: both)")
    known = parser.parse_args(args)
    services = known.services.split(",")
    if known.clients < 2 or known.seconds <= 0:
        raise UserError("Give at least two clients, and some seconds.")
    if not set(services) <= {"recsys", "nlp"}:
        raise UserError(f"--services {known.services}: give some of recsys,nlp.")
    open_dataset(known.dataset)
    table: dict[str, dict[str, float | None]] = {}
    for service in services:
        runs.require_run(known.dataset, "recommender" if service == "recsys" else "sentiment")
        asks = _of_recommender(known.dataset) if service == "recsys" else _OF_REVIEWS
        for batch in (BATCH, 1):
            with service_at(service, known.dataset, "--batch", str(batch)) as url:
                for name, ask in asks.items():
                    if batch == 1 and name not in _BATCHED:
                        continue
                    asyncio.run(_asked(url, ask, 1, min(1.0, known.seconds)))  # the first requests are slower
                    for clients in (1, known.clients) if batch > 1 else (known.clients,):
                        row = f"{name}, {clients} client{'s'[: clients > 1]}{', --batch 1' if batch == 1 else ''}"
                        table[row] = _figures(*asyncio.run(_asked(url, ask, clients, known.seconds)))
    report.print_metrics(table, f"Both services on '{known.dataset}': latency in milliseconds")


def _of_recommender(dataset: str) -> dict[str, Ask]:
    recommender = load_current(dataset)
    members, titles = list(recommender.members[:1000]), list(recommender.vocabulary.item_ids)
    at = lambda n: str(members[n % len(members)])  # noqa: E731
    title = lambda n: str(titles[7 * n % len(titles)])  # noqa: E731
    history = [{"item_id": str(one)} for one in titles[:20]]
    return {
        "recommend": lambda n: ("POST", "/v1/recommend", {"member": at(n)}),
        "recommend with reasons": lambda n: ("POST", "/v1/recommend", {"member": at(n), "reasons": True}),
        "explain": lambda n: ("GET", f"/v1/explain?member={at(n)}&item_id={title(n)}", None),
        "update, one event": lambda n: ("POST", "/v1/update", {"member": at(n), "events": [{"item_id": title(n)}]}),
        "update, a new member's 20": lambda n: ("POST", "/v1/update", {"member": f"new {n}", "events": history}),
    }


_OF_REVIEWS: dict[str, Ask] = {
    "score a review": lambda n: ("POST", "/v1/score", {"texts": [f"{_TEXTS[n % 3]} {n}"]}),
    "explain a review": lambda n: ("POST", "/v1/explain", {"text": _TEXTS[n % 3]}),
}
_BATCHED = ("recommend", "recommend with reasons", "score a review")


@contextmanager
def service_at(package: str, dataset: str, *flags: str) -> Iterator[str]:
    """`python -m PACKAGE serve` in a process of its own, at a free port; its address.

    Raises:
        UserError: it does not begin.
    """
    asked = [sys.executable, "-m", package, "serve", "--dataset", dataset, "--port", "0", *flags]
    with subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = re.search(r"http://\S+", process.stdout.readline())
            if url is None:
                raise UserError(f"{' '.join(asked[1:])} ended with {process.wait()}: run it by itself to see why.")
            yield url[0]
        finally:
            process.send_signal(signal.SIGTERM)


async def _asked(url: str, ask: Ask, clients: int, seconds: float) -> tuple[list[float], float]:
    """Latency of each request, in seconds, and for how long there were any."""
    numbers, took = itertools.count(), list[float]()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as connected:
        began = time.perf_counter()

        async def client() -> None:
            while True:
                method, path, body = ask(next(numbers))
                sent = time.perf_counter()
                answer = await connected.request(method, path, json=body)
                took.append(time.perf_counter() - sent)
                if answer.status_code != 200:
                    raise UserError(f"{method} {path} was answered with {answer.status_code}: {answer.text[:200]}")
                if time.perf_counter() - began >= seconds:
                    return

        await asyncio.gather(*(client() for _ in range(clients)))
        return took, time.perf_counter() - began


def _figures(took: list[float], seconds: float) -> dict[str, float | None]:
    p50, p95, p99 = 1000 * np.percentile(took, [50, 95, 99])
    return {
        "requests/s": len(took) / seconds,
        "p50 ms": float(p50),
        "p95 ms": float(p95),
        "p99 ms": float(p99),
        "requests": float(len(took)),
    }
