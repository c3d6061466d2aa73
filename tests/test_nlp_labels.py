"""The labelled sentences are whole: they will judge what finds aspects."""

from pathlib import Path

import pandas as pd

LABELS = Path("nlp/labels/aspects.csv")
ASPECTS = {"story", "acting", "direction", "characters", "visuals", "sound", "pacing", "humour", "script", "ending"}


def test_labels_are_of_known_aspects_and_distinct_sentences() -> None:
    labels = pd.read_csv(LABELS, keep_default_na=False)
    sentence = ["review_id", "start", "end"]
    assert len(labels.drop_duplicates(sentence)) == 370
    assert not labels.duplicated([*sentence, "aspect"]).any()
    assert ((labels["end"] - labels["start"]).between(25, 320) & (labels["start"] >= 0)).all()
    named = labels[labels["aspect"] != ""]
    assert set(named["aspect"]) == ASPECTS
    assert set(named["sentiment"]) == {"positive", "negative", "neutral"}
    assert (labels.loc[labels["aspect"] == "", "sentiment"] == "").all()
    # A sentence without an aspect has one row, and no sentence overlaps another of its review.
    assert labels.groupby(sentence)["aspect"].agg(lambda those: "" not in set(those) or len(those) == 1).all()
    each = labels.drop_duplicates(sentence).sort_values(sentence)
    follows = each["review_id"].eq(each["review_id"].shift()) & (each["start"] < each["end"].shift())
    assert not follows.any()
