"""A trained model with its tokenizer, engine and aspects: texts to labels, probabilities and aspects.

A text of any length is read whole: its overlapping windows (nlp/tokens.py) are scored and their logits averaged, as in
training. Windows of many texts are sorted by length before they become batches, and the results put back in order.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data.schema import LABEL
from data.served import load_served
from nlp import encoder as encoders
from nlp.aspects import AspectFinder
from nlp.calibration import join, label_of, probability
from nlp.engines import Engine, load_engine, token_outputs, torch_engine, with_aspects
from nlp.mentions import mood_logits, sentence_features
from nlp.reading import Reading, Spans, read_texts, sum_by_sentence, tokenise_sentences
from nlp.sentiment import SentimentModule
from nlp.tokens import Tokens, frame_of, tokenise

P_POSITIVE = "p_positive"
# A warning for readers ("MINOR SPOILERS!") speaks of nothing in the film.
_NOTICE = re.compile(r"\W*(?:\w+\W+){0,4}spoilers?\b(?:\W+\w+){0,3}\W*", re.IGNORECASE)

# "Toy Story" in quotes, or Toy Story within a sentence.
_TITLE = re.compile(r"[\"“](?=[A-Z])[^\"“”.!?]{1,60}[\"”]|(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)+")


class SentimentScorer:
    """Made with `load`.

    Args:
        module: the served model.
        tokenizer: its tokenizer.
        run_id: what scored rows say they come from.
        engine: what runs the encoder (nlp/engines.py); None: torch in float32.
        finder: finds aspects; None: none are found.
    """

    def __init__(
        self,
        module: SentimentModule,
        tokenizer: Any,
        run_id: str,
        engine: Engine | None = None,
        finder: AspectFinder | None = None,
    ) -> None:
        self.module = module.eval()
        self.tokenizer = tokenizer
        self.run_id = run_id
        self.engine = engine or torch_engine(token_outputs(module))
        self.finder = finder
        self.frame = frame_of(tokenizer)
        self.max_tokens = int(module.hparams["max_tokens"])

    @classmethod
    def load(cls, run: Path, device: str = "auto") -> "SentimentScorer":
        """The served model of a run folder; neither hub nor training data are needed.

        Args:
            run: see nlp.scorer.find_current.
            device: `cpu`, `cuda`, `mps` or `auto`: the fastest there is.

        Raises:
            UserError: the run's files are missing or damaged.
        """
        finder = AspectFinder.load(run)
        module = with_aspects(load_served(SentimentModule, run, device), finder)
        tokenizer = encoders.tokenizer_of(run)
        return cls(module, tokenizer, run.name, load_engine(run, module), finder)

    @torch.inference_mode()
    def logits(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        """Each text's logit, before the temperature: encoder and bag joined. Shape: (texts,)."""
        tokens = tokenise(self.tokenizer, texts)
        found = read_texts(self.engine, tokens, self.frame, self.max_tokens, by_token=False, progress=progress)
        return self._joined(tokens, found.logit)

    def predict(self, texts: Sequence[str | None], progress: bool = False) -> pd.DataFrame:
        """`label` and calibrated `p_positive` of each text, in the order given.

        A text without a word (empty, spaces) says nothing: it is neutral with 0.5.
        """
        said = _strings(texts)
        return self._labelled(said, self.logits(said, progress))

    @torch.inference_mode()
    def analyse(self, texts: Sequence[str | None], progress: bool = False) -> pd.DataFrame:
        """What `predict` gives, and `aspects`: for each text a list of dicts of aspect, p_positive, start and end.

        `start` and `end` are the characters of the sentence that speaks of the aspect; in order of place. An aspect
        that several sentences speak of is there several times.
        """
        said = _strings(texts)
        if self.finder is None:
            frame = self.predict(said, progress)
            frame["aspects"] = pd.Series([[] for _ in said], dtype=object)
            return frame
        tokens, spans = tokenise_sentences(self.tokenizer, said)
        found = read_texts(self.engine, tokens, self.frame, self.max_tokens, by_token=True, progress=progress)
        frame = self._labelled(said, self._joined(tokens, found.logit))
        frame["aspects"] = pd.Series(self._aspects(said, tokens, spans, found), dtype=object)
        return frame

    def _aspects(self, texts: list[str], tokens: Tokens, spans: Spans, found: Reading) -> list[list[dict[str, Any]]]:
        aspects: list[list[dict[str, Any]]] = [[] for _ in texts]
        finder, clauses = self.finder, spans.clauses
        if finder is None or found.token_logit is None or found.token_aspect is None or not len(spans.text):
            return aspects
        text = spans.text[clauses.sentence].tolist()
        bounds = zip(text, clauses.start.tolist(), clauses.end.tolist(), strict=True)
        said = [texts[i][start:end] for i, start, end in bounds]
        keywords, features = sentence_features(finder, said, tokens.flat, spans, found.token_aspect)
        named = _only_named(finder, said, keywords, spans)
        start, end = spans.start.tolist(), spans.end.tolist()
        whole = zip(spans.text.tolist(), start, end, strict=True)
        notice = np.array([_NOTICE.fullmatch(texts[i], a, b) is not None for i, a, b in whole], bool)
        mentions = finder.mentions(features) > float(finder.arrays["threshold"])
        sentence, aspect = np.nonzero(mentions & ~notice[:, None] & ~named)
        logits = mood_logits(
            self.module, tokens.flat, spans, keywords, found.token_logit, found.logit, sentence, aspect
        )
        mood = finder.sentiment(*logits.T)
        for at, name, p_positive in zip(sentence.tolist(), aspect.tolist(), mood.tolist(), strict=True):
            mention = {"aspect": finder.names[name], P_POSITIVE: p_positive, "start": start[at], "end": end[at]}
            aspects[spans.text[at]].append(mention)
        return aspects

    def _joined(self, tokens: Tokens, encoder: np.ndarray) -> np.ndarray:
        module = self.module
        bag = 0.0 if module.bag is None else module.bag.logits(tokens, np.arange(len(encoder)))
        return join(encoder, bag, tokens.lengths, float(module.mix), *module.slopes.tolist())

    def _labelled(self, texts: Sequence[str], logits: np.ndarray) -> pd.DataFrame:
        p = probability(logits, float(self.module.temperature))
        label = label_of(p, float(self.module.neutral_band)).astype(object)
        silent = np.array([not text.strip() for text in texts], dtype=bool)
        p[silent], label[silent] = 0.5, "neutral"
        return pd.DataFrame({LABEL: label, P_POSITIVE: p})


def _only_named(finder: AspectFinder, clauses: list[str], keywords: np.ndarray, spans: Spans) -> np.ndarray:
    """Whether a sentence's key words all stand in titles, which say nothing of an aspect. (sentences, aspects)."""
    bare = [_TITLE.sub(" ", clause) for clause in clauses]
    changed = [i for i, (a, b) in enumerate(zip(clauses, bare, strict=True)) if a != b and keywords[i].any()]
    left = keywords.copy()
    if changed:
        left[changed] = finder.keywords.count([bare[i] for i in changed])
    return (sum_by_sentence(keywords, spans) > 0) & (sum_by_sentence(left, spans) == 0)


def _strings(texts: Sequence[str | None]) -> list[str]:
    return ["" if text is None or text is pd.NA or text != text else str(text) for text in texts]
