"""Reads how far the product's consumer groups are behind.

Everything is asked of Kafka anew at each reading; whatever it refuses is an error that names the access rule to grant.
Without that care a missing rule reads as "no such topic" or "never committed", and lag as none or as the whole log.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import stamina
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest

from mistudio_explain.errors import MalformedEvent, Unreachable
from mistudio_explain.events import topics as names
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.kafka.client import GROUP_PREFIX
from mistudio_explain.kafka.committed import committed_offsets
from mistudio_explain.kafka.glimpse import records_at
from mistudio_explain.kafka.offsets import in_flight_of, unpack
from mistudio_explain.kafka.records import received
from mistudio_explain.observability.lag_figures import GroupReading, LagReading, PartitionReading, TopicPartitionReading

TOPIC_PREFIX = "mistudio."
GENERATION = "generation"
ESCALATION = "escalation"
"""Its group is there only where second passes are turned on."""
READ_BY: Mapping[str, tuple[str, ...]] = {
    "context": (names.FEATURES, names.REPLAYS),
    "context-requests": (names.REQUESTS,),
    GENERATION: (),
    "validation": (names.DRAFTS,),
    "redelivery": (names.RETRY_SHORT, names.RETRY_LONG),
    ESCALATION: (names.JOBS,),
}
"""What each group reads by name; generation reads all lanes."""

_MIXED_LANES = (names.EXPRESS, names.SHARED)
_EXPECTED = tuple(topic for topics in READ_BY.values() for topic in topics) + _MIXED_LANES
_EARLIEST, _LATEST = -2, -1
_DEADLINE_S = 20.0
_RECORDS_WITHIN_S = 5.0
_SETTLE_S = 5.0

T = TypeVar("T")
Commit = tuple[int, str] | None
"""Offset and metadata; None where nothing was committed."""


class LagReader:
    """Reads lag by an admin client; what it learns of lanes' target models it keeps.

    `clock` gives seconds since 1970 UTC. Where it `escalates`, the second pass's group counts; elsewhere only while it has members.
    """

    def __init__(self, admin: AIOKafkaAdminClient, clock: Callable[[], float] = time.time, *, escalates: bool = False) -> None:
        self._admin = admin
        self._clock = clock
        self._escalates = escalates
        self._models: dict[str, str] = {}

    async def read(self) -> LagReading:
        """Offsets of all groups, and the age of the oldest unfinished record of each partition.

        Raises Unreachable, naming what to grant, when Kafka refuses something; KafkaError or TimeoutError when it does not answer.
        """
        reading = await self.offsets()
        async with asyncio.timeout(_DEADLINE_S):
            oldest = await self._oldest_records(reading)
        return replace(
            reading,
            groups=tuple(replace(group, partitions=tuple(_aged(part, oldest) for part in group.partitions)) for group in reading.groups),
            models=dict(self._models),
        )

    async def offsets(self) -> LagReading:
        """The same without looking at any record: no ages, and no target models beyond those already known."""
        async with asyncio.timeout(_DEADLINE_S):
            return await _when_settled(self._offsets)

    async def _offsets(self) -> LagReading:
        everything = (await self._admin._get_cluster_metadata()).to_object()  # noqa: SLF001  (the public calls give brokers and topics in two answers)
        ours = {topic["topic"] for topic in everything["topics"] if topic["topic"].startswith(TOPIC_PREFIX)}
        described = await self._admin.describe_topics(sorted(ours | set(_EXPECTED)))  # by name, since unnamed ones are left out when they may not be seen
        _refuse_forbidden_topics((topic["topic"], topic["error_code"]) for topic in described)
        missing = tuple(topic["topic"] for topic in described if topic["error_code"] == UnknownTopicOrPartitionError.errno and topic["topic"] in _EXPECTED)
        partitions = [(topic["topic"], part) for topic in described if not topic["error_code"] for part in topic["partitions"]]
        leaders = {TopicPartition(topic, part["partition"]): part["leader"] for topic, part in partitions}
        begin = await self._listed(leaders, _EARLIEST)
        standing = {service: await self._standing(service, topics, begin) for service, topics in READ_BY.items()}
        end = await self._listed(leaders, _LATEST)  # last: a commit beyond an end that is older than it would look like one of another log
        groups = [
            _group(service, READ_BY[service], members, committed, begin, end)
            for service, (members, committed) in standing.items()
            if service != ESCALATION or members or self._escalates
        ]
        return LagReading(
            at_s=self._clock(),
            brokers={broker["node_id"]: f"{broker['host']}:{broker['port']}" for broker in everything["brokers"]},
            topics=tuple(_topic_partition(topic, part, begin, end) for topic, part in sorted(partitions, key=lambda row: (row[0], row[1]["partition"]))),
            groups=tuple(groups),
            models=dict(self._models),
            missing=missing,
        )

    async def _listed(self, leaders: Mapping[TopicPartition, int], which: int) -> dict[TopicPartition, int]:
        """The first or the next offset of each partition; those without a leader, or gone in the meantime, are left out."""
        by_leader: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for tp, leader in leaders.items():
            if leader >= 0:
                by_leader[leader][tp.topic].append((tp.partition, which))
        offsets: dict[TopicPartition, int] = {}
        for leader, asked in by_leader.items():
            answer = await self._admin._send_request(OffsetRequest(-1, 0, list(asked.items())), leader)  # noqa: SLF001  (a consumer's call hangs on a deleted topic)
            for topic, rows in answer.topics:
                _refuse_forbidden_topics((topic, row[1]) for row in rows)
                offsets |= {TopicPartition(topic, row[0]): row[3] for row in rows if not row[1]}
        return offsets

    async def _standing(self, service: str, topics: Sequence[str], readable: Iterable[TopicPartition]) -> tuple[int, dict[TopicPartition, Commit]]:
        """How many members the group of a service has, and its commit of each partition that it reads, None where there is none."""
        group = GROUP_PREFIX + service
        reads = [tp for tp in readable if (tp.topic.startswith(names.PROMPTS_PREFIX) if service == GENERATION else tp.topic in topics)]
        try:
            committed = await committed_offsets(self._admin, group, reads) if reads else {}
            return await self._members(group), {tp: committed.get(tp) for tp in reads}
        except GroupAuthorizationFailedError as error:
            raise Unreachable(
                f"Kafka does not let this user see group {group}, so its lag is unknown: grant Describe on the group "
                f"(kafka-acls --add --allow-principal User:... --operation Describe --group {GROUP_PREFIX} --resource-pattern-type prefixed)"
            ) from error
        except TopicAuthorizationFailedError as error:
            raise Unreachable(_topics_refused([tp.topic for tp in reads], "Describe")) from error

    async def _members(self, group: str) -> int:
        """How many members the group has; asked one by one, because aiokafka 0.14 cannot read an answer about several groups."""
        (answer,) = await self._admin.describe_consumer_groups([group])
        ((code, _, _, _, _, members, *_),) = answer.groups
        if code:
            raise for_code(code)(f"description of group {group}")
        return len(members)

    async def records_at(self, offsets: Mapping[TopicPartition, int], reading: LagReading) -> dict[TopicPartition, ConsumerRecord]:
        """The record at, or first after, an offset of each partition; those that cannot be had within seconds are left out.

        Raises Unreachable, naming what to grant, when a topic may not be read.
        """
        leaders = {TopicPartition(part.topic, part.partition): part.leader for part in reading.topics}
        try:
            return await records_at(self._admin, offsets, leaders, within_s=_RECORDS_WITHIN_S)
        except TopicAuthorizationFailedError as error:
            raise Unreachable(_topics_refused(error.args, "Read")) from error

    async def _oldest_records(self, reading: LagReading) -> dict[TopicPartition, ConsumerRecord]:
        """The first unfinished record of each partition, as far as they can be had."""
        parts = {TopicPartition(part.topic, part.partition): part for group in reading.groups for part in group.partitions}
        found = await self.records_at({tp: first for tp, part in parts.items() if (first := part.first_unfinished) is not None}, reading)
        oldest = {tp: record for tp, record in found.items() if record.offset not in parts[tp].finished}
        for tp, record in oldest.items():
            if tp.topic.startswith(names.PROMPTS_PREFIX) and tp.topic not in (*_MIXED_LANES, *self._models) and (model := target_model_in(record)) is not None:
                self._models[tp.topic] = model
        return oldest


def target_model_in(record: ConsumerRecord) -> str | None:
    """The target model of a lane's record; None when it cannot be read, which generation will say in its time."""
    try:
        return received(ExplanationRequested, record).event.subject.target_model
    except MalformedEvent:
        return None


def _aged(part: PartitionReading, oldest: Mapping[TopicPartition, ConsumerRecord]) -> PartitionReading:
    record = oldest.get(TopicPartition(part.topic, part.partition))
    return part if record is None else replace(part, oldest_ms=record.timestamp)


def _group(
    service: str,
    topics: Sequence[str],
    members: int,
    committed: Mapping[TopicPartition, Commit],
    begin: Mapping[TopicPartition, int],
    end: Mapping[TopicPartition, int],
) -> GroupReading:
    order = {topic: place for place, topic in enumerate(topics)}
    known = sorted((tp for tp in committed if tp in end), key=lambda tp: (order.get(tp.topic, 0), tp))
    return GroupReading(service, GROUP_PREFIX + service, members, tuple(_partition(tp, begin[tp], end[tp], committed[tp]) for tp in known))


def _partition(tp: TopicPartition, begin: int, end: int, commit: Commit) -> PartitionReading:
    if commit is None:
        return PartitionReading(tp.topic, tp.partition, begin, end, committed=None)
    offset, metadata = commit
    return PartitionReading(tp.topic, tp.partition, begin, end, offset, unpack(offset, metadata), in_flight_of(metadata))


def _topic_partition(topic: str, part: Mapping[str, Any], begin: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]) -> TopicPartitionReading:
    tp = TopicPartition(topic, part["partition"])
    return TopicPartitionReading(topic, tp.partition, part["leader"], tuple(part["replicas"]), tuple(part["isr"]), begin.get(tp), end.get(tp))


def _refuse_forbidden_topics(answers: Iterable[tuple[str, int]]) -> None:
    if refused := [topic for topic, code in answers if code == TopicAuthorizationFailedError.errno]:
        raise Unreachable(_topics_refused(refused, "Describe"))


def _topics_refused(topics: Iterable[str], operation: str) -> str:
    return (
        f"Kafka does not let this user {operation.lower()} {', '.join(sorted(set(topics)))}, so lag is unknown: grant {operation} on the topics "
        f"(kafka-acls --add --allow-principal User:... --operation {operation} --topic {TOPIC_PREFIX} --resource-pattern-type prefixed)"
    )


async def _when_settled(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while Kafka says that it is only not ready yet, as after a broker's start or a change of leaders."""
    async for attempt in stamina.retry_context(on=_passes, attempts=None, timeout=_SETTLE_S, wait_initial=0.1, wait_max=1.0):
        with attempt:
            return await ask()
    raise LeaderNotAvailableError  # not reached: the last attempt raises its own error


def _passes(error: Exception) -> bool:
    return isinstance(error, KafkaError) and bool(error.retriable)
