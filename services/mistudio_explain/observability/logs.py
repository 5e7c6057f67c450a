"""The one logging set-up: structured lines on standard error, with job and feature ids, never with texts of features."""

import logging
import sys
from typing import Any

import structlog

_NOISY = "aiokafka"  # after a clean broker stop it writes thousands of equal lines a second
_REPEAT_AFTER_S = 10.0


class _OncePerInterval(logging.Filter):
    """Lets an equal message through once per interval."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = f"{record.name}{record.msg}"
        if record.created - self._last.get(key, 0.0) < _REPEAT_AFTER_S:
            return False
        self._last[key] = record.created
        return True


def configure(level: str, *, as_json: bool) -> None:
    """Send log lines of `level` and above to standard error, for people or as JSON."""
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared)
    )
    handler.addFilter(_OncePerInterval())
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, logging.getLevelName(level.upper())), force=True)
    logging.getLogger(_NOISY).setLevel(logging.CRITICAL if level == "error" else logging.ERROR)  # its errors are retried, and told by whoever waits
