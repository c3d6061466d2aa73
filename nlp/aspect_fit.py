"""`python -m nlp aspects`: teach the run in use to find aspects, and say how well it does on labelled sentences.

The finder (nlp/aspects.py) reads states that only this run's encoder makes, so it belongs to the run. It is fitted at
the end of `fit`, and again by this command: for a service's own list of aspects, or with further labels. Encoder and
sentiment stay as they are.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score
from torch import Tensor, nn

from data import command
from data.dataset import open_dataset
from data.errors import UserError
from data.schema import REVIEW_ID, TEXT
from data.served import load_served
from nlp import encoder as encoders
from nlp.aspects import CONFIG, TRAIN_LABELS, AspectFinder, Sentences, fit, fit_sentiment, read_config
from nlp.engines import TokenOutputs, torch_engine, torch_name
from nlp.mentions import mood_logits, sentence_features
from nlp.reading import Spans, read_texts, spans_of
from nlp.sentences import clause_spans
from nlp.sentiment import SentimentModule
from nlp.tokens import Tokens, frame_of, tokenise

TEST_LABELS = TRAIN_LABELS.with_name("aspects.csv")
CONTEXT = 150  # characters read on either side of a labelled sentence
LEAST_POSITIVES = 15  # sentences with an aspect, for its F1 to say something
_COLUMNS = [REVIEW_ID, "start", "end", "aspect", "sentiment"]


class Labelled(NamedTuple):
    """Labelled sentences of reviews that are there."""

    sentences: pd.DataFrame  # review_id, start, end, random; one row a sentence
    mentions: pd.DataFrame  # sentence (position), aspect (position), sentiment; one row a mention


class Measured(NamedTuple):
    """What the encoder says of labelled sentences."""

    keywords: np.ndarray  # (clauses, aspects)
    features: Sentences  # `state`: mean states, (sentences, size), at the layer asked for
    spans: Spans
    flat: np.ndarray
    token_logit: Tensor
    around: np.ndarray  # (sentences,): the encoder's logit of all that was read of the review


def read_labels(path: Path, names: list[str], reviews: pd.Series) -> Labelled:
    """Labels whose review is among `reviews` (texts by review id).

    Raises:
        UserError: the file or its columns are not there, or a span lies outside its review.
    """
    try:
        rows = pd.read_csv(path, keep_default_na=False, dtype={REVIEW_ID: str})
    except (OSError, ValueError) as failure:
        raise UserError(
            f"--labels {path} cannot be read ({str(failure).splitlines()[0]}): see docs/aspect-labels.md."
        ) from None
    missing = [name for name in _COLUMNS if name not in rows]
    if missing:
        raise UserError(f"--labels {path} has no column {', '.join(missing)}: see docs/aspect-labels.md.")
    if "drawn" not in rows:
        rows["drawn"] = "random"
    rows = rows[rows[REVIEW_ID].isin(reviews.index)].reset_index(drop=True)
    outside = rows["end"] > rows[REVIEW_ID].map(reviews.str.len())
    if outside.any():
        at = rows[outside].iloc[0]
        raise UserError(f"--labels {path}: characters {at.start} to {at.end} are not in review {at[REVIEW_ID]}.")
    key = rows[REVIEW_ID] + " " + rows["start"].astype(str) + " " + rows["end"].astype(str)
    code, _ = pd.factorize(key)
    first = rows[~pd.Series(code).duplicated()].reset_index(drop=True)
    sentences = first[[REVIEW_ID, "start", "end"]].assign(random=first["drawn"] == "random")
    known = rows["aspect"].isin(names)
    mentions = pd.DataFrame(
        {
            "sentence": code[known],
            "aspect": rows.loc[known, "aspect"].map(names.index).astype(int).to_numpy(),
            "sentiment": rows.loc[known, "sentiment"].to_numpy(),
        }
    )
    return Labelled(sentences, mentions)


def mentioned(labelled: Labelled, n_aspects: int) -> np.ndarray:
    """Which sentence speaks of which aspect: (sentences, aspects) bool."""
    table = np.zeros((len(labelled.sentences), n_aspects), bool)
    table[labelled.mentions["sentence"], labelled.mentions["aspect"]] = True
    return table


def measure_sentences(
    module: SentimentModule, tokenizer: Any, finder: AspectFinder, sentences: pd.DataFrame, reviews: pd.Series
) -> Measured:
    """Read each sentence with `CONTEXT` characters around it."""
    segments: list[str] = []
    sizes: list[int] = []
    clauses: list[tuple[int, int, int, int]] = []
    said: list[str] = []
    for i, (review_id, start, end) in enumerate(sentences[[REVIEW_ID, "start", "end"]].itertuples(index=False)):
        text = reviews[review_id]
        of_sentence = clause_spans(text, start, end)
        clauses += [(i, a, b, len(segments) + 1 + j) for j, (a, b) in enumerate(of_sentence)]
        said += [text[a:b] for a, b in of_sentence]
        segments += [
            text[max(0, start - CONTEXT) : start],
            *(text[a:b] for a, b in of_sentence),
            text[end : end + CONTEXT],
        ]
        sizes.append(len(of_sentence) + 2)
    pieces = tokenise(tokenizer, segments)
    n_tokens = np.bincount(np.repeat(np.arange(len(sizes)), sizes), pieces.lengths, minlength=len(sizes))
    tokens = Tokens(pieces.flat, np.concatenate([[0], np.cumsum(n_tokens)]).astype(np.int64))
    bounds = sentences[["start", "end"]].to_numpy(np.int64)
    spans = spans_of(pieces, np.column_stack([np.arange(len(bounds)), bounds]), np.array(clauses, np.int64))
    outputs = TokenOutputs(module.encoder, module.head, nn.Identity(), finder.layer).eval()
    engine = torch_engine(outputs, torch_name())
    found = read_texts(engine, tokens, frame_of(tokenizer), int(module.hparams["max_tokens"]), by_token=True)
    if found.token_logit is None or found.token_aspect is None:
        raise TypeError("an engine with an aspect head gives logits by token")
    keywords, features = sentence_features(finder, said, pieces.flat, spans, found.token_aspect)
    return Measured(keywords, features, spans, pieces.flat, found.token_logit, found.logit)


def _moods(module: SentimentModule, m: Measured, mentions: pd.DataFrame) -> np.ndarray:
    sentence, aspect = mentions["sentence"].to_numpy(), mentions["aspect"].to_numpy()
    return mood_logits(module, m.flat, m.spans, m.keywords, m.token_logit, m.around, sentence, aspect)


def train_finder(
    module: SentimentModule,
    tokenizer: Any,
    reviews: pd.Series,
    config: Path = CONFIG,
    labels: Path = TRAIN_LABELS,
    layer: int | None = None,
) -> AspectFinder:
    """Fit a finder for `module` on the labelled sentences that `reviews` (texts by review id) hold.

    Args:
        layer: whose states it reads; None: the middle one.

    Raises:
        UserError: a file cannot be used.
    """
    words = read_config(config)
    layer = len(encoders.layers_of(module.encoder)) // 2 if layer is None else layer
    labelled = read_labels(labels, list(words), reviews)
    if not len(labelled.sentences):
        return AspectFinder.by_words(words, layer, module.size)
    blank = AspectFinder.by_words(words, layer, module.size)
    measured = measure_sentences(module, tokenizer, blank, labelled.sentences, reviews)
    group, _ = pd.factorize(labelled.sentences[REVIEW_ID])
    random = labelled.sentences["random"].to_numpy(bool)
    finder, _ = fit(words, layer, measured.features, mentioned(labelled, len(words)), group, random)
    judged = labelled.mentions[labelled.mentions["sentiment"] != "neutral"]
    fit_sentiment(finder, _moods(module, measured, judged), (judged["sentiment"] == "positive").to_numpy())
    return finder


def evaluate_finder(
    finder: AspectFinder, module: SentimentModule, tokenizer: Any, reviews: pd.Series, labels: Path = TEST_LABELS
) -> dict[str, Any]:
    """F1 of each aspect's mention, and accuracy of the sentiment on those found, beside key words alone.

    Sentiment: of mentions that are labelled positive or negative and were found, the share with p_positive on the right
    side of 0.5. The key words' sentiment is the whole review's.

    Returns:
        `aspects` (name to counts and F1 of both), `macro_f1` (over aspects with 15 sentences or more), `sentiment`
        (accuracy), each for `finder` and `key words`; None where no labelled review is there.
    """
    labelled = read_labels(labels, finder.names, reviews)
    if not len(labelled.sentences):
        return {"sentences": 0}
    measured = measure_sentences(module, tokenizer, finder, labelled.sentences, reviews)
    features = measured.features
    p = finder.mentions(features._replace(state=features.state @ finder.arrays["state"].T))
    truth = mentioned(labelled, len(finder.names))
    said = {"finder": p > finder.arrays["threshold"], "key words": features.keywords > 0}
    enough = truth.sum(0) >= LEAST_POSITIVES
    f1 = {name: f1_score(truth, found, average=None, zero_division=0.0) for name, found in said.items()}
    judged = labelled.mentions[labelled.mentions["sentiment"] != "neutral"]
    at, which = judged["sentence"].to_numpy(), judged["aspect"].to_numpy()
    positive = (judged["sentiment"] == "positive").to_numpy()
    mood = {
        "finder": finder.sentiment(*_moods(module, measured, judged).T) > 0.5,
        "key words": measured.around[at] > 0,
    }
    sentiment = {}
    for name, found in said.items():
        there = found[at, which]
        sentiment[name] = float((mood[name] == positive)[there].mean()) if there.any() else None
    return {
        "sentences": len(truth),
        "aspects": {
            aspect: {"sentences": int(truth[:, i].sum()), **{name: float(f1[name][i]) for name in said}}
            for i, aspect in enumerate(finder.names)
        },
        "macro_f1": {name: float(f1[name][enough].mean()) if enough.any() else None for name in said},
        "sentiment": sentiment,
    }


def give_finder(run: Path, dataset: str) -> dict[str, Any]:
    """Teach a fresh run its finder; returns and prints how well it does."""
    module, tokenizer, reviews = _loaded(run, dataset)
    finder = train_finder(module, tokenizer, reviews)
    finder.save(run)
    result = evaluate_finder(finder, module, tokenizer, reviews)
    print_evaluation(result)
    return result


def _loaded(run: Path, dataset: str) -> tuple[SentimentModule, Any, pd.Series]:
    """The served module, its tokenizer, and the dataset's texts by review id."""
    module = load_served(SentimentModule, run, "auto")
    tokenizer = encoders.tokenizer_of(run)
    return module, tokenizer, open_dataset(dataset).reviews().set_index(REVIEW_ID)[TEXT].astype(object)


def print_evaluation(result: dict[str, Any]) -> None:
    """The table for people."""
    if not result["sentences"]:
        print(
            "No labelled sentence is of this dataset's reviews: aspects go by what was learned elsewhere or key words."
        )
        return
    print(f"\nAspects on {result['sentences']} labelled sentences (F1 of mentions)")
    print(f"{'':<16}{'sentences':>10}{'finder':>9}{'key words':>11}")
    for name, row in result["aspects"].items():
        print(f"{name:<16}{row['sentences']:>10}{row['finder']:>9.3f}{row['key words']:>11.3f}")
    for key, label in (("macro_f1", f"mean of those with {LEAST_POSITIVES}+"), ("sentiment", "sentiment right")):
        values = "".join(
            f"{'–' if v is None else format(v, '.3f'):>{w}}" for v, w in zip(result[key].values(), (9, 11), strict=True)
        )
        print(f"{label:<26}{values}")


def aspects(args: list[str]) -> None:
    """The command.

    Raises:
        UserError: there is no run in use, or a file cannot be used.
    """
    from nlp.scorer import find_current

    parser = command.Parser(prog="python -m nlp aspects", description="Teach the run in use to find aspects.")
    parser.add_argument(
        "--data.dataset", dest="dataset", default="demo", help="dataset whose run it is (default: demo)"
    )
    parser.add_argument("--aspects", type=Path, default=CONFIG, help="YAML of aspects and key words")
    parser.add_argument("--labels", type=Path, default=TRAIN_LABELS, help="CSV of labelled sentences to learn from")
    parser.add_argument("--test-labels", type=Path, default=TEST_LABELS, help="CSV of labelled sentences to judge by")
    parser.add_argument("--layer", type=int, default=None, help="layer whose states are read (default: the middle one)")
    options = parser.parse_args(args)
    run = find_current(options.dataset)
    module, tokenizer, reviews = _loaded(run, options.dataset)
    layers = len(encoders.layers_of(module.encoder))
    if options.layer is not None and not 0 <= options.layer <= layers:
        raise UserError(f"--layer {options.layer}: the encoder has {layers}.")
    finder = train_finder(module, tokenizer, reviews, options.aspects, options.labels, options.layer)
    print_evaluation(evaluate_finder(finder, module, tokenizer, reviews, options.test_labels))
    finder.save(run)
    print(f"{len(finder.names)} aspects are now found by run {run.name}.")
