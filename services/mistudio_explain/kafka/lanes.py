"""Whose turn it is: records of many lanes shared fairly among a bounded number in flight. Pure, no I/O."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Serves lanes round-robin, at most `per_lane` records of one lane and `in_flight` of all at once.

    The `express` lane goes before all others. It has `express_in_flight` places of its own on top, so that it never waits
    for theirs, and no more than these while another lane has work; when none has, it takes all places.
    `queued_bytes` is what waits, by the sizes given to `offer`; the caller stops fetching when it grows too large.
    """

    def __init__(self, *, in_flight: int, per_lane: int, express: str | None = None, express_in_flight: int = 0) -> None:
        self._in_flight = in_flight
        self._per_lane = per_lane
        self._express = express
        self._express_in_flight = express_in_flight
        self._waiting: OrderedDict[str, deque[tuple[T, int]]] = OrderedDict()
        self._busy: dict[str, int] = {}
        self.queued_bytes = 0

    @property
    def busy(self) -> int:
        """Records in flight."""
        return sum(self._busy.values())

    @property
    def queued(self) -> int:
        """Records that wait."""
        return sum(len(queue) for queue in self._waiting.values())

    def offer(self, lane: str, record: T, size: int) -> None:
        """Let a record of `size` bytes wait for its turn."""
        self._waiting.setdefault(lane, deque()).append((record, size))
        self.queued_bytes += size

    def next(self) -> tuple[str, T] | None:
        """The next record and its lane, now in flight; None when no lane may have one."""
        express = 0 if self._express is None else self._busy.get(self._express, 0)
        others_busy = self.busy - express
        others_wait = len(self._waiting) - (self._express in self._waiting)
        if self._express is not None and self._express in self._waiting:
            places = self._express_in_flight if others_busy or others_wait else max(self._per_lane, self._express_in_flight)
            if express < places:
                return self._express, self._pop(self._express)
        if others_busy < self._in_flight:
            for lane in self._waiting:
                if lane != self._express and self._busy.get(lane, 0) < self._per_lane:
                    return lane, self._pop(lane)
        return None

    def done(self, lane: str) -> None:
        """Note that a record of the lane is no longer in flight."""
        left = self._busy[lane] - 1
        if left:
            self._busy[lane] = left
        else:
            del self._busy[lane]

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Forget waiting records, as when their partition went to another consumer."""
        for lane, queue in list(self._waiting.items()):
            kept = deque(entry for entry in queue if not unwanted(entry[0]))
            self.queued_bytes -= sum(size for _, size in queue) - sum(size for _, size in kept)
            if kept:
                self._waiting[lane] = kept
            else:
                del self._waiting[lane]

    def _pop(self, lane: str) -> T:
        queue = self._waiting[lane]
        record, size = queue.popleft()
        self.queued_bytes -= size
        self._busy[lane] = self._busy.get(lane, 0) + 1
        if queue:
            self._waiting.move_to_end(lane)
        else:
            del self._waiting[lane]
        return record
