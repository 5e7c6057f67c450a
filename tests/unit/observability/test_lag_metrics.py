"""What Prometheus gets to see of lag."""

import pytest
from prometheus_client import CollectorRegistry

from mistudio_explain.observability.lag import LagCollector
from mistudio_explain.observability.lag_figures import GroupReading, LagReading, PartitionReading, TopicPartitionReading
from mistudio_explain.observability.metrics import LAG_METRICS

GROUP = "mistudio-explain.generation"
LANE = "mistudio.explain.prompts.m-12345678"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def collector(clock: Clock, registry: CollectorRegistry) -> LagCollector:
    made = LagCollector(clock)
    registry.register(made)
    return made


def reading(*parts: PartitionReading, topics: tuple[TopicPartitionReading, ...] = (), missing: tuple[str, ...] = ()) -> LagReading:
    return LagReading(100.0, {1: "a:9092", 2: "b:9092"}, topics, (GroupReading("generation", GROUP, 3, parts),), {LANE: "org/M"}, missing)


def samples(registry: CollectorRegistry) -> dict[str, dict[tuple[str, ...], float]]:
    return {family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples} for family in registry.collect() if family.samples}


def test_before_the_first_reading_nothing_is_claimed_but_that_none_succeeded(registry: CollectorRegistry, collector: LagCollector) -> None:
    assert samples(registry) == {"mistudio_explain_lag_read_success": {(): 0}}
    collector.failed()
    assert samples(registry) == {"mistudio_explain_lag_read_success": {(): 0}}


def test_groups_stand_under_kafka_exporters_names_with_an_uncommitted_partitions_whole_log(registry: CollectorRegistry, collector: LagCollector) -> None:
    collector.show(reading(PartitionReading(LANE, 0, 2, 10, committed=4), PartitionReading(LANE, 1, 5, 25, committed=None)))
    seen = samples(registry)
    assert seen["kafka_consumergroup_current_offset"] == {(GROUP, LANE, "0"): 4}
    assert seen["kafka_consumergroup_current_offset_sum"] == {(GROUP, LANE): 4}
    assert seen["kafka_consumergroup_lag"] == {(GROUP, LANE, "0"): 6, (GROUP, LANE, "1"): 20}
    assert seen["kafka_consumergroup_lag_sum"] == {(GROUP, LANE): 26}
    assert seen["kafka_consumergroup_members"] == {(GROUP,): 3}


def test_ours_tell_service_lane_and_target_model(registry: CollectorRegistry, collector: LagCollector) -> None:
    part = PartitionReading(LANE, 0, 2, 10, committed=4, finished=frozenset({6}), in_flight=1, oldest_ms=40_000)
    collector.show(reading(part))
    seen, labels = samples(registry), ("generation", LANE, "org/M")
    assert seen["mistudio_explain_lag"] == {labels: 5}
    assert seen["mistudio_explain_lag_in_flight"] == {labels: 1}
    assert seen["mistudio_explain_lag_oldest_unfinished_seconds"] == {labels: 60}
    assert seen["mistudio_explain_lag_expired"] == {labels: 0}
    collector.show(reading(PartitionReading(LANE, 0, 2, 10, committed=10)))
    assert not {"mistudio_explain_lag_in_flight", "mistudio_explain_lag_oldest_unfinished_seconds"} & set(samples(registry))


def test_topics_and_brokers_stand_under_kafka_exporters_names(registry: CollectorRegistry, collector: LagCollector) -> None:
    well = TopicPartitionReading("t", 0, leader=1, replicas=(1, 2), in_sync=(1, 2), begin=3, end=9)
    ill = TopicPartitionReading("t", 1, leader=-1, replicas=(2, 1), in_sync=(1,), begin=None, end=None)
    collector.show(reading(topics=(well, ill)))
    seen = samples(registry)
    assert seen["kafka_brokers"] == {(): 2}
    assert seen["kafka_broker_info"] == {("1", "a:9092"): 1, ("2", "b:9092"): 1}
    assert seen["kafka_topic_partitions"] == {("t",): 2}
    by_partition = {name.removeprefix("kafka_topic_partition_"): values for name, values in seen.items() if name.startswith("kafka_topic_partition_")}
    assert by_partition == {
        "current_offset": {("t", "0"): 9},
        "oldest_offset": {("t", "0"): 3},
        "leader": {("t", "0"): 1, ("t", "1"): -1},
        "leader_is_preferred": {("t", "0"): 1, ("t", "1"): 0},
        "replicas": {("t", "0"): 2, ("t", "1"): 2},
        "in_sync_replica": {("t", "0"): 2, ("t", "1"): 1},
        "under_replicated_partition": {("t", "0"): 0, ("t", "1"): 1},
    }
    assert seen["mistudio_explain_lag_read_success"] == {(): 0}  # a partition could not be read


def test_what_a_deleted_lane_leaves_behind_is_nothing(registry: CollectorRegistry, collector: LagCollector) -> None:
    collector.show(reading(PartitionReading(LANE, 0, 0, 10, committed=4)))
    collector.show(reading())
    assert not [name for name, values in samples(registry).items() if any(LANE in labels for labels in values)]


def test_while_kafka_is_away_the_last_reading_stays_and_says_how_old_it_is(registry: CollectorRegistry, collector: LagCollector, clock: Clock) -> None:
    collector.show(reading(PartitionReading(LANE, 0, 0, 10, committed=4)))
    before = samples(registry)
    assert (before["mistudio_explain_lag_read_success"][()], before["mistudio_explain_lag_reading_age_seconds"][()]) == (1, 0)
    clock.now = 75.0
    collector.failed()
    after = samples(registry)
    assert (after["mistudio_explain_lag_read_success"][()], after["mistudio_explain_lag_reading_age_seconds"][()]) == (0, 75)
    assert after["kafka_consumergroup_lag"] == before["kafka_consumergroup_lag"]


def test_a_missing_topic_is_no_success(registry: CollectorRegistry, collector: LagCollector) -> None:
    collector.show(reading(missing=("mistudio.explain.drafts",)))
    assert samples(registry)["mistudio_explain_lag_read_success"] == {(): 0}


def test_every_metric_has_a_meaning_and_is_shown(registry: CollectorRegistry, collector: LagCollector) -> None:
    part = PartitionReading(LANE, 0, 0, 10, committed=4, in_flight=1, oldest_ms=5)
    collector.show(reading(part, topics=(TopicPartitionReading(LANE, 0, 1, (1,), (1,), 0, 10),)))
    assert set(samples(registry)) == set(LAG_METRICS)
    assert all(meaning.endswith(".") for meaning, _ in LAG_METRICS.values())
