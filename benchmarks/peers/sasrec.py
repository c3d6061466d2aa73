"""SASRec (Kang & McAuley 2018) of RecTools."""

from functools import partial

from rectools.models import SASRecModel

from benchmarks.peers.exchange import answer
from benchmarks.peers.sequences import fit

if __name__ == "__main__":
    answer(partial(fit, SASRecModel))
