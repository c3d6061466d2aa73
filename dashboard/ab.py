"""The part of the Experiments page that compares two orders by the clicks on pages in random order."""

import html
import math
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import page
from dashboard.ab_words import Range, because, difference, headline, needed, per_page, percent, ranges
from dashboard.click_rates import rates, run_name
from dashboard.skeleton import loading
from data import events, runs
from data.dataset import Dataset
from data.runs import Run
from recsys import clicks, replay
from recsys.clicks import VISIBLE
from recsys.position_model import ByPosition, by_position
from recsys.replay import ROW, Explored

POPULAR, VARIED = "popular", "varied"
ASSUMED_RATE, ASSUMED_CARDS = 0.05, 20  # clicks per card, and cards of a row, before anything was logged
_UNFAIR = 4.0  # standard errors: chance alone goes so far once in 16,000 times


@st.cache_resource(max_entries=4, show_spinner=False)
def _shown(name: str, extent: tuple[int, int]) -> pd.DataFrame:
    return clicks.impressions(events.events(name, kinds=("impression", "click")))


@st.cache_resource(max_entries=4, show_spinner=False)
def _explored(name: str, extent: tuple[int, int]) -> Explored:
    return replay.explored(_shown(name, extent))


def draw(data: Dataset) -> None:
    """The whole part."""
    extent = events.extent(data.name)
    shown = _shown(data.name, extent)
    if shown.empty:
        _nothing_logged(data)
        return
    drawn = _explored(data.name, extent)
    usual = clicks.per_page(shown, ROW)
    _numbers(shown, drawn, usual)
    st.space("small")
    st.header("Which order would have been clicked more?")
    if drawn.cards.empty:
        _nothing_explored(shown, usual)
    else:
        _comparison(data, extent)
    if drawn.left_out:
        page.notice("warn", f"{page.count(drawn.left_out, 'page')} in random order left out: the log is not whole.")
    st.space("small")
    rates(data, shown)


def _nothing_logged(data: Dataset) -> None:
    page.empty(
        "No page was logged yet",
        "Each home page that is opened will keep which title stood at which place, and what was clicked. On a "
        "share of the days, one in ten for each member unless set otherwise, \u201cTop picks for you\u201d stands in "
        "random order; on those pages two recommenders can be compared without serving either.",
    )
    st.space("small")
    st.page_link("views/home.py", label="Open Home", icon=":material/home:", query_params=page.address())
    st.header("How many pages it will take")
    base = ASSUMED_RATE * VISIBLE
    st.html(
        f"<p>If {100 * ASSUMED_RATE:.0f} of 100 cards are clicked, that is {base:.2f} clicks per page in the first "
        f"{VISIBLE} places. To find a difference between two orders four times of five:</p>"
    )
    page.facts(needed(base, replay.assumed_spread(ASSUMED_RATE, ASSUMED_CARDS), 0))


def _numbers(shown: pd.DataFrame, drawn: Explored, usual: tuple[int, clicks.Interval] | None) -> None:
    first, last = shown["made_at"].min(), shown["made_at"].max()
    period = page.when(first) if first.date() == last.date() else f"{page.when(first)} to {page.when(last)}"
    cards = drawn.cards
    pages, members = shown["page_id"].nunique(), shown["user_id"].nunique()
    visible = shown[pd.to_numeric(shown["rank"]).fillna(1) <= VISIBLE]
    figures = [
        ("Pages logged", f"{pages:,}", "", f"of {page.count(members, 'member')}, {period}"),
        (
            "Clicks",
            f"{int(visible['clicked'].sum()):,}",
            "",
            f"{percent(visible['clicked'].mean())} of {len(visible):,} cards in the first {VISIBLE} places",
        ),
        ("In random order", f"{cards['page_id'].nunique():,}", "pages", f"{_share(cards, shown)} with top picks"),
    ]
    if usual is not None:
        number, (value, low, high) = usual
        around = f"95\u00a0% interval {low:.2f} to {high:.2f}" if low == low else "no interval yet"
        figures.append(("Top picks as served", f"{value:.2f}", "clicks per page", f"{around}, {number:,} pages"))
    page.number_cards(figures)


def _share(cards: pd.DataFrame, shown: pd.DataFrame) -> str:
    whole = shown.loc[shown["place"] == ROW, "page_id"].nunique()
    return f"{percent(cards['page_id'].nunique() / whole, 0)} of {whole:,}" if whole else "no page"


def _nothing_explored(shown: pd.DataFrame, usual: tuple[int, clicks.Interval] | None) -> None:
    page.empty(
        "No page in random order yet",
        "Clicks on pages in the recommender's own order favour what stood first, so they cannot judge another order. "
        "On one day in ten, unless set otherwise, a member gets top picks in random order; those pages count here.",
    )
    base = usual[1][0] if usual is not None and usual[1][0] > 0 else ASSUMED_RATE * VISIBLE
    st.space("small")
    st.html("<p><b>Pages in random order that it takes to find a difference four times of five</b></p>")
    page.facts(needed(base, replay.assumed_spread(base / VISIBLE, ASSUMED_CARDS), 0, None))


# The comparison ------------------------------------------------------------------------------------------------------


@st.fragment
@page.guarded
def _comparison(data: Dataset, extent: tuple[int, int]) -> None:
    finished = runs.list_runs(data.name, "recommender")
    if not finished:
        page.empty(
            "No recommender to compare yet",
            "Once one is trained, its order is compared here with what is most popular, and with other recommenders.",
            runs.fit_command(data.name, "recommender"),
        )
        return
    there = {f"run:{run.id}": run for run in finished}
    current = next((key for key, run in there.items() if run.is_current), None)
    options = [*there, POPULAR, *([VARIED] if current else [])]
    others = [option for option in options if option != current]
    first = options.index(current) if current else 0

    def name(option: str) -> str:
        return run_name(there[option]) if option in there else _NAMES[option]

    left, right = st.columns(2)
    with left:
        a = st.selectbox("A", options, index=first, format_func=name, key=f"policy-a-{data.name}")
    with right:
        start = options.index(others[0]) if others else 0
        b = st.selectbox("B", options, index=start, format_func=name, key=f"policy-b-{data.name}")
    variety = 0.3
    if VARIED in (a, b):
        variety = st.slider("Variety", 0.0, 1.0, variety, 0.05, key=f"policy-variety-{data.name}")
    needs = [there[current if option == VARIED else option] for option in (a, b) if option != POPULAR]  # type: ignore[index]
    cards = _explored(data.name, extent).cards
    usable = np.ones(len(cards), bool)
    for run in needs:
        usable &= replay.not_seen_by(cards, run.report)
    pages, used = cards["page"].nunique(), cards["page"][usable].nunique()
    if not used:
        page.notice(
            "warn",
            f"None of the {page.count(pages, 'page')} in random order can be used: these runs were trained on tables "
            "that hold what members did there, and would be judged by what they have learned. New pages will count.",
        )
        return
    words = f"Ranking {used:,} pages, each with its member's history at that moment …"
    with loading("chart", words, once=f"ab-{data.name}-{extent}-{a}-{b}-{variety}"):
        run_of = {option: there.get(str(current) if option == VARIED else option) for option in (a, b)}
        place_a, place_b = (_places(data, extent, option, run_of[option], variety)[usable] for option in (a, b))
        found, modelled = _compared(
            data.name, data.fingerprint, extent, (a, b, variety), cards[usable], place_a, place_b
        )
    if used < pages:
        page.notice(
            "none",
            f"{used:,} of {pages:,} pages in random order are used: the others were in the tables that a run was "
            "trained on.",
        )
    _result(found, modelled, name(a), name(b), cards[usable])


_NAMES = {POPULAR: "Most popular first", VARIED: "The one in use, with variety"}


def _places(data: Dataset, extent: tuple[int, int], option: str, run: Run | None, variety: float) -> np.ndarray:
    """Where a policy puts every card of the explored pages."""
    cards = _explored(data.name, extent).cards
    key = (str(data.folder), data.fingerprint, extent, None if run is None else str(run.folder))
    scores = _scores(*key, data)
    if option != VARIED:
        return replay.places(cards, scores)
    from recsys.replay_scores import varied_places

    return varied_places(data, cards, scores, variety)


@st.cache_resource(max_entries=16, show_spinner=False)
def _scores(folder: str, fingerprint: str, extent: tuple[int, int], run: str | None, _data: Dataset) -> np.ndarray:
    from recsys.replay_scores import popularity_scores, scores_of_run

    cards = _explored(_data.name, extent).cards
    since = events.events(_data.name, after=_data.exported.get("events", 0))
    if run is None:
        return popularity_scores(_data, cards, since)
    return scores_of_run(Path(run), _data, cards, since)


@st.cache_data(max_entries=64, show_spinner=False)
def _compared(
    name: str,
    fingerprint: str,
    extent: tuple[int, int],
    policies: tuple[str, str, float],
    _cards: pd.DataFrame,
    _place_a: np.ndarray,
    _place_b: np.ndarray,
) -> tuple[replay.Comparison, ByPosition | None]:
    return replay.compare(_cards, _place_a, _place_b), by_position(_cards, _place_a, _place_b)


def _result(found: replay.Comparison, modelled: ByPosition | None, a: str, b: str, cards: pd.DataFrame) -> None:
    kind, sentence = headline(found)
    st.html(
        f"<div class='mq-verdict mq-{kind}' role='status'><h3>{html.escape(sentence)}</h3>"
        f"<p>{html.escape(because(found))}</p></div>"
    )
    is_early = replay.verdict(found) == "too few"
    st.html(
        ranges(
            [
                _line(f"A: {a}", found.a, is_early),
                _line(f"B: {b}", found.b, is_early),
                Range("Random order, as shown", found.logged, per_page(found.logged), f"{found.pages:,} pages"),
            ]
        )
        + f"<p class='mq-muted mq-small'>Clicks per page in the first {VISIBLE} places; bars are 95\u00a0% intervals, "
        "a bootstrap over members.</p>"
    )
    if max(abs(found.a.fair), abs(found.b.fair)) > _UNFAIR:
        page.notice(
            "bad",
            "The order of these pages does not look drawn at random: titles stand where the policies put them too "
            "often or too seldom. Do not trust the figures before the logging was checked.",
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Pages that it takes to find a difference, four times of five**")
        known = not is_early and found.same < 1
        rate, n = cards.loc[cards["rank"] <= VISIBLE, "clicked"].mean(), int(cards["n"].median())
        spread = found.spread if known else replay.assumed_spread(rate or ASSUMED_RATE, n)
        base = (0.0 if is_early else found.a.replay[0]) or found.logged[0] or ASSUMED_RATE * VISIBLE
        page.facts(needed(base, spread, found.pages, _pace(cards)))
    with right:
        st.markdown("**What it rests on**")
        page.facts(
            [
                ("Same title in both", f"at {percent(found.same, 0)} of the places"),
                ("A, self-normalised", "" if is_early else per_page(found.a.normalised)),
                ("B, self-normalised", "" if is_early else per_page(found.b.normalised)),
                *(
                    [
                        ("A, by the position model", per_page(modelled.a)),
                        ("B, by the position model", per_page(modelled.b)),
                        ("B − A, by that model", difference(modelled.difference)),
                    ]
                    if modelled is not None
                    else []
                ),
                ("Effective sample", f"{found.a.effective:,.0f} places for A, {found.b.effective:,.0f} for B"),
            ]
        )
    with st.expander("How this is computed, and what it assumes"):
        st.markdown(_METHOD)


def _line(name: str, estimate: replay.Estimate, is_early: bool) -> Range:
    """A policy's line; too early, the interval of a handful of clicks would say more than they know."""
    shown = (math.nan,) * 3 if is_early else estimate.replay
    value = "too early to tell" if is_early else per_page(shown)
    rests_on = f"{page.count(estimate.clicks, 'click')} at {page.count(estimate.matches, 'place')} where it agrees"
    return Range(name, shown, value, rests_on, strong=True)


def _pace(cards: pd.DataFrame) -> float | None:
    """Pages a day over the time that they span; None below two days."""
    days = (cards["made_at"].max() - cards["made_at"].min()).total_seconds() / 86400
    return cards["page"].nunique() / days if days >= 2 else None


_METHOD = f"""
Where chance put the same title at the same place as a policy would have, its click counts, times the number of titles
(one over the chance of standing there); the sum over the first {VISIBLE} places, by the number of pages, is what the
policy would have brought: **inverse propensity scoring**. The self-normalised value divides by what chance happened to
bring instead.

- The policies order the titles that stood in the row; which titles come into the row is not judged.
- A click is assumed to depend on the member, the title and its place, not on the titles around it.
- Each page is ranked with what its member had watched by then, and no page is used whose outcome a run has learned.
- **By the position model** a click is a look at the place times an attraction of the title. Then every click counts for
  both policies, and the interval is several times narrower. Where that model is wrong it disagrees with the replay,
  which needs no such model and gives the verdict.
- Clicks are counted, not what was watched or liked afterwards.

`docs/experiments.md` has the formulas, the sources and the limits.
"""
