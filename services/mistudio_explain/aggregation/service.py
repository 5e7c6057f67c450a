"""The aggregator: explanations, admissions and job events in; rows, job reports and files out."""

import asyncio
import math
import time
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.errors import ExplainError
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import Admission, JobEvent, JobStatus
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.store.jobs import Change, JobStore

log = structlog.get_logger(__name__)

_TICK_S = 0.1
"""How often ended jobs are looked for; jobs that still run are reported at most every `reports.interval_s`."""

_RETRY_S = 10.0

_Aggregated = FeatureOutcome | Admission | JobEvent

_EVENTS: dict[str, type[_Aggregated]] = {
    topics.EXPLANATIONS: FeatureOutcome,
    topics.ADMISSIONS: Admission,
    topics.JOBS: JobEvent,
}


def register(app: StreamApp, store: JobStore, reports: JobReports) -> None:
    """Read the three topics from where the store stands, and report every job that changed, at most every interval."""

    async def positions(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        stored = {TopicPartition(topic, part): offset for topic in _EVENTS for part, offset in store.positions(topic).items()}
        begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for tp in partitions:
            if tp in stored and not begin[tp] <= stored[tp] <= end[tp]:
                log.error("aggregation.offset_outside_log", topic=tp.topic, partition=tp.partition, stored=stored[tp], begin=begin[tp], end=end[tp])
                del stored[tp]  # the topic was recreated or cut: it is read anew, and what is known already changes nothing
        return stored

    @app.whole(*_EVENTS, service="aggregator", positions=positions)
    async def aggregate(records: Sequence[ConsumerRecord]) -> None:
        changes = await app.readable([record for record in records if _is_ours(record)], _change, service="aggregator")
        ends = {(record.topic, record.partition): record.offset + 1 for record in records}
        store.apply(changes, ends)

    not_before: dict[tuple[str, JobStatus], float] = {}  # when a job may be reported again with the same status

    async def report_regularly() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            if rewrites := store.outbox():
                await app.publish(Outgoing(each.topic, each.key, each.body, timestamp_ms=each.at_ms) for each in rewrites)
                store.sent(rewrites)
            for job, dirty, last in store.due():
                try:
                    await report_on(job, dirty, last)
                except (OSError, ExplainError) as error:  # one job's disk or text must not silence the others
                    log.error("report.failed", job=job, error=repr(error), again_in_s=_RETRY_S)
                    for status in JobStatus:
                        not_before[job, status] = time.monotonic() + _RETRY_S

    async def report_on(job: str, dirty: int, last: str | None) -> None:
        report = reports.numbers(job, now_ms=app.now_ms())
        if report is None or (dirty == 0 and report.status.value == last):
            return
        if time.monotonic() < not_before.get((job, report.status), -math.inf):
            return
        if report.status is JobStatus.RUNNING:
            not_before[job, report.status] = time.monotonic() + app.settings.reports.interval_s
        else:
            report = await asyncio.to_thread(reports.with_files, report)
        await app.publish([outgoing(report)])
        store.reported(job, dirty, report.status.value)

    app.task("job reports", report_regularly)


def _is_ours(record: ConsumerRecord) -> bool:
    """A tombstone takes back an outcome; on the other topics it only ends what compaction keeps."""
    return record.value is not None or record.topic == topics.EXPLANATIONS


def _change(record: ConsumerRecord) -> Change:
    key = (record.key or b"").decode("utf-8", "replace")
    event = None if record.value is None else decode(_EVENTS[record.topic], record.value)
    return Change(event=event, body=record.value, key=key, timestamp_ms=record.timestamp)
