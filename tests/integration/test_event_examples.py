"""The two programs in docs/events.md, run as they stand there: what they publish and keep is what the contract says."""

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from golden_events import MOMENT_MS, SUBJECT
from integration.real_kafka import RealKafka
from mistudio_explain.events import topics
from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import Averages, JobEvent, JobPart, JobReport, JobStatus, SealedPart
from mistudio_explain.events.winner import rank
from outcome_rules import RULES, outcome, tempting

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
PARTITIONS = 2
JOB = SUBJECT.explain_job_id

pytestmark = pytest.mark.kafka


@pytest.fixture
async def kafka_with_topics(clean_kafka: RealKafka) -> RealKafka:
    admin = AIOKafkaAdminClient(**clean_kafka.client_options)
    await admin.start()
    names = (topics.FEATURES, topics.JOBS, topics.EXPLANATIONS, topics.REPORTS)
    made = await admin.create_topics([NewTopic(name, PARTITIONS if name == topics.EXPLANATIONS else 1, 1) for name in names])
    await admin.close()
    assert [error[1] for error in made.topic_errors] == [0] * len(names)
    return clean_kafka


async def _started(program: str, *arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-c", program, *arguments]
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)


async def _printed(program: asyncio.subprocess.Process) -> str:
    try:
        out, err = await asyncio.wait_for(program.communicate(), 30)
    except TimeoutError:
        program.kill()
        pytest.fail("the program did not end within 30 s")
    assert program.returncode == 0, err.decode()
    return out.decode()


def test_the_document_holds_an_upstream_and_a_downstream_program_that_use_none_of_our_code() -> None:
    upstream, downstream = PROGRAMS
    assert upstream.startswith('"""upstream.py')
    assert downstream.startswith('"""downstream.py')
    assert not re.search(r"import mistudio_explain|from mistudio_explain", upstream + downstream)


def test_the_document_tells_every_topic_every_event_and_every_part_of_a_job() -> None:
    names = [value for name, value in vars(topics).items() if name.isupper() and value.startswith("mistudio.") and name not in ("EXPRESS", "SHARED")]
    told = [name.removeprefix("mistudio.") for name in names] + [event.__name__ for event in EVENTS] + [part.value for part in JobPart]
    assert [name for name in told if name not in DOCUMENT] == []


async def test_upstreams_program_publishes_features_and_seals_their_job(kafka_with_topics: RealKafka) -> None:
    await _printed(await _started(PROGRAMS[0], kafka_with_topics.bootstrap))

    async with AIOKafkaConsumer(topics.FEATURES, topics.JOBS, **kafka_with_topics.client_options, auto_offset_reset="earliest") as consumer:
        records = [await asyncio.wait_for(consumer.getone(), 10) for _ in range(3)]
    features = {record.offset: record for record in records if record.topic == topics.FEATURES}
    found = [decode(FeatureFound, features[offset].value) for offset in sorted(features)]
    assert [feature.feature_key for feature in found] == ["17", "18"]
    assert [features[offset].key.decode() for offset in sorted(features)] == [feature.target_model for feature in found]
    assert found[0].top_activations[0].text == '{"name": "ada"}'

    (sealed,) = [record for record in records if record.topic == topics.JOBS]
    event = decode(JobEvent, sealed.value)
    assert event.part is JobPart.SEALED
    assert event.sealed == SealedPart(expected=len(found))
    assert event.key == sealed.key.decode()
    assert all(feature.effective_request == JobRequest(explain_job_id=event.explain_job_id) for feature in found)


async def test_downstreams_program_keeps_the_winner_of_every_rule_whatever_came_last(kafka_with_topics: RealKafka) -> None:
    winners: dict[str, FeatureOutcome] = {}
    async with AIOKafkaProducer(**kafka_with_topics.client_options, acks="all") as producer:
        next_offsets: dict[int, int] = {}

        async def arrive(event: FeatureOutcome | None, feature_key: str, job: str = JOB) -> None:
            value = None if event is None else encode(event)
            record = await producer.send_and_wait(topics.EXPLANATIONS, value, key=outcome_key(job, feature_key).encode())
            next_offsets[record.partition] = record.offset + 1

        def about(event: FeatureOutcome, feature_key: str, job: str = JOB) -> FeatureOutcome:
            return event.model_copy(update={"subject": event.subject.model_copy(update={"feature_key": feature_key, "explain_job_id": job})})

        for number, (winner, loser) in enumerate(RULES.values()):
            feature_key = str(number)
            winners[feature_key] = about(winner, feature_key)
            late = tempting(about(loser, feature_key), winners[feature_key])
            for arrival in (late, winners[feature_key], late):
                await arrive(arrival, feature_key)

        twins = [about(outcome(explanation=text), "twins") for text in ("One.", "Other.", "Third.")]
        winners["twins"] = max(twins, key=lambda twin: rank(twin, sha256(encode(twin)).hexdigest()))
        for twin in (*twins, *twins):
            await arrive(twin, "twins")

        await arrive(about(outcome(), "deleted"), "deleted")
        await arrive(None, "deleted")
        await arrive(about(outcome(), "foreign", job=f"{JOB}0"), "foreign", job=f"{JOB}0")

        # the job's end is told before the last outcome lands, which the program must wait for
        last = about(outcome(OutcomeKind.SKIPPED), "last")
        winners["last"] = last
        partition = next(p for p in range(PARTITIONS) if p in next_offsets)
        as_of = {**next_offsets, partition: next_offsets[partition] + 1}
        await producer.send_and_wait(topics.REPORTS, _report(JobStatus.RUNNING, {}), key=JOB.encode())
        await producer.send_and_wait(topics.REPORTS, _report(JobStatus.COMPLETED, as_of), key=JOB.encode())
        program = await _started(PROGRAMS[1], kafka_with_topics.bootstrap, JOB)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(program.wait(), 3)
        await producer.send_and_wait(topics.EXPLANATIONS, encode(last), key=outcome_key(JOB, "last").encode(), partition=partition)
        kept = {found["subject"]["feature_key"]: found for found in json.loads(await _printed(program))}

    assert kept == {feature_key: json.loads(winner.model_dump_json()) for feature_key, winner in winners.items()}


def _report(status: JobStatus, as_of: Mapping[int, int]) -> bytes:
    positions = {str(partition): offset for partition, offset in as_of.items()}
    counts = {"admitted": 0, "explained": 0, "skipped": 0, "failed": 0, "flagged": 0}
    return encode(JobReport(explain_job_id=JOB, status=status, **counts, averages=Averages(), as_of=positions, at_ms=MOMENT_MS))
