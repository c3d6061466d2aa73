"""Reviews: an inbox with drafts to decide about, what the reviews say together, and a box to score one as you type."""

import pandas as pd
import streamlit as st

from dashboard import bulk, inbox, onboarding, page, store, summary, verdict
from dashboard.deciding import OPEN, Listed, decision_about, last_decision
from dashboard.inbox import ALL, LINKED, STATES, UNLINKED, Filters, Inbox
from dashboard.moods import MOODS
from dashboard.pane import pane
from dashboard.review_queue import LISTED, ROWS, heard, review_queue
from data.dataset import Dataset
from data.schema import LABEL, REVIEW_ID, SOURCE

EXAMPLES = (
    "The first half drags and the music tells you what to feel, but the last hour is as good as anything I have seen "
    "this year: two people at a table, and you cannot look away.",
    "Loud, flat and forty minutes too long. I kept waiting for one joke to land and left before the end.",
    "A fine cast does what it can with a story that never decides what it wants to be.",
)
# More words than any model reads; a larger paste is refused by the browser with its own message.
LONGEST = 50_000
_TITLE = "title:"


def render() -> None:
    data = page.header("Reviews", "What people say, which to answer first, and a draft of the reply")
    if data is None:
        onboarding.offer(None)
        return
    # Only the open one is drawn: the digest takes seconds the first time.
    names = ("Inbox", "Digest", "Score a review")
    drawn = (scored_reviews, digest_of, score_box)
    for tab, draw in zip(st.tabs(names, key="reviews-tab", on_change="rerun"), drawn, strict=True):
        if tab.open:
            with tab:
                draw(data)


# The inbox -----------------------------------------------------------------------------------------------------------


def scored_reviews(data: Dataset) -> None:
    box = _scored(data)
    if box is None:
        return
    _inbox(data)


def _shares_html(box: Inbox) -> str:
    shares = box.frame[LABEL].value_counts(normalize=True)
    moods = [
        page.sign(kind, f"{100 * shares[label]:.0f} % {words.lower()}")
        for label, (kind, words) in MOODS.items()
        if label in shares.index
    ]
    scored = f"{len(box.frame):,} of {page.count(box.n_reviews, 'review')} scored"
    return f'<p class="mq-line"><span>{scored}</span>{"".join(moods)}</p>'


def _scored(data: Dataset) -> Inbox | None:
    """The inbox, or None after what there is to say instead."""
    box = inbox.inbox(data, wait=True)
    if box is None:
        page.empty(
            "No reviews in this dataset",
            f"Dataset '{data.name}' has no reviews table. Add one by importing it with a reviews file, or choose a "
            "dataset that has reviews.",
        )
        return None
    if box.frame.empty:
        page.notice("none", f"None of the {page.count(box.n_reviews, 'review')} is scored yet.")
        onboarding.offer_model(data, "sentiment")
        return None
    return box


@st.fragment
@page.guarded
def _inbox(data: Dataset) -> None:
    box = inbox.inbox(data)
    if box is None or box.frame.empty:
        return
    catalogue, decided = store.catalogue(data), inbox.decided(data)
    titles = inbox.shown_titles(catalogue)
    state = inbox.states(box, decided)
    with st.container(horizontal=True, vertical_alignment="bottom", key="inbox-filters"):
        filters = _filters(data, box, titles)
        beside = st.container(width="content")
    kept = inbox.matching(box, filters, titles)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="inbox-states"):
        chosen = _state(data, state[kept])
        st.html(_shares_html(box), width="content")
    queue = box.frame[kept & inbox.in_state(state, chosen)]
    with beside:
        st.download_button(
            "Download",
            lambda: inbox.as_csv(box, queue.index, decided, titles),
            file_name=f"reviews-{data.name}-{chosen}.csv",
            mime="text/csv",
            icon=":material/download:",
            type="tertiary",
            disabled=queue.empty,
            help="What the filters let through, as CSV: text, mood, priority, title, decision and reply.",
            on_click="ignore",
        )
    news = st.container()  # always there: what comes and goes above the queue would draw it anew, and lose its focus
    with news:
        said = last_decision(data)
    open_ids = queue.loc[state[queue.index] == inbox.OPEN, REVIEW_ID].tolist()
    chosen_ids = bulk.ticked(data, open_ids)
    if queue.empty:
        _nothing(box, kept, state, chosen)
        return
    ids = queue[REVIEW_ID].tolist()
    open_id = st.session_state[OPEN] if st.session_state.get(OPEN) in set(ids) else str(ids[0])
    still_open = box.frame.loc[kept & (state == inbox.OPEN), REVIEW_ID].tolist()
    listed = Listed(data, box, catalogue, ids, still_open, open_ids)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        key = f"inbox-queue-{data.name}"
        review_queue(
            queue,
            titles,
            dict(zip(decided[REVIEW_ID], decided["status"], strict=True)),
            open_id,
            st.session_state.get(ROWS, LISTED),
            chosen_ids,
            len(open_ids),
            said,
            key,
            on_sent=lambda: heard(listed, st.session_state[key].sent),
        )
        bulk.bar(listed, chosen_ids)
    with right:
        pane(listed, int(queue.index[ids.index(open_id)]), decision_about(decided, open_id))


def _nothing(box: Inbox, kept: pd.Series, state: pd.Series, chosen: str) -> None:
    if not kept.any():
        page.empty("No review matches", "Widen the filters above: another mood, another aspect, fewer words.")
    elif chosen == inbox.OPEN:
        done = int((state != inbox.OPEN).sum())
        page.empty(
            "Nothing is left to answer here",
            f"Every review that matches is decided ({done:,} of {len(box.frame):,} in all). Look back at them under "
            "Approved and Dismissed, or widen the filters.",
        )
    else:
        page.empty(
            f"Nothing is {STATES[chosen].lower()} yet",
            "Decide about a draft under Open: it is kept here, and can be undone.",
        )


def _filters(data: Dataset, box: Inbox, titles: dict[str, str]) -> Filters:
    prefix = f"inbox-{data.name}"
    words = st.text_input("Search", placeholder="words of a review or a title", key=f"{prefix}-words", width=250)
    mood = st.selectbox(
        "Mood", ["", *MOODS], format_func=lambda m: MOODS[m][1] if m else "All moods", key=f"{prefix}-mood", width=170
    )
    spoken = inbox.aspects_of(box.mentions)
    counts = dict(zip(spoken["aspect"], spoken["reviews"], strict=True))
    aspect = st.selectbox(
        "Aspect",
        ["", *counts],
        format_func=lambda a: f"{a.capitalize()} ({counts[a]:,})" if a else "All aspects",
        key=f"{prefix}-aspect",
        width=170,
        disabled=not counts,
    )
    link = _title_choice(data, box, titles)
    sources = sorted(box.frame[SOURCE].dropna().unique())
    source = ""
    if len(sources) > 1:
        source = st.selectbox(
            "Source",
            ["", *sources],
            format_func=lambda s: s or "All sources",
            key=f"{prefix}-source",
            width=170,
        )
    item_id = link.removeprefix(_TITLE) if link.startswith(_TITLE) else ""
    return Filters(mood, aspect, "" if item_id else link, item_id, source, words or "")


def _title_choice(data: Dataset, box: Inbox, titles: dict[str, str]) -> str:
    """LINKED, UNLINKED, "title:" and an id, or "" for any; at first the title that the address names."""
    counts = inbox.reviews_per_title(box)
    key, asked = f"inbox-{data.name}-title", st.query_params.get("title")
    listed = [item_id for item_id in counts if item_id in titles]
    if asked in titles and asked not in counts:
        listed.append(asked)
    if asked in titles and (key not in st.session_state or st.session_state.get(f"{key}-asked") != asked):
        st.session_state[key] = f"{_TITLE}{asked}"
    st.session_state[f"{key}-asked"] = asked
    fixed = {"": "Any or none", LINKED: "Linked to a title", UNLINKED: "Not linked"}

    def told(option: str) -> str:
        if option in fixed:
            return fixed[option]
        item_id = option.removeprefix(_TITLE)
        return f"{titles[item_id]} ({counts.get(item_id, 0):,})"

    return st.selectbox("Title", [*fixed, *(f"{_TITLE}{i}" for i in listed)], format_func=told, key=key, width=170)


def _state(data: Dataset, state: pd.Series) -> str:
    counts = {name: int(inbox.in_state(state, name).sum()) for name in STATES}
    chosen = st.segmented_control(
        "State",
        list(STATES),
        default=inbox.OPEN,
        format_func=lambda name: f"{STATES[name]} {counts[name]:,}",
        required=True,
        label_visibility="collapsed",
        key=f"inbox-{data.name}-state",
    )
    return chosen or ALL


# The digest ----------------------------------------------------------------------------------------------------------


@page.guarded
def digest_of(data: Dataset) -> None:
    box = _scored(data)
    if box is not None:
        summary.digest_section(data, box, store.catalogue(data))


# Score a review ------------------------------------------------------------------------------------------------------


@st.fragment
@page.guarded
def score_box(data: Dataset) -> None:
    """Type or paste a review; its sentiment in words and number, and what it speaks of."""
    source = store.run_source(data.name, "sentiment")
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
    asked = asked or st.session_state.pop("review-example-asked", False)
    with right:
        if not asked:
            page.empty(
                "The verdict appears here", "In words and as a probability, a second after you press the button."
            )
            return
        if not text or not text.strip():
            page.notice("none", "Type or paste a review first: a sentence is enough.")
            return
        model = store.live(data.name, "sentiment")
        with st.spinner("Reading …" if model and model.ready else "Loading the sentiment model …"):
            result = verdict.analyse(model, text)
        verdict.show(result, source, data)
    if result is not None:
        with left:
            verdict.marks(result, text, data)


def _next_example() -> None:
    at = st.session_state.get("review-example", 0)
    st.session_state["review-text"] = EXAMPLES[at % len(EXAMPLES)]
    st.session_state["review-example"] = at + 1
    st.session_state["review-example-asked"] = True


page.guarded(render)()
