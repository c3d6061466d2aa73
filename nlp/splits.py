"""Which reviews a model may learn from, and which side of the split each one lies on.

A random split of reviews leaks: neighbours in a source often speak of one film, in the same words. Reviews of one
title stay together where titles are linked; IMDb reviews, which the index's copy has without titles but in blocks of
falling id, stay together by blocks of neighbours; everything else is split by row, stratified by source and label.
"""

import string
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.errors import UserError
from data.schema import ITEM_ID, LABEL, REVIEW_ID, SOURCE, STARS, TEXT

SIDES = ("train", "validation", "test")
NEVER_TRAINED_ON = ("imdb-test",)
BLOCK_ROWS = 50  # IMDb: with about 5 reviews of a film in a row, one neighbour pair in 50 is cut
LEAST_PER_LABEL = 20
_LEAST_TITLES = 30  # with fewer titles a split by title would be a lottery
_LEAST_STRATUM = 50
_NOT_SAID = str.maketrans("", "", string.punctuation + string.whitespace)

PROTOCOL = (
    "80/10/10, seeded; reviews of one title on one side (30 linked titles or more), IMDb by blocks of 50 neighbours, "
    "others by row, stratified by source and label; of equal texts only the first is used"
)


class Reviews(NamedTuple):
    """Labelled reviews with their side, and how many rows were left out and why."""

    frame: pd.DataFrame  # review_id, text, item_id, source, positive (bool), side (train, validation, test)
    left_out: dict[str, int]


def normalised(texts: pd.Series) -> pd.Series:
    """Texts without case, line breaks, punctuation and spacing: equal ones say the same.

    >>> normalised(pd.Series(["Good!<br />Film ", "good film"])).tolist()
    ['goodfilm', 'goodfilm']
    """
    # One pass of str.translate is four times as fast as a regular expression over whole reviews.
    plain = [text.lower().replace("<br />", "").translate(_NOT_SAID) for text in texts]
    return pd.Series(plain, index=texts.index, dtype=object)


def label_from_stars(stars: pd.Series) -> pd.Series:
    """`positive` from 70 % of the scale, `negative` up to 40 %, `neutral` between; the scale ends at 5, 10 or 100.

    The bounds are those of the IMDb data (7 and 4 of 10). Missing stars give a missing label.

    >>> label_from_stars(pd.Series([1.0, 3.0, 5.0, None])).tolist()
    ['negative', 'neutral', 'positive', None]
    """
    top = stars.max()
    share = stars / (5 if top <= 5 else 10 if top <= 10 else 100)
    label = np.select([share >= 0.7, share <= 0.4, share.notna()], ["positive", "negative", "neutral"], "")
    return pd.Series(label, index=stars.index, dtype=object).replace("", None)


def split_reviews(frame: pd.DataFrame, seed: int, dataset: str = "") -> Reviews:
    """Assign every usable review a side.

    Left out are IMDb's test reviews (nothing may train on them), reviews that are neither positive nor negative by
    label or stars, and all but the first of equal texts.

    Args:
        frame: a reviews table (data/schema.py), in the order of its sources.
        seed: decides who lies where; the same reviews and seed give the same sides on every machine.
        dataset: its name, for the sentence.

    Raises:
        UserError: fewer than 20 usable reviews of either label.
    """
    label = frame[LABEL].astype(object)
    label = label.where(label.notna(), label_from_stars(frame[STARS]))
    source = frame[SOURCE].astype(object).fillna("reviews")
    forbidden = source.isin(NEVER_TRAINED_ON)
    unlabelled = ~forbidden & ~label.isin(["positive", "negative"])
    usable = ~forbidden & ~unlabelled
    text = normalised(frame[TEXT])
    copies = usable & (text.where(usable).duplicated() | (text == ""))
    kept = pd.DataFrame(
        {
            REVIEW_ID: frame[REVIEW_ID],
            TEXT: frame[TEXT],
            ITEM_ID: frame[ITEM_ID].astype(object),
            SOURCE: source,
            "positive": label == "positive",
        }
    )[usable & ~copies].reset_index(drop=True)
    counts = kept["positive"].value_counts()
    if min(counts.get(True, 0), counts.get(False, 0)) < LEAST_PER_LABEL:
        raise UserError(
            f"Dataset '{dataset}' has {counts.get(True, 0)} positive and {counts.get(False, 0)} negative reviews, and "
            f"sentiment needs at least {LEAST_PER_LABEL} of each: import reviews with a label or stars column, or "
            "score them with a model trained on another dataset."
        )
    kept["side"] = _sides(kept, seed)
    left_out = {"imdb-test": forbidden.sum(), "neither positive nor negative": unlabelled.sum(), "copies": copies.sum()}
    return Reviews(kept, {why: int(n) for why, n in left_out.items() if n})


def _sides(kept: pd.DataFrame, seed: int) -> np.ndarray:
    """A side for each row; rows of one group share it. Groups are cut at 10 % and 20 % in an order by hash."""
    group = _groups(kept)
    by_group = kept.assign(group=group).groupby("group", sort=False)
    table = by_group.agg(source=(SOURCE, "first"), positive=("positive", "mean"), rows=("positive", "size"))
    table["positive"] = table["positive"] > 0.5
    stratum: pd.Series = table["source"].astype(str) + np.where(table["positive"], "+", "-")
    small = stratum.map(table.groupby(stratum)["rows"].sum()) < _LEAST_STRATUM
    table["stratum"] = stratum.where(~small, np.where(table["positive"], "+", "-"))
    table["order"] = pd.util.hash_array(
        table.index.to_numpy(object), hash_key=f"{seed % 10**16:016d}", categorize=False
    )
    table = table.sort_values(["stratum", "order"], kind="stable")
    rows = table.groupby("stratum")["rows"]
    # The middle of each group decides, so that a large group does not always fall to the later side.
    middle = (rows.cumsum() - table["rows"] / 2) / rows.transform("sum")
    table["side"] = np.select([middle < 0.1, middle < 0.2], ["test", "validation"], "train")
    return table["side"].reindex(group).to_numpy(object)


def _groups(kept: pd.DataFrame) -> pd.Series:
    """A name for each row: rows with the same name must not be separated."""
    group = "row " + kept[REVIEW_ID].astype(str)
    imdb = kept[SOURCE].str.startswith("imdb")
    # Ranks among the ids, not file positions: an archive may list its members in any order.
    rank = kept.loc[imdb, REVIEW_ID].astype(str).rank(method="first").astype(int) - 1
    group[imdb] = "block " + kept.loc[imdb, SOURCE] + " " + (rank // BLOCK_ROWS).astype(str)
    linked = kept[ITEM_ID].notna()
    if kept.loc[linked, ITEM_ID].nunique() >= _LEAST_TITLES:
        group[linked] = "title " + kept.loc[linked, ITEM_ID].astype(str)
    return group
