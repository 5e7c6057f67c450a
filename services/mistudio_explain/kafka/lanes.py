"""Whose turn it is: records of many lanes shared fairly among a bounded number in flight. Pure, no I/O."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Serves lanes round-robin, at most `in_flight` records at once.

    A lane that has nothing in flight has one place on top of these, so that lanes which hold all that they have, because
    their models are away, never keep another out, however many they are.

    Within a lane its partitions take turns, and within a partition records keep their order. So what a dead consumer
    left unfinished, which is the first that its partitions give to whoever takes them over, waits for one turn of each
    partition, however much of the other partitions waited there before.

    The `express` lane goes before all others. It has `express_in_flight` places of its own on top, so that it never waits
    for theirs, and no more than these while another lane has work; when none has, it takes all places.
    Both numbers may be changed at any time.
    `queued_bytes` is what waits, by the sizes given to `offer`; the caller stops fetching when it grows too large.
    """

    def __init__(self, *, in_flight: int, express: str | None = None, express_in_flight: int = 0) -> None:
        self.in_flight = in_flight
        self._express = express
        self.express_in_flight = express_in_flight
        self._waiting: OrderedDict[str, OrderedDict[int, deque[tuple[T, int]]]] = OrderedDict()  # by lane, then by partition; whose turn it is stands first
        self._busy: dict[str, int] = {}
        self.queued_bytes = 0

    @property
    def busy(self) -> int:
        """Records in flight."""
        return sum(self._busy.values())

    @property
    def queued(self) -> int:
        """Records that wait."""
        return sum(len(records) for partitions in self._waiting.values() for records in partitions.values())

    def offer(self, lane: str, partition: int, record: T, size: int) -> None:
        """Let a record of `size` bytes wait for its turn."""
        self._waiting.setdefault(lane, OrderedDict()).setdefault(partition, deque()).append((record, size))
        self.queued_bytes += size

    def next(self) -> tuple[str, T] | None:
        """The next record and its lane, now in flight; None when no lane may have one."""
        express = 0 if self._express is None else self._busy.get(self._express, 0)
        others_busy = self.busy - express
        others_wait = len(self._waiting) - (self._express in self._waiting)
        if self._express is not None and self._express in self._waiting:
            places = self.express_in_flight if others_busy or others_wait else max(self.in_flight, self.express_in_flight)
            if express < places:
                return self._express, self._pop(self._express)
        for lane in self._waiting:
            if lane != self._express and (others_busy < self.in_flight or lane not in self._busy):
                return lane, self._pop(lane)
        return None

    def done(self, lane: str) -> None:
        """Note that a record of the lane is no longer in flight."""
        left = self._busy[lane] - 1
        if left:
            self._busy[lane] = left
        else:
            del self._busy[lane]

    def discard(self, lane: str, partition: int) -> None:
        """Forget the waiting records of a partition, as when it went to another consumer."""
        partitions = self._waiting.get(lane, OrderedDict())
        self.queued_bytes -= sum(size for _, size in partitions.pop(partition, ()))
        if not partitions:
            self._waiting.pop(lane, None)

    def _pop(self, lane: str) -> T:
        partitions = self._waiting[lane]
        partition, records = next(iter(partitions.items()))
        record, size = records.popleft()
        self.queued_bytes -= size
        self._busy[lane] = self._busy.get(lane, 0) + 1
        if records:
            partitions.move_to_end(partition)
        else:
            del partitions[partition]
        if partitions:
            self._waiting.move_to_end(lane)
        else:
            del self._waiting[lane]
        return record
