"""The part of the Experiments page on variety: what each step of the slider costs and brings, and lists to look at."""

import html
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, artwork, charts, job_list, members, page, store
from dashboard.ab_words import percent, signed
from dashboard.posters import poster, poster_html
from dashboard.trade_off import by_variety
from data import home, jobs, runs
from data.dataset import Dataset
from data.schema import GENRES
from recsys.viewing import title_of

_log = logging.getLogger("dashboard")
KIND = "Measure variety of"
LENGTH = 10
POSTER_WIDTH = 104
START = 0.3


def command(name: str) -> str:
    return f"python -m recsys evaluate --data.dataset {name} --variety"


def measured(name: str) -> dict[str, Any] | None:
    """The newest kept result of `evaluate --variety` on a dataset; None before there is one."""
    found = []
    for path in home.evaluations(name, "recommender").glob("*.json"):
        try:
            result = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):  # being replaced, or damaged: it is measured again then
            continue
        if isinstance(result, dict) and result.get("measure") == "variety" and result.get("steps"):
            found.append(result)
    return max(found, key=lambda result: str(result.get("created_at")), default=None)


def draw(data: Dataset) -> None:
    """The whole part."""
    job, result = job_list.newest(f"{KIND} {data.name}"), measured(data.name)
    if job is not None and job.state == "running":
        job_list.follow(job.id, _card)
    elif result is None:
        _nothing_measured(data)
    elif result.get("fingerprint") != data.fingerprint:
        page.notice("warn", f"Dataset '{data.name}' has changed since this was measured.")
        _button(data, "Measure again")
    if result is not None:
        _slider(data, result)
    elif data.has("interactions"):
        step = st.slider("Variety", 0.0, 1.0, START, 0.05, key=f"variety-plain-{data.name}")
        _lists(data, step)


def _nothing_measured(data: Dataset) -> None:
    missing = "interactions to learn from" if not data.has("interactions") else ""
    if not missing and not store.catalogue(data)[GENRES].map(len).any():
        missing = "genres, and the slider tells titles apart by nothing else"
    if missing:
        page.empty("Variety cannot be measured here", f"Dataset '{data.name}' has no {missing}.")
        return
    page.empty(
        "What variety costs will be shown here",
        "A recommender is trained on everything but each member's last titles, its lists are re-ranked at every step "
        "of the slider, and it is counted how often the title that came next is still on them. The recommender in use "
        "cannot be asked: it has seen those titles. That takes about a minute on the demo.",
        command(data.name),
    )
    _button(data, "Measure now")


def _button(data: Dataset, label: str) -> None:
    st.space("small")
    access.button(label, type="primary", key=f"measure-variety-{data.name}", on_click=_start, args=(data.name,))
    access.viewer_told("measure")
    job_list.say("variety")
    job_list.told_ending(job_list.newest(f"{KIND} {data.name}"), "The last measurement")


def _start(name: str) -> None:
    argv = [sys.executable, "-m", "recsys", "evaluate", "--data.dataset", name, "--variety"]
    job_list.begin(f"{KIND} {name}", argv, f"variety-{name}", "variety")


def _card(job: jobs.Job) -> None:
    job_list.card(job, "Measuring what variety costs", "A recommender is trained for it")


# What was measured ---------------------------------------------------------------------------------------------------


@st.fragment
@page.guarded
def _slider(data: Dataset, result: dict[str, Any]) -> None:
    steps = [float(step) for step in result["steps"]]
    start = min(steps, key=lambda step: abs(step - START))
    step = float(
        st.select_slider(
            "Variety", steps, value=start, format_func=lambda value: f"{value:g}", key=f"variety-{data.name}"
        )
    )
    kind, sentence = in_words(result, step)
    st.html(
        f"<div class='mq-verdict mq-{kind}' role='status'><h2>{html.escape(sentence)}</h2>"
        f"<p>{html.escape(rests_on(result, step))}</p></div>"
    )
    page.number_cards(_numbers(result, step))
    st.space("small")
    frame = _frame(result)
    left, right = st.columns(2, gap="large")
    for column, names, title in (
        (left, ("NDCG@10", "HR@10"), "Accuracy by variety"),
        (right, ("Diversity@10", "Coverage@10"), "Diversity and coverage by variety"),
    ):
        with column:
            chart = by_variety(frame[frame["metric"].isin(names)], names, step, title=title, dark=page.dark())
            charts.show(chart, page.dark(), title, height=260)
    split = result.get("split") or {}
    st.caption(
        page.plain(
            f"Measured {str(result.get('created_at', ''))[:10]} by the protocol {split.get('protocol', 'unknown')} on "
            f"{(split.get('members') or {}).get('test', 0):,} members, with a recommender trained for it. Lists of "
            f"{LENGTH} titles. Diversity: mean share of genres in which two titles of a list differ. Coverage: share "
            "of the catalogue that is on any list."
        )
    )
    _lists(data, step)


def _row(result: Mapping[str, Any], step: float) -> dict[str, float]:
    return result["metrics"]["test"][f"variety {step:g}"]


def in_words(result: Mapping[str, Any], step: float) -> tuple[str, str]:
    """What a step costs and brings, and how that looks (good, warn, none)."""
    if step == 0:
        return "none", "Variety 0: the most likely titles, in order."
    now, before = _row(result, step), _row(result, 0.0)
    difference, low, high = result["paired"][f"variety {step:g}"]["ndcg@10"]
    apart = (now["diversity@10"] - before["diversity@10"]) / before["diversity@10"]
    lists = f"lists {percent(apart, 0)} more different" if apart >= 0.005 else "lists no more different"
    share = percent(abs(difference) / before["ndcg@10"])
    if high < 0:
        return "warn", f"Variety {step:g}: {share} less accurate, {lists}."
    if low > 0:
        return "good", f"Variety {step:g}: {share} more accurate, {lists}."
    word = "less" if difference < 0 else "more"
    return "good", f"Variety {step:g}: {share} {word} accurate (not told apart), {lists}."


def rests_on(result: Mapping[str, Any], step: float) -> str:
    """The paired difference behind `in_words`."""
    before = _row(result, 0.0)["ndcg@10"]
    if step == 0:
        return f"NDCG@10 {before:.3f}. Move the slider to see what it costs to make lists differ."
    value, low, high = result["paired"][f"variety {step:g}"]["ndcg@10"]
    return (
        f"NDCG@10 {_row(result, step)['ndcg@10']:.3f} instead of {before:.3f}: {signed(100 * value / before, 1)}\u00a0%"
        f", 95\u00a0% interval {signed(100 * low / before, 1)} to {signed(100 * high / before, 1)}\u00a0%, each member "
        "compared with the same member at variety 0."
    )


def _numbers(result: Mapping[str, Any], step: float) -> list[tuple[str, str, str, str]]:
    now, before = _row(result, step), _row(result, 0.0)

    def against(name: str, digits: int) -> str:
        return "at variety 0" if step == 0 else f"{before[name]:.{digits}f} at variety 0"

    return [
        ("NDCG@10", f"{now['ndcg@10']:.3f}", f"± {now['ndcg@10 ±']:.3f}", against("ndcg@10", 3)),
        ("HR@10", f"{now['hr@10']:.3f}", f"± {now['hr@10 ±']:.3f}", against("hr@10", 3)),
        ("Diversity of a list", f"{now['diversity@10']:.2f}", "of 1", against("diversity@10", 2)),
        (
            "Coverage of the catalogue",
            percent(now["coverage@10"], 0),
            "",
            "at variety 0" if step == 0 else f"{percent(before['coverage@10'], 0)} at variety 0",
        ),
    ]


def _frame(result: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for step in map(float, result["steps"]):
        row = _row(result, step)
        for name, label in (("ndcg@10", "NDCG@10"), ("hr@10", "HR@10"), ("diversity@10", "Diversity@10"),
                            ("coverage@10", "Coverage@10")):  # fmt: skip
            half = row.get(f"{name} ±") or 0.0
            rows.append({"variety": step, "metric": label, "value": row[name], "low": row[name] - half,
                         "high": row[name] + half})  # fmt: skip
    return pd.DataFrame(rows)


# Lists to look at ----------------------------------------------------------------------------------------------------


@page.guarded
def _lists(data: Dataset, step: float) -> None:
    """A member's lists by the recommender in use, with and without variety."""
    st.header("What a member would see")
    live, seen = store.live(data.name, "recommender"), store.viewing(data)
    if live is None or seen is None:
        page.empty(
            "No recommender yet",
            "Once one is trained, a member's list at this variety stands here beside the plain one.",
            runs.fit_command(data.name, "recommender"),
        )
        return
    options = members.members(seen)
    now = members.chosen_member(data, seen)
    if now is not None and now not in options:
        options = [now, *options]
    member = st.selectbox(
        "Member",
        options,
        index=options.index(now) if now is not None else None,
        format_func=lambda user_id: store.member_label(data, user_id),
        key=f"variety-member-{data.name}",
    )
    if member is None:
        return
    try:
        with st.spinner("Loading the recommender …" if not live.ready else "Ranking …"):
            recommender = live.future.result()
    except Exception:
        _log.exception("The recommender could not be loaded for the variety lists")
        store.forget_failed(live)
        page.notice("warn", "The recommender in use cannot be loaded now; the server's log says why.")
        return
    plain = list(recommender.recommend([member], k=LENGTH)["item_id"])
    varied = plain if step == 0 else list(recommender.recommend([member], k=LENGTH, variety=step)["item_id"])
    catalogue = store.catalogue(data)
    if step > 0:
        others = sum(item not in plain for item in varied)
        moved = f"{page.count(others, 'title')} of {len(varied)} not on the plain list" if others else (
            "the same titles in another order" if varied != plain else "the same list"
        )  # fmt: skip
        st.html(f"<p><b>Variety {step:g}</b> <span class='mq-muted'>· {html.escape(moved)}</span></p>")
        st.html(_posters(catalogue, varied, plain))
    st.html("<p><b>Variety 0</b> <span class='mq-muted'>· the most likely titles</span></p>")
    st.html(_posters(catalogue, plain, plain))
    artwork.late(catalogue, [*varied, *plain], key=f"late-variety-{data.name}")


def _posters(catalogue: pd.DataFrame, items: list[str], plain: list[str]) -> str:
    figures, real = [], artwork.addresses(catalogue, items)
    for item in items:
        if item not in catalogue.index:
            continue
        title = title_of(catalogue, item)
        drawn = poster_html(poster(title.shown, title.year, title.genres), POSTER_WIDTH, artwork.over(real, item))
        mark = "" if item in plain else page.sign("good", "Only here")
        figures.append(f"<figure>{drawn}<figcaption>{mark}</figcaption></figure>")
    return f"<div class='mq-rank-list'>{''.join(figures)}</div>"
