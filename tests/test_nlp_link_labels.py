"""The labelled links are whole: they will judge what links reviews to titles."""

from pathlib import Path

import pandas as pd

LABELS = Path("nlp/labels/links.csv")
SIZES = {"random": 50, "anchor": 32, "next": 128, "known": 12, "next-known": 48, "rt-words": 15, "rt": 15}


def read_labels() -> pd.DataFrame:
    return pd.read_csv(LABELS, keep_default_na=False, dtype=str)


def test_labels_are_of_distinct_reviews_and_known_kinds() -> None:
    labels = read_labels()
    assert list(labels.columns) == ["review_id", "item_id", "title", "sure", "drawn"]
    assert len(labels) == 300
    assert labels["review_id"].is_unique
    assert labels["review_id"].is_monotonic_increasing
    assert labels["review_id"].str.fullmatch(r"(imdb-train|rotten-tomatoes)-\d{5}").all()
    assert set(labels["sure"]) == {"yes", "no"}
    assert labels["drawn"].value_counts().to_dict() == SIZES
    assert labels["review_id"].str.startswith("rotten").eq(labels["drawn"].isin(["rt", "rt-words"])).all()


def test_links_are_enough_and_each_title_has_one_item() -> None:
    labels = read_labels()
    linked = labels[labels["item_id"] != ""]
    assert len(linked) >= 70
    assert linked["item_id"].str.fullmatch(r"[1-9]\d*").all()
    assert linked["title"].str.fullmatch(r".+ \(\d{4}\)").all()
    # One title is one item and the other way round; and a title in the catalogue is linked wherever it is named.
    assert linked.groupby("item_id")["title"].nunique().eq(1).all()
    assert labels[labels["title"] != ""].groupby("title")["item_id"].nunique().eq(1).all()


def test_blocks_are_an_anchor_and_its_four_neighbours() -> None:
    labels = read_labels()
    drawn = dict(zip(labels["review_id"], labels["drawn"], strict=True))
    for first, follower in (("anchor", "next"), ("known", "next-known")):
        for review_id in labels.loc[labels["drawn"] == first, "review_id"]:
            source, number = review_id.rsplit("-", 1)
            others = [drawn.get(f"{source}-{int(number) + step:05d}") for step in range(1, 5)]
            assert others == [follower] * 4, review_id
