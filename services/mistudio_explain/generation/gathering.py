"""Lets requests that wait for a slot share calls: whoever gets a slot takes along what waits with it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

GATHER_S = 0.005
"""How long a request stands back, before it asks for a slot, for others that are on their way to it; alone it never does."""

R = TypeVar("R")
A = TypeVar("A")

Taken = Callable[[], Sequence[R]]
"""Who shares the call, the one that leads it first; to be asked once a slot is held, and the same from then on."""
Lead = Callable[[Taken[R]], Awaitable[Sequence[A | None]]]
"""Gets a slot and asks for all who share it; gives their answers in order, None for one that must ask by itself."""


@dataclass(eq=False, slots=True)
class _Waiting(Generic[R, A]):
    request: R
    answer: "asyncio.Future[A | None]"
    leading: "asyncio.Task[None] | None" = None
    """Its own way to a slot, which ends when another takes it along."""


class Gathering(Generic[R, A]):
    """The requests of one worker that wait for a slot, by what they must have in common to share a call.

    Nobody waits for a call to fill up: it is led as soon as there is a slot for it, with those that wait then, at most
    `most` and as many as `fits` says. So calls are shared as far as requests outnumber slots.
    """

    def __init__(self, most: int, fits: Callable[[Sequence[R]], bool]) -> None:
        self._most = most
        self._fits = fits
        self._waiting: dict[Hashable, list[_Waiting[R, A]]] = {}
        self._arriving = 0
        self._arrived = asyncio.Event()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Inside, a request is in flight that may come here next."""
        self._arriving += 1
        self._arrived.clear()
        try:
            yield
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._arrived.set()

    async def answer(self, kind: Hashable, request: R, lead: Lead[R, A]) -> A | None:
        """Get the answer to a request, out of a call of its own or of another of its `kind`; None when it must ask by itself.

        Raises what `lead` raises, to the one that leads alone: those whom it took along ask by themselves, as they do
        when it is cancelled.
        """
        mine: _Waiting[R, A] = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(kind, []).append(mine)
        mine.leading = asyncio.create_task(self._lead(kind, mine, lead))
        try:
            await asyncio.wait([mine.answer])
            return mine.answer.result()
        finally:
            self._leave(kind, mine)
            if not mine.leading.done():
                mine.leading.cancel()
                await asyncio.wait([mine.leading])  # its call is closed, and its slot free

    async def _lead(self, kind: Hashable, mine: _Waiting[R, A], lead: Lead[R, A]) -> None:
        group: list[_Waiting[R, A]] = []

        def taken() -> Sequence[R]:
            group.extend(() if group else self._take(kind, mine))
            return [waiting.request for waiting in group]

        answers: Sequence[A | None] = ()
        try:
            if self._arriving:
                with suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._arrived.wait()
            answers = await lead(taken)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is for the one that leads)
            if not mine.answer.done():
                mine.answer.set_exception(error)
        finally:
            for place, waiting in enumerate(group):
                if not waiting.answer.done():
                    waiting.answer.set_result(answers[place] if answers else None)

    def _take(self, kind: Hashable, mine: _Waiting[R, A]) -> list[_Waiting[R, A]]:
        self._leave(kind, mine)
        group = [mine]
        for other in list(self._waiting.get(kind, ())):
            if len(group) == self._most:
                break
            if not self._fits([*(waiting.request for waiting in group), other.request]):
                continue
            self._leave(kind, other)
            group.append(other)
            assert other.leading is not None
            other.leading.cancel()
        return group

    def _leave(self, kind: Hashable, waiting: _Waiting[R, A]) -> None:
        there = self._waiting.get(kind, [])
        if waiting in there:
            there.remove(waiting)
            if not there:
                del self._waiting[kind]
