"""Models: each beside the methods it has to beat, how it learned, how far its probabilities can be trusted."""

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, drifted, onboarding, page, run_list, store, tables
from dashboard.health import promote_command
from dashboard.learning import better, curves, metric_names, read_curves
from dashboard.model_words import NAMES, QUESTIONS
from dashboard.road import applicable
from data import runs
from data.card import card
from data.dataset import Dataset
from data.headline import HALF_WIDTH, metric_label, verdict
from data.runs import Run


def render() -> None:
    data = page.header("Models", "What was trained on what, and what it has to beat")
    if data is None:
        onboarding.offer(None)
        return
    model = st.segmented_control(
        "Model", list(NAMES), default="recommender", required=True, format_func=lambda m: NAMES[m],
        label_visibility="collapsed", key="model",
    )  # fmt: skip
    model = model or "recommender"
    source = store.run_source(data.name, model) or data.name
    all_runs = runs.list_runs(source, model)
    if lost := runs.told_of_lost(source, model):
        page.notice("warn", lost)
    if not all_runs:
        if model in applicable(data):
            onboarding.offer_model(data, model)
        else:
            page.empty(
                f"No {NAMES[model].lower()} model for this dataset",
                f"Dataset '{data.name}' has no {'reviews' if model == 'sentiment' else 'dated interactions'}, so there "
                "is nothing to train it on.",
            )
        return
    if source != data.name:
        page.notice("none", f"Dataset '{data.name}' is served by the model trained on '{source}'.")
    in_use = next((run for run in all_runs if run.is_current), None)
    chosen = in_use or all_runs[0]
    if in_use is None:
        page.notice("bad", f"No run is in use: choose one below, or run '{promote_command(model, chosen.folder)}'.")
    if len(all_runs) > 1:
        # A key of the run in use: when that changes, the page shows the new one.
        key = f"run-{source}-{model}-{chosen.id}"
        ids = {run.id: run for run in all_runs}
        picked = st.selectbox("Run", list(ids), index=list(ids).index(chosen.id), key=key,
                              format_func=lambda run_id: run_list.label(ids[run_id]))  # fmt: skip
        chosen = ids[picked or chosen.id]
    show_run(chosen, model, store.dataset(source))
    if in_use is not None and chosen.id != in_use.id:
        run_list.comparison(chosen, in_use)
    if chosen is in_use:
        page.guarded(drifted.show)(store.dataset(source), model, chosen.folder)
    st.header("Runs")
    run_list.told_after(data, model)
    run_list.run_list(data, model, all_runs)


def show_run(run: Run, model: str, trained_on: Dataset) -> None:
    """One run: its verdict, the dot plot, curves, calibration and what it was trained on."""
    report = run.report
    st.html(
        f"<h2 style='margin:8px 0 4px;padding:0;font-size:1.25rem'>{html.escape(QUESTIONS[model])}</h2>"
        f"<p style='margin:0'>{html.escape(verdict(report))}</p>"
    )
    for note in report.get("notes") or []:
        st.caption(page.plain(str(note)))
    if report.get("fingerprint") not in (None, trained_on.fingerprint):
        page.notice("warn", f"Dataset '{trained_on.name}' has changed since this training: train again to include it.")
    left, right = st.columns([3, 2], gap="large")
    with left:
        _metrics(report, model)
    with right:
        st.subheader("Trained on")
        page.facts(_trained_on(report))
        st.download_button(
            "Model card",
            lambda: card(run.folder).encode(),
            file_name=f"{model}-{run.id}.md",
            mime="text/markdown",
            key=f"card-{model}-{run.id}",
            icon=":material/description:",
            on_click="ignore",
            help="What it is for, what it learned from, how good it is and where not, and how to make it again.",
        )
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Learning curves")
        _curves(run)
    with right:
        _calibration(report)


def _metrics(report: dict[str, Any], model: str) -> None:
    st.subheader("Against the baselines")
    metrics, headline = report.get("metrics") or {}, report.get("headline") or {}
    splits = [split for split in metrics if metrics[split]]
    if not splits:
        page.notice("none", "This run's report holds no figures: it was trained without measuring.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        start = splits.index(headline["split"]) if headline.get("split") in splits else 0
        split = st.selectbox("Split", splits, index=start, key=f"split-{model}", width=160)
        names = metric_names(metrics[split])
        choices = [name for name in names if name != HALF_WIDTH]
        first = choices.index(headline["metric"]) if headline.get("metric") in choices else 0
        metric = st.selectbox(
            "Metric", choices, index=first, format_func=metric_label, key=f"metric-{model}-{split}", width=220
        )
    if metric is None:
        page.notice("none", "This split holds no figures.")
        return
    ours = headline.get("ours", "")
    chart = charts.dot_plot(
        metrics[split],
        ours,
        metric,
        better=better(metric, headline),
        split=split,
        dark=page.dark(),
        parts=headline.get("parts", ()),
    )
    charts.show(
        chart,
        page.dark(),
        f"{metric_label(metric)} of each method on the {split} split",
        120 + 44 * sum(row.get(metric) is not None for row in metrics[split].values()),
    )
    with st.expander("All figures"):
        table = pd.DataFrame(metrics[split]).T.reindex(columns=names)
        table = table.rename(columns=metric_label).rename_axis("Method").reset_index()
        said = f"All figures of each method on the {split} split"
        tables.table(table, f"figures-{model}-{split}", said, formats=dict.fromkeys(map(metric_label, names), "%.4f"))


def _trained_on(report: dict[str, Any]) -> list[tuple[str, str]]:
    split, seconds = report.get("split") or {}, report.get("seconds") or {}
    sizes = split.get("rows") or {}
    versions = report.get("versions") or {}
    refit = report.get("refit") or {}
    return [
        ("Dataset", f"{report.get('dataset', '')} (fingerprint {report.get('fingerprint', 'unknown')})"),
        ("Split", str(split.get("protocol", ""))),
        ("Rows", ", ".join(f"{name} {int(n):,}" for name, n in sizes.items() if isinstance(n, (int, float)))),
        ("Ties", str(split.get("ties", ""))),
        (
            "Epochs",
            f"{refit['epochs']} (chosen on validation, then refitted on everything)" if refit.get("epochs") else "",
        ),
        ("Time", f"{page.duration(seconds['total'])} on {report.get('device', '?')}" if seconds.get("total") else ""),
        ("Seed", str(report.get("seed", ""))),
        ("Trained", str(report.get("created_at", ""))[:16].replace("T", " ") + " UTC"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Run", str(report.get("run_id", ""))),
    ]


def _curves(run: Run) -> None:
    frame = read_curves(run.folder / "logs" / "metrics.csv")
    names = curves(frame)
    if not names:
        page.notice("none", "This run left no learning curve.")
        return
    name = (
        st.selectbox("Curve", list(names), format_func=metric_label, key=f"curve-{run.id}", width=260)
        if len(names) > 1
        else next(iter(names))
    )
    chart = charts.learning_curves(
        names[name], title=f"{metric_label(name)} by epoch", unit=metric_label(name), dark=page.dark()
    )
    charts.show(chart, page.dark(), f"Learning curves of {metric_label(name)}", height=260)


def _calibration(report: dict[str, Any]) -> None:
    found = report.get("calibration") or {}
    if not found.get("bins"):
        return
    st.subheader("Calibration")
    charts.show(
        charts.calibration(found["bins"], title="Predicted against observed", dark=page.dark()),
        page.dark(),
        "Calibration: predicted probability against observed share",
        height=280,
    )
    if found.get("temperature"):
        st.caption(f"Probabilities were divided by temperature {found['temperature']:.2f}, fitted on validation.")


page.guarded(render)()
