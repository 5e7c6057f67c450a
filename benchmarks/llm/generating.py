"""Our whole generation path: lanes of the embedded broker, the generation service, its dispatch and provider, drafts back on the broker."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from structlog.testing import capture_logs

from benchmarks.llm.servers import Served
from mistudio_explain.cli.serve import kafka_or_embedded
from mistudio_explain.context.lane import own_lane
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.generation import service as generation
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed, Provider
from mistudio_explain.settings import GenerationSettings, LlmSettings, Settings


@dataclass
class Watched:
    """A provider whose calls are kept with their times."""

    provider: Provider
    calls: list[Call] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    started_s: float | None = None
    ended_s: float = 0.0

    @property
    def ended(self) -> int:
        return len(self.completions) + len(self.failures)

    @property
    def seconds(self) -> float:
        """From the first call to the last answer."""
        return self.ended_s - (self.started_s or self.ended_s)

    async def complete(self, call: Call) -> Completion:
        self.started_s = self.started_s or time.perf_counter()
        self.calls.append(call)
        try:
            completion = await self.provider.complete(call)
        except Exception as error:
            self.failures.append(error)
            raise
        finally:
            self.ended_s = time.perf_counter()
        self.completions.append(completion)
        return completion

    async def models(self) -> list[ModelListed]:
        return await self.provider.models()

    async def close(self) -> None:
        await self.provider.close()


async def generated(requests: Sequence[ExplanationRequested], served: Served, llm: LlmSettings) -> Watched:
    """Send the requests through a lane to the generation service until each has been called once.

    An unusable answer is not asked for again, so that every contender makes the same calls.
    """
    settings = Settings(llm=llm, generation=GenerationSettings(attempts=1))
    watched = Watched(served.provider())
    endpoint = Endpoint("bench", served.kind, served.url, served.slots, watched)
    await endpoint.refresh()
    endpoints = Endpoints([endpoint], rng=random.Random(0))
    with capture_logs():  # each unusable answer would be said
        await _until_all_called(settings, endpoints, watched, requests)
    await endpoints.close()
    return watched


async def _until_all_called(settings: Settings, endpoints: Endpoints, watched: Watched, requests: Sequence[ExplanationRequested]) -> None:
    async with kafka_or_embedded(settings) as (clients, _):
        app = StreamApp(settings, clients)
        generation.register(app, JobControls(app), endpoints, MemoryAnswers(), random.Random(0))
        async with app.running():
            lane = own_lane(requests[0].subject.target_model or "")
            await app.ensure_lane(lane)
            await app.publish(outgoing(request, topic=lane) for request in requests)
            while watched.ended < len(requests):
                await asyncio.sleep(0.02)
