"""The linear part of HistoryNet: a transition matrix in closed form, its settings chosen on validation.

    S(i) = sum over events of (1 + a)^-power T[i_a, i],    T = (B + ease_weight · E) / size

B is what comes after a title (recsys/next_title.py), E what goes together with it (the weights of EASE, see
recsys/baselines.py); size makes the positive part of S add up to one at the end of a member's history, on average.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys import metrics
from recsys.baselines import co_occurrence, ease_weights
from recsys.eight_bits import EXTRA, EightBits
from recsys.interactions import Histories
from recsys.next_title import MAX_LAG, fading, moments, solve
from recsys.ranking import Ranking
from recsys.sampled import Asked
from recsys.windows import CONTEXT, Bags, History, fading_windows, latest_events, pieces, stretch

_SEARCHED = 5_000  # members of the validation split that the search asks, at most
_SEARCHED_EVENTS = 2**22  # of members chosen at random, that T is solved from meanwhile
_SEARCHED_TITLES = 4_000  # of T while settings are searched; each setting takes a solution in their third power
_KEPT_BYTES = 2**29  # of estimates that are computed once and kept while the network learns, at most
_PIECE, _PIECES = 64, 16  # events of a history whose estimates are computed at once, and of how many histories
# What the search multiplies each setting with. A heavy weight leaves of the linear part what goes together alone.
_FACTORS = ((0.1, 0.3, 3.0), (0.1, 0.3, 3.0), (0.3, 3.0, 10.0, 100.0), (0.4, 0.7, 1.3))


class Settings(NamedTuple):
    regularisation: float  # ridge of what comes after a title
    ease_regularisation: float  # of what goes together with it
    ease_weight: float  # of what goes together with it, beside what comes after
    fade_power: float  # how fast the history fades


class _Sums(NamedTuple):
    """What T is solved from; sums over members, so that some of them can be taken off again."""

    gram: Tensor
    coming: Tensor
    together: Tensor


def _sample(train: Histories, events: int) -> Histories:
    """Histories of members chosen at random, of about so many events."""
    members = np.random.default_rng(0).permutation(len(train))
    number = max(1, int(np.searchsorted(np.cumsum(train.lengths[members]), events)))
    return train.take(np.sort(members[:number]))


class _Narrow(NamedTuple):
    """Histories of the titles that T knows, of some of the members: sums over them, block by block."""

    histories: Histories  # of all titles
    row: np.ndarray  # of each title in T, `size` where it has none
    size: int
    chosen: np.ndarray  # whether each member is among them

    def only(self, chosen: np.ndarray) -> "_Narrow":
        return self._replace(chosen=chosen)

    @property
    def members(self) -> int:
        """With an event."""
        return int((self.chosen & (self.histories.lengths > 0)).sum())

    def blocks(self) -> Iterator[Histories]:
        for first, block in self.histories.blocks():
            narrow, chosen = block.of_items(self.row, self.size), self.chosen[first : first + len(block)]
            yield narrow if chosen.all() else narrow.only(chosen)

    def moments(self, fade: np.ndarray, future: float) -> tuple[Tensor, Tensor]:
        """G and C, see recsys/next_title.py."""
        parts = (moments(block, fade, future) for block in self.blocks())
        gram, coming = next(parts)
        for more_gram, more_coming in parts:
            gram += more_gram
            coming += more_coming
        return gram, coming

    def together(self) -> np.ndarray:
        """X'X, see recsys/baselines.py."""
        parts = (co_occurrence(block) for block in self.blocks())
        found = next(parts)
        for more in parts:
            found += more
        return found

    def given(self, gives: Tensor, fade: np.ndarray) -> Tensor:
        """The sum over the events of what each title gives, faded."""
        total, fade = torch.zeros((), dtype=gives.dtype), np.append(fade, 0.0)
        for block in self.blocks():
            weights = torch.from_numpy(fade[np.minimum(block.age, MAX_LAG)])
            total = total + (gives[torch.from_numpy(block.items)] * weights).sum()
        return total


class Transition(nn.Module):
    """T, among the most wanted titles of a catalogue. Nothing here has a gradient.

    Args:
        n_items: titles in the vocabulary.
        size: titles of T, at most `n_items`.
        settings: to start from, or to keep.
        future: see recsys/next_title.py.
    """

    def __init__(self, n_items: int, size: int, settings: Settings, future: float = 0.0) -> None:
        super().__init__()
        self.n_items, self.size, self.future = n_items, size, future
        self.chosen = Settings(*map(float, settings))  # numbers, where `settings` may be on a device without values
        self.packed: Tensor
        self.titles: Tensor
        self.row: Tensor
        self.settings: Tensor
        self.register_buffer("packed", torch.zeros(size + 1, size + EXTRA, dtype=torch.uint8))  # T; last row: nothing
        self.register_buffer("titles", torch.arange(size))  # of the rows of T
        self.register_buffer("row", torch.full((n_items + 1,), size))  # of each title
        self.register_buffer("settings", torch.tensor(self.chosen))  # the same as `chosen`, for the checkpoint
        # While fitting: T without each fold of members, (folds * size + 1, size), and S before each event.
        self.without_fold: Tensor | None = None
        self._kept: Tensor | None = None

    # -- solving ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def learn(self, train: Histories, fold: np.ndarray, validation: Ranking | None = None) -> None:
        """Solve T from histories, and once more without each fold of members.

        Args:
            train: of the whole vocabulary.
            fold: of each member, from 0. Shape: (members,).
            validation: what the settings are chosen on; None keeps them.
        """
        if validation is not None:
            size = min(self.size, _SEARCHED_TITLES)
            smaller = Transition(self.n_items, size, self.chosen, self.future).to(self.settings.device)
            some = train if len(train.items) <= _SEARCHED_EVENTS else _sample(train, _SEARCHED_EVENTS)
            smaller._search(smaller._of_most_wanted(some), validation, len(some.items) / max(1, len(train.items)))
            self.take_settings(smaller)
            del smaller
        narrow = self._of_most_wanted(train)
        folds = int(fold.max(initial=0)) + 1
        parts = [self._sums(narrow.only(fold == f)) for f in range(folds)]
        whole = _Sums(*(cast(Tensor, sum(columns)) for columns in zip(*parts, strict=True)))
        solved = self._solved(whole, narrow)
        self._take(solved)
        self.without_fold = solved.new_zeros(folds * self.size + 1, self.size)
        for f, own in enumerate(parts):
            others = _Sums(*(total - part for total, part in zip(whole, own, strict=True)))
            apart = solved if folds == 1 else self._solved(others, narrow.only(fold != f))
            self.without_fold[f * self.size : (f + 1) * self.size] = apart
        self._kept = None
        if 2 * len(train.items) * self.size <= _KEPT_BYTES:
            self._kept = self._before_each(train, fold)

    def _of_most_wanted(self, train: Histories) -> "_Narrow":
        """Choose the titles of T; histories of them."""
        order = torch.from_numpy(train.popularity).argsort(descending=True, stable=True)
        self.titles.copy_(order[: self.size].sort().values)
        self.row.fill_(self.size)
        self.row[self.titles] = torch.arange(self.size, device=self.row.device)
        return _Narrow(train, self.row.cpu().numpy(), self.size, np.ones(len(train), bool))

    def _before_each(self, train: Histories, fold: np.ndarray) -> Tensor:
        """S before each event of training without the member's fold, in half the bits. Shape: (events, size)."""
        found = self.settings.new_zeros(len(train.items), self.size, dtype=torch.bfloat16)
        users, until = pieces(train.lengths, _PIECE)
        order = np.argsort(until, kind="stable")  # alike lengths together: short histories then cost little
        for rows in np.array_split(order, -(-len(order) // _PIECES)) if len(order) else []:
            who, last = users[rows], until[rows]
            history = stretch(train, who, last - 1, min(CONTEXT + _PIECE - 1, int(last.max())))
            place = torch.from_numpy(last[:, None] - _PIECE + np.arange(_PIECE)).to(found.device)
            event = place + torch.from_numpy(train.start[:-1][who][:, None]).to(found.device)
            narrow = self._of_others(history.to(found.device), torch.from_numpy(fold[who]).to(found.device), place >= 0)
            found[event[place >= 0]] = narrow.to(torch.bfloat16)
        return found

    def forget_fitting(self) -> None:
        self.without_fold = self._kept = None

    def take_settings(self, other: "Transition") -> None:
        self.settings.copy_(other.settings)
        self.chosen = Settings(*other.settings.tolist())

    def _search(self, train: "_Narrow", validation: Ranking, share: float = 1.0) -> None:
        """Choose the settings, one after the other, by NDCG on validation (without a cut-off: with one it would tell
        apart the few members alone whose title is near the top). `train` is this share of all events: what is summed
        over it is smaller by as much, and so is a ridge that weighs as much beside it."""
        # B by settings 0 and 3, E by setting 1, G and C by setting 3: no more of them than are asked for again.
        solved: dict[tuple[int, tuple[float, ...]], Tensor] = {}
        order, together, row = metrics.tie_order(self.size, seed=0), train.together(), self.row.cpu().numpy()
        members = np.random.default_rng(0).permutation(len(validation.users))[:_SEARCHED]
        asked = np.array_split(members, max(1, len(members) // 512))

        def places(of: Histories) -> tuple[Tensor, Tensor]:
            columns = row[of.items]
            known = columns < self.size
            return torch.from_numpy(of.users[known]), torch.from_numpy(columns[known])

        def value(settings: Sequence[float]) -> float:
            ridge, ease_ridge, weight, power = settings
            if (0, (ridge, power)) not in solved:
                key = (2, (power,))
                sums = solved[key] if key in solved else torch.stack(train.moments(fading(power), self.future))
                if power == best[3]:
                    solved[key] = sums
                solved[0, (ridge, power)] = solve(sums[0], sums[1], share * ridge)
            if (1, (ease_ridge,)) not in solved:
                solved[1, (ease_ridge,)] = torch.from_numpy(ease_weights(together, share * ease_ridge))
            self.settings.copy_(torch.tensor(settings))
            self._take(solved[0, (ridge, power)] + weight * solved[1, (ease_ridge,)])
            gains = []
            for at in asked:
                seen, targets = validation.seen.take(at), validation.targets.take(at)
                # Among the titles that T knows: of the others it says nothing.
                bags = self.bags(latest_events(seen).to(self.packed.device))
                estimate = bags.sums(self.matrix)[0].to(self.settings.dtype).cpu()
                estimate[places(seen)] = -torch.inf
                gains.append(1 / torch.log2(1.0 + metrics.ranks_of(estimate, *places(targets), order)))
            found = torch.cat(gains)
            return float(found.mean()) if len(found) else 0.0

        best: tuple[float, ...] = self.chosen
        found = {best: value(best)}
        for _ in range(2):  # what is best for one depends on the others: twice through all of them
            for place, factors in enumerate(_FACTORS):
                for factor in factors:
                    tried: tuple[float, ...] = (*best[:place], best[place] * factor, *best[place + 1 :])
                    if tried not in found:
                        found[tried] = value(tried)
                best = max(found, key=lambda key: found[key])
                used = {(0, (best[0], best[3])), (1, (best[1],)), (2, (best[3],))}
                solved = {key: value for key, value in solved.items() if key in used}
        self.chosen = Settings(*best)
        self.settings.copy_(torch.tensor(best))

    def _sums(self, histories: "_Narrow") -> _Sums:
        gram, coming = histories.moments(fading(self.chosen.fade_power), self.future)
        together = histories.together() if self.chosen.ease_weight else np.zeros((1, 1))
        return _Sums(gram, coming, torch.from_numpy(together))

    def _solved(self, sums: _Sums, histories: "_Narrow") -> Tensor:
        """T from the sums over `histories`. Shape: (size, size).

        A strong ridge on few members makes B and E small. Divided by what they give to all titles together at the end
        of a history, the mean over members, they are alike whatever the data.
        """
        found = solve(sums.gram, sums.coming, self.chosen.regularisation)
        if self.chosen.ease_weight:
            found += self.chosen.ease_weight * torch.from_numpy(
                ease_weights(sums.together.numpy(), self.chosen.ease_regularisation)
            )
        gives = F.pad(found.clamp_min(0.0).sum(1), (0, 1))  # the last: to an item of -1
        size = histories.given(gives, fading(self.chosen.fade_power)) / max(1, histories.members)
        return (found / size if size > 0 else found).to(self.settings)

    # -- estimates -------------------------------------------------------------------------------------------------

    def _windows(self, events: int, targets: int) -> Tensor:
        return fading_windows(self.settings[3:], events, targets)[0]  # (targets, events)

    def forward(self, history: History) -> Tensor:
        """S of every title before the next event: (batch, events) to (batch, n_items)."""
        return self.of_bags(self.bags(history))

    def bags(self, history: History) -> Bags:
        """The rows of T that S is the sum of."""
        rows = self.row[history.item]
        return Bags.of(rows, rows < self.size, self.settings[3:])

    def of_bags(self, bags: Bags) -> Tensor:
        """S of every title. Shape: (batch, n_items)."""
        return self.widened(bags.sums(self.matrix)[0].to(self.settings.dtype))

    @property
    def matrix(self) -> EightBits:
        """T, and a row of zeros behind it."""
        return EightBits(self.packed)

    def _take(self, solved: Tensor) -> None:
        self.packed[:-1] = EightBits.of(solved.to(self.settings)).packed

    def entries(self, history: History, candidates: Tensor) -> Tensor:
        """T[i, j] of each event's title i and each candidate j: (batch, events), (batch, k) to (batch, events, k)."""
        column, row = self.row[candidates], self.row[history.item]
        found = self.matrix.entries(row[:, :, None], column.clamp_max(self.size - 1)[:, None])
        return found.to(self.settings.dtype) * (column < self.size)[:, None]

    def of_candidates(self, history: History, candidates: Tensor) -> Tensor:
        """S of some titles of each member: (batch, events) and (batch, k) to (batch, k)."""
        return torch.einsum("e,bek->bk", self._windows(history.item.shape[1], 1)[0], self.entries(history, candidates))

    @torch.no_grad()
    def of_others(
        self,
        history: History,
        fold: Tensor,
        here: Tensor,
        event: Tensor,
        asked: Asked | None = None,
    ) -> Tensor:
        """S before each target, by the T that was solved without the member's fold.

        Args:
            history: stretches that end before the last target. Shapes: (batch, events).
            fold: of each member. Shape: (batch,).
            here: which targets there are. Shape: (batch, targets).
            event: number of each target among the events of `learn`. Shape: (batch, targets).
            asked: look at these titles alone.

        Returns:
            Shape (targets that are `here`, n_items), or with `asked` (targets that are `here`, 1 + k).
        """
        kept = self._kept
        narrow = self._of_others(history, fold, here) if kept is None else kept[event[here]].to(self.settings.dtype)
        if asked is None:
            return self.widened(narrow)
        narrow = F.pad(narrow, (0, 1))  # nothing, for the titles that T does not know
        own, common = self.row[asked.wanted], self.row[asked.drawn]
        return torch.cat([narrow.gather(1, own[:, None]), narrow[:, common]], dim=1)

    def _of_others(self, history: History, fold: Tensor, here: Tensor) -> Tensor:
        if self.without_fold is None:
            raise RuntimeError("call learn before training")
        row = self.row[history.item]
        rows = self.without_fold[torch.where(row < self.size, row + fold[:, None] * self.size, -1)]
        return (self._windows(rows.shape[1], here.shape[1]) @ rows)[here]

    def between(self, titles: Tensor) -> Tensor:
        """T[i, j] + T[j, i] of each of `titles` i with every j; zeros where T does not know one of them.

        (b,) to (b, n_items).
        """
        column = self.row[titles]
        column, known = column.clamp_max(self.size - 1), column < self.size
        every = torch.arange(self.size, device=column.device)
        both = self.matrix.entries(column[:, None], every) + self.matrix.entries(every, column[:, None])
        return self.widened(both.to(self.settings.dtype) * known[:, None])

    def widened(self, narrow: Tensor) -> Tensor:
        """(rows, size) to (rows, n_items), with zeros for the titles that T does not know."""
        if self.size == self.n_items:
            return narrow
        return narrow.new_zeros(len(narrow), self.n_items).index_copy(1, self.titles, narrow)
