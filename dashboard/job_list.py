"""Background jobs on a page: starting one, how far it is, its log, the button that ends it, and how it ended."""

import html
import time
from collections.abc import Callable, Sequence

import streamlit as st

from dashboard import access, page
from dashboard.road import ROOT
from data import jobs
from data.errors import UserError

SHOWN = 8
SAID_SECONDS = 20.0
_SIGNS = {"running": ("warn", "Running"), "done": ("good", "Done"), "failed": ("bad", "Failed")}
_SAID = "jobs-said"


def start(kind: str, argv: Sequence[str], lock: str, place: str = "page") -> None:
    """`begin`, for a button's on_click."""
    begin(kind, argv, lock, place)


def begin(kind: str, argv: Sequence[str], lock: str, place: str = "page", stdin: str = "") -> jobs.Job | None:
    """Start a job and say so, or keep the sentence that says why not for `say(place)`; `stdin` as of `jobs.start`."""
    st.session_state.pop(_SAID, None)
    try:
        job = jobs.start(kind, argv, lock=lock, cwd=ROOT, stdin=stdin)
    except UserError as mistake:
        refuse(str(mistake), place)
        return None
    page.toast(f"Started: {kind}. It is listed under Jobs.")
    return job


def refuse(sentence: str, place: str = "page") -> None:
    """Keep why something is not started, for `say(place)`."""
    st.session_state[_SAID] = (sentence, place, time.monotonic())


def say(place: str = "page") -> None:
    """Why the last job that was asked for there was not started; for a while, because pages renew themselves."""
    sentence, where, at = st.session_state.get(_SAID, ("", "", 0.0))
    if where == place and time.monotonic() - at < SAID_SECONDS:
        page.notice("warn", sentence)


def running(lock: str) -> jobs.Job | None:
    """The job that holds a lock now."""
    return next((job for job in jobs.list_jobs() if job.state == "running" and job.lock == lock), None)


def newest(kind: str) -> jobs.Job | None:
    """The job of a kind that was started last."""
    return next((job for job in jobs.list_jobs() if job.kind == kind), None)


@st.fragment(run_every=1.0)
@page.guarded
def follow(job_id: str, draw: Callable[[jobs.Job], None]) -> None:
    """What `draw` makes of a running job, renewed every second; when the job has ended, the page is drawn anew."""
    job = jobs.get_job(job_id)
    if job is None or job.state != "running":
        st.rerun()
        return
    draw(job)


def line(job: jobs.Job) -> None:
    """A running job in two lines."""
    now = next(iter(jobs.tail(job, 1)), "Starting")
    st.html(
        f'<p role="status"><b>{html.escape(job.kind)}</b>, {page.duration(job.seconds)} so far'
        f'<br><span class="mq-muted mq-small">{html.escape(now[:120])}</span></p>'
    )


def card(job: jobs.Job, title: str, now: str, share: float | None = None, place: str = "card") -> None:
    """A running job as what a page is about: what it does, since when, how far it is (0 to 1), its log, its end."""
    with st.container(border=True):
        st.html(
            f'<h2 style="margin:0 0 4px;padding:0;font-size:1.25rem">{html.escape(title)}</h2>'
            f'<p class="mq-muted" style="margin:0">{html.escape(now)} · {page.duration(job.seconds)} so far</p>'
        )
        if share is not None:
            st.progress(share)
        log(job, "What it does", 14)
        cancel_button(job, place)


@st.fragment(run_every=2.0)
@page.guarded
def show() -> None:
    """What runs in the background and what ran last; it renews itself."""
    st.header("Jobs")
    kept = jobs.list_jobs()
    if not kept:
        st.caption("Nothing has run in the background yet.")
        return
    now = [job.id for job in kept if job.state == "running"]
    before = st.session_state.get("jobs-running", now)
    st.session_state["jobs-running"] = now
    if before != now:
        st.rerun()  # a job began or ended: what is loaded may have changed
    for job in kept[:SHOWN]:
        _show(job)
    if len(kept) > SHOWN:
        st.caption(f"The last {SHOWN} of {len(kept)} jobs.")


def _show(job: jobs.Job) -> None:
    kind, words = _SIGNS.get(job.state, ("none", "Cancelled"))
    started = job.started_at[:16].replace("T", " ")
    with st.container(border=True):
        st.html(
            '<div style="display:flex;gap:4px 16px;flex-wrap:wrap;align-items:baseline">'
            f"<strong>{html.escape(job.kind)}</strong>{page.sign(kind, words)}"
            f'<span class="mq-muted">{started} UTC · {page.duration(job.seconds)}</span></div>'
        )
        if job.state == "running":
            progress(job)
        if job.state == "failed":
            page.notice("warn", last_words(job))
        log(job)
        if job.state == "running":
            cancel_button(job, "list")


def log(job: jobs.Job, label: str = "Log", lines: int = 12) -> None:
    """The last lines of a job's log, to be opened."""
    with st.expander(label):
        said = html.escape("\n".join(jobs.tail(job, lines)))
        st.html(f'<pre class="mq-log">{said or "nothing printed yet"}</pre>')


def cancel_button(job: jobs.Job, place: str) -> None:
    access.button("Cancel", key=f"cancel-{job.id}-{place}", on_click=cancel, args=(job.id,))


def progress(job: jobs.Job) -> None:
    """How far a running job is: the share that it tells itself, else only that it moves, and for how long."""
    share = jobs.progress(job)
    last = next(iter(jobs.tail(job, 1)), "")
    if share is not None:
        st.progress(share, text=f"{100 * share:.0f} % · {page.plain(last[:120])}")
        return
    st.html(
        '<div class="mq-unknown" role="progressbar" aria-label="Running; how far it is, it does not say"><i></i></div>'
        f'<p class="mq-small mq-muted" style="margin-top:6px">{html.escape(last[:120] or "Starting")} · '
        f"{page.duration(job.seconds)} so far, how much is left it does not say</p>"
    )


def last_words(job: jobs.Job) -> str:
    """The sentence with which a job failed: of a step's own words and those of the road that took it, the step's."""
    lines = [line.strip() for line in jobs.tail(job, 40)]
    said = next((line for line in lines if line.startswith("error:")), lines[-1] if lines else "")
    return said.removeprefix("error: ") or f"It ended without a word; its log is {job.log}."


def told_ending(job: jobs.Job | None, what: str, after: str = "") -> bool:
    """Says that a job failed, and why, or was cancelled, if so; returns whether."""
    if job is None or job.state not in ("failed", "cancelled"):
        return False
    how = f"failed. {last_words(job)}" if job.state == "failed" else "was cancelled."
    page.notice("warn", f"{what} {how} {after}".strip())
    return True


def cancel(job_id: str) -> None:
    """Ask a job to end; for a button's on_click."""
    try:
        jobs.cancel(job_id)
    except UserError as mistake:
        refuse(str(mistake))
    else:
        page.toast("Asked it to end.")
