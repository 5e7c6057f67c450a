"""Records that aiokafka cannot unpack: a header name that is not UTF-8 makes it raise before any handler sees the record.

Kafka takes such records, so one of them would stop its partition for ever. Here they are found, read in their raw form
for the dead letter, and stepped over.
"""

from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex, overload

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy

_WAIT_MS = 500
_REFETCH_MS = 2_000
_FETCH_BYTES = 16 << 20
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
        """Fetch from these partitions; raises what `getmany` raises otherwise.

        Without any it only polls, so that a member that has no partition yet stays one.
        """
        self._suspects.intersection_update(partitions)
        calm = [tp for tp in partitions if tp not in self._suspects]
        if not partitions:
            try:
                return await consumer.getmany(timeout_ms=timeout_ms, max_records=max_records), []
            except UnicodeDecodeError:  # of a partition that has just come; it is among those asked for next time
                return {}, []
        try:
            readable: dict[TopicPartition, list[ConsumerRecord]] = (
                await consumer.getmany(*calm, timeout_ms=0 if self._suspects else timeout_ms, max_records=max_records) if calm else {}
            )
        except UnicodeDecodeError:
            readable = await self._each_alone(consumer, calm, max_records)
        unreadable = []
        for tp in sorted(self._suspects):
            try:
                readable |= await consumer.getmany(tp, timeout_ms=timeout_ms, max_records=1)
            except UnicodeDecodeError:
                record = await raw_record(consumer, tp, await consumer.position(tp))
                consumer.seek(tp, record.offset + 1)
                self._suspects.discard(tp)
                unreadable.append(record)
        return readable, unreadable

    async def _each_alone(
        self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], max_records: int | None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        readable: dict[TopicPartition, list[ConsumerRecord]] = {}
        for tp in partitions:
            if await consumer.position(tp) >= (consumer.highwater(tp) or 0):
                continue
            try:
                # what was fetched is thrown away when it raises, and the next fetch may wait for that of the idle partitions to end
                readable |= await consumer.getmany(tp, timeout_ms=_REFETCH_MS, max_records=max_records)
            except UnicodeDecodeError:
                self._suspects.add(tp)
        return readable


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
