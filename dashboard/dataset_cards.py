"""The datasets on disk as cards: what they hold, and what can be done with each."""

import html
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import streamlit as st

from dashboard import access, enough, forgetting, job_list, page, store
from data import events, home, jobs
from data.as_csv import as_csv
from data.dataset import Dataset, list_datasets, open_dataset
from data.errors import UserError
from data.schema import UNREADABLE

CSV_ROWS = 500_000
PARQUET_BYTES = 512 << 20
_WHAT = {
    "interactions": "who watched or rated what, and when",
    "items": "the titles",
    "users": "the members",
    "reviews": "what people wrote",
    "metrics": "ready-made series",
    "recommendations": "titles for each member",
    "review_scores": "the mood of each review, and a draft of the answer",
    "engagement_forecast": "the audience of the coming days",
    "retention": "each member's chance to come back",
    "unusual": "days that were unlike the forecast",
}


def show() -> None:
    names = list_datasets()
    if not names:
        page.empty(
            "No dataset yet",
            "Fetch a public one or import your own in the tabs above. The demo on the Home page does both and trains "
            "on it.",
            "python -m data fetch demo",
        )
        return
    access.viewer_told("check, download, add to and forget in datasets")
    for name in names:
        page.guarded(partial(_card, name))()


def _card(name: str) -> None:
    data = open_dataset(name)
    described = store.described(data)
    sizes = " · ".join(page.count(rows, table.removesuffix("s")) for table, rows in data.rows.items() if rows)
    with st.container(border=True):
        st.html(
            f'<h2 style="margin:0 0 2px;padding:0;font-size:1.25rem">{html.escape(data.name)}</h2>'
            f'<p class="mq-muted" style="margin:0">{html.escape(sizes)}</p>'
        )
        left, right = st.columns(2, gap="large")
        with left:
            page.facts(
                [
                    ("Members", f"{described['members']:,}" if "members" in described else ""),
                    ("Titles", f"{described['titles']:,} watched" if "titles" in described else ""),
                    ("Span", _span(described)),
                    ("Its clock", _clock(data)),
                    ("Mean rating", _rating(described)),
                    ("Written", f"{data.created_at[:16].replace('T', ' ')} UTC"),
                    ("Fingerprint", data.fingerprint),
                ]
            )
        with right:
            page.facts([*_sources(data), *(("Note", note) for note in data.notes)])
        page.guarded(enough.show)(data)
        with st.container(horizontal=True):
            _check(data)
            _downloads(data)
            _add_events(data)
            forgetting.button(data)
        forgetting.panel(data)


def _rating(described: dict[str, object]) -> str:
    mean, low, high = (described.get(name) for name in ("mean_rating", "lowest_rating", "highest_rating"))
    return "" if mean is None else f"{mean:.2f} on a scale from {low:g} to {high:g}"


def _sources(data: Dataset) -> list[tuple[str, str]]:
    return [
        fact
        for source in data.sources
        for fact in (
            ("Source", f"{source.name}: {source.how}" + (f" ({source.detail})" if source.detail else "")),
            ("Licence", source.licence),
        )
    ]


def _span(described: dict[str, object]) -> str:
    if not described.get("first"):
        return ""
    first, last = pd.Timestamp(str(described["first"])), pd.Timestamp(str(described["last"]))
    return f"{page.when(first)} to {page.when(last)}" if described["time_kind"] == "real" else "in file order, no dates"


def _clock(data: Dataset) -> str:
    if data.as_of is None:
        return ""
    return page.when(data.as_of) if data.time_kind == "real" else "file order (the source had no times)"


def _check(data: Dataset) -> None:
    argv = [sys.executable, "-m", "data", "validate", str(data.folder)]
    access.button(
        "Check this dataset",
        key=f"validate-{data.name}",
        icon=":material/rule:",
        on_click=job_list.start,
        args=(f"check {data.name}", argv, jobs.data_lock(data.name)),
    )


def _add_events(data: Dataset) -> None:
    """The button that adds what members did, with how much waits; where the database cannot be asked, its sentence."""
    try:
        happened, written = events.waiting(data)
    except UserError as mistake:
        page.notice("warn", str(mistake))
        return
    waits = [page.count(n, noun) for n, noun in ((happened, "event"), (written, "review")) if n]
    access.button(
        f"Add what members did ({' and '.join(waits)})" if waits else "Add what members did (nothing waits)",
        key=f"export-{data.name}",
        icon=":material/move_to_inbox:",
        disabled=not waits,
        help="Events and reviews from this dashboard become rows of the tables; models learn from them when they are "
        "trained again.",
        on_click=job_list.start,
        args=(
            f"add what members did to {data.name}",
            [sys.executable, "-m", "data", "export-events", data.name],
            jobs.data_lock(data.name),
        ),
    )


def tables_of(data: Dataset) -> list[Path]:
    """Files of the dataset's tables, then of its scores."""
    scores = home.scores(data.name)
    tables = [data.path(table) for table in data.rows if data.path(table).is_file()]
    return [*tables, *(sorted(scores.glob("*.parquet")) if scores.is_dir() else [])]


def _downloads(data: Dataset) -> None:
    """Each table and score table; a file is read only when its button is pressed."""
    if not access.may_edit():  # whole tables hold all that is known of everybody
        return
    with st.popover("Download", icon=":material/download:"):
        st.caption(
            f"Parquet is the file as it lies on disk. CSV is made when you ask for it, of tables up to {CSV_ROWS:,} "
            "rows; text that a spreadsheet would run as a formula gets an apostrophe before it."
        )
        for path in tables_of(data):
            _download(data, path)
        rejects = data.folder / "rejects.csv"
        if rejects.is_file():
            with _row("rejected rows", "left out by the import, each with line and reason", rejects.stat().st_size):
                _file("CSV", rejects.read_bytes, f"{data.name}-rejects.csv", f"rejects-{data.name}")


def _download(data: Dataset, path: Path) -> None:
    table, kind = path.stem, "scores" if path.parent != data.folder else "table"
    try:
        rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
    except UNREADABLE:
        page.notice("warn", f"{path.name} is damaged: check this dataset, or write it anew.")
        return
    key, name = f"{kind}-{data.name}-{table}", f"{data.name}-{table}"
    with _row(table.replace("_", " "), _WHAT.get(table, kind), size, rows):
        if size > PARQUET_BYTES:
            st.caption(f"Too large for a browser: the file is {page.plain(str(path))}")
        else:
            _file("Parquet", path.read_bytes, f"{name}.parquet", f"parquet-{key}")
        if rows <= CSV_ROWS:
            _file("CSV", partial(as_csv, path), f"{name}.csv", f"csv-{key}")


def _file(label: str, content: Callable[[], bytes], name: str, key: str) -> None:
    kind = "text/csv" if label == "CSV" else "application/vnd.apache.parquet"

    def asked() -> bytes:
        access.must_edit()
        return content()

    st.download_button(label, asked, file_name=name, mime=kind, key=key, on_click="ignore")


@contextmanager
def _row(name: str, what: str, size: int, rows: int | None = None) -> Iterator[None]:
    """A line with the name of a table at its left; what is drawn inside stands at its right."""
    counted = f"{page.count(rows, 'row')} · " if rows is not None else ""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html(
            f'<p style="margin:0"><strong>{html.escape(name.capitalize())}</strong><br>'
            f'<small class="mq-muted">{html.escape(what)}<br>{counted}{megabytes(size)}</small></p>'
        )
        with st.container(horizontal=True, gap="small", width="content"):
            yield


def megabytes(size: int) -> str:
    """A file's size in words.

    >>> megabytes(900), megabytes(48_000), megabytes(3_400_000)
    ('1 KB', '48 KB', '3.4 MB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} KB"
