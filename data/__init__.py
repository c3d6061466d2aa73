"""Where tables come from, what they look like and where everything that Marquee makes is kept."""

import os

# OpenMP's threads wait for each other by spinning. Beside any other busy process that costs a training a factor of ten
# and more, so they soon give up; on an idle machine that costs little. Read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
