"""Public datasets that can be fetched: what each is, its licence, whom to cite, and the button."""

import sys

import streamlit as st

from dashboard import access, job_list, page
from data import catalogue, jobs
from data.dataset import list_datasets


def show() -> None:
    entries = [entry for entry in catalogue.entries() if entry.is_dataset]
    there = list_datasets()
    entry = st.selectbox(
        "Dataset",
        entries,
        format_func=lambda e: e.title + (" (on disk)" if e.name in there else ""),
        key="fetch-entry",
    )
    page.facts(
        [
            ("Name", entry.name),
            ("Licence", entry.licence),
            ("Please cite", entry.citation),
            ("Made of", ", ".join(entry.parts)),
            ("Note", entry.wheel_note),
        ]
    )
    st.caption(
        "Tried in this order: a file at hand, the publisher's address, the package index. What came, from where and "
        "with which checksum is kept with the dataset."
    )
    again = entry.name in there
    sure = not again or st.checkbox(
        f"Replace what is on disk as '{page.plain(entry.name)}'; runs, scores and what members did stay.",
        key=f"fetch-again-{entry.name}",
    )
    access.viewer_told("fetch datasets")
    access.button(
        "Fetch it again" if again else "Fetch it",
        type="primary",
        key="fetch-button",
        disabled=not sure,
        on_click=job_list.start,
        args=(
            f"fetch {entry.name}",
            [sys.executable, "-m", "data", "fetch", entry.name, *(["--replace"] if again else [])],
            jobs.data_lock(entry.name),
        ),
    )
