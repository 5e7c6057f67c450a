"""Requests that wait for a slot share calls: who is taken along, and what becomes of those when the call fails or is cut off."""

import asyncio
from collections.abc import Sequence

from mistudio_explain.generation.gathering import Gathering, Taken


class Slots:
    """Slots, and calls that end when they are let to; an answer is its request in capitals."""

    def __init__(self, slots: int) -> None:
        self.free = asyncio.Semaphore(slots)
        self.let = asyncio.Event()
        self.calls: list[list[str]] = []
        self.begun = asyncio.Condition()
        self.nothing_for: set[str] = set()
        self.failure: Exception | None = None

    async def lead(self, taken: Taken[str]) -> Sequence[str | None]:
        async with self.free:
            group = list(taken())
            self.calls.append(group)
            async with self.begun:
                self.begun.notify_all()
            await self.let.wait()
            if self.failure is not None:
                raise self.failure
            return [None if request in self.nothing_for else request.upper() for request in group]

    async def until(self, calls: int) -> None:
        async with self.begun, asyncio.timeout(5):
            await self.begun.wait_for(lambda: len(self.calls) >= calls)


def gathering(most: int = 3) -> Gathering[str, str]:
    return Gathering(most, lambda requests: sum(map(len, requests)) < 20)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_waits_for_a_slot_goes_with_whoever_gets_it_and_each_gets_its_own_answer() -> None:
    slots, together = Slots(1), gathering()
    tasks = [asyncio.create_task(together.answer("k", request, slots.lead)) for request in "abcdefg"]
    await slots.until(1)
    slots.let.set()
    assert await asyncio.gather(*tasks) == list("ABCDEFG")
    assert [len(call) for call in slots.calls] == [3, 3, 1]
    assert sorted(request for call in slots.calls for request in call) == list("abcdefg")


async def test_one_alone_is_asked_at_once_and_alone() -> None:
    slots, together = Slots(1), gathering()
    slots.let.set()
    assert await together.answer("k", "a", slots.lead) == "A"
    assert slots.calls == [["a"]]


async def test_only_what_has_the_same_kind_and_fits_is_taken_along() -> None:
    slots, together = Slots(1), gathering()
    requests = [("k", "a"), ("k", "b" * 15), ("other", "c"), ("k", "d" * 15), ("k", "e")]
    tasks = [asyncio.create_task(together.answer(kind, request, slots.lead)) for kind, request in requests]
    await slots.until(1)
    slots.let.set()
    await asyncio.gather(*tasks)
    assert sorted(slots.calls) == sorted([["a", "b" * 15, "e"], ["c"], ["d" * 15]])


async def test_those_that_are_on_their_way_are_waited_for_so_that_the_first_slots_are_shared_too() -> None:
    slots, together = Slots(2), gathering()
    slots.let.set()

    async def arriving_after(turns: int, request: str) -> str | None:
        with together.arriving():
            for _ in range(turns):
                await asyncio.sleep(0)
        return await together.answer("k", request, slots.lead)

    assert await asyncio.gather(*(arriving_after(10 * turns, request) for turns, request in enumerate("abc"))) == ["A", "B", "C"]
    assert slots.calls == [["a", "b", "c"]]


async def test_who_is_left_without_an_answer_is_told_so() -> None:
    slots, together = Slots(1), gathering()
    slots.nothing_for = {"c"}
    tasks = [asyncio.create_task(together.answer("k", request, slots.lead)) for request in "abcd"]
    await slots.until(1)
    slots.let.set()
    assert await asyncio.gather(*tasks) == ["A", "B", None, "D"]


async def test_what_the_leader_meets_is_its_own_and_the_others_go_on() -> None:
    slots, together = Slots(1), gathering()
    slots.failure = ValueError("mine")
    tasks = [asyncio.create_task(together.answer("k", request, slots.lead)) for request in "abcd"]
    await slots.until(1)
    slots.let.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, type(None), type(None), ValueError]


async def test_a_leader_that_is_cancelled_frees_its_slot_and_leaves_those_it_took_along_to_themselves() -> None:
    slots, together = Slots(1), gathering()
    others = [asyncio.create_task(together.answer("k", request, slots.lead)) for request in "abc"]
    await slots.until(1)
    assert slots.calls == [["a", "b", "c"]]
    others[0].cancel()
    results = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None, None]
    assert not slots.free.locked()


async def test_one_that_was_taken_along_can_be_cancelled_without_harm() -> None:
    slots, together = Slots(1), gathering()
    all_three = [asyncio.create_task(together.answer("k", request, slots.lead)) for request in "abc"]
    await slots.until(1)
    all_three[1].cancel()
    await settled()
    slots.let.set()
    assert (await all_three[0], await all_three[2]) == ("A", "C")


async def test_one_that_is_cancelled_while_it_waits_is_asked_for_by_nobody() -> None:
    slots, together = Slots(1), gathering()
    first = asyncio.create_task(together.answer("k", "a", slots.lead))
    await slots.until(1)
    second, third = (asyncio.create_task(together.answer("k", request, slots.lead)) for request in "bc")
    await settled()
    second.cancel()
    await settled()
    slots.let.set()
    assert (await first, await third) == ("A", "C")
    assert slots.calls == [["a"], ["c"]]
