"""Redelivery's core: when a record that waits is due."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the records of each retry topic wait.

    `now_ms` is this host's clock, milliseconds since 1970 UTC, `monotonic` the one that periods are measured with, in
    seconds. The broker's own clock is known by the records alone: it is at least what it was when it wrote one that was
    seen since, and the time that passed since then. So a host whose clock is behind the broker's holds nothing up for
    longer than the topic's delay. On one that is ahead records are due too early by as much: nothing tells it from
    records that have waited.
    """

    delays: Mapping[str, float]
    """Seconds, by topic."""
    now_ms: Callable[[], int]
    monotonic: Callable[[], float]
    _ahead_ms: dict[tuple[str, int], int] = field(default_factory=dict)
    """How far the clock of a partition's broker is ahead of `monotonic`, at least."""

    def seconds(self, topic: str, partition: int, not_before_ms: int | None, written_ms: int) -> float:
        """How long a record at the head of its partition still waits; 0 when it is due."""
        passed_ms = int(1000 * self.monotonic())
        ahead_ms = max(written_ms - passed_ms, self._ahead_ms.get((topic, partition), written_ms - passed_ms))
        self._ahead_ms[topic, partition] = ahead_ms
        delay_s = self.delays[topic]
        ours = wait_s(due_ms(not_before_ms, written_ms, delay_s), self.now_ms())
        return min(ours, wait_s(due_ms(None, written_ms, delay_s), passed_ms + ahead_ms))


def due_ms(not_before_ms: int | None, written_ms: int, delay_s: float) -> int:
    """When a waiting record is due, milliseconds since 1970 UTC by the broker's clock.

    `not_before_ms` was reckoned by the clock of whoever wrote the record; `written_ms` is the broker's. A writer whose
    clock runs ahead must not hold the topic up, so nothing waits longer than the topic's own delay.
    """
    longest = written_ms + int(1000 * delay_s)
    return longest if not_before_ms is None else min(not_before_ms, longest)


def wait_s(due: int, now_ms: int) -> float:
    """Seconds until then; 0 when it is past."""
    return max(0, due - now_ms) / 1000
