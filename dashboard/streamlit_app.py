"""The dashboard's front door: `streamlit run dashboard`. Pages are the files in views/."""

from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).parent

st.set_page_config(page_title="Marquee", page_icon=str(FOLDER / "static" / "favicon.png"), layout="wide")
# A style alone is put with the toasts, and the first toast of a fragment would take it away.
style, script = ((FOLDER / name).read_text("utf-8") for name in ("style.css", "menu.js"))
st.html(f"<style>{style}</style><script>{script}</script><span hidden></span>", unsafe_allow_javascript=True)
st.logo(str(FOLDER / "static" / "logo.svg"), size="medium")

st.navigation(
    [
        st.Page("views/home.py", title="Home", default=True),
        st.Page("views/title.py", title="Title", url_path="title", visibility="hidden"),
        st.Page("views/today.py", title="Today", url_path="today"),
        st.Page("views/reviews.py", title="Reviews", url_path="reviews"),
        st.Page("views/engagement.py", title="Engagement", url_path="engagement"),
        st.Page("views/winback.py", title="Win-back", url_path="win-back"),
        st.Page("views/experiments.py", title="Experiments", url_path="experiments"),
        st.Page("views/models.py", title="Models", url_path="models"),
        st.Page("views/datasets.py", title="Data", url_path="data"),
    ],
    position="top",
).run()
