"""The user's own files, from the browser to a dataset: chosen, mapped, previewed, and imported by a job."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import access, job_list, mapping, page, uploads
from dashboard.upload_gate import open_gate
from data import home, jobs
from data.dataset import list_datasets, open_dataset
from data.errors import UserError
from data.importer import read_clock

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

TABLES = {
    "interactions": "Who watched or rated what, and when: member, title, time, rating or minutes",
    "items": "The titles: id, title, year, genres",
    "users": "The members: id and anything else",
    "reviews": "What people wrote: text, and title, member, stars or label where there are any",
    "metrics": "Ready-made daily or weekly series: date, series, value",
}


def show() -> None:
    if access.viewer_told("import files"):
        return
    _follow()
    limit = uploads.limit_bytes() >> 20
    open_gate(uploads.TOGETHER * uploads.limit_bytes())
    st.html(
        '<p class="mq-muted" style="margin:0;max-width:60em">CSV or Parquet, one file for each table that you have; '
        f"interactions, reviews or metrics alone are enough. Up to {limit:,} MB each and "
        f"{uploads.TOGETHER * limit:,} MB together, with any number of rows; larger "
        'files go in by <code style="white-space:nowrap">python -m data import</code> on the machine itself. Nothing '
        "is written before you press Import.</p>"
    )
    files = _choose_files()
    paths = _kept(files)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Name of the new dataset", placeholder="mine", max_chars=100, key=f"import-name-{_turn()}", width=320
        ).strip()
        bad = st.number_input(
            "Bad rows to allow, in per cent", 0.0, 100.0, 5.0, 1.0, format="%.0f", width=240, key="import-bad"
        )
    with st.expander("When times are written in an unusual way, or the data ends later than its last row"):
        time_format = st.text_input(
            "How times are written", placeholder="%d/%m/%Y %H:%M", key="import-time-format",
            help="Needed only where they are neither ISO nor numbers; day, month and year as %d, %m and %Y.",
        ).strip()  # fmt: skip
        as_of = st.text_input(
            "The dataset's clock", placeholder="2024-01-31", key="import-as-of",
            help="What counts as today in it. Its last row unless given.",
        ).strip()  # fmt: skip
    flags, sound = [], True
    for table, path in paths.items():
        found = mapping.show(table, files[table].name, files[table].file_id, path, bad / 100, time_format)
        sound = sound and found is not None
        flags += found or []
    replace = _replace(name)
    options = [f"--max-bad={bad / 100:g}", *(f"--map={flag}" for flag in flags)]
    options += [f"--time-format={time_format}"] if time_format else []
    options += [f"--as-of={as_of}"] if as_of else []
    options += ["--replace"] if replace else []
    if st.button("Import", type="primary", key="import-go", disabled=not sound):
        _start(name, paths, options, replace, as_of)
    if paths and sound:
        _same_command(name, files, options)


def _turn() -> int:
    """Which import of this session it is: a browser empties a field only when it becomes another one."""
    return int(st.session_state.get("import-turn", 0))


def _choose_files() -> "dict[str, UploadedFile]":
    files = {}
    for place, (table, purpose) in enumerate(TABLES.items()):
        if place % 2 == 0:
            columns = st.columns(2, gap="medium")
        with columns[place % 2]:
            # Of any type: what a file is, its content says, and a wrong one gets a better sentence from us.
            file = st.file_uploader(table.capitalize(), help=purpose, key=f"up-{table}-{_turn()}")
        if file is not None:
            files[table] = file
    return files


def _kept(files: "dict[str, UploadedFile]") -> dict[str, Path]:
    """Where the chosen files lie, each written once however often the page is drawn; what was taken back goes."""
    kept: dict[str, tuple[str, Path]] = st.session_state.setdefault("import-kept", {})
    for table, (file_id, path) in list(kept.items()):
        if table not in files or files[table].file_id != file_id or not path.exists():
            uploads.drop(path.parent, table)
            del kept[table]
    folder = next((path.parent for _, path in kept.values()), None)
    for table, file in files.items():
        if table not in kept:
            folder = folder or uploads.new_folder()
            kept[table] = (file.file_id, uploads.keep(folder, table, file.name, file))
            st.session_state.pop("import-said", None)  # of the import before
    if folder is not None:
        uploads.still_used(folder)
    return {table: kept[table][1] for table in files}


def _replace(name: str) -> bool:
    """Whether a dataset of that name may be replaced, where there is one: the box says what would be lost."""
    if name not in list_datasets():
        return False
    try:
        rows = open_dataset(name).rows
        holds = ", ".join(f"{n:,} {table}" for table, n in rows.items() if n) or "no rows"
    except UserError:
        holds = "damaged"
    return st.checkbox(
        f"Replace dataset '{page.plain(name)}' ({holds}). Its tables go; runs, scores and what members did stay.",
        key=f"import-replace-{name}",
    )


def _start(name: str, paths: dict[str, Path], options: list[str], replace: bool, as_of: str) -> None:
    if not name or not paths:
        page.notice("warn", "Give the new dataset a name and at least one file.")
        return
    try:
        home.check_name(name)
        read_clock(as_of)
    except UserError as mistake:
        page.notice("warn", str(mistake).replace("--as-of", "The clock"))
        return
    if name in list_datasets() and not replace:
        page.notice("warn", f"There is a dataset '{name}' already: choose another name or tick Replace.")
        return
    argv = [sys.executable, "-m", "data", "import", "--name", name]
    for table, path in paths.items():
        argv += [f"--{table}", str(path)]
    job = job_list.begin(f"import {name}", [*argv, *options], jobs.data_lock(name))
    if job is not None:
        uploads.hand_over(next(iter(paths.values())).parent, job.id)
        st.session_state["import-job"] = job.id
        st.session_state.pop("import-said", None)
    st.rerun()


def _follow() -> None:
    """What became of the import that was started here; when it succeeded, the form is empty again."""
    job = jobs.get_job(st.session_state.get("import-job", "none"))
    if job is not None and job.state == "running":
        page.notice("none", f"“{job.kind}” runs; how far it is stands under Jobs.")
    elif job is not None:
        del st.session_state["import-job"]
        if job.state == "done":
            uploads.tidy()
            st.session_state["import-turn"] = _turn() + 1
            st.session_state["import-kept"] = {}
            said = ("good", f"“{job.kind}” is done: the dataset is listed in the first tab.")
        else:
            why = job_list.last_words(job) if job.state == "failed" else "It was cancelled."
            said = ("warn", f"“{job.kind}” has written nothing. {why}")
        st.session_state["import-said"] = said
    if outcome := st.session_state.get("import-said"):
        page.notice(*outcome)


def _same_command(name: str, files: "dict[str, UploadedFile]", options: list[str]) -> None:
    parts = ["python", "-m", "data", "import", "--name", name or "NAME"]
    for table, file in files.items():
        parts += [f"--{table}", Path(file.name).name]
    with st.expander("The same on the command line"):
        st.code(" ".join(shlex.quote(part) for part in [*parts, *options]), language="bash", wrap_lines=True)
        st.caption("With --dry-run it reads every row, says what would be rejected, and writes nothing.")
