"""Train and score, by hand: each model of a dataset with its state, and the jobs that train it and score with it."""

import html
import sys
from pathlib import Path

import streamlit as st

from dashboard import access, job_list, onboarding, page, scoring, store
from dashboard.health import scores_of
from dashboard.model_words import NAMES, QUESTIONS
from dashboard.road import ROOT, applicable, fit_refusal, refusal, serving_run
from data import jobs, runs
from data.dataset import Dataset
from data.errors import UserError


def configs(model: str) -> list[str]:
    """The configuration files that a model can be trained by, the quick one first."""
    found = sorted((ROOT / runs.PACKAGE[model] / "configs").glob("*.yaml"))
    shared = {m for m, package in runs.PACKAGE.items() if package == runs.PACKAGE[model]}
    mine = [path for path in found if len(shared) == 1 or path.name.startswith(f"{model}-")]
    names = [str(path.relative_to(ROOT)) for path in mine]
    return sorted(names, key=lambda name: name != runs.QUICK_CONFIG[model])


def about(config: str) -> str:
    """What a configuration file says of itself in its first line."""
    first = (ROOT / config).read_text("utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def show(data: Dataset | None) -> None:
    if data is None:
        page.empty("Nothing to train on yet", "Fetch a public dataset or import your own; its models are listed here.")
        return
    st.html(
        f'<p class="mq-muted" style="margin:0">What dataset <strong>{html.escape(data.name)}</strong> was taught, and '
        "what was scored with it. Each is a job of its own, which goes on when this page is closed; one at a time for "
        "each model.</p>"
    )
    _rows(data.name)


@st.fragment(run_every=2.0)
@page.guarded
def _rows(name: str) -> None:
    data = store.dataset(name)
    job_list.say("batch")
    access.viewer_told("train and score")
    if onboarding.preparing() is not None:
        page.notice("none", "A preparation runs: it trains and scores what is missing, and takes turns with jobs here.")
    can = applicable(data)
    for model in runs.MODELS:
        with st.container(border=True):
            if model in can:
                _row(data, model)
            else:
                _left_out(data, model)


def _heading(model: str, sign: str) -> str:
    return (
        '<div style="display:flex;gap:4px 16px;flex-wrap:wrap;align-items:baseline">'
        f'<strong style="font-size:1.0625rem">{NAMES[model]}</strong>{sign}'
        f'<span class="mq-muted">{QUESTIONS[model]}</span></div>'
    )


def _left_out(data: Dataset, model: str) -> None:
    st.html(_heading(model, page.sign("none", "Does not apply")))
    why = refusal(data, model) or fit_refusal(data, model)
    st.caption(f"{why[:1].upper()}{page.plain(why[1:])}.")


def _row(data: Dataset, model: str) -> None:
    lock = jobs.model_lock(data.name, model)
    job = job_list.running(lock)
    elsewhere = job is None and runs.is_training(data.name, model)
    run = serving_run(data.name, model)
    kind, words, trained = trained_state(data, model, run)
    scored = " · ".join(filter(None, scores_of(data, model, run)))
    if job is not None or elsewhere:
        kind, words = "warn", "Running"
    left, right = st.columns([3, 2], gap="medium", vertical_alignment="center")
    with left:
        st.html(_heading(model, page.sign(kind, words)))
        page.facts([("Trained", trained), ("Scores", scored)])
    with right:
        _buttons(data, model, lock, busy=job is not None or elsewhere, has_run=run is not None)
    if job is not None:
        st.caption(page.plain(job.kind[0].upper() + job.kind[1:]))
        job_list.progress(job)
        with st.container(horizontal=True):
            job_list.cancel_button(job, "batch")
        job_list.log(job)
    elif elsewhere:
        st.caption("It is being trained by a command that was not started here.")


def _buttons(data: Dataset, model: str, lock: str, *, busy: bool, has_run: bool) -> None:
    why_not = fit_refusal(data, model)
    key = f"{data.name}-{model}"
    choices = configs(model)
    config = st.selectbox(
        "Configuration",
        choices,
        format_func=lambda path: Path(path).stem.removeprefix(f"{model}-"),
        key=f"config-{key}",
        disabled=busy or bool(why_not),
        label_visibility="collapsed",
    )
    config = config or choices[0]
    st.caption(page.plain(about(config)))
    with st.container(horizontal=True):
        access.button(
            "Train again" if has_run and not why_not else "Train",
            key=f"train-{key}",
            type="secondary" if has_run else "primary",
            icon=":material/model_training:",
            disabled=busy or bool(why_not),
            help=f"Not here: {page.plain(why_not)}." if why_not else None,
            on_click=train,
            args=(data.name, model, config),
        )
        access.button(
            "Score",
            key=f"score-{key}",
            icon=":material/table_view:",
            disabled=busy or not has_run,
            help=None if has_run else "Train it first.",
            on_click=scoring.start,
            args=(data.name, model, "batch"),
        )


def train(name: str, model: str, config: str) -> None:
    """Start a training in the background; the sentence why not is kept for the page."""
    if runs.is_training(name, model):
        sentence = f"Another training of the {model} on dataset '{name}' is running: wait for its end first."
        job_list.refuse(sentence, "batch")
        return
    how = Path(config).stem.removeprefix(f"{model}-")
    argv = [sys.executable, *runs.fit_argv(name, model, config)]
    job_list.start(f"train {model} on {name} ({how})", argv, jobs.model_lock(name, model), "batch")


def trained_state(data: Dataset, model: str, run: Path | None) -> tuple[str, str, str]:
    """Sign, its words, and when by what the model in use was trained."""
    if run is None:
        return "none", "Not trained", "not yet"
    try:
        report = runs.read_report(run)
    except UserError as mistake:
        return "bad", "Damaged", str(mistake)
    when = str(report.get("created_at", ""))[:16].replace("T", " ")
    used = (report.get("recipe") or {}).get("config") or []
    by = ", ".join(Path(str(config)).stem for config in (used if isinstance(used, list) else [used]))
    seconds = (report.get("seconds") or {}).get("total")
    said = f"{when} UTC" + (f", by {by}" if by else "") + (f", in {page.duration(seconds)}" if seconds else "")
    source = run.parents[1].name
    if source != data.name:
        return "good", "In use", f"{said}, on dataset '{source}'"
    if report.get("fingerprint") not in (None, data.fingerprint):
        return "warn", "Outdated", f"{said}; the dataset has changed since"
    return "good", "In use", said
