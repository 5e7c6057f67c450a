"""Several features in one call, on a broker: each record has its own draft, also when the service is cut off in the middle."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.test_stream_app import MakeApp, make_app, records_of, until
from mistudio_explain.context import service as context_service
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import ExplanationDrafted
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.generation import service as generation_service
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.llm.answers_cache import AnswersCache, MemoryAnswers
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.observability import tracing

__all__ = ["make_app"]  # the fixture

FEATURES = 24


@dataclass
class Numbering:
    """A model that answers each feature of a call by the number in its texts; the first calls wait until they are let go on."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    sizes: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def complete(self, call: Call) -> Completion:
        named = re.findall(r"number (\w+) stands", call.messages[-1].content)
        self.sizes.append(call.features)
        self.asked += named
        await self.let.wait()
        fields = [
            {"label": f"Number {name}", "pattern": f"Mentions of number {name}.", "significance": "Known.", "implications": "None known."} for name in named
        ]
        said = fields[0] if call.features == 1 else {"answers": [{"number": place, **each} for place, each in enumerate(fields, 1)]}
        return Completion(json.dumps(said), "stop", 100, 50, 0.0, 0.0)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("fake")]

    async def close(self) -> None:
        return None


def numbered(number: int) -> FeatureFound:
    name = f"q{number:03}"
    asked = JobRequest(explain_job_id="explain_1", explain_poor=True)
    texts = [Activation(text=f"Here number {name} stands.")]
    return FeatureFound(target_model="m", find_job_id="find_1", feature_id=name, top_activations=texts, request=asked)


async def serving(make_app: MakeApp, model: Numbering, answers: AnswersCache) -> StreamApp:
    app = make_app()
    shared = app.settings.generation.model_copy(update={"features_per_call": 4})
    app.settings = app.settings.model_copy(update={"generation": shared})
    endpoint = Endpoint("fake", "openai", "", 2, model)
    await endpoint.refresh()
    controls = JobControls(app)
    context_service.register(app, controls)
    generation_service.register(app, controls, Endpoints([endpoint], rng=Random(0)), answers, Random(0))
    return app


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.send_to(SimpleSpanProcessor(exporter))
    yield exporter
    tracing.send_to(None)


async def test_records_share_calls_and_each_gets_the_draft_of_its_own_answer(make_app: MakeApp, exporter: InMemorySpanExporter) -> None:
    model = Numbering()
    app = await serving(make_app, model, MemoryAnswers())
    async with app.running(), asyncio.timeout(60):
        await app.publish(outgoing(numbered(number)) for number in range(FEATURES))
        await until(lambda: len(model.sizes) == 2)
        model.let.set()
        drafts = [decode(ExplanationDrafted, record.value) for record in await records_of(app, topics.DRAFTS, FEATURES)]
    assert {draft.subject.feature_key: draft.answer.pattern for draft in drafts} == {
        f"q{number:03}": f"Mentions of number q{number:03}." for number in range(FEATURES)
    }
    assert sorted(model.asked) == [f"q{number:03}" for number in range(FEATURES)]
    assert max(model.sizes) == 4
    assert sum(draft.generation.tokens_out for draft in drafts) == 50 * len(model.sizes)
    spans = exporter.get_finished_spans()
    called = {span.context.trace_id for span in spans if span.name == "chat fake"}
    assert len(called) == len(model.sizes)
    of_generation = [span for span in spans if span.name.startswith("generation ")]
    assert len(of_generation) == FEATURES
    assert all({span.context.trace_id, *(link.context.trace_id for link in span.links)} & called for span in of_generation)


async def test_a_service_that_is_cut_off_between_answer_and_draft_leaves_every_shared_answer_to_the_next(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, answers = Numbering(), MemoryAnswers()
    first.let.set()
    app = await serving(make_app, first, answers)
    stuck: list[Outgoing] = []
    published = app.publish

    async def publish(records: Iterable[Outgoing]) -> None:
        kept = list(records)
        if any(record.topic == topics.DRAFTS for record in kept):
            stuck.extend(kept)
            await asyncio.Event().wait()
        await published(kept)

    monkeypatch.setattr(app, "publish", publish)
    app.abandon()
    async with app.running(), asyncio.timeout(60):
        await app.publish(outgoing(numbered(number)) for number in range(8))
        await until(lambda: len(stuck) == 8)
    assert len(first.sizes) < 8
    second = Numbering()
    app = await serving(make_app, second, answers)
    async with app.running(), asyncio.timeout(60):
        drafts = [decode(ExplanationDrafted, record.value) for record in await records_of(app, topics.DRAFTS, 8)]
    assert {draft.subject.feature_key for draft in drafts} == {f"q{number:03}" for number in range(8)}
    assert second.asked == []
