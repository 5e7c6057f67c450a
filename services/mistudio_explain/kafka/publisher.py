"""Publishing: every record confirmed, an outage waited out."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import stamina
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError
from aiokafka.producer.transaction_manager import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, PidAndEpoch

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
        failed = await _sent(producer, records)
        if all(isinstance(error, MessageSizeTooLargeError) for _, error in failed):  # of a batch, which the broker refuses as one
            failed = [alone for record, _ in failed for alone in await _sent(producer, [record])]
        if failed:
            raise failed[0][1]
    except (MessageSizeTooLargeError, RecordTooLargeError) as error:
        raise MalformedEvent(
            f"a record is larger than its topic or the producer takes: {error}; compare limits with `mistudio-explain topics check`"
        ) from error


async def _sent(producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> list[tuple[Outgoing, BaseException]]:
    """Send records; returns those that the broker did not take, and why."""
    confirmations = [
        await producer.send(record.topic, record.value, key=_key(record), headers=list(record.headers), timestamp_ms=record.timestamp_ms) for record in records
    ]
    outcomes = await asyncio.gather(*confirmations, return_exceptions=True)
    failed = [(record, outcome) for record, outcome in zip(records, outcomes, strict=True) if isinstance(outcome, BaseException)]
    if failed:
        _count_anew(producer)
    return failed


def _count_anew(producer: AIOKafkaProducer) -> None:
    """Let an idempotent producer take a new id, whose sequence numbers begin at 0.

    aiokafka 0.14 counts a batch that was refused as if it stood in its partition; under the same id the broker would
    refuse all later ones as out of order, for ever.
    """
    counter = producer._txn_manager  # noqa: SLF001  (it has no public way)
    if counter is not None:
        counter._pid_and_epoch = PidAndEpoch(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)  # noqa: SLF001
        counter._pid_waiter = asyncio.get_running_loop().create_future()  # noqa: SLF001
        counter._sequence_numbers.clear()  # noqa: SLF001


def _key(record: Outgoing) -> bytes | None:
    return record.key.encode() if isinstance(record.key, str) else record.key
