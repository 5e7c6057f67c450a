"""Replays on a real Kafka: what is copied, what is said of what is not, and that a kill doubles nothing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaTimeoutError
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from integration.foreign_headers import send_with_foreign_header
from integration.real_kafka import RealKafka
from integration.slow_llm import SlowLlm
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
from mistudio_explain.kafka.records import outgoing, received_feature
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.kafka.unreadable import TolerantFetch
from mistudio_explain.observability import tracing
from mistudio_explain.replay import service as replay
from mistudio_explain.replay.copying import Copy
from mistudio_explain.replay.order import ReplayOrder, plan
from mistudio_explain.replay.stage import Place, Selection, Tally
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


async def send(settings: Settings, features: Iterable[FeatureFound | bytes], headers: Sequence[tuple[str, bytes]] = ()) -> list[Coordinates]:
    """Publish features as Find does, and say where they stand."""
    async with clients_of(settings).producer([topics.FEATURES]) as producer:
        records = [(each, b"m") if isinstance(each, bytes) else (encode(each), each.target_model.encode()) for each in features]
        sent = [await producer.send(topics.FEATURES, value, key=key, headers=list(headers)) for value, key in records]
        return [Coordinates(topic=told.topic, partition=told.partition, offset=told.offset) for told in [await each for each in sent]]


def admit(
    settings: Settings,
    places: Iterable[tuple[str, Coordinates]],
    job: str = "explain_1",
    outcomes: Iterable[FeatureOutcome] = (),
    find_job: str = "find_1",
    read: Mapping[tuple[str, int], int] | None = None,
) -> None:
    """Put into the store what the aggregator would have: where the features of a job stand, what became of them, and how far it has read."""
    admissions = [Admission(explain_job_id=job, feature_key=key, find_job_id=find_job, target_model="m", source=place) for key, place in places]
    with open_store(settings.store) as store:
        store.apply([Change(event, encode(event), "", 1) for event in (*admissions, *outcomes)], read or {})


async def ends(settings: Settings, *names: str) -> dict[tuple[str, int], int]:
    """Where the partitions of topics end."""
    async with clients_of(settings).consumer() as consumer:
        found = await consumer.end_offsets(await partitions_of(consumer, names))
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}


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
        fetch = TolerantFetch()
        async with asyncio.timeout(WAIT_S):
            while left:
                for records in (await fetch.readable(consumer, timeout_ms=200)).values():
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


async def test_a_copy_begins_a_trace_that_links_to_the_originals(settings: Settings) -> None:
    exporter, original = InMemorySpanExporter(), "4bf92f3577b34da6a3ce929d0e0e4736"
    places = await send(settings, [feature(1)], [("traceparent", f"00-{original}-00f067aa0ba902b7-01".encode())])
    admit(settings, [("1", places[0])])
    tracing.send_to(SimpleSpanProcessor(exporter))
    try:
        await order(settings, ReplayPart(from_job="find_1", of="explain_1", features=["1"]))
        async with replayer(settings):
            await until_sealed(settings)
    finally:
        tracing.send_to(None)
    (copy,) = await standing(settings, topics.REPLAYS)
    (span,) = exporter.get_finished_spans()
    assert span.name == "replay"
    assert span.context.trace_id != int(original, 16)
    assert [link.context.trace_id for link in span.links] == [int(original, 16)]
    (named,) = [value for name, value in copy.headers if name == "traceparent"]
    assert named.startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-".encode())


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


async def test_records_that_no_client_in_python_can_unpack_stop_neither_orders_nor_copies(settings: Settings) -> None:
    places = await send(settings, [feature(0)])
    async with clients_of(settings).producer([topics.FEATURES, topics.JOBS, topics.REPLAYS]) as producer:
        foreign = await send_with_foreign_header(producer, topics.FEATURES, places[0].partition, b"m", encode(feature(1)))
        await send_with_foreign_header(producer, topics.JOBS, 0, b"nobody|request", b"junk")
        for partition in range(settings.kafka.partitions):
            await send_with_foreign_header(producer, topics.REPLAYS, partition, b"m", b"junk")
    places += [places[0].model_copy(update={"offset": foreign}), *await send(settings, [feature(2)])]
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    async with replayer(settings):
        seal = await until_sealed(settings)
    assert seal.expected == 2
    (note,) = seal.notes
    assert note.startswith("1 of 3 features do not stand where they were read from")


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


async def test_a_store_that_is_absent_or_has_not_read_all_is_waited_for(settings: Settings) -> None:
    places = await send(settings, [feature(n) for n in range(6)])
    admissions = [
        Admission(explain_job_id="explain_1", feature_key=str(n), find_job_id="find_1", target_model="m", source=place) for n, place in enumerate(places)
    ]
    async with clients_of(settings).producer([topics.ADMISSIONS]) as producer:
        sent = [await producer.send_and_wait(topics.ADMISSIONS, encode(each), key=b"explain_1", partition=0) for each in admissions]
        # no aggregator can read that either, and it must not be waited for
        await send_with_foreign_header(producer, topics.ADMISSIONS, 0, b"explain_1", b"junk")

    def read(numbers: range) -> None:
        with open_store(settings.store) as store:
            changes = [Change(admissions[n], encode(admissions[n]), "", 1) for n in numbers]
            store.apply(changes, {(topics.ADMISSIONS, 0): sent[numbers[-1]].offset + 1})

    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    with capture_logs() as said:
        async with replayer(settings):
            await until_said(said, "replay.tried_again")
            read(range(4))
            await until_said(said, "replay.waits_for_store")
            assert await copies(settings) == 0
            assert await seal_of(settings) is None
            read(range(4, 6))
            assert await until_sealed(settings) == SealedPart(expected=6)


async def until_said(said: Sequence[Mapping[str, Any]], event: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not any(each["event"] == event for each in said):
            await asyncio.sleep(0.05)


async def test_an_order_that_failed_and_is_tried_again_after_another_doubles_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    places = await send(settings, [feature(n) for n in range(6)])
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    copy = Copy.run
    failed: list[str] = []

    async def fails_once(self: Copy, *arguments: Any, **named: Any) -> Tally:
        tally = await copy(self, *arguments, **named)
        if self.request.explain_job_id == JOB and not failed:
            failed.append(JOB)
            raise KafkaTimeoutError
        return tally

    monkeypatch.setattr(Copy, "run", fails_once)
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"), job="explain_1_other")
    async with replayer(settings):
        assert await until_sealed(settings) == SealedPart(expected=6)
        assert await until_sealed(settings, "explain_1_other") == SealedPart(expected=6)
    assert failed
    assert set(sources(await standing(settings, topics.REPLAYS)).values()) == {2}, "once for each of the two orders"


async def test_an_attempt_that_fails_ends_once_it_is_known_of_all_its_copies_whether_they_were_written(settings: Settings) -> None:
    places = await send(settings, [feature(n) for n in range(6)])
    selection = Selection({str(n): Place(each.topic, each.partition, each.offset) for n, each in enumerate(places)})
    sent: list[asyncio.Task[None]] = []

    class Slow:
        """A producer whose first record fails, and that says late what became of the others."""

        async def send(self, *arguments: Any, **named: Any) -> asyncio.Task[None]:
            confirmation = await producer.send(*arguments, **named)
            sent.append(asyncio.create_task(self._late(confirmation, fails=not sent)))
            return sent[-1]

        async def _late(self, confirmation: asyncio.Future[ConsumerRecord], *, fails: bool) -> None:
            if fails:
                raise KafkaTimeoutError
            await asyncio.sleep(0.3)
            await confirmation

    async def held() -> None:
        pass

    copy = Copy(selection, "find_1", JobRequest(explain_job_id=JOB), ReplayPart(from_job="find_1"))
    async with clients_of(settings).producer([topics.REPLAYS]) as producer:
        with pytest.raises(KafkaTimeoutError):
            await copy.run(clients_of(settings), Slow(), set(), held=held, told=lambda _: None)
        assert [each.done() for each in sent] == [True] * 6


@pytest.mark.slow
async def test_a_replayer_that_is_killed_in_mid_copy_goes_on_and_doubles_and_loses_nothing(settings: Settings) -> None:
    count = 20_000
    same = {"KAFKA__INSTANCE_ID": "replayer-0"}  # a replica that comes back under its name leads again at once
    places = await send(settings, (feature(n, model=f"m{n % 3}") for n in range(count)))
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    kills = 0
    for _ in range(2):
        with started(settings, "serve", "replayer", **same) as process:
            before = copied = await copies(settings)
            async with asyncio.timeout(WAIT_S):
                while copied - before < 2000:
                    copied = await copies(settings)
            process.send_signal(signal.SIGKILL)
        kills += await seal_of(settings) is None
        if copied > count / 2:
            break
    assert kills > 0, "every replayer was done before it was killed: make the job larger"
    with started(settings, "serve", "replayer", **same):
        seal = await until_sealed(settings)
    assert seal == SealedPart(expected=count)
    found = sources(await standing(settings, topics.REPLAYS))
    assert len(found) == count
    assert set(found.values()) == {1}


async def copies(settings: Settings) -> int:
    async with clients_of(settings).consumer() as consumer:
        return sum((await consumer.end_offsets(await partitions_of(consumer, (topics.REPLAYS,)))).values())


@pytest.mark.slow
async def test_only_one_of_two_replayers_works_and_the_other_takes_over_when_it_is_killed(settings: Settings) -> None:
    count = 20_000
    places = await send(settings, (feature(n) for n in range(count)))
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    quick = {"KAFKA__SESSION_TIMEOUT_MS": "6000"}
    with started(settings, "serve", "replayer", **quick) as leader:
        await until_joined(settings, 1)
        with started(settings, "serve", "replayer", **quick):
            await until_joined(settings, 2)
            await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
            async with asyncio.timeout(WAIT_S):
                while await copies(settings) < 1000:
                    await asyncio.sleep(0.01)
            leader.send_signal(signal.SIGKILL)
            assert await until_sealed(settings) == SealedPart(expected=count)
    found = sources(await standing(settings, topics.REPLAYS))
    assert len(found) == count
    assert set(found.values()) == {1}


async def until_joined(settings: Settings, members: int) -> None:
    async with clients_of(settings).admin() as admin, asyncio.timeout(WAIT_S):
        while True:
            with suppress(GroupCoordinatorNotAvailableError):  # the first group of a new cluster
                (answer,) = await admin.describe_consumer_groups(["mistudio-explain.replayer"])
                ((_, _, state, _, _, found, *_),) = answer.groups
                if state == "Stable" and len(found) == members:
                    return
            await asyncio.sleep(0.1)


def run(settings: Settings, *arguments: str, expect: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(PROGRAM), *arguments], env=environment(settings, **more), text=True, capture_output=True, timeout=180)
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.slow
async def test_the_command_orders_shows_and_refuses_an_id_that_is_in_use(settings: Settings) -> None:
    places = await send(settings, [feature(n) for n in range(20)])
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    ordered = ("replay", "--from-job", "find_1", "--features", "3,5", "--as", JOB)
    with started(settings, *ordered, "--json") as waiting:
        said = [json.loads(await asyncio.to_thread(waiting.stdout.readline)) for _ in range(2)]  # type: ignore[union-attr]
        assert said[0] == {"event": "ordered", "explain_job_id": JOB, "features": 2}
        assert said[1]["event"] == "waiting"
        assert said[1]["replayers"] == 0
        assert "mistudio-explain serve replayer" in said[1]["why"]
        with started(settings, "serve", "replayer"):
            out, _ = await asyncio.to_thread(waiting.communicate, timeout=WAIT_S)
    assert json.loads(out.splitlines()[-1]) == {"event": "sealed", "explain_job_id": JOB, "features": 2, "notes": []}
    assert waiting.returncode == 0
    again = await asyncio.to_thread(run, settings, *ordered, expect=2)
    assert f"the job {JOB} exists already" in again.stderr


@pytest.mark.parametrize(
    ("order_of", "said"),
    [
        ({"where": "quality<0.5"}, "no feature of explain_1 fits"),
        ({"features": "3,99"}, "find_1 has no feature 99"),
        ({"prompt": "none@1"}, "there is no such template; there are"),
        ({"of": "explain_9"}, "has no job 'explain_9'; it has explain_1"),
        ({"of": "explain_2"}, "explain_2 explains features of find_2, not of find_1"),
        ({"new_job": "a|b"}, "--as 'a|b' is no job id"),
        ({"since": "soon"}, "--since 'soon' is no moment"),
        ({"where": "quality<"}, "is wrong at the end"),
    ],
)
def test_an_order_that_cannot_be_meant_is_refused_before_anything_is_written(order_of: dict[str, str], said: str, tmp_path: Path) -> None:
    settings = Settings(store=StoreSettings(url=f"sqlite:///{tmp_path}/explain.db"))
    admit(settings, [(str(n), Coordinates(topic=topics.FEATURES, partition=0, offset=n)) for n in range(5)])
    admit(settings, [("1", Coordinates(topic=topics.FEATURES, partition=0, offset=9))], job="explain_2", find_job="find_2")
    with pytest.raises(BadInput) as refused:
        plan(ReplayOrder("find_1", **order_of), settings, datetime.now(UTC))  # type: ignore[arg-type]
    assert said in str(refused.value)


async def test_a_dry_run_orders_nothing(settings: Settings) -> None:
    places = await send(settings, [feature(n) for n in range(20)])
    admit(settings, [(str(n), place) for n, place in enumerate(places)])
    shown = (await asyncio.to_thread(run, settings, "replay", "--from-job", "find_1", "--dry-run")).stdout
    assert "would replay 20 of the 20 features of explain_1" in shown
    assert "a guess" in shown
    assert await standing(settings, topics.JOBS) == []


async def test_features_out_of_a_file_need_no_replayer_and_no_kafka_that_still_has_them(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "feature_analysis.json"
    found = [{"feature_id": n, "coherence_score": 0.9, "top_activations": [{"text": f"text {n}", "activation_strength": 1.0}]} for n in range(4)]
    metadata = {"job_id": "find_1", "source_training_job": "train_1", "model_name": "m", "total_features": 4, "processing_time": "1 s"}
    path.write_text(json.dumps({"job_metadata": metadata, "features": found}))
    arguments = ("replay", "--from-job", "find_1", "--from-file", str(path), "--as", JOB, "--route", "big", "--features", "1,3", "--json")
    refused = await asyncio.to_thread(run, settings, *arguments, expect=2)
    assert "find_1 was never explained here" in refused.stderr

    async with clients_of(settings).producer([topics.JOBS]) as producer:
        await publish(producer, [outgoing(JobEvent(explain_job_id="explain_1", at_ms=1, request=RequestPart(find_job_id="find_1")))])
    said = [json.loads(line) for line in (await asyncio.to_thread(run, settings, *arguments)).stdout.splitlines()]
    assert said[-1] == {"event": "sealed", "explain_job_id": JOB, "features": 2, "notes": []}
    assert await seal_of(settings) == SealedPart(expected=2)
    copied = [received_feature(record) for record in await standing(settings, topics.REPLAYS)]
    assert sorted(each.event.feature_key for each in copied) == ["1", "3"]
    assert all(each.event.effective_request == JobRequest(explain_job_id=JOB, route="big", expected=2) for each in copied)
    assert all("mse-source" not in dict(each.record.headers) for each in copied)
    admit(settings, [])  # a store, which knows no job
    async with replayer(settings):  # which leaves that order alone
        await order(settings, ReplayPart(from_job="find_1", of="explain_7"), job="explain_other")
        await until_sealed(settings, "explain_other")
    assert len(await standing(settings, topics.REPLAYS)) == 2


@pytest.mark.slow
async def test_an_unchanged_replay_of_1000_features_calls_no_model_and_compares_as_the_same(settings: Settings, tmp_path: Path) -> None:
    count = 1000
    services = ("serve", "context", "generation", "validation", "aggregator", "replayer")
    with SlowLlm(0.0) as llm:
        endpoint = {"name": "fake", "provider": "openai", "url": llm.url, "slots": 8}
        more = {"LLM__ENDPOINTS": json.dumps([endpoint]), "REPORTS__DIRECTORY": str(tmp_path / "out"), "QUALITY__EXPLAIN_POOR": "true"}
        with started(settings, *services, **more):
            request = JobRequest(explain_job_id="explain_1", expected=count)
            await send(settings, (feature(n, request=request) for n in range(count)))
            async with clients_of(settings).producer([topics.JOBS]) as producer:
                asked = JobEvent(explain_job_id="explain_1", at_ms=1, request=RequestPart(find_job_id="find_1"))
                await publish(producer, [outgoing(asked), outgoing(JobEvent(explain_job_id="explain_1", at_ms=1, sealed=SealedPart(expected=count)))])
            await asyncio.to_thread(run, settings, "watch", "explain_1", "--json")
        called = llm.calls
        assert called == count
        forecast = json.loads((await asyncio.to_thread(run, settings, "replay", "--from-job", "find_1", "--dry-run", "--json")).stdout)
        assert (forecast["likely_cached"], forecast["model_calls"]) == (count, 0)
        with started(settings, *services, **more):  # another process: the answers are in the store
            await asyncio.to_thread(run, settings, "replay", "--from-job", "find_1", "--as", JOB)
            report = json.loads((await asyncio.to_thread(run, settings, "watch", JOB, "--json")).stdout.splitlines()[-1])
    assert (report["status"], report["explained"]) == ("completed", count)
    assert llm.calls == called
    (found,) = json.loads((await asyncio.to_thread(run, settings, "compare", "explain_1", JOB, "--same-background", "--json")).stdout)
    assert found["most_changed"] == []
    assert found["all"]["n"] + found["left_out"] == count
    assert found["all"]["other"]["cached"] == found["all"]["n"]
