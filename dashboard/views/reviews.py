"""Reviews: score one as you type it, and read those that are scored."""

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import onboarding, page, store
from dashboard.moods import MOODS, mood_kind, mood_words, percent
from data.dataset import Dataset
from data.schema import SOURCE, TEXT

EXAMPLES = (
    "The first half drags and the music tells you what to feel, but the last hour is as good as anything I have seen "
    "this year: two people at a table, and you cannot look away.",
    "Loud, flat and forty minutes too long. I kept waiting for one joke to land and left before the end.",
    "A fine cast does what it can with a story that never decides what it wants to be.",
)
# More words than any model reads; a larger paste is refused by the browser with its own message.
LONGEST = 50_000
SHOWN = 2000


def render() -> None:
    data = page.header("Reviews", "What people say, scored by the sentiment model")
    if data is None:
        onboarding.offer(None)
        return
    score_box(data)
    st.space("medium")
    scored_reviews(data)


@st.fragment
@page.guarded
def score_box(data: Dataset) -> None:
    """Type or paste a review; its sentiment in words and number."""
    source = store.run_source(data.name, "sentiment")
    st.subheader("Score a review")
    if source is None:
        onboarding.offer_model(data, "sentiment")
        return
    store.live(data.name, "sentiment")
    left, right = st.columns([3, 2], gap="large")
    with left:
        text = st.text_area(
            "Your review", key="review-text", height=150, max_chars=LONGEST, placeholder="Type or paste a review …"
        )
        with st.container(horizontal=True):
            asked = st.button("Score it", type="primary")
            st.button("Try an example", on_click=_next_example)
    with right:
        asked = asked or st.session_state.pop("review-example-asked", False)
        if asked and text.strip():
            model = store.live(data.name, "sentiment")
            with st.spinner("Reading …" if model and model.ready else "Loading the sentiment model …"):
                _show_result(_predict(model, text.strip()), source, data)
        elif asked:
            page.notice("none", "Type or paste a review first: a sentence is enough.")
        else:
            page.empty(
                "The verdict appears here", "In words and as a probability, a second after you press the button."
            )


def _next_example() -> None:
    at = st.session_state.get("review-example", 0)
    st.session_state["review-text"] = EXAMPLES[at % len(EXAMPLES)]
    st.session_state["review-example"] = at + 1
    st.session_state["review-example-asked"] = True


def _predict(model: store.Live | None, text: str) -> pd.Series | None:
    if model is None:
        return None
    try:
        return model.future.result(timeout=120).predict([text]).iloc[0]
    except Exception:
        store.forget_failed(model)
        raise


def _show_result(result: Any, source: str, data: Dataset) -> None:
    if result is None:
        page.notice("warn", "The model is not there any more: train it again on the Models page's command.")
        return
    label, p_positive = str(result["label"]), float(result["p_positive"])
    kind, words = MOODS.get(label, ("none", label))
    colour = {"good": "#30A46C", "warn": "#F5A524", "bad": "#E5484D"}.get(kind, "#8B9098")
    foreign = "" if source == data.name else f" The model was trained on dataset '{source}'."
    positive, certainty = percent(p_positive), mood_words(label, p_positive).removeprefix(words)
    st.html(
        '<div class="mq-card" role="status"><p class="mq-label">Sentiment</p>'
        f'<p class="mq-number">{html.escape(words)} <small>{html.escape(certainty)}</small></p>'
        f'<div class="mq-track" style="margin-top:14px" role="img" aria-label="Positive {positive} %">'
        f'<div class="mq-fill" style="width:{positive}%;background:{colour}"></div></div>'
        '<p class="mq-compare mq-muted" style="display:flex;justify-content:space-between">'
        "<span>negative</span><span>positive</span></p>"
        f'<p class="mq-compare">The model gives {positive} % to positive and {100 - positive} % to negative.'
        f"{html.escape(foreign)}</p></div>"
    )


def scored_reviews(data: Dataset) -> None:
    """The table with filters, and the reading pane."""
    st.subheader("Scored reviews")
    everything = store.reviews(data)
    if everything is None:
        page.empty(
            "No reviews in this dataset",
            f"Dataset '{data.name}' has no reviews table. Add one by importing it with a reviews file, or choose a "
            "dataset that has reviews.",
        )
        return
    scored = everything[everything["p_positive"].notna()]
    if scored.empty:
        page.notice("none", f"None of the {len(everything):,} reviews is scored yet.")
        if store.run_source(data.name, "sentiment") is not None:
            onboarding.offer_model(data, "sentiment")
        return
    shares = scored["label"].value_counts(normalize=True)
    st.html(
        f"<p>{len(scored):,} of {page.count(len(everything), 'review')} scored: "
        + ", ".join(
            page.sign(kind, f"{100 * shares.get(label, 0):.0f} % {words.lower()}")
            for label, (kind, words) in MOODS.items()
            if label in shares.index
        )
        + "</p>"
    )
    _inbox(scored, store.catalogue(data))


@st.fragment
@page.guarded
def _inbox(scored: pd.DataFrame, catalogue: pd.DataFrame) -> None:
    chosen = _filtered(scored)
    if chosen.empty:
        page.empty("No review matches", "Widen the filters above: another mood, a larger range, fewer words.")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.caption(
            f"{page.count(len(chosen), 'review')} match"
            + (f"; the first {SHOWN:,} are listed" if len(chosen) > SHOWN else "")
            + ". Click a row to read it."
        )
        shown = chosen.head(SHOWN)
        titles = (
            shown["item_id"].map(catalogue["shown_title"]) if len(catalogue) else pd.Series(None, index=shown.index)
        )
        table = pd.DataFrame(
            {
                "Mood": [MOODS.get(label, ("", "Not scored"))[1] for label in shown["label"]],
                "Positive": 100 * shown["p_positive"].to_numpy(),
                "Review": shown[TEXT].str.slice(0, 120).str.replace("\n", " ").to_numpy(),
                "Title": titles.fillna("").to_numpy() if titles.notna().any() else None,
                "Source": shown[SOURCE].to_numpy(),
            }
        ).dropna(axis="columns", how="all")
        event = st.dataframe(
            table,
            hide_index=True,
            height=460,
            on_select="rerun",
            selection_mode="single-cell",
            key="review-table",
            column_config={
                "Mood": st.column_config.TextColumn(width=80),
                "Positive": st.column_config.ProgressColumn(
                    "P(positive)", format="%.0f %%", min_value=0.0, max_value=100.0, width=110
                ),
                "Review": st.column_config.TextColumn(width="large"),
            },
        )
    with right:
        picked = [row for row, _ in event["selection"]["cells"]] if event else []
        _read(shown.iloc[picked[0] if picked and picked[0] < len(shown) else 0], titles, catalogue)


def _filtered(scored: pd.DataFrame) -> pd.DataFrame:
    sources = sorted(scored[SOURCE].dropna().unique())
    columns = st.columns([2, 2, 2, 3])
    with columns[0]:
        label = st.selectbox("Mood", ["All", *MOODS], format_func=lambda name: MOODS.get(name, ("", "All moods"))[1])
    with columns[1]:
        low, high = st.slider("Probability of positive (%)", 0, 100, (0, 100))
    with columns[2]:
        source = st.selectbox("Source", ["All sources", *sources], disabled=len(sources) < 2)
    with columns[3]:
        words = st.text_input("Search in the text", placeholder="any words")
    keep = scored["p_positive"].between(low / 100, high / 100)
    if label != "All":
        keep &= scored["label"] == label
    if source != "All sources":
        keep &= scored[SOURCE] == source
    if words.strip():
        keep &= scored[TEXT].str.contains(words.strip(), case=False, regex=False)
    return scored[keep.fillna(False)]


def _read(review: pd.Series, titles: pd.Series, catalogue: pd.DataFrame) -> None:
    title = titles.get(review.name)
    about = [str(title)] if isinstance(title, str) else []
    if isinstance(review[SOURCE], str):
        about.append(review[SOURCE])
    if review["stars"] == review["stars"] and review["stars"] is not None:
        about.append(f"{review['stars']:g} stars given")
    given = review["given_label"]
    if isinstance(given, str):
        about.append(f"labelled {MOODS.get(given, ('', given))[1].lower()} in the source")
    mood = page.sign(mood_kind(review["label"]), mood_words(review["label"], review["p_positive"]))
    st.html(
        '<div class="mq-card mq-reading">'
        f'<p class="mq-label">{html.escape("  ·  ".join(about)) or "Review"}</p><p>{mood}</p>'
        f'<div class="mq-text">{html.escape(review[TEXT])}</div></div>'
    )


page.guarded(render)()
