"""What services hold instead of failing or losing it: outages, retries that are not due, floods of dead letters, full lanes, cancelled jobs."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest
import structlog
from aiokafka import ConsumerRecord
from aiokafka.partitioner import DefaultPartitioner

from integration.real_kafka import RealKafka
from integration.test_lanes_on_kafka import members_of
from integration.test_stream_app import MakeApp, all_records, feature, make_app, records_of, until
from mistudio_explain.context import service as context_service
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import DeadLetter, ExplanationDrafted, ExplanationRequested, FeatureOutcome, OutcomeKind
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import ControlPart, Coordinates, JobEvent
from mistudio_explain.generation import service as generation_service
from mistudio_explain.kafka import lane_backlog
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.kafka.letters import redelivered, revision_of
from mistudio_explain.kafka.records import HEADER_ATTEMPT, HEADER_NOT_BEFORE, HEADER_REVISION, Outgoing, Received, outgoing, received, received_feature
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.observability.lag_figures import LagReading
from mistudio_explain.redelivery import service as redelivery
from mistudio_explain.settings import KafkaSettings, LimitSettings, QualitySettings, RetrySettings, Settings
from mistudio_explain.validation import service as validation_service
from mistudio_explain.validation.validator import Validator

__all__ = ["make_app"]  # the fixture

ANSWER = '{"label": "Fixed things", "pattern": "Texts that mention a fixed thing.", "significance": "It is known.", "implications": "None."}'


@dataclass
class Explainer:
    """A model that answers when it is let to."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    started: int = 0
    cut_off: int = 0

    async def complete(self, call: Call) -> Completion:
        self.started += 1
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        return Completion(ANSWER if call.form == "fields" else " mention a fixed thing.", "stop", 10, 10, 0.0, 0.0)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("fake")]

    async def close(self) -> None:
        return None


async def endpoints_of(explainer: Explainer, slots: int) -> Endpoints:
    endpoint = Endpoint("fake", "openai", "", slots, explainer)
    await endpoint.refresh()
    return Endpoints([endpoint], rng=Random(0))


def new_app(kafka: RealKafka, **groups: object) -> StreamApp:
    settings = Settings.model_validate({"kafka": KafkaSettings(bootstrap_servers=kafka.bootstrap, session_timeout_ms=6000), **groups})
    return StreamApp(settings, KafkaClients(settings.kafka, settings.limits))


async def letters_in(app: StreamApp) -> list[DeadLetter]:
    return [decode(DeadLetter, record.value) for record in await all_records(app, topics.DEAD_LETTERS) if record.value is not None]


async def outcomes_in(app: StreamApp) -> dict[str, FeatureOutcome]:
    found = [decode(FeatureOutcome, record.value) for record in await all_records(app, topics.EXPLANATIONS) if record.value is not None]
    return {outcome.subject.feature_key: outcome for outcome in found}


async def test_a_letter_waits_until_it_is_due_and_what_is_behind_it_waits_too(make_app: MakeApp) -> None:
    app = make_app()
    app.settings = app.settings.model_copy(update={"retry": RetrySettings(short_s=30, long_s=300)})
    arrived: dict[str, float] = {}

    @app.batches(topics.REPLAYS, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        arrived.update({each.event.feature_id: time.time() for each in batch})

    redelivery.register(app)

    def waiting(number: int, not_before: float) -> Outgoing:
        raw = encode(feature(number))
        source = Coordinates(topic=topics.FEATURES, partition=0, offset=number)
        letter = DeadLetter(source=source, service="context", raw=raw, raw_key=b"m", error="E", message="m", attempts=1, at_ms=0)
        made = outgoing(letter, topic=topics.RETRY_SHORT)
        headers = ((HEADER_ATTEMPT, b"1"), (HEADER_NOT_BEFORE, str(int(1000 * not_before)).encode()))
        return Outgoing(made.topic, made.key, made.value, (*made.headers, *headers))

    async with app.running():
        due = time.time() + 2.5
        await app.publish([waiting(1, time.time() - 5)])
        await until(lambda: "1" in arrived)
        await app.publish([waiting(2, due), waiting(3, due - 5)])
        await until(lambda: len(arrived) == 3)
    assert arrived["1"] < due
    assert min(arrived["2"], arrived["3"]) >= due
    assert arrived["2"] < due + 2


async def test_an_outage_longer_than_max_poll_interval_costs_neither_membership_nor_a_dead_letter(clean_kafka: RealKafka) -> None:
    app = new_app(clean_kafka)
    app.settings = app.settings.model_copy(update={"kafka": app.settings.kafka.model_copy(update={"max_poll_interval_ms": 2000})})
    app = StreamApp(app.settings, KafkaClients(app.settings.kafka, app.settings.limits))
    is_away, handled, tries = True, [], 0

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        nonlocal tries
        tries += 1
        if is_away:
            raise OSError("the store is away")
        handled.extend(each.event.feature_id for each in batch)

    async with app.running():
        await app.publish([outgoing(feature(number)) for number in range(5)])
        await until(lambda: tries >= 1)
        members = await members_of(app, "context")
        started = time.monotonic()
        await until(lambda: tries >= 5)  # 0.5 + 1 + 2 + 4 s of pauses
        assert time.monotonic() - started > 6
        assert await members_of(app, "context") == members
        is_away = False
        await until(lambda: len(handled) == 5)
        assert await letters_in(app) == []


async def test_a_flood_of_dead_letters_pauses_its_partition_alone_until_a_person_resumes_it(clean_kafka: RealKafka) -> None:
    limits = {"retry": RetrySettings(dead_letters=5)}

    @asynccontextmanager
    async def running(handled: list[str]) -> AsyncIterator[StreamApp]:
        app = new_app(clean_kafka, **limits)

        @app.batches(topics.FEATURES, service="context", read=received_feature)
        async def context(batch: list[Received[FeatureFound]]) -> None:
            handled.extend(each.event.feature_id for each in batch)

        @app.whole(topics.PAUSES, service="seen")
        async def seen(records: Sequence[ConsumerRecord]) -> None:
            marks.extend((record.key or b"").decode() for record in records)

        async with app.running():
            yield app

    marks: list[str] = []
    before: list[str] = []
    after: list[str] = []
    async with running(before) as app:
        for number in range(6):
            await app.producer.send_and_wait(topics.FEATURES, b"poison", key=b"m", partition=0)
            await app.producer.send_and_wait(topics.FEATURES, encode(feature(number)), key=b"m", partition=1)
        await until(lambda: len(before) == 6 and bool(marks))
        assert len(await letters_in(app)) == 6
        await app.producer.send_and_wait(topics.FEATURES, b"poison", key=b"m", partition=0)
        await app.producer.send_and_wait(topics.FEATURES, encode(feature(100)), key=b"m", partition=0)
        await app.producer.send_and_wait(topics.FEATURES, encode(feature(101)), key=b"m", partition=1)
        await until(lambda: "101" in before)
        await until(lambda: app.is_alive() and "dlq resume" in (app.unready_because() or ""))
        assert f"{topics.FEATURES}/0" in (app.unready_because() or "")
        assert "100" not in before
        assert len(await letters_in(app)) == 6
    assert set(marks) == {f"context|{topics.FEATURES}/0"}
    async with running(after) as app:  # a restart does not let it go on
        await app.producer.send_and_wait(topics.FEATURES, encode(feature(102)), key=b"m", partition=1)
        await until(lambda: "102" in after)
        assert "100" not in after
        await app.publish([Outgoing(topics.PAUSES, f"context|{topics.FEATURES}/0", None)])
        await until(lambda: "100" in after)
        await until(app.is_ready)
        assert len(await letters_in(app)) == 7


def counted_readings(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one whenever a reading of lag begins."""
    begun: list[None] = []
    offsets = lane_backlog.LagReader.offsets

    async def counting(reader: LagReader) -> LagReading:
        begun.append(None)
        return await offsets(reader)

    monkeypatch.setattr(lane_backlog.LagReader, "offsets", counting)
    return begun


async def test_a_full_lane_gets_no_new_prompts_until_generation_has_caught_up(clean_kafka: RealKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_backlog, "_EVERY_S", 0.3)
    readings = counted_readings(monkeypatch)
    app = new_app(clean_kafka, limits=LimitSettings(max_lane_backlog=10, batch_records=5), quality=QualitySettings(explain_poor=True))
    context_service.register(app, JobControls(app))
    lane = topics.PROMPTS_PREFIX + "m"
    async with app.running():
        await app.publish([outgoing(feature(number)) for number in range(20)])
        await records_of(app, lane, 11)
        begun = len(readings)
        await until(lambda: len(readings) > begun + 1)  # the first of these ended after the records were there, and was acted upon
        await app.publish([outgoing(feature(number)) for number in range(20, 50)])
        await app.publish([outgoing(feature(100).model_copy(update={"target_model": "other"}))])
        await until(lambda: topics.PROMPTS_PREFIX + "other" in app.known_lanes)
        await records_of(app, topics.PROMPTS_PREFIX + "other", 1)
        assert len(await all_records(app, lane)) <= 20
        done: list[str] = []
        worker = new_app(clean_kafka)

        @worker.lanes(generation_service.LANES, service="generation", read=partial(received, ExplanationRequested), in_flight=4)
        async def generation(each: Received[ExplanationRequested]) -> list[ExplanationDrafted]:
            done.append(each.event.subject.feature_key)
            return []

        async with worker.running():
            await until(lambda: len(set(done)) == 51)


def partition_of(model: str) -> int:
    """Where features of a model stand in find.features."""
    return int(DefaultPartitioner()(model.encode(), list(range(6)), list(range(6))))


async def test_a_model_that_shares_a_partition_with_that_of_a_full_lane_waits_with_it_and_then_comes_whole(
    clean_kafka: RealKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_backlog, "_EVERY_S", 0.3)
    app = new_app(clean_kafka, limits=LimitSettings(max_lane_backlog=10, batch_records=5), quality=QualitySettings(explain_poor=True))
    context_service.register(app, JobControls(app))
    names = [f"model{number}" for number in range(100)]
    beside = next(name for name in names if partition_of(name) == partition_of("m"))
    elsewhere = next(name for name in names if partition_of(name) != partition_of("m"))
    lane = topics.PROMPTS_PREFIX + "m"
    done: list[str] = []
    async with app.running():
        with structlog.testing.capture_logs() as said:
            await app.publish([outgoing(feature(number)) for number in range(11)])
            await until(lambda: "lane.full" in [each["event"] for each in said])
        await app.publish([outgoing(feature(number)) for number in range(11, 30)])
        await app.publish(outgoing(feature(number).model_copy(update={"target_model": beside})) for number in range(100, 105))
        await app.publish([outgoing(feature(200).model_copy(update={"target_model": elsewhere}))])
        await until(lambda: topics.PROMPTS_PREFIX + elsewhere in app.known_lanes)
        assert topics.PROMPTS_PREFIX + beside not in app.known_lanes
        assert len(await all_records(app, lane)) == 11
        worker = new_app(clean_kafka)

        @worker.lanes(generation_service.LANES, service="generation", read=partial(received, ExplanationRequested), in_flight=4)
        async def generation(each: Received[ExplanationRequested]) -> list[ExplanationDrafted]:
            done.append(each.event.subject.feature_key)
            return []

        async with worker.running():
            await until(lambda: len(set(done)) == 36)
    assert sorted(set(done), key=int) == [str(number) for number in (*range(30), *range(100, 105), 200)]


async def order(app: StreamApp, action: str, revision: int = 0) -> None:
    part = ControlPart.model_validate({"action": action})
    await app.publish([outgoing(JobEvent(explain_job_id="explain_1", revision=revision, at_ms=0, control=part))])


async def test_a_cancelled_job_ends_as_skipped_its_running_calls_are_closed_and_others_go_on(clean_kafka: RealKafka) -> None:
    app = new_app(clean_kafka, quality=QualitySettings(explain_poor=True))
    explainer, controls = Explainer(), JobControls(app)
    context_service.register(app, controls)
    generation_service.register(app, controls, await endpoints_of(explainer, 4), MemoryAnswers(), Random(0))
    async with app.running():
        await app.publish([outgoing(feature(number)) for number in range(400)])
        await until(lambda: explainer.started == 4)
        await order(app, "cancel")
        other = feature(1000, request=JobRequest(explain_job_id="explain_2"))
        again = feature(1001, request=JobRequest(explain_job_id="explain_1", revision=1))  # a reopened job's
        await app.publish([outgoing(other), outgoing(again)])
        await until(lambda: explainer.cut_off == 4)
        explainer.let.set()
        await records_of(app, topics.EXPLANATIONS, 400)
        found = await outcomes_in(app)
        drafts = [decode(ExplanationDrafted, record.value).subject.feature_key for record in await records_of(app, topics.DRAFTS, 2)]
    assert set(found) == {str(number) for number in range(400)}
    assert {outcome.outcome for outcome in found.values()} == {OutcomeKind.SKIPPED}
    assert all((outcome.reason or "").startswith("cancelled") for outcome in found.values())
    assert sorted(drafts) == ["1000", "1001"]
    assert explainer.started <= 4 + 2


def retried(number: int) -> Outgoing:
    """A feature that failed in its job's first revision, as `dlq retry` sends it."""
    letter = DeadLetter(
        source=Coordinates(topic=topics.FEATURES, partition=0, offset=number),
        raw=encode(feature(number)),
        raw_key=b"m",
        service="context",
        error="Error",
        message="",
        attempts=3,
        at_ms=0,
    )
    return redelivered(letter, attempt=0, revision=revision_of(letter) + 1)


async def test_retries_in_flight_end_with_their_cancelled_job_and_what_is_sent_to_the_reopened_job_goes_on(clean_kafka: RealKafka) -> None:
    app = new_app(clean_kafka, quality=QualitySettings(explain_poor=True))
    explainer, controls = Explainer(), JobControls(app)
    context_service.register(app, controls)
    generation_service.register(app, controls, await endpoints_of(explainer, 4), MemoryAnswers(), Random(0))
    async with app.running():
        await app.publish(retried(number) for number in range(40))
        await until(lambda: explainer.started == 4)
        (lane,) = app.known_lanes - {topics.EXPRESS, topics.SHARED}
        await records_of(app, lane, 40)
        await order(app, "cancel")
        await until(lambda: controls.is_stopped("explain_1", 0))
        await app.publish(retried(number) for number in range(40, 50))
        await until(lambda: explainer.cut_off == 4)
        await records_of(app, topics.EXPLANATIONS, 50)
        await order(app, "reopen", revision=1)
        await app.publish([outgoing(feature(1000, request=JobRequest(explain_job_id="explain_1", revision=1)))])
        explainer.let.set()
        drafts = [decode(ExplanationDrafted, record.value).subject.feature_key for record in await records_of(app, topics.DRAFTS, 1)]
        found = await outcomes_in(app)
    assert drafts == ["1000"]
    assert set(found) == {str(number) for number in range(50)}
    assert {(outcome.outcome, (outcome.reason or "")[:9], outcome.subject.revision) for outcome in found.values()} == {(OutcomeKind.SKIPPED, "cancelled", 0)}


async def test_drafts_in_flight_of_a_deleted_job_resurrect_nothing(clean_kafka: RealKafka) -> None:
    app = new_app(clean_kafka, quality=QualitySettings(explain_poor=True))
    explainer, controls = Explainer(), JobControls(app)
    context_service.register(app, controls)
    generation_service.register(app, controls, await endpoints_of(explainer, 4), MemoryAnswers(), Random(0))
    async with app.running():
        await app.publish([outgoing(feature(number)) for number in range(3)])
        explainer.let.set()
        drafts = [record.value for record in await records_of(app, topics.DRAFTS, 3)]
        await order(app, "delete")
        await until(lambda: controls.is_deleted("explain_1", 0))
        await app.publish([outgoing(feature(number)) for number in range(3, 6)])

    late = new_app(clean_kafka)
    validation_service.register(late, JobControls(late), Validator.load(QualitySettings()))
    async with late.running():
        await late.publish(Outgoing(topics.DRAFTS, outcome_key("explain_1", str(n)), value) for n, value in enumerate(drafts))
        retried = Outgoing(topics.DRAFTS, outcome_key("explain_1", "0"), drafts[0], headers=((HEADER_REVISION, b"1"),))  # as `dlq retry` sends it
        await late.publish([retried])
        other = decode(ExplanationDrafted, drafts[0])
        kept = other.model_copy(update={"subject": other.subject.model_copy(update={"explain_job_id": "explain_2"})})
        await late.publish([outgoing(kept)])
        found = await records_of(late, topics.EXPLANATIONS, 1)
    expected = outcome_key("explain_2", kept.subject.feature_key).encode()
    assert [record.key for record in found] == [expected]
    assert await _keys(clean_kafka, topics.EXPLANATIONS) == {expected}
    assert await _keys(clean_kafka, topics.ADMISSIONS) == {f"explain_1|{n}".encode() for n in range(3)}


async def _keys(kafka: RealKafka, topic: str) -> set[bytes]:
    return {record.key for record in await all_records(new_app(kafka), topic)}
