"""How a Kafka that is away is waited for at the start."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self, TypeVar

import stamina
import structlog
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0
_HOPELESS = (
    MessageSizeTooLargeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    UnsupportedVersionError,
    ProducerClosed,
)


def is_outage(error: Exception) -> bool:
    """Whether waiting helps: the broker is away, as opposed to a record that is wrong or a permission that is missing."""
    return isinstance(error, KafkaError | OSError) and not isinstance(error, _HOPELESS)  # a timeout is an OSError


@dataclass(frozen=True, slots=True)
class Patience:
    """Until when an outage is waited out: a moment of `time.monotonic()`, or for ever.

    One for a whole start: what has to be waited for in one step leaves less for the next.
    """

    until: float | None

    @classmethod
    def of(cls, seconds: float | None) -> Self:
        """Patience from now on; None: for ever, 0: none, so that everything is tried once."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    async def wait_for(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Attempt something, again and again while it fails by an outage. Raises its last error when the time is over, any other at once."""
        left = None if self.until is None else self.until - time.monotonic()
        is_over = left is not None and left <= 0
        async for each in stamina.retry_context(
            on=is_outage, attempts=1 if is_over else None, timeout=None if is_over else left, wait_initial=_FIRST_WAIT_S, wait_max=_LONGEST_WAIT_S
        ):
            with each:
                return await _said(attempt)
        raise AssertionError  # not reached: the last attempt raises its own error


AT_ONCE = Patience(0.0)


async def _said(attempt: Callable[[], Awaitable[T]]) -> T:
    try:
        return await attempt()
    except Exception as error:
        if is_outage(error):
            log.warning("kafka.away", error=str(error) or type(error).__name__)
        raise
