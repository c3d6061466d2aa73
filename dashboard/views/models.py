"""Models: each beside the methods it has to beat, how it learned, how far its probabilities can be trusted."""

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, onboarding, page, store
from dashboard.learning import curves, metric_label, metric_names, read_curves, verdict
from dashboard.road import applicable
from data import runs
from data.dataset import Dataset
from data.runs import Run

NAMES = {
    "recommender": "Recommender",
    "sentiment": "Sentiment",
    "engagement": "Engagement forecast",
    "retention": "Retention",
}
QUESTIONS = {
    "recommender": "What should this member watch next?",
    "sentiment": "What do people say about a title?",
    "engagement": "How much will be watched in the next weeks?",
    "retention": "Who is about to leave?",
}
# Smaller is better for the first; the second describe without being good or bad; of all others more is better.
LOSSES = ("loss", "mae", "rmse", "mase", "smape", "wql", "brier", "ece", "error", "perplexity")
TRAITS = ("coverage", "novelty", "diversity", "popularity")
HALF_WIDTH = "±"  # of the interval beside the headline: a figure of the table, nothing to compare methods by


def better(metric: str, headline: dict[str, Any]) -> str:
    """ "lower", "higher" or "": the report says so of its headline, the names of losses and traits of the others."""
    if metric == headline.get("metric"):
        return "higher" if headline.get("higher_is_better", True) else "lower"
    if any(trait in metric.lower() for trait in TRAITS):
        return ""
    return "lower" if any(loss in metric.lower() for loss in LOSSES) else "higher"


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
    chosen = next((run for run in all_runs if run.is_current), all_runs[0])
    if len(all_runs) > 1:
        chosen = st.selectbox(
            "Run", all_runs, index=all_runs.index(chosen), format_func=_run_label, key=f"run-{source}-{model}"
        )
    show_run(chosen, model, store.dataset(source))
    st.subheader("Runs")
    show_runs(all_runs)


def _run_label(run: Run) -> str:
    when = run.report.get("created_at", "")[:16].replace("T", " ")
    return f"{when} · {run.id[-4:]}{' · in use' if run.is_current else ''}"


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
        st.dataframe(table.rename_axis("Method").reset_index(), hide_index=True, column_config={
            name: st.column_config.NumberColumn(metric_label(name), format="%.4f") for name in names
        })  # fmt: skip


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


def show_runs(all_runs: list[Run]) -> None:
    rows = []
    for run in all_runs:
        headline = run.report.get("headline") or {}
        ours = (run.report.get("metrics") or {}).get(headline.get("split"), {}).get(headline.get("ours"), {})
        rows.append(
            {
                "Trained (UTC)": str(run.report.get("created_at", ""))[:16].replace("T", " "),
                "In use": "In use" if run.is_current else "",
                f"{metric_label(headline.get('metric', 'headline'))} ({headline.get('split', '')})": ours.get(
                    headline.get("metric")
                ),
                "Seconds": (run.report.get("seconds") or {}).get("total"),
                "Device": run.report.get("device"),
                "Run": run.id,
            }
        )
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={
        "Seconds": st.column_config.NumberColumn(format="%.0f"),
    })  # fmt: skip


page.guarded(render)()
