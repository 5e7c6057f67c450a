"""(c) LLM slots kept busy by generation, from real Kafka to real Kafka, beside a plain asyncio loop without Kafka."""

import asyncio
import random
import time
from itertools import islice

from benchmarks.fake_llm import FakeProvider, fake_endpoints, log_normal
from benchmarks.requests import request_of, take
from benchmarks.table import ratios
from integration.real_kafka import RealKafka
from mistudio_explain.events.topics import PROMPTS_PREFIX
from mistudio_explain.generation import service as generation
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.settings import GenerationSettings, KafkaSettings, Settings

SLOTS = 8
CALLS = 320


def plain_loop(seed: int) -> float:
    """Seconds from the first call to the last answer, eight workers and a list."""
    latencies = list(islice(log_normal(seed), CALLS))

    async def worker() -> None:
        while latencies:
            await asyncio.sleep(latencies.pop(0))

    async def all_workers() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(SLOTS)))
        return time.perf_counter() - started

    return asyncio.run(all_workers())


def through_kafka(kafka: RealKafka, seed: int) -> float:
    """The same latencies, called by the generation service that reads a lane and writes drafts."""
    kafka.delete_topics("mistudio.")
    return asyncio.run(_through_kafka(kafka.bootstrap, seed))


async def _through_kafka(bootstrap: str, seed: int) -> float:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap), generation=GenerationSettings(in_flight_per_slot=1.5))
    clients = KafkaClients(settings.kafka, settings.limits)
    provider = FakeProvider(log_normal(seed))
    app = StreamApp(settings, clients)
    generation.register(app, JobControls(app), await fake_endpoints(provider, SLOTS), MemoryAnswers(), random.Random(seed))
    filler = StreamApp(settings, clients)
    async with filler.running():
        lane = PROMPTS_PREFIX + "bench-model"
        await filler.ensure_lane(lane)
        await filler.publish(outgoing(request_of(feature), topic=lane) for feature in take(CALLS, 6_000))
    async with app.running():
        while provider.calls < CALLS:
            await asyncio.sleep(0.02)
        await asyncio.sleep(2.0)  # the last answers
    assert provider.first_start is not None
    return provider.last_end - provider.first_start


def main(runs: int = 5) -> None:
    import tempfile
    from pathlib import Path

    taken: dict[str, list[float]] = {"plain asyncio loop": [], "generation service": []}
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder)) as kafka:
        for seed in range(runs):
            taken["plain asyncio loop"].append(plain_loop(seed))
            taken["generation service"].append(through_kafka(kafka, seed))
    title = f"Slots kept busy: {CALLS} calls of 200 ms (log-normal), {SLOTS} slots"
    ratios(title, taken, unit="s", peer="plain asyncio loop", ours="generation service", goal=0.97)


if __name__ == "__main__":
    main()
