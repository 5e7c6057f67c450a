"""(a) The mechanics: all stages with pass-through cores, beside a bare aiokafka + fastavro chain of the same hops.

CPU of this process for each feature, from find.features to the last reader of explain.explanations, on real Kafka.
"""

import asyncio
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from fastavro import schemaless_reader, schemaless_writer

from benchmarks.requests import draft_of, request_of, take
from benchmarks.table import ratios
from integration.real_kafka import RealKafka
from mistudio_explain.events import topics
from mistudio_explain.events.codec import current_schemas, decode
from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested, FeatureOutcome, OutcomeKind
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import Admission
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import Outgoing, Received, outgoing, received, received_feature
from mistudio_explain.kafka.topics import lane_spec, topic_specs
from mistudio_explain.settings import KafkaSettings, Settings

FEATURES = 2000
SIZE = 6_000
IN_FLIGHT = 64
LANE = topics.PROMPTS_PREFIX + "bench-model"


def _outcome_of(draft: ExplanationDrafted) -> FeatureOutcome:
    return FeatureOutcome(outcome=OutcomeKind.EXPLAINED, subject=draft.subject, evidence=draft.evidence, answer=draft.answer, generation=draft.generation)


async def ours(settings: Settings) -> float:
    """CPU seconds of the product's services with cores that only re-label."""
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    done, seen = asyncio.Event(), 0

    def context_core(feature: Received[FeatureFound]) -> list[Outgoing]:
        event = feature.event
        names = {"feature_key": event.feature_key, "find_job_id": event.find_job_id, "target_model": event.target_model}
        admission = Admission(explain_job_id="explain_bench", **names, source=feature.source)
        return [outgoing(admission), outgoing(request_of(event), topic=LANE)]

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        await app.publish(await app.each(batch, context_core, service="context"))

    @app.lanes("^" + LANE.replace(".", r"\."), service="generation", read=partial(received, ExplanationRequested), in_flight=IN_FLIGHT)
    async def generation(request: Received[ExplanationRequested]) -> list[ExplanationDrafted]:
        return [draft_of(request.event)]

    @app.batches(topics.DRAFTS, service="validation", read=partial(received, ExplanationDrafted))
    async def validation(batch: list[Received[ExplanationDrafted]]) -> None:
        await app.publish(await app.each(batch, lambda draft: [outgoing(_outcome_of(draft.event))], service="validation"))

    @app.whole(topics.EXPLANATIONS, service="aggregator")
    async def aggregator(records: Sequence[ConsumerRecord]) -> None:
        nonlocal seen
        for record in records:
            decode(FeatureOutcome, record.value)
        seen += len(records)
        if seen >= FEATURES:
            done.set()

    started = time.process_time()
    async with app.running():
        await done.wait()
        return time.process_time() - started


def _write(name: str, record: dict[str, Any]) -> bytes:
    schema = current_schemas()[name]
    out = io.BytesIO()
    out.write(b"\xc3\x01" + schema.fingerprint)
    schemaless_writer(out, schema.parsed, record)
    return out.getvalue()


def _read(name: str, value: bytes) -> dict[str, Any]:
    body = io.BytesIO(value)
    body.seek(10)
    record: dict[str, Any] = schemaless_reader(body, current_schemas()[name].parsed, None)  # type: ignore[assignment]
    return record


async def bare(settings: Settings, templates: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]) -> float:
    """CPU seconds of the same hops in plain loops: getmany, fastavro to dict and back, send, commit a batch."""
    request, draft, outcome = templates
    bootstrap = settings.kafka.bootstrap_servers
    done, seen = asyncio.Event(), 0

    def context_core(feature: dict[str, Any]) -> list[tuple[str, bytes, bytes]]:
        subject = {**request["subject"], "feature_id": feature["feature_id"], "feature_key": feature["feature_id"]}
        texts = feature["top_activations"]
        made = {**request, "subject": subject, "request": feature["request"], "evidence": {"seen": texts[:14], "held_out": texts[14:], "trimmed": 0}}
        admission = {"explain_job_id": "explain_bench", "feature_key": feature["feature_id"], "find_job_id": "find_bench", "target_model": "bench-model"}
        key = feature["feature_id"].encode()
        return [(topics.ADMISSIONS, key, _write("Admission", admission)), (LANE, key, _write("ExplanationRequested", made))]

    def generation_core(event: dict[str, Any]) -> list[tuple[str, bytes, bytes]]:
        made = {**draft, "subject": event["subject"], "evidence": event["evidence"], "prompt": event["prompt"]}
        return [(topics.DRAFTS, event["subject"]["feature_key"].encode(), _write("ExplanationDrafted", made))]

    def validation_core(event: dict[str, Any]) -> list[tuple[str, bytes, bytes]]:
        made = {**outcome, "subject": event["subject"], "evidence": event["evidence"], "answer": event["answer"], "generation": event["generation"]}
        return [(topics.EXPLANATIONS, event["subject"]["feature_key"].encode(), _write("FeatureOutcome", made))]

    async def hop(topic: str, name: str, core: Callable[[dict[str, Any]], list[tuple[str, bytes, bytes]]], group: str | None) -> None:
        nonlocal seen
        options = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "max_partition_fetch_bytes": 65536}
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, **options)
        await consumer.start()
        try:
            while True:
                batch = await consumer.getmany(timeout_ms=50, max_records=200)
                sent = []
                for records in batch.values():
                    for record in records:
                        sent += [await producer.send(to, value, key=key) for to, key, value in core(_read(name, record.value))]
                        if topic == topics.EXPLANATIONS:
                            seen += 1
                await asyncio.gather(*sent)
                if batch and group is not None:
                    await consumer.commit()
                if seen >= FEATURES:
                    done.set()
        finally:
            await consumer.stop()

    started = time.process_time()
    async with AsyncExitStack() as stack:
        options = {"acks": "all", "enable_idempotence": True, "linger_ms": 5, "max_request_size": 8 << 20, "max_batch_size": 1 << 20}
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
        await producer.start()
        stack.push_async_callback(producer.stop)
        hops = (
            (topics.FEATURES, "FeatureFound", context_core, "bare.context"),
            (LANE, "ExplanationRequested", generation_core, "bare.generation"),
            (topics.DRAFTS, "ExplanationDrafted", validation_core, "bare.validation"),
            (topics.EXPLANATIONS, "FeatureOutcome", lambda _: [], None),
        )
        tasks = [asyncio.create_task(hop(*each)) for each in hops]
        await done.wait()
        taken = time.process_time() - started
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return taken


async def fill(settings: Settings) -> None:
    """Make the topics and publish the features, outside the measurement."""
    clients = KafkaClients(settings.kafka, settings.limits)
    async with clients.admin() as admin:
        await create_topics(admin, [*topic_specs(settings), lane_spec(LANE, settings)], None)
    async with clients.producer({topics.FEATURES}) as producer:
        for feature in take(FEATURES, SIZE):
            await producer.send(topics.FEATURES, outgoing(feature).value, key=feature.feature_id.encode())
        await producer.flush()


def main(runs: int = 5) -> None:
    request = request_of(take(1, SIZE)[0])
    draft = draft_of(request)
    templates = (request.model_dump(), draft.model_dump(), _outcome_of(draft).model_dump())
    contenders: dict[str, Callable[[Settings], Any]] = {"bare aiokafka + fastavro": partial(bare, templates=templates), "services, pass-through cores": ours}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder)) as kafka:
        settings = Settings(kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap))
        for _ in range(runs):
            for name, contender in contenders.items():
                kafka.delete_topics("mistudio.")
                asyncio.run(fill(settings))
                taken[name].append(asyncio.run(contender(settings)) / FEATURES * 1e6)
    title = f"Mechanics: CPU for each of {FEATURES} features of 6 KB, all hops"
    ratios(title, taken, unit="µs", peer="bare aiokafka + fastavro", ours="services, pass-through cores", goal=0.5, digits=0)


if __name__ == "__main__":
    main()
