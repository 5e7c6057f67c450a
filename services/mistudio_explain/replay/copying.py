"""Copies features from where they stand to the topic of replays, their bytes untouched, in an envelope that names the new job."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.events.job import JobEvent, ReplayPart
from mistudio_explain.events.topics import REPLAYS
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import HEADER_EVENT, HEADER_FEATURE, HEADER_JOB, HEADER_REQUEST, HEADER_SOURCE
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.unreadable import TolerantFetch
from mistudio_explain.observability import tracing
from mistudio_explain.replay.stage import Place, Run, Selection, Tally, identity_of, is_within, runs

CLOCKS_APART_MS = 600_000
"""How far the clocks of those who order a replay and those who run it may be apart."""

_TAKEN = 500  # records at once
_POLL_MS = 200
_IDLE_S = 5.0  # without a record, before it is asked whether there is anything left to wait for
_UNCONFIRMED = 2000  # records sent ahead of their confirmation
_UNCONFIRMED_BYTES = 16 << 20
_DENSE = 0.5
_DENSE_FETCH_BYTES = 1 << 20  # a job that stands together: 42 KB features at 64 KiB a fetch are read at half the speed
_SPARSE_FETCH_BYTES = 64 << 10  # what a jump throws away

Held = Callable[[], Awaitable[None]]
"""Returns while this process may go on copying, raises when it may not."""

Told = Callable[[int], None]
"""Is told how many more records were confirmed."""


async def copied_already(clients: KafkaClients, order: JobEvent) -> set[Place]:
    """The places whose features were copied for an order before: what stands in the topic of replays since it was given."""
    found: set[Place] = set()
    names: dict[bytes, bool] = {}
    async with clients.consumer(**clients.fetching | {"max_partition_fetch_bytes": _DENSE_FETCH_BYTES, "fetch_max_wait_ms": 50}) as consumer:
        partitions = await partitions_of(consumer, (REPLAYS,))
        consumer.assign(partitions)
        since = await consumer.offsets_for_times({tp: max(0, order.at_ms - CLOCKS_APART_MS) for tp in partitions})
        end = await consumer.end_offsets(partitions)
        left = {tp: end[tp] for tp in partitions if since[tp] is not None and since[tp].offset < end[tp]}
        if left:
            consumer.assign(list(left))
        for tp in left:
            consumer.seek(tp, since[tp].offset)
        fetch = TolerantFetch()
        while left:
            for records in (await fetch.readable(consumer, timeout_ms=_POLL_MS, max_records=_TAKEN)).values():
                found |= {place for record in records if (place := _copied_for(record, order, names)) is not None}
            left = {tp: offset for tp, offset in left.items() if await consumer.position(tp) < offset}
    return found


def _copied_for(record: ConsumerRecord, order: JobEvent, names: dict[bytes, bool]) -> Place | None:
    """Where the original of a copy for this order stands; `names` remembers which request blocks are the order's."""
    headers = dict(record.headers)
    request, source = headers.get(HEADER_REQUEST), headers.get(HEADER_SOURCE)
    if request is None or source is None:
        return None
    if request not in names:
        names[request] = _names(request, order)
    if not names[request]:
        return None
    try:
        topic, partition, offset = source.decode().rsplit("/", 2)
        return Place(topic, int(partition), int(offset))
    except ValueError:
        return None


def _names(request: bytes, order: JobEvent) -> bool:
    try:
        block = decode(JobRequest, request)
    except MalformedEvent:
        return False
    return block.explain_job_id == order.explain_job_id and block.revision == order.revision


@dataclass(slots=True)
class _Cursor:
    """How far one partition is read: the wanted offsets there, and the runs that are left of it."""

    wanted: Mapping[int, str]
    left: deque[Run]
    seen: set[int] = field(default_factory=set)

    def advance(self, position: int) -> int | None:
        """Note that all before `position` was read; returns where to jump, if anywhere."""
        while self.left and position >= self.left[0].end:
            self.left.popleft()
        return self.left[0].start if self.left and position < self.left[0].start else None


@dataclass(slots=True)
class _Unconfirmed:
    """Records that were sent and whose confirmation is awaited, oldest first."""

    tally: Tally
    told: Told
    _sent: deque[tuple[Awaitable[object], int]] = field(default_factory=deque)
    _bytes: int = 0

    async def add(self, confirmation: Awaitable[object], size: int) -> None:
        """Wait until there is room for one more."""
        self._sent.append((confirmation, size))
        self._bytes += size
        while len(self._sent) > _UNCONFIRMED or self._bytes > _UNCONFIRMED_BYTES:
            await self._oldest()

    async def all(self) -> None:
        """Wait for all of them."""
        while self._sent:
            await self._oldest()

    async def settled(self) -> None:
        """Wait until of each it is known whether it was written, however that ends."""
        await asyncio.gather(*(confirmation for confirmation, _ in self._sent), return_exceptions=True)

    async def _oldest(self) -> None:
        confirmation, size = self._sent.popleft()
        self._bytes -= size
        try:
            await confirmation
        except (MessageSizeTooLargeError, RecordTooLargeError):
            self.tally.refused += 1
        else:
            self.tally.copied += 1
            self.told(1)


@dataclass(frozen=True, slots=True)
class Copy:
    """One replay as it is to be copied."""

    selection: Selection
    find_job_id: str
    request: JobRequest
    part: ReplayPart

    async def run(self, clients: KafkaClients, producer: AIOKafkaProducer, already: set[Place], *, held: Held, told: Told) -> Tally:
        """Copy what is not copied yet, reading only where wanted features stand; returns once all is confirmed.

        A record that is not the feature it should be is passed over and counted. Raises KafkaError in an outage; what
        was sent until then is found by `copied_already`.
        """
        tally = Tally(wanted=len(self.selection.places), earlier=sum(place in already for place in self.selection.places.values()))
        wanted = {}
        for (topic, partition), features in self.selection.partitions().items():
            left = {offset: key for offset, key in features.items() if Place(topic, partition, offset) not in already}
            if left:
                wanted[TopicPartition(topic, partition)] = left
        if not wanted:
            return tally
        async with clients.consumer(**clients.fetching | {"max_partition_fetch_bytes": _fetch_bytes(wanted), "fetch_max_wait_ms": 50}) as consumer:
            cursors = await _cursors(consumer, wanted, tally)
            unconfirmed = _Unconfirmed(tally, told)
            try:
                await self._read(consumer, producer, cursors, unconfirmed, held)
                await unconfirmed.all()
            except Exception:  # what is written after the next attempt has looked would be copied by it again
                await unconfirmed.settled()
                raise
        return tally

    async def _read(
        self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, cursors: dict[TopicPartition, _Cursor], unconfirmed: _Unconfirmed, held: Held
    ) -> None:
        idle_since = time.monotonic()
        fetch = TolerantFetch()
        while cursors:
            await held()
            batches, unreadable = await fetch(consumer, list(cursors), timeout_ms=_POLL_MS, max_records=_TAKEN)
            for record in unreadable:
                tp = TopicPartition(record.topic, record.partition)
                unconfirmed.tally.strangers += record.offset in cursors[tp].wanted
                _go_on(consumer, cursors, tp, record.offset + 1)
            for tp, records in batches.items():
                if tp in cursors:
                    await self._send(producer, cursors[tp], records, unconfirmed)
                    _go_on(consumer, cursors, tp, records[-1].offset + 1)
            if batches:
                idle_since = time.monotonic()
                continue
            for tp in list(cursors):  # marks of transactions are passed without being given
                _go_on(consumer, cursors, tp, await consumer.position(tp))
            if time.monotonic() - idle_since > _IDLE_S:
                await _leave_the_gone(consumer, cursors)
                idle_since = time.monotonic()

    async def _send(self, producer: AIOKafkaProducer, cursor: _Cursor, records: list[ConsumerRecord], unconfirmed: _Unconfirmed) -> None:
        common = [(HEADER_EVENT, b"FeatureFound"), (HEADER_JOB, self.request.explain_job_id.encode()), (HEADER_REQUEST, encode(self.request))]
        for record in records:
            key = cursor.wanted.get(record.offset)
            if key is None or record.offset in cursor.seen:
                continue
            cursor.seen.add(record.offset)
            identity = identity_of(record.value)
            if identity is None or identity.feature_key != key or identity.find_job_id != self.find_job_id:
                unconfirmed.tally.strangers += 1
                continue
            if not is_within(self.part, record.timestamp):
                unconfirmed.tally.outside += 1
                continue
            source = f"{record.topic}/{record.partition}/{record.offset}".encode()
            ids = {"job": self.request.explain_job_id, "feature": key}
            with tracing.begun("replay", service="replayer", links=[tracing.context_in(record.headers)], ids=ids):
                headers = [*common, (HEADER_FEATURE, key.encode()), (HEADER_SOURCE, source), *tracing.headers()]
            try:
                confirmation = await producer.send(REPLAYS, record.value, key=identity.target_model.encode(), headers=headers)
            except MessageSizeTooLargeError:
                unconfirmed.tally.refused += 1
                continue
            await unconfirmed.add(confirmation, len(record.value))


def _fetch_bytes(wanted: Mapping[TopicPartition, Mapping[int, str]]) -> int:
    """Large fetches for features that stand together, small ones where most of a fetch is passed over."""
    span = sum(max(offsets) - min(offsets) + 1 for offsets in wanted.values())
    return _DENSE_FETCH_BYTES if sum(map(len, wanted.values())) >= _DENSE * span else _SPARSE_FETCH_BYTES


async def _cursors(consumer: AIOKafkaConsumer, wanted: Mapping[TopicPartition, Mapping[int, str]], tally: Tally) -> dict[TopicPartition, _Cursor]:
    """Seek to the first wanted record of each partition; what lies outside the log is counted and not waited for."""
    there = {tp.topic for tp in wanted} & await consumer.topics()
    partitions = await partitions_of(consumer, sorted(there)) if there else []
    held = [tp for tp in wanted if tp in partitions]
    if not held:
        return {}
    consumer.assign(held)
    begin, end = await consumer.beginning_offsets(held), await consumer.end_offsets(held)
    cursors = {}
    for tp in held:
        within = [offset for offset in wanted[tp] if begin[tp] <= offset < end[tp]]
        tally.expired += sum(offset < begin[tp] for offset in wanted[tp] if offset < end[tp])
        if within:
            cursors[tp] = _Cursor(wanted[tp], deque(runs(within)))
            consumer.seek(tp, within[0])
        else:
            consumer.pause(tp)
    return cursors


async def _leave_the_gone(consumer: AIOKafkaConsumer, cursors: dict[TopicPartition, _Cursor]) -> None:
    """Wait no longer for what is in the log no more: the topic was deleted, cut or made again while it was read."""
    topics = await consumer.topics()
    present = [tp for tp in cursors if tp.topic in topics]
    end = await consumer.end_offsets(present) if present else {}
    for tp in [tp for tp, cursor in cursors.items() if end.get(tp, 0) <= cursor.left[0].start]:
        del cursors[tp]
        consumer.pause(tp)


def _go_on(consumer: AIOKafkaConsumer, cursors: dict[TopicPartition, _Cursor], tp: TopicPartition, position: int) -> None:
    """Jump to the next run, or leave the partition when there is none."""
    target = cursors[tp].advance(position)
    if target is not None:
        consumer.seek(tp, target)
    elif not cursors[tp].left:
        del cursors[tp]
        consumer.pause(tp)  # a partition at its end would hold up the fetches of the others
