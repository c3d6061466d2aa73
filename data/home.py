"""Where everything lives: the folders under `MARQUEE_HOME` (default `./artifacts`).

raw/                                downloads, as they came
tables/<dataset>/                   Parquet tables and dataset.json
runs/<dataset>/<model>/<run id>/    one training: checkpoints, config, report.json, curves
runs/<dataset>/<model>/current      a file that names the run in use
evaluations/<dataset>/<model>/      results of `evaluate`, by protocol
benchmarks/<dataset>/               what `python -m benchmarks` has finished so far
priors/                             forecasters trained on made-up series alone, see forecasting/prior.py
scores/<dataset>/                   what score.py writes
marquee.db                          what people do in the dashboard (MARQUEE_DATABASE_URL: elsewhere)
posters.sqlite                      what TMDB answered, see dashboard/tmdb.py
dashboard.log                       what went wrong in the dashboard, see dashboard/logbook.py
jobs/                               state, log, cancel flag and lock of each background job
"""

import os
import re
from pathlib import Path

from data.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def home() -> Path:
    """The root folder; created by whoever first writes into it."""
    return Path(os.environ.get("MARQUEE_HOME") or "artifacts").absolute()


def check_name(name: str) -> str:
    """Return `name` if it can safely name a dataset or run folder.

    Raises:
        UserError: it is empty, longer than 100 characters, or holds anything but letters, digits, `.`, `_`, `-`.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name[:120]!r} cannot be a name: use up to 100 letters, digits, '.', '_' or '-', beginning with "
            "a letter or digit."
        )
    return name


def raw() -> Path:
    return home() / "raw"


def tables(dataset: str) -> Path:
    return home() / "tables" / check_name(dataset)


def runs(dataset: str, model: str) -> Path:
    return home() / "runs" / check_name(dataset) / check_name(model)


def evaluations(dataset: str, model: str) -> Path:
    return home() / "evaluations" / check_name(dataset) / check_name(model)


def benchmarks(dataset: str) -> Path:
    return home() / "benchmarks" / check_name(dataset)


def priors() -> Path:
    return home() / "priors"


def scores(dataset: str) -> Path:
    return home() / "scores" / check_name(dataset)


def jobs() -> Path:
    return home() / "jobs"
