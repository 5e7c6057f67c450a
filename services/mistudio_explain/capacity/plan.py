"""Plans a run of features: how long it takes, what it costs, and how much of each service, topic and disk it needs.

Everything follows from an order's figures and the measured ones; what is not known stays unknown, with the reason.
"""

import math
from collections.abc import Sequence

from mistudio_explain.capacity.figures import Figure, Measured
from mistudio_explain.capacity.order import Kept, Order, Plan, Service, Topic
from mistudio_explain.errors import BadInput

FULL = 0.7
"""A replica is planned to this share of one core: what is left is for batches that come together, and for a replica that is away."""
PARTITIONS_PER_BROKER = 4_000
PARTITIONS_PER_CLUSTER = 200_000
LIMITS_FROM = "Apache Kafka's KIP-578: no more than 4,000 partitions a broker, replicas counted, and 200,000 a cluster"
FLEET = "LLM endpoints"
LANES = "mistudio.explain.prompts."
LANE_NAME = "mistudio.explain.prompts"
"""How the measured figures call the lane of a target model."""
_HOUR_S = 3600
_DAY_H = 24
_GB = 1e9
_OF_ONE_CORE = "of one core"
_MILLION = 1e6


def plan(order: Order, measured: Measured, topics: Sequence[Topic]) -> Plan:
    """Plan an order. Raises BadInput when a broker would hold more partitions than Kafka is recommended to."""
    workers = int(order.endpoints.known)
    lane_partitions = _lane_partitions(order, workers)
    pace = _pace(order, measured, workers, lane_partitions)
    services = _services(order, measured, pace.known, workers)
    others = max(int(order.partitions.known), *(each.replicas for each in services if each.name in ("context", "validation")))
    kept = _topics(order, measured, topics, lane_partitions, others)
    replicas = sum(each.partitions for each in kept) * int(order.replication.known)
    _check_partitions(order, replicas, lane_partitions)
    hours = order.features.known * order.explained_share.known / pace.known / _HOUR_S
    kwh = _kwh(order, hours)
    results = {
        "explained": pace,
        "hours": Figure(hours, "hours", "features that cost a call ÷ explained a second"),
        **_drain(order, pace.known, workers),
        "usd": _usd(order),
        "kwh": kwh,
        "electricity": _electricity(order, kwh),
        "partition replicas a broker": Figure(replicas / order.brokers.known, "", f"at most {PARTITIONS_PER_BROKER}: {LIMITS_FROM}"),
        "kafka": _sum("GB on all brokers", [each.gigabytes for each in kept]),
        "store": Figure(
            order.features.known * measured.bytes_at(measured.store_bytes, order.feature_bytes.known) / _GB, "GB", f"SQLite, {measured.origin}; kept 180 days"
        ),
        "network": _network(order, measured, pace.known),
    }
    return Plan(results, services, kept, _assumptions(order), tuple(_warnings(order, hours, pace, workers, lane_partitions, topics)))


def balanced(partitions: int, workers: int) -> float:
    """The share of a fleet of equal workers that is busy while a lane drains to its end: partitions are dealt out whole.

    With 6 partitions 4 workers get 2, 2, 1 and 1: those with one are done at half the time of the others, and the fleet is busy for 3/4 of it.
    """
    return partitions / workers / math.ceil(partitions / workers)


def _lane_partitions(order: Order, workers: int) -> int:
    if order.lane_partitions.value is not None:
        return int(order.lane_partitions.value)
    return math.ceil(order.usual_lane_partitions.known / workers) * workers


def _calls(order: Order) -> float:
    return order.features.known * order.explained_share.known * order.calls.known


def _pace(order: Order, measured: Measured, workers: int, lane_partitions: int) -> Figure:
    """Features a second that get their explanation: what the slowest of endpoints, context and aggregator makes."""
    share = balanced(lane_partitions, workers)
    uneven = "" if share == 1 else f", of which {share:.0%} are busy: {lane_partitions} partitions of a lane for {workers} workers"
    fleet = workers * order.slots.known / order.call_s.known * share / order.calls.known
    models = int(order.target_models.known)
    context = models * FULL * 1000 / measured.cpu_ms["context"] * order.explained_share.known
    aggregator = FULL * 1000 / measured.cpu_ms["aggregator"] * order.explained_share.known
    unit, could = "features a second", f"; the endpoints could explain {fleet:.0f} a second"
    return min(
        Figure(fleet, unit, f"endpoints × slots ÷ seconds a call{uneven}"),
        Figure(context, unit, f"context, one replica at {FULL:.0%} of a core for each target model ({measured.origin}){could}"),
        Figure(aggregator, unit, f"the one aggregator at {FULL:.0%} of a core ({measured.origin}){could}"),
        key=lambda figure: figure.known,
    )


def _services(order: Order, measured: Measured, pace: float, workers: int) -> list[Service]:
    features = pace / order.explained_share.known
    generation = Figure(pace * order.calls.known * measured.cpu_ms["generation"] / 1000 / workers, _OF_ONE_CORE, measured.origin)
    aggregator = Figure(features * measured.cpu_ms["aggregator"] / 1000, _OF_ONE_CORE, measured.origin)
    most = int(order.target_models.known)
    return [
        _replicated(
            "context", features, measured, most=most, why="one target model's features stand in one partition of find.features, which one replica reads"
        ),
        Service("generation", workers, generation, "one worker for each endpoint, which alone counts its slots"),
        _replicated("validation", pace, measured, most=None, why=f"as many as keep each below {FULL:.0%} of a core"),
        Service("aggregator", 1, aggregator, "one writes; a second one on PostgreSQL stands by"),
        Service("redelivery", 1, Figure(None, _OF_ONE_CORE, "it works when something fails"), "redelivery, replayer, escalation"),
    ]


def _replicated(name: str, rate: float, measured: Measured, *, most: int | None, why: str) -> Service:
    cores = rate * measured.cpu_ms[name] / 1000
    wanted = max(1, math.ceil(round(cores / FULL, 6)))
    replicas = wanted if most is None else min(wanted, most)
    return Service(name, replicas, Figure(cores / replicas, _OF_ONE_CORE, measured.origin), why)


def _topics(order: Order, measured: Measured, topics: Sequence[Topic], lane_partitions: int, others: int) -> list[Kept]:
    lanes = min(int(order.target_models.known), order.max_lanes)
    made = []
    for topic in topics:
        partitions = 1 if topic.is_single else others
        if topic.name.startswith(LANES):
            partitions = lane_partitions
        made.append(Kept(topic.name, partitions, _gigabytes(order, measured, topic.name), _keeps(topic)))
    lane = Topic(LANES + "*", is_single=False, keeps_h=next(topic.keeps_h for topic in topics if topic.name.startswith(LANES)))
    return [*made, Kept(f"{LANE_NAME} × {lanes}", lanes * lane_partitions, _gigabytes(order, measured, LANE_NAME), _keeps(lane))]


def _keeps(topic: Topic) -> str:
    return (
        "the last of each key, for ever" if topic.keeps_h is None else f"{topic.keeps_h / _DAY_H:g} days" if topic.keeps_h >= _DAY_H else f"{topic.keeps_h:g} h"
    )


def _gigabytes(order: Order, measured: Measured, topic: str) -> Figure:
    sizes = measured.topic_bytes.get(topic)
    if sizes is None:
        return Figure(None, "GB", "little beside the others, and not measured")
    share = 1.0 if topic in _EVERY_FEATURE else order.explained_share.known
    amount = order.features.known * share * measured.bytes_at(sizes, order.feature_bytes.known) * order.replication.known / _GB
    return Figure(amount, "GB", f"{measured.origin}; all features at once, before their time is up")


_EVERY_FEATURE = ("mistudio.find.features", "mistudio.explain.admissions", "mistudio.explain.explanations")


def _check_partitions(order: Order, replicas: int, lane_partitions: int) -> None:
    brokers = int(order.brokers.known)
    limit = min(brokers * PARTITIONS_PER_BROKER, PARTITIONS_PER_CLUSTER)
    if replicas > limit:
        raise BadInput(
            f"{lane_partitions} partitions for each lane come to {replicas} partitions with their replicas, on {brokers} brokers; they should have "
            f"at most {limit} ({LIMITS_FROM}). Fewer lane partitions (--partitions), fewer target models at once or more brokers (--brokers) make it fit"
        )


def _drain(order: Order, pace: float, workers: int) -> dict[str, Figure]:
    if order.drain_h.value is None:
        return {}
    target_s = order.drain_h.value * _HOUR_S
    needed = math.ceil(round(_calls(order) / target_s / (order.slots.known / order.call_s.known), 6))
    records = max(1, math.floor(pace / workers * target_s))
    return {
        "endpoints for the target": Figure(needed, "", f"calls ÷ ({order.drain_h.value:g} h × slots ÷ seconds a call), evenly loaded; planned are {workers}"),
        "KEDA lagThreshold": Figure(records, "records", "what one worker takes within the target (charts: autoscaling.lagThreshold)"),
    }


def _usd(order: Order) -> Figure:
    if order.price is None:
        return Figure(None, "USD", order.no_price)
    if order.tokens_in.value is None or order.tokens_out.value is None:
        unknown = order.tokens_in if order.tokens_in.value is None else order.tokens_out
        return Figure(None, "USD", unknown.origin)
    amount = _calls(order) * (order.tokens_in.value * order.price.input + order.tokens_out.value * order.price.output) / _MILLION
    return Figure(amount, "USD", f"calls × tokens × {order.price.origin}")


def _kwh(order: Order, hours: float) -> Figure:
    if order.watts.value is None:
        return Figure(None, "kWh", order.watts.origin)
    return Figure(hours * order.watts.value / 1000, "kWh", "hours × watts of all endpoints; brokers, services and cooling are not counted")


def _electricity(order: Order, kwh: Figure) -> Figure:
    if kwh.value is None or order.usd_per_kwh.value is None:
        return Figure(None, "USD", order.usd_per_kwh.origin if kwh.value is not None else kwh.origin)
    return Figure(kwh.value * order.usd_per_kwh.value, "USD", "kWh × price")


def _network(order: Order, measured: Measured, pace: float) -> Figure:
    """What brokers take, copy among each other and give, MB/s: each byte is written once, copied to the other replicas and read once by its stage."""
    a_feature = sum(measured.bytes_at(sizes, order.feature_bytes.known) for sizes in measured.topic_bytes.values())
    times = 2 + (order.replication.known - 1)
    rate = pace / order.explained_share.known
    return Figure(rate * a_feature * times / 1e6, "MB/s over all brokers", f"in, between replicas and out once; {measured.origin}")


def _sum(unit: str, figures: Sequence[Figure]) -> Figure:
    return Figure(sum(each.value for each in figures if each.value is not None), unit, "the topics below, all replicas, before their time is up")


def _assumptions(order: Order) -> dict[str, Figure]:
    return {
        "features": order.features,
        "share that costs a call": order.explained_share,
        "calls for each": order.calls,
        "target models": order.target_models,
        "endpoints": order.endpoints,
        "slots at each": order.slots,
        "seconds a call": order.call_s,
        "prompt tokens a call": order.tokens_in,
        "answer tokens a call": order.tokens_out,
        "watts of all endpoints": order.watts,
        "price of electricity": order.usd_per_kwh,
        "size of a feature": order.feature_bytes,
        "brokers": order.brokers,
        "replicas of a topic": order.replication,
    }


def _warnings(order: Order, hours: float, pace: Figure, workers: int, lane_partitions: int, topics: Sequence[Topic]) -> list[str]:
    told = []
    shortest_h = min((topic.keeps_h for topic in topics if topic.keeps_h is not None and topic.name in _EVERY_FEATURE), default=math.inf)
    if hours > shortest_h:
        told.append(
            f"{hours / _DAY_H:.0f} days are longer than the {shortest_h / _DAY_H:g} days that find.features keeps: what waits longer expires unread. "
            "Publish in parts, add endpoints, or keep the topic longer"
        )
    if lane_partitions < workers:
        told.append(f"{workers - lane_partitions} of {workers} workers get no partition of a lane that has {lane_partitions}, and do nothing for it")
    elif (share := balanced(lane_partitions, workers)) < 1:
        told.append(f"{lane_partitions} partitions are no multiple of {workers} workers: {1 - share:.0%} of the fleet idles while the last partitions drain")
    if order.target_models.known > order.max_lanes:
        told.append(
            f"{order.target_models.known - order.max_lanes:g} of the target models share a lane: there are at most {order.max_lanes} (limits.max_lanes)"
        )
    if order.drain_h.value is not None and hours > order.drain_h.value:
        told.append(f"{hours:.1f} h are longer than the target of {order.drain_h.value:g} h")
    if "context" in pace.origin:
        told.append(
            "context limits the pace, for one replica reads the one partition of find.features in which a target model's features stand; more endpoints idle"
        )
    if "aggregator" in pace.origin:
        told.append("the one aggregator limits the pace; endpoints beyond that idle. A Kafka and a store for each group of target models is what helps")
    return told
