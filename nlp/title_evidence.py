"""What a mention says: log odds of its readings in one review, and the judgement on a block of reviews.

The coefficients of `_ISOLATED`, `_COMPARED` and `_NAME` were fitted by logistic regression on the 25,000 IMDb training
reviews without any catalogue: phrases that the reviews set in quotes stood for titles. Those that four of six
neighbours mention, more than any other, are what the block is about (906 mentions); against them stood mentions that no
neighbour shares (1,798), second phrases of a block (248), and capitalised words that are never quoted (4,149). Balanced
classes, so that they are log likelihood ratios. The coefficients of `_BLOCK` were fitted on blocks that the linker
itself proposed and whose truth was read by hand; see docs/linking.md.
"""

import numpy as np
import pandas as pd

_ISOLATED = {
    "log_good": 2.04, "quoted": -0.72, "shouted": -0.62, "bound": -0.31, "opening": 1.45, "early": 0.90,
    "watched": 0.22, "verb": 1.18, "share": 1.28, "top": 1.04, "leads": 0.38, "article": -0.55, "possessive": 0.36,
    "bracket": -0.41, "single": -0.41, "one": -1.86,
}  # fmt: skip
_COMPARED = {
    "log_good": 0.53, "quoted": 0.23, "shouted": 0.12, "bound": -0.59, "opening": -0.27, "early": 0.21,
    "watched": 0.30, "verb": 0.28, "share": 1.60, "top": 0.70, "leads": 0.46, "article": -0.08, "possessive": -0.14,
    "bracket": -1.21, "single": -0.28, "one": -1.82,
}  # fmt: skip
# `quoted` was 5.4, as its names are never quoted by construction; 2.4 allows for one name in thirty that is.
_NAME = {
    "log_good": 0.30, "quoted": 2.40, "shouted": 1.20, "bound": -0.03, "opening": 0.80, "early": 0.75, "watched": 1.00,
    "verb": 0.40, "share": 0.60, "top": 0.30, "leads": 0.30, "article": 0.30, "possessive": -1.30, "bracket": -0.30,
    "single": -0.10, "one": -1.90,
}  # fmt: skip
# P(good mention), P(other mention only), P(none) in a review about the title: counted in the same blocks.
_GOOD, _PLAIN, _NONE = 0.52, 0.05, 0.43
_COMPARED_NONE, _NAME_NONE = 0.55, 0.45
# How often a form occurs anyway, before any text is seen, and the texts that this is worth.
_WORD_RATE, _PHRASE_RATE, _PRIOR_TEXTS = 20 / 25_000, 2 / 25_000, 5_000
_LEAST, _MOST = -3.0, 14.0  # log odds of one mention; beyond, the features are not independent enough to be believed
_NEIGHBOURS = (-4, -3, -2, -1, 1, 2, 3, 4)


def weigh(pairs: pd.DataFrame, n_texts: int, n_catalogue: int) -> pd.DataFrame:
    """`pairs` (nlp/title_mentions.py) with the log odds of each reading against not being about the form at all.

    Further columns: about, compared, name (log odds), lead and rank (log likelihood ratios of "about" against a stray
    mention and against a comparison), named (against a character's name), rate (how often the form occurs anyway).

    Args:
        n_catalogue: forms below this index are the catalogue's, the others were found in the texts.
    """
    good = pairs["good"].to_numpy()
    form, text = pairs["form"].to_numpy(np.int64), pairs["text"].to_numpy(np.int64)
    # A phrase that only this review has in capitals is no rival; one that a neighbour mentions, too, is.
    span = n_texts + 2 * len(_NEIGHBOURS)
    codes = np.sort(form[good > 0] * span + text[good > 0])
    rival = (pairs["quoted"].to_numpy() > 0) | (form < n_catalogue)
    for step in _NEIGHBOURS:
        wanted = form * span + text + step
        rival |= _isin_sorted(wanted, codes)
    rivals = pd.Series(good * rival)
    by_text = rivals.groupby(text)
    others = by_text.transform("sum").to_numpy() + good * ~rival
    most = by_text.transform("max").to_numpy()
    first = pd.Series(np.where((good > 0) & rival, pairs["place"], np.iinfo(np.int32).max)).groupby(text)
    single = (pairs["size"] == 1).to_numpy()
    has = good > 0
    features = {
        "log_good": np.log(np.maximum(good, 1)),
        "quoted": pairs["quoted"] > 0,
        "bound": pairs["free"] == 0,
        "share": good / np.maximum(others, 1),
        "top": has & (good >= most),
        "leads": has & (pairs["place"].to_numpy() <= first.transform("min").to_numpy()),
        "single": single,
        "one": np.ones(len(pairs)),
        **{k: pairs[k] for k in ("shouted", "opening", "early", "watched", "verb", "article", "possessive", "bracket")},
    }
    lead, compared, named = (
        sum((weight * np.asarray(features[k], float) for k, weight in weights.items()), np.zeros(len(pairs)))
        for weights in (_ISOLATED, _COMPARED, _NAME)
    )
    # Second phrases of a block are partly other names of the same title: the truth lies between the two contrasts.
    rank = (lead + compared) / 2
    prior = np.where(single, _WORD_RATE, _PHRASE_RATE) * _PRIOR_TEXTS
    # Up to two places are the blocks about the title itself.
    rate = (np.maximum(pairs["islands"] - 1.5, 0.3) + prior).to_numpy() / (n_texts + _PRIOR_TEXTS)
    plain_rate = (np.maximum(pairs["plain_islands"] - 0.5, 0.3) + 2 * prior).to_numpy() / (n_texts + _PRIOR_TEXTS)
    plain = (pairs["mentions"].to_numpy() > 0) & ~has
    plain_odds = np.log(_PLAIN / np.minimum(plain_rate, _PLAIN))
    about = np.where(has, np.log(_GOOD / rate) + lead, np.where(plain, plain_odds, np.log(_NONE) - 0.5))
    about = np.clip(about, _LEAST, _MOST)
    return pairs.assign(
        about=about,
        compared=np.where(has, about + np.log(0.7) - rank, np.where(plain, plain_odds - 0.5, np.log(_COMPARED_NONE))),
        name=np.where(has, about - named, np.where(plain, plain_odds - 1, np.log(_NAME_NONE))),
        lead=lead,
        rank=rank,
        named=named,
        rate=rate,
    )


NOT_MENTIONED = np.log([_NONE, _COMPARED_NONE, _NAME_NONE, _NONE])  # about, compared, name, another of the same name


def _isin_sorted(wanted: np.ndarray, codes: np.ndarray) -> np.ndarray:
    if len(codes) == 0:
        return np.zeros(len(wanted), bool)
    return codes[np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)] == wanted


BLOCK = {
    "chain": 0.189, "log_mentions": 0.480, "best_lead": 0.282, "rank": 0.116, "named": 0.392, "sequel": -1.006,
    "year": 1.197, "rival": 0.724, "share": -0.887, "log_rate": -0.471, "genre": 0.194, "one": -6.027,
}  # fmt: skip
_TRUE_SHARE = 0.32  # of the blocks that it was fitted on
_PRIOR_BLOCKS = 50


def describe_blocks(texts: pd.DataFrame, rivals: pd.Series) -> pd.DataFrame:
    """Features of each block, one row for each value of `block`.

    Args:
        texts: a row for each text of a block: block, chain (posterior of "about"), good, extended, lead, rank, named,
            rate (NaN without a mention), sequel (it speaks of one, bool), year (the title's year is in it), genre (log
            odds).
        rivals: by block, in how many of its texts the most frequent other title is mentioned.
    """
    has = texts["good"] > 0
    by = texts["block"]
    size = texts.groupby("block").size()
    mentions = has.groupby(by).sum()
    chain = texts.groupby("block")["chain"].max().clip(1e-3, 1 - 1e-3)

    def mean(name: str) -> pd.Series:
        return texts[name].where(has).groupby(by).mean().fillna(0)

    share = mentions / size
    return pd.DataFrame(
        {
            "chain": np.log(chain / (1 - chain)),
            "log_mentions": np.log1p(mentions),
            "best_lead": texts["lead"].where(has).groupby(by).max().fillna(0).clip(-3, 7),
            "rank": mean("rank"),
            "named": mean("named"),
            "sequel": texts["sequel"].groupby(by).mean(),
            "year": texts["year"].groupby(by).mean(),
            # Reviews of one title are alike, so that many are worth the root of their number.
            "genre": texts["genre"].groupby(by).mean() * np.sqrt(size),
            "rival": (rivals.reindex(size.index).fillna(0) / size - share).clip(-1, 1),
            "share": share,
            "log_rate": np.log(texts.groupby("block")["rate"].max().fillna(_WORD_RATE)),
        }
    )


def judge(blocks: pd.DataFrame) -> pd.Series:
    """P(the block is about its title), from `describe_blocks`.

    The share of true blocks among these is estimated together with their probabilities: expectation maximisation on
    the prior alone, with the share that the coefficients were fitted on as 50 further blocks.
    """
    odds = sum((weight * blocks[name] for name, weight in BLOCK.items() if name != "one"), pd.Series(0.0, blocks.index))
    odds = odds + BLOCK["one"]
    share = _TRUE_SHARE
    for _ in range(30):
        shift = np.log(share / (1 - share)) - np.log(_TRUE_SHARE / (1 - _TRUE_SHARE))
        probability = 1 / (1 + np.exp(-odds - shift))
        share = (probability.sum() + _PRIOR_BLOCKS * _TRUE_SHARE) / (len(blocks) + _PRIOR_BLOCKS)
    return probability
