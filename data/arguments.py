"""The arguments of a model package's command, before and after jsonargparse: defaults put in, errors made readable."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data import runs
from data.dataset import open_dataset
from data.errors import UserError
from data.schema import USER_ID


def one_sentence(package: str, models: Sequence[str], message: str) -> str:
    """What jsonargparse says of a mistake, in one sentence that names the flag and what was expected."""
    if "required: " in message or 'expected "subcommand"' in message:
        return (
            f"Nothing to do: say what and with which configuration, e.g. python -m {package} fit --config "
            f"{runs.QUICK_CONFIG[models[0]]} (also: validate, test, predict, evaluate, promote, card)."
        )
    text = readable(message)
    if len(text) > 400:
        text = text[:400].rsplit(" ", 1)[0] + " …"
    return f"{text.rstrip('.')}. 'python -m {package} fit --help' lists the flags."


def readable(text: str) -> str:
    """A parser's message with the flag as it is typed: `Parser key "a.b": ...` is `--a.b: expected int, got 'x'`."""
    text = " ".join(line.strip(" -") for line in text.splitlines() if line.strip())
    if (key := re.match(r'Parser key "([^"]+)": ', text)) is not None:
        given = re.search(r"(?:Given|Got) value: (?!.*(?:Given|Got) value: )(.*)$", text)
        wanted = re.search(r"Expected an? <class '(\w+)'>", text)
        unknown = re.search(r"given class_path '(?:\S+\.)?(\w+)': Option '(\w+)' is not accepted", text)
        if unknown:
            return (
                f"--{key[1]}.{unknown[2]} is no argument of {unknown[1]}: if a configuration of an earlier version has "
                "it, take it out there"
            )
        nested = re.match(r"""["']?NestedArg\(key='(.+?)', val='(.*)'\)""", given[1]) if given else None
        if wanted and wanted[1] == "NoneType":
            return f"--{key[1]}{'.' + nested[1] if nested else ''} is no argument"
        if wanted and nested:
            return f"--{key[1]}.{nested[1]}: expected {wanted[1]}, got {nested[2]!r}"
        if wanted and given:
            return f"--{key[1]}: expected {wanted[1]}, got {given[1]!r}"
        return f"--{key[1]}: {text[key.end() :]}"
    return text


def option(argv: Sequence[str], *names: str) -> str | None:
    """The last value of an option in `argv`, given as `--name value` or `--name=value`."""
    found = None
    for position, argument in enumerate(argv):
        name, _, value = argument.partition("=")
        if name in names:
            found = value or (argv[position + 1] if position + 1 < len(argv) else None)
    return found


def with_defaults(models: Sequence[str], argv: list[str]) -> list[str]:
    """For validate, test and predict: the current run's configuration and checkpoint unless others are named.

    Without this Lightning would test random weights and exit 0.
    """
    if argv[:1] not in (["validate"], ["test"], ["predict"]) or {"-h", "--help"} & set(argv):
        return argv
    rest = argv[1:]
    checkpoint = option(rest, "--ckpt_path")
    if checkpoint is None:
        # The run's own configuration goes with its weights: --config only says which model is meant.
        dataset = option(rest, "--data.dataset", "--data.init_args.dataset") or "demo"
        run = runs.require_run(open_dataset(dataset).name, _model_of(models, rest))
        checkpoint = str(run / ("model.ckpt" if argv[0] == "predict" else "best.ckpt"))
        rest = [*_without(rest, "--config", "-c"), "--ckpt_path", checkpoint]
        if not Path(checkpoint).is_file():
            raise UserError(f"{checkpoint} is gone: train again, promote another run, or name a --ckpt_path.")
    elif not Path(checkpoint).is_file():
        raise UserError(f"--ckpt_path {checkpoint} does not exist: give a .ckpt file of a run.")
    config = run_of(Path(checkpoint)) / "config.yaml"
    if option(rest, "--config", "-c") is None and config.is_file():
        rest = ["--config", str(config), *rest]
    return [argv[0], *rest]


def _without(argv: Sequence[str], *names: str) -> list[str]:
    """`argv` without options that take one value, given as `--name value` or `--name=value`."""
    kept: list[str] = []
    skip = False
    for argument in argv:
        if not skip and argument.partition("=")[0] not in names:
            kept.append(argument)
        skip = not skip and argument in names
    return kept


def _model_of(models: Sequence[str], argv: Sequence[str]) -> str:
    if len(models) == 1:
        return models[0]
    config = option(argv, "--config", "-c") or ""
    chosen = [m for m in models if m in Path(config).name]
    if len(chosen) != 1:
        raise UserError(
            f"Which model? Give --config with the name of one of {', '.join(models)} in it, e.g. "
            f"--config {runs.QUICK_CONFIG[models[0]]}, or --ckpt_path FILE."
        )
    return chosen[0]


def run_of(checkpoint: Path) -> Path:
    """The run folder that a checkpoint file lies in."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def users_named(users: str) -> list[str]:
    """The ids that `--users` names, without repeats: a file (one id in each line, or CSV with user_id) or a list.

    Raises:
        UserError: the file is missing, is no text or holds no id.
    """
    path = Path(users)
    if path.is_file():
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"--users {users} is not a text file: give one user id in each line.") from None
        if lines and USER_ID in (header := [name.strip().strip('"') for name in lines[0].split(",")]):
            frame = pd.read_csv(path, dtype=str, usecols=[header.index(USER_ID)], keep_default_na=False)
            lines = frame.iloc[:, 0].tolist()
        ids = [line.strip() for line in lines]
    elif "/" in users or path.suffix in (".csv", ".txt"):
        raise UserError(f"--users {users} does not exist: give a file, ids with commas between them, or 'all'.")
    else:
        ids = [part.strip() for part in users.split(",")]
    ids = list(dict.fromkeys(i for i in ids if i))
    if not ids:
        raise UserError(f"--users {users} names nobody: give a file, ids with commas between them, or 'all'.")
    return ids
