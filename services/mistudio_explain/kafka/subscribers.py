"""What this product's FastStream subscribers have in common, and the one that reads whole topics without a group.

All use of FastStream's internals lives here; a test fails on a FastStream version that nobody has looked at.
Common to all (batch_subscriber.py and lane_subscriber.py have the other two): records reach the handler raw (FastStream's
own parser decodes headers as UTF-8 and raises before any handler runs), commits follow the work, and nothing is committed
on an error.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ConsumerStoppedError, KafkaError, KafkaTimeoutError
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream._internal.endpoint.subscriber.utils import MultiLock
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage
from faststream.kafka.schemas import Topic
from faststream.kafka.subscriber.config import KafkaSubscriberConfig, KafkaSubscriberSpecificationConfig
from faststream.kafka.subscriber.specification import KafkaSubscriberSpecification
from faststream.kafka.subscriber.usecase import BatchSubscriber

from mistudio_explain.errors import told
from mistudio_explain.kafka.unreadable import TolerantFetch

log = structlog.get_logger(__name__)

KNOWN_FASTSTREAM = "0.7.8"
COMMIT_INTERVAL_S = 0.5  # a commit costs 5-8 ms on Kafka 4.1: never one per record
COMMIT_WITHIN_S = 5.0
POLL_MS = 50
IDLE_POLL_MS = 400  # a fetch ends as soon as a record comes: with nothing else to look after, looking more often is CPU alone (benchmarks/idle.py)
BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 5.0

Turn = Callable[[], None]
"""Called at every turn of a consuming loop, so that liveness means that the loop turns."""

OnUnreadable = Callable[[ConsumerRecord], Awaitable[None]]


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
    on_unreadable: OnUnreadable
    """Leaves a record that cannot be unpacked somewhere safe."""
    admin: Callable[[], AIOKafkaAdminClient]
    is_paused: Callable[[TopicPartition], bool] = lambda _: False
    """Whether a partition must not be read on for now."""
    is_open: Callable[[], bool] = lambda: True
    """Whether it is known by now which partitions are paused; nothing is taken before."""
    pattern: str | None = None

    @property
    def max_poll_interval_s(self) -> float:
        """A group's member must poll within this time, seconds."""
        return float(self.arguments.get("max_poll_interval_ms", 300_000)) / 1000


async def _raw_message(record: Any) -> KafkaMessage:
    return KafkaMessage(raw_message=record, body=b"", headers={}, consumer=cast("Any", None))


async def _raw_body(message: KafkaMessage) -> Any:
    return message.raw_message


Parts = tuple[KafkaSubscriberConfig, KafkaSubscriberSpecification, CallsCollection[Any]]
"""What FastStream's subscribers are built from."""


class Raw:
    """Hands records to the handler as aiokafka gives them."""

    def hand_over_raw(self) -> None:
        """Take the place of FastStream's parser and decoder."""
        self._parser = _raw_message
        self._decoder = _raw_body


Positions = Callable[[AIOKafkaConsumer, Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int] | None]]
"""Says from which offset each partition is to be read; those left out are read from their beginning. None: not now, another process reads them."""


FetchWait = Callable[[], int]
"""How long the broker may hold a fetch back that has nothing to give, now; milliseconds."""


class WholeTopicSubscriber(Raw, BatchSubscriber):
    """Reads every partition of its topics, without a group, from positions that the reader keeps itself.

    `caught_up` is set once everything was read that stood in the topics when it started.
    """

    def __init__(self, subscription: Subscription, parts: Parts, *, positions: Positions, max_records: int, fetch_wait_ms: FetchWait | None) -> None:
        super().__init__(*parts, batch_timeout_ms=POLL_MS, max_records=max_records)
        self.hand_over_raw()
        self._subscription = subscription
        self._positions = positions
        self._fetch_wait_ms = fetch_wait_ms
        self.caught_up = asyncio.Event()
        self._attach_again = False
        self.title = subscription.title
        self._fetch = TolerantFetch()
        self._most = max_records

    def attach_again(self) -> None:
        """Ask for the positions anew before the next record is read."""
        self._attach_again = True

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        goal = await self._attach(consumer)
        while self.running:
            self._subscription.turn()
            try:
                if self._attach_again:
                    goal = await self._attach(consumer)
                if self._fetch_wait_ms is not None:
                    consumer._fetcher._fetch_max_wait_ms = self._fetch_wait_ms()  # noqa: SLF001  (its argument is for good)
                patience_ms = POLL_MS if goal else IDLE_POLL_MS
                batch, unreadable = await self._fetch(consumer, sorted(consumer.assignment()), timeout_ms=patience_ms, max_records=self._most)
                for record in unreadable:
                    await self._subscription.on_unreadable(record)
                if batch:
                    await self.process_message(tuple(record for records in batch.values() for record in records))
                if goal:
                    goal = {tp: end for tp, end in goal.items() if await consumer.position(tp) < end}
                if not goal:
                    self.caught_up.set()
            except ConsumerStoppedError:
                return
            except Exception as error:  # whatever it is, the reader's own positions are the truth to go on from
                log.exception("reader.attached_again", subscriber=self._subscription.title, error=told(error))
                await asyncio.sleep(BACKOFF_S)
                goal = await self._attach(consumer)

    async def _attach(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        """Seek to the reader's positions; returns the end that must be reached, by partition.

        Whatever fails, it is tried again: a loop that ended here would be started anew at once, unseen and for ever.
        """
        wait = BACKOFF_S
        while True:
            self._subscription.turn()
            self._attach_again = False
            try:
                partitions = await partitions_of(consumer, self._subscription.topics)
                consumer.assign(partitions)
                begin = await consumer.beginning_offsets(partitions)
                end: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
                kept = await self._positions(consumer, partitions)
                if kept is None:
                    self.caught_up.set()
                    await asyncio.sleep(BACKOFF_S)
                    continue
                for tp in partitions:
                    consumer.seek(tp, kept.get(tp, begin[tp]))
                return {tp: offset for tp, offset in end.items() if offset > kept.get(tp, begin[tp])}
            except KafkaError as error:
                log.warning("reader.attach", subscriber=self._subscription.title, error=told(error))
                await asyncio.sleep(BACKOFF_S)
            except ConsumerStoppedError:
                raise
            except Exception as error:
                log.exception("reader.attach", subscriber=self._subscription.title, error=told(error), again_in_s=wait)
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_BACKOFF_S)


async def partitions_of(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of topics, for a consumer that has no group; raises KafkaError when one does not exist."""
    await consumer._client.set_topics(topics)  # noqa: SLF001  (a consumer without subscription knows no topic)
    known = {topic: consumer.partitions_for_topic(topic) for topic in topics}
    if missing := [topic for topic, partitions in known.items() if not partitions]:
        raise KafkaError(f"topics {', '.join(missing)} do not exist; make them with `mistudio-explain topics create`")
    return [TopicPartition(topic, partition) for topic, partitions in known.items() for partition in sorted(partitions or ())]


Handler = Callable[[Any], Awaitable[None]]


def read_whole(
    broker: KafkaBroker, subscription: Subscription, handler: Handler, *, positions: Positions, max_records: int, fetch_wait_ms: FetchWait | None
) -> WholeTopicSubscriber:
    """Register a handler for all records of whole topics, without a group."""
    parts = parts_of(broker, subscription, topics=())
    subscriber = WholeTopicSubscriber(subscription, parts, positions=positions, max_records=max_records, fetch_wait_ms=fetch_wait_ms)
    register(broker, subscriber, handler)
    return subscriber


def register(broker: KafkaBroker, subscriber: Any, handler: Handler) -> None:
    """Make a subscriber the broker's, and a handler the subscriber's."""
    Registrator.subscriber(broker, subscriber, persistent=True)
    subscriber.add_call(parser_=None, decoder_=None, dependencies_=(), codec_=None)
    subscriber(handler)


def parts_of(broker: KafkaBroker, subscription: Subscription, *, topics: Sequence[str] | None = None) -> Parts:
    """What FastStream wants to know of a subscription; `topics` where they are not to be subscribed to as they stand in it."""
    declared = [Topic(name, declare=False) for name in (subscription.topics if topics is None else topics)]
    calls: CallsCollection[Any] = CallsCollection()
    config = KafkaSubscriberConfig(
        topics=declared,
        pattern=subscription.pattern,
        group_id=subscription.group,
        connection_args=dict(subscription.arguments),
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


async def commit_soon(consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, Any]) -> None:
    """Commit within `COMMIT_WITHIN_S`; aiokafka itself waits as long as the coordinator is away, and a loop or a stop with it.

    Raises KafkaTimeoutError when it takes longer; then it is to be committed again.
    """
    try:
        async with asyncio.timeout(COMMIT_WITHIN_S):
            await consumer.commit(offsets)
    except TimeoutError:
        raise KafkaTimeoutError(f"not committed within {COMMIT_WITHIN_S:.0f} s") from None


async def work_done(subscriber: Any, timeout_s: float) -> None:
    """Wait until no handler of a subscriber runs any more, at most so long."""
    if isinstance(subscriber.lock, MultiLock):
        await subscriber.lock.wait_release(timeout_s)


Started = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Starts something that needs Kafka, again while Kafka is away."""


async def start_concurrently(broker: KafkaBroker, started: Started) -> None:
    """Start all subscribers of a broker at once; FastStream's own start joins one group after another, a session each."""
    await broker.connect()
    try:
        async with asyncio.TaskGroup() as tasks:
            for subscriber in broker.subscribers:
                tasks.create_task(_started(subscriber, started))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed  # the first to fail stopped the others; where several failed, it was by the same cause
    broker.running = True


async def _started(subscriber: Any, started: Started) -> None:
    async def start() -> None:
        try:
            await subscriber.start()
        except Exception:
            await subscriber.stop()  # closes the consumer that could not be started: the next try makes another
            raise

    await started(start)
