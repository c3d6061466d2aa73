"""`python -m nlp fit|validate|test|predict|evaluate|promote|card|aspects|export|serve`: review sentiment.

data/training.py does the work; `aspects` and `export` are nlp/aspect_fit.py and nlp/export.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import interrupted, training  # noqa: F401  (interrupted for its effect)
from data.schema import TEXT
from nlp.aspect_fit import aspects, give_finder
from nlp.datamodule import ReviewData
from nlp.evaluate import LINKS, evaluate, measure
from nlp.export import export_command, keep_quickest
from nlp.scorer import open_run
from nlp.sentiment import SentimentModule


def complete(run: Path, datamodule: Any) -> dict[str, Any]:
    """What a fresh run needs besides its checkpoint; see `data.training.Package`."""
    aspects = give_finder(run, datamodule.dataset)
    return {"aspects": aspects, "engines": keep_quickest(run, datamodule.reviews[TEXT].tolist())}


def serve(argv: list[str]) -> None:
    """See nlp/serve.py."""
    from nlp.serve import serve_command  # FastAPI, for those who serve

    serve_command(argv)


PACKAGE = training.Package(
    name="nlp",
    models=("sentiment",),
    measure=measure,
    evaluate=evaluate,
    open_run=open_run,
    links=LINKS,
    complete=complete,
    further={"aspects": aspects, "export": export_command, "serve": serve},
)

__all__ = ["PACKAGE", "ReviewData", "SentimentModule", "main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; callable in-process from a test."""
    return training.main(PACKAGE, args)


if __name__ == "__main__":
    sys.exit(main())
