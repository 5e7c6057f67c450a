"""An explainer that answers from a script, with a scripted latency, to measure everything around it."""

import asyncio
import random
import time
from collections.abc import Iterator

from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed

ANSWER = '{"label": "A fixed answer", "pattern": "Texts that mention fixed answers.", "significance": "It costs nothing.", "implications": "None."}'
SENTENCE = " mention fixed answers."


class FakeProvider:
    """Each call takes the next of `latencies`, seconds; counts calls and the seconds they took."""

    def __init__(self, latencies: Iterator[float]) -> None:
        self._latencies = latencies
        self.calls = 0
        self.busy_s = 0.0
        self.first_start: float | None = None
        self.last_end = 0.0

    async def complete(self, call: Call) -> Completion:
        latency = next(self._latencies)
        self.calls += 1
        self.first_start = self.first_start or time.perf_counter()
        if latency:
            await asyncio.sleep(latency)
        self.busy_s += latency
        self.last_end = time.perf_counter()
        return Completion(ANSWER if call.form == "fields" else SENTENCE, "stop", 100, 40, latency, latency)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("fake")]

    async def close(self) -> None:
        return None


def log_normal(seed: int, mean_s: float = 0.2, sigma: float = 0.5) -> Iterator[float]:
    """An endless stream of log-normal latencies with the given mean."""
    rng = random.Random(seed)
    scale = mean_s / 2.718281828459045 ** (sigma**2 / 2)
    while True:
        yield scale * rng.lognormvariate(0, sigma)


def instant() -> Iterator[float]:
    while True:
        yield 0.0


async def fake_endpoints(provider: FakeProvider, slots: int) -> Endpoints:
    endpoint = Endpoint("fake", "openai", "", slots, provider)
    await endpoint.refresh()
    return Endpoints([endpoint], rng=random.Random(0))
