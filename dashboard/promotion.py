"""Putting another run into use: what changes, what speaks against it, and the doing."""

import importlib
from pathlib import Path

from data import gate, jobs, runs
from data.dataset import list_datasets
from data.headline import headline_of, metric_label
from data.runs import Run

ASKED_LIVE = ("recommender", "sentiment")  # pages ask these models themselves, beside the scores on disk


def promote(folder: Path, model: str) -> None:
    """Put a run into use.

    Raises:
        UserError: it is not finished, or the code as it is cannot load it.
    """
    from data.served import promote  # torch

    promote(folder, importlib.import_module(f"{runs.PACKAGE[model]}.scorer").open_run)


def _is_training(dataset: str, model: str) -> bool:
    """Whether a training runs, or was just started here and has not come to its lock yet."""
    lock = jobs.model_lock(dataset, model)
    started = any(j.state == "running" and j.lock == lock and j.kind.startswith("train ") for j in jobs.list_jobs())
    return started or runs.is_training(dataset, model)


def against(run: Run, in_use: Run | None) -> list[str]:
    """What speaks against using a run, in sentences; empty when nothing does."""
    told = []
    if _is_training(run.folder.parents[1].name, run.folder.parent.name):
        told.append(
            "A training of this model runs now: at its end, its own run comes into use instead of this one, unless it "
            "is worse."
        )
    if headline_of(run.report) is None:
        return [*told, "Its report holds no headline figure, so nobody knows how good it is."]
    now = None
    if in_use is not None:
        now = gate.with_run(run.folder, run.report, in_use.folder, in_use.report)
        if now is None:
            told.append(
                "The two were measured on different tables, or by another metric or split: which is better is not "
                "known."
            )
    baseline = gate.with_baseline(run.folder, run.report)
    return told + [comparison.told for comparison in (now, baseline) if comparison is not None and comparison.below]


def _beside(run: Run, in_use: Run | None) -> str:
    """Both headlines in one sentence; empty where they do not compare."""
    found, now = headline_of(run.report), headline_of(in_use.report) if in_use is not None else None
    if found is None or now is None or (found.metric, found.split) != (now.metric, now.split):
        return ""
    name = f"{metric_label(found.metric)} on the {found.split} split, {'higher' if found.higher else 'lower'} is better"
    return f"{name}: {found.value:.3f}; of the run in use {now.value:.3f}."


def consequences(model: str, run: Run, in_use: Run | None) -> list[str]:
    """What changes when a run comes into use, in sentences."""
    source = run.folder.parents[1].name
    former = f" Run {in_use.id} stays on disk and can be taken back." if in_use is not None else ""
    told = [
        f"Dataset '{source}' uses run {run.id} from then on.{former}",
        "The scores on disk stay those of the run before until they are written anew.",
    ]
    if figures := _beside(run, in_use):
        told.insert(0, figures)
    if model in ASKED_LIVE:
        told.append("Pages that ask the model itself load the run with their next look, in a few seconds.")
    if model == "sentiment":
        others = [name for name in list_datasets() if name != source and runs.current_run(name, model) is None]
        if others:
            would = served_with(run, others[0])
            names = ", ".join(f"'{name}'" for name in others)
            told.append(
                f"Without a sentiment model of their own, {names} would use it too."
                if would == run.id
                else f"Without a sentiment model of their own, {names} would use run {would} of another dataset: "
                "the newest one in use anywhere serves them."
            )
    return told


def served_with(run: Run, name: str) -> str:
    """The run that would serve a dataset without a sentiment model of its own if `run` were in use."""
    source = run.folder.parents[1].name
    others = [runs.current_run(other, "sentiment") for other in list_datasets() if other not in (name, source)]
    return max([run.id, *(found.name for found in others if found is not None)])
