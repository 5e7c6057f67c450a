"""Which offsets of a partition are finished: pure bookkeeping, no I/O.

Records are taken in log order and finish in any order. Only the contiguous finished prefix may be committed;
offsets that finished beyond it ride along as a bitmap in the commit's metadata, so that a restart does not repeat
them.
"""

import base64
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

METADATA_LIMIT = 4096  # characters; the broker's default offset.metadata.max.bytes
_ROOM_FOR_COUNT = 16
_PREFIX = "b1:"
_IN_FLIGHT = ",f"  # a comma is no character of base 85


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """What to commit: the offset of the first unfinished record, and the finished offsets beyond it."""

    offset: int
    metadata: str = ""
    """The bitmap of what finished beyond `offset`, then how many records are in flight: `b1:<base 85>,f<n>`."""


def pack(base: int, finished: Iterable[int]) -> str:
    """Write offsets at or above `base` as a bitmap; empty when it would not fit, which repeats records but loses none."""
    bits = sum(1 << (offset - base) for offset in set(finished))
    if not bits:
        return ""
    packed = base64.b85encode(zlib.compress(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), 9)).decode("ascii")
    return _PREFIX + packed if len(_PREFIX) + len(packed) <= METADATA_LIMIT - _ROOM_FOR_COUNT else ""


def unpack(base: int, metadata: str | None) -> frozenset[int]:
    """Read the bitmap of `pack`; anything else, such as another program's metadata, is no offsets at all."""
    if not metadata or not metadata.startswith(_PREFIX):
        return frozenset()
    packed = metadata.removeprefix(_PREFIX).partition(_IN_FLIGHT)[0]
    try:
        bits = int.from_bytes(zlib.decompress(base64.b85decode(packed)), "little")
    except (ValueError, zlib.error):
        return frozenset()
    return frozenset(base + i for i in range(bits.bit_length()) if bits >> i & 1)


def in_flight_of(metadata: str | None) -> int | None:
    """How many records the committing consumer had in flight in the partition; None when the metadata does not say."""
    count = (metadata or "").rpartition(_IN_FLIGHT)[2] if _IN_FLIGHT in (metadata or "") else ""
    return int(count) if count.isascii() and count.isdigit() else None


class PartitionOffsets:
    """Progress in one partition.

    `committed` is the offset that the group had committed, None when it never did; `finished` are offsets beyond
    it that an earlier life finished.
    """

    def __init__(self, committed: int | None = None, finished: frozenset[int] = frozenset()) -> None:
        self._position = committed  # every record below it is finished, expired or compacted away
        self._taken: deque[int] = deque()  # unfinished or waiting for an earlier one, in log order
        self._in_flight: set[int] = set()
        self._finished = set(finished)
        self._restored = bool(finished)  # some of these may be gone from the log and will never be taken
        self._sent: CommitPoint | None = None

    @property
    def position(self) -> int | None:
        """The offset below which everything is finished; None before the first record of an uncommitted partition."""
        return self._position

    @property
    def expected(self) -> int | None:
        """The offset that the next new record has when nothing is missing between; None before the first record of an uncommitted partition."""
        return self._taken[-1] + 1 if self._taken else self._position

    @property
    def waiting(self) -> int:
        """Records taken that cannot be committed yet: the window that back-pressure bounds."""
        return len(self._taken)

    def take(self, offset: int) -> bool:
        """Note a fetched record; False when it is finished or in flight already and must not be handled again."""
        if offset in self._in_flight or (self._position is not None and offset < self._position):
            return False
        if self._position is None:
            self._position = offset
        is_new = offset not in self._finished
        if is_new:
            self._in_flight.add(offset)
        if not self._taken or offset > self._taken[-1]:
            self._taken.append(offset)
        self._advance()
        return is_new

    def finish(self, offset: int) -> None:
        """Note that a taken record is done with; others are ignored (a partition that was lost and regained)."""
        if offset in self._in_flight:
            self._in_flight.discard(offset)
            self._finished.add(offset)
            self._advance()

    def commit_point(self) -> CommitPoint | None:
        """What should be committed now, None when nothing changed since `committed` was last called."""
        if self._position is None:
            return None
        point = CommitPoint(self._position, f"{pack(self._position, self._finished)}{_IN_FLIGHT}{len(self._in_flight)}")
        return None if point == self._sent else point

    def committed(self, point: CommitPoint) -> None:
        """Note that the broker has accepted a commit."""
        self._sent = point

    def _advance(self) -> None:
        while self._taken and self._taken[0] in self._finished:
            offset = self._taken.popleft()
            self._finished.discard(offset)
            self._position = offset + 1
        if self._taken:
            self._position = max(self._position or 0, self._taken[0])  # a gap of compaction or expiry holds nothing to wait for
        if self._restored and self._position is not None:
            self._finished = {offset for offset in self._finished if offset >= self._position}
            self._restored = bool(self._finished)
