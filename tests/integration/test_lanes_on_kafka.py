"""Lanes on real Kafka: what broke the first versions, and what a worker must survive."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaError

from integration.real_kafka import RealKafka
from integration.test_stream_app import feature, until
from mistudio_explain.context import service as context_service
from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import ExplanationRequested, FeatureOutcome
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.kafka import app as kafka_app
from mistudio_explain.kafka import lane_subscriber, standing
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import GROUP_PREFIX, KafkaClients
from mistudio_explain.kafka.committed import committed_offsets
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.lane_subscriber import InFlight
from mistudio_explain.kafka.lanes import FairQueue
from mistudio_explain.kafka.offsets import pack, unpack
from mistudio_explain.kafka.records import Received, outgoing, received
from mistudio_explain.observability.metrics import EXPIRED
from mistudio_explain.settings import KafkaSettings, LimitSettings, QualitySettings, Settings

LANE = topics.PROMPTS_PREFIX + "m"
LANES = "^" + topics.PROMPTS_PREFIX.replace(".", r"\.") + ".*"
GROUP = GROUP_PREFIX + "generation"
FIRST = TopicPartition(LANE, 0)
SESSION_S = 6

Handle = Callable[[str], Awaitable[None]]


@dataclass
class Worker:
    """One process's generation, as far as lanes are concerned."""

    app: StreamApp
    handled: list[str] = field(default_factory=list)


def settings_of(kafka: RealKafka, *, limits: LimitSettings | None = None, **more: object) -> Settings:
    return settings_at(kafka.bootstrap, limits=limits, **more)


def settings_at(bootstrap: str, *, limits: LimitSettings | None = None, **more: object) -> Settings:
    addressed = {"bootstrap_servers": bootstrap, "session_timeout_ms": SESSION_S * 1000, "lane_partitions": 6, **more}
    return Settings(kafka=KafkaSettings.model_validate(addressed), limits=limits or LimitSettings())


@asynccontextmanager
async def working(settings: Settings, *, in_flight: int = 4, handle: Handle | None = None, express_in_flight: int = 0) -> AsyncIterator[Worker]:
    worker = Worker(StreamApp(settings, KafkaClients(settings.kafka, settings.limits)))

    @worker.app.lanes(
        LANES, service="generation", read=partial(received, FeatureFound), in_flight=in_flight, express=topics.EXPRESS, express_in_flight=express_in_flight
    )
    async def generation(each: Received[FeatureFound]) -> list[FeatureOutcome]:
        if handle is not None:
            await handle(each.event.feature_id)
        worker.handled.append(each.event.feature_id)
        return []

    async with worker.app.running():
        yield worker


async def put(app: StreamApp, numbers: Iterable[int], lane: str = LANE, partition: int | None = 0, size: int = 0) -> None:
    await app.ensure_lane(lane)
    for number in numbers:
        event = feature(number, pattern_keywords=["x" * size] if size else [])
        await app.producer.send_and_wait(lane, encode(event), key=str(number).encode(), partition=partition)


@pytest.fixture
async def filler(clean_kafka: RealKafka) -> AsyncIterator[StreamApp]:
    """An application that only publishes."""
    settings = settings_of(clean_kafka)
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    async with app.running():
        yield app


async def commit(app: StreamApp, offset: int, metadata: str = "") -> None:
    """Commit for the generation group while it has no member."""
    consumer = AIOKafkaConsumer(bootstrap_servers=app.clients.bootstrap_servers, group_id=GROUP, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([FIRST])
        await consumer.commit({FIRST: (offset, metadata)})
    finally:
        await consumer.stop()


def expired() -> float:
    return EXPIRED.labels(service="generation", topic=LANE)._value.get()


async def test_bits_of_records_that_are_gone_since_hold_nothing_up_and_what_expired_unread_is_counted(clean_kafka: RealKafka, filler: StreamApp) -> None:
    await put(filler, range(20))
    await commit(filler, 2, pack(2, {3, 4, 12, 15}))
    await filler.admin.delete_records({FIRST: RecordsToDelete(before_offset=10)})
    before = expired()
    async with working(settings_of(clean_kafka)) as worker:
        await until(lambda: len(worker.handled) == 8)
    assert sorted(map(int, worker.handled)) == [10, 11, 13, 14, 16, 17, 18, 19]
    assert expired() - before == 6  # 2, 5 to 9; 3 and 4 were finished
    assert (await committed_offsets(filler.admin, GROUP, [FIRST]))[FIRST][0] == 20


async def test_records_that_expire_while_a_worker_reads_are_counted(clean_kafka: RealKafka, filler: StreamApp) -> None:
    held = asyncio.Event()

    async def handle(_: str) -> None:
        await held.wait()

    before = expired()
    await put(filler, range(8))
    async with working(settings_of(clean_kafka), in_flight=2, handle=handle) as worker:
        await until(lambda: len([t for t in asyncio.all_tasks() if "_one" in repr(t.get_coro())]) == 2)  # the window of 8 is full: nothing more is fetched
        await put(filler, range(8, 100))
        await filler.admin.delete_records({FIRST: RecordsToDelete(before_offset=98)})
        held.set()
        await until(lambda: "99" in worker.handled)
        await until(lambda: expired() > before)
    handled = set(map(int, worker.handled))
    assert {*range(8), 98, 99} <= handled
    assert len(handled) + expired() - before == 100


async def test_a_commit_beyond_the_end_of_a_recreated_lane_loses_nothing(clean_kafka: RealKafka, filler: StreamApp) -> None:
    """Deleting a topic takes the group's offsets along; a worker that was away while it happened writes its old one again."""
    await put(filler, range(5))
    await commit(filler, 500)
    async with working(settings_of(clean_kafka)) as worker:
        await until(lambda: len(worker.handled) == 5)
    assert sorted(worker.handled) == ["0", "1", "2", "3", "4"]


async def test_an_offset_fetch_that_fails_at_first_leaves_no_partition_unread(
    clean_kafka: RealKafka, filler: StreamApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka swallows what a rebalance listener raises: the first version then never read the partition, and looked healthy."""
    asked = 0
    real = standing.committed_offsets

    async def failing(*arguments: object) -> dict[TopicPartition, tuple[int, str]]:
        nonlocal asked
        asked += 1
        if asked <= 3:
            raise KafkaError("the coordinator is loading")
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(standing, "committed_offsets", failing)
    await put(filler, range(12), partition=None)
    async with working(settings_of(clean_kafka)) as worker:
        await until(lambda: len(worker.handled) == 12)
    assert asked > 3


async def test_gaps_of_compaction_are_no_expired_records(clean_kafka: RealKafka, filler: StreamApp) -> None:
    """A transaction's marker leaves the same gap as a record that was compacted away."""
    await filler.ensure_lane(LANE)
    before = expired()
    producer = AIOKafkaProducer(bootstrap_servers=clean_kafka.bootstrap, transactional_id="gaps")
    await producer.start()
    try:
        for number in range(4):
            async with producer.transaction():
                await producer.send_and_wait(LANE, encode(feature(number)), partition=0)
    finally:
        await producer.stop()
    async with working(settings_of(clean_kafka)) as worker:
        await until(lambda: len(worker.handled) == 4)
    offset, metadata = (await committed_offsets(filler.admin, GROUP, [FIRST]))[FIRST]
    assert offset >= 7
    assert unpack(offset, metadata) == frozenset()
    assert expired() == before


async def test_a_stopped_worker_lets_what_is_in_flight_finish_and_commits_it(clean_kafka: RealKafka, filler: StreamApp) -> None:
    started = 0

    async def handle(_: str) -> None:
        nonlocal started
        started += 1
        await asyncio.sleep(0.2)

    await put(filler, range(30))
    async with working(settings_of(clean_kafka), in_flight=5, handle=handle) as first:
        await until(lambda: started >= 5)
    assert len(first.handled) == started  # nothing was cut off
    async with working(settings_of(clean_kafka)) as second:
        await until(lambda: len(second.handled) == 30 - len(first.handled))
    assert sorted(map(int, first.handled + second.handled)) == list(range(30))


async def test_work_that_outlasts_the_grace_period_is_cut_off_and_done_again(clean_kafka: RealKafka, filler: StreamApp) -> None:
    started = 0

    async def handle(_: str) -> None:
        nonlocal started
        started += 1
        await asyncio.Event().wait()

    await put(filler, range(6))
    loop = asyncio.get_running_loop()
    async with working(settings_of(clean_kafka, limits=LimitSettings(grace_s=0.5)), in_flight=3, handle=handle) as first:
        await until(lambda: started == 3)
        asked = loop.time()
    assert loop.time() - asked < 5
    assert first.handled == []
    async with working(settings_of(clean_kafka)) as second:
        await until(lambda: len(second.handled) == 6)


async def test_workers_that_come_cut_off_only_the_calls_of_the_partitions_that_they_take(clean_kafka: RealKafka, filler: StreamApp) -> None:
    started: list[str] = []
    back = asyncio.Event()

    async def handle(number: str) -> None:
        started.append(number)
        await back.wait()

    for partition in range(6):
        await put(filler, [partition], partition=partition)
    settings = settings_of(clean_kafka)
    async with working(settings, in_flight=6, handle=handle) as first:
        await until(lambda: len(started) == 6)
        async with working(settings, in_flight=6, handle=handle) as second:
            await until(lambda: len(started) == 6 + 3)
            async with working(settings, in_flight=6, handle=handle) as third:
                await until(lambda: len(started) == 6 + 3 + 2)  # one from each of the two; a deal from scratch moves four of the six
                back.set()
                await until(lambda: len(first.handled + second.handled + third.handled) == 6)
    assert [len(worker.handled) for worker in (first, second, third)] == [2, 2, 2]
    assert len(started) == 11


async def test_a_worker_that_holds_everything_keeps_its_membership_far_beyond_max_poll_interval(clean_kafka: RealKafka, filler: StreamApp) -> None:
    """An outage: every record in flight waits, and nothing may be taken; still the member polls, and nobody repeats its work."""
    back = asyncio.Event()
    started: list[str] = []

    async def handle(number: str) -> None:
        started.append(number)
        await back.wait()

    await put(filler, range(40), partition=None)
    settings = settings_of(clean_kafka, max_poll_interval_ms=2_000)
    async with working(settings, in_flight=3, handle=handle) as worker:
        await until(lambda: len(started) == 3)
        generation = await members_of(filler, "generation")
        await asyncio.sleep(6.5)  # what is tested is that so much time passes: three times the interval
        assert await members_of(filler, "generation") == generation
        assert worker.app.is_alive()
        assert len(started) == 3
        back.set()
        await until(lambda: len(worker.handled) == 40)
    assert sorted(map(int, started)) == list(range(40))  # each once


async def members_of(app: StreamApp, service: str) -> set[str]:
    """A group's members by id; a member that left and came back has another."""
    (answer,) = await app.admin.describe_consumer_groups([GROUP_PREFIX + service])
    return {member[0] for group in answer.groups for member in group[5]}


async def test_bytes_that_wait_are_bounded_when_records_are_large(clean_kafka: RealKafka, filler: StreamApp, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    class Watched(FairQueue[ConsumerRecord]):
        def offer(self, lane: str, partition: int, record: ConsumerRecord, size: int) -> None:
            nonlocal most
            super().offer(lane, partition, record, size)
            most = max(most, self.queued_bytes)

    monkeypatch.setattr(lane_subscriber, "FairQueue", Watched)
    monkeypatch.setattr(kafka_app, "InFlight", partial(InFlight, queued_bytes=4 << 20))
    back, started = asyncio.Event(), 0

    async def handle(_: str) -> None:
        nonlocal started
        started += 1
        await back.wait()

    await put(filler, range(60), partition=None, size=900_000)
    async with working(settings_of(clean_kafka), in_flight=8, handle=handle) as worker:
        await until(lambda: started == 8 and most >= 4 << 20)
        back.set()
        await until(lambda: len(worker.handled) == 60)
    assert most < (4 << 20) + 6 * (1 << 20)  # what one fetch of six partitions may bring on top


async def test_the_express_lane_goes_before_a_long_backlog(clean_kafka: RealKafka, filler: StreamApp) -> None:
    running = most_express = 0
    order: list[str] = []

    async def handle(number: str) -> None:
        nonlocal running, most_express
        order.append(number)
        is_express = int(number) >= 1000
        running += is_express
        most_express = max(most_express, running)
        await asyncio.sleep(0.03)
        running -= is_express

    await put(filler, range(200), partition=None)
    async with working(settings_of(clean_kafka), in_flight=4, express_in_flight=2, handle=handle) as worker:
        await until(lambda: len(order) > 20)
        await put(filler, range(1000, 1020), lane=topics.EXPRESS, partition=None)
        await until(lambda: sum(int(number) >= 1000 for number in worker.handled) == 20)
        assert len(worker.handled) < 200
    assert most_express == 2


def work_that_never_ends(bootstrap: str, started: Connection) -> None:
    """A worker of another process: takes four records, says which, and finishes none."""

    async def run() -> None:
        async def handle(number: str) -> None:
            started.send(int(number))
            await asyncio.Event().wait()

        async with working(settings_at(bootstrap), in_flight=4, handle=handle):
            await asyncio.Event().wait()

    asyncio.run(run())


async def test_what_a_dead_worker_had_in_flight_goes_before_what_waits_at_the_one_that_takes_over(clean_kafka: RealKafka, filler: StreamApp) -> None:
    started: dict[int, float] = {}
    loop = asyncio.get_running_loop()

    async def handle(number: str) -> None:
        started.setdefault(int(number), loop.time())
        await asyncio.sleep(1.0)  # the model's time for an answer

    for partition in range(6):
        await put(filler, range(partition * 100, partition * 100 + 40), partition=partition)
    of_the_dead, says = Pipe(duplex=False)
    async with working(settings_of(clean_kafka), in_flight=4, handle=handle):
        await until(lambda: len(started) > 4)
        doomed = get_context("spawn").Process(target=work_that_never_ends, args=(clean_kafka.bootstrap, says), daemon=True)
        doomed.start()
        try:
            in_flight = {await asyncio.to_thread(of_the_dead.recv) for _ in range(4)}
        finally:
            doomed.kill()
        killed = loop.time()
        for number in in_flight & started.keys():  # taken at first by the one that lives, and lost to the other
            del started[number]
        await until(lambda: in_flight <= started.keys())
    # 48 wait at the one that takes over, four at a time for a second each: behind them it would be 12 s
    assert max(started[number] for number in in_flight) - killed < SESSION_S + 5


@pytest.mark.slow
async def test_two_hundred_target_models_share_what_lanes_there_may_be_and_lanes_come_and_go(clean_kafka: RealKafka) -> None:
    limits = LimitSettings(max_lanes=40)
    settings = settings_of(clean_kafka, limits=limits, partitions=1).model_copy(update={"quality": QualitySettings(explain_poor=True)})
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    handled: list[tuple[str, str]] = []
    context_service.register(app, JobControls(app))

    @app.lanes(LANES, service="generation", read=partial(received, ExplanationRequested), in_flight=16)
    async def generation(each: Received[ExplanationRequested]) -> list[FeatureOutcome]:
        handled.append((each.event.subject.target_model or "", each.record.topic))
        return []

    def of_model(model: int, number: int) -> FeatureFound:
        return feature(number).model_copy(update={"target_model": f"model-{model}", "find_job_id": f"find_{model}"})

    async with app.running():
        await app.publish(outgoing(of_model(model, number)) for number in range(2) for model in range(200))
        await until(lambda: len(handled) == 400)
        lanes = sorted(app.known_lanes - {topics.EXPRESS, topics.SHARED})
        assert len(lanes) == 40
        assert {topic for _, topic in handled} == {*lanes, topics.SHARED}
        assert all(len({topic for model, topic in handled if model == name}) == 1 for name, _ in handled)

        await app.admin.delete_topics(lanes[:20])  # as `topics gc` does
        await until_gone(app, lanes[:20])
        await app.publish(outgoing(of_model(model, 2)) for model in range(200, 230))
        await until(lambda: len(handled) == 430)
        assert len(app.known_lanes - {topics.EXPRESS, topics.SHARED}) == 40
        assert len({topic for model, topic in handled[400:] if topic != topics.SHARED}) == 20


async def until_gone(app: StreamApp, lanes: list[str]) -> None:
    async with asyncio.timeout(30):
        while set(lanes) & set(await app.admin.list_topics()):
            await asyncio.sleep(0.1)
