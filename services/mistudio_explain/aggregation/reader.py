"""Keeps the store a mirror of its topics: who may read, from where, and what to do when the topics are not what they were."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from mistudio_explain.aggregation.mirror import Place, judge
from mistudio_explain.aggregation.traces import JobTraces
from mistudio_explain.errors import MalformedEvent, Unreachable
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, is_of_unknown_schema
from mistudio_explain.events.explanation import FeatureOutcome, FeatureReviewed
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import Admission, JobEvent
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.standing import say_expired
from mistudio_explain.kafka.subscribers import WholeTopicSubscriber
from mistudio_explain.kafka.topic_ids import topic_ids
from mistudio_explain.observability import tracing
from mistudio_explain.store.database import Elsewhere, StoreLost
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.jobs import Change
from mistudio_explain.store.rows import Counted, Foreign
from mistudio_explain.store.seat import Seat

log = structlog.get_logger(__name__)

SERVICE = "aggregator"
EVENTS: dict[str, type[FeatureOutcome | Admission | JobEvent | FeatureReviewed]] = {
    topics.EXPLANATIONS: FeatureOutcome,
    topics.ADMISSIONS: Admission,
    topics.JOBS: JobEvent,
    topics.REVIEWS: FeatureReviewed,
}


class MirrorReader:
    """Reads the aggregator's topics into the store, in the one process that has the seat."""

    def __init__(self, app: StreamApp, seat: Seat) -> None:
        self._app = app
        self._seat = seat
        self._ids: dict[str, tuple[str, str]] = {}
        self._compared = 0.0
        self._is_mirror = False
        self._left: dict[Place, int] = {}
        """While the store is built beside: the partitions that were not read to the end that stood when it was begun."""
        self._said = ""
        self.traces = JobTraces()
        self._unknown: deque[float] = deque()
        """When records of unknown schemas were met, within the window of dead letters."""
        self._waits_for_update = False
        self.out_of_reach: str | None = None
        """Why the store cannot be written now, though no other aggregator writes it, or must not; None when it can."""
        app.unready_while(lambda: self.out_of_reach)

        @app.whole(*EVENTS, service=SERVICE, positions=self._positions, stepped_over=self._cover)
        async def aggregate(records: Sequence[ConsumerRecord]) -> None:
            with tracing.batch(records, service=SERVICE):
                await self._apply(records)
            self.traces.note(records)

        self._subscriber: WholeTopicSubscriber = aggregate

    def lost(self, error: StoreLost) -> None:
        """Take note that the seat is lost: reading begins again once this process has it again."""
        log.error("seat.lost", why=str(error))
        self._seat.leave()
        self._subscriber.attach_again()

    async def is_same_log(self, within_s: float) -> bool:
        """Whether the topics are still those that the store was read from; compared at most every `within_s` seconds.

        A topic that was made again makes the reader begin again. Raises KafkaError when a topic is gone.
        """
        if self._is_mirror and not self._app.clients.is_embedded and time.monotonic() - self._compared >= within_s:
            self._is_mirror = await self._topic_ids() == self._ids
            if not self._is_mirror:
                self._subscriber.attach_again()
        return self._is_mirror

    async def _positions(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int] | None:
        """Where to read on; None while this process does not have the seat, or is too old for what stands in the topics."""
        if self._waits_for_update:
            return None
        try:
            store = await asyncio.to_thread(self._seat.take)
            start = await self._start(store, consumer, partitions)
        except (Elsewhere, Unreachable) as error:
            self.out_of_reach = str(error) if isinstance(error, Unreachable) else None
            if self._said != str(error):
                (log.info if self.out_of_reach is None else log.error)("seat.waiting", why=str(error))
            self._said = str(error)
            return None
        except StoreLost as error:
            self.lost(error)
            return None
        self._said, self.out_of_reach = "", None
        return start

    async def _start(self, store: JobStore, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        ids = {} if self._app.clients.is_embedded else await self._topic_ids()
        first, last = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        begin: dict[Place, int] = {(tp.topic, tp.partition): offset for tp, offset in first.items()}
        end: dict[Place, int] = {(tp.topic, tp.partition): offset for tp, offset in last.items()}
        stored = {(topic, part): offset for topic in EVENTS for part, offset in (await asyncio.to_thread(store.positions, topic)).items()}
        judgement = judge(stored, await asyncio.to_thread(store.topics), ids, begin, end)
        start = judgement.start
        if judgement.broken is not None:
            log.error("store.built_anew", why=judgement.broken)
            store = await asyncio.to_thread(self._seat.begin_anew)
            start = begin
        elif judgement.is_blank and not self._seat.is_building:
            log.info("store.built", why="nothing was read into it yet")
            store = await asyncio.to_thread(self._seat.begin_anew)
        else:
            await self._say_expired(store, judgement.expired)
        await asyncio.to_thread(store.note_topics, ids)
        self._ids = ids
        self._left = {place: end[place] for place in begin if start[place] < end[place]} if self._seat.is_building else {}
        self._is_mirror = True
        await self._finish_when_read()
        return {TopicPartition(*place): offset for place, offset in start.items()}

    async def _say_expired(self, store: JobStore, expired: Mapping[Place, int]) -> None:
        for place, records in expired.items():
            say_expired(TopicPartition(*place), records, service=SERVICE)
        if expired:
            listed = ", ".join(f"{records} of {topic}/{partition}" for (topic, partition), records in sorted(expired.items()))
            said = f"Records expired before the aggregator had read them ({listed}): features of this job may be among them."
            await asyncio.to_thread(store.note_on_running_jobs, said)

    async def _topic_ids(self) -> dict[str, tuple[str, str]]:
        found = await topic_ids(self._app.admin._client, EVENTS)  # noqa: SLF001  (the admin client has no call for it)
        self._compared = time.monotonic()
        return {topic: (each.cluster, each.topic) for topic, each in found.items()}

    async def _apply(self, records: Sequence[ConsumerRecord]) -> None:
        store = self._seat.store
        if store is None:
            self._subscriber.attach_again()
            return
        if self._are_of_a_newer_release(records):
            self._waits_for_update = True
            self._seat.leave()
            self._subscriber.attach_again()
            return
        foreign: list[Change] = []

        def read(record: ConsumerRecord) -> Change:
            try:
                return _change(record)
            except MalformedEvent:
                foreign.append(_foreign(record))
                raise

        changes = await self._app.readable([record for record in records if _is_ours(record)], read, service=SERVICE)
        await self._write(store, [*changes, *foreign], records)

    def _are_of_a_newer_release(self, records: Sequence[ConsumerRecord]) -> bool:
        """Whether too many records are of schemas that this version does not know: a newer release writes, after a downgrade or a wrong order of upgrades.

        One such record is a fault of its own, and becomes a dead letter. A flood of them must not: what this version would
        write in their place is what compaction keeps.
        """
        settings, now = self._app.settings.retry, time.monotonic()
        self._unknown.extend(now for record in records if is_of_unknown_schema(record.value))
        while self._unknown and self._unknown[0] < now - settings.window_s:
            self._unknown.popleft()
        if len(self._unknown) <= settings.dead_letters:
            return False
        self.out_of_reach = (
            f"a newer release writes the topics: {len(self._unknown)} records within {settings.window_s:.0f} s are of schemas that this version does not know, "
            f"the last of them in {', '.join(sorted({record.topic for record in records if is_of_unknown_schema(record.value)}))}; "
            "nothing of them is lost, and nothing more is read: update the aggregator, or give it that release's schemas (docs/upgrades.md)"
        )
        log.error("aggregator.too_old", why=self.out_of_reach)
        return True

    async def _cover(self, record: ConsumerRecord) -> None:
        """Take note of a record that could not even be handed over: what stood under its key is written again."""
        if (store := self._seat.store) is not None:
            await self._write(store, [] if record.topic == topics.ADMISSIONS else [_foreign(record)], [record])

    async def _write(self, store: JobStore, changes: Sequence[Change], read: Sequence[ConsumerRecord]) -> None:
        """Write what records changed, and that they were read."""
        ends = {(record.topic, record.partition): record.offset + 1 for record in read}
        try:
            await asyncio.to_thread(store.apply, changes, ends)
            self._left = {place: end for place, end in self._left.items() if ends.get(place, 0) < end}
            await self._finish_when_read()
        except StoreLost as error:
            self.lost(error)

    async def _finish_when_read(self) -> None:
        if self._seat.is_building and not self._left:
            await asyncio.to_thread(self._seat.finish)


def _is_ours(record: ConsumerRecord) -> bool:
    """A tombstone takes back an outcome, a job's part or a review; admissions are not taken back."""
    return record.value is not None or record.topic != topics.ADMISSIONS


def _change(record: ConsumerRecord) -> Change:
    """What a record changes. Raises MalformedEvent for one that cannot be read or stands under the key of something else."""
    key = _key(record)
    event = None if record.value is None else decode(EVENTS[record.topic], record.value)
    if isinstance(event, FeatureOutcome):
        _must_stand_under(outcome_key(event.subject.explain_job_id, event.subject.feature_key), record)
        return Change(Counted.of(event, record.value), record.value, key, record.timestamp)  # not to hold whole batches of outcomes
    if isinstance(event, JobEvent):
        _must_stand_under(event.key, record)
    if isinstance(event, FeatureReviewed):
        _must_stand_under(outcome_key(event.explain_job_id, event.feature_key), record)
    return Change(event=event, body=record.value, key=key, timestamp_ms=record.timestamp, topic=record.topic)


def _foreign(record: ConsumerRecord) -> Change:
    return Change(event=Foreign(), body=None, key=_key(record), timestamp_ms=record.timestamp, topic=record.topic)


def _must_stand_under(own: str, record: ConsumerRecord) -> None:
    if record.key != own.encode():
        raise MalformedEvent(f"a record of {own} stands under the key {_key(record)}: in a compacted topic it would take the place of what belongs there")


def _key(record: ConsumerRecord) -> str:
    return (record.key or b"").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
