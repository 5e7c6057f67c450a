"""Requests that share calls, whatever is cancelled or fails in between: everyone gets their own answer or is left to themselves."""

import asyncio
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.generation.gathering import Gathering, Taken


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 3), st.integers(1, 6))
def test_everyone_gets_their_own_answer_or_is_left_alone_and_no_slot_is_lost(seed: int, requests: int, slots: int, most: int) -> None:
    asyncio.run(_all_end(Random(seed), requests, slots, most))


async def _all_end(rng: Random, requests: int, slots: int, most: int) -> None:
    free = asyncio.Semaphore(slots)
    together: Gathering[int, str] = Gathering(most, lambda group: sum(group) % 7 != 3)
    sizes: list[int] = []

    async def lead(taken: Taken[int]) -> Sequence[str | None]:
        async with free:
            group = list(taken())
            sizes.append(len(group))
            await _turns(rng.randrange(6))
            if rng.random() < 0.2:
                raise ValueError(group[0])
            return [None if rng.random() < 0.1 else f"answer to {request}" for request in group]

    async def one(request: int) -> str | None:
        await _turns(rng.randrange(8))
        with together.arriving():
            await _turns(rng.randrange(3))
        return await together.answer(request % 2, request, lead)

    tasks = [asyncio.create_task(one(request)) for request in range(requests)]
    for _ in range(rng.randrange(4)):
        await _turns(rng.randrange(10))
        rng.choice(tasks).cancel()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for request, result in enumerate(results):
        assert result is None or result == f"answer to {request}" or isinstance(result, asyncio.CancelledError) or str(result) == str(request)
    assert all(size <= most for size in sizes)
    async with asyncio.timeout(5):
        for _ in range(slots):
            await free.acquire()
        assert await together.answer(0, 2, _echo) == "2"  # nobody is left who would be taken along


async def _echo(taken: Taken[int]) -> Sequence[str]:
    return [str(request) for request in taken()]


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
