"""The labels to learn from are whole, and share no review and no sentence with those that judge."""

import re
from pathlib import Path

import pandas as pd
import pytest

TRAIN = Path("nlp/labels/aspects-train.csv")
JUDGING = Path("nlp/labels/aspects.csv")
REVIEWS = Path("artifacts/tables/demo/reviews.parquet")
ASPECTS = {"story", "acting", "direction", "characters", "visuals", "sound", "pacing", "humour", "script", "ending"}
SENTENCE = ["review_id", "start", "end"]


def _sentences(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False).drop_duplicates(SENTENCE)


def test_train_labels_are_of_known_aspects_and_distinct_sentences() -> None:
    labels = pd.read_csv(TRAIN, keep_default_na=False)
    assert list(labels.columns) == [*SENTENCE, "aspect", "sentiment", "drawn"]
    assert (labels.drop_duplicates(SENTENCE)["drawn"] == "random").sum() == 500
    assert set(labels["drawn"]) == {"random", "words"}
    assert len(labels.drop_duplicates(SENTENCE)) == 1200
    assert labels.drop_duplicates(SENTENCE)["review_id"].is_unique
    assert not labels.duplicated([*SENTENCE, "aspect"]).any()
    assert ((labels["end"] - labels["start"]).between(25, 320) & (labels["start"] >= 0)).all()
    named = labels[labels["aspect"] != ""]
    assert set(named["aspect"]) == ASPECTS
    assert named["aspect"].value_counts().min() >= 50
    assert set(named["sentiment"]) == {"positive", "negative", "neutral"}
    assert (labels.loc[labels["aspect"] == "", "sentiment"] == "").all()
    # A sentence without an aspect has one row.
    assert labels.groupby(SENTENCE)["aspect"].agg(lambda those: "" not in set(those) or len(those) == 1).all()


def test_no_review_of_the_judging_set_is_learned_from() -> None:
    assert not set(_sentences(TRAIN)["review_id"]) & set(_sentences(JUDGING)["review_id"])


@pytest.mark.skipif(not REVIEWS.exists(), reason="the demo is not on disk")
def test_no_text_of_the_judging_set_is_learned_from() -> None:
    reviews = pd.read_parquet(REVIEWS, columns=["review_id", "text"])
    texts = dict(zip(reviews["review_id"], reviews["text"], strict=True))

    def spans(path: Path) -> list[str]:
        each = _sentences(path)
        assert set(each["review_id"]) <= set(texts)
        rows = zip(each["review_id"], each["start"], each["end"], strict=True)
        found = [texts[review][start:end] for review, start, end in rows]
        # Every span lies inside its text, without spaces around it.
        assert [len(text) for text in found] == (each["end"] - each["start"]).tolist()
        assert all(text == text.strip() for text in found)
        return found

    train = spans(TRAIN)
    # A sentence begins and ends where its text does, at a space or at a line break's tag.
    for review, start, end in _sentences(TRAIN)[SENTENCE].itertuples(index=False):
        assert re.match(r"\s|<br|$", texts[review][end:]), review
        assert re.search(r"(^|\s|>)$", texts[review][:start]), review
    assert len(set(train)) == len(train)
    assert not set(train) & set(spans(JUDGING))
    whole = [{texts[review] for review in _sentences(path)["review_id"]} for path in (TRAIN, JUDGING)]
    assert not whole[0] & whole[1]
