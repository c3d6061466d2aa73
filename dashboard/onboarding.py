"""With nothing trained yet: say so, offer to prepare the demo, and show how far it is."""

import os
import sys
from functools import partial

import streamlit as st

from dashboard import access, job_list, page, store
from dashboard.model_words import BRINGS
from dashboard.road import SCORE_COMMAND, SCORE_TABLE, applicable
from data import jobs, runs
from data.dataset import Dataset

KIND = "Prepare"


def preparing() -> jobs.Job | None:
    """The preparation that runs now, if any."""
    return next((job for job in jobs.list_jobs() if job.state == "running" and job.kind.startswith(KIND)), None)


def start_preparing(name: str, place: str) -> None:
    """Start the demo's road for a dataset in the background, for a button's on_click; it takes turns with jobs on the
    same tables or model. Why it was not started is kept for `job_list.say(place)`."""
    argv = [sys.executable, "-m", "dashboard.prepare", "--dataset", name]
    job_list.begin(f"{KIND} {name}", argv, f"prepare-{name}", place)


def offer(data: Dataset | None) -> None:
    """The first thing a newcomer sees: what is missing, and the button that mends it. Nothing when all is there."""
    running = preparing()
    if running is not None:
        job_list.follow(running.id, partial(_card, place="all"))
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
        f"Still missing on dataset '{data.name}': {_list([BRINGS[model] for model in missing])}. "
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
        job_list.follow(running.id, partial(_card, place=model))
        return
    trained = store.trained(data.name)[model]
    page.empty(
        f"{BRINGS[model][0].upper()}{BRINGS[model][1:]} will be here",
        "The model is trained, its scores are not written yet."
        if trained
        else "The model was trained, but its weights are gone: it has to be trained again."
        if runs.told_of_lost(data.name, model)
        else "No model is trained for this on the dataset yet.",
        f"python score.py {SCORE_COMMAND[model]} --dataset {data.name}"
        if trained
        else runs.fit_command(data.name, model),
    )
    button(data.name, "Train and score now" if not trained else "Score now", model)


def button(name: str, label: str, place: str = "all") -> None:
    """A button that takes the demo's road for a dataset in the background, and how its last walk ended if badly."""
    st.space("small")
    key = f"prepare-{name}-{place}"
    access.button(label, type="primary", key=key, on_click=start_preparing, args=(name, key))
    access.viewer_told("train and score")
    job_list.say(key)
    last = next((job for job in jobs.list_jobs() if job.kind.startswith(KIND)), None)
    if job_list.told_ending(last, "The last preparation", "Finished steps are kept.") and last is not None:
        job_list.log(last, "Its last words", 20)


def _card(job: jobs.Job, place: str) -> None:
    share = jobs.progress(job) or 0.0
    lines = [line for line in jobs.tail(job, 60) if line.lstrip().startswith("[")]
    job_list.card(job, f"{job.kind}: {round(share * 100)} % done", lines[-1] if lines else "Starting", share, place)


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
