"""Which title a review is about where its neighbours say nothing: what can be told from one text, and from the table.

A logistic regression on every title that the text mentions, and then at most one of them. How many of the mentions are
about their title differs far more between tables than anything in a text: in all IMDb reviews one mention of a thousand
old films in fifteen, in a service's reviews of its own catalogue most; and it differs between titles (Star Wars is what
others are compared with). So the intercept follows the share that the table itself shows for each title and for all
(Saerens, Latinne and Decaestecker 2002, in two levels). What no share can tell is a work outside the catalogue that
has a title's name. There are the more of them the more texts and titles there are, so that where few reviews look like
the catalogue's most of those may be of namesakes: all confidences are less by the share that is to be expected.
"""

import numpy as np
import pandas as pd

# Fitted on 7,346 mentions in the 25,000 IMDb training reviews (479 of them about their title), see docs/linking.md.
_LONE = {
    "genre": 0.315, "lead": 0.213, "bound": -0.539, "share": 0.786, "place": -0.306,
    "single": -1.090, "quoted": 0.769, "watched": 0.774, "verb": 1.428, "possessive": -0.883, "match": 0.648,
    "clash": -4.720, "sequel": -0.600, "one": -2.034,
}  # fmt: skip
_FITTED_SHARE = 0.065  # of those mentions
# Before a table is seen: a user's reviews are mostly of the user's catalogue, but not surely.
_PRIOR_SHARE, _PRIOR_MENTIONS = 0.3, 10
_PRIOR_OF_TITLE = 2  # mentions of each title, with the share of all
_ROUNDS = 60
# Among 24,000 reviews of other films, 71 looked like one of 1,682 titles with a confidence of 0.9.
_NAMESAKES, _SURE = 0.003 / 1_682, 0.9


def describe_lone(own: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Features of each mention, in the rows of `own`.

    Args:
        own: mentions of the catalogue's titles (nlp/title_mentions.py, `weigh`) with apart > 0, one row for a text and
            title; further columns: match and clash (a year right behind the title that is or is not the title's, bool),
            sequel (the text speaks of one, bool), genre (log odds).
        pairs: all mentions in the same texts, those of other titles included.
    """
    total = pairs[pairs["good"] > 0].groupby("text")["good"].sum()
    flags = ("watched", "verb", "possessive", "match", "clash", "sequel")
    return pd.DataFrame(
        {
            "genre": own["genre"],
            "lead": own["lead"],
            "bound": (own["free"] == 0).astype(float),
            "share": own["good"] / total.reindex(own["text"]).to_numpy(),
            "place": np.log1p(own["place"]),
            "single": (own["size"] == 1).astype(float),
            "quoted": np.log1p(own["quoted"]),
            **{name: own[name].astype(float) for name in flags},
        }
    )


def judge_lone(features: pd.DataFrame, text: np.ndarray, title: np.ndarray, n_texts: int, n_titles: int) -> np.ndarray:
    """P(the text is about the title), for each mention of `describe_lone`; of one text they add up to less than 1.

    The shares of true mentions are estimated together with their probabilities (expectation maximisation on the priors
    alone).

    Args:
        text: of each mention, (mentions,).
        title: of each mention, (mentions,).
        n_texts: in the table, with a mention or without.
        n_titles: in the catalogue.
    """
    odds = sum((weight * features[name].to_numpy() for name, weight in _LONE.items() if name != "one"), _LONE["one"])
    odds = odds - np.log(_FITTED_SHARE / (1 - _FITTED_SHARE))
    of_text, of_title = (np.unique(codes, return_inverse=True)[1] for codes in (text, title))
    mentions = np.bincount(of_title)
    shares = np.full(len(mentions), _PRIOR_SHARE)
    probability = np.zeros(len(features))
    for _ in range(_ROUNDS):
        weight = np.exp(np.clip(odds + np.log(shares / (1 - shares))[of_title], -30, 30))
        probability = weight / (1 + np.bincount(of_text, weight)[of_text])
        share = (probability.sum() + _PRIOR_MENTIONS * _PRIOR_SHARE) / (len(features) + _PRIOR_MENTIONS)
        true = np.bincount(of_title, probability)
        shares = np.clip((true + _PRIOR_OF_TITLE * share) / (mentions + _PRIOR_OF_TITLE), 1e-4, 1 - 1e-4)
    sure = (probability >= _SURE).sum()
    return probability * max(0.0, 1 - _NAMESAKES * n_titles * n_texts / max(sure, 1))
