"""The runs of a model: the list, what another run would change, putting it into use, and undoing that.

A run is put into use by two clicks: the first says what changes and what speaks against it, the second does it. The
scores on disk stay those of the run before until somebody scores anew.
"""

import html
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, health, page, promotion, scoring, tables
from dashboard.learning import Delta, compared
from dashboard.road import serving_run
from data import home, runs
from data.dataset import Dataset
from data.errors import UserError
from data.gate import measured_alike
from data.headline import Headline, headline_of, metric_label
from data.runs import Run

LISTED = 8
METRICS_SHOWN = 8


def trained_at(run: Run) -> str:
    """ "2026-11-28 16:14": by the report, in UTC."""
    return str(run.report.get("created_at", ""))[:16].replace("T", " ")


def label(run: Run) -> str:
    return f"{trained_at(run)} · {run.id[-4:]}{' · in use' if run.is_current else ''}"


# Putting into use ----------------------------------------------------------------------------------------------------


def _key(data: Dataset, model: str, what: str) -> str:
    return f"run-{what}-{data.name}-{model}"


def _ask(data: Dataset, model: str, run_id: str | None) -> None:
    st.session_state[_key(data, model, "asked")] = run_id
    st.session_state.pop(_key(data, model, "problem"), None)


def _use(data: Dataset, model: str, source: str, run_id: str, undoing: bool = False) -> None:
    """Callback: put a run into use and remember the one before; a mistake becomes a notice of the page."""
    _ask(data, model, None)
    before = runs.current_run(source, model)
    try:
        folder = home.runs(source, model) / home.check_name(run_id)
        if not folder.is_dir():
            raise UserError(f"Run {run_id} was deleted meanwhile: nothing was changed.")
        promotion.promote(folder, model)
    except UserError as mistake:
        st.session_state[_key(data, model, "problem")] = str(mistake)
        return
    except OSError as failure:
        st.session_state[_key(data, model, "problem")] = (
            f"Run {run_id} could not be put into use ({failure.strerror}): nothing was changed."
        )
        return
    done = {"source": source, "now": run_id, "before": "" if before is None or undoing else before.name}
    st.session_state[_key(data, model, "done")] = done
    page.toast(f"Run {run_id} is in use.")


def told_after(data: Dataset, model: str) -> None:
    """What the last click did or why it could not, with an undo, and the way to scores of the run in use."""
    if problem := st.session_state.pop(_key(data, model, "problem"), ""):
        page.notice("warn", problem)
    done = st.session_state.get(_key(data, model, "done"))
    serving = serving_run(data.name, model)
    if done is None or serving is None:
        return
    now = runs.current_run(done["source"], model)
    if now is None or now.name != done["now"]:  # somebody else went on from there
        del st.session_state[_key(data, model, "done")]
        return
    page.notice("good", f"Run {done['now']} is in use on dataset '{done['source']}'.")
    if serving != now:
        page.notice(
            "warn", f"Dataset '{data.name}' is served by run {serving.name} of dataset '{serving.parents[1].name}'."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        if done["before"]:
            access.button(
                f"Undo: back to {done['before']}",
                key=_key(data, model, "undo"),
                icon=":material/undo:",
                on_click=_use,
                args=(data, model, done["source"], done["before"], True),
            )
    _, stale = health.scores_of(data, model, serving)
    if stale:
        page.notice("warn", stale)
        scoring.offer(data, model, "models")
        scoring.told_failure(data.name)


def _confirm(data: Dataset, model: str, run: Run, in_use: Run | None) -> None:
    doubts = promotion.against(run, in_use)
    with st.container(border=True):
        st.html(
            f"<p><b>Use run {html.escape(run.id)}?</b></p><ul class='mq-points'>"
            + "".join(f"<li>{html.escape(text)}</li>" for text in promotion.consequences(model, run, in_use))
            + "</ul>"
        )
        for doubt in doubts:
            page.notice("warn", doubt)
        st.space("small")
        with st.container(horizontal=True):
            access.button(
                "Use it all the same" if doubts else "Use it",
                type="primary",
                key=_key(data, model, "sure"),
                on_click=_use,
                args=(data, model, run.folder.parents[1].name, run.id),
            )
            st.button("Keep the one in use", key=_key(data, model, "keep"), on_click=_ask, args=(data, model, None))


# Comparison ----------------------------------------------------------------------------------------------------------


def comparison(run: Run, in_use: Run) -> None:
    """The metrics of a run beside those of the one in use, on the split of their headline."""
    deltas = compared(in_use.report, run.report)
    st.header("Beside the run in use")
    if not deltas:
        page.notice("none", "The two runs were measured on different splits: there is nothing to compare.")
        return
    said = "Metrics of this run and of the one in use"
    figures = dict.fromkeys(("This run", "In use"), "%.4f")
    tables.table(_deltas(deltas[:METRICS_SHOWN]), f"beside-{run.id}", said, formats=figures, widths={"Change": 200})
    same = measured_alike(run.report, in_use.report)
    st.caption(
        page.plain(
            f"Of each run's own method, on the {deltas[0].split} split"
            + ("." if same else "; measured on different tables, so the figures do not compare exactly.")
        )
    )


def _deltas(deltas: Sequence[Delta]) -> pd.DataFrame:
    def change(delta: Delta) -> str:
        told = "none" if delta.kind == "same" else f"{delta.difference:+.4f}".replace("-", "−")
        return f"{told}, {delta.kind}" if delta.kind in ("better", "worse") else told

    return pd.DataFrame(
        {
            "Metric": [metric_label(delta.metric) for delta in deltas],
            "This run": [delta.then for delta in deltas],
            "In use": [delta.now for delta in deltas],
            "Change": [change(delta) for delta in deltas],
        }
    )


# The list ------------------------------------------------------------------------------------------------------------


def run_list(data: Dataset, model: str, all_runs: Sequence[Run]) -> None:
    """Every run with its headline and its button; below, the same as a table to sort, search and download."""
    source = all_runs[0].folder.parents[1].name
    in_use = next((run for run in all_runs if run.is_current), None)
    asked = st.session_state.get(_key(data, model, "asked"))
    if asked is not None and asked not in [run.id for run in all_runs]:
        page.notice("warn", f"Run {asked} was deleted meanwhile: nothing was changed.")
        _ask(data, model, None)
    access.viewer_told("put runs into use")
    key = _key(data, model, "shown")
    shown = st.session_state.get(key, LISTED)
    for run in all_runs[:shown]:
        with st.container(key=f"runrow-{source}-{model}-{run.id}"):
            left, right = st.columns([4, 1], vertical_alignment="center")
            with left:
                st.html(_row(run))
            with right:
                if run.is_current:
                    st.html(page.sign("good", "In use"))
                elif asked != run.id:
                    access.button(
                        "Use this run", key=f"use-{source}-{model}-{run.id}", on_click=_ask, args=(data, model, run.id),
                        width="stretch",
                    )  # fmt: skip
            if asked == run.id and not run.is_current:
                _confirm(data, model, run, in_use)
    if len(all_runs) > shown:
        more = f"Show {min(LISTED, len(all_runs) - shown)} more"
        st.button(more, key=f"{key}-more", on_click=st.session_state.update, args=({key: shown + LISTED},))
    unfinished = _unfinished(source, model, len(all_runs))
    if unfinished:
        st.caption(
            f"{page.count(unfinished, 'further folder')} {'holds' if unfinished == 1 else 'hold'} a training that goes "
            "on or was interrupted; only a finished run can be used."
        )
    with st.expander("As a table, to sort, search and download"):
        said = "All runs, the newest first"
        tables.table(table(all_runs), f"runs-{source}-{model}", said, formats={"Seconds": "%.0f"})


def _unfinished(source: str, model: str, finished: int) -> int:
    root = home.runs(source, model)
    return max(0, sum(path.is_dir() for path in root.glob("*")) - finished) if root.is_dir() else 0


def _row(run: Run) -> str:
    found, report = headline_of(run.report), run.report
    seconds = (report.get("seconds") or {}).get("total")
    facts = [f"{page.duration(seconds)} on {report.get('device', 'an unknown device')}"] if seconds else []
    facts.append(run.id)
    ruled = report.get("gate") or {}
    held = ""
    if ruled.get("used") is False and not run.is_current:
        held = f"<p class='mq-row-said'>{page.sign('warn', 'Held back')} {html.escape(str(ruled.get('why', '')))}</p>"
    return (
        f"<p style='margin:0'><b>{html.escape(trained_at(run) or 'At an unknown time')} UTC</b></p>"
        f"<p class='mq-row-said'>{html.escape(_headline_words(found))}</p>{held}"
        f"<p class='mq-small mq-muted' style='overflow-wrap:anywhere'>{html.escape(' · '.join(facts))}</p>"
    )


def _headline_words(found: Headline | None) -> str:
    if found is None:
        return "No headline figure"
    text = f"{metric_label(found.metric)} {found.value:.3f} on the {found.split} split"
    if not found.best:
        return text
    how = "behind" if found.is_worse else "as good as" if found.other == found.value else "ahead of"
    return f"{text}, {how} {found.best} ({found.other:.3f})"


def table(all_runs: Sequence[Run]) -> pd.DataFrame:
    """One row for each run."""
    rows: list[dict[str, Any]] = []
    for run in all_runs:
        found = headline_of(run.report)
        name = f"{metric_label(found.metric)} ({found.split})" if found else "Headline"
        rows.append(
            {
                "Trained (UTC)": trained_at(run),
                "In use": "In use" if run.is_current else "",
                name: found.value if found else None,
                "Best baseline": f"{found.best} {found.other:.3f}" if found and found.best else "",
                "Seconds": (run.report.get("seconds") or {}).get("total"),
                "Device": run.report.get("device"),
                "Run": run.id,
            }
        )
    return pd.DataFrame(rows)
