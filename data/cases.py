"""The cases behind a run's headline figure, kept so that two runs can be compared pair by pair.

    cases.parquet    case (string), one float32 column for each method, and `label` where the figure is an AUROC

A case is a member, a review or a series of the test split. Where the figure is a mean, a method's column holds what the
case adds to it (NDCG@10 of a member, 1 for a review that was told right, the logarithm of a series' relative error);
where it is an AUROC it holds the method's probability. Ids of members are in it, as in the run's vocabulary: 'forget
--fit' deletes both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic_file
from data.intervals import bootstrap, delong
from data.schema import UNREADABLE

FILE, CASE, LABEL = "cases.parquet", "case", "label"
_SEED = 42


@dataclass(frozen=True)
class Interval:
    """Of a difference, the first less the second, in the units of the cases."""

    low: float
    high: float
    cases: int
    how: str  # "paired bootstrap", "DeLong"


def write_cases(
    run: Path, case: Sequence[object], methods: Mapping[str, np.ndarray], label: np.ndarray | None = None
) -> None:
    """Keep the cases of a run beside its report.

    Args:
        run: its folder.
        case: ids, each once.
        methods: method to values, one for each case.
        label: 1 or 0 for each case, where the headline is an AUROC.
    """
    columns = {name: np.asarray(values, np.float32) for name, values in methods.items()}
    columns |= {} if label is None else {LABEL: np.asarray(label, np.float32)}
    table = pa.table({CASE: pa.array([str(name) for name in case], pa.string()), **columns})
    with atomic_file(run / FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_cases(run: Path) -> pd.DataFrame | None:
    """The cases, by id; None where the run has none (one of an earlier version) or they are damaged."""
    try:
        return pq.read_table(run / FILE).to_pandas().set_index(CASE)
    except (*UNREADABLE, KeyError):
        return None


def difference(one: Path, method: str, other: Path, other_method: str) -> Interval | None:
    """The 95 % interval of how much more `method` of run `one` has than `other_method` of run `other`.

    Only cases that both were measured on count.

    Returns:
        None where either has no cases or not that method, the cases are not the same, or there are too few.
    """
    ours, theirs = read_cases(one), read_cases(other)
    if ours is None or theirs is None or method not in ours or other_method not in theirs:
        return None
    if (LABEL in ours) != (LABEL in theirs) or not ours.index.is_unique or not theirs.index.is_unique:
        return None
    both = ours.index.intersection(theirs.index)
    if len(both) < 2 or len(both) < 0.9 * max(len(ours), len(theirs)):
        return None
    a, b = (frame.loc[both, name].to_numpy(float) for frame, name in ((ours, method), (theirs, other_method)))
    if LABEL in ours:
        (low, high), how = delong(ours.loc[both, LABEL].to_numpy(float), a, b), "DeLong"
    else:
        (low, high), how = bootstrap(a - b, _SEED), "paired bootstrap"
    return None if np.isnan(low) else Interval(low, high, len(both), how)
