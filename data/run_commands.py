"""What the model packages do with finished runs: `promote RUN [--force]` and `card [RUN]`."""

from collections.abc import Sequence

from data import command, gate, runs
from data.card import write_card
from data.dataset import open_dataset
from data.errors import UserError
from data.package import Package
from data.served import promote


def promote_run(package: Package, argv: Sequence[str]) -> None:
    """`promote RUN [--force]`: put a run into use, if the gate (data/gate.py) lets it through or is forced.

    Raises:
        UserError: the run is worse than the one in use or its baseline, is not finished, or cannot be loaded.
    """
    force = "--force" in argv
    rest = [argument for argument in argv if argument != "--force"]
    if len(rest) != 1 or rest[0].startswith("-"):
        raise UserError(
            f"Usage: python -m {package.name} promote RUN [--force], where RUN is a run's folder or its id."
        )
    run = runs.find_run(rest[0], package.models)
    dataset, model = run.parent.parent.name, run.parent.name
    ruling = gate.judge(run, runs.read_report(run), runs.current_run(dataset, model))
    if not ruling.passes and not force:
        raise UserError(f"Run {run.name} was not put into use. {ruling.why} --force does it all the same.")
    promote(run, package.open_run)
    print(f"{model} of dataset '{dataset}' is now run {run.name}.")
    for doubt in filter(None, (ruling.why, *ruling.doubts)):
        print(f"- {doubt}")


def write_cards(package: Package, argv: Sequence[str]) -> None:
    """`card [RUN] [--data.dataset NAME]`: write the card of a run, or of each run in use of the dataset.

    Raises:
        UserError: there is no such run, or none in use.
    """
    parser = command.Parser(
        prog=f"python -m {package.name} card", description="Write a run's model card, card.md in its folder."
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's folder or its id (default: those in use)")
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="of the runs in use (default: demo)")
    asked = parser.parse_args(argv)
    if asked.run is not None:
        found = [runs.find_run(asked.run, package.models)]
    else:
        name = open_dataset(asked.dataset).name
        found = [run for model in package.models if (run := runs.current_run(name, model)) is not None]
        if not found:
            runs.require_run(name, package.models[0])
    for run in found:
        print(f"Wrote {write_card(run)}.")
