"""`python -m recsys serve`: the recommender in use over HTTP, by the scorer of score.py and the dashboard.

Requests that come at the same time and ask for the same kind of list are answered by one pass of the model. New events
of a member are known from the next request on, and are taken along when another run comes into use.
"""

import asyncio
import datetime as dt
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pandas as pd
from fastapi import APIRouter, HTTPException, Query
from pydantic import AfterValidator, BaseModel, Field

from data import events as kept
from data import runs
from data.batching import Batcher
from data.dataset import open_dataset
from data.errors import UserError
from data.schema import ITEM_ID, KIND, RATING, TIMESTAMP, USER_ID
from data.service import BATCH, SECONDS, WAITING, Asked, Held, Id, address, make_app, serve, within
from recsys.explain import events_behind
from recsys.scorer import Recommender

_MOST_MEMBERS, _MOST_TITLES, _MOST_EVENTS = 500, 200, 1000
_UPDATES = 100_000  # kept for the next run, the latest
_ABOUT = (
    "Titles for members. Scores are the chance of a title when it stands beside eight others drawn at random, 0 to 1. "
    "The tables behind them are those of the dataset, with events that were sent here."
)


class Wanted(Asked):
    """What kind of list."""

    k: int = Field(20, ge=1, le=_MOST_TITLES, description="Titles for each member.")
    hide_seen: bool = Field(True, description="Leave out what the member has seen or given a thumb down.")
    exclude: list[Id] = Field([], max_length=1000, description="Ids of titles to leave out.")
    genres: list[Id] = Field([], max_length=100, description="Only titles of one of these.", examples=[["Drama"]])
    years: tuple[float, float] | None = Field(None, description="Only titles from the first to the last of these.")
    variety: float = Field(0.0, ge=0, le=1, description="0: the most likely titles; 1: titles that differ.")
    reasons: bool = Field(False, description="Name the event that speaks most for each title.")


class ForOne(Wanted):
    member: Id = Field(examples=["196"])


class ForMany(Wanted):
    members: list[Id] = Field(min_length=1, max_length=_MOST_MEMBERS, examples=[["196", "22"]])


class Pick(BaseModel):
    rank: int = Field(description="From 1.")
    item_id: str
    score: float
    reason_item_id: str | None = Field(None, description="Whose event speaks most for it.")
    reason_share: float | None = Field(None, description="Of that event in what all events add, 0 to 1.")


class ListOfOne(BaseModel):
    member: str
    picks: list[Pick] = Field(description="Best first; fewer than k where not so many titles are left.")


class Lists(BaseModel):
    run_id: str
    lists: list[ListOfOne] = Field(description="In the order of the members.")


def _in_time(moment: dt.datetime) -> dt.datetime:
    if not 1900 <= moment.year < 2200:
        raise ValueError("is no time from 1900 to 2199")
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


When = Annotated[dt.datetime, AfterValidator(_in_time)]


class Happened(Asked):
    item_id: Id = Field(examples=["50"])
    kind: Literal["rating", "watch", "thumb_up", "thumb_down", "list_add", "list_remove", "click"] = "watch"
    rating: float | None = Field(None, ge=-1e6, le=1e6, description="On the dataset's scale; a rating needs one.")
    timestamp: When | None = Field(None, description="Unless given: after all others. From 1900 to 2199.")
    event_id: Annotated[str, Field(min_length=1, max_length=36, pattern="^[A-Za-z0-9-]+$")] | None = Field(
        None, description="Names the event: with `keep` it is kept once, however often it is sent."
    )


class Update(Asked):
    member: Id = Field(description="One who is not known becomes a member.")
    events: list[Happened] = Field(min_length=1, max_length=_MOST_EVENTS)
    keep: bool = Field(False, description="Write them into the event store too, for `python -m data export-events`.")


class Updated(BaseModel):
    known: int = Field(description="Events of titles that the model knows; the others change nothing.")
    kept: int = Field(description="Events that are new in the event store.")


class Speaking(BaseModel):
    item_id: str
    share: float = Field(description="In what all events that help add, 0 to 1.")


class Explained(BaseModel):
    run_id: str
    member: str
    item_id: str
    events: list[Speaking] = Field(description="Watched titles without which this one would score less; most first.")


class Near(BaseModel):
    rank: int
    item_id: str
    score: float = Field(description="Likeness, at most 1.")


class Alike(BaseModel):
    run_id: str
    titles: list[Near]


class _Question(NamedTuple):
    member: str
    wanted: Wanted


def _plain(column: pd.Series) -> list[Any]:
    """Values as JSON has them."""
    return [None if value != value else value for value in column.tolist()]


def _load(run: Path) -> Recommender:
    recommender = Recommender.load(run, "auto")
    recommender.recommend(list(recommender.members[:1]), k=1)  # the first call reads the tables
    return recommender


class Live:
    """The recommender in use with what has happened since it was loaded; one call at a time.

    Args:
        dataset: whose.
    """

    def __init__(self, dataset: str) -> None:
        self._updates: deque[tuple[str, pd.DataFrame]] = deque(maxlen=_UPDATES)
        self.held = Held(lambda: runs.require_run(dataset, "recommender"), _load, self._tell)
        self._lock = self.held.lock

    def _tell(self, recommender: Recommender) -> None:
        for member, events in self._updates:
            recommender.update(member, events)

    def answer(self, questions: Sequence[_Question]) -> list[tuple[str, list[Pick] | None]]:
        """The run and its picks for each question; None where the member is unknown.

        Questions of a kind share a pass of the model.
        """
        with self._lock:
            recommender = self.held.model
            known = recommender.members.get_indexer(pd.Index([q.member for q in questions], dtype=object)) >= 0
            alike: dict[str, list[int]] = defaultdict(list)
            for at, question in enumerate(questions):
                if known[at]:
                    kind = question.wanted.model_dump_json(exclude={"member", "members"})
                    alike[kind].append(at)
            answers: list[list[Pick] | None] = [[] if there else None for there in known]
            for places in alike.values():
                wanted = questions[places[0]].wanted
                members = list(dict.fromkeys(questions[at].member for at in places))
                table = recommender.recommend(
                    members,
                    wanted.k,
                    wanted.hide_seen,
                    wanted.exclude,
                    reasons=wanted.reasons,
                    genres=wanted.genres,
                    years=wanted.years,
                    variety=wanted.variety,
                )
                names = list(table.columns[1:])
                rows = zip(table[USER_ID], *map(_plain, (table[name] for name in names)), strict=True)
                picks: dict[str, list[Pick]] = defaultdict(list)
                for who, *pick in rows:
                    picks[who].append(Pick(**dict(zip(names, pick, strict=True))))
                for at in places:
                    answers[at] = picks[questions[at].member]
            return [(self.held.run.name, picks_of_one) for picks_of_one in answers]

    def update(self, member: str, events: pd.DataFrame) -> int:
        """Fold events in; returns how many are of titles that the model knows."""
        with self._lock:
            self.held.model.update(member, events)
            self._updates.append((member, events))
            return int((self.held.model.vocabulary.items(events[ITEM_ID]) >= 0).sum())

    def explain(self, member: str, item_id: str, k: int) -> list[tuple[str, float]]:
        with self._lock:
            return events_behind(self.held.model, member, item_id, k)

    def similar(self, item_id: str, k: int) -> pd.DataFrame:
        with self._lock:
            return self.held.model.similar(item_id, k)


def app_of(dataset: str, window: float = 0.003, most: int = BATCH) -> Any:
    """The service of the recommender in use on a dataset.

    Args:
        dataset: its name.
        window: seconds that requests wait for others, where there are others.
        most: requests in one pass of the model.

    Raises:
        UserError: there is no recommender in use, or it cannot be loaded.
    """
    live = Live(dataset)
    batcher = Batcher(live.answer, most=most, window=window, waiting=WAITING)
    routes = APIRouter()

    def unknown(member: str) -> HTTPException:
        return HTTPException(404, f"Member '{member[:100]}' is not in dataset '{dataset}': send their events first.")

    @routes.post("/recommend", summary="The best titles for one member")
    async def recommend(asked: ForOne) -> Lists:
        run, picks = await within(SECONDS, batcher.ask(_Question(asked.member, asked)))
        if picks is None:
            raise unknown(asked.member)
        return Lists(run_id=run, lists=[ListOfOne(member=asked.member, picks=picks)])

    @routes.post("/recommend/many", summary="The best titles for many members")
    async def recommend_many(asked: ForMany) -> Lists:
        questions = [_Question(member, asked) for member in asked.members]
        answers = await within(SECONDS, asyncio.to_thread(live.answer, questions))
        lists = []
        for member, (_, picks) in zip(asked.members, answers, strict=True):
            if picks is None:
                raise unknown(member)
            lists.append(ListOfOne(member=member, picks=picks))
        return Lists(run_id=answers[0][0], lists=lists)

    @routes.post("/update", summary="New events of one member, known from the next request on")
    async def update(asked: Update) -> Updated:
        def folded() -> Updated:
            n_kept = 0
            if asked.keep:
                n_kept = kept.record(open_dataset(dataset), [_event(asked.member, one) for one in asked.events])
            frame = pd.DataFrame(
                {
                    ITEM_ID: [one.item_id for one in asked.events],
                    KIND: [one.kind for one in asked.events],
                    RATING: [one.rating for one in asked.events],
                }
            ).astype({RATING: float})
            times = pd.Series([one.timestamp for one in asked.events], dtype="datetime64[us, UTC]")
            return Updated(known=live.update(asked.member, frame.assign(**{TIMESTAMP: times})), kept=n_kept)

        return await within(SECONDS, asyncio.to_thread(folded))

    @routes.get("/explain", summary="Which events of a member speak for a title")
    async def explain(
        member: Annotated[Id, Query()], item_id: Annotated[Id, Query()], k: Annotated[int, Query(ge=1, le=50)] = 5
    ) -> Explained:
        try:
            found = await within(SECONDS, asyncio.to_thread(live.explain, member, item_id, k))
        except UserError as mistake:
            raise HTTPException(404, str(mistake)) from None
        speaking = [Speaking(item_id=title, share=share) for title, share in found]
        return Explained(run_id=live.held.run.name, member=member, item_id=item_id, events=speaking)

    @routes.get("/similar", summary="The titles most like one")
    async def similar(item_id: Annotated[Id, Query()], k: Annotated[int, Query(ge=1, le=_MOST_TITLES)] = 20) -> Alike:
        try:
            found = await within(SECONDS, asyncio.to_thread(live.similar, item_id, k))
        except UserError as mistake:
            raise HTTPException(404, str(mistake)) from None
        near = [Near(rank=rank, item_id=title, score=score) for rank, title, score in found.itertuples(index=False)]
        return Alike(run_id=live.held.run.name, titles=near)

    return make_app("Marquee recommender", _ABOUT, "recommender", dataset, live.held, routes)


def _event(member: str, one: Happened) -> kept.Event:
    """As the event store holds it.

    Raises:
        HTTPException: 422 for what it could not hold.
    """
    named: dict[str, Any] = {} if one.event_id is None else {"event_id": one.event_id}
    if one.timestamp is not None:
        named["made_at"] = one.timestamp
    try:
        return kept.Event(member, one.kind, one.item_id, one.rating, place="service", **named)
    except ValueError as failure:
        raise HTTPException(422, f"events: {failure}.") from None


def serve_command(argv: list[str]) -> None:
    """`serve [--dataset NAME] [--host HOST] [--port PORT]`.

    Raises:
        UserError: there is no recommender in use, or the address cannot be listened at.
    """
    at = address("recsys", argv)
    serve(app_of(at.dataset, most=at.batch), at)
