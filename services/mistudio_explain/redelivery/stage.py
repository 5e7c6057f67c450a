"""Redelivery's core: when a record that waits is due."""


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
