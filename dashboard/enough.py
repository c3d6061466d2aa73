"""Whether a dataset is enough for each model: what is missing, how much more, and what to expect of it."""

import html
from pathlib import Path

import streamlit as st

from dashboard import page
from dashboard.model_words import NAMES
from data.dataset import Dataset, open_dataset
from data.readiness import MISSING, READY, Readiness, all_readiness

_WORDS = {READY: "Enough", MISSING: "Not enough"}


@st.cache_resource(max_entries=16, show_spinner=False)
def _counted(folder: str, fingerprint: str) -> list[Readiness]:
    return all_readiness(open_dataset(Path(folder).name))


def show(data: Dataset) -> None:
    """The four models with a sign each; what is missing unfolds."""
    found = _counted(str(data.folder), data.fingerprint)
    with st.expander(f"Enough to learn from? {_summary(found)}", icon=":material/fact_check:"):
        st.html(f'<ul class="mq-list">{"".join(map(_model, found))}</ul>')
        st.html(
            '<p class="mq-small mq-muted">The same on the command line:</p>'
            f'<p class="mq-command"><code>python -m data ready {html.escape(data.name)}</code></p>'
        )


def _summary(found: list[Readiness]) -> str:
    """ "Yes for three models, with little for retention, no for sentiment"."""
    said = []
    for state, words in ((READY, "Yes for"), ("thin", "thin for"), (MISSING, "no for")):
        names = [NAMES[one.model].lower() for one in found if one.state == state]
        if names:
            said.append(f"{words} {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}")
    text = ", ".join(said)
    return page.plain(f"{text[:1].upper()}{text[1:]}")


def _model(one: Readiness) -> str:
    kind = "none" if one.ruled_out else {READY: "good", MISSING: "bad"}.get(one.state, "warn")
    words = "Does not apply" if one.ruled_out else _WORDS.get(one.state, "Thin")
    told = "".join(f"<p class='mq-small mq-muted'>{html.escape(text)}</p>" for text in one.told)
    there = ", ".join(f"{check.have:,.0f} {check.what}" for check in one.checks)
    counted = f"<p class='mq-small'>{html.escape(f'{there[:1].upper()}{there[1:]}')}</p>" if there else ""
    return f'<li><p class="mq-line"><b>{NAMES[one.model]}</b>{page.sign(kind, words)}</p>{counted}{told}</li>'
