"""Splits of interactions in time and over members.

Ties. In MovieLens 100K 76 % of the ratings share their second with another rating of the same member. Any order
within a tie is arbitrary, but sorting by item id is not harmless: item ids correlate with popularity, and the
"last" item becomes one that a linear model finds easy or hard. Ties are broken by a hash of member, item and seed:
the same on every machine, related to nothing.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from data.schema import ITEM_ID, TIMESTAMP, USER_ID

# What counts as a sign that a member wanted a title. Impressions, clicks and removals do not.
POSITIVE_KINDS = ("rating", "watch", "thumb_up", "list_add")
TIES = "events of one member in the same instant are ordered by a hash of member, title and seed"


class Split(NamedTuple):
    """Rows of the frame that was split; the three share no row."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


class HeldOutUsers(NamedTuple):
    """Members split in three; a held-out member's history is folded in, the rest predicted."""

    train: pd.DataFrame
    validation_history: pd.DataFrame
    validation: pd.DataFrame
    test_history: pd.DataFrame
    test: pd.DataFrame


def tie_breaker(frame: pd.DataFrame, seed: int) -> np.ndarray:
    """A uint64 for each row that depends on member, item and seed alone. Shape: (rows,).

    `hash_key` must have 16 bytes: the seed is written into it.
    """
    key = f"{seed % 10**16:016d}"
    pair = frame[USER_ID].astype(str).to_numpy(object) + "\x1f" + frame[ITEM_ID].astype(str).to_numpy(object)
    return pd.util.hash_array(pair, hash_key=key, categorize=False)


def order_events(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Sort by member and time, ties by `tie_breaker`; the index is new."""
    order = np.lexsort((tie_breaker(frame, seed), frame[TIMESTAMP].astype("int64").to_numpy(), _codes(frame[USER_ID])))
    return frame.iloc[order].reset_index(drop=True)


def _codes(column: pd.Series) -> np.ndarray:
    return pd.factorize(column, sort=True)[0]


def leave_last_out(frame: pd.DataFrame, seed: int, n_test: int = 1, n_validation: int = 1) -> Split:
    """Each member's last `n_test` events are test, the `n_validation` before them validation.

    A member with fewer than `n_test + n_validation + 1` events stays whole in train: nobody is judged by a history
    of nothing. With the defaults this is leave-one-out.
    """
    ordered = order_events(frame, seed)
    from_end = ordered.groupby(USER_ID, sort=False).cumcount(ascending=False).to_numpy()
    size = ordered.groupby(USER_ID, sort=False)[USER_ID].transform("size").to_numpy()
    enough = size >= n_test + n_validation + 1
    test = enough & (from_end < n_test)
    validation = enough & ~test & (from_end < n_test + n_validation)
    return _three(ordered, validation, test)


def leave_one_out(frame: pd.DataFrame, seed: int) -> Split:
    """Each member's last event is test, the one before it validation; see `leave_last_out`."""
    return leave_last_out(frame, seed)


def temporal(frame: pd.DataFrame, seed: int, validation_share: float = 0.1, test_share: float = 0.1) -> Split:
    """One global cut in time: the last `test_share` of the events are test, `validation_share` before them validation.

    Cuts fall between instants, so that no instant is on both sides.
    """
    ordered = order_events(frame, seed)
    times = ordered[TIMESTAMP].astype("int64").to_numpy()
    if len(times) == 0:
        nothing = np.zeros(0, bool)
        return _three(ordered, nothing, nothing)
    sorted_times = np.sort(times)
    last = len(times) - 1
    test_from = sorted_times[min(last, round(len(times) * (1 - test_share)))]
    validation_from = sorted_times[min(last, round(len(times) * (1 - test_share - validation_share)))]
    test = times >= test_from
    return _three(ordered, ~test & (times >= validation_from), test)


def _three(ordered: pd.DataFrame, validation: np.ndarray, test: np.ndarray) -> Split:
    parts = (ordered[~validation & ~test], ordered[validation], ordered[test])
    return Split(*(part.reset_index(drop=True) for part in parts))


def held_out_users(
    frame: pd.DataFrame, seed: int, validation_share: float = 0.1, test_share: float = 0.2, fold_in_share: float = 0.8
) -> HeldOutUsers:
    """Members never trained on: the first `fold_in_share` of a held-out member's events are given, the rest predicted.

    Members are assigned by a seeded hash of their id, so adding members moves nobody. A held-out member with fewer
    than two events has nothing to predict and appears in the history alone.
    """
    ordered = order_events(frame, seed)
    of_user, users = pd.factorize(ordered[USER_ID])
    position = ordered.groupby(USER_ID, sort=False).cumcount().to_numpy()
    held = held_out(np.asarray(users, object), np.bincount(of_user), seed, validation_share, test_share, fold_in_share)
    given = position < held.given[of_user]
    in_train, in_validation, in_test = (held.groups[name][of_user] for name in ("train", "validation", "test"))
    masks = (
        in_train,
        in_validation & given,
        in_validation & ~given,
        in_test & given,
        in_test & ~given,
    )
    return HeldOutUsers(*(ordered[mask].reset_index(drop=True) for mask in masks))


class HeldOut(NamedTuple):
    """Which members are held out, and how much of each one's history is given."""

    groups: dict[str, np.ndarray]  # train, validation and test, each (members,) bool
    given: np.ndarray  # events (members,)


def held_out(
    user_ids: np.ndarray,
    lengths: np.ndarray,
    seed: int,
    validation_share: float = 0.1,
    test_share: float = 0.2,
    fold_in_share: float = 0.8,
) -> HeldOut:
    """Members in three, by a hash of their id and the seed; see `held_out_users`.

    Args:
        user_ids: strings. Shape: (members,).
        lengths: events of each. Shape: (members,).
    """
    share = pd.util.hash_array(user_ids, hash_key=f"{seed % 10**16:016d}", categorize=False) / 2.0**64
    test = share < test_share
    validation = ~test & (share < test_share + validation_share)
    given = np.clip(np.ceil(lengths * fold_in_share), 1, np.maximum(1, lengths - 1))
    return HeldOut({"train": ~test & ~validation, "validation": validation, "test": test}, given)
