"""Experiments: what another order would have brought, by the clicks that there were, and what variety costs."""

import streamlit as st

from dashboard import ab, onboarding, page, slider

PARTS = {"clicks": "A/B from clicks", "variety": "Variety"}


def render() -> None:
    data = page.header("Experiments", "What another order would have brought, and what variety costs")
    if data is None:
        onboarding.offer(None)
        return
    part = st.segmented_control(
        "Experiment",
        list(PARTS),
        default="clicks",
        required=True,
        format_func=PARTS.__getitem__,
        key=f"experiment-{data.name}",
        label_visibility="collapsed",
    )
    if part == "variety":
        slider.draw(data)
    else:
        ab.draw(data)


page.guarded(render)()
