"""Follows one job on its topics: outcomes as they come, and its reports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import JobReport
from mistudio_explain.events.topics import EXPLANATIONS, REPORTS
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.subscribers import partitions_of

_POLL_MS = 100

Followed = FeatureOutcome | JobReport


@asynccontextmanager
async def following(clients: KafkaClients, job: str) -> AsyncIterator[AsyncIterator[Followed]]:
    """Attach to a job: inside, iterate over the report that stands, then whatever comes from now on."""
    async with clients.consumer(**clients.fetching) as consumer:
        partitions = await partitions_of(consumer, (EXPLANATIONS, REPORTS))
        consumer.assign(partitions)
        begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, begin[tp] if tp.topic == REPORTS else end[tp])
        yield _events(consumer, job)


async def _events(consumer: AIOKafkaConsumer, job: str) -> AsyncIterator[Followed]:
    while True:
        batches: dict[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(timeout_ms=_POLL_MS)
        for tp, records in sorted(batches.items()):  # explanations before the reports that count them
            for record in records:
                if record.value is None:
                    continue
                if tp.topic == REPORTS and record.key == job.encode():
                    yield decode(JobReport, record.value)
                elif tp.topic == EXPLANATIONS and record.key.startswith(f"{job}|".encode()):
                    yield decode(FeatureOutcome, record.value)
