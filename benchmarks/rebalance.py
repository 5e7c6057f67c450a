"""LLM slots kept busy while a group rebalances: a second worker joins, works, and leaves again."""

import asyncio
import random
import tempfile
import time
from pathlib import Path

from benchmarks.fake_llm import FakeProvider, fake_endpoints, log_normal
from benchmarks.fleet import requests
from benchmarks.table import print_table, spread
from integration.real_kafka import RealKafka
from mistudio_explain.events.topics import PROMPTS_PREFIX
from mistudio_explain.generation import service as generation
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.settings import KafkaSettings, Settings

SLOTS = 8
CALL_S = 1.0
WINDOW_S = 8.0
GOAL = 0.9


class Occupied(FakeProvider):
    """Knows how long its slots were busy, calls that are still running or were cut off included."""

    def __init__(self, seed: int) -> None:
        super().__init__(log_normal(seed, CALL_S))
        self.running = 0
        self.slot_s = 0.0
        self._since = time.perf_counter()

    def so_far(self) -> float:
        """Slot-seconds until now."""
        now = time.perf_counter()
        self.slot_s += self.running * (now - self._since)
        self._since = now
        return self.slot_s

    async def complete(self, call: Call) -> Completion:
        self.so_far()
        self.running += 1
        try:
            return await super().complete(call)
        finally:
            self.so_far()
            self.running -= 1


async def worker(settings: Settings, seed: int) -> tuple[StreamApp, Occupied]:
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    provider = Occupied(seed)
    generation.register(app, JobControls(app), await fake_endpoints(provider, SLOTS), MemoryAnswers(capacity=0), random.Random(seed))
    return app, provider


async def measure(bootstrap: str, seed: int) -> tuple[float, float]:
    """The share of the first worker's slots that were busy while a second one joined, and while it left."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap))
    first, busy = await worker(settings, seed)
    second, other = await worker(settings, seed + 100)
    lane = PROMPTS_PREFIX + "bench-model"
    shares = []
    async with first.running():
        await first.ensure_lane(lane)
        await first.publish(outgoing(request, topic=lane) for request in requests(400))  # each of its own: the same prompt twice is one call
        while busy.running < SLOTS:
            await asyncio.sleep(0.02)
        before, started = busy.so_far(), time.perf_counter()
        async with second.running():
            await asyncio.sleep(WINDOW_S)
            shares.append((busy.so_far() - before) / SLOTS / (time.perf_counter() - started))
            assert other.calls, "the second worker got nothing"
            before, started = busy.so_far(), time.perf_counter()
            leaving = asyncio.get_running_loop().create_task(asyncio.sleep(WINDOW_S))
        await leaving
        shares.append((busy.so_far() - before) / SLOTS / (time.perf_counter() - started))
    return shares[0], shares[1]


def main(runs: int = 3) -> None:
    joins, leaves = [], []
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder)) as kafka:
        for seed in range(runs):
            kafka.delete_topics("mistudio.")
            joined, left = asyncio.run(measure(kafka.bootstrap, seed))
            joins.append(joined)
            leaves.append(left)
    rows = [["while another worker joins", spread(joins, 3)], ["while it leaves", spread(leaves, 3)]]
    print_table(f"Rebalance: share of {SLOTS} slots busy over {WINDOW_S:.0f} s, calls of {CALL_S:.0f} s (goal ≥ {GOAL})", ("when", "busy"), rows)


if __name__ == "__main__":
    main()
