"""From a run to recommendations: the only door to the recommender for score.py and the dashboard.

The model itself needs nothing but its run folder. What a member has seen, and must not be shown again, is read from
the run's dataset.

* A member whom the model was not trained on (new since the fit, or without any positive event) gets the most popular
  titles that they have not seen; `score` is then the share of members who wanted the title instead of the model's
  probability.
* A title that entered the dataset after the fit is not recommended before the next one.
* Lists are shorter than k where a member has seen nearly everything.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm import tqdm

from data import home, runs, schema
from data.arguments import users_named
from data.atomic import atomic_file
from data.dataset import Dataset, open_dataset, read_parquet
from data.errors import UserError
from data.schema import ITEM_ID, USER_ID
from data.served import load_served
from recsys.interactions import Histories, Vocabulary, hidden_titles
from recsys.neumf import NeuMFModule

_BLOCK = 2**26  # scores held at once


class Recommender:
    """A trained recommender with the titles that its members have seen."""

    def __init__(self, module: NeuMFModule, vocabulary: Vocabulary, popularity: np.ndarray, run: Path) -> None:
        self.module, self.vocabulary, self.popularity = module.eval(), vocabulary, popularity
        self.run_id, self.dataset_name = run.name, run.parent.parent.name

    @classmethod
    def load(cls, run: Path, device: str = "cpu") -> "Recommender":
        """The recommender of a run folder, on `device`.

        Raises:
            UserError: a file of the run is missing or damaged.
        """
        vocabulary, popularity = Vocabulary.load(run)
        return cls(load_served(NeuMFModule, run, device), vocabulary, popularity, run)

    @cached_property
    def members(self) -> pd.Index:
        """Everybody who can be recommended to: the model's members, then the dataset's others."""
        dataset = open_dataset(self.dataset_name)
        there = [pd.Series(_ids(dataset, table)) for table in ("interactions", "users") if dataset.has(table)]
        ids = pd.concat(there, ignore_index=True).drop_duplicates() if there else pd.Series([], dtype=object)
        return self.vocabulary.user_ids.append(pd.Index(ids[~ids.isin(self.vocabulary.user_ids)].astype(object)))

    @cached_property
    def hidden(self) -> Histories:
        """What each of `members` has seen, in their order. Read once; a new `load` reads again."""
        return hidden_titles(open_dataset(self.dataset_name), self.vocabulary, self.members)

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 20,
        hide_seen: bool = True,
        exclude: Collection[str] = (),
        batch_size: int = 1024,
    ) -> pd.DataFrame:
        """The k best titles for each member: columns user_id, rank (from 1), item_id, score; exact, best first.

        Args:
            user_ids: members, in any order.
            k: titles for each.
            hide_seen: leave out what the member has seen or given a thumb down.
            exclude: item ids to leave out for everybody.
            batch_size: members scored at once.

        Raises:
            UserError: a member is unknown, `k` is below 1, or the dataset is gone.
        """
        tables = [t.to_pandas() for t, _ in self.batches(self.positions(user_ids), k, hide_seen, exclude, batch_size)]
        columns = [USER_ID, "rank", ITEM_ID, "score"]
        return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)

    def positions(self, user_ids: Sequence[str]) -> np.ndarray:
        """Positions in `members`. Shape: (len(user_ids),).

        Raises:
            UserError: naming the first member who is unknown.
        """
        at = self.members.get_indexer(pd.Index(user_ids, dtype=object))
        if (at < 0).any():
            raise UserError(
                f"Member '{user_ids[int(np.argmax(at < 0))]}' is not in dataset '{self.dataset_name}' "
                f"({int((at < 0).sum()):,} of {len(at):,} are not): give user ids as they are in its tables."
            )
        return at

    def batches(
        self, positions: np.ndarray, k: int, hide_seen: bool, exclude: Collection[str], batch_size: int
    ) -> Iterator[tuple[pa.Table, int]]:
        """Recommendations batch by batch: a table of `schema.SCORES["recommendations"]`, and for how many members.

        Raises:
            UserError: `k` is below 1.
        """
        if k < 1:
            raise UserError(f"{k} titles for each member cannot be listed: give a number of 1 or more.")
        n_items = len(self.vocabulary.item_ids)
        batch_size = max(1, min(batch_size, _BLOCK // n_items))
        known = self.vocabulary.items(pd.Series(list(exclude), dtype=object))
        excluded = torch.from_numpy(known[known >= 0])
        for first in range(0, len(positions), batch_size):
            users = positions[first : first + batch_size]
            order, shown = self._scores(users)
            order[:, excluded] = -torch.inf
            if hide_seen:
                seen = self.hidden.take(users)
                order[torch.from_numpy(seen.users), torch.from_numpy(seen.items)] = -torch.inf
            best = order.topk(min(k, n_items))
            yield self._table(users, best.indices, shown.gather(1, best.indices), best.values > -torch.inf), len(users)

    @torch.no_grad()
    def _scores(self, users: np.ndarray) -> tuple[Tensor, Tensor]:
        """What to sort by, and what to show as score, for `users` in `members`. Each of shape (batch, n_items)."""
        at = torch.from_numpy(users)
        trained = at < len(self.vocabulary.user_ids)
        logits = torch.empty(len(at), len(self.vocabulary.item_ids))
        shown = torch.empty_like(logits)
        logits[trained] = self.module(at[trained].to(self.module.device)).float().cpu()
        shown[trained] = logits[trained].sigmoid()
        if not bool(trained.all()):
            popularity = torch.from_numpy(self.popularity.astype(np.float32))
            logits[~trained] = popularity
            shown[~trained] = popularity / len(self.vocabulary.user_ids)
        return logits, shown

    def _table(self, users: np.ndarray, items: Tensor, scores: Tensor, listed: Tensor) -> pa.Table:
        """Lists (batch, k) with a mask of real entries, as rows."""
        rows, ranks = listed.nonzero(as_tuple=True)
        kept = items[listed].numpy()
        columns = {
            USER_ID: pa.array(self.members.take(users[rows.numpy()]), pa.string()),
            "rank": pa.array(ranks.numpy() + 1, pa.int32()),
            ITEM_ID: self._item_ids.take(pa.array(kept)),
            "score": pa.array(scores[listed].double().numpy()),
            "reason_item_id": pa.nulls(len(kept), pa.string()),
            "reason_share": pa.nulls(len(kept), pa.float64()),
            "run_id": pa.array([self.run_id] * len(kept), pa.string()),
        }
        return pa.table(columns, schema=schema.SCORES["recommendations"])

    @cached_property
    def _item_ids(self) -> pa.Array:
        return pa.array(self.vocabulary.item_ids, pa.string())

    def similar(self, item_id: str, k: int = 20) -> pd.DataFrame:
        """The k titles whose embeddings point most nearly the same way: columns rank, item_id, score (cosine).

        Raises:
            UserError: the model does not know the title.
        """
        at = int(self.vocabulary.item_ids.get_indexer(pd.Index([item_id]))[0])
        if at < 0:
            raise UserError(f"Title '{item_id}' is unknown to recommender run {self.run_id}: train again to add it.")
        cosine = self._directions @ self._directions[at]
        cosine[at] = -torch.inf
        best = cosine.topk(min(k, len(cosine) - 1))
        ids = self.vocabulary.item_ids[best.indices.numpy()]
        ranks = np.arange(1, len(ids) + 1)
        return pd.DataFrame({"rank": ranks, ITEM_ID: ids, "score": best.values.double().numpy()})

    @cached_property
    def _directions(self) -> Tensor:
        """The titles' embeddings, each tower's at unit length. Shape: (n_items, sum of widths)."""
        return self.module.net.item_directions().detach().cpu()


def load_current(dataset: str, device: str = "cpu") -> Recommender:
    """The recommender in use on `dataset`.

    Raises:
        UserError: there is none yet; the sentence holds the command that trains one.
    """
    return Recommender.load(runs.require_run(dataset, "recommender"), device)


def score(dataset: str, out: Path | None = None, users: str = "all", top_k: int = 20, batch_size: int = 1024) -> Path:
    """Write the top titles of many members as a Parquet table, in bounded memory, atomically; return where.

    Args:
        dataset: name of the dataset; its current recommender is used.
        out: the file to write (default: recommendations.parquet in the dataset's scores folder).
        users: `all`, ids with commas between them, or a file: one id in each line, or a CSV with a user_id column.
        top_k: titles for each member.
        batch_size: members scored at once.

    Raises:
        UserError: there is no dataset, no recommender or no such member.
    """
    recommender = load_current(open_dataset(dataset).name, "auto")
    ids = list(recommender.members) if users == "all" else users_named(users)
    positions = recommender.positions(ids)
    target = out if out is not None else home.scores(dataset) / "recommendations.parquet"
    target = target / "recommendations.parquet" if target.is_dir() else target
    with (
        atomic_file(target) as temporary,
        pq.ParquetWriter(temporary, schema.SCORES["recommendations"], compression="zstd") as writer,
        tqdm(total=len(ids), desc="recommend", unit=" members") as progress,
    ):
        for table, members in recommender.batches(positions, top_k, True, (), batch_size):
            writer.write_table(table)
            progress.update(members)
    return target


def _ids(dataset: Dataset, table: str) -> np.ndarray:
    if table == "users":
        return read_parquet(dataset.path("users"), [USER_ID])[USER_ID].to_numpy(object)
    column = pq.read_table(dataset.path(table), columns=[USER_ID], read_dictionary=[USER_ID])[USER_ID]
    return column.unique().to_pandas().astype(object).to_numpy()
