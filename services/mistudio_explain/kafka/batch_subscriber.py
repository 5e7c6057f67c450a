"""The subscriber that reads batches of a group and commits them after their handler has returned."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from mistudio_explain.errors import told
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
    work_done,
)
from mistudio_explain.kafka.unreadable import TolerantFetch

log = structlog.get_logger(__name__)

Wait = Callable[[ConsumerRecord], float]
"""Seconds until a record may be handled; 0 or less: now. The records behind it in its partition wait with it."""

_PAUSED_LOOK_S = 1.0


def read_batches(broker: KafkaBroker, subscription: Subscription, handler: Handler, *, max_records: int, wait: Wait) -> None:
    """Register a handler for batches of records of a group."""
    register(broker, GroupBatchSubscriber(subscription, parts_of(broker, subscription), max_records=max_records, wait=wait), handler)


class GroupBatchSubscriber(Raw, BatchSubscriber):
    """Reads batches of all its partitions; commits a batch after its handler has returned.

    A partition whose next record must wait is held: paused at that record, while the others go on and the membership is
    kept, however long it takes. A handler that raises (an outage, a bug) holds the whole batch for a moment and gets it
    again, until it succeeds.
    """

    def __init__(self, subscription: Subscription, parts: Parts, *, max_records: int, wait: Wait) -> None:
        super().__init__(*parts, batch_timeout_ms=POLL_MS, max_records=max_records)
        self.hand_over_raw()
        self._subscription = subscription
        self._wait = wait
        self._fetch = TolerantFetch()
        self._most = max_records
        self._met: set[TopicPartition] = set()
        self._expected: dict[TopicPartition, int] = {}
        self._held: dict[TopicPartition, float] = {}
        self._uncommitted: dict[TopicPartition, int] = {}
        self._failures = 0
        self._commit_due = 0.0

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        while self.running:
            self._subscription.turn()
            try:
                await self._meet(consumer)
                self._keep_holding(consumer)
                if self._subscription.is_open():
                    await self._take(consumer)
                else:
                    await asyncio.sleep(POLL_MS / 1000)
                await self._commit_when_due(consumer)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                log.warning("consumer.error", subscriber=self._subscription.title, error=told(error))
                await asyncio.sleep(BACKOFF_S)
            except Exception as error:  # said again and again, never a silent hot loop
                log.exception("consumer.failed", subscriber=self._subscription.title, error=told(error))
                await asyncio.sleep(LONGEST_BACKOFF_S)

    async def _meet(self, consumer: AIOKafkaConsumer) -> None:
        """Look at newly assigned partitions: go to where they stand, say what expired unread, and commit that place, so that lag tools see them."""
        held = consumer.assignment()
        fresh = held - self._met
        self._met &= held
        if fresh:
            found = await standings(consumer, self._subscription.admin(), self.group_id, fresh, service=self._subscription.title)
            fresh &= consumer.assignment()
            for tp in fresh:
                consumer.seek(tp, found[tp].offset)
                self._uncommitted.setdefault(tp, found[tp].offset)
                self._expected.pop(tp, None)
            self._met |= fresh

    def _keep_holding(self, consumer: AIOKafkaConsumer) -> None:
        """Let partitions go on whose time has come; pause the others again, because a rebalance forgets it."""
        now, assigned, paused = time.monotonic(), consumer.assignment(), consumer.paused()
        for tp, until in list(self._held.items()):
            if tp not in assigned:
                del self._held[tp]
            elif now >= until:
                del self._held[tp]
                consumer.resume(tp)
            elif tp not in paused:
                consumer.pause(tp)

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        # held partitions stay in the list: they give nothing, and a member with an empty list would not poll
        patience_ms = IDLE_POLL_MS if self._met and not self._held and not self._uncommitted else POLL_MS
        batch, unreadable = await self._fetch(consumer, sorted(consumer.assignment()), timeout_ms=patience_ms, max_records=self._most)
        for record in unreadable:
            await self._subscription.on_unreadable(record)
            self._uncommitted[TopicPartition(record.topic, record.partition)] = record.offset + 1
        if batch:
            await self._say_expired(consumer, batch)
            await self._handle(consumer, {tp: ready for tp, records in batch.items() if (ready := self._ready(consumer, tp, records))})

    async def _say_expired(self, consumer: AIOKafkaConsumer, batch: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        gaps = {tp: (self._expected[tp], records[0].offset) for tp, records in batch.items() if self._expected.get(tp, records[0].offset) < records[0].offset}
        self._expected |= {tp: records[-1].offset + 1 for tp, records in batch.items()}
        if gaps:
            await expired_between(consumer, gaps, service=self._subscription.title)

    def _ready(self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """The records before the first that must wait."""
        if self._subscription.is_paused(tp):
            self._hold(consumer, tp, records[0].offset, _PAUSED_LOOK_S)
            return ()
        for index, record in enumerate(records):
            if (seconds := self._wait(record)) > 0:
                self._hold(consumer, tp, record.offset, seconds)
                return records[:index]
        return records

    async def _handle(self, consumer: AIOKafkaConsumer, batch: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        if not batch:
            return
        try:
            await self.process_message(tuple(record for records in batch.values() for record in records))
        except Exception as error:  # whatever it is, these records are not done with
            pause = min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** min(self._failures, 8))
            self._failures += 1
            log.exception("batch.repeated", subscriber=self._subscription.title, records=sum(map(len, batch.values())), error=told(error), pause_s=pause)
            for tp, records in batch.items():
                self._hold(consumer, tp, records[0].offset, pause)
        else:
            self._failures = 0
            self._uncommitted |= {tp: records[-1].offset + 1 for tp, records in batch.items()}

    def _hold(self, consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int, seconds: float) -> None:
        """Read the partition on from `offset`, but not before so many seconds."""
        if tp in consumer.assignment():
            consumer.pause(tp)
            consumer.seek(tp, offset)
            self._expected[tp] = offset
            self._held[tp] = time.monotonic() + seconds

    async def _commit_when_due(self, consumer: AIOKafkaConsumer) -> None:
        if self._uncommitted and time.monotonic() >= self._commit_due:
            await self._commit(consumer)
            self._commit_due = time.monotonic() + COMMIT_INTERVAL_S

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        held = consumer.assignment()
        offsets = {tp: offset for tp, offset in self._uncommitted.items() if tp in held}
        if self.group_id is not None and offsets:
            await commit_soon(consumer, offsets)
        self._uncommitted.clear()

    async def stop(self) -> None:
        """Finish the batch at hand, commit it, leave."""
        self.running = False
        await work_done(self, self._subscription.grace())
        if self.consumer is not None:
            try:
                await self._commit(self.consumer)
            except (KafkaError, IllegalStateError) as error:
                log.warning("commit.failed", subscriber=self._subscription.title, error=told(error))
        await super().stop()
