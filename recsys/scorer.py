"""From a run to recommendations: the only door to the recommender; recsys/batch.py makes tables of them.

The model itself needs nothing but its run folder. What a member has seen, and must not be shown again, is read from
the run's dataset; HistoryNet reads there too what a member has wanted, up to the latest event.

* HistoryNet serves everybody alike: a member new since the fit is a short history, a title new since the fit its
  genres, year and name. Its score is p / (p + DRAWN / n_items), p the probability of being the next title: the chance
  of the title when it stands beside DRAWN others drawn at random.
* NeuMF knows the members and titles of its training. Another member gets the most popular titles not seen yet, with the
  share of the members who wanted the title as score instead of the model's probability; a new title waits for the next
  fit.
* A thumb down hides the title and lowers those near it (HistoryNet), at once.
* Lists are shorter than k where a member has seen nearly everything.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from data import runs, schema
from data.dataset import Dataset, open_dataset, readable
from data.errors import UserError
from data.schema import ITEM_ID, USER_ID
from data.served import load_served
from recsys.content import content_tokens, genre_matrix
from recsys.decoder import Decoder
from recsys.feedback import Feedback
from recsys.filters import Catalogue, Chosen
from recsys.history import HistoryModule
from recsys.interactions import Histories, Vocabulary
from recsys.module import RankingModule
from recsys.neumf import NeuMFModule
from recsys.ranking import top_k
from recsys.reasons import Reasons
from recsys.reasons import reasons as find_reasons
from recsys.variety import CANDIDATES, diversified, jaccard
from recsys.windows import latest_events
from recsys.workers import memory, workers_on

KINDS: tuple[type[RankingModule], ...] = (HistoryModule, NeuMFModule)
DRAWN = 8  # titles that a match is measured against
DISLIKE = 2.0  # what a thumb down takes from the logit of a title that is wholly like it
_LEAST, _SHARE = 32, 512  # members that a thread encodes at once: so many at least, so many at most
_SHARES = 4  # of a batch of more than four times the least
_FEW_ROWS = 10_000
_BLOCK = 2**20  # scores that it makes at once: more gained nothing, fewer cost calls
_GPU_BLOCK = 2**24  # the same on a GPU, for which a call costs more


class _Lists(NamedTuple):
    """Of some members."""

    titles: tuple[Tensor, Tensor, Tensor]  # see Recommender._best
    why: Reasons | None


class Recommender:
    """A trained recommender with what its members have wanted and what must not be shown to them."""

    def __init__(self, module: RankingModule, vocabulary: Vocabulary, popularity: np.ndarray, run: Path) -> None:
        self.vocabulary, self.popularity = vocabulary, popularity
        self._take(module)
        self.run_id, self.dataset_name = run.name, run.parent.parent.name

    @classmethod
    def load(cls, run: Path, device: str = "cpu") -> "Recommender":
        """The recommender of a run folder, on `device`.

        Raises:
            UserError: a file of the run is missing or damaged.
        """
        vocabulary, popularity = Vocabulary.load(run)
        name = runs.read_report(run).get("class")
        kind = next((k for k in KINDS if f"{k.__module__}.{k.__qualname__}" == name), None)
        if kind is None:
            raise UserError(f"{run} holds a '{name}', which is no recommender of this version: train again.")
        recommender = cls(load_served(kind, run, device), vocabulary, popularity, run)
        recommender._take_in_new_titles()
        return recommender

    def _take(self, module: RankingModule) -> None:
        self.module = module.eval()
        self._decoder: Decoder | None = None
        if isinstance(module, HistoryModule):
            module.serve()
            # What is derived from it may decode in a way of its own.
            if module.device.type == "cpu" and type(module) is HistoryModule:
                self._decoder = Decoder(module)

    def _take_in_new_titles(self) -> None:
        """Add titles that entered the catalogue after the fit, if the model can tell them by their content."""
        if not isinstance(self.module, HistoryModule) or not self.module.hparams["content"]:
            return
        try:
            items = open_dataset(self.dataset_name).items()
        except UserError:
            return  # there is no catalogue now; the run is all that the model needs
        new = pd.Index(
            items[ITEM_ID].astype(str)[~items[ITEM_ID].isin(self.vocabulary.item_ids)].unique().astype(object)
        )
        if not len(new):
            return
        self._take(self.module.extended(content_tokens(items, new, self.module.hparams["content_buckets"])))
        self.vocabulary = Vocabulary(self.vocabulary.user_ids, self.vocabulary.item_ids.append(new))
        self.popularity = np.append(self.popularity, np.zeros(len(new), self.popularity.dtype))

    @cached_property
    def _there(self) -> pd.Series:
        """Whom the dataset's tables know."""
        dataset = open_dataset(self.dataset_name)
        there = [pd.Series(_ids(dataset, table)) for table in ("interactions", "users") if dataset.has(table)]
        return pd.concat(there, ignore_index=True).drop_duplicates() if there else pd.Series([], dtype=object)

    @cached_property
    def everybody(self) -> pd.Index:
        """The model's members, then the dataset's others."""
        new = self._there[~self._there.isin(self.vocabulary.user_ids)]
        return self.vocabulary.user_ids.append(pd.Index(new.astype(object)))

    @cached_property
    def members(self) -> pd.Index:
        """Everybody who can be recommended to, in the order of `everybody`: not who is in no table any more, since
        they were forgotten, though the model still knows them."""
        return self.everybody[self.everybody.isin(self._there)]

    @cached_property
    def feedback(self) -> Feedback:
        """What `everybody` has said, in their order, up to the latest event. Read once; a new `load` reads again."""
        return Feedback.of(open_dataset(self.dataset_name), self.vocabulary, self.everybody)

    @cached_property
    def catalogue(self) -> Catalogue:
        ids = self.vocabulary.item_ids
        items = open_dataset(self.dataset_name).items()
        known = items.drop_duplicates(ITEM_ID).set_index(ITEM_ID).reindex(ids)
        return Catalogue(known, *genre_matrix(items, ids))

    def update(self, member: str, events: pd.DataFrame) -> None:
        """Fold new events of one member in, at once: the next call of `recommend` knows them. Nothing is written.

        Args:
            member: an id; one who is not among `members` becomes a member.
            events: item_id, and if known kind (default: watch), timestamp (default: after all others), rating. What
                a kind means is told in recsys/interactions.py; titles outside the catalogue are left out.

        Raises:
            UserError: there is no column item_id, or a kind is unknown.
        """
        if ITEM_ID not in events:
            raise UserError("An update needs a column item_id: name the titles that the member watched or rated.")
        feedback, everybody, members = self.feedback, self.everybody, self.members
        one = pd.Index([member], dtype=object)
        if member not in everybody:
            everybody = everybody.append(one)
            feedback = feedback.with_members(len(everybody))
        if member not in members:
            members = members.append(one)
        at = int(everybody.get_indexer(one)[0])
        feedback = feedback.with_events(at, events, self.vocabulary.items(events[ITEM_ID]))
        self.members, self.everybody, self.feedback = members, everybody, feedback

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 20,
        hide_seen: bool = True,
        exclude: Collection[str] = (),
        batch_size: int = 2048,
        reasons: bool = False,
        genres: Collection[str] = (),
        years: tuple[float, float] | None = None,
        variety: float = 0.0,
    ) -> pd.DataFrame:
        """The k best titles for each member: columns user_id, rank (from 1), item_id, score; exact, best first.

        Args:
            user_ids: members, in any order.
            k: titles for each.
            hide_seen: leave out what the member has seen or given a thumb down.
            exclude: item ids to leave out for everybody.
            batch_size: members whose lists are in memory at once, twice over.
            reasons: add reason_item_id and reason_share, see recsys/reasons.py.
            genres: only titles that have one of them; none: all titles.
            years: only titles from the first to the last of these years.
            variety: from 0, the most likely titles, to 1, titles that differ; see recsys/variety.py.

        Raises:
            UserError: a member is unknown, `k` is below 1, `variety` is not between 0 and 1, or the dataset is gone.
        """
        chosen = Chosen(hide_seen, frozenset(exclude), frozenset(genres), years, variety)
        batches = self.batches(self.positions(user_ids), k, chosen, batch_size, reasons)
        # A thread for each column costs more than it gains where there are few rows.
        tables = [table.to_pandas(use_threads=len(table) > _FEW_ROWS) for table, _ in batches]
        columns = [USER_ID, "rank", ITEM_ID, "score", *(["reason_item_id", "reason_share"] if reasons else [])]
        return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)

    def positions(self, user_ids: Sequence[str]) -> np.ndarray:
        """Positions in `everybody`. Shape: (len(user_ids),).

        Raises:
            UserError: naming the first who is not among `members`.
        """
        known = self.members.get_indexer(pd.Index(user_ids, dtype=object)) >= 0
        at = np.where(known, self.everybody.get_indexer(pd.Index(user_ids, dtype=object)), -1)
        if (at < 0).any():
            raise UserError(
                f"Member '{user_ids[int(np.argmax(at < 0))]}' is not in dataset '{self.dataset_name}' "
                f"({int((at < 0).sum()):,} of {len(at):,} are not): give user ids as they are in its tables."
            )
        return at

    def batches(
        self,
        positions: np.ndarray,
        k: int,
        chosen: Chosen,
        batch_size: int = 2048,
        reasons: bool = False,
    ) -> Iterator[tuple[pa.Table, int]]:
        """Recommendations batch by batch: a table of `schema.SCORES["recommendations"]`, and for how many members.

        Raises:
            UserError: `k` is below 1, or the variety is not between 0 and 1.
        """
        if k < 1:
            raise UserError(f"{k} titles for each member cannot be listed: give a number of 1 or more.")
        if not 0 <= chosen.variety <= 1:
            raise UserError(f"A variety of {chosen.variety:g} is impossible: give a number from 0 to 1.")
        admitted = ~self.vocabulary.item_ids.isin(chosen.exclude)
        if chosen.genres or chosen.years is not None:
            admitted &= self.catalogue.admitted(chosen.genres, chosen.years)
        excluded = torch.from_numpy(np.flatnonzero(~admitted))
        self.feedback  # noqa: B018  (read once, before threads want it)
        if chosen.variety > 0:
            self.catalogue  # noqa: B018
        with workers_on(self.module.device, alone=len(positions) <= _LEAST) as workers:

            def begun(users: np.ndarray) -> list[Future[_Lists]]:
                # Cut alike whatever the machine: sums of floats are to be the same everywhere.
                size = min(_SHARE, max(_LEAST, -(-len(users) // _SHARES)))
                shares = [users[at : at + size] for at in range(0, len(users), size)]
                return [workers.submit(self._lists, share, k, chosen, excluded, reasons) for share in shares]

            size = _even(len(positions), max(1, batch_size))
            batches = [positions[first : first + size] for first in range(0, len(positions), size)]
            ahead = begun(batches[0]) if batches else []
            for users, after in zip_longest(batches, batches[1:]):
                # Before this one is waited for: nobody is idle at its end, nor while it is told about.
                now, ahead = ahead, [] if after is None else begun(after)
                parts = [one.result() for one in now]
                # By numpy: what torch shares between threads would wait for those that make lists.
                titles = (map(Tensor.numpy, part.titles) for part in parts)
                items, values, shown = map(np.concatenate, zip(*titles, strict=True))
                why = [part.why for part in parts if part.why is not None]
                told = Reasons(*map(np.concatenate, zip(*why, strict=True))) if why else None
                yield self._table(users, items, shown, values > -np.inf, told), len(users)

    def _lists(self, users: np.ndarray, k: int, chosen: Chosen, excluded: Tensor, reasons: bool) -> "_Lists":
        titles = items, values, _ = self._best(users, k, chosen, excluded)
        why = None
        if reasons and isinstance(self.module, HistoryModule):
            why = find_reasons(self.module, self.feedback.wanted.take(users), items.where(values > -torch.inf, -1))
        return _Lists(titles, why)

    @torch.no_grad()
    def _best(self, users: np.ndarray, k: int, chosen: Chosen, excluded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Titles, what they are sorted by (-inf: none) and their scores, of `users` in `everybody`; each (batch, k).

        Args:
            excluded: positions of titles to leave out.
        """
        n_items = len(self.vocabulary.item_ids)
        said = self.feedback.take(users)
        hidden, excluded = said.hidden, self._columns(excluded)
        # Where in all scores, one row after the other, what is hidden stands.
        places = torch.from_numpy(hidden.users) * n_items + self._columns(torch.from_numpy(hidden.items))
        first, found = 0, []
        for order in self._scores(users, said):
            last = first + len(order)
            # Of all titles, whether they may be listed or not.
            shares = None
            if isinstance(self.module, HistoryModule):
                shares = torch.softmax(order, 1, out=memory.scores(1, *order.shape))
            if len(excluded):
                order[:, excluded] = -torch.inf
            if chosen.hide_seen:
                of_block = places[slice(*hidden.start[[first, last]])] - first * n_items
                order.view(-1).index_fill_(0, of_block, -torch.inf)
            values, items = top_k(order, min(k if chosen.variety == 0 else CANDIDATES * k, n_items))
            if shares is None:
                shown = self._shown_of_known(users[first:last], values)
            else:
                share = shares.gather(1, items)
                shown = share / (share + DRAWN / n_items)
            found.append((items if self._decoder is None else self._decoder.titles[items], values, shown))
            first = last
        items, values, shown = (torch.cat(parts) for parts in zip(*found, strict=True))
        if chosen.variety > 0:
            places = diversified(values, jaccard(self.catalogue.has_genre, items), min(k, n_items), chosen.variety)
            items, values, shown = (whole.gather(1, places) for whole in (items, values, shown))
        return items, values, shown

    @torch.no_grad()
    def scores_among(self, users: np.ndarray, said: Feedback, titles: np.ndarray) -> np.ndarray:
        """What some titles are sorted by, each row's own, given what its member had said at that moment.

        Nothing is read from `feedback`: the rows may be one member at several times, see recsys/replay_scores.py.

        Args:
            users: each row's member in the vocabulary's order, or `len(vocabulary.user_ids)` for a stranger. (rows,).
            said: of the rows, in their order; `hidden` is not looked at.
            titles: positions in the vocabulary, -1 for none. Shape: (rows, titles).

        Returns:
            Shape (rows, titles); NaN where there is no title.
        """
        found, first = [], 0
        for order in self._scores(users, said):
            at = torch.from_numpy(titles[first : first + len(order)])
            found.append(order.gather(1, self._columns(at.clamp_min(0))).masked_fill(at < 0, torch.nan))
            first += len(order)
        return torch.cat(found).double().numpy() if found else np.zeros(titles.shape)

    def _scores(self, users: np.ndarray, said: Feedback) -> Iterator[Tensor]:
        """What to sort by, for `users` in `everybody`: tensors (some of the users, n_items), one after the other.

        Titles stand in their `_columns`. A tensor is good until the next one is asked for.

        Args:
            said: by them, in their order.
        """
        module, decoder = self.module, self._decoder
        block_of = _BLOCK if module.device.type == "cpu" else _GPU_BLOCK
        size = max(1, block_of // len(self.vocabulary.item_ids)) if decoder is None else decoder.rows
        size = _even(len(users), size)
        room = None if decoder is None else memory.scores(0, size, len(self.vocabulary.item_ids))
        if isinstance(module, HistoryModule):
            encoded = module.encode(latest_events(said.wanted).to(module.device))
        for first in range(0, len(users), size):
            block = users[first : first + size]
            some = np.arange(first, first + len(block))
            if isinstance(module, HistoryModule):
                of_block = encoded.block(first, first + len(block))
                logits = module.decode(of_block).float().cpu() if decoder is None else decoder.decode(of_block, room)
                self._lower_neighbours(logits, said.disliked.take(some))
            else:
                logits = self._scores_of_known(block, said.wanted.take(some))
            yield logits

    def _columns(self, titles: Tensor) -> Tensor:
        """Where titles stand in the tensors of `_scores`."""
        return titles if self._decoder is None else self._decoder.columns[titles]

    def _scores_of_known(self, users: np.ndarray, wanted: Histories) -> Tensor:
        """The same of a module that knows the members of its training: popularity for others."""
        at = torch.from_numpy(users)
        trained = at < len(self.vocabulary.user_ids)
        logits = torch.from_numpy(self.popularity.astype(np.float32)).repeat(len(at), 1)
        seen = wanted.take(np.flatnonzero(trained.numpy()))
        logits[trained] = self.module.score(at[trained].to(self.module.device), seen).float().cpu()
        return logits

    def _shown_of_known(self, users: np.ndarray, values: Tensor) -> Tensor:
        """What to show as score, of what titles are sorted by, both (batch, k)."""
        trained = torch.from_numpy(users < len(self.vocabulary.user_ids))[:, None]
        return torch.where(trained, values.sigmoid(), values / max(1, len(self.vocabulary.user_ids)))

    def _lower_neighbours(self, logits: Tensor, disliked: Histories) -> None:
        """Take from each title how much it is like what the row's member gave a thumb down, in place.

        logit(i) -= DISLIKE * the largest similarity of i with such a title, where that is positive.
        """
        if not len(disliked.items):
            return
        most = torch.zeros_like(logits)
        at, titles = torch.from_numpy(disliked.users), torch.from_numpy(disliked.items)
        size = max(1, _BLOCK // logits.shape[1])
        for rows, some in zip(at.split(size), titles.split(size), strict=True):
            near = self._similarity(some)  # (thumbs, n_items)
            near = near if self._decoder is None else near[:, self._decoder.titles]
            most.scatter_reduce_(0, rows[:, None].expand_as(near), near, "amax")
        logits -= DISLIKE * most

    def _table(
        self, users: np.ndarray, items: np.ndarray, scores: np.ndarray, listed: np.ndarray, why: Reasons | None
    ) -> pa.Table:
        """Lists (batch, k) with a mask of real entries, as rows."""
        rows, ranks = listed.nonzero()
        kept = items[listed]
        reason, share = pa.nulls(len(kept), pa.string()), pa.nulls(len(kept), pa.float64())
        if why is not None:
            at = why.item[listed]
            reason = self._item_ids.take(pa.array(at, mask=at < 0))
            share = pa.array(why.share[listed], mask=at < 0)
        columns = {
            USER_ID: pa.array(self.everybody.take(users), pa.string()).take(pa.array(rows)),
            "rank": pa.array(ranks + 1, pa.int32()),
            ITEM_ID: self._item_ids.take(pa.array(kept)),
            "score": pa.array(scores[listed].astype(np.float64)),
            "reason_item_id": reason,
            "reason_share": share,
            "run_id": pa.repeat(pa.scalar(self.run_id, pa.string()), len(kept)),
        }
        return pa.table(columns, schema=schema.SCORES["recommendations"])

    @cached_property
    def _item_ids(self) -> pa.Array:
        return pa.array(self.vocabulary.item_ids, pa.string())

    def similar(self, item_id: str, k: int = 20) -> pd.DataFrame:
        """The k titles most like one: columns rank, item_id, score (the module's `similarity`, at most 1).

        Raises:
            UserError: the model does not know the title.
        """
        at = int(self.vocabulary.item_ids.get_indexer(pd.Index([item_id]))[0])
        if at < 0:
            raise UserError(f"Title '{item_id}' is unknown to recommender run {self.run_id}: train again to add it.")
        alike = self._similarity(torch.tensor([at]))[0]
        alike[at] = -torch.inf
        best = alike.topk(min(k, len(alike) - 1))
        ids = self.vocabulary.item_ids[best.indices.numpy()]
        ranks = np.arange(1, len(ids) + 1)
        return pd.DataFrame({"rank": ranks, ITEM_ID: ids, "score": best.values.double().numpy()})

    def _similarity(self, titles: Tensor) -> Tensor:
        return self.module.similarity(titles.to(self.module.device)).float().cpu()


def _even(whole: int, most: int) -> int:
    """How many go into a part, if there are as few parts as can be and all but the last are of one size."""
    parts = -(-whole // most)
    return -(-whole // parts) if parts else most


def open_run(run: Path) -> Recommender:
    """The recommender of a run folder, on the CPU.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    return Recommender.load(run)


def load_current(dataset: str, device: str = "cpu") -> Recommender:
    """The recommender in use on `dataset`.

    Raises:
        UserError: there is none yet; the sentence holds the command that trains one.
    """
    return Recommender.load(runs.require_run(dataset, "recommender"), device)


def _ids(dataset: Dataset, table: str) -> np.ndarray:
    if table == "users":
        return dataset.read("users", [USER_ID])[USER_ID].to_numpy(object)
    with readable(dataset.path(table)):
        column = pq.read_table(dataset.path(table), columns=[USER_ID], read_dictionary=[USER_ID])[USER_ID]
    return column.unique().to_pandas().astype(object).to_numpy()
