"""Consumer lag for Prometheus: the last good reading under kafka_exporter's names and labels, with ours beside them.

One collector makes all samples out of one reading, so that what a deleted lane leaves behind is nothing.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mistudio_explain.observability.lag_figures import GroupReading, LagReading, TopicPartitionReading, figures
from mistudio_explain.observability.metrics import LAG_METRICS

Sample = tuple[tuple[str, ...], float]
"""Label values, and the value."""


@dataclass(frozen=True, slots=True)
class _Held:
    reading: LagReading
    at: float


class LagCollector(Collector):
    """Shows the reading that it was given last, and how old it is; nothing before the first one.

    `monotonic` gives seconds; it is asked for ages, which a clock that is set back must not make negative.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: _Held | None = None
        self._succeeded = False

    def show(self, reading: LagReading) -> None:
        """Take a new reading."""
        self._held = _Held(reading, self._monotonic())
        self._succeeded = reading.is_complete

    def failed(self) -> None:
        """Note that a reading failed; the last good one stays, and grows old."""
        self._succeeded = False

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metrics without samples, so that a registry finds a name that is taken."""
        return [_family(name, ()) for name in LAG_METRICS]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All samples of the last good reading."""
        yield _family("mistudio_explain_lag_read_success", [((), float(self._succeeded))])
        if self._held is None:
            return
        reading = self._held.reading
        yield _family("mistudio_explain_lag_reading_age_seconds", [((), self._monotonic() - self._held.at)])
        for name, samples in (*_of_cluster(reading), *_of_topics(reading), *_of_groups(reading.groups), *_ours(reading)):
            yield _family(name, samples)


def _family(name: str, samples: Iterable[Sample]) -> GaugeMetricFamily:
    meaning, labels = LAG_METRICS[name]
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _of_cluster(reading: LagReading) -> Iterator[tuple[str, list[Sample]]]:
    yield "kafka_brokers", [((), len(reading.brokers))]
    yield "kafka_broker_info", [((str(number), address), 1) for number, address in reading.brokers.items()]


def _of_topics(reading: LagReading) -> Iterator[tuple[str, list[Sample]]]:
    topics = {part.topic for part in reading.topics}
    yield "kafka_topic_partitions", [((topic,), sum(1 for part in reading.topics if part.topic == topic)) for topic in sorted(topics)]
    values: dict[str, Callable[[TopicPartitionReading], float | None]] = {
        "kafka_topic_partition_current_offset": lambda part: part.end,
        "kafka_topic_partition_oldest_offset": lambda part: part.begin,
        "kafka_topic_partition_leader": lambda part: part.leader,
        "kafka_topic_partition_leader_is_preferred": lambda part: float(part.replicas[:1] == (part.leader,)),
        "kafka_topic_partition_replicas": lambda part: len(part.replicas),
        "kafka_topic_partition_in_sync_replica": lambda part: len(part.in_sync),
        "kafka_topic_partition_under_replicated_partition": lambda part: float(len(part.in_sync) < len(part.replicas)),
    }
    for name, of in values.items():
        yield name, [((part.topic, str(part.partition)), value) for part in reading.topics if (value := of(part)) is not None]


def _of_groups(groups: Iterable[GroupReading]) -> Iterator[tuple[str, list[Sample]]]:
    parts = [(group.group, part) for group in groups for part in group.partitions]
    offsets: list[Sample] = [((group, part.topic, str(part.partition)), part.committed) for group, part in parts if part.committed is not None]
    lags: list[Sample] = [((group, part.topic, str(part.partition)), part.lag) for group, part in parts]
    yield "kafka_consumergroup_members", [((group.group,), group.members) for group in groups]
    yield "kafka_consumergroup_current_offset", offsets
    yield "kafka_consumergroup_current_offset_sum", _summed(offsets)
    yield "kafka_consumergroup_lag", lags
    yield "kafka_consumergroup_lag_sum", _summed(lags)


def _summed(samples: Iterable[Sample]) -> list[Sample]:
    """Sums over the partitions of a group and topic."""
    sums: dict[tuple[str, ...], float] = {}
    for (group, topic, _), value in samples:
        sums[group, topic] = sums.get((group, topic), 0) + value
    return list(sums.items())


def _ours(reading: LagReading) -> Iterator[tuple[str, list[Sample]]]:
    rows = [((row.service, row.topic, row.target_model or ""), row) for row in figures(reading)]
    yield "mistudio_explain_lag", [(labels, row.unfinished) for labels, row in rows]
    yield "mistudio_explain_lag_in_flight", [(labels, row.in_flight) for labels, row in rows if row.in_flight is not None]
    yield "mistudio_explain_lag_oldest_unfinished_seconds", [(labels, row.oldest_age_s) for labels, row in rows if row.oldest_age_s is not None]
    yield "mistudio_explain_lag_expired", [(labels, row.expired) for labels, row in rows]
