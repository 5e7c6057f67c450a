"""An aggregator on a real Kafka: its topics, what is written to them, and what it says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from mistudio_explain.assembly import assembled
from mistudio_explain.errors import ExplainError
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import (
    Accuracy,
    Activation,
    Answer,
    Evidence,
    FeatureOutcome,
    FeatureReviewed,
    Generation,
    OutcomeKind,
    Subject,
    Verification,
)
from mistudio_explain.events.job import Admission, Coordinates, JobEvent, JobReport, RequestPart, SealedPart
from mistudio_explain.events.model import Record
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.kafka.snapshot import standing
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import JobStore, reading

WAIT_S = 60.0
JOB = "explain_1"
COMPACTED = (topics.EXPLANATIONS, topics.JOBS, topics.REPORTS, topics.REVIEWS, topics.BACKGROUNDS, topics.DEAD_LETTERS)
NOBODY = b"nobody|nothing"
SOON = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0", "max.compaction.lag.ms": "100", "delete.retention.ms": "100"}
"""Compaction within seconds, of all but the last record."""


def requested(job: str = JOB, find_job: str = "find_1", **changes: Any) -> JobEvent:
    return JobEvent(explain_job_id=job, at_ms=1, request=RequestPart(find_job_id=find_job, target_model="m", **changes))


def sealed(expected: int, job: str = JOB, revision: int = 0) -> JobEvent:
    return JobEvent(explain_job_id=job, revision=revision, at_ms=2, sealed=SealedPart(expected=expected))


def admitted(feature: object, job: str = JOB, find_job: str = "find_1") -> Admission:
    source = Coordinates(topic=topics.FEATURES, partition=0, offset=0)
    return Admission(explain_job_id=job, feature_key=str(feature), find_job_id=find_job, target_model="m", source=source)


def explained(feature: object, job: str = JOB, *, p: float = 0.7, says: str = "words", revision: int = 0, find_job: str = "find_1") -> FeatureOutcome:
    subject = Subject(
        explain_job_id=job, revision=revision, find_job_id=find_job, target_model="m", feature_id=str(feature), feature_key=str(feature), category="technical",
        category_source="given",
    )  # fmt: skip
    made = Generation(model="m", endpoint="e", provider="ollama", latency_s=1.5, finish_reason="stop", tokens_in=10, tokens_out=5)
    return FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED, subject=subject, evidence=Evidence(seen=[Activation(text=f"evidence of {says}")]), answer=Answer(pattern=says),
        explanation=says, quality_score=p, accuracy=Accuracy(p=p, n=3, basis="seen"), pattern_verification=Verification.CONFIRMED, generation=made,
        prompt_sha256=f"prompt of {job} {feature}",
    )  # fmt: skip


def reviewed(feature: object, verdict: str = "right", job: str = JOB, *, why: str | None = None) -> FeatureReviewed:
    return FeatureReviewed.model_validate({"explain_job_id": job, "feature_key": str(feature), "verdict": verdict, "who": "ada", "why": why, "at_ms": 4})


def failed(feature: object, job: str = JOB, *, revision: int = 0) -> FeatureOutcome:
    subject = Subject(explain_job_id=job, revision=revision, feature_key=str(feature))
    return FeatureOutcome(outcome=OutcomeKind.FAILED, reason="its own fault", subject=subject)


@dataclass
class Aggregating:
    """A Kafka with the product's topics, and the settings of an aggregator on it."""

    settings: Settings
    topic_configs: dict[str, str] = field(default_factory=dict)

    @property
    def clients(self) -> KafkaClients:
        return KafkaClients(self.settings.kafka, self.settings.limits)

    async def make_topics(self, **configs: str) -> None:
        """Make the topics; `configs` are for the compacted ones, with `_` for `.`."""
        chosen = {name.replace("_", "."): value for name, value in configs.items()} | self.topic_configs
        async with self.clients.admin() as admin:
            if chosen:
                compacted = [spec for spec in topic_specs(self.settings) if spec.name in COMPACTED]
                await admin.create_topics([NewTopic(spec.name, spec.partitions, 1, topic_configs={**spec.config, **chosen}) for spec in compacted])
            await create_topics(admin, topic_specs(self.settings), None)

    async def delete_topics(self, *names: str) -> None:
        """Delete topics, and wait until they are gone."""
        async with self.clients.admin() as admin:
            await admin.delete_topics(list(names))
            async with asyncio.timeout(WAIT_S):
                while set(names) & set(await admin.list_topics()):
                    await asyncio.sleep(0.1)

    async def expire(self, topic: str, partition: int, before: int) -> None:
        """Let the log of a partition start at an offset, as retention does."""
        async with self.clients.admin() as admin:
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})

    async def write(self, *events: Record | Outgoing) -> None:
        """Publish events, one after the other."""
        names = {spec.name for spec in topic_specs(self.settings)}
        async with self.clients.producer(names) as producer:
            for event in events:
                await publish(producer, [event if isinstance(event, Outgoing) else outgoing(event)])

    async def read(self, *names: str) -> list[Any]:
        """The records that stand in topics."""
        async with standing(self.clients, *names) as snapshot:
            return [record async for record in snapshot]

    async def reports(self, job: str = JOB) -> list[JobReport]:
        """All reports of a job, oldest first."""
        records = [record for record in await self.read(topics.REPORTS) if record.key == job.encode() and record.value is not None]
        return [decode(JobReport, record.value) for record in records]

    @asynccontextmanager
    async def aggregator(self, settings: Settings | None = None) -> AsyncIterator[Any]:
        """Run an aggregator in this process."""
        settings = settings or self.settings
        async with assembled(settings, self.clients, ["aggregator"]) as assembly, assembly.app.running():
            yield assembly

    async def until_reported(self, condition: Callable[[JobReport], bool], job: str = JOB) -> JobReport:
        """Wait for a job's last report to be such."""
        last: Sequence[JobReport] = ()
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    last = await self.reports(job)
                    if last and condition(last[-1]):
                        return last[-1]
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"no such report; the last is {last[-1] if last else None}") from None

    async def until_stored(self, condition: Callable[[JobStore], bool]) -> None:
        """Wait for the store to be such."""
        async with asyncio.timeout(WAIT_S):
            while not await asyncio.to_thread(self._holds, condition):
                await asyncio.sleep(0.1)

    def _holds(self, condition: Callable[[JobStore], bool]) -> bool:
        try:
            with reading(self.settings.store) as store:
                return condition(store)
        except ExplainError:
            return False

    async def until_compacted(self, names: Sequence[str]) -> None:
        """Write what makes segments close, until compaction has left one record of each key."""
        async with asyncio.timeout(WAIT_S):
            while True:
                await self.roll(names)
                keys = [(record.topic, record.key) for record in await self.read(*names) if record.key != NOBODY]
                if len(keys) == len(set(keys)):
                    return

    async def roll(self, names: Iterable[str]) -> None:
        """Close the segments of topics: what is behind the last record can be compacted then."""
        wanted = {spec.name: spec.partitions for spec in topic_specs(self.settings)}
        await asyncio.sleep(0.3)  # a segment has to be `segment.ms` old before a record closes it; Kafka tells nobody when it is
        async with self.clients.producer(set(names)) as producer:
            for topic in names:
                for partition in range(wanted[topic]):
                    await producer.send_and_wait(topic, None, key=NOBODY, partition=partition)


async def settled(condition: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.05)
