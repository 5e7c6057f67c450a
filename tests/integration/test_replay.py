"""Replays on a real Kafka: what is copied, what is said of what is not, and that a kill doubles nothing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from integration.real_kafka import RealKafka
from integration.slow_llm import SlowLlm
from mistudio_explain.cli.replay_order import ReplayOrder, plan
from mistudio_explain.errors import BadInput
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.events.job import Admission, ControlPart, Coordinates, JobEvent, ReplayPart, RequestPart, SealedPart
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import Outgoing, outgoing, received_feature
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.replay import service as replay
from mistudio_explain.settings import KafkaSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store

PROGRAM = Path(sys.executable).with_name("mistudio-explain")
WAIT_S = 60.0
JOB = "explain_1_again"


@pytest.fixture
async def settings(clean_kafka: RealKafka, tmp_path: Path) -> Settings:
    made = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap), store=StoreSettings(url=f"sqlite:///{tmp_path}/explain.db"))
    async with KafkaClients(made.kafka, made.limits).admin() as admin:
        await create_topics(admin, topic_specs(made), None)
    return made


def clients_of(settings: Settings) -> KafkaClients:
    return KafkaClients(settings.kafka, settings.limits)


def feature(number: int, model: str = "m", find_job: str = "find_1", **changes: Any) -> FeatureFound:
    texts = [Activation(text=f"text {number} of {model}")]
    return FeatureFound(target_model=model, find_job_id=find_job, feature_id=str(number), top_activations=texts, **changes)


async def send(settings: Settings, features: Iterable[FeatureFound | bytes]) -> list[Coordinates]:
    """Publish features as Find does, and say where they stand."""
    async with clients_of(settings).producer([topics.FEATURES]) as producer:
        records = [(each, b"m") if isinstance(each, bytes) else (encode(each), each.target_model.encode()) for each in features]
        sent = [await producer.send(topics.FEATURES, value, key=key) for value, key in records]
        return [Coordinates(topic=told.topic, partition=told.partition, offset=told.offset) for told in [await each for each in sent]]


def admit(settings: Settings, places: Iterable[tuple[str, Coordinates]], job: str = "explain_1", outcomes: Iterable[FeatureOutcome] = ()) -> None:
    """Put into the store what the aggregator would have: where the features of a job stand, and what became of them."""
    admissions = [Admission(explain_job_id=job, feature_key=key, find_job_id="find_1", target_model="m", source=place) for key, place in places]
    with open_store(settings.store) as store:
        store.apply([Change(event, encode(event), "", 1) for event in (*admissions, *outcomes)], {})


async def order(settings: Settings, part: ReplayPart, job: str = JOB, asked: RequestPart | None = None) -> None:
    request = asked or RequestPart(find_job_id=part.from_job, route="other-model", prompt_version="plain@9", explain_poor=True)
    at_ms = int(time.time() * 1000)
    events = (JobEvent(explain_job_id=job, at_ms=at_ms, request=request), JobEvent(explain_job_id=job, at_ms=at_ms, replay=part))
    async with clients_of(settings).producer([topics.JOBS]) as producer:
        await publish(producer, [outgoing(event) for event in events])


async def standing(settings: Settings, topic: str) -> list[ConsumerRecord]:
    async with clients_of(settings).consumer(max_partition_fetch_bytes=1 << 20, auto_offset_reset="earliest") as consumer:
        partitions = await partitions_of(consumer, (topic,))
        consumer.assign(partitions)
        end = await consumer.end_offsets(partitions)
        left = {tp for tp in partitions if end[tp] > 0}
        await consumer.seek_to_beginning(*partitions)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(WAIT_S):
            while left:
                for records in (await consumer.getmany(*left, timeout_ms=200)).values():
                    found += records
                left = {tp for tp in left if await consumer.position(tp) < end[tp]}
        return found


async def seal_of(settings: Settings, job: str = JOB) -> SealedPart | None:
    events = [decode(JobEvent, record.value) for record in await standing(settings, topics.JOBS) if record.value is not None]
    return next((event.sealed for event in events if event.explain_job_id == job and event.sealed), None)


async def until_sealed(settings: Settings, job: str = JOB) -> SealedPart:
    async with asyncio.timeout(WAIT_S):
        while (found := await seal_of(settings, job)) is None:
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def replayer(settings: Settings) -> AsyncIterator[StreamApp]:
    app = StreamApp(settings, clients_of(settings))
    replay.register(app)
    async with app.running():
        yield app


def environment(settings: Settings, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MISTUDIO_EXPLAIN_")}
    ours = {"KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers or "", "STORE__URL": settings.store.url, **more}
    return clean | {f"MISTUDIO_EXPLAIN_{name}": value for name, value in ours.items()}


@contextmanager
def started(settings: Settings, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(PROGRAM), *arguments], env=environment(settings, **more), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def sources(records: Sequence[ConsumerRecord]) -> Counter[str]:
    return Counter(dict(record.headers)["mse-source"].decode() for record in records)


async def test_chosen_features_are_copied_untouched_into_an_envelope_that_names_the_new_job(settings: Settings) -> None:
    features = [feature(n, request=JobRequest(explain_job_id="explain_1")) for n in range(6)]
    places = await send(settings, features)
    admit(settings, [(each.feature_key, place) for each, place in zip(features, places, strict=True)])
    await order(settings, ReplayPart(from_job="find_1", of="explain_1", features=["1", "4"]))
    async with replayer(settings):
        seal = await until_sealed(settings)

    assert seal == SealedPart(expected=2)
    copies = {received_feature(record).event.feature_key: record for record in await standing(settings, topics.REPLAYS)}
    assert sorted(copies) == ["1", "4"]
    for key, record in copies.items():
        place = places[int(key)]
        headers = dict(record.headers)
        assert record.value == encode(features[int(key)])
        assert record.key == b"m"
        assert headers["mse-event"] == b"FeatureFound"
        assert headers["mse-source"].decode() == f"{place.topic}/{place.partition}/{place.offset}"
        assert decode(JobRequest, headers["mse-request"]) == JobRequest(
            explain_job_id=JOB, route="other-model", prompt_version="plain@9", explain_poor=True, expected=2
        )
        assert received_feature(record).event.effective_request.explain_job_id == JOB
        assert received_feature(record).source == place


async def test_conditions_on_outcomes_choose_features_also_those_that_failed_before_they_were_admitted(settings: Settings) -> None:
    features = [feature(n) for n in range(4)]
    places = await send(settings, features)

    def outcome(number: int, kind: OutcomeKind, quality: float | None) -> FeatureOutcome:
        each = features[number].model_copy(update={"request": JobRequest(explain_job_id="explain_1")})
        return FeatureOutcome(outcome=kind, subject=Subject.of(each, places[number]), quality_score=quality)

    outcomes = [outcome(0, OutcomeKind.EXPLAINED, 0.9), outcome(1, OutcomeKind.EXPLAINED, 0.3), outcome(3, OutcomeKind.FAILED, None)]
    admit(settings, [(str(n), places[n]) for n in range(3)], outcomes=outcomes)
    await order(settings, ReplayPart(from_job="find_1", of="explain_1", where="quality<0.6"))
    await order(settings, ReplayPart(from_job="find_1", of="explain_1", failed_only=True), job="explain_1_failed")
    async with replayer(settings):
        await until_sealed(settings)
        await until_sealed(settings, "explain_1_failed")
    copied = {
        (event.effective_request.explain_job_id, event.feature_key) for event in (received_feature(r).event for r in await standing(settings, topics.REPLAYS))
    }
    assert copied == {(JOB, "1"), ("explain_1_failed", "3")}


async def test_features_that_retention_took_are_counted_and_said(settings: Settings, clean_kafka: RealKafka) -> None:
    places = await send(settings, [feature(n) for n in range(10)])
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    admin = AIOKafkaAdminClient(**clean_kafka.client_options)
    await admin.start()
    await admin.delete_records({TopicPartition(places[0].topic, places[0].partition): RecordsToDelete(before_offset=7)})
    await admin.close()
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    async with replayer(settings):
        seal = await until_sealed(settings)
    assert seal.expected == 3
    (note,) = seal.notes
    assert note.startswith("7 of 10 features are no longer in Kafka")
    assert "--from-file" in note
    assert [received_feature(record).event.feature_key for record in await standing(settings, topics.REPLAYS)] == ["7", "8", "9"]


async def test_a_topic_that_was_made_again_gives_no_wrong_feature(settings: Settings, clean_kafka: RealKafka) -> None:
    places = await send(settings, [feature(n) for n in range(6)])
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    await asyncio.to_thread(clean_kafka.delete_topics, topics.FEATURES)
    async with clients_of(settings).admin() as admin:
        await create_topics(admin, topic_specs(settings), None)
    # where 0, 1, 2 and 3 stood: another find job's, another feature, no feature, and by chance the same; 4 and 5 are beyond the end
    await send(settings, [feature(0, find_job="find_2"), feature(9), b"no feature", feature(3)])
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    async with replayer(settings):
        seal = await until_sealed(settings)
    assert [received_feature(record).event.feature_key for record in await standing(settings, topics.REPLAYS)] == ["3"]
    assert seal.expected == 1
    (note,) = seal.notes
    assert note.startswith("5 of 6 features do not stand where they were read from")


async def test_a_period_is_of_when_features_were_published(settings: Settings) -> None:
    early = await send(settings, [feature(0), feature(1)])
    await asyncio.sleep(0.01)
    middle_ms = int(time.time() * 1000)
    await asyncio.sleep(0.01)
    late = await send(settings, [feature(2)])
    admit(settings, [(str(n), place) for n, place in enumerate([*early, *late])])
    await order(settings, ReplayPart(from_job="find_1", of="explain_1", until_ms=middle_ms))
    await order(settings, ReplayPart(from_job="find_1", of="explain_1", since_ms=middle_ms), job="explain_1_late")
    async with replayer(settings):
        assert await until_sealed(settings) == SealedPart(expected=2)
        assert await until_sealed(settings, "explain_1_late") == SealedPart(expected=1)


async def test_an_order_that_cannot_be_run_is_sealed_with_the_reason(settings: Settings) -> None:
    admit(settings, [], outcomes=[])
    await order(settings, ReplayPart(from_job="find_7", of="explain_7"))
    async with replayer(settings):
        seal = await until_sealed(settings)
    assert seal.expected == 0
    assert "has no job 'explain_7'" in seal.notes[0]


async def test_sealed_cancelled_and_file_orders_are_not_run(settings: Settings) -> None:
    places = await send(settings, [feature(n) for n in range(2)])
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    part = ReplayPart(from_job="find_1", of="explain_1")
    await order(settings, part, job="explain_cancelled")
    await order(settings, part.model_copy(update={"from_file": True}), job="explain_file")
    await order(settings, part, job="explain_sealed")
    async with clients_of(settings).producer([topics.JOBS]) as producer:
        cancel = JobEvent(explain_job_id="explain_cancelled", at_ms=1, control=ControlPart(action="cancel"))
        seal = JobEvent(explain_job_id="explain_sealed", at_ms=1, sealed=SealedPart(expected=2))
        await publish(producer, [outgoing(cancel), outgoing(seal)])
    await order(settings, part)
    async with replayer(settings):
        await until_sealed(settings)
    copied = Counter(received_feature(record).event.effective_request.explain_job_id for record in await standing(settings, topics.REPLAYS))
    assert copied == {JOB: 2}


async def test_a_kill_in_mid_copy_and_a_second_replayer_that_takes_over_double_and_lose_nothing(settings: Settings) -> None:
    count = 30_000
    places = await send(settings, (feature(n, model=f"m{n % 3}") for n in range(count)))
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    kills = 0
    for _ in range(3):
        with started(settings, "serve", "replayer") as process:
            before = copied = await copies(settings)
            async with asyncio.timeout(WAIT_S):
                while copied - before < 2000:
                    copied = await copies(settings)
            process.send_signal(signal.SIGKILL)
        kills += await seal_of(settings) is None
        if copied > count / 2:
            break
    assert kills > 0, "every replayer was done before it was killed: make the job larger"
    with started(settings, "serve", "replayer"):
        seal = await until_sealed(settings)
    assert seal == SealedPart(expected=count)
    found = sources(await standing(settings, topics.REPLAYS))
    assert len(found) == count
    assert set(found.values()) == {1}


async def copies(settings: Settings) -> int:
    async with clients_of(settings).consumer() as consumer:
        return sum((await consumer.end_offsets(await partitions_of(consumer, (topics.REPLAYS,)))).values())
