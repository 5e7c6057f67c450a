"""Reads what stands in whole topics at this moment, once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.unreadable import TolerantFetch

_POLL_MS = 500
_FETCH_BYTES = 1 << 20


@dataclass(slots=True)
class Snapshot:
    """The records of some topics from `begin` to `end`, to be iterated over; a topic that does not exist holds none.

    Records of one key come in the order in which they were written; a value of None (a tombstone) takes back what came
    before, and compaction may or may not have removed what was overwritten.
    """

    end: dict[TopicPartition, int]
    """The first offset of each partition that does not belong to the snapshot any more."""
    _consumer: AIOKafkaConsumer
    _left: set[TopicPartition] = field(default_factory=set)

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        fetch = TolerantFetch()
        while self._left:
            batches, _ = await fetch(self._consumer, sorted(self._left), timeout_ms=_POLL_MS, max_records=None)
            for tp, records in batches.items():
                for record in records:
                    if record.offset < self.end[tp]:
                        yield record
            self._left = {tp for tp in self._left if await self._consumer.position(tp) < self.end[tp]}


@asynccontextmanager
async def standing(clients: KafkaClients, *topics: str, begin: Mapping[TopicPartition, int] | None = None) -> AsyncIterator[Snapshot]:
    """What stands in topics now, from offsets in `begin`, else from their beginning."""
    async with clients.consumer(**clients.fetching | {"max_partition_fetch_bytes": _FETCH_BYTES}) as consumer:
        existing = await consumer.topics()
        partitions = await partitions_of(consumer, [topic for topic in topics if topic in existing])
        consumer.assign(partitions)
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        start = {tp: max(first[tp], (begin or {}).get(tp, 0)) for tp in partitions}
        for tp in partitions:
            consumer.seek(tp, start[tp])
        yield Snapshot(end, consumer, {tp for tp in partitions if start[tp] < end[tp]})
