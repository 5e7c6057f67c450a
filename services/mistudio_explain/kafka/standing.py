"""Where a group stands in partitions that it has just been given, and what the log has of them."""

from collections.abc import Collection
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError

from mistudio_explain.kafka.committed import committed_offsets
from mistudio_explain.kafka.offsets import unpack
from mistudio_explain.observability.metrics import EXPIRED

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where to read on in a partition."""

    offset: int
    """The first offset that is not finished, as far as the log still has it."""
    finished: frozenset[int]
    """Offsets beyond it that are finished."""


async def standings(
    consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, group: str | None, partitions: Collection[TopicPartition], *, service: str
) -> dict[TopicPartition, Standing]:
    """Look up where partitions are to be read from, and say what is amiss with them.

    A partition that the group never committed is read from its beginning, and so is one whose commit lies beyond the
    log's end: its topic was deleted and made again, or the log was cut. Records between the commit and the log's start
    have expired unread: they are counted and said. Raises KafkaError when an answer is not to be trusted; then the
    partitions must not be read, since a missing permission looks like "never committed".
    """
    stored: dict[TopicPartition, tuple[int, str]] = {}
    if group is not None:
        try:
            stored = await committed_offsets(admin, group, partitions)
        except GroupAuthorizationFailedError:
            log.error("group.forbidden", service=service, group=group, what="the group's offsets may not be read: grant READ and DESCRIBE on the group")
            raise
    begin, end = await consumer.beginning_offsets(list(partitions)), await consumer.end_offsets(list(partitions))
    found = {}
    for tp in partitions:
        offset, metadata = stored.get(tp, (begin[tp], ""))
        finished = unpack(offset, metadata)
        if offset > end[tp]:
            log.error("partition.beyond_end", service=service, topic=tp.topic, partition=tp.partition, committed=offset, end=end[tp])
            offset, finished = begin[tp], frozenset()
        elif offset < begin[tp]:
            unread = begin[tp] - offset - sum(1 for each in finished if each < begin[tp])
            say_expired(tp, unread, service=service)
            offset, finished = begin[tp], frozenset(each for each in finished if each >= begin[tp])
        found[tp] = Standing(offset, finished)
    return found


async def expired_between(consumer: AIOKafkaConsumer, gaps: dict[TopicPartition, tuple[int, int]], *, service: str) -> None:
    """Say how many records expired unread, given from which offset to which nothing was fetched.

    A gap alone says nothing: compaction leaves them too. What lies below the log's start has expired.
    """
    begin = await consumer.beginning_offsets(list(gaps))
    for tp, (expected, came) in gaps.items():
        say_expired(tp, min(came, begin[tp]) - expected, service=service)


def say_expired(tp: TopicPartition, records: int, *, service: str) -> None:
    """Count and log records that were gone before they were read."""
    if records > 0:
        EXPIRED.labels(service=service, topic=tp.topic).inc(records)
        log.error("partition.expired_unread", service=service, topic=tp.topic, partition=tp.partition, records=records)
