"""The toy package's command by name, as crash_sweep.py calls it."""

import sys
from collections.abc import Sequence

from toy_package import PACKAGE

from data import training


def main(args: Sequence[str]) -> int:
    return training.main(PACKAGE, args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
