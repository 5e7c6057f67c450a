"""Writes a record whose header has a name that is not UTF-8, as a client in another language may: aiokafka's producer refuses to."""

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

_WAIT_S = 10.0


class _Name:
    """What the batch builder takes for a header's name: it only wants to encode it."""

    def encode(self, encoding: str) -> bytes:
        return b"\xff\xfe"


async def send_with_foreign_header(producer: AIOKafkaProducer, topic: str, partition: int, key: bytes, value: bytes) -> int:
    """Write the record, and return its offset."""
    name: Any = _Name()
    batch = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1 << 20)
    assert batch.append(0, int(time.time() * 1000), key, value, [(name, b"x")]) is not None
    client = producer.client
    request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, bytes(batch.build()))])])
    async with asyncio.timeout(_WAIT_S):
        while True:
            try:
                answer = await client.send(client.cluster.leader_for_partition(TopicPartition(topic, partition)), request)
                ((_, ((_, error, offset, *_),)),) = answer.topics
                if not error:
                    return int(offset)
                raise for_code(error)
            except KafkaError as refused:  # a topic that was made a moment ago has no leader yet, or another
                if not refused.retriable:
                    raise
            await asyncio.sleep(0.05)
            await client.force_metadata_update()
