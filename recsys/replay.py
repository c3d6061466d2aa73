"""Offline A/B from logged pages: what another way to order a row would have brought, by replay with intervals.

On a random share of pages the row's n titles stand in uniformly random order, so each title stood at each place with
the logged propensity 1/n. A policy B would put title B(g, r) at place r of page g. What it would have brought is read
off where chance put the same title at the same place (Horvitz & Thompson 1952; for ranked lists the item-position form
of Li S. et al. 2018, "Offline Evaluation of Ranking Policies with Click Models"; the replay of Li L. et al. 2011,
"Unbiased Offline Evaluation of Contextual-bandit-based News Article Recommendation Algorithms", is one place with equal
propensities):

    V(B) = 1/pages · sum over pages g, places r <= K of 1[title at r = B(g, r)] · click(g, r) / propensity

clicks per page in the first K places. It has no bias if a click depends on the member, the title and its place, not on
which titles stand around it, and if B's choice does not depend on the drawn order. Self-normalised (SNIPS; Swaminathan
& Joachims 2015), where w are the terms without the click, whose expected sum is the number of places shown:

    V(B) = sum of w · click / sum of w · places shown per page

Intervals: the percentile bootstrap over members (all pages of a member are drawn together), by weights that are
Poisson(1) (Chamandy et al. 2012, "Estimating Uncertainty for Massive Data Streams"): one matrix product, no loop over
members. Two policies are compared on the same pages with the same draws, so the difference is paired.

docs/experiments.md says what this does and does not show.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from data.schema import ITEM_ID, USER_ID
from recsys.clicks import DRAWS, SEED, VISIBLE, Interval, bootstrap, interval_of, sums_by_member

ROW = "home:picks"  # the row that is shown in random order now and then
# Fewer clicks or members behind a difference, and the percentile bootstrap promises too much.
FEWEST_CLICKS, FEWEST_MEMBERS = 20, 20
POWER = 0.8
_Z = 1.96 + 0.8416  # two-sided 5 %, and a power of 80 %


class Explored(NamedTuple):
    """Pages whose row was shown in random order."""

    cards: pd.DataFrame  # a row for each card, by page and rank: see `explored`
    left_out: int  # pages whose log is not whole


def explored(shown: pd.DataFrame, row: str = ROW) -> Explored:
    """The cards of pages whose row stood in uniformly random order, by page and rank.

    Columns: page_id, page (from 0), user_id, item_id, rank, n (cards of the row), run_id, clicked, time (microseconds
    on the dataset's clock) and made_at (UTC) of the page. A page is left out unless it holds each rank from 1 to n
    once, n different titles, one member, and the propensity 1/n on each: half a page would not be a fair draw.

    Args:
        shown: see recsys.clicks.impressions.
        row: the place that was shuffled.
    """
    cards = shown[(shown["place"] == row) & shown["propensity"].notna()]
    cards = cards.assign(rank=pd.to_numeric(cards["rank"]).fillna(0).astype("int64"))
    cards = cards.assign(time=cards["service_time"].dt.as_unit("us").astype("int64"))
    cards = cards.sort_values(["page_id", "rank"], kind="stable", ignore_index=True)
    by_page = cards.groupby("page_id", sort=True)
    n = by_page["rank"].transform("size")
    facts = pd.DataFrame(
        {
            "wrong": (cards["rank"] != by_page.cumcount() + 1) | ((cards["propensity"] * n - 1).abs() > 1e-6),
            "page_id": cards["page_id"],
        }
    )
    whole = ~facts.groupby("page_id")["wrong"].transform("any")
    whole &= (by_page[ITEM_ID].transform("nunique") == n) & (by_page[USER_ID].transform("nunique") == 1)
    left_out = cards.loc[~whole, "page_id"].nunique()
    times = {name: by_page[name].transform("min") for name in ("time", "made_at")}
    cards = cards.assign(n=n, **times)[whole].reset_index(drop=True)
    cards = cards.assign(page=pd.factorize(cards["page_id"])[0])
    columns = ["page_id", "page", USER_ID, ITEM_ID, "rank", "n", "run_id", "clicked", "time", "made_at"]
    return Explored(cards[columns], int(left_out))


def not_seen_by(cards: pd.DataFrame, report: Mapping[str, Any]) -> np.ndarray:
    """Which cards' pages a run cannot have learned from. Shape: (cards,) bool.

    An export puts what members did into the tables, and a run trained on those has seen the outcome of the page that it
    is judged by. A page is safe in two cases: it was made after the run was trained (`created_at` of its report), or it
    lies after the clock of the tables that the run was trained on (`as_of` of its report), so that they did not hold it
    yet. A report that tells neither makes no page safe.
    """
    safe = np.zeros(len(cards), bool)
    if report.get("created_at"):
        trained = pd.Timestamp(report["created_at"])
        trained = trained.tz_localize("UTC") if trained.tzinfo is None else trained
        safe |= (cards["made_at"] > trained).to_numpy()
    if report.get("as_of"):
        clock = pd.Timestamp(report["as_of"])
        clock = clock.tz_localize("UTC") if clock.tzinfo is None else clock
        safe |= (cards["time"] > clock.value // 1000).to_numpy()
    return safe


def places(cards: pd.DataFrame, scores: np.ndarray) -> np.ndarray:
    """The place from 1 at which a policy puts each card among those of its page: the highest score first.

    Cards without a score come last. Equal scores are ordered by a hash of the title: by anything that depends on the
    drawn order a policy would meet the log more often than chance does.
    """
    page = cards["page"].to_numpy()
    value = np.where(np.isnan(scores), -np.inf, scores)
    order = np.lexsort((pd.util.hash_array(cards[ITEM_ID].to_numpy(object)), -value, page))
    start = np.concatenate([[0], np.flatnonzero(np.diff(page[order])) + 1]) if len(page) else np.zeros(0, np.int64)
    number = np.arange(len(page)) - np.repeat(start, np.diff(np.append(start, len(page))))
    found = np.empty(len(page), np.int64)
    found[order] = number + 1
    return found


class Estimate(NamedTuple):
    """What a policy would have brought, in clicks per page in the visible places."""

    replay: Interval  # inverse propensity scoring
    normalised: Interval  # SNIPS
    clicks: int  # on a title that stood where the policy puts it: all that the estimate rests on
    matches: int  # places where it did
    effective: float  # (sum of w)² / sum of w², in places: how many fairly drawn places the weights are worth
    fair: float  # by how many standard errors the matches differ from what random order gives


class Comparison(NamedTuple):
    """Two policies on the same pages; `difference` is B - A."""

    pages: int
    members: int
    logged: Interval  # clicks per page of the random order itself
    a: Estimate
    b: Estimate
    difference: Interval
    normalised_difference: Interval
    telling: int  # clicks at places where exactly one of the two has the logged title
    same: float  # share of the visible places where both have the same title
    spread: float  # standard deviation of the difference for one page, so that its error is spread / sqrt(pages)


def compare(
    cards: pd.DataFrame,
    place_a: np.ndarray,
    place_b: np.ndarray,
    visible: int = VISIBLE,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Comparison:
    """The replay of two policies on explored pages.

    Args:
        cards: see `explored`; at least one.
        place_a: where policy A puts each card, see `places`. Shape: (cards,).
        place_b: the same of B.
        visible: places that count.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: there are no cards.
    """
    if cards.empty:
        raise ValueError("there is no page to compare on")
    rank, n = cards["rank"].to_numpy(), cards["n"].to_numpy(float)
    clicked = cards["clicked"].to_numpy(float)
    shown = (rank <= visible).astype(float)
    w_a, w_b = (np.where(place == rank, n, 0.0) * shown for place in (place_a, place_b))
    first = cards["rank"].to_numpy() == 1  # one card of each page
    columns = np.stack([first.astype(float), shown, shown * clicked, w_a, w_a * clicked, w_b, w_b * clicked], axis=1)
    members, of_members = sums_by_member(cards[USER_ID].to_numpy(object), columns)
    drawn = bootstrap(of_members, draws, seed)

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        pages, number, clicks, a, clicks_a, b, clicks_b = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            per_page = number / pages
            found = {
                "logged": clicks / pages,
                "a": clicks_a / pages,
                "b": clicks_b / pages,
                "snips a": clicks_a / a * per_page,
                "snips b": clicks_b / b * per_page,
            }
        found["difference"] = found["b"] - found["a"]
        found["snips difference"] = found["snips b"] - found["snips a"]
        return found

    value, around = figures(of_members.sum(0)), figures(drawn)
    interval = {name: interval_of(float(value[name]), around[name]) for name in value}
    pages = int(first.sum())
    # Of m matches at the k visible places of a random order of n: mean k / n, and in w, which is n times that, k.
    k = np.minimum(visible, n[first])
    matched = k / n[first] * (1 - k / n[first] + (k - 1) / np.maximum(n[first] - 1, 1))
    chance = math.sqrt(float((n[first] ** 2 * matched).sum()))

    def estimate(name: str, w: np.ndarray) -> Estimate:
        squares = float((w**2).sum())
        return Estimate(
            interval[name],
            interval[f"snips {name}"],
            int(((w > 0) & (clicked > 0)).sum()),
            int((w > 0).sum()),
            float(w.sum() ** 2 / squares) if squares else 0.0,
            float((w - shown).sum() / chance) if chance else 0.0,
        )

    # Policies place the same titles: where a card has the same place in both, that place has the same title.
    inside = place_a <= visible
    return Comparison(
        pages,
        members,
        interval["logged"],
        estimate("a", w_a),
        estimate("b", w_b),
        interval["difference"],
        interval["snips difference"],
        int((((w_a > 0) != (w_b > 0)) & (clicked > 0)).sum()),
        float((place_a == place_b)[inside].mean()),
        float(np.nanstd(around["difference"]) * math.sqrt(pages)),
    )


Verdict = Literal["same", "too few", "not told apart", "better", "worse"]


def verdict(found: Comparison) -> Verdict:
    """B against A in a word; `worse` means that A is better.

    "too few": the interval could be trusted with FEWEST_CLICKS telling clicks of FEWEST_MEMBERS members only.
    """
    if found.same == 1.0:
        return "same"
    if found.telling < FEWEST_CLICKS or found.members < FEWEST_MEMBERS:
        return "too few"
    _, low, high = found.difference
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def pages_needed(difference: float, spread: float) -> int:
    """Explored pages after which a true difference in clicks per page is found with 80 % probability (5 % two-sided).

    pages = (1.96 + 0.84)² · spread² / difference²

    Args:
        difference: to be found, above 0.
        spread: standard deviation of the difference for one page: `Comparison.spread`, or `assumed_spread`.

    >>> pages_needed(0.1, 2.0)
    3140
    """
    return math.ceil(_Z**2 * spread**2 / difference**2)


def assumed_spread(click_rate: float, n: int = 20, visible: int = VISIBLE) -> float:
    """The spread before there is data: of two policies that never agree, where each card is clicked alike.

    A term is n with probability rate/n, once for each policy and place: variance = 2 · places · n · rate.

    >>> round(assumed_spread(0.05), 2)
    4.0
    """
    return math.sqrt(2 * min(visible, n) * n * click_rate)
