"""Replay beside a bare copy loop, a small job out of a large topic, and a replay of cached answers.

The bare loop is aiokafka's getmany and send with the same acks, linger, batch and fetch sizes: it copies every record
of the topic and checks nothing. Ours starts where the order stands in explain.jobs and ends when the job is sealed.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.requests import features
from benchmarks.table import print_table, ratios
from integration.real_kafka import RealKafka
from integration.slow_llm import SlowLlm
from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.events.feature import Activation, FeatureFound
from mistudio_explain.events.job import Admission, Coordinates, JobEvent, ReplayPart, RequestPart, SealedPart
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.replay import service as replay
from mistudio_explain.settings import KafkaSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store

RUNS = 5
COPIED = {6_000: 20_000, 42_000: 4_000}  # bytes of a feature: features
LARGE = 1_000_000
SMALL_JOB = 512
GOAL_FIRST_S = 5.0
CACHED = 1000


@asynccontextmanager
async def fresh(broker: RealKafka, folder: str) -> AsyncIterator[tuple[Settings, KafkaClients]]:
    """The product's topics, empty, and an empty store."""
    await asyncio.to_thread(broker.delete_topics, "mistudio.")
    store = StoreSettings(url=f"sqlite:///{folder}/{time.monotonic_ns()}.db")
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=broker.bootstrap), store=store)
    clients = KafkaClients(settings.kafka, settings.limits)
    async with clients.admin() as admin:
        await create_topics(admin, topic_specs(settings), None)
    yield settings, clients


async def send(clients: KafkaClients, records: Iterable[tuple[str, bytes]]) -> list[tuple[str, Coordinates]]:
    """Publish features by key; says where each stands."""
    async with clients.producer([topics.FEATURES]) as producer:
        sent = [(key, await producer.send(topics.FEATURES, value, key=b"bench-model")) for key, value in records]
        told = [(key, await confirmation) for key, confirmation in sent]
    return [(key, Coordinates(topic=record.topic, partition=record.partition, offset=record.offset)) for key, record in told]


def admit(settings: Settings, places: Sequence[tuple[str, Coordinates]]) -> None:
    with open_store(settings.store) as store:
        for start in range(0, len(places), 20_000):
            admissions = (
                Admission(explain_job_id="explain_bench", feature_key=key, find_job_id="find_bench", target_model="bench-model", source=place)
                for key, place in places[start : start + 20_000]
            )
            store.apply([Change(admission, encode(admission), "", 1) for admission in admissions], {})


async def order(clients: KafkaClients, job: str, part: ReplayPart) -> None:
    request = RequestPart(find_job_id="find_bench")
    at_ms = int(time.time() * 1000)
    async with clients.producer([topics.JOBS]) as producer:
        await publish(
            producer, [outgoing(JobEvent(explain_job_id=job, at_ms=at_ms, **{name: asked})) for name, asked in (("request", request), ("replay", part))]
        )


async def ends(clients: KafkaClients, topic: str) -> dict[TopicPartition, int]:
    async with clients.consumer() as consumer:
        found: dict[TopicPartition, int] = await consumer.end_offsets(await partitions_of(consumer, (topic,)))
        return found


async def ours(settings: Settings, clients: KafkaClients, job: str) -> tuple[float, float]:
    """Seconds from the order until the first copy stands in the topic, and until the seal does; the replayer runs already."""
    app = StreamApp(settings, clients)
    replay.register(app)
    async with app.running(), clients.consumer(fetch_max_wait_ms=20, max_partition_fetch_bytes=1024) as watcher:
        partitions = await partitions_of(watcher, (topics.JOBS, topics.REPLAYS))
        jobs = TopicPartition(topics.JOBS, 0)
        before = await watcher.end_offsets(partitions)
        await order(clients, f"{job}_warm", ReplayPart(from_job="find_bench", of="explain_bench", features=["no such feature"]))
        while (await watcher.end_offsets([jobs]))[jobs] < before[jobs] + 3:  # request, replay and seal: the replayer leads
            await asyncio.sleep(0.02)
        before = await watcher.end_offsets(partitions)
        started, first = time.perf_counter(), None
        await order(clients, job, ReplayPart(from_job="find_bench", of="explain_bench"))
        while True:
            now = await watcher.end_offsets(partitions)
            if first is None and any(now[tp] > before[tp] for tp in partitions if tp.topic == topics.REPLAYS):
                first = time.perf_counter() - started
            if now[jobs] >= before[jobs] + 3:
                return first or 0.0, time.perf_counter() - started
            await asyncio.sleep(0.05)


async def bare(settings: Settings, count: int) -> float:
    """Seconds of a loop that copies the whole topic."""
    bootstrap = settings.kafka.bootstrap_servers
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=1 << 20, fetch_max_wait_ms=50)
    options: dict[str, Any] = {"acks": "all", "enable_idempotence": True, "linger_ms": 5, "max_request_size": 8 << 20, "max_batch_size": 1 << 20}
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    started = time.perf_counter()
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([TopicPartition(topics.FEATURES, partition) for partition in range(settings.kafka.partitions)])
        sent = 0
        while sent < count:
            confirmations = []
            for records in (await consumer.getmany(timeout_ms=200, max_records=500)).values():
                confirmations += [await producer.send(topics.REPLAYS, record.value, key=record.key) for record in records]
            await asyncio.gather(*confirmations)
            sent += len(confirmations)
        return time.perf_counter() - started
    finally:
        await consumer.stop()
        await producer.stop()


async def copying(broker: RealKafka, folder: str, size: int, count: int) -> None:
    async with fresh(broker, folder) as (settings, clients):
        places = await send(clients, ((feature.feature_key, encode(feature)) for feature in features(count, size)))
        admit(settings, places)
        runs: dict[str, list[float]] = {"bare": [], "replay": []}
        for run in range(RUNS):
            runs["bare"].append(await bare(settings, count))
            runs["replay"].append((await ours(settings, clients, f"explain_replay_{run}"))[1])
        rates = ", ".join(f"{name} {count / sorted(took)[RUNS // 2]:.0f}/s" for name, took in runs.items())
        ratios(f"replay of {count} features of {size} bytes, seconds ({rates})", runs, unit="s", peer="bare", ours="replay", goal=0.7)


async def small_out_of_large(broker: RealKafka, folder: str) -> None:
    """The others' bodies are small, so that a million of them fit a test machine's disk; those of the job have 6 KB."""
    async with fresh(broker, folder) as (settings, clients):
        wanted = {LARGE // SMALL_JOB * n: feature for n, feature in enumerate(features(SMALL_JOB, 6_000))}
        other = encode(FeatureFound(target_model="bench-model", find_job_id="find_other", feature_id="1", top_activations=[Activation(text="other")]))
        together: list[tuple[str, Coordinates]] = []
        scattered: list[tuple[str, Coordinates]] = []
        for start in range(0, LARGE, 50_000):
            values = ((str(n), encode(wanted[n]) if n in wanted else other) for n in range(start, start + 50_000))
            scattered += [(wanted[int(key)].feature_key, place) for key, place in await send(clients, values) if int(key) in wanted]
            if start == LARGE // 2:
                together = await send(clients, ((feature.feature_key, encode(feature)) for feature in wanted.values()))
        rows = []
        for name, places in (("together, as one job is published", together), ("scattered over the whole topic", scattered)):
            local = settings.model_copy(update={"store": StoreSettings(url=f"sqlite:///{folder}/{len(rows)}.db")})
            admit(local, places)
            first, sealed = await ours(local, clients, f"explain_small_{len(rows)}")
            rows.append([name, f"{first:.2f}", f"{sealed:.2f}"])
    note = "The bodies of the job's features have 6 KB, those of the others about 100 bytes."
    print_table(
        f"one job of {SMALL_JOB} out of {LARGE} features (goal: first record < {GOAL_FIRST_S:.0f} s)",
        ("features", "first record, s", "sealed, s"),
        rows,
        note=note,
    )


def _distinct(feature: FeatureFound) -> FeatureFound:
    """The windows repeat themselves after a while, and with them the prompts."""
    return feature.model_copy(update={"pattern_keywords": [f"word{feature.feature_id}"]})


async def cached(broker: RealKafka, folder: str) -> None:
    async with fresh(broker, folder) as (settings, clients):
        with SlowLlm(0.0) as llm:
            endpoint = [{"name": "fake", "provider": "openai", "url": llm.url, "slots": 8}]
            ours = {
                "KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
                "STORE__URL": settings.store.url,
                "REPORTS__DIRECTORY": folder,
                "QUALITY__EXPLAIN_POOR": "true",
                "LLM__ENDPOINTS": json.dumps(endpoint),
            }
            environment = os.environ | {f"MISTUDIO_EXPLAIN_{name}": value for name, value in ours.items()}
            program = str(Path(sys.executable).with_name("mistudio-explain"))

            def run(*arguments: str) -> None:
                subprocess.run([program, *arguments], env=environment, check=True, capture_output=True, timeout=300)

            services = ("serve", "context", "generation", "validation", "aggregator", "replayer")
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen([program, *services], env=environment, **pipes) as process:  # type: ignore[call-overload]  # noqa: ASYNC220
                try:
                    await send(clients, ((feature.feature_key, encode(_distinct(feature))) for feature in features(CACHED, 1_000)))
                    async with clients.producer([topics.JOBS]) as producer:
                        parts = {"request": RequestPart(find_job_id="find_bench"), "sealed": SealedPart(expected=CACHED)}
                        await publish(producer, [outgoing(JobEvent(explain_job_id="explain_bench", at_ms=1, **{name: part})) for name, part in parts.items()])
                    await asyncio.to_thread(run, "watch", "explain_bench", "--json")
                    first = llm.calls
                    started = time.perf_counter()
                    await asyncio.to_thread(run, "replay", "--from-job", "find_bench", "--as", "explain_again")
                    await asyncio.to_thread(run, "watch", "explain_again", "--json")
                    took = time.perf_counter() - started
                finally:
                    process.terminate()
    print_table(
        f"replay of {CACHED} cached features", ("calls before", "calls of the replay (goal 0)", "s"), [[str(first), str(llm.calls - first), f"{took:.1f}"]]
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder) / "kafka") as broker:
        for size, count in COPIED.items():
            asyncio.run(copying(broker, folder, size, count))
        asyncio.run(cached(broker, folder))
        asyncio.run(small_out_of_large(broker, folder))
