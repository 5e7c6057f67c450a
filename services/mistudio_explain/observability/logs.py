"""The one logging set-up: structured lines on standard error, with job and feature ids, never with texts of features."""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any

import structlog
from structlog.typing import ExcInfo, Processor

from mistudio_explain.errors import told
from mistudio_explain.observability.harmless import harmless, plain

_NOISY = "aiokafka"  # after a clean broker stop it writes thousands of equal lines a second
_REPEAT_AFTER_S = 10.0
_REMEMBERED = 1000
_SAME = ("event", "service", "subscriber", "endpoint", "topic", "partition", "job", "error", "caused_by")
"""What a warning must have in common with an earlier one to be its repetition."""


class _Repeats:
    """What was said lately, so that the loops of a process that waits for Kafka do not say it twice a second."""

    def __init__(self) -> None:
        self._last: dict[Hashable, float] = {}

    def is_news(self, said: Hashable, now: float) -> bool:
        """Whether this was not said within the interval."""
        if now - self._last.get(said, -_REPEAT_AFTER_S) < _REPEAT_AFTER_S:
            return False
        if len(self._last) >= _REMEMBERED:
            self._last = {each: at for each, at in self._last.items() if now - at < _REPEAT_AFTER_S}
        self._last[said] = now
        return True


class _OncePerInterval(logging.Filter):
    """Lets an equal message of a library through once per interval."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = _Repeats()

    def filter(self, record: logging.LogRecord) -> bool:
        return self._repeats.is_news((record.name, record.msg), record.created)


def _once_per_interval(clock: Callable[[], float] = time.monotonic) -> Processor:
    """Drop warnings of ours that say of the same thing the same as a moment ago."""
    repeats = _Repeats()

    def drop(_: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if level == "warning" and not repeats.is_news(tuple(str(event.get(name)) for name in _SAME), clock()):
            raise structlog.DropEvent
        return event

    return drop


def _worked_on(logger: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the job and the feature that are being worked on; a line about an LLM server is about neither, whoever met it."""
    return event if "endpoint" in event else structlog.contextvars.merge_contextvars(logger, level, event)


def _harmless(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Let ids and keys that others chose move no cursor and forge no line; a traceback keeps its lines."""
    return {name: value if not isinstance(value, str) else harmless(value) if name == "exception" else plain(value) for name, value in event.items()}


def _traceback(exc_info: ExcInfo) -> str:
    """Where an error came from, and those behind it, without what their messages quote."""
    error: BaseException | None = exc_info[1]
    parts: list[str] = []
    while error is not None:
        inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        below = "".join(f"\n| {_traceback((type(each), each, each.__traceback__))}" for each in inner)
        parts.insert(0, f"{''.join(traceback.format_tb(error.__traceback__))}{told(error)}{below}")
        error = error.__cause__ if error.__cause__ is not None or error.__suppress_context__ else error.__context__
    return "\n\nand then\n\n".join(parts)


def configure(level: str, *, as_json: bool) -> None:
    """Send log lines of `level` and above to standard error, for people or as JSON."""
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    shared: list[Any] = [
        _worked_on,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_traceback),
        _harmless,
    ]
    structlog.configure(
        processors=[_once_per_interval(), *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared)
    )
    handler.addFilter(_OncePerInterval())
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, logging.getLevelName(level.upper())), force=True)
    logging.getLogger(_NOISY).setLevel(logging.CRITICAL if level == "error" else logging.ERROR)  # its errors are retried, and told by whoever waits
