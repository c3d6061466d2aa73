"""Data and batch: what is loaded, own files and public datasets, training and scoring by hand; background jobs."""

import streamlit as st

from dashboard import access, batch, dataset_cards, fetching, importing, job_list, page


def render() -> None:
    data = page.header("Data and batch", "What is loaded, how to get more, and what is trained and scored")
    job_list.say()
    loaded, own, fetch, work = st.tabs(
        ["Datasets", "Import your own", "Fetch a public one", "Train and score"], key="data-tab"
    )
    # Each by itself: a mistake in one must not hide the others.
    with loaded:
        page.guarded(dataset_cards.show)()
    with own:
        page.guarded(importing.show)()
    with fetch:
        page.guarded(fetching.show)()
    with work:
        page.guarded(batch.show)(data)
    st.space("medium")
    job_list.show()
    access.say_open()


page.guarded(render)()
