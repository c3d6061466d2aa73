"""`python -m benchmarks sessions`: many people click at once; is it quick, is memory flat, is every click kept once?"""

import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import create_engine, text
from websockets.exceptions import ConnectionClosed

from benchmarks.visitor import Server, Visitor, dashboard
from data import command, home
from data.dataset import open_dataset
from data.errors import UserError
from data.events import DONE_KINDS

ACTIONS = ("watch", "list_add", "thumb_down")
WORDS = ("heat", "star wrs", "godfahter", "the", "love story", "xyz")


@dataclass
class Visit:
    """What one visitor did: what was answered, and what was on its way when the server went."""

    member: str
    acknowledged: list[tuple[str, str, str]] = field(default_factory=list)  # member, kind, item_id
    on_its_way: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)


def click(visit: Visit, url: str, until: float, think: float, most: int | None = None, seed: int = 0) -> None:
    """Act on the billboard, search, go back to the page, until the time is over, `most` events are acknowledged or the
    server is gone; with a pause of `think` seconds on average (exponential) before each."""
    chance = random.Random(seed)
    try:
        visitor = Visitor(url)
        answer = visitor.open(member=visit.member)
        while time.monotonic() < until and (most is None or len(visit.acknowledged) < most):
            visit.exceptions += answer.exceptions
            if think:
                time.sleep(chance.expovariate(1 / think))
            key = f"billboard-{visit.member}"
            if key in answer.components and chance.random() < 0.7:
                kind = chance.choice(ACTIONS)
                event = (visit.member, kind, answer.components[key][1]["id"])
                visit.on_its_way = [event]
                answer = visitor.act(key, "acted", kind)
                if "Undo" in answer.widgets:  # drawn only after the event was kept
                    visit.acknowledged.append(event)
                visit.on_its_way = []
            elif key in answer.components:
                answer = visitor.type("Search titles", chance.choice(WORDS))
            else:
                answer = visitor.type("Search titles", "")
            visit.seconds.append(answer.seconds)
        visit.exceptions += answer.exceptions
        visitor.close()
    except (ConnectionClosed, ConnectionError, EOFError):
        return


def together(
    server: Server, members: list[str], seconds: float, think: float = 0.0, most: int | None = None
) -> tuple[list[Visit], Any]:
    """A visitor for each member, all at once; returns what they did, and a function that waits for them."""
    until = time.monotonic() + seconds
    visits = [Visit(member) for member in members]
    threads = [
        threading.Thread(target=click, args=(visit, server.url, until, think, most, seed), daemon=True)
        for seed, visit in enumerate(visits)
    ]
    for thread in threads:
        thread.start()

    def wait() -> None:
        for thread in threads:
            thread.join()

    return visits, wait


def lost_and_doubled(database: str, visits: list[Visit]) -> tuple[list[Any], list[Any]]:
    """Events that were acknowledged and are not in the database, and those there that nobody sent or that are there
    twice."""
    engine = create_engine(database)
    with engine.connect() as opened:
        asked = text("SELECT user_id, kind, item_id FROM events")
        kept = Counter(tuple(row) for row in opened.execute(asked) if row[1] in DONE_KINDS)
    engine.dispose()
    sent = {event for visit in visits for event in visit.acknowledged}
    on_its_way = {event for visit in visits for event in visit.on_its_way}
    lost = sorted(sent - set(kept))
    doubled = sorted(event for event, n in kept.items() if n > 1 or event not in sent | on_its_way)
    return lost, doubled


def sessions(args: list[str]) -> None:
    """Measure and print.

    Raises:
        UserError: a flag or the dataset is at fault.
    """
    parser = command.Parser(prog="python -m benchmarks sessions", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="dataset (default: demo)")
    parser.add_argument("--sessions", type=int, default=20, help="visitors at once (default: 20)")
    parser.add_argument("--seconds", type=int, default=300, help="for how long (default: 300)")
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds between two clicks (default: 2)")
    known = parser.parse_args(args)
    dataset = open_dataset(known.dataset)
    if known.sessions < 1 or known.seconds < 10:
        raise UserError("Give at least one session and ten seconds.")
    users = dataset.interactions(["user_id"])["user_id"].value_counts().index[: known.sessions]
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{Path(folder) / 'events.db'}"
        with dashboard(home.home(), dataset.name, MARQUEE_DATABASE_URL=database) as server:
            first = Visitor(server.url).open()  # loads the tables, starts loading the model
            time.sleep(5)
            visits, wait = together(server, [str(user) for user in users], known.seconds, known.think)
            memory = []
            while any(not visit.seconds for visit in visits):
                time.sleep(0.1)
            started = time.monotonic()
            while time.monotonic() - started < known.seconds - 2:
                memory.append(server.memory_mib)
                time.sleep(1)
            wait()
        lost, doubled = lost_and_doubled(database, visits)
    _print(first.seconds, visits, memory, lost, doubled, known.seconds, known.think)


def _print(
    first: float,
    visits: list[Visit],
    memory: list[float],
    lost: list[Any],
    doubled: list[Any],
    seconds: int,
    think: float,
) -> None:
    every = np.concatenate([visit.seconds for visit in visits])
    exceptions = sum(len(visit.exceptions) for visit in visits)
    n_kept = sum(len(visit.acknowledged) for visit in visits)
    third = max(1, len(memory) // 3)
    print(f"{len(visits)} sessions for {seconds} s, {think:g} s between two clicks: {len(every):,} interactions, "
          f"{n_kept:,} events acknowledged")  # fmt: skip
    table = pd.Series(
        {
            "first page, cold": first,
            "median": np.median(every),
            "95th percentile": np.percentile(every, 95),
            "worst": every.max(),
        }
    )
    print("\n".join(f"  {name:<18} {value:6.2f} s" for name, value in table.items()))
    print(f"  memory             {np.median(memory[:third]):,.0f} MiB in the first third, "
          f"{np.median(memory[-third:]):,.0f} MiB in the last")  # fmt: skip
    print(f"  events lost {len(lost)}, doubled or unknown {len(doubled)}; exceptions {exceptions}")
