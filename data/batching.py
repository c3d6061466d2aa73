"""Single requests that come within a few milliseconds of each other are answered by one call of the model."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class QueueFullError(Exception):
    """As many requests wait as may wait: try again later."""


class Batcher(Generic[Question, Answer]):
    """Gathers questions that are asked at the same time and answers them together, in a thread, in their order.

    Args:
        answer: gives one answer for each question; what it raises is raised for each of them.
        most: questions in one call.
        window: seconds that questions wait for others. One that finds nobody else, neither waiting nor in the call
            before, does not wait.
        waiting: questions that may wait at once.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer]],
        most: int = 64,
        window: float = 0.003,
        waiting: int = 1024,
    ) -> None:
        self._answer, self._most, self._window, self._limit = answer, most, window, waiting
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._together = 0  # questions in the latest call

    async def ask(self, question: Question) -> Answer:
        """The answer to one question.

        Raises:
            QueueFullError: too many wait already.
        """
        if len(self._waiting) >= self._limit:
            self._waiting = [(other, told) for other, told in self._waiting if not told.done()]  # who gave up is out
            if len(self._waiting) >= self._limit:
                raise QueueFullError
        told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, told))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await told

    async def _work(self) -> None:
        wait = self._window if self._together > 1 else 0.0
        while self._waiting:
            await asyncio.sleep(wait)
            wait = self._window
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            batch = [(question, told) for question, told in batch if not told.done()]  # who gave up is left out
            if not batch:
                continue
            self._together = len(batch)
            try:
                answers = await asyncio.to_thread(self._answer, [question for question, _ in batch])
                for (_, told), answer in zip(batch, answers, strict=True):
                    if not told.done():
                        told.set_result(answer)
            except Exception as error:
                for _, told in batch:
                    if not told.done():
                        told.set_exception(error)
