"""Runs a simulated installation: features become prompts, drafts, outcomes and rows, as the services of the product make them."""

import math
import random

from benchmarks.simulation.clock import Clock, Process, Shared, Then
from benchmarks.simulation.parts import Calls, Stage, Topic, Worker
from benchmarks.simulation.world import Ran, World

_LOOK_S = 5.0  # kafka/lane_backlog.py: how often a lane's backlog is read
_LONGEST_S = 1e9


def simulate(world: World) -> Ran:
    """Let an installation work until all its features are rows; the same world gives the same numbers."""
    return _Run(world).run()


class _Run:
    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = Clock()
        self.rng = random.Random(world.seed)
        self.records = math.ceil(world.features / world.grain)
        self.rows = 0
        self.sent = 0
        self.is_full = False
        self.machine = None if world.cores is None else Shared(self.clock, lambda jobs: min(jobs, world.cores or 1))
        self.brokers = self.machine or Shared(self.clock, lambda jobs: min(jobs, world.brokers))
        self.broker_s = 0.0
        self.source, self.lane, self.drafts, self.ends = Topic(world.partitions), Topic(world.lane_partitions), Topic(world.partitions), Topic(1)
        costs, grain, batch = world.costs, world.grain, max(1, world.batch // world.grain)
        self.context = [
            self._stage(self.source, number, world.context, costs.context * grain, self._forward, batch, lambda: not self.is_full)
            for number in range(world.context)
        ]
        self.validation = [
            self._stage(self.drafts, number, world.validation, costs.validation * grain, self._validated, batch, lambda: True)
            for number in range(world.validation)
        ]
        self.aggregator = self._stage(self.ends, 0, 1, costs.aggregator * grain, self._stored, batch, lambda: True)
        server = Process(self.clock, self.machine) if costs.server else None
        self.workers = [
            Worker(
                Process(self.clock, self.machine), self.lane, Calls(self.clock, endpoint, self.rng, grain, server, costs.server),
                max(1, math.ceil(endpoint.slots / grain * world.in_flight_per_slot)), cost_s=costs.generation * grain, answered=self._answered,
            )
            for endpoint in world.endpoints
        ]  # fmt: skip

    def run(self) -> Ran:
        world = self.world
        for when in sorted({0.0, *world.joins}):
            self.clock.at(when, self._assign)
        self.clock.at(0.0, self._begin)
        is_done = self.clock.run(lambda: self.rows >= self.records, _LONGEST_S)
        calls = [worker.calls for worker in self.workers]
        calls_s = max(each.last for each in calls) - min(each.first for each in calls if each.first is not None)
        return Ran(self.clock.now, calls_s, is_done, self._busy(calls_s), sum(worker.repeated for worker in self.workers), world.features)

    def _busy(self, calls_s: float) -> dict[str, float]:
        for worker in self.workers:
            worker.calls.count()
        slots = sum(endpoint.slots // self.world.grain for endpoint in self.world.endpoints)
        passed = self.clock.now or 1.0
        return {
            "slots": sum(worker.calls.busy_s for worker in self.workers) / (slots * calls_s) if calls_s else 0.0,
            "context": max(stage.process.busy_s for stage in self.context) / passed,
            "generation": max(worker.process.busy_s for worker in self.workers) / passed,
            "validation": max(stage.process.busy_s for stage in self.validation) / passed,
            "aggregator": self.aggregator.process.busy_s / passed,
            "brokers": self.broker_s / (self.world.brokers * passed),
        }

    def _stage(self, topic: Topic, number: int, of: int, cost_s: float, publish, batch: int, may) -> Stage:  # type: ignore[no-untyped-def]
        owned = range(number, len(topic.waiting), of)
        return Stage(self.clock, Process(self.clock, self.machine), topic, owned, batch=batch, cost_s=cost_s, publish=publish, may=may)

    def _begin(self) -> None:
        if not self.world.has_intake:
            for _ in range(self.records):
                self._to_lane()
            self.lane.tell()
            return
        for number in range(self.records):
            self.source.add(number % self.world.source_partitions)
        self.source.tell()
        self._look()

    def _look(self) -> None:
        """Whether the lane has room, as context sees it every few seconds."""
        unfinished = (self.lane.total + sum(worker.in_hand for worker in self.workers)) * self.world.grain
        was_full, self.is_full = self.is_full, unfinished > self.world.max_lane_backlog
        if was_full and not self.is_full:
            self.source.tell()
        if self.source.total:
            self.clock.after(_LOOK_S, self._look)

    def _assign(self) -> None:
        """Deal the lane's partitions out in turn among the workers that are there, as the round-robin assignor does."""
        there = [worker for number, worker in enumerate(self.workers) if number >= len(self.world.joins) or self.world.joins[number] <= self.clock.now]
        for number, worker in enumerate(there):
            worker.assign(range(number, self.world.lane_partitions, len(there)))
        self.lane.tell()

    def _to_lane(self) -> None:
        world = self.world
        if world.places:
            partition = world.places[self.sent % len(world.places)]
        elif world.evens_out:
            partition = min(range(world.lane_partitions), key=self.lane.waiting.__getitem__)
        elif self.rng.random() * world.grain < 1:  # a record of several features is placed as unevenly as they together would be
            partition = self.rng.randrange(world.lane_partitions)
        else:
            partition = self.sent % world.lane_partitions
        self.sent += 1
        self.lane.add(partition)

    def _published(self, records: int, then: Then) -> None:
        """Written and confirmed."""
        work = records * self.world.costs.broker * self.world.grain
        self.broker_s += work
        self.brokers.work(work, lambda: self.clock.after(self.world.costs.confirm_s, then))

    def _forward(self, records: int, again: Then) -> None:
        def confirmed() -> None:
            for _ in range(records):
                self._to_lane()
            self.lane.tell()
            again()

        self._published(2 * records, confirmed)  # each an admission and a prompt

    def _answered(self, done: Then) -> None:
        def confirmed() -> None:
            self.drafts.add(self.rng.randrange(self.world.partitions))
            self.drafts.tell()
            done()

        self._published(1, confirmed)

    def _validated(self, records: int, again: Then) -> None:
        def confirmed() -> None:
            self.ends.add(0, records)
            self.ends.tell()
            again()

        self._published(records, confirmed)

    def _stored(self, records: int, again: Then) -> None:
        self.rows += records
        again()
