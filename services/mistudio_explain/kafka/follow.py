"""Follows one job on its topics: outcomes as they come, and its reports; or one request, whose answer comes in pieces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome, TokenChunk
from mistudio_explain.events.job import JobReport
from mistudio_explain.events.topics import EXPLANATIONS, REPORTS, TOKENS
from mistudio_explain.events.winner import Rank, rank
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.unreadable import TolerantFetch

log = structlog.get_logger(__name__)

_POLL_MS = 100


class FollowedOutcome(NamedTuple):
    """An outcome and its place among those of the same feature; the greatest counts."""

    outcome: FeatureOutcome
    rank: Rank


Followed = FollowedOutcome | JobReport


@asynccontextmanager
async def following(clients: KafkaClients, job: str, *, revision: int = 0) -> AsyncIterator[AsyncIterator[Followed]]:
    """Attach to a job: inside, iterate over the report that stands, then whatever comes from now on.

    Reports of revisions before `revision` are passed over: they tell how the job was before it was reopened.
    """
    async with clients.consumer(**clients.fetching) as consumer:
        partitions = await partitions_of(consumer, (EXPLANATIONS, REPORTS))
        consumer.assign(partitions)
        begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, begin[tp] if tp.topic == REPORTS else end[tp])
        yield _events(consumer, job, revision)


@asynccontextmanager
async def answering(clients: KafkaClients, event_id: str, job: str) -> AsyncIterator[AsyncIterator[TokenChunk | FeatureOutcome]]:
    """Attach to a request that is sent inside: iterate over the pieces of its answer and the outcomes of its job, each as they come."""
    async with clients.consumer(**clients.fetching) as consumer:
        partitions = await partitions_of(consumer, (TOKENS, EXPLANATIONS))
        consumer.assign(partitions)
        end = await consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, end[tp])
        yield _answer(consumer, event_id, job)


async def _answer(consumer: AIOKafkaConsumer, event_id: str, job: str) -> AsyncIterator[TokenChunk | FeatureOutcome]:
    fetch = TolerantFetch()
    while True:
        batches = await fetch.readable(consumer, timeout_ms=_POLL_MS)
        # an outcome may be fetched together with the pieces before it
        for record in (record for tp in sorted(batches, key=lambda tp: tp.topic != TOKENS) for record in batches[tp]):
            try:
                if record.topic == TOKENS and record.key == event_id.encode():
                    yield decode(TokenChunk, record.value)
                elif record.value is not None and record.topic == EXPLANATIONS and (record.key or b"").startswith(f"{job}|".encode()):
                    yield decode(FeatureOutcome, record.value)
            except MalformedEvent as error:
                log.warning("follow.unreadable", topic=record.topic, partition=record.partition, offset=record.offset, error=str(error))


async def _events(consumer: AIOKafkaConsumer, job: str, revision: int) -> AsyncIterator[Followed]:
    held: JobReport | None = None
    fetch = TolerantFetch()
    while True:
        batches = await fetch.readable(consumer, timeout_ms=_POLL_MS)
        for record in (record for records in batches.values() for record in records):
            try:
                if record.value is not None and record.topic == EXPLANATIONS and (record.key or b"").startswith(f"{job}|".encode()):
                    outcome = decode(FeatureOutcome, record.value)
                    yield FollowedOutcome(outcome, rank(outcome, sha256(record.value).hexdigest()))
                elif record.value is not None and record.topic == REPORTS and record.key == job.encode():
                    report = decode(JobReport, record.value)
                    held = report if report.revision >= revision else held
            except MalformedEvent as error:
                log.warning("follow.unreadable", topic=record.topic, partition=record.partition, offset=record.offset, error=str(error))
        if held is not None and await _has_read(consumer, held):
            yield held
            held = None


async def _has_read(consumer: AIOKafkaConsumer, report: JobReport) -> bool:
    """Whether every explanation that a report counts was read before it."""
    return all([await consumer.position(TopicPartition(EXPLANATIONS, int(partition))) >= offset for partition, offset in report.as_of.items()])
