"""Whether the cases that a run kept give the figures of its report again, for every method."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from data import runs
from data.cases import LABEL, read_cases


def check_cases(run: Path) -> None:
    report, cases = runs.read_report(run), read_cases(run)
    assert cases is not None
    assert cases.index.is_unique
    headline = report["headline"]
    table = report["metrics"][headline["split"]]
    assert set(table) == set(cases.columns) - {LABEL}
    for method, row in table.items():
        values, expected = cases[method].to_numpy(float), row[headline["metric"]]
        if LABEL in cases:
            found = roc_auc_score(cases[LABEL], values)
        else:
            found = np.exp(values.mean()) if headline["metric"] == "relmae" else np.nanmean(values)
        assert found == pytest.approx(expected, rel=1e-3), method
