"""What the reviews say together: the digest of a service or a title as the Reviews and the Title page show it."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, inbox, page, store
from dashboard.inbox import Inbox, records, shown_titles
from dashboard.moods import aspect_bars, diverging_bar
from data.dataset import Dataset
from data.schema import ITEM_ID, TEXT

LEAST_REVIEWS = 5  # of a title, to be offered a digest of its own
Age = tuple[float | None, int]  # when the scores were written, and how many reviews are read by now


@st.cache_resource(max_entries=4, show_spinner=False)
def _service(dataset: str, fingerprint: str, age: Age, _data: Dataset, _box: Inbox) -> dict[str, Any]:
    from nlp.digest import digest  # brings scikit-learn: seconds that no other page need wait

    return digest(_box.frame, shown_titles(store.catalogue(_data)), as_of=_data.as_of)


@st.cache_resource(max_entries=64, show_spinner=False)
def _title(dataset: str, fingerprint: str, age: Age, item_id: str, _data: Dataset, _box: Inbox) -> dict[str, Any]:
    from nlp.digest import digest

    service = _service(dataset, fingerprint, age, _data, _box)
    return digest(_box.frame, shown_titles(store.catalogue(_data)), item_id, service)


@st.cache_resource(max_entries=64, show_spinner=False)
def _quotes(dataset: str, fingerprint: str, age: Age, item_id: str, _box: Inbox) -> pd.DataFrame:
    from nlp.quotes import quotes

    return quotes(_box.frame[(_box.frame[ITEM_ID] == item_id).fillna(False)])


def _cache_key(data: Dataset, box: Inbox) -> tuple[str, str, Age]:
    return data.name, data.fingerprint, (store.scored_at(data.name, "review_scores"), len(box.frame))


# The digest on the Reviews page --------------------------------------------------------------------------------------


def digest_section(data: Dataset, box: Inbox, catalogue: pd.DataFrame) -> None:
    counts, titles = inbox.reviews_per_title(box), shown_titles(catalogue)
    listed = [item_id for item_id, n in counts.items() if n >= LEAST_REVIEWS and item_id in titles]
    choices = ["", *listed]
    item_id = st.selectbox(
        "Digest of",
        choices,
        format_func=lambda i: f"{titles[i]} ({counts[i]:,} reviews)" if i else "The whole service",
        key=f"digest-{data.name}",
        width=360,
    )
    with st.spinner("Reading them all …"):
        found = (
            _title(*_cache_key(data, box), item_id, data, box)
            if item_id
            else _service(*_cache_key(data, box), data, box)
        )
    _numbers(found)
    st.space("small")
    left, right = st.columns(2, gap="large")
    with left:
        page.section("What drives the share")
        _drivers(found["drivers"], found["reviews"])
        page.section("Share of positive over time")
        _course(found)
    with right:
        page.section("In their own words")
        st.html(quotes_html(found["quotes"]["for"], found["quotes"]["against"], titles if item_id is None else None))
        if item_id is None:
            page.section("Titles whose sentiment turned")
            _turned(found)


def _numbers(found: Mapping[str, Any]) -> None:
    n = found["reviews"]
    interval = f"95 % interval {100 * found['low']:.0f} to {100 * found['high']:.0f} %" if n else "no reviews"
    share = f"{100 * found['share']:.0f}" if n else "–"
    page.number_cards(
        [
            ("Share of positive", share, "%", f"{interval}; mean of the model's probabilities"),
            ("Reviews scored", f"{n:,}", "", "over all times"),
            ("Positive", f"{found['positive']:,}", "", _part(found["positive"], n)),
            ("Negative", f"{found['negative']:,}", "", f"{_part(found['negative'], n)}; mixed {found['neutral']:,}"),
        ]
    )


def _part(number: int, of: int) -> str:
    return f"{100 * number / of:.0f} % of {of:,}" if of else "of none"


def _drivers(rows: Sequence[Mapping[str, Any]], n: int) -> None:
    if not rows:
        page.notice("none", "The reviews speak of none of the aspects that are looked for.")
        return
    known = [row for row in rows if row["impact"] is not None]
    if not known:
        page.notice("none", f"{page.count(n, 'review')} are too few to tell what drives the share.")
        frame = pd.DataFrame(rows).rename(columns={"share": "p_positive"})
        st.html(aspect_bars(frame))
        return
    greatest = max(abs(row["impact"]) for row in known) or 1.0
    st.html(
        "".join(
            diverging_bar(
                str(row["aspect"]).capitalize(),
                row["impact"] / greatest,
                _points(row["impact"]),
                page.count(row["reviews"], "review"),
            )
            for row in known
        )
    )
    st.caption(
        "Points of the share of positive reviews that go with what is said of each aspect, all reviews together; what "
        "goes together is no cause."
    )


def _points(value: float) -> str:
    rounded = round(value, 1)
    return f"{rounded:+.1f} points".replace("-", "−") if rounded else "0.0 points"


def _course(found: Mapping[str, Any]) -> None:
    rows = found["over_time"]
    if found["period"] == "all" or len(rows) < 2:
        page.notice("none", found["note"] or "All reviews are of one period: there is no course over time.")
        return
    frame = pd.DataFrame(rows)
    frame = frame.assign(date=pd.to_datetime(frame["start"], utc=True).dt.tz_localize(None))
    chart = charts.share_chart(frame, period=found["period"], dark=page.dark())
    charts.show(chart, page.dark(), f"Share of positive reviews per {found['period']}", height=240)
    if found["note"]:
        st.caption(found["note"])


def _turned(found: Mapping[str, Any]) -> None:
    rows = found["turned"]
    if not rows:
        dated = found["period"] != "all"
        page.notice(
            "none",
            "No title's sentiment has turned for certain."
            if dated
            else "The reviews have no dates, so no title can be seen to turn.",
        )
        return
    for row in rows:
        kind, word = ("good", "turned up") if row["direction"] == "up" else ("bad", "turned down")
        title = row["title"] or "A title"
        since = page.when(pd.Timestamp(row["since"]))
        st.html(
            f"<p>{page.sign(kind, f'{title} {word}')}: from {100 * row['before']:.0f} to "
            f"{100 * row['after']:.0f} % positive since {html.escape(since)} "
            f"({row['reviews_before']} and {page.count(row['reviews_after'], 'review')}).</p>"
        )


def quotes_html(
    praise: Sequence[Mapping[str, Any]], blame: Sequence[Mapping[str, Any]], titles: Mapping[str, str] | None = None
) -> str:
    """HTML of quotes for and against; with names of titles each says which it is about."""
    titles, parts = titles or {}, []
    for kind, heading, none, rows in (
        ("good", "For", "No sentence is clearly for it yet.", praise),
        ("bad", "Against", "No sentence is clearly against it yet.", blame),
    ):
        parts.append(f'<p class="mq-side">{page.sign(kind, heading)}</p>')
        if not rows:
            parts.append(f'<p class="mq-muted mq-small">{none}</p>')
        for row in rows:
            about = [str(row["aspect"])] if row["aspect"] else []
            if row[ITEM_ID] in titles:
                about.append(titles[row[ITEM_ID]])
            foot = f'<footer class="mq-muted mq-small">on {html.escape(", ".join(about))}</footer>' if about else ""
            parts.append(f'<blockquote class="mq-quote">{html.escape(inbox.plain(row[TEXT]))}{foot}</blockquote>')
    return f'<div class="mq-quotes">{"".join(parts)}</div>'


# The title's page ----------------------------------------------------------------------------------------------------


@page.guarded
def what_people_say(data: Dataset, item_id: str) -> None:
    """Aspects as bars with counts, two quotes for and two against, and the way to the title's reviews."""
    st.subheader("What people say")
    box = inbox.inbox(data)
    mine = box.frame[(box.frame[ITEM_ID] == item_id).fillna(False)] if box is not None else pd.DataFrame()
    if box is None or mine.empty:
        written = store.table(data, "reviews")
        unread = 0 if written is None else int((written[ITEM_ID] == item_id).fillna(False).sum())
        if unread:
            page.notice("none", f"{page.count(unread, 'review')} of this title, none of them scored yet.")
        else:
            page.empty(
                "No review is linked to this title",
                "What reviews say of its story, its acting and more stands here once one of them names it.",
            )
        return
    share, n = mine["p_positive"].mean(), len(mine)
    st.html(
        f'<p class="mq-line"><span><b>{100 * share:.0f} % positive</b> over {page.count(n, "linked review")}</span></p>'
    )
    mentions = box.mentions[box.mentions["row"].isin(mine.index)]
    if mentions.empty:
        page.notice("none", "They speak of none of the aspects that are looked for.")
    else:
        st.html(aspect_bars(inbox.aspects_of(mentions)))
    found = _quotes(*_cache_key(data, box), item_id, box)
    for_it, against = (records(found[found["side"] == side]) for side in ("for", "against"))
    st.html(quotes_html(for_it, against))
    st.page_link(
        "views/reviews.py",
        label=f"Read {'the review' if n == 1 else f'all {n:,} reviews'} in the inbox",
        icon=":material/inbox:",
        query_params=page.address(title=item_id),
    )
