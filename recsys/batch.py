"""The recommendations of many members as a table: in bounded memory, on one machine or many, all or what changed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data import home, incremental, schema, shards
from data.arguments import users_named
from data.dataset import open_dataset
from data.engines import Engine, score_missing
from data.errors import UserError
from data.parts import parts_folder
from data.schema import USER_ID
from recsys.feedback import Feedback
from recsys.filters import Chosen
from recsys.scorer import Recommender, load_current

SHARD = 8_192  # members: seconds of work, and lists of 20 titles of some MB
_BATCH = 2_048  # members whose lists are in memory at once, twice over
_HANDED, _MEMBERS, _THERE = "handed", "members.parquet", "there"


def score(
    dataset: str,
    out: Path | None = None,
    users: str = "all",
    top_k: int = 20,
    reasons: bool = True,
    engine: Engine = Engine(),  # noqa: B008  (frozen)
    changed_only: bool = False,
    sharded: bool = False,
    shard_size: int = SHARD,
) -> Path:
    """Write the top titles of many members as a Parquet table, in bounded memory, atomically; return where.

    One that is stopped, however it is, goes on with the same call where it was; see data/shards.py.

    Args:
        dataset: name of the dataset; its current recommender is used.
        out: the file to write (default: recommendations.parquet in the dataset's scores folder), or with `sharded` the
            folder.
        users: `all`, ids with commas between them, or a file: one id in each line, or a CSV with a user_id column.
        top_k: titles for each member.
        reasons: name for each title the event that speaks most for it, where the model can; takes longer.
        engine: who scores.
        changed_only: keep the rows of `out` of members of whom nothing new is known. Where another run, catalogue or
            setting made it, all are scored.
        sharded: leave the table in files of `shard_size` members.
        shard_size: members that one process takes at a time.

    Raises:
        UserError: there is no dataset, no recommender or no such member, or what is asked for is impossible.
    """
    if top_k < 1:
        raise UserError(f"{top_k} titles for each member cannot be listed: give a number of 1 or more.")
    if sharded and (out is None or changed_only):
        raise UserError("--sharded true writes a folder of all members: give --out FOLDER, and no --changed-only.")
    engine.prepare(__name__)
    found = open_dataset(dataset)
    target = out if out is not None else home.scores(dataset) / "recommendations.parquet"
    if sharded:
        shards.check_folder(target)
    elif target.is_dir():
        target = target / "recommendations.parquet"
    recommender = load_current(found.name, "auto")
    run = home.runs(found.name, "recommender") / recommender.run_id
    ids = np.array(recommender.members if users == "all" else users_named(users), object)
    positions = recommender.positions(list(ids))
    settings = {"run": recommender.run_id, "top_k": top_k, "reasons": reasons}
    titles = {"titles": shards.digest(recommender.vocabulary.item_ids.to_numpy(object))}
    digests = recommender.feedback.digests()[positions]
    carried = incremental.metadata(settings | titles, ids, digests)
    new = None
    if changed_only:
        new = incremental.changed(target, USER_ID, ids, digests, settings | titles)
        depends = "run, catalogue or setting"
        print(incremental.told(target, new, "members", "have new events", "are scored", depends))
    with parts_folder(target) as parts:
        work = shards.shards_in(
            parts,
            ids if new is None else ids[new],
            shard_size,
            {**settings, "dataset": found.fingerprint},
            partial(_opened, run, parts.resolve() / _HANDED, top_k, reasons),
            schema.SCORES["recommendations"],
        )
        if engine.apart and work.missing():
            _hand_over(recommender, parts / _HANDED)
        score_missing(work, engine, partial(_scored, recommender, top_k, reasons))
        if sharded:
            shards.move_to(work, target)
        elif new is None:
            shards.write_one(work, target, carried)
        else:
            incremental.merge(target, USER_ID, ids, work, ids[new], target, carried, order="rank")
        if not sharded:
            incremental.write_state(target, USER_ID, ids, digests, carried)
    return target


def _hand_over(recommender: Recommender, folder: Path) -> None:
    """Who the members are and what they have said, for processes that score: one copy in memory serves those of a
    machine, and none of them has to read the tables, which may be others by then."""
    folder.mkdir(exist_ok=True)
    there = recommender.everybody.isin(recommender.members)
    members = {USER_ID: pa.array(recommender.everybody, pa.string()), _THERE: pa.array(there)}
    pq.write_table(pa.table(members), folder / _MEMBERS)
    recommender.feedback.save(folder)


def _opened(run: Path, handed: Path, top_k: int, reasons: bool) -> shards.Scorer:
    """What scores members in a process of its own, by what was handed over.

    Raises:
        UserError: it cannot be read, or the catalogue is another one by now.
    """
    recommender = Recommender.load(run, "auto")
    try:
        members = pq.read_table(handed / _MEMBERS).to_pandas()
        feedback = Feedback.load(handed)
    except OSError:
        raise UserError(f"{handed} cannot be read: --out needs a folder that all scoring machines share.") from None
    if feedback.wanted.n_items != len(recommender.vocabulary.item_ids):
        raise UserError("The catalogue has changed while members are scored: run the same command again.")
    recommender.everybody, recommender.feedback = pd.Index(members[USER_ID], dtype=object), feedback
    recommender.members = recommender.everybody[members[_THERE].to_numpy()]
    return partial(_scored, recommender, top_k, reasons)


def _scored(recommender: Recommender, top_k: int, reasons: bool, ids: np.ndarray) -> Iterator[tuple[pa.Table, int]]:
    return recommender.batches(recommender.positions(list(ids)), top_k, Chosen(), _BATCH, reasons)
