"""The subscriber that keeps many records of many lanes in flight and commits only the finished prefix of each partition."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import DefaultSubscriber

from mistudio_explain.errors import told
from mistudio_explain.kafka.lanes import FairQueue
from mistudio_explain.kafka.offsets import PartitionOffsets
from mistudio_explain.kafka.standing import expired_between, standings
from mistudio_explain.kafka.subscribers import (
    BACKOFF_S,
    COMMIT_INTERVAL_S,
    IDLE_POLL_MS,
    LONGEST_BACKOFF_S,
    POLL_MS,
    Handler,
    Parts,
    Raw,
    Subscription,
    commit_soon,
    parts_of,
    register,
)
from mistudio_explain.kafka.unreadable import TolerantFetch

log = structlog.get_logger(__name__)

_QUEUE_BYTES = 64 << 20
_WINDOW = 4  # places ahead in each partition

Places = Callable[[], int]
OnFailure = Callable[[ConsumerRecord, Exception], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class InFlight:
    """What a lane subscriber may have in hand."""

    records: Places
    """Records in flight of all lanes but the express lane, now; a lane that has none in flight has one place on top."""
    queued_bytes: int = _QUEUE_BYTES
    """Bytes of records that wait in this process; beyond them only the express lane is fetched from."""
    express: str | None = None
    """The topic that goes first."""
    express_records: Places = lambda: 0
    """Records of the express lane in flight while other lanes have work, now; they come on top of `records`."""

    @property
    def window(self) -> int:
        """Records of one partition that are taken and not committed yet."""
        return _WINDOW * self.records()


def read_lanes(broker: KafkaBroker, subscription: Subscription, handler: Handler, *, bounds: InFlight, on_failure: OnFailure) -> "LaneSubscriber":
    """Register a handler for single records of many lanes, many in flight."""
    subscriber = LaneSubscriber(subscription, parts_of(broker, subscription), bounds=bounds, on_failure=on_failure)
    register(broker, subscriber, handler)
    return subscriber


class LaneSubscriber(Raw, DefaultSubscriber):
    """Keeps many records in flight, fair between topics (lanes) and their partitions, and commits only the finished prefix.

    Three tasks: fetch (bounded by window, bytes and free places), dispatch, commit. A record whose handler raises
    goes to `on_failure`, which must leave it somewhere safe; only then it counts as finished.
    """

    def __init__(self, subscription: Subscription, parts: Parts, *, bounds: InFlight, on_failure: OnFailure) -> None:
        super().__init__(*parts)
        self.hand_over_raw()
        self._subscription = subscription
        self._bounds = bounds
        self._on_failure = on_failure
        self._listener = _Rebalances(self)
        self._getmany = TolerantFetch()
        self._offsets: dict[TopicPartition, PartitionOffsets] = {}
        self._unresolved: set[TopicPartition] = set()
        self._queue: FairQueue[ConsumerRecord] = FairQueue(in_flight=0, express=bounds.express)
        self._running_tasks: dict[asyncio.Task[None], TopicPartition] = {}
        self._changed = asyncio.Event()

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fetch(consumer))
            tasks.create_task(self._dispatch())
            tasks.create_task(self._commit_regularly(consumer))

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        last_poll = time.monotonic()
        while self.running:
            self._subscription.turn()
            self._changed.set()  # there may be more places than a moment ago
            try:
                self._leave_paused(consumer)
                if self._unresolved:
                    await self._resolve(consumer)
                room, most = self._room(consumer) if self._subscription.is_open() else [], self._bounds.records()
                if not room and time.monotonic() - last_poll > self._subscription.max_poll_interval_s / 3:
                    room, most = sorted(self._offsets.keys() & consumer.assignment()), 1  # one record over the window keeps the membership
                if room or not consumer.assignment():  # without any partition it only polls
                    last_poll = time.monotonic()
                    is_idle = room and not self._running_tasks and not self._queue.queued_bytes
                    fetched, unreadable = await self._getmany(consumer, room, timeout_ms=IDLE_POLL_MS if is_idle else POLL_MS, max_records=most)
                    gaps = {tp: gap for tp, records in fetched.items() if (gap := self._take(tp, records, consumer)) is not None}
                    for record in unreadable:
                        await self._step_over(record)
                    if gaps:
                        await expired_between(consumer, gaps, service=self._subscription.title)
                else:
                    await asyncio.sleep(POLL_MS / 1000)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                log.warning("lanes.error", subscriber=self._subscription.title, error=told(error))
                await asyncio.sleep(BACKOFF_S)
            except Exception as error:  # said again and again, never a silent hot loop
                log.exception("lanes.failed", subscriber=self._subscription.title, error=told(error))
                await asyncio.sleep(LONGEST_BACKOFF_S)

    def _room(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """Partitions that may be fetched from; the express lane's whatever the others have queued."""
        held = consumer.assignment()
        if self.group_id is None:
            for tp in held - set(self._offsets):
                self._offsets[tp] = PartitionOffsets()
        is_full = self._queue.queued_bytes >= self._bounds.queued_bytes
        window = self._bounds.window
        return [tp for tp, offsets in self._offsets.items() if tp in held and offsets.waiting < window and (not is_full or tp.topic == self._bounds.express)]

    def _take(self, tp: TopicPartition, records: Sequence[ConsumerRecord], consumer: AIOKafkaConsumer) -> tuple[int, int] | None:
        """Queue what is new; returns the gap before the first record, if there is one."""
        offsets = self._offsets.get(tp)
        if offsets is None:
            return None
        end = consumer.highwater(tp)
        if offsets.position is not None and end is not None and end < offsets.position:
            log.error("lanes.recreated", topic=tp.topic, partition=tp.partition, position=offsets.position, end=end)
            self._lose({tp})
            offsets = self._offsets[tp] = PartitionOffsets()
        expected, came = offsets.expected, records[0].offset
        for record in records:
            if offsets.take(record.offset):
                self._queue.offer(tp.topic, tp.partition, record, len(record.value or b""))
        self._changed.set()
        return (expected, came) if expected is not None and came > expected else None

    async def _step_over(self, record: ConsumerRecord) -> None:
        """Leave a record that cannot be unpacked somewhere safe, and count it as finished."""
        await self._subscription.on_unreadable(record)
        offsets = self._offsets.get(TopicPartition(record.topic, record.partition))
        if offsets is not None and offsets.take(record.offset):
            offsets.finish(record.offset)

    async def _dispatch(self) -> None:
        while self.running:
            while (turn := self._next()) is not None:
                lane, record = turn
                tp = TopicPartition(record.topic, record.partition)
                task = asyncio.create_task(self._one(record, tp))
                self._running_tasks[task] = tp
                task.add_done_callback(partial(self._ended, lane))
            self._changed.clear()
            await self._changed.wait()

    def _next(self) -> tuple[str, ConsumerRecord] | None:
        self._queue.in_flight, self._queue.express_in_flight = self._bounds.records(), self._bounds.express_records()
        return self._queue.next()

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
                where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                log.exception("lanes.not_given_up", subscriber=self._subscription.title, error=told(second), **where)
                await asyncio.sleep(LONGEST_BACKOFF_S)
            else:
                return

    def _ended(self, lane: str, task: asyncio.Task[None]) -> None:
        del self._running_tasks[task]
        self._queue.done(lane)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lanes.unfinished", subscriber=self._subscription.title, topic=lane, error=told(error))

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
            await commit_soon(consumer, {tp: (point.offset, point.metadata) for tp, point in due.items()})
        except (KafkaError, IllegalStateError) as error:
            log.warning("commit.failed", subscriber=self._subscription.title, error=told(error))
            return
        for tp, point in due.items():
            if (offsets := self._offsets.get(tp)) is not None:
                offsets.committed(point)

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """Keep the state of partitions that stay, drop the lost ones, note those whose offsets must be looked up."""
        self._lose(set(self._offsets) - partitions)
        self._unresolved = (self._unresolved | (partitions - set(self._offsets))) & partitions

    def _leave_paused(self, consumer: AIOKafkaConsumer) -> None:
        """Drop what is in hand of partitions that were paused for too many dead letters; look the others up again."""
        paused = {tp for tp in consumer.assignment() if self._subscription.is_paused(tp)}
        self._lose(paused & set(self._offsets))
        self._unresolved -= paused
        if self.group_id is not None:
            self._unresolved |= consumer.assignment() - paused - set(self._offsets)

    def _lose(self, partitions: set[TopicPartition]) -> None:
        if not partitions:
            return
        for tp in partitions:
            del self._offsets[tp]
            self._queue.discard(tp.topic, tp.partition)
        for task, tp in self._running_tasks.items():
            if tp in partitions:
                task.cancel()

    async def _resolve(self, consumer: AIOKafkaConsumer) -> None:
        """Look up where newly assigned partitions stand; until that is known for certain they are not read.

        aiokafka swallows what a rebalance listener raises, so this is no listener's work.
        """
        fresh = set(self._unresolved)
        found = await standings(consumer, self._subscription.admin(), self.group_id, fresh, service=self._subscription.title)
        for tp in fresh & self._unresolved & consumer.assignment():
            self._offsets[tp] = PartitionOffsets(found[tp].offset, found[tp].finished)
            consumer.seek(tp, found[tp].offset)
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
