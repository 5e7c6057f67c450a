"""Ten million features on a hundred endpoints: where it breaks first, what mends that, and what breaks next."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.simulation.pipeline import simulate
from benchmarks.simulation.world import Costs, Endpoint, Ran, World

FEATURES, ENDPOINTS = 10_000_000, 100
SLOTS, CALL_S = 8, 0.8
_GRAIN = 4
_HEADROOM = 0.7  # of a core, as a plan counts
_BUSY = 0.85  # from here on a part is what limits: the rest is waiting for confirmations, and the run's beginning and end


@dataclass(frozen=True, slots=True)
class Step:
    """One change, and what came of it."""

    change: str
    made: Ran
    hours: float
    """For all features, at the rate of those that were simulated."""
    limit: str
    """What the pace is limited by."""


def steps(costs: Costs, features: int) -> Iterator[Step]:
    """From an installation as it is made by default to one that keeps all endpoints busy; `features` of the ten million are simulated."""
    fast = [Endpoint(SLOTS, CALL_S)] * ENDPOINTS
    pace = ENDPOINTS * SLOTS / CALL_S
    context, validation = (max(1, math.ceil(pace * cost / _HEADROOM)) for cost in (costs.context, costs.validation))
    world = World(features, fast, costs, lane_partitions=12, brokers=3, grain=_GRAIN)
    yield _step("as it is installed: 12 partitions a lane, one replica of each stage", world)
    world = world.but(lane_partitions=ENDPOINTS)
    yield _step(f"{ENDPOINTS} partitions for the lane: one for each worker", world)
    world = world.but(validation=validation, partitions=max(world.partitions, validation))
    yield _step(f"{validation} replicas of validation, and as many partitions of drafts", world)
    world = world.but(context=context, partitions=max(world.partitions, context), source_partitions=context)
    yield _step(f"{context} replicas of context, the features of at least {context} target models or find.features keyed otherwise", world)
    slow = world.but(endpoints=[*fast[: ENDPOINTS // 2], *[Endpoint(SLOTS, 2 * CALL_S)] * (ENDPOINTS // 2)])
    yield _step("the same, but half of the endpoints at half the speed", slow)
    yield _step("and prompts placed where fewest wait, instead of by their keys", slow.but(evens_out=True))
    faster = world.but(endpoints=[Endpoint(SLOTS, CALL_S / 10)] * ENDPOINTS)
    wanted = (max(1, math.ceil(10 * pace * cost / _HEADROOM)) for cost in (costs.context, costs.validation))
    many = dict(zip(("context", "validation"), wanted, strict=True))
    most = max(many.values())
    yield _step("all endpoints ten times as fast, context and validation to match", faster.but(**many, partitions=most, source_partitions=most))


def _step(change: str, world: World) -> Step:
    made = simulate(world)
    return Step(change, made, FEATURES / made.rate / 3600, _limit(made))


def _limit(made: Ran) -> str:
    part = max((name for name in made.busy if name != "slots"), key=lambda name: made.busy[name])
    if made.busy[part] >= _BUSY:
        return f"{part}, {made.busy[part]:.0%} busy"
    return "the slots" if made.busy["slots"] >= _BUSY else "the lane's partitions: whoever has none, or an equal share though it is faster, waits"


def rows(found: Sequence[Step]) -> list[list[str]]:
    """For a table."""
    return [[step.change, f"{step.made.rate:.0f}", f"{step.hours:.1f}", f"{step.made.busy['slots']:.0%}", step.limit] for step in found]
