"""What consumer lag is: figures out of one or two readings of a Kafka. Pure, no I/O.

A reading holds offsets, not records. On topics that are not compacted, as all that groups read here but explain.jobs, they are the same.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class PartitionReading:
    """How a group stands in one partition.

    The log holds the offsets from `begin` to before `end`. `committed` is None when the group never committed;
    `finished` are offsets that its commit's metadata says are done beyond the committed one; `in_flight` is how many
    records its consumer had taken and not finished at that commit, None when the metadata does not say; `oldest_ms` is the timestamp of
    the first unfinished record, None while unknown.
    """

    topic: str
    partition: int
    begin: int
    end: int
    committed: int | None
    finished: frozenset[int] = frozenset()
    in_flight: int | None = None
    oldest_ms: int | None = None

    @property
    def is_beyond_end(self) -> bool:
        """Whether the commit is of a log that was cut or made anew; everything in the log is unread then."""
        return self.committed is not None and self.committed > self.end

    @property
    def lag(self) -> int:
        """End less committed offset, as Kafka counts it; the whole log where there is no commit to count from, which Kafka does not count at all."""
        return self.end - (self.begin if self.committed is None or self.is_beyond_end else self.committed)

    @property
    def expired(self) -> int:
        """Records that retention removed before the group had read them; those that it had finished beyond its commit are not among them."""
        if self.committed is None or self.committed >= self.begin:
            return 0
        return self.begin - self.committed - sum(1 for offset in self.finished if self.committed <= offset < self.begin)

    @property
    def unfinished(self) -> int:
        """Records in the log that the group has still to finish."""
        return self.end - self._base - len(self._finished_beyond)

    @property
    def first_unfinished(self) -> int | None:
        """Offset of the first of them."""
        beyond = self._finished_beyond
        return next((offset for offset in range(self._base, self.end) if offset not in beyond), None)

    def finished_since(self, earlier: "PartitionReading") -> int | None:
        """Records finished since an earlier reading, as far as commits tell; None when the group went back or the log was made anew.

        Records that retention removed in between are not counted.
        """
        if self.is_beyond_end or self.end < earlier.end or (self.committed is None) > (earlier.committed is None):
            return None
        now, then = _done(self), _done(earlier)
        if now < then:
            return None
        return max(0, now - max(then, earlier.begin)) if self.committed is not None else 0

    @property
    def _base(self) -> int:
        return self.begin if self.committed is None or self.is_beyond_end else max(self.committed, self.begin)

    @property
    def _finished_beyond(self) -> frozenset[int]:
        if self.is_beyond_end:
            return frozenset()
        return frozenset(offset for offset in self.finished if self._base <= offset < self.end)


@dataclass(frozen=True, slots=True)
class GroupReading:
    """A consumer group: the service that it belongs to, how many members it has, how it stands in every partition it reads."""

    service: str
    group: str
    members: int
    partitions: tuple[PartitionReading, ...]


@dataclass(frozen=True, slots=True)
class TopicPartitionReading:
    """A partition by itself. `leader` is -1, and the offsets are None, while it has no leader that answers."""

    topic: str
    partition: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    begin: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class LagReading:
    """Everything that one look at a Kafka told.

    `at_s` is when, in seconds since 1970 UTC. `brokers` gives addresses by id; `models` the target models of lanes,
    as far as they are known; `missing` the topics that should exist and do not.
    """

    at_s: float
    brokers: Mapping[int, str]
    topics: tuple[TopicPartitionReading, ...]
    groups: tuple[GroupReading, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def unavailable(self) -> tuple[TopicPartitionReading, ...]:
        """Partitions whose offsets could not be read."""
        return tuple(partition for partition in self.topics if partition.end is None)

    @property
    def is_complete(self) -> bool:
        """Whether every topic is there and every partition could be read."""
        return not self.missing and not self.unavailable


@dataclass(frozen=True, slots=True)
class LagFigures:
    """How far a group is behind in one topic.

    `lag` is Kafka's count, which includes what is finished beyond the committed offset and what expired; `unfinished`
    is what is left to do, and `in_flight` of it what consumers have taken already. `target_model` is None where the
    topic carries several, or none is known. `in_flight`, `oldest_age_s` (seconds since the oldest unfinished record was
    written), `rate` (records finished a second) and `drain_s` (seconds until nothing is left, if nothing is added) are
    None where nothing tells.
    """

    service: str
    group: str
    topic: str
    target_model: str | None
    lag: int
    unfinished: int
    in_flight: int | None
    oldest_age_s: float | None
    rate: float | None
    drain_s: float | None
    partitions: int
    uncommitted: int
    """Partitions that the group never committed; their whole log is counted."""
    beyond_end: int
    """Partitions whose log ends before the committed offset; their whole log is counted."""
    expired: int
    """Records that retention removed unread."""
    members: int
    """Members of the group; without one nobody works on what is unfinished."""


def figures(reading: LagReading, earlier: LagReading | None = None) -> list[LagFigures]:
    """The figures of every group and topic, in the reading's order; rates only with an `earlier` reading to compare with."""
    before = {(group.group, part.topic, part.partition): part for group in (earlier.groups if earlier else ()) for part in group.partitions}
    elapsed_s = reading.at_s - earlier.at_s if earlier else 0.0
    return [
        _of_topic(group, topic, partitions, reading, rate=_rate(group.group, partitions, before, elapsed_s))
        for group in reading.groups
        for topic, partitions in _by_topic(group.partitions).items()
    ]


class Readings:
    """The readings of the last `over_s` seconds, so that there is one to take rates from."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._kept: deque[LagReading] = deque()

    def add(self, reading: LagReading) -> list[LagFigures]:
        """Keep a reading; returns its figures, with rates where there is an earlier one."""
        self._kept.append(reading)
        while reading.at_s - self._kept[0].at_s > self._over_s:
            self._kept.popleft()
        return figures(reading, self._kept[0] if len(self._kept) > 1 else None)


def document(reading: LagReading, rows: Iterable[LagFigures]) -> dict[str, Any]:
    """A reading and its figures as JSON."""
    return {
        "at": datetime.fromtimestamp(reading.at_s, UTC).isoformat(timespec="milliseconds"),
        "lag": [asdict(row) for row in rows],
        "missing_topics": list(reading.missing),
        "unavailable_partitions": [{"topic": part.topic, "partition": part.partition} for part in reading.unavailable],
    }


def _of_topic(group: GroupReading, topic: str, partitions: Sequence[PartitionReading], reading: LagReading, *, rate: float | None) -> LagFigures:
    unfinished = sum(part.unfinished for part in partitions)
    flying = [part.in_flight for part in partitions if part.in_flight is not None]
    waiting_since = [part.oldest_ms for part in partitions if part.oldest_ms is not None and part.unfinished]
    return LagFigures(
        service=group.service,
        group=group.group,
        topic=topic,
        target_model=reading.models.get(topic),
        lag=sum(part.lag for part in partitions),
        unfinished=unfinished,
        in_flight=sum(flying) if flying else None,
        oldest_age_s=max(0.0, reading.at_s - min(waiting_since) / 1000) if waiting_since else None,
        rate=rate,
        drain_s=unfinished / rate if rate else None,
        partitions=len(partitions),
        uncommitted=sum(1 for part in partitions if part.committed is None),
        beyond_end=sum(1 for part in partitions if part.is_beyond_end),
        expired=sum(part.expired for part in partitions),
        members=group.members,
    )


def _rate(group: str, partitions: Iterable[PartitionReading], before: Mapping[tuple[str, str, int], PartitionReading], elapsed_s: float) -> float | None:
    """Records finished a second; a partition that is new, or went back, tells nothing."""
    pairs = [(part, before.get((group, part.topic, part.partition))) for part in partitions]
    progress = [finished for part, past in pairs if past is not None and (finished := part.finished_since(past)) is not None]
    return sum(progress) / elapsed_s if progress and elapsed_s > 0 else None


def _done(part: PartitionReading) -> int:
    """Grows by one with each record that is finished."""
    return part.begin if part.committed is None else part.committed + sum(1 for offset in part.finished if offset >= part.committed)


def _by_topic(partitions: Iterable[PartitionReading]) -> dict[str, list[PartitionReading]]:
    topics: dict[str, list[PartitionReading]] = {}
    for part in partitions:
        topics.setdefault(part.topic, []).append(part)
    return topics
