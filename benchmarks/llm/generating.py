"""Our whole generation path: lanes of the embedded broker, the generation service, its dispatch and providers, drafts back on the broker."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from benchmarks.llm.servers import Served
from mistudio_explain.cli.serve import kafka_or_embedded
from mistudio_explain.context.lane import own_lane
from mistudio_explain.events.explanation import ExplanationRequested, Message
from mistudio_explain.events.topics import DEAD_LETTERS, DRAFTS, EXPRESS, RETRY_SHORT
from mistudio_explain.generation import service as generation
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed, Provider
from mistudio_explain.settings import GenerationSettings, LlmSettings, Settings

_GIVEN_UP = (RETRY_SHORT, DEAD_LETTERS)


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was answered, and when it began and ended."""

    call: Call
    completion: Completion
    began_s: float
    ended_s: float


@dataclass(slots=True)
class Observed:
    """What came of a run."""

    made: list[Made] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """Calls without a completion."""
    published_s: float = 0.0
    express: frozenset[tuple[Message, ...]] = frozenset()
    """Prompts that went through the express lane."""
    drafts: int = 0
    given_up: int = 0
    """Features that got no usable answer in their tries."""

    @property
    def completions(self) -> list[Completion]:
        return [made.completion for made in self.made]

    @property
    def seconds(self) -> float:
        """From the first call to the last answer."""
        return max(made.ended_s for made in self.made) - min(made.began_s for made in self.made)


@dataclass(frozen=True, slots=True)
class Watched:
    """A provider whose calls are noted."""

    provider: Provider
    observed: Observed

    async def complete(self, call: Call) -> Completion:
        began = time.perf_counter()
        try:
            completion = await self.provider.complete(call)
        except Exception as error:
            self.observed.failures.append(error)
            raise
        self.observed.made.append(Made(call, completion, began, time.perf_counter()))
        return completion

    async def models(self) -> list[ModelListed]:
        return await self.provider.models()

    async def close(self) -> None:
        await self.provider.close()


async def generated(
    requests: Sequence[ExplanationRequested],
    servers: Sequence[Served],
    llm: LlmSettings,
    how: GenerationSettings,
    *,
    express: Sequence[ExplanationRequested] = (),
) -> Observed:
    """Send the requests through their lane, and others through the express lane after them, until each has a draft or is given up."""
    lane = own_lane(requests[0].subject.target_model or "")
    observed = Observed(express=frozenset(tuple(request.prompt.messages) for request in express))
    named = [Endpoint(f"bench{number}", served.kind, served.url, served.slots, Watched(served.provider(), observed)) for number, served in enumerate(servers)]
    await asyncio.gather(*(endpoint.refresh() for endpoint in named))
    endpoints = Endpoints(named, rng=random.Random(0))
    with capture_logs():  # each feature that is given up would be said
        await _until_settled(Settings(llm=llm, generation=how), endpoints, observed, {lane: requests, EXPRESS: express})
    await endpoints.close()
    return observed


async def _until_settled(settings: Settings, endpoints: Endpoints, observed: Observed, lanes: Mapping[str, Sequence[ExplanationRequested]]) -> None:
    before = {topic: _published(topic) for topic in (DRAFTS, *_GIVEN_UP)}
    async with kafka_or_embedded(settings) as (clients, _):
        app = StreamApp(settings, clients)
        generation.register(app, JobControls(app), endpoints, MemoryAnswers(), random.Random(0))
        async with app.running():
            for lane in lanes:
                await app.ensure_lane(lane)
            observed.published_s = time.perf_counter()
            for lane, requests in lanes.items():
                await app.publish(outgoing(request, topic=lane) for request in requests)
            while observed.drafts + observed.given_up < sum(map(len, lanes.values())):
                await asyncio.sleep(0.02)
                observed.drafts = _published(DRAFTS) - before[DRAFTS]
                observed.given_up = sum(_published(topic) - before[topic] for topic in _GIVEN_UP)


def _published(topic: str) -> int:
    """Records of a topic that this process has published."""
    return int(REGISTRY.get_sample_value("mistudio_explain_events_out_total", {"topic": topic}) or 0)
