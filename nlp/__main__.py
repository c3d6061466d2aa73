"""`python -m nlp fit|validate|test|predict|evaluate|promote`: review sentiment (data/training.py does the work)."""

import sys
from collections.abc import Sequence

from data import training
from nlp.datamodule import ReviewData
from nlp.evaluate import LINKS, evaluate, measure
from nlp.sentiment import SentimentModule

PACKAGE = training.Package(name="nlp", models=("sentiment",), measure=measure, evaluate=evaluate, links=LINKS)

__all__ = ["PACKAGE", "ReviewData", "SentimentModule", "main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; callable in-process from a test."""
    return training.main(PACKAGE, args)


if __name__ == "__main__":
    sys.exit(main())
