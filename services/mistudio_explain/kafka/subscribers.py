"""FastStream subscribers with this product's delivery: lanes, batches, and whole topics without a group.

All use of FastStream's internals lives here; a test fails on a FastStream version that nobody has looked at.
Common to all three: records reach the handler raw (FastStream's own parser decodes headers as UTF-8 and raises
before any handler runs), commits follow the work, and nothing is committed on an error.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ConsumerStoppedError, GroupAuthorizationFailedError, IllegalStateError, KafkaError
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream._internal.endpoint.subscriber.utils import MultiLock
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage
from faststream.kafka.schemas import Topic
from faststream.kafka.subscriber.config import KafkaSubscriberConfig, KafkaSubscriberSpecificationConfig
from faststream.kafka.subscriber.specification import KafkaSubscriberSpecification
from faststream.kafka.subscriber.usecase import BatchSubscriber, DefaultSubscriber

from mistudio_explain.kafka.committed import committed_offsets
from mistudio_explain.kafka.lanes import FairQueue
from mistudio_explain.kafka.offsets import PartitionOffsets, unpack

log = structlog.get_logger(__name__)

KNOWN_FASTSTREAM = "0.7.8"
COMMIT_INTERVAL_S = 0.5  # a commit costs 5-8 ms on Kafka 4.1: never one per record
_POLL_MS = 50
_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 5.0
_MAX_POLL_INTERVAL_MS = 300_000
_QUEUE_BYTES = 64 << 20

Turn = Callable[[], None]
"""Called at every turn of a consuming loop, so that liveness means that the loop turns."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a subscriber reads and how it shows itself: topics by name or by pattern, its group, its consumer's arguments."""

    topics: Sequence[str]
    group: str | None
    title: str
    arguments: Mapping[str, Any]
    turn: Turn
    grace: Callable[[], float]
    """Seconds that work in flight may take to finish at the end."""
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class InFlight:
    """Bounds of a lane subscriber: records in flight in all, of one lane, and taken but uncommitted of one partition."""

    records: int
    per_lane: int
    window: int


async def _raw_message(record: Any) -> KafkaMessage:
    return KafkaMessage(raw_message=record, body=b"", headers={}, consumer=cast("Any", None))


async def _raw_body(message: KafkaMessage) -> Any:
    return message.raw_message


_Parts = tuple[KafkaSubscriberConfig, KafkaSubscriberSpecification, CallsCollection[Any]]
"""What FastStream's subscribers are built from."""


class _Raw:
    """Hands records to the handler as aiokafka gives them."""

    def hand_over_raw(self) -> None:
        self._parser = _raw_message
        self._decoder = _raw_body


class GroupBatchSubscriber(_Raw, BatchSubscriber):
    """Reads batches of all its partitions; commits a batch after its handler has returned.

    A handler that raises (an outage, a bug) gets the same batch again after a pause, until it succeeds or the
    partitions are gone.
    """

    def __init__(self, subscription: Subscription, parts: _Parts, *, max_records: int) -> None:
        super().__init__(*parts, batch_timeout_ms=_POLL_MS, max_records=max_records)
        self.hand_over_raw()
        self._subscription = subscription
        self._uncommitted: dict[TopicPartition, int] = {}
        self._commit_due = 0.0

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        while self.running:
            self._subscription.turn()
            try:
                batch = await consumer.getmany(timeout_ms=_POLL_MS, max_records=self.max_records)
                if batch:
                    await self._until_done(consumer, batch)
                await self._commit_when_due(consumer)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                log.warning("consumer.error", subscriber=self._subscription.title, error=repr(error))
                await asyncio.sleep(_BACKOFF_S)
            except Exception as error:  # a record that aiokafka cannot even unpack: said again and again, never a silent hot loop
                log.exception("consumer.unreadable", subscriber=self._subscription.title, error=repr(error))
                await asyncio.sleep(_LONGEST_BACKOFF_S)

    async def _until_done(self, consumer: AIOKafkaConsumer, batch: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        pause = _BACKOFF_S
        while self.running:
            ours = {tp: records for tp, records in batch.items() if tp in consumer.assignment()}
            if not ours:
                return
            try:
                await self.process_message(tuple(record for records in ours.values() for record in records))
            except Exception as error:  # whatever it is, these records are not done with
                log.exception("batch.repeated", subscriber=self._subscription.title, records=sum(map(len, ours.values())), error=repr(error), pause_s=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_BACKOFF_S)
                self._subscription.turn()
            else:
                self._uncommitted |= {tp: records[-1].offset + 1 for tp, records in ours.items()}
                return

    async def _commit_when_due(self, consumer: AIOKafkaConsumer) -> None:
        if self._uncommitted and time.monotonic() >= self._commit_due:
            await self._commit(consumer)
            self._commit_due = time.monotonic() + COMMIT_INTERVAL_S

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        held = consumer.assignment()
        offsets = {tp: offset for tp, offset in self._uncommitted.items() if tp in held}
        if self.group_id is not None and offsets:
            await consumer.commit(offsets)
        self._uncommitted.clear()

    async def stop(self) -> None:
        """Finish the batch at hand, commit it, leave."""
        self.running = False
        if isinstance(self.lock, MultiLock):
            await self.lock.wait_release(self._subscription.grace())
        if self.consumer is not None:
            try:
                await self._commit(self.consumer)
            except (KafkaError, IllegalStateError) as error:
                log.warning("commit.failed", subscriber=self._subscription.title, error=repr(error))
        await super().stop()


Positions = Callable[[AIOKafkaConsumer, Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Says from which offset each partition is to be read; those left out are read from their beginning."""


class WholeTopicSubscriber(_Raw, BatchSubscriber):
    """Reads every partition of its topics, without a group, from positions that the reader keeps itself.

    `caught_up` is set once everything was read that stood in the topics when it started.
    """

    def __init__(self, subscription: Subscription, parts: _Parts, *, positions: Positions, max_records: int) -> None:
        super().__init__(*parts, batch_timeout_ms=_POLL_MS, max_records=max_records)
        self.hand_over_raw()
        self._subscription = subscription
        self._positions = positions
        self.caught_up = asyncio.Event()

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        goal = await self._attach(consumer)
        while self.running:
            self._subscription.turn()
            try:
                batch = await consumer.getmany(timeout_ms=_POLL_MS, max_records=self.max_records)
                if batch:
                    await self.process_message(tuple(record for records in batch.values() for record in records))
                if goal:
                    goal = {tp: end for tp, end in goal.items() if await consumer.position(tp) < end}
                if not goal:
                    self.caught_up.set()
            except ConsumerStoppedError:
                return
            except Exception as error:  # whatever it is, the reader's own positions are the truth to go on from
                log.exception("reader.attached_again", subscriber=self._subscription.title, error=repr(error))
                await asyncio.sleep(_BACKOFF_S)
                goal = await self._attach(consumer)

    async def _attach(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        """Seek to the reader's positions; returns the end that must be reached, by partition."""
        while True:
            self._subscription.turn()
            try:
                partitions = await partitions_of(consumer, self._subscription.topics)
                consumer.assign(partitions)
                begin = await consumer.beginning_offsets(partitions)
                end: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
                kept = await self._positions(consumer, partitions)
                for tp in partitions:
                    consumer.seek(tp, kept.get(tp, begin[tp]))
                return {tp: offset for tp, offset in end.items() if offset > kept.get(tp, begin[tp])}
            except KafkaError as error:
                log.warning("reader.attach", subscriber=self._subscription.title, error=repr(error))
                await asyncio.sleep(_BACKOFF_S)


async def partitions_of(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of topics, for a consumer that has no group; raises KafkaError when one does not exist."""
    await consumer._client.set_topics(topics)  # noqa: SLF001  (a consumer without subscription knows no topic)
    known = {topic: consumer.partitions_for_topic(topic) for topic in topics}
    if missing := [topic for topic, partitions in known.items() if not partitions]:
        raise KafkaError(f"topics {', '.join(missing)} do not exist; make them with `mistudio-explain topics create`")
    return [TopicPartition(topic, partition) for topic, partitions in known.items() for partition in sorted(partitions or ())]


OnFailure = Callable[[ConsumerRecord, Exception], Awaitable[None]]


class LaneSubscriber(_Raw, DefaultSubscriber):
    """Keeps many records in flight, fair between topics (lanes), and commits only the finished prefix.

    Three tasks: fetch (bounded by window, bytes and free places), dispatch, commit. A record whose handler raises
    goes to `on_failure`, which must leave it somewhere safe; only then it counts as finished.
    """

    def __init__(self, subscription: Subscription, parts: _Parts, *, bounds: InFlight, on_failure: OnFailure, admin: Callable[[], AIOKafkaAdminClient]) -> None:
        super().__init__(*parts)
        self.hand_over_raw()
        self._subscription = subscription
        self._bounds = bounds
        self._on_failure = on_failure
        self._admin = admin
        self._listener = _Rebalances(self)
        self._offsets: dict[TopicPartition, PartitionOffsets] = {}
        self._unresolved: set[TopicPartition] = set()
        self._queue: FairQueue[ConsumerRecord] = FairQueue(in_flight=bounds.records, per_lane=bounds.per_lane)
        self._running_tasks: dict[asyncio.Task[None], TopicPartition] = {}
        self._changed = asyncio.Event()

    @property
    def busy(self) -> int:
        """Records in flight now."""
        return self._queue.busy

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fetch(consumer))
            tasks.create_task(self._dispatch())
            tasks.create_task(self._commit_regularly(consumer))

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        last_poll = time.monotonic()
        while self.running:
            self._subscription.turn()
            try:
                if self._unresolved:
                    await self._resolve(consumer)
                room = self._room(consumer)
                most = self._bounds.records
                if not room and time.monotonic() - last_poll > _MAX_POLL_INTERVAL_MS / 3000:
                    room, most = [tp for tp in self._offsets if tp in consumer.assignment()], 1  # one record over the window keeps the membership
                if room:
                    last_poll = time.monotonic()
                    fetched = await consumer.getmany(*room, timeout_ms=_POLL_MS, max_records=most)
                    for tp, records in fetched.items():
                        self._take(tp, records, consumer)
                else:
                    await asyncio.sleep(_POLL_MS / 1000)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                log.warning("lanes.error", subscriber=self._subscription.title, error=repr(error))
                await asyncio.sleep(_BACKOFF_S)
            except Exception as error:  # see the batch loop
                log.exception("lanes.unreadable", subscriber=self._subscription.title, error=repr(error))
                await asyncio.sleep(_LONGEST_BACKOFF_S)

    def _room(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        if self._queue.queued_bytes >= _QUEUE_BYTES:
            return []
        held = consumer.assignment()
        if self.group_id is None:
            for tp in held - set(self._offsets):
                self._offsets[tp] = PartitionOffsets()
        return [tp for tp, offsets in self._offsets.items() if offsets.waiting < self._bounds.window and tp in held]

    def _take(self, tp: TopicPartition, records: Sequence[ConsumerRecord], consumer: AIOKafkaConsumer) -> None:
        offsets = self._offsets.get(tp)
        if offsets is None:
            return
        for record in records:
            end = consumer.highwater(tp)
            if offsets.position is not None and end is not None and end < offsets.position:
                log.error("lanes.recreated", topic=tp.topic, partition=tp.partition, position=offsets.position, end=end)
                self._lose({tp})
                offsets = self._offsets[tp] = PartitionOffsets()
            if offsets.take(record.offset):
                self._queue.offer(record.topic, record, len(record.value or b""))
        self._changed.set()

    async def _dispatch(self) -> None:
        while self.running:
            while (turn := self._queue.next()) is not None:
                lane, record = turn
                tp = TopicPartition(record.topic, record.partition)
                task = asyncio.create_task(self._one(record, tp))
                self._running_tasks[task] = tp
                task.add_done_callback(partial(self._ended, lane))
            self._changed.clear()
            await self._changed.wait()

    async def _one(self, record: ConsumerRecord, tp: TopicPartition) -> None:
        offsets = self._offsets.get(tp)
        if offsets is None:
            return
        try:
            await self.process_message(record)
        except Exception as error:  # noqa: BLE001  (any failure of one record is that record's own)
            await self._leave_safely(record, error)
        if self._offsets.get(tp) is offsets:  # not after the partition was lost and came back
            offsets.finish(record.offset)

    async def _leave_safely(self, record: ConsumerRecord, error: Exception) -> None:
        """Hand a failed record to `on_failure` until that succeeds; else its offset would hold the partition for ever."""
        while True:
            try:
                await self._on_failure(record, error)
            except Exception as second:
                log.exception("lanes.not_given_up", subscriber=self._subscription.title, error=repr(second))
                await asyncio.sleep(_LONGEST_BACKOFF_S)
            else:
                return

    def _ended(self, lane: str, task: asyncio.Task[None]) -> None:
        del self._running_tasks[task]
        self._queue.done(lane)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lanes.unfinished", subscriber=self._subscription.title, error=repr(error))

    async def _commit_regularly(self, consumer: AIOKafkaConsumer) -> None:
        while self.running:
            await asyncio.sleep(COMMIT_INTERVAL_S)
            await self.commit(consumer)

    async def commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what changed; a refused commit is tried again with the next one."""
        if self.group_id is None:
            return
        due = {tp: point for tp, offsets in self._offsets.items() if tp not in self._unresolved and (point := offsets.commit_point()) is not None}
        if not due:
            return
        try:
            await consumer.commit({tp: (point.offset, point.metadata) for tp, point in due.items()})
        except (KafkaError, IllegalStateError) as error:
            log.warning("commit.failed", subscriber=self._subscription.title, error=repr(error))
            return
        for tp, point in due.items():
            if (offsets := self._offsets.get(tp)) is not None:
                offsets.committed(point)

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """Keep the state of partitions that stay, drop the lost ones, note those whose offsets must be looked up."""
        self._lose(set(self._offsets) - partitions)
        self._unresolved = (self._unresolved | (partitions - set(self._offsets))) & partitions

    def _lose(self, partitions: set[TopicPartition]) -> None:
        for tp in partitions:
            del self._offsets[tp]
        self._queue.discard(lambda record: TopicPartition(record.topic, record.partition) in partitions)
        for task, tp in self._running_tasks.items():
            if tp in partitions:
                task.cancel()

    async def _resolve(self, consumer: AIOKafkaConsumer) -> None:
        """Look up where newly assigned partitions stand; until that is known for certain they are not read."""
        fresh = set(self._unresolved)
        if self.group_id is None:
            stored: dict[TopicPartition, tuple[int, str]] = {}
        else:
            try:
                stored = await committed_offsets(self._admin(), self.group_id, fresh)
            except GroupAuthorizationFailedError:
                log.error("lanes.forbidden", group=self.group_id, what="the group's offsets may not be read: grant READ on the group")
                raise
        begin, end = await consumer.beginning_offsets(list(fresh)), await consumer.end_offsets(list(fresh))
        for tp in fresh & self._unresolved:
            offset, metadata = stored.get(tp, (begin[tp], ""))
            if offset > end[tp]:
                log.error("lanes.beyond_end", topic=tp.topic, partition=tp.partition, committed=offset, end=end[tp])
                offset, metadata = begin[tp], ""  # the topic was deleted and made again: everything in it is unread
            elif offset < begin[tp]:
                log.error("lanes.expired_unread", topic=tp.topic, partition=tp.partition, records=begin[tp] - offset)
            self._offsets[tp] = PartitionOffsets(offset, unpack(offset, metadata))
        self._unresolved -= fresh

    async def stop(self) -> None:
        """Take no more, let what is in flight finish within the grace period, commit, leave."""
        self.running = False
        self._changed.set()
        if self._running_tasks:
            await asyncio.wait(list(self._running_tasks), timeout=self._subscription.grace())
        for task in (cut_off := list(self._running_tasks)):
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)
        if self.consumer is not None:
            await self.commit(self.consumer)
        await super().stop()


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Tells a lane subscriber of rebalances; quick, because heartbeats stop while it runs."""

    def __init__(self, lanes: LaneSubscriber) -> None:
        self._lanes = lanes

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        if self._lanes.consumer is not None:
            await self._lanes.commit(self._lanes.consumer)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._lanes.assigned(set(assigned))


Handler = Callable[[Any], Awaitable[None]]


def read_batches(broker: KafkaBroker, subscription: Subscription, handler: Handler, *, max_records: int) -> None:
    """Register a handler for batches of records of a group."""
    _register(broker, GroupBatchSubscriber(subscription, _parts(broker, subscription), max_records=max_records), handler)


def read_whole(broker: KafkaBroker, subscription: Subscription, handler: Handler, *, positions: Positions, max_records: int) -> WholeTopicSubscriber:
    """Register a handler for all records of whole topics, without a group."""
    subscriber = WholeTopicSubscriber(subscription, _parts(broker, subscription, topics=()), positions=positions, max_records=max_records)
    _register(broker, subscriber, handler)
    return subscriber


def read_lanes(
    broker: KafkaBroker, subscription: Subscription, handler: Handler, *, bounds: InFlight, on_failure: OnFailure, admin: Callable[[], AIOKafkaAdminClient]
) -> LaneSubscriber:
    """Register a handler for single records of many lanes, many in flight."""
    subscriber = LaneSubscriber(subscription, _parts(broker, subscription), bounds=bounds, on_failure=on_failure, admin=admin)
    _register(broker, subscriber, handler)
    return subscriber


def _register(broker: KafkaBroker, subscriber: Any, handler: Handler) -> None:
    Registrator.subscriber(broker, subscriber, persistent=True)
    subscriber.add_call(parser_=None, decoder_=None, dependencies_=(), codec_=None)
    subscriber(handler)


def _parts(broker: KafkaBroker, subscription: Subscription, *, topics: Sequence[str] | None = None) -> _Parts:
    declared = [Topic(name, declare=False) for name in (subscription.topics if topics is None else topics)]
    calls: CallsCollection[Any] = CallsCollection()
    config = KafkaSubscriberConfig(
        topics=declared,
        pattern=subscription.pattern,
        group_id=subscription.group,
        connection_args={"max_poll_interval_ms": _MAX_POLL_INTERVAL_MS, **subscription.arguments},
        _outer_config=broker.config,  # type: ignore[arg-type]  # FastStream's own factories pass the same
        _ack_policy=AckPolicy.MANUAL,
    )
    specification = KafkaSubscriberSpecification(
        _outer_config=broker.config,  # type: ignore[arg-type]
        calls=calls,
        specification_config=KafkaSubscriberSpecificationConfig(
            topics=declared, partitions=(), pattern=subscription.pattern, title_=subscription.title, description_=None, include_in_schema=True
        ),
    )
    return config, specification, calls


async def start_concurrently(broker: KafkaBroker) -> None:
    """Start all subscribers of a broker at once; FastStream's own start joins one group after another, a session each."""
    await broker.connect()
    async with asyncio.TaskGroup() as tasks:
        for subscriber in broker.subscribers:
            tasks.create_task(subscriber.start())
    broker.running = True
