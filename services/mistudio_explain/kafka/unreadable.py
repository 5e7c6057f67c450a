"""Records that aiokafka cannot unpack: a header name that is not UTF-8 makes it raise before any handler sees the record.

Kafka takes such records, so one of them would stop its partition for ever. Here they are found, read in their raw form
for the dead letter, and stepped over.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy

from mistudio_explain.errors import told

log = structlog.get_logger(__name__)

_WAIT_MS = 500
_REFETCH_MS = 2_000
_FETCH_BYTES = 16 << 20
_NOBODYS = TopicPartition("", 0)
_FRAME = 12  # base offset and length, before each batch


class _Lenient(bytearray):
    """Bytes whose parts decode to something whatever they are: what is not UTF-8 becomes a backslash escape."""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> "_Lenient": ...
    def __getitem__(self, index: Any, /) -> Any:
        part = super().__getitem__(index)
        return _Lenient(part) if isinstance(part, bytearray) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002
        return super().decode(encoding, "backslashreplace")


Fetched = tuple[dict[TopicPartition, list[ConsumerRecord]], list[ConsumerRecord]]
"""Readable records by partition, and unreadable ones; the consumer's position is behind all of them."""


class TolerantFetch:
    """A consumer's `getmany` that finds what cannot be unpacked and steps over it.

    aiokafka says neither the partition nor the offset of such a record. So after it has raised, each partition is asked
    alone; one that raises is suspected and read record by record until the culprit is the next one.
    """

    def __init__(self) -> None:
        self._suspects: set[TopicPartition] = set()

    async def readable(self, consumer: AIOKafkaConsumer, *, timeout_ms: int, max_records: int | None = None) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Fetch from all assigned partitions, for those who only look: what cannot be unpacked is for its topic's service to give up."""
        return (await self(consumer, sorted(consumer.assignment()), timeout_ms=timeout_ms, max_records=max_records))[0]

    async def __call__(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], *, timeout_ms: int, max_records: int | None) -> Fetched:
        """Fetch from these partitions; raises what `getmany` raises otherwise, with every position as it was.

        Without any it only polls, so that a member that has no partition yet stays one. It asks for a partition that nobody
        has: `getmany` without any gives what comes of all, also of those assigned meanwhile, of which the caller knows nothing.
        """
        if not partitions:
            await consumer.getmany(_NOBODYS, timeout_ms=timeout_ms)
            return {}, []
        self._suspects.intersection_update(partitions)
        before = _positions(consumer, [tp for tp in partitions if tp not in self._suspects])
        if not before and not self._suspects:  # nobody knows yet where they stand
            await asyncio.sleep(timeout_ms / 1000)
            return {}, []
        readable: dict[TopicPartition, list[ConsumerRecord]] = {}
        try:
            if before:
                readable = await consumer.getmany(*before, timeout_ms=0 if self._suspects else timeout_ms, max_records=max_records)
        except Exception as error:
            # aiokafka has moved on in the partitions whose records it had at hand when it raised, and thrown these away
            for tp, offset in before.items():
                if tp in consumer.assignment() and _positions(consumer, [tp]).get(tp) != offset:
                    consumer.seek(tp, offset)
            if not isinstance(error, UnicodeDecodeError):
                raise
            await self._each_alone(consumer, list(before), readable, max_records)
        return readable, await self._beyond_suspects(consumer, readable, timeout_ms)

    async def _each_alone(
        self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], readable: dict[TopicPartition, list[ConsumerRecord]], max_records: int | None
    ) -> None:
        """Ask each partition alone; add what it gives to `readable`, and suspect it when it raises."""
        for tp in partitions:
            try:
                if await consumer.position(tp) < (consumer.highwater(tp) or 0):
                    # what was fetched is thrown away when it raises, and the next fetch may wait for that of the idle partitions to end
                    readable |= await consumer.getmany(tp, timeout_ms=_REFETCH_MS, max_records=max_records)
            except UnicodeDecodeError:
                self._suspects.add(tp)
            except (KafkaError, IllegalStateError) as error:  # what was read until now must be handed over; the rest is asked again next time
                log.warning("fetch.broken_off", topic=tp.topic, partition=tp.partition, error=told(error))
                return

    async def _beyond_suspects(self, consumer: AIOKafkaConsumer, readable: dict[TopicPartition, list[ConsumerRecord]], timeout_ms: int) -> list[ConsumerRecord]:
        """Read one more record of each suspect into `readable`; returns the culprits that were stepped over."""
        unreadable = []
        for tp in sorted(self._suspects):
            try:
                try:
                    readable |= await consumer.getmany(tp, timeout_ms=timeout_ms, max_records=1)
                except UnicodeDecodeError:
                    record = await raw_record(consumer, tp, await consumer.position(tp))
                    consumer.seek(tp, record.offset + 1)
                    self._suspects.discard(tp)
                    unreadable.append(record)
            except (KafkaError, IllegalStateError) as error:  # asked with the others next time, which raises what a reader must know, as that its place is gone
                log.warning("fetch.broken_off", topic=tp.topic, partition=tp.partition, error=told(error))
                self._suspects.discard(tp)
        return unreadable


def _positions(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the consumer stands in those partitions of which that is known; the public call would wait for the others."""
    subscription = consumer._subscription.subscription  # noqa: SLF001
    assignment = None if subscription is None else subscription.assignment
    states = {} if assignment is None else {tp: assignment.state_value(tp) for tp in partitions}
    return {tp: state.position for tp, state in states.items() if state is not None and state.has_valid_position}


async def raw_record(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> ConsumerRecord:
    """Read the record at an offset, or the next one, with header names escaped where they are not UTF-8. Raises KafkaError."""
    client = consumer._client  # noqa: SLF001  (the public calls are what raises)
    request = FetchRequest(_WAIT_MS, 1, _FETCH_BYTES, 0, [(tp.topic, [(tp.partition, offset, _FETCH_BYTES)])])
    answer = await client.send(client.cluster.leader_for_partition(tp), request)
    ((_, ((_, error, _, *rest),)),) = answer.topics
    if error:
        raise for_code(error)(f"{tp.topic}/{tp.partition} at {offset}")
    for record in _records(tp, bytes(rest[-1] or b"")):
        if record.offset >= offset:
            return record
    raise KafkaError(f"{tp.topic}/{tp.partition}: the record at {offset} that could not be read is not there any more")


def _records(tp: TopicPartition, fetched: bytes) -> Iterator[ConsumerRecord]:
    """Unpack the whole batches of a fetch."""
    at = 0
    while at + _FRAME <= len(fetched) and (end := at + _FRAME + int.from_bytes(fetched[at + 8 : at + _FRAME], "big")) <= len(fetched):
        batch = _DefaultRecordBatchPy(fetched[at:end])
        iter(batch)  # decompresses
        batch._buffer = _Lenient(batch._buffer)  # noqa: SLF001
        for r in batch:
            yield ConsumerRecord(tp.topic, tp.partition, r.offset, r.timestamp, r.timestamp_type, r.key, r.value, None, 0, 0, tuple(r.headers))
        at = end
