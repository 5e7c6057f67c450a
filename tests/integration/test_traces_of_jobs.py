"""The traces of whole jobs as a collector gets them: one for each feature, across services, over a retry, and without a word of its texts."""

import asyncio
import json
import re
import signal
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from integration.collector import Collector, SeenSpan, collecting
from integration.local_server import wait_until
from integration.real_kafka import RealKafka
from integration.test_whole_way import Command, kafka_settings
from unit.intake.find_job_files import feature, specified
from unit.llm.fake_llm import FakeLlm, OpenAiWire, Reply

WAIT_S = 60.0
FEATURES = 3
MARK = re.compile(rb"mark[-_ ]?[0-9a-f]{6}")
ANSWER = {"label": "Mark-a1a1a1", "pattern": "Texts that mention mark-a1a1a1 schemas.", "significance": "It is known.", "implications": "None known."}


def find_job() -> str:
    def about(number: int) -> dict[str, Any]:
        texts = [{"text": f"JSON mark-b2b2b2 schema {number} of {place}", "activation_strength": 1.0 - place / 10} for place in range(4)]
        return feature(number, pattern_keywords=["json", "mark-c3c3c3"], top_activations=texts)

    return json.dumps(specified(*map(about, range(FEATURES)), job_id="find_traced"))


class OnceAtALoss:
    """A model that answers nonsense to its first call."""

    def __init__(self) -> None:
        self.wire = OpenAiWire()
        self.calls = 0

    async def __call__(self, reply: Reply) -> None:
        if reply.path.endswith("/models"):
            await reply.whole(200, self.wire.models("m"))
            return
        assert b"traceparent" not in json.dumps(reply.headers).encode()
        self.calls += 1
        said = "no JSON, but mark-d4d4d4" if self.calls == 1 else json.dumps(ANSWER)
        await reply.whole(200, self.wire.piece(said) + self.wire.last(counts=(400, 50)))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    (tmp_path / "find.json").write_text(find_job())
    tried = {"MISTUDIO_EXPLAIN_GENERATION__ATTEMPTS": "1", "MISTUDIO_EXPLAIN_RETRY__SHORT_S": "0", "MISTUDIO_EXPLAIN_RETRY__LONG_S": "0"}
    return Command(tmp_path, tried | {"MISTUDIO_EXPLAIN_LIMITS__EXPRESS_FEATURES": "0"})


def asks(server: FakeLlm, collector: Collector) -> dict[str, str]:
    endpoint = {"name": "gpu0", "provider": "openai", "url": f"{server.url}/v1", "slots": 1, "cloud": False}
    return {"MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([endpoint]), "MISTUDIO_EXPLAIN_TRACING__ENDPOINT": collector.url}


def by_trace(spans: Iterable[SeenSpan]) -> dict[str, list[SeenSpan]]:
    traces: dict[str, list[SeenSpan]] = defaultdict(list)
    for span in spans:
        traces[span.trace].append(span)
    return traces


def named(spans: Sequence[SeenSpan], *names: str) -> list[SeenSpan]:
    return [span for span in spans if span.name.split(" ")[0] in names]


def check(collector: Collector) -> None:
    assert collector.paths == {"/v1/traces"}
    assert not [body for body in collector.bodies if MARK.search(body)]
    traces = by_trace(collector.spans)
    ways = {trace: spans for trace, spans in traces.items() if any(span.name == "publish" for span in spans)}
    assert len(ways) == FEATURES
    for spans in ways.values():
        (root,) = [span for span in spans if not span.parent]
        assert (root.service, root.name) == ("intake", "publish")
        assert {span.parent for span in spans} - {""} <= {span.id for span in spans}
        assert {"intake", "context", "generation", "validation"} <= {span.service for span in spans}
        about = {(span.attributes["mistudio_explain.job"], span.attributes["mistudio_explain.feature"]) for span in spans if not span.name.startswith("chat")}
        assert about == {("explain_traced", root.attributes["mistudio_explain.feature"])}
        assert len(named(spans, "validation")) == 1
        for call in named(spans, "chat"):
            told = call.attributes
            assert (call.name, told["gen_ai.request.model"], told["mistudio_explain.endpoint"]) == ("chat m", "m", "gpu0")
            assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (400, 50)
            assert told["gen_ai.response.finish_reasons"] == ["stop"]
    (again,) = [spans for spans in ways.values() if named(spans, "redelivery")]
    assert sorted(span.failed for span in named(again, "generation")) == [False, True]
    assert len(named(again, "chat")) == 2
    (order,) = [span for span in collector.spans if span.name == "publish job"]
    (report,) = [span for span in collector.spans if span.name == "report"]
    assert report.links >= {order.trace, *ways}
    assert report.attributes["mistudio_explain.status"] == "completed"
    assert frozenset[str]().union(*(span.links for span in named(collector.spans, "aggregator"))) >= set(ways)


async def test_each_feature_of_a_job_is_one_trace_on_the_embedded_broker(command: Command) -> None:
    async with FakeLlm(OnceAtALoss()) as server:
        with collecting() as collector:
            command.settings |= asks(server, collector)
            await asyncio.to_thread(command.run, "run", "find.json", "--out", "out")
            check(collector)


async def test_each_feature_of_a_job_is_one_trace_across_processes_on_real_kafka(command: Command, clean_kafka: RealKafka) -> None:
    async with FakeLlm(OnceAtALoss()) as server:
        with collecting() as collector:
            command.settings |= kafka_settings(clean_kafka) | asks(server, collector)
            served = (("context", "redelivery"), ("generation",), ("validation", "aggregator"))
            running = [command.start_logging(command.folder / f"{services[0]}.log", "serve", *services) for services in served]
            try:
                await asyncio.to_thread(command.run, "publish", "find.json")
                assert await asyncio.to_thread(wait_until, lambda: any(span.name == "report" for span in collector.spans), WAIT_S)
            finally:
                for process in running:
                    process.send_signal(signal.SIGTERM)
                codes = [await asyncio.to_thread(process.wait, 30) for process in running]
            assert codes == [0, 0, 0]
            check(collector)
