"""What a plan says, and what it refuses to say."""

import math
from dataclasses import replace

import pytest

from mistudio_explain.capacity.figures import Figure, Measured, given, measured
from mistudio_explain.capacity.order import Order, Plan, Price, Topic
from mistudio_explain.capacity.plan import balanced, plan
from mistudio_explain.errors import BadInput

TOPICS = (
    Topic("mistudio.find.features", is_single=False, keeps_h=720),
    Topic("mistudio.explain.prompts.shared", is_single=False, keeps_h=720),
    Topic("mistudio.explain.explanations", is_single=False, keeps_h=None),
    Topic("mistudio.explain.jobs", is_single=True, keeps_h=None),
)
MEASURED = Measured(
    origin="measured: a bench",
    cpu_ms={"context": 2.0, "generation": 3.0, "validation": 4.0, "aggregator": 0.5},
    feature_bytes=(6_000, 42_000),
    topic_bytes={
        "mistudio.find.features": (6_500, 42_500),
        "mistudio.explain.prompts": (9_000, 20_000),
        "mistudio.explain.explanations": (5_000, 10_000),
    },
    store_bytes=(3_000, 4_000),
)


def figure(value: float | None, origin: str = "given: a test") -> Figure:
    return Figure(value, "", origin)


ORDER = Order(
    features=figure(10_000), explained_share=figure(1), calls=figure(1), target_models=figure(1), max_lanes=64,
    endpoints=figure(4), slots=figure(8), call_s=figure(0.8), tokens_in=figure(1_000), tokens_out=figure(100), price=None,
    no_price="no --model was named", watts=figure(None, "--watts was not said"),
    usd_per_kwh=figure(None, "nobody says it"), drain_h=figure(None), feature_bytes=figure(6_000), brokers=figure(3), replication=figure(3),
    lane_partitions=figure(None), usual_lane_partitions=figure(12), partitions=figure(6),
)  # fmt: skip


def planned(**changes: object) -> Plan:
    return plan(replace(ORDER, **changes), MEASURED, TOPICS)  # type: ignore[arg-type]


def replicas(made: Plan, service: str) -> int:
    return next(each.replicas for each in made.services if each.name == service)


def test_hours_are_the_calls_over_what_all_slots_make() -> None:
    assert planned().results["hours"].value == pytest.approx(10_000 / 40 / 3600)


def test_features_that_are_skipped_cost_no_call_and_several_candidates_cost_several() -> None:
    made = planned(explained_share=figure(0.5), calls=figure(3))
    assert made.results["hours"].value == pytest.approx(15_000 / 40 / 3600)


def test_what_nobody_said_is_unknown_with_its_reason_and_never_nought() -> None:
    results = planned().results
    assert {name: (results[name].value, results[name].origin) for name in ("usd", "kwh", "electricity")} == {
        "usd": (None, "no --model was named"),
        "kwh": (None, "--watts was not said"),
        "electricity": (None, "--watts was not said"),
    }


def test_a_price_and_watts_give_dollars_and_kilowatt_hours() -> None:
    made = planned(price=Price(2.0, 8.0, "a price list"), watts=figure(1_400), usd_per_kwh=figure(0.5))
    assert made.results["usd"].value == pytest.approx(10_000 * (1_000 * 2 + 100 * 8) / 1e6)
    assert made.results["kwh"].value == pytest.approx(10_000 / 40 / 3600 * 1.4)
    assert made.results["electricity"].value == pytest.approx(made.results["kwh"].known * 0.5)


def test_services_get_as_many_replicas_as_keep_each_below_its_share_of_a_core() -> None:
    made = planned(endpoints=figure(40), target_models=figure(3))  # 400 features a second: 0.8 cores of context, 1.6 of validation
    assert (replicas(made, "generation"), replicas(made, "context"), replicas(made, "validation"), replicas(made, "aggregator")) == (40, 2, 3, 1)
    assert all(each.busy.value is None or each.busy.value <= 0.7 for each in made.services)


def test_one_target_model_is_read_by_one_context_replica_which_then_limits_the_pace() -> None:
    made = planned(endpoints=figure(100))
    assert made.results["explained"].value == pytest.approx(0.7 / 0.002)
    assert "context" in made.results["explained"].origin
    assert replicas(made, "context") == 1
    assert any("one partition of find.features" in warning for warning in made.warnings)


def test_the_one_aggregator_limits_the_pace_of_a_fleet_that_is_faster() -> None:
    made = planned(endpoints=figure(200), target_models=figure(10))
    assert made.results["explained"].value == pytest.approx(0.7 / 0.0005)
    assert "aggregator" in made.results["explained"].origin


@pytest.mark.parametrize(("partitions", "workers", "share"), [(12, 4, 1), (6, 4, 0.75), (6, 3, 1), (6, 100, 0.06), (100, 100, 1)])
def test_a_fleet_is_busy_as_far_as_partitions_can_be_dealt_out_evenly(partitions: int, workers: int, share: float) -> None:
    assert balanced(partitions, workers) == pytest.approx(share)


@pytest.mark.parametrize(("workers", "partitions"), [(1, 12), (4, 12), (5, 15), (100, 100)])
def test_a_lane_gets_a_multiple_of_the_workers_as_partitions(workers: int, partitions: int) -> None:
    lane = next(each for each in planned(endpoints=figure(workers)).topics if each.topic.startswith("mistudio.explain.prompts ×"))
    assert lane.partitions == partitions


def test_workers_without_a_partition_are_told() -> None:
    assert any("94 of 100 workers" in warning for warning in planned(endpoints=figure(100), lane_partitions=figure(6)).warnings)


def test_a_run_that_outlives_the_retention_of_its_features_is_warned_of() -> None:
    assert any("expires unread" in warning for warning in planned(features=figure(10_000_000), endpoints=figure(1), slots=figure(1), call_s=figure(5)).warnings)


def test_partitions_beyond_what_brokers_are_recommended_to_hold_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="--partitions"):
        planned(lane_partitions=figure(5_000))


def test_target_models_beyond_the_lanes_share_one_and_that_is_told() -> None:
    made = planned(target_models=figure(100))
    assert any(each.topic == "mistudio.explain.prompts × 64" for each in made.topics)
    assert any("36 of the target models share a lane" in warning for warning in made.warnings)


def test_a_drain_target_says_how_many_endpoints_it_takes_and_the_scalers_threshold() -> None:
    results = planned(features=figure(3_600_000), drain_h=figure(10)).results
    assert results["endpoints for the target"].value == 10
    assert results["KEDA lagThreshold"].value == 360_000


def test_disk_is_what_was_measured_for_a_feature_of_its_size_on_all_replicas() -> None:
    of = {each.topic: each.gigabytes.value for each in planned(feature_bytes=figure(24_000)).topics}
    assert of["mistudio.find.features"] == pytest.approx(10_000 * 24_500 * 3 / 1e9)
    assert of["mistudio.explain.jobs"] is None


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 2.5])
def test_a_number_that_makes_no_sense_is_refused_by_its_options_name(value: float) -> None:
    with pytest.raises(BadInput, match="--endpoints is"):
        given("--endpoints", value, "endpoints", whole=True)


def test_the_measured_figures_that_come_along_name_their_benchmark() -> None:
    assert "python -m benchmarks capacity" in measured().origin
    assert set(measured().cpu_ms) == {"context", "generation", "validation", "aggregator"}
