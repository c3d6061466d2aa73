"""`python -m benchmarks [NAME]`: speed, which needs no name, or peers, variety, cold, scale, reviews, series, sessions,
scoring or serving; see docs/benchmarks.md, docs/scaling.md and docs/serving.md."""

import signal
import sys
from collections.abc import Callable, Sequence

from benchmarks.cold import cold
from benchmarks.compare import peers
from benchmarks.reviews import reviews
from benchmarks.scale import scale
from benchmarks.scoring import scoring
from benchmarks.series import series
from benchmarks.serving import serving
from benchmarks.sessions import sessions
from benchmarks.speed import speed
from benchmarks.variety import variety
from data import command
from data.errors import UserError
from data.quiet import quiet_lightning

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "speed": speed,
    "peers": peers,
    "variety": variety,
    "cold": cold,
    "scale": scale,
    "reviews": reviews,
    "series": series,
    "sessions": sessions,
    "scoring": scoring,
    "serving": serving,
}


def main(args: Sequence[str] | None = None) -> int:
    """Run one benchmark and return the exit code; callable in-process from a test."""
    given = list(sys.argv[1:] if args is None else args)
    return command.run(lambda: _run(given))


def _run(args: list[str]) -> None:
    if args and args[0] in ("-h", "--help"):
        print(f"usage: python -m benchmarks [{{{','.join(COMMANDS)}}}] ...")
        return
    name, rest = ("speed", args) if not args or args[0].startswith("-") else (args[0], args[1:])
    if name not in COMMANDS:
        raise UserError(f"'{name}' is unknown: 'python -m benchmarks NAME' takes one of {', '.join(COMMANDS)}.")
    quiet_lightning()
    COMMANDS[name](rest)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that peers end with us
    sys.exit(main())
