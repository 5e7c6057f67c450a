"""Calls that never run out, kept in flight as the lanes keep records, and what came of each."""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mistudio_explain.events.explanation import Message
from mistudio_explain.llm.asking import NoAnswer, ask
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.provider import Call, Patience
from mistudio_explain.settings import EndpointSettings, GenerationSettings, LlmSettings

PER_SLOT = GenerationSettings().in_flight_per_slot
_PATIENCE = Patience(120, 120, 300)


@dataclass(frozen=True, slots=True)
class Done:
    """One question: when it was asked, got its slot and was answered, seconds of the clock; `answered` is False when it failed."""

    model: str
    asked_at: float
    slot_at: float
    ended_at: float
    answered: bool


def call_of(model: str, number: int) -> Call:
    prompt = (Message(role="system", content="What do these texts have in common? " * 10), Message(role="user", content=f"Text {number}. " * 60))
    return Call(prompt, "sentence", model, 0.0, 1, 300, 4096, _PATIENCE)


def mixed(models: Sequence[str], seed: int = 1) -> Iterator[str]:
    rng = random.Random(seed)
    while True:
        yield rng.choice(models)


@asynccontextmanager
async def opened(*endpoints: EndpointSettings, max_wait_s: float = 120.0) -> AsyncGenerator[Endpoints, None]:
    made = await Endpoints.open(LlmSettings(endpoints=endpoints, max_wait_s=max_wait_s), rng=random.Random(1))
    try:
        yield made
    finally:
        await made.close()


class Feeding:
    """Asks `endpoints` for one model after the other, as many at once as a lane would, while the context lasts."""

    def __init__(self, endpoints: Endpoints, models: Iterator[str]) -> None:
        self.done: list[Done] = []
        self._endpoints = endpoints
        self._models = enumerate(models)
        self._rng = random.Random(1)

    async def __aenter__(self) -> "Feeding":
        self._feeding = asyncio.create_task(self._feed())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)

    async def until(self, count: int) -> None:
        while len(self.done) < count:
            await asyncio.sleep(0.01)

    def rate(self, since: float, until: float) -> float:
        """Answers a second between two times."""
        return sum(one.answered and since <= one.ended_at < until for one in self.done) / (until - since)

    async def _feed(self) -> None:
        asking: set[asyncio.Task[None]] = set()
        try:
            while True:
                while len(asking) < math.ceil(self._endpoints.places * PER_SLOT):
                    asking.add(asyncio.create_task(self._one(*next(self._models))))
                    await asyncio.sleep(0)
                _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _one(self, number: int, model: str) -> None:
        asked_at = slot_at = time.monotonic()

        def call(choice: Choice, _: int) -> Call:
            nonlocal slot_at
            slot_at = time.monotonic()
            return call_of(choice.model.name, number)

        try:
            await ask(self._endpoints, [model], call, lambda completion: completion.text, attempts=3, retry_wait_s=1.0, rng=self._rng)
            answered = True
        except NoAnswer:
            answered = False
        self.done.append(Done(model, asked_at, slot_at, time.monotonic(), answered))
