"""`python -m forecasting fit|validate|test|predict|evaluate|anomalies|promote|card`: both forecasters.

python -m forecasting fit --config forecasting/configs/engagement-quick.yaml --data.dataset demo
python -m forecasting fit --config forecasting/configs/retention-quick.yaml --data.dataset demo
python -m forecasting evaluate --data.dataset demo --horizon 28 --origins 20
python -m forecasting anomalies --data.dataset demo
"""

import sys
from collections.abc import Sequence

from data import interrupted, training  # noqa: F401  (interrupted for its effect)
from forecasting import anomalies
from forecasting.backtest import LINKS, evaluate
from forecasting.evaluate import measure
from forecasting.scorer import open_run

PACKAGE = training.Package(
    name="forecasting",
    models=("engagement", "retention"),
    measure=measure,
    evaluate=evaluate,
    open_run=open_run,
    links=LINKS,
    further={"anomalies": anomalies.command_line},
)


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; callable in-process from a test."""
    return training.main(PACKAGE, args)


if __name__ == "__main__":
    sys.exit(main())
