"""With nothing trained yet: say so, offer to prepare the demo, and show how far it is."""

import html
import os
import sys

import streamlit as st

from dashboard import page, store
from dashboard.road import ROOT, SCORE_COMMAND, SCORE_TABLE, applicable
from data import jobs, runs
from data.dataset import Dataset
from data.errors import UserError

KIND = "Prepare"
_WORK = {
    "recommender": "recommendations",
    "sentiment": "review sentiment",
    "engagement": "the engagement forecast",
    "retention": "the chance that each member comes back",
}


def preparing() -> jobs.Job | None:
    """The preparation that runs now, if any."""
    return next((job for job in jobs.list_jobs() if job.state == "running" and job.kind.startswith(KIND)), None)


def start_preparing(name: str) -> None:
    """Start the demo's road for a dataset in the background; it takes turns with jobs on the same tables or model.

    Raises:
        UserError: it runs already.
    """
    argv = [sys.executable, "-m", "dashboard.prepare", "--dataset", name]
    jobs.start(f"{KIND} {name}", argv, lock=f"prepare-{name}", cwd=ROOT)


def offer(data: Dataset | None) -> None:
    """The first thing a newcomer sees: what is missing, and the button that mends it. Nothing when all is there."""
    running = preparing()
    if running is not None:
        _follow(running.id, "all")
        return
    if data is None:
        page.empty(
            "Welcome to Marquee",
            "Nothing is loaded yet. The demo fetches MovieLens 100K (943 members, 1,682 films) and public film "
            "reviews, trains the recommender, the sentiment model and the two engagement models, and scores "
            "everything. On two processor cores that takes about ten minutes; you can watch it here or close "
            "the page meanwhile.",
        )
        button(os.environ.get("MARQUEE_DATASET") or "demo", "Prepare the demo")
        return
    missing = missing_models(data)
    if not missing:
        return
    nothing = not any(store.trained(data.name)[model] for model in missing) and missing == applicable(data)
    page.empty(
        "Nothing is trained yet" if nothing else "Not everything is prepared yet",
        f"Still missing on dataset '{data.name}': {_list([_WORK[model] for model in missing])}. "
        "It can be trained and scored here, in the background; finished steps are not repeated.",
    )
    button(data.name, "Prepare the demo" if data.name == "demo" else f"Train and score {data.name}")


def missing_models(data: Dataset) -> list[str]:
    """Models that apply to the dataset and whose scores are not there."""
    return [m for m in applicable(data) if store.scored_at(data.name, SCORE_TABLE[m]) is None]


def offer_model(data: Dataset, model: str) -> None:
    """On a page whose one model is missing: what will be here, and the way to get it."""
    running = preparing()
    if running is not None:
        _follow(running.id, model)
        return
    trained = store.trained(data.name)[model]
    page.empty(
        f"{_WORK[model][0].upper()}{_WORK[model][1:]} will be here",
        "The model is trained, its scores are not written yet."
        if trained
        else "No model is trained for this on the dataset yet.",
        f"python score.py {SCORE_COMMAND[model]} --dataset {data.name}"
        if trained
        else runs.fit_command(data.name, model),
    )
    button(data.name, "Train and score now" if not trained else "Score now", model)


def button(name: str, label: str, place: str = "all") -> None:
    """A button that takes the demo's road for a dataset in the background, and how its last walk ended if badly."""
    st.space("small")
    if st.button(label, type="primary", key=f"prepare-{name}-{place}"):
        try:
            start_preparing(name)
        except UserError as mistake:
            page.notice("warn", str(mistake))
        else:
            st.rerun()
    last = next((job for job in jobs.list_jobs() if job.kind.startswith(KIND)), None)
    if last is not None and last.state in ("failed", "cancelled"):
        # The step's own words stand before the road's closing sentence.
        said = [line.strip().removeprefix("error: ") for line in jobs.tail(last, 40) if "error:" in line]
        how = "failed" if last.state == "failed" else "was cancelled"
        page.notice("warn", f"The last preparation {how}. {said[0] if said else ''} Finished steps are kept.")
        with st.expander("Its last words"):
            st.html(f'<pre class="mq-log">{html.escape(chr(10).join(jobs.tail(last, 20)))}</pre>')


@st.fragment(run_every=1.0)
@page.guarded
def _follow(job_id: str, place: str) -> None:
    job = jobs.get_job(job_id)
    if job is None or job.state != "running":
        st.rerun()
        return
    share = jobs.progress(job) or 0.0
    lines = [line for line in jobs.tail(job, 60) if line.lstrip().startswith("[")]
    now = lines[-1] if lines else "Starting"
    with st.container(border=True):
        st.html(
            f'<h3 style="margin:0 0 4px;padding:0;font-size:1.25rem">{html.escape(job.kind)}: '
            f"{round(share * 100)} % done</h3>"
            f'<p class="mq-muted" style="margin:0">{html.escape(now)} · {page.duration(job.seconds)} so far</p>'
        )
        st.progress(share)
        with st.expander("What it does"):
            st.html(f'<pre class="mq-log">{html.escape(chr(10).join(jobs.tail(job, 14)))}</pre>')
        if st.button("Cancel", key=f"cancel-{job_id}-{place}"):
            jobs.cancel(job_id)
            page.toast("The preparation ends after its current step is stopped.")


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
