"""Scoring a dataset anew with the run in use, in the background: the command, the button, how far it is."""

import html
import sys

import streamlit as st

from dashboard import access, job_list
from dashboard.health import reviews_to_score, score_command
from dashboard.model_words import SCORED
from dashboard.road import score_arguments
from data import jobs, runs
from data.dataset import Dataset, open_dataset

KIND = "Score"


def running(name: str) -> jobs.Job | None:
    """A scoring of a dataset that runs now, if any."""
    return next((job for job in _of(name) if job.state == "running"), None)


def _of(name: str) -> list[jobs.Job]:
    """Scorings of a dataset, newest first."""
    locks = {jobs.model_lock(name, model) for model in runs.MODELS}
    return [job for job in jobs.list_jobs() if job.kind.startswith(f"{KIND} ") and job.lock in locks]


def start(name: str, model: str, place: str) -> None:
    """Score a dataset with its run in use, in the background, unless something trains or scores with that model; for a
    button's on_click. Why it was not started is kept for `job_list.say(place)`."""
    argv = [sys.executable, *score_arguments(name, model, reviews_to_score(open_dataset(name)))]
    job_list.begin(f"{KIND} {SCORED[model]} of {name}", argv, jobs.model_lock(name, model), place)


def offer(data: Dataset, model: str, place: str) -> None:
    """The command that scores anew, and a button that runs it; while it runs, how far it is.

    Args:
        place: tells several offers on a page apart.
    """
    job = running(data.name)
    if job is not None:
        job_list.follow(job.id, job_list.line)
        return
    st.html(f'<p class="mq-command"><code>{html.escape(score_command(data, model))}</code></p>')
    button(data, model, "Score now", place)


def button(data: Dataset, model: str, label: str, place: str) -> None:
    """A button that scores anew in the background."""
    key = f"score-{data.name}-{model}-{place}"
    access.button(label, key=key, icon=":material/play_arrow:", on_click=start, args=(data.name, model, key))
    job_list.say(key)


def told_failure(name: str) -> None:
    """Says how the last scoring of a dataset failed, if it did."""
    last = next(iter(_of(name)), None)
    if last is not None and last.state == "failed":
        job_list.told_ending(last, last.kind)
