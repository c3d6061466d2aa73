"""`python -m benchmarks`: how quick everything is beside the peers, in one run on one machine, as one table.

Each line has two sides that do the same work on the same data. They take turns, so that whatever else the machine does
touches both; a figure is the best of a side's turns, and the ratio is that of the two figures. What each side does is
told line by line in docs/benchmarks.md; the sides are in benchmarks/speed_lines.py.
"""

import importlib.metadata
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed_lines import LINES, Line, Options
from benchmarks.trial import PINS
from data import command, home, report
from data.atomic import write_json
from data.errors import UserError

_PEERS = ("implicit", "statsforecast", "streamlit", "pyarrow", "onnxruntime")
_PEERS_OWN = ("recbole", "RecTools", "torch")  # in the environment of benchmarks/peers.txt


def speed(args: list[str]) -> None:
    """Measure, print the table and keep it as JSON. A line that cannot be measured is told below the table.

    Raises:
        UserError: a flag is at fault, or none of the lines can be measured.
    """
    parser = command.Parser(
        prog="python -m benchmarks speed", description=(__doc__ or "").partition("\n\n")[0].partition(": ")[2]
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="whose trainings and reviews (demo)")
    parser.add_argument("--only", help=f"some of {','.join(LINES)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--quick", action="store_true", help="little data and one turn: whether all of it runs")
    known = parser.parse_args(args)
    chosen = list(LINES) if known.only is None else list(dict.fromkeys(known.only.split(",")))
    if unknown := [name for name in chosen if name not in LINES]:
        raise UserError(f"--only {unknown[0]} is unknown: choose among {', '.join(LINES)}.")
    if known.rounds < 1:
        raise UserError(f"--rounds {known.rounds} must be at least 1.")
    home.benchmarks(known.dataset)  # refuses what is no name
    options = Options(known.dataset, 1 if known.quick else known.rounds, known.quick)
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    for name in chosen:
        try:
            rows += [_told(row) for row in _measured(name, options)]
        except UserError as reason:
            missing[name] = str(reason)
            print(f"{name} is not measured: {reason}", flush=True)
    if not rows:
        raise UserError(" ".join(dict.fromkeys(missing.values())))
    content: dict[str, Any] = {
        "benchmark": "speed",
        "created_at": report.now(),
        "seconds": round(time.perf_counter() - started, 1),
        "options": options._asdict(),
        "lines": rows,
        "not_measured": missing,
        "machine": machine(),
        "versions": versions(),
    }
    path = home.benchmarks(known.dataset) / f"speed-{re.sub('[^0-9T]', '', content['created_at'][:19])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report.jsonable(content))
    show(content)
    print(f"Kept in {path}.")


def _measured(name: str, options: Options) -> Iterator[dict[str, Any]]:
    """A row for each line of a name: both sides in turns, ours first."""
    for line in LINES[name](options):
        ours, theirs = [], []
        for _ in range(line.rounds or options.rounds):
            ours.append(line.ours())
            theirs.append(line.theirs())
        yield row(name, line, ours, theirs)


def row(name: str, line: Line, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """What the table and the JSON hold of a line: the best turns, their ratio, and the ratios of the single rounds.

    A ratio is above 1 where ours is the quicker one, whether the unit counts work in a second or seconds.
    """
    best = min if line.seconds else max

    def ratio(our: float, their: float) -> float:
        return their / our if line.seconds else our / their

    rounds = [ratio(a, b) for a, b in zip(ours, theirs, strict=True)]
    return {
        "name": name,
        "what": line.what,
        "unit": line.unit,
        "ours": best(ours),
        "peer": line.peer,
        "theirs": best(theirs),
        "ratio": ratio(best(ours), best(theirs)) if line.compared else None,
        "median_ratio_of_a_round": statistics.median(rounds) if line.compared else None,
        "turns": {"ours": ours, "theirs": theirs},
    }


def _told(found: dict[str, Any]) -> dict[str, Any]:
    ratio = "" if found["ratio"] is None else f", ratio {found['ratio']:.2f}"
    print(
        f"{found['what']}: {_number(found['ours'])} and {_number(found['theirs'])} {found['unit']}{ratio}", flush=True
    )
    return found


def show(content: Mapping[str, Any]) -> None:
    """Print the table, what is missing in it, the machine and the versions."""
    table = Table(box=None, pad_edge=False)
    for column, side in (
        ("what", "left"), ("unit", "left"), ("ours", "right"), ("peer", "left"), ("peer's", "right"),
        ("ratio", "right"), ("of a round", "right"),
    ):  # fmt: skip
        table.add_column(column, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for line in content["lines"]:
        ratios = (line["ratio"], line["median_ratio_of_a_round"])
        table.add_row(
            line["what"], line["unit"], _number(line["ours"]), line["peer"], _number(line["theirs"]),
            *("–" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(f"\n[bold]Speed, {content['options']['rounds']} turns each, the best of them[/bold]", soft_wrap=True)
    console.print(table)
    for name, reason in content["not_measured"].items():
        print(f"- {name} was not measured: {reason}")
    behind = [line["what"] for line in content["lines"] if line["ratio"] is not None and line["ratio"] < 1]
    print("- Behind its peer: " + (", ".join(behind) or "nothing") + ".")
    print("- " + ", ".join(f"{name} {value}" for name, value in content["machine"].items()) + ".")
    print("- " + ", ".join(f"{name} {value}" for name, value in content["versions"].items()) + ".")
    print(f"Measured in {content['seconds']:.0f} s, {content['created_at']}.")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine() -> dict[str, Any]:
    """The processor, its cores that we may use, and the memory."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return {
        "CPU": found[1] if found else platform.processor() or platform.machine(),
        "cores": cores,
        "RAM GiB": round(memory),
        "load at the end": round(load, 1),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Of Python, of our packages, and of the peers: here and, as pinned, in their own environment."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", PINS.read_text("utf-8"), re.MULTILINE))
    return (
        report.versions()
        | {name: importlib.metadata.version(name) for name in _PEERS}
        | {f"{name} (peers)": pins[name] for name in _PEERS_OWN}
    )
