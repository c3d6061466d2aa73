"""Columns of scored reviews as arrays, with what may be missing in them."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import UserError
from data.schema import ASPECTS


class Mentions(NamedTuple):
    """Every aspect of every review."""

    row: np.ndarray  # position of the review
    code: np.ndarray  # of the aspect: position in names, -1: of none
    p: np.ndarray
    start: np.ndarray
    end: np.ndarray
    names: np.ndarray


def need(scored: pd.DataFrame, *columns: str) -> None:
    for name in columns:
        if name not in scored:
            raise UserError(f"Scored reviews need the column '{name}' (found: {', '.join(map(str, scored))}).")


def p_positive(scored: pd.DataFrame) -> np.ndarray:
    return scored["p_positive"].to_numpy("float64", na_value=np.nan).clip(0, 1)


def mentions_of(scored: pd.DataFrame) -> Mentions:
    lists = scored["aspects"].to_numpy(object)
    listed = pa.array([None if one is None or one is pd.NA or one is np.nan else one for one in lists], type=ASPECTS)
    found = pc.list_flatten(listed)
    coded = found.field("aspect").dictionary_encode()
    code = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype("int64")
    p = found.field("p_positive").to_numpy(zero_copy_only=False).astype("float64")
    start, end = (pc.fill_null(found.field(name), 0).to_numpy(zero_copy_only=False) for name in ("start", "end"))
    row = pc.list_parent_indices(listed).to_numpy(zero_copy_only=False)
    sound = (code >= 0) & ~np.isnan(p)
    names = coded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    return Mentions(row[sound], code[sound], p[sound], start[sound], end[sound], names)


def column(scored: pd.DataFrame, name: str) -> np.ndarray:
    return scored[name].to_numpy(object) if name in scored else np.full(len(scored), None, dtype=object)
