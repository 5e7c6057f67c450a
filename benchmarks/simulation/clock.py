"""Virtual time: what happens when, and things that can do only so much at once."""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

Then = Callable[[], None]


class Clock:
    """Seconds since the beginning, which pass as fast as what happens can be worked off."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Then]] = []
        self._order = count()

    def at(self, when: float, then: Then) -> None:
        """Let something happen at a time, not before now; at the same time what was said first."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), then))

    def after(self, seconds: float, then: Then) -> None:
        self.at(self.now + seconds, then)

    def run(self, is_over: Callable[[], bool], most_s: float) -> bool:
        """Let time pass until it is over, nothing is left to happen, or `most_s` have passed; returns whether it was over."""
        while not is_over():
            if not self._due or self._due[0][0] > most_s:
                return False
            self.now, _, then = heapq.heappop(self._due)
            then()
        return True


class Shared:
    """Jobs that share something evenly: `total(n)` is the work done in a second, all together, while there are n of them.

    A machine of c cores is `min(n, c)`; an endpoint whose calls slow each other down is its curve.
    """

    def __init__(self, clock: Clock, total: Callable[[int], float]) -> None:
        self._clock = clock
        self._total = total
        self._each = 0.0  # what every job that was there all the time has got
        self._since = 0.0
        self._ends: list[tuple[float, int, Then]] = []
        self._order = count()
        self._version = 0
        self.done = 0.0
        """Work done so far."""

    @property
    def jobs(self) -> int:
        return len(self._ends)

    def work(self, amount: float, then: Then) -> None:
        """Add a job; `then` happens when it is done."""
        self._pass()
        heapq.heappush(self._ends, (self._each + amount, next(self._order), then))
        self._look()

    def _pass(self) -> None:
        if self._ends:
            worked = self._total(len(self._ends)) * (self._clock.now - self._since)
            self._each += worked / len(self._ends)
            self.done += worked
        self._since = self._clock.now

    def _look(self) -> None:
        self._version += 1
        if self._ends:
            version = self._version
            left = max(0.0, self._ends[0][0] - self._each) * len(self._ends) / self._total(len(self._ends))
            self._clock.after(left, lambda: self._end(version))

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._pass()
        _, _, then = heapq.heappop(self._ends)
        if not self._ends:
            self._each = 0.0  # keeps the sum small, and so exact
        self._look()
        then()


class Process:
    """A single thread on a machine: one piece of work after the other; `machine` None: it has a core of its own."""

    def __init__(self, clock: Clock, machine: Shared | None) -> None:
        self._clock = clock
        self._machine = machine
        self._waiting: deque[tuple[float, Then]] = deque()
        self._works = False
        self.busy_s = 0.0
        """CPU that it has used."""

    def work(self, seconds: float, then: Then) -> None:
        self._waiting.append((seconds, then))
        if not self._works:
            self._next()

    def _next(self) -> None:
        if not self._waiting:
            self._works = False
            return
        self._works = True
        seconds, then = self._waiting.popleft()
        self.busy_s += seconds

        def ended() -> None:
            then()
            self._next()

        if self._machine is None:
            self._clock.after(seconds, ended)
        else:
            self._machine.work(seconds, ended)
