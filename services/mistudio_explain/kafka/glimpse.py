"""Looks at single records of many partitions: a few fetches of each leader, without a consumer.

A consumer would fetch on from every partition: for 384 partitions it took 3.3 s and 2.1 s of CPU where this takes tenths
of a second.
"""

import time
from collections import defaultdict
from collections.abc import Mapping

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

_FIRST_BYTES = 64 << 10
_MOST_BYTES = 16 << 20
_RESPONSE_BYTES = 8 << 20
_GROWTH = 8


async def records_at(
    admin: AIOKafkaAdminClient, offsets: Mapping[TopicPartition, int], leaders: Mapping[TopicPartition, int], *, within_s: float
) -> dict[TopicPartition, ConsumerRecord]:
    """The record at, or first after, an offset of each partition; those that cannot be had within the time are left out.

    Raises TopicAuthorizationFailedError with the topics that may not be read.
    """
    deadline = time.monotonic() + within_s
    found: dict[TopicPartition, ConsumerRecord] = {}
    by_leader: dict[int, dict[TopicPartition, int]] = defaultdict(dict)
    for tp, offset in offsets.items():
        if leaders.get(tp, -1) >= 0:
            by_leader[leaders[tp]][tp] = offset
    for leader, wanted in by_leader.items():
        size, pending = _FIRST_BYTES, dict(wanted)
        while pending and time.monotonic() < deadline:
            fetched, hopeless = await _fetch(admin, leader, pending, size)
            found |= fetched
            pending = {tp: offset for tp, offset in pending.items() if tp not in fetched and tp not in hopeless}
            if not fetched and size == _MOST_BYTES:
                break
            if len(fetched) < max(1, _RESPONSE_BYTES // size):  # what bounds is the size of a batch, not of the answer
                size = min(_GROWTH * size, _MOST_BYTES)
    return found


async def _fetch(
    admin: AIOKafkaAdminClient, leader: int, offsets: Mapping[TopicPartition, int], size: int
) -> tuple[dict[TopicPartition, ConsumerRecord], set[TopicPartition]]:
    """What an answer of at most `size` bytes a partition holds, and which partitions answer with an error; a larger batch comes from the first one only."""
    asked: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for tp, offset in offsets.items():
        asked[tp.topic].append((tp.partition, offset, size))
    request = FetchRequest(0, 1, _RESPONSE_BYTES, 0, list(asked.items()))
    answer = await admin._send_request(request, leader)  # noqa: SLF001  (there is no public call)
    rows = [(TopicPartition(topic, row[0]), row[1], row[-1]) for topic, rows in answer.topics for row in rows]
    if refused := sorted({tp.topic for tp, code, _ in rows if code == TopicAuthorizationFailedError.errno}):
        raise TopicAuthorizationFailedError(*refused)
    records = {tp: _first(tp, batches, offsets[tp]) for tp, code, batches in rows if not code and batches}
    return {tp: record for tp, record in records.items() if record is not None}, {tp for tp, code, _ in rows if code}


def _first(tp: TopicPartition, batches: bytes, offset: int) -> ConsumerRecord | None:
    unpacked = MemoryRecords(batches)
    while unpacked.has_next():
        batch = unpacked.next_batch()
        for record in () if batch.is_control_batch else batch:
            if record.offset >= offset:
                key, value = record.key, record.value
                size = (-1 if key is None else len(key), -1 if value is None else len(value))
                return ConsumerRecord(
                    tp.topic, tp.partition, record.offset, record.timestamp, record.timestamp_type, key, value, None, *size, tuple(record.headers)
                )
    return None
