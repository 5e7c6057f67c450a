"""The stream application on the embedded broker and on real Kafka: what is read, committed, given up, and survives."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from integration.foreign_headers import send_with_foreign_header
from integration.real_kafka import RealKafka
from mistudio_explain.context import service as context_service
from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import DeadLetter, ExplanationRequested, FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.events.job import Averages, Coordinates, JobReport, JobStatus
from mistudio_explain.kafka import unreadable
from mistudio_explain.kafka.admin import compare_topics, create_topics, wanted_topics
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.embedded import embedded_broker
from mistudio_explain.kafka.follow import FollowedOutcome, following
from mistudio_explain.kafka.records import HEADER_REQUEST, Outgoing, Received, outgoing, received, received_feature
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.topics import ENVELOPE_BYTES, lane_spec, topic_specs
from mistudio_explain.redelivery import service as redelivery
from mistudio_explain.settings import KafkaSettings, QualitySettings, RetrySettings, Settings

WAIT_S = 30.0
LANE = topics.PROMPTS_PREFIX + "m"

MakeApp = Callable[[], StreamApp]


@pytest.fixture(params=["embedded", "real"])
async def make_app(request: pytest.FixtureRequest) -> AsyncIterator[MakeApp]:
    """Makes applications on one and the same broker."""
    if request.param == "real":
        broker: RealKafka = await asyncio.to_thread(request.getfixturevalue, "clean_kafka")
        settings = without_waiting(Settings(kafka=KafkaSettings(bootstrap_servers=broker.bootstrap)))
        yield lambda: StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
        return
    async with embedded_broker() as embedded:
        settings = without_waiting(Settings())
        yield lambda: StreamApp(settings, KafkaClients(settings.kafka, settings.limits, embedded=embedded.address))


def feature(number: int, **changes: Any) -> FeatureFound:
    return FeatureFound(target_model="m", find_job_id="find_1", feature_id=str(number), top_activations=[Activation(text=f"some text {number}")], **changes)


async def records_of(app: StreamApp, topic: str, count: int) -> list[ConsumerRecord]:
    """Everything that stands in a topic once there are so many records."""
    async with asyncio.timeout(WAIT_S):
        while len(records := await all_records(app, topic)) < count:
            await asyncio.sleep(0.05)
    return records


async def from_the_beginning(consumer: object, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The positions of a reader that keeps them, before it has read anything."""
    return {}


def without_waiting(settings: Settings) -> Settings:
    """Settings whose retry topics hold nothing up."""
    return settings.model_copy(update={"retry": RetrySettings(short_s=0, long_s=0)})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


async def all_records(app: StreamApp, topic: str) -> list[ConsumerRecord]:
    """Everything that stands in a topic now; waits for one that is still being made."""
    async with app.clients.consumer() as consumer, asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(KafkaError):
                partitions = await partitions_of(consumer, (topic,))
                break
            await asyncio.sleep(0.05)
        consumer.assign(partitions)
        end = await consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, 0)
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(WAIT_S):
            while any([await consumer.position(tp) < end[tp] for tp in partitions]):
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    records += batch
        return records


async def test_malformed_records_of_every_kind_become_dead_letters_and_the_rest_goes_on(make_app: MakeApp) -> None:
    app = make_app()
    handled: list[str] = []

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        handled.extend(each.event.feature_id for each in batch)

    bad = {
        "json": Outgoing(topics.FEATURES, "m", b'{"feature_id": 1}'),
        "tombstone": Outgoing(topics.FEATURES, "m", None),
        "empty": Outgoing(topics.FEATURES, "m", b""),
        "cut": Outgoing(topics.FEATURES, "m", encode(feature(77))[:-9]),
        "foreign schema": Outgoing(topics.FEATURES, "m", b"\xc3\x01" + b"12345678" + b"body"),
        "wrong event": Outgoing(topics.FEATURES, "m", encode(JobRequest(explain_job_id="explain_1"))),
        "bad header": Outgoing(topics.FEATURES, "m", encode(feature(78)), ((HEADER_REQUEST, b"\xff\xfe"),)),
        "named": Outgoing(topics.FEATURES, "m", b"\xff", (("mse-job", b"explain_1"), ("mse-feature-key", b"79"), ("x", b"\xff\xfe"))),
    }
    async with app.running():
        await app.publish([outgoing(feature(1)), *bad.values(), outgoing(feature(2))])
        await until(lambda: {"1", "2"} <= set(handled))
        letters = [decode(DeadLetter, record.value) for record in await records_of(app, topics.DEAD_LETTERS, len(bad))]
        failed = [decode(FeatureOutcome, record.value) for record in await all_records(app, topics.EXPLANATIONS)]

    assert sorted(handled) == ["1", "2"]
    assert {letter.raw or b"" for letter in letters} == {record.value or b"" for record in bad.values()}
    assert {letter.error for letter in letters} == {"MalformedEvent", "UnknownFingerprint"}
    assert all(letter.message and letter.source.topic == topics.FEATURES for letter in letters)
    assert {outcome.subject.feature_key for outcome in failed} >= {"79"}
    assert all(outcome.outcome is OutcomeKind.FAILED and outcome.reason for outcome in failed)


async def test_records_whose_header_names_are_not_utf8_are_dead_letters_and_hold_nothing_up(make_app: MakeApp) -> None:
    """aiokafka raises on them before anybody sees them, and for ever."""
    app = make_app()
    batches: list[str] = []
    lanes: list[str] = []
    whole: list[bytes] = []

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        batches.extend(each.event.feature_id for each in batch)

    @app.lanes("^" + LANE.replace(".", r"\."), service="generation", read=partial(received, FeatureFound), in_flight=4)
    async def generation(each: Received[FeatureFound]) -> list[FeatureOutcome]:
        lanes.append(each.event.feature_id)
        return []

    @app.whole(topics.ADMISSIONS, service="aggregator", positions=from_the_beginning)
    async def aggregator(records: Sequence[ConsumerRecord]) -> None:
        whole.extend(record.value for record in records)

    async with app.running():
        await app.ensure_lane(LANE)
        for topic in (topics.FEATURES, LANE, topics.ADMISSIONS):
            for number in range(12):
                if number in (3, 4, 9):
                    await send_with_foreign_header(app.producer, topic, 0, b"m", b"bad" + bytes([number]))
                else:
                    await app.producer.send_and_wait(topic, encode(feature(number)), key=b"m", partition=0)
        await until(lambda: min(len(batches), len(lanes), len(whole)) >= 9)
        letters = [decode(DeadLetter, record.value) for record in await records_of(app, topics.DEAD_LETTERS, 9)]
    expected = sorted((str(n) for n in range(12) if n not in (3, 4, 9)), key=int)
    assert sorted(set(batches), key=int) == expected
    assert sorted(lanes, key=int) == expected
    assert whole == [encode(feature(int(n))) for n in expected]
    found = {(letter.source.topic, letter.source.offset): (letter.raw, letter.raw_key, dict(letter.headers)) for letter in letters}
    assert found == {(topic, n): (b"bad" + bytes([n]), b"m", {r"\xff\xfe": b"x"}) for topic in (topics.FEATURES, LANE, topics.ADMISSIONS) for n in (3, 4, 9)}


async def test_what_cannot_be_read_in_a_topic_that_context_reads_anew_at_each_start_has_no_letter_each_time(clean_kafka: RealKafka) -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap), quality=QualitySettings(explain_poor=True))
    for number in (1, 2):
        app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
        controls = JobControls(app)
        context_service.register(app, controls)
        async with app.running():
            if number == 1:
                await app.publish([Outgoing(topics.JOBS, "explain_1|request", b"garbage")])
                await send_with_foreign_header(app.producer, topics.JOBS, 0, b"explain_2|request", b"bad")
            await controls.complete()
            await until(app.is_ready)
            await app.publish([outgoing(feature(number))])
            await records_of(app, LANE, number)
            assert await all_records(app, topics.DEAD_LETTERS) == []


async def test_a_record_that_is_deleted_before_it_could_be_stepped_over_is_said_to_be_gone(clean_kafka: RealKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention does so; the reader must hear of it, to look for a new place, and not ask for the old one for ever."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap))
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    place = TopicPartition(topics.FEATURES, 0)
    read_raw = unreadable.raw_record

    async def deleted_first(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> ConsumerRecord:
        await app.admin.delete_records({tp: RecordsToDelete(before_offset=offset + 1)})
        return await read_raw(consumer, tp, offset)

    monkeypatch.setattr(unreadable, "raw_record", deleted_first)
    async with app.running(), app.clients.consumer(auto_offset_reset="none") as consumer:
        await send_with_foreign_header(app.producer, place.topic, place.partition, b"m", b"bad")
        await partitions_of(consumer, (place.topic,))
        consumer.assign([place])
        consumer.seek(place, 0)
        fetch = unreadable.TolerantFetch()

        async def read_on() -> None:
            while True:
                assert await fetch(consumer, [place], timeout_ms=200, max_records=None) == ({}, [])

        with pytest.raises(OffsetOutOfRangeError):
            await asyncio.wait_for(read_on(), WAIT_S)


async def test_a_poll_without_partitions_takes_no_record_of_one_that_was_assigned_meanwhile(make_app: MakeApp) -> None:
    """A member without any partition, as in a rebalance, polls to stay one; what it is given then must still be there to read."""
    app = make_app()
    topic = topics.FEATURES
    async with app.running(), app.clients.consumer(auto_offset_reset="earliest", group_id="polls") as consumer:
        for number in range(6):
            await app.producer.send_and_wait(topic, encode(feature(number)), key=b"m", partition=number)
        consumer.subscribe([topic])
        fetch = unreadable.TolerantFetch()

        async def polled() -> None:
            while not consumer.assignment():
                await fetch(consumer, [], timeout_ms=200, max_records=None)
            while not all(consumer.highwater(tp) for tp in consumer.assignment()):  # the records are at hand
                await fetch(consumer, [], timeout_ms=200, max_records=None)

        await asyncio.wait_for(polled(), WAIT_S)
        seen: set[TopicPartition] = set()

        async def read() -> None:
            while len(seen) < 6:
                seen.update((await fetch(consumer, sorted(consumer.assignment()), timeout_ms=200, max_records=None))[0])

        await asyncio.wait_for(read(), WAIT_S)


async def test_what_was_at_hand_of_other_partitions_when_one_could_not_be_unpacked_is_not_lost(make_app: MakeApp) -> None:
    """aiokafka throws it away and moves on."""
    filler, app = make_app(), make_app()
    batches: set[str] = set()
    lanes: set[str] = set()
    whole: set[bytes] = set()
    topics_read = (topics.FEATURES, LANE, topics.ADMISSIONS)
    async with filler.running():
        await filler.ensure_lane(LANE)
        for topic in topics_read:
            for number in range(90):
                await filler.producer.send(topic, encode(feature(number)), key=b"m", partition=number % 6)
                if number in (20, 51):
                    await filler.producer.flush()
                    await send_with_foreign_header(filler.producer, topic, number % 6, b"m", b"bad")
        await filler.producer.flush()

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        batches.update(each.event.feature_id for each in batch)

    @app.lanes("^" + LANE.replace(".", r"\."), service="generation", read=partial(received, FeatureFound), in_flight=64)
    async def generation(each: Received[FeatureFound]) -> list[FeatureOutcome]:
        lanes.add(each.event.feature_id)
        return []

    @app.whole(topics.ADMISSIONS, service="aggregator", positions=from_the_beginning)
    async def aggregator(records: Sequence[ConsumerRecord]) -> None:
        whole.update(record.value for record in records)

    async with app.running():
        await until(lambda: min(len(batches), len(lanes), len(whole)) == 90)
        letters = await records_of(app, topics.DEAD_LETTERS, 6)
    assert {decode(DeadLetter, record.value).source.topic for record in letters} == set(topics_read)


async def test_a_record_whose_core_fails_is_tried_three_times_over_the_retry_topics_and_given_up_alone(make_app: MakeApp) -> None:
    app = make_app()
    handled: list[str] = []
    tries: list[str] = []

    def core(each: Received[FeatureFound]) -> list[Outgoing]:
        if each.event.feature_id == "2":
            tries.append(f"{each.record.topic} from {each.source.topic}/{each.source.partition}/{each.source.offset}")
            raise ValueError("a core that fails")
        handled.append(each.event.feature_id)
        return []

    @app.batches(topics.FEATURES, topics.REPLAYS, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        await app.publish(await app.each(batch, core, service="context"))

    redelivery.register(app)
    async with app.running():
        await app.publish([outgoing(feature(number)) for number in (1, 2, 3)])
        await until(lambda: {"1", "3"} <= set(handled))
        found = await records_of(app, topics.EXPLANATIONS, 1)
        (failed,) = [decode(FeatureOutcome, record.value) for record in found]
        (kept,) = await all_records(app, topics.DEAD_LETTERS)
        waited = [(await all_records(app, topic))[0] for topic in (topics.RETRY_SHORT, topics.RETRY_LONG)]
    letter = decode(DeadLetter, kept.value)
    origin = f"{letter.source.topic}/{letter.source.partition}/{letter.source.offset}"
    assert kept.key == origin.encode()
    assert letter.source.topic == topics.FEATURES
    assert tries == [f"{topic} from {origin}" for topic in (topics.FEATURES, topics.REPLAYS, topics.REPLAYS)]
    assert letter.attempts == 3
    assert [decode(DeadLetter, record.value).raw for record in waited] == [letter.raw] * 2
    assert letter.raw == encode(feature(2))
    assert failed.outcome is OutcomeKind.FAILED
    assert failed.reason == "ValueError: a core that fails"
    assert (failed.subject.explain_job_id, failed.subject.feature_key) == ("explain_1", "2")


async def test_a_batch_that_fails_as_a_whole_is_handled_again_until_it_succeeds(make_app: MakeApp) -> None:
    app = make_app()
    tries: list[list[str]] = []

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        tries.append([each.event.feature_id for each in batch])
        if len(tries) < 3:
            raise OSError("a store that is away")

    async with app.running():
        await app.publish([outgoing(feature(1))])
        await until(lambda: len(tries) >= 3)
    assert tries == [["1"]] * 3


async def test_one_event_that_its_whole_batch_fails_for_and_no_repetition_helps_is_given_up_alone(make_app: MakeApp) -> None:
    app = make_app()
    handled: list[str] = []

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        if any(each.event.feature_id == "2" for each in batch):
            raise MalformedEvent("a record is larger than its topic takes")
        handled.extend(each.event.feature_id for each in batch)

    async with app.running():
        await app.publish([outgoing(feature(number)) for number in range(5)])
        await records_of(app, topics.EXPLANATIONS, 1)
        await app.publish([outgoing(feature(9))])
        await until(lambda: "9" in handled)
        (failed,) = [decode(FeatureOutcome, record.value) for record in await all_records(app, topics.EXPLANATIONS)]
        (letter,) = [decode(DeadLetter, record.value) for record in await all_records(app, topics.DEAD_LETTERS)]
    assert sorted(handled) == ["0", "1", "3", "4", "9"]
    assert (failed.subject.feature_key, failed.outcome) == ("2", OutcomeKind.FAILED)
    assert (letter.feature_key, letter.error) == ("2", "MalformedEvent")


async def test_a_prompt_too_large_for_its_lane_fails_alone_and_its_neighbours_are_not_copied_over_and_over(clean_kafka: RealKafka) -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap), quality=QualitySettings(explain_poor=True))
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    context_service.register(app, JobControls(app))
    async with app.clients.admin() as admin:
        await create_topics(admin, [replace(lane_spec(LANE, settings), max_bytes=12_000 - ENVELOPE_BYTES)], 1)
        assert [(each.topic, each.what, each.found) for each in await compare_topics(admin, await wanted_topics(admin, settings)) if each.what != "topic"] == [
            (LANE, "max.message.bytes", "12000")
        ]
    async with app.running():
        await app.publish([*(outgoing(feature(number)) for number in range(5)), outgoing(feature(9, source_training_job="t" * 20_000))])
        (letter,) = [decode(DeadLetter, record.value) for record in await records_of(app, topics.DEAD_LETTERS, 1)]
        await app.publish([outgoing(feature(50))])
        async with asyncio.timeout(WAIT_S):
            while "50" not in (prompts := [decode(ExplanationRequested, each.value).subject.feature_key for each in await all_records(app, LANE)]):
                await asyncio.sleep(0.05)
    assert (letter.feature_key, letter.error) == ("9", "MalformedEvent")
    assert set(prompts) == {"0", "1", "2", "3", "4", "50"}
    assert max(Counter(prompts).values()) <= 2  # once with the batch, once alone


async def test_a_letter_whose_record_is_too_large_for_its_topic_holds_no_retry_up(clean_kafka: RealKafka) -> None:
    settings = without_waiting(Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap)))
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    redelivery.register(app)
    async with app.clients.admin() as admin:
        (drafts,) = [spec for spec in topic_specs(settings) if spec.name == topics.DRAFTS]
        await create_topics(admin, [replace(drafts, max_bytes=12_000 - ENVELOPE_BYTES)], 1)

    def letter(number: int, raw: bytes) -> Outgoing:
        source = Coordinates(topic=topics.DRAFTS, partition=0, offset=number)
        return outgoing(DeadLetter(source=source, service="validation", raw=raw, error="E", message="m", attempts=1, at_ms=0), topic=topics.RETRY_SHORT)

    async with app.running():
        await app.publish([letter(1, b"x" * 20_000), letter(2, b"y")])
        assert {record.value for record in await records_of(app, topics.DRAFTS, 1)} == {b"y"}  # maybe twice: with the other, then alone
        (given_up,) = [decode(DeadLetter, record.value) for record in await records_of(app, topics.DEAD_LETTERS, 1)]
    assert given_up.error == "MalformedEvent"


async def test_lanes_keep_their_records_in_flight_and_give_up_those_that_fail(make_app: MakeApp) -> None:
    app = make_app()
    in_flight = most = 0
    handled: set[str] = set()

    redelivery.register(app)

    @app.lanes("^" + topics.PROMPTS_PREFIX.replace(".", r"\.") + ".*", service="generation", read=partial(received, FeatureFound), in_flight=5)
    async def generation(each: Received[FeatureFound]) -> list[FeatureOutcome]:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.02)
        in_flight -= 1
        if each.event.feature_id == "7":
            raise RuntimeError("no usable answer")
        handled.add(each.event.feature_id)
        return []

    async with app.running():
        await app.ensure_lane(LANE)
        await app.publish(Outgoing(LANE, str(number), encode(feature(number))) for number in range(40))
        await until(lambda: len(handled) == 39)
        letters = await records_of(app, topics.DEAD_LETTERS, 1)
    assert most == 5
    (letter,) = [decode(DeadLetter, record.value) for record in letters]
    assert (letter.error, letter.feature_key, letter.attempts) == ("RuntimeError", "7", 3)


async def test_places_that_become_more_are_taken_although_nothing_ends_and_nothing_comes(make_app: MakeApp) -> None:
    app = make_app()
    places = 1
    held: set[str] = set()
    ends = asyncio.Event()

    @app.lanes("^" + LANE.replace(".", r"\."), service="generation", read=partial(received, FeatureFound), in_flight=lambda: places)
    async def generation(each: Received[FeatureFound]) -> list[FeatureOutcome]:
        held.add(each.event.feature_id)
        await ends.wait()
        return []

    async with app.running():
        await app.ensure_lane(LANE)
        await app.publish(Outgoing(LANE, "k", encode(feature(number))) for number in range(3))
        await until(lambda: len(held) == 1)
        places = 3
        await until(lambda: len(held) == 3)
        ends.set()


async def test_a_lane_that_appears_while_running_is_read(make_app: MakeApp) -> None:
    app = make_app()
    handled: list[str] = []

    @app.lanes("^" + topics.PROMPTS_PREFIX.replace(".", r"\.") + ".*", service="generation", read=partial(received, FeatureFound), in_flight=2)
    async def generation(each: Received[FeatureFound]) -> list[FeatureOutcome]:
        handled.append(each.event.feature_id)
        return []

    async with app.running():
        for name in ("first", "second"):
            await app.ensure_lane(topics.PROMPTS_PREFIX + name)
            await app.publish([Outgoing(topics.PROMPTS_PREFIX + name, "k", encode(feature(len(handled))))])
            count = len(handled) + 1
            await until(lambda count=count: len(handled) == count)


async def test_topics_used_before_a_lane_was_made_keep_their_leaders(make_app: MakeApp) -> None:
    """Without a leader a record that waits to be sent waits for 40 s."""
    app = make_app()
    async with app.running(), asyncio.timeout(10):
        await app.publish([outgoing(feature(1))])
        await app.ensure_lane(topics.PROMPTS_PREFIX + "late")
        await app.publish([Outgoing(topics.PROMPTS_PREFIX + "late", "k", b"v")])
        await app.producer.client.force_metadata_update()
        known = app.producer.client.cluster
        assert all(known.leader_for_partition(TopicPartition(topic, 0)) is not None for topic in (topics.FEATURES, topics.PROMPTS_PREFIX + "late"))


async def test_whole_topics_are_read_from_the_readers_own_positions(make_app: MakeApp) -> None:
    app = make_app()
    async with app.running():
        await app.publish([Outgoing(topics.JOBS, f"k{i}", bytes([i])) for i in range(10)])
    second = make_app()
    values: list[bytes] = []

    async def positions(consumer: object, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: 4 for tp in partitions if tp.topic == topics.JOBS}

    @second.whole(topics.JOBS, service="reader", positions=positions)
    async def reader(records: Sequence[ConsumerRecord]) -> None:
        values.extend(record.value for record in records)

    async with second.running():
        await asyncio.wait_for(reader.caught_up.wait(), WAIT_S)
        assert values == [bytes([i]) for i in range(4, 10)]
        assert second.is_alive()


async def test_a_job_is_followed_past_keyless_and_unreadable_records_up_to_what_its_report_counts(make_app: MakeApp) -> None:
    app = make_app()
    subject = Subject(explain_job_id="explain_1", feature_key="1")
    async with app.running(), following(app.clients, "explain_1") as events, asyncio.timeout(WAIT_S):
        with contextlib.suppress(KafkaError):  # real Kafka refuses a record without a key in a compacted topic
            await app.producer.send_and_wait(topics.EXPLANATIONS, b"x", partition=0)
        await app.publish([Outgoing(topics.EXPLANATIONS, "explain_1|0", b"garbage"), Outgoing(topics.EXPLANATIONS, "explain_1|2", None)])
        counted = {str(partition): 0 for partition in range(6)}
        placed = await app.producer.send_and_wait(
            topics.EXPLANATIONS, encode(FeatureOutcome(outcome=OutcomeKind.FAILED, reason="why", subject=subject)), key=b"explain_1|1"
        )
        counted[str(placed.partition)] = placed.offset + 1
        report = JobReport(
            explain_job_id="explain_1", status=JobStatus.COMPLETED, admitted=1, explained=0, skipped=0, failed=1, flagged=0, averages=Averages(), at_ms=0,
            as_of=counted,
        )  # fmt: skip
        await app.publish([outgoing(report)])
        seen = [await anext(events), await anext(events)]
    assert isinstance(seen[0], FollowedOutcome)
    assert seen[0].outcome.reason == "why"
    assert seen[1] == report


@asynccontextmanager
async def counting_lanes(app: StreamApp, handled: list[int], in_flight: int, *, hold: asyncio.Event | None = None) -> AsyncIterator[None]:
    @app.lanes("^" + LANE.replace(".", r"\."), service="generation", read=partial(received, FeatureFound), in_flight=in_flight)
    async def generation(each: Received[FeatureFound]) -> list[FeatureOutcome]:
        if hold is not None and int(each.event.feature_id) % 10 == 0:
            await hold.wait()
        handled.append(int(each.event.feature_id))
        return []

    async with app.running():
        yield


async def test_what_finished_beyond_a_held_record_is_not_repeated_after_a_restart(clean_kafka: RealKafka) -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap, session_timeout_ms=6000))
    clients = KafkaClients(settings.kafka, settings.limits)
    first, second = StreamApp(settings, clients), StreamApp(settings, clients)
    before: list[int] = []
    after: list[int] = []
    held = asyncio.Event()
    async with StreamApp(settings, clients).running() as _:
        pass
    async with counting_lanes(first, before, 64, hold=held):
        await first.ensure_lane(LANE)
        await first.publish(Outgoing(LANE, str(number), encode(feature(number))) for number in range(60))
        await until(lambda: len(before) == 54)
        for task in asyncio.all_tasks():  # the six that are held are cut off, as a kill would
            if "_one" in repr(task.get_coro()):
                task.cancel()
    async with counting_lanes(second, after, 64):
        await until(lambda: len(after) >= 6)
        await asyncio.sleep(0.2)
    assert sorted(after) == [0, 10, 20, 30, 40, 50]
    assert sorted(before + after) == list(range(60))
