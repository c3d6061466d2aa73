"""Forgetting a member of a dataset: in two steps, the second of which says what will be gone."""

import sys

import streamlit as st

from dashboard import access, job_list, page
from data import jobs, runs
from data.dataset import Dataset
from data.feedback import runs_with
from data.traces import traces


def button(data: Dataset) -> None:
    access.button(
        "Forget a member",
        key=f"forget-{data.name}",
        icon=":material/person_remove:",
        disabled=not (data.has("interactions") or data.has("users") or data.has("reviews")),
        on_click=_open,
        args=(data.name,),
    )


def panel(data: Dataset) -> None:
    """The two steps, under the card's buttons; nothing unless they were asked for."""
    if st.session_state.get("forgetting") != data.name or not access.may_edit():
        return
    with st.container(border=True):
        user = st.session_state.get("forgetting-user")
        if user is None:
            _ask(data)
        else:
            _confirm(data, user)


def _ask(data: Dataset) -> None:
    st.html(
        "<strong>Forget a member</strong>"
        '<p class="mq-muted" style="margin:4px 0 0">All that this dataset holds of one member goes for good: rows of '
        "interactions, users and reviews, rejected rows, scores, and what the member did in the dashboard with the "
        "replies to their reviews. Copies that you have downloaded stay.</p>"
    )
    st.text_input("The member's id", key="forgetting-id", placeholder="196", max_chars=1000)
    if sentence := st.session_state.pop("forgetting-said", None):
        page.notice("warn", sentence)
    with st.container(horizontal=True):
        st.button("Show what would go", key="forgetting-next", on_click=_next)
        st.button("Cancel", key="forgetting-cancel", on_click=_close)


def _confirm(data: Dataset, user: str) -> None:
    found = traces(data, user)
    if not found:
        st.session_state["forgetting-said"] = f"Dataset '{data.name}' holds nothing of a member '{user}'."
        st.session_state.pop("forgetting-user")
        _ask(data)
        return
    page.notice("warn", f"Member '{user}' is about to be removed from dataset '{data.name}'. This cannot be undone.")
    page.facts([*((place[0].upper() + place[1:], f"{rows:,}") for place, rows in found.items()),
                ("Besides", "their rows in the scores and among the rejected rows")])  # fmt: skip
    trained = runs_with(data.name)
    again = False
    if trained:
        models = sorted({run.parent.name for run in trained})
        st.caption(
            f"What was trained knows this member until it is trained again: {page.count(len(trained), 'run')} "
            f"({', '.join(models)})."
        )
        again = st.checkbox(
            "Train the models in use again, and delete all runs before (takes minutes)", key="forgetting-fit"
        )
    with st.container(horizontal=True):
        access.button(
            "Forget this member for good", type="primary", key="forgetting-go", on_click=_go, args=(data, user, again)
        )
        st.button("Keep the member", key="forgetting-keep", on_click=_close)


def argv(name: str, fit: bool) -> list[str]:
    """The command, which reads the member's id: what is kept of a job must not say who was forgotten."""
    return [sys.executable, "-m", "data", "forget", "--stdin", "--dataset", name, *(["--fit"] if fit else [])]


def _open(name: str) -> None:
    _close()
    st.session_state["forgetting"] = name


def _close() -> None:
    for key in ("forgetting", "forgetting-user", "forgetting-id", "forgetting-said", "forgetting-fit"):
        st.session_state.pop(key, None)


def _next() -> None:
    user = str(st.session_state.get("forgetting-id") or "").strip()
    if user:
        st.session_state["forgetting-user"] = user
    else:
        st.session_state["forgetting-said"] = "Give the member's id, as it stands in the tables."


def _go(data: Dataset, user: str, fit: bool) -> None:
    busy = [model for model in runs.MODELS if runs.is_training(data.name, model)] if fit else []
    if busy:
        job_list.refuse(f"The {busy[0]} is being trained now: wait for its end before it is trained again.")
        return
    kind = f"forget a member of {data.name}"
    if job_list.begin(kind, argv(data.name, fit), jobs.data_lock(data.name), stdin=user):
        _close()
