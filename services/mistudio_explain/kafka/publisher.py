"""Publishing: every record confirmed, an outage waited out."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

import stamina
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.kafka.patience import is_outage
from mistudio_explain.kafka.records import Outgoing

_LONGEST_WAIT_S = 5.0
_PART_BYTES = 32 << 20


async def publish(producer: AIOKafkaProducer, records: Iterable[Outgoing], *, before_retry: Callable[[], Awaitable[None]] | None = None) -> None:
    """Send records and wait until all are confirmed.

    While the broker is away this waits, however long: an outage is nobody's fault, and the caller commits only what
    was confirmed. Sending all of them again may double some, which every reader tolerates; `before_retry` may first
    put right what waiting would not. Raises MalformedEvent when a record is larger than its topic takes.
    """
    kept = list(records)
    async for attempt in stamina.retry_context(on=is_outage, attempts=None, timeout=None, wait_max=_LONGEST_WAIT_S):
        with attempt:
            if attempt.num > 1 and before_retry is not None:
                await before_retry()
            for part in _in_parts(kept):
                await _send(producer, part)


def _in_parts(records: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """Cut a sequence into parts of bounded size.

    aiokafka puts what is due to all partitions of a broker into one request, and a broker hangs up on one above its
    socket.request.max.bytes (100 MB by default), however often it is sent.
    """
    part: list[Outgoing] = []
    size = 0
    for record in records:
        if part and size + len(record.value or b"") > _PART_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record.value or b"")
    if part:
        yield part


async def _send(producer: AIOKafkaProducer, records: list[Outgoing]) -> None:
    try:
        confirmations = [
            await producer.send(record.topic, record.value, key=_key(record), headers=list(record.headers), timestamp_ms=record.timestamp_ms)
            for record in records
        ]
        outcomes = await asyncio.gather(*confirmations, return_exceptions=True)
        if failed := [outcome for outcome in outcomes if isinstance(outcome, BaseException)]:
            raise failed[0]
    except (MessageSizeTooLargeError, RecordTooLargeError) as error:
        raise MalformedEvent(
            f"a record is larger than its topic or the producer takes: {error}; compare limits with `mistudio-explain topics check`"
        ) from error


def _key(record: Outgoing) -> bytes | None:
    return record.key.encode() if isinstance(record.key, str) else record.key
