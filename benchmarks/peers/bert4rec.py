"""BERT4Rec (Sun et al. 2019) of RecTools."""

from functools import partial

from rectools.models import BERT4RecModel

from benchmarks.peers.exchange import answer
from benchmarks.peers.sequences import fit

if __name__ == "__main__":
    answer(partial(fit, BERT4RecModel))
