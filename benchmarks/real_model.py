"""A run on a real model: llama.cpp with four slots, asked by a generation worker through a real Kafka, foretold from its official client.

The client answers other features than the run, on a server of its own; both servers have answered four of a third kind before, so
that the part of the prompt which all share is in every slot's cache.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fleet import LANE, Fleet, make_topics, members, settings_of
from benchmarks.llm.plain import all_of
from benchmarks.llm.servers import CONTEXT_TOKENS, SLOTS, Served, llama_cpp, settings
from benchmarks.llm.workload import requests
from benchmarks.measured_runs import records_of
from benchmarks.simulation.pipeline import simulate
from benchmarks.simulation.world import Costs, Endpoint, World
from integration.real_kafka import RealKafka
from mistudio_explain.events import topics
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.generation.explainer import call_for
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.llm.provider import Completion, ModelListed

FEATURES = 12
MAX_TOKENS = 300
_PATIENT = {
    "LLM__FIRST_TOKEN_TIMEOUT_S": "600", "LLM__TOKEN_TIMEOUT_S": "300", "LLM__DEADLINE_S": "1200", "LLM__MAX_TOKENS": str(MAX_TOKENS),
    "LLM__CONTEXT_TOKENS": str(CONTEXT_TOKENS), "GENERATION__ATTEMPTS": "1",
}  # fmt: skip


async def _asked(served: Served, wanted: Sequence[ExplanationRequested]) -> tuple[list[Completion], float]:
    calls = [call_for(request.prompt, ModelListed(served.model), settings(MAX_TOKENS)) for request in wanted]
    return await all_of(calls, served.plain(), SLOTS)


def calibrated(features: int) -> float:
    """Calls a second of the server with all slots busy, by its official client."""
    wanted = requests(SLOTS + features)
    with llama_cpp() as served:
        asyncio.run(_asked(served, wanted[:SLOTS]))
        _, seconds = asyncio.run(_asked(served, wanted[SLOTS:]))
        return features / seconds


def measured(kafka: RealKafka, folder: Path, features: int) -> float:
    """Seconds of a worker for other features of the same set, from their publishing until each is a draft or was given up."""
    wanted = requests(SLOTS + 2 * features)
    kafka.delete_topics("mistudio.")
    at = settings_of(kafka.bootstrap)
    asyncio.run(make_topics(at))
    with llama_cpp() as served, Fleet(folder, kafka.bootstrap, _PATIENT, slots=SLOTS) as fleet:
        asyncio.run(_asked(served, wanted[:SLOTS]))
        fleet.start("generation", "worker", served.url, model=served.model)
        asyncio.run(members(at, "generation", 1))
        began = time.monotonic()
        asyncio.run(_settled(kafka, wanted[SLOTS + features :]))
        return time.monotonic() - began


async def _settled(kafka: RealKafka, wanted: Sequence[ExplanationRequested]) -> None:
    at = settings_of(kafka.bootstrap)
    app = StreamApp(at, KafkaClients(at.kafka, at.limits))
    async with app.running():
        await app.publish(outgoing(request, topic=LANE) for request in wanted)
    await records_of(kafka, (topics.DRAFTS, topics.RETRY_SHORT, topics.DEAD_LETTERS), len(wanted))


def foretold(rate: float, features: int) -> float:
    """Seconds of the same run in virtual time: an endpoint whose calls share what the server makes of all four slots."""
    endpoint = Endpoint(SLOTS, SLOTS / rate, sigma=0.0, curve=(rate,) * SLOTS)
    return simulate(World(features, [endpoint], Costs(0, 0, 0, 0, 0), has_intake=False)).seconds
