"""What upgrades and downgrades ask of running services: an aggregator that is too old destroys nothing, a member that reads other topics gets them."""

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer

from integration.aggregating import WAIT_S, Aggregating, admitted, explained, requested, sealed, settled
from integration.real_kafka import RealKafka
from mistudio_explain.cli import doctor
from mistudio_explain.events import codec, topics
from mistudio_explain.events.codec import MARKER, fingerprint_bytes
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobStatus
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import Outgoing, Received, outgoing, received_feature
from mistudio_explain.settings import KafkaSettings, LimitSettings, ReportSettings, RetrySettings, Settings, StoreSettings

FEATURES = 30


@pytest.fixture
def at_work(clean_kafka: RealKafka, tmp_path: Path) -> Aggregating:
    return Aggregating(
        Settings(
            kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap, partitions=1),
            store=StoreSettings(url=f"sqlite:///{tmp_path}/explain.db"),
            reports=ReportSettings(directory=tmp_path / "out", interval_s=0.1),
            limits=LimitSettings(quiet_s=60.0),
            retry=RetrySettings(dead_letters=FEATURES // 2),
        )
    )


def newer_schema() -> Any:
    schema = json.loads(codec.current_schemas()["FeatureOutcome"].text)
    schema["fields"].append({"name": "mood", "type": ["null", "string"], "default": None, "doc": "What a later release adds."})
    return schema


def as_newer(outcome: FeatureOutcome) -> Outgoing:
    """An outcome as a later release writes it."""
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(newer_schema()), outcome.model_dump() | {"mood": "calm"})
    return replace(outgoing(outcome), value=MARKER + fingerprint_bytes(newer_schema()) + out.getvalue())


async def test_an_aggregator_that_is_too_old_for_its_topics_waits_until_it_is_updated(at_work: Aggregating, monkeypatch: pytest.MonkeyPatch) -> None:
    await at_work.make_topics()
    async with at_work.aggregator() as assembly:
        await at_work.write(requested(), *(admitted(n) for n in range(FEATURES)), explained(0), sealed(FEATURES))
        await at_work.until_reported(lambda report: report.explained == 1 and report.admitted == FEATURES)
        async with at_work.clients.producer([topics.EXPLANATIONS]) as producer:  # in one batch, as a restart finds them
            for n in range(FEATURES):
                await producer.send(topics.EXPLANATIONS, as_newer(explained(n, says="newer", revision=1)).value, key=f"explain_1|{n}".encode())
            await producer.flush()
        await settled(lambda: "a newer release writes the topics" in (assembly.app.unready_because() or ""))
        assert assembly.app.is_alive()
        last = (await at_work.reports())[-1]
        assert last.explained + last.failed < FEATURES / 2
    letters = {record.key for record in await at_work.read(topics.DEAD_LETTERS)}
    assert len(letters) <= FEATURES / 2
    written = await at_work.read(topics.EXPLANATIONS)
    newer = {record.key for record in written if codec.is_of_unknown_schema(record.value)}
    assert len(newer) == FEATURES
    last_values = {record.key: record.value for record in written}
    assert sum(codec.is_of_unknown_schema(value) for value in last_values.values()) >= FEATURES / 2

    schema = codec._load(json.dumps(newer_schema()).encode())
    known = {**codec._known_schemas(), schema.fingerprint: schema}
    monkeypatch.setattr(codec, "_known_schemas", lambda: known)
    async with at_work.aggregator():
        report = await at_work.until_reported(lambda report: report.status is JobStatus.COMPLETED)
        assert report.explained >= FEATURES - len(letters)


async def test_a_named_member_that_reads_other_topics_than_its_predecessor_gets_them(clean_kafka: RealKafka) -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap, partitions=1, instance_id="context-1", session_timeout_ms=6_000))

    async def handles(feature_id: str, *read: str) -> None:
        app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
        handled = asyncio.Event()

        @app.batches(*read, service="context", read=received_feature)
        async def context(batch: list[Received[FeatureFound]]) -> None:
            if feature_id in {each.event.feature_id for each in batch}:
                handled.set()

        async with app.running():
            await app.publish([outgoing(FeatureFound(target_model="m", find_job_id="find_1", feature_id=feature_id))])
            async with asyncio.timeout(WAIT_S):
                await handled.wait()

    await handles("1", topics.FEATURES, topics.REQUESTS)
    await handles("2", topics.FEATURES, topics.REPLAYS)


@pytest.mark.parametrize("contract", [None, "0.1.0"])
async def test_doctor_reminds_of_a_contract_that_is_still_pinned(contract: str | None) -> None:
    try:
        findings = await doctor._kafka(Settings(kafka=KafkaSettings(contract=contract)))
    finally:
        codec.write_as(None)
    assert [each.found.split(",")[0] for each in findings if each.what == "contract"] == ([] if contract is None else ["events are written as by 0.1.0"])
