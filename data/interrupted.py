"""Ctrl-C while a command still loads what it needs, which takes seconds: one sentence and exit code 130, as later on.

Every command imports this first, for its effect; what comes after is told by data/command.py.
"""

import os
import sys
from pathlib import Path
from types import TracebackType

_ROOT = Path(__file__).resolve().parents[1]
_OURS = {_ROOT, *(_ROOT / package for package in ("data", "recsys", "nlp", "forecasting", "dashboard"))}


def _told(kind: type[BaseException], what: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, what, trace)
        return
    print("\nInterrupted: nothing was begun, everything is as it was.", file=sys.stderr, flush=True)
    os._exit(130)  # an exit code that is asked for here in another way is not heard


def begun() -> None:
    """From here on whoever catches Ctrl-C knows better what it has left."""
    if sys.excepthook is _told:
        sys.excepthook = sys.__excepthook__


def _is_command() -> bool:
    """Whether this process is one of our commands, and not a server or a test that imports one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return file is not None and Path(file).resolve().parent in _OURS


if _is_command():
    sys.excepthook = _told
