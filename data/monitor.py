"""`python -m data ready NAME` and `python -m data drift NAME`, see data/readiness.py and data/drift.py."""

import argparse
import json

from data.printed import print_table
from data.runs import MODELS


def ready_command(arguments: argparse.Namespace) -> None:
    """Say for each model whether a dataset is enough, as a table with sentences below, or as JSON.

    Raises:
        UserError: there is no such dataset, or with --strict a model is not ready.
    """
    from data.dataset import open_dataset
    from data.readiness import all_readiness, require_ready, table

    dataset = open_dataset(arguments.name)
    found = all_readiness(dataset, [model for model in MODELS if model in (arguments.model or MODELS)])
    if arguments.json:
        print(json.dumps({"dataset": dataset.name, "models": [one.as_json() for one in found]}, indent=2))
    else:
        print(f"Dataset '{dataset.name}'")
        print_table(["model", "state", "counted", "there", "needed", "enough"], table(found), right=range(3, 6))
        for one in (one for one in found if one.told):
            print(f"\n{one.model}, {one.state}")
            for sentence in one.told:
                print(f"  - {sentence}")
    if arguments.strict:
        require_ready(found, dataset.name)


def drift_command(arguments: argparse.Namespace) -> None:
    """Compare tables and scores with those of the runs in use, as a table with sentences below, or as JSON.

    Raises:
        UserError: there is no such dataset, or with --strict something drifted much.
    """
    from data.dataset import open_dataset
    from data.drift import drift, require_stable, table

    dataset = open_dataset(arguments.name)
    found = [drift(dataset, model) for model in MODELS if model in (arguments.model or MODELS)]
    if arguments.json:
        print(json.dumps({"dataset": dataset.name, "models": [one.as_json() for one in found]}, indent=2))
    else:
        print(f"Dataset '{dataset.name}'")
        header = ["model", "of", "what", "then", "now", "PSI or share", "JS", "state"]
        if rows := table(found):
            print_table(header, rows, right=range(3, 7))
        for one in found:
            for sentence in (*one.told, *one.notes):
                print(f"{one.model}: {sentence}")
    if arguments.strict:
        require_stable(found, dataset.name)
