"""`python -m recsys fit|validate|test|predict|evaluate|promote|card|serve`: the recommender's command.

python -m recsys fit --config recsys/configs/quick.yaml --data.dataset demo
python -m recsys evaluate --data.dataset demo --protocol temporal
"""

import sys
from collections.abc import Sequence

from data import interrupted, training  # noqa: F401  (interrupted for its effect)
from recsys.evaluate import LINKS, evaluate, measure
from recsys.scorer import open_run


def serve(argv: list[str]) -> None:
    """See recsys/serve.py."""
    from recsys.serve import serve_command  # FastAPI, for those who serve

    serve_command(argv)


PACKAGE = training.Package(
    name="recsys",
    models=("recommender",),
    measure=measure,
    evaluate=evaluate,
    open_run=open_run,
    links=LINKS,
    further={"serve": serve},
)


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; callable in-process from a test."""
    return training.main(PACKAGE, args)


if __name__ == "__main__":
    sys.exit(main())
