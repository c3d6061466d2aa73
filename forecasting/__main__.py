"""`python -m forecasting fit|validate|test|predict|evaluate|promote`: the engagement and the retention model's command.

python -m forecasting fit --config forecasting/configs/engagement-quick.yaml --data.dataset demo
python -m forecasting fit --config forecasting/configs/retention-quick.yaml --data.dataset demo
python -m forecasting evaluate --data.dataset demo --horizon 28 --origins 20
"""

import sys
from collections.abc import Sequence

from data import training
from forecasting.backtest import LINKS, evaluate
from forecasting.evaluate import measure

PACKAGE = training.Package(
    name="forecasting", models=("engagement", "retention"), measure=measure, evaluate=evaluate, links=LINKS
)


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; callable in-process from a test."""
    return training.main(PACKAGE, args)


if __name__ == "__main__":
    sys.exit(main())
