"""Scoring a dataset anew with the run in use, in the background: the command, the button, how far it is."""

import html
import sys

import streamlit as st

from dashboard import page
from dashboard.health import reviews_to_score, score_command
from dashboard.road import ROOT, score_arguments
from data import jobs
from data.dataset import Dataset
from data.errors import UserError

KIND = "Score"
WORK = {
    "recommender": "recommendations",
    "sentiment": "reviews",
    "engagement": "the forecast",
    "retention": "retention",
}


def running(name: str) -> jobs.Job | None:
    """The scoring of a dataset that runs now, if any."""
    return next((job for job in _of(name) if job.state == "running"), None)


def _of(name: str) -> list[jobs.Job]:
    """Scorings of a dataset, newest first."""
    return [job for job in jobs.list_jobs() if job.kind.startswith(KIND) and job.lock == f"prepare-{name}"]


def start(data: Dataset, model: str) -> jobs.Job:
    """Score a dataset with its run in use, in the background.

    Raises:
        UserError: the dataset is being prepared or scored already.
    """
    script, *arguments = score_arguments(data.name, model, reviews_to_score(data))
    argv = [sys.executable, str(ROOT / script), *arguments]
    return jobs.start(f"{KIND} {WORK[model]} of {data.name}", argv, lock=f"prepare-{data.name}")


def offer(data: Dataset, model: str, place: str) -> None:
    """The command that scores anew, and a button that runs it; while it runs, how far it is.

    Args:
        place: tells several offers on a page apart.
    """
    job = running(data.name)
    if job is not None:
        follow(job.id)
        return
    st.html(f'<p class="mq-command"><code>{html.escape(score_command(data, model))}</code></p>')
    button(data, model, "Score now", place)


def button(data: Dataset, model: str, label: str, place: str) -> None:
    """A button that scores anew in the background."""
    if st.button(label, key=f"score-{data.name}-{model}-{place}", icon=":material/play_arrow:"):
        try:
            start(data, model)
        except UserError as mistake:
            page.notice("warn", str(mistake))
        else:
            st.rerun()


@st.fragment(run_every=2.0)
@page.guarded
def follow(job_id: str) -> None:
    """A line on a running job that renews itself; when the job has ended, the page is drawn anew."""
    job = jobs.get_job(job_id)
    if job is None or job.state != "running":
        st.rerun()
        return
    said = jobs.tail(job, 1)
    now = said[0] if said else "Starting"
    st.html(
        f'<p role="status"><b>{html.escape(job.kind)}</b>, {page.duration(job.seconds)} so far'
        f'<br><span class="mq-muted mq-small">{html.escape(now[:120])}</span></p>'
    )


def last_failure(name: str) -> str:
    """What the last scoring of a dataset said if it failed; empty otherwise."""
    last = next(iter(_of(name)), None)
    if last is None or last.state != "failed":
        return ""
    said = next((line for line in reversed(jobs.tail(last, 12)) if line.startswith("error:")), "")
    return f"{last.kind} failed. {said.removeprefix('error: ')}".strip()
