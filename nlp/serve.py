"""`python -m nlp serve`: the sentiment model in use over HTTP, by the scorer of score.py and the dashboard.

Texts of requests that come at the same time are read in one pass of the model. Titles and drafts are each request's
own: what others send at the same moment must not change them. Nothing that is sent is kept.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import pandas as pd
from fastapi import APIRouter
from pydantic import BaseModel, Field

from data.batching import Batcher
from data.dataset import open_dataset
from data.schema import ITEM_ID, REVIEW_ID, TEXT
from data.service import BATCH, SECONDS, WAITING, Asked, Held, Text, address, make_app, serve, within
from nlp.explain import explain as explain_text
from nlp.linking import LINK_CONFIDENCE, TitleLinker
from nlp.predictor import SentimentScorer
from nlp.replies import DEFAULT_SERVICE, draft_replies
from nlp.scorer import find_current, titles_of

_MOST_TEXTS = 64
_ABOUT = (
    "What reviews say: positive or negative with a calibrated probability, of which aspect, of which title of the "
    "catalogue, and a draft of a reply. English only. Characters are counted as Python counts them: code points."
)


class Reviews(Asked):
    texts: list[Text] = Field(
        min_length=1, max_length=_MOST_TEXTS, examples=[["A brilliant film, though the ending drags."]]
    )
    titles: bool = Field(False, description="Look for the title that each is about, in the dataset's catalogue.")
    replies: bool = Field(False, description="Draft replies; nothing is ever sent.")
    tone: Literal["warm", "formal", "brief"] = Field("warm", description="Of the drafts.")
    service: Text = Field(DEFAULT_SERVICE, max_length=100, description="The name that the drafts are signed with.")


class Aspect(BaseModel):
    aspect: str
    p_positive: float = Field(description="That it is spoken well of, 0 to 1.")
    start: int = Field(description="First character of the sentence that speaks of it.")
    end: int = Field(description="Behind its last character.")


class Scored(BaseModel):
    label: str = Field(description="negative, neutral or positive.")
    p_positive: float = Field(description="Calibrated, 0 to 1.")
    aspects: list[Aspect]
    item_id: str | None = Field(None, description="Of the title that it is about, if that is certain.")
    link_confidence: float | None = Field(None, description="0 to 1.")
    reply_draft: str | None = Field(None, description="None for an empty text.")


class ScoredAll(BaseModel):
    run_id: str
    reviews: list[Scored] = Field(description="In the order of the texts.")


class OneText(Asked):
    text: Text = Field(examples=["A brilliant film, though the ending drags."])


class Weight(BaseModel):
    start: int
    end: int
    attribution: float = Field(description="In log-odds: above 0 it speaks for positive.")


class Why(BaseModel):
    run_id: str
    p_positive: float
    baseline_p: float = Field(description="Of the text without its words.")
    words: list[Weight] = Field(description="In the order of the text.")
    residual: float = Field(description="What words and baseline leave unexplained of the log-odds.")


def app_of(dataset: str, window: float = 0.003, most: int = BATCH) -> Any:
    """The service of the sentiment model that a dataset uses.

    Args:
        dataset: its name; its catalogue is what texts are linked to.
        window: seconds that requests wait for others, where there are others.
        most: requests whose texts are read in one pass of the model.

    Raises:
        UserError: there is no model in use, or it cannot be loaded.
    """
    found = open_dataset(dataset)
    held = Held(lambda: find_current(dataset), partial(SentimentScorer.load, device="auto"))
    items = found.items() if found.has("items") else None
    linker = None if items is None else TitleLinker(items)
    titles = titles_of(items)

    def read(questions: Sequence[list[str]]) -> list[tuple[str, pd.DataFrame]]:
        with held.lock:
            run, rows = held.run.name, held.model.analyse([text for texts in questions for text in texts])
        ends = pd.Series([len(texts) for texts in questions]).cumsum()
        return [(run, rows.iloc[end - len(texts) : end]) for texts, end in zip(questions, ends, strict=True)]

    def completed(asked: Reviews, rows: pd.DataFrame) -> list[Scored]:
        reviews = rows.reset_index(drop=True).assign(**{REVIEW_ID: asked.texts, TEXT: asked.texts})
        if asked.titles and linker is not None:
            links = linker.link(reviews[[TEXT]])
            for name in (ITEM_ID, LINK_CONFIDENCE):
                reviews[name] = links[name].to_numpy()
            reviews["title"] = reviews[ITEM_ID].map(titles.get)
        if asked.replies:
            drafts = draft_replies(reviews, asked.tone, asked.service)
            reviews["reply_draft"] = [draft or None for draft in drafts]
        kept = [name for name in Scored.model_fields if name in reviews]
        said = [reviews[name].astype(object).where(reviews[name].notna(), None).tolist() for name in kept]
        return [Scored(**dict(zip(kept, row, strict=True))) for row in zip(*said, strict=True)]

    batcher = Batcher(read, most=most, window=window, waiting=WAITING)
    routes = APIRouter()

    @routes.post("/score", summary="What reviews say")
    async def score(asked: Reviews) -> ScoredAll:
        async def scored() -> ScoredAll:
            run, rows = await batcher.ask(asked.texts)
            return ScoredAll(run_id=run, reviews=await asyncio.to_thread(completed, asked, rows))

        return await within(SECONDS, scored())

    @routes.post("/explain", summary="Which words of a review say so")
    async def explain(asked: OneText) -> Why:
        def told() -> Why:
            with held.lock:
                why = explain_text(held.model, asked.text)
                run = held.run.name
            words = [Weight(start=w.start, end=w.end, attribution=w.attribution) for w in why.words]
            return Why(
                run_id=run, p_positive=why.p_positive, baseline_p=why.baseline_p, words=words, residual=why.residual
            )

        return await within(SECONDS, asyncio.to_thread(told))

    return make_app("Marquee reviews", _ABOUT, "sentiment", dataset, held, routes)


def serve_command(argv: list[str]) -> None:
    """`serve [--dataset NAME] [--host HOST] [--port PORT]`.

    Raises:
        UserError: there is no model in use, or the address cannot be listened at.
    """
    at = address("nlp", argv)
    serve(app_of(at.dataset, most=at.batch), at)
