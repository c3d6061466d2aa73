"""HistoryNet: what a member wants next, from what they wanted before. No member has parameters of their own.

Two parts look at the same history, and both let it fade with age a (0 for the latest event). The linear part estimates
the probability S(i) of each title by a transition matrix T, solved in closed form: what comes after a title and, a
little, what goes together with it (recsys/transition.py).

The neural part is a network on fading sums, several rates r at once, of the titles' vectors v:

    v_a = e[i_a] + u_0 · rated + u_1 · (rating in standard deviations) + u_2 · log(1 + minutes since the one before) / 6
    h_r = sum of (1 + a)^-r v_a / sqrt(sum of (1 + a)^-r),    m = MLP([h_r for each r; v_0])
    e[i] = learned[i] + sum of the vectors of the title's tokens (recsys/content.py) / sqrt(their number)

They meet in the logarithm (recsys/mixture.py), where the network learns what the linear part does not know:

    logit(i) = neural_weight (m · e[i] + b[i]) + sharpness · log(max(S(i), 0) + floor · popularity(i))

The loss is the cross-entropy of the title that came next over the whole catalogue (with `future` above 0: of one of
the next, the f-th with probability (1 - future) future^f); where the catalogue is too large for that, over some titles
that are drawn (recsys/sampled.py). In training S comes from a T that was solved without the
members of the batch, a fold of them at a time: with their own events in T the network would learn to trust it too much.

Sums instead of attention: they cost a fifth of a small transformer's time and were more accurate on MovieLens 100K
(docs/recommender.md has the comparison); an event can be added to them or taken out, exactly, which is what the reasons
in recsys/reasons.py do. A new member is a short history and a new title its tokens: one forward pass serves both.
"""

import copy
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.optimisation import adamw
from recsys.content import WIDTH
from recsys.fading_sums import FadingSums
from recsys.interactions import Histories
from recsys.mixture import Mixture
from recsys.module import Batch, RankingModule
from recsys.ranking import Ranking
from recsys.sampled import Asked, Draws
from recsys.transition import Settings, Transition
from recsys.windows import Bags, History, fading_windows, latest_events

_ASKED = 5_000  # members of the validation split that the mixture is chosen by, at most
_ASKED_SCORES = 2**25  # of all titles for them


class Encoded(NamedTuple):
    """Members as the two parts see them."""

    titles: Tensor  # e of every title, and zeros for none: (n_items + 1, size)
    vector: Tensor  # m: (batch, size)
    bags: Bags | None  # the rows of T that S is the sum of; None without a linear part

    def block(self, first: int, last: int) -> "Encoded":
        """Members `first` to before `last`."""
        bags = None if self.bags is None else self.bags.block(first, last)
        return Encoded(self.titles, self.vector[first:last], bags)


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
        search: whether validation may choose these three and `fade_power`, starting from what is given here, and how
            the parts mix (recsys/mixture.py).
        fade_power: how fast its history fades.
        n_sampled: titles drawn in each training step, for all its targets, to compare the wanted ones with; 0: the
            whole catalogue. A step's time and memory then hardly grow with the catalogue.
        future: how much the titles after the next one count, from 0 (only the next) to below 1.
        top_heavy: a target's loss is weighted by p^top_heavy, p its probability so far: titles that are near the top
            count more, as in NDCG, and hopeless ones less; 0 weighs all alike.
        neural_weight: what the neural part counts when it predicts, unless validation knows better. It learns beside a
            T that lacks a fold of the members and is weaker than the one that is served, so it says too much.
        folds: parts of the members for which the linear part is solved apart while the network is trained; 1: none.
        learning_rate: of AdamW, in the first epoch.
        learning_rate_decay: factor on the learning rate after each epoch (1: constant).
        l2: weight decay, decoupled from the gradient.
        l1: weight of the mean absolute value of the titles' learned vectors.
    """

    monitor = "val/loss"  # of one title for each member: it tells epochs apart with less noise than NDCG@10
    monitor_mode = "min"
    compiled = ("member.mlp",)  # the sums before it choose targets by a mask

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
        n_sampled: int = 0,
        learning_rate: float = 2e-3,
        learning_rate_decay: float = 0.85,
        l2: float = 0.0,
        l1: float = 0.0,
    ) -> None:
        super().__init__(n_items)
        self.save_hyperparameters()
        self.future = future
        self.title = nn.Embedding(n_items + 1, size, padding_idx=n_items)
        nn.init.normal_(self.title.weight[:n_items], std=0.05)
        self.token = nn.Embedding(content_buckets + 1, size, padding_idx=content_buckets)
        nn.init.normal_(self.token.weight[:content_buckets], std=0.02)
        self.event = nn.Parameter(0.02 * torch.randn(3, size))  # u_0, u_1, u_2
        self.member = FadingSums(size, hidden, powers, dropout)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.mixture = Mixture(n_items, neural_weight, sharpness=1.2 if linear else 0.5)
        self.draws = Draws(n_items) if n_sampled else None

        self._served: Tensor | None = None  # the titles' vectors

        # What takes no part has no gradient, which processes that train together would wait for.
        self.token.requires_grad_(content and neural)
        for part in (self.title, self.event, self.member, self.bias):
            part.requires_grad_(neural)

        self.tokens: Tensor
        self.rating_scale: Tensor
        self.register_buffer("tokens", torch.full((n_items, WIDTH), content_buckets))
        self.register_buffer("rating_scale", torch.tensor([0.0, 1.0]))  # mean, standard deviation
        settings = Settings(regularisation, ease_regularisation, ease_weight, fade_power)
        n_linear = min(n_items, max_linear_titles) if linear else 0
        self.transition = Transition(n_items, n_linear, settings, future) if n_linear else None

    # -- what is learned before the first step --------------------------------------------------------------------

    def on_fit_start(self) -> None:
        self.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_fit_end(self) -> None:
        if self.transition is not None:
            self.transition.forget_fitting()

    @torch.no_grad()
    def prepare(self, data: Any) -> None:
        """Solve the linear part and take in what the catalogue says of its titles.

        Args:
            data: a recsys.history_data.HistoryData.
        """
        train = data.fitted
        self.tokens.copy_(torch.from_numpy(data.content_tokens(self.hparams["content_buckets"])))
        self.mixture.learn(train)
        if self.draws is not None:
            self.draws.learn(self.mixture.popularity[0])
        rated = next(block.ratings for _, block in train.blocks())  # where there are millions the first ones will do
        rated = torch.from_numpy(rated[~np.isnan(rated)])
        if len(rated) > 1 and rated.std() > 0:
            self.rating_scale.copy_(torch.stack([rated.mean(), rated.std()]))
        if self.transition is not None:
            folds = max(1, self.hparams["folds"]) if self.hparams["neural"] else 1
            searched = self.hparams["search"] and data.fit_on == "train"
            self.transition.learn(train, data.fold_of(folds), data.ranking("validation") if searched else None)

    def warm_start(self, fitted: "HistoryModule") -> None:
        """Take over what only held-out data can teach: the settings of the linear part and of the mixture."""
        self.mixture.take_choice(fitted.mixture)
        if self.transition is not None and fitted.transition is not None:
            self.transition.take_settings(fitted.transition)

    def on_validation_epoch_start(self) -> None:
        fitting = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        if fitting and self.hparams["search"]:
            self.choose_mixture(self.trainer.datamodule.ranking("validation"))  # type: ignore[attr-defined]

    @torch.no_grad()
    def choose_mixture(self, validation: Ranking) -> None:
        """Let members of the validation split, chosen at random where they are too many, say how the parts mix."""
        most = max(1, min(_ASKED, _ASKED_SCORES // self.n_items))
        at = np.random.default_rng(0).permutation(len(validation.users))[:most]
        history = latest_events(validation.seen.take(at)).to(self.device)
        neural, estimate = self.parts(self.encode(history))
        self.mixture.choose(neural, estimate, validation.seen.take(at), validation.targets.take(at))

    # -- forward ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def serve(self) -> None:
        """Compute the titles' vectors once and for all: for a module that learns no more and stays on its device."""
        self._served = None
        self._served = self.eval().title_vectors().detach()

    def title_vectors(self) -> Tensor:
        """e of every title, and zeros for none. Shape: (n_items + 1, size)."""
        if self._served is not None and not self.training:
            return self._served
        learned = self._shown(self.title.weight)
        return learned + F.pad(self._told(self.tokens), (0, 0, 0, 1)) if self.hparams["content"] else learned

    def vectors_of(self, titles: Tensor) -> Tensor:
        """e of some titles, and zeros for none (n_items): (k,) to (k, size)."""
        learned = self._shown(self.title(titles), titles)
        if not self.hparams["content"]:
            return learned
        known = titles < self.n_items
        return learned + self._told(self.tokens[titles.clamp_max(self.n_items - 1)]) * known[:, None]

    def _shown(self, learned: Tensor, titles: Tensor | None = None) -> Tensor:
        """Learned vectors, of all titles or of `titles`, without those that are hidden in this step."""
        if not self.training or self.hparams["title_dropout"] <= 0:
            return learned
        shown = torch.rand(self.n_items + 1, 1, device=learned.device) >= self.hparams["title_dropout"]
        return learned * (shown if titles is None else shown[titles])

    def _told(self, tokens: Tensor) -> Tensor:
        """What their tokens say of titles: (k, WIDTH) to (k, size)."""
        none = self.hparams["content_buckets"]
        number = (tokens < none).sum(1, keepdim=True).clamp_min(1)
        told = F.embedding_bag(tokens, self.token.weight, mode="sum", padding_idx=none)
        return told / number.sqrt().to(told.dtype)

    def said(self, history: History) -> Tensor:
        """What u_0, u_1 and u_2 are multiplied with; zeros where there is no event. Shape: (batch, events, 3)."""
        rated = history.rating.isfinite()
        mean, spread = self.rating_scale
        rating = (history.rating.nan_to_num(0.0) - mean) / spread * rated
        return torch.stack([rated.to(rating.dtype), rating, torch.log1p(history.gap.clamp_min(0)) / 6], dim=2)

    def event_vectors(self, history: History, of_titles: Tensor) -> Tensor:
        """v of every event from e of its title; zeros where there is none. Shapes: (batch, events, size)."""
        known = history.item < self.n_items
        return of_titles * known[..., None] + self.said(history) @ self.event

    def members(self, history: History, titles: Tensor, here: Tensor | None = None) -> Tensor:
        """m before the event after the last; or before each target that is `here` (batch, targets), where the first
        targets follow events before the last ones. Shape: (batch, size), or (number of targets, size)."""
        known = history.item < self.n_items
        if here is not None:
            return self.member(self.event_vectors(history, titles[history.item]), known, here)
        # The same for one target, without a vector for each event.
        weights, said = fading_windows(self.member.powers, known.shape[1], 1)[:, 0], self.said(history)
        sums = Bags.of(history.item, known, self.member.powers).sums(titles).transpose(0, 1)  # (batch, rates, size)
        sums = sums + torch.einsum("re,bes->brs", weights, said) @ self.event
        latest = titles[history.item[:, -1]] * known[:, -1:] + said[:, -1] @ self.event
        return self.member.of_sums(sums, known.to(weights.dtype) @ weights.T, latest)

    def encode(self, history: History) -> Encoded:
        """What members look like to each part, before any title is looked at: (batch, events) to (batch, ...)."""
        bags = self.transition.bags(history) if self.transition is not None and self.hparams["linear"] else None
        titles = self.title_vectors()
        if not self.hparams["neural"]:
            return Encoded(titles, titles.new_zeros(len(history.item), titles.shape[1]), bags)
        return Encoded(titles, self.members(history, titles), bags)

    def parts(self, encoded: Encoded) -> tuple[Tensor, Tensor | None]:
        """What each part says of every title as the next one: m · e + b and S, both (batch, n_items)."""
        estimate = None
        if self.transition is not None and encoded.bags is not None:
            estimate = self.transition.of_bags(encoded.bags)
        if not self.hparams["neural"]:
            return torch.zeros_like(self.bias).expand(len(encoded.vector), -1), estimate
        return torch.addmm(self.bias, encoded.vector, encoded.titles[:-1].T), estimate

    def decode(self, encoded: Encoded) -> Tensor:
        """Logits of every title as the next one. Shape: (batch, n_items)."""
        return self.mixture(*self.parts(encoded))

    def forward(self, history: History) -> Tensor:
        """Logits of every title as the next one: (batch, events) to (batch, n_items)."""
        return self.decode(self.encode(history))

    def extended(self, tokens: np.ndarray) -> "HistoryModule":
        """This module, whole, with titles that it was not trained on behind its own: they are what their tokens say.

        Args:
            tokens: of the new titles, see recsys.content. Shape: (new titles, WIDTH).
        """
        more, old = len(tokens), self.n_items
        if not more:
            return self
        # A part that knows `old` titles at most stays as it is.
        linear = self.transition is not None
        n_linear = self.transition.size if self.transition is not None else 1
        settings = {**self.hparams, "n_items": old + more, "max_linear_titles": n_linear, "linear": linear}
        new = HistoryModule(**settings)
        state = self.state_dict()
        learned, popularity = state["title.weight"], state["mixture.popularity"]
        grown = {
            "title.weight": torch.cat([learned[:old], learned.new_zeros(more + 1, learned.shape[1])]),
            "bias": F.pad(state["bias"], (0, more)),
            "tokens": torch.cat([state["tokens"], torch.from_numpy(tokens).to(learned.device)]),
            "mixture.popularity": torch.cat([popularity, popularity.amin(1, keepdim=True).expand(-1, more)], dim=1),
        }
        if linear:
            grown["transition.row"] = F.pad(state["transition.row"], (0, more), value=n_linear)
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
            neural = torch.einsum("bd,bkd->bk", self.members(history, titles), titles[candidates])
            neural = neural + self.bias[candidates]
        estimate = None
        if self.transition is not None and self.hparams["linear"]:
            estimate = self.transition.of_candidates(history, candidates)
        return self.mixture(neural, estimate, candidates)

    def rank_logits(self, batch: Batch) -> Tensor:
        return self(History.of(batch))

    def score(self, users: Tensor, seen: Histories) -> Tensor:
        return self(latest_events(seen).to(self.device))

    # -- training ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        history, target = History.of(batch), batch["target"]  # (batch, events), (batch, targets)
        here = target < self.n_items
        weight = batch["weight"][here]
        # -log p of the titles that came
        surprise = self._surprise(batch, history, here) if self.draws is None else self._estimated(batch, history, here)
        reward = torch.exp(-self.hparams["top_heavy"] * surprise.detach())
        loss = (surprise * weight * reward).sum() / (weight * reward).sum().clamp_min(1e-9)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(weight), prog_bar=True)
        if self.hparams["l1"] > 0:
            loss = loss + self.hparams["l1"] * self.title.weight.abs().mean()
        return loss

    def _surprise(self, batch: Batch, history: History, here: Tensor) -> Tensor:
        """-log p of every target that is `here`. Shape: (targets,)."""
        titles, wanted, estimate = self.title_vectors(), batch["target"][here], None
        logits = torch.zeros_like(self.bias).expand(len(wanted), -1)
        if self.hparams["neural"]:
            logits = torch.addmm(self.bias, self.members(history, titles, here), titles[:-1].T)
        if self.transition is not None:
            estimate = self.transition.of_others(history, batch["fold"], here, batch["event"])
        return F.cross_entropy(self.mixture.in_training(logits, estimate), wanted, reduction="none")

    def _estimated(self, batch: Batch, history: History, here: Tensor) -> Tensor:
        """The same, by titles that are drawn; nothing here has the catalogue's length but a number for each title."""
        draws, estimate = cast(Draws, self.draws), None
        asked = Asked(batch["target"][here], draws(self.hparams["n_sampled"]))
        logits = asked.of(torch.zeros_like(self.bias))
        if self.hparams["neural"]:
            titles = torch.cat([history.item.flatten(), *asked])
            seen, own, others = self.vectors_of(titles).split([history.item.numel(), *map(len, asked)])
            vectors = self.event_vectors(history, seen.view(*history.item.shape, -1))
            members = self.member(vectors, history.item < self.n_items, here)  # (targets, size)
            logits = torch.cat([(members * own).sum(1, keepdim=True), members @ others.T], dim=1)
            logits = logits + asked.of(self.bias)
        if self.transition is not None:
            estimate = self.transition.of_others(history, batch["fold"], here, batch["event"], asked)
        return draws.losses(self.mixture.in_training(logits, estimate, asked), asked)

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
        if self.transition is None:
            return cosine
        popularity = self.mixture.popularity[0]
        leads = self.transition.between(titles) / (popularity / popularity.mean()) ** 0.3
        leads = leads.scatter(1, titles[:, None], 0.0)
        nearest = leads.amax(1, keepdim=True)
        scaled = torch.where(nearest > 0, leads / nearest.clamp_min(1e-12), 0.0).clamp_min(-1.0)
        return 0.8 * scaled + 0.2 * cosine
