"""Which reviews are learned from, and that no side of the split can know another."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import schema
from data.errors import UserError
from nlp.datamodule import sample_by_cost
from nlp.splits import SIDES, label_from_stars, normalised, split_reviews


def table(texts: list[str], **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"review_id": [f"r{i:05d}" for i in range(len(texts))], "text": texts, **columns})
    return schema.complete("reviews", frame)


def labels(n: int) -> list[str]:
    return ["positive" if i % 2 else "negative" for i in range(n)]


def shares(frame: pd.DataFrame) -> dict[str, float]:
    return {str(k): float(v) for k, v in frame["side"].value_counts(normalize=True).items()}


def test_rows_are_stratified_by_source_and_label() -> None:
    n = 1000
    label = np.where(np.arange(n) % 5 == 0, "positive", "negative")
    frame = split_reviews(table([f"text {i}" for i in range(n)], label=label, source="shop"), 1).frame
    assert shares(frame) == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert frame.groupby("side")["positive"].mean().round(3).to_dict() == dict.fromkeys(SIDES, 0.2)


def test_the_same_seed_gives_the_same_sides_and_another_does_not() -> None:
    reviews = table([f"text {i}" for i in range(400)], label=labels(400))
    first = split_reviews(reviews, 7).frame["side"]
    assert first.equals(split_reviews(reviews, 7).frame["side"])
    assert not first.equals(split_reviews(reviews, 8).frame["side"])


def test_imdb_neighbours_stay_together_in_whatever_order_the_file_lists_them() -> None:
    n = 5000
    reviews = table([f"text {i}" for i in range(n)], label=labels(n), source="imdb-train").sample(
        frac=1, random_state=0
    )
    frame = split_reviews(reviews, 3).frame.sort_values("review_id")
    side = frame["side"].to_numpy()
    assert (side[1:] != side[:-1]).sum() <= n / 50
    assert shares(frame)["test"] == pytest.approx(0.1, abs=0.015)


def test_reviews_of_one_title_stay_together_when_there_are_enough_titles() -> None:
    n = 900
    items = [f"i{i % 90}" for i in range(n)]
    frame = split_reviews(table([f"text {i}" for i in range(n)], label=labels(n), item_id=items), 3).frame
    assert frame.groupby("item_id")["side"].nunique().max() == 1
    assert set(frame["side"]) == set(SIDES)
    few = [f"i{i % 3}" for i in range(n)]
    frame = split_reviews(table([f"text {i}" for i in range(n)], label=labels(n), item_id=few), 3).frame
    assert shares(frame)["test"] == pytest.approx(0.1, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.integers(0, 60), min_size=200, max_size=300),
    styles=st.lists(st.sampled_from(["{}", "{} ", "{}!", "<br />{}", "  {}."]), min_size=300, max_size=300),
    seed=st.integers(0, 10**6),
)
def test_no_text_lies_on_two_sides(words: list[int], styles: list[str], seed: int) -> None:
    texts = [style.format(f"Film{word} was Film{word}") for word, style in zip(words, styles, strict=False)]
    reviews = table(texts + [f"other {i}" for i in range(60)], label=labels(len(texts) + 60), source="shop")
    frame = split_reviews(reviews, seed).frame
    assert normalised(frame["text"]).groupby(normalised(frame["text"])).size().max() == 1
    assert len(frame) == normalised(reviews["text"]).nunique()


def test_what_is_left_out_is_counted() -> None:
    texts = [f"text {i}" for i in range(100)] + ["text 1!", "neither", "unknown", "never trained on"]
    label = [*labels(100), "positive", "neutral", None, "positive"]
    source = ["shop"] * 103 + ["imdb-test"]
    found = split_reviews(table(texts, label=label, source=source), 1)
    assert found.left_out == {"imdb-test": 1, "neither positive nor negative": 2, "copies": 1}
    assert len(found.frame) == 100


@pytest.mark.parametrize(
    ("stars", "expected"),
    [
        ([1, 2, 3, 4, 5], ["negative", "negative", "neutral", "positive", "positive"]),
        ([2, 4, 5, 7, 10], ["negative", "negative", "neutral", "positive", "positive"]),
        ([10, 40, 55, 70, 100], ["negative", "negative", "neutral", "positive", "positive"]),
    ],
)
def test_stars_stand_in_for_missing_labels(stars: list[float], expected: list[str]) -> None:
    assert label_from_stars(pd.Series(stars, dtype=float)).tolist() == expected


def test_too_few_of_a_label_is_refused_with_the_counts() -> None:
    reviews = table([f"text {i}" for i in range(100)], label=["positive"] * 95 + ["negative"] * 5)
    with pytest.raises(UserError, match=r"'mine' has 95 positive and 5 negative"):
        split_reviews(reviews, 1, "mine")


def test_the_token_budget_serves_short_texts_first_and_leaves_some_for_the_long() -> None:
    cost = np.array([10.0] * 100 + [200.0] * 100)
    source = np.array(["short"] * 100 + ["long"] * 100)
    kept = sample_by_cost(cost, source, 2_000, 0)
    assert kept[:100].all()
    assert kept[100:].sum() == 5
    tight = sample_by_cost(cost, source, 1_000, 0)
    assert (tight[:100].sum(), tight[100:].sum()) == (80, 1)
    assert sample_by_cost(cost, source, None, 0).all()
