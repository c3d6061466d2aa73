"""Model cards: what a run is for, what it learned from, how good it is and where not, and how to make it again.

`card.md` is written into the run's folder after each fit and by `python -m PACKAGE card [RUN]`, from the run's report,
configuration and cases alone; nothing in it is typed in by hand but what a model is for. The form is that of Mitchell
et al., "Model Cards for Model Reporting" (FAT* 2019), the header that of the Hugging Face Hub.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from data import runs
from data.atomic import write_text
from data.card_words import COUNTS, USES, limits, segments
from data.cases import difference
from data.dataset import Dataset, open_dataset
from data.errors import UserError
from data.gate import with_baseline
from data.headline import HALF_WIDTH, Headline, headline_of, metric_label, verdict
from data.readiness import readiness
from data.report import data_of

FILE = "card.md"
_SETTINGS = ("model", "data")  # parts of the configuration that a card lists
_TRAINER = ("max_epochs", "precision", "accelerator", "gradient_clip_val", "accumulate_grad_batches")


def write_card(run: Path) -> Path:
    """Write the card of a finished run into its folder; returns the file.

    Raises:
        UserError: the report cannot be read.
    """
    write_text(run / FILE, card(run))
    return run / FILE


def card(run: Path) -> str:
    """The card of a finished run, as Markdown with a YAML header.

    Raises:
        UserError: the report cannot be read.
    """
    report = runs.read_report(run)
    found = headline_of(report)
    model = str(report.get("model", run.parent.name))
    use, dataset = USES[model], str(report.get("dataset", run.parents[1].name))
    source = _dataset(dataset, str(report.get("fingerprint", "")))
    parts = [
        f"# {use.title} of dataset '{dataset}', run {run.name}",
        verdict(report),
        "## Intended use",
        use.intended,
        f"Not for: {use.not_for[0].lower()}{use.not_for[1:]}",
        "## Data",
        *_data(report, source),
        "## Training",
        *_training(run, report),
        "## How good it is",
        *_figures(run, report, found),
        "## Limits",
        _list([*limits(report), *(readiness(source, model).told if source is not None else [])]),
        "## Whether it was put into use",
        *_ruled(report),
        "## How to make it again",
        *_again(run, report),
    ]
    return f"---\n{_header(report, found, model)}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _header(report: Mapping[str, Any], found: Headline | None, model: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    use, dataset = USES[model], str(report.get("dataset", ""))
    results = []
    if found is not None:
        row = report["metrics"][found.split][found.ours]
        results = [
            EvalResult(
                task_type=use.task, task_name=use.title, dataset_type=dataset, dataset_name=dataset,
                dataset_split=found.split, dataset_revision=str(report.get("fingerprint", "")),
                metric_type=name, metric_name=metric_label(name), metric_value=round(float(value), 5),
            )
            for name, value in row.items() if value is not None and name != HALF_WIDTH
        ]  # fmt: skip
    return ModelCardData(
        model_name=f"{model}-{dataset}-{report.get('run_id', '')}",
        library_name="pytorch-lightning",
        pipeline_tag=None if use.task == "other" else use.task,
        tags=["marquee", model],
        eval_results=results or None,
    ).to_yaml()


def _dataset(name: str, fingerprint: str) -> Dataset | None:
    """The dataset that a run was trained on, if it is still there as it was."""
    try:
        found = open_dataset(name)
    except UserError:
        return None
    return found if found.fingerprint == fingerprint else None


def _data(report: Mapping[str, Any], source: Dataset | None) -> list[str]:
    known = report.get("data") or (data_of(source) if source is not None else None)
    facts = [f"Dataset '{report.get('dataset')}', fingerprint {report.get('fingerprint', 'unknown')}."]
    if known is None:
        return [facts[0], "It is not on this disk as it was then, so what it held is not known."]
    facts += [f"{rows:,} rows of {table}." for table, rows in known["rows"].items() if rows]
    if known.get("first") and known["time_kind"] == "real":
        facts.append(
            f"Interactions from {known['first'][:10]} to {str(report.get('as_of'))[:10]}, the dataset's clock."
        )
    if known["time_kind"] == "order":
        facts.append("Rows have an order, and no real times.")
    split = report.get("split") or {}
    sizes = ", ".join(f"{name} {n:,.0f}" for name, n in (split.get("rows") or {}).items())
    facts.append(f"Split: {split.get('protocol', 'unknown')}{f'; {sizes}' if sizes else ''}.")
    told = [_list(facts)]
    sources = [
        f"{one['name']} ({one['how']}{', ' + one['detail'] if one['detail'] else ''}): "
        f"{one['licence'] or 'no licence is known'}" + (f" To be cited: {one['citation']}" if one["citation"] else "")
        for one in known["sources"]
    ]
    return [*told, "Where it is from, and its licence:", _list(sources)] if sources else told


def _training(run: Path, report: Mapping[str, Any]) -> list[str]:
    seconds, refit = report.get("seconds") or {}, report.get("refit") or {}
    facts = [f"`{report.get('class', 'unknown')}`"]
    if report.get("parameters"):
        facts[0] += f", {report['parameters']:,} parameters"
    if seconds.get("total"):
        facts.append(f"{seconds['total']:.0f} s on {report.get('device', 'an unknown device')}.")
    facts.append(
        f"{refit['epochs']} epochs, chosen on validation; then trained afresh on everything for as many."
        if refit.get("epochs")
        else "No refit: what serves has not seen the validation and test rows."
    )
    rows = _settings(run)
    return [_list(facts), _table(["setting", "value"], rows)] if rows else [_list(facts)]


def _settings(run: Path) -> list[list[str]]:
    try:
        config = yaml.safe_load((run / "config.yaml").read_text("utf-8")) or {}
        trainer = config.get("trainer") or {}
        rows = [[f"trainer.{name}", trainer[name]] for name in _TRAINER if trainer.get(name) is not None]
        for part in _SETTINGS:
            chosen = (config.get(part) or {}).get("init_args") or {}
            rows += [[f"{part}.{name}", value] for name, value in chosen.items()]
    except (OSError, ValueError, AttributeError, yaml.YAMLError):  # gone, or it is not what a fit has written
        return []
    return [[name, str(value)] for name, value in rows]


def _figures(run: Path, report: Mapping[str, Any], found: Headline | None) -> list[str]:
    if found is None:
        return ["It was trained without measuring."]
    metrics = report["metrics"]
    told = [
        f"On the {found.split} split, before the refit. {metric_label(found.metric)} is what it is judged by "
        f"({'higher' if found.higher else 'lower'} is better).",
        _metrics_table(metrics[found.split], found.ours),
    ]
    intervals = _intervals(run, report, found)
    if intervals:
        told += ["How far it is from each of the others on the same cases:", _list(intervals)]
    parts = segments(metrics, found, set((report.get("headline") or {}).get("parts", ())))
    rows = [
        [name, _number(row.get(found.metric)), f"{_number(other)} ({best})" if best else "–", _count(row)]
        for name, row, best, other in parts
    ]
    if rows:
        told += ["By parts of that split:", _table(["", metric_label(found.metric), "best baseline", "cases"], rows)]
    return told


def _intervals(run: Path, report: Mapping[str, Any], found: Headline) -> list[str]:
    unit = "logarithm of the relative error" if found.metric == "relmae" else metric_label(found.metric)
    told = []
    for method in report["metrics"][found.split]:
        interval = None if method == found.ours else difference(run, found.ours, run, method)
        if interval is not None:
            told.append(
                f"{method}: {unit} {interval.low:+.4f} to {interval.high:+.4f} (95 % interval, {interval.how} over "
                f"{interval.cases:,} cases)"
            )
    if not told and (compared := with_baseline(run, report)) is not None:
        told = [compared.told]
    return told


def _ruled(report: Mapping[str, Any]) -> list[str]:
    ruled = report.get("gate")
    if not ruled:
        return ["It was trained before there was a gate: nothing was compared."]
    used = "It was put into use." if ruled["used"] else "It was held back."
    told = [*ruled["told"], *(doubt for doubt in ruled["doubts"] if doubt not in ruled["told"])]
    return [used, _list(told)]


def _again(run: Path, report: Mapping[str, Any]) -> list[str]:
    package, recipe = runs.PACKAGE[run.parent.name], report.get("recipe") or {}
    argv = [word for config in recipe.get("config", ()) for word in ("--config", config)]
    words = [*argv, *recipe.get("overrides", ())]
    asked = " ".join(words) if argv else f"--config {run.name}/config.yaml {' '.join(words)}".strip()
    versions = ", ".join(f"{name} {version}" for name, version in (report.get("versions") or {}).items())
    hashes = ", ".join(recipe.get("config_sha256", ()))
    facts = [
        f"Seed {report.get('seed')}, trained at {report.get('created_at', 'an unknown time')}.",
        f"Versions: {versions}." if versions else "",
        f"SHA-256 of the configuration: {hashes}." if hashes else "",
        "All settings as they were resolved are in `config.yaml` beside this card.",
    ]
    return [f"    python -m {package} fit {asked}", _list(facts)]


# -- Markdown --------------------------------------------------------------------------------------------------------


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines if line)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *map(line, rows)])


def _metrics_table(methods: Mapping[str, Mapping[str, float | None]], ours: str) -> str:
    names = list(dict.fromkeys(name for row in methods.values() for name in row))
    rows = [
        [f"**{method}**" if method == ours else method, *(_number(row.get(name)) for name in names)]
        for method, row in methods.items()
    ]
    return _table(["", *(name if name == HALF_WIDTH else metric_label(name) for name in names)], rows)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.3f}"


def _count(row: Mapping[str, Any]) -> str:
    return next((f"{row[name]:,.0f} {name}" for name in COUNTS if row.get(name)), "–")
