"""Which words of a review carried its sentiment, as shares of the log-odds that the scorer reports.

    logit = ((1 + s u) · mean over windows of encoder logit + mix · (1 + t u) · bag logit) / temperature
    logit = logit without the words + sum over words of attribution + residual

Encoder: integrated gradients (Sundararajan et al., "Axiomatic attribution for deep networks", 2017) from embeddings of
a text that says nothing, padding tokens in the same frame, to those of the text. captum integrates over the word
embeddings as given inputs rather than through a hook in the layer: hooks on a module that other threads score with
would change their scores. Bag: given its norm it is linear, so each n-gram's part is exact; it is shared
equally among the places where the n-gram stands, a pair's part between its two tokens. A word has the sum of its
tokens, and overlapping windows are averaged as in the logit itself.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from nlp import encoder as encoders
from nlp.calibration import join
from nlp.ngrams import NGramBag, ngrams_of
from nlp.predictor import SentimentScorer
from nlp.sentiment import SentimentModule, pool_tokens
from nlp.tokens import LINE_BREAK, TOKENS_ALONE, Tokens, Windows, clean, cut, pad

STEPS = 16  # leaves .04 of the mean 3.0 between text and baseline (MiniLM, demo reviews); 12 leaves .12, 24 .01
_MOST_WINDOWS = 32  # integrated: all of a text of 10,000 characters; the rest of a longer one is left to the residual
_BATCH_TOKENS = 1_024  # of interpolated windows at once: memory does not grow with the text

_FAINT = 0.05  # of the heaviest word

_WORD = re.compile(r"\w[\w\u0300-\u036f]*(?:['’\-]\w+|[./]\d+)*|[^\w\s\0]+")


class Word(NamedTuple):
    """A word or a run of marks: characters `start` to `end` of the original text, and its part of the logit."""

    start: int
    end: int
    attribution: float


@dataclass(frozen=True)
class Explanation:
    """What `explain` finds. Logits are calibrated: log-odds of `p_positive`."""

    words: list[Word]  # in the order of the text
    logit: float
    p_positive: float
    baseline_p: float  # of the text without its words
    residual: float  # what the words and the baseline leave unexplained of the logit


def explain(scorer: SentimentScorer, text: str, steps: int = STEPS) -> Explanation:
    """The attribution of every word of `text`; positive ones speak for positive.

    Computed in float32 whatever engine the scorer uses. A text without a word is neutral, as the scorer says. Of the
    windows of a text of more than about 10,000 characters those are integrated that differ most from the baseline;
    what the others add stays in `residual`.

    Args:
        scorer: of the model to explain.
        text: of any length, as it was scored.
        steps: points of the integral (Gauss-Legendre); more bring a smaller residual.
    """
    if not text.strip():
        return Explanation([], 0.0, 0.5, 0.5, 0.0)
    module, origin = scorer.module, original_places(text)
    tokens, ends = _tokenise(scorer.tokenizer, clean(text))
    encoder, encoder_logit_, encoder_baseline = _encoder_part(scorer, tokens, steps)
    bag, bag_baseline = _bag_part(module.bag, tokens)

    def joined(of_encoder: Any, of_bag: Any) -> Any:
        """Linear in both, so it joins parts of logits as it joins logits."""
        slopes = module.slopes.tolist()
        return join(of_encoder, of_bag, len(tokens.flat), float(module.mix), *slopes) / float(module.temperature)

    spans = np.array([match.span() for match in _WORD.finditer(clean(text))], np.int64).reshape(-1, 2)
    by_word = np.zeros(len(spans))
    if len(spans):
        # A token is of the word that its last character lies in, or else of the word before it.
        word = np.searchsorted(spans[:, 0], ends - 1, "right") - 1
        np.add.at(by_word, np.maximum(word, 0), joined(encoder, bag))
    logit = float(joined(encoder_logit_, bag_baseline + bag.sum()))
    baseline = float(joined(encoder_baseline, bag_baseline))
    starts, stops = origin[spans[:, 0]], origin[spans[:, 1] - 1] + 1
    words = [Word(*row) for row in zip(starts.tolist(), stops.tolist(), by_word.tolist(), strict=True)]
    residual = logit - baseline - float(by_word.sum())
    return Explanation(words, logit, float(expit(logit)), float(expit(baseline)), residual)


def original_places(text: str) -> np.ndarray:
    """Where each character of `nlp.tokens.clean(text)` stands in `text`: int64 (cleaned characters,).

    >>> original_places("So<br />so").tolist()
    [0, 1, 2, 8, 9]
    """
    kept = np.ones(len(text), bool)
    for tag in LINE_BREAK.finditer(text):
        kept[tag.start() + 1 : tag.end()] = False
    return kept.nonzero()[0]


def _tokenise(tokenizer: Any, cleaned: str) -> tuple[Tokens, np.ndarray]:
    """The tokens of one text, and the character after the last of each."""
    found = tokenizer(cleaned, **TOKENS_ALONE, return_offsets_mapping=True)
    ids = np.asarray(found["input_ids"], np.int32)
    ends = np.asarray(found["offset_mapping"], np.int64).reshape(-1, 2)[:, 1]
    return Tokens(ids, np.array([0, len(ids)])), ends


# -- display and check -------------------------------------------------------------------------------------------


def highlight(text: str, explanation: Explanation, limit: int = 12) -> list[tuple[int, int, float]]:
    """The `limit` words that weigh most as phrases (start, end, strength), in the order of the text.

    Words with less than a twentieth of the heaviest word's weight are left out even if there is room. Chosen words that
    stand side by side and speak for the same side are one phrase, whose weight is their sum; `strength`, in -1..1, is
    that weight in those of the heaviest phrase, positive for positive.
    """
    weight = np.array([word.attribution for word in explanation.words])
    chosen = np.sort(np.argsort(-np.abs(weight), kind="stable")[: max(0, limit)])
    visible = np.abs(weight[chosen]) > _FAINT * np.abs(weight).max(initial=0.0)
    phrases: list[list[float]] = []  # start, end, weight
    last = -2
    for i in chosen[visible].tolist():
        word = explanation.words[i]
        beside = i == last + 1 and not text[explanation.words[last].end : word.start].strip()
        if beside and phrases[-1][2] * word.attribution > 0:
            phrases[-1][1:] = [word.end, phrases[-1][2] + word.attribution]
        else:
            phrases.append([*word])
        last = i
    heaviest = max((abs(phrase[2]) for phrase in phrases), default=1.0)
    return [(int(start), int(end), total / heaviest) for start, end, total in phrases]


def deletion_effect(
    scorer: SentimentScorer, text: str, explanation: Explanation, k: int, draws: int = 10, seed: int = 0
) -> dict[str, float]:
    """What deleting the `k` words that speak most for the decision does to the probability, and `k` random words.

    Args:
        draws: so many random choices, of which the mean is taken.

    Returns:
        `p_positive`, `p_without_top`, `p_without_random` as the scorer gives them, and `drop_top` and `drop_random`:
        how far they move away from the decision, negative if they strengthen it.
    """
    side = 1.0 if explanation.logit > 0 else -1.0
    weight = np.array([side * word.attribution for word in explanation.words])
    n, random = len(weight), np.random.default_rng(seed)
    top = np.argsort(-weight, kind="stable")[:k]
    choices = [top, *(random.choice(n, min(k, n), replace=False) for _ in range(draws))] if n else [top] * (draws + 1)
    texts = [text, *(_without(text, explanation, choice) for choice in choices)]
    # The raw logits, because the scorer calls a text without a word neutral, whatever its model says.
    p = expit(scorer.logits(texts) / float(scorer.module.temperature))
    full, without_top, without_random = float(p[0]), float(p[1]), float(p[2:].mean())
    return {
        "p_positive": full,
        "p_without_top": without_top,
        "p_without_random": without_random,
        "drop_top": side * (full - without_top),
        "drop_random": side * (full - without_random),
    }


def _without(text: str, explanation: Explanation, chosen: np.ndarray) -> str:
    for i in sorted(chosen.tolist(), reverse=True):
        text = text[: explanation.words[i].start] + text[explanation.words[i].end :]
    return text


# -- encoder -----------------------------------------------------------------------------------------------------


def encoder_logit(module: SentimentModule, embeddings: Tensor, mask: Tensor) -> Tensor:
    """The encoder's logits of windows given by word embeddings.

    Args:
        embeddings: (windows, tokens, size), without positions.
        mask: (windows, tokens), true where there is a token.

    Returns:
        (windows,)
    """
    attention = None if bool(mask.all()) else encoders.attention(module.encoder, mask)
    states = module.encoder(inputs_embeds=embeddings, attention_mask=attention).last_hidden_state
    return module.head(pool_tokens(states, mask)).squeeze(-1)


def _encoder_part(scorer: SentimentScorer, tokens: Tokens, steps: int) -> tuple[np.ndarray, float, float]:
    """Each token's attribution (tokens,), the logit of the text, and that of the baseline."""
    from captum.attr import IntegratedGradients  # brings pyplot: two seconds that scoring need not wait

    module, frame = scorer.module, scorer.frame
    windows = cut(tokens.lengths, scorer.max_tokens - frame.size)
    ids, mask = (part.to(module.device) for part in pad(tokens, windows, frame))  # one text: nothing is padded
    silent = Tokens(np.full_like(tokens.flat, frame.pad), tokens.offsets)
    first = Windows(windows.text[:1], windows.start[:1], windows.length[:1])  # all are equally long
    silent_ids = pad(silent, first, frame)[0].to(module.device)
    embed = module.encoder.get_input_embeddings()
    rows = max(1, _BATCH_TOKENS // ids.shape[1])
    with torch.inference_mode(False), torch.no_grad():
        baseline = embed(silent_ids)
        logits = torch.cat(
            [encoder_logit(module, embed(ids[i : i + rows]), mask[i : i + rows]) for i in range(0, len(ids), rows)]
        )
        silent_logit = float(encoder_logit(module, baseline, mask[:1]))
    integrate = IntegratedGradients(lambda embeddings, mask: encoder_logit(module, embeddings, mask))
    total = np.zeros(len(tokens.flat))
    decisive = np.argsort(-np.abs(logits.cpu().numpy() - silent_logit), kind="stable")[:_MOST_WINDOWS]
    for i in decisive.tolist():
        with torch.inference_mode(False), torch.enable_grad():
            found = integrate.attribute(
                embed(ids[i : i + 1]).detach(),
                baseline,
                additional_forward_args=(mask[i : i + 1],),
                n_steps=steps,
                internal_batch_size=rows,
            )
        by_token = found.sum(-1)[0].double().cpu().numpy()[len(frame.before) :]
        start, length = int(windows.start[i]), int(windows.length[i])
        total[start : start + length] += by_token[:length]
    return total / len(ids), float(logits.double().mean()), silent_logit


# -- bag ---------------------------------------------------------------------------------------------------------


def _bag_part(bag: NGramBag | None, tokens: Tokens) -> tuple[np.ndarray, float]:
    """Each token's part of the bag's logit (tokens,), and the bias, which is nobody's."""
    n = len(tokens.flat)
    if bag is None or not n:
        return np.zeros(n), 0.0 if bag is None else float(bag.bias)
    buckets = bag.buckets
    place, bucket = ngrams_of(Tokens(tokens.flat, np.arange(n + 1)), np.arange(n), buckets)
    both = np.stack([tokens.flat[:-1], tokens.flat[1:]], 1).ravel()
    first, of_both = ngrams_of(Tokens(both, np.arange(0, 2 * n, 2)), np.arange(n - 1), buckets)
    alone = (of_both == bucket[first]) | (of_both == bucket[first + 1])
    first, pair = first[~alone], of_both[~alone]
    gram, at = np.unique(np.concatenate([bucket, pair, pair]), return_inverse=True)
    scale, weight = (values[torch.from_numpy(gram)].double().cpu().numpy() for values in (bag.scale, bag.weight))
    value = scale * weight / np.sqrt(max(float((scale**2).sum()), 1e-12))
    part = (value / np.bincount(at))[at]
    return np.bincount(np.concatenate([place, first, first + 1]), part, minlength=n), float(bag.bias)
