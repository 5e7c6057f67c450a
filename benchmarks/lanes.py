"""What a lane costs: CPU of a record that goes through a lane subscriber with 64 in flight, beside a bare loop that copies the same records."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from benchmarks.table import print_table, spread
from integration.real_kafka import RealKafka
from mistudio_explain.events import topics
from mistudio_explain.events.model import Record
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import Outgoing, Received
from mistudio_explain.settings import KafkaSettings, Settings

RECORDS = 6000
BYTES = 4_000
IN_FLIGHT = 64
GOAL_US = 250
LANE = topics.PROMPTS_PREFIX + "bench-model"


async def fill(settings: Settings) -> None:
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    async with app.running():
        await app.ensure_lane(LANE)
        await app.publish(Outgoing(LANE, str(number), bytes(BYTES)) for number in range(RECORDS))


def _raw(record: ConsumerRecord) -> Received[Record]:
    return Received(None, record)  # type: ignore[arg-type]  # the lane alone is measured, not the codec


async def lane(settings: Settings, *, copies: bool) -> float:
    """CPU seconds of all records through a lane; with `copies` each is published to another topic and confirmed before it counts as done."""
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    done, seen = asyncio.Event(), 0

    @app.lanes("^" + LANE.replace(".", r"\."), service="generation", read=_raw, in_flight=IN_FLIGHT)
    async def generation(received: Received[Record]) -> list[Record]:
        nonlocal seen
        if copies:
            await app.publish([Outgoing(topics.DRAFTS, received.record.key, received.record.value)])
        seen += 1
        if seen == RECORDS:
            done.set()
        return []

    async with app.running():
        started = time.process_time()
        await done.wait()
        return time.process_time() - started


async def bare(settings: Settings, *, copies: bool) -> float:
    """CPU seconds of `getmany`, and of a batched send of all that it gave."""
    bootstrap = settings.kafka.bootstrap_servers
    consumer = AIOKafkaConsumer(LANE, bootstrap_servers=bootstrap, group_id="bare", auto_offset_reset="earliest", enable_auto_commit=False)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    await consumer.start()
    await producer.start()
    try:
        started, seen = time.process_time(), 0
        while seen < RECORDS:
            batch = await consumer.getmany(timeout_ms=50, max_records=500)
            records = [record for each in batch.values() for record in each]
            if copies:
                await asyncio.gather(*[await producer.send(topics.DRAFTS, record.value, key=record.key) for record in records])
            if records:
                await consumer.commit()
            seen += len(records)
        return time.process_time() - started
    finally:
        await consumer.stop()
        await producer.stop()


def main(runs: int = 3) -> None:
    contenders: dict[str, Callable[[Settings], Awaitable[float]]] = {
        "bare getmany": lambda settings: bare(settings, copies=False),
        f"lane, {IN_FLIGHT} in flight": lambda settings: lane(settings, copies=False),
        "bare getmany and send": lambda settings: bare(settings, copies=True),
        f"lane, {IN_FLIGHT} in flight, each record published and confirmed": lambda settings: lane(settings, copies=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder)) as kafka:
        settings = Settings(kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap))
        for _ in range(runs):
            for name, contender in contenders.items():
                kafka.delete_topics("mistudio.")
                asyncio.run(fill(settings))
                taken[name].append(asyncio.run(contender(settings)) / RECORDS * 1e6)  # type: ignore[arg-type]
    rows = [[name, spread(values, 0)] for name, values in taken.items()]
    names = list(taken)
    overhead = [ours - theirs for ours, theirs in zip(taken[names[1]], taken[names[0]], strict=True)]
    rows.append([f"overhead of the lane (goal ≤ {GOAL_US})", spread(overhead, 0)])
    print_table(f"Lanes: CPU for each of {RECORDS} records of {BYTES // 1000} KB", ("contender", "µs"), rows)


if __name__ == "__main__":
    main()
