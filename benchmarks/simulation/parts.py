"""The parts of a simulated installation: topics, stages that take batches, workers that keep calls in flight."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.simulation.clock import Clock, Process, Shared, Then
from benchmarks.simulation.world import Endpoint


class Topic:
    """Partitions in which records wait, alike but for where they stand."""

    def __init__(self, partitions: int) -> None:
        self.waiting = [0] * partitions
        self.came: list[Then] = []
        """Told whenever something came."""

    def add(self, partition: int, records: int = 1) -> None:
        self.waiting[partition] += records

    def tell(self) -> None:
        for then in self.came:
            then()

    @property
    def total(self) -> int:
        return sum(self.waiting)


class Stage:
    """A replica that takes a batch, works on it, publishes, and takes the next; it reads some partitions of one topic."""

    def __init__(
        self,
        clock: Clock,
        process: Process,
        topic: Topic,
        owned: Sequence[int],
        *,
        batch: int,
        cost_s: float,
        publish: Callable[[int, Then], None],
        may: Callable[[], bool],
    ) -> None:
        self._clock, self.process, self._topic, self._owned = clock, process, topic, list(owned)
        self._batch, self._cost_s, self._publish, self._may = batch, cost_s, publish, may
        self._works = False
        topic.came.append(self._take)

    def _take(self) -> None:
        if self._works or not self._may():
            return
        taken = 0
        for partition in self._owned:
            here = min(self._topic.waiting[partition], self._batch - taken)
            self._topic.waiting[partition] -= here
            taken += here
        if not taken:
            return
        self._owned.append(self._owned.pop(0))
        self._works = True
        self.process.work(taken * self._cost_s, lambda: self._publish(taken, self._again))

    def _again(self) -> None:
        self._works = False
        self._take()


@dataclass(slots=True)
class Call:
    """A call in a slot."""

    is_cut: bool = False


class Calls:
    """An endpoint's slots, and the calls in them."""

    def __init__(self, clock: Clock, endpoint: Endpoint, rng: random.Random, grain: int, server: Process | None, server_s: float) -> None:
        self._clock, self._endpoint, self._rng, self._grain = clock, endpoint, rng, grain
        self._server, self._server_s = server, server_s
        curve = endpoint.curve
        self._shared = Shared(clock, lambda n: curve[min(n, len(curve)) - 1] * endpoint.call_s) if curve else None
        self.busy = 0
        self.busy_s = 0.0
        self.first: float | None = None
        """When the first call began."""
        self.last = 0.0
        """When the last one ended."""
        self._since = 0.0

    @property
    def has_room(self) -> bool:
        return self.busy < self._endpoint.slots // self._grain

    def start(self, then: Then) -> Call:
        """A call as long as calls are, or as many at once as the grain is; the mean of the log-normal is the endpoint's."""
        self.count()
        self.busy += 1
        self.first = self._clock.now if self.first is None else self.first
        sigma = self._endpoint.sigma / self._grain**0.5
        amount = self._endpoint.call_s * self._rng.lognormvariate(-(sigma**2) / 2, sigma)
        call = Call()

        def ended() -> None:
            if not call.is_cut:
                self.count()
                self.busy -= 1
                self.last = self._clock.now
                then()

        if self._shared is not None:
            self._shared.work(amount, ended)
        elif self._server is not None:
            self._server.work(self._server_s * self._grain, lambda: self._clock.after(amount, ended))
        else:
            self._clock.after(amount, ended)
        return call

    def cut(self, call: Call) -> None:
        """End a call before its time; its slot is free."""
        self.count()
        self.busy -= 1
        call.is_cut = True

    def count(self) -> None:
        """Add the time until now to the slots' busy time."""
        self.busy_s += self.busy * (self._clock.now - self._since)
        self._since = self._clock.now


@dataclass(slots=True, eq=False)
class InHand:
    """A record that a worker has taken; its call is None while it waits for a slot, and after it."""

    partition: int
    call: Call | None = None
    is_lost: bool = False


class Worker:
    """A generation worker: so many records in flight, from its partitions of the lane in turn, each through a slot of its endpoint."""

    def __init__(self, process: Process, lane: Topic, calls: Calls, places: int, *, cost_s: float, answered: Callable[[Then], None]) -> None:
        self.process, self._lane, self.calls, self._places, self._cost_s, self._answered = process, lane, calls, places, cost_s, answered
        self._owned: list[int] = []
        self._in_hand: set[InHand] = set()
        self._waiting: deque[InHand] = deque()
        self.repeated = 0
        lane.came.append(self.take)

    @property
    def in_hand(self) -> int:
        """Records that it has taken and not finished."""
        return len(self._in_hand)

    def assign(self, owned: Sequence[int]) -> None:
        """Go on with these partitions; what is in hand of others is dropped, for their next owner to begin anew."""
        for record in [each for each in self._in_hand if each.partition not in owned]:
            record.is_lost = True
            self._in_hand.remove(record)
            self._lane.add(record.partition)
            if record.call is not None:
                self.calls.cut(record.call)
            self.repeated += record not in self._waiting
        self._waiting = deque(each for each in self._waiting if not each.is_lost)
        self._owned = list(owned)

    def take(self) -> None:
        """Take what there is room for."""
        while len(self._in_hand) < self._places:
            partition = next((each for each in self._owned if self._lane.waiting[each]), None)
            if partition is None:
                break
            self._owned.remove(partition)
            self._owned.append(partition)
            self._lane.waiting[partition] -= 1
            record = InHand(partition)
            self._in_hand.add(record)
            self._waiting.append(record)
        while self._waiting and self.calls.has_room:
            record = self._waiting.popleft()
            record.call = self.calls.start(partial(self._ended, record))

    def _ended(self, record: InHand) -> None:
        record.call = None
        self.take()
        self.process.work(self._cost_s, partial(self._worked, record))

    def _worked(self, record: InHand) -> None:
        if not record.is_lost:
            self._answered(partial(self._done, record))

    def _done(self, record: InHand) -> None:
        self._in_hand.discard(record)
        self.take()
