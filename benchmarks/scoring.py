"""`python -m benchmarks scoring`: members scored in a second by one process, several and Ray, and what memory it takes.

Each row is the real command, `score.py recommend`, in processes of its own. Memory is that of all its processes at the
peak, counted once where they share it. The last row scores a fifth of the members by as many processes: what it takes
less is what memory grows with the number of members that are scored.
"""

import re
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.processes import Ran, ran
from data import command, report
from data.dataset import open_dataset
from data.errors import UserError
from recsys.scorer import load_current

ENGINES = ("one", "processes", "ray")
_SCORED = re.compile(r"Scored [\d,]+ members in ([\d.]+) s")


def scoring(args: list[str]) -> None:
    """Measure and print the table.

    Raises:
        UserError: a flag is at fault, or the command fails.
    """
    parser = command.Parser(prog="python -m benchmarks scoring", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--dataset", "--data.dataset", default="demo", help="dataset (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="of several (default: %(default)s)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="some of %(default)s (default: all)")
    parser.add_argument("--reasons", choices=("true", "false"), default="true", help="see score.py (default: true)")
    parser.add_argument("--shard-size", type=int, help="see score.py")
    known = parser.parse_args(args)
    engines = known.engines.split(",")
    if known.processes < 2:
        raise UserError(f"--processes {known.processes}: give 2 or more, which are compared with one.")
    if not set(engines) <= set(ENGINES):
        raise UserError(f"--engines {known.engines}: give some of {','.join(ENGINES)}.")
    open_dataset(known.dataset)
    members = list(load_current(known.dataset).members)
    more, alone = ["--processes", str(known.processes)], {"OMP_NUM_THREADS": "1"}
    several = f"{known.processes} processes"
    rows: dict[str, tuple[list[str], dict[str, str]]] = {"one process, one thread": ([], alone)}
    if "one" in engines:
        rows["one process, all cores"] = [], {}
    if "processes" in engines:
        rows[f"{several}, one thread each"] = more, alone
    if "ray" in engines:
        rows[f"Ray, {several}"] = ["--engine", "ray", *more], {}
    common = ["--dataset", known.dataset, "--reasons", known.reasons]
    if known.shard_size is not None:
        common += ["--shard-size", str(known.shard_size)]
    table: dict[str, dict[str, float | None]] = {}
    others = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fifth = folder / "fifth.txt"
        fifth.write_text("\n".join(members[: max(1, len(members) // 5)]))
        for number, (row, (flags, environment)) in enumerate(rows.items()):
            out = folder / f"{number}.parquet"
            table[row] = _figures(_scored([*common, *flags, "--out", str(out)], environment), len(members))
            if number and not pq.read_table(out).equals(pq.read_table(folder / "0.parquet")):
                others.append(row)
        row = f"{list(rows)[-1]}, a fifth"
        flags, environment = list(rows.values())[-1]
        asked = [*common, *flags, "--users", str(fifth), "--out", str(folder / "fifth.parquet")]
        table[row] = _figures(_scored(asked, environment), max(1, len(members) // 5))
    events = open_dataset(known.dataset).rows["interactions"]
    report.print_metrics(table, f"score.py recommend on '{known.dataset}': {len(members):,} members, {events:,} events")
    print(
        f"Other than the first: the table of {', '.join(others)}."
        if others
        else "All tables are equal, to the last bit."
    )


def _scored(flags: list[str], environment: dict[str, str]) -> Ran:
    found = ran([sys.executable, "score.py", "recommend", *flags], environment)
    if found.code:
        said = (found.complained.strip() or found.said.strip()).splitlines()
        raise UserError(f"score.py recommend {' '.join(flags)} ended with {found.code}: {said[-1] if said else ''}")
    return found


def _figures(found: Ran, members: int) -> dict[str, float | None]:
    seconds = _SCORED.search(found.said)
    return {
        "members": float(members),
        "s": found.seconds,
        "members/s": members / found.seconds,
        "scoring alone/s": members / max(0.05, float(seconds[1])) if seconds else None,
        "core s": found.core_seconds,
        "peak MiB": found.peak_mib,
    }
