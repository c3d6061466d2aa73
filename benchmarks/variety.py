"""`python -m benchmarks variety`: `python -m recsys evaluate --variety` as docs/benchmarks.md names it."""

from recsys.evaluate import evaluate


def variety(args: list[str]) -> None:
    """Measure, print the table and keep it.

    Raises:
        UserError: a flag or the dataset is at fault, or its titles have no genres.
    """
    evaluate(["--variety", *args])
