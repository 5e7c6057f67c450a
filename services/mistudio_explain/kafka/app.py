"""A process's stream application: which handler reads what, how events are published, when it is alive and ready."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from structlog.contextvars import bound_contextvars

from mistudio_explain.errors import ExplainError, MalformedEvent, told
from mistudio_explain.events.model import Record
from mistudio_explain.events.topics import PAUSES, PROMPTS_PREFIX
from mistudio_explain.kafka import subscribers
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.batch_subscriber import Wait, read_batches
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.dealing import Dealing
from mistudio_explain.kafka.faults import Faults, is_repeatable
from mistudio_explain.kafka.lane_subscriber import InFlight, Places, read_lanes
from mistudio_explain.kafka.patience import AT_ONCE, Patience
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import Outgoing, Received, ids_of, outgoing
from mistudio_explain.kafka.subscribers import Subscription, WholeTopicSubscriber
from mistudio_explain.kafka.topics import lane_spec, topic_specs
from mistudio_explain.observability import tracing
from mistudio_explain.observability.metrics import EVENTS_IN, EVENTS_OUT, IN_FLIGHT
from mistudio_explain.settings import Settings

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Record)
T = TypeVar("T")
Reader = Callable[[ConsumerRecord], Received[R] | None]
"""Reads a record as an event; None for one that is passed over. Raises MalformedEvent."""
Task = Callable[[], Coroutine[Any, Any, None]]

ALIVE_WITHIN_S = 60.0
_BREATH_S = 0.02
_PING_S = 5.0
_UNREADABLE = "the name of a header is not UTF-8"
_WHOLE_FETCH_BYTES = 1 << 20


class StreamApp:
    """The services of one process: register stages on it, then run it.

    `clock` gives seconds since 1970 UTC.
    """

    def __init__(self, settings: Settings, clients: KafkaClients, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clients = clients
        self._clock = clock
        self._broker = clients.broker()
        self._grace_s = settings.limits.grace_s
        self._producer: AIOKafkaProducer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._lanes: set[str] = set()
        self._turns: dict[str, float] = {}
        self._tasks: list[tuple[str, Task]] = []
        self._whole: list[WholeTopicSubscriber] = []
        self._services: set[str] = set()
        self._pauses: WholeTopicSubscriber | None = None
        self._faults = Faults(
            settings.retry,
            limit_bytes=settings.limits.dead_letter_bytes,
            publish=self.publish,
            now_ms=self.now_ms,
            pauses=not clients.is_embedded,
            escalates=settings.escalation.enabled,
        )
        self._publishing = 0
        self._obstacles: list[Callable[[], str | None]] = []
        self._has_started = False
        self._is_connected = False
        self._has_lost_task = False

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return int(self._clock() * 1000)

    def task(self, name: str, run: Task) -> None:
        """Run something for as long as the application runs."""
        self._tasks.append((name, run))

    def unready_while(self, because: Callable[[], str | None]) -> None:
        """Count as unready while something beside Kafka says why nothing can be done."""
        self._obstacles.append(because)

    def batches(
        self, *topics: str, service: str, read: Reader[R], group: str | None = None, wait: Wait = lambda _: 0.0
    ) -> Callable[[Callable[[list[Received[R]]], Awaitable[None]]], None]:
        """Handle batches of events of a consumer group (absent: the service's); malformed ones become dead letters before the handler runs.

        A handler that raises gets the same batch again, until it succeeds. But when no repetition can help, as with a record
        too large for its topic, the events are handled one by one, and the one that raises alone becomes a dead letter.
        `wait` says how long a record must wait, with those behind it in its partition.
        """

        def register(handle: Callable[[list[Received[R]]], Awaitable[None]]) -> None:
            async def on_records(records: Sequence[ConsumerRecord]) -> None:
                events = await self.readable(records, read, service=service)
                if not events:
                    return
                try:
                    await handle(events)
                except ExplainError as error:
                    if is_repeatable(error):
                        raise
                    await one_by_one(events)

            async def one_by_one(events: list[Received[R]]) -> None:
                for event in events:
                    try:
                        await handle([event])
                    except ExplainError as error:
                        if is_repeatable(error):
                            raise
                        await self._faults.failed(event.record, error, service=service)

            subscription = self._of_group(topics, service, group=group)
            read_batches(self._broker, subscription, on_records, max_records=self.settings.limits.batch_records, wait=wait)

        return register

    def whole(
        self,
        *topics: str,
        service: str,
        positions: subscribers.Positions | None = None,
        stepped_over: Callable[[ConsumerRecord], Awaitable[None]] | None = None,
        unreadable: subscribers.OnUnreadable | None = None,
        fetch_wait_ms: subscribers.FetchWait | None = None,
    ) -> Callable[[Callable[[Sequence[ConsumerRecord]], Awaitable[None]]], WholeTopicSubscriber]:
        """Handle all records of whole topics without a group, from `positions` (absent: from their beginning).

        A record that cannot be handed over becomes a dead letter, of which `stepped_over` is told after it is confirmed.
        Without positions it is only said: such a reader meets it at every start, and a letter that was dropped would come back.
        `unreadable` takes the place of both, for readers that others in the topics' service look after. `fetch_wait_ms` bounds how long
        news of one partition may wait for a fetch from the others to end, which aiokafka sends while the first one's records are taken.
        """

        def register(handle: Callable[[Sequence[ConsumerRecord]], Awaitable[None]]) -> WholeTopicSubscriber:
            self._faults.read_whole(service, topics)
            title = f"{service}: {', '.join(topics)}"
            arguments = self.clients.fetching | {"max_partition_fetch_bytes": _WHOLE_FETCH_BYTES, "auto_offset_reset": "none"}  # a reader knows where it stands
            given_up = say_unreadable if positions is None else self._given_up_when_unreadable(service, stepped_over)
            subscription = self._subscription(topics, None, title, service, arguments, on_unreadable=unreadable or given_up)
            reader = subscribers.read_whole(
                self._broker,
                subscription,
                handle,
                positions=positions or _from_the_beginning,
                max_records=self.settings.limits.batch_records,
                fetch_wait_ms=fetch_wait_ms,
            )
            self._whole.append(reader)
            return reader

        return register

    def lanes(
        self,
        pattern: str,
        *,
        service: str,
        read: Callable[[ConsumerRecord], Received[R]],
        in_flight: int | Places,
        express: str | None = None,
        express_in_flight: int | Places = 0,
    ) -> Callable[[Callable[[Received[R]], Awaitable[Iterable[Record]]]], None]:
        """Handle single events of all topics that match, `in_flight` of them at once, also a number that changes; what the handler returns is published.

        A topic of which nothing is in flight has one place on top of these. The topic `express` goes first, with
        `express_in_flight` places of its own. An event whose handler raises is tried again later, and becomes a dead letter
        and a failed outcome in the end.
        """

        def register(handle: Callable[[Received[R]], Awaitable[Iterable[Record]]]) -> None:
            async def on_record(record: ConsumerRecord) -> None:
                with IN_FLIGHT.labels(service=service).track_inprogress():
                    EVENTS_IN.labels(service=service).inc()
                    event = read(record)
                    with working_on(event, service=service):
                        await self.publish(outgoing(made) for made in await handle(event))

            async def on_failure(record: ConsumerRecord, error: Exception) -> None:
                with tracing.continued(record.headers, service=service):
                    await self._faults.failed(record, error, service=service)

            bounds = InFlight(
                records=_places(in_flight),
                express=express,
                express_records=_places(express_in_flight),
            )
            subscription = self._of_group(
                (), service, pattern=pattern, assignors=(Dealing(), RoundRobinPartitionAssignor)
            )  # the latter beside earlier versions
            read_lanes(self._broker, subscription, on_record, bounds=bounds, on_failure=on_failure)

        return register

    async def each(
        self, batch: Iterable[Received[R]], handle: Callable[[Received[R]], Iterable[Outgoing]], *, service: str, is_traced: bool = True
    ) -> list[Outgoing]:
        """Apply a stage to each event; one that fails is left to `Faults` and leaves the others alone.

        A service that goes through its events twice traces them once.
        """
        made: list[Outgoing] = []
        breath = time.monotonic()
        for event in batch:
            if time.monotonic() - breath > _BREATH_S:  # a long batch must not stop heartbeats and streams
                await asyncio.sleep(0)
                breath = time.monotonic()
            with working_on(event, service=service) if is_traced else nullcontext():
                try:
                    made.extend(self._bounded(handle(event)))
                except Exception as error:  # noqa: BLE001  (a pure core's failure is the event's own)
                    tracing.failed(error)
                    await self._faults.failed(event.record, error, service=service)
        return made

    async def readable(self, records: Sequence[ConsumerRecord], read: Callable[[ConsumerRecord], T | None], *, service: str) -> list[T]:
        """Read records, but for those of which `read` makes nothing; a malformed one becomes a dead letter and leaves the others alone."""
        EVENTS_IN.labels(service=service).inc(len(records))
        events = []
        for record in records:
            try:
                if (event := read(record)) is not None:
                    events.append(event)
            except MalformedEvent as error:
                await self._faults.failed(record, error, service=service)
        return events

    def _bounded(self, records: Iterable[Outgoing]) -> list[Outgoing]:
        limit = self.settings.limits.internal_bytes
        kept = list(records)
        for record in kept:
            if len(record.value or b"") > limit:
                raise MalformedEvent(f"the record for {record.topic} has {len(record.value or b'')} bytes, above limits.internal_bytes ({limit})")
        return kept

    async def publish(self, records: Iterable[Outgoing]) -> None:
        """Publish and wait for confirmation, however long the broker is away."""
        kept = list(records)
        self._publishing += 1
        try:
            await publish(self.producer, kept, before_retry=partial(self._ensure_lanes_of, kept))
        finally:
            self._publishing -= 1
        for record in kept:
            EVENTS_OUT.labels(topic=record.topic).inc()

    async def look_for_lanes(self) -> None:
        """Learn which lanes there are: others make them, and `topics gc` removes them."""
        self._lanes = await _lanes(self.admin)

    async def ensure_lane(self, topic: str) -> None:
        """Make a lane's topic if it is not there yet, or `topics gc` has removed it; other topics are there from the start."""
        if topic.startswith(PROMPTS_PREFIX) and (topic not in self._lanes or self.producer.client.cluster.partitions_for_topic(topic) is None):
            await create_topics(self.admin, [lane_spec(topic, self.settings)], self.settings.kafka.replication)
            self._lanes.add(topic)
            await self.producer.client.add_topic(topic)

    async def _ensure_lanes_of(self, records: Iterable[Outgoing]) -> None:
        for topic in {record.topic for record in records}:
            await self.ensure_lane(topic)

    @property
    def known_lanes(self) -> frozenset[str]:
        """Topics of lanes that exist."""
        return frozenset(self._lanes)

    def abandon(self) -> None:
        """Let nothing in flight finish at the end: its results could not be published any more."""
        self._grace_s = 0.0

    def is_alive(self) -> bool:
        """Whether every consuming loop turns, or waits for Kafka to come or to confirm what it publishes, and no task has ended.

        What waits for Kafka is alive however long that takes: killing the process would bring nothing back.
        """
        turns = not self._has_started or all(time.monotonic() - turned < ALIVE_WITHIN_S for turned in self._turns.values())
        return not self._has_lost_task and (turns or self._publishing > 0)

    @property
    def has_started(self) -> bool:
        """Whether Kafka was reached and everything reads and can publish, since when an outage only makes it wait."""
        return self._has_started

    def away_because(self) -> str | None:
        """Why nothing can be published now; None when it can."""
        if not self._is_connected:
            return f"Kafka at {self.clients.bootstrap_servers} does not answer"
        return None if self._has_started else f"still starting with Kafka at {self.clients.bootstrap_servers}"

    def unready_because(self) -> str | None:
        """Why it cannot do its work now: Kafka or all LLM endpoints are away, a reader has not read to the end, a partition is paused; None when it can."""
        if (why := self.away_because()) is not None:
            return why
        for obstacle in self._obstacles:
            if (why := obstacle()) is not None:
                return why
        if behind := [reader.title for reader in self._whole if not reader.caught_up.is_set()]:
            return f"still reading what stood in the topics at the start: {'; '.join(behind)}"
        if paused := self._faults.paused(self._services):
            places = ", ".join(f"{pause.topic}/{pause.partition}" for pause in paused)
            return f"paused for too many dead letters: {places}; look at `mistudio-explain dlq list`, then `mistudio-explain dlq resume`"
        return None

    def is_ready(self) -> bool:
        """Whether it can do its work now."""
        return self.unready_because() is None

    async def _watch_connection(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_PING_S):
                    self._is_connected = bool(await self.producer.client.force_metadata_update())
            except (TimeoutError, KafkaError, OSError):
                self._is_connected = False
            await asyncio.sleep(_PING_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.ended", task=task.get_name(), error=told(error), exc_info=error)
            self._has_lost_task = True

    @asynccontextmanager
    async def running(self, patience: Patience = AT_ONCE) -> AsyncIterator[None]:
        """Make missing topics, start everything, and stop it gracefully at the end.

        A Kafka that is away, or goes away in the middle, is waited for with `patience`; what is started already goes
        on. Raises Unreachable.
        """
        async with AsyncExitStack() as stack:
            self._admin = await self.clients.started(lambda: self._opened_admin(stack), patience)
            written = {spec.name for spec in topic_specs(self.settings)} | self._lanes
            self._producer = await self.clients.started(lambda: stack.enter_async_context(self.clients.producer(written)), patience)
            tasks = [asyncio.create_task(run(), name=name) for name, run in (("connection", self._watch_connection), *self._tasks)]
            for task in tasks:
                task.add_done_callback(self._ended)
            try:
                await subscribers.start_concurrently(self._broker, lambda start: self.clients.started(start, patience))
                self._turns = dict.fromkeys(self._turns, time.monotonic())
                self._has_started = True
                yield
            finally:
                await self._broker.stop()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _opened_admin(self, stack: AsyncExitStack) -> AIOKafkaAdminClient:
        """An admin client, left to `stack` once the topics are made and the lanes are known."""
        async with AsyncExitStack() as opening:
            admin = await opening.enter_async_context(self.clients.admin())
            await create_topics(admin, topic_specs(self.settings), self.settings.kafka.replication)
            self._lanes = await _lanes(admin)
            stack.push_async_exit(opening.pop_all())
            return admin

    def _of_group(
        self,
        topics: Sequence[str],
        service: str,
        *,
        group: str | None = None,
        pattern: str | None = None,
        assignors: Sequence[Any] = (RoundRobinPartitionAssignor,),
    ) -> Subscription:
        if self._pauses is None and not self.clients.is_embedded:
            self._pauses = self.whole(PAUSES, service="pauses")(self._faults.follow)
        self._services.add(service)
        EVENTS_IN.labels(service=service)  # from 0 on: one that has taken nothing yet must not look like one that is not there
        arguments = self.clients.fetching | self.clients.membership(*topics, *([pattern] if pattern else [])) | {"partition_assignment_strategy": assignors}
        on_unreadable = self._given_up_when_unreadable(service)
        return self._subscription(
            topics, self.clients.group(group or service), group or service, service, arguments, on_unreadable=on_unreadable, pattern=pattern
        )

    def _given_up_when_unreadable(self, service: str, stepped_over: subscribers.OnUnreadable | None = None) -> subscribers.OnUnreadable:
        async def on_unreadable(record: ConsumerRecord) -> None:
            await self._faults.failed(record, MalformedEvent(_UNREADABLE), service=service)
            if stepped_over is not None:
                await stepped_over(record)

        return on_unreadable

    def _subscription(
        self,
        topics: Sequence[str],
        group: str | None,
        title: str,
        service: str,
        arguments: Mapping[str, Any],
        *,
        on_unreadable: subscribers.OnUnreadable,
        pattern: str | None = None,
    ) -> Subscription:
        return Subscription(
            topics=topics,
            group=group,
            title=title,
            arguments=arguments,
            turn=self._turn(title),
            grace=lambda: self._grace_s,
            on_unreadable=on_unreadable,
            admin=lambda: self.admin,
            is_paused=partial(self._faults.is_paused, service),
            is_open=lambda: self._pauses is None or self._pauses.caught_up.is_set(),
            pattern=pattern,
        )

    def _turn(self, title: str) -> Callable[[], None]:
        self._turns[title] = time.monotonic()

        def turned() -> None:
            self._turns[title] = time.monotonic()

        return turned

    @property
    def producer(self) -> AIOKafkaProducer:
        """The process's one producer; only while the application runs."""
        assert self._producer is not None, "the application is not running"
        return self._producer

    @property
    def admin(self) -> AIOKafkaAdminClient:
        """The process's admin client; only while the application runs."""
        assert self._admin is not None, "the application is not running"
        return self._admin


@contextmanager
def working_on(event: Received[R], *, service: str) -> Iterator[None]:
    """Inside, log lines name the job and the feature that an event is about, and what is done is a span of its trace."""
    ids = ids_of(event.event)
    with bound_contextvars(**ids), tracing.work(event.record, service=service, ids=ids):
        yield


def _places(places: int | Places) -> Places:
    return places if callable(places) else lambda: places


async def say_unreadable(record: ConsumerRecord) -> None:
    """Do nothing about a record that cannot be handed over but to say it."""
    log.error("record.unreadable", topic=record.topic, partition=record.partition, offset=record.offset, why=_UNREADABLE)


async def _lanes(admin: AIOKafkaAdminClient) -> set[str]:
    return {topic for topic in await admin.list_topics() if topic.startswith(PROMPTS_PREFIX)}


async def _from_the_beginning(consumer: object, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:  # noqa: ARG001
    return {}
