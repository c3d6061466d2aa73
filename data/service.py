"""What the HTTP services of the model packages share: one model in use, limits, and answers that are always JSON.

A service holds the run in use and takes over another one as soon as it is promoted, without a pause: the new model is
loaded beside the old one and takes its place when it is ready. Every refusal is `{"error": "one sentence"}`; what went
wrong inside is in the log, under the id that the answer names. The log names routes, never members or texts.
"""

import asyncio
import hmac
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data import command, runs
from data.batching import QueueFullError
from data.dataset import open_dataset
from data.errors import UserError

TOKEN = "MARQUEE_API_TOKEN"
BODY_BYTES = 1 << 20
WAITING = 256  # requests that wait for the model
BATCH = 64  # requests that one pass of the model answers
SECONDS = 30.0  # until a request is given up
_LOOK_SECONDS = 2.0  # between looks for another run in use
_GATHER_SECONDS = 30  # for running requests when the service is told to end

Model = TypeVar("Model")
Answer = TypeVar("Answer")
_log = logging.getLogger("marquee.service")


class Held(Generic[Model]):
    """The model of the run in use.

    Args:
        find: the folder of the run in use.
        load: its model.
        ready: called with a model just before it takes the place of the last one, under `lock`.
    """

    def __init__(
        self,
        find: Callable[[], Path],
        load: Callable[[Path], Model],
        ready: Callable[[Model], object] = lambda model: None,
    ) -> None:
        self._find, self._load, self._ready = find, load, ready
        self.lock = threading.RLock()
        run = find()
        self._now = run, load(run)

    @property
    def run(self) -> Path:
        return self._now[0]

    @property
    def model(self) -> Model:
        return self._now[1]

    def look(self) -> bool:
        """Take over another run that is in use now; whether there was one. One that cannot be loaded is left alone."""
        try:
            run = self._find()
            if run == self.run:
                return False
            model = self._load(run)
        except UserError as mistake:
            _log.warning("The run in use cannot be taken over, run %s goes on: %s", self.run.name, mistake)
            return False
        with self.lock:
            self._ready(model)
            self._now = run, model
        _log.info("Run %s is served now.", run.name)
        return True


def _speakable(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds half a surrogate pair, which no text may hold")
    return text


_NO_NUL = r"^[^\x00]*$"
Id = Annotated[str, Field(min_length=1, max_length=1000, pattern=_NO_NUL), AfterValidator(_speakable)]
Text = Annotated[str, Field(max_length=20_000, pattern=_NO_NUL), AfterValidator(_speakable)]


class Asked(BaseModel):
    """A request's body: a field that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="One sentence.", examples=["Member 'x' is not in dataset 'demo'."])


class Health(BaseModel):
    status: str = Field(examples=["ok"])


class Ready(BaseModel):
    dataset: str = Field(examples=["demo"])
    model: str = Field(examples=["recommender"])
    run_id: str = Field(description="Of the run that is served.")
    as_of: str | None = Field(description="The dataset's clock: the time of its latest row.")


class Card(Ready):
    headline: dict[str, Any] = Field(description="The metric by which the run was judged, and whose best it is.")
    metrics: dict[str, Any] = Field(description="Of the model and of its baselines, by split.")


async def within(seconds: float, answer: Awaitable[Answer]) -> Answer:
    """The answer, or the refusal of one that comes too late or finds too many waiting.

    Raises:
        HTTPException: 503 or 504.
    """
    try:
        return await asyncio.wait_for(answer, seconds)
    except QueueFullError:
        raise HTTPException(503, "Too many requests wait: try again in a second.", {"Retry-After": "1"}) from None
    except TimeoutError:
        raise HTTPException(504, f"There was no answer within {seconds:g} s: try again, or ask for less.") from None


def _admitted(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
    wanted = os.environ.get(TOKEN, "")
    if wanted and not hmac.compare_digest((given.credentials if given else "").encode(), wanted.encode()):
        raise HTTPException(401, "Send the header 'Authorization: Bearer TOKEN'.", {"WWW-Authenticate": "Bearer"})


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in (
        (400, "The body is no JSON."),
        (401, "The token is missing or wrong."),
        (404, "There is no such member or title."),
        (413, "The body is too large."),
        (422, "A field is at fault."),
        (503, "Too many requests wait."),
        (504, "No answer in time."),
    )
}


def make_app(title: str, description: str, model: str, dataset: str, held: Held[Any], routes: APIRouter) -> FastAPI:
    """The service: the routes of a package with health, readiness and the model's card.

    Args:
        title, description: for OpenAPI.
        model: name of the runs, from data.runs.MODELS.
        dataset: whose run is served.
        held: the model in use.
        routes: under /v1; they need the token if there is one.
    """

    @asynccontextmanager
    async def watching(_: FastAPI) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                try:
                    await asyncio.to_thread(held.look)
                except Exception:
                    _log.exception("Looking for another run failed.")

        task = asyncio.create_task(watch())
        yield
        task.cancel()

    app = FastAPI(title=title, description=description, version="1", lifespan=watching, redoc_url=None)

    def ready() -> dict[str, Any]:
        clock = open_dataset(dataset).as_of
        as_of = None if clock is None else clock.isoformat()
        return {"dataset": dataset, "model": model, "run_id": held.run.name, "as_of": as_of}

    @app.get("/health", summary="Whether the process lives")
    async def health() -> Health:
        return Health(status="ok")

    @app.get("/ready", summary="Which run is served", responses={503: {"model": Problem}})
    def is_ready() -> Ready:
        return Ready(**ready())

    @routes.get("/model", summary="The run that is served, beside its baselines")
    def card() -> Card:
        report = runs.read_report(held.run)
        return Card(**ready(), headline=report.get("headline") or {}, metrics=report.get("metrics") or {})

    app.include_router(routes, prefix="/v1", dependencies=[Depends(_admitted)], responses=_REFUSALS)
    _answer_in_json(app)
    app.add_middleware(_Door)
    return app


def _answer_in_json(app: FastAPI) -> None:
    def refused(status: int, sentence: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": sentence.encode("utf-8", "replace").decode()}, status, headers)

    @app.exception_handler(StarletteHTTPException)
    async def http(_: Request, failure: StarletteHTTPException) -> JSONResponse:
        return refused(failure.status_code, f"{str(failure.detail).rstrip('.')}.", failure.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, failure: RequestValidationError) -> JSONResponse:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        return refused(422, f"{where[:100]}: {first['msg']}.")

    @app.exception_handler(UserError)
    async def mistake(_: Request, failure: UserError) -> JSONResponse:
        return refused(422, str(failure))


class _Door:
    """ASGI middleware: bodies up to a limit, a log line for each request, and a sentence where something broke."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, taken = time.perf_counter(), 0, 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > BODY_BYTES:
                raise HTTPException(413, f"The body is too large: send {BODY_BYTES >> 20} MB at most.")
            return message

        try:
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if length.isdigit() and int(length) > BODY_BYTES:
                too_large = {"error": f"The body is too large: send {BODY_BYTES >> 20} MB at most."}
                await JSONResponse(too_large, 413)(scope, receive, answered)
            else:
                await self._app(scope, limited, answered)
        except Exception:
            name = secrets.token_hex(4)
            _log.exception("Failure %s", name)
            if status == 0:
                broken = {"error": f"Something went wrong here; the log tells what, under {name}."}
                await JSONResponse(broken, 500)(scope, receive, answered)
        finally:
            path = scope["path"] if "route" in scope else "-"  # ours hold no ids
            _log.info("%s %s %d %.0f ms", scope["method"], path, status, 1000 * (time.perf_counter() - began))


@dataclass(frozen=True)
class Address:
    dataset: str
    host: str
    port: int
    batch: int  # requests that one pass of the model answers, at most


def address(package: str, argv: list[str]) -> Address:
    """The arguments of `python -m PACKAGE serve`.

    Raises:
        UserError: a flag is at fault.
    """
    parser = command.Parser(prog=f"python -m {package} serve", description="Serve the model in use over HTTP.")
    parser.add_argument("--dataset", "--data.dataset", default="demo", help="whose model (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="to listen at (default: %(default)s, this machine alone)")
    parser.add_argument(
        "--port", type=int, default=8000, help="to listen at; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=BATCH,
        help="requests that one pass of the model answers at most; 1: each has its own (default: %(default)s)",
    )
    asked = parser.parse_args(argv)
    if not 1 <= asked.batch <= WAITING:
        raise UserError(f"--batch {asked.batch}: give a number from 1 to {WAITING}.")
    if not 0 <= asked.port < 1 << 16:
        raise UserError(f"--port {asked.port}: give a number from 0 to 65535.")
    return Address(open_dataset(asked.dataset).name, asked.host, asked.port, asked.batch)


def serve(app: FastAPI, at: Address) -> None:
    """Answer until SIGTERM or Ctrl-C; requests that run then are answered first.

    Raises:
        UserError: the address cannot be listened at.
    """
    try:
        family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
        listening = socket.create_server((at.host, at.port), family=family, backlog=1024)
        # Headers and body are sent apart: without this the body waits 40 ms for the client to confirm the headers.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as failure:
        raise UserError(
            f"--host {at.host} --port {at.port} cannot be listened at ({failure.strerror or failure}): choose another."
        ) from None
    open_to_all = at.host not in ("127.0.0.1", "localhost", "::1") and not os.environ.get(TOKEN)
    print(f"Serving on http://{at.host}:{listening.getsockname()[1]} (what can be asked: /docs). Ctrl-C ends it.")
    if open_to_all:
        print(f"Whoever reaches {at.host} may ask: set {TOKEN} to ask for a token.")
    sys.stdout.flush()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    _log.setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends in order, and then raises it again
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=_GATHER_SECONDS, server_header=False
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print("Stopped.")
