"""HistoryNet: what a member wants next, from what they wanted before. No member has parameters of their own.

Two parts look at the same history, and both let it fade with age a (0 for the latest event). The linear part estimates
the probability of each title by a transition matrix T, solved in closed form: what comes after a title (B, see
recsys/next_title.py) and, a little, what goes together with it (E, the weights of EASE, see recsys/baselines.py):

    S(i) = sum over events of (1 + a)^-power T[i_a, i],    T = (B + ease_weight · E) / size

where size makes the positive part of S add up to one at the end of a member's history, on average.

The neural part is a network on fading sums, several rates r at once, of the titles' vectors v:

    v_a = e[i_a] + u_0 · rated + u_1 · (rating in standard deviations) + u_2 · log(1 + minutes since the one before) / 6
    h_r = sum of (1 + a)^-r v_a / sqrt(sum of (1 + a)^-r),    m = MLP([h_r for each r; v_0])
    e[i] = learned[i] + sum of the vectors of the title's tokens (recsys/content.py) / sqrt(their number)

They meet where probabilities do, in the logarithm; the network learns what the linear part does not know:

    logit(i) = neural_weight (m · e[i] + b[i]) + sharpness · log(max(S(i), 0) + floor · popularity(i))

The loss is the cross-entropy of the title that came next over the whole catalogue (with `future` above 0: of one of
the next, the f-th with probability (1 - future) future^f). In training S comes from a T that was solved without the
members of the batch, a fold of them at a time: with their own events in T the network would learn to trust it too much.

Sums instead of attention: they cost a fifth of a small transformer's time and were more accurate on MovieLens 100K
(docs/recommender.md has the comparison); an event can be added to them or taken out, exactly, which is what the reasons
in recsys/reasons.py do. A new member is a short history and a new title its tokens: one forward pass serves both.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.optimisation import adamw
from recsys import metrics
from recsys.baselines import co_occurrence, ease_weights
from recsys.content import WIDTH
from recsys.interactions import Histories
from recsys.module import Batch, RankingModule
from recsys.next_title import MAX_LAG, fading, moments, solve

if TYPE_CHECKING:
    from recsys.ranking import Ranking

_SEARCHED = 5_000  # members of the validation split that the search asks, at most
# What the search multiplies each setting with. A heavy weight leaves of the linear part what goes together alone.
_FACTORS = ((0.1, 0.3, 3.0), (0.1, 0.3, 3.0), (0.3, 3.0, 10.0, 100.0), (0.4, 0.7, 1.3))
CONTEXT = MAX_LAG  # events of a member that the model looks at


class History(NamedTuple):
    """Events of members, the latest last; `n_items` as item fills up on the left. All of shape (batch, events)."""

    item: Tensor  # int64
    rating: Tensor  # float32, NaN where there is none
    gap: Tensor  # float32, minutes since the member's event before

    @staticmethod
    def of(batch: Batch) -> "History":
        return History(batch["item"], batch["rating"], batch["gap"])

    def to(self, device: torch.device) -> "History":
        return History(*(part.to(device) for part in self))


def latest_events(histories: Histories, length: int = CONTEXT) -> History:
    """The last `length` events of each member. Shapes: (members, length)."""
    return stretch(histories, np.arange(len(histories)), histories.lengths, length)


def stretch(histories: Histories, users: np.ndarray, until: np.ndarray, length: int) -> History:
    """The `length` events of `users` before their event number `until`, filled up on the left.

    Shapes: (rows,), (rows,) to (rows, length).
    """
    place = until[:, None] - length + np.arange(length)  # number of the event in the history
    there = (place >= 0) & (place < histories.lengths[users][:, None])
    at = np.where(there, histories.start[:-1][users][:, None] + place, 0)
    if len(histories.items) == 0:
        return History(torch.full(at.shape, histories.n_items), torch.full(at.shape, torch.nan), torch.zeros(at.shape))
    minutes = np.where(there & (place > 0), histories.times[at] - histories.times[np.maximum(at - 1, 0)], 0) / 60e6
    return History(
        torch.from_numpy(np.where(there, histories.items[at], histories.n_items)),
        torch.from_numpy(np.where(there, histories.ratings[at], np.nan).astype(np.float32)),
        torch.from_numpy(minutes.astype(np.float32)),
    )


def fading_windows(powers: Tensor, events: int, targets: int) -> Tensor:
    """Weights of `events` events for predicting each of the `targets` that follow the first events - targets + 1.

    Target l may look at the events before it: event c has age (events - targets + l) - c, and (1 + age)^-power as its
    weight, or nothing when it comes later. Shape: (len(powers), targets, events).
    """
    last = events - targets + torch.arange(targets, device=powers.device)[:, None]  # (targets, 1)
    age = last - torch.arange(events, device=powers.device)  # (targets, events)
    age = torch.where(age < MAX_LAG, age, -1)
    return torch.where(age >= 0, (1.0 + age.clamp_min(0)) ** -powers[:, None, None], 0.0)


class FadingSums(nn.Module):
    """The network on fading sums."""

    powers: Tensor

    def __init__(self, size: int, hidden: int, powers: list[float], dropout: float) -> None:
        super().__init__()
        self.register_buffer("powers", torch.tensor(powers), persistent=False)
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear((len(powers) + 1) * size, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, size),
        )

    def forward(self, vectors: Tensor, known: Tensor, targets: int) -> Tensor:
        """(batch, events, size) and (batch, events) bool to members before each target (batch, targets, size)."""
        events = vectors.shape[1]
        weights = fading_windows(self.powers, events, targets)  # (rates, targets, events)
        sums = torch.einsum("rte,bed->btrd", weights, vectors)
        total = torch.einsum("rte,be->btr", weights, known.to(vectors.dtype))
        sums = sums / total.clamp_min(1e-6).sqrt()[..., None]
        latest = vectors[:, events - targets :]
        return self.mlp(torch.cat([sums.flatten(2), latest], dim=2))


class _Sums(NamedTuple):
    """What the linear part is solved from; sums over members, so that some of them can be taken off again."""

    gram: Tensor
    coming: Tensor
    together: Tensor


class HistoryModule(RankingModule):
    """Training and ranking of HistoryNet.

    Args:
        n_users: members in the vocabulary; they only say how many there are.
        n_items: titles in the vocabulary (set from the data).
        size: width of the titles' vectors.
        hidden: width of the network's hidden layer.
        powers: how fast each sum fades; 0 does not.
        dropout: share of the network's inputs and hidden units dropped in training.
        title_dropout: share of the titles whose learned vector is hidden in a training step, so that their tokens
            learn to speak for them: what a title without a viewer will have.
        content: whether titles have vectors of their tokens.
        content_buckets: how many vectors the tokens share.
        linear: whether the linear part takes part; its share is what the figures lose without it.
        neural: whether the neural part takes part; without it only sharpness and floor are learned.
        max_linear_titles: the linear part knows the most wanted titles, so many at most (its memory is their square).
        regularisation: ridge of what comes after a title.
        ease_regularisation: of what goes together with it.
        ease_weight: of what goes together with it, beside what comes after; 0 leaves it out.
        search: whether validation may choose these three and `fade_power`, starting from what is given here.
        fade_power: how fast its history fades.
        future: how much the titles after the next one count, from 0 (only the next) to below 1.
        top_heavy: a target's loss is weighted by p^top_heavy, p its probability so far: titles that are near the top
            count more, as in NDCG, and hopeless ones less; 0 weighs all alike.
        neural_weight: what the neural part counts when it predicts. It learns beside a T that lacks a fold of the
            members and is weaker than the one that is served, so it says too much.
        folds: parts of the members for which the linear part is solved apart while the network is trained; 1: none.
        learning_rate: of AdamW, in the first epoch.
        learning_rate_decay: factor on the learning rate after each epoch (1: constant).
        l2: weight decay, decoupled from the gradient.
        l1: weight of the mean absolute value of the titles' learned vectors.
    """

    monitor = "val/loss"  # of one title for each member: it tells epochs apart with less noise than NDCG@10
    monitor_mode = "min"

    def __init__(
        self,
        n_users: int,
        n_items: int,
        size: int = 64,
        hidden: int = 256,
        powers: list[float] = [0.0, 0.5, 1.0, 2.0],  # noqa: B006  (a plain list keeps the checkpoint weights_only)
        dropout: float = 0.3,
        title_dropout: float = 0.0,
        content: bool = True,
        content_buckets: int = 4096,
        linear: bool = True,
        neural: bool = True,
        max_linear_titles: int = 6_000,
        regularisation: float = 300.0,
        ease_regularisation: float = 300.0,
        ease_weight: float = 0.25,
        search: bool = True,
        fade_power: float = 0.8,
        future: float = 0.0,
        top_heavy: float = 0.25,
        neural_weight: float = 0.4,
        folds: int = 4,
        learning_rate: float = 2e-3,
        learning_rate_decay: float = 0.85,
        l2: float = 0.0,
        l1: float = 0.0,
    ) -> None:
        super().__init__(n_items)
        self.save_hyperparameters()
        self.future = future
        n_linear = min(n_items, max_linear_titles) if linear else 0
        self.title = nn.Embedding(n_items + 1, size, padding_idx=n_items)
        nn.init.normal_(self.title.weight[:n_items], std=0.05)
        self.token = nn.Embedding(content_buckets + 1, size, padding_idx=content_buckets)
        nn.init.normal_(self.token.weight[:content_buckets], std=0.02)
        self.event = nn.Parameter(0.02 * torch.randn(3, size))  # u_0, u_1, u_2
        self.member = FadingSums(size, hidden, powers, dropout)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.sharpness = nn.Parameter(torch.tensor(1.2 if linear else 0.5))
        self.log_floor = nn.Parameter(torch.tensor(-1.6))

        # What takes no part has no gradient, which processes that train together would wait for.
        self.token.requires_grad_(content and neural)
        for part in (self.title, self.event, self.member, self.bias):
            part.requires_grad_(neural)

        self.tokens: Tensor
        self.popularity: Tensor
        self.rating_scale: Tensor
        self.transition: Tensor
        self.linear_items: Tensor
        self.linear_row: Tensor
        self.register_buffer("tokens", torch.full((n_items, WIDTH), content_buckets))
        self.register_buffer("popularity", torch.full((n_items,), 1.0 / max(1, n_items)))  # share of all events
        self.settings: Tensor  # regularisation, ease_regularisation, ease_weight, fade_power
        self._settings: tuple[float, ...] = (
            float(regularisation),
            float(ease_regularisation),
            float(ease_weight),
            float(fade_power),
        )
        self.register_buffer("settings", torch.tensor(self._settings))  # the same, as the checkpoint keeps them
        self.register_buffer("rating_scale", torch.tensor([0.0, 1.0]))  # mean, standard deviation
        self.register_buffer("transition", torch.zeros(n_linear + 1, n_linear))  # last row: nothing
        self.register_buffer("linear_items", torch.arange(n_linear))
        self.register_buffer("linear_row", torch.full((n_items + 1,), n_linear))  # of each title, in `transition`
        self._folds: Tensor | None = None  # (folds * n_linear + 1, n_linear) while fitting

    # -- what is learned before the first step --------------------------------------------------------------------

    def on_fit_start(self) -> None:
        self.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_fit_end(self) -> None:
        self._folds = None

    @torch.no_grad()
    def prepare(self, data: Any) -> None:
        """Solve the linear part and take in what the catalogue says of its titles.

        Args:
            data: a recsys.history_data.HistoryData.
        """
        train = data.fitted
        self.tokens.copy_(torch.from_numpy(data.content_tokens(self.hparams["content_buckets"])))
        counts = torch.from_numpy(train.popularity).double() + 0.5
        self.popularity.copy_(counts / counts.sum())
        rated = torch.from_numpy(train.ratings[~np.isnan(train.ratings)])
        if len(rated) > 1 and rated.std() > 0:
            self.rating_scale.copy_(torch.stack([rated.mean(), rated.std()]))
        n_linear = self.transition.shape[1]
        if not n_linear:
            return
        order = torch.from_numpy(train.popularity).argsort(descending=True, stable=True)
        self.linear_items.copy_(order[:n_linear].sort().values)
        self.linear_row.fill_(n_linear)
        self.linear_row[self.linear_items] = torch.arange(n_linear, device=self.linear_row.device)
        narrow = train.of_items(self.linear_row.cpu().numpy(), n_linear)
        if self.hparams["search"] and data.fit_on == "train":
            self._search(narrow, data.ranking("validation"))
        folds = max(1, self.hparams["folds"]) if self.hparams["neural"] else 1
        parts = [self._sums(narrow.only(data.fold_of(folds) == fold) if folds > 1 else narrow) for fold in range(folds)]
        whole = _Sums(*(cast(Tensor, sum(columns)) for columns in zip(*parts, strict=True)))
        self.transition[:n_linear] = self._solved(whole, narrow)
        if folds == 1:
            self._folds = self.transition.clone()
            return
        self._folds = torch.zeros(folds * n_linear + 1, n_linear, device=self.device)
        for fold, own in enumerate(parts):
            others = _Sums(*(total - part for total, part in zip(whole, own, strict=True)))
            self._folds[fold * n_linear : (fold + 1) * n_linear] = self._solved(
                others, narrow.only(data.fold_of(folds) != fold)
            )

    def warm_start(self, fitted: "HistoryModule") -> None:
        """Take over what only held-out data can teach: the settings of the linear part."""
        self._settings = tuple(fitted.settings.tolist())
        self.settings.copy_(fitted.settings)

    def _search(self, train: Histories, validation: "Ranking") -> None:
        """Choose the settings of the linear part, one after the other, by its NDCG on validation (without a cut-off:
        with one it would tell apart the few members alone whose title is near the top)."""
        solved: dict[tuple[int, tuple[float, ...]], Tensor] = {}  # B by settings 0 and 3, E by setting 1
        order, together = metrics.tie_order(self.n_items, seed=0), co_occurrence(train)
        members = np.random.default_rng(0).permutation(len(validation.users))[:_SEARCHED]
        asked = np.array_split(members, max(1, len(members) // 512))

        def value(settings: Sequence[float]) -> float:
            ridge, ease_ridge, weight, power = settings
            if (0, (ridge, power)) not in solved:
                key = (2, (power,))
                if key not in solved:
                    solved[key] = torch.stack(moments(train, fading(power), self.future))
                gram, coming = solved[key]
                solved[0, (ridge, power)] = solve(gram, coming, ridge)
            if (1, (ease_ridge,)) not in solved:
                solved[1, (ease_ridge,)] = torch.from_numpy(ease_weights(together, ease_ridge))
            self.settings.copy_(torch.tensor(settings))
            self.transition[:-1] = (solved[0, (ridge, power)] + weight * solved[1, (ease_ridge,)]).to(self.device)
            gains = []
            for at in asked:
                seen, targets = validation.seen.take(at), validation.targets.take(at)
                estimate = cast(Tensor, self.estimates(latest_events(seen).to(self.device))).cpu()
                estimate[torch.from_numpy(seen.users), torch.from_numpy(seen.items)] = -torch.inf
                rows, items = torch.from_numpy(targets.users), torch.from_numpy(targets.items)
                gains.append(1 / torch.log2(1.0 + metrics.ranks_of(estimate, rows, items, order)))
            return float(torch.cat(gains).mean())

        best: tuple[float, ...] = self._settings
        found = {best: value(best)}
        for _ in range(2):  # what is best for one depends on the others: twice through all of them
            for place, factors in enumerate(_FACTORS):
                for factor in factors:
                    tried: tuple[float, ...] = (*best[:place], best[place] * factor, *best[place + 1 :])
                    if tried not in found:
                        found[tried] = value(tried)
                best = max(found, key=lambda key: found[key])
        self._settings = best
        self.settings.copy_(torch.tensor(best))

    def _sums(self, histories: Histories) -> "_Sums":
        gram, coming = moments(histories, fading(self._settings[3]), self.future)
        together = co_occurrence(histories) if self._settings[2] else np.zeros((1, 1))
        return _Sums(gram, coming, torch.from_numpy(together))

    def _solved(self, sums: "_Sums", histories: Histories) -> Tensor:
        """T from the sums over `histories`. Shape: (n_linear, n_linear).

        A strong ridge on few members makes B and E small. Divided by what they give to all titles together at the end
        of a history, the mean over members, they are alike whatever the data.
        """
        ridge, ease_ridge, weight, power = self._settings
        found = solve(sums.gram, sums.coming, ridge)
        if weight:
            found += weight * torch.from_numpy(ease_weights(sums.together.numpy(), ease_ridge))
        gives = F.pad(found.clamp_min(0.0).sum(1), (0, 1))  # the last: to an item of -1
        fade = np.append(fading(power), 0.0)
        given = gives[torch.from_numpy(histories.items)] * torch.from_numpy(fade[np.minimum(histories.age, MAX_LAG)])
        size = given.sum() / max(1, int((histories.lengths > 0).sum()))
        return (found / size if size > 0 else found).float().to(self.device)

    # -- forward ---------------------------------------------------------------------------------------------------

    def title_vectors(self) -> Tensor:
        """e of every title, and zeros for none. Shape: (n_items + 1, size)."""
        learned = self.title.weight
        if self.training and self.hparams["title_dropout"] > 0:
            shown = torch.rand(len(learned), 1, device=learned.device) >= self.hparams["title_dropout"]
            learned = learned * shown
        if not self.hparams["content"]:
            return learned
        number = (self.tokens < self.hparams["content_buckets"]).sum(1, keepdim=True).clamp_min(1)
        told = F.embedding_bag(
            self.tokens, self.token.weight, mode="sum", padding_idx=self.hparams["content_buckets"]
        ) / number.sqrt().to(learned.dtype)
        return learned + F.pad(told, (0, 0, 0, 1))

    def event_vectors(self, history: History, titles: Tensor) -> Tensor:
        """v of every event; zeros where there is none. Shape: (batch, events, size)."""
        rated = history.rating.isfinite()
        mean, spread = self.rating_scale
        rating = (history.rating.nan_to_num(0.0) - mean) / spread * rated
        said = torch.stack([rated.to(rating.dtype), rating, torch.log1p(history.gap.clamp_min(0)) / 6], dim=2)
        known = history.item < self.n_items
        return (titles[history.item] + said @ self.event) * known[..., None]

    def members(self, history: History, titles: Tensor, targets: int = 1) -> Tensor:
        """m before each of the last `targets` events' successors. Shape: (batch, targets, size)."""
        return self.member(self.event_vectors(history, titles), history.item < self.n_items, targets)

    def mixed(self, neural: Tensor, estimate: Tensor | None, popularity: Tensor) -> Tensor:
        """Logits from the neural part and the linear part's estimates of the probability, of one shape."""
        share = self.log_floor.exp() * popularity
        share = share if estimate is None else estimate.clamp_min(0.0) + share
        return neural + self.sharpness * share.log()

    def estimates(self, history: History) -> Tensor | None:
        """S of every title before the next event. Shape: (batch, n_items); None without a linear part."""
        n_linear = self.transition.shape[1]
        if not n_linear or not self.hparams["linear"]:
            return None
        events = history.item.shape[1]
        fade = fading_windows(self.fade_power, events, 1)[0, 0]
        rows = self.linear_row[history.item]
        narrow = F.embedding_bag(
            rows,
            self.transition,
            per_sample_weights=fade.to(self.transition.dtype).expand(len(rows), -1).contiguous(),
            mode="sum",
            padding_idx=n_linear,
        )
        return self._widened(narrow)

    def _widened(self, narrow: Tensor) -> Tensor:
        """(rows, titles of the linear part) to (rows, n_items), with zeros for the others."""
        if narrow.shape[1] == self.n_items:
            return narrow
        return narrow.new_zeros(len(narrow), self.n_items).index_copy(1, self.linear_items, narrow)

    @property
    def fade_power(self) -> Tensor:
        return self.settings[3:]

    def forward(self, history: History) -> Tensor:
        """Logits of every title as the next one: (batch, events) to (batch, n_items)."""
        titles = self.title_vectors()
        neural = torch.zeros_like(self.bias).expand(len(history.item), -1)
        if self.hparams["neural"]:
            neural = self.members(history, titles)[:, 0] @ titles[:-1].T + self.bias
            neural = neural * self.hparams["neural_weight"]
        return self.mixed(neural, self.estimates(history), self.popularity)

    def extended(self, tokens: np.ndarray) -> "HistoryModule":
        """This module, whole, with titles that it was not trained on behind its own: they are what their tokens say.

        Args:
            tokens: of the new titles, see recsys.content. Shape: (new titles, WIDTH).
        """
        more, old = len(tokens), self.n_items
        if not more:
            return self
        # A part that knows `old` titles at most stays as it is.
        settings = {**self.hparams, "n_items": old + more, "max_linear_titles": max(1, self.transition.shape[1])}
        settings["linear"] = self.transition.shape[1] > 0
        new = HistoryModule(**settings)
        state = self.state_dict()
        n_linear = self.transition.shape[1]
        grown = {
            "title.weight": torch.cat([state["title.weight"][:old], state["title.weight"].new_zeros(more + 1, 1).expand(
                -1, state["title.weight"].shape[1])]),
            "bias": F.pad(state["bias"], (0, more)),
            "tokens": torch.cat([state["tokens"], torch.from_numpy(tokens).to(state["tokens"].device)]),
            "popularity": torch.cat([state["popularity"], state["popularity"].min().expand(more)]),
            "linear_row": F.pad(state["linear_row"], (0, more), value=n_linear),
        }  # fmt: skip
        new.load_state_dict(state | grown)
        return new.to(self.device).eval()

    def alone(self, part: Literal["linear", "neural"]) -> "HistoryModule":
        """This module with one of its parts, the other left out: for the figures of an ablation."""
        without = "neural" if part == "linear" else "linear"
        other = copy.copy(self)
        other._hparams = copy.deepcopy(self.hparams)
        other.hparams[without] = False
        return other

    def candidate_logits(self, history: History, candidates: Tensor) -> Tensor:
        """Logits of some titles of each member: (batch, events) and (batch, k) to (batch, k)."""
        titles = self.title_vectors()
        neural = torch.zeros_like(candidates, dtype=titles.dtype)
        if self.hparams["neural"]:
            neural = torch.einsum("bd,bkd->bk", self.members(history, titles)[:, 0], titles[candidates])
            neural = (neural + self.bias[candidates]) * self.hparams["neural_weight"]
        estimate = None
        n_linear = self.transition.shape[1]
        if n_linear and self.hparams["linear"]:
            fade = fading_windows(self.fade_power, history.item.shape[1], 1)[0, 0]
            column = self.linear_row[candidates]
            rows = self.linear_row[history.item]
            part = self.transition[rows[:, :, None], column.clamp_max(n_linear - 1)[:, None]]  # (batch, events, k)
            estimate = torch.einsum("e,bek->bk", fade.to(part.dtype), part) * (column < n_linear)
        return self.mixed(neural, estimate, self.popularity[candidates])

    def rank_logits(self, batch: Batch) -> Tensor:
        return self(History.of(batch))

    def score(self, users: Tensor, seen: Histories) -> Tensor:
        return self(latest_events(seen).to(self.device))

    # -- training ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        history, target = History.of(batch), batch["target"]  # (batch, events), (batch, targets)
        here = target < self.n_items
        titles = self.title_vectors()
        wanted = target[here]
        logits = torch.zeros_like(self.bias).expand(len(wanted), -1)
        if self.hparams["neural"]:
            logits = self.members(history, titles, target.shape[1])[here] @ titles[:-1].T + self.bias
        logits = self.mixed(logits, self._fold_estimates(history, batch["fold"], here), self.popularity)
        weight = batch["weight"][here]
        surprise = F.cross_entropy(logits, wanted, reduction="none")  # -log p of the title that came
        reward = torch.exp(-self.hparams["top_heavy"] * surprise.detach())
        loss = (surprise * weight * reward).sum() / (weight * reward).sum().clamp_min(1e-9)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(weight), prog_bar=True)
        if self.hparams["l1"] > 0:
            loss = loss + self.hparams["l1"] * self.title.weight.abs().mean()
        return loss

    @torch.no_grad()
    def _fold_estimates(self, history: History, fold: Tensor, here: Tensor) -> Tensor | None:
        """S before each target, without the member's own fold in B. Shape: (targets in `here`, n_items)."""
        n_linear = self.transition.shape[1]
        if not n_linear or self._folds is None:
            return None
        last = len(self._folds) - 1
        row = self.linear_row[history.item]
        shift = fold[:, None] * n_linear if last > n_linear else 0
        rows = self._folds[torch.where(row < n_linear, row + shift, last)]  # (batch, events, n_linear)
        weights = fading_windows(self.fade_power, history.item.shape[1], here.shape[1])[0].to(rows.dtype)
        return self._widened((weights @ rows)[here])

    def configure_optimizers(self) -> Any:
        chosen = self.hparams
        return adamw(self.parameters(), chosen["learning_rate"], chosen["learning_rate_decay"], chosen["l2"])

    @torch.no_grad()
    def similarity(self, titles: Tensor) -> Tensor:
        """How alike every title is to each of `titles`. (b,) to (b, n_items).

        Four fifths are T[i, j] + T[j, i], what leads from one to the other and goes together with it, over
        popularity(j)^0.3, so that the most popular titles are not like everything; scaled so that the nearest title has
        1. One fifth is the cosine of the titles' vectors, which is all there is for a title that T does not know.
        """
        directions = F.normalize(self.title_vectors()[:-1], dim=1)
        cosine = directions[titles] @ directions.T
        n_linear = self.transition.shape[1]
        if not n_linear:
            return cosine
        column = self.linear_row[titles]
        column, known = column.clamp_max(n_linear - 1), column < n_linear
        both = (self.transition[column] + self.transition[:-1, column].T) * known[:, None]  # (b, n_linear)
        leads = self._widened(both) / (self.popularity / self.popularity.mean()) ** 0.3
        leads = leads.scatter(1, titles[:, None], 0.0)
        nearest = leads.amax(1, keepdim=True)
        scaled = torch.where(nearest > 0, leads / nearest.clamp_min(1e-12), 0.0).clamp_min(-1.0)
        return 0.8 * scaled + 0.2 * cosine
