"""Requests at the same time are one call, and each gets its own answer."""

import asyncio
import time
from collections.abc import Sequence

from data.batching import Batcher, QueueFullError


def test_questions_asked_together_are_one_call_and_each_gets_its_answer() -> None:
    calls: list[int] = []

    def double(questions: Sequence[int]) -> list[int]:
        calls.append(len(questions))
        return [2 * one for one in questions]

    async def ask() -> list[int]:
        batcher = Batcher(double, most=8)
        return await asyncio.gather(*(batcher.ask(n) for n in range(12)))

    assert asyncio.run(ask()) == [2 * n for n in range(12)]
    assert calls == [8, 4]


def test_a_full_queue_refuses_and_an_error_reaches_all_who_asked() -> None:
    def fail(questions: Sequence[int]) -> list[int]:
        raise ValueError("no")

    async def ask() -> list[object]:
        batcher = Batcher(fail, waiting=2)
        return list(await asyncio.gather(*(batcher.ask(n) for n in range(3)), return_exceptions=True))

    first, second, third = asyncio.run(ask())
    assert [type(one) for one in (first, second, third)] == [ValueError, ValueError, QueueFullError]


def test_who_asks_alone_waits_for_nobody_and_who_does_not_is_gathered() -> None:
    calls: list[int] = []

    def double(questions: Sequence[int]) -> list[int]:
        calls.append(len(questions))
        time.sleep(0.05)
        return [2 * one for one in questions]

    async def ask() -> None:
        batcher = Batcher(double, window=0.5)
        began = time.perf_counter()
        for n in range(3):
            assert await batcher.ask(n) == 2 * n
        assert time.perf_counter() - began < 0.45

        async def later(n: int) -> int:
            await asyncio.sleep(0.01 * n)
            return await batcher.ask(n)

        assert await asyncio.gather(*(later(n) for n in range(8))) == [2 * n for n in range(8)]
        assert await asyncio.gather(*(later(n) for n in range(8))) == [2 * n for n in range(8)]

    asyncio.run(ask())
    assert calls == [1, 1, 1, 1, 7, 8]
