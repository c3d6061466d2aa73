"""What other models say of a title, made ready for pages: its forecast, and how its reviews have turned.

Both tables are optional; a page without them is complete. They are made of score tables (data/schema.py) alone, so
nothing of the models that wrote those is imported.
"""

import numpy as np
import pandas as pd

from data.schema import CREATED_AT, DATE, ITEM_ID, REVIEW_ID, SERIES_ID
from recsys.viewing import RECENT_DAYS, Viewing

_TITLE = "title:"  # how the forecaster names a title's series
FEWEST_EXPECTED = 3.0  # fewer events ahead are no trend
LEAST_SURPRISE = 1.0  # standard deviations of a count
FEWEST_REVIEWS = 5  # recent ones, and earlier ones, for a verdict
SOUR_BELOW, SOUR_DROP = 0.4, 0.1
SOUR_NOTE = "Recent reviews turned against it"


def title_forecasts(forecast: pd.DataFrame, seen: Viewing) -> pd.DataFrame:
    """What is expected of each title with a forecast: `item_id`, `days`, `expected`, `recent`.

    `expected` is the sum of the mean forecast over the `days` days after the clock's, 28 or as many as there are;
    `recent` the events of the same number of days before the clock. Days that the clock has passed do not count, and
    a title whose forecast ends before the others' is left out. Empty where there are no times.

    Args:
        forecast: the score table engagement_forecast.
    """
    today = seen.as_of.floor("D")
    ahead = forecast[
        forecast[SERIES_ID].str.startswith(_TITLE)
        & (forecast[DATE] > today)
        & (forecast[DATE] <= today + pd.Timedelta(days=RECENT_DAYS))
    ]
    if len(ahead) == 0 or not seen.has_times:
        return pd.DataFrame({"item_id": [], "days": [], "expected": [], "recent": []}).astype({"item_id": object})
    item_id = ahead[SERIES_ID].str.removeprefix(_TITLE).astype(object)
    found = ahead.groupby(item_id)["mean"].agg(days="size", expected="sum")
    found = found[found["days"] == found["days"].max()]
    recent = pd.Series(seen.since(int(found["days"].max())), index=seen.item_ids)
    found["recent"] = recent.reindex(found.index, fill_value=0)
    return found.rename_axis("item_id").reset_index()


def rising(forecasts: pd.DataFrame) -> pd.DataFrame:
    """The forecasts that rise, the most surprising first, with `rise`, the change in per cent (inf from nothing).

    Surprise: (expected - recent) / sqrt(recent + 1), the rise in standard deviations of a count of `recent`. A
    forecast rises if that is at least 1 and at least three events are expected.
    """
    recent = forecasts["recent"].astype(float)
    surprise: pd.Series = (forecasts["expected"] - recent) / np.sqrt(recent + 1)
    rises = (surprise >= LEAST_SURPRISE) & (forecasts["expected"] >= FEWEST_EXPECTED)
    order: pd.Index = surprise[rises].sort_values(ascending=False, kind="stable").index
    found = forecasts.loc[order]
    return found.assign(rise=100 * (found["expected"] / recent[order] - 1))


def title_sentiment(review_scores: pd.DataFrame, reviews: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """How the reviews of each title have turned: `item_id`, `reviews`, `mean`, `recent_reviews`, `recent_mean`,
    `earlier_reviews`, `earlier_mean`.

    Means are of p_positive, NaN without reviews. Recent are the last 28 days before the clock, earlier what lies before
    them; a review without a date, or from after the clock, counts in `reviews` and `mean` alone, one without a title
    nowhere. The review's own title comes before the one that the scorer linked it to.

    Args:
        review_scores: the score table.
        reviews: the dataset's table, which knows when each was written.
        as_of: the dataset's clock.
    """
    linked = review_scores[[REVIEW_ID, ITEM_ID, "p_positive"]].rename(columns={ITEM_ID: "linked"})
    each = linked.merge(reviews[[REVIEW_ID, ITEM_ID, CREATED_AT]], on=REVIEW_ID)
    own = each[ITEM_ID].astype(object)
    each["item_id"] = own.where(own.notna(), each["linked"].astype(object))
    each = each[each["item_id"].notna() & each["p_positive"].notna()]
    recent_from, written = as_of - pd.Timedelta(days=RECENT_DAYS), each[CREATED_AT]
    periods = {
        "": each,
        "recent_": each[(written > recent_from) & (written <= as_of)],
        "earlier_": each[written <= recent_from],
    }
    found = pd.DataFrame(index=pd.Index(each["item_id"].unique(), name="item_id"))
    for name, chosen in periods.items():
        p = chosen.groupby("item_id")["p_positive"]
        found[f"{name}reviews"] = p.size().reindex(found.index, fill_value=0)
        found[f"{name}mean"] = p.mean()
    return found.reset_index()


def soured(sentiment: pd.DataFrame) -> pd.Index:
    """Ids of the titles whose reviews have soured.

    With r recent reviews of mean m and earlier ones of mean e, the recent mean is shrunk by five imagined reviews that
    say what the earlier ones said: s = (r * m + 5 * e) / (r + 5). Soured: at least five recent and five earlier
    reviews, s < 0.4 and s <= e - 0.1. A title that was always disliked has not soured, nor has one that two angry
    reviews have hit.
    """
    recent, earlier = sentiment["recent_reviews"], sentiment["earlier_mean"]
    shrunk = (recent * sentiment["recent_mean"] + FEWEST_REVIEWS * earlier) / (recent + FEWEST_REVIEWS)
    enough = (recent >= FEWEST_REVIEWS) & (sentiment["earlier_reviews"] >= FEWEST_REVIEWS)
    turned = enough & (shrunk < SOUR_BELOW) & (shrunk <= earlier - SOUR_DROP)
    return pd.Index(sentiment.loc[turned, "item_id"].to_numpy(object))
