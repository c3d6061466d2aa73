"""Batch scoring: `python score.py recommend|reviews|engagement|retention|winback --dataset NAME [--out PATH]`.

The models' own scorers do the work (recsys/batch.py, nlp/batch.py, forecasting/scorer.py); this script reads the
arguments, keeps memory bounded by letting them write as they go, and tells where the result is.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from data import command, interrupted  # noqa: F401  (interrupted for its effect)
from data.arguments import readable
from data.engines import ENGINES, Engine
from data.errors import UserError
from data.profile import keep_scores


def _engine(arguments: Namespace) -> dict[str, Any]:
    """Who scores, and in what pieces."""
    asked: dict[str, Any] = {"engine": Engine(arguments.engine, arguments.processes, arguments.address)}
    return asked if arguments.shard_size is None else asked | {"shard_size": arguments.shard_size}


def _recommend(arguments: Namespace) -> Path:
    from recsys.batch import score

    return score(
        arguments.dataset,
        arguments.out,
        users=arguments.users,
        top_k=arguments.top_k,
        reasons=arguments.reasons,
        changed_only=arguments.changed_only,
        sharded=arguments.sharded,
        **_engine(arguments),
    )


def _reviews(arguments: Namespace) -> Path:
    if arguments.input is None:
        from nlp.batch import score_reviews

        return score_reviews(
            arguments.dataset,
            arguments.out,
            limit=arguments.limit,
            tone=arguments.tone,
            service=arguments.service,
            reply_model=arguments.reply_model,
            changed_only=arguments.changed_only,
            **_engine(arguments),
        )
    if _engine(arguments) != {"engine": Engine()} or arguments.changed_only:
        raise UserError(
            "--input is scored by this process, and goes on where it was stopped: leave out --engine, --processes, "
            "--shard-size and --changed-only, which are for the reviews of a dataset."
        )
    if arguments.out is None:
        raise UserError("--input needs --out FILE: the scored copy of the table is written there.")
    from nlp.table_scoring import score_file

    return score_file(
        arguments.input,
        arguments.text_column,
        arguments.out,
        dataset=arguments.dataset,
        limit=arguments.limit,
        tone=arguments.tone,
        service=arguments.service,
        reply_model=arguments.reply_model,
        sentiment_only=arguments.sentiment_only,
    )


def _engagement(arguments: Namespace) -> Path:
    from forecasting.anomalies import score_unusual
    from forecasting.scorer import score_engagement

    path = score_engagement(arguments.dataset, arguments.out, horizon=arguments.horizon)
    if arguments.out is None:  # the dashboard's tables, which belong together
        score_unusual(arguments.dataset)
    return path


def _retention(arguments: Namespace) -> Path:
    from forecasting.scorer import score_retention

    return score_retention(arguments.dataset, arguments.out, users=arguments.users, **_engine(arguments))


def _winback(arguments: Namespace) -> Path:
    from forecasting.winback import write_winback

    return write_winback(
        arguments.dataset,
        arguments.out,
        band=arguments.band,
        seen_within=arguments.seen_within,
        limit=arguments.limit,
    )


_SCORERS: dict[str, Callable[[Namespace], Path]] = {
    "recommend": _recommend,
    "reviews": _reviews,
    "engagement": _engagement,
    "retention": _retention,
    "winback": _winback,
}


_INPUT = (
    "CSV, TSV or Parquet of any size to score instead, with the model that --dataset would use; with it, reviews "
    "are linked to its titles. --out (.csv, .tsv or .parquet) gets all rows and columns; a row that cannot be read has "
    "no score and a reason in column 'problem'. A run that was stopped goes on with the same command. In CSV, a text "
    "cell that a spreadsheet would take for a formula (it begins with = + - @, a tab or a line break, and is no "
    "number) gets a leading apostrophe."
)


_BY_ENGINE = ("recommend", "reviews", "retention")
_BY_CHANGE = ("recommend", "reviews")  # where what is new of one says nothing of others


def _add_engine(sub: ArgumentParser) -> None:
    sub.add_argument("--engine", type=str, default="local", help=f"Who scores: {' or '.join(ENGINES)}.")
    sub.add_argument("--address", type=str | None, default=None, help="Of a Ray cluster; default: Ray on this machine.")
    sub.add_argument(
        "--processes",
        type=int | None,
        default=None,
        help="How many hold the model; default: one with all cores; Ray: one for each GPU or core.",
    )
    sub.add_argument(
        "--shard-size",
        type=int | None,
        default=None,
        help="How many members or reviews are taken at a time; what is scored is kept if the command is stopped.",
    )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="score.py", description="Score a dataset with the models in use.", exit_on_error=False)
    commands = parser.add_subcommands()
    for name, purpose in (
        ("recommend", "the next titles for each member"),
        ("reviews", "the sentiment of each review, of a dataset or of any table with a text column"),
        ("engagement", "the audience of the coming days"),
        ("retention", "the probability that each member comes back"),
        ("winback", "the members to win back, from the tables of retention and recommend,"),
    ):
        kind = "CSV or Parquet" if name == "winback" else "Parquet"
        sub = ArgumentParser(description=f"Write {purpose} as {kind}.", exit_on_error=False)
        sub.add_argument("--dataset", type=str | None, default=None, help="Name of a dataset on disk; default demo.")
        sub.add_argument("--out", type=Path | None, default=None, help="File to write; default scores/<dataset>/.")
        if name in ("recommend", "retention"):
            sub.add_argument("--users", type=str, default="all", help="all, a comma-separated list, or a file of ids.")
        if name in _BY_ENGINE:
            _add_engine(sub)
        if name in _BY_CHANGE:
            sub.add_argument(
                "--changed-only", type=bool, default=False, help="Score what is new; keep the rows of the last time."
            )
        if name == "recommend":
            sub.add_argument(
                "--sharded", type=bool, default=False, help="Write --out as a folder of many Parquet files instead."
            )
            sub.add_argument("--top-k", type=int, default=20, help="Titles for each member.")
            sub.add_argument(
                "--reasons", type=bool, default=True, help="Name the event behind each title; false: faster."
            )
        if name == "reviews":
            sub.add_argument("--input", type=Path | None, default=None, help=_INPUT)
            sub.add_argument("--text-column", type=str, default="text", help="Column of --input with the text.")
            sub.add_argument(
                "--sentiment-only",
                type=bool,
                default=False,
                help="With --input: true writes label and p_positive alone, which is quicker.",
            )
            sub.add_argument("--limit", type=int | None, default=None, help="Score this many reviews at most.")
            sub.add_argument("--tone", type=str, default="warm", help="Of the reply drafts: warm, formal or brief.")
            sub.add_argument("--service", type=str, default="our service", help="Name that the drafts are signed with.")
            sub.add_argument(
                "--reply-model",
                type=str | None,
                default=None,
                help="Text-generation model for the drafts, a hub name or folder; default: compiled from parts.",
            )
        if name == "winback":
            sub.add_argument("--band", type=str, default="high", help="Risk to leave: high, medium, low or all.")
            sub.add_argument(
                "--seen-within", type=int | None, default=None, help="Only members seen within so many days."
            )
            sub.add_argument("--limit", type=int | None, default=None, help="So many members at most.")
        if name == "engagement":
            sub.add_argument(
                "--horizon",
                type=int | None,
                default=None,
                help="Steps (days or whatever the series have) to forecast; default: what the model was trained for.",
            )
        commands.add_subcommand(name, sub, help=f"write {purpose}")
    return parser


def _run(argv: Sequence[str]) -> None:
    try:
        parsed = _parser().parse_args(list(argv))
    except ArgumentError as mistake:
        raise UserError(
            f"{readable(str(mistake)).rstrip('.')}: use score.py {'|'.join(_SCORERS)} --dataset NAME "
            "(--help lists the flags)."
        ) from None
    started = time.perf_counter()
    arguments = parsed[parsed.subcommand]
    if arguments.dataset is None and arguments.get("input") is None:
        arguments.dataset = "demo"
    for flag, value in (
        ("--top-k", arguments.get("top_k")),
        ("--limit", arguments.get("limit")),
        ("--shard-size", arguments.get("shard_size")),
    ):
        if value is not None and value < 1:
            raise UserError(f"{flag} {value} asks for nothing: give a number of 1 or more.")
    if arguments.out is not None and arguments.out.is_dir():
        arguments.out = arguments.out / _DEFAULT_NAME[parsed.subcommand]
    out = _SCORERS[parsed.subcommand](arguments)
    whole = arguments.out is None and arguments.get("users", "all") == "all"
    if whole and parsed.subcommand in _MODEL:  # the dashboard's table, which later ones are compared with
        keep_scores(arguments.dataset, _MODEL[parsed.subcommand], out)
    print(f"Wrote {out} in {time.perf_counter() - started:.0f} s.")


_MODEL = {"recommend": "recommender", "reviews": "sentiment", "engagement": "engagement", "retention": "retention"}
_DEFAULT_NAME = {
    "recommend": "recommendations.parquet",
    "reviews": "review_scores.parquet",
    "engagement": "engagement_forecast.parquet",
    "retention": "retention.parquet",
    "winback": "winback.csv",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run one scoring command; returns its exit code. Callable in-process from a test."""
    argv = list(sys.argv[1:] if args is None else args)
    return command.run(lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
