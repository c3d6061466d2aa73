"""The dashboard's front door: `streamlit run dashboard`. Pages are the files in views/.

The server imports this file once, as `streamlit_app`, and finds the `app`; for each visitor Streamlit runs it as
`__main__`, and it draws.
"""

from pathlib import Path

import streamlit as st

from dashboard import access, skeleton

FOLDER = Path(__file__).parent


def draw() -> None:
    st.set_page_config(page_title="Marquee", page_icon=str(FOLDER / "static" / "favicon.png"), layout="wide")
    # A style alone is put with the toasts, and the first toast of a fragment would take it away.
    style = "".join((FOLDER / name).read_text("utf-8") for name in ("style.css", "skeleton.css"))
    st.html(f"<style>{style}</style><span hidden></span>")
    access.warn_once()
    is_admitted = access.is_admitted()

    pages = [
        st.Page("views/home.py", title="Home", default=True),
        st.Page("views/title.py", title="Title", url_path="title", visibility="hidden"),
        st.Page("views/today.py", title="Today", url_path="today"),
        st.Page("views/reviews.py", title="Reviews", url_path="reviews"),
        st.Page("views/engagement.py", title="Engagement", url_path="engagement"),
        st.Page("views/winback.py", title="Win-back", url_path="win-back"),
        st.Page("views/experiments.py", title="Experiments", url_path="experiments"),
        st.Page("views/models.py", title="Models", url_path="models"),
        st.Page("views/datasets.py", title="Data", url_path="data"),
    ]
    chosen = st.navigation(pages, position="top" if is_admitted else "hidden")
    if not is_admitted:
        access.door()
        return
    st.logo(str(FOLDER / "static" / "logo.svg"), size="medium")
    access.go_back(pages, chosen)
    access.account()
    st.html(skeleton.page_bones(chosen.url_path, f"Loading {chosen.title} …"))
    chosen.run()


if __name__ == "__main__":
    draw()
else:
    from starlette.middleware import Middleware

    from dashboard.first_paint import FirstPaint
    from dashboard.upload_gate import UploadGate
    from dashboard.warm import warmed

    app = st.App(__file__, lifespan=warmed, middleware=[Middleware(FirstPaint), Middleware(UploadGate)])
