"""Splits: who goes where, and that nothing about item ids decides a tie."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import splits

KEY = ["user_id", "item_id", "timestamp"]


def events(rows: list[tuple[str, str, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "seconds"])
    frame["timestamp"] = pd.to_datetime(frame.pop("seconds"), unit="s", utc=True)
    return frame


logs = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 50).map(str), st.integers(0, 20)), min_size=0, max_size=80
).map(events)


def test_leave_one_out_takes_the_last_two() -> None:
    frame = events([("a", "x", 1), ("a", "y", 3), ("a", "z", 2), ("b", "x", 1), ("b", "y", 2)])
    split = splits.leave_one_out(frame, seed=0)
    assert split.test[["user_id", "item_id"]].to_numpy().tolist() == [["a", "y"]]
    assert split.validation[["user_id", "item_id"]].to_numpy().tolist() == [["a", "z"]]
    assert sorted(split.train["item_id"]) == ["x", "x", "y"]  # b has too few events to be judged


@settings(deadline=None, max_examples=60)
@given(frame=logs, seed=st.integers(0, 5))
def test_every_split_keeps_each_row_once(frame: pd.DataFrame, seed: int) -> None:
    for parts in (
        splits.leave_one_out(frame, seed),
        splits.leave_last_out(frame, seed, n_test=3, n_validation=2),
        splits.temporal(frame, seed),
        splits.held_out_users(frame, seed),
    ):
        whole = pd.concat(list(parts))[KEY].sort_values(KEY).reset_index(drop=True)
        pd.testing.assert_frame_equal(whole, frame[KEY].sort_values(KEY).reset_index(drop=True), check_dtype=False)


@settings(deadline=None, max_examples=60)
@given(frame=logs, seed=st.integers(0, 5), order=st.randoms())
def test_the_order_of_rows_does_not_matter(frame: pd.DataFrame, seed: int, order: object) -> None:
    frame = frame.drop_duplicates(KEY)
    shuffled = frame.iloc[np.random.default_rng(seed).permutation(len(frame))]
    first, second = splits.leave_one_out(frame, seed).test, splits.leave_one_out(shuffled, seed).test
    assert first[KEY].astype(str).to_numpy().tolist() == second[KEY].astype(str).to_numpy().tolist()


def test_ties_depend_on_the_seed_and_not_on_the_item_id() -> None:
    frame = events([(f"u{u}", f"{i:03d}", 5) for u in range(400) for i in range(10)])
    tests = [splits.leave_one_out(frame, seed).test["item_id"].astype(int).to_numpy() for seed in (1, 2)]
    assert (tests[0] != tests[1]).mean() > 0.5
    assert tests[0].mean() == pytest.approx(4.5, abs=0.5)  # sorted by item id it would be 9


def test_temporal_cuts_between_instants() -> None:
    frame = events([(f"u{i % 7}", str(i), i // 4) for i in range(200)])
    split = splits.temporal(frame, seed=0, validation_share=0.2, test_share=0.2)
    assert split.train["timestamp"].max() < split.validation["timestamp"].min()
    assert split.validation["timestamp"].max() < split.test["timestamp"].min()
    assert len(split.test) == pytest.approx(40, abs=4)


def test_held_out_members_are_never_trained_on() -> None:
    frame = events([(f"u{u}", str(i), i) for u in range(300) for i in range(10)])
    parts = splits.held_out_users(frame, seed=0)
    assert not set(parts.train["user_id"]) & set(parts.test["user_id"])
    assert not set(parts.train["user_id"]) & set(parts.validation["user_id"])
    assert parts.test["user_id"].nunique() == pytest.approx(60, abs=20)
    given, predicted = parts.test_history.groupby("user_id").size(), parts.test.groupby("user_id").size()
    assert set(given) == {8}
    assert set(predicted) == {2}
    assert parts.test_history["timestamp"].max() < parts.test["timestamp"].max()


def test_adding_members_moves_nobody() -> None:
    few = events([(f"u{u}", "x", 1) for u in range(100)])
    many = events([(f"u{u}", "x", 1) for u in range(200)])
    trained = set(splits.held_out_users(few, 0).train["user_id"])
    assert trained == set(splits.held_out_users(many, 0).train["user_id"]) & set(few["user_id"])
